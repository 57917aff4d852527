"""The engine of the sweeps: a real run that strace disturbs at one file-system call, and what must hold then.

A `Case` says where a run starts and what it is told. Its `Scene` adds what an undisturbed run makes of that and
which calls it used on the volume. A sweep copies the scene's start for each of them, disturbs a run there, and
looks: nothing torn, no secret lost, a state that tells the truth, and the same command again completes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from setup import state_file
from setup.errors import VolumeError
from setup.formats.digests import fingerprint
from setup.formats.yaml_file import Malformed
from setup.state_manager import DeploymentState
from setup.volume.layout import AUTHORITY, CERTIFICATE, CERTIFICATE_KEY, COMPOSE, RESTORE_MARK
from setup.volume.volume import Volume
from tests.support.documents import read_yaml
from tests.support.runs import (
    DATED,
    LABEL_KEY,
    LAST_GOOD,
    LOCK,
    STAGED,
    STATE,
    by_meaning,
    leftovers,
    run,
    secrets,
    tree,
    without_marks,
)
from tests.torture.progress import counted

Tree = Mapping[str, tuple[str, bytes]]
Runner = Callable[..., "subprocess.CompletedProcess[str]"]  # as tests.support.run: out, *flags, settings, prefix
Job = TypeVar("Job")

FOLDER = "0o40"  # how the mode of a folder begins in a tree
QUIET = ("strace", "-f", "-qq", "-o", os.devnull)
SAVED = "\nProgress saved. Run the same command to go on\n"

# Calls that change what others see, and calls of which there are many of a kind.
DECISIVE = ("renameat", "linkat", "mkdirat", "fchmod", "flock", "ftruncate", "pwrite64")
MANY = ("openat", "write", "fsync", "unlinkat")
READING = ("newfstatat", "read", "getdents64", "fcntl", "close", "fadvise64", "access")


class Case(NamedTuple):
    """A run to be disturbed; `prepared(out)` makes the directory it starts with."""

    name: str
    settings: Mapping[str, str]
    flags: tuple[str, ...] = ()
    prepared: Callable[[Path], object] = Path.mkdir
    settled: bool = False  # nothing is left to chance, whatever `settings` and `prepared` look like


class Point(NamedTuple):
    """One use of a system call on the volume: the n-th of the whole process, and the n-th on the volume."""

    call: str
    number: int
    ours: int
    writes: bool
    copies: bool  # it makes a dated copy, which takes hundreds of calls

    def __str__(self) -> str:
        return f"{self.call} #{self.number}"


class Scene(NamedTuple):
    """A case that was run undisturbed once; `before` and `after` are how its directory may be found."""

    case: Case
    run: Runner
    start: Path
    whole: Path
    exact: bool  # nothing but the key of the labels is random, so bytes are compared; otherwise by meaning
    before: Tree
    after: Tree
    points: Sequence[Point]
    told: str  # what it had to say beside its last message

    def view(self, out: Path) -> Tree:
        """What is compared of a directory: not what differs between runs, nor what is staged."""
        if not self.exact:
            found = {path: _plain(path, one) for path, one in by_meaning(out).items()}
        elif (self.start / LABEL_KEY).exists():
            found = tree(out)
        else:  # every run makes a key of its own
            found = without_marks(tree(out))
        other = (DATED, LOCK)  # the dated copies, and the lock, which names a killed holder
        return {path: one for path, one in found.items() if not path.startswith(other) and not path.endswith(STAGED)}

    @property
    def worth_trying(self) -> list[Point]:
        """The points, of the hundreds that make a dated copy one in twelve."""
        return [point for point in self.points if not point.copies or point.ours % 12 == 0]

    @contextlib.contextmanager
    def copy(self) -> Iterator[Path]:
        """A directory as the case starts with it."""
        with TemporaryDirectory(dir=self.start.parent) as folder:
            yield Path(shutil.copytree(self.start, Path(folder, "out"), symlinks=True))

    def disturbed(self, out: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
        return self.run(out, *self.case.flags, settings=self.case.settings, prefix=prefix)

    def again(self, out: Path) -> subprocess.CompletedProcess[str]:
        return self.run(out, *self.case.flags, settings=self.case.settings)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the scenes, in memory where there is such a place."""
    with TemporaryDirectory(prefix="avatar-setup-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as made:
        yield Path(made)


def rehearsed(case: Case, folder: Path, runner: Runner = run) -> Scene:
    """Runs a case undisturbed, under strace, and notes what it used and made."""
    place = folder / re.sub(r"\W+", "-", case.name)
    (place / "whole").mkdir(parents=True)
    start, whole, log = place / "start", place / "whole" / "out", place / "trace"
    case.prepared(start)
    shutil.copytree(start, whole, symlinks=True)
    calls = ",".join((*DECISIVE, *MANY, *READING))
    prefix = ("strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", f"trace={calls}")
    done = runner(whole, *case.flags, settings=case.settings, prefix=prefix)
    assert done.returncode == 0, f"{case.name}, undisturbed, ended with {done.returncode}: {done.stderr}"
    given = {name.upper() for name in secrets(whole)} <= {*case.settings, *map(str.upper, secrets(start))}
    exact = case.settled or (given and case.settings.get("TLS_MODE") != "self-signed")
    scene = Scene(case, runner, start, whole, exact, {}, {}, used(log.read_text(), whole), done.stderr)
    return scene._replace(before=scene.view(start), after=scene.view(whole))


def used(trace: str, out: Path) -> list[Point]:
    """The calls of a trace that concern the volume, in their order."""
    counted: dict[str, int] = {}
    ours: dict[str, int] = {}
    points = []
    for line in trace.splitlines():
        found = re.match(r"\d+ +(\w+)\(", line)
        if not found:
            continue
        call = found[1]
        counted[call] = counted.get(call, 0) + 1
        if str(out) in line:
            ours[call] = ours.get(call, 0) + 1
            writes = call in DECISIVE or (call in MANY and (call != "openat" or "O_CREAT" in line))
            points.append(Point(call, counted[call], ours[call], writes, DATED in line))
    return points


def in_parallel(check: Callable[[Job], Iterable[str]], jobs: Sequence[Job]) -> list[str]:
    """What is wrong after each job, tried on all processors; a check that breaks off is wrong too."""

    def one(job: Job) -> list[str]:
        try:
            return [f"{job}: {problem}" for problem in check(job)]
        except Exception as error:
            return [f"{job}: it broke off: {error!r}"]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [problem for problems in counted(pool.map(one, jobs), len(jobs)) for problem in problems]


def repeated(jobs: Sequence[Job], check: Callable[[Job], Iterable[str]], name: str) -> int:
    """Tries again what a violation names, or all whose names begin so; the exit code of a program that does."""
    chosen = [job for job in jobs if str(job).startswith(name)]
    violations = in_parallel(check, chosen)
    print(f"{len(chosen)} tried, {len(violations)} violations", *violations, sep="\n")
    return 1 if violations else 0 if chosen else 2


# --- what must hold -----------------------------------------------------------------------------


def differences(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """The paths that two trees do not have in common."""
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def unharmed(scene: Scene, out: Path) -> list[str]:
    """What is wrong with a directory in which a run ended early."""
    found = scene.view(out)
    torn = [path for path, one in found.items() if one not in (scene.before.get(path), scene.after.get(path))]
    problems = [f"{path} is torn" for path in torn if path not in (STATE, LAST_GOOD)]
    problems += [f"{path} is gone" for path in scene.before.keys() & scene.after.keys() - found.keys()]
    kept, now = held(scene.start), held(out)
    stay = [path for path in kept if scene.before[path] == scene.after.get(path)]
    problems += [f"{path} changed" for path in stay if now.get(path) != kept[path]]
    return problems + untrue(scene, out, found) + copies_lost(scene, out)


def untrue(scene: Scene, out: Path, found: Tree) -> list[str]:
    """What the state claims that is not so; where it says complete, all is as before the run or as after it.

    A folder that a run has begun to fill counts as nothing. While the mark of a restore is there, the state need only
    be whole: it claims nothing, no run begins, `--status` says so.
    """
    if (out / RESTORE_MARK).exists():
        return unreadable_states(out)
    problems = [text for text in state_problems(out) if text not in _edited(scene.start)]
    begun = {path: one for path, one in found.items() if path in scene.before or not one[0].startswith(FOLDER)}
    if not problems and _state(out).is_complete() and scene.before != begun and scene.after != found:
        wrong = differences(found, scene.after)
        problems.append(f"the state says complete, but {', '.join(wrong)} differ from the undisturbed run's")
    return problems


@cache
def _edited(start: Path) -> list[str]:
    """What the state says of a case's beginning because files were edited since: that is no fault of a run."""
    return state_problems(start)


def state_problems(out: Path) -> list[str]:
    """What is wrong with the state on a volume and the last good one beside it: each hash must be a file's."""
    if unreadable := unreadable_states(out):
        return unreadable
    state = _state(out)
    problems = [
        f"it names the secret {name}, which is not there" for name in state.secrets.keys() - secrets(out).keys()
    ]
    for path, known in state.files.items():
        digest = hashlib.sha256((out / path).read_bytes()).hexdigest() if (out / path).is_file() else "nothing"
        if digest not in (known, state.announced.get(path)):
            problems.append(f"it names {path}, where there is {digest}")
    return [f"the state: {problem}" for problem in problems]


def unreadable_states(out: Path) -> list[str]:
    """What keeps the state or the last good one beside it from being read."""
    try:
        _state(out)
        if (out / LAST_GOOD).exists():
            state_file.parse((out / LAST_GOOD).read_bytes())
    except (VolumeError, Malformed) as error:
        return [f"a state cannot be used: {error}"]
    return []


def _state(out: Path) -> DeploymentState:
    with Volume(out) as volume:
        return DeploymentState.load(volume)


def copies_lost(scene: Scene, out: Path) -> list[str]:
    """A reset keeps the state so far: under its own name or in a dated copy."""
    if "--reset" not in scene.case.flags:
        return []
    found = tree(out)
    states = [one for path, one in found.items() if path in (STATE, LAST_GOOD) or _is_kept(path, found)]
    return [] if tree(scene.start)[STATE] in states else ["the state of before the reset is gone"]


def _is_kept(path: str, found: Tree) -> bool:
    """Whether a path is the state of a whole dated copy, one that has its manifest."""
    folder, _, name = path.rpartition("/")
    return name == STATE and folder.startswith(DATED) and f"{folder}/manifest.json" in found


def completes(scene: Scene, out: Path) -> list[str]:
    """Runs the same command again, and says what is not as after an undisturbed run."""
    kept = held(out)
    done = scene.again(out)
    if done.returncode != 0:
        return [f"the next run ended with {done.returncode}: {done.stderr}"]
    return as_undisturbed(scene, out) + changed(scene, kept, out)


def as_undisturbed(scene: Scene, out: Path) -> list[str]:
    """What a completed run left otherwise than the undisturbed one."""
    problems = [f"{path} differs from the undisturbed run's" for path in differences(scene.view(out), scene.after)]
    problems += [f"{path} was left staged" for path in leftovers(out)]
    problems += ["the mark of a restore was left"] if (out / RESTORE_MARK).exists() else []
    return problems + copies_lost(scene, out) + unfit(out) + mislabelled(out)


def mislabelled(out: Path) -> list[str]:
    """Which services have a label that does not follow from their secrets on the disk and the key of this deployment.

    What is compared of two deployments leaves the labels out where each made its own key.
    """
    document = read_yaml((out / COMPOSE).read_text())
    key, texts = (out / LABEL_KEY).read_bytes(), secrets(out)
    problems = []
    for service, entry in document["services"].items():
        mounted = [f"{name}={texts.get(name, '')}".encode() for name in entry.get("secrets", ())]
        if mounted and entry["labels"]["avatar-setup.secrets"] != fingerprint(key, mounted)[:16]:
            problems.append(f"the label of {service} is not that of its secrets")
    return problems


def held(out: Path) -> dict[str, bytes]:
    """What must never be made anew: every secret, every private key and the labels' key, unless it is empty."""
    files = [path for pattern in (".secrets/*", "tls/private/*", LABEL_KEY) for path in out.glob(pattern)]
    found = {str(path.relative_to(out)): path.read_bytes() for path in files if not path.name.endswith(STAGED)}
    return {path: data for path, data in found.items() if data}


def changed(scene: Scene, kept: Mapping[str, bytes], out: Path) -> list[str]:
    """Which of these a later run replaced; where all are given, the comparison of bytes has told."""
    now = {} if scene.exact else held(out)
    return [f"the next run changed {path}" for path in kept if not scene.exact and now.get(path) != kept[path]]


def unfit(out: Path) -> list[str]:
    """What is wrong with a certificate of the deployment's own."""
    if not (out / AUTHORITY).exists():
        return []
    key = load_pem_private_key((out / CERTIFICATE_KEY).read_bytes(), None)
    certificate = load_pem_x509_certificate((out / CERTIFICATE).read_bytes())
    if key.public_key() != certificate.public_key():
        return ["the certificate is another key's"]
    certificate.verify_directly_issued_by(load_pem_x509_certificate((out / AUTHORITY).read_bytes()))
    return []


def _plain(path: str, one: tuple[str, bytes]) -> tuple[str, bytes]:
    """A file without what certificates leave to chance and time: themselves, if they are whole, and what names them."""
    mode, data = one
    if path.startswith("tls/") and data.endswith(b"-----\n") and data.count(b"-----BEGIN") == data.count(b"-----END"):
        return mode, b"<certificates or a key>"
    return mode, re.sub(rb"(avatar-setup\.files: |\n  certificate: ).*", rb"\1<digest>", data)


def emptied(out: Path) -> list[str]:
    """What a run that could clean up has left."""
    problems = [f"{Path(path).name} was left staged" for path in leftovers(out)]
    if (out / LOCK).exists() and (out / LOCK).read_bytes():
        problems.append("the lock file still names a holder")
    return problems
