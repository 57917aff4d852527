"""Backups: a deployment as it was before a run changed it, kept on the same volume.

A backup is a folder `.deployment-history/ID/` that mirrors the volume. It is private, because it holds secrets. Its
manifest is written last, when everything else is durable: a folder without one is no backup.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import time
from collections.abc import Collection, Iterable
from enum import StrEnum

from setup import __version__
from setup.errors import Busy, DecisionNeeded, VolumeError
from setup.typed import Any, NamedTuple
from setup.volume.layout import HISTORY, RESTORE_MARK, SWEPT, File, backup_path, file_at, manifest_path, secret_path
from setup.volume.volume import Volume

_ID = r"\d{8}T\d{6}Z(-\d+)?"
LAST = 10  # how many are kept by default


class Kind(StrEnum):
    """What the run that saved a backup was about to do."""

    RUN = "run"
    RESET = "reset"
    ADOPTION = "adoption"
    RESTORE = "restore"
    ROTATION = "rotation"
    FINISHED_ROTATION = "finished-rotation"  # files that were edited while the rotation was interrupted


class Reason(NamedTuple):
    """Why a backup was saved: a rotation's `secrets`, and the `source` that is adopted or restored."""

    kind: Kind = Kind.RUN
    secrets: tuple[str, ...] = ()
    source: str = ""

    @property
    def text(self) -> str:
        """The reason in words, for messages only."""
        rotation = f"--rotate {','.join(self.secrets)}"
        return {
            Kind.RUN: "a run",
            Kind.RESET: "a reset",
            Kind.ADOPTION: f"--adopt {self.source}",
            Kind.RESTORE: f"restoring {self.source}",
            Kind.ROTATION: rotation,
            Kind.FINISHED_ROTATION: f"finishing {rotation}",
        }[self.kind]


class _Unusable(Exception):
    """A manifest that does not describe a backup."""


class Backup(NamedTuple):
    """One backup; `absent` are the paths that did not exist."""

    id: str
    version: str
    reason: Reason
    paths: tuple[str, ...]
    absent: tuple[str, ...]


def save(volume: Volume, paths: Iterable[str], reason: Reason, last: int = LAST, spare: Collection[str] = ()) -> str:
    """Save a durable backup of these files and return its id; then remove all but the `last` ones and the spared.

    If the newest backup has the same reason and the same bytes, as after a crash, it serves again. Damaged ones stay.
    """
    paths = sorted(paths)
    files = [file for file in volume.files(paths) if file is not None]
    absent = tuple(sorted({*paths} - {file.path for file in files}))
    kept, damaged = survey(volume)
    if kept and kept[0].reason == reason and _same(volume, kept[0], files, absent):
        newest = kept.pop(0).id
    else:
        newest = _next_id(volume)
        _make(volume, Backup(newest, __version__, reason, tuple(file.path for file in files), absent), files)
    _forget(volume, {newest, *spare, *damaged, *(backup.id for backup in kept[: last - 1])})
    return newest


def _make(volume: Volume, backup: Backup, files: list[File]) -> None:
    """Write a backup, its manifest last; remove it again if that fails."""
    try:
        volume.publish(volume.stage(file._replace(path=backup_path(backup.id, file.path)) for file in files))
        volume.replace(file_at(manifest_path(backup.id), _to_json(backup)))
    except BaseException:
        with contextlib.suppress(VolumeError):
            volume.remove(f"{HISTORY}/{backup.id}")
        raise


def survey(volume: Volume) -> tuple[list[Backup], dict[str, str]]:
    """Return the usable backups, the newest first, and by id why another cannot be used."""
    usable, damaged = [], {}
    for name in reversed(_names(volume)):
        try:
            data = volume.read(manifest_path(name))
            if data is not None:
                usable.append(_from_json(name, data))
        except (VolumeError, _Unusable):
            damaged[name] = f"{manifest_path(name)} cannot be used: move the folder {HISTORY}/{name} away and run again"
    return usable, damaged


def history(volume: Volume) -> list[Backup]:
    """Return all backups, the newest first; raise VolumeError if one of them is damaged."""
    usable, damaged = survey(volume)
    if damaged:
        raise VolumeError(*damaged.values())
    return usable


def find_leftovers(volume: Volume) -> list[str]:
    """List what an interrupted run left: staged files, and backups that were not finished; [] during another run."""
    paths = volume.staged(SWEPT)
    paths += (f"{HISTORY}/{name}" for name in _names(volume) if volume.status(manifest_path(name)) is None)
    try:
        if paths:
            volume.require_free()
    except Busy:
        return []
    return paths


def clear_leftovers(volume: Volume) -> None:
    """Remove what an interrupted run left, if this run may write and no other is in progress."""
    if find_leftovers(volume):
        with contextlib.suppress(Busy, VolumeError), volume.locked(SWEPT):
            usable, damaged = survey(volume)
            _forget(volume, {*damaged, *(backup.id for backup in usable)})


def since(volume: Volume, backup: Backup | None) -> list[Backup]:
    """Return the backups that were saved after one, the newest first; all of them if it is None."""
    return list(itertools.takewhile(lambda other: other != backup, history(volume)))


def find(volume: Volume, name: str) -> Backup:
    """Return the backup of this id; raise VolumeError, listing the existing ones, if there is none."""
    kept, damaged = survey(volume)
    for backup in kept:
        if backup.id == name:
            return backup
    if name in damaged:
        raise VolumeError(damaged[name])
    existing = f"there are {', '.join(backup.id for backup in kept)}" if kept else "there is none yet"
    raise VolumeError(f"{volume.path}/{HISTORY} has no backup {name}: {existing}")


def interrupted(volume: Volume) -> str:
    """Return the id of the backup whose restore was interrupted, or ""."""
    return (volume.read(RESTORE_MARK) or b"").decode(errors="replace").strip()


def require_whole(volume: Volume) -> None:
    """Raise DecisionNeeded while a restore is interrupted."""
    identifier = interrupted(volume)
    if identifier:
        raise DecisionNeeded(
            f"{volume.path} is halfway between two deployments: the restore of {identifier} was interrupted. "
            + explain_recovery(volume, identifier)
        )


def explain_recovery(volume: Volume, identifier: str) -> str:
    """Say what to type after an interrupted restore; somebody may have removed backups since."""
    left = [backup.id for backup in survey(volume)[0]]
    if identifier in left:
        return f"Finish it (--restore {identifier}), or restore another backup (--history lists them)"
    if left:
        return "That backup is gone: restore another one (--history lists them)"
    return f"No backup is left: restore the files from a backup of your own, then rm {RESTORE_MARK} and run again"


def contents(volume: Volume, backup: Backup) -> list[File]:
    """Return the files of a backup, each with its own path and mode; raise VolumeError if one is missing."""
    files = []
    places = map(functools.partial(backup_path, backup.id), backup.paths)
    for path, file in zip(backup.paths, volume.files(places), strict=True):
        if file is None:
            raise VolumeError(
                f"{volume.path}/{backup_path(backup.id, path)} is missing: this backup is incomplete; "
                f"move the folder {HISTORY}/{backup.id} away and run again"
            )
        files.append(file._replace(path=path))
    return files


def list_old_values(volume: Volume, path: str) -> list[str]:
    """Return where the backups keep other contents of a file than it has now: each content once, the oldest first.

    A file that was missing or empty counts as none.
    """
    seen = {volume.read(path), None, b""}
    places = []
    for backup in reversed(survey(volume)[0]):
        place = backup_path(backup.id, path)
        data = volume.read(place)
        if data not in seen:
            seen.add(data)
            places.append(place)
    return places


def rotated(volume: Volume, backup: Backup) -> list[str]:
    """Return the secrets of the rotation that saved this backup which have another value by now."""
    names = []
    for name in backup.reason.secrets if backup.reason.kind is Kind.ROTATION else ():
        path = secret_path(name)
        if volume.read(backup_path(backup.id, path)) != volume.read(path):
            names.append(name)
    return names


def _names(volume: Volume) -> list[str]:
    """Return the folders that are backups or remains of one, the newest last; other entries are not ours."""
    return sorted((name for name in volume.names(HISTORY) if re.fullmatch(_ID, name)), key=_order)


def _same(volume: Volume, backup: Backup, files: list[File], absent: tuple[str, ...]) -> bool:
    try:
        return backup.absent == absent and contents(volume, backup) == files
    except VolumeError:  # an incomplete backup does not serve again
        return False


def _forget(volume: Volume, wanted: set[str]) -> None:
    """Remove every other backup, and remains of interrupted ones; the manifest goes first."""
    for name in _names(volume):
        if name not in wanted:
            volume.remove(manifest_path(name))
            volume.remove(f"{HISTORY}/{name}")


def _next_id(volume: Volume) -> str:
    """Return the time, with a number if the newest backup is not older: a clock may have been set back."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    newest, number = max(map(_order, _names(volume)), default=("", 0))
    return now if now > newest else f"{newest}-{number + 1}"


def _order(name: str) -> tuple[str, int]:
    stamp, _, number = name.partition("-")
    return stamp, int(number) if number.isascii() and number.isdigit() else 1


def _to_json(backup: Backup) -> bytes:
    import json

    kind, secrets, source = backup.reason
    document = {"version": backup.version, "kind": kind, "secrets": secrets, "source": source}
    document |= {"paths": backup.paths, "absent": backup.absent}
    return f"{json.dumps(document, indent=2)}\n".encode()


def _from_json(name: str, data: bytes) -> Backup:
    import json

    try:
        document: Any = json.loads(data)
        secrets, paths, absent = (tuple(map(str, document[key])) for key in ("secrets", "paths", "absent"))
        _require_possible((*secrets, *paths, *absent))
        reason = Reason(Kind(document["kind"]), secrets, str(document["source"]))
        return Backup(name, str(document["version"]), reason, paths, absent)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _Unusable from None


def _require_possible(names: Iterable[str]) -> None:
    """Raise ValueError for a name that no file can have."""
    for name in names:
        if b"\0" in name.encode():
            raise ValueError("a null character")
