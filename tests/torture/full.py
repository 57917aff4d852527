"""Full disks: real tmpfs and ext4 volumes that run out of space or of inodes at every stage of a run.

The room that is left grows from nothing until a run succeeds; each run that fails is a case. It must say in one
message what to do, leave nothing torn, lost or staged, and finish once there is room.

    python -m tests.torture.full "ext4, no space, a reset"     tries again the sweeps whose names begin so
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import disks
from tests.torture.cases import CHANGE, FIRST, RESET, RESUME
from tests.torture.injection import Scene, as_undisturbed, completes, emptied, rehearsed, scratch, unharmed
from tests.torture.progress import counted
from tests.torture.result import Result

PAGE = os.sysconf("SC_PAGESIZE")
BLOCK = 1024
ENOUGH = 2000  # no run needs as many pages, blocks or inodes

Room = Callable[[], None]  # makes room


class Volume(NamedTuple):
    """A kind of volume: how it is filled but for so many units, and the steps in which these are tried."""

    fill: Callable[[Path, Path, int], contextlib.AbstractContextManager[Room]]
    step: int


@contextlib.contextmanager
def tmpfs_space(start: Path, point: Path, left: int) -> Iterator[Room]:
    """A tmpfs with a copy of `start` and so many pages left."""
    with _tmpfs(start, point) as size:
        used = size.f_blocks - size.f_bfree
        disks.remount(point, f"size={(used + left) * size.f_frsize}")
        yield lambda: disks.remount(point, "size=64m")


@contextlib.contextmanager
def tmpfs_inodes(start: Path, point: Path, left: int) -> Iterator[Room]:
    """A tmpfs with a copy of `start` and so many inodes left."""
    with _tmpfs(start, point) as size:
        disks.remount(point, f"nr_inodes={size.f_files - size.f_ffree + left}")
        yield lambda: disks.remount(point, "nr_inodes=9999")


@contextlib.contextmanager
def _tmpfs(start: Path, point: Path) -> Iterator[os.statvfs_result]:
    with disks.mounted("none", point, "-t", "tmpfs", "-o", "size=64m,nr_inodes=9999"):
        shutil.copytree(start, point / "out")
        (point / "ballast").write_bytes(bytes(PAGE))  # a size of nothing would mean no limit
        yield os.statvfs(point)


@contextlib.contextmanager
def ext4_space(start: Path, point: Path, left: int) -> Iterator[Room]:
    """An ext4 with a copy of `start` and about so many blocks left: it needs some itself as it goes."""
    with _ext4(start, point):
        ballast = os.open(point / "ballast", os.O_WRONLY | os.O_CREAT)
        try:
            for unit in (64 * BLOCK, BLOCK):
                with contextlib.suppress(OSError):
                    while True:
                        os.write(ballast, bytes(unit))
            os.fsync(ballast)
            os.ftruncate(ballast, max(0, os.fstat(ballast).st_size - left * BLOCK))
            os.fsync(ballast)
            yield lambda: os.ftruncate(ballast, 0)
        finally:
            os.close(ballast)


@contextlib.contextmanager
def ext4_inodes(start: Path, point: Path, left: int) -> Iterator[Room]:
    """An ext4 with a copy of `start` and so many inodes left."""
    with _ext4(start, point):
        ballast = point / "ballast"
        ballast.mkdir()
        made: list[Path] = []
        with contextlib.suppress(OSError):
            while True:
                made.append(ballast / str(len(made)))
                made[-1].touch()
        for path in made[-1 - left : -1]:
            path.unlink()
        yield lambda: shutil.rmtree(ballast)


@contextlib.contextmanager
def _ext4(start: Path, point: Path) -> Iterator[None]:
    options = ("-b", str(BLOCK), "-m", "0", "-N", "256")
    image = disks.made("ext4", point.with_suffix(".img"), *options)
    try:
        with disks.mounted(image, point, "-o", disks.OPTIONS["ext4"]):
            shutil.copytree(start, point / "out")
            yield
    finally:
        image.unlink()


VOLUMES = {
    "tmpfs, no space": Volume(tmpfs_space, 1),
    "tmpfs, no inodes": Volume(tmpfs_inodes, 1),
    "ext4, no space": Volume(ext4_space, 2),
    "ext4, no inodes": Volume(ext4_inodes, 1),
}
TRIED = (FIRST, CHANGE, RESET, RESUME)


def run(sample: bool) -> Result:
    """Tries every kind of volume with every case; a machine that cannot do it fails the layer."""
    try:
        cases, violations = _all(sample, "")
    except disks.Lacking as error:
        return Result(0, [f"full disks cannot be tried here: {error}"])
    return Result(cases, violations, "tmpfs and ext4, space and inodes; first run, change, reset, resume")


def _all(sample: bool, name: str) -> tuple[int, list[str]]:
    """How many runs failed in the sweeps whose names begin so, and what was wrong with them."""
    disks.require("strace", "mkfs.ext4", kinds=("ext4", "tmpfs"))
    with scratch() as folder, disks.workers() as pool:
        scenes = [rehearsed(case, folder) for case in TRIED]
        work = [(kind, scene) for scene in scenes for kind in VOLUMES if f"{kind}, {scene.case.name}".startswith(name)]
        tried = list(counted(pool.map(lambda one: _swept(*one, sample), work), len(work), "disk"))
    return sum(cases for cases, _ in tried), [text for _, texts in tried for text in texts]


def _swept(name: str, scene: Scene, sample: bool) -> tuple[int, list[str]]:
    """Leaves more and more room until a run succeeds; how many failed, and what was wrong with them."""
    where = scene.start.parent / name.replace(", ", "-").replace(" ", "-")
    cases, violations, left, succeeded = 0, [], 0, False
    while not succeeded:
        with VOLUMES[name].fill(scene.start, where, left) as make_room:
            succeeded, problems = _tried(scene, where / "out", make_room)
        cases += not succeeded
        if left > ENOUGH or not cases:
            problems.append("no run fails" if succeeded else "no run succeeds")
            succeeded = True
        if problems:
            violations.append(f"{name}, {scene.case.name}, {left} left: {'; '.join(problems[:5])}")
        left = max(1, 2 * left) if sample else left + VOLUMES[name].step
    return cases, violations


def _tried(scene: Scene, out: Path, make_room: Room) -> tuple[bool, list[str]]:
    """Whether a run succeeds as the volume is, and what is wrong: with how it failed, or with what comes after."""
    done = scene.again(out)
    if done.returncode == 0:
        return True, as_undisturbed(scene, out)
    problems = _told(done.returncode, done.stderr) + emptied(out) + unharmed(scene, out)
    make_room()
    return False, problems + completes(scene, out)


def _told(code: int, said: str) -> list[str]:
    """What is wrong with how a run failed: it must give one message, with the reason and the way on."""
    wanted = (os.strerror(errno.ENOSPC).lower(), "free some space", "df -i", "run the same command again")
    if code == 1 and said.count("\n") == 1 and all(words in said for words in wanted):
        return []
    return [f"it ended with {code} and said: {said}"]


if __name__ == "__main__":
    failed, wrong = _all(False, sys.argv[1])
    print(f"{failed} tried, {len(wrong)} violations", *wrong, sep="\n")
    sys.exit(1 if wrong else 0 if failed else 2)
