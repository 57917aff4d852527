"""TLS_MODE=self-signed: an authority and a certificate are created once and kept, and openssl accepts them."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from setup.formats.digests import digest_all
from tests.support.deployments import values
from tests.support.documents import read_yaml
from tests.support.runs import deployed, leftovers, ran, require_strace, run, tree
from tests.support.terminal import REVIEW, session, walk

CA, CA_KEY = "tls/avatar-ca.crt", "tls/private/avatar-ca.key"
LEAF, KEY = "tls/server.fullchain.crt", "tls/private/server.decrypted.key"
MADE = (CA, CA_KEY, LEAF, KEY)
NAMES = "avatar.internal,192.0.2.7,2001:db8::7"
SETTINGS = {
    "PUBLIC_URL": "avatar.example.com",
    "ENV_NAME": "example-prod",
    "SMTP_HOST": "mail.example.com",
    "TLS_MODE": "self-signed",
}
MORE = SETTINGS | {"TLS_EXTRA_NAMES": NAMES}


def openssl(*words: str | Path, code: int = 0) -> str:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def made(out: Path) -> dict[str, bytes]:
    """Read the files of the certificate and the authority."""
    return {path: (out / path).read_bytes() for path in MADE if (out / path).exists()}


def dates(certificate: Path) -> tuple[datetime.datetime, datetime.datetime]:
    text = openssl("x509", "-in", certificate, "-noout", "-startdate", "-enddate", "-dateopt", "iso_8601")
    start, end = (line.partition("=")[2].rstrip("Z") for line in text.splitlines())
    return datetime.datetime.fromisoformat(start), datetime.datetime.fromisoformat(end)


def are_right(out: Path) -> None:
    """Assert what holds for every complete deployment: openssl accepts the pair, and the labels follow its bytes."""
    for name in ("avatar.example.com",):
        openssl(
            "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", name, "-CAfile", out / CA, out / LEAF
        )
    assert openssl("pkey", "-in", out / KEY, "-pubout") == openssl("x509", "-in", out / LEAF, "-noout", "-pubkey")
    assert openssl("pkey", "-in", out / CA_KEY, "-pubout") == openssl("x509", "-in", out / CA, "-noout", "-pubkey")
    compose = read_yaml((out / "docker-compose.yml").read_text())["services"]
    expected = digest_all((out / path).read_bytes() for path in ("nginx/nginx.conf", LEAF))[:16]
    assert compose["nginx"]["labels"]["avatar-setup.files"] == expected
    bundle = (out / "tls/ca-bundle.crt").read_bytes()
    assert compose["api"]["labels"]["avatar-setup.files"] == digest_all([bundle])[:16]
    assert bundle.endswith((out / CA).read_bytes())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out", settings=MORE)


# --- what is created ------------------------------------------------------------------------------


def test_openssl_accepts_the_certificate_for_every_name_and_no_other(out: Path) -> None:
    are_right(out)
    verify = ("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", out / CA)
    for name in ("avatar.example.com", "avatar.internal"):
        openssl(*verify, "-verify_hostname", name, out / LEAF)
    for address in ("192.0.2.7", "2001:db8::7"):
        openssl(*verify, "-verify_ip", address, out / LEAF)
    for foreign in (("-verify_hostname", "www.avatar.example.com"), ("-verify_ip", "192.0.2.8")):
        openssl(*verify, *foreign, out / LEAF, code=2)
    openssl("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", out / CA, out / LEAF, code=2)


def test_the_authority_signs_servers_and_no_other_authority(out: Path) -> None:
    text = openssl("x509", "-in", out / CA, "-noout", "-ext", "basicConstraints,keyUsage,subjectKeyIdentifier")
    assert "CA:TRUE, pathlen:0" in text
    assert "Certificate Sign, CRL Sign" in text
    text = openssl("x509", "-in", out / LEAF, "-noout", "-ext", "keyUsage,extendedKeyUsage,basicConstraints")
    assert "CA:FALSE" in text
    assert "TLS Web Server Authentication" in text
    serials = [openssl("x509", "-in", out / path, "-noout", "-serial") for path in (CA, LEAF)]
    assert all(len(serial) > 30 for serial in serials), "20 random bytes, less what their first bit costs"


def test_every_certificate_names_its_use_and_the_key_that_signed_it(out: Path) -> None:
    """Verifiers that keep to RFC 5280 want both, and some want them of the CA too."""
    shown = {path: openssl("x509", "-in", out / path, "-noout", "-text") for path in (CA, LEAF)}
    line = re.compile(r"Key Identifier: *\n +(?:keyid:)?([0-9A-F:]+)")
    identifiers = {path: line.findall(text) for path, text in shown.items()}
    own, issuer = identifiers[CA]
    assert own == issuer
    assert own == identifiers[LEAF][1]
    assert [text.count("X509v3 Key Usage: critical") for text in shown.values()] == [1, 1]


def strict(authority: Path) -> ssl.SSLContext:
    """Trust this CA alone, as Python's default context does from 3.13 on."""
    context = ssl.create_default_context(cafile=str(authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@pytest.mark.parametrize("host", ["avatar.example.com", "192.0.2.7", "2001:db8::7"])
def test_python_opens_a_connection_as_strictly_as_it_can(host: str, out: Path) -> None:
    """Both ends of a handshake in memory, with our certificate at one and our CA at the other."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(out / LEAF, out / KEY)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        strict(out / CA).wrap_bio(to_client, to_server, server_hostname=host),
        served.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    ends[0].write(b"hello")
    assert ends[1].read() == b"hello"


def test_the_validity_suits_browsers_and_clients_whose_clock_is_behind(out: Path) -> None:
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    start, end = dates(out / LEAF)
    assert end - start < datetime.timedelta(days=397)
    assert end - now > datetime.timedelta(days=395)
    assert now - start > datetime.timedelta(hours=23)
    assert dates(out / CA)[1] - now > datetime.timedelta(days=3000)


def test_keys_are_their_owners_alone(out: Path) -> None:
    modes = {path: oct(stat.S_IMODE((out / path).stat().st_mode)) for path in (*MADE, "tls", "tls/private")}
    assert modes == {
        CA: "0o644", CA_KEY: "0o600", LEAF: "0o644", KEY: "0o600", "tls": "0o755", "tls/private": "0o700",
    }  # fmt: skip


@pytest.mark.parametrize("host", ["192.0.2.10", "[2001:db8::1]:8443", "bücher.example", ".".join(["x" * 60] * 4)])
def test_any_public_host_can_be_certified(host: str, tmp_path: Path) -> None:
    """An address, a name that is not ASCII, and one that is too long for a common name."""
    out = deployed(tmp_path / "out", settings=SETTINGS | {"PUBLIC_URL": host})
    public = values(PUBLIC_URL=host)["PUBLIC_URL"].host
    kind = "-verify_ip" if public in ("192.0.2.10", "2001:db8::1") else "-verify_hostname"
    openssl("verify", "-x509_strict", "-purpose", "sslserver", kind, public, "-CAfile", out / CA, out / LEAF)


def test_python_trusts_it_with_nothing_but_the_bundle(out: Path) -> None:
    """The services use it so: SSL_CERT_FILE names one file with the public roots and the authority."""
    context = ssl.create_default_context(cafile=str(out / "tls/ca-bundle.crt"))
    subjects = [dict(pair for part in one["subject"] for pair in part) for one in context.get_ca_certs()]
    assert any(subject.get("organizationName") == "avatar-setup" for subject in subjects)
    assert len(subjects) > 50, "the public roots too"


def test_a_private_ca_is_trusted_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "tls").mkdir(parents=True)
    make = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=Ours")
    openssl(*make, "-keyout", tmp_path / "key", "-out", out / "tls/ca.crt")
    ran(out, settings=SETTINGS | {"TLS_CA_PATH": "./tls/ca.crt"})
    bundle = (out / "tls/ca-bundle.crt").read_bytes()
    assert (out / CA).read_bytes() in bundle
    assert (out / "tls/ca.crt").read_bytes().strip() in bundle


def test_the_last_message_names_the_ca_file_and_shows_no_key(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    done = ran(out, settings=SETTINGS)
    output = f"Clients accept https://avatar.example.com once they trust its CA. Give them this file:\n  {out}/{CA}\n"
    assert output in done.stdout
    output = done.stdout + done.stderr + (out / ".deployment-state.yaml").read_text()
    for key in (CA_KEY, KEY):
        for line in (out / key).read_text().splitlines()[1:-1]:
            assert line not in output


# --- created once, kept ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        (MORE, ()),
        ({}, ()),
        (MORE, ("--reset",)),
        (MORE, ("--set", "LOG_LEVEL=DEBUG")),
        ({}, ("--set", "PRESET=airgapped")),
    ],
    ids=str,
)
def test_a_later_run_keeps_it(settings: dict[str, str], flags: tuple[str, ...], out: Path) -> None:
    before = made(out)
    ran(out, *flags, settings=settings)
    assert made(out) == before
    are_right(out)


@pytest.mark.parametrize("flags", [(), ("--status",)], ids=["run", "status"])
def test_an_unchanged_run_does_not_load_the_library(out: Path, flags: tuple[str, ...]) -> None:
    loaded = ran(out, *flags, settings=MORE | {"PYTHONPROFILEIMPORTTIME": "1"}).stderr
    assert "setup.tls.plan" in loaded
    assert "cryptography" not in loaded


def test_a_run_without_a_state_keeps_it(out: Path) -> None:
    before = made(out)
    for path in out.glob(".deployment-state*"):
        path.unlink()
    ran(out, settings=MORE)
    assert made(out) == before


def test_changing_the_mode_and_back_keeps_it(out: Path) -> None:
    before = made(out)
    ran(out, "--set", "TLS_MODE=behind-proxy", settings={})
    assert not read_yaml((out / "docker-compose.yml").read_text())["services"]["api"].get("volumes")
    ran(out, "--set", "TLS_MODE=self-signed", settings={})
    assert made(out) == before
    are_right(out)


# --- issued again ---------------------------------------------------------------------------------


def test_new_names_get_a_new_certificate_from_the_same_authority(out: Path) -> None:
    before = made(out)
    done = ran(out, "--set", "TLS_EXTRA_NAMES=other.example", settings={})
    assert f"Changed: {LEAF} is issued again, for avatar.example.com, other.example" in done.stdout
    after = made(out)
    assert [path for path in MADE if after[path] != before[path]] == [LEAF]
    openssl("verify", "-verify_hostname", "other.example", "-CAfile", out / CA, out / LEAF)
    are_right(out)


def test_it_is_renewed_on_request(out: Path) -> None:
    before = made(out)
    done = ran(out, "--renew-certificate", settings={})
    assert f"Changed: {LEAF} is renewed" in done.stdout
    after = made(out)
    assert [path for path in MADE if after[path] != before[path]] == [LEAF, KEY]
    are_right(out)
    ran(out, settings={})
    assert made(out) == after


def test_renewing_in_another_mode_is_refused(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    before = tree(out)
    done = ran(out, "--renew-certificate", settings={}, code=1)
    assert "--renew-certificate: avatar-setup issues no certificate with TLS_MODE=provided: leave it out" in done.stderr
    assert tree(out) == before


@pytest.mark.parametrize("gone", [CA, LEAF, KEY])
def test_a_lost_file_is_created_again_if_that_is_safe(gone: str, out: Path) -> None:
    before = made(out)
    (out / gone).unlink()
    ran(out, settings=MORE)
    are_right(out)
    assert {path for path in (CA_KEY, KEY) if path != gone and made(out)[path] != before[path]} == set()


def test_clients_trust_a_ca_certificate_that_was_created_again(out: Path, tmp_path: Path) -> None:
    handed = tmp_path / "handed-out.crt"
    handed.write_bytes((out / CA).read_bytes())
    (out / CA).unlink()
    ran(out, "--renew-certificate", settings=MORE)
    openssl("verify", "-x509_strict", "-CAfile", handed, out / LEAF)


@pytest.mark.parametrize("flags", [(), ("--set", "TLS_EXTRA_NAMES=other.example"), ("--renew-certificate",)], ids=str)
def test_a_lost_authority_key_is_named_and_never_regenerated(flags: tuple[str, ...], out: Path) -> None:
    (out / CA_KEY).unlink()
    before = tree(out)
    assert f"{CA_KEY} is missing: restore it from a backup" in ran(out, *flags, settings={}, code=1).stderr
    assert tree(out) == before


@pytest.mark.parametrize("path", MADE)
def test_a_damaged_file_is_reported(path: str, out: Path) -> None:
    (out / path).write_text("not what was made here\n")
    before = tree(out)
    done = ran(out, settings=MORE, code=1)
    assert f"{path} is not the file that avatar-setup created" in done.stderr
    assert tree(out) == before


def test_the_key_of_another_authority_is_refused(out: Path, tmp_path: Path) -> None:
    other = deployed(tmp_path / "other", settings=SETTINGS)
    (out / CA_KEY).write_bytes((other / CA_KEY).read_bytes())
    done = ran(out, settings=MORE, code=1)
    assert f"{CA_KEY} is not the key of {CA}" in done.stderr


# --- a certificate of another CA ----------------------------------------------------------------


def test_a_certificate_of_another_ca_is_not_replaced(tmp_path: Path) -> None:
    out, other = tmp_path / "out", deployed(tmp_path / "other", settings=SETTINGS)
    (out / "tls/private").mkdir(parents=True)
    for path in (LEAF, KEY):
        (out / path).write_bytes((other / path).read_bytes())
    before = tree(out)
    done = ran(out, settings=SETTINGS, code=4)
    assert f"{LEAF} was not issued by avatar-setup" in done.stderr
    assert "TLS_MODE=provided" in done.stderr
    assert tree(out) == before


def test_a_certificate_put_there_later_is_kept_until_it_would_be_replaced(out: Path, tmp_path: Path) -> None:
    other = deployed(tmp_path / "other", settings=SETTINGS)
    for path in (LEAF, KEY):
        (out / path).write_bytes((other / path).read_bytes())
    before = tree(out)
    done = ran(out, settings=MORE)
    assert "Nothing to do" in done.stdout
    assert f"note: {LEAF} was edited by hand and is left unchanged" in done.stderr
    ran(out, "--renew-certificate", settings=MORE, code=4)
    assert tree(out) == before


# --- its expiry -----------------------------------------------------------------------------------


def issue(out: Path, days: int, tmp_path: Path) -> None:
    """Issue a certificate for the same names that expires in so many days, with openssl and our authority's key."""
    names = "DNS:avatar.example.com,DNS:avatar.internal,IP:192.0.2.7,IP:2001:db8::7"
    request = tmp_path / "request"
    openssl("req", "-new", "-key", out / KEY, "-subj", "/CN=avatar.example.com", "-out", request)
    (tmp_path / "extensions").write_text(f"subjectAltName={names}\n")
    authority = ("-CA", out / CA, "-CAkey", out / CA_KEY, "-extfile", tmp_path / "extensions")
    today = datetime.datetime.now(datetime.UTC)
    dates = ((today - datetime.timedelta(400)), (today + datetime.timedelta(days, 3600)))
    start, end = (f"{date:%Y%m%d%H%M%SZ}" for date in dates)
    if days >= 0:
        openssl("x509", "-req", "-in", request, *authority, "-days", str(days), "-out", out / LEAF)
        return
    (tmp_path / "index").touch()
    configuration = tmp_path / "ca.cnf"
    configuration.write_text(
        f"[ca]\ndefault_ca=one\n[one]\ndatabase={tmp_path}/index\nnew_certs_dir={tmp_path}\nrand_serial=yes\n"
        "default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
    )
    key = ("-cert", out / CA, "-keyfile", out / CA_KEY, "-extfile", tmp_path / "extensions")
    openssl(
        *("ca", "-batch", "-notext", "-config", configuration, *key),
        *("-in", request, "-startdate", start, "-enddate", end, "-out", out / LEAF),
    )


@pytest.mark.parametrize(("days", "words"), [(29, "in 28 days"), (1, "in 0 days"), (-3, "expired on")])
def test_a_certificate_that_expires_soon_is_reported_on_every_run_and_renewed_on_request(
    days: int, words: str, out: Path, tmp_path: Path
) -> None:
    issue(out, days, tmp_path)
    for path in (*out.glob(".deployment-state*"), out / "docker-compose.yml"):  # a new state takes it for ours
        path.unlink()
    for _ in range(2):
        done = ran(out, settings=MORE)
        assert re.search(rf"note: the certificate {LEAF} .*{words}.*: run again with --renew-certificate", done.stderr)
    ran(out, "--renew-certificate", settings=MORE)
    assert "note" not in ran(out, settings=MORE).stderr
    are_right(out)


@pytest.mark.parametrize("flags", [(), ("--plain",)], ids=["keys", "plain"])
@pytest.mark.parametrize("answer", ["y", "n"])
def test_an_interactive_run_asks_whether_to_renew_it(answer: str, flags: tuple[str, ...], out: Path) -> None:
    before = made(out)
    state = out / ".deployment-state.yaml"
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=10)).isoformat()
    state.write_text(re.sub(r"(?m)^(  certificate: )\S+", rf"\g<1>{soon}", state.read_text()))
    with session(out, *flags, settings=MORE) as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.answer("c")
        terminal.asks("Renew it now? [y/n]: ")
        terminal.answer(answer)
        walk(terminal, REVIEW)
        assert (f"Changed: {LEAF} is renewed" in terminal.fresh) == (answer == "y")
        terminal.answer("w" if answer == "y" else "")
        walk(terminal)
        assert terminal.ends() == 0
    changed = [path for path in MADE if made(out)[path] != before[path]]
    assert changed == ([LEAF, KEY] if answer == "y" else [])
    are_right(out)


# --- killed halfway -------------------------------------------------------------------------------

CALLS = "renameat,linkat,openat,write,fsync,unlinkat,mkdirat"


def points(tmp_path: Path, *flags: str) -> Iterator[tuple[str, int]]:
    """Yield the system calls that concern tls/ in an undisturbed run."""
    out, log = deployed(tmp_path / "whole", settings=SETTINGS) if flags else tmp_path / "whole", tmp_path / "trace"
    out.mkdir(exist_ok=True)
    tracing = ("strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", f"trace={CALLS}")
    assert run(out, *flags, settings=SETTINGS, prefix=tracing).returncode == 0
    used: dict[str, int] = {}
    for line in log.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\(", line)
        if call:
            used[call[1]] = used.get(call[1], 0) + 1
            if f"{out}/tls" in line and (call[1] != "openat" or "O_CREAT" in line):
                yield call[1], used[call[1]]


@pytest.mark.parametrize("flags", [(), ("--renew-certificate",)], ids=["first", "renewal"])
@pytest.mark.slow
def test_killed_between_key_and_certificate_the_same_command_finishes(flags: tuple[str, ...], tmp_path: Path) -> None:
    require_strace()
    chosen = list(points(tmp_path, *flags))
    assert {call for call, _ in chosen} >= {"renameat", "write", "fsync"}
    for number, (call, at) in enumerate(chosen):
        out = tmp_path / str(number)
        if flags:
            deployed(out, settings=SETTINGS)
        else:
            out.mkdir()
        only = ("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={at}")
        killed = run(out, *flags, settings=SETTINGS, prefix=("strace", "-f", "-qq", "-o", os.devnull, *only))
        assert killed.returncode != 0
        kept = {path: data for path, data in made(out).items() if path == CA_KEY or (path == KEY and not flags)}
        ran(out, settings=SETTINGS)  # without the flag: what was done of it fits together
        assert {path: made(out)[path] for path in kept} == kept, (call, at)
        are_right(out)
        ran(out, *flags, settings=SETTINGS)
        are_right(out)
        assert leftovers(out) == []
