"""Chains as operators have them: what clients accept is accepted, and what the path needs is judged."""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from setup.findings import Finding, Level
from setup.tls.certificates import inspect
from setup.tls.pem import PemFile
from tests.support import pki

NOW = datetime.now(UTC)
EXPIRED, EARLY = (-200, -10), (10, 300)


def signed(subject: pki.Pair, issuer: pki.Pair, lasts: tuple[int, int] = (-10, 300)) -> pki.Pair:
    """Issue another certificate for the same name and key, by another issuer or for another time."""
    start, end = (NOW + days * pki.DAY for days in lasts)
    name, above = subject.certificate.subject, issuer.certificate.subject
    builder = x509.CertificateBuilder(above, name, subject.key.public_key(), x509.random_serial_number(), start, end)
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    return pki.Pair(builder.sign(issuer.key, hashes.SHA256()), subject.key)


def issued(
    name: str,
    issuer: pki.Pair | None,
    basic: x509.BasicConstraints | None,
    signs: bool | None = None,
    lasts: tuple[int, int] = (-10, 300),
) -> pki.Pair:
    """Issue a certificate with these basic constraints, and a key usage that lets it sign certificates or not.

    It names the key of its issuer, by which OpenSSL tells two issuers of one name apart.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    start, end = (NOW + days * pki.DAY for days in lasts)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    above = issuer.certificate.subject if issuer else subject
    builder = x509.CertificateBuilder(above, subject, key.public_key(), x509.random_serial_number(), start, end)
    signer = issuer.key if issuer else key
    alternative = x509.SubjectAlternativeName([x509.DNSName(pki.HOST)])
    for extension in (
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
        *([alternative] if name == pki.HOST else []),
    ):
        builder = builder.add_extension(extension, critical=False)
    if basic:
        builder = builder.add_extension(basic, critical=True)
    if signs is not None:
        usage = x509.KeyUsage(True, False, False, False, False, signs, False, False, False)
        builder = builder.add_extension(usage, critical=True)
    return pki.Pair(builder.sign(signer, hashes.SHA256()), key)


ROOT, MIDDLE, LEAF = pki.root(), pki.intermediate(), pki.server()
OLD = pki.issue("Old Root", authority=True)
CROSS = signed(ROOT, OLD)  # the new root under an old one, as Sectigo's under AAA
EXPIRED_CROSS = signed(ROOT, OLD, EXPIRED)
BESIDE = signed(MIDDLE, OLD)  # the intermediate under an old root
OLD_MIDDLE, EARLY_MIDDLE = signed(MIDDLE, ROOT, EXPIRED), signed(MIDDLE, ROOT, EARLY)
OLD_ROOT = signed(ROOT, ROOT, EXPIRED)
OTHER = pki.issue("Other Root", authority=True)


def inspected(*chain: pki.Pair, trusted: pki.Pair | None = ROOT, key: pki.Pair = LEAF) -> list[Finding]:
    data = b"".join(pair.pem for pair in chain)
    roots = trusted.pem if trusted else b""
    key_file = PemFile("./tls/c.key", key.private())
    return inspect(PemFile("./tls/c.crt", data), key_file, [pki.HOST], roots, NOW).findings


def problems(*chain: pki.Pair, trusted: pki.Pair | None = ROOT, key: pki.Pair = LEAF) -> list[tuple[Level, str]]:
    findings = inspected(*chain, trusted=trusted, key=key)
    return [(one.level, one.text) for one in findings if one.level is not Level.OK]


@pytest.mark.parametrize(
    "chain",
    [
        pytest.param((LEAF, MIDDLE), id="plain"),
        pytest.param((LEAF, MIDDLE, ROOT), id="the root at the end"),
        pytest.param((LEAF, MIDDLE, CROSS), id="a cross-sign that is not needed"),
        pytest.param((LEAF, MIDDLE, BESIDE), id="a cross-signed intermediate beside the plain one"),
        pytest.param((LEAF, BESIDE, MIDDLE), id="before the plain one"),
        pytest.param((LEAF, MIDDLE, OLD), id="an old root"),
    ],
)
def test_what_clients_accept_is_no_problem(chain: tuple[pki.Pair, ...]) -> None:
    assert problems(*chain) == []


@pytest.mark.parametrize(
    ("chain", "text"),
    [
        ((LEAF, MIDDLE, EXPIRED_CROSS), "certificate 3 (Test Root) is not needed and has expired"),
        ((LEAF, MIDDLE, OLD_ROOT), "certificate 3 (Test Root) is not needed and has expired"),
        ((LEAF, OLD_MIDDLE, MIDDLE), "certificate 2 (Test Intermediate) is not needed and has expired"),
        ((LEAF, MIDDLE, EARLY_MIDDLE), "certificate 3 (Test Intermediate) is not needed and is not valid yet"),
        ((LEAF, LEAF, MIDDLE), "certificate 2 (avatar.example.com) is the same as certificate 1"),
        ((LEAF, MIDDLE, MIDDLE), "certificate 3 (Test Intermediate) is the same as certificate 2"),
    ],
)
def test_the_rest_is_a_warning_that_names_the_certificate(chain: tuple[pki.Pair, ...], text: str) -> None:
    assert problems(*chain) == [(Level.WARN, f"./tls/c.crt: {text}")]


def test_a_root_in_the_middle_is_accepted() -> None:
    assert [level for level, _ in problems(LEAF, ROOT, MIDDLE)] in ([], [Level.WARN])


def test_a_bundle_with_a_cross_sign_misses_no_intermediate() -> None:
    assert problems(LEAF, MIDDLE, CROSS, trusted=OLD) == []
    assert problems(LEAF, MIDDLE, EXPIRED_CROSS, ROOT, trusted=ROOT) == [
        (Level.WARN, "./tls/c.crt: certificate 3 (Test Root) is not needed and has expired")
    ]


@pytest.mark.parametrize(
    ("chain", "text"),
    [
        ((LEAF, OLD_MIDDLE), "Test Intermediate expired on"),
        ((LEAF, EARLY_MIDDLE), "Test Intermediate is not valid before"),
        ((LEAF, OTHER), "certificate 1 (avatar.example.com) is issued by none of the others"),
        ((MIDDLE, LEAF), "is the key of certificate 2 in ./tls/c.crt, not of the first one"),
    ],
)
def test_what_the_path_needs_and_lacks_is_a_failure(chain: tuple[pki.Pair, ...], text: str) -> None:
    assert [said for level, said in problems(*chain) if level is Level.FAIL and text in said]


def test_an_expired_cross_sign_of_an_unknown_root_is_a_warning() -> None:
    """Clients that trust the root accept it, and nobody said here that this root is private."""
    assert [level for level, _ in problems(LEAF, MIDDLE, EXPIRED_CROSS, trusted=None)] == [Level.WARN, Level.WARN]
    [_, finding] = [one for one in inspected(LEAF, MIDDLE, EXPIRED_CROSS, trusted=None) if one.level is Level.WARN]
    assert finding.text == "./tls/c.crt: certificate 3 (Test Root) has expired"
    assert finding.todo == "replace it, or remove it if clients trust Test Root itself"


NO_CA = issued("Not a CA", ROOT, x509.BasicConstraints(False, None))
NO_USAGE = issued("Signs nothing", ROOT, x509.BasicConstraints(True, None), signs=False)
LIMITED = issued("Limited", ROOT, x509.BasicConstraints(True, 0))
BELOW = issued("Below", LIMITED, x509.BasicConstraints(True, None))


@pytest.mark.parametrize(
    ("above", "text"),
    [
        ((NO_CA,), "Not a CA is not a CA: its basic constraints or key usage say so"),
        ((NO_USAGE,), "Signs nothing is not a CA: its basic constraints or key usage say so"),
        ((BELOW, LIMITED), "Limited allows 0 CAs between itself and the server certificate, and there are 1"),
    ],
)
@pytest.mark.parametrize("trusted", [ROOT, None])
def test_only_an_authority_may_issue(above: tuple[pki.Pair, ...], text: str, trusted: pki.Pair | None) -> None:
    leaf = pki.issue(pki.HOST, above[0], names=(pki.HOST,))
    assert (Level.FAIL, f"./tls/c.crt: {text}") in problems(leaf, *above, trusted=trusted, key=leaf)


def test_a_limit_of_the_root_counts_too() -> None:
    root = issued("Narrow Root", None, x509.BasicConstraints(True, 0))
    above = issued("Above", root, x509.BasicConstraints(True, None))
    leaf = pki.issue(pki.HOST, above, names=(pki.HOST,))
    assert problems(leaf, above, trusted=root, key=leaf) == [
        (Level.FAIL, "./tls/c.crt: Narrow Root allows 0 CAs between itself and the server certificate, and there are 1")
    ]


CASES = 120


def generated(number: int) -> tuple[list[pki.Pair], pki.Pair]:
    """Return a server certificate with its issuers, and its root, each as a CA or with a slip; names are unique."""
    chance = random.Random(number)
    limits = (None, None, None, 0, 1, 2)
    constraints = x509.BasicConstraints(True, chance.choice(limits))
    root = above = issued("Root", None, constraints, signs=chance.choice((None, True)))
    chain: list[pki.Pair] = []
    for depth in range(chance.randint(0, 3)):
        is_authority = chance.random() < 0.85
        limit = chance.choice(limits) if is_authority else None
        signs = chance.choice((None, None, True, True, False) if chance.random() < 0.3 else (None, True))
        basic = x509.BasicConstraints(is_authority, limit) if chance.random() < 0.85 else None
        lasts = EXPIRED if chance.random() < 0.1 else (-10, 300)
        name = "Root" if chance.random() < 0.1 else f"CA {depth}"  # a certificate may have the name of its issuer
        above = issued(name, above, basic, signs, lasts)
        chain.insert(0, above)
    leaf = issued(pki.HOST, above, x509.BasicConstraints(False, None))
    chance.shuffle(chain)
    return [leaf, *chain], root


def test_openssl_finds_a_path_where_we_do(tmp_path: Path) -> None:
    verdicts = {True: 0, False: 0}
    for number in range(CASES):
        chain, root = generated(number)
        for name, pairs in (("leaf", chain[:1]), ("rest", chain[1:]), ("root", [root])):
            (tmp_path / name).write_bytes(b"".join(pair.pem for pair in pairs))
        more = ("-untrusted", "rest") if chain[1:] else ()
        command = ("openssl", "verify", "-CAfile", "root", *more, "leaf")
        accepts = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
        levels = [level for level, _ in problems(*chain, trusted=root, key=chain[0])]
        missing = "its issuer" in str(problems(*chain, trusted=root, key=chain[0]))
        assert accepts == (Level.FAIL not in levels and not missing), (number, problems(*chain, trusted=root))
        if accepts:
            assert Level.FAIL not in [level for level, _ in problems(*chain, trusted=None, key=chain[0])], number
        verdicts[accepts] += 1
    assert min(verdicts.values()) > CASES / 6, verdicts


def test_a_missing_intermediate_is_a_warning() -> None:
    [(level, text)] = problems(LEAF)
    assert (level, "its issuer Test Intermediate is not a public CA" in text) == (Level.WARN, True)


def test_many_cross_signs_take_no_long() -> None:
    """Each certificate is tried once, so that a file with many ways costs little."""
    authorities = [pki.issue("Same Name", authority=True) for _ in range(3)]
    ring = [signed(one, other) for one in authorities for other in authorities for _ in range(4)]
    assert problems(LEAF, MIDDLE, *ring) == []
