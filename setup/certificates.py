"""Reads certificates and keys, and tells what they are; imports `cryptography`, so imported where it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def first_of(chain: bytes) -> x509.Certificate:
    """The first certificate of a PEM file; raises ValueError."""
    return x509.load_pem_x509_certificate(chain)


def names_of(certificate: x509.Certificate) -> set[str]:
    """The names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def belong_together(certificate: x509.Certificate, key: bytes) -> bool:
    """Whether a certificate is for this private key; raises ValueError or TypeError for what is no plain key."""
    return _written(load_pem_private_key(key, None).public_key()) == _written(certificate.public_key())


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _written(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
