"""Certificates that the library cannot take apart: a finding or a refusal by name, never an internal error."""

from __future__ import annotations

import base64
import random
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from setup.errors import InputError
from setup.findings import Level
from setup.tls import trust_store
from setup.tls.certificates import inspect
from setup.tls.pem import PemFile
from tests.support import pki
from tests.support.runs import STATE, ran, run

NOW = datetime.now(UTC)
SAN, EKU = x509.ObjectIdentifier("2.5.29.17"), x509.ObjectIdentifier("2.5.29.37")


def with_raw(oid: x509.ObjectIdentifier, value: bytes) -> pki.Pair:
    """Issue a certificate with an extension of these bytes."""
    key = pki.key_of("P-256")
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, pki.HOST)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.not_valid_before(NOW - pki.DAY).not_valid_after(NOW + 300 * pki.DAY).serial_number(7)
    builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    return pki.Pair(builder.sign(key, hashes.SHA256()), key)


def inspected(data: bytes, key: bytes) -> list[str]:
    inspection = inspect(PemFile("./tls/c.crt", data), PemFile("./tls/c.key", key), [pki.HOST], b"", NOW)
    assert all(finding.text and finding.todo for finding in inspection.findings if finding.level is not Level.OK)
    return [finding.name for finding in inspection.findings if finding.level is not Level.OK]


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        pytest.param(SAN, bytes.fromhex("3004a302" + "3000"), id="x400Address"),
        pytest.param(SAN, bytes.fromhex("300587037f0000"), id="an address of three bytes"),
        pytest.param(SAN, b"\x30\xff", id="a malformed SAN"),
        pytest.param(EKU, b"\x30\x03\x04\x01\x00", id="a malformed EKU"),
        pytest.param(EKU, b"", id="an empty EKU"),
    ],
)
def test_an_extension_that_cannot_be_taken_apart_is_a_finding(oid: x509.ObjectIdentifier, value: bytes) -> None:
    odd = with_raw(oid, value)
    assert "certificate-file" in inspected(odd.pem, odd.private())


@pytest.mark.parametrize("curve", ["1.2.156.10197.1.301", "1.3.132.0.6"], ids=["SM2", "secp112r1"])
def test_a_key_on_an_unknown_curve_is_a_finding(curve: str) -> None:
    pair = pki.issue(pki.HOST, names=(pki.HOST,))
    known = bytes.fromhex("06082a8648ce3d030107")  # P-256
    text = b""
    for part in map(int, curve.split(".")[2:]):
        groups = [part & 0x7F]
        while part := part >> 7:
            groups.insert(0, part & 0x7F | 0x80)
        text += bytes(groups)
    first, second = map(int, curve.split(".")[:2])
    other = bytes([first * 40 + second]) + text
    other = b"\x06" + bytes([len(other)]) + other
    data = pair.der.replace(known, other.ljust(len(known), b"\0") if len(other) < len(known) else other[: len(known)])
    assert "certificate-file" in inspected(_pem(data), pair.private())


def _pem(der: bytes) -> bytes:
    lines = re.sub("(.{64})", "\\1\n", base64.b64encode(der).decode())
    return f"-----BEGIN CERTIFICATE-----\n{lines.strip()}\n-----END CERTIFICATE-----\n".encode()


def test_no_mutated_certificate_is_an_internal_error() -> None:
    chance = random.Random(17)
    pair = pki.issue(pki.HOST, names=(pki.HOST, "*.b.example"))
    for _ in range(700):
        data = bytearray(pair.der)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        inspected(_pem(bytes(data)), pair.private())


@pytest.fixture(scope="module")
def authority() -> pki.Pair:
    return pki.issue("Private CA", authority=True)


SLIPS = {
    "END and BEGIN on one line": lambda one, two: one.rstrip(b"\n") + two,
    "CR alone": lambda one, two: (one + two).replace(b"\n", b"\r"),
    "CRLF": lambda one, two: (one + two).replace(b"\n", b"\r\n"),
    "text before BEGIN": lambda one, two: b"root: " + one + two,
    "a BOM": lambda one, two: b"\xef\xbb\xbf" + one + two,
    "indented": lambda one, two: re.sub(rb"(?m)^", b"  ", one) + two,
    "a header in the block": lambda one, two: one.replace(b"-----\n", b"-----\nSubject: CN=x\n\n", 1) + two,
    "no-break space": lambda one, two: one.replace(b"\n", b"\xc2\xa0\n", 3) + two,
    "cut off": lambda one, two: one + two[: len(two) // 2],
    "no line end": lambda one, two: (one + two).rstrip(b"\n"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_what_is_written_of_a_private_ca_is_read_by_openssl(slip: str, authority: pki.Pair) -> None:
    """Either the CA is refused, or the bundle has it and every program can read the bundle."""
    second = pki.issue("Another CA", authority=True)
    try:
        written = trust_store.serialize_again("./tls/ca.crt", SLIPS[slip](authority.pem, second.pem))
    except InputError:
        return
    context = ssl.create_default_context()
    before = len(context.get_ca_certs())
    context.load_verify_locations(cadata=(trust_store.read_public_roots() + written).decode())
    read = context.get_ca_certs(binary_form=True)
    assert authority.der in read and second.der in read, (slip, before)


@pytest.fixture(scope="module")
def provided(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pki.Pair]:
    """A deployment with a certificate of the operator's."""
    out = tmp_path_factory.mktemp("provided") / "out"
    pair = pki.issue(pki.HOST, names=(pki.HOST,))
    for path, data in (("server.fullchain.crt", pair.pem), ("private/server.decrypted.key", pair.private())):
        (out / "tls" / path).parent.mkdir(parents=True, exist_ok=True)
        (out / "tls" / path).write_bytes(data)
    ran(out)
    return out, pair


@pytest.mark.parametrize("flags", [(), ("--diff",), ("--check",), ("--rotate", "seaweedfs_admin_password", "--diff")])
def test_no_command_ends_with_an_internal_error_for_a_mutated_certificate(
    flags: tuple[str, ...], provided: tuple[Path, pki.Pair]
) -> None:
    chance, (out, pair) = random.Random(str(flags)), provided
    for _ in range(12):
        data = bytearray(pair.der)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (out / "tls/server.fullchain.crt").write_bytes(_pem(bytes(data)))
        done = run(out, *flags, settings={})
        assert done.returncode in (0, 1, 3), done.stderr
        assert "internal error" not in done.stderr
    (out / "tls/server.fullchain.crt").write_bytes(pair.pem)


@pytest.mark.parametrize("end", ["20000-01-01T00:00:00+00:00", "2030-13-01", "x", "2099-01-01T00:00:00"])
def test_an_impossible_date_in_the_state_is_no_internal_error(end: str, provided: tuple[Path, pki.Pair]) -> None:
    state = provided[0] / STATE
    ran(provided[0], settings={})
    before = state.read_text()
    state.write_text(re.sub(r"(?m)^(  certificate: '?)\S+", lambda match: match[1] + end, before))
    for flags in ((), ("--diff",), ("--status",), ("--check",), ("--rotate", "seaweedfs_admin_password", "--diff")):
        done = run(provided[0], *flags, settings={})
        assert done.returncode in (0, 3), done.stderr
    state.write_text(before)


def test_a_certificate_that_ends_after_the_year_9999_is_a_finding() -> None:
    pair = pki.issue(pki.HOST, names=(pki.HOST,))
    end = f"{pair.certificate.not_valid_after_utc:%y%m%d%H%M%S}Z".encode()
    assert pair.der.count(end) == 1
    assert inspected(_pem(pair.der.replace(end, b"99X931235959Z")), pair.private())
