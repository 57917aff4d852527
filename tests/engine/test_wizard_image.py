"""Interactive sessions in the built image: `docker run -it`, stopped, closed, and with half a terminal."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import ROOT, docker, environment, unique, until
from tests.support.runs import STATE, by_meaning, secrets
from tests.support.terminal import CTRL_C, CTRL_D, MASKED, PASSWORD, Terminal, walk
from tests.terminal.test_leaving import SAVED, leave_everywhere

pytestmark = pytest.mark.docker

IMAGE = os.environ.get("AVATAR_IMAGE", "avatar-setup")


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    """The image that AVATAR_IMAGE names, else that of this checkout."""
    if "AVATAR_IMAGE" not in os.environ:
        docker("build", "-q", "-t", IMAGE, ROOT, timeout=900)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "avatar"
    path.mkdir()
    return path


@pytest.fixture
def name() -> Iterator[str]:
    """A container's name; what bears it at the end is removed."""
    chosen = unique("wizard")
    yield chosen
    docker("rm", "-f", chosen, check=False)


def session(volume: Path | str, *options: str, flags: tuple[str, ...] = (), columns: int = 80) -> Terminal:
    words = ["docker", "run", "--rm", *options, "-v", f"{volume}:/out", IMAGE, *flags]
    return Terminal(words, {**environment(), "TERM": "xterm"}, columns=columns)


def host_name_of(volume: Path) -> str:
    """What a session may call this directory: its path, where it lies on the file system of Docker's own data."""
    engine = Path(docker("info", "-f", "{{.DockerRootDir}}").stdout.decode().strip())
    same = engine == Path("/var/lib/docker") and engine.stat().st_dev == volume.stat().st_dev == Path("/").stat().st_dev
    return str(volume) if same else "the directory that is mounted at /out"


def test_a_whole_session_names_the_hosts_directory_and_keeps_passwords_out_of_the_logs(out: Path, name: str) -> None:
    out = out.rename(out.parent / "it's our $place")
    words = ["docker", "run", "-it", "--name", name, "-v", f"{out}:/out", IMAGE]
    with Terminal(words, {**environment(), "TERM": "xterm"}, columns=200) as terminal:
        walk(terminal)
        assert terminal.ends() == 0
        shown = terminal.screen.text()
        recorded = terminal.raw
    logs = docker("logs", name).stdout.decode()
    assert "Database user name" in logs
    assert not [secret for secret in MASKED if secret in logs or secret in recorded]
    assert secrets(out)["smtp_password"] == PASSWORD
    assert "✓ 9/10 secrets provided" in shown
    known = host_name_of(out)
    assert f"Next, on the host, in {known}, put those files there, then:" in shown
    if known == str(out):
        status = next(line for line in shown.splitlines() if line.endswith("--status"))
        words = ["sh", "-c", status.replace(" avatar-setup ", f" {IMAGE} ")]
        done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
        assert (done.returncode, "7/7 steps completed" in done.stdout) == (0, True)


def test_a_named_volume_is_told_by_its_mount_point(name: str) -> None:
    docker("volume", "create", name)
    try:
        with session(name, "-it", columns=150) as terminal:
            walk(terminal)
            assert terminal.ends() == 0
        mount = docker("volume", "inspect", "-f", "{{.Mountpoint}}", name).stdout.decode().strip()
        known = mount if mount.startswith("/var/lib/docker/") else "the directory that is mounted at /out"
        assert f"Next, on the host, in {known}, put those files there, then:" in terminal.screen.text()
    finally:
        docker("volume", "rm", "-f", name, check=False)


def test_left_at_every_question_and_resumed(out: Path, tmp_path: Path) -> None:
    """`docker stop`, a closed terminal (docker passes its SIGHUP on), Ctrl-C and Ctrl-D in turn."""
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    with session(undisturbed, "-it") as terminal:
        questions = walk(terminal)
        assert terminal.ends() == 0
    numbers = itertools.count()
    names: list[str] = []

    def begin() -> Terminal:
        names.append(unique(f"left{next(numbers)}"))
        return session(out, "-it", "--name", names[-1])

    def leave(terminal: Terminal, way: str) -> None:
        if way == "a closed terminal":
            terminal.hang_up()  # the client ends with 1 when a last word comes too late for its terminal
            past = ("events", "--since", "5m", "--until", "0s", "-f", f"container={names[-1]}", "-f", "event=die")
            code = ("--format", '{{index .Actor.Attributes "exitCode"}}')
            until("the container has ended with 143", lambda: docker(*past, *code).stdout == b"143\n")
            return
        if way == "docker stop":
            docker("stop", "--time", "5", names[-1])  # after which it would be killed, and end with 137
        else:
            terminal.keys(way)
        assert terminal.ends() == (143 if way == "docker stop" else 130)
        assert SAVED in terminal.screen.text()
        assert "Traceback" not in terminal.raw

    ways = ("docker stop", "a closed terminal", CTRL_C, CTRL_D)
    assert leave_everywhere(out, ways, begin, leave) == questions
    assert by_meaning(out) == by_meaning(undisturbed)


def test_a_client_that_is_killed_leaves_a_container_that_the_next_run_names(out: Path, name: str) -> None:
    with session(out, "-it", "--name", name, flags=("--plain",)) as terminal:
        walk(terminal, "Environment name")
        terminal.signal(9)
        terminal.ends()
    with session(out, "-it", columns=200) as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.answer("c")
        assert terminal.ends() == 4
        command = terminal.screen.text().partition("or stop it (")[2].partition(")")[0]
    assert command.startswith("docker stop ")
    docker(*command.split()[1:])
    with session(out, "-it") as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.answer("c")
        terminal.asks("mycompany-prod): ")
        terminal.keys(CTRL_C)
        assert terminal.ends() == 130


def test_t_without_i_shows_the_question_and_is_left_with_ctrl_c(out: Path) -> None:
    with session(out, "-t") as terminal:
        terminal.until(lambda: "Public URL (domain name" in terminal.raw, "the first question")
        terminal.keys(CTRL_C)
        assert terminal.ends() == 130
        assert SAVED in terminal.screen.text()
    assert not (out / STATE).exists()


def test_i_without_t_asks_nothing_and_reads_nothing(out: Path) -> None:
    words = ["docker", "run", "--rm", "-i", "-v", f"{out}:/out", IMAGE]
    done = subprocess.run(
        words, env=environment(), input=b"avatar.example.com\nprod\n", capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"PUBLIC_URL is missing" in done.stderr and b"ENV_NAME is missing" in done.stderr
    assert done.stdout == b""
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(("options", "flags"), [(("-e", "TERM=dumb"), ()), ((), ("--plain",))])
def test_line_by_line(out: Path, options: tuple[str, ...], flags: tuple[str, ...]) -> None:
    with session(out, "-it", *options, flags=flags) as terminal:
        walk(terminal)
        assert terminal.ends() == 0
        assert "\x1b" not in terminal.raw
        assert not [secret for secret in MASKED if secret in terminal.raw]
    assert secrets(out)["smtp_password"] == PASSWORD


def test_the_first_command_of_the_readme(tmp_path: Path) -> None:
    """`docker compose run` in a project with this image and an empty directory."""
    document = (ROOT / "compose.yaml").read_text().replace("build: .\n", "")
    document = document.replace("image: avatar-setup", f"image: {IMAGE}").replace(
        "name: avatar-setup", f"name: {unique('run')}"
    )
    (tmp_path / "compose.yaml").write_text(document)
    (tmp_path / "avatar").mkdir()
    os.chown(tmp_path / "avatar", 1234, 5678)
    words = ["docker", "compose", "run", "--rm", "setup"]
    with Terminal(words, {**environment(), "TERM": "xterm"}, cwd=tmp_path) as terminal:
        walk(terminal)
        assert terminal.ends() == 0
        assert "✓ 9/10 secrets provided" in terminal.screen.text()
    assert secrets(tmp_path / "avatar")["smtp_password"] == PASSWORD
    assert (tmp_path / "avatar" / ".env").stat().st_uid == 1234


def test_hardened_as_another_user(out: Path) -> None:
    os.chown(out, 1234, 1234)
    options = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
    with session(out, "-it", *options, "--user", "1234:1234") as terminal:
        walk(terminal)
        assert terminal.ends() == 0
    assert {path.stat().st_uid for path in out.rglob("*")} == {1234}
