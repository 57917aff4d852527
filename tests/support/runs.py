"""What the tests of the state, the files and the runs share: real runs in real directories, and looks at them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from setup.config.secrets import SECRETS
from tests.support import in_process

ROOT = Path(__file__).resolve().parents[2]
STATE = ".deployment-state.yaml"
LAST_GOOD = f"{STATE}.bak"
DATED = ".deployment-history"  # how the paths of dated copies begin
WRITTEN = ".deployment-written"
LOCK = ".deployment-state.lock"
LABEL_KEY = ".deployment-labels.key"
MARKS = re.compile(rb"(avatar-setup[.]\w+: \"|applies it again: |basis:\n(?:  .*\n)*?  secrets: )'?[0-9a-f]{16}'?")
STAGED = ".avatar-setup-new"
SITE_PACKAGES = str(Path(pytest.__file__).resolve().parent.parent)

STEPS = (
    "collect_required_config",
    "collect_optional_config",
    "generate_env_file",
    "generate_nginx_config",
    "generate_secrets",
    "prompt_user_secrets",
    "finalize",
)

REQUIRED = {
    "PUBLIC_URL": "avatar.example.com",
    "ENV_NAME": "example-prod",
    "SMTP_HOST": "mail.example.com",
    "SMTP_USERNAME": "avatar",
}

# What only an operator can know for the configuration above.
OPERATORS = {
    "ORGANIZATION_NAME": "Example",
    "SMTP_PASSWORD": "mail secret $key #1",
}


def every_secret() -> dict[str, str]:
    """A value for every secret of the catalogue, as environment variables, so that nothing is left to chance."""
    values = {name.upper(): f"value-of-{name.replace('_', '-')}" for name in SECRETS}
    values["STORAGE_ENCRYPTION_KEY"] = "0123456789abcdef" * 4
    values["ADMIN_EMAILS"] = "ada@example.com,grace@example.com"
    values["FILE_ENCRYPTION_KEY"] = "A" * 43 + "="
    return values | OPERATORS


def environment(settings: Mapping[str, str] | None = None, root: Path = ROOT) -> dict[str, str]:
    """A small environment of its own for a run: the settings, and nothing of this machine's."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "error",
        **(REQUIRED if settings is None else settings),
    }


def command(out: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "setup", "--output-dir", str(out), *flags]


def run(
    out: Path,
    *flags: str,
    settings: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    root: Path = ROOT,
    umask: int = -1,
    real: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the command line without a terminal; its working directory is the output's parent.

    It runs in the process of the tests, except if `real` is given, or if that would show or harm the tests.
    """
    environ = environment(settings, root)
    if not (real or prefix or umask != -1 or root != ROOT) and in_process.is_possible(out, environ):
        return in_process.run(command(out, *flags)[3:], environ, out.parent)
    return subprocess.run(
        [*prefix, *command(out, *flags)],
        env=environ,
        cwd=out.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        umask=umask,
        timeout=120,
        check=False,
    )


def ran(out: Path, *flags: str, code: int = 0, **options: object) -> subprocess.CompletedProcess[str]:
    """A run that must end with this exit code."""
    done = run(out, *flags, **options)  # type: ignore[arg-type]
    assert done.returncode == code, f"exit {done.returncode}, wanted {code}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr + done.stdout
    return done


def python(code: str, *arguments: str, cwd: Path, settings: Mapping[str, str] | None = None, exit_code: int = 0) -> str:
    """What a Python process of its own prints; it has the package, and no terminal."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(settings),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == exit_code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# --- looking at a volume ------------------------------------------------------------------------


def paths(out: Path) -> list[Path]:
    """Everything below a directory, sorted, links not followed."""
    found = []
    for folder, folders, names in os.walk(out):
        found += [Path(folder, name) for name in (*folders, *names)]
    return sorted(found)


def tree(out: Path) -> dict[str, tuple[str, bytes]]:
    """Path -> mode and bytes of everything below a directory."""
    found = {}
    for path in paths(out):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path.relative_to(out))] = (oct(status.st_mode), data)
    return found


def stamps(out: Path) -> dict[str, tuple[int, ...]]:
    """Path -> all that a write would change: inode, mode, size, and the times of change; the directory's too."""
    found = {}
    for path in (out, *paths(out)):
        status = path.lstat()
        found[str(path.relative_to(out))] = (
            status.st_ino,
            status.st_mode,
            status.st_nlink,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
    return found


def rewritten(before: Mapping[str, tuple[int, ...]], after: Mapping[str, tuple[int, ...]]) -> set[str]:
    """The files that were made or replaced between two looks, by inode and time; without directories and copies."""
    return {
        path
        for path, status in after.items()
        if not stat.S_ISDIR(status[1])
        and (status[0], status[4]) != before.get(path, (0,) * 6)[0:5:4]
        and not path.startswith((DATED, WRITTEN))
    } - {LOCK}


def present(out: Path) -> dict[str, tuple[str, bytes]]:
    """The tree without the dated copies of how it was."""
    return {path: one for path, one in tree(out).items() if not path.startswith(DATED)}


def secrets(out: Path) -> dict[str, str]:
    """Name -> text of every secret file that is not empty."""
    folder = out / ".secrets"
    files = folder.iterdir() if folder.is_dir() else ()
    return {path.name: path.read_text() for path in files if not path.name.endswith(STAGED) and path.stat().st_size}


def env_file(out: Path) -> dict[str, str]:
    """The lines of `.env` as they were written, quotes included."""
    lines = (out / ".env").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines if line and not line.startswith("#"))


def leftovers(out: Path) -> list[str]:
    """Staged files that nobody removed."""
    return [str(path) for path in paths(out) if path.name.endswith(STAGED)]


def without_marks(found: Mapping[str, tuple[str, bytes]]) -> dict[str, tuple[str, bytes]]:
    """A tree with the random key of the labels, all that follows it, and every hash of a file replaced by a name."""
    hashes = {hashlib.sha256(data).hexdigest().encode(): f"<{path}>".encode() for path, (_, data) in found.items()}
    plain = {}
    for path, (mode, data) in found.items():
        named = data if not path.startswith(STATE) else _replaced(data, hashes)
        plain[path] = mode, b"<key>" if path == LABEL_KEY else MARKS.sub(rb"\1<mark>", named)
    return plain


def by_meaning(out: Path) -> dict[str, tuple[str, bytes]]:
    """The tree with every secret's text, every hash of a file, and what follows the random key replaced by a name.

    So two deployments with different generated secrets compare equal exactly when they differ in
    nothing else, and a `.env` that does not hold the secrets of its own tree shows.
    """
    found = {path: one for path, one in tree(out).items() if not path.startswith(DATED)}
    named = {text.encode(): f"<{name}>".encode() for name, text in secrets(out).items() if len(text) > 12}
    return {
        path: (mode, data if path.startswith(STATE) else _replaced(data, named))
        for path, (mode, data) in without_marks(found).items()
    }


def _replaced(data: bytes, names: Mapping[bytes, bytes]) -> bytes:
    for text, name in names.items():
        data = data.replace(text, name)
    return data


@functools.cache
def _made(settings: tuple[tuple[str, str], ...], flags: tuple[str, ...]) -> Path:
    folder = tempfile.mkdtemp(prefix="avatar-setup-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    out = Path(folder, "out")
    out.mkdir()
    ran(out, *flags, settings=dict(settings))
    return out


def deployed(to: Path, *flags: str, settings: Mapping[str, str] | None = None) -> Path:
    """A complete deployment in a directory of its own: made once by a real run, then copied with its modes."""
    made = _made(tuple((REQUIRED if settings is None else settings).items()), flags)
    shutil.copytree(made, to, symlinks=True)
    return to


# --- what a machine may lack --------------------------------------------------------------------


def lacking(reason: str) -> None:
    """Skips a test for want of a program, or fails it where everything was promised to be there."""
    if os.environ.get("AVATAR_REQUIRE_DOCKER") == "1":
        pytest.fail(f"AVATAR_REQUIRE_DOCKER=1, but {reason}")
    pytest.skip(reason)


@functools.cache
def _strace_works() -> bool:
    program = shutil.which("strace")
    return bool(program) and subprocess.run([program, "-qq", "-o", os.devnull, "true"], check=False).returncode == 0


def require_strace() -> None:
    if not _strace_works():
        lacking("strace is missing or may not trace here (apt-get install strace)")


def require_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can change its user and make files of other owners")
    if not (shutil.which("setpriv") and shutil.which("unshare")):
        lacking("setpriv or unshare is missing (apt-get install util-linux)")


@contextlib.contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Another process holds a lock on this file."""
    code = (
        "import fcntl, os, sys\n"
        "lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "os.pwrite(lock, b'process 4711 on elsewhere\\n', 0)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
        "os.ftruncate(lock, 0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait()
