"""The state file as bytes and as checked sections: a damaged one, or another program's, is refused.

Raise SCHEMA when an older release would misread the file: it refuses a newer schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from setup.config.model import BY_LABEL, Given
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.formats.yaml_file import Malformed, load_yaml
from setup.step_names import STEP_NAMES
from setup.typed import Any, NamedTuple

TOOL = "avatar-setup"
SCHEMA = 1

NOT_STARTED, IN_PROGRESS, COMPLETED = "not-started", "in-progress", "completed"
_STATUSES = (NOT_STARTED, IN_PROGRESS, COMPLETED)
_REQUIRED = ("steps", "answers", "accepted", "files", "secrets", "basis")
RUN_NEWER = "run the newer one"
_END = b"..."  # the last line of a state: without it, the end is missing


class WrittenByNewer(Malformed):
    """A state file that a newer release may have written."""


class Sections(NamedTuple):
    """The parts of a state; `DeploymentState` explains them."""

    steps: dict[str, str]
    answers: dict[str, Given]
    accepted: list[str]
    again: list[str]
    files: dict[str, str]
    announced: dict[str, str]
    secrets: dict[str, int]
    announced_secrets: dict[str, int]
    basis: dict[str, str]


def parse(data: bytes) -> Sections:
    """Read the sections of a state file; raise Malformed, with the reason, unless it is complete and valid."""
    return _from_document(load_yaml(data), data.rstrip().endswith(b"\n" + _END))


def is_ours(data: bytes) -> bool:
    """Tell whether these bytes are a state file of avatar-setup, of any schema."""
    try:
        document = load_yaml(data)
    except Malformed:
        return False
    return isinstance(document, dict) and document.get("tool") == TOOL


def to_bytes(state: Sections) -> bytes:
    """Write sections as the bytes of a state file: the same sections, the same bytes."""
    import yaml

    document = {
        "tool": TOOL,
        "schema": SCHEMA,
        "steps": dict(state.steps),
        "answers": {key: {"value": given.text, "source": given.source.label} for key, given in state.answers.items()},
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


def _from_document(document: Any, whole: bool) -> Sections:
    if not isinstance(document, dict) or document.get("tool") != TOOL:
        raise Malformed("it is not a state file of avatar-setup (--adopt takes a deployment of another tool over)")
    _require_schema(document)
    if not (whole and all(section in document for section in _REQUIRED)):
        raise Malformed("a part of it is missing")
    announced = _mapping(document, "announced")
    sections = Sections(
        steps=_steps(_mapping(document, "steps")),
        answers={key: _answer(key, entry) for key, entry in _mapping(document, "answers").items()},
        accepted=_names(document, "accepted"),
        again=_names(document, "again"),
        files=_texts(document, "files"),
        announced=_texts(announced, "files"),
        secrets=_counts(document, "secrets"),
        announced_secrets=_counts(announced, "secrets"),
        basis=_texts(document, "basis"),
    )
    _refuse_unknown_names(sections)
    return sections


def _require_schema(document: Mapping[str, Any]) -> None:
    """Raise Malformed for a schema that this release does not know."""
    schema = document.get("schema")
    if not (isinstance(schema, str) and re.fullmatch(r"[1-9]\d{0,5}", schema)):
        raise Malformed(f"its schema is {str(schema)[:20]!r}, which is not a schema")
    if int(schema) > SCHEMA:
        raise WrittenByNewer(f"its schema is {schema}, this release knows {SCHEMA}: {RUN_NEWER}")


def _refuse_unknown_names(state: Sections) -> None:
    """Raise Malformed for a key of no setting or secret: it may be a typing error or a newer release's."""
    named = {*state.accepted, *state.again}
    unknown = {*(state.answers.keys() - SETTINGS), *(named - SETTINGS.keys() - SECRETS.keys())}
    unknown |= (state.secrets.keys() | state.announced_secrets.keys()) - SECRETS.keys()
    if unknown:
        raise WrittenByNewer(f"this release does not know its entry {min(unknown)[:60]!r}: correct it, or {RUN_NEWER}")


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"its section {key!r} is not a list of KEY: VALUE lines")
    return value


def _steps(section: Mapping[str, Any]) -> dict[str, str]:
    if set(section) != set(STEP_NAMES) or not set(section.values()) <= set(_STATUSES):
        raise Malformed("its steps are not the seven of this release, each not-started, in-progress or completed")
    return {name: section[name] for name in STEP_NAMES}


def _answer(key: str, entry: Any) -> Given:
    if not isinstance(entry, dict) or not isinstance(entry.get("value"), str) or entry.get("source") not in BY_LABEL:
        raise Malformed(f"its answer {key[:60]!r} lacks a value or a known source")
    return Given(entry["value"], BY_LABEL[entry["source"]])


def _texts(document: Mapping[str, Any], key: str) -> dict[str, str]:
    section = _mapping(document, key)
    if not all(isinstance(value, str) for value in section.values()):
        raise Malformed(f"its section {key!r} holds something other than texts")
    return section


def _names(document: Mapping[str, Any], key: str) -> list[str]:
    section = document.get(key) or []
    if not isinstance(section, list) or not all(isinstance(name, str) for name in section):
        raise Malformed(f"its section {key!r} is not a list of names")
    return section


def _counts(document: Mapping[str, Any], key: str) -> dict[str, int]:
    section = _texts(document, key)
    if not all(value.isascii() and value.isdigit() and len(value) < 9 for value in section.values()):
        raise Malformed(f"its section {key!r} holds something other than numbers")
    return {name: int(value) for name, value in section.items()}
