"""`--check`: whether what stands on the volume would boot; looks, and changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from setup.checks import consistency as agreement
from setup.checks import volume as standing
from setup.config.derived import certificate_is_given, certificate_is_made, certificate_names, listen_port, tls_is_ours
from setup.config.values import Values
from setup.console import Answer
from setup.deploy.targets import AUTHORITY, CA_BUNDLE, CERTIFICATE, CERTIFICATE_KEY, COMPOSE, ENV, NGINX
from setup.errors import ExitCode, InputError
from setup.findings import Finding, Level
from setup.secrets import guards
from setup.secrets import plan as secrets_plan
from setup.tls.pem import PemFile
from setup.tls.provided import read_provided
from setup.tls.trust_store import read_private_authority, read_public_roots, read_trusted
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from setup.deploy.session import Session

_ORDER = (Level.OK, Level.WARN, Level.FAIL, Level.SKIP)
HELP = "docs/troubleshooting.md"
_REMEDIES = {
    "certificate-dates": "run avatar-setup --renew-certificate",
    "certificate-names": "run avatar-setup, which issues a new one",
}


def check(session: Session, *, online: bool) -> Answer:
    """All findings, as lines and as data; exit code 3 when one is a failure, unless a run at work is to be awaited."""
    findings = list(_findings(session, datetime.now(UTC), online))
    counts = {level: sum(one.level == level for one in findings) for level in _ORDER}
    lines = [f"{one.level:4}  {one.name}: {one.text}{f': {one.todo}' if one.todo else ''}" for one in findings]
    summary = ", ".join(f"{count} {level}" for level, count in counts.items() if count)
    ready = not counts[Level.FAIL]
    if not ready:
        session.volume.require_free()
    lines += ["", f"{'Nothing here would keep the stack from starting' if ready else 'Not ready'} ({summary})."]
    lines += [] if ready else [f"{HELP} has an entry for each name."]
    data = {"ready": ready, "counts": counts, "findings": [one._asdict() for one in findings]}
    return Answer(lines, data, ExitCode.DONE if ready else ExitCode.NOT_COMPLETE)


def _findings(session: Session, now: datetime, online: bool) -> Iterator[Finding]:
    volume, state = session.volume, session.state
    yield from standing.restoring(volume)
    yield from standing.steps(volume, state)
    yield from standing.release(state, session.basis)
    yield from standing.files(volume, state)
    texts, odd = standing.read_secrets(volume)
    yield from standing.modes(volume, state, texts)
    resolution = session.resolve({name: text for name, text in texts.items() if text})
    problems = [*resolution.problems, *(f"{key} is missing" for key in resolution.missing)]
    yield from (
        Finding("settings", Level.FAIL, problem, "run avatar-setup with a value that will do") for problem in problems
    )
    yield from standing.room(volume)
    yield from standing.clock(volume, state, now)
    if problems:
        return
    values = resolution.values
    yield from standing.secrets(values, texts, odd, state.secrets)
    written = [standing.contents(volume, path) for path in (ENV, COMPOSE, NGINX)]
    if None not in written:
        known = {name: text for name, text in texts.items() if text}
        there = agreement.Written(*(data or b"" for data in written))
        lost = {
            secrets_plan.path_of(secret.name) for secret in guards.find_lost(values, texts, state.secrets)
        }  # told already
        yield from agreement.look(there, values, known, lambda path: path in lost or volume.status(path) is not None)
    yield from _certificate(volume, values, now)
    yield from _elsewhere(values)
    if online:
        from setup.checks import network

        yield from network.look(values, standing.contents(volume, CA_BUNDLE) or b"")


def _certificate(volume: Volume, values: Values, now: datetime) -> Iterator[Finding]:
    """Inspect what nginx serves TLS with, and whether the API services trust what they must."""
    authority = b""
    if certificate_is_given(values):
        yield from _provided_certificate(volume, values, now)
    elif certificate_is_made(values):
        authority = standing.contents(volume, AUTHORITY) or b""
        yield from _own_certificate(volume, certificate_names(values), authority, now)
    if authority or values["TLS_CA_PATH"]:
        yield _trust(volume, values, authority.strip())


def _provided_certificate(volume: Volume, values: Values, now: datetime) -> Iterator[Finding]:
    from setup.tls.certificates import inspect

    chain, key = read_provided(volume, values)
    for file in (chain, key):
        if file.finding:
            yield file.finding
    if chain.pem:
        yield from inspect(chain.pem, key.pem, certificate_names(values), _roots(volume, values), now).findings
    if key.path.startswith("./"):
        yield from standing.private(volume, key.path.removeprefix("./"))


def _own_certificate(volume: Volume, names: list[str], authority: bytes, now: datetime) -> Iterator[Finding]:
    """Inspect the certificate that avatar-setup issued, and name the run that corrects it."""
    from setup.tls.certificates import inspect

    chain, key = standing.contents(volume, CERTIFICATE), standing.contents(volume, CERTIFICATE_KEY)
    if not authority or chain is None:
        return  # a missing file is reported as such
    key_file = PemFile(CERTIFICATE_KEY, key) if key is not None else None
    inspection = inspect(PemFile(CERTIFICATE, chain), key_file, names, authority, now)
    for finding in inspection.findings:
        remedy = _REMEDIES.get(finding.name)
        is_early = finding.name == "certificate-dates" and inspection.start and inspection.start > now
        if finding.level == Level.OK or remedy is None or is_early:  # no run corrects the clock
            yield finding
        else:
            yield finding._replace(todo=remedy)


def _roots(volume: Volume, values: Values) -> bytes:
    """Return the authorities that clients trust, without a private one that `_trust` reports as unusable."""
    try:
        return read_trusted(volume, values)
    except InputError:
        return read_public_roots()


def _trust(volume: Volume, values: Values, authority: bytes) -> Finding:
    """Check that the bundle of the API services holds the private authorities."""
    bundle = standing.contents(volume, CA_BUNDLE) or b""
    try:
        private = read_private_authority(volume, values)
    except InputError as error:
        return Finding("authorities", Level.FAIL, str(error))
    if authority in bundle and private in bundle:
        return Finding("authorities", Level.OK, f"{CA_BUNDLE} contains the private CA")
    todo = "run avatar-setup, and docker compose up -d"
    return Finding("authorities", Level.FAIL, f"{CA_BUNDLE} lacks the private CA", todo)


def _elsewhere(values: Values) -> Iterator[Finding]:
    """What only the host can tell, and how it is asked."""
    redirects = values["NGINX_HTTP_REDIRECT_PORT"] if tls_is_ours(values) else ""
    ports = [str(port) for port in (listen_port(values), redirects) if port]
    asked = " or ".join(f"sport = :{port}" for port in ports)
    text = f"whether port {' and '.join(ports)} of the host is free cannot be seen from a container"
    yield Finding("host-ports", Level.SKIP, text, f"on the host, before the stack starts: ss -ltnp '{asked}'")
    text = "Docker's version cannot be seen from a container; the stack wants Engine 20.10 and Compose v2, or newer"
    yield Finding("docker", Level.SKIP, text, "on the host: docker version; docker compose version")
