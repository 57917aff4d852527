"""PEM as OpenSSL reads it for nginx: a differential test over generated slips, and the words for each kind of slip."""

from __future__ import annotations

import random
import re
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from setup.findings import Finding, Level
from setup.tls import pem
from setup.tls.certificates import inspect
from setup.tls.pem import PemFile
from tests.support import pki

NOW = datetime.now(UTC)
LEAF, MIDDLE, ROOT = pki.server(), pki.intermediate(), pki.root()
PLAIN, OLD_FORM = LEAF.private(), LEAF.private(form=PrivateFormat.TraditionalOpenSSL)
PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
CASES = 1200


def inspected(chain: bytes, key: bytes) -> list[Finding]:
    return inspect(PemFile("./c.crt", chain), PemFile("./c.key", key), [pki.HOST], b"", NOW).findings


def is_refused(chain: bytes, key: bytes) -> bool:
    """Tell whether we say that nginx cannot start with these files."""
    names = ("certificate-file", "certificate-key")
    return any(finding.level is Level.FAIL and finding.name in names for finding in inspected(chain, key))


def openssl_refuses(folder: Path, chain: bytes, key: bytes) -> bool:
    """Read both as nginx does, with the same functions: a certificate, more of them to the end, and a key."""
    (folder / "c.crt").write_bytes(chain)
    (folder / "c.key").write_bytes(key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "c.crt", folder / "c.key", _no_passphrase)
    except (ssl.SSLError, OSError):
        return True
    return False


def _no_passphrase() -> str:
    raise OSError("nginx has none either")


# --- generated slips ------------------------------------------------------------------------------

Slip = Callable[[random.Random, bytes], bytes]


def _lines(change: Callable[[random.Random, list[bytes], int], None]) -> Slip:
    """Make a slip that changes the list of lines at one of them."""

    def slip(chance: random.Random, data: bytes) -> bytes:
        lines = data.split(b"\n")
        change(chance, lines, chance.randrange(len(lines)))
        return b"\n".join(lines)

    return slip


def _inserting(*texts: bytes) -> Slip:
    def slip(chance: random.Random, data: bytes) -> bytes:
        place = chance.randrange(len(data) + 1)
        return data[:place] + chance.choice(texts) + data[place:]

    return slip


def _new_line(*texts: bytes) -> Slip:
    return _lines(lambda chance, lines, at: lines.insert(at, chance.choice(texts)))


def _before(*texts: bytes) -> Slip:
    """Make a slip that puts a text before BEGIN or END."""
    return lambda chance, data: data.replace(b"-----" + chance.choice((b"BEGIN", b"END")), chance.choice(texts), 1)


def _wrapped(chance: random.Random, data: bytes) -> bytes:
    """Wrap the text of each block at another width."""
    width = chance.choice((1, 48, 63, 65, 76, 253, 254, 255, 508, 10_000))

    def again(match: re.Match[bytes]) -> bytes:
        text = match[2].replace(b"\n", b"")
        return match[1] + b"\n".join(text[at : at + width] for at in range(0, len(text), width)) + b"\n"

    return re.sub(rb"(?s)(-----BEGIN [^\n]*-----\n)(.*?\n)(?=-----END)", again, data)


def _label(chance: random.Random, data: bytes) -> bytes:
    old = chance.choice(re.findall(rb"-----BEGIN (.*)-----", data) or [b"x"])
    new = chance.choice((
        *(b"TRUSTED CERTIFICATE", b"X509 CERTIFICATE", b"CERTIFICATE", b"certificate", b" CERTIFICATE", b"X"),
        *(b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"PRIVATE KEY", b"ANY PRIVATE KEY", b"CERTIFICATE REQUEST"),
    ))  # fmt: skip
    return data.replace(b" " + old + b"-----", b" " + new + b"-----", chance.choice((1, 2, 2)))


SLIPS: tuple[Slip, ...] = (
    lambda chance, data: data.replace(b"-----\n-----", b"----------"),
    lambda chance, data: data.replace(b"\n", b"\r"),
    lambda chance, data: data.replace(b"\n", b"\r\n"),
    lambda chance, data: data.replace(b"\n", b"\n\n"),
    lambda chance, data: data.replace(b"-----\n", b"-----\n\n", 1),
    lambda chance, data: data.replace(b"\n", chance.choice((b" \n", b"\t\n", b"\x0b\n")), chance.randint(1, 30)),
    lambda chance, data: data.replace(b"-----\n", b"-----\nSubject: x\n\n", chance.choice((1, 2))),
    lambda chance, data: data.replace(b"-----\n", b"-----\nSubject: x\n", 1),
    lambda chance, data: data.replace(b"-----\n", b"-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1),
    lambda chance, data: re.sub(rb"(?m)^", chance.choice((b" ", b"\t", b"    ")), data),
    lambda chance, data: b"\xef\xbb\xbf" + data,
    lambda chance, data: data.rstrip(b"\n"),
    lambda chance, data: data[: chance.randrange(len(data) + 1)],
    lambda chance, data: data[chance.randrange(len(data) + 1) :],
    lambda chance, data: data + chance.choice((PLAIN, OLD_FORM, LEAF.encrypted(), PARAMETERS, MIDDLE.pem)),
    lambda chance, data: chance.choice((PLAIN, OLD_FORM, LEAF.encrypted(), PARAMETERS, MIDDLE.pem)) + data,
    lambda chance, data: data.replace(b"-----END", b"-----BEGIN CERTIFICATE-----\n-----END", 1),
    _before(b"root: -----BEGIN", b" -----END", b"\xef\xbb\xbf-----BEGIN", b"------BEGIN", b"----BEGIN", b"-----begin"),
    _inserting(b"\xc2\xa0A", b"=", b"==", b"-", b":", b"#", b" ", b"\t", b"\x0b", b"\x1a", b"\n", b"\n\n", b"\r"),
    _new_line(b"", b" ", b"subject=x", b"x: y", b"A", b"-----", b"x" * 254, b"x" * 300, b"AAAA"),
    _lines(lambda chance, lines, at: lines.pop(at)),
    _lines(lambda chance, lines, at: lines.insert(at, lines[at])),
    _lines(lambda chance, lines, at: lines.__setitem__(at, b"  " + lines[at])),
    _wrapped,
    _label,
)  # fmt: skip


def generated(number: int) -> tuple[bytes, bytes]:
    """Return a chain and a key with a few slips in one of them; the same for the same number."""
    chance = random.Random(number)
    chain = b"".join((LEAF.pem, MIDDLE.pem, ROOT.pem)[: chance.randint(1, 3)])
    key = chance.choice((PLAIN, OLD_FORM, PARAMETERS + OLD_FORM, LEAF.pem + PLAIN, PLAIN + LEAF.pem))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        slip = chance.choice(SLIPS)
        if chance.random() < 0.6:
            chain = slip(chance, chain)
        else:
            key = slip(chance, key)
    return chain, key


def test_openssl_refuses_what_we_refuse_and_takes_what_we_take(tmp_path: Path) -> None:
    verdicts = {True: 0, False: 0}
    for number in range(CASES):
        chain, key = generated(number)
        refused = is_refused(chain, key)
        verdicts[refused] += 1
        assert refused == openssl_refuses(tmp_path, chain, key), (number, chain, key)
    assert min(verdicts.values()) > CASES / 4, verdicts


def _with_tail(tail: bytes) -> bytes:
    """The server certificate with bytes behind its value, as a line that was copied twice leaves them."""
    der = ssl.PEM_cert_to_DER_cert(LEAF.pem.decode())
    return ssl.DER_cert_to_PEM_cert(der + tail).encode()


TRUST = "3011300a06082b060105050703010c03616263"  # serverAuth, and the alias abc


@pytest.mark.parametrize(
    "tail",
    [
        "00", "3000", "300000", "3003616263", "30", "3082017f", "3081", TRUST, f"{TRUST}61",
        TRUST[:-2], "30050403616263", "300a04036162630c03616263", "3002a000", "3004a100a000", "3002a100", "30020500",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["first", "second"])
def test_bytes_behind_a_certificate_are_taken_if_openssl_takes_them(tail: str, place: str, tmp_path: Path) -> None:
    chain = (LEAF.pem if place == "second" else b"") + _with_tail(bytes.fromhex(tail))
    assert is_refused(chain, PLAIN) == openssl_refuses(tmp_path, chain, PLAIN)


@pytest.mark.parametrize("number", range(40))
def test_the_program_openssl_reads_as_many_certificates(number: int, tmp_path: Path) -> None:
    """The program is another reader of the same grammar; it counts what it reads."""
    chain, _ = generated(1_000_000 + number)
    if is_refused(chain, PLAIN):
        return
    read = pem.read_chain(PemFile("c.crt", chain)).certificates
    (tmp_path / "c.crt").write_bytes(chain)
    script = "openssl crl2pkcs7 -nocrl -certfile c.crt | openssl pkcs7 -print_certs"
    done = subprocess.run(script, shell=True, cwd=tmp_path, check=True, capture_output=True)
    assert done.stdout.count(b"-----BEGIN") == len(read), chain


# --- the words for each kind ----------------------------------------------------------------------

TWO = LEAF.pem + MIDDLE.pem
LAST = LEAF.pem.count(b"\n")  # the line of the first END


@pytest.mark.parametrize(
    ("chain", "text"),
    [
        (LEAF.pem.rstrip(b"\n") + MIDDLE.pem, f"line {LAST}: END and BEGIN are on one line"),
        (b"x: " + LEAF.pem, "line 1: something is before -----BEGIN on its line"),
        (TWO.replace(b"\n", b"\r"), "its lines end with CR alone"),
        (LEAF.pem.replace(b"MII", b"MII\xc2\xa0"), "line 2: U+00A0 is in the text of a block"),
        (LEAF.pem.replace(b"\n", b"\xc2\xa0\n", 2), "line 1: something is behind the last dash"),
        (LEAF.pem[:200] + b"\xc2\xa0\n" + LEAF.pem[200:], "U+00A0 is in the text of a block"),
        (LEAF.pem.replace(b"-----\n", b"-----\nSubject: x\n\n", 1), "line 2: a header is inside the block"),
        (LEAF.pem.replace(b"\n", b"\n\n"), "an empty line is inside a block"),
        (TWO[:-40], f"the block that begins in line {LAST + 1} is cut off: it has no END line"),
        (re.sub(rb"(?m)^", b"  ", TWO), "line 1: -----BEGIN is indented"),
        (LEAF.pem.replace(b"END CERT", b"END X CERT"), f"line {LAST} is not the END line of the block"),
    ],
)
def test_a_slip_in_the_certificate_is_refused_with_its_line(chain: bytes, text: str) -> None:
    [finding] = inspected(chain, PLAIN)
    assert (finding.name, finding.level) == ("certificate-file", Level.FAIL)
    assert text in finding.text, finding
    assert finding.todo


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (PLAIN.rstrip(b"\n") + LEAF.pem, "END and BEGIN are on one line"),
        (PLAIN.replace(b"-----\n", b"-----\nKey: x y z w\n\n", 1), "line 2: a header is inside the block"),
        (PLAIN[:-30], "the block that begins in line 1 is cut off"),
        (LEAF.encrypted() + PLAIN, "it is encrypted, and nginx cannot ask for the passphrase"),
    ],
)
def test_a_slip_in_the_key_is_refused_with_its_line(key: bytes, text: str) -> None:
    [finding] = [one for one in inspected(TWO, key) if one.level is Level.FAIL]
    assert finding.name == "certificate-key" and text in finding.text, finding


RSA_OLD = pki.issue(pki.HOST, kind="RSA-2048").private(form=PrivateFormat.TraditionalOpenSSL)
OPENSSH = LEAF.private(form=PrivateFormat.OpenSSH)


@pytest.mark.parametrize(
    ("key", "text", "todo"),
    [
        (OPENSSH, "it is an OpenSSH key", "ssh-keygen -p -N '' -m PKCS8 -f ./c.key.pem"),
        (PLAIN.replace(b"PRIV", b"ANY PRIV"), "line 1: its label is unknown to nginx", "write PRIVATE KEY"),
        (PLAIN.replace(b"PRIVATE KEY", b"private key"), "line 1: its label is not in capitals", "write PRIVATE KEY"),
        (RSA_OLD.replace(b"RSA PRIV", b"PRIV"), "its label does not fit the key", "write RSA PRIVATE KEY in its BEGIN"),
        (OLD_FORM.replace(b"EC PRIV", b"PRIV"), "its label does not fit the key", "write EC PRIVATE KEY in its BEGIN"),
        (RSA_OLD.replace(b"RSA PRIV", b"EC PRIV"), "its label does not fit the key", "write RSA PRIVATE KEY"),
        (PLAIN.replace(b"PRIV", b"RSA PRIV"), "its label does not fit the key", "write PRIVATE KEY in its BEGIN"),
        (PLAIN.replace(b"\n", b"\r"), "its lines end with CR alone", "tr '\\r' '\\n' <./c.key"),
        (PLAIN.decode().encode("utf-16"), "it is UTF-16", "iconv -f UTF-16 -t UTF-8 ./c.key"),
    ],
)
def test_the_cause_of_a_key_that_nginx_cannot_read(key: bytes, text: str, todo: str, tmp_path: Path) -> None:
    assert openssl_refuses(tmp_path, TWO, key)
    [finding] = [one for one in inspected(TWO, key) if one.level is Level.FAIL]
    assert (finding.name, finding.text) == ("certificate-key", f"./c.key: {text}")
    assert todo in finding.todo
    command = finding.todo.rpartition("the result: ")[2]
    if command != finding.todo:  # what it makes is read
        subprocess.run(f"chmod 600 c.key; {command}", shell=True, cwd=tmp_path, check=True, capture_output=True)
        assert not is_refused(TWO, (tmp_path / "c.key.pem").read_bytes())


@pytest.mark.parametrize(
    ("label", "text"), [(b"certificate", "is not in capitals"), (b"X CERTIFICATE", "is unknown to nginx")]
)
def test_the_cause_of_a_label_that_nginx_does_not_read(label: bytes, text: str) -> None:
    [finding] = inspected(LEAF.pem.replace(b"CERTIFICATE", label), PLAIN)
    assert finding.text == f"./c.crt: line 1: its label {text}"
    assert finding.todo == "write CERTIFICATE in its BEGIN and END lines"


RSA = pki.issue(pki.HOST, pki.intermediate(), names=(pki.HOST,), kind="RSA-2048")


@pytest.mark.parametrize(
    ("chain", "key"),
    [
        pytest.param(TWO, PLAIN + LEAF.encrypted(), id="an encrypted key behind a plain one"),
        pytest.param(RSA.pem, RSA.private().replace(b" PRIV", b" RSA PRIV"), id="PKCS#8 under an RSA label"),
        pytest.param(LEAF.pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"), PLAIN, id="TRUSTED CERTIFICATE"),
        pytest.param(b"\xef\xbb\xbf" + LEAF.pem + b"\xef\xbb\xbf" + MIDDLE.pem, PLAIN, id="a BOM before each"),
        pytest.param(TWO, LEAF.pem + PLAIN, id="the certificate before the key"),
        pytest.param(TWO, re.sub(rb".*\n-----END", b"-----END", LEAF.encrypted()) + PLAIN, id="a torn encrypted key"),
    ],
)
def test_what_nginx_takes_is_taken(chain: bytes, key: bytes, tmp_path: Path) -> None:
    assert not is_refused(chain, key)
    assert not openssl_refuses(tmp_path, chain, key)


@pytest.mark.parametrize(
    "chain",
    [
        LEAF.pem + b"root: " + MIDDLE.pem,
        LEAF.pem + MIDDLE.pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        LEAF.pem.replace(b"-----END CERTIFICATE-----\n", b"") + MIDDLE.pem,
    ],
)
def test_a_certificate_that_nginx_skips_is_named_by_its_line(chain: bytes) -> None:
    [finding] = [one for one in inspected(chain, PLAIN) if one.name == "certificate-file"]
    line = chain[: chain.rindex(b"-----BEGIN")].count(b"\n") + 1
    assert finding.level is Level.WARN
    assert f"nginx skips the certificate whose BEGIN is in line {line}" in finding.text


def test_key_and_certificate_are_refused_in_one_message() -> None:
    names = [(one.name, one.todo.rpartition(": ")[2]) for one in inspected(LEAF.der, LEAF.private(Encoding.DER))]
    assert names == [
        ("certificate-file", "openssl x509 -inform DER -in ./c.crt -out ./c.crt.pem"),
        ("certificate-key", "openssl pkey -inform DER -in ./c.key -out ./c.key.pem"),
    ]
