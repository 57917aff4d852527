"""Check what nginx serves TLS with, and whether the API services trust what they must."""

from __future__ import annotations

from setup.checks.volume import read_regular
from setup.config.derived import COMPOSE_ENGINE, certificate_is_given, certificate_is_made, certificate_names
from setup.config.engines import start_commands
from setup.config.values import Values
from setup.errors import InputError
from setup.findings import RENEW, RUN, RUN_AFTER, Finding, Level
from setup.state_manager import DeploymentState
from setup.tls.plan import MARK, was_inspected
from setup.tls.provided import find_open, read_provided
from setup.tls.trust_store import read_private_authority, read_public_roots, read_trusted
from setup.typed import TYPE_CHECKING
from setup.volume.layout import AUTHORITY, CA_BUNDLE, CERTIFICATE, CERTIFICATE_KEY
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

_REMEDIES = {
    "certificate-dates": ("run avatar-setup --renew-certificate", RENEW),
    "certificate-names": ("run avatar-setup, which issues a new one", RUN),
}


def check_certificates(
    volume: Volume, state: DeploymentState, values: Values, now: datetime, *, quick: bool
) -> Iterator[Finding]:
    """Check the certificate of this TLS mode, and the trusted authorities.

    If it must be `quick`, what a run has inspected, by the mark that the state remembers, is not inspected again.
    """
    mark = state.basis.get(MARK, "") if quick else ""
    authority, known = b"", bool(mark and was_inspected(volume, values, mark, now))
    if certificate_is_given(values):
        yield from _check_provided(volume, values, now, known)
    elif certificate_is_made(values):
        authority = read_regular(volume, AUTHORITY) or b""
        if not known:
            yield from _check_own(volume, certificate_names(values), authority, now)
    if authority or values["TLS_CA_PATH"]:
        yield from _check_trust(volume, state, values, authority.strip(), None if quick else now)


def _check_provided(volume: Volume, values: Values, now: datetime, known: bool) -> Iterator[Finding]:
    chain, key = read_provided(volume, values)
    for file in (chain, key):
        if file.finding:
            yield file.finding
    if not known and chain.pem:
        from setup.tls.certificates import inspect

        yield from inspect(chain.pem, key.pem, certificate_names(values), _read_roots(volume, values), now).findings
    yield from find_open(chain, key)


def _check_own(volume: Volume, names: list[str], authority: bytes, now: datetime) -> Iterator[Finding]:
    """Check the certificate that avatar-setup issued, and name the run that corrects it."""
    chain, key = read_regular(volume, CERTIFICATE), read_regular(volume, CERTIFICATE_KEY)
    if not authority or chain is None:
        return  # `check_volume` reports what is missing
    from setup.tls.certificates import inspect
    from setup.tls.pem import PemFile

    key_file = PemFile(CERTIFICATE_KEY, key) if key is not None else None
    inspection = inspect(PemFile(CERTIFICATE, chain), key_file, names, authority, now)
    for finding in inspection.findings:
        remedy = _REMEDIES.get(finding.name)
        is_early = finding.name == "certificate-dates" and inspection.start and inspection.start > now
        if finding.level is Level.OK or remedy is None or is_early:  # no run corrects the clock
            yield finding
        else:
            yield finding._replace(todo=remedy[0], cure=remedy[1])


def _read_roots(volume: Volume, values: Values) -> bytes:
    """Return the authorities that clients trust, without a private one that `_check_trust` reports as unusable."""
    try:
        return read_trusted(volume, values)
    except InputError:
        return read_public_roots()


def _check_trust(
    volume: Volume, state: DeploymentState, values: Values, authority: bytes, date: datetime | None
) -> Iterator[Finding]:
    """Check that the bundle of the API services holds the private authorities; with the time, inspect these too."""
    on_disk = read_regular(volume, CA_BUNDLE)
    bundle = on_disk or b""
    try:
        private = read_private_authority(volume, values, bundle)
    except InputError as error:
        yield Finding("authorities", Level.FAIL, str(error))
        return
    if authority in bundle and private in bundle:
        yield Finding("authorities", Level.OK, f"{CA_BUNDLE} contains the private CA")
    else:
        kept = on_disk is not None and not state.knows(CA_BUNDLE, bundle)
        away = f"move it away (mv {CA_BUNDLE} {CA_BUNDLE}.old), " if kept else ""
        # No label tells of the edit.
        recreate = " --force-recreate" if kept and values["TARGET"] == COMPOSE_ENGINE else ""
        todo = f"{away}run avatar-setup, then {' && '.join(start_commands(values, ''))}{recreate}"
        text = f"{CA_BUNDLE} {'was edited by hand, and ' if kept else ''}lacks the private CA"
        yield Finding("authorities", Level.FAIL, text, todo, RUN_AFTER if kept else RUN)
    if private and date:
        from setup.tls.certificates import inspect_authorities

        yield from inspect_authorities(f"TLS_CA_PATH={values['TLS_CA_PATH']}", private, date)
