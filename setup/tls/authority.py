"""The deployment's own authority and the certificate it issues: the only maker of keys.

It imports `cryptography`, so whoever needs it imports it where it is needed.
"""

from __future__ import annotations

import contextlib
import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from setup.config.derived import is_address
from setup.deploy.targets import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, CERTIFICATE_KEY
from setup.errors import DecisionNeeded, VolumeError
from setup.tls import certificates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Browsers refuse server certificates that are valid for longer than 398 days.
CERTIFICATE_LASTS = timedelta(days=397) - timedelta(seconds=1)
AUTHORITY_LASTS = timedelta(days=3650)
_SKEW = timedelta(days=1)  # a client whose clock is behind accepts it all the same
_LONGEST_COMMON_NAME = 64

_FOREIGN = (
    f"{CERTIFICATE} was not made here, or its authority {AUTHORITY} is gone. Nothing was written: TLS_MODE=provided "
    f"serves a certificate of yours; put a lost authority back from a backup; or move the file away "
    f"(mv {CERTIFICATE} {CERTIFICATE}.mine), and an authority and a certificate are made"
)


def complete(
    there: Mapping[str, bytes], names: Sequence[str], renew: bool, foreign_stays: bool
) -> tuple[dict[str, bytes], datetime, str]:
    """The authority's and the certificate's files, with those made that are missing or no longer fit; end; and why.

    A key without its certificate is what an interrupted run leaves: it gets one. Raises DecisionNeeded for a
    certificate that was not made here, unless it may stay, and VolumeError for what is lost or cannot be used.
    """
    files = dict(there)
    authority_reason = _complete_authority(files, renew)
    reason = _why_issue(files, names, renew, foreign_stays)
    if reason:
        _issue(files, names, renew)
    return files, _certificate(files, CERTIFICATE).not_valid_after_utc, authority_reason or reason


def _complete_authority(files: dict[str, bytes], renew: bool) -> str:
    """Makes the authority where there is none, and its certificate where that is missing or too old to issue."""
    if AUTHORITY in files:
        certificate = _certificate(files, AUTHORITY)
        if AUTHORITY_KEY not in files:  # kept elsewhere, which is as good: it is missed only when it must sign
            return ""
        if not _pair(certificate, files, AUTHORITY_KEY):
            raise VolumeError(f"{AUTHORITY_KEY} is not the key of {AUTHORITY}: put both back from a backup")
        if not renew or certificate.not_valid_after_utc > _now() + CERTIFICATE_LASTS:
            return ""
    elif AUTHORITY_KEY not in files:
        if CERTIFICATE in files:
            raise DecisionNeeded(_FOREIGN)
        files[AUTHORITY_KEY] = _new_key()
    with _reading(AUTHORITY_KEY):
        files[AUTHORITY] = _new_authority(_private(files[AUTHORITY_KEY]))
    return f"{AUTHORITY} is made; hand it to your clients"


def _why_issue(files: Mapping[str, bytes], names: Sequence[str], renew: bool, foreign_stays: bool) -> str:
    """Why a certificate is to be issued, or ""."""
    if CERTIFICATE not in files:
        return f"{CERTIFICATE} is made"
    certificate = _certificate(files, CERTIFICATE)
    if not certificates.is_issued_by(certificate, _certificate(files, AUTHORITY)):
        if foreign_stays:
            return ""
        raise DecisionNeeded(_FOREIGN)
    if renew:
        return f"{CERTIFICATE} is renewed"
    if certificates.names_of(certificate) != set(names):
        return f"{CERTIFICATE} is issued again, for {', '.join(names)}"
    if CERTIFICATE_KEY not in files or not _pair(certificate, files, CERTIFICATE_KEY):
        return f"{CERTIFICATE} is issued again, as its key is another"
    return ""


def _issue(files: dict[str, bytes], names: Sequence[str], renew: bool) -> None:
    """A new certificate; with a new key where there is none, or where it is renewed."""
    if AUTHORITY_KEY not in files:
        raise VolumeError(
            f"{AUTHORITY_KEY} is missing, and a certificate for {', '.join(names)} must be issued: put it back from a "
            f"backup. It is not made anew, as your clients trust {AUTHORITY}"
        )
    if renew or CERTIFICATE_KEY not in files:
        files[CERTIFICATE_KEY] = _new_key()
    with _reading(AUTHORITY_KEY):
        authority_key = _private(files[AUTHORITY_KEY])
    with _reading(CERTIFICATE_KEY):
        public = _private(files[CERTIFICATE_KEY]).public_key()
    files[CERTIFICATE] = _new_certificate(public, names, _certificate(files, AUTHORITY), authority_key)


# --- reading what stands there --------------------------------------------------------------------


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise VolumeError(f"{path} is not what was made here, and cannot be used: put it back from a backup") from None


def _certificate(files: Mapping[str, bytes], path: str) -> x509.Certificate:
    with _reading(path):
        return certificates.first_of(files[path])


def _pair(certificate: x509.Certificate, files: Mapping[str, bytes], key: str) -> bool:
    with _reading(key):
        return certificates.belong_together(certificate, files[key])


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key, None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise TypeError("keys that are made here are of another kind")
    return loaded


# --- making ---------------------------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _new_key() -> bytes:
    """A private key on P-256, not encrypted: nginx has nobody to ask for a password."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _new_authority(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate for the authority's key; its name follows from the key, so that it can be made again."""
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
    """A server certificate for these host names and addresses, valid for as long as browsers take one."""
    start = max(_now() - _SKEW, authority.not_valid_before_utc)
    end = min(start + CERTIFICATE_LASTS, authority.not_valid_after_utc)
    common = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= _LONGEST_COMMON_NAME else []
    builder = _builder(x509.Name(common), authority.subject, key, start, end)
    alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
    builder = builder.add_extension(alternative, critical=not common)  # RFC 5280: critical beside an empty subject
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return _signed(builder.add_extension(above, critical=False), authority_key)


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
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
