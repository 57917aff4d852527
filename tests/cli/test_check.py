"""`--check`: each finding appears after what an operator may do to a good deployment, and the check changes nothing."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from setup.checks.network import PARTS
from setup.findings import PENDING
from setup.tls.provided import CERTIFICATE_FILE, KEY_FILE
from tests.cli.test_given_certificate import CHAIN, KEY, full, put
from tests.cli.test_restore import half_restored
from tests.cli.test_self_signed import issue
from tests.support import pki
from tests.support.runs import (
    LAST_GOOD,
    LOCK,
    OPERATORS,
    REQUIRED,
    ROOT,
    STATE,
    deployed,
    every_secret,
    holding,
    ran,
    require_root,
    require_strace,
    run,
    secrets,
    stamps,
)

GIVEN = REQUIRED | OPERATORS | {"POSTGRES_IMAGE": "postgres:17-alpine"}  # the default gets a warning
SETTINGS = GIVEN | {"TLS_MODE": "self-signed"}
HEADINGS = set(re.findall(r"^### (\S+)$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out", settings=SETTINGS)


def findings(out: Path, *flags: str, code: int | None = None) -> list[tuple[str, str, str]]:
    """Return level, name and text of every finding; `--status`, which judges less, must come to the same verdict."""
    done = run(out, "--check", "--json", *flags, settings={})
    assert done.returncode == code if code is not None else done.returncode in (0, 3), done.stderr
    data = json.loads(done.stdout)
    fine = data["ready"] and data.get("answers", True)
    assert fine is (done.returncode == 0) is not any(one["level"] == "fail" for one in data["findings"])
    if not flags:
        status = json.loads(run(out, "--status", "--json", settings={}).stdout)
        assert status.get("ready", False) is data["ready"], "a volume that cannot be read has no status"
    return [(one["level"], one["name"], f"{one['text']}: {one['todo']}") for one in data["findings"]]


def wrong(out: Path, *flags: str) -> list[tuple[str, str, str]]:
    return [one for one in findings(out, *flags) if one[0] in ("warn", "fail")]


# --- a good one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "absent"),
    [
        ({"TLS_MODE": "self-signed"}, set()),
        ({"TLS_MODE": "behind-proxy"}, {"certificate-names"}),
        ({"PUBLIC_URL": "http://avatar.example.com:8080"}, {"certificate-names"}),
        ({"TLS_MODE": "self-signed", "NGINX_HTTP_REDIRECT_PORT": "80", "DB_HOST": "pg.example.com", "DB_ADMIN_USER": "a",
          "DB_ADMIN_PASSWORD": "b"}, set()),
        ({"TLS_MODE": "self-signed", "SMTP_HOST": "mail.example",
          "SMTP_USERNAME": "a", "SMTP_PASSWORD": "it's $5 #1"}, set()),
    ],
    ids=str,
)  # fmt: skip
def test_a_good_deployment_passes(more: Mapping[str, str], absent: set[str], tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=GIVEN | more)
    found = findings(out, code=0)
    assert {level for level, _, _ in found} == {"ok", "skip"}
    names = {name for _, name, _ in found}
    assert names >= {
        "steps",
        "files",
        "file-modes",
        "secrets",
        "agreement",
        "disk-space",
        "clock",
        "host",
    }
    assert not names & absent


def test_a_value_that_cannot_work_is_noted_by_the_run_and_by_the_check(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=SETTINGS)
    words = "SMTP_HOST=localhost: inside a container, localhost is the container itself"
    assert f"note: {words}" in ran(out, "--set", "SMTP_HOST=localhost").stderr
    assert [name for _, name, text in wrong(out) if words in text] == ["doubtful-setting"]


def test_check_prints_what_to_do_first_and_a_verdict_with_the_next_command(out: Path) -> None:
    done = ran(out, "--check", settings={})
    findings, _, verdict = done.stdout.partition("\nReady: ")
    for line in filter(None, findings.splitlines()):
        command = r"|      \S.* --host-check \| sh"  # on a line of its own, to be copied
        assert re.fullmatch(rf"(ok  |warn|fail|skip)  [a-z-]+: \S.*|      do: \S.*{command}", line), line
    assert findings.index("skip  host: ") < findings.index("ok    steps")
    assert re.match(r"the stack can start \(1 skip, \d+ ok\)\.\n", verdict)
    assert verdict.endswith("docker compose up -d\n")
    assert done.stderr == ""
    (out / ".secrets/organization_name").write_text("")
    told = ran(out, "--check", settings={}, code=3).stdout
    assert told.startswith("fail  "), "what must be done comes first"
    assert "\nNot ready (" in told


def test_a_provided_certificate_is_checked(tmp_path: Path) -> None:
    settings = GIVEN | {"TLS_CA_PATH": "./tls/ca.crt"}
    out = put(tmp_path / "out", full(pki.server()), pki.server().private())
    ran(out, settings=settings)
    ((level, name, text),) = wrong(out)
    assert (level, name) == ("warn", "file-open")
    assert f"chmod 0600 {KEY}" in text
    (out / KEY).chmod(0o600)
    found = findings(out, code=0)
    assert ("ok", "certificate-chain") in {(level, name) for level, name, _ in found}
    put(out, pki.intermediate().pem + pki.server().pem, None)
    assert {name for level, name, _ in wrong(out) if level == "fail"} == {
        "certificate-key",
        "certificate-names",
    }
    (out / CHAIN).unlink()
    ((level, name, text),) = wrong(out)
    assert (level, name) == ("fail", "certificate-file")
    assert "does not exist yet" in text


# --- defects ------------------------------------------------------------------------------------


def edit(path: str, old: str, new: str) -> Callable[[Path], object]:
    def change(out: Path) -> None:
        text = (out / path).read_text()
        assert old in text
        (out / path).write_text(text.replace(old, new))

    return change


def write(path: str, data: bytes) -> Callable[[Path], object]:
    return lambda out: (out / path).write_bytes(data)


def append(path: str, text: str) -> Callable[[Path], object]:
    return lambda out: (out / path).write_text((out / path).read_text() + text)


def remove(path: str) -> Callable[[Path], object]:
    return lambda out: (out / path).unlink()


def mode(path: str, bits: int) -> Callable[[Path], object]:
    return lambda out: (out / path).chmod(bits)


def becomes_directory(path: str) -> Callable[[Path], object]:
    def change(out: Path) -> None:
        (out / path).unlink()
        (out / path).mkdir()

    return change


def from_tomorrow(out: Path) -> None:
    os.utime(out / ".env", (time.time() + 86400,) * 2)


EDITED = ("warn", "file-edited")
# What happens to a good deployment -> the findings, and words of the first one.
DONE: Mapping[str, tuple[Callable[[Path], object], list[tuple[str, str]], list[str]]] = {
    "a file is gone": (remove("nginx/nginx.conf"), [("fail", "file-missing")], ["nginx/nginx.conf"]),
    "the compose file is gone": (remove("docker-compose.yml"), [("fail", "file-missing")], ["docker-compose.yml"]),
    "the authority's key is gone": (remove("tls/private/avatar-ca.key"), [("fail", "file-missing")], ["tls/private/avatar-ca.key", "restore it from a backup: it is not regenerated"]),
    "a file is a directory": (becomes_directory("nginx/nginx.conf"), [("fail", "file-odd")], ["nginx/nginx.conf"]),
    "an edit": (edit("nginx/nginx.conf", "worker_connections 4096", "worker_connections 1024"), [EDITED], ["nginx/nginx.conf", "if you meant the change"]),
    "another level in .env": (edit(".env", "LOG_LEVEL=INFO", "LOG_LEVEL=DEBUG"), [EDITED, ("warn", "env-differs")], [".env"]),
    "a setting of ours among yours": (append(".env", "LOG_LEVEL=DEBUG\n"), [("warn", "env-differs")], ["LOG_LEVEL", "--set KEY=VALUE"]),
    "a variable of yours": (append(".env", "MINE=1\n"), [], []),
    "a staged file": (write(".env.avatar-setup-new", b"x"), [("warn", "leftovers")], [".env.avatar-setup-new"]),
    "an empty secret": (write(".secrets/organization_name", b""), [("fail", "secret-lost")], ["organization_name", "backup"]),
    "a secret is gone": (remove(".secrets/db_password"), [("fail", "secret-lost")], [".secrets/db_password"]),
    "an unused secret is gone": (remove(".secrets/telemetry_s3_access_key_id"), [("fail", "mount-missing")], ["./.secrets/telemetry_s3_access_key_id"]),
    "binary in a secret": (write(".secrets/db_user", b"\xff\xfe\x00"), [("fail", "secret-form")], [".secrets/db_user is not UTF-8"]),
    "white space in a secret": (write(".secrets/db_user", b"  \n"), [("fail", "secret-form")], [".secrets/db_user contains only white space"]),
    "a short key": (write(".secrets/storage_encryption_key", b"abc"), [("fail", "secret-form")], ["64 hexadecimal digits", "its value is not shown"]),
    "a link in place of a secret": (lambda out: (remove(".secrets/db_user")(out), (out / ".secrets/db_user").symlink_to("/etc/passwd")), [("fail", "secret-form")], [".secrets/db_user"]),
    "a changed secret that .env shows": (write(".secrets/authentik_bootstrap_password", b"another-one"), [("fail", "env-stale")], ["AUTHENTIK_BOOTSTRAP_PASSWORD (from .secrets/authentik_bootstrap_password)"]),
    "unreadable secrets": (lambda out: [(out / ".secrets" / name).chmod(0o600) for name in ("db_user", "db_name")], [("fail", "file-closed")], [".secrets/db_name, .secrets/db_user", "chmod 0644 .secrets/db_name .secrets/db_user"]),
    "an open directory": (mode(".secrets", 0o755), [("warn", "file-open")], ["chmod 0700 .secrets"]),
    "a directory where others write": (mode(".", 0o777), [("warn", "file-open")], ["chmod go-w"]),
    "an open .env": (mode(".env", 0o644), [("warn", "file-open")], ["chmod 0600 .env"]),
    "an open key": (mode("tls/private/server.decrypted.key", 0o640), [("warn", "file-open")], ["chmod 0600 tls/private/server.decrypted.key"]),
    "a line of .env is gone": (edit(".env", "ENV_NAME=example-prod\n", ""), [EDITED, ("fail", "env-unset")], []),
    "a quote is not closed": (edit(".env", "ENV_NAME=example-prod", "ENV_NAME='example-prod"), [EDITED, ("fail", "env-form")], []),
    "the compose file is no YAML": (edit("docker-compose.yml", "services:", "services: ["), [EDITED, ("fail", "compose-form")], []),
    "another public address": (edit(".env", "https://avatar.example.com/api", "https://other.example.com/api"), [EDITED, ("fail", "address")], []),
    "another port is published": (edit("docker-compose.yml", '"443:443"', '"8443:443"'), [EDITED, ("fail", "address")], []),
    "nginx listens elsewhere": (edit("nginx/nginx.conf", "listen 443", "listen 8443"), [EDITED, ("fail", "address")], []),
    "a mount of the operator's": (edit("docker-compose.yml", '"./nginx/nginx.conf"', '"./nginx/mine.conf"'), [EDITED, ("fail", "mount-missing")], []),
    "another key": (lambda out: shutil.copy(out / "tls/private/avatar-ca.key", out / "tls/private/server.decrypted.key"), [EDITED, ("fail", "certificate-key")], []),
    "another authority's bundle": (write("tls/ca-bundle.crt", pki.root().pem), [EDITED, ("fail", "authorities")], []),
    "another compose file": (write("compose.yaml", b"services: {}"), [("fail", "compose-name")], ["Compose reads it instead of docker-compose.yml"]),
    "a clock that is behind": (from_tomorrow, [("fail", "clock")], ["system clock is behind", "timedatectl"]),
    "another release": (edit(STATE, "  program: ", "  program: 00"), [("warn", "release")], ["another release"]),
}  # fmt: skip


@pytest.mark.parametrize("what", DONE)
def test_a_defect_is_reported(what: str, out: Path) -> None:
    change, expected, words = DONE[what]
    change(out)
    found = wrong(out)
    assert [(level, name) for level, name, _ in found] == expected
    assert [word for word in words if word not in found[0][2]] == []


DAMAGED = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
# What happens to the CA of TLS_CA_PATH after the deployment is complete -> words of the finding.
UNTRUSTED: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "gone": (remove("tls/ca.crt"), "no such file below the output directory"),
    "no certificate": (write("tls/ca.crt", b"hello"), "it is not a PEM certificate"),
    "damaged": (write("tls/ca.crt", DAMAGED), "the block that begins in line 1 is damaged: copy it again"),
    "the bundle itself": (
        edit(STATE, "./tls/ca.crt", "./tls/ca-bundle.crt"),
        "it is tls/ca-bundle.crt, which avatar-setup generates from it",
    ),
    "a link to the bundle": (
        lambda out: [remove("tls/ca.crt")(out), (out / "tls/ca.crt").symlink_to("ca-bundle.crt")],
        "it is tls/ca-bundle.crt, which avatar-setup generates from it. Put the CA's certificate into a file of its own",
    ),
}


@pytest.mark.parametrize("mode", ["provided", "self-signed"])
@pytest.mark.parametrize("what", UNTRUSTED)
def test_an_unusable_ca_is_reported_beside_the_other_findings(what: str, mode: str, tmp_path: Path) -> None:
    change, words = UNTRUSTED[what]
    out = tmp_path / "out"
    put(out, *((full(pki.server()), pki.server().private()) if mode == "provided" else (None, None)))
    ran(out, settings=SETTINGS | {"TLS_MODE": mode, "TLS_CA_PATH": "./tls/ca.crt"})
    before = [one[1] for one in findings(out, code=0)]
    change(out)
    found = findings(out, code=3)
    ((name, text),) = [one[1:] for one in found if one[0] == "fail"]
    assert name == "authorities"
    assert text.startswith("TLS_CA_PATH=./tls/")
    assert words in text
    assert [one[1] for one in found] == before


@pytest.mark.parametrize("flags", [("--check",), ()])
@pytest.mark.parametrize("data", [pki.root().pem, b""], ids=["other", "empty"])
def test_a_bundle_that_every_run_keeps_is_moved_away_first(flags: tuple[str, ...], data: bytes, out: Path) -> None:
    """A run alone changes nothing, because the file was edited."""
    write("tls/ca-bundle.crt", data)(out)
    done = run(out, *flags, settings={})
    words = " ".join(done.stdout.split())
    move = "mv tls/ca-bundle.crt tls/ca-bundle.crt.old"
    assert f"move it away ({move}), run avatar-setup, then docker compose up -d --force-recreate" in words
    subprocess.run(["sh", "-ec", move], cwd=out, check=True)
    ran(out, settings={})
    assert findings(out, code=0)


def test_a_pending_secret_is_a_failure_until_it_has_a_value(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings={**SETTINGS, "ORGANIZATION_NAME": ""})
    ((level, name, text),) = wrong(out)
    assert (level, name) == ("fail", "secret-pending")
    assert ".secrets/organization_name is empty or missing (Organization name)" in text
    (out / ".secrets/organization_name").write_text("Example")
    assert findings(out, code=0)


def test_an_incomplete_deployment_is_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert {(level, name) for level, name, _ in wrong(out)} == {("fail", "steps"), ("fail", "settings")}
    assert list(out.iterdir()) == []


def test_a_missing_state_is_reported_with_the_command_that_restores_it(out: Path) -> None:
    (out / STATE).unlink()
    (out / LAST_GOOD).unlink()
    level, name, text = wrong(out)[0]
    assert (level, name) == ("fail", "steps")
    assert f"{STATE} is missing from this deployment" in text
    assert "--restore ID" in text


def test_an_interrupted_restore_is_a_failure(tmp_path: Path) -> None:
    """Otherwise the stack would start with secrets of one deployment and files of another."""
    out = deployed(tmp_path / "out", settings={**REQUIRED, **every_secret()})
    oldest = half_restored(out)
    before = stamps(out)
    level, name, text = findings(out, code=3)[0]
    assert (level, name) == ("fail", "restoring")
    assert f"the restore of {oldest} was interrupted" in text
    assert f"--restore {oldest}" in text
    assert stamps(out) == before
    ran(out, "--restore", oldest, settings={})
    assert "restoring" not in [name for _, name, _ in findings(out)]


def test_a_failure_during_another_run_names_that_run(tmp_path: Path) -> None:
    """Its files may be incomplete, so nobody is told to run again."""
    out = deployed(tmp_path / "out", settings={**SETTINGS, "ORGANIZATION_NAME": ""})
    before = stamps(out)
    with holding(out / LOCK):
        for flags in ((), ("--json",)):
            done = ran(out, "--check", *flags, settings={}, code=4)
            assert "another run is working on this volume (process 4711 on elsewhere)" in done.stderr + done.stdout
            assert "secret-pending" not in done.stderr + done.stdout
    assert {path: one for path, one in stamps(out).items() if path != LOCK} == {
        path: one for path, one in before.items() if path != LOCK
    }
    assert [one[:2] for one in wrong(out)] == [("fail", "secret-pending")]


def test_a_self_signed_certificate_names_the_run_that_corrects_it(out: Path, tmp_path: Path) -> None:
    issue(out, 20, tmp_path)
    todo = {name: text for _, name, text in wrong(out)}
    assert "in 19 days: run avatar-setup --renew-certificate" in todo["certificate-dates"]
    edit(STATE, "value: avatar.example.com", "value: other.example.com")(out)
    todo = {name: text for _, name, text in wrong(out)}
    assert todo["certificate-names"].endswith(": run avatar-setup, which issues a new one")
    (out / CHAIN).write_bytes(pki.issue("avatar.example.com", pki.root(), lasts=(3, 90)).pem)
    todo = {name: text for _, name, text in wrong(out)}
    assert "check the clock" in todo["certificate-dates"]


def test_contradicting_settings_are_reported(out: Path) -> None:
    edit(STATE, "value: avatar.example.com", "value: http://avatar.example.com")(out)
    (found,) = [one for one in wrong(out) if one[1] == "settings"]
    assert "PUBLIC_URL says http://, but TLS_MODE=self-signed serves https" in found[2]


def test_files_of_another_owner_are_reported(out: Path) -> None:
    require_root()
    os.chown(out / "nginx/nginx.conf", 1234, 1234)
    ((level, name, text),) = wrong(out)
    assert (level, name) == ("warn", "file-owner")
    assert "sudo chown 0:0 nginx/nginx.conf" in text
    os.chown(out / ".env", 1234, 1234)
    assert [one[:2] for one in wrong(out)] == [("fail", "file-owner")]


def test_little_disk_space_is_reported(tmp_path: Path) -> None:
    require_root()
    prefix = (
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=4m tmpfs "$0" && cp -a "$1"/. "$0" && shift && exec "$@"',
    )
    small, whole = tmp_path / "out", deployed(tmp_path / "whole", settings=SETTINGS)
    small.mkdir()
    done = run(small, "--check", settings={}, prefix=(*prefix, str(small), str(whole)))
    assert re.search(
        r"^warn  disk-space: [123] MiB free on the volume\n      do: free some", done.stdout, re.MULTILINE
    ), done.stdout + done.stderr


def test_an_unreadable_directory_exits_with_1(out: Path, tmp_path: Path) -> None:
    (out / STATE).write_text("nonsense")
    assert "cannot be used" in ran(out, "--check", settings={}, code=1).stderr
    assert "cannot be opened" in ran(tmp_path / "nowhere", "--check", settings={}, code=1).stderr


# --- read-only -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_check_writes_nothing_and_takes_no_lock(out: Path, tmp_path: Path) -> None:
    require_strace()
    log = tmp_path / "trace"
    calls = "openat,open,creat,flock,mkdirat,mkdir,renameat,rename,renameat2,unlinkat,unlink,linkat,ftruncate,socket,connect"
    with holding(out / LOCK):
        before = stamps(out)
        tracing = ("strace", "-f", "-qq", "-o", str(log), "-e", f"trace={calls}")
        ran(out, "--check", prefix=tracing, settings={})
        assert stamps(out) == before
    asked = [line for line in log.read_text().splitlines() if str(out) in line or "AF_INET" in line]
    assert asked
    assert not [
        line for line in asked if "O_CREAT" in line or "O_WRONLY" in line or "O_RDWR" in line or "socket(" in line
    ]


def test_check_works_on_a_read_only_mount(out: Path) -> None:
    require_root()
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    done = run(out, "--check", settings={}, prefix=("unshare", "--mount", "sh", "-c", script, str(out)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_finding_shows_a_secret(tmp_path: Path) -> None:
    out = deployed(
        tmp_path / "out",
        settings=SETTINGS | {"SMTP_HOST": "mail.example.com", "SMTP_USERNAME": "a", "SMTP_PASSWORD": "hunter2 $x"},
    )
    (out / ".secrets/storage_encryption_key").write_text("tooshort-but-secret")
    (out / ".secrets/smtp_password").write_text("another-secret")
    edit(".env", "SSO_CLIENT_SECRET=", "SSO_CLIENT_SECRET=0")(out)
    texts = [
        text
        for name, text in secrets(out).items()
        if name not in ("organization_name", "db_name", "db_user", "admin_emails")
    ]
    for flags in ((), ("--json",)):
        done = ran(out, "--check", *flags, settings={}, code=3)
        for text in (*texts, "hunter2"):
            assert text not in done.stdout + done.stderr


# --- releases ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ({"POSTGRES_IMAGE": "postgres:14-alpine"}, ["postgres-old"]),
        ({"POSTGRES_IMAGE": "mirror.example:5000/postgres:13"}, ["postgres-old"]),
        ({"POSTGRES_IMAGE": "postgres:latest"}, []),
        ({"POSTGRES_IMAGE": "postgres:14", "DB_HOST": "pg.example.com", "DB_ADMIN_USER": "a", "DB_ADMIN_PASSWORD": "b"}, []),
        ({"AVATAR_SEAWEEDFS_VERSION": "4.9"}, ["doubtful-setting"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_release_that_is_too_old_is_a_warning(more: Mapping[str, str], warned: list[str], tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=SETTINGS | more)
    assert [name for level, name, _ in findings(out, code=0) if level == "warn"] == warned


def test_what_swarm_does_not_pass_on_is_named_with_the_line_for_the_daemon(tmp_path: Path) -> None:
    swarm = deployed(tmp_path / "swarm", settings=SETTINGS | {"TARGET": "swarm"})
    (shown,) = [
        text for level, name, text in findings(swarm, code=0) if name == "no-new-privileges" and level == "skip"
    ]
    assert "Swarm does not pass it on" in shown
    line = ran(swarm, "--check", settings={}).stdout.split("on every node, then restart")[1].splitlines()[1].strip()
    assert json.loads(f"{{{line}}}") == {"no-new-privileges": True}
    compose = deployed(tmp_path / "compose", settings=SETTINGS)
    assert "no-new-privileges" not in [name for _, name, _ in findings(compose, code=0)]


# --- documentation ------------------------------------------------------------------------------


def test_the_documentation_has_an_entry_for_each_finding_and_no_other() -> None:
    """The names of findings are read from the source."""
    made = set()
    for path in (ROOT / "setup").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                first = node.args[0] if node.args else None
                made |= {first.value} if isinstance(first, ast.Constant) else set()
    made |= {CERTIFICATE_FILE, KEY_FILE, PENDING, *(part.name for part in PARTS)}
    assert made == HEADINGS
