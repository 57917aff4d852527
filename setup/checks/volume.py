"""Check the volume itself: progress, files, permissions and owners, secrets, disk space and clock."""

from __future__ import annotations

import contextlib
import os
import stat
from datetime import UTC, datetime, timedelta

from setup.config.secrets import SECRETS
from setup.config.values import Values
from setup.deploy.ending import pending_finding
from setup.deploy.planner import needs_new_names
from setup.environment import shell_word
from setup.errors import VolumeError
from setup.findings import CONTINUE, HISTORY, RUN, RUN_AFTER, Finding, Level, restore
from setup.formats.wrapping import is_quoted
from setup.secrets import guards, store
from setup.secrets.plan import check_filled, clean, is_bound, list_applicable
from setup.state_file import COMPLETED
from setup.state_manager import DeploymentState
from setup.typed import TYPE_CHECKING
from setup.volume import backups
from setup.volume.layout import (
    AUTHORITY_KEY,
    KEYS_FOLDER,
    MAIN_FILES,
    SECRETS_FOLDER,
    STATE,
    folder_mode,
    place_of,
    secret_path,
)
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LITTLE_SPACE, _NO_SPACE = 100 << 20, 1 << 20  # bytes
_JITTER = timedelta(minutes=5)
_RUN_AGAIN = "run avatar-setup, which writes the file again"
_FROM_BACKUP = "restore it from a backup: it is not regenerated"


def check_volume(volume: Volume, state: DeploymentState, basis: Mapping[str, str], now: datetime) -> Iterator[Finding]:
    """Check everything that needs neither settings nor secrets."""
    yield from _check_restore(volume)
    leftovers = backups.find_leftovers(volume)
    if leftovers:
        text = f"an interrupted run left {', '.join(leftovers)}"
        yield Finding("leftovers", Level.WARN, text, "run avatar-setup, which removes that")
    yield from _check_steps(volume, state)
    yield from _check_release(state, basis)
    yield from _check_files(volume, state)
    yield _check_disk_space(volume)
    yield _check_clock(volume, state, now)


def _check_restore(volume: Volume) -> Iterator[Finding]:
    backup = backups.interrupted(volume)
    if backup:
        text = f"the restore of {backup} was interrupted: some files are from the backup, others are not"
        yield Finding("restoring", Level.FAIL, text, f"finish it: --restore {backup}", restore(backup))


def _check_steps(volume: Volume, state: DeploymentState) -> Iterator[Finding]:
    if not state.exists and any(volume.status(path) is not None for path in MAIN_FILES):
        text = f"{STATE} is missing from this deployment"
        yield Finding(
            "steps", Level.FAIL, text, "restore a backup: --history lists them, --restore ID restores one", HISTORY
        )
        return
    done = list(state.steps.values()).count(COMPLETED)
    text = f"{done}/{len(state.steps)} steps completed"
    if state.is_complete():
        yield Finding("steps", Level.OK, text)
    else:
        yield Finding("steps", Level.FAIL, text, "run avatar-setup, which continues there", CONTINUE)


def _check_release(state: DeploymentState, basis: Mapping[str, str]) -> Iterator[Finding]:
    for part, digest in basis.items() if state.basis else ():
        if state.basis.get(part) != digest:
            text = "another release of avatar-setup wrote these files"
            yield Finding("release", Level.WARN, text, "run this release once, then type what it prints last")
            return


def _check_files(volume: Volume, state: DeploymentState) -> Iterator[Finding]:
    odd: list[str] = []
    missing: list[str] = []
    edited: list[str] = []
    for path in state.files:
        data = read_regular(volume, path)
        if data is None:
            (odd if _is_odd(volume, path) else missing).append(path)
        elif not state.knows(path, data):
            edited.append(path)
    if state.files and not (odd or missing or edited):
        yield Finding("files", Level.OK, f"{len(state.files)} generated files are unmodified")
    if odd:
        text = f"a directory or a link in place of a file: {', '.join(odd)}"
        yield Finding("file-odd", Level.FAIL, text, f"move it away, and {_RUN_AGAIN}", RUN_AFTER)
    if AUTHORITY_KEY in missing:
        missing.remove(AUTHORITY_KEY)
        yield Finding("file-missing", Level.FAIL, f"missing: {AUTHORITY_KEY}", _FROM_BACKUP)
    if missing:
        yield Finding("file-missing", Level.FAIL, f"missing: {', '.join(missing)}", _RUN_AGAIN, RUN)
    needs_run = not odd and needs_new_names(volume, state)
    if edited:
        todo = "nothing, if you meant the change: a run keeps it, or stops before it overwrites it"
        if needs_run:
            todo = "if you meant the change, run avatar-setup after it, then deploy: new content needs a new name"
        yield Finding("file-edited", Level.WARN, f"edited by hand: {', '.join(edited)}", todo)
    elif needs_run:
        text = "an edit by hand is undone, and the engine has its name for the edited content"
        yield Finding("file-edited", Level.WARN, text, "run avatar-setup, then deploy")


def _is_odd(volume: Volume, path: str) -> bool:
    """Tell whether a path holds something other than a regular file."""
    status = volume.status(path)
    return status is not None and not stat.S_ISREG(status.st_mode)


def read_regular(volume: Volume, path: str) -> bytes | None:
    """Read a regular file, None if there is none."""
    return None if _is_odd(volume, path) else volume.read(path)


def check_modes(volume: Volume, state: DeploymentState) -> Iterator[Finding]:
    """Check that everyone who must read a file can, nobody else can read a private one, and all have one owner."""
    entries: dict[str, os.stat_result] = {}
    paths = [STATE, *state.files, *map(secret_path, SECRETS), SECRETS_FOLDER]
    if AUTHORITY_KEY in state.files:
        paths.append(KEYS_FOLDER)
    for path, status in volume.status_each(paths).items():
        if stat.S_ISREG(status.st_mode) or path in (SECRETS_FOLDER, KEYS_FOLDER):
            entries[path] = status
    uid, gid = (entries[STATE].st_uid, entries[STATE].st_gid) if STATE in entries else volume.owner()
    findings = [*_check_permissions(entries), *_check_output_directory(volume), *_check_owner(entries, uid, gid)]
    yield from findings
    if entries and not findings:
        yield Finding("file-modes", Level.OK, f"owner {uid}:{gid} and file permissions are correct")


def _check_permissions(entries: Mapping[str, os.stat_result]) -> Iterator[Finding]:
    for wanted in (0o600, 0o644, 0o700):
        closed, opened = [], []
        for path, status in entries.items():
            mode = stat.S_IMODE(status.st_mode)
            if _wanted_mode(path) == wanted and wanted & ~mode:
                closed.append(path)
            if _wanted_mode(path) == wanted and mode & 0o066 & ~wanted:
                opened.append(path)
        if closed:
            text = f"not readable by everyone who must read it: {', '.join(closed)}"
            yield Finding("file-closed", Level.FAIL, text, _chmod(closed, wanted))
        if opened:
            text = f"accessible to other users of the host: {', '.join(opened)}"
            yield Finding("file-open", Level.WARN, text, _chmod(opened, wanted))


def _chmod(paths: list[str], mode: int) -> str:
    return f"chmod {mode:04o} {' '.join(map(shell_word, paths))}"


def _wanted_mode(path: str) -> int:
    return folder_mode(path) if path in (SECRETS_FOLDER, KEYS_FOLDER) else place_of(path).mode


def _check_output_directory(volume: Volume) -> Iterator[Finding]:
    if os.stat(volume.path).st_mode & 0o022:
        text = "other users of the host can replace files in the output directory"
        yield Finding("file-open", Level.WARN, text, "on the host: chmod go-w, on the directory that is mounted here")


def _check_owner(entries: Mapping[str, os.stat_result], uid: int, gid: int) -> Iterator[Finding]:
    foreign, level = [], Level.WARN
    for path, status in entries.items():
        if status.st_uid != uid:
            foreign.append(path)
            if _wanted_mode(path) != 0o644:
                level = Level.FAIL  # the deployment's owner cannot read it
    if foreign:
        text = f"not owned by {uid}:{gid}, the deployment's owner: {', '.join(foreign)}"
        yield Finding("file-owner", level, text, f"sudo chown {uid}:{gid} {' '.join(map(shell_word, foreign))}")


def read_secrets(volume: Volume) -> tuple[dict[str, str], dict[str, str]]:
    """Read every secret that has a text; and say why others are not text."""
    with contextlib.suppress(VolumeError):  # the usual case, at once
        return store.read_filled(volume), {}
    texts: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for name in SECRETS:
        try:
            texts[name] = store.read_secret(volume, name) or ""
        except VolumeError as error:
            if volume.status(secret_path(name)) is None:  # the whole folder cannot be read
                raise
            unreadable[name] = str(error)
    return {name: text for name, text in texts.items() if text}, unreadable


def check_secrets(
    values: Values, texts: Mapping[str, str], unreadable: Mapping[str, str], made: Mapping[str, int]
) -> Iterator[Finding]:
    """Check that every secret of this deployment has a valid value; none is shown."""
    is_good, problems = True, []
    lost, pending = guards.find_unfilled(values, texts, made)
    applicable = list_applicable(values)
    for secret in applicable:
        path, text = secret_path(secret.name), texts.get(secret.name, "")
        filled = check_filled({secret.name: text} if text else {})
        if secret.name in unreadable:
            problems.append(unreadable[secret.name])
        elif secret in lost:
            is_good = False
            yield Finding("secret-lost", Level.FAIL, f"{path} had a value and is missing or empty", _FROM_BACKUP)
        elif secret in pending:
            is_good = False
            yield pending_finding(secret)
        elif not (filled or is_bound(secret, values)) and clean(secret, text) != text:
            text = f"{path} has line ends that are no part of the value"
            yield Finding("secret-line-end", Level.WARN, text, "run avatar-setup, which removes it")
        elif is_quoted(text):
            text, todo = (
                f"{path} is wrapped in quotes, which are part of its value",
                "remove them if they are not meant",
            )
            yield Finding("secret-form", Level.WARN, text, todo)
    for problem in (*problems, *check_filled(texts)):
        is_good = False
        yield Finding("secret-form", Level.FAIL, problem, "correct it, and run avatar-setup", RUN_AFTER)
    if is_good:
        yield Finding("secrets", Level.OK, f"{len(applicable)} secrets are valid")


def _check_disk_space(volume: Volume) -> Finding:
    free, inodes = volume.free()
    text, todo = f"{free >> 20} MiB free on the volume", "free some: du -xh --max-depth=1 shows what uses it"
    if free < _NO_SPACE or inodes == 0:
        return Finding("disk-space", Level.FAIL, text if free < _NO_SPACE else "no free inode on the volume", todo)
    if free < _LITTLE_SPACE:
        return Finding("disk-space", Level.WARN, text, todo)
    return Finding("disk-space", Level.OK, text)


def _check_clock(volume: Volume, state: DeploymentState, now: datetime) -> Finding:
    """Check that the clock is not behind the files: certificates and sign-in depend on it."""
    latest = os.stat(__file__).st_mtime
    for status in volume.status_each((STATE, *state.files)).values():
        latest = max(latest, status.st_mtime)
    newest = datetime.fromtimestamp(latest, UTC)
    if newest > now + _JITTER:
        text = (
            f"system clock is behind: it says {now:%Y-%m-%d %H:%M} UTC, but a file here is from {newest:%Y-%m-%d %H:%M}"
        )
        return Finding("clock", Level.FAIL, text, "set the host's clock: timedatectl")
    return Finding("clock", Level.OK, f"system clock is plausible: {now:%Y-%m-%d %H:%M} UTC")
