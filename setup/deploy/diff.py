"""Describe what a run would change, as lines for people and as data; pure, and without a secret."""

from __future__ import annotations

from setup import console
from setup.config.model import Given, Source
from setup.config.settings import SETTINGS
from setup.console import Answer
from setup.deploy.reconcile import Action
from setup.deploy.redact import Lines
from setup.errors import ExitCode
from setup.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from setup.deploy.reconcile import Change
    from setup.deploy.redact import Redactor

NOTHING = "Nothing to do: a run would change nothing."
REMOVED = "removed"
_WORDS = {
    Action.NEW: "new",
    Action.CHANGED: "changes",
    Action.MERGED: "edited by hand, and merged",
    Action.REPLACED: "edited by hand, and replaced",
    Action.KEPT: "new text beside your edited file",
    REMOVED: "removed",
}

_SOURCES = {source.label: source.words for source in Source}

Changed = tuple[str, Given | None, Given | None]


def settings(before: Mapping[str, Given], after: Mapping[str, Given]) -> list[Changed]:
    """List the settings whose value changes, or whether somebody gave it."""
    changed = []
    for key in SETTINGS:
        old, new = before.get(key), after.get(key)
        if _compared(old) != _compared(new):
            changed.append((key, old, new))
    return changed


def _compared(given: Given | None) -> tuple[str, bool] | None:
    return (given.text, given.source in (Source.DEFAULT, Source.PRESET)) if given else None


def as_data(changed: Iterable[Changed]) -> list[dict[str, Any]]:
    """Return changed settings as data."""
    return [{"key": key, "old": _data(old), "new": _data(new)} for key, old, new in changed]


def setting_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each changed setting, with its old and new source."""
    return [f"{row['key']}: {_shown(row['old'])} -> {_shown(row['new'])}" for row in rows]


def unified(path: str, old: Lines | None, new: Lines, becomes: str = "") -> list[str]:
    """Return a unified diff: compared by what the lines are, written with what may be shown of them."""
    from difflib import SequenceMatcher

    before = old or Lines()
    rows = [f"--- {path if old else '/dev/null'}", f"+++ {becomes or path}"]
    for group in SequenceMatcher(None, before.raw, new.raw).get_grouped_opcodes():
        (_, top, _, new_top, _), (_, _, end, _, new_end) = group[0], group[-1]
        rows.append(f"@@ -{_range(top, end)} +{_range(new_top, new_end)} @@")
        for how, start, stop, new_start, new_stop in group:
            added = new.shown[new_start:new_stop]
            sides = [(" ", added)] if how == "equal" else [("-", before.shown[start:stop]), ("+", added)]
            for sign, lines in sides:
                rows += [sign + line for line in lines]
    return rows if len(rows) > 2 else []


def _range(start: int, stop: int) -> str:
    """Return a range of lines as unified diffs have it: first line and length."""
    return str(stop) if stop - start == 1 else f"{start + (stop > start)},{stop - start}"


def files(changes: Iterable[Change], redactor: Redactor, ours: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
    """Return every file that would be written or removed, why, and its difference; `ours` are our lines by path.

    The difference of a new text is that between the edited file and it.
    """
    rows = []
    for change in changes:
        path = change.file.path
        for file in change.publish:
            old = None if change.on_disk is None else redactor.lines(path, change.on_disk, ours[path])
            lines = unified(path, old, redactor.lines(path, file.data, ours[path]), file.path)
            action = change.action if file.path == path else Action.KEPT
            rows.append({"path": file.path, "change": action.value, "diff": lines})
        if change.outdated:
            rows.append({"path": change.outdated, "change": REMOVED, "diff": []})
    return rows


def secrets(
    before: Mapping[str, str | None], after: Mapping[str, str | None], redactor: Redactor
) -> list[dict[str, str]]:
    """Return every secret that would be written, as fingerprints."""
    rows = []
    for name, text in after.items():
        rows.append({"name": name, "old": redactor.secret(name, before.get(name)), "new": redactor.secret(name, text)})
    return rows


def answer(reasons: Iterable[str], changed: Iterable[Changed], **rows: list[dict[str, Any]]) -> Answer:
    """Return the whole preview, with its rows of secrets and files; the exit code says that a run would change them."""
    data = {**nothing().data, "pending": True, "reasons": list(reasons), "settings": as_data(changed), **rows}
    lines = [f"Because {reason}" for reason in data["reasons"] if reason.partition(":")[0] not in SETTINGS]
    if data["settings"]:
        lines += ["", "Settings that would change:"]
        lines += console.indent(setting_lines(data["settings"]))
    if rows["secrets"]:
        lines += ["", "Secrets that would change, as fingerprints:"]
    for row in rows["secrets"]:
        lines.append(f"  {row['name']}: {row['old']} -> {row['new']}")
    if rows["files"]:
        lines += ["", "Files that would change:"]
    for row in rows["files"]:
        lines.append(f"  {row['path']} ({_WORDS[row['change']]})")
    for row in rows["files"]:
        lines += ["", *row["diff"]] if row["diff"] else []
    lines += ["", "Nothing was written."]
    return Answer(lines if lines[0] else lines[1:], data, ExitCode.NOT_COMPLETE)


def nothing() -> Answer:
    """Return the answer if a run would change nothing."""
    empty: dict[str, list[str]] = {}
    for part in ("reasons", "settings", "secrets", "files", "report", "problems"):
        empty[part] = []
    return Answer([NOTHING], {"pending": False, **empty})


def _shown(given: Mapping[str, str] | None) -> str:
    return f"{given['value'] or '(empty)'} ({_SOURCES[given['source']]})" if given else "(none)"


def _data(given: Given | None) -> dict[str, str] | None:
    return {"value": given.text, "source": given.source.label} if given else None
