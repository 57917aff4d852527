"""Plan an adoption: which settings to remember, what prevents it, and the report about it; pure."""

from __future__ import annotations

import contextlib
import posixpath

from setup.commands.adopt.source import OVERRIDES, Tree
from setup.config.derived import COMPOSE_ENGINE
from setup.config.engines import ENGINES, engine_of
from setup.config.model import Given
from setup.config.releases import AUTHENTIK, POSTGRES
from setup.config.secrets import IRREPLACEABLE, SECRETS
from setup.config.settings import IMAGES, REQUIRED_KEYS, SETTINGS
from setup.config.types import HOST_PATH, show
from setup.config.values import Unavailable
from setup.console import indent
from setup.environment import shell_word
from setup.formats.yaml_file import key_shown
from setup.secrets import plan as secrets_plan
from setup.typed import TYPE_CHECKING, NamedTuple
from setup.volume.layout import COMPOSE, COMPOSE_BEFORE, ENV, SECRETS_FOLDER, secret_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from setup.commands.adopt.interpret import Interpretation
    from setup.config.model import Secret
    from setup.config.values import Values

_MASKED = "(not shown)"
_RUN_ONCE = ("init-db", "init-storage", "authentik_init_db", "authentik_blueprint")
PATHS = tuple(key for key, row in SETTINGS.items() if row.kind is HOST_PATH)


class Report(NamedTuple):
    """The content of the report: the deployment at `place`, and what it becomes."""

    place: str
    source: Interpretation
    values: Values
    answers: Mapping[str, Given]
    planned: Mapping[str, secrets_plan.Planned]
    env: Mapping[str, str]
    files: Iterable[str]
    left_behind: Iterable[str]
    carried: Iterable[str]


def select_answers(settings: Mapping[str, Given], resolve: Callable[[Mapping[str, Given]], Values]) -> dict[str, Given]:
    """Select the settings to remember: the others follow from these, and may change with releases."""
    wanted = _texts(resolve(settings), settings)
    kept = dict(settings)
    for key in reversed(SETTINGS):
        if key not in settings or key in REQUIRED_KEYS:
            continue
        fewer = dict(kept)
        del fewer[key]
        if _texts(resolve(fewer), [key])[key] == wanted[key]:
            kept = fewer
    return kept if _texts(resolve(kept), settings) == wanted else dict(settings)


def _texts(values: Values, keys: Iterable[str]) -> dict[str, str | None]:
    texts: dict[str, str | None] = dict.fromkeys(keys)
    for key in texts:
        with contextlib.suppress(Unavailable):
            texts[key] = show(values[key])
    return texts


def normalize_path(path: str) -> str:
    """Return the path of a file below the deployment without detours, as Compose takes it; any other unchanged."""
    below = posixpath.normpath(path)
    is_path = path.startswith("./") or below != path
    return f"./{below}" if is_path and not below.startswith(("/", "../", "~")) else path


def find_problems(
    place: str,
    source: Interpretation,
    settings: Iterable[str],
    secrets: Mapping[str, Given],
    on_disk: Mapping[str, str | None],
) -> Iterator[str]:
    """Yield what prevents an adoption; `settings` and `secrets` are those that the operator gives beside it."""
    yield from source.problems
    yield from describe_unsure({key: why for key, why in source.unsure.items() if key not in (*settings, *secrets)})
    for name, entry in source.secrets.items():
        if name in secrets and SECRETS[name].bound and not secrets_plan.is_same(secrets[name].text, entry.text):
            yield f"{name.upper()} is given, but {place} has another value ({entry.where}): leave one of them out"
        elif on_disk.get(name) and not secrets_plan.is_same(on_disk[name] or "", entry.text):
            yield f"{secret_path(name)} has another value than {place}: use an empty output directory"


def describe_unsure(unsure: Mapping[str, str]) -> Iterator[str]:
    """Say why settings and secrets are left open, those for the same reason together, and how to give them."""
    together: dict[str, list[str]] = {}
    for key, reason in unsure.items():
        together.setdefault(reason if key in SETTINGS else key, []).append(key)
    for keys in together.values():
        name = "KEY" if len(keys) > 1 else keys[0].upper()
        how = f"{name} or {name}_FILE" if keys[0] in SECRETS else f"environment variable {name}, or --set {name}=VALUE"
        it = "each" if len(keys) > 1 else "it"
        yield f"{', '.join(keys)} cannot be determined: {unsure[keys[0]]}. Give {it} as {how}"


def find_missing(values: Values, secrets: Iterable[str], place: str) -> Iterator[str]:
    """Yield a problem for each secret without which existing data is lost, and which is not among these."""
    for secret in secrets_plan.list_applicable(values):
        if secret.name in IRREPLACEABLE and secret.needed(values) and secret.name not in secrets:
            yield _describe_missing(secret, place)


def _describe_missing(secret: Secret, place: str) -> str:
    name, inside = secret.name, ""
    running = [service for service in secret.services if service not in _RUN_ONCE]
    if running:
        inside = f", or, while the old stack runs, with 'docker compose exec {running[0]} cat /run/secrets/{name}'"
    if name == "storage_encryption_key":
        inside += " (a SeaweedFS before 4.21 generated its own: 'fs.cat /etc/s3/sse_kek' in weed shell)"
    return (
        f"{name} was not found in {place}. No new one is generated, because it is bound to {secret.bound}. Look for it "
        f"in backups{inside}. Then give it as {name.upper()}_FILE=PATH. If there never was one, give a new one"
    )


def describe(report: Report) -> list[str]:
    """Describe what was understood, what was not, and what changes; without any secret's value."""
    source = report.source
    lines = [f"{report.place} holds a deployment {source.kind}.", "", "Understood:"]
    for key, given in report.answers.items():
        where = source.settings[key].where if key in source.settings else "given"
        lines.append(f"  {key}={given.text}  ({where})")
    rest = sorted(source.settings.keys() - report.answers.keys())
    lines += _wrap(f"  {len(rest)} more settings, with derived or default values:", rest)
    lines += _wrap(f"  {len(source.secrets)} secrets, copied unchanged:", source.secrets)
    lines += _wrap("  Files that the settings name:", report.files)
    lines += _wrap("  Secrets that mean nothing here, copied unchanged:", report.carried)
    unknown = [key_shown(key, "a key") for key in source.unknown] + list(report.left_behind)
    if unknown:
        lines += ["", "Not understood, and left in place:", *indent(unknown)]
    return [*lines, "", "What changes:", *indent((*_changes(report), *source.notes))]


def _wrap(title: str, names: Iterable[str]) -> list[str]:
    """Return a title and the names below it, wrapped; nothing if there are no names."""
    import textwrap

    lines = textwrap.wrap(", ".join(names), 96, break_on_hyphens=False, break_long_words=False)
    return [title, *indent(lines, 4)] if lines else []


def _changes(report: Report) -> Iterator[str]:
    before = report.source.env
    secret_keys: set[str] = set()
    for row in SECRETS.values():
        secret_keys.update(row.shown)
    for key, text in report.env.items():
        if key in before and before[key] != text:
            old, new = (_MASKED, _MASKED) if key in secret_keys else (before[key], text)
            yield f"{ENV}: {key}={old} -> {new}"
    removed = [key for key in before if (key in SETTINGS or key in secret_keys) and key not in report.env]
    if removed:
        yield f"{ENV} no longer holds {', '.join(sorted(removed))}: this deployment does not read them"
    generated = [name for name, planned in report.planned.items() if planned.origin is secrets_plan.Origin.GENERATED]
    if generated:
        yield f"new secrets are generated: {', '.join(generated)}"
    texts = {name: planned.text for name, planned in report.planned.items()}
    pending = secrets_plan.names_of(secrets_plan.list_pending(report.values, texts))
    if pending:
        yield f"still to be filled in: {', '.join(pending)}"
    files = ", ".join(engine_of(report.values).files)
    yield f"{files}, nginx's configuration and Authentik's blueprint are replaced by those of this release"
    unused = [name for name in report.source.secrets if not SECRETS[name].when(report.values)]
    if unused:
        yield f"kept, though this release does not use them: {', '.join(unused)}"
    for key in report.answers:
        if key == POSTGRES:
            yield f"{key} stays as it is: another major release cannot open its volume (docs/operate/upgrade.md)"
        elif SETTINGS[key].group == IMAGES:
            steps = ", one release line at a time (docs/operate/upgrade.md)" if key == AUTHENTIK else ""
            yield f"{key} stays as it is; a later run with --unset {key} lets it change with releases{steps}"


def _setting(source: Interpretation, key: str) -> str:
    """Return a setting of the old deployment, else its default."""
    return source.settings[key].text if key in source.settings else str(SETTINGS[key].default)


def describe_next(tree: Tree, in_place: bool, source: Interpretation) -> list[str]:
    """Say what to do besides the usual last message: stop the old stack, and what becomes of its files."""
    target, namespace = (_setting(source, key) for key in ("TARGET", "KUBERNETES_NAMESPACE"))
    is_compose = target == COMPOSE_ENGINE
    lines = ["", "Stop the old stack before the new one starts. Never use --volumes: the volumes hold all data."]
    if not is_compose:
        lines = ["", *([] if in_place else ["Stop the old stack before the new one starts. Its volumes stay."])]
    others = [name for name in tree.compose if name != COMPOSE and is_compose]
    if not in_place:
        stop = ENGINES[target].stop.format(namespace=namespace)
        lines.append(f"  {stop}     # in its own directory, here {tree.path}, which is unchanged")
        return lines + [f"{name} was read, and stays there: copy from it what is still needed." for name in others[-1:]]
    lines.append("A backup of the previous files was saved (--history lists it).")
    for name in others:
        if name in OVERRIDES:
            lines.append(f"{name} still overrides {COMPOSE}: remove from it what is a setting now, such as ports.")
        elif name not in COMPOSE_BEFORE:  # for which a check has the command
            lines.append(f"{name} is not read any more: copy from it what is still needed, then remove it (rm {name}).")
    if tree.secrets != SECRETS_FOLDER and not tree.base:
        remove = f"rm -r {shell_word(tree.secrets)}"
        lines.append(f"{SECRETS_FOLDER}/ has the secrets of {tree.secrets}/. Once the new stack runs: {remove}")
    return lines
