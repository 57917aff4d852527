"""Killed or stopped at any file-system call, also in the recovery, a run is mended by the same command.

python -m tests.torture.kills "a first run, KILL at renameat #7"     tries one again, as a violation names it
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from setup.volume.layout import RESTORE_MARK
from tests.support.runs import run as on_this_host
from tests.support.runs import tree
from tests.torture import boxes, cases, sessions
from tests.torture.injection import (
    QUIET,
    SAVED,
    Case,
    Point,
    Runner,
    Scene,
    changed,
    completes,
    differences,
    emptied,
    held,
    in_parallel,
    rehearsed,
    repeated,
    scratch,
    unharmed,
)
from tests.torture.result import Result, joined

CODES = {"KILL": -9, "TERM": 143, "INT": 130, "HUP": 143}
EVERY = ("KILL", "TERM", "INT")
SWEPT: Sequence[tuple[Case, tuple[str, ...]]] = (
    (cases.FIRST, EVERY),
    (cases.ALL_GIVEN, ("KILL",)),
    (cases.RESUME, EVERY),
    (cases.CHANGE, (*EVERY, "HUP")),
    (cases.TO_SWARM, ("KILL", "TERM")),
    (cases.TO_KUBERNETES, ("KILL",)),
    (cases.REPLACEMENT, ("KILL", "TERM")),
    (cases.TAKEN, ("KILL",)),
    (cases.EDITED, ("KILL",)),
    (cases.RESET, EVERY),
    (cases.OWN_CERTIFICATE, ("KILL",)),
    (cases.OWN_CHANGED, ("KILL",)),
    (cases.BY_HAND, ("KILL", "INT")),
    (cases.ROTATION, ("KILL", "INT")),
    (cases.RESTORE, ("KILL", "TERM")),
    (cases.ADOPTION, ("KILL",)),
    (cases.ADOPTION_IN_PLACE, ("KILL", "TERM")),
    *((case, ("KILL",)) for case in (cases.CHANGE_AGAIN, *cases.RECOVERIES)),
)
# In a container as well, where a run takes twice the time.
IN_A_BOX = (
    *((cases.FIRST, EVERY), (cases.CHANGE, EVERY)),
    *((case, ("KILL",)) for case in (cases.ROTATION, cases.RESTORE, cases.ADOPTION, cases.ADOPTION_IN_PLACE)),
)
# Of calls that only look, so few, and with signals that unwind: for SIGKILL they are like the next one that writes.
ONE_IN = {"close": 30, "newfstatat": 120, "openat": 120, "read": 120, "fcntl": 120}
PAIRS = 300  # killed, and killed once more in the recovery


class Kill(NamedTuple):
    """A signal as a run enters a call; with a second point, a SIGKILL in the run after it."""

    scene: Scene
    signal: str
    point: Point
    second: Point | None = None

    def __str__(self) -> str:
        again = f", KILL again at {self.second}" if self.second else ""
        return f"{self.scene.case.name}, {self.signal} at {self.point}{again}"


def run(sample: bool) -> Result:
    with scratch() as folder:
        parts = {"on the host": swept(folder, SWEPT, 45 if sample else 1)}
        with boxes.box(folder) as runner:
            where = folder / "box"
            parts["in a container"] = swept(where, IN_A_BOX, 60 if sample else 4, runner) if runner else boxes.NONE
    parts["in sessions"] = sessions.run(sample)
    return joined(parts)


def swept(
    folder: Path, what: Sequence[tuple[Case, tuple[str, ...]]], one_in: int, runner: Runner = on_this_host
) -> Result:
    """Tries every kill of these cases, or one in so many and those at which files appear."""
    kills = [kill for case, signals in what for kill in _kills(rehearsed(case, folder, runner), signals)]
    if runner is on_this_host:
        dice = random.Random(1)
        firsts = [kill for kill in kills if kill.signal == "KILL" and kill.point.writes]
        kills += [kill._replace(second=dice.choice(firsts).point) for kill in dice.choices(firsts, k=PAIRS)]
    chosen = [kill for number, kill in enumerate(kills) if number % one_in == 0 or _always(kill)]
    return Result(len(chosen), in_parallel(_killed, chosen))


def _kills(scene: Scene, signals: Sequence[str]) -> list[Kill]:
    decisive = [point for point in scene.worth_trying if point.writes]
    reads = [one for one in scene.worth_trying if not one.writes and one.ours % ONE_IN.get(one.call, 20) == 0]
    return [
        Kill(scene, signal, point)
        for signal in signals
        for point in (decisive if signal == "KILL" else [*decisive, *reads])
    ]


def _always(kill: Kill) -> bool:
    """The points at which the state and the files of a run appear."""
    return (kill.signal, kill.point.call, kill.second) == ("KILL", "renameat", None) and kill.point.ours % 5 == 1


def _killed(kill: Kill) -> Iterator[str]:
    scene, signal, point, second = kill
    with scene.copy() as out:
        ended = scene.disturbed(out, *_at(point, signal))
        end = "" if signal == "KILL" else SAVED
        if ended.returncode != CODES[signal] or ended.stderr not in (end, scene.told + end):
            yield f"it ended with {ended.returncode}: {ended.stderr}"
        if signal != "KILL":
            yield from emptied(out)
        yield from unharmed(scene, out)
        kept = held(out)
        if second:
            scene.disturbed(out, *_at(second, "KILL"))
            yield from (*unharmed(scene, out), *changed(scene, kept, out))
        if point.call == "renameat":
            yield from _status(scene, out)
        yield from completes(scene, out)


def _at(point: Point, signal: str) -> tuple[str, ...]:
    return (*QUIET, "-e", f"trace={point.call}", "-e", f"inject={point.call}:signal={signal}:when={point.number}")


def _status(scene: Scene, out: Path) -> list[str]:
    """`--status` answers, whatever was left, and changes nothing."""
    before = tree(out)
    told = scene.run(out, "--status", "--json", settings={})
    codes = (3,) if (out / RESTORE_MARK).exists() else (0, 3)
    if told.returncode not in codes or '"steps"' not in told.stdout:
        return [f"--status ended with {told.returncode}: {told.stderr}"]
    return [f"--status changed {path}" for path in differences(before, tree(out))]


if __name__ == "__main__":
    with scratch() as place:
        begun = [one for one in SWEPT if sys.argv[1].startswith(one[0].name)]
        again = [kill for case, signals in begun for kill in _kills(rehearsed(case, place), signals)]
        sys.exit(repeated(again, _killed, sys.argv[1]))
