"""The step transaction: staged, announced, published, completed; a crash at any point repeats the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup import vault
from setup.config_file import CONFIG
from setup.errors import DecisionNeeded, SetupError
from setup.material import MARK
from setup.model import File, Outcome, SecretFile, Source
from setup.secret_catalogue import SECRETS
from setup.state_manager import STATE, digest
from setup.steps import step_of_setting
from setup.targets import COMPOSE

if TYPE_CHECKING:
    from setup.files import Staged
    from setup.session import Session


def nothing_to_do(session: Session, seen: bytes | None) -> bool:
    """Whether all is as it should be, told without the lock; raises what refuses this run, before anything is touched.

    `seen` is the state file of before this look. When another run has written it since, neither counts: what looks
    like somebody's edits may be that run's files. The next look comes with the lock held, or names that run.
    """
    done = False
    try:
        context = session.context()
        done = session.concerned(context)[0] is None and not session.options.reset
        if not done:
            to_publish(session, context.targets.all)
    except SetupError:
        if session.volume.read(STATE) == seen:
            raise
    return done and session.volume.read(STATE) == seen


def to_publish(session: Session, files: tuple[File, ...]) -> list[File]:
    """Those of the files that are not on the volume yet; raises DecisionNeeded for another's edits."""
    wanted, edited = [], []
    for file in files:
        there = session.volume.read(file.path)
        if there == file.data:
            continue
        if there is None or not session.use_state or session.state.knows(file.path, there):
            wanted.append(file)
        elif session.state.files.get(file.path) != digest(file.data):
            edited.append(file.path)
    if edited:
        raise DecisionNeeded(*(
            f"{session.volume.path}/{path} holds changes that are not from here and would be overwritten. Nothing was "
            f"written: move it away (mv {path} {path}.mine), run again, then carry your changes over"
            for path in edited
        ))  # fmt: skip
    return wanted


def commit(session: Session, step: str, outcome: Outcome) -> None:
    """Makes an outcome true: staged, announced, published, completed; a crash at any point repeats it."""
    files = to_publish(session, outcome.files)
    staged = _stage(session, files, outcome.secrets)
    planned = session.last.planned if session.last else {}
    counts = vault.settled(planned, outcome.secrets, session.state.secrets, session.state.announced_secrets)
    session.state.begin(step, outcome.files, counts)
    if staged:  # else all of it stands on the volume already
        session.save_state()
        session.volume.publish(staged)
    _remember(session, outcome)
    if outcome.done:
        session.state.complete(step)
    if session.state.is_complete:
        _conclude(session)
    if session.options.ask or not outcome.done or session.state.is_complete:
        session.save_state()  # else the next step's announcement carries it: a crash between repeats a step
    session.written += [file.path for file in files] + [vault.path_of(secret.name) for secret in outcome.secrets]
    if outcome.secrets or not outcome.done:
        session.last = None


def _stage(session: Session, files: list[File], secrets: tuple[SecretFile, ...]) -> list[Staged]:
    """Secrets first, as the files are derived from them, and keys; the compose file last."""
    as_files = [File(vault.path_of(s.name), s.text.encode(), 0o644, once=not s.replace) for s in secrets]
    staged = session.volume.stage(sorted(as_files, key=lambda file: not file.once))
    files = sorted(files, key=lambda file: (not file.once, file.path == COMPOSE))
    return staged + session.volume.stage(files, backup=not session.use_state)


def _remember(session: Session, outcome: Outcome) -> None:
    if outcome.answers is not None:
        session.answered |= {key: said for key, said in outcome.answers.items() if said.source is Source.ANSWER}
        session.state.answers |= outcome.answers
        if outcome.done and session.last:  # what a preset outranks, or another spelling replaces, is forgotten
            kept = session.last.resolution.answers
            session.state.answers = {key: said for key, said in session.state.answers.items() if key in kept}
    settled = {*session.state.accepted, *session.state.again}  # Enter at one of `again` keeps what was there
    session.state.accepted += [key for key in outcome.accepted if key not in settled]
    if not outcome.done:
        asked = [*(outcome.answers or ()), *outcome.accepted, *(secret.name for secret in outcome.secrets)]
        session.state.again = [key for key in session.state.again if key not in asked]
        session.history += asked


def go_back(session: Session) -> None:
    """Opens the last question of this run again; its answer stays, as the default, until another is given."""
    if not session.history:
        return
    key = session.history.pop()
    if key in session.state.accepted:
        session.state.accepted.remove(key)
    else:
        session.state.again.append(key)
    if key not in SECRETS:
        session.state.reopen(step_of_setting(key))
    session.last = None
    session.save_state()


def _conclude(session: Session) -> None:
    """Records what the finished deployment depends on, and forgets files it no longer has."""
    context = session.context_now()
    paths = {file.path for file in context.targets.all} | ({CONFIG} if context.save_config else set())
    session.state.files = {path: known for path, known in session.state.files.items() if path in paths}
    mark = context.targets.material.mark
    session.state.basis = session.basis | ({MARK: mark} if mark else {})
    session.state.again = []  # what is left there no longer applies


def recover(session: Session) -> None:
    """Takes over what an interrupted run had announced and published."""
    for path, announced in session.state.announced.items():
        data = session.volume.read(path)
        if data is not None and digest(data) == announced:
            session.state.files[path] = announced
