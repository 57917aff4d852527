"""`--check`: decide whether the stack would start from what is on the volume; this reads only."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from setup import console
from setup.checks.certificates import check_certificates
from setup.checks.consistency import Generated, check_consistency, check_unmodified
from setup.checks.volume import check_modes, check_secrets, check_volume, read_regular, read_secrets
from setup.config import derived, releases
from setup.config.advice import list_notes
from setup.config.engines import engine_of, nginx_configuration
from setup.config.values import Values
from setup.console import Answer, Colour
from setup.deploy import ending
from setup.errors import ExitCode
from setup.findings import Finding, Level
from setup.formats import dotenv
from setup.secrets import guards
from setup.secrets.store import read_filled
from setup.typed import TYPE_CHECKING
from setup.volume.layout import COMPOSE, COMPOSE_BEFORE, ENV, secret_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from setup.config.resolver import Resolution
    from setup.deploy.session import Session

    Known = tuple[dict[str, str], Resolution]

HELP = "docs/troubleshooting.md"
_PRIVILEGES = Finding(
    "no-new-privileges",
    Level.SKIP,
    "Swarm does not pass it on to containers, and whether Docker on each node sets it cannot be seen from here",
    'add this line to /etc/docker/daemon.json on every node, then restart Docker there:\n"no-new-privileges": true',
)
_OTHER_FILES = rb"^\s*(?:export\s+)?COMPOSE_FILE\s*="
_COLOURS = {Level.OK: Colour.GREEN, Level.WARN: Colour.YELLOW, Level.FAIL: Colour.RED}


def check_deployment(session: Session, environ: Mapping[str, str], *, online: bool) -> Answer:
    """Return all findings, as lines and as data; raises Busy if one is a failure and another run is in progress."""
    place = ending.place_of(session.volume, environ)
    findings = [*_find(session, datetime.now(UTC)), _host(place)]
    failures = _failures(findings)
    if failures:
        session.volume.require_free()
    answers = list(_ask(session)) if online else []
    findings += answers
    lines, counts = [], {}
    for level in (Level.FAIL, Level.WARN, Level.SKIP, Level.OK):  # what must be done comes first
        group = [finding for finding in findings if finding.level is level]
        counts[level] = len(group)
        for finding in group:
            lines += _finding_lines(finding)
        lines += [""] if group else []
    rows = [dict(zip(Finding._fields[:-1], finding, strict=False)) for finding in findings]
    data = {"ready": not failures, "counts": counts, "findings": rows}
    if online:
        data["answers"] = bool(answers) and not _failures(answers)
    lines += _verdict_lines(session, place, failures, answers, counts)
    code = ExitCode.NOT_COMPLETE if counts[Level.FAIL] else ExitCode.DONE
    return Answer(lines, data, code)


def find_failures(session: Session, known: Known | None = None) -> list[Finding]:
    """Find what would keep the stack from starting, without the network, and quickly: judge only what has changed.

    What a run has judged and the state remembers, a certificate until it expires and the unmodified generated files,
    is neither parsed nor inspected again. Nor are the secrets and settings that the caller has read.
    """
    return _failures(_find(session, datetime.now(UTC), quick=True, known=known))


def _failures(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is Level.FAIL]


def _finding_lines(finding: Finding) -> list[str]:
    """Return a finding, and below it what to do."""
    lines = console.paragraph(f"{finding.name}: {finding.text}", "      ")
    lines[0] = console.coloured(f"{finding.level:4}", f"  {lines[0].lstrip()}", _COLOURS.get(finding.level))
    todo, _, command = finding.todo.partition("\n")
    lines += console.paragraph(f"do: {todo}", "      ") if todo else []
    return [*lines, f"      {command}"] if command else lines  # a command is never wrapped


def _verdict_lines(
    session: Session,
    place: ending.Place,
    failures: list[Finding],
    answers: list[Finding],
    counts: Mapping[Level, int],
) -> list[str]:
    """Say whether the stack can start, whether it answers if it was asked, and what to type next."""
    numbers = ", ".join(f"{count} {level}" for level, count in counts.items() if count)
    entries = f" ({numbers}). {HELP} has an entry for each name."
    if failures:
        return [console.coloured("Not ready", entries, Colour.RED), *ending.command_for(place, failures)]
    values = session.resolve(read_filled(session.volume)).values
    silent = _failures(answers)
    if silent:
        verdict = console.coloured("Ready: the stack can start, but it does not answer", entries, Colour.YELLOW)
        may_be_down = any(finding.name in ("public-name", "public-answer") for finding in silent)
        return [verdict, *(ending.next_lines(place, values) if may_be_down else ())]
    if answers:
        verdict = console.coloured("The stack answers", f" ({numbers}).", Colour.GREEN)
        return [verdict, *ending.sign_in_lines(place, values)]
    ready = console.coloured("Ready: the stack can start", f" ({numbers}).", Colour.GREEN)
    return [ready, *ending.next_lines(place, values)]


def _find(session: Session, now: datetime, quick: bool = False, known: Known | None = None) -> Iterator[Finding]:
    volume, state = session.volume, session.state
    yield from check_volume(volume, state, session.basis, now)
    yield from check_modes(volume, state)
    unreadable: dict[str, str] = {}
    if known:
        filled, resolution = known
    else:
        filled, unreadable = read_secrets(volume)
        resolution = session.resolve(filled)
    problems = [*resolution.problems, *(f"{key} is missing" for key in resolution.missing)]
    for problem in problems:
        yield Finding("settings", Level.FAIL, problem, "run avatar-setup with a valid value")
    if problems:
        return
    values = resolution.values
    yield from check_secrets(values, filled, unreadable, state.secrets)
    yield from _check_generated(session, values, filled, quick)
    yield from check_certificates(volume, state, values, now, quick=quick)
    for note in list_notes(values):
        yield Finding("doubtful-setting", Level.WARN, note)
    yield from _check_postgres(values)
    if derived.on_swarm(values):
        yield _PRIVILEGES


def _host(place: ending.Place) -> Finding:
    text = "a container cannot see Docker, the disk, the ports, the names and the registries of its host"
    return Finding("host", Level.SKIP, text, f"on the host:\n{place.command} --host-check | sh")


def _ask(session: Session) -> Iterator[Finding]:
    """Ask the running stack, unless its address is not known."""
    from setup.checks.network import check_network

    resolution = session.resolve(read_filled(session.volume))
    if not resolution.problems and not resolution.missing:
        yield from check_network(session.volume, resolution.values)


def _check_postgres(values: Values) -> Iterator[Finding]:
    """Report a PostgreSQL of this stack that gets no fixes any more."""
    major = releases.postgres_major(values["POSTGRES_IMAGE"])
    if derived.bundled_database(values) and major and major <= releases.POSTGRES_ENDED:
        text = f"POSTGRES_IMAGE={values['POSTGRES_IMAGE']}: PostgreSQL {major} is past its end of life"
        todo = f"move to {releases.POSTGRES_NEWEST}: docs/operate/upgrade.md, 'Move to another PostgreSQL'"
        yield Finding("postgres-old", Level.WARN, text, todo)


def _check_generated(session: Session, values: Values, texts: Mapping[str, str], quick: bool) -> Iterator[Finding]:
    volume, state = session.volume, session.state
    nginx_path = nginx_configuration(values)
    data = {path: read_regular(volume, path) for path in (ENV, nginx_path, *engine_of(values).files)}
    present = {path: each for path, each in data.items() if each is not None}
    if present != data:
        return  # `check_volume` reports what is missing
    lost = {secret_path(secret.name) for secret in guards.find_lost(values, texts, state.secrets)}

    def existing(paths: Iterable[str]) -> set[str]:
        return {*lost, *volume.status_each(paths)}  # a lost secret is reported as such

    if derived.on_compose(values) and not re.search(_OTHER_FILES, data[ENV] or b"", re.MULTILINE):
        for name in volume.status_each(COMPOSE_BEFORE):
            todo = f"mv {name} {name}.old"
            yield Finding("compose-name", Level.FAIL, f"{name}: Compose reads it instead of {COMPOSE}", todo)
    edited = [path for path, each in present.items() if not state.knows(path, each)]
    env, nginx = present.pop(ENV), present.pop(nginx_path)
    files = Generated(env, present, nginx, env_is_edited=ENV in edited)
    same_release = state.basis.items() >= session.basis.items()
    if quick and same_release and not edited and not dotenv.has_additions(env):
        yield from check_unmodified(files, values, texts, existing)
    else:
        yield from check_consistency(files, values, texts, existing)
