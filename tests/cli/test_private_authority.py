"""TLS_CA_PATH: every certificate of the file is trusted, or the file is refused with its line and a conversion."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates

from tests.support import pki
from tests.support.runs import REQUIRED, ran, tree

CA, BUNDLE = "tls/ca.crt", "tls/ca-bundle.crt"
ONE, OTHER = pki.root(), pki.issue("Other Root", authority=True)
LINE = ONE.pem.count(b"\n") + 1  # of the second BEGIN
OLD = pki.issue("Old Root", authority=True, lasts=(-900, -2))


def put(folder: Path, data: bytes) -> Path:
    out = folder / "out"
    (out / "tls").mkdir(parents=True)
    (out / CA).write_bytes(data)
    return out


def run_with(out: Path, code: int = 0) -> str:
    settings = REQUIRED | {"TLS_MODE": "behind-proxy", "TLS_CA_PATH": f"./{CA}"}
    return ran(out, settings=settings, code=code).stderr


def relabelled(label: bytes) -> Callable[[], bytes]:
    return lambda: OTHER.pem.replace(b"CERTIFICATE", label)


TAKEN: Mapping[str, Callable[[], bytes]] = {
    "two": lambda: OTHER.pem,
    "TRUSTED CERTIFICATE": relabelled(b"TRUSTED CERTIFICATE"),
    "X509 CERTIFICATE": relabelled(b"X509 CERTIFICATE"),
    "CRLF": lambda: OTHER.pem.replace(b"\n", b"\r\n"),
    "text between": lambda: b"# the other one\n" + OTHER.pem,
}


@pytest.mark.parametrize("case", TAKEN)
@pytest.mark.parametrize("is_first", [True, False])
def test_every_authority_is_in_the_bundle(case: str, is_first: bool, tmp_path: Path) -> None:
    second = TAKEN[case]()
    out = put(tmp_path, second + ONE.pem if is_first else ONE.pem + second)
    run_with(out)
    context = ssl.create_default_context(cafile=str(out / BUNDLE))
    trusted = context.get_ca_certs(binary_form=True)
    assert ONE.der in trusted and OTHER.der in trusted
    ran(out, "--check", settings={}, code=3)
    assert "Nothing to do" in ran(out, settings={}).stdout


BEHIND: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "damaged": (lambda: OTHER.pem[:200] + b"AAAA" + OTHER.pem[204:], f"that begins in line {LINE} is damaged"),
    "damaged base64": (lambda: OTHER.pem[:200] + b"A" + OTHER.pem[200:], f"line {LINE} is damaged"),
    "cut off": (lambda: OTHER.pem[:300], f"the block that begins in line {LINE} is cut off"),
    "cut off in END": (lambda: OTHER.pem[:-20], f"the block that begins in line {LINE}"),
    "a lower-case label": (relabelled(b"certificate"), f"line {LINE}: its label is not in capitals"),
    "four dashes": (lambda: OTHER.pem.replace(b"-----BEGIN", b"----BEGIN"), f"whose BEGIN is in line {LINE}"),
    "indented": (lambda: re.sub(rb"(?m)^", b" ", OTHER.pem), f"line {LINE}: -----BEGIN is indented"),
    "glued": (lambda: OTHER.pem.rstrip() + OTHER.pem, "END and BEGIN are on one line"),
}  # fmt: skip


@pytest.mark.parametrize("case", BEHIND)
def test_a_second_one_that_cannot_be_read_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    second, words = BEHIND[case]
    out = put(tmp_path, ONE.pem + second())
    before = tree(out)
    given = run_with(out, code=1)
    assert f"TLS_CA_PATH=./{CA}: " in given and words in given, given
    assert tree(out) == before


CONVERTED: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "DER": (lambda: ONE.der, "openssl x509 -inform DER -in"),
    "PKCS#7": (lambda: serialize_certificates([ONE.certificate], Encoding.PEM), "openssl pkcs7 -print_certs -in"),
    "PKCS#7 in DER": (lambda: serialize_certificates([ONE.certificate], Encoding.DER), "openssl pkcs7 -inform DER"),
    "with a key": (lambda: ONE.pem + ONE.private(), "openssl crl2pkcs7 -nocrl -certfile"),
    "CR alone": (lambda: ONE.pem.replace(b"\n", b"\r"), "tr "),
    "indented": (lambda: re.sub(rb"(?m)^", b"  ", ONE.pem), "sed "),
    "UTF-16": (lambda: ONE.pem.decode().encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_the_conversion_makes_a_file_that_is_taken(case: str, tmp_path: Path) -> None:
    make, words = CONVERTED[case]
    out = put(tmp_path, make())
    given = run_with(out, code=1)
    assert words in given, given
    command = given[given.index(words) :].splitlines()[0]
    subprocess.run(command, shell=True, cwd=out, check=True, capture_output=True)
    (out / f"{CA}.pem").replace(out / CA)
    run_with(out)
    assert ONE.pem in (out / BUNDLE).read_bytes()


@pytest.mark.parametrize("data", [b"", b"hello\n", pki.server().pem.replace(b"CERTIFICATE", b"CERTIFICATE REQUEST")])
def test_what_holds_no_certificate_asks_for_that_of_the_ca(data: bytes, tmp_path: Path) -> None:
    given = run_with(put(tmp_path, data), code=1)
    assert "put the CA's certificate there" in given
    assert "server certificate" not in given


def test_a_server_certificate_is_no_authority(tmp_path: Path) -> None:
    given = run_with(put(tmp_path, pki.server().pem), code=1)
    assert f"TLS_CA_PATH=./{CA}: certificate 1 (avatar.example.com) is not a CA" in given
    assert "put the certificate of its issuer there (Test Intermediate)" in given


def test_a_server_certificate_that_signed_itself_is_taken(tmp_path: Path) -> None:
    assert "is not a CA" not in run_with(put(tmp_path, pki.issue(pki.HOST, names=(pki.HOST,)).pem))


def authorities(out: Path) -> list[tuple[str, str]]:
    findings = json.loads(ran(out, "--check", "--json", settings={}, code=3).stdout)["findings"]
    return [(one["level"], one["text"]) for one in findings if one["name"] == "authorities"]


def test_what_is_expired_or_no_authority_beside_a_good_one_is_a_warning(tmp_path: Path) -> None:
    out = put(tmp_path, ONE.pem + OLD.pem + pki.server().pem)
    texts = [
        f"TLS_CA_PATH=./{CA}: certificate 2 (Old Root) expired on {OLD.certificate.not_valid_after_utc:%Y-%m-%d}",
        f"TLS_CA_PATH=./{CA}: certificate 3 (avatar.example.com) is not a CA",
    ]
    given = run_with(out)
    assert [text for text in texts if f"note: {text}" not in given] == [], given
    assert authorities(out) == [("ok", f"{BUNDLE} contains the private CA"), *(("warn", text) for text in texts)]


def test_an_authority_that_expires_stops_no_later_run(tmp_path: Path) -> None:
    out = put(tmp_path, OLD.pem)
    assert "expired on" in run_with(out)
    assert "Nothing to do" in ran(out, settings={}).stdout
    assert [level for level, _ in authorities(out)] == ["ok", "warn"]
