"""Look at a deployment for one run: what was given, what is on the volume, and what both come to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from setup.config import advice, derived, releases
from setup.config.config_file import config_file, holds_secrets
from setup.config.engines import names_content, nginx_configuration
from setup.config.model import Given, Source
from setup.config.resolver import Resolution, missing_text, resolve
from setup.config.settings import SETTINGS
from setup.config.sources import Inputs
from setup.config.types import HOST_PATH, show
from setup.config.values import Values
from setup.deploy import baseline, planner
from setup.deploy.options import Asker, RunOptions
from setup.deploy.reconcile import Action, Change, Conflict, OnConflict, read_proposal, reconcile_file
from setup.deploy.steps import Context
from setup.deploy.targets import Parts, Targets, is_ours
from setup.deploy.templates import Renderer
from setup.errors import DecisionNeeded, InputError, SetupError
from setup.secrets import guards
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_secrets
from setup.state_manager import DeploymentState
from setup.tls import plan as tls_plan
from setup.typed import NamedTuple
from setup.volume import backups
from setup.volume.layout import CA_BUNDLE, CONFIG, LABEL_KEY, MAIN_FILES, File
from setup.volume.volume import Volume

_REFUSED = (
    "holds changes that avatar-setup did not write and would be overwritten. Nothing was written: --on-conflict keep "
    "leaves it and puts the new text beside it, --on-conflict replace saves a backup and overwrites it"
)

_EDITED = (
    "holds changes that are nowhere else and would be overwritten. Nothing was written: carry over what you need, "
    "then remove it (rm {})"
)


class Run:
    """What the session before the lock and the session under it share: nothing is asked, generated or rendered twice.

    `generated` are the texts of new secrets, `issued` new certificates. `typed` are secrets that the operator typed,
    `decisions` the answers about edited files, and `renews` that about the certificate.
    """

    def __init__(
        self, inputs: Inputs, options: RunOptions, asker: Asker | None, renderer: Renderer, basis: dict[str, str]
    ) -> None:
        self.inputs = inputs
        self.options = options
        self.asker = asker
        self.renderer = renderer
        self.basis = basis
        self.generated: dict[str, str] = {}
        self.issued: tls_plan.Issued = {}
        self.typed: dict[str, Given] = {}
        self.decisions: dict[str, OnConflict] = {}
        self.label_key = secrets_plan.generate_key()  # if the volume has none
        self.renews = options.renew_certificate
        self._targets: Targets | None = None

    def targets(self, parts: Parts) -> Targets:
        """Return the files that are made of these parts; the last ones, if their parts are equal."""
        if not (self._targets and self._targets.parts.equals(parts)):
            self._targets = Targets(self.renderer, parts)
        return self._targets


class Done(NamedTuple):
    """The paths that were written; of edited files those that were merged, or kept with the new text beside them.

    `removed` are earlier new texts whose file has no edit any more.
    """

    written: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def plus(self, other: Done) -> Done:
        """Return what both have done."""
        return Done(*map(tuple.__add__, self, other))


def resolve_inputs(
    inputs: Inputs, state: DeploymentState, answered: Mapping[str, Given], secrets: Mapping[str, str]
) -> Resolution:
    """Resolve the settings of a deployment from what a run was given, the saved answers and those of this run."""
    saved = {key: answer for key, answer in state.answers.items() if key not in inputs.unset}
    return resolve([*inputs.layers, answered], inputs.presets, saved, secrets)


class Session:
    """A deployment and the run that works on it; `done` is what this run has done so far."""

    def __init__(self, volume: Volume, state: DeploymentState, run: Run, use_state: bool = True) -> None:
        self.volume = volume
        self.state = state
        self.run = run
        self.use_state = use_state
        self.inputs, self.options, self.asker, self.basis = run.inputs, run.options, run.asker, run.basis
        self.ask = run.asker.ask if run.asker else None
        self.answered: dict[str, Given] = {}
        self.answers_before = dict(state.answers)
        self.history: list[str] = []  # the questions of this run that one can go back to
        self.existed, self.was_complete = state.exists, state.is_complete()
        self.done = Done()
        self.work = planner.Work(None, [], [], ())  # the last that `concerned` found
        self.backup = ""  # the backup that this run has saved
        self.certificate_error: SetupError | None = None  # somebody at a terminal can still mend it
        self._deployed: dict[str, Given] | None = None
        self._context: Context | None = None  # until something is written or answered

    def context(self) -> Context:
        """Plan the deployment as it should be, from what was given and what is on the volume.

        Raises one InputError with all problems of all sources, VolumeError for a lost secret and
        DecisionNeeded for a bound one that would change, or while a restore is incomplete.
        """
        self.certificate_error = None
        backups.require_whole(self.volume)
        on_disk = read_secrets(self.volume)
        given, problems = secrets_plan.parse_given({**self.inputs.secrets, **self.run.typed})
        given |= self.inputs.exact
        resolution = self.resolve(secrets_plan.known_texts(on_disk, given))
        self._raise_problems(resolution, problems + secrets_plan.check_filled(self._in_force(on_disk, given)))
        accepted, again = frozenset(self.state.accepted), frozenset(self.state.again)
        if resolution.missing:  # somebody can answer; until then nothing else can be planned
            nothing = Targets(self.run.renderer, Parts(resolution.values, {}, b""))
            self._context = Context(resolution, nothing, {}, accepted, again, self.ask, self._ask_for_more)
            return self._context
        self._refuse_unsafe(resolution, on_disk, given)
        planned = secrets_plan.plan_secrets(resolution.values, on_disk, given, self.run.generated, self.options.rotated)
        targets = self._targets(resolution, planned)
        context = Context(resolution, targets, planned, accepted, again, self.ask, self._ask_for_more)
        context = context._replace(ask_secrets=self.options.prompt_secrets)
        self._context = context._replace(saved=self._saved(context))
        return self._context

    def context_now(self) -> Context:
        """Return the last context, or plan a new one if something was written or answered since."""
        return self._context or self.context()

    @property
    def _ask_for_more(self) -> Callable[[], bool | str] | None:
        return self.asker.ask_for_more if self.asker and self.ask else None

    def forget_context(self) -> None:
        """Make the next `context_now` plan again: something was written or answered."""
        self._context = None

    def resolve(self, secrets: dict[str, str]) -> Resolution:
        """Resolve the settings of this deployment from all layers and the saved answers."""
        return resolve_inputs(self.inputs, self.state, self.answered, secrets)

    def refusal(self, key: str, text: str) -> str:
        """Return why this answer does not fit everything else, or "".

        What is wrong without it as well is not its fault. A certificate refuses only the question that names its file.
        """
        answered, context = self.answered, self._context
        try:
            before = self._list_problems()
            self.answered = answered | {key: Given(text, Source.ANSWER)}
            problems = list(self._list_problems())
            if SETTINGS[key].kind is HOST_PATH and self.certificate_error:
                names = (f"{key}=", show(SETTINGS[key].kind.parse(text)))
                problems += filter(lambda problem: problem.startswith(names), self.certificate_error.problems)
        finally:
            self.answered, self._context = answered, context
        return "; ".join(filter(lambda problem: problem not in before, problems))

    def list_notes(self, key: str, text: str) -> list[str]:
        """List what this answer makes doubtful, though it is accepted."""
        known = advice.list_notes(self.resolve({}).values)
        answered, self.answered = self.answered, self.answered | {key: Given(text, Source.ANSWER)}
        try:
            notes = advice.list_notes(self.resolve({}).values)
        finally:
            self.answered = answered
        return list(filter(lambda note: note not in known, notes))

    def _list_problems(self) -> tuple[str, ...]:
        """List what refuses the present answers, without the certificate."""
        try:
            context = self.context()
            if not context.resolution.missing:
                _ = context.targets.all  # a value that a file cannot carry is refused here
                self.refuse_jump(context)
        except SetupError as error:
            return error.problems
        return ()

    def _in_force(self, on_disk: Mapping[str, str | None], given: Mapping[str, Given]) -> dict[str, str]:
        """Return the secrets that nothing else judges: those on the volume that stay, and those taken over exactly."""
        texts = {name: taken.text for name, taken in self.inputs.exact.items()}
        for name, text in on_disk.items():
            if text and name not in given and name not in self.options.rotated:
                texts[name] = text
        return texts

    def _refuse_unsafe(self, resolution: Resolution, on_disk: dict[str, str | None], given: dict[str, Given]) -> None:
        """Refuse what would lock the operator out: a lost secret, or another value for a bound one."""
        values, state = resolution.values, self.state
        for main in MAIN_FILES if not state.exists else ():
            if is_ours(self.volume.read(main) or b""):
                guards.refuse_without_secrets(main, values, on_disk, given)
                if "TARGET" not in resolution.answers:
                    guards.refuse_other_engine(main, values, self.volume.path)
        moved = state.exists and guards.has_moved(self.answers_before.get("DB_HOST"), values)
        others = {name: text for name, text in given.items() if name not in self.options.rotated}
        guards.refuse_unsafe(values, on_disk, others, state.secrets, moved)

    def _raise_problems(self, resolution: Resolution, more: list[str]) -> None:
        problems = [*self.inputs.problems, *resolution.problems, *more]
        for key in () if self.ask or self.inputs.unreadable else resolution.missing:
            if key not in self.inputs.refused:
                problems.append(missing_text(key))
        if problems:
            raise InputError(*problems)

    def _targets(self, resolution: Resolution, planned: dict[str, secrets_plan.Planned]) -> Targets:
        texts = {name: secret.text for name, secret in planned.items()}
        mark = self.state.basis.get(tls_plan.MARK, "")
        try:
            material = tls_plan.plan_tls(self.volume, resolution.values, mark, self.run.renews, self.run.issued)
        except SetupError as error:
            if not self.asker:
                raise
            self.certificate_error, material = error, tls_plan.TlsPlan(mark=mark)
        owner = os.geteuid(), os.getegid()
        parts = Parts(resolution.values, texts, self.label_key(), material, owner)
        if derived.on_compose(resolution.values) or not self.use_state or not self._may_have_edits(resolution.values):
            return self.run.targets(parts)
        targets = self.run.targets(parts)
        return self.run.targets(parts._replace(kept=self._kept(targets)))

    def _may_have_edits(self, values: Values) -> bool:
        """Tell whether somebody may have edited a file that services mount; render nothing."""
        if not self.state.is_complete():
            return True
        for path in {nginx_configuration(values), CA_BUNDLE, *self.state.files}:
            data = self.volume.read(path) if names_content(values["TARGET"], path) else None
            if data is not None and not self.state.knows(path, data):
                return True
        return False

    def _kept(self, targets: Targets) -> dict[str, bytes]:
        """Return the bytes of the mounted files that this run leaves as somebody edited them; ask nobody."""
        kept = {}
        for file in targets.naming:
            change = reconcile_file(self.volume, self.state, file, lambda conflict: self._choose(conflict, asks=False))
            is_published = any(each.path == file.path for each in change.publish)
            if change.on_disk not in (None, file.data) and not is_published:
                kept[file.path] = change.on_disk
        return kept

    def label_key(self) -> bytes:
        """Return the key of the fingerprints, which is random; a new one until it is on the volume."""
        return self.volume.read(LABEL_KEY) or self.run.label_key

    def _saved(self, context: Context) -> tuple[File, ...]:
        """Return the configuration file, if it is or was asked for; with the secrets, if they are or were."""
        if not (self.options.save_config or CONFIG in self.state.files):
            return ()
        if not (self.options.with_secrets or holds_secrets(self.volume.read(CONFIG) or b"")):
            return (config_file(context.resolution),)
        return (config_file(context.resolution, context.secret_texts),)

    def concerned(self, context: Context) -> tuple[str | None, list[str]]:
        """Return the first step that has something to do, and why; (None, []) if everything is as it should be."""
        self.work = work = planner.find_work(self.volume, self.state, self.answers_before, self.basis, context)
        if not self.was_complete or not work.first:
            return work.first, work.reasons if self.was_complete else []
        return work.first, [*work.reasons, *planner.moved_defaults(self.deployed(), context.resolution)]

    def deployed(self) -> dict[str, Given]:
        """Return the settings in force before this run, as far as they are known."""
        if self._deployed is None:
            self._deployed = baseline.deployed(self.volume) if self.use_state else {}
        return self._deployed

    def refuse_jump(self, context: Context) -> None:
        """Raise DecisionNeeded for a version that must not follow the one that is deployed."""
        before, after = self.deployed(), context.resolution.values
        refusals = []
        if releases.AUTHENTIK in before and releases.AUTHENTIK not in self.options.runs:
            refusals.append(releases.refuse_upgrade(before[releases.AUTHENTIK].text, str(after[releases.AUTHENTIK])))
        if releases.POSTGRES in {*before} - {*self.options.runs} and not self._changes_database(after):
            refusals.append(releases.refuse_other_postgres(before[releases.POSTGRES].text, after[releases.POSTGRES]))
        refusals = list(filter(None, refusals))
        if refusals:
            raise DecisionNeeded(*(f"{refusal}. Nothing was written" for refusal in refusals))

    def _changes_database(self, after: Values) -> bool:
        """Tell whether the database will be in another volume, or on a server of the operator's."""
        before = self.deployed().get("DB_VOLUME")
        return derived.external_database(after) or bool(before and before.text != after["DB_VOLUME"])

    def files(self, context: Context) -> tuple[File, ...]:
        """Return every file that the deployment should have, the main file last; none while settings are missing."""
        return () if context.resolution.missing else (*context.saved, *context.targets.all)

    def reconcile(self, files: tuple[File, ...]) -> list[Change]:
        """Decide what happens to each file; raises DecisionNeeded for all edits that nobody agreed to lose."""
        state = self.state if self.use_state else None
        changes = [reconcile_file(self.volume, state, file, self._choose) for file in files]
        refused = [change.file.path for change in changes if change.action is Action.REFUSED]
        if refused:
            raise DecisionNeeded(*(f"{self.volume.path}/{path} {_REFUSED}" for path in refused))
        edited = [path for change in changes for path in self._edited_proposals(change)]
        if edited:
            raise DecisionNeeded(*(f"{self.volume.path}/{path} {_EDITED.format(path)}" for path in edited))
        return changes

    def _edited_proposals(self, change: Change) -> list[str]:
        """Return the text beside a file that a run would write again, if it holds what is nowhere else."""
        if change.action is not Action.KEPT or not change.publish:
            return []
        beside, path = change.publish[0].path, change.file.path
        is_ours = read_proposal(self.volume, self.state, path, change.on_disk) is not None
        return [] if is_ours or self.volume.read(beside) is None else [beside]

    def _choose(self, conflict: Conflict, asks: bool = True) -> OnConflict:
        """Decide about an edited file: by option or answer; otherwise it is kept, or a foreign one ends the run."""
        option, decisions = self.options.on_conflict, self.run.decisions
        if option and option != OnConflict.ASK:
            return option
        if self.asker:
            if asks and conflict.path not in decisions:
                decisions[conflict.path] = self.asker.decide(conflict)
                self.forget_context()  # names of Swarm and Kubernetes follow the content that stays
            return decisions.get(conflict.path, OnConflict.KEEP)
        return OnConflict.FAIL if conflict.foreign and not option else OnConflict.KEEP

    def save_state(self) -> None:
        """Write the state, if this run has one."""
        if self.use_state:
            self.state.save(self.volume)
