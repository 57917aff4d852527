"""Run the command line in the process of the tests: what a run costs is then its work, not the start of Python.

Descriptors 0 to 2, the environment, the working directory, the arguments, the umask and the signal handlers are those
of a fresh process while it runs, and the test's own afterwards.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from setup.cli import main

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCONT, signal.SIGALRM)
LIMIT = 120  # seconds
USUAL = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS")  # the same for every run
CHANGING = ("PUID", "PGID")  # change the user of the process


def is_possible(out: Path, environ: Mapping[str, str]) -> bool:
    """Tell whether a run leaves the tests' process as it is, and sees what a process of its own would see.

    A run as root becomes the owner of its volume, for good. Python reads variables of its own at its start. Threads
    would share what a run changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if any(name in CHANGING or (name.startswith(("PYTHON", "LC_")) and name not in USUAL) for name in environ):
        return False
    if environ.get("LANG") != "C.UTF-8" or environ.get("PYTHONPATH") != str(ROOT):
        return False
    try:
        status = out.stat()
    except OSError:
        return True  # there is no owner to become
    return os.geteuid() != 0 or (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def run(arguments: Sequence[str], environ: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line without a terminal, as a process of its own with this environment would."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        with _process(arguments, environ, cwd), _streams(stdout, stderr):
            try:
                code = int(main(arguments, os.environ))
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
        words = [sys.executable, "-m", "setup", *arguments]
        return subprocess.CompletedProcess(words, code, _text(stdout), _text(stderr))


@contextlib.contextmanager
def _process(arguments: Sequence[str], environ: Mapping[str, str], cwd: Path) -> Iterator[None]:
    """Make everything but the streams that of a process of its own; then undo that."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before, argv, folder, umask = dict(os.environ), sys.argv, os.open(".", os.O_PATH | os.O_DIRECTORY), os.umask(0)
    os.umask(umask)
    os.chdir(cwd)
    _set_environment(environ)
    sys.argv = [str(ROOT / "setup" / "__main__.py"), *arguments]
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.argv = argv
        _set_environment(before)
        os.fchdir(folder)
        os.close(folder)
        os.umask(umask)


def _set_environment(environ: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)


def _too_long(_number: int, _frame: FrameType | None) -> None:
    # The command line reports every `Exception` as an internal error; this one passes it by.
    raise SystemExit(f"the run took more than {LIMIT} seconds")


@contextlib.contextmanager
def _streams(stdout: IO[bytes], stderr: IO[bytes]) -> Iterator[None]:
    """Put these files, and nothing to read, in the place of the standard streams, the descriptors included."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    objects, descriptors = (sys.stdin, sys.stdout, sys.stderr), [os.dup(number) for number in range(3)]
    with open(os.devnull, "rb") as nothing:
        for number, file in enumerate((nothing, stdout, stderr)):
            os.dup2(file.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = (_stream(number) for number in range(3))
    try:
        yield
    finally:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.close()  # the descriptor stays
        sys.stdin, sys.stdout, sys.stderr = objects
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _stream(number: int) -> io.TextIOWrapper:
    return open(number, "w" if number else "r", encoding="utf-8", closefd=False)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")
