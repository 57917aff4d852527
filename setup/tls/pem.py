"""Recognise what a file holds in place of a PEM certificate or key, and name the command that converts it; pure."""

import re
from typing import NamedTuple

from setup.environment import shell_word

_LABEL = rb"^-----BEGIN ([A-Z0-9 ]+)-----"
_KEY = rb"^-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?^-----END \1-----"
_UTF_8_MARK = b"\xef\xbb\xbf"  # OpenSSL skips it
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")  # and cannot read what follows these
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")  # the object identifier of PKCS#7
_CERTIFICATES = {b"CERTIFICATE", b"X509 CERTIFICATE"}
_REQUESTS = {b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"}


class PemFile(NamedTuple):
    """A file that should hold certificates or a key, by the path that messages name."""

    path: str
    data: bytes


class Problem(NamedTuple):
    """What is wrong with a file, and what to do."""

    text: str
    todo: str


_UTF_16 = Problem("it is UTF-16", "save it as plain ASCII text")


def diagnose_chain(file: PemFile) -> Problem | None:
    """Say why a file holds no PEM certificates; None if it does."""
    labels, kind, paths = _labels(file.data), _binary_kind(file.data), _openssl_paths(file.path)
    if file.data.startswith(_UTF_16_MARKS):
        problem = _UTF_16
    elif labels & _CERTIFICATES:
        return None
    elif labels & _REQUESTS:
        problem = Problem("it is a certificate request (CSR)", "put there the certificate that the CA issued for it")
    elif any(label.endswith(b"PRIVATE KEY") for label in labels):
        problem = Problem("it is a private key", "swap the two paths, or put the certificate there")
    elif b"PKCS7" in labels or kind == "PKCS#7":
        form = "" if labels else "-inform DER "
        problem = _conversion("PKCS#7", f"openssl pkcs7 {form}-print_certs {paths}")
    elif kind == "PKCS#12":
        problem = _conversion(kind, f"openssl pkcs12 -nokeys {paths}")
    elif kind:
        problem = _conversion(kind, f"openssl x509 -inform DER {paths}")
    else:
        problem = Problem("it is not a PEM certificate", "put the server certificate there, then its intermediates")
    return problem


def diagnose_key(file: PemFile) -> Problem | None:
    """Say why a file holds no plain PEM private key; None if it does."""
    labels, kind, paths = _labels(file.data), _binary_kind(file.data), _openssl_paths(file.path)
    if file.data.startswith(_UTF_16_MARKS):
        problem = _UTF_16
    elif b"ENCRYPTED PRIVATE KEY" in labels or b"\nProc-Type: 4,ENCRYPTED" in file.data:
        todo = f"decrypt it, and replace the file with the result: openssl pkey {paths}"
        problem = Problem("it is encrypted, and nginx cannot ask for the passphrase", todo)
    elif extract_key(file.data):
        return None
    elif labels & _CERTIFICATES:
        problem = Problem("it is a certificate", "swap the two paths, or put the key there")
    elif kind == "PKCS#12":
        problem = _conversion(kind, f"openssl pkcs12 -nocerts -nodes {paths}")
    elif kind:
        problem = _conversion(kind, f"openssl pkey -inform DER {paths}")
    else:
        problem = Problem("it is not a PEM private key", "put the certificate's key there")
    return problem


def extract_key(data: bytes) -> bytes:
    """Return the first private key of a file, b"" if there is none: other blocks may come before it."""
    match = re.search(_KEY, data.removeprefix(_UTF_8_MARK), re.MULTILINE | re.DOTALL)
    return match[0] + b"\n" if match else b""


def _labels(data: bytes) -> set[bytes]:
    return set(re.findall(_LABEL, data.removeprefix(_UTF_8_MARK), re.MULTILINE))


def _openssl_paths(path: str) -> str:
    return f"-in {shell_word(path)} -out {shell_word(f'{path}.pem')}"


def _conversion(kind: str, command: str) -> Problem:
    return Problem(f"it is {kind}", f"convert it, and replace the file with the result: {command}")


def _binary_kind(data: bytes) -> str:
    """Name the format of a file that begins like DER, "" for any other."""
    if data[:1] != b"\x30":
        return ""
    if _SIGNED_DATA in data[:40]:
        return "PKCS#7"
    return "PKCS#12" if b"\x02\x01\x03\x30" in data[:10] else "DER"
