"""What the sweeps of real disks share: scenarios, the trees of undisturbed runs, and the judgement of what is left."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.support import (
    DATED,
    LAST_GOOD,
    LOCK,
    REQUIRED,
    ROOT,
    STAGED,
    STATE,
    by_meaning,
    deployed,
    every_secret,
    leftovers,
    run,
    secrets,
    tree,
)

Tree = Mapping[str, tuple[str, bytes]]

GENERATED = {**REQUIRED, "ORGANIZATION_NAME": "Example"}
GIVEN = {**REQUIRED, **every_secret()}
CHANGED = {**GIVEN, "PUBLIC_URL": "other.example.com", "ORGANIZATION_NAME": "Other", "AUTH_TYPE": "username"}


class Scenario(NamedTuple):
    """A run that gets into trouble: what it is told, its flags, and how the volume was before."""

    settings: Mapping[str, str]
    flags: tuple[str, ...] = ()
    prepared: Callable[[Path], object] = Path.mkdir

    def look(self, out: Path) -> Tree:
        """The tree, with generated values replaced by their names; without what differs from run to run."""
        found = by_meaning(out) if self.settings is GENERATED else tree(out)
        return {path: one for path, one in found.items() if path != LOCK and not path.startswith(DATED)}


def interrupted(out: Path) -> None:
    """A first run that was killed after a third of its files."""
    out.mkdir()
    kill = ("strace", "-f", "-qq", "-o", os.devnull, "-e", "inject=linkat:signal=KILL:when=14")
    done = run(out, settings=GIVEN, prefix=kill)
    assert done.returncode == -signal.SIGKILL, done.stderr


def complete(out: Path) -> None:
    deployed(out, settings=GIVEN)


SCENARIOS = {
    "a first run": Scenario(GENERATED),
    "a first run with every secret given": Scenario(GIVEN, ("--save-config",)),
    "a changed setting": Scenario(CHANGED, prepared=complete),
    "a reset": Scenario({**GIVEN, "LOG_LEVEL": "DEBUG"}, ("--reset",), complete),
    "a resume": Scenario(GIVEN, prepared=interrupted),
}


class Undisturbed(NamedTuple):
    """A scenario that has been run in peace: the volume it starts from, and the trees before and after."""

    scenario: Scenario
    start: Path
    before: Tree
    after: Tree

    def judged(self, out: Path) -> list[str]:
        """What is torn, lost or claimed falsely on a volume after a run that did not end well."""
        now = {path: one for path, one in self.scenario.look(out).items() if not path.endswith(STAGED)}
        problems = [
            f"{path} is neither as before nor as after the run: {one[0]}, {len(one[1])} bytes"
            for path, one in now.items()
            if not path.startswith(STATE) and one not in (self.before.get(path), self.after.get(path))
        ]
        problems += [f"{path} is gone" for path in self.before if path in self.after and path not in now]
        return problems + _claims(out)

    def finished(self, out: Path, root: Path = ROOT) -> list[str]:
        """Runs the same command again: it must make the undisturbed run's tree, and keep the secrets that are there."""
        kept = secrets(out)
        again = run(out, *self.scenario.flags, settings=self.scenario.settings, root=root)
        if again.returncode:
            return [f"the next run ended with {again.returncode}: {again.stderr}"]
        problems = [f"{path} was left staged" for path in leftovers(out)]
        if self.scenario.settings is GENERATED:
            now = secrets(out)
            problems += [f"the next run changed the secret {name}" for name in kept if now.get(name) != kept[name]]
        return problems + self.differences(out)

    def differences(self, out: Path) -> list[str]:
        """The paths that are not as after the undisturbed run."""
        now, after = self.scenario.look(out), self.after
        return [f"{path} differs" for path in sorted(now.keys() | after.keys()) if now.get(path) != after.get(path)]


def undisturbed(scenario: Scenario, folder: Path, root: Path = ROOT, prefix: tuple[str, ...] = ()) -> Undisturbed:
    """Runs a scenario in peace, in `folder/whole`; `folder/start` stays as it was before."""
    start, whole = folder / "start", folder / "whole"
    scenario.prepared(start)
    shutil.copytree(start, whole)
    done = run(whole, *scenario.flags, settings=scenario.settings, prefix=prefix, root=root)
    if done.returncode:
        raise AssertionError(f"undisturbed, it ended with {done.returncode}: {done.stderr}")
    return Undisturbed(scenario, start, scenario.look(start), scenario.look(whole))


def _claims(out: Path) -> list[str]:
    """What a state says that is not so: a file with another hash, a secret that was made and is not there."""
    states = {name: (out / name).read_text() for name in (STATE, LAST_GOOD) if (out / name).exists()}
    torn = [f"{name} is torn" for name, text in states.items() if not text.endswith("\n...\n")]
    if torn or STATE not in states:
        return torn
    state = yaml.safe_load(states[STATE])
    announced = (state.get("announced") or {}).get("files", {})
    problems = []
    for path, known in state["files"].items():
        file = out / path
        found = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "missing"
        if found not in (known, announced.get(path)):
            problems.append(f"the state names {path} with another hash than it has ({found[:8]})")
    lost = state["secrets"].keys() - secrets(out)
    return problems + [f"the secret {name} was made, says the state, and is lost" for name in lost]


def memory() -> str | None:
    """A folder that lies in memory, where there is one: for what is made and thrown away a thousand times."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
