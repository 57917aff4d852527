"""Power cuts: a run is held at a file-system call, its file system loses the disk, and the journal is replayed.

Real ext4 (without `auto_da_alloc`, which hides missing fsyncs) and xfs in image files. The run is held as it leaves the
call; FS_IOC_SHUTDOWN then drops all that was not synced, or lets the journal out without the files' data, which is
what a missing fsync looks like. After that the image is mounted anew and judged, and the same command must finish.

`run(sample, root=PATH)` tries the package below another root: with every fsync taken out of `setup/files.py` and
`setup/folders.py` it must report violations.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests import disks
from tests.support import ROOT, command, environment
from tests.support import run as started
from tests.torture.judging import SCENARIOS, Scenario, Undisturbed, memory, undisturbed
from tests.torture.result import Result

CALLS = "openat,write,fsync,linkat,renameat,unlinkat,mkdirat,fchmod,flock,ftruncate,pwrite64"
POINTS = {True: 2, False: 52}  # of each scenario, file system and kind of cut


class Prepared(NamedTuple):
    """A scenario on a file system: how it runs in peace, the calls it makes then, and an image to start from."""

    name: str
    kind: str
    whole: Undisturbed
    calls: list[tuple[str, int]]
    image: Path


class Case(NamedTuple):
    """One power cut: after the n-th use of a call, or after the run when there is none."""

    prepared: Prepared
    keeps: int
    call: tuple[str, int] | None

    def __str__(self) -> str:
        where = f"{self.call[0]} #{self.call[1]}" if self.call else "exit 0"
        what = "the journal got out" if self.keeps == disks.JOURNAL else "nothing got out"
        return f"{self.prepared.kind}, {self.prepared.name}, cut after {where}, {what}"


def run(sample: bool, root: Path = ROOT) -> Result:
    """Tries the power cuts on all processors; a machine that cannot do it fails the layer."""
    try:
        disks.require("strace", "mkfs.ext4", "mkfs.xfs", kinds=("ext4", "xfs"))
        with (
            tempfile.TemporaryDirectory(prefix="avatar-setup-power-", dir=memory()) as folder,
            ThreadPoolExecutor(os.cpu_count(), initializer=disks.private) as pool,
        ):
            work = [(name, kind) for name in SCENARIOS for kind in disks.OPTIONS]
            prepared = list(pool.map(lambda one: _prepare(Path(folder), *one, root), work))
            cases = [case for one in prepared for case in _cases(one, POINTS[sample])]
            found = pool.map(lambda number: _tried(cases[number], Path(folder, str(number)), root), range(len(cases)))
            violations = [f"{case}: {'; '.join(texts[:5])}" for case, texts in zip(cases, found, strict=True) if texts]
    except (disks.Lacking, RuntimeError) as error:  # the latter where a thread cannot have its own mounts
        return Result(0, [f"power cuts cannot be tried here: {error}"])
    return Result(len(cases), violations, "ext4 and xfs; first run, change, reset, resume, after exit 0")


def _prepare(folder: Path, name: str, kind: str, root: Path) -> Prepared:
    """Runs a scenario undisturbed beside, and formats an image that holds what it starts from."""
    here = folder / f"{kind} {name}"
    here.mkdir()
    log = here / "log"
    trace = ("strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", f"trace={CALLS}")
    whole = undisturbed(SCENARIOS[name], here, root, trace)
    image = disks.made(kind, here / "image")
    with disks.mounted(image, here / "mounted", "-o", disks.OPTIONS[kind]) as point:
        shutil.copytree(whole.start, point / "out")
    return Prepared(name, kind, whole, _calls(log.read_text(), str(here / "whole")), image)


def _calls(log: str, out: str) -> list[tuple[str, int]]:
    """The calls that change the volume, each with its number among all uses of that call, in their order."""
    used: dict[str, int] = {}
    found = []
    for line in log.splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)\) = (-?\d+)", line)
        if call:
            used[call[1]] = used.get(call[1], 0) + 1
            if out in line and not call[3].startswith("-") and (call[1] != "openat" or "O_CREAT" in line):
                found.append((call[1], used[call[1]]))
    return found


def _cases(prepared: Prepared, points: int) -> list[Case]:
    """So many cuts of either kind, spread over the run and not at the same calls, and one after its end."""
    cases = []
    for number, keeps in enumerate((disks.JOURNAL, disks.NOTHING)):
        step = len(prepared.calls) / points
        shift = step * (number + 2 * (prepared.kind == "xfs")) / 4
        chosen = [prepared.calls[int(shift + step * point)] for point in range(points)]
        cases += [Case(prepared, keeps, call) for call in (*chosen, None)]
    return cases


def _tried(case: Case, folder: Path, root: Path) -> list[str]:
    """Cuts the power, replays the journal, and says what is wrong."""
    folder.mkdir()
    prepared, scenario = case.prepared, case.prepared.whole.scenario
    image = disks.copied(prepared.image, folder / "image")
    options = ("-o", disks.OPTIONS[prepared.kind])
    point = folder / "mounted"
    try:
        with disks.mounted(image, point, *options):
            out = point / "out"
            if case.call is None:
                done = started(out, *scenario.flags, settings=scenario.settings, root=root)
                if done.returncode:
                    return [f"ended with {done.returncode}: {done.stderr}"]
                disks.cut(point, case.keeps)
            else:
                with _stopped(out, scenario, case.call, root) as problem:
                    if problem:
                        return [problem]
                    disks.cut(point, case.keeps)
        with disks.mounted(image, point, *options):
            if case.call is None:
                return prepared.whole.differences(out)
            return prepared.whole.judged(out) + prepared.whole.finished(out, root)
    finally:
        image.unlink()


@contextlib.contextmanager
def _stopped(out: Path, scenario: Scenario, call: tuple[str, int], root: Path) -> Iterator[str]:
    """A run that is held after a system call, and killed at the end; says why if it cannot be."""
    ours, theirs = os.pipe()
    inject = f"inject={call[0]}:delay_exit=60s:when={call[1]}"
    words = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "0", "-o", f"/dev/fd/{theirs}"]
    words += ["-e", f"trace={call[0]}", "-e", inject, *command(out, *scenario.flags)]
    with (
        open(ours) as log,
        subprocess.Popen(
            words,
            env=environment(scenario.settings, root),
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
            yield "" if held else f"was not stopped, and ended with {process.wait()}"
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
