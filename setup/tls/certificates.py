"""Read certificates and keys, and predict what nginx and its clients would make of them.

This module imports `cryptography`: import it inside functions.
"""

from __future__ import annotations

import warnings
from datetime import timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from setup.environment import shell_word
from setup.findings import Finding, Level
from setup.tls import pem
from setup.tls.chains import Path, find_path, is_authority, is_valid, name_of
from setup.tls.pem import PemFile
from setup.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

SOON = timedelta(days=30)
# What the library raises for a part of a certificate that it does not know or that is malformed, when that is read.
_UNREADABLE = (
    ValueError,
    TypeError,
    NotImplementedError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def load_first(chain: bytes) -> x509.Certificate:
    """Load the first certificate of a PEM file; raises ValueError."""
    return x509.load_pem_x509_certificate(chain)


def load_all(bundle: bytes) -> list[x509.Certificate]:
    """Load the certificates of a PEM file; raises ValueError if there is none, or one is damaged."""
    return x509.load_pem_x509_certificates(bundle)


def to_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write certificates as PEM."""
    blocks = b""
    for certificate in certificates:
        blocks += certificate.public_bytes(Encoding.PEM)
    return blocks


def names_of(certificate: x509.Certificate) -> set[str]:
    """List the names and addresses that a certificate covers."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    hosts = map(str.lower, names.get_values_for_type(x509.DNSName))
    return {*hosts, *map(str, names.get_values_for_type(x509.IPAddress))}


def has_key(certificate: x509.Certificate, key: bytes) -> bool:
    """Tell whether a certificate is for this private key; raises ValueError or TypeError if it is no plain key."""
    return _public_bytes(load_pem_private_key(key, None).public_key()) == _public_bytes(certificate.public_key())


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# --- inspecting -----------------------------------------------------------------------------------


class Inspection(NamedTuple):
    """The findings about a certificate, and from when until when its path is valid; None if it is unreadable."""

    findings: list[Finding]
    start: datetime | None = None
    end: datetime | None = None


def inspect(chain: PemFile, key: PemFile | None, names: Sequence[str], trusted: bytes, now: datetime) -> Inspection:
    """Inspect a certificate with its chain and key, as nginx and its clients do.

    `key` is None if it cannot be read. `trusted` are the authorities in PEM that clients are expected to have.
    """
    with warnings.catch_warnings():  # the library warns about odd certificates, and the findings say what matters
        warnings.simplefilter("ignore")
        if key and key.path == chain.path and pem.is_pkcs_12(chain.data):
            return Inspection([_refuse("certificate-file", chain, pem.convert_pkcs_12(chain.path))])
        certificates, findings = _load_chain(chain)
        if not certificates:
            return Inspection([*findings, *(_load_key(key)[1] if key else ())])
        try:
            way = find_path(certificates, load_all(trusted) if trusted else [], now)
        except _UNREADABLE:
            way = Path(certificates, trusted=False)
        for check in (
            lambda: [_check_key(chain.path, certificates, key)] if key else [],
            lambda: _check_chain(chain.path, certificates, way, now),
            lambda: [_check_dates(chain.path, way.certificates, now)],
            lambda: [_check_names(chain.path, certificates[0], names)],
            lambda: _check_strength(chain.path, certificates),
            lambda: _check_purpose(chain.path, certificates[0]),
        ):
            try:
                findings += check()
            except _UNREADABLE:
                findings.append(_cannot_check(chain.path))
        try:
            start = max(certificate.not_valid_before_utc for certificate in way.certificates)
            return Inspection(_once(findings), start, min(map(_end_of, way.certificates)))
        except _UNREADABLE:
            return Inspection(_once([*findings, _cannot_check(chain.path)]))


def _cannot_check(path: str) -> Finding:
    text = f"{path} holds something that cannot be read here: it was not checked completely"
    return Finding(
        "certificate-file", Level.WARN, text, f"look at it: openssl x509 -noout -text -in {shell_word(path)}"
    )


def _once(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


def _refuse(name: str, file: PemFile, problem: pem.Problem) -> Finding:
    return Finding(name, Level.FAIL, f"{file.path}: {problem.text}", problem.todo)


def _load_chain(chain: PemFile) -> tuple[list[x509.Certificate], list[Finding]]:
    """Load the certificates that nginx reads; there are none if one of them is unusable."""
    try:
        read, skipped = pem.read_chain(chain)
        certificates = _load(read)
    except pem.Unusable as error:
        return [], [_refuse("certificate-file", chain, error.problem)]
    findings = []
    for number in skipped:
        text = f"{chain.path}: nginx skips the certificate whose BEGIN is in line {number}"
        todo = "begin a line with -----BEGIN CERTIFICATE-----; openssl x509 converts a TRUSTED CERTIFICATE"
        findings.append(Finding("certificate-file", Level.WARN, text, todo))
    return certificates, findings


def _load(read: Mapping[int, bytes]) -> list[x509.Certificate]:
    """Load certificates by their lines; raise Unusable for one that is damaged."""
    certificates = []
    for line, der in read.items():
        try:
            certificates.append(x509.load_der_x509_certificate(der))
        except _UNREADABLE:
            raise pem.damaged(line) from None
    return certificates


def load_authorities(file: PemFile) -> list[x509.Certificate]:
    """Load every certificate of a file of authorities; raise Unusable if any program could not read one."""
    return _load(pem.read_authorities(file))


def inspect_authorities(name: str, authorities: bytes, now: datetime) -> Iterator[Finding]:
    """Report what nothing can lead to among authorities in PEM; a failure if there is no other."""
    certificates = load_all(authorities)
    servers = [each for each in certificates if each.issuer != each.subject and not is_authority(each)]
    level = Level.FAIL if len(servers) == len(certificates) else Level.WARN
    for number, certificate in enumerate(certificates, 1):
        text = f"{name}: certificate {number} ({name_of(certificate)})"
        if certificate in servers:
            todo = f"put the certificate of its issuer there ({name_of(certificate, issuer=True)})"
            yield Finding("authorities", level, f"{text} is not a CA", todo)
        elif _end_of(certificate) <= now:
            text += f" expired on {_end_of(certificate):%Y-%m-%d}"
            yield Finding("authorities", Level.WARN, text, "replace it by the present one of that CA")


def _end_of(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc


def _load_key(key: PemFile) -> tuple[bytes, list[Finding]]:
    """Return the key that nginx reads, as PEM, or why it reads none."""
    problem = pem.Problem("it is damaged", "copy it again")
    try:
        for plain in pem.read_keys(key):
            if _is_key(plain):
                return plain, []
            for label, other in pem.relabel_key(plain):
                if _is_key(other):
                    todo = f"write {label} in its BEGIN and END lines"
                    problem = pem.Problem("its label does not fit the key", todo)
    except pem.Unusable as error:
        problem = error.problem
    return b"", [_refuse("certificate-key", key, problem)]


def _is_key(plain: bytes) -> bool:
    try:
        return bool(load_pem_private_key(plain, None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _check_key(path: str, certificates: list[x509.Certificate], key: PemFile) -> Finding:
    plain, findings = _load_key(key)
    for finding in findings:
        return finding
    numbers = [number for number, certificate in enumerate(certificates, 1) if has_key(certificate, plain)]
    if not numbers:
        text = f"{key.path} is not the key of the first certificate in {path} ({name_of(certificates[0])})"
        return Finding("certificate-key", Level.FAIL, text, "use the key that this certificate was requested with")
    if numbers[0] > 1:
        text = f"{key.path} is the key of certificate {numbers[0]} in {path}, not of the first one"
        return Finding(
            "certificate-key", Level.FAIL, text, "put the server certificate first, then the one that issued it"
        )
    return Finding("certificate-key", Level.OK, f"{key.path} is the key of {path}")


def _check_chain(path: str, certificates: list[x509.Certificate], way: Path, now: datetime) -> Iterator[Finding]:
    """Report whether there is a path to a CA, and what the file holds that this path does not need."""
    last = way.certificates[-1]
    if way.trusted:
        yield Finding("certificate-chain", Level.OK, f"{path} leads to a trusted CA")
    elif way.refusal:
        todo = "have the server certificate issued by a CA that clients accept"
        yield Finding("certificate-chain", Level.FAIL, f"{path}: {way.refusal}", todo)
    elif last.issuer == last.subject:
        todo = "set TLS_CA_PATH to its file; without that the API cannot reach sign-in"
        text = f"{path} ends at {name_of(last)}, which is not a public CA"
        yield Finding("certificate-chain", Level.WARN, text, todo)
    elif len(way.certificates) == 1 and len({*certificates}) > 1:
        text = f"{path}: certificate 1 ({name_of(last)}) is issued by none of the others"
        todo = "put the server certificate first, and after each certificate the one that issued it"
        yield Finding("certificate-chain", Level.FAIL, text, todo)
    else:
        text = f"{path} ends at {name_of(last)}, and its issuer {name_of(last, issuer=True)} is not a public CA"
        todo = "add the missing intermediate certificate, or set TLS_CA_PATH to the file of the private CA"
        yield Finding("certificate-chain", Level.WARN, text, todo)
    served = [certificate for certificate in dict.fromkeys(certificates) if certificate in way.certificates]
    if served != way.certificates:
        text = f"{path} is not in order, and some clients want that"
        yield Finding("certificate-chain", Level.WARN, text, "put after each certificate the one that issued it")
    for number, certificate in enumerate(certificates, 1):
        reason, todo = "", "remove it"
        if certificate in certificates[: number - 1]:
            reason = f"is the same as certificate {certificates.index(certificate) + 1}"
        elif certificate not in way.certificates and not is_valid(certificate, now):
            word = "is not valid yet" if certificate.not_valid_before_utc > now else "has expired"
            reason = f"is not needed and {word}" if way.trusted else word
            todo = todo if way.trusted else f"replace it, or remove it if clients trust {name_of(certificate)} itself"
        if reason:
            text = f"{path}: certificate {number} ({name_of(certificate)}) {reason}"
            yield Finding("certificate-chain", Level.WARN, text, todo)


def _check_dates(path: str, certificates: list[x509.Certificate], now: datetime) -> Finding:
    for certificate in certificates:
        start = certificate.not_valid_before_utc
        if start > now:
            text = f"{path}: {name_of(certificate)} is not valid before {start:%Y-%m-%d}"
            return Finding("certificate-dates", Level.FAIL, text, f"check the clock, which says {now:%Y-%m-%d}")
    first = min(certificates, key=_end_of)
    end, days, text = _end_of(first), (_end_of(first) - now).days, f"{path}: {name_of(first)}"
    if end <= now:
        return Finding("certificate-dates", Level.FAIL, f"{text} expired on {end:%Y-%m-%d}", "replace it")
    if end - now < SOON:
        return Finding("certificate-dates", Level.WARN, f"{text} expires on {end:%Y-%m-%d}, in {days} days", "renew it")
    return Finding("certificate-dates", Level.OK, f"{text} is valid until {end:%Y-%m-%d}, for {days} days")


def _check_names(path: str, certificate: x509.Certificate, names: Sequence[str]) -> Finding:
    listed = names_of(certificate)
    missing = [name for name in names if not _covers(listed, name)]
    if not missing:
        return Finding("certificate-names", Level.OK, f"{path} covers {', '.join(names)}")
    listing = f"it covers {', '.join(sorted(listed))}" if listed else "it has no subject alternative names"
    text = f"{path} does not cover {', '.join(missing)}: {listing}"
    todo = "have a certificate issued for PUBLIC_URL and all of TLS_EXTRA_NAMES"
    return Finding("certificate-names", Level.FAIL if missing[0] == names[0] else Level.WARN, text, todo)


def _check_strength(path: str, certificates: list[x509.Certificate]) -> Iterator[Finding]:
    """Report what OpenSSL refuses as a failure, and what only browsers refuse as a warning."""
    is_strong = True
    for certificate in certificates:
        weakness = _weakness(certificate)
        if weakness:
            is_strong = False
            text = f"{path}: {name_of(certificate)} {weakness}"
            yield Finding("certificate-strength", Level.FAIL, text, "have a new one issued")
    if not _is_usual(certificates[0].public_key()):
        text = f"{path}: browsers accept only RSA keys, and EC keys on P-256 and P-384"
        yield Finding("certificate-strength", Level.WARN, text, "have a certificate issued for such a key")
    elif is_strong:
        yield Finding("certificate-strength", Level.OK, f"{path} has a strong key and signature")


def _check_purpose(path: str, certificate: x509.Certificate) -> Iterator[Finding]:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in uses:
        text = f"{path} is not for server authentication"
        yield Finding("certificate-purpose", Level.FAIL, text, "have one issued with the extended key usage serverAuth")


def _covers(listed: set[str], name: str) -> bool:
    """Tell whether a certificate's names cover one, as browsers see it: a wildcard stands for one label of a name."""
    label, dot, rest = name.partition(".")
    return name in listed or bool(label and dot and f"*.{rest}" in listed and not rest.rpartition(".")[2].isdigit())


def _weakness(certificate: x509.Certificate) -> str:
    key, algorithm = certificate.public_key(), certificate.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        return f"has an RSA key of {key.key_size} bits, and nginx requires 2048"
    if algorithm and algorithm.name in ("md5", "sha1") and certificate.issuer != certificate.subject:
        return f"is signed with {algorithm.name.upper()}, which clients refuse because it can be forged"
    return ""


def _is_usual(key: PublicKeyTypes) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1))
    return isinstance(key, rsa.RSAPublicKey)
