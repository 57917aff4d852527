"""Power cuts: a run is held at a file-system call, its file system loses the disk, and the journal is replayed.

Real ext4 (without `auto_da_alloc`, which hides missing fsyncs) and xfs in image files. The run is held as it leaves the
call; FS_IOC_SHUTDOWN then drops all that was not synced, or lets the journal out without the files' data, which is
what a missing fsync looks like. After that the image is mounted anew and judged, and the same command must finish.

    python -m tests.torture.power "xfs, a reset, cut after exit 0"     tries again the cuts whose names begin so
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import disks
from tests.support.runs import command, environment
from tests.torture.cases import ALL_GIVEN, CHANGE, CHANGE_AGAIN, FIRST, RESET, RESUME
from tests.torture.injection import Case, Point, Scene, as_undisturbed, completes, rehearsed, scratch, unharmed
from tests.torture.progress import counted
from tests.torture.result import Result

TRIED = (FIRST, ALL_GIVEN, CHANGE, RESET, RESUME, CHANGE_AGAIN)
POINTS = {True: 2, False: 52}  # of each case, file system and kind of cut


class Prepared(NamedTuple):
    """A case on a file system: how it runs in peace, and an image that holds what it starts from."""

    kind: str
    scene: Scene
    image: Path


class Cut(NamedTuple):
    """One power cut: as a run leaves a call, or after the run when there is none."""

    prepared: Prepared
    keeps: int
    point: Point | None

    def __str__(self) -> str:
        what = "the journal got out" if self.keeps == disks.JOURNAL else "nothing got out"
        return f"{self.prepared.kind}, {self.prepared.scene.case.name}, cut after {self.point or 'exit 0'}, {what}"


WORK = [(kind, case) for case in TRIED for kind in disks.OPTIONS]


def run(sample: bool) -> Result:
    """Tries the power cuts on all processors; a machine that cannot do it fails the layer."""
    try:
        cuts, violations = _swept(WORK, POINTS[sample], "")
    except disks.Lacking as error:
        return Result(0, [f"power cuts cannot be tried here: {error}"])
    return Result(len(cuts), violations, "ext4 and xfs; first run, change, reset, resume, recovery, after exit 0")


def _swept(work: Sequence[tuple[str, Case]], points: int, name: str) -> tuple[list[Cut], list[str]]:
    """Tries all cuts whose names begin so, and says what is wrong with each."""
    disks.require("strace", "mkfs.ext4", "mkfs.xfs", kinds=("ext4", "xfs"))
    with scratch() as folder, disks.workers() as pool:
        prepared = pool.map(lambda one: _prepare(folder / one[0], *one), work)
        cuts = [cut for one in prepared for cut in _cuts(one, points) if str(cut).startswith(name)]
        found = pool.map(lambda number: _judged(cuts[number], folder / str(number)), range(len(cuts)))
        return cuts, [
            f"{cut}: {'; '.join(texts[:5])}"
            for cut, texts in zip(cuts, counted(found, len(cuts)), strict=True)
            if texts
        ]


def _prepare(folder: Path, kind: str, case: Case) -> Prepared:
    """Runs a case undisturbed beside, and formats an image that holds what it starts from."""
    folder.mkdir(exist_ok=True)
    scene = rehearsed(case, folder)
    here = scene.start.parent
    image = disks.made(kind, here / "image")
    with disks.mounted(image, here / "mounted", "-o", disks.OPTIONS[kind]) as place:
        shutil.copytree(scene.start, place / "out")
    return Prepared(kind, scene, image)


def _cuts(prepared: Prepared, points: int) -> list[Cut]:
    """So many cuts of either kind, spread over the run and not at the same calls, and one after its end."""
    writing = [point for point in prepared.scene.points if point.writes]
    cuts = []
    for number, keeps in enumerate((disks.JOURNAL, disks.NOTHING)):
        step = len(writing) / points
        shift = step * (number + 2 * (prepared.kind == "xfs")) / 4
        chosen = [writing[int(shift + step * point)] for point in range(points)]
        cuts += [Cut(prepared, keeps, point) for point in (*chosen, None)]
    return cuts


def _judged(cut: Cut, folder: Path) -> list[str]:
    """As `_tried`; a cut that breaks off is wrong too, and leaves the others their turn."""
    try:
        return _tried(cut, folder)
    except disks.Lacking:
        raise
    except Exception as error:
        return [f"it broke off: {type(error).__name__}: {error}"]


def _tried(cut: Cut, folder: Path) -> list[str]:
    """Cuts the power, replays the journal, and says what is wrong."""
    folder.mkdir()
    scene, options = cut.prepared.scene, ("-o", disks.OPTIONS[cut.prepared.kind])
    image, place = disks.copied(cut.prepared.image, folder / "image"), folder / "mounted"
    out = place / "out"
    try:
        with disks.mounted(image, place, *options):
            problem = _lost(cut, place, out)
        if problem:
            return [problem]
        with disks.mounted(image, place, *options):
            return unharmed(scene, out) + completes(scene, out) if cut.point else as_undisturbed(scene, out)
    finally:
        image.unlink()


def _lost(cut: Cut, place: Path, out: Path) -> str:
    """Runs a case up to the cut, and cuts; says why if it does not come to that."""
    scene = cut.prepared.scene
    if cut.point is None:
        done = scene.again(out)
        if done.returncode:
            return f"ended with {done.returncode}: {done.stderr}"
        disks.cut(place, cut.keeps)
        return ""
    with _held(out, scene.case, cut.point) as problem:
        if not problem:
            disks.cut(place, cut.keeps)
        return problem


@contextlib.contextmanager
def _held(out: Path, case: Case, point: Point) -> Iterator[str]:
    """A run that is held after a system call, and killed at the end; says why if it cannot be."""
    ours, theirs = os.pipe()
    inject = f"inject={point.call}:delay_exit=60s:when={point.number}"
    words = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "0", "-o", f"/dev/fd/{theirs}"]
    words += ["-e", f"trace={point.call}", "-e", inject, *command(out, *case.flags)]
    with (
        open(ours) as log,
        subprocess.Popen(
            words,
            env=environment(case.settings),
            cwd=out.parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs,),
        ) as process,
    ):
        os.close(theirs)
        held = next((line for line in log if line.endswith("(DELAYED)\n")), "")
        try:
            yield "" if held else f"was not held, and ended with {process.wait()}"
        finally:
            if held:
                _end(int(held.split()[0]), process)


def _end(held: int, tracer: subprocess.Popen[bytes]) -> None:
    """Kills a run that a tracer holds, and returns when it has let go of its files."""
    descriptor = os.pidfd_open(held)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        tracer.kill()  # else it would hold the dead one until the end of the delay
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    begun = [(kind, case) for kind, case in WORK if sys.argv[1].startswith(f"{kind}, {case.name}, ")]
    again, wrong = _swept(begun, POINTS[False], sys.argv[1])
    print(f"{len(again)} tried, {len(wrong)} violations", *wrong, sep="\n")
    sys.exit(1 if wrong else 0 if again else 2)
