"""Each command as a process of its own, as an operator starts it; the other tests run it in their own process."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import foreign_trees
from tests.support.runs import DATED, REQUIRED, deployed, present, ran, run

OTHER = {**REQUIRED, "LOG_LEVEL": "DEBUG"}
COMMANDS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "help": (("--help",), {}),
    "version": (("--version",), {}),
    "wrong usage": (("--no-such-flag",), {}),
    "unchanged": ((), REQUIRED),
    "changed": ((), {**REQUIRED, "LOG_LEVEL": "WARNING"}),
    "refused": ((), {**REQUIRED, "LOG_LEVEL": "LOUD"}),
    "json": (("--json",), REQUIRED),
    "fill": (("--fill",), {}),
    "status": (("--status",), REQUIRED),
    "check": (("--check",), REQUIRED),
    "host-check": (("--host-check",), {}),
    "images": (("--images",), REQUIRED),
    "invite": (("--invite", "ada@example.com"), {}),
    "diff": (("--diff",), {**REQUIRED, "LOG_LEVEL": "WARNING"}),
    "history": (("--history",), REQUIRED),
    "restore": (("--restore", "ID", "--yes"), {}),
    "rotate": (("--rotate", "db_password", "--yes"), {"DB_PASSWORD": "another one"}),
    "export": (("--export", "-"), {}),
    "reset": (("--reset",), REQUIRED),
}
CODES = {"wrong usage": 2, "refused": 1, "fill": 1, "check": 3, "diff": 3}  # the others succeed


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment with a backup."""
    out = deployed(tmp_path_factory.mktemp("start") / "out")
    ran(out, settings=OTHER)
    return out


def output(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    """What a run says, without times, names of backups (a second one of a second ends in -2) and free disk space."""
    now = r"\d{8}T\d{6}Z(?:-\d+)?|\d{4}-\d\d-\d\d \d\d:\d\d|\d+ MiB"
    stdout, stderr = (re.sub(now, "NOW", text) for text in (done.stdout, done.stderr))
    return done.returncode, stdout, stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_process_of_its_own_does_and_says_the_same(start: Path, name: str, tmp_path: Path) -> None:
    flags, settings = COMMANDS[name]
    (backup,) = (path.name for path in (start / DATED).iterdir())
    words = [backup if word == "ID" else word for word in flags]
    found = []
    for real in (False, True):
        out = shutil.copytree(start, tmp_path / "out", symlinks=True)
        done = run(out, *words, settings=settings, real=real)
        found.append((output(done), present(out).keys()))
        shutil.rmtree(out)
    assert found[0] == found[1]
    assert found[0][0][0] == CODES.get(name, 0), found[0][0][2]


def test_an_adoption_as_a_process_of_its_own(tmp_path: Path) -> None:
    foreign_trees.by_hand(tmp_path / "old")
    (tmp_path / "out").mkdir()
    ran(tmp_path / "out", "--adopt", "old", "--yes", settings={}, real=True)
