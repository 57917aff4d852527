"""Turn the catalogue into documentation, examples and JSON Schema; the tests check them for drift."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from setup.config.model import Secret, Setting, always
from setup.config.secrets import SECRETS
from setup.config.settings import GROUPS, SETTINGS
from setup.flags import help_text
from setup.formats.quoting import quote_env

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND_LINE = "docs/reference/command-line.md"
_NOTICE = "Generated from the catalogue by `make reference`; do not edit."


def documents(defaults: Mapping[str, str], command_line: str) -> dict[str, str]:
    """Return every generated text by its path below the project; `defaults` are those of `defaults.yaml`."""
    return {
        "docs/reference/settings.md": settings_page(defaults),
        "docs/reference/secrets.md": secrets_page(),
        COMMAND_LINE: with_part(command_line, "help", f"```text\n{help_text().strip()}\n```"),
        "docs/reference/config.schema.json": json.dumps(schema(), indent=2, ensure_ascii=False) + "\n",
        ".env.example": env_example(defaults),
        "config.example.yaml": config_example(defaults),
    }


def default_text(row: Setting, defaults: Mapping[str, str]) -> str:
    """Return a setting's default as documentation shows it."""
    if row.key in defaults:
        return defaults[row.key]
    if callable(row.default):
        return "derived"
    return row.default or ""


def settings_page(defaults: Mapping[str, str]) -> str:
    """Return the reference of all settings, in Markdown."""
    lines = ["# Settings", "", _NOTICE, ""]
    lines += [
        "Every setting is an environment variable of this name (or `NAME_FILE`, a file that holds the value), a key",
        "of the configuration file, and `--set NAME=VALUE`. If several are given, the later of these wins: default,",
        "defaults file, preset, saved answer, configuration file, environment, flag, answer at the prompt. *derived*",
        "defaults follow from other settings. *conditional* settings apply only to some deployments.",
        "",
        "Four more variables steer the program itself: `NON_INTERACTIVE=true` asks nothing, `PUID` and `PGID` say",
        "who owns the files if it runs as root, and `NO_COLOR` is respected.",
        "",
    ]
    for group in GROUPS:
        lines += [f"## {group}", "", "| setting | what it is | takes | default |", "|---|---|---|---|"]
        lines += [_row(row, defaults) for row in SETTINGS.values() if row.group == group]
        lines.append("")
    return "\n".join(lines)


def _row(row: Setting, defaults: Mapping[str, str]) -> str:
    default = default_text(row, defaults)
    shown = default if default == "derived" else (f"`{default}`" if default else ("" if row.empty else "**required**"))
    conditional = "" if row.when is always else " *(conditional)*"
    example = f", as in `{row.example}`" if row.example else ""
    return _cells(f"`{row.key}`", row.help + conditional, row.kind.expects + example, shown)


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def secrets_page() -> str:
    """Return the reference of all secrets, in Markdown."""
    lines = [
        "# Secrets",
        "",
        _NOTICE,
        "",
        "A secret's file is `.secrets/NAME` in the deployment; its value is never in the state. Each may be given",
        "beforehand as an environment variable (the name in upper case), by `NAME_FILE`, or in the configuration",
        "file, never by `--set`. A *bound* one keeps its first value on every later run;",
        "[`--rotate`](../operate/rotate.md), with its name or that of its group, gives it another.",
        "",
        "| secret | what it is | comes from | bound to | group | also in `.env` as |",
        "|---|---|---|---|---|---|",
    ]
    for secret in SECRETS.values():
        shown = ", ".join(f"`{key}`" for key in secret.shown)
        lines.append(_cells(f"`{secret.name}`", secret.help, _origin(secret), secret.bound, secret.group, shown))
    return "\n".join([*lines, ""])


def _origin(secret: Secret) -> str:
    if secret.generate:
        return "generated" + (" (yours with an external database)" if secret.theirs else "")
    return f"you, or `{secret.customary}`" if secret.customary else "you"


def env_example(defaults: Mapping[str, str]) -> str:
    """Return a commented `.env` for the project's compose.yaml; `docker run --env-file` knows no quotes."""
    lines = [f"# {_NOTICE}", "# Uncomment what you want to set; an empty value says nothing."]
    for group in GROUPS:
        lines += ["", f"# --- {group} ---"]
        for row in SETTINGS.values():
            if row.group == group:
                lines += [f"# {row.help}", f"#{row.key}={quote_env(_sample(row, defaults))}"]
    lines += ["", "# --- Secrets that only you know (or NAME_FILE=PATH) ---"]
    for secret in SECRETS.values():
        if not secret.generate:
            lines += [f"# {secret.help}", f"#{secret.name.upper()}={quote_env(secret.customary or secret.example)}"]
    return "\n".join(lines) + "\n"


def config_example(defaults: Mapping[str, str]) -> str:
    """Return a commented configuration file for `--config`."""
    lines = [f"# {_NOTICE}", "# Uncomment what you want to set. Secrets may be given here too, under their name."]
    for group in GROUPS:
        lines += ["", f"# --- {group} ---"]
        for row in SETTINGS.values():
            if row.group == group:
                required = row.default is None and row.key not in defaults and row.when is always
                sample = json.dumps(_sample(row, defaults), ensure_ascii=False)
                lines += [f"# {row.help}", f"{'' if required else '# '}{row.key}: {sample}"]
    return "\n".join(lines) + "\n"


def _sample(row: Setting, defaults: Mapping[str, str]) -> str:
    default = default_text(row, defaults)
    return row.example if default in ("", "derived") else default


def schema() -> dict[str, Any]:
    """Write the JSON Schema of the configuration file; editors complete and check with it."""
    properties: dict[str, Any] = {}
    for row in SETTINGS.values():
        properties[row.key] = {"description": row.help, **_type_of(row)}
    for secret in SECRETS.values():
        properties[secret.name] = {"description": secret.help, "type": ["string", "null"], "writeOnly": True}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "avatar-setup configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _type_of(row: Setting) -> dict[str, Any]:
    kind = row.kind
    if kind.name == "boolean":
        return {"type": ["boolean", "string", "null"]}
    if kind.choices:
        return {"enum": [*kind.choices, *([""] if row.empty else []), None]}
    if kind.multiple:
        return {"type": ["string", "array", "null"], "items": {"type": "string"}}
    if kind.name in ("port", "verbosity"):
        return {"type": ["integer", "string", "null"]}
    if kind.name == "image version":
        return {"type": ["string", "number", "null"]}
    return {"type": ["string", "null"], **({"pattern": kind.pattern} if kind.pattern else {})}


def with_part(page: str, name: str, text: str) -> str:
    """Return a page with another text between the two marks of that name."""
    begin, end = f"<!-- {name}: generated by `make reference` -->", f"<!-- {name}: end -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{text}\n{end}{after}"
