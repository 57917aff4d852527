"""Write `deployment-config.yaml`, from which a run makes the same deployment, here or on another host."""

from __future__ import annotations

from setup.config.resolver import Resolution
from setup.config.settings import SETTINGS
from setup.config.types import HOST_PATH, show
from setup.formats.quoting import quote_yaml
from setup.typed import TYPE_CHECKING
from setup.volume.layout import CONFIG, File, file_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HEAD = "# Written by avatar-setup. Given to --config with an empty volume, it makes this deployment again."
_WITH = "# It holds every secret: let nobody read it, and delete it after use."
_WITHOUT = "# It holds no secret."
_SECRETS, _UNUSED = "# --- Secrets ---", "# --- Given, but not in use at present ---"


def config_file(resolution: Resolution, secrets: Mapping[str, str] | None = None) -> File:
    """Write every answer as a line and every default as a comment, so that using it pins no default.

    `secrets` holds the texts of this deployment's secrets, "" for one that is still empty.
    """
    lines = [_HEAD, _WITHOUT if secrets is None else _WITH, *_files_named(resolution), *_settings(resolution)]
    if secrets is not None:
        lines += ["", _SECRETS]
        lines += [f"{'' if text else '# '}{name.upper()}: {spelled(text)}" for name, text in secrets.items()]
    return file_at(CONFIG, ("\n".join(lines) + "\n").encode())


def is_ours(data: bytes) -> bool:
    """Tell whether these bytes are such a file."""
    return data.startswith(_HEAD.encode())


def holds_secrets(data: bytes) -> bool:
    """Tell whether such a file was made with the secrets."""
    return _WITH.encode() in data


def _settings(resolution: Resolution) -> Iterator[str]:
    group = ""
    for key, resolved in resolution.applying().items():
        row = SETTINGS[key]
        if row.group != group:
            yield from ("", f"# --- {row.group} ---")
        group = row.group
        yield f"# {row.question}"
        yield f"{'' if key in resolution.answers else '# '}{key}: {spelled(show(resolved.value))}"
    unused = [key for key in resolution.answers if not resolution.values.applies(key)]
    if unused:
        yield from ("", _UNUSED)
        yield from (f"{key}: {spelled(resolution.answers[key].text)}" for key in unused)


def _files_named(resolution: Resolution) -> Iterator[str]:
    """Name the files beside the deployment that its settings refer to, because they are not in this one."""
    paths = [show(resolved.value) for key, resolved in resolution.applying().items() if SETTINGS[key].kind is HOST_PATH]
    named = [path for path in paths if path.startswith("./")]
    if named:
        yield f"# Files that it names, to be copied separately: {', '.join(named)}"


def spelled(text: str) -> str:
    """Quote a value for such a file; `$$` is the spelling of Compose, not of YAML."""
    return quote_yaml(text).replace("$$", "$")
