"""Make the outcome of a step true: stage its files, announce them, publish them, complete the step.

A crash at any point repeats the step and loses nothing; the whole of crash safety is explained in `setup/volume`.
"""

from __future__ import annotations

from setup.config.model import Source
from setup.config.secrets import SECRETS
from setup.deploy import baseline
from setup.deploy.planner import EDITS_MARK, SECRETS_MARK
from setup.deploy.reconcile import Action
from setup.deploy.session import Done
from setup.deploy.steps import Context, Outcome, step_of_setting
from setup.errors import SetupError
from setup.formats.yaml_file import Malformed
from setup.secrets import plan as secrets_plan
from setup.secrets.plan import SecretFile, names_of
from setup.state_file import COMPLETED, parse
from setup.state_manager import digest_of_ours
from setup.step_names import FINALIZE
from setup.tls.plan import MARK
from setup.typed import TYPE_CHECKING
from setup.volume import backups
from setup.volume.layout import HISTORY, LABEL_KEY, MAIN_FILES, STATE, File, file_at, secret_path
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable

    from setup.deploy.reconcile import Change
    from setup.deploy.session import Session
    from setup.volume.backups import Backup
    from setup.volume.volume import Staged


def nothing_to_do(session: Session, seen: bytes | None) -> bool:
    """Tell, without the lock, whether everything is as it should be; raises what refuses this run before any change.

    `seen` is the state file from before. If another run has written it since, neither result counts: what looks like
    edits by hand may be the files of that run. The next attempt has the lock, or names that run.
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
    """Raise DecisionNeeded, before anything is written, for what only the operator may give up.

    Everything that the run will read is read now, so that an obstacle in its place is named now.
    """
    session.refuse_jump(context)
    if session.certificate_error:
        raise session.certificate_error
    files = session.files(context)
    session.reconcile(files)
    baseline.texts(session.volume, files if session.use_state else ())


def commit(session: Session, step: str, outcome: Outcome) -> None:
    """Make an outcome true; a crash at any point repeats it."""
    changes = session.reconcile(outcome.files)
    files: list[File] = []
    stale: list[str] = []
    replaces = False
    for change in changes:
        replaces = replaces or change.action is Action.REPLACED
        files += change.publish
        stale += filter(None, [change.outdated])
    if (session.was_complete and not session.work.only_tidies) or replaces:
        save_backup(session, session.options.reason)
    keys = [file_at(LABEL_KEY, session.label_key(), once=True)]
    missing = keys if step == FINALIZE and not session.volume.read(LABEL_KEY) else []
    staged = _stage(session, [*missing, *files], outcome.secrets)
    texts = session.volume.stage(_texts(session, step, outcome) if session.use_state else ())
    planned = session.context_now().planned
    counts = secrets_plan.count_published(
        planned, outcome.secrets, session.state.secrets, session.state.announced_secrets
    )
    session.state.begin(step, outcome.files, counts)
    if staged or texts or stale:  # otherwise all of it is on the volume already
        session.save_state()
        for path in stale:  # before its file is new: afterwards nothing would tell that it is stale
            session.volume.remove(path)
        session.volume.publish(staged)
        session.volume.publish(texts)  # after the files: a text tells which of their lines are ours
    _remember(session, outcome)
    if outcome.done:
        session.state.complete(step)
    if session.state.is_complete():
        _conclude(session)
    if session.ask or not outcome.done or session.state.is_complete():
        session.save_state()  # otherwise the next step's announcement saves it: a crash in between repeats a step
    written = [*_paths(files), *map(secret_path, names_of(outcome.secrets))]
    kept, merged = _paths_with(changes, Action.KEPT), _paths_with(changes, Action.MERGED)
    session.done = session.done.plus(Done(tuple(written), kept, merged, tuple(stale)))
    if outcome.secrets or not outcome.done:
        session.forget_context()


def save_backup(session: Session, reason: backups.Reason) -> None:
    """Save a backup of the deployment, once in a run and before its first change."""
    if session.backup or not session.use_state:
        return
    state = session.state
    files = {*state.files, *state.announced, *_paths(session.files(session.context_now()))}
    paths = baseline.everything(session.volume, files)
    session.backup = backups.save(
        session.volume, paths, reason, session.options.keep, list_needed_backups(session.volume)
    )


def list_needed_backups(volume: Volume) -> list[str]:
    """Return the backups that are never forgotten: while a run is incomplete, the one it began with and later ones."""
    if _is_complete(volume, STATE):
        return []
    began = find_last_complete(volume)
    later = [backup.id for backup in backups.since(volume, began)]
    return [*later, began.id] if began else later


def find_last_complete(volume: Volume) -> Backup | None:
    """Return the newest backup of a complete deployment: an interrupted run began there, and it has the old values."""
    for backup in backups.history(volume):
        if _is_complete(volume, f"{HISTORY}/{backup.id}/{STATE}"):
            return backup
    return None


def _is_complete(volume: Volume, path: str) -> bool:
    try:
        return set(parse(volume.read(path) or b"").steps.values()) == {COMPLETED}
    except Malformed:
        return False


def _paths(files: Iterable[File]) -> list[str]:
    return [file.path for file in files]


def _paths_with(changes: Iterable[Change], action: Action) -> tuple[str, ...]:
    return tuple(change.file.path for change in changes if change.action is action)


def _stage(session: Session, files: list[File], secrets: tuple[SecretFile, ...]) -> list[Staged]:
    """Stage secrets first, because the files are derived from them, then keys; the main file last."""
    as_files = [file_at(secret_path(s.name), s.text.encode(), once=not s.replace) for s in secrets]
    staged = session.volume.stage(sorted(as_files, key=lambda file: not file.once))
    files = sorted(files, key=lambda file: (not file.once, file.path in MAIN_FILES))
    return staged + session.volume.stage(files, backup=not session.use_state)


def _texts(session: Session, step: str, outcome: Outcome) -> list[File]:
    """Return the texts to keep of the files as we write them and, once all steps are done, of the settings."""
    texts = baseline.texts(session.volume, outcome.files)
    others = {status for name, status in session.state.steps.items() if name != step}
    if outcome.done and others == {COMPLETED}:
        texts += baseline.settings(session.volume, session.context_now().resolution)
    return texts


def _remember(session: Session, outcome: Outcome) -> None:
    if outcome.answers is not None:
        session.state.answers |= outcome.answers
        for key, given in outcome.answers.items():
            if given.source is Source.ANSWER:
                session.answered[key] = given
        if outcome.done:  # what a preset outranks, or another spelling replaces, is forgotten
            for key in session.state.answers.keys() - session.context_now().resolution.answers.keys():
                del session.state.answers[key]
    state = session.state
    settled = {*state.accepted, *state.answers, *state.secrets}  # Enter at one with an answer keeps the answer
    for key in (*outcome.accepted, *outcome.kept):
        if key not in settled:
            state.accepted.append(key)
    for key in outcome.again:
        if key not in settled:
            state.again.append(key)
    if not outcome.done:
        asked = [*(outcome.answers or ()), *outcome.accepted, *names_of(outcome.secrets)]
        session.state.again = [key for key in session.state.again if key not in asked]
        session.history += asked


def go_back(session: Session) -> None:
    """Open the last question of this run again; its answer stays as the default until another is given."""
    if not session.history:
        return
    key = session.history.pop()
    if key in session.state.accepted:
        session.state.accepted.remove(key)
    if key not in session.state.again:
        session.state.again.append(key)
    if key not in SECRETS:
        session.state.reopen(step_of_setting(key))
    session.forget_context()
    session.save_state()


def _conclude(session: Session) -> None:
    """Record what the complete deployment depends on, and forget files that it no longer has."""
    context = session.context_now()
    for path in session.state.files.keys() - _paths(session.files(context)):
        del session.state.files[path]
    targets = context.targets
    marks = {SECRETS_MARK: targets.mark, EDITS_MARK: targets.edits_mark, MARK: targets.tls.mark}
    session.state.basis = session.basis | {name: mark for name, mark in marks.items() if mark}
    session.state.again = []  # the questions that are left no longer apply


def recover(session: Session) -> None:
    """Take over what an interrupted run announced and published."""
    for path, announced in session.state.announced.items():
        data = session.volume.read(path)
        if data is not None and digest_of_ours(path, data) == announced:
            session.state.files[path] = announced
