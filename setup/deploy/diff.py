"""What a run would change, as lines for people and as data; pure, and without a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from setup.config.model import Given, Source
from setup.config.settings import SETTINGS
from setup.console import Answer
from setup.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from setup.deploy.reconcile import Fate
    from setup.deploy.redact import Masks

NOTHING = "Nothing to do: a run would change nothing."
_HOW = {
    "new": "new",
    "changed": "changes",
    "merged": "edited by hand, and merged",
    "replaced": "edited by hand, and replaced",
    "kept": "edited by hand, and kept; the new text goes beside it",
    "removed": "removed",
}

Changed = tuple[str, Given | None, Given | None]


def settings(before: Mapping[str, Given], after: Mapping[str, Given]) -> list[Changed]:
    """The settings whose value changes, or whether somebody gave it."""
    rows = [(key, before.get(key), after.get(key)) for key in SETTINGS if key in before or key in after]
    return [row for row in rows if _said(row[1]) != _said(row[2])]


def _said(given: Given | None) -> tuple[str, bool] | None:
    return (given.text, given.source in (Source.DEFAULT, Source.PRESET)) if given else None


def as_data(changed: Iterable[Changed]) -> list[dict[str, Any]]:
    """The same as data."""
    return [{"key": key, "old": _data(old), "new": _data(new)} for key, old, new in changed]


def setting_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each, with its old and new source."""
    return [f"{row['key']}: {_shown(row['old'])} -> {_shown(row['new'])}" for row in rows]


def diff(path: str, old: list[str] | None, new: list[str]) -> list[str]:
    """A unified diff of masked lines."""
    import difflib

    before, after = (path if old is not None else "/dev/null"), path
    return [line.rstrip("\n") for line in difflib.unified_diff(old or [], new, before, after, lineterm="")]


def files(fates: Iterable[Fate], masks: Masks) -> list[dict[str, Any]]:
    """Every file that would be written: its path, how it comes to that, and the difference to what stands there."""
    told = []
    for fate in fates:
        ours = set(fate.file.data.decode(errors="replace").splitlines())
        for file in fate.publish:
            old = None if fate.there is None else masks.lines(fate.file.path, fate.there, ours)
            lines = diff(fate.file.path, old, masks.lines(fate.file.path, file.data, ours))
            told.append({"path": file.path, "change": fate.how, "diff": lines})
    return told


def secrets(before: Mapping[str, str | None], after: Mapping[str, str | None], masks: Masks) -> list[dict[str, str]]:
    """Every secret that would be written, by fingerprint."""
    return [
        {"name": name, "old": masks.secret(name, before.get(name)), "new": masks.secret(name, text)}
        for name, text in after.items()
    ]


def answer(reasons: Iterable[str], changed: Iterable[Changed], **rows: list[dict[str, Any]]) -> Answer:
    """The whole preview, with its rows of secrets and files; the exit code says that there is something to do."""
    data: dict[str, Any] = {"pending": True, "reasons": list(reasons), "settings": as_data(changed), **rows}
    lines = [f"Because {reason}" for reason in data["reasons"] if reason.partition(":")[0] not in SETTINGS]
    told = setting_lines(data["settings"])
    lines += ["", "Settings that would change:", *(f"  {line}" for line in told)] if told else []
    if rows["secrets"]:
        lines += ["", "Secrets that would change, as fingerprints:"]
        lines += [f"  {row['name']}: {row['old']} -> {row['new']}" for row in rows["secrets"]]
    if rows["files"]:
        lines += ["", "Files that would change:"]
        lines += [f"  {row['path']} ({_HOW[row['change']]})" for row in rows["files"]]
    for row in rows["files"]:
        lines += ["", *row["diff"]]
    lines += ["", "Nothing was written."]
    return Answer(lines if lines[0] else lines[1:], data, ExitCode.NOT_COMPLETE)


def nothing() -> Answer:
    """The answer where a run would change nothing."""
    return Answer([NOTHING], {"pending": False, "reasons": [], "settings": [], "secrets": [], "files": []})


def _shown(given: Mapping[str, str] | None) -> str:
    return f"{given['value'] or '(empty)'} ({given['source']})" if given else "(none)"


def _data(given: Given | None) -> dict[str, str] | None:
    return {"value": given.text, "source": given.source.label} if given else None
