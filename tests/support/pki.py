"""Certificates and keys as operators have them, good and bad; made with the library, judged by openssl and nginx."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "avatar.example.com"
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def private(
        self,
        encoding: Encoding = Encoding.PEM,
        form: PrivateFormat = PrivateFormat.PKCS8,
        encryption: KeySerializationEncryption | None = None,
    ) -> bytes:
        written: bytes = self.key.private_bytes(encoding, form, encryption or NoEncryption())
        return written

    def encrypted(self, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
        return self.private(form=form, encryption=BestAvailableEncryption(b"secret"))


@cache
def key_of(kind: str) -> Any:
    """A key of a kind such as `P-256` or `RSA-1024`; always the same, as making them takes long."""
    if kind.startswith("RSA-"):
        return rsa.generate_private_key(65537, int(kind[4:]))
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
    return ec.generate_private_key(curves[kind]())


def issue(
    name: str,
    issuer: Pair | None = None,
    *,
    names: Sequence[str] = (),
    authority: bool = False,
    kind: str = "P-256",
    lasts: tuple[int, int] = (-10, 300),
    purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
) -> Pair:
    """A certificate for a name, signed by `issuer` or by itself; `lasts` are days from now."""
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "P-256" else key_of(kind)
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    above = issuer.certificate.subject if issuer else subject
    signer = issuer.key if issuer else key
    start, end = (now + days * DAY + datetime.timedelta(hours=1) for days in lasts)
    builder = x509.CertificateBuilder(above, subject, key.public_key(), x509.random_serial_number(), start, end)
    builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(one) for one in names]), critical=False)
    if purpose and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    signed_with = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Pair(builder.sign(signer, signed_with), key)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@cache
def root() -> Pair:
    return issue("Test Root", authority=True, lasts=(-100, 3000))


@cache
def intermediate() -> Pair:
    return issue("Test Intermediate", root(), authority=True, lasts=(-100, 2000))


@cache
def server() -> Pair:
    """The usual one: for the host, issued by the intermediate."""
    return issue(HOST, intermediate(), names=(HOST,))


def issued_with_sha1(folder: Path) -> tuple[bytes, bytes]:
    """A certificate that only openssl still makes, and its key."""
    (folder / "root.crt").write_bytes(root().pem)
    (folder / "root.key").write_bytes(root().private())
    (folder / "ext").write_text(f"subjectAltName=DNS:{HOST}\n")
    for command in (
        f"req -new -newkey rsa:2048 -nodes -subj /CN={HOST} -keyout leaf.key -out leaf.csr",
        "x509 -req -sha1 -in leaf.csr -CA root.crt -CAkey root.key -CAcreateserial -extfile ext -days 90 -out leaf.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return (folder / "leaf.crt").read_bytes(), (folder / "leaf.key").read_bytes()
