"""What a deployment remembers of itself: how far it got, the answers, and hashes of what was written."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from setup.catalogue import SETTINGS
from setup.documents import Malformed, load_yaml
from setup.errors import VolumeError
from setup.files import Volume
from setup.model import File, Given, Source
from setup.secret_catalogue import SECRETS
from setup.steps import STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STATE = ".deployment-state.yaml"
TOOL = "avatar-setup"
SCHEMA = 1

STEP_NAMES = tuple(STEPS)
NOT_STARTED, IN_PROGRESS, COMPLETED = "not-started", "in-progress", "completed"
_STATUSES = (NOT_STARTED, IN_PROGRESS, COMPLETED)
_BY_LABEL = {source.label: source for source in Source}
_SECTIONS = ("steps", "answers", "accepted", "files", "secrets", "basis")
_END = b"..."  # the last line of a state: without it, the end is missing


def digest(data: bytes) -> str:
    """The hash by which a file is known again."""
    return hashlib.sha256(data).hexdigest()


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
    def load(cls, volume: Volume) -> DeploymentState:
        """The state on the volume, a fresh one where there is none; VolumeError for one it cannot read."""
        data = volume.read(STATE)
        if data is None:
            return cls()
        try:
            return _from_document(load_yaml(data), data.rstrip().endswith(b"\n" + _END))
        except Malformed as error:
            raise VolumeError(
                f"{volume.path}/{STATE} cannot be used: {error}. Nothing was changed. Restore it from a backup, or "
                f"move it away (mv {STATE} {STATE}.broken) and run again with all settings: existing secrets are kept"
            ) from None

    def save(self, volume: Volume) -> None:
        """Writes the state durably; what stood there before is replaced as a whole."""
        volume.replace(self.file)
        self.exists = True

    @property
    def file(self) -> File:
        """The state as the file that holds it."""
        return File(STATE, _to_yaml(self), 0o600)

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
        """Whether these bytes at this path are ours, published or announced."""
        return digest(data) in (self.files.get(path), self.announced.get(path))

    def forget(self) -> DeploymentState:
        """A state without progress and answers that still knows its files and secrets, announced ones too."""
        fresh = DeploymentState()
        fresh.files, fresh.secrets, fresh.exists = dict(self.files), dict(self.secrets), self.exists
        fresh.announced, fresh.announced_secrets = dict(self.announced), dict(self.announced_secrets)
        return fresh


def keep_copy(volume: Volume) -> str:
    """Keeps a dated copy of the state on the volume and returns its name, or "" where there is none.

    No earlier copy is overwritten: after a crash the state of before would be in it.
    """
    data = volume.read(STATE)
    if data is None:
        return ""
    name = dated = f"{STATE}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    number = 1
    while volume.read(name) not in (None, data):
        number += 1
        name = f"{dated}-{number}"
    volume.replace(File(name, data, 0o600))
    return name


def _to_yaml(state: DeploymentState) -> bytes:
    import yaml

    document = {
        "tool": TOOL,
        "schema": SCHEMA,
        "steps": dict(state.steps),
        "answers": {key: {"value": said.text, "source": said.source.label} for key, said in state.answers.items()},
        "accepted": list(state.accepted),
        "files": dict(sorted(state.files.items())),
        "secrets": dict(sorted(state.secrets.items())),
        "basis": dict(state.basis),
    }
    if state.again:
        document["again"] = list(state.again)
    if state.announced or state.announced_secrets:
        document["announced"] = {"files": state.announced, "secrets": state.announced_secrets}
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True, width=1000, explicit_end=True)
    return f"# Written by avatar-setup; it remembers progress and answers, never a secret.\n{text}".encode()


def _from_document(document: Any, whole: bool) -> DeploymentState:
    if not isinstance(document, dict) or document.get("tool") != TOOL:
        raise Malformed("it is not a state file of avatar-setup")
    schema = document.get("schema")
    if schema != str(SCHEMA):
        raise Malformed(f"its schema is {str(schema)[:20]!r}, this release knows {SCHEMA}: run the newer one")
    if not (whole and all(section in document for section in _SECTIONS)):
        raise Malformed("a part of it is missing")
    announced = _mapping(document, "announced")
    state = DeploymentState()
    state.steps = _steps(_mapping(document, "steps"))
    state.answers = {key: _answer(key, entry) for key, entry in _mapping(document, "answers").items()}
    state.accepted, state.again = _names(document, "accepted"), _names(document, "again")
    state.files = _texts(document, "files")
    state.announced = _texts(announced, "files")
    state.secrets = _counts(document, "secrets")
    state.announced_secrets = _counts(announced, "secrets")
    state.basis = _texts(document, "basis")
    state.exists = True
    _refuse_unknown_names(state)
    return state


def _refuse_unknown_names(state: DeploymentState) -> None:
    """Neither a slip of the pen nor the answer to a newer release's question is dropped in silence."""
    named = {*state.accepted, *state.again}
    unknown = {*(state.answers.keys() - SETTINGS), *(named - SETTINGS.keys() - SECRETS.keys())}
    unknown |= (state.secrets.keys() | state.announced_secrets.keys()) - SECRETS.keys()
    if unknown:
        raise Malformed(f"this release does not know its entry {min(unknown)[:60]!r}: correct it, or run the newer one")


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"its section {key!r} is not a list of KEY: VALUE lines")
    return value


def _steps(found: Mapping[str, Any]) -> dict[str, str]:
    if set(found) != set(STEP_NAMES) or not all(status in _STATUSES for status in found.values()):
        raise Malformed("its steps are not the seven of this release, each not-started, in-progress or completed")
    return {name: found[name] for name in STEP_NAMES}


def _answer(key: str, entry: Any) -> Given:
    if not isinstance(entry, dict) or not isinstance(entry.get("value"), str) or entry.get("source") not in _BY_LABEL:
        raise Malformed(f"its answer {key[:60]!r} lacks a value or a known source")
    return Given(entry["value"], _BY_LABEL[entry["source"]])


def _texts(document: Mapping[str, Any], key: str) -> dict[str, str]:
    section = _mapping(document, key)
    if not all(isinstance(value, str) for value in section.values()):
        raise Malformed(f"its section {key!r} holds something else than texts")
    return section


def _names(document: Mapping[str, Any], key: str) -> list[str]:
    section = document.get(key) or []
    if not isinstance(section, list) or not all(isinstance(name, str) for name in section):
        raise Malformed(f"its section {key!r} is not a list of names")
    return section


def _counts(document: Mapping[str, Any], key: str) -> dict[str, int]:
    section = _texts(document, key)
    if not all(value.isascii() and value.isdigit() and len(value) < 9 for value in section.values()):
        raise Malformed(f"its section {key!r} holds something else than numbers")
    return {name: int(value) for name, value in section.items()}
