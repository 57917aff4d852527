"""What an adoption comes to: which settings must be remembered, what stops it, and what is said about it; pure."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NamedTuple

from setup.config.model import Given, Source
from setup.config.secrets import IRREPLACEABLE, SECRETS
from setup.config.settings import IMAGES, REQUIRED_KEYS, SETTINGS
from setup.config.types import HOST_PATH, show
from setup.config.values import Unavailable
from setup.formats.yaml_file import key_shown
from setup.secrets import plan as secrets_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from setup.commands.adopt.interpret import Understood
    from setup.config.model import Secret
    from setup.config.values import Values

_MASKED = "(not shown)"
_RUN_ONCE = ("init-db", "init-storage", "authentik_init_db")
PATHS = tuple(key for key, row in SETTINGS.items() if row.kind is HOST_PATH)


class Report(NamedTuple):
    """What the report is made of: the deployment that was found, and the one that it becomes."""

    found: Understood
    place: str
    values: Values
    answers: Mapping[str, Given]
    planned: Mapping[str, secrets_plan.Planned]
    env: Mapping[str, str]
    beside: Iterable[str]
    left_behind: Iterable[str]


def essential(settings: Mapping[str, Given], resolve: Callable[[Mapping[str, Given]], Values]) -> dict[str, Given]:
    """The settings that must be remembered: without the others the same values follow, and move with releases."""
    wanted = {key: _text(resolve(settings), key) for key in settings}
    kept = dict(settings)
    for key in reversed([key for key in SETTINGS if key in settings and key not in REQUIRED_KEYS]):
        fewer = {other: said for other, said in kept.items() if other != key}
        if _text(resolve(fewer), key) == wanted[key]:
            kept = fewer
    values = resolve(kept)
    return kept if all(_text(values, key) == text for key, text in wanted.items()) else dict(settings)


def _text(values: Values, key: str) -> str | None:
    try:
        return show(values[key])
    except Unavailable:
        return None


def straight(path: str) -> str:
    """The path of a file below the deployment without its detours, as Compose takes it; any other as it is."""
    below = posixpath.normpath(path)
    told = path.startswith("./") or below != path
    return f"./{below}" if told and not below.startswith(("/", "../", "~")) else path


def problems(
    found: Understood,
    place: str,
    settings: Iterable[str],
    given: Mapping[str, Given],
    on_disk: Mapping[str, str | None],
) -> Iterator[str]:
    """Why a deployment cannot be taken over as it is; `settings` and `given` are what the operator says beside it."""
    yield from found.problems
    for key, why in found.unsure.items():
        if key not in settings and key not in given:
            name = key.upper()
            way = f"{name} or {name}_FILE" if key in SECRETS else f"environment variable {name}, or --set {name}=VALUE"
            yield f"{key} cannot be told: it {why}. Say what it is: {way}"
    for name, one in found.secrets.items():
        if name in given and SECRETS[name].bound and not secrets_plan.is_same(given[name].text, one.text):
            yield f"{name.upper()} is given, and {place} holds another value ({one.where}): leave one of them out"
        elif on_disk.get(name) and not secrets_plan.is_same(on_disk[name] or "", one.text):
            yield f"{secrets_plan.path_of(name)} holds another value than {place}: take an empty output directory"


def missing(values: Values, there: Iterable[str], place: str) -> list[str]:
    """A problem for each secret without which existing data is lost, and which is nowhere to be found."""
    return [
        _missing_text(secret, place)
        for secret in secrets_plan.list_applicable(values)
        if secret.name in IRREPLACEABLE and secret.needed(values) and secret.name not in there
    ]


def _missing_text(secret: Secret, place: str) -> str:
    name, inside = secret.name, ""
    running = [service for service in secret.services if service not in _RUN_ONCE]
    if running:
        inside = f", or, while the old stack runs, 'docker compose exec {running[0]} cat /run/secrets/{name}'"
    if name == "storage_encryption_key":
        inside += " (a SeaweedFS before 4.21 made its own: 'fs.cat /etc/s3/sse_kek' in weed shell)"
    return (
        f"{name} is nowhere in {place}, and it is not made anew: it is bound to {secret.bound}. Look into backups"
        f"{inside}. Then give it as {name.upper()}_FILE=PATH. Where there never was one, give a new one of your own"
    )


def told(report: Report) -> list[str]:
    """What was understood, what was not, and what changes; no secret's value."""
    found = report.found
    lines = [f"{report.place} holds a deployment {found.kind}.", "", "Understood:"]
    lines += [f"  {key}={said.text}  ({_where(found, key)})" for key, said in report.answers.items()]
    follow = sorted(found.settings.keys() - report.answers.keys())
    lines += _listed(f"  {len(follow)} more settings, with the values that follow by themselves:", follow)
    lines += _listed(f"  {len(found.secrets)} secrets, to the byte:", found.secrets)
    lines += _listed("  Files that they name:", report.beside)
    unknown = [key_shown(key, "a key") for key in found.unknown] + list(report.left_behind)
    lines += ["", "Not understood, and left where it is:", *(f"  {name}" for name in unknown)] if unknown else []
    return [*lines, "", "What changes:", *_changes(report), *(f"  {note}" for note in found.notes)]


def _listed(title: str, names: Iterable[str]) -> list[str]:
    """A title and names under it, broken into lines; nothing for no names."""
    import textwrap

    lines = textwrap.wrap(", ".join(names), 96, break_on_hyphens=False, break_long_words=False)
    return [title, *(f"    {line}" for line in lines)] if lines else []


def _where(found: Understood, key: str) -> str:
    return found.settings[key].where if key in found.settings else "given"


def _changes(report: Report) -> Iterator[str]:
    secret = {key for row in SECRETS.values() for key in row.shown}
    for key, text in report.env.items():
        before = report.found.env.get(key)
        if before is not None and before != text:
            yield f"  .env: {key}={_MASKED if key in secret else before} -> {_MASKED if key in secret else text}"
    gone = sorted(key for key in report.found.env if (key in SETTINGS or key in secret) and key not in report.env)
    if gone:
        yield f"  .env no longer holds {', '.join(gone)}: nothing reads them in this deployment"
    made = [name for name, one in report.planned.items() if one.origin is secrets_plan.Origin.GENERATED]
    if made:
        yield f"  new secrets are made: {', '.join(made)}"
    pending = secrets_plan.list_pending(report.values, {name: one.text for name, one in report.planned.items()})
    if pending:
        yield f"  still to be filled in: {', '.join(one.name for one in pending)}"
    yield "  the compose file, nginx's configuration and Authentik's blueprint are those of this release"
    for key in report.answers:
        if SETTINGS[key].group == IMAGES:
            yield f"  {key} stays as it is; a later run with --unset {key} lets it move with releases"


def adopted(found: Understood) -> dict[str, Given]:
    """The settings of a deployment as a layer of answers."""
    return {key: Given(one.text, Source.ADOPTED) for key, one in found.settings.items()}


def afterwards(place: str, in_place: bool) -> list[str]:
    """What to know besides the usual last message."""
    lines = ["", "Before the new stack starts, the old one must be down. Never with --volumes: they hold all data."]
    if in_place:
        return [*lines, "A copy of what stood here is kept (--history lists it)."]
    return [*lines, f"  docker compose down     # in its own directory, here {place}, where all is as it was"]
