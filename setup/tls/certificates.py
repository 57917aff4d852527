"""Reads certificates and keys, and judges what nginx and its clients would make of them.

It imports `cryptography`, so whoever needs it imports it where it is needed.
"""

from __future__ import annotations

import itertools
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from setup.config.model import FAIL, OK, WARN, Finding
from setup.tls import pem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

SOON = timedelta(days=30)


def first_of(chain: bytes) -> x509.Certificate:
    """The first certificate of a PEM file; raises ValueError."""
    return x509.load_pem_x509_certificate(chain)


def all_of(bundle: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file; raises ValueError where there is none, or one is damaged."""
    return x509.load_pem_x509_certificates(bundle)


def names_of(certificate: x509.Certificate) -> set[str]:
    """The names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    listed = (name.lower() for name in names.get_values_for_type(x509.DNSName))
    return {*listed, *map(str, names.get_values_for_type(x509.IPAddress))}


def belong_together(certificate: x509.Certificate, key: bytes) -> bool:
    """Whether a certificate is for this private key; raises ValueError or TypeError for what is no plain key."""
    return _written(load_pem_private_key(key, None).public_key()) == _written(certificate.public_key())


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except UnsupportedAlgorithm:  # so weak that it is no longer verified: that is another finding's matter
        return certificate.issuer == authority.subject
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _written(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# --- judging --------------------------------------------------------------------------------------


class Judged:
    """A certificate with its chain and key, as nginx finds them; `findings` are in the order in which one would look.

    `key` is None where it cannot be seen. `trusted` are authorities in PEM: clients are expected to have these.
    """

    def __init__(
        self,
        chain: tuple[str, bytes],
        key: tuple[str, bytes] | None,
        names: Sequence[str],
        trusted: bytes,
        now: datetime,
    ) -> None:
        self.findings: list[Finding] = []
        self.end: datetime | None = None
        self._path, data = chain
        with warnings.catch_warnings():  # the library's about certificates that are odd, and none of ours
            warnings.simplefilter("ignore")
            certificates = self._certificates(data)
            if not certificates:
                return
            self.end = min(certificate.not_valid_after_utc for certificate in certificates)
            if key:
                self._judge_key(certificates, *key)
            self._judge_chain(certificates, trusted)
            self._judge_dates(certificates, now)
            self._judge_names(certificates[0], names)
            self._judge_use(certificates)

    def _say(self, name: str, level: str, text: str, todo: str = "") -> None:
        self.findings.append(Finding(name, level, text, todo))

    def _certificates(self, data: bytes) -> list[x509.Certificate]:
        told = pem.not_a_chain(self._path, data)
        if not told:
            try:
                return x509.load_pem_x509_certificates(data)
            except ValueError:
                told = "it holds a certificate that is damaged", "copy it again, as it came from its authority"
        self._say("certificate-file", FAIL, f"{self._path}: {told[0]}", told[1])
        return []

    def _judge_key(self, certificates: list[x509.Certificate], path: str, data: bytes) -> None:
        told = pem.not_a_key(path, data)
        if told:
            self._say("certificate-key", FAIL, f"{path}: {told[0]}", told[1])
            return
        try:
            key: PrivateKeyTypes = load_pem_private_key(pem.first_key(data), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            self._say("certificate-key", FAIL, f"{path}: it is damaged", "copy it again")
            return
        public = _written(key.public_key())
        matches = [number for number, one in enumerate(certificates) if _written(one.public_key()) == public]
        if not matches:
            text = f"{path} is not the key of the first certificate in {self._path} ({_name(certificates[0])})"
            self._say("certificate-key", FAIL, text, "put the key there with which this certificate was requested")
        elif matches[0]:
            text = f"{path} is the key of certificate {matches[0] + 1} in {self._path}, not of the first one"
            self._say(
                "certificate-key", FAIL, text, "put the server's own certificate first, then the one that issued it"
            )
        else:
            self._say("certificate-key", OK, f"{path} is the key of {self._path}")

    def _judge_chain(self, certificates: list[x509.Certificate], trusted: bytes) -> None:
        for number, (one, above) in enumerate(itertools.pairwise(certificates), 1):
            if not is_issued_by(one, above):
                text = f"{self._path}: certificate {number} ({_name(one)}) was not issued by the next ({_name(above)})"
                todo = "put the server's own certificate first, and after each the one that issued it"
                self._say("certificate-chain", FAIL, text, todo)
                return
        last = certificates[-1]
        roots = x509.load_pem_x509_certificates(trusted) if trusted else []
        if last in roots or any(root.subject == last.issuer and is_issued_by(last, root) for root in roots):
            self._say("certificate-chain", OK, f"{self._path} is in order and leads to a trusted authority")
        elif last.issuer == last.subject:
            text = f"{self._path} ends at {_name(last)}, which is no public authority"
            self._say("certificate-chain", WARN, text, "name its file in TLS_CA_PATH, or the API cannot reach sign-in")
        else:
            issuer = _name(last, issuer=True)
            text = f"{self._path} ends at {_name(last)}, and {issuer}, which issued it, is no public authority"
            todo = "add the intermediate certificate that is missing, or name a private authority's file in TLS_CA_PATH"
            self._say("certificate-chain", WARN, text, todo)

    def _judge_dates(self, certificates: list[x509.Certificate], now: datetime) -> None:
        for one in certificates:
            if one.not_valid_before_utc > now:
                text = f"{self._path}: {_name(one)} is valid from {one.not_valid_before_utc:%Y-%m-%d} on only"
                self._say("certificate-dates", FAIL, text, f"is the clock right? it says {now:%Y-%m-%d}")
                return
        one = min(certificates, key=lambda certificate: certificate.not_valid_after_utc)
        end = one.not_valid_after_utc
        text = f"{self._path}: {_name(one)} "
        if end <= now:
            self._say("certificate-dates", FAIL, f"{text}ended on {end:%Y-%m-%d}", "put a new one there")
        elif end - now < SOON:
            self._say(
                "certificate-dates", WARN, f"{text}ends on {end:%Y-%m-%d}, in {(end - now).days} days", "renew it"
            )
        else:
            self._say("certificate-dates", OK, f"{text}is valid until {end:%Y-%m-%d}, for {(end - now).days} days")

    def _judge_names(self, certificate: x509.Certificate, names: Sequence[str]) -> None:
        listed = names_of(certificate)
        missing = [name for name in names if not _covered(name, listed)]
        if not missing:
            self._say("certificate-names", OK, f"{self._path} is for {', '.join(names)}")
            return
        known = f"it is for {', '.join(sorted(listed))}" if listed else "it has no subject alternative names at all"
        text = f"{self._path} is not for {', '.join(missing)}: {known}"
        todo = "have a certificate issued for all of PUBLIC_URL and TLS_EXTRA_NAMES"
        self._say("certificate-names", FAIL if missing[0] == names[0] else WARN, text, todo)

    def _judge_use(self, certificates: list[x509.Certificate]) -> None:
        """Strength and purpose: what OpenSSL refuses is a failure, and what browsers refuse a warning."""
        said = len(self.findings)
        for one in certificates:
            weak = _weakness(one)
            if weak:
                self._say("certificate-strength", FAIL, f"{self._path}: {_name(one)} {weak}", "have a new one issued")
        if not _is_usual(certificates[0].public_key()):
            text = f"{self._path}: browsers take RSA keys, and EC keys on P-256 and P-384, and this is another kind"
            self._say("certificate-strength", WARN, text, "have one issued for a key that they take")
        if len(self.findings) == said:
            self._say("certificate-strength", OK, f"{self._path} is strong enough")
        try:
            uses = certificates[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            return
        if ExtendedKeyUsageOID.SERVER_AUTH not in uses:
            text = f"{self._path} is not meant for servers"
            self._say("certificate-purpose", FAIL, text, "have one issued for server authentication")


def _covered(name: str, listed: set[str]) -> bool:
    """Whether a certificate's names cover one, as browsers see it: a wildcard stands for one label of a name."""
    label, dot, rest = name.partition(".")
    return name in listed or bool(label and dot and f"*.{rest}" in listed and not rest.rpartition(".")[2].isdigit())


def _weakness(certificate: x509.Certificate) -> str:
    key, algorithm = certificate.public_key(), certificate.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        return f"has an RSA key of {key.key_size} bits, of which nginx takes no less than 2048"
    if algorithm and algorithm.name in ("md5", "sha1") and certificate.issuer != certificate.subject:
        return f"is signed with {algorithm.name.upper()}, which can be forged, and which clients refuse"
    return ""


def _is_usual(key: PublicKeyTypes) -> bool:
    curves = (ec.SECP256R1, ec.SECP384R1)
    return isinstance(key, rsa.RSAPublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, curves)
    )


def _name(certificate: x509.Certificate, *, issuer: bool = False) -> str:
    """What to call a certificate, or the one that issued it."""
    name = certificate.issuer if issuer else certificate.subject
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME):
        for one in name.get_attributes_for_oid(kind):
            return "".join(char if char.isprintable() else "?" for char in str(one.value))[:80]
    return "the first one" if not issuer else "somebody"
