"""Chains as operators have them: what clients accept is accepted, and what the path needs is judged."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

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


ROOT, MIDDLE, LEAF = pki.root(), pki.intermediate(), pki.server()
OLD = pki.issue("Old Root", authority=True)
CROSS = signed(ROOT, OLD)  # the new root under an old one, as Sectigo's under AAA
EXPIRED_CROSS = signed(ROOT, OLD, EXPIRED)
BESIDE = signed(MIDDLE, OLD)  # the intermediate under an old root
OLD_MIDDLE, EARLY_MIDDLE = signed(MIDDLE, ROOT, EXPIRED), signed(MIDDLE, ROOT, EARLY)
OLD_ROOT = signed(ROOT, ROOT, EXPIRED)
OTHER = pki.issue("Other Root", authority=True)


def inspected(*chain: pki.Pair, trusted: pki.Pair | None = ROOT) -> list[Finding]:
    data = b"".join(pair.pem for pair in chain)
    roots = trusted.pem if trusted else b""
    key = PemFile("./tls/c.key", LEAF.private())
    return inspect(PemFile("./tls/c.crt", data), key, [pki.HOST], roots, NOW).findings


def problems(*chain: pki.Pair, trusted: pki.Pair | None = ROOT) -> list[tuple[Level, str]]:
    return [(one.level, one.text) for one in inspected(*chain, trusted=trusted) if one.level is not Level.OK]


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


def test_a_missing_intermediate_is_a_warning() -> None:
    [(level, text)] = problems(LEAF)
    assert (level, "its issuer Test Intermediate is not a public CA" in text) == (Level.WARN, True)


def test_many_cross_signs_take_no_long() -> None:
    """Each certificate is tried once, so that a file with many ways costs little."""
    authorities = [pki.issue("Same Name", authority=True) for _ in range(3)]
    ring = [signed(one, other) for one in authorities for other in authorities for _ in range(4)]
    assert problems(LEAF, MIDDLE, *ring) == []
