"""What becomes of each file that should stand on the volume, edits by hand included: decided, not yet written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from setup.deploy import baseline
from setup.deploy.targets import ENV
from setup.formats.digests import digest
from setup.state_manager import DeploymentState, split_additions
from setup.volume.layout import File

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from setup.volume.volume import Volume

ASK, KEEP, REPLACE, FAIL = "ask", "keep", "replace", "fail"
BESIDE = ".new"  # what the new text of a kept file is called

SAME, NEW, CHANGED, MERGED = "same", "new", "changed", "merged"
REPLACED, KEPT, REFUSED = "replaced", "kept", "refused"
_CHOSEN = {KEEP: KEPT, REPLACE: REPLACED, FAIL: REFUSED}


class Conflict(NamedTuple):
    """A file that was edited by hand, or is not from here at all, and that this run would change."""

    path: str
    why: str
    foreign: bool
    there: bytes
    wanted: bytes


class Fate(NamedTuple):
    """What becomes of a file: how, and what is to be published for it."""

    file: File
    how: str
    publish: tuple[File, ...] = ()
    there: bytes | None = None


def fates(
    volume: Volume, state: DeploymentState, files: Iterable[File], choose: Callable[[Conflict], str], use_state: bool
) -> list[Fate]:
    """The fate of each file; `choose` gives KEEP, REPLACE or FAIL where it is not plain."""
    return [_fate(volume, state, file, choose, use_state) for file in files]


def _fate(
    volume: Volume, state: DeploymentState, file: File, choose: Callable[[Conflict], str], use_state: bool
) -> Fate:
    there = volume.read(file.path)
    if there is None:
        return Fate(file, NEW, (file,))
    whole = file._replace(data=file.data + split_additions(file.path, there)[1])
    if there == whole.data:
        return Fate(file, SAME, there=there)
    if not use_state or state.knows(file.path, there):
        return Fate(file, CHANGED, (whole,), there)
    if state.files.get(file.path) == digest(file.data):  # edited by hand, and we have nothing new to say
        return Fate(file, SAME, there=there)
    return _edited(volume, state, whole, there, choose)._replace(file=file)


def _edited(
    volume: Volume, state: DeploymentState, whole: File, there: bytes, choose: Callable[[Conflict], str]
) -> Fate:
    """The fate of a file that was changed on both sides."""
    merged, why = _merge(volume, state, whole, there)
    if merged is not None:
        return Fate(whole, MERGED, (whole._replace(data=merged),) if merged != there else (), there)
    foreign = whole.path not in {**state.files, **state.announced}
    how = _CHOSEN[choose(Conflict(whole.path, why, foreign, there, whole.data))]
    beside = whole._replace(path=whole.path + BESIDE)
    if how == KEPT:
        return Fate(whole, how, (beside,) if volume.read(beside.path) != beside.data else (), there)
    return Fate(whole, how, (whole,) if how == REPLACED else (), there)


def _merge(volume: Volume, state: DeploymentState, whole: File, there: bytes) -> tuple[bytes | None, str]:
    """`.env` with the changes of both sides, or None and why there is none."""
    base = baseline.base(volume, state, whole.path) if whole.path == ENV else None
    if base is None:
        return None, ""
    from setup.formats.dotenv_merge import merge
    from setup.formats.yaml_file import Malformed  # with it comes a parser that other runs do not need

    (theirs, additions), ours = split_additions(ENV, there), split_additions(ENV, whole.data)[0]
    try:
        merged = merge(base, theirs, ours)
    except Malformed as error:
        return None, f"it cannot be merged: {error}"
    if merged.conflicts:
        return None, f"both changed {', '.join(merged.conflicts)}"
    return merged.data + additions, ""
