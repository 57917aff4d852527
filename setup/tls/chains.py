"""Find the way from a certificate to a CA, by the rules of OpenSSL.

This module imports `cryptography`: import it inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

if TYPE_CHECKING:
    from datetime import datetime


class Path(NamedTuple):
    """The way from the first certificate of a file to the last issuer that is known; `trusted` if that is a CA's."""

    certificates: list[x509.Certificate]
    trusted: bool


def find_path(certificates: list[x509.Certificate], trusted: list[x509.Certificate], now: datetime) -> Path:
    """Find the path that clients find: one of valid certificates if there is any, whatever the order of the file."""
    roots = [root for root in trusted if is_valid(root, now)]
    valid = [certificate for certificate in certificates if is_valid(certificate, now)]
    best = Path([], trusted=False)
    for usable in (valid, certificates):
        path = _climb([certificates[0]], usable, roots, set())
        if path.trusted:
            return path
        if len(path.certificates) > len(best.certificates):
            best = path
    return best


def _climb(
    way: list[x509.Certificate],
    usable: list[x509.Certificate],
    roots: list[x509.Certificate],
    seen: set[x509.Certificate],
) -> Path:
    """Continue a path with each possible issuer; each certificate is tried once: what follows it is always the same."""
    last = way[-1]
    seen.add(last)
    for root in roots:
        if last == root or (root.subject == last.issuer and is_issued_by(last, root)):
            return Path(way, trusted=True)
    best = Path(way, trusted=False)
    for issuer in usable:
        if issuer not in seen and issuer.subject == last.issuer and is_issued_by(last, issuer):
            path = _climb([*way, issuer], usable, roots, seen)
            if path.trusted:
                return path
            if len(path.certificates) > len(best.certificates):
                best = path
    return best


def is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def is_authority(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate may issue others, as OpenSSL decides that."""
    try:
        if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return False
        may_sign = True
    except x509.ExtensionNotFound:
        may_sign = certificate.version is x509.Version.v1 and certificate.issuer == certificate.subject
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return may_sign


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether an authority signed a certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except UnsupportedAlgorithm:  # too weak to be verified, which another finding reports
        return certificate.issuer == authority.subject
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
