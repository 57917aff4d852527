"""What a run leaves behind for people and for programs, and the exit that edits by hand may ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from setup import report, vault
from setup.container import command_again, host_path
from setup.edits import BESIDE
from setup.errors import DecisionNeeded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from setup.files import Volume
    from setup.model import Secret
    from setup.session import Session


def result(session: Session, status: str) -> dict[str, Any]:
    """What happened, as `DeploymentConfigurator.result` and `--json` tell it."""
    return {
        "status": status,
        "written": session.written,
        "pending_secrets": [secret.name for secret in _pending(session)],
        "kept_files": session.kept,
        "copy": session.copy,
        "notes": [*_notes(session), *session.notes, *session.volume.warnings],
    }


def _notes(session: Session) -> list[str]:
    """What became of the files that were edited by hand, but for those that ask for a decision."""
    told = [f"{path} was edited by hand: it now has your changes and the new ones" for path in session.merged]
    for path in session.edited:
        if path not in (*session.merged, *session.kept, *session.written):
            left = session.volume.read(path + BESIDE) is not None
            beside = f"; its new text stands in {path}{BESIDE}" if left else ""
            told.append(f"{path} was edited by hand and is left as it is{beside}")
    return told


def place_of(volume: Volume, environ: Mapping[str, str]) -> report.Place:
    """Where the deployment lies, for people on the host."""
    host = host_path(volume.path, environ)
    return report.Place(volume.path, host, command_again(volume.path, host, environ))


def last_words(session: Session, status: str, environ: Mapping[str, str]) -> list[str]:
    """The last message of a run."""
    place, owner = place_of(session.volume, environ), (os.geteuid(), os.getegid())
    if status == "unchanged":
        return [report.NOTHING_TO_DO, *report.pending_lines(place, owner, _pending(session))]
    context = session.context_now()
    values, missing = context.resolution.values, context.targets.material.missing
    return report.last_message(place, owner, session.written, _pending(session), values, missing, session.copy)


def require_no_kept(session: Session) -> None:
    """Raises DecisionNeeded, when all else is done, for edited files whose new text only stands beside them."""
    if session.kept:
        raise DecisionNeeded(*(
            f"{path} holds changes of yours and was left as it is; its new text stands in {path}{BESIDE}: carry over "
            f"what you need, and remove {path}{BESIDE}. All else is done"
            for path in session.kept
        ))  # fmt: skip


def _pending(session: Session) -> list[Secret]:
    context = session.context_now()
    return vault.pending(context.resolution.values, {name: one.text for name, one in context.planned.items()})
