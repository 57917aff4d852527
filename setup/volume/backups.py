"""Dated copies: a deployment as it was before a run changed it, kept on the same volume.

A copy is a folder `.deployment-history/ID/` that mirrors the volume, closed to other users like `.secrets`, which it
may hold. Its manifest is written last, when everything else is durable: a folder without one is no copy.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from setup import __version__
from setup.errors import DecisionNeeded, VolumeError
from setup.volume.layout import HISTORY, RESTORE_MARK, File, backup_path, file_at, manifest_path, secret_path
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

A_RUN = "a run"  # the usual cause of a copy
A_ROTATION = "--rotate "  # the cause of a rotation's copy, before the names of its secrets
A_FINISH = "finishing "  # the cause of one that is made while an interrupted rotation is finished, before its cause
A_RESTORE = "restoring "  # the cause of a restore's copy, before the id of the one brought back
_ID = r"\d{8}T\d{6}Z(-\d+)?"
LAST = 10  # so many are kept unless somebody says otherwise


class Copy(NamedTuple):
    """One copy: `cause` says in words what the run did that made it, `absent` what was not there then."""

    id: str
    version: str
    cause: str
    paths: tuple[str, ...]
    absent: tuple[str, ...]


def keep(volume: Volume, paths: Iterable[str], cause: str, last: int = LAST, spare: Collection[str] = ()) -> str:
    """Keeps a durable copy of these files and returns its id; then forgets all but the `last` ones and the spared.

    When the newest copy was made for the same cause and holds the same bytes, as after a crash, it stands for this too.
    """
    paths = sorted(paths)
    files = [file for file in map(volume.file, paths) if file is not None]
    there = {file.path for file in files}
    absent = tuple(path for path in paths if path not in there)
    kept = history(volume)
    if kept and kept[0].cause == cause and _same(volume, kept[0], files, absent):
        newest = kept.pop(0).id
    else:
        newest = _next_id(volume)
        _make(volume, Copy(newest, __version__, cause, tuple(file.path for file in files), absent), files)
    _forget(volume, {newest, *spare, *(one.id for one in kept[: last - 1])})
    return newest


def _make(volume: Volume, copy: Copy, files: list[File]) -> None:
    """Writes a copy, its manifest last; what cannot be finished is removed again."""
    try:
        volume.publish(volume.stage(file._replace(path=backup_path(copy.id, file.path)) for file in files))
        volume.replace(file_at(manifest_path(copy.id), _to_json(copy)))
    except BaseException:
        with contextlib.suppress(VolumeError):
            volume.remove(f"{HISTORY}/{copy.id}")
        raise


def history(volume: Volume) -> list[Copy]:
    """All copies, the newest first."""
    found = []
    for name in reversed(_names(volume)):
        data = volume.read(manifest_path(name))
        if data is not None:
            found.append(_from_json(name, data))
    return found


def since(volume: Volume, copy: Copy | None) -> list[Copy]:
    """The copies that were made after one, the newest first; all of them where it is None."""
    return list(itertools.takewhile(lambda one: one != copy, history(volume)))


def find(volume: Volume, name: str) -> Copy:
    """The copy of this id; VolumeError, naming those that there are, when there is none."""
    kept = history(volume)
    for copy in kept:
        if copy.id == name:
            return copy
    there = f"there are {', '.join(copy.id for copy in kept)}" if kept else "there is none yet"
    raise VolumeError(f"{volume.path}/{HISTORY} has no copy of that name: {there}")


def interrupted(volume: Volume) -> str:
    """The id of the copy that a run was bringing back when it was killed, or ""."""
    return (volume.read(RESTORE_MARK) or b"").decode(errors="replace").strip()


def require_whole(volume: Volume) -> None:
    """Raises DecisionNeeded while a restore is half done."""
    half = interrupted(volume)
    if half:
        raise DecisionNeeded(
            f"{volume.path} is halfway between two deployments: bringing back {half} was interrupted. "
            + way_out(volume, half)
        )


def way_out(volume: Volume, half: str) -> str:
    """What to type where bringing back a copy was interrupted; copies may have been removed by hand since."""
    left = [copy.id for copy in history(volume)]
    if half in left:
        return f"Finish it (--restore {half}), or bring another copy back (--history lists them)"
    if left:
        return "That copy is gone: bring another one back (--history lists them)"
    return f"No copy is left: put the files right by hand or from a backup, then rm {RESTORE_MARK} and run again"


def contents(volume: Volume, copy: Copy) -> list[File]:
    """The files of a copy, each with its own path and mode; VolumeError when one is gone."""
    files = []
    for path in copy.paths:
        file = volume.file(backup_path(copy.id, path))
        if file is None:
            raise VolumeError(f"{volume.path}/{backup_path(copy.id, path)} is missing: this copy is no longer whole")
        files.append(file._replace(path=path))
    return files


def to_rotate(copy: Copy) -> list[str]:
    """The secrets of the rotation that kept this copy; none for another copy."""
    return copy.cause.removeprefix(A_ROTATION).split(",") if copy.cause.startswith(A_ROTATION) else []


def rotated(volume: Volume, copy: Copy) -> list[str]:
    """Those among them that have another value by now."""
    paths = {name: secret_path(name) for name in to_rotate(copy)}
    return [name for name, path in paths.items() if volume.read(backup_path(copy.id, path)) != volume.read(path)]


def _names(volume: Volume) -> list[str]:
    """The folders that are copies, or remains of one, the newest last; anything else there is somebody else's."""
    return sorted((name for name in volume.names(HISTORY) if re.fullmatch(_ID, name)), key=_order)


def _same(volume: Volume, copy: Copy, files: list[File], absent: tuple[str, ...]) -> bool:
    try:
        return copy.absent == absent and contents(volume, copy) == files
    except VolumeError:  # it is no longer whole, so it stands for nothing
        return False


def _forget(volume: Volume, wanted: set[str]) -> None:
    """Removes every copy but these, and what an interrupted run has left of one; its manifest goes first."""
    for name in _names(volume):
        if name not in wanted:
            volume.remove(manifest_path(name))
            volume.remove(f"{HISTORY}/{name}")


def _next_id(volume: Volume) -> str:
    """The time, and a number where that would not come after the newest: a clock may have been set back."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    newest, number = max(map(_order, _names(volume)), default=("", 0))
    return now if now > newest else f"{newest}-{number + 1}"


def _order(name: str) -> tuple[str, int]:
    stamp, _, number = name.partition("-")
    return stamp, int(number) if number.isascii() and number.isdigit() else 1


def _to_json(copy: Copy) -> bytes:
    import json

    document = copy._asdict()
    del document["id"]  # the folder's name
    return f"{json.dumps(document, indent=2)}\n".encode()


def _from_json(name: str, data: bytes) -> Copy:
    import json

    try:
        document: Any = json.loads(data)
        paths, absent = (tuple(map(str, document[key])) for key in ("paths", "absent"))
        return Copy(name, str(document["version"]), str(document["cause"]), paths, absent)
    except (ValueError, TypeError, KeyError):
        raise VolumeError(
            f"{manifest_path(name)} cannot be used: move the folder {HISTORY}/{name} away and run again"
        ) from None
