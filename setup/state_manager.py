"""The memory of a deployment: progress, answers, and hashes of the files that were written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup import state_file
from setup.config.model import Given
from setup.errors import VolumeError
from setup.formats import dotenv
from setup.formats.digests import digest
from setup.formats.yaml_file import Malformed
from setup.state_file import COMPLETED, IN_PROGRESS, NOT_STARTED, Sections
from setup.step_names import STEP_NAMES
from setup.volume.layout import ENV, LAST_GOOD, STATE, File, file_at
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def digest_of_ours(path: str, data: bytes) -> str:
    """Hash the part of a file that avatar-setup writes."""
    return digest(split_additions(path, data)[0])


def split_additions(path: str, data: bytes) -> tuple[bytes, bytes]:
    """Split a file into our part and the operator's additions at its end; only `.env` has a place for them."""
    return dotenv.split_additions(data) if path == ENV else (data, b"")


class DeploymentState:
    """The state of one deployment, kept in `.deployment-state.yaml`; it never holds a secret's value.

    `files` are hashes of what was written, `announced` of what is about to be; `secrets` counts how
    often each secret got a value; `accepted` names the questions whose default was taken, so that a
    resume asks the next one and the default still moves; `again` those somebody went back to, whose answers
    stay until another is given; `basis` holds digests of what rendering depends on.
    """

    def __init__(self) -> None:
        self.steps = dict.fromkeys(STEP_NAMES, NOT_STARTED)
        self.answers: dict[str, Given] = {}
        self.accepted: list[str] = []
        self.again: list[str] = []
        self.files: dict[str, str] = {}
        self.announced: dict[str, str] = {}
        self.secrets: dict[str, int] = {}
        self.announced_secrets: dict[str, int] = {}
        self.basis: dict[str, str] = {}
        self.exists = False

    @classmethod
    def _of(cls, sections: Sections) -> DeploymentState:
        state = cls()
        vars(state).update(sections._asdict(), exists=True)
        return state

    @classmethod
    def load(cls, volume: Volume, adopts: bool = False) -> DeploymentState:
        """Load the state of a volume, a new one if there was never any; raise VolumeError if it cannot be used.

        A run that `adopts` ignores the state of another tool.
        """
        data = volume.read(STATE)
        if adopts and data is not None and not state_file.is_ours(data):
            return cls()
        if data is None and volume.read(LAST_GOOD) is None:
            return cls()
        if data is None:
            data = volume.read(STATE)  # another run may have written both since the first read
        try:
            if data is None:
                raise Malformed("it is gone")
            return cls._of(state_file.parse(data))
        except Malformed as error:
            raise VolumeError(
                f"{volume.path}/{STATE} cannot be used: {error}. Nothing was changed. {_advise(volume)}"
            ) from None

    def save(self, volume: Volume) -> None:
        """Write the state durably, and keep a last good one beside it.

        That is the previous state, or a copy of this one if it is complete: a finished deployment loses nothing
        if its state file is damaged between two runs.
        """
        if self.is_complete:
            volume.publish(volume.stage([self.file._replace(path=LAST_GOOD), self.file]))
        else:
            volume.publish(volume.stage([self.file], backup=True))
        self.exists = True

    @property
    def file(self) -> File:
        """The state as its file."""
        sections = Sections(**{name: getattr(self, name) for name in Sections._fields})
        return file_at(STATE, state_file.to_bytes(sections))

    @property
    def is_complete(self) -> bool:
        return all(status == COMPLETED for status in self.steps.values())

    @property
    def next_step(self) -> str | None:
        """The first step that is not completed."""
        return next((name for name, status in self.steps.items() if status != COMPLETED), None)

    def begin(self, step: str, files: Iterable[File], secrets: Mapping[str, int]) -> None:
        """Mark a step as in progress, and announce the files and secrets that it is about to publish."""
        self.steps[step] = IN_PROGRESS
        self.announced = {file.path: digest(file.data) for file in files}
        self.announced_secrets = dict(secrets)

    def complete(self, step: str) -> None:
        """Mark a step as completed, and take what it announced for published."""
        self.steps[step] = COMPLETED
        self.files |= self.announced
        self.secrets |= self.announced_secrets
        self.announced, self.announced_secrets = {}, {}

    def reopen(self, first: str) -> None:
        """Mark a step and all later ones as not started."""
        for name in STEP_NAMES[STEP_NAMES.index(first) :]:
            self.steps[name] = NOT_STARTED

    def knows(self, path: str, data: bytes) -> bool:
        """Tell whether these bytes are published or announced ones; the operator's additions do not count."""
        return digest_of_ours(path, data) in (self.files.get(path), self.announced.get(path))

    def forget(self) -> DeploymentState:
        """Return a state without progress and answers; it still knows the files and secrets, announced ones too."""
        fresh = DeploymentState()
        fresh.files, fresh.secrets, fresh.exists = dict(self.files), dict(self.secrets), self.exists
        fresh.announced, fresh.announced_secrets = dict(self.announced), dict(self.announced_secrets)
        return fresh


def _advise(volume: Volume) -> str:
    """Say what to type if the state cannot be used: put back the last good one, or begin without."""
    try:
        state_file.parse(volume.read(LAST_GOOD) or b"")
    except Malformed:
        return (
            f"Restore it from a backup, or move it away (mv {STATE} {STATE}.broken; rm -f {LAST_GOOD}) and run again "
            "with all settings: existing secrets are kept"
        )
    return f"The last good state is beside it: restore it (cp {LAST_GOOD} {STATE}) and run the same command again"
