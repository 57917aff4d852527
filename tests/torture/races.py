"""Two runs at once: one works and the other names it, or they come one after the other; nothing is ever mixed.

python -m tests.torture.races "a status and a change, the first held at openat #202"     tries one again
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.support.runs import command, deployed, environment
from tests.support.runs import run as on_this_host
from tests.torture import boxes, cases
from tests.torture.injection import (
    DECISIVE,
    QUIET,
    Case,
    Point,
    Runner,
    Scene,
    Tree,
    differences,
    emptied,
    in_parallel,
    rehearsed,
    repeated,
    scratch,
    state_problems,
)
from tests.torture.result import Result, joined

BUSY = (
    r"avatar-setup: another run is working on this volume \((process \d+ on \S+|another run)\): wait for it to end.*\n"
)
PATIENCE = 60  # seconds for a run to get to its point; nothing is measured

_given = partial(deployed, settings=cases.GIVEN)
_other = {
    **cases.GIVEN,
    "PUBLIC_URL": "http://third.example.com:8080",
    "LOG_LEVEL": "DEBUG",
    "MAIL_PROVIDER": "smtp",
    "SMTP_HOST": "m.example.com",
}
FIRST_OTHER = Case("another first run", _other)
FIRST_GENERATED = Case("another first run without secrets", {**cases.GENERATED, "PUBLIC_URL": "third.example.com"})
CHANGE_OTHER = Case("another change", _other, prepared=_given)
UNCHANGED = Case("an unchanged run", cases.GIVEN, prepared=_given)
SMALL = Case("a small change", {"LOG_LEVEL": "DEBUG"}, prepared=_given)
SMALL_LATER = Case("a small change of it", {"LOG_LEVEL": "DEBUG"}, prepared=cases.changed_and_rotated, settled=True)
STATUS = Case("a status", {}, ("--status", "--json"), prepared=_given)

MEETINGS = (
    (cases.ALL_GIVEN, FIRST_OTHER),
    (cases.FIRST, FIRST_GENERATED),
    (cases.CHANGE, CHANGE_OTHER),
    (cases.RESET, CHANGE_OTHER),
    (UNCHANGED, cases.CHANGE),
    (cases.ROTATION, SMALL),
    (SMALL, cases.ROTATION),
    (cases.RESTORE, SMALL_LATER),
    (SMALL_LATER, cases.RESTORE),
    (cases.RESTORE, STATUS),
    (cases.ADOPTION, cases.ADOPTION),
    (cases.ADOPTION_IN_PLACE, cases.ADOPTION_IN_PLACE),
    (cases.ALL_GIVEN, STATUS),
    (STATUS, cases.ALL_GIVEN),
    (cases.CHANGE, STATUS),
    (STATUS, cases.CHANGE),
)


class Meeting(NamedTuple):
    """Two runs for one directory, and what it may hold in the end, by their exit codes."""

    first: Scene
    second: Scene
    start: Scene
    outcomes: Mapping[tuple[int, int], Sequence[Tree]]

    def __str__(self) -> str:
        return f"{self.first.case.name} and {self.second.case.name}"


class Held(NamedTuple):
    """The first run stands still as it enters a call, until the second has ended."""

    meeting: Meeting
    point: Point

    def __str__(self) -> str:
        return f"{self.meeting}, the first held at {self.point}"


class Delayed(NamedTuple):
    """Both runs at once, each delayed somewhere: the n-th uses of these calls, and by how long."""

    meeting: Meeting
    where: str
    runners: tuple[Runner, Runner]
    rules: tuple[str, str]

    def __str__(self) -> str:
        return f"{self.meeting}, {self.where}, {self.rules[0]} and {self.rules[1]}"


def run(sample: bool) -> Result:
    with scratch() as folder:
        meetings = _meetings(folder, MEETINGS)
        held = _holds(meetings)
        held = [race for number, race in enumerate(held) if not sample or number % 12 == 0 or _always(race)]
        parts = {"held on the host": Result(len(held), in_parallel(_held, held))}
        with boxes.box(folder) as one, boxes.box(folder) as other:
            here = {"between runs on the host": (on_this_host, on_this_host)}
            if one and other:
                here |= {
                    "between two containers": (one, other),
                    "between a container and the host": (one, on_this_host),
                }
            for where, runners in here.items():
                delayed = _delays(meetings, where, runners, 8 if sample else 100)
                parts[where] = Result(len(delayed), in_parallel(_delayed, delayed))
    return joined(parts)


def _meetings(folder: Path, pairs: Sequence[tuple[Case, Case]]) -> list[Meeting]:
    named = {case.name: case for pair in pairs for case in pair}
    scenes = {name: rehearsed(case, folder) for name, case in named.items()}
    return [_meeting(scenes[first.name], scenes[second.name]) for first, second in pairs]


def _meeting(first: Scene, second: Scene) -> Meeting:
    if second.case is STATUS:
        return Meeting(first, second, first, dict.fromkeys([(0, 0), (0, 3)], (first.after,)))
    if first.case is STATUS:
        return Meeting(first, second, second, dict.fromkeys([(0, 0), (3, 0)], (second.after,)))
    in_turn = (_after(first, second), _after(second, first))
    return Meeting(first, second, first, {(0, 0): in_turn, (0, 4): (first.after,), (4, 0): (second.after,)})


def _after(one: Scene, two: Scene) -> Tree:
    """What is there when two runs come one after the other."""
    with one._replace(start=one.whole).copy() as out:
        done = two.again(out)
        assert done.returncode == 0, done.stderr
        return two.view(out)


def _holds(meetings: Sequence[Meeting]) -> list[Held]:
    """Each meeting with some calls of each kind: its first ones, and some over the whole of the first run."""
    holds = []
    for meeting in meetings:
        for call in dict.fromkeys(point.call for point in meeting.first.points):
            points = [point for point in meeting.first.points if point.call == call]
            holds += [Held(meeting, point) for point in (*points[:2], *points[2 :: max(1, len(points) // 4)])]
    return holds


def _always(race: Held) -> bool:
    """Before the lock: what the other makes meanwhile is not somebody's edits, and a state that just came not lost."""
    at = (race.point.call, race.point.ours)
    return at == ("access", 1) or (race.meeting.first.case is STATUS and at == ("openat", 2))


def _held(race: Held) -> Iterator[str]:
    first, second, start, _ = race.meeting
    call, number = race.point.call, race.point.number
    with start.copy() as out:
        log = out.parent / "log"
        log.touch()
        stop = ("-e", f"trace={call}", "-e", f"inject={call}:signal=STOP:when={number}")
        words = ["strace", "-f", "-qq", "-s", "0", "-o", str(log), *stop, *command(out, *first.case.flags)]
        with subprocess.Popen(
            words,
            env=environment(first.case.settings),
            cwd=out.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as running:
            held = stopped(log, running)
            done = second.again(out)
            if held:
                os.kill(held, signal.SIGCONT)
            told, said = running.communicate(timeout=PATIENCE)
        ended = subprocess.CompletedProcess(words, running.returncode, told, said)
        yield from _judged(race.meeting, out, (ended, done))


def stopped(log: Path, running: subprocess.Popen[str]) -> int:
    """The process that strace has stopped; 0 when the run went by without coming there."""
    end = time.monotonic() + PATIENCE
    while running.poll() is None:
        found = re.search(r"^(\d+) +--- stopped by SIGSTOP", log.read_text(), re.M)
        if found:
            return int(found[1])
        assert time.monotonic() < end, "the first run neither stops nor ends"
        time.sleep(0.005)
    return 0


def _delays(meetings: Sequence[Meeting], where: str, runners: tuple[Runner, Runner], count: int) -> list[Delayed]:
    dice = random.Random(where)

    def rule(scene: Scene) -> str:
        decisive = [point for point in scene.points if point.call in (*DECISIVE, "access", "fsync", "write")]
        point = dice.choice(decisive or scene.points)  # what only looks has none of them
        when = dice.choice(("delay_enter", "delay_exit"))
        return f"{point.call}:{when}={dice.choice((20, 60, 120, 250))}ms:when={point.number}"

    chosen = [meetings[number % len(meetings)] for number in range(count)]
    return [Delayed(meeting, where, runners, (rule(meeting.first), rule(meeting.second))) for meeting in chosen]


def _delayed(race: Delayed) -> Iterator[str]:
    scenes = race.meeting[:2]
    with race.meeting.start.copy() as out, ThreadPoolExecutor(2) as pool:

        def one(scene: Scene, runner: Runner, rule: str) -> subprocess.CompletedProcess[str]:
            prefix = (*QUIET, "-e", f"trace={rule.partition(':')[0]}", "-e", f"inject={rule}")
            return scene._replace(run=runner).disturbed(out, *prefix)

        yield from _judged(race.meeting, out, tuple(pool.map(one, scenes, race.runners, race.rules)))


def _judged(meeting: Meeting, out: Path, ended: Sequence[subprocess.CompletedProcess[str]]) -> Iterator[str]:
    """Who got through decides what must be there; who did not has named the other, and gets through now."""
    codes = (ended[0].returncode, ended[1].returncode)
    if codes not in meeting.outcomes:
        yield f"they ended with {codes}: {ended[0].stderr}{ended[1].stderr}"
        return
    for one, scene in zip(ended, meeting[:2], strict=True):
        if scene.case is STATUS and '"steps"' not in one.stdout:
            yield f"there was no status: {one.stdout}"
        if one.returncode == 4 and not re.fullmatch(BUSY, one.stderr):
            yield f"it left with {one.stderr}"
    found = meeting.start.view(out)
    if found not in meeting.outcomes[codes]:
        yield f"{codes}: {', '.join(differences(found, meeting.outcomes[codes][0]))} are as neither would leave them"
    yield from (*emptied(out), *state_problems(out))
    if 4 in codes:
        last = codes.index(4)
        done = meeting[last].again(out)
        if done.returncode or meeting.start.view(out) != meeting.outcomes[0, 0][1 - last]:
            yield f"the other one's second try ended with {done.returncode}: {done.stderr}"


if __name__ == "__main__":
    with scratch() as place:
        begun = [pair for pair in MEETINGS if sys.argv[1].startswith(f"{pair[0].name} and {pair[1].name}")]
        sys.exit(repeated(_holds(_meetings(place, begun)), _held, sys.argv[1]))
