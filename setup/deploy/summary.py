"""What a run leaves behind for people and for programs, and the exit that edits by hand may ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from setup import console
from setup.deploy import report, transaction
from setup.deploy.reconcile import BESIDE
from setup.environment import command_again, host_path
from setup.errors import DecisionNeeded
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_filled
from setup.volume import backups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from setup.config.model import Secret
    from setup.config.values import Values
    from setup.console import Answer
    from setup.deploy.session import Session
    from setup.volume.volume import Volume


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
    told = report.last_message(place, owner, session.written, _pending(session), values, missing, session.copy)
    return [*told, *_finished(session, values)]


def _finished(session: Session, values: Values) -> list[str]:
    """What else must know the new values, when this run has finished a rotation that was interrupted."""
    interrupted = session.existed and not session.was_complete
    began = transaction.last_whole(session.volume) if interrupted else None
    if not began or not (names := backups.rotated(session.volume, began)):
        return []
    told = [f"This has finished a rotation that was interrupted, of {', '.join(names)}. Next, in this order:", ""]
    return ["", *told, *(f"  {line}" for line in after_rotation(session, values, names, began.id))]


def after_rotation(session: Session, values: Values, names: list[str], copy: str) -> list[str]:
    """The commands to type on the host once secrets have new values; the old ones are in the copy."""
    from setup.secrets import rotation

    sudo = "sudo " if os.geteuid() == 0 else ""
    texts = read_filled(session.volume)
    return [
        *rotation.before_up(names, values, texts, sudo),
        f"{sudo}docker compose up -d",
        *rotation.after_up(names, f"{backups.HISTORY}/{copy}", sudo),
    ]


def kept(session: Session) -> DecisionNeeded | None:
    """What is left to decide when all else is done: edited files whose new text only stands beside them."""
    if not session.kept:
        return None
    return DecisionNeeded(*(
        f"{path} holds changes of yours and was left as it is; its new text stands in {path}{BESIDE}: carry over "
        f"what you need, and remove {path}{BESIDE}. All else is done"
        for path in session.kept
    ))  # fmt: skip


def with_decision(answer: Answer, left: DecisionNeeded | None) -> Answer:
    """The answer of a verb that has done all but what somebody must decide; that is said beside it."""
    if left is None:
        return answer
    console.warn(f"avatar-setup: {problem}" for problem in left.problems)
    return answer._replace(data={**answer.data, "problems": list(left.problems)}, exit_code=left.exit_code)


def _pending(session: Session) -> list[Secret]:
    context = session.context_now()
    return secrets_plan.list_pending(
        context.resolution.values, {name: one.text for name, one in context.planned.items()}
    )
