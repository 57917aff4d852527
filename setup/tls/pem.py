"""Tells what is in a file where a PEM certificate or key should be, and the command that makes one of it; pure."""

from __future__ import annotations

import re

from setup.environment import shell_word

_LABEL = rb"^-----BEGIN ([A-Z0-9 ]+)-----"
_KEY = rb"^-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?^-----END \1-----"
_MARK, _WIDE = (
    b"\xef\xbb\xbf",
    (b"\xff\xfe", b"\xfe\xff"),
)  # OpenSSL skips the first, and cannot read what follows these
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")  # the object identifier of PKCS#7
_CERTIFICATES = {b"CERTIFICATE", b"X509 CERTIFICATE"}
_REQUESTS = {b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"}

Told = tuple[str, str]  # what is wrong, and what to do
_UTF_16 = ("it is UTF-16", "save it as plain ASCII text")


def not_a_chain(path: str, data: bytes) -> Told | None:
    """Why a file holds no certificates in PEM, and what to type; None where it does."""
    labels, kind, made = _labels(data), _binary(data), _made(path)
    form = "" if labels else "-inform DER "
    rows: tuple[tuple[object, Told | None], ...] = (
        (data.startswith(_WIDE), _UTF_16),
        (labels & _CERTIFICATES, None),
        (labels & _REQUESTS, ("it is a request for a certificate", "put there what the authority made of it")),
        (_is_key(labels), ("it is a key", "swap the two paths, or put the certificate there")),
        (b"PKCS7" in labels or kind == "PKCS#7", _convert("PKCS#7", f"openssl pkcs7 {form}-print_certs {made}")),
        (kind == "PKCS#12", _convert(kind, f"openssl pkcs12 -nokeys {made}")),
        (kind, _convert(kind, f"openssl x509 -inform DER {made}")),
    )
    nothing = ("it is not a certificate in PEM", "put the certificate there, followed by those that issued it")
    return next((told for holds, told in rows if holds), nothing)


def not_a_key(path: str, data: bytes) -> Told | None:
    """Why a file holds no plain private key in PEM, and what to type; None where it does."""
    labels, kind, made = _labels(data), _binary(data), _made(path)
    encrypted = b"ENCRYPTED PRIVATE KEY" in labels or b"\nProc-Type: 4,ENCRYPTED" in data
    decrypt = f"decrypt it, and put what comes out in its place: openssl pkey {made}"
    rows: tuple[tuple[object, Told | None], ...] = (
        (data.startswith(_WIDE), _UTF_16),
        (encrypted, ("it is encrypted, and nginx has nobody to ask for the password", decrypt)),
        (first_key(data), None),
        (labels & _CERTIFICATES, ("it is a certificate", "swap the two paths, or put the key there")),
        (kind == "PKCS#12", _convert(kind, f"openssl pkcs12 -nocerts -nodes {made}")),
        (kind, _convert(kind, f"openssl pkey -inform DER {made}")),
    )
    nothing = ("it is not a private key in PEM", "put the certificate's key there")
    return next((told for holds, told in rows if holds), nothing)


def first_key(data: bytes) -> bytes:
    """The first block of a file that is a private key, b"" for none: others may stand before it."""
    found = re.search(_KEY, data.removeprefix(_MARK), re.MULTILINE | re.DOTALL)
    return found[0] + b"\n" if found else b""


def _labels(data: bytes) -> set[bytes]:
    return set(re.findall(_LABEL, data.removeprefix(_MARK), re.MULTILINE))


def _is_key(labels: set[bytes]) -> bool:
    return any(label.endswith(b"PRIVATE KEY") for label in labels)


def _made(path: str) -> str:
    """The options of openssl that make another file of this one."""
    return f"-in {shell_word(path)} -out {shell_word(f'{path}.pem')}"


def _convert(kind: str, command: str) -> Told:
    return f"it is {kind}", f"convert it, and put what comes out in its place: {command}"


def _binary(data: bytes) -> str:
    """What a file that begins like DER is, "" for another."""
    if data[:1] != b"\x30":
        return ""
    if _SIGNED_DATA in data[:40]:
        return "PKCS#7"
    return "PKCS#12" if b"\x02\x01\x03\x30" in data[:10] else "DER"
