"""Random sequences of commands: a deployment is looked at, changed, rotated, restored, edited, adopted and killed.

Half of the seeds live with Compose, a quarter each with Swarm and Kubernetes.

python -m tests.torture.sequences SEED [STEPS]     lives one sequence again, and prints each command
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from setup.config.engines import names_content
from setup.config.secrets import SECRETS
from setup.volume.layout import BLUEPRINT, CERTIFICATE, PROPOSAL_SUFFIX, RESTORE_MARK
from tests.support import foreign_trees
from tests.support.containers import Containers
from tests.support.deploys import Deploys
from tests.support.runs import (
    DATED,
    LAST_GOOD,
    LOCK,
    REQUIRED,
    deployed,
    every_secret,
    leftovers,
    present,
    secrets,
    stamps,
    tree,
)
from tests.support.runs import run as command
from tests.torture.injection import QUIET, scratch, state_problems
from tests.torture.progress import counted
from tests.torture.result import Result

SEQUENCES, STEPS = 200, 30
SAMPLED = (6, 15)  # sequences and steps of a sample
GIVEN = {**REQUIRED, **every_secret()}
OPEN = frozenset(name for name, secret in SECRETS.items() if not secret.masked)
REPLACEABLE = ("seaweedfs_admin_password", "smtp_password", "organization_name", "admin_emails")
ROTATABLE = tuple(name for name, secret in SECRETS.items() if secret.breaks and name != "storage_encryption_key")
GROUPS = tuple({secret.group: None for secret in SECRETS.values() if secret.group})
SETTINGS = {
    "LOG_LEVEL": ("DEBUG", "INFO", "ERROR"),
    "PUBLIC_URL": ("avatar.example.com", "other.example.com", "avatar.example.com:8443"),
    "DATASET_EXPIRATION_DAYS": ("7d", "30d", "90d"),
    "SMTP_PORT": ("25", "465", "587"),
    "SMTP_USERNAME": ("avatar", "somebody"),
    "TLS_MODE": ("provided", "self-signed", "behind-proxy"),
    "TLS_EXTRA_NAMES": ("avatar.internal", ""),
    "NGINX_HTTP_REDIRECT_PORT": ("80", ""),
    "TRUSTED_PROXIES": ("10.0.0.0/8", ""),
    "AVATAR_WEB_VERSION": ("0.68.0", "0.69.0"),
    "PREFLIGHT_IMAGE": ("avatar-setup", ""),
}
LOOKS = (
    *(("--status",), ("--status", "--json"), ("--check",), ("--check", "--json"), ("--history",)),
    *(("--history", "--json"), ("--export", "-"), ("--diff",), ("--diff", "--json", "--set", "LOG_LEVEL=WARNING")),
    *(("--rotate", "sessions", "--dry-run"), ("--reset", "--diff"), ("--diff", "--preset", "airgapped"), ("--help",)),
)
# What is refused, whatever the deployment is.
REFUSED: Sequence[tuple[tuple[str, ...], Mapping[str, str]]] = (
    (("--set", "LOG_LEVEL=loud"), {}),
    (("--set", "NOTHING=1"), {}),
    (("--set", "PUBLIC_URL=ftp://a.example"), {}),
    (("--set", "AVATAR_AUTHENTIK_VERSION=2026.2.2"), {}),
    (("--set", "POSTGRES_IMAGE=postgres:16-alpine"), {}),
    (("--status", "--check"), {}),
    (("--rotate", "nothing", "--yes"), {}),
    (("--rotate", "sessions"), {}),
    (("--rotate", "storage_encryption_key", "--yes"), {}),
    (("--restore", "20200101T000000Z", "--yes"), {}),
    (("--adopt", "nowhere", "--yes"), {}),
    (("--adopt", "foreign", "--yes"), {}),
    ((), {"DB_PASSWORD": "another value than it has"}),
    ((), {"STORAGE_ENCRYPTION_KEY": "short"}),
    ((), {"AUTHJWT_SECRET_KEY": "two\x01parts"}),
)
DECIDE = "Everything else is done"  # what a run says that leaves files edited by hand as they are
# Where a run is killed; it may end before it gets that far.
CALLS = {"renameat": 25, "linkat": 12, "fsync": 60, "unlinkat": 12}


ENGINES = ("compose", "swarm", "compose", "kubernetes")  # by the seed
# What is edited by hand, by engine.
EDITED = {
    "compose": (".env", ".env", "nginx/nginx.conf", "docker-compose.yml", "a secret"),
    "swarm": (".env", BLUEPRINT, "nginx/nginx.conf", "stack.yml", "a secret"),
    "kubernetes": (".env", BLUEPRINT, "kubernetes/nginx.conf", "kubernetes/workloads.yaml", "a secret"),
}


class Step(NamedTuple):
    """A command that changes the deployment, and the secrets that it may change."""

    flags: tuple[str, ...]
    given: Mapping[str, str] = {}
    secrets: frozenset[str] = frozenset()
    restores: str = ""


class Life:
    """One deployment and all that happened to it; `problems` is empty while every promise is kept."""

    def __init__(self, seed: int, folder: Path, *, shows: bool = False) -> None:
        self.dice = random.Random(seed)
        self.folder, self.shows = folder, shows
        settings = GIVEN if self.dice.random() < 0.5 else {**REQUIRED, "SMTP_PASSWORD": "of the mail server"}
        self.engine = ENGINES[seed % len(ENGINES)]
        if self.engine != "compose":  # a cluster takes no deploy before there is a certificate
            settings = {**settings, "TARGET": self.engine, "TLS_MODE": "self-signed"}
        self.out = deployed(folder / "out", settings=settings)
        foreign_trees.by_hand(folder / "foreign")
        self.containers = self._containers()
        self.containers.up()
        self.kept: dict[str, Mapping[str, object]] = {}  # backup -> the deployment that it holds
        self.pending: set[str] = set()  # backups of before a run had noticed a secret that was edited by hand
        self.has_edited_secret = False
        self.needs_run = False  # a restore said so
        self.texts: set[str] = set()
        self.edits: set[str] = set()
        self.problems: list[str] = []
        self.runs = 0

    def _containers(self) -> Containers | Deploys:
        return Containers(self.out) if self.engine == "compose" else Deploys(self.out)

    # --- one step -------------------------------------------------------------------------------

    def step(self, number: int) -> None:
        """Do something, and look whether every promise was kept."""
        act = self.dice.choices(
            (self.look, self.refuse, self.set, self.rotate, self.restore, self.edit, self.give, self.adopt),
            (3, 2, 8, 3, 3, 3, 2, 1),
        )[0]
        before = len(self.problems)
        act()
        self.problems[before:] = [f"step {number} ({act.__name__}): {text}" for text in self.problems[before:]]

    def look(self) -> None:
        self._only_reads(self.dice.choice(LOOKS))

    def refuse(self) -> None:
        flags, given = self.dice.choice(REFUSED)
        before = stamps(self.folder)
        done = self._run(flags, given)
        if done.returncode not in (1, 2, 4):
            self.wrong(f"it ended with {done.returncode}, but had to be refused", flags)
        if stamps(self.folder) != before:
            self.wrong("it was refused, and wrote", flags)

    def set(self) -> None:
        keys = self.dice.sample(list(SETTINGS), self.dice.choice((1, 1, 2)))
        flags: list[str] = []
        for key in keys:
            flags += ["--set", f"{key}={self.dice.choice(SETTINGS[key])}"]
        extra: Sequence[tuple[str, ...]] = (
            *((), (), (), ("--save-config",), ("--keep", "4"), ("--reset",), ("--preset", "dev-mode")),
            *(("--unset", "LOG_LEVEL"), ("--on-conflict", "keep"), ("--on-conflict", "replace")),
            ("--on-conflict", "fail"),
        )
        chosen = self.dice.choice(extra)
        if chosen[0:1] == ("--unset",) and "LOG_LEVEL" in keys:
            chosen = ()
        self.change(Step((*flags, *chosen), {**REQUIRED, "TARGET": self.engine} if chosen == ("--reset",) else {}))

    def give(self) -> None:
        name = self.dice.choice(REPLACEABLE)
        text = f"given{self.dice.randrange(10**12)}@example.com"
        self.change(Step((), {name.upper(): text}, frozenset({name})))

    def rotate(self) -> None:
        word = self.dice.choice((*ROTATABLE, *GROUPS))
        names = frozenset(name for name, secret in SECRETS.items() if word in (name, secret.group))
        given = {}
        if self.dice.random() < 0.3 or word == "smtp_password":
            given = {name.upper(): f"rotated{self.dice.randrange(10**12)}" for name in names}
        self.change(Step(("--rotate", word, "--yes"), given, names))

    def restore(self) -> None:
        backups = sorted(_backups(self.out))
        if backups:
            backup = self.dice.choice(backups)
            self.change(Step(("--restore", backup, "--yes"), {}, frozenset(SECRETS), backup))

    def adopt(self) -> None:
        """Move the deployment, and live on at the new place."""
        place = self.folder / f"moved{self.runs}"
        place.mkdir()
        before, kept = stamps(self.out), secrets(self.out)
        done = self._run(("--adopt", str(self.out), "--yes"), {}, out=place)
        if done.returncode != 0:
            self.wrong(f"its adoption ended with {done.returncode}: {done.stderr}", ("--adopt",))
            return
        if stamps(self.out) != before:
            self.wrong("the adoption wrote into its source", ("--adopt",))
        if secrets(place) != kept:
            self.wrong("the adoption changed a secret", ("--adopt",))
        self.out = place
        self.containers = self._containers()
        self.containers.up()
        self.kept.clear()
        self.edits.clear()
        self._settled(("--adopt",))

    def edit(self) -> None:
        """Edit a file by hand, as an operator does who then recreates the containers; sometimes run after it."""
        path = self.dice.choice(EDITED[self.engine])
        if path == "a secret":
            (self.out / ".secrets/organization_name").write_text(f"edited {self.dice.randrange(10**9)}")
            self.has_edited_secret = True
        else:
            text = (self.out / path).read_text()
            line = f"MINE_{self.dice.randrange(99)}=1\n" if path == ".env" else "# mine\n"
            if path == ".env" and self.dice.random() < 0.5:
                text, line = text.replace("LOG_LEVEL=INFO", "LOG_LEVEL=CRITICAL"), ""
            (self.out / path).write_text(text + line)
            self.edits.add(path)
        self.containers.up(force=True)
        if self.shows:
            print("edit", path)
        if path == "a secret" or self.dice.random() < 0.5:
            self.change(Step((), {}, frozenset({"organization_name"})))

    # --- a change, and what must be true after it -------------------------------------------------

    def change(self, step: Step) -> None:
        """Preview a change, make it, possibly with a kill on the way, and compare."""
        before, kept, backups = tree(self.out), secrets(self.out), _backups(self.out)
        snapshot = _restorable(self.out)
        preview = self._only_reads((*step.flags, "--dry-run", "--json"), step.given)
        done = self._killed(step) if self.dice.random() < 0.15 else self._run(step.flags, step.given)
        if killed := done.returncode == -9:
            between = tree(self.out)
            if not self._has_rotated(step, kept):
                done = self._run(step.flags, step.given)
            self._not_torn(step, before, between)
        if done.returncode in (0, -9) or DECIDE in done.stderr:
            if not killed:
                self._as_previewed(step, preview, before)
            self.needs_run = "its name for the engine" in done.stdout
            if "--force-recreate" in done.stdout:
                self.containers.up(force=True)
            self._decide()
            self._after(step, kept, snapshot, backups)
            return
        changed = _differences(before, tree(self.out))
        if killed or changed or done.returncode not in (1, 4):
            what = "after a kill " if killed else ""
            self.wrong(f"{what}it ended with {done.returncode}, wrote {changed}: {done.stderr}", step.flags)

    def _decide(self) -> None:
        """Take the new text of each file that was edited by hand and kept, and run again, as the message says."""
        for path in present(self.out):
            if path.endswith(PROPOSAL_SUFFIX):
                named = path.removesuffix(PROPOSAL_SUFFIX)
                (self.out / path).replace(self.out / named)
                if names_content(self.engine, named):
                    self._run((), {})

    def _as_previewed(
        self, step: Step, preview: subprocess.CompletedProcess[str], before: Mapping[str, object]
    ) -> None:
        after = tree(self.out)
        changed = {path for path in _differences(before, after) if _is_theirs(path) and not (self.out / path).is_dir()}
        if preview.returncode not in (0, 3, 4):
            self.wrong(f"its preview ended with {preview.returncode}, but it was done: {preview.stderr}", step.flags)
            return
        answer = json.loads(preview.stdout)
        told = {row["path"] for row in answer.get("files", ())}
        told |= {f".secrets/{row['name']}" for row in answer.get("secrets", ())}
        if told != changed:
            self.wrong(f"its preview named {sorted(told - changed)} more, {sorted(changed - told)} less", step.flags)

    def _after(self, step: Step, kept: Mapping[str, str], snapshot: Mapping[str, object], backups: set[str]) -> None:
        new = sorted(_backups(self.out) - backups)
        self.kept |= dict.fromkeys(new[:1], snapshot)
        self.pending |= set(new[:1]) if self.has_edited_secret else set()
        self.has_edited_secret = False
        self._same_secrets(step, kept)
        if step.restores:
            self._restored(step)
        self._settled(step.flags)

    def _restored(self, step: Step) -> None:
        """Everything is as the backup found it, but secrets filled in since, and keys, which no restore takes away."""
        now, then = _restorable(self.out), self.kept.get(step.restores)
        if then is None:  # a backup of a deployment that nobody looked at, such as one between two runs
            self._run((), {})
            self._decide()
            return
        filled = {path for path, one in then.items() if path.startswith(".secrets/") and not one[1]}
        held = set(json.loads((self.out / DATED / step.restores / "manifest.json").read_text())["paths"])
        unused = {path for path in then if path.startswith("tls") and path not in held}  # of an earlier TLS_MODE
        wrong = {path for path in _differences(then, now) if path in then} - filled - unused
        wrong |= {path for path in now.keys() - then.keys() if not path.startswith((".secrets/", "tls"))}
        if wrong:
            self.wrong(f"the restore did not bring back {', '.join(sorted(wrong))}", step.flags)
        is_filled = any(now[path][1] for path in filled) or (self.out / CERTIFICATE).exists()
        if is_filled or self.needs_run or step.restores in self.pending:
            self._run((), {})  # it takes into account what somebody filled in, or a certificate that stayed
            self._decide()

    def _settled(self, flags: Sequence[str]) -> None:
        """A plain run finds nothing to do, the state is true, and `up -d` brings what is on the disk."""
        before = stamps(self.out)
        again = self._run((), {})
        if again.returncode != 0 or "Nothing to do" not in again.stdout:
            self.wrong(f"the plain run after it ended with {again.returncode}: {again.stdout}{again.stderr}", flags)
        if stamps(self.out) != before:
            self.wrong("the plain run after it wrote", flags)
        self.containers.up()
        for service, path in sorted(self.containers.stale()):
            self.wrong(f"{service} has other contents than {path}", flags)
        for path in leftovers(self.out):
            self.wrong(f"{path} was left staged", flags)
        self._true_state(flags)

    def _true_state(self, flags: Sequence[str]) -> None:
        for text in state_problems(self.out):
            if not any(path in text for path in self.edits):
                self.wrong(text, flags)

    def _same_secrets(self, step: Step, kept: Mapping[str, str]) -> None:
        now = secrets(self.out)
        changed = {name for name, text in kept.items() if now.get(name) != text}
        for name in sorted(changed - step.secrets):
            self.wrong(f"the secret {name} changed", step.flags)

    # --- kills ------------------------------------------------------------------------------------

    def _killed(self, step: Step) -> subprocess.CompletedProcess[str]:
        """Run a command that is killed at a random call, unless it ends before."""
        kept = secrets(self.out)
        call = self.dice.choice(list(CALLS))
        number = self.dice.randint(1, CALLS[call])
        trace = (*QUIET, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
        done = self._run(step.flags, step.given, prefix=trace)
        self._same_secrets(step, kept)
        if done.returncode == -9:
            if not (self.out / RESTORE_MARK).exists():
                self._true_state(step.flags)
            self._only_reads(("--status", "--json"))
        return done

    def _has_rotated(self, step: Step, kept: Mapping[str, str]) -> bool:
        """Tell whether a killed rotation had done everything: the same command would rotate again."""
        status = json.loads(self._run(("--status", "--json"), {}).stdout or "{}")
        return "--rotate" in step.flags and bool(status.get("complete")) and secrets(self.out) != kept

    def _not_torn(self, step: Step, before: Mapping[str, object], between: Mapping[str, object]) -> None:
        after = tree(self.out)
        for path, content in between.items():
            if _is_theirs(path) and content not in (before.get(path), after.get(path)):
                self.wrong(f"{path} was neither old nor new after a kill", step.flags)

    # --- runs -------------------------------------------------------------------------------------

    def _only_reads(
        self, flags: Sequence[str], given: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        before = stamps(self.folder)
        done = self._run(flags, given or {})
        if stamps(self.folder) != before:
            self.wrong("it wrote, though it only reads", flags)
        if done.returncode not in (0, 1, 3, 4):
            self.wrong(f"it ended with {done.returncode}: {done.stderr}", flags)
        return done

    def _run(
        self, flags: Sequence[str], given: Mapping[str, str], *, out: Path | None = None, prefix: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        self.runs += 1
        done = command(out or self.out, *flags, settings=given, prefix=prefix)
        if self.shows:
            print(self.runs, *flags, dict(given), *prefix[5:], "->", done.returncode)
        masked = {text.strip() for name, text in secrets(self.out).items() if name not in OPEN and len(text) > 11}
        self.texts |= masked
        for text in self.texts:
            if text in done.stdout + done.stderr:
                self.wrong("it printed a secret", flags)
        if "Traceback" in done.stderr or done.returncode == 70:
            self.wrong(f"it ended with an internal error: {done.stderr}", flags)
        return done

    def wrong(self, text: str, flags: Sequence[str]) -> None:
        """Note a promise that was not kept, with its command."""
        self.problems.append(f"{' '.join(flags) or 'a plain run'}: {text}")
        if self.shows:
            print("   WRONG", text)


def _backups(out: Path) -> set[str]:
    folder = out / DATED
    return {path.parent.name for path in folder.glob("*/manifest.json")} if folder.is_dir() else set()


def _restorable(out: Path) -> dict[str, tuple[str, bytes]]:
    """What a restore brings back: all but the backups, the lock, the second state and proposals."""
    found = present(out).items()
    return {path: one for path, one in found if path not in (LOCK, LAST_GOOD) and not path.endswith(PROPOSAL_SUFFIX)}


def _is_theirs(path: str) -> bool:
    """Whether a file is of the deployment, and none of the program's own."""
    return not path.startswith(".deployment-") and not path.endswith(".avatar-setup-new")


def _differences(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def lived(seed: int, steps: int, *, shows: bool = False) -> tuple[int, list[str]]:
    """Live one sequence; return how many runs it had, and what was wrong."""
    with scratch() as folder:
        life = Life(seed, folder, shows=shows)
        number = 0
        for number in range(1, steps + 1):
            try:
                life.step(number)
            except Exception as error:
                life.problems.append(f"step {number} broke off: {error!r}")
            if life.problems:  # what follows from a fault is no second one
                break
        return life.runs, [f"sequence {seed} of {steps} steps, {text}" for text in life.problems]


def run(sample: bool) -> Result:
    sequences, steps = SAMPLED if sample else (SEQUENCES, STEPS)
    runs, violations = 0, []
    context = multiprocessing.get_context("spawn")  # a fork would share what the tests hold open
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        lives = pool.map(lived, range(1, sequences + 1), [steps] * sequences)
        for made, problems in counted(lives, sequences, "sequence"):
            runs += made
            violations += problems
    return Result(sequences, violations, f"seeds 1 to {sequences}, {steps} steps each, {runs} runs")


def _words() -> Iterator[int]:
    yield from map(int, sys.argv[1:])


if __name__ == "__main__":
    seed, *rest = _words()
    made, wrong = lived(seed, *(rest or [STEPS]), shows=True)
    print(f"{made} runs, {len(wrong)} violations", *wrong, sep="\n")
    sys.exit(bool(wrong))
