"""The built image on a real engine, used as its operators use it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from setup.deploy.planner import program_basis
from tests.support.documents import read_yaml
from tests.support.engine import IMAGE, ROOT, docker, environment, image, unique

pytestmark = pytest.mark.docker

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
SETTINGS = ("-e", "PUBLIC_URL=avatar.example.com", "-e", "ENV_NAME=example-prod", "-e", "SMTP_HOST=mail.example.com")


@pytest.fixture(scope="module", autouse=True)
def image_of_this_checkout() -> None:
    image()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A directory that belongs to an ordinary user, as an operator makes it."""
    path = tmp_path / "avatar"
    path.mkdir()
    os.chown(path, 1234, 5678)
    return path


def run(
    out: Path, *words: str, options: tuple[str, ...] = (), check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    return docker("run", "--rm", "-v", f"{out}:/out", *options, IMAGE, *words, check=check)


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stdout + done.stderr).decode()


def tree(out: Path) -> dict[str, tuple[int, int, int, str, int]]:
    """Every path with its mode, owner, contents' hash and time of change."""
    found = {}
    for path in sorted(out.rglob("*")):
        status = path.lstat()
        contents = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(out))] = (status.st_mode, status.st_uid, status.st_gid, contents, status.st_mtime_ns)
    return found


# --- the commands of the README --------------------------------------------------------------------------


def test_a_run_from_the_environment_a_second_one_and_the_status(out: Path, tmp_path: Path) -> None:
    password = tmp_path / "smtp-password"
    password.write_text("hunter2 $x\n")
    password.chmod(0o600)
    options = (*SETTINGS, "-v", f"{password}:/run/secrets/smtp:ro", "-e", "SMTP_HOST=mail.example.com")
    options += ("-e", "SMTP_USERNAME=avatar", "-e", "SMTP_PASSWORD_FILE=/run/secrets/smtp")
    first = run(out, options=options)
    assert "-it --rm -v" in said(first) and "avatar-setup --fill" in said(first)
    assert "docker compose up" not in said(first), "it would be refused"
    assert "(owner 1234:5678)" in said(first)
    assert ".secrets/organization_name" in said(first), "what is pending is named"
    assert "hunter2" not in said(first)
    assert (out / ".secrets/smtp_password").read_text() == "hunter2 $x"
    assert {(uid, gid) for _, uid, gid, _, _ in tree(out).values()} == {(1234, 5678)}
    assert stat.S_IMODE((out / ".env").stat().st_mode) == 0o600

    before = tree(out)
    second = run(out, options=options)
    assert "Nothing to do" in said(second)
    assert tree(out) == before

    status = run(out, "--status")
    assert "7/7 steps completed" in said(status)
    assert tree(out) == before
    data = json.loads(run(out, "--status", "--json").stdout)
    assert data["complete"] is True
    assert data["ready"] is False
    assert data["pending_secrets"] == ["organization_name"]


def test_the_status_of_an_empty_directory_exits_3_and_writes_nothing(out: Path) -> None:
    done = run(out, "--status", check=False)
    assert done.returncode == 3
    assert "0/7 steps completed" in said(done)
    assert list(out.iterdir()) == []


def test_missing_settings_are_all_named_without_a_terminal(out: Path) -> None:
    """stdin stays open and is never read."""
    command = ["docker", "run", "--rm", "-i", "-v", f"{out}:/out", IMAGE]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.wait(timeout=60) == 1
        text = process.stderr.read().decode()
    assert "PUBLIC_URL" in text
    assert "ENV_NAME" in text
    assert "--set" in text
    assert list(out.iterdir()) == []


# --- whose files ------------------------------------------------------------------------------------------


def test_it_runs_hardened_as_any_user(tmp_path: Path) -> None:
    path = tmp_path / "avatar"
    path.mkdir()
    os.chown(path, 1234, 1234)
    run(path, options=(*HARDENED, "--user", "1234:1234", *SETTINGS))
    assert {uid for _, uid, _, _, _ in tree(path).values()} == {1234}


def test_root_becomes_the_owner_with_two_capabilities(out: Path) -> None:
    run(out, options=(*HARDENED, "--cap-add", "SETUID", "--cap-add", "SETGID", *SETTINGS))
    assert {(uid, gid) for _, uid, gid, _, _ in tree(out).values()} == {(1234, 5678)}


def test_root_without_capabilities_says_the_command_with_user(out: Path) -> None:
    done = run(out, options=(*HARDENED, *SETTINGS), check=False)
    assert done.returncode == 1
    assert "--user 1234:5678" in said(done)
    assert list(out.iterdir()) == []


def test_puid_and_pgid_override_the_owner(out: Path) -> None:
    out.chmod(0o777)
    run(out, options=("-e", "PUID=4321", "-e", "PGID=8765", *SETTINGS))
    assert {(uid, gid) for _, uid, gid, _, _ in tree(out).values()} == {(4321, 8765)}


def test_a_directory_of_roots_stays_roots(tmp_path: Path) -> None:
    path = tmp_path / "avatar"
    path.mkdir()
    ready = ("-e", "TLS_MODE=off", "-e", "ORGANIZATION_NAME=Example", "-e", "ADMIN_EMAILS=ada@example.com")
    done = run(path, options=(*SETTINGS, "-e", "SMTP_HOST=mail.example.com", *ready))
    assert {uid for _, uid, _, _, _ in tree(path).values()} == {0}
    assert "sudo docker compose up -d" in said(done)


@pytest.mark.parametrize("user", ["0:0", "1234:1234"])
def test_a_fresh_named_volume_is_usable_by_any_user(user: str) -> None:
    name = unique("volume")
    try:
        docker("run", "--rm", "-v", f"{name}:/out", "--user", user, *SETTINGS, IMAGE)
        done = docker("run", "--rm", "-v", f"{name}:/out", "--user", user, IMAGE, "--status")
        assert "7/7 steps completed" in said(done)
    finally:
        docker("volume", "rm", "-f", name, check=False)


# --- volumes that will not do --------------------------------------------------------------------------------


def test_no_volume_is_said_before_anything_else() -> None:
    done = docker("run", "--rm", IMAGE, check=False)
    assert done.returncode == 1
    assert "-v /app/avatar:/out" in said(done)
    assert "PUBLIC_URL" not in said(done)


def test_a_read_only_volume_is_said_with_what_to_type(out: Path) -> None:
    done = docker("run", "--rm", "-v", f"{out}:/out:ro", *SETTINGS, IMAGE, check=False)
    assert done.returncode == 1
    assert ":ro" in said(done)


def test_a_foreign_volume_is_said_with_the_user_to_run_as(out: Path) -> None:
    out.chmod(0o755)
    done = run(out, options=("--user", "999:999", *SETTINGS), check=False)
    assert done.returncode == 1
    assert "--user 1234:5678" in said(done)


# --- as a program ------------------------------------------------------------------------------------------


def test_flags_go_to_the_configurator_and_commands_run_as_given() -> None:
    assert said(docker("run", "--rm", IMAGE, "--version")).startswith("avatar-setup ")
    assert said(docker("run", "--rm", IMAGE, "python3", "-c", "print(6 * 7)")) == "42\n"
    assert said(docker("run", "--rm", IMAGE, "sh", "-c", "exit 0")) == ""


@pytest.mark.parametrize("program", ["pip", "pip3", "apt-get", "dpkg", "gcc", "cc", "perl"])
def test_no_package_manager_or_compiler_is_in_the_image(program: str) -> None:
    done = docker("run", "--rm", IMAGE, "sh", "-c", f"command -v {program}", check=False)
    assert done.returncode == 127 or done.stdout == b""


def test_its_yaml_is_parsed_by_libyaml() -> None:
    """PyYAML falls back to its slow parser without a word when its library does not load."""
    program = "import yaml; print(yaml.__with_libyaml__)"
    assert said(docker("run", "--rm", IMAGE, "python3", "-c", program)) == "True\n"


def test_the_image_and_the_checkout_agree_on_the_program_they_are(out: Path) -> None:
    """The digests that the build leaves are those that a run from the checkout computes."""
    run(out, options=SETTINGS)
    basis = read_yaml((out / ".deployment-state.yaml").read_text())["basis"]
    computed = program_basis(str(ROOT / "templates"), str(ROOT / "setup"))
    assert computed.keys() == {"program", "templates"}
    assert {part: basis[part] for part in computed} == computed


def test_the_image_says_what_it_is_and_declares_no_volume() -> None:
    config = json.loads(docker("image", "inspect", IMAGE).stdout)[0]["Config"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "avatar-setup"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == said(docker("run", "--rm", IMAGE, "--version")).split()[1]
    assert not config.get("Volumes")


def test_the_image_is_at_most_66_mb() -> None:
    assert int(docker("image", "inspect", "-f", "{{.Size}}", IMAGE).stdout) <= 66_000_000


# --- stopped at any moment ------------------------------------------------------------------------------------


@pytest.fixture
def at_a_question(out: Path) -> Iterator[str]:
    """A container that waits at its first question."""
    name = unique("stop")
    docker("run", "-dit", "--name", name, "-v", f"{out}:/out", "-e", "TERM=xterm", IMAGE)
    try:
        end = time.monotonic() + 60
        while b"Required Settings" not in docker("logs", name).stdout:  # logs hold whole lines only
            assert time.monotonic() < end, docker("logs", name).stdout
            time.sleep(0.1)
        yield name
    finally:
        docker("rm", "-f", name, check=False)


def test_docker_stop_at_a_question_ends_it_at_once_with_143(at_a_question: str) -> None:
    """`--time` is what the engine waits before it kills: a kill would show as 137."""
    docker("stop", "--time", "5", at_a_question)
    assert docker("wait", at_a_question).stdout.strip() == b"143"
    assert b"Progress saved" in docker("logs", at_a_question).stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_run_from_the_environment_and_the_next_one_completes_it(out: Path, number: int) -> None:
    """The signal comes as soon as the lock file shows that the run is writing."""
    name = unique("signal")
    docker("run", "-d", "--name", name, "-v", f"{out}:/out", *SETTINGS, IMAGE)
    try:
        while not (out / ".deployment-state.lock").exists():
            time.sleep(0.001)
        docker("kill", "--signal", str(int(number)), name, check=False)  # it may have ended by now
        code = docker("wait", name).stdout.strip()
        assert code in (b"0", b"130" if number == signal.SIGINT else b"143")
    finally:
        docker("rm", "-f", name, check=False)
    assert not list(out.rglob("*.avatar-setup-new"))
    run(out, options=SETTINGS)
    assert "7/7 steps completed" in said(run(out, "--status"))


# --- compose -------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """The project's compose file in a directory of its own, with the image that is there."""
    document = (ROOT / "compose.yaml").read_text().replace("build: .", f"build: {ROOT}")
    (tmp_path / "compose.yaml").write_text(document.replace("name: avatar-setup", f"name: {unique('compose')}"))
    (tmp_path / "avatar").mkdir()
    os.chown(tmp_path / "avatar", 1234, 5678)
    yield tmp_path
    docker("compose", "down", "-v", "--remove-orphans", cwd=tmp_path, check=False)


def test_compose_run_and_compose_up_configure_from_the_environment(project: Path) -> None:
    (project / ".env").write_text(
        "PUBLIC_URL=avatar.example.com\nENV_NAME=example-prod\nSMTP_HOST=mail.example.com\nLOG_LEVEL=DEBUG\n"
    )
    docker("compose", "run", "--rm", "-T", "setup", cwd=project)
    assert "LOG_LEVEL=DEBUG" in (project / "avatar/.env").read_text()
    assert {uid for _, uid, _, _, _ in tree(project / "avatar").values()} == {1234}
    up = docker("compose", "up", "--exit-code-from", "setup", "setup", cwd=project)
    assert "Nothing to do" in said(up)


def test_the_documented_init_service_lets_another_service_wait_for_it(tmp_path: Path) -> None:
    document = (ROOT / "docs/install/init-service.compose.yaml").read_text()
    (tmp_path / "compose.yaml").write_text(document)
    (tmp_path / "smtp-password").write_text("hunter2")
    (tmp_path / "avatar").mkdir()
    os.chown(tmp_path / "avatar", 1234, 5678)
    project = unique("init")
    compose = ("compose", "-p", project)
    try:
        done = docker(*compose, "up", "--exit-code-from", "announce", "announce", cwd=tmp_path)
        assert "configured for avatar.example.com" in said(done)
        (tmp_path / "compose.yaml").write_text(document.replace("PUBLIC_URL: avatar", "PUBLIC_URL: not/avatar"))
        broken = docker(*compose, "up", "--exit-code-from", "announce", "announce", cwd=tmp_path, check=False)
        assert broken.returncode != 0
        assert "configured for" not in said(broken)
    finally:
        docker(*compose, "down", "-v", cwd=tmp_path, check=False)


def test_the_documentation_shows_the_init_service_that_is_tested() -> None:
    text = (ROOT / "docs/install/automated.md").read_text()
    assert (ROOT / "docs/install/init-service.compose.yaml").read_text().partition("services:")[2] in text


# --- certificates ------------------------------------------------------------------------------------------


def test_it_makes_a_certificate_hardened_and_keeps_it(out: Path) -> None:
    """`cryptography` stands here without symbols and without cffi's compiler: both ways of a certificate are tried."""
    options = (*HARDENED, "--cap-add", "SETUID", "--cap-add", "SETGID", *SETTINGS, "-e", "TLS_MODE=self-signed")
    first = run(out, options=options)
    assert "tls/avatar-ca.crt" in said(first)
    chain, authority = out / "tls/server.fullchain.crt", out / "tls/avatar-ca.crt"
    verify = [
        "openssl",
        "verify",
        "-x509_strict",
        "-verify_hostname",
        "avatar.example.com",
        "-CAfile",
        authority,
        chain,
    ]
    subprocess.run(verify, check=True, capture_output=True)
    before = tree(out)
    assert {owner[1:3] for owner in before.values()} == {(1234, 5678)}
    assert "Nothing to do" in said(run(out, options=options))
    assert tree(out) == before
    renewed = run(out, "--renew-certificate", options=options)
    assert "tls/server.fullchain.crt is renewed" in said(renewed)
    subprocess.run(verify, check=True, capture_output=True)


# --- the check ---------------------------------------------------------------------------------------------


def test_the_check_runs_hardened_on_a_read_only_mount_as_any_reader(out: Path) -> None:
    run(out, options=(*SETTINGS, "-e", "TLS_MODE=self-signed"))
    before = tree(out)
    done = docker(
        "run", "--rm", "-v", f"{out}:/out:ro", *HARDENED, "--user", "1234:5678", IMAGE, "--check", check=False
    )
    assert done.returncode == 3
    assert "fail  secret-pending: .secrets/organization_name" in said(done)
    assert "ok    certificate-names: tls/server.fullchain.crt covers avatar.example.com" in said(done)
    assert "ok    file-modes: owner 1234:5678 and file permissions are correct" in said(done)
    assert tree(out) == before
    online = docker(
        "run", "--rm", "-v", f"{out}:/out:ro", "--network", "none", IMAGE, "--check", "--online", check=False
    )
    assert "fail  public-name: avatar.example.com does not resolve here" in said(online)


def test_the_preflight_service_ends_with_3_while_a_secret_is_pending_and_then_with_0(out: Path) -> None:
    """As generated, by compose; it is run alone, as its dependents are others' matter."""
    given = ("ADMIN_EMAILS=a@example.com",)
    said_so = [word for one in (*given, "TLS_MODE=self-signed", f"PREFLIGHT_IMAGE={IMAGE}") for word in ("-e", one)]
    run(out, options=(*SETTINGS, *said_so))
    compose = ("compose", "-p", unique("preflight"))
    up = (*compose, "up", "--exit-code-from", "preflight", "preflight")
    try:
        blocked = docker(*up, cwd=out, check=False)
        assert blocked.returncode == 3
        assert "secret-pending: .secrets/organization_name is empty" in said(blocked)
        (out / ".secrets/organization_name").write_text("Example")
        run(out)
        before = tree(out)
        passed = docker(*up, cwd=out, check=False)
        assert passed.returncode == 0, said(passed)
        assert "Ready: the stack can start" in said(passed)
        assert tree(out) == before
    finally:
        docker(*compose, "down", "-v", cwd=out, check=False)
