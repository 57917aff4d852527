"""TLS_MODE=provided: the operator's certificate is checked before anything is written, and nginx agrees."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from tests.support import engine, pki, trees
from tests.support.documents import read_yaml
from tests.support.pki import HOST, Pair, intermediate, issue, root, server
from tests.support.runs import OPERATORS, REQUIRED, deployed, ran, require_root, tree

CHAIN, KEY = "tls/server.fullchain.crt", "tls/private/server.decrypted.key"


def full(pair: Pair) -> bytes:
    """A server's certificate followed by the intermediate that issued it."""
    return pair.pem + intermediate().pem


def put(out: Path, chain: bytes | None, key: bytes | None) -> Path:
    for path, data in ((CHAIN, chain), (KEY, key)):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            (out / path).write_bytes(data)
    (out / "tls/ca.crt").write_bytes(root().pem)
    return out


def made(pair: Pair) -> Callable[[Path], tuple[bytes, bytes]]:
    return lambda _folder: (full(pair), pair.private())


def both(chain: Callable[[], bytes], key: Callable[[], bytes] | None = None) -> Callable[[Path], tuple[bytes, bytes]]:
    return lambda _folder: (chain(), (key or server().private)())


def of(kind: str, names: tuple[str, ...] = (HOST,), **other: object) -> Callable[[Path], tuple[bytes, bytes]]:
    def pair(_folder: Path) -> tuple[bytes, bytes]:
        one = issue(HOST, intermediate(), names=names, kind=kind, **other)  # type: ignore[arg-type]
        return full(one), one.private()

    return pair


def pkcs12(encryption: object = None) -> bytes:
    chosen = encryption or NoEncryption()
    return serialize_key_and_certificates(
        b"x", server().key, server().certificate, [intermediate().certificate], chosen
    )  # type: ignore[arg-type]


def request() -> bytes:
    (label, end), pem = (b"CERTIFICATE", b"CERTIFICATE REQUEST"), server().pem
    return pem.replace(label, end)


# What the files hold -> the words of the refusal, with the command that converts them.
REFUSED: Mapping[str, tuple[Callable[[Path], tuple[bytes, bytes]], list[str]]] = {
    "an empty file": (both(lambda: b""), [f"./{CHAIN}: it is not a PEM certificate"]),
    "another text": (both(lambda: b"hello\n"), [f"./{CHAIN}: it is not a PEM certificate"]),
    "a damaged one": (both(lambda: server().pem[:200] + b"AAAA" + server().pem[210:]), ["the block that begins in line 1 is damaged"]),
    "a truncated second one": (both(lambda: server().pem + intermediate().pem[:300] + b"\n-----END CERTIFICATE-----\n"), ["the block that begins in line", "is damaged"]),
    "a request": (both(request), ["it is a certificate request (CSR)"]),
    "DER": (both(lambda: server().der), ["it is DER", f"openssl x509 -inform DER -in ./{CHAIN} -out ./{CHAIN}.pem"]),
    "PKCS#12": (both(pkcs12), ["it is PKCS#12", f"openssl pkcs12 -nokeys -in ./{CHAIN} -out ./{CHAIN}.pem"]),
    "PKCS#12 with a password": (both(lambda: pkcs12(BestAvailableEncryption(b"x"))), ["it is PKCS#12"]),
    "PKCS#7": (both(lambda: serialize_certificates([server().certificate], Encoding.PEM)), ["it is PKCS#7", "openssl pkcs7 -print_certs -in"]),
    "PKCS#7 in DER": (both(lambda: serialize_certificates([server().certificate], Encoding.DER)), ["it is PKCS#7", "openssl pkcs7 -inform DER -print_certs -in"]),
    "UTF-16": (both(lambda: full(server()).decode().encode("utf-16")), ["it is UTF-16"]),
    "swapped files": (lambda _: (server().private(), full(server())), [f"./{CHAIN}: it is a private key", "swap the two paths"]),
    "a certificate as key": (both(lambda: full(server()), lambda: server().pem), [f"./{KEY}: it is a certificate", "swap the two paths"]),
    "no key in it": (both(lambda: full(server()), lambda: b""), [f"./{KEY}: it is not a PEM private key"]),
    "a damaged key": (both(lambda: full(server()), lambda: server().private()[:60] + b"\n-----END PRIVATE KEY-----\n"), [f"./{KEY}: it is damaged"]),
    "a key in DER": (both(lambda: full(server()), lambda: server().private(Encoding.DER)), ["it is DER", f"openssl pkey -inform DER -in ./{KEY} -out ./{KEY}.pem"]),
    "a key in PKCS#12": (both(lambda: full(server()), pkcs12), ["it is PKCS#12", f"openssl pkcs12 -nocerts -nodes -in ./{KEY} -out ./{KEY}.pem"]),
    "an encrypted key": (both(lambda: full(server()), server().encrypted), ["it is encrypted", f"openssl pkey -in ./{KEY} -out ./{KEY}.pem"]),
    "a key encrypted in the traditional form": (both(lambda: full(server()), lambda: server().encrypted(PrivateFormat.TraditionalOpenSSL)), ["it is encrypted"]),
    "another key": (both(lambda: full(server()), intermediate().private), [f"./{KEY} is the key of certificate 2 in ./{CHAIN}, not of the first one"]),
    "a key of no certificate": (both(lambda: full(server()), root().private), [f"./{KEY} is not the key of the first certificate in ./{CHAIN} ({HOST})"]),
    "the chain first": (both(lambda: intermediate().pem + server().pem), ["is the key of certificate 2", "put the server certificate first"]),
    "expired": (of("P-256", lasts=(-90, -3)), [f"{HOST} expired on"]),
    "not valid yet": (of("P-256", lasts=(3, 90)), [f"{HOST} is not valid before", "check the clock, which says"]),
    "an expired issuer": (lambda _: _under(issue("Old", root(), authority=True, lasts=(-90, -3))), ["Old expired on"]),
    "another host": (of("P-256", ("www.example.com",)), [f"./{CHAIN} does not cover {HOST}: it covers www.example.com"]),
    "no names": (of("P-256", ()), [f"./{CHAIN} does not cover {HOST}: it has no subject alternative names"]),
    "the domain above": (of("P-256", ("*.com", "example.com", "*.avatar.example.com", "*")), [f"does not cover {HOST}"]),
    "a small key": (of("RSA-1024"), ["has an RSA key of 1024 bits"]),
    "SHA-1": (pki.issued_with_sha1, ["is signed with SHA1"]),
    "END and BEGIN on one line": (both(lambda: server().pem.rstrip() + intermediate().pem), ["END and BEGIN are on one line: put a line end between them"]),
    "CR alone": (both(lambda: full(server()).replace(b"\n", b"\r")), ["its lines end with CR alone", "tr '\\r' '\\n' <"]),
    "indented": (both(lambda: full(server()).replace(b"-----B", b"  -----B")), ["line 1: -----BEGIN is indented", "sed 's/^[[:blank:]]*//'"]),
    "text before BEGIN": (both(lambda: b"x: " + server().pem), ["line 1: something is before -----BEGIN on its line"]),
    "a no-break space": (both(lambda: server().pem.replace(b"MII", b"MII\xc2\xa0")), ["line 2: U+00A0 is in the text of a block"]),
    "a header in a block": (both(lambda: server().pem.replace(b"-----\n", b"-----\nSubject: x\n\n", 1)), ["line 2: a header is inside the block"]),
    "cut off": (both(lambda: full(server())[:-30]), ["is cut off: it has no END line"]),
    "a certificate glued behind the key": (both(lambda: full(server()), lambda: server().private().rstrip() + server().pem), [f"./{KEY}: line 5: END and BEGIN are on one line"]),
    "a header in the key": (both(lambda: full(server()), lambda: server().private().replace(b"-----\n", b"-----\nKey: my key\n\n", 1)), [f"./{KEY}: line 2: a header is inside the block"]),
    "PKCS#12 in both places": (both(pkcs12, pkcs12), [f"openssl pkcs12 -nokeys -in ./{CHAIN} -out ./{CHAIN}.pem", f"openssl pkcs12 -nocerts -nodes -in ./{KEY} -out ./{KEY}.pem"]),
    "for clients": (of("P-256", purpose=pki.ExtendedKeyUsageOID.CLIENT_AUTH), ["is not for server authentication"]),
}  # fmt: skip


def _under(issuer: Pair) -> tuple[bytes, bytes]:
    one = issue(HOST, issuer, names=(HOST,))
    return one.pem + issuer.pem, one.private()


# What nginx does not start with; its clients refuse the rest.
NOT_FOR_NGINX = set(REFUSED) - {
    *("expired", "not valid yet", "an expired issuer", "another host", "no names", "the domain above", "for clients"),
    "SHA-1",
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unusable_certificate_is_refused_before_anything_is_written(case: str, tmp_path: Path) -> None:
    make, words = REFUSED[case]
    out = put(tmp_path / "out", *make(tmp_path))
    before = tree(out)
    done = ran(out, settings=REQUIRED | {"TLS_CA_PATH": "./tls/ca.crt"}, code=1)
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert tree(out) == before


# What is accepted -> the words of its note, "" for none.
TAKEN: Mapping[str, tuple[Callable[[Path], tuple[bytes, bytes]], str]] = {
    "the usual one": (made(server()), ""),
    "the root in the chain too": (both(lambda: full(server()) + root().pem), ""),
    "the root before the intermediate": (both(lambda: server().pem + root().pem + intermediate().pem), ""),
    "an old intermediate at the end": (both(lambda: full(server()) + issue("Old", root(), authority=True, lasts=(-90, -3)).pem), "certificate 3 (Old) is not needed and has expired"),
    "text between the certificates": (both(lambda: b"subject=x\n" + server().pem + b"issuer: y\n\n" + intermediate().pem), ""),
    "a byte order mark": (both(lambda: b"\xef\xbb\xbf" + full(server()), lambda: b"\xef\xbb\xbf" + server().private()), ""),
    "CRLF": (both(lambda: full(server()).replace(b"\n", b"\r\n"), lambda: server().private().replace(b"\n", b"\r\n")), ""),
    "the traditional form of a key": (both(lambda: full(server()), lambda: server().private(form=PrivateFormat.TraditionalOpenSSL)), ""),
    "an encrypted key behind a plain one": (both(lambda: full(server()), lambda: server().private() + server().encrypted()), ""),
    "PKCS#8 under an EC label": (both(lambda: full(server()), lambda: server().private().replace(b" PRIV", b" EC PRIV")), ""),
    "a trusted certificate": (both(lambda: server().pem.replace(b"CERTIF", b"TRUSTED CERTIF") + intermediate().pem), ""),
    "a trusted intermediate": (both(lambda: full(server()) + root().pem.replace(b"CERTIF", b"TRUSTED CERTIF")), "nginx skips the certificate whose BEGIN is in line"),
    "RSA": (of("RSA-2048"), ""),
    "P-384": (of("P-384"), ""),
    "a wildcard": (of("P-256", ("*.example.com",)), ""),
    "in capitals": (of("P-256", ("AVATAR.Example.com",)), ""),
    "P-521": (of("P-521"), "browsers accept only RSA keys, and EC keys on P-256 and P-384"),
    "Ed25519": (of("Ed25519"), "browsers accept only RSA keys, and EC keys on P-256 and P-384"),
    "expires soon": (of("P-256", lasts=(-300, 20)), f"./{CHAIN}: {HOST} expires on"),
    "no intermediate": (both(lambda: server().pem), f"./{CHAIN} ends at {HOST}, and its issuer Test Intermediate is not a public CA"),
    "signed by itself": (lambda _: _alone(), "which is not a public CA: set TLS_CA_PATH to its file"),
}  # fmt: skip


def _alone() -> tuple[bytes, bytes]:
    one = issue(HOST, names=(HOST,))
    return one.pem, one.private()


@pytest.mark.parametrize("case", TAKEN)
def test_a_usable_certificate_is_accepted_with_a_note_if_needed(case: str, tmp_path: Path) -> None:
    make, words = TAKEN[case]
    out = put(tmp_path / "out", *make(tmp_path))
    done = ran(out, settings=REQUIRED | {"TLS_CA_PATH": "./tls/ca.crt"})
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == (1 if words else 0), notes
    assert words in "".join(notes)


@pytest.mark.parametrize(
    ("names", "extra", "code", "words"),
    [
        ((HOST, "avatar.internal", "192.0.2.7", "2001:db8::7"), "avatar.internal,192.0.2.7,2001:db8::7", 0, ""),
        ((HOST, "*.internal"), "avatar.internal", 0, ""),
        ((HOST,), "avatar.internal,192.0.2.7", 0, f"note: ./{CHAIN} does not cover avatar.internal, 192.0.2.7: it covers {HOST}"),
        ((HOST, "*.0.2.7"), "192.0.2.7", 0, f"note: ./{CHAIN} does not cover 192.0.2.7"),
    ],
)  # fmt: skip
def test_extra_names_are_checked(names: tuple[str, ...], extra: str, code: int, words: str, tmp_path: Path) -> None:
    out = put(tmp_path / "out", *of("P-256", names)(tmp_path))
    done = ran(out, settings=REQUIRED | {"TLS_CA_PATH": "./tls/ca.crt", "TLS_EXTRA_NAMES": extra}, code=code)
    assert words in done.stderr
    assert words or "note" not in done.stderr


@pytest.mark.parametrize("host", ["192.0.2.7", "[2001:db8::7]"])
def test_an_address_must_be_listed_as_an_address(host: str, tmp_path: Path) -> None:
    bare = host.strip("[]")
    settings = REQUIRED | {"PUBLIC_URL": host, "TLS_CA_PATH": "./tls/ca.crt"}
    ran(put(tmp_path / "right", *of("P-256", (bare,))(tmp_path)), settings=settings)
    done = ran(put(tmp_path / "wrong", *of("P-256", ("other.example.com",))(tmp_path)), settings=settings, code=1)
    assert f"does not cover {bare}" in done.stderr


def test_one_pkcs12_for_both_is_converted_by_one_command(tmp_path: Path) -> None:
    out = put(tmp_path / "out", pkcs12(), None)
    settings = REQUIRED | {"TLS_CA_PATH": "./tls/ca.crt", "NGINX_SSL_CERTIFICATE_KEY_PATH": f"./{CHAIN}"}
    given = ran(out, settings=settings, code=1).stderr
    assert given.count("openssl ") == 1
    command = given[given.index("openssl ") :].splitlines()[0] + " -passin pass:"
    subprocess.run(command, shell=True, cwd=out, check=True, capture_output=True)
    os.replace(out / f"{CHAIN}.pem", out / CHAIN)
    ran(out, settings=settings)


def test_an_open_file_with_the_key_beside_the_chain_is_a_warning(tmp_path: Path) -> None:
    out = put(tmp_path / "out", full(server()) + server().private(), server().private())
    (out / CHAIN).chmod(0o644)
    (out / KEY).chmod(0o600)
    done = ran(out, settings=REQUIRED | {"TLS_CA_PATH": "./tls/ca.crt"})
    text = f"accessible to other users of the host: {CHAIN}"
    assert f"note: {text}: chmod 0600 {CHAIN}" in done.stderr
    found = json.loads(ran(out, "--check", "--json", settings={}, code=3).stdout)["findings"]
    assert (text, "warn") in [(one["text"], one["level"]) for one in found]
    (out / CHAIN).chmod(0o600)
    assert text not in ran(out, "--check", settings={}, code=3).stdout


# --- where it is -----------------------------------------------------------------------------------


def test_missing_files_are_listed_among_the_next_steps(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    missing = ran(out).stdout.partition("Missing before the stack can start:\n")[2]
    for path in (CHAIN, KEY):
        assert f"  ./{path} does not exist yet: put it there before the stack starts\n" in missing
    put(out, full(server()), server().private())
    assert "does not exist yet" not in ran(out).stdout


def test_a_path_that_is_not_mounted_is_accepted_with_a_note(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    paths = {"NGINX_SSL_CERTIFICATE_PATH": "/etc/host's/own.crt", "NGINX_SSL_CERTIFICATE_KEY_PATH": "/etc/host/own.key"}
    done = ran(out, settings=REQUIRED | paths)
    output = "note: /etc/host's/own.crt is not visible here and was not checked: on the host: "
    assert output + "openssl x509 -noout -text -in '/etc/host'\\''s/own.crt'" in done.stderr
    assert "note: /etc/host/own.key is not visible here and was not checked" in done.stderr


def test_a_path_that_is_mounted_is_read(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "mine.crt").write_bytes(full(server()))
    (tmp_path / "mine.key").write_bytes(root().private())
    paths = {"NGINX_SSL_CERTIFICATE_PATH": "../mine.crt", "NGINX_SSL_CERTIFICATE_KEY_PATH": f"{tmp_path}/mine.key"}
    done = ran(out, settings=REQUIRED | paths, code=1)
    assert f"{tmp_path}/mine.key is not the key of the first certificate in ../mine.crt" in done.stderr
    assert list(out.iterdir()) == []


def test_a_directory_in_place_of_the_certificate_is_reported(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / CHAIN).mkdir(parents=True)
    done = ran(out, code=1)
    assert f"./{CHAIN} is a directory: remove it and put the file there" in done.stderr


def test_a_dangling_link_is_accepted_because_it_may_resolve_on_the_host(tmp_path: Path) -> None:
    out = put(tmp_path / "out", None, server().private())
    (out / CHAIN).symlink_to("/etc/letsencrypt/live/avatar/fullchain.pem")
    assert f"note: ./{CHAIN} is not visible here and was not checked" in ran(out).stderr


def test_a_link_inside_the_volume_is_followed(tmp_path: Path) -> None:
    out = put(tmp_path / "out", None, server().private())
    (out / "tls/version-7.crt").write_bytes(full(issue("other", intermediate(), names=("other.example",))))
    (out / CHAIN).symlink_to("version-7.crt")
    assert f"./{CHAIN} does not cover {HOST}" in ran(out, code=1).stderr


def test_an_unreadable_key_is_accepted_with_a_note(tmp_path: Path) -> None:
    require_root()
    out = put(tmp_path / "out", full(server()), server().private())
    (out / KEY).chmod(0o600)
    os.chown(out / KEY, 1234, 1234)
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    done = ran(out, settings=REQUIRED | {"TLS_CA_PATH": "./tls/ca.crt"}, prefix=prefix)
    assert f"note: ./{KEY} is not readable by user 0 and was not checked: on the host: openssl pkey" in done.stderr


# --- parsed once -----------------------------------------------------------------------------------


def test_an_unchanged_run_does_not_parse_it_again(tmp_path: Path) -> None:
    out = put(tmp_path / "out", full(server()), server().private())
    settings = REQUIRED | {"TLS_CA_PATH": "./tls/ca.crt"}
    ran(out, settings=settings)
    done = ran(out, settings=settings | {"PYTHONPROFILEIMPORTTIME": "1"})
    assert "Nothing to do" in done.stdout
    status = ran(out, "--status", settings={"PYTHONPROFILEIMPORTTIME": "1"})
    for loaded in (done.stderr, status.stderr):
        assert "setup.tls.provided" in loaded
        assert "cryptography" not in loaded


def test_a_new_certificate_is_checked_and_reported(tmp_path: Path) -> None:
    out = put(deployed(tmp_path / "out"), full(server()), server().private())
    done = ran(out, settings={})
    assert f"Changed: ./{CHAIN} is new; a running nginx serves it after a restart" in done.stdout
    assert "Nothing to do" in ran(out, settings={}).stdout
    put(out, full(issue("other", intermediate(), names=("other.example",))), None)
    before = tree(out)
    assert f"./{CHAIN} does not cover {HOST}" in ran(out, settings={}, code=1).stderr
    assert tree(out) == before


def test_swarm_takes_a_new_secret_whenever_the_certificate_or_its_key_changes(tmp_path: Path) -> None:
    """Swarm's secrets are immutable: under the old name, a deploy would fail."""

    def secret_names() -> tuple[str, str]:
        ran(out, settings={})
        stack = read_yaml((out / "stack.yml").read_text())
        used = {each["target"]: each["source"] for each in stack["services"]["nginx"]["secrets"]}
        configs = {each["target"]: each["source"] for each in stack["services"]["nginx"]["configs"]}
        return configs[f"/etc/nginx/{CHAIN}"], used[f"/etc/nginx/{KEY}"]

    swarm = deployed(tmp_path / "out", settings=REQUIRED | {"TARGET": "swarm"})
    out = put(swarm, full(server()), server().private())
    first = secret_names()
    assert secret_names() == first
    (out / CHAIN).write_bytes(full(server()) + b"\n")
    second = secret_names()
    (out / KEY).write_bytes(server().private() + b"\n")
    third = secret_names()
    for names in zip(first, second, third, strict=True):
        assert len(set(names)) == 3


def test_an_expired_certificate_does_not_stop_later_runs(tmp_path: Path) -> None:
    """A run may start the stack, and one more outage helps nobody."""
    one = issue(HOST, intermediate(), names=(HOST,), lasts=(-90, 10))
    out = put(tmp_path / "out", full(one), one.private())
    settings = REQUIRED | {"TLS_CA_PATH": "./tls/ca.crt"}
    assert "in 10 days: renew it" in ran(out, settings=settings).stderr
    state = out / ".deployment-state.yaml"
    text = state.read_text()
    (mark,) = [line.split()[1] for line in text.splitlines() if line.startswith("  certificate: ")]
    state.write_text(text.replace(mark, "2020-01-01T00:00:00+00:00"))
    done = ran(out, settings=settings)
    assert "Nothing to do" in done.stdout
    assert f"note: the certificate ./{CHAIN} expired on 2020-01-01: replace it" in done.stderr


def test_no_message_shows_a_key(tmp_path: Path) -> None:
    out = put(tmp_path / "out", full(server()), root().private())
    done = ran(out, code=1)
    for line in root().private().decode().splitlines()[1:-1]:
        assert line not in done.stdout + done.stderr


# --- the suggested commands, and nginx itself ----------------------------------------------------


@pytest.mark.parametrize("case", ["DER", "PKCS#12", "PKCS#7", "PKCS#7 in DER", "a key in DER", "an encrypted key"])
def test_the_suggested_command_converts_the_file(case: str, tmp_path: Path) -> None:
    out = put(tmp_path / "out", *REFUSED[case][0](tmp_path))
    settings = REQUIRED | {"TLS_CA_PATH": "./tls/ca.crt"}
    given = ran(out, settings=settings, code=1).stderr
    command = given[given.index("openssl ") :].splitlines()[0]
    command += {"PKCS#12": " -passin pass:", "an encrypted key": " -passin pass:secret"}.get(case, "")
    subprocess.run(command, shell=True, cwd=out, check=True, capture_output=True)
    made = KEY if "key" in case else CHAIN
    os.replace(out / f"{made}.pem", out / made)
    ran(out, settings=settings)


@pytest.mark.docker
def test_nginx_refuses_the_same_certificates(tmp_path: Path) -> None:
    """nginx does not start with what is refused as unusable; it starts with the rest, which clients may refuse."""
    config = trees.named_targets("usual").nginx[0].data.decode()
    every = {**{name: make for name, (make, _) in REFUSED.items()}, **{name: make for name, (make, _) in TAKEN.items()}}
    (tmp_path / "work").mkdir()
    for number, make in enumerate(every.values()):
        folder = put(tmp_path / "cases" / str(number), *make(tmp_path / "work"))
        (folder / "nginx.conf").write_text(config.replace("/etc/nginx/tls/", f"/cases/{number}/tls/"))
    script = (
        "cd /cases; for n in *; do nginx -t -q -c /cases/$n/nginx.conf </dev/null >/dev/null 2>&1; echo $n $?; done"
    )
    hosts = [
        option for name in ("web", "api", "authentik_server", "s3") for option in ("--add-host", f"{name}:127.0.0.1")
    ]
    mount = ("-v", f"{tmp_path / 'cases'}:/cases:ro")
    done = engine.docker("run", "--rm", *hosts, *mount, engine.stand_ins()["nginx"], "sh", "-c", script)
    codes = dict(line.split() for line in done.stdout.decode().splitlines())
    refused = {name for number, name in enumerate(every) if codes[str(number)] != "0"}
    assert refused == NOT_FOR_NGINX


@pytest.mark.parametrize("target", ["compose", "swarm"])
@pytest.mark.parametrize("folder", ["./our certs $5", "../our certs"])
def test_an_odd_path_is_no_missing_file(tmp_path: Path, target: str, folder: str) -> None:
    out = put(tmp_path / "out", None, None)
    (out / folder).mkdir()
    chain, key = f"{folder}/a #1 $x $$.crt", f'{folder}/it\'s "the" key.pem'
    (out / chain).write_bytes(full(server()))
    (out / key).write_bytes(server().private())
    paths = {"NGINX_SSL_CERTIFICATE_PATH": chain, "NGINX_SSL_CERTIFICATE_KEY_PATH": key}
    settings = {**REQUIRED, **OPERATORS, **paths, "TARGET": target, "TLS_CA_PATH": "./tls/ca.crt"}
    assert "Missing" not in ran(out, settings=settings).stdout
    assert "Ready: the stack can start" in ran(out, "--check", settings={}).stdout
    assert "mount-missing" not in ran(out, "--status", settings={}).stdout
