"""Killed at any of its file-system events and started again, a run completes as if nothing had happened.

Real runs under strace, which kills them as they enter a system call. By default every event that
publishes, locks or removes is tried, and a sample of the others; AVATAR_TORTURE=1 tries all of them.
"""

from __future__ import annotations

import functools
import os
import random
import re
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support import (
    DATED,
    LOCK,
    OPERATORS,
    REQUIRED,
    STATE,
    by_meaning,
    deployed,
    every_secret,
    leftovers,
    require_strace,
    run,
    secrets,
    tree,
)

TORTURE = os.environ.get("AVATAR_TORTURE") == "1"

# Calls that change what others see, and calls of which a sample tells as much as all.
DECISIVE = ("renameat", "linkat", "mkdirat", "fchmod", "flock", "ftruncate", "pwrite64")
MANY = ("openat", "write", "fsync", "unlinkat")
EVERY = 1 if TORTURE else 5  # of those

GENERATED = {**REQUIRED, "ORGANIZATION_NAME": "Example"}
GIVEN = {**REQUIRED, **every_secret()}


class Case:
    """A run that gets interrupted: where it starts, its command, and the tree it makes undisturbed."""

    def __init__(self, settings: Mapping[str, str], *flags: str, prepared: Callable[[Path], object] = Path.mkdir):
        self.settings = settings
        self.flags = flags
        self.prepared = prepared

    def undisturbed(self, out: Path) -> dict[str, list[bool]]:
        """Makes the tree, and returns for each system call which of its uses concern the volume."""
        self.prepared(out)
        log = out.parent / "trace"
        calls = ",".join((*DECISIVE, *MANY))
        done = run(
            out,
            *self.flags,
            settings=self.settings,
            prefix=("strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", f"trace={calls}"),
        )
        assert done.returncode == 0, done.stderr
        used: dict[str, list[bool]] = {}
        for line in log.read_text().splitlines():
            call = re.match(r"\d+ +(\w+)\(", line)
            if call:
                writes = str(out) in line and (call[1] != "openat" or "O_CREAT" in line)
                used.setdefault(call[1], []).append(writes)
        return used

    def killed(self, out: Path, call: str, number: int, signal: str = "KILL") -> subprocess.CompletedProcess[str]:
        """The same run, ended by a signal as it enters a system call."""
        only = ("-e", f"trace={call}", "-e", f"inject={call}:signal={signal}:when={number}")
        prefix = ("strace", "-f", "-qq", "-o", os.devnull, *only)
        return run(out, *self.flags, settings=self.settings, prefix=prefix)

    def again(self, out: Path) -> subprocess.CompletedProcess[str]:
        return run(out, *self.flags, settings=self.settings)


def points(used: Mapping[str, list[bool]]) -> list[tuple[str, int]]:
    """The events at which to interrupt: the n-th use of a system call."""
    chosen = []
    for call, uses in used.items():
        ours = [number for number, concerns in enumerate(uses, 1) if concerns]
        every = EVERY if call in MANY and len(ours) > 2 * EVERY else 1
        chosen += [(call, number) for number in ours[::every]]
    return chosen


def in_parallel(check: Callable[[Path, tuple[str, int]], list[str]], chosen: list[tuple[str, int]]) -> list[str]:
    """What is wrong after each interruption, tried on all processors."""

    def one(point: tuple[str, int]) -> list[str]:
        with TemporaryDirectory(prefix="avatar-setup-crash-") as folder:
            return [f"{point[0]} #{point[1]}: {problem}" for problem in check(Path(folder, "out"), point)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [problem for problems in pool.map(one, chosen) for problem in problems]


def differences(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """The paths that two trees do not have in common."""
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def comparable(found: Mapping[str, object]) -> dict[str, object]:
    """A tree without the dated copies that a reset keeps, and without what a killed holder wrote into the lock."""
    return {path: one for path, one in found.items() if not path.startswith(DATED) and path != LOCK}


def judged(case: Case, out: Path, kept: Mapping[str, str], expected: Mapping[str, object], exact: bool) -> list[str]:
    """Runs the same command again, and says what is not as in the undisturbed tree."""
    again = case.again(out)
    if again.returncode != 0:
        return [f"the next run ended with {again.returncode}: {again.stderr}"]
    now = secrets(out)
    problems = [f"the secret {name} changed" for name in kept if not exact and now.get(name) != kept[name]]
    found = comparable(tree(out) if exact else by_meaning(out))
    problems += [f"{path} differs from the undisturbed run's" for path in differences(found, expected)]
    return problems + [f"{path} was left staged" for path in leftovers(out)]


def torn(out: Path, before: Mapping[str, tuple[str, bytes]], after: Mapping[str, tuple[str, bytes]]) -> list[str]:
    """The files that are neither as before the run nor as after it; the state and the lock tell where it stopped."""
    files = {path: one for path, one in tree(out).items() if not path.startswith((STATE, LOCK)) and one[1]}
    return [
        f"{path} is torn"
        for path, one in files.items()
        if one not in (before.get(path), after.get(path)) and not path.endswith(".avatar-setup-new")
    ]


CASES = {
    "a first run": Case(GENERATED),
    "a first run with every secret given": Case(GIVEN, "--save-config"),
    "a run with changed settings": Case(
        {**GIVEN, "PUBLIC_URL": "other.example.com", "ORGANIZATION_NAME": "Other", "AUTH_TYPE": "username"},
        prepared=functools.partial(deployed, settings=GIVEN),
    ),
    "a reset": Case({**GIVEN, "LOG_LEVEL": "DEBUG"}, "--reset", prepared=functools.partial(deployed, settings=GIVEN)),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_anywhere_and_started_again_a_run_completes(name: str, tmp_path: Path) -> None:
    require_strace()
    case = CASES[name]
    exact = case.settings is not GENERATED
    whole = tmp_path / "whole" / "out"
    whole.parent.mkdir()
    chosen = points(case.undisturbed(whole))
    expected = comparable(tree(whole) if exact else by_meaning(whole))
    start = tmp_path / "start"
    case.prepared(start)
    before, after = tree(start), tree(whole)
    assert {call for call, _ in chosen} >= {"renameat", "openat", "fsync", "flock"}
    if case.settings is GIVEN and not TORTURE:
        chosen = chosen[::3]  # the same events as of a first run; what differs is that every byte is compared

    def check(out: Path, point: tuple[str, int]) -> list[str]:
        case.prepared(out)
        killed = case.killed(out, *point)
        if killed.returncode != -9:
            return [f"was not killed ({killed.returncode}): {killed.stderr}"]
        problems = torn(out, before, after) if exact else []
        if name == "a reset" and not any(one == before[STATE] for one in states(out)):
            problems.append("the old state is gone")
        problems += judged(case, out, secrets(out), expected, exact)
        if name == "a reset" and not any(one == before[STATE] for one in states(out)):
            problems.append("the old state is gone after the second run")
        return problems

    def states(out: Path) -> list[tuple[str, bytes]]:
        return [one for path, one in tree(out).items() if path.startswith(STATE) and "avatar-setup-new" not in path]

    problems = in_parallel(check, chosen)
    assert problems == [], f"{len(problems)} problems after {len(chosen)} interruptions"
    assert len(chosen) > 25


def test_killed_again_in_the_recovery_a_run_still_completes(tmp_path: Path) -> None:
    require_strace()
    case = CASES["a first run"]
    whole = tmp_path / "whole"
    chosen = points(case.undisturbed(whole))
    expected = comparable(by_meaning(whole))
    dice = random.Random(1)
    pairs = [(dice.choice(chosen), dice.choice(chosen)) for _ in range(400 if TORTURE else 24)]

    def check(out: Path, point: tuple[str, int]) -> list[str]:
        case.prepared(out)
        case.killed(out, *point)
        first = secrets(out)
        case.killed(out, *dict(pairs)[point])
        kept = secrets(out)
        problems = [f"the recovery changed the secret {name}" for name in first if first[name] != kept.get(name)]
        return problems + judged(case, out, kept, expected, exact=False)

    assert in_parallel(check, list(dict(pairs))) == []


@pytest.mark.parametrize(("signal", "code"), [("TERM", 143), ("INT", 130), ("HUP", 143)])
def test_ended_by_a_signal_a_run_leaves_nothing_staged_and_the_next_completes(
    tmp_path: Path, signal: str, code: int
) -> None:
    require_strace()
    case = CASES["a first run"]
    whole = tmp_path / "whole"
    chosen = points(case.undisturbed(whole))
    expected = comparable(by_meaning(whole))
    dice = random.Random(signal)
    chosen = chosen if TORTURE else dice.sample(chosen, 24)

    def check(out: Path, point: tuple[str, int]) -> list[str]:
        case.prepared(out)
        ended = case.killed(out, *point, signal=signal)
        if (ended.returncode, ended.stderr) != (code, "\nProgress saved. Run the same command to go on\n"):
            return [f"ended with {ended.returncode}: {ended.stderr}"]
        problems = [f"{path} was left staged by the signal" for path in leftovers(out)]
        if (out / LOCK).exists() and (out / LOCK).read_bytes():
            problems.append("the lock file still names a holder")
        return problems + judged(case, out, secrets(out), expected, exact=False)

    assert in_parallel(check, chosen) == []


@pytest.mark.parametrize("name", ["a run with changed settings", "a reset"])
def test_the_status_after_any_interruption_is_a_status(name: str, tmp_path: Path) -> None:
    require_strace()
    case = CASES[name]
    chosen = [("renameat", number) for number in range(1, 12, 1 if TORTURE else 3)]
    interrupted = []

    def check(out: Path, point: tuple[str, int]) -> list[str]:
        case.prepared(out)
        if case.killed(out, *point).returncode != -9:
            return []  # it had ended before that
        interrupted.append(point)
        before = tree(out)
        told = run(out, "--status", "--json", settings={})
        if told.returncode not in (0, 3) or '"steps"' not in told.stdout:
            return [f"--status ended with {told.returncode}: {told.stderr}"]
        return differences(before, tree(out))

    assert in_parallel(check, chosen) == []
    assert len(interrupted) >= 2


def test_the_operators_files_survive_every_interruption(tmp_path: Path) -> None:
    """What was filled in by hand and what stands beside ours is as it was, whenever a run is killed."""
    require_strace()

    def prepared(out: Path) -> None:
        deployed(out)
        for name, text in OPERATORS.items():
            (out / ".secrets" / name.lower()).write_text(text)
        (out / "tls").mkdir()
        (out / "tls" / "server.fullchain.crt").write_text("a certificate")
        (out / "notes.txt").write_text("mine")

    case = Case({}, prepared=prepared)
    whole = tmp_path / "whole"
    chosen = [(call, number) for call, number in points(case.undisturbed(whole)) if call in ("renameat", "unlinkat")]
    expected = tree(whole)
    theirs = {f".secrets/{name.lower()}" for name in OPERATORS} | {"tls/server.fullchain.crt", "notes.txt"}

    def check(out: Path, point: tuple[str, int]) -> list[str]:
        case.prepared(out)
        case.killed(out, *point)
        now = tree(out)
        problems = [f"{path} changed" for path in theirs if now.get(path) != expected[path]]
        case.again(out)
        return problems + differences(by_meaning(out), by_meaning(whole))

    assert len(chosen) > 4
    assert in_parallel(check, chosen) == []
