"""What a deployment serves TLS with and trusts; a certificate of our own is made once and kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from setup.config.derived import certificate_is_given, certificate_is_made, certificate_names
from setup.config.model import FAIL, OK, File, Finding, Material
from setup.config.values import Values
from setup.deploy.targets import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, CERTIFICATE_KEY, digest_of
from setup.errors import InputError
from setup.tls import provided
from setup.tls.trust_store import ca_bundle
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Made = dict[tuple[str, bool], Material]

RENEW = "--renew-certificate"
MARK = "certificate"  # the name of our mark in the state's basis
SOON = 30  # days
# What is made here and its modes, as it is published: a key before its certificate.
OURS = {AUTHORITY_KEY: 0o600, AUTHORITY: 0o644, CERTIFICATE_KEY: 0o600, CERTIFICATE: 0o644}


def plan(volume: Volume, values: Values, mark: str, renew: bool, made: Made) -> Material:
    """What this deployment serves and trusts; what stands on the volume is kept, and read closely only when new.

    `mark` is what the state remembers of it. `made` remembers what was made and is not written yet. Raises InputError
    for a certificate that is given and that nginx or its clients could not use.
    """
    if renew and not certificate_is_made(values):
        raise InputError(f"{RENEW}: with TLS_MODE={values['TLS_MODE']} no certificate is made here: leave it out")
    material = Material()
    if certificate_is_made(values):
        material = _own(volume, certificate_names(values), mark, renew, made)
    elif certificate_is_given(values):
        material = _given(volume, values, mark, made)
    authority = b"".join(file.data for file in material.files if file.path == AUTHORITY)
    return material._replace(ca_bundle=ca_bundle(volume, values, authority))


def _given(volume: Volume, values: Values, mark: str, made: Made) -> Material:
    chain, key = provided.look(volume, values)
    missing = tuple(_sentence(seen.finding) for seen in (chain, key) if seen.finding and seen.missing)
    unseen = [seen.finding for seen in (chain, key) if seen.finding and not seen.missing]
    seal = digest_of([",".join(certificate_names(values)).encode(), chain.data or b"", key.data or b""])
    if chain.data is None or mark.endswith(f" {seal}"):
        ends = _end_note(mark, chain.path, "put a new one there") if chain.data else ()
        return Material(mark=mark, notes=(*_notes(unseen), *ends), missing=missing)
    if (seal, False) not in made:
        findings, end = provided.judge(volume, values, chain, key, datetime.now(UTC))
        reason = f"{chain.path} is new; a running nginx takes it when it starts again (docker compose restart nginx)"
        notes, mark = _notes([*unseen, *findings]), f"{end.isoformat() if end else ''} {seal}"
        made[seal, False] = Material(mark=mark, reason=reason, notes=notes, missing=missing)
    return made[seal, False]


def _notes(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What a run says of these; raises InputError for those that would end the stack's start."""
    failed = [_sentence(finding) for finding in findings if finding.level == FAIL]
    if failed:
        raise InputError(*failed)
    return tuple(_sentence(finding) for finding in findings if finding.level != OK)


def _sentence(finding: Finding) -> str:
    return f"{finding.text}: {finding.todo}"


def _own(volume: Volume, names: list[str], mark: str, renew: bool, made: Made) -> Material:
    there = {path: data for path in OURS if (data := volume.read(path))}
    seal = _seal(names, there)
    if mark.endswith(f" {seal}") and not renew:
        return _material(there, there, mark)
    if (seal, renew) not in made:
        from setup.tls import authority as issuer

        files, end, reason = issuer.complete(there, names, renew, foreign_stays=bool(mark) and not renew)
        mark = f"{end.isoformat()} {_seal(names, files)}"
        made[_seal(names, files), renew] = _material(files, files, mark)  # once it is written
        made[seal, renew] = _material(files, there, mark, reason)
    return made[seal, renew]


def _seal(names: list[str], files: Mapping[str, bytes]) -> str:
    """One digest of everything that a closer look would look at."""
    return digest_of([",".join(names).encode(), *(files.get(path, b"") for path in OURS)])


def _material(files: Mapping[str, bytes], there: Mapping[str, bytes], mark: str, reason: str = "") -> Material:
    listed = (
        File(path, files[path], mode, once=mode == 0o600 and path not in there)
        for path, mode in OURS.items()
        if path in files
    )
    return Material(
        tuple(listed), mark=mark, reason=reason, notes=_end_note(mark, CERTIFICATE, f"run again with {RENEW}")
    )


def _end_note(mark: str, path: str, todo: str) -> tuple[str, ...]:
    """What there is to say today about a certificate's end."""
    end = datetime.fromisoformat(mark.partition(" ")[0])
    days = (end - datetime.now(UTC)).days
    if days >= SOON:
        return ()
    when = f"ended on {end:%Y-%m-%d}" if days < 0 else f"ends on {end:%Y-%m-%d}, in {days} days"
    return (f"the certificate {path} {when}: {todo}",)
