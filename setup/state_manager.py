"""The memory of a deployment: progress, answers, and hashes of the files that were written."""

from __future__ import annotations

import os

from setup import console, state_file
from setup.config.model import Given
from setup.errors import VolumeError
from setup.formats import dotenv
from setup.formats.digests import digest
from setup.formats.yaml_file import Malformed
from setup.state_file import COMPLETED, IN_PROGRESS, NOT_STARTED, Sections
from setup.step_names import STEP_NAMES, step_title
from setup.typed import TYPE_CHECKING
from setup.volume.layout import ENV, LAST_GOOD, STATE, SWEPT, File, file_at
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

TITLE = "Deployment Configuration Status"
_MARKS = {NOT_STARTED: "○", IN_PROGRESS: "◐", COMPLETED: "✓"}


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

    With an `output_dir` it is the state of that directory: each question reads the file again, and each mark is
    durable when the method returns. Raise VolumeError if the directory or the file cannot be used, Busy if a run is
    in progress.
    """

    def __init__(self, output_dir: str | os.PathLike[str] | None = None) -> None:
        self.output_dir = None if output_dir is None else os.fspath(output_dir)
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
        self._refresh()

    def __repr__(self) -> str:
        place = "" if self.output_dir is None else f"{self.output_dir!r}, "
        left = f"next step {self.next_step}" if self.next_step else "complete"
        return f"<{type(self).__name__}({place}{self.count_completed()}/{len(self.steps)} steps completed, {left})>"

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
        file = self.file
        if self.is_complete():
            volume.publish(volume.stage([file._replace(path=LAST_GOOD), file]))
        else:
            volume.publish(volume.stage([file], backup=True))
        self.exists = True

    @property
    def file(self) -> File:
        """The state as its file."""
        sections = Sections(**{name: getattr(self, name) for name in Sections._fields})
        return file_at(STATE, state_file.to_bytes(sections))

    def is_complete(self) -> bool:
        """Tell whether every step is completed."""
        self._refresh()
        return all(status == COMPLETED for status in self.steps.values())

    @property
    def next_step(self) -> str | None:
        """The first step that is not completed."""
        return next((name for name, status in self.steps.items() if status != COMPLETED), None)

    def count_completed(self) -> int:
        """Return how many steps are completed."""
        return list(self.steps.values()).count(COMPLETED)

    def progress_lines(self) -> list[str]:
        """Return how far the deployment is, one line for each step."""
        lines = [f"{self.count_completed()}/{len(self.steps)} steps completed", ""]
        for name, status in self.steps.items():
            lines.append(f"  {_MARKS[status]} {step_title(name)}: {status}")
        if self.next_step:
            lines += ["", f"→ Next step: {step_title(self.next_step)}"]
        return lines

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

    # --- for programs: the state of a directory (docs/reference/python-api.md) ---

    def get_step_status(self, step: str) -> str:
        """Return `not-started`, `in-progress` or `completed`; raise ValueError if there is no such step."""
        _require_step(step)
        self._refresh()
        return self.steps[step]

    def is_step_completed(self, step: str) -> bool:
        """Tell whether a step is completed; raise ValueError if there is no such step."""
        return self.get_step_status(step) == COMPLETED

    def get_next_step(self) -> str | None:
        """Return the first step that is not completed, None if all are."""
        self._refresh()
        return self.next_step

    def has_started(self) -> bool:
        """Tell whether any step was begun."""
        self._refresh()
        return any(status != NOT_STARTED for status in self.steps.values())

    def mark_step_started(self, step: str) -> None:
        """Record that a step is in progress; raise ValueError if there is no such step."""
        self._mark(step, IN_PROGRESS)

    def mark_step_completed(self, step: str) -> None:
        """Record that a step is completed; raise ValueError if there is no such step.

        A run writes what is missing all the same: it goes by the files, not only by the marks.
        """
        self._mark(step, COMPLETED)

    def reset(self) -> None:
        """Forget progress and answers; files and secrets stay, and the previous state is kept beside the new one."""
        self._change(DeploymentState.forget)

    def print_status(self) -> None:
        """Print how far the deployment is, as `--status` does."""
        self._refresh()
        console.show([TITLE, "=" * 32, *self.progress_lines()])

    def _mark(self, step: str, status: str) -> None:
        _require_step(step)

        def mark(state: DeploymentState) -> DeploymentState:
            state.steps[step] = status
            return state

        self._change(mark)

    def _change(self, change: Callable[[DeploymentState], DeploymentState]) -> None:
        """Change the saved state under the lock."""
        if self.output_dir is None:
            raise ValueError("this state belongs to no directory: make it as DeploymentState(output_dir)")
        with Volume(self.output_dir) as volume, volume.locked(SWEPT):
            changed = change(DeploymentState.load(volume))
            changed.save(volume)
        self._refresh()

    def _refresh(self) -> None:
        """Read the state of the directory again, if it has one."""
        if self.output_dir is None:
            return
        with Volume(self.output_dir) as volume:
            vars(self).update(vars(DeploymentState.load(volume)), output_dir=self.output_dir)


def _require_step(name: str) -> None:
    if name not in STEP_NAMES:
        raise ValueError(f"{name!r} is not a step; the steps are {', '.join(STEP_NAMES)}")


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
