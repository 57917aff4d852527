"""Runs in a container: this checkout's image with strace added, with Docker's default confinement."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from tests.conftest import REQUIRED, missing_docker
from tests.support.engine import ROOT, container, docker, environment
from tests.support.runs import REQUIRED as SETTINGS
from tests.torture.injection import Runner
from tests.torture.result import Result

HERE = Path(__file__).resolve().parent
NONE = Result(0, [], "there is no engine")
KILLED = 137  # what docker says of a command that SIGKILL ended


@cache
def image() -> str:
    """The image under tags of our own, so that no other run's build changes it on the way."""
    docker("build", "-q", "-t", "avatar-torture", ROOT, timeout=900)
    docker("build", "-q", "-t", "avatar-torture-strace", "--build-arg", "BASE=avatar-torture", HERE, timeout=900)
    return "avatar-torture-strace"


@contextlib.contextmanager
def box(folder: Path) -> Iterator[Runner | None]:
    """Runs in a container that has this folder, under the same name; None without an engine, if none was promised."""
    if missing_docker():
        assert not REQUIRED, f"AVATAR_REQUIRE_DOCKER=1, but {missing_docker()}"
        yield None
        return
    waiting = ("--entrypoint", "python3", "-v", f"{folder}:{folder}", "--network", "none")
    with container(image(), "-c", "import signal; signal.pause()", options=waiting) as name:

        def run(
            out: Path, *flags: str, settings: Mapping[str, str] | None = None, prefix: tuple[str, ...] = ()
        ) -> subprocess.CompletedProcess[str]:
            given = SETTINGS if settings is None else settings
            words = [word for key, text in given.items() for word in ("-e", f"{key}={text}")]
            program = ("avatar-setup", "--output-dir", str(out), *flags)
            done = subprocess.run(
                ["docker", "exec", "-w", str(out.parent), *words, name, *prefix, *program],
                env=environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                timeout=120,
                check=False,
            )
            if done.returncode == KILLED:
                done.returncode = -9
            return done

        yield run
