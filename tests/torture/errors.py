"""A call on the volume fails, once or from then on: the run says so in one message, or completes all the same.

python -m tests.torture.errors "a reset, EIO at fsync #3"     tries one again, as a violation names it
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from setup.volume.layout import staged_name
from tests.support.runs import LAST_GOOD, LOCK, STATE
from tests.torture import cases
from tests.torture.injection import (
    QUIET,
    Point,
    Scene,
    as_undisturbed,
    completes,
    emptied,
    in_parallel,
    rehearsed,
    repeated,
    scratch,
    unharmed,
)
from tests.torture.result import Result

ERRNOS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENOMEM", "EMFILE", "EINTR")
SWEPT = (
    *(cases.FIRST, cases.CHANGE, cases.RESET, cases.RESUME, cases.CHANGE_AGAIN),
    *(cases.ROTATION, cases.RESTORE, cases.ADOPTION, cases.ADOPTION_IN_PLACE),
)
OFTEN = {cases.FIRST.name: 3}  # how many errors each of its points gets
EMPTYING = ("ftruncate", "pwrite64")  # the lock file; a holder's name that stays there holds nobody up
# There are hundreds of these in a run, and one is like the other.
ONE_IN = {"newfstatat": 25, "fcntl": 40, "close": 40, "openat": 8, "read": 12, "fadvise64": 8}


class Failure(NamedTuple):
    """An error of a system call; `sticky`: of every call of that name on the volume from there on."""

    scene: Scene
    point: Point
    errno: str
    sticky: bool

    def __str__(self) -> str:
        return f"{self.scene.case.name}, {self.errno} at {self.point}{' and after' if self.sticky else ''}"


def run(sample: bool) -> Result:
    with scratch() as folder:
        failures = [failure for case in SWEPT for failure in _failures(rehearsed(case, folder))]
        chosen = failures[:: 12 if sample else 1]
        return Result(len(chosen), in_parallel(_failed, chosen))


def _failures(scene: Scene) -> list[Failure]:
    """Every point with the next error of the nine, once and sticky in turn, so that each meets all kinds of call."""
    failures = []
    for call in dict.fromkeys(point.call for point in scene.points):
        points = [point for point in scene.worth_trying if point.call == call][:: ONE_IN.get(call, 1)]
        for number, point in enumerate(points * OFTEN.get(scene.case.name, 1)):
            failures.append(Failure(scene, point, ERRNOS[number % 9], sticky=number % 2 == 1))
    return failures


def _failed(failure: Failure) -> Iterator[str]:
    scene = failure.scene
    with scene.copy() as out:
        done = scene.disturbed(out, *QUIET, "--seccomp-bpf", *_rule(failure, out))
        yield from _told(done)
        yield from as_undisturbed(scene, out) if done.returncode == 0 else unharmed(scene, out)
        if not failure.sticky and failure.point.call not in EMPTYING:
            yield from set(emptied(out)) - set(emptied(scene.start))
        yield from completes(scene, out)


def _rule(failure: Failure, out: Path) -> Sequence[str]:
    """The injection: one call by its number, or by the paths of the volume all from one on."""
    call, errno, point = failure.point.call, failure.errno, failure.point
    if not failure.sticky:
        return ("-e", f"trace={call}", "-e", f"inject={call}:error={errno}:when={point.number}")
    when = f"{point.ours}..{point.ours + 5}" if errno == "EINTR" else f"{point.ours}+"  # which is asked again forever
    only = [word for path in _places(failure.scene, out) for word in ("-P", path)]
    return (*only, "-e", f"trace={call}", "-e", f"inject={call}:error={errno}:when={when}")


def _places(scene: Scene, out: Path) -> Iterator[str]:
    """Every path that the run may use, temporary names too."""
    yield str(out)
    for name in {*scene.before, *scene.after, STATE, LAST_GOOD, LOCK}:
        path = out / name
        yield from (str(path), str(path.with_name(staged_name(path.name))))


def _told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """A run that ends with an error ends with one message, and with a documented exit code."""
    said = [line for line in done.stderr.splitlines() if not line.startswith(("warning: ", "note: ", "  - "))]
    messages = [line for line in said if line.startswith("avatar-setup: ")]
    if (done.returncode, len(said), len(messages)) in ((0, 0, 0), (1, 1, 1), (4, 1, 1)):
        return []
    return [f"it ended with {done.returncode}: {done.stderr or 'no word'}"]


if __name__ == "__main__":
    with scratch() as place:
        begun = [case for case in SWEPT if sys.argv[1].startswith(case.name)]
        again = [failure for case in begun for failure in _failures(rehearsed(case, place))]
        sys.exit(repeated(again, _failed, sys.argv[1]))
