"""What a deployment remembers of itself: how far it got, the answers, and hashes of what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup import state_file
from setup.config.model import Given
from setup.errors import VolumeError
from setup.formats import dotenv
from setup.formats.digests import digest
from setup.formats.yaml_file import Malformed
from setup.state_file import COMPLETED, IN_PROGRESS, NOT_STARTED, SCHEMA, STEP_NAMES, Sections
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
    stay until another is given; `basis` holds digests of what rendering depends on; `schema` is that of the file.
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
        self.schema = SCHEMA
        self.exists = False

    @classmethod
    def _of(cls, sections: Sections) -> DeploymentState:
        state = cls()
        vars(state).update(sections._asdict(), exists=True)
        return state

    @classmethod
    def load(cls, volume: Volume, adopts: bool = False) -> DeploymentState:
        """The state on the volume, a fresh one where there never was one; VolumeError for one it cannot read.

        For a run that `adopts`, a state of another tool is none.
        """
        data = volume.read(STATE)
        if adopts and data is not None and not state_file.is_ours(data):
            return cls()
        if data is None and volume.read(LAST_GOOD) is None:
            return cls()
        if data is None:
            data = volume.read(STATE)  # another run may have made both since the first look
        try:
            if data is None:
                raise Malformed("it is gone")
            return cls._of(state_file.parse(data))
        except Malformed as error:
            raise VolumeError(
                f"{volume.path}/{STATE} cannot be used: {error}. Nothing was changed. {_way_on(volume)}"
            ) from None

    def save(self, volume: Volume) -> None:
        """Writes the state durably, replacing it as a whole; a last good one always stands beside it.

        That is the state of before, and the same once more when all is complete: whatever becomes of the state
        file between two runs, nothing of a finished deployment is lost with it. One of an older schema is kept.
        """
        if self.schema < SCHEMA:
            volume.replace(File(f"{STATE}.schema-{self.schema}", volume.read(STATE) or b"", 0o600))
            self.schema = SCHEMA
        if self.is_complete:
            volume.publish(volume.stage([self.file._replace(path=LAST_GOOD), self.file]))
        else:
            volume.publish(volume.stage([self.file], backup=True))
        self.exists = True

    @property
    def file(self) -> File:
        """The state as the file that holds it."""
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
        """Marks a step as in progress and announces what it is about to publish."""
        self.steps[step] = IN_PROGRESS
        self.announced = {file.path: digest(file.data) for file in files}
        self.announced_secrets = dict(secrets)

    def complete(self, step: str) -> None:
        """Marks a step as completed; what it announced is now what stands on the volume."""
        self.steps[step] = COMPLETED
        self.files |= self.announced
        self.secrets |= self.announced_secrets
        self.announced, self.announced_secrets = {}, {}

    def reopen(self, first: str) -> None:
        """Marks a step and all after it as not started."""
        for name in STEP_NAMES[STEP_NAMES.index(first) :]:
            self.steps[name] = NOT_STARTED

    def knows(self, path: str, data: bytes) -> bool:
        """Whether these bytes at this path are ours, published or announced; additions at their place do not count."""
        return digest_of_ours(path, data) in (self.files.get(path), self.announced.get(path))

    def forget(self) -> DeploymentState:
        """A state without progress and answers that still knows its files and secrets, announced ones too."""
        fresh = DeploymentState()
        fresh.files, fresh.secrets, fresh.exists = dict(self.files), dict(self.secrets), self.exists
        fresh.announced, fresh.announced_secrets = dict(self.announced), dict(self.announced_secrets)
        fresh.schema = self.schema
        return fresh


def _way_on(volume: Volume) -> str:
    """What to type when the state cannot be used: the last good one beside it, or none at all."""
    try:
        state_file.parse(volume.read(LAST_GOOD) or b"")
    except Malformed:
        return (
            f"Restore it from a backup, or move it away (mv {STATE} {STATE}.broken; rm -f {LAST_GOOD}) and run again "
            "with all settings: existing secrets are kept"
        )
    return f"The last good state stands beside it: put it back (cp {LAST_GOOD} {STATE}) and run the same command again"
