"""Find the way from a certificate to a CA, by the rules of OpenSSL.

This module imports `cryptography`: import it inside functions.
"""

from __future__ import annotations

import contextlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from setup.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime


class Path(NamedTuple):
    """The way from the first certificate of a file to the last issuer that is known; `trusted` if that is a CA's.

    `refusal` says why clients do not take what issued the last one, "" if nothing did.
    """

    certificates: list[x509.Certificate]
    trusted: bool
    refusal: str = ""


def find_path(certificates: list[x509.Certificate], trusted: list[x509.Certificate], now: datetime) -> Path:
    """Find the path that clients find: one of valid certificates if there is any, whatever the order of the file.

    One that leads to an unknown root is enough: what has expired behind it may be a cross-sign of that root.
    """
    roots = [root for root in trusted if is_valid(root, now)]
    valid = [certificate for certificate in certificates if is_valid(certificate, now)]
    path, any_path = _climb(certificates[0], valid, roots), _climb(certificates[0], certificates, roots)
    return path if path.trusted or (len(path.certificates) > 1 and not any_path.trusted) else any_path


def _climb(first: x509.Certificate, usable: list[x509.Certificate], roots: list[x509.Certificate]) -> Path:
    """Find the shortest way to a root, else the longest way; a certificate is reached with the fewest CAs below it."""
    ways, seen = [[first]], {first}
    refusals: dict[x509.Certificate, str] = {}
    for way in ways:  # which grows meanwhile
        last = way[-1]
        if last in roots:
            return Path(way, trusted=True)
        for issuer in (*roots, *usable):
            if issuer in seen or issuer.subject != last.issuer or not is_issued_by(last, issuer):
                continue
            refusal = _refuse(issuer, way, is_root=issuer in roots)
            if refusal:
                refusals.setdefault(last, refusal)
            elif issuer in roots:
                return Path(way, trusted=True)
            else:
                seen.add(issuer)
                ways.append([*way, issuer])
    best = max(ways, key=len)
    return Path(best, trusted=False, refusal=refusals.get(best[-1], ""))


def _refuse(issuer: x509.Certificate, way: list[x509.Certificate], *, is_root: bool) -> str:
    """Say why clients do not let a certificate issue the last one of a way, "" if they do."""
    if not is_authority(issuer, is_root=is_root):
        return f"{name_of(issuer)} is not a CA: its basic constraints or key usage say so"
    below = sum(certificate.issuer != certificate.subject for certificate in way[1:])
    limit: int | None = None
    with contextlib.suppress(x509.ExtensionNotFound):
        limit = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if limit is None or limit >= below:
        return ""
    between = "between itself and the server certificate"
    return f"{name_of(issuer)} allows {limit} CAs {between}, and there are {below}"


def is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def is_authority(certificate: x509.Certificate, *, is_root: bool = True) -> bool:
    """Tell whether a certificate may issue others; of an older root, OpenSSL does not ask for basic constraints."""
    is_old_root = is_root and certificate.version is x509.Version.v1 and certificate.issuer == certificate.subject
    with contextlib.suppress(x509.ExtensionNotFound):
        if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return False
        is_old_root = is_root
    with contextlib.suppress(x509.ExtensionNotFound):
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    return is_old_root


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether an authority signed a certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except UnsupportedAlgorithm:  # too weak to be verified, which another finding reports
        return certificate.issuer == authority.subject
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def name_of(certificate: x509.Certificate, *, issuer: bool = False) -> str:
    """Return what to call a certificate in a message, or its issuer."""
    name = certificate.issuer if issuer else certificate.subject
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(kind):
            return "".join(char if char.isprintable() else "?" for char in str(attribute.value))[:80]
    return "the first one" if not issuer else "somebody"
