"""Plan what a deployment serves TLS with and trusts; a certificate of its own is issued once and kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from setup.config.derived import certificate_is_given, certificate_is_made, certificate_names
from setup.config.engines import reload_of
from setup.config.values import Values
from setup.errors import InputError
from setup.findings import Finding, Level
from setup.formats.digests import digest_all
from setup.tls.provided import ProvidedFile, find_open, read_provided
from setup.tls.trust_store import make_ca_bundle, read_known, read_private_authority, read_trusted
from setup.typed import NamedTuple
from setup.volume.layout import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, CERTIFICATE_KEY, File
from setup.volume.volume import Volume

RENEW = "--renew-certificate"
MARK = "certificate"  # the name of our mark in the state's basis
SOON = 30  # days
# The files of the deployment's own CA and certificate in the order of publication: a key before its certificate.
OURS = {AUTHORITY_KEY: 0o600, AUTHORITY: 0o644, CERTIFICATE_KEY: 0o600, CERTIFICATE: 0o644}


class TlsPlan(NamedTuple):
    """What a deployment serves TLS with and trusts.

    `files` are those of its own authority and certificate. `mark` is what the state remembers, so that the next run
    need not parse them: the expiry date, and a digest of all that was parsed. `reason` says why a file is new, and
    `missing` what the operator must still put there.
    """

    files: tuple[File, ...] = ()
    ca_bundle: bytes = b""
    mark: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


Issued = dict[tuple[str, bool], TlsPlan]


def plan_tls(volume: Volume, values: Values, mark: str, renew: bool, issued: Issued) -> TlsPlan:
    """Plan what this deployment serves and trusts; files on the volume are kept, and parsed only if they are new.

    `mark` is what the state remembers of them. `issued` remembers what was issued and is not written yet. Raises
    InputError for a provided certificate that nginx or its clients could not use.
    """
    if renew and not certificate_is_made(values):
        raise InputError(
            f"{RENEW}: avatar-setup issues no certificate with TLS_MODE={values['TLS_MODE']}: leave it out"
        )
    plan = TlsPlan()
    if certificate_is_made(values):
        plan = _plan_own(volume, certificate_names(values), mark, renew, issued)
    elif certificate_is_given(values):
        plan = _plan_provided(volume, values, mark, issued)
    authority = b"".join(file.data for file in plan.files if file.path == AUTHORITY)
    bundle, notes = make_ca_bundle(volume, values, authority), plan.notes
    if values["TLS_CA_PATH"] and bundle != read_known(volume):
        from setup.tls.certificates import inspect_authorities

        private = read_private_authority(volume, values, bundle)
        notes += _notes([*inspect_authorities(f"TLS_CA_PATH={values['TLS_CA_PATH']}", private, datetime.now(UTC))])
    return plan._replace(ca_bundle=bundle, notes=notes)


def _plan_provided(volume: Volume, values: Values, mark: str, issued: Issued) -> TlsPlan:
    chain, key = read_provided(volume, values)
    missing, unseen = [], []
    for file in (chain, key):
        if file.finding and file.missing:
            missing.append(_sentence(file.finding))
        elif file.finding:
            unseen.append(file.finding)
    names = certificate_names(values)
    seal = _seal_provided(names, chain, key)
    if chain.pem is None or mark.endswith(f" {seal}"):
        expiry = _expiry_notes(mark, chain.path, "replace it") if chain.data else ()
        return TlsPlan(mark=mark, notes=(*_notes(unseen), *expiry), missing=tuple(missing))
    if (seal, False) not in issued:
        from setup.tls.certificates import inspect

        inspection = inspect(chain.pem, key.pem, names, read_trusted(volume, values), datetime.now(UTC))
        reason = f"{chain.path} is new; a running nginx serves it after a restart ({reload_of(values)})"
        beside = find_open(chain, chain) if b"PRIVATE KEY-----" in chain.pem.data else []
        notes, end = _notes([*unseen, *beside, *inspection.findings]), inspection.end
        mark = f"{end.isoformat() if end else ''} {seal}"
        issued[seal, False] = TlsPlan(mark=mark, reason=reason, notes=notes, missing=tuple(missing))
    return issued[seal, False]


def _seal_provided(names: list[str], chain: ProvidedFile, key: ProvidedFile) -> str:
    return digest_all([",".join(names).encode(), chain.data or b"", key.data or b""])


def was_inspected(volume: Volume, values: Values, mark: str, now: datetime) -> bool:
    """Tell whether a run has inspected this very certificate and key, and found them valid until after `now`.

    `mark` is what the state remembers.
    """
    names = certificate_names(values)
    if certificate_is_given(values):
        seal = _seal_provided(names, *read_provided(volume, values))
    else:
        seal = _seal(names, _read_ours(volume))
    end = _end_of(mark)
    return end is not None and mark.endswith(f" {seal}") and end > now


def _notes(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return what a run says of findings; raises InputError for those that would keep the stack from working."""
    failed = [_sentence(finding) for finding in findings if finding.level == Level.FAIL]
    if failed:
        raise InputError(*failed)
    return tuple(_sentence(finding) for finding in findings if finding.level != Level.OK)


def _sentence(finding: Finding) -> str:
    return f"{finding.text}: {finding.todo}"


def _plan_own(volume: Volume, names: list[str], mark: str, renew: bool, issued: Issued) -> TlsPlan:
    on_disk = _read_ours(volume)
    seal = _seal(names, on_disk)
    if mark.endswith(f" {seal}") and not renew:
        return _own_plan(on_disk, on_disk, mark)
    if (seal, renew) not in issued:
        from setup.tls import authority

        files, end, reason = authority.complete_files(on_disk, names, renew, keep_foreign=bool(mark) and not renew)
        mark = f"{end.isoformat()} {_seal(names, files)}"
        issued[_seal(names, files), renew] = _own_plan(files, files, mark)  # once it is written
        issued[seal, renew] = _own_plan(files, on_disk, mark, reason)
    return issued[seal, renew]


def _read_ours(volume: Volume) -> dict[str, bytes]:
    on_disk = {}
    for path in OURS:
        data = volume.read(path)
        if data:
            on_disk[path] = data
    return on_disk


def _seal(names: list[str], files: Mapping[str, bytes]) -> str:
    """Return one digest of everything that a closer inspection would read."""
    return digest_all([",".join(names).encode(), *(files.get(path, b"") for path in OURS)])


def _own_plan(files: Mapping[str, bytes], on_disk: Iterable[str], mark: str, reason: str = "") -> TlsPlan:
    listed = []
    for path, mode in OURS.items():
        if path in files:
            listed.append(File(path, files[path], mode, once=mode == 0o600 and path not in on_disk))
    return TlsPlan(
        tuple(listed), mark=mark, reason=reason, notes=_expiry_notes(mark, CERTIFICATE, f"run again with {RENEW}")
    )


def _end_of(mark: str) -> datetime | None:
    """Return the expiry date that a mark has; None without one, or if it is no date, as in a damaged state."""
    try:
        end = datetime.fromisoformat(mark.partition(" ")[0])
    except ValueError:
        return None
    return end if end.tzinfo else end.replace(tzinfo=UTC)


def _expiry_notes(mark: str, path: str, todo: str) -> tuple[str, ...]:
    """Return a note if the certificate has expired or will expire soon."""
    end = _end_of(mark)
    days = (end - datetime.now(UTC)).days if end else SOON
    if end is None or days >= SOON:
        return ()
    when = f"expired on {end:%Y-%m-%d}" if days < 0 else f"expires on {end:%Y-%m-%d}, in {days} days"
    return (f"the certificate {path} {when}: {todo}",)
