"""The step transaction: staged, announced, published, completed; a crash at any point repeats the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup.config.model import Source
from setup.config.secrets import SECRETS
from setup.deploy import baseline
from setup.deploy.reconcile import Action
from setup.deploy.steps import Context, Outcome, step_of_setting
from setup.deploy.targets import COMPOSE
from setup.errors import SetupError
from setup.formats.yaml_file import Malformed
from setup.secrets import plan as secrets_plan
from setup.secrets.plan import SecretFile
from setup.state_file import COMPLETED, parse
from setup.state_manager import STATE, digest_of_ours
from setup.tls.plan import MARK
from setup.volume import backups
from setup.volume.layout import File
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.deploy.session import Session
    from setup.volume.backups import Copy
    from setup.volume.volume import Staged


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
            check(session, context)
    except SetupError:
        if session.volume.read(STATE) == seen:
            raise
    return done and session.volume.read(STATE) == seen


def check(session: Session, context: Context) -> None:
    """Raises DecisionNeeded, before anything is written, for what only the operator may give up.

    Whatever will be read on the way is looked at, so that what stands in its place is named now.
    """
    session.refuse_jump(context)
    files = session.files(context)
    session.reconcile(files)
    baseline.texts(session.volume, files if session.use_state else ())


def commit(session: Session, step: str, outcome: Outcome) -> None:
    """Makes an outcome true: staged, announced, published, completed; a crash at any point repeats it."""
    changes = session.reconcile(outcome.files)
    if session.was_complete or any(change.action is Action.REPLACED for change in changes):
        keep_copy(session, session.options.cause)
    files = [file for change in changes for file in change.publish]
    staged = _stage(session, files, outcome.secrets)
    texts = session.volume.stage(_texts(session, step, outcome) if session.use_state else ())
    planned = session.last.planned if session.last else {}
    counts = secrets_plan.count_published(
        planned, outcome.secrets, session.state.secrets, session.state.announced_secrets
    )
    session.state.begin(step, outcome.files, counts)
    if staged or texts:  # else all of it stands on the volume already
        session.save_state()
        session.volume.publish(staged)
        session.volume.publish(texts)  # never before the file: it tells what of that is somebody else's
    _remember(session, outcome)
    if outcome.done:
        session.state.complete(step)
    if session.state.is_complete:
        _conclude(session)
    if session.options.ask or not outcome.done or session.state.is_complete:
        session.save_state()  # else the next step's announcement carries it: a crash between repeats a step
    session.written += [file.path for file in files] + [secrets_plan.path_of(secret.name) for secret in outcome.secrets]
    session.kept += [change.file.path for change in changes if change.action is Action.KEPT]
    session.merged += [change.file.path for change in changes if change.action is Action.MERGED]
    if outcome.secrets or not outcome.done:
        session.last = None


def keep_copy(session: Session, cause: str) -> None:
    """Keeps a dated copy of the deployment as it is, once in a run and before its first change."""
    if session.copy or not session.use_state:
        return
    state = session.state
    files = {*state.files, *state.announced, *(file.path for file in session.files(session.context_now()))}
    paths = baseline.everything(session.volume, files)
    session.copy = backups.keep(session.volume, paths, cause, session.options.keep, still_wanted(session.volume))


def still_wanted(volume: Volume) -> list[str]:
    """The copies that no number of others replaces: while a run is half done, the one it began with and later ones."""
    if _is_whole(volume, STATE):
        return []
    began = last_whole(volume)
    return [one.id for one in (*backups.since(volume, began), *([began] if began else []))]


def last_whole(volume: Volume) -> Copy | None:
    """The newest copy of a deployment that was complete: what an interrupted run began with, its old values in it."""
    return next(
        (one for one in backups.history(volume) if _is_whole(volume, f"{backups.HISTORY}/{one.id}/{STATE}")), None
    )


def _is_whole(volume: Volume, path: str) -> bool:
    try:
        return set(parse(volume.read(path) or b"").steps.values()) == {COMPLETED}
    except Malformed:
        return False


def _stage(session: Session, files: list[File], secrets: tuple[SecretFile, ...]) -> list[Staged]:
    """Secrets first, as the files are derived from them, and keys; the compose file last."""
    as_files = [File(secrets_plan.path_of(s.name), s.text.encode(), 0o644, once=not s.replace) for s in secrets]
    staged = session.volume.stage(sorted(as_files, key=lambda file: not file.once))
    files = sorted(files, key=lambda file: (not file.once, file.path == COMPOSE))
    return staged + session.volume.stage(files, backup=not session.use_state)


def _texts(session: Session, step: str, outcome: Outcome) -> list[File]:
    """What is kept of the files as we wrote them; and once all steps are done, of the settings."""
    texts = baseline.texts(session.volume, outcome.files)
    open_steps = {name for name, status in session.state.steps.items() if status != COMPLETED}
    if outcome.done and open_steps <= {step}:
        texts += baseline.settings(session.volume, session.context_now().resolution)
    return texts


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
    paths = {file.path for file in context.targets.all} | {file.path for file in context.saved}
    session.state.files = {path: known for path, known in session.state.files.items() if path in paths}
    mark = context.targets.material.mark
    session.state.basis = session.basis | ({MARK: mark} if mark else {})
    session.state.again = []  # what is left there no longer applies


def recover(session: Session) -> None:
    """Takes over what an interrupted run had announced and published."""
    for path, announced in session.state.announced.items():
        data = session.volume.read(path)
        if data is not None and digest_of_ours(path, data) == announced:
            session.state.files[path] = announced
