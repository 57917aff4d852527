"""No secret shows to the machine a run works on: its processes, its files at any moment, its core dumps.

What another user gets to see meanwhile: `test_nobody_reads_along_at_any_moment` in test_volumes.py.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from setup.config.secrets import SECRETS
from tests.support.canaries import BY_MAIL, Canary, canaries, environment, seen
from tests.support.runs import WRITTEN, command, lacking, ran, require_strace, secrets
from tests.support.runs import environment as small_environment

KEY, KEYS = "PRIVATE KEY-----", {"tls/private/avatar-ca.key", "tls/private/server.decrypted.key"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def traced(out: Path, log: Path, calls: str) -> tuple[str, ...]:
    require_strace()
    return ("strace", "-f", "-qq", "-y", "-s", "100000", "-o", str(log), "-e", f"trace={calls}")


# --- processes ------------------------------------------------------------------------------------------


def test_no_other_program_is_started_and_no_argument_holds_a_secret(out: Path, tmp_path: Path) -> None:
    """Every execve and every change of a process's title, from the first instruction to the last."""
    wanted = canaries()
    log = tmp_path / "trace"
    ran(out, prefix=traced(out, log, "execve,execveat,prctl"), settings=BY_MAIL | environment(wanted))
    lines = log.read_text().splitlines()
    started = [line for line in lines if "execve" in line and line.endswith("= 0")]
    assert len(started) == 1
    assert "--output-dir" in started[0]
    assert seen("\n".join(lines), wanted) == set()
    assert set(secrets(out)) >= {"db_password", "smtp_password"}


# --- files, at every moment --------------------------------------------------------------------------------


class Writes:
    """What a trace says of every file below a directory: the secrets it was given, and whether others could open it.

    Could at any moment, also before it held anything: who has opened it then can read what is written later.
    """

    def __init__(self, top: Path, umask: int, wanted: dict[str, Canary]) -> None:
        self.top = str(top)
        self.umask = umask
        self.wanted = wanted
        self.modes: dict[str, int] = {}
        self.held: dict[str, set[str]] = {}
        self.open: set[str] = set()

    def read(self, line: str) -> None:
        """Takes one line in."""
        call = re.match(r"\d+ +(\w+)\((.*)\) += \d+", line)
        if not call:
            return
        name, arguments = call.groups()
        by_name = name in ("openat", "mkdirat", "fchmodat", "renameat", "renameat2", "linkat")
        pairs = re.findall(r'\d+<([^>]*)>, "([^"]*)"' if by_name else r"^\d+<([^>]*)>()", arguments)
        paths = [os.path.normpath(os.path.join(folder, name)) for folder, name in pairs]
        if not all(path.startswith(f"{self.top}/") for path in paths) or not paths:
            return
        path = paths[-1]
        if name == "mkdirat" or "O_CREAT" in arguments:
            self.modes[path] = int(arguments.rpartition(", ")[2], 8) & ~self.umask
            self.open.discard(path)
        elif name in ("fchmod", "fchmodat"):
            self.modes[path] = int(re.findall(r", (0[0-7]*)", arguments)[-1], 8)
        elif name in ("write", "pwrite64"):
            self.held.setdefault(path, set()).update(seen(arguments, self.wanted))
        elif len(paths) == 2:  # a file gets another name
            self.modes[path], self.held[path] = self.modes[paths[0]], set(self.held.get(paths[0], ()))
            self.open = self.open - {path} | ({path} if paths[0] in self.open else set())
        if self.modes.get(path, 0) & 0o077 and self.modes.get(os.path.dirname(path), 0o777) & 0o077:
            self.open.add(path)


@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_file_that_ever_holds_a_secret_is_private_from_its_first_moment(
    out: Path, tmp_path: Path, umask: int
) -> None:
    """Mode 0600, or below a folder of 0700: when it is made, when it is written, when it gets its name."""
    wanted = canaries()
    settings = BY_MAIL | {"TLS_MODE": "self-signed"} | environment(wanted)
    wanted["private key"] = Canary(KEY, KEY)
    log = tmp_path / "trace"
    calls = "openat,mkdirat,write,pwrite64,renameat,renameat2,linkat,fchmod,fchmodat,sendfile,copy_file_range"
    ran(out, "--save-config", prefix=traced(out, log, calls), settings=settings, umask=umask)
    writes = Writes(out, umask, wanted)
    for line in log.read_text().splitlines():
        writes.read(line)
    assert writes.open & {path for path, names in writes.held.items() if names} == set()
    assert f"{out}/nginx/nginx.conf" in writes.open, "what is public was seen to be"
    holding = {os.path.relpath(path, out): names for path, names in writes.held.items() if names}
    final = {path: names for path, names in holding.items() if not path.endswith(".avatar-setup-new")}
    assert {path for path, names in final.items() if "private key" in names} == KEYS
    shown = {name for name, secret in SECRETS.items() if secret.shown}
    assert final.pop(".env") == final.pop(f"{WRITTEN}/.env") == shown, "what stands in .env was seen being written"
    assert final == {f".secrets/{name}": {name} for name in secrets(out)} | {path: {"private key"} for path in KEYS}
    assert "sendfile" not in log.read_text() and "copy_file_range" not in log.read_text()


# --- core dumps --------------------------------------------------------------------------------------------

CRASH = "inject=fsync:signal=SEGV:when={}"
# A program that does nothing about it.
CARELESS = "import os; held = os.environ['DB_PASSWORD'] * 2; os.fsync(os.open('.', os.O_RDONLY))"


def cores(words: list[str], folder: Path, settings: dict[str, str], *injected: str) -> list[bytes]:
    """The core dumps of a process that the kernel kills for a wild pointer, where no limit keeps it from dumping."""
    require_strace()
    tracer = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=fsync,prlimit64"]
    tracer += [word for one in injected for word in ("-e", one)]
    unlimited = f'ulimit -c unlimited && cd "{folder}" && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", unlimited, "sh", *tracer, *words], env=small_environment(settings), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGSEGV
    return [path.read_bytes() for path in folder.glob("core*")]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory into which this machine's kernel writes core dumps."""
    wanted = canaries()
    folder = tmp_path / "careless"
    folder.mkdir()
    found = cores([sys.executable, "-c", CARELESS], folder, environment(wanted), CRASH.format(1))
    if not found:
        lacking("the kernel writes no core dump into the working directory (/proc/sys/kernel/core_pattern)")
    assert "db_password" in seen(b"".join(found), wanted), "a dump holds what the program held"
    return tmp_path


@pytest.mark.parametrize("when", [1, 12, 40])
def test_a_crash_leaves_no_core_dump(here: Path, out: Path, when: int) -> None:
    settings = BY_MAIL | environment(canaries())
    assert cores(command(out), here, settings, CRASH.format(when)) == []


def test_a_core_dump_that_is_taken_all_the_same_holds_no_secret(here: Path, out: Path) -> None:
    """As by a crash reporter, to which the kernel hands the dump whatever the limit says: here nothing sets it."""
    wanted = canaries()
    found = cores(
        command(out), here, BY_MAIL | environment(wanted), "inject=prlimit64:retval=0:when=2+", CRASH.format(12)
    )
    assert len(found) == 1
    assert found[0].startswith(b"\x7fELF")
    assert seen(found[0], wanted) == set()
