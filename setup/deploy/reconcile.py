"""Decide what happens to each file of the deployment, files edited by hand included; write nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum, auto

from setup.deploy import baseline
from setup.errors import VolumeError
from setup.formats.digests import digest
from setup.state_manager import DeploymentState, split_additions
from setup.typed import NamedTuple
from setup.volume.layout import ENV, PROPOSAL_SUFFIX, File, written_path
from setup.volume.volume import Volume


class OnConflict(StrEnum):
    """What to do with a file that was edited by hand and that a run would change: the words of `--on-conflict`."""

    ASK = auto()
    KEEP = auto()
    REPLACE = auto()
    FAIL = auto()


class Action(StrEnum):
    """What happens to one file: the words of `--diff --json`."""

    UNCHANGED = auto()
    NEW = auto()
    CHANGED = auto()
    MERGED = auto()
    REPLACED = auto()
    KEPT = auto()
    REFUSED = auto()


# What follows the key of the fingerprints in the compose file, in names of other engines, and in the blueprint.
MARK = (
    rb'(?<=avatar-setup\.secrets: ")[0-9a-f]{16}|(?<=avatar-setup\.files: ")[0-9a-f]{16}|'
    rb"(?<=again: )[0-9a-f]{16}|(?<=[_-])[0-9a-f]{16}\b"
)
_CHOSEN = {
    OnConflict.KEEP: Action.KEPT,
    OnConflict.REPLACE: Action.REPLACED,
    OnConflict.FAIL: Action.REFUSED,
}


class Conflict(NamedTuple):
    """A file that this run would change, and that was edited by hand or never written by avatar-setup (`foreign`)."""

    path: str
    why: str
    foreign: bool


class Change(NamedTuple):
    """What happens to a file, what is to be published for it, and its present bytes.

    `outdated` is the path of an earlier new text beside it, which goes because the file has no edit any more.
    """

    file: File
    action: Action
    publish: tuple[File, ...] = ()
    on_disk: bytes | None = None
    outdated: str = ""


def reconcile_file(
    volume: Volume, state: DeploymentState | None, file: File, choose: Callable[[Conflict], OnConflict]
) -> Change:
    """Decide what happens to a file; without a state, every file on the volume counts as ours.

    `choose` returns KEEP, REPLACE or FAIL for a conflict.
    """
    on_disk = volume.read(file.path)
    new = file._replace(data=file.data + split_additions(file.path, on_disk or b"")[1])
    action = Action.CHANGED
    if on_disk is None:
        action = Action.NEW
    elif on_disk == new.data:
        action = Action.UNCHANGED
    elif state is None or state.knows(file.path, on_disk) or _unmarked(on_disk) == _unmarked(file.data):
        pass
    elif state.exists and on_disk == volume.read(written_path(file.path)):
        pass  # of a TARGET that this deployment had before
    elif state.files.get(file.path) == digest(file.data):  # edited by hand, and our text is still the same
        return Change(file, Action.UNCHANGED, on_disk=on_disk)
    else:
        change = _reconcile_edited(volume, state, new, on_disk, choose)._replace(file=file)
        if change.action is not Action.REPLACED:
            return change
        action = change.action
    publish = () if action is Action.UNCHANGED else (new,)
    has_proposal = state is not None and read_proposal(volume, state, file.path, on_disk) is not None
    return Change(file, action, publish, on_disk, file.path + PROPOSAL_SUFFIX if has_proposal else "")


def _unmarked(data: bytes) -> bytes:
    """Return a text without its marks, which nobody edits; they differ if the state and the key were lost."""
    return re.sub(MARK, b"", data)


def _reconcile_edited(
    volume: Volume, state: DeploymentState, new: File, on_disk: bytes, choose: Callable[[Conflict], OnConflict]
) -> Change:
    """Decide what happens to a file that was changed on both sides."""
    merged, why = _merge(volume, state, new, on_disk)
    beside = new._replace(path=new.path + PROPOSAL_SUFFIX)
    if merged is not None:
        publish = [new._replace(data=merged)] if merged != on_disk else []
        # Of an earlier conflict, which the merge leaves as it is.
        if read_proposal(volume, state, new.path, on_disk) not in (None, beside.data):
            publish.append(beside)
        return Change(new, Action.MERGED, tuple(publish), on_disk)
    foreign = new.path not in state.files and new.path not in state.announced
    action = _CHOSEN[choose(Conflict(new.path, why, foreign))]
    needed = action is Action.KEPT and volume.read(beside.path) != beside.data
    return Change(new, action, (beside,) if needed else (), on_disk)


def read_proposal(volume: Volume, state: DeploymentState, path: str, on_disk: bytes | None) -> bytes | None:
    """Read the text that an earlier run put beside a file; None if there is none, or if it holds what only it has."""
    try:
        beside = volume.read(path + PROPOSAL_SUFFIX)
    except VolumeError:  # no file, so not ours
        return None
    if beside is None or not (state.knows(path, beside) or beside == volume.read(written_path(path))):
        return None
    additions = split_additions(path, beside)[1]
    return beside if additions in split_additions(path, on_disk or b"")[1] else None


def _merge(volume: Volume, state: DeploymentState, new: File, on_disk: bytes) -> tuple[bytes | None, str]:
    """Merge the changes of both sides of `.env`; without a merge, return None and why."""
    base = baseline.read_text(volume, state, new.path) if new.path == ENV else None
    if base is None:
        return None, ""
    from setup.formats.dotenv_merge import merge
    from setup.formats.yaml_file import Malformed  # with it comes a parser that other runs do not need

    theirs, additions = split_additions(ENV, on_disk)
    try:
        merged = merge(base, theirs, split_additions(ENV, new.data)[0])
    except Malformed as error:
        return None, f"it cannot be merged: {error}"
    if merged.conflicts:
        return None, f"both changed {', '.join(merged.conflicts)}"
    return merged.data + additions, ""
