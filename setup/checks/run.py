"""`--check`: whether what stands on the volume would boot; looks, and changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from setup.checks import consistency as agreement
from setup.checks import volume as standing
from setup.config.derived import certificate_is_given, certificate_is_made, listen_port, tls_is_ours
from setup.config.model import FAIL, OK, SKIP, WARN, Answer, Finding
from setup.config.values import Values
from setup.deploy.targets import AUTHORITY, CA_BUNDLE, CERTIFICATE, CERTIFICATE_KEY, COMPOSE, ENV, NGINX
from setup.errors import InputError
from setup.secrets import guards
from setup.secrets import plan as secrets_plan
from setup.tls import provided
from setup.tls.trust_store import private_authority, public_roots, trusted
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from setup.deploy.session import Session

EXIT_FAILED = 3
HELP = "docs/troubleshooting.md"
_RUNS = {
    "certificate-dates": "run avatar-setup --renew-certificate",
    "certificate-names": "run avatar-setup, which issues another",
}


def check(session: Session, *, online: bool) -> Answer:
    """All findings, as lines and as data; exit code 3 when one is a failure, unless a run at work is to be awaited."""
    findings = list(_findings(session, datetime.now(UTC), online))
    counts = {level: sum(one.level == level for one in findings) for level in (OK, WARN, FAIL, SKIP)}
    lines = [f"{one.level:4}  {one.name}: {one.text}{f': {one.todo}' if one.todo else ''}" for one in findings]
    summary = ", ".join(f"{count} {level}" for level, count in counts.items() if count)
    ready = not counts[FAIL]
    if not ready:
        session.volume.require_free()
    lines += ["", f"{'Nothing here would keep the stack from starting' if ready else 'Not ready'} ({summary})."]
    lines += [] if ready else [f"{HELP} has an entry for each name."]
    data = {"ready": ready, "counts": counts, "findings": [one._asdict() for one in findings]}
    return Answer(lines, data, 0 if ready else EXIT_FAILED)


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
        Finding("settings", FAIL, problem, "run avatar-setup with a value that will do") for problem in problems
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
            secrets_plan.path_of(secret.name) for secret in guards.lost(values, texts, state.secrets)
        }  # told already
        yield from agreement.look(there, values, known, lambda path: path in lost or volume.status(path) is not None)
    yield from _certificate(volume, values, now)
    yield from _elsewhere(values)
    if online:
        from setup.checks import network

        yield from network.look(values, standing.contents(volume, CA_BUNDLE) or b"")


def _certificate(volume: Volume, values: Values, now: datetime) -> Iterator[Finding]:
    """What nginx serves TLS with, and whether the API services trust what they must."""
    if certificate_is_given(values):
        chain, key = provided.look(volume, values)
        yield from (seen.finding for seen in (chain, key) if seen.finding)
        if chain.data is not None:
            yield from provided.judge(volume, values, chain, key, now, _roots(volume, values))[0]
        if key.path.startswith("./"):
            yield from standing.private(volume, key.path.removeprefix("./"))
    authority = b""
    if certificate_is_made(values):
        paths = (AUTHORITY, CERTIFICATE, CERTIFICATE_KEY)
        found = [standing.contents(volume, path) for path in paths]
        authority, chain, key = (
            found[0] or b"",
            provided.Seen(CERTIFICATE, found[1]),
            provided.Seen(CERTIFICATE_KEY, found[2]),
        )
        if authority and chain.data is not None:
            yield from map(_by_a_run, provided.judge(volume, values, chain, key, now, authority)[0])
    if authority or values["TLS_CA_PATH"]:
        yield _trust(volume, values, authority.strip())


def _by_a_run(finding: Finding) -> Finding:
    """What is wrong with a certificate of ours, and which run puts it right."""
    if finding.level == OK or "clock" in finding.todo:  # no run helps where the clock is wrong
        return finding
    return finding._replace(todo=_RUNS.get(finding.name, finding.todo))


def _roots(volume: Volume, values: Values) -> bytes:
    """The authorities that clients trust, without a private one that `_trust` finds fault with."""
    try:
        return trusted(volume, values)
    except InputError:
        return public_roots()


def _trust(volume: Volume, values: Values, authority: bytes) -> Finding:
    """Whether the bundle that the API services get holds the private authorities."""
    bundle = standing.contents(volume, CA_BUNDLE) or b""
    try:
        private = private_authority(volume, values)
    except InputError as error:
        return Finding("authorities", FAIL, str(error))
    if authority in bundle and private in bundle:
        return Finding("authorities", OK, f"{CA_BUNDLE} holds the private authority")
    return Finding(
        "authorities", FAIL, f"{CA_BUNDLE} lacks the private authority", "run avatar-setup, and docker compose up -d"
    )


def _elsewhere(values: Values) -> Iterator[Finding]:
    """What only the host can tell, and how it is asked."""
    redirects = values["NGINX_HTTP_REDIRECT_PORT"] if tls_is_ours(values) else ""
    ports = [str(port) for port in (listen_port(values), redirects) if port]
    asked = " or ".join(f"sport = :{port}" for port in ports)
    text = f"whether port {' and '.join(ports)} of the host is free cannot be seen from a container"
    yield Finding("host-ports", SKIP, text, f"on the host, before the stack starts: ss -ltnp '{asked}'")
    text = "Docker's version cannot be seen from a container; the stack wants Engine 20.10 and Compose v2, or newer"
    yield Finding("docker", SKIP, text, "on the host: docker version; docker compose version")
