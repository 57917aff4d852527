"""What `--check` sees of the volume itself: its files, their modes and owners, the secrets, room and time."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from setup.config.config_file import CONFIG
from setup.config.secrets import DIRECTORY, SECRETS
from setup.config.values import Values
from setup.deploy.targets import AUTHORITY_KEY, COMPOSE, ENV
from setup.environment import shell_word
from setup.errors import VolumeError
from setup.findings import Finding, Level
from setup.secrets import guards
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_secret
from setup.state_file import COMPLETED
from setup.state_manager import STATE, DeploymentState
from setup.volume import backups
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_KEYS = "tls/private"
_LITTLE, _NO_ROOM = 100 << 20, 1 << 20  # bytes
_JITTER = timedelta(minutes=5)


def steps(volume: Volume, state: DeploymentState) -> Iterator[Finding]:
    """How far the configuration is."""
    if not state.exists and volume.status(COMPOSE) is not None:
        text = f"a deployment stands here, and {STATE}, which tells about it, is gone"
        yield Finding("steps", Level.FAIL, text, "--history lists the dated copies, and --restore ID brings one back")
        return
    done, total = sum(status == COMPLETED for status in state.steps.values()), len(state.steps)
    if state.is_complete:
        yield Finding("steps", Level.OK, f"{done}/{total} steps completed")
        return
    yield Finding("steps", Level.FAIL, f"{done}/{total} steps completed", "run avatar-setup to its end")


def restoring(volume: Volume) -> Iterator[Finding]:
    """Whether a restore was interrupted: what stands here may be half of one deployment and half of another."""
    half = backups.interrupted(volume)
    if half:
        text = f"bringing back {half} was interrupted: files and secrets may be those of two deployments"
        yield Finding("restoring", Level.FAIL, text, f"finish it: --restore {half}")


def release(state: DeploymentState, basis: Mapping[str, str]) -> Iterator[Finding]:
    """Whether this program wrote what stands there."""
    if state.basis and any(state.basis.get(part) != digest for part, digest in basis.items()):
        text = "another release of avatar-setup wrote these files"
        yield Finding("release", Level.WARN, text, "run this one once, and docker compose up -d")


def files(volume: Volume, state: DeploymentState) -> Iterator[Finding]:
    """Whether every file that was written stands there as it was written."""
    odd = [path for path in state.files if is_odd(volume, path)]
    there = {path: volume.read(path) for path in state.files if path not in odd}
    missing = [path for path, data in there.items() if data is None]
    edited = [path for path, data in there.items() if data is not None and not state.knows(path, data)]
    if odd:
        text = f"a directory or a link where a file belongs: {', '.join(odd)}"
        yield Finding("file-odd", Level.FAIL, text, "move it away, and run avatar-setup, which writes the file again")
    again = [path for path in missing if path != AUTHORITY_KEY]
    if again:
        yield Finding(
            "file-missing", Level.FAIL, f"missing: {', '.join(again)}", "run avatar-setup, which writes it again"
        )
    if again != missing:
        todo = "put it back from a backup: it is not made anew"
        yield Finding("file-missing", Level.FAIL, f"missing: {AUTHORITY_KEY}", todo)
    if edited:
        todo = "nothing, if the change is meant: a run leaves it alone, or says that it would overwrite it"
        yield Finding("file-edited", Level.WARN, f"edited by hand: {', '.join(edited)}", todo)
    if state.files and not (odd or missing or edited):
        yield Finding("files", Level.OK, f"{len(there)} files stand as they were written")


def is_odd(volume: Volume, path: str) -> bool:
    """Whether something else than a regular file stands at a path."""
    status = volume.status(path)
    return status is not None and not stat.S_ISREG(status.st_mode)


def contents(volume: Volume, path: str) -> bytes | None:
    """The bytes of a regular file, None where there is none."""
    return None if is_odd(volume, path) else volume.read(path)


def modes(volume: Volume, state: DeploymentState, secrets: Iterable[str]) -> Iterator[Finding]:
    """Whether those who must can read each file, and nobody else what is private; and whether it has one owner."""
    paths = [STATE, *state.files, *map(secrets_plan.path_of, secrets)]
    seen = {path: status for path in paths if (status := volume.status(path)) and stat.S_ISREG(status.st_mode)}
    folders = [DIRECTORY, *([_KEYS] if any(path.startswith(f"{_KEYS}/") for path in state.files) else [])]
    seen |= {path: status for path in folders if (status := volume.status(path)) is not None}
    said = False
    for wanted in (0o600, 0o644, 0o700):
        of_kind = {path: status for path, status in seen.items() if _wanted(path) == wanted}
        for finding in (*_closed(of_kind, wanted), *_open(of_kind, wanted)):
            said = True
            yield finding
    if os.stat(volume.path).st_mode & 0o022:
        said = True
        text = "others may replace files in the output directory"
        yield Finding("file-open", Level.WARN, text, "chmod go-w, on the host, the directory that is mounted here")
    uid, gid = (seen[STATE].st_uid, seen[STATE].st_gid) if STATE in seen else volume.owner()
    foreign = [path for path, status in seen.items() if status.st_uid != uid]
    if foreign:
        unreadable = any(_wanted(path) != 0o644 for path in foreign)
        text = f"not {uid}:{gid}'s, whose the deployment is: {', '.join(foreign)}"
        todo = f"sudo chown {uid}:{gid} {' '.join(map(shell_word, foreign))}"
        yield Finding("file-owner", Level.FAIL if unreadable else Level.WARN, text, todo)
    elif not said and seen:
        yield Finding("file-modes", Level.OK, f"all of it is {uid}:{gid}'s, with the right modes")


def private(volume: Volume, path: str) -> Iterator[Finding]:
    """Whether nobody else can read a file that is the operator's own, such as a key."""
    status = volume.status(path)
    if status is not None and stat.S_ISREG(status.st_mode):
        yield from _open({path: status}, 0o600)


def _wanted(path: str) -> int:
    """The mode that something of ours has."""
    if path in (DIRECTORY, _KEYS):
        return 0o700
    return 0o600 if path in (ENV, STATE, CONFIG) or path.startswith(f"{_KEYS}/") else 0o644


def _closed(seen: Mapping[str, os.stat_result], wanted: int) -> Iterator[Finding]:
    paths = [path for path, status in seen.items() if wanted & ~stat.S_IMODE(status.st_mode)]
    if paths:
        text = f"closed to somebody who must read it: {', '.join(paths)}"
        yield Finding("file-closed", Level.FAIL, text, f"chmod {wanted:04o} {' '.join(map(shell_word, paths))}")


def _open(seen: Mapping[str, os.stat_result], wanted: int) -> Iterator[Finding]:
    paths = [path for path, status in seen.items() if stat.S_IMODE(status.st_mode) & 0o066 & ~wanted]
    if paths:
        text = f"open to others than it should be: {', '.join(paths)}"
        yield Finding("file-open", Level.WARN, text, f"chmod {wanted:04o} {' '.join(map(shell_word, paths))}")


def read_secrets(volume: Volume) -> tuple[dict[str, str | None], dict[str, str]]:
    """The text of every secret that can be one, None where there is no file; and why the others cannot."""
    texts: dict[str, str | None] = {}
    odd: dict[str, str] = {}
    for name in SECRETS:
        try:
            texts[name] = read_secret(volume, name)
        except VolumeError as error:
            if volume.status(secrets_plan.path_of(name)) is None:  # the whole folder cannot be read
                raise
            odd[name] = str(error)
    return texts, odd


def secrets(
    values: Values, texts: Mapping[str, str | None], odd: Mapping[str, str], made: Mapping[str, int]
) -> Iterator[Finding]:
    """Whether every secret of this deployment is filled in, in the form that its readers want; none is shown."""
    lost = {secret.name for secret in guards.find_lost(values, texts, made)} - odd.keys()
    filled = {name: text for name, text in texts.items() if text}
    pending = [one.name for one in secrets_plan.list_pending(values, filled) if one.name not in lost | odd.keys()]
    wrong = [
        odd[secret.name] for secret in secrets_plan.list_applicable(values) if secret.name in odd
    ] + secrets_plan.check_filled(filled)
    for name in sorted(lost):
        text = f"{secrets_plan.path_of(name)} was made and is gone"
        yield Finding("secret-lost", Level.FAIL, text, "put it back from a backup: it is not made anew")
    for name in pending:
        path = secrets_plan.path_of(name)
        todo = f"cat > {path}, type the value and Ctrl-D twice, which keeps it out of the history; run avatar-setup"
        yield Finding("secret-pending", Level.FAIL, f"{path} is empty or missing ({SECRETS[name].question})", todo)
    for problem in wrong:
        yield Finding("secret-form", Level.FAIL, problem, "correct it, and run avatar-setup")
    if not lost and not pending and not wrong:
        yield Finding("secrets", Level.OK, f"{len(secrets_plan.list_applicable(values))} secrets are in order")


def room(volume: Volume) -> Iterator[Finding]:
    """Whether the volume has room for another run."""
    free, nodes = volume.free()
    text = f"{free >> 20} MiB free on the volume"
    todo = "free some: du -xh --max-depth=1 shows what takes it"
    if free < _NO_ROOM or nodes == 0:
        yield Finding("room", Level.FAIL, text if free < _NO_ROOM else "no inode is free on the volume", todo)
    else:
        yield Finding("room", Level.WARN if free < _LITTLE else Level.OK, text, todo if free < _LITTLE else "")


def clock(volume: Volume, state: DeploymentState, now: datetime) -> Iterator[Finding]:
    """Whether the clock is later than what it must be later than: certificates and sign-in depend on it."""
    times = [status.st_mtime for path in (STATE, *state.files) if (status := volume.status(path)) is not None]
    times.append(os.stat(__file__).st_mtime)
    latest = datetime.fromtimestamp(max(times), UTC)
    if latest > now + _JITTER:
        text = f"the clock says {now:%Y-%m-%d %H:%M} UTC, and files here are from {latest:%Y-%m-%d %H:%M}"
        yield Finding("clock", Level.FAIL, text, "set the host's clock: timedatectl")
    else:
        yield Finding("clock", Level.OK, f"the clock says {now:%Y-%m-%d %H:%M} UTC, which can be")
