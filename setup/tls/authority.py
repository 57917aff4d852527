"""Create the deployment's own authority (CA), and issue its certificate: the only module that creates keys.

This module imports `cryptography`: import it inside functions.
"""

from __future__ import annotations

import contextlib
import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from setup.config.derived import is_address
from setup.errors import DecisionNeeded, VolumeError
from setup.tls import certificates, chains
from setup.typed import TYPE_CHECKING
from setup.volume.layout import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, CERTIFICATE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Browsers refuse server certificates that are valid for longer than 398 days.
CERTIFICATE_LASTS = timedelta(days=397) - timedelta(seconds=1)
AUTHORITY_LASTS = timedelta(days=3650)
_SKEW = timedelta(days=1)  # a client whose clock is behind accepts it too
_LONGEST_COMMON_NAME = 64

_FOREIGN = (
    f"{CERTIFICATE} was not issued by avatar-setup, or its CA {AUTHORITY} is gone. Nothing was written. To serve a "
    f"certificate of your own, set TLS_MODE=provided; if the CA was lost, restore it from a backup; for a new CA and "
    f"certificate, move the file away: mv {CERTIFICATE} {CERTIFICATE}.mine"
)


def complete_files(
    on_disk: Mapping[str, bytes], names: Sequence[str], renew: bool, keep_foreign: bool
) -> tuple[dict[str, bytes], datetime, str]:
    """Return the files of the authority and the certificate, created if missing or unfit; the expiry date; the reason.

    A key without its certificate is what an interrupted run leaves: it gets one. Raises DecisionNeeded for a
    certificate of another CA, unless that is kept, and VolumeError for a file that is lost or damaged.
    """
    files = dict(on_disk)
    authority_reason = _complete_authority(files, renew)
    reason = _reason_to_issue(files, names, renew, keep_foreign)
    if reason:
        _issue(files, names, renew)
    return files, _load(files, CERTIFICATE).not_valid_after_utc, authority_reason or reason


def _complete_authority(files: dict[str, bytes], renew: bool) -> str:
    """Create the authority if there is none, and its certificate if that is missing or too old to issue."""
    if AUTHORITY in files:
        certificate = _load(files, AUTHORITY)
        if AUTHORITY_KEY not in files:
            raise VolumeError(
                f"{AUTHORITY_KEY} is missing: restore it from a backup. It is not regenerated, because your clients "
                f"trust {AUTHORITY}"
            )
        if not _has_key(certificate, files, AUTHORITY_KEY):
            raise VolumeError(f"{AUTHORITY_KEY} is not the key of {AUTHORITY}: restore both from a backup")
        if not renew or certificate.not_valid_after_utc > _now() + CERTIFICATE_LASTS:
            return ""
    elif AUTHORITY_KEY not in files:
        if CERTIFICATE in files:
            raise DecisionNeeded(_FOREIGN)
        files[AUTHORITY_KEY] = _new_key()
    files[AUTHORITY] = _new_authority(_load_key(files, AUTHORITY_KEY))
    return f"{AUTHORITY} is new: install it on your clients"


def _reason_to_issue(files: Mapping[str, bytes], names: Sequence[str], renew: bool, keep_foreign: bool) -> str:
    """Say why a certificate must be issued, "" if none must."""
    if CERTIFICATE not in files:
        return f"{CERTIFICATE} is new"
    certificate = _load(files, CERTIFICATE)
    if not chains.is_issued_by(certificate, _load(files, AUTHORITY)):
        if keep_foreign:
            return ""
        raise DecisionNeeded(_FOREIGN)
    if renew:
        return f"{CERTIFICATE} is renewed"
    if certificates.names_of(certificate) != set(names):
        return f"{CERTIFICATE} is issued again, for {', '.join(names)}"
    if CERTIFICATE_KEY not in files or not _has_key(certificate, files, CERTIFICATE_KEY):
        return f"{CERTIFICATE} is issued again, because its key changed"
    return ""


def _issue(files: dict[str, bytes], names: Sequence[str], renew: bool) -> None:
    """Issue a certificate; with a new key if there is none, or if it is renewed."""
    if renew or CERTIFICATE_KEY not in files:
        files[CERTIFICATE_KEY] = _new_key()
    public = _load_key(files, CERTIFICATE_KEY).public_key()
    files[CERTIFICATE] = _new_certificate(public, names, _load(files, AUTHORITY), _load_key(files, AUTHORITY_KEY))


# --- reading --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise VolumeError(
            f"{path} is not the file that avatar-setup created and cannot be used: restore it from a backup"
        ) from None


def _load(files: Mapping[str, bytes], path: str) -> x509.Certificate:
    with _reading(path):
        return certificates.load_first(files[path])


def _has_key(certificate: x509.Certificate, files: Mapping[str, bytes], path: str) -> bool:
    with _reading(path):
        return certificates.has_key(certificate, files[path])


def _load_key(files: Mapping[str, bytes], path: str) -> ec.EllipticCurvePrivateKey:
    with _reading(path):
        key = serialization.load_pem_private_key(files[path], None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("avatar-setup creates only keys on elliptic curves")
        return key


# --- creating -------------------------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _new_key() -> bytes:
    """Create a private key on P-256, not encrypted: nginx cannot ask for a passphrase."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _new_authority(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Create the certificate of the authority's key; its name follows from the key, so that it can be recreated."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "avatar-setup"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"Avatar authority {identifier.digest.hex()[:12]}"),
    ])  # fmt: skip
    start = _now() - _SKEW
    builder = _builder(name, name, key.public_key(), start, start + AUTHORITY_LASTS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return _signed(builder, key)


def _new_certificate(
    key: ec.EllipticCurvePublicKey,
    names: Sequence[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> bytes:
    """Create a server certificate for host names and addresses, valid for as long as browsers accept one."""
    start = max(_now() - _SKEW, authority.not_valid_before_utc)
    end = min(start + CERTIFICATE_LASTS, authority.not_valid_after_utc)
    common = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= _LONGEST_COMMON_NAME else []
    builder = _builder(x509.Name(common), authority.subject, key, start, end)
    alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
    builder = builder.add_extension(alternative, critical=not common)  # RFC 5280: critical beside an empty subject
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return _signed(builder, authority_key)


def _general_name(name: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(name)) if is_address(name) else x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), start, end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign with this key and name it in the certificate, the authority's own too: strict verifiers want that."""
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
