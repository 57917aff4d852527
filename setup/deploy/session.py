"""One run's view of a deployment: what was said, what stands on the volume, and what that comes to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from setup.config import rules
from setup.config.config_file import config_file, holds_secrets
from setup.config.model import Given, Source
from setup.config.resolver import Resolution, missing_text, resolve
from setup.config.secrets import SECRETS
from setup.config.sources import Inputs
from setup.deploy import baseline, planner
from setup.deploy.reconcile import Action, Change, Conflict, OnConflict, reconcile_file
from setup.deploy.steps import Context
from setup.deploy.targets import OUR_LABEL, Parts, Targets
from setup.deploy.templates import Renderer
from setup.errors import DecisionNeeded, InputError, SetupError
from setup.secrets import guards
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_secrets
from setup.state_manager import DeploymentState
from setup.tls import plan as tls_plan
from setup.volume import backups
from setup.volume.layout import COMPOSE, CONFIG, File
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.deploy.options import Asker, RunOptions


_REFUSED = (
    "holds changes that are not from here and would be overwritten. Nothing was written: --on-conflict keep leaves it "
    "and puts the new text beside it, --on-conflict replace overwrites it and keeps a dated copy"
)


class Session:
    """Everything one run works with; `written`, `merged` and `kept` collect what its last message tells."""

    def __init__(
        self,
        volume: Volume,
        state: DeploymentState,
        inputs: Inputs,
        renderer: Renderer,
        basis: dict[str, str],
        options: RunOptions,
        asker: Asker | None = None,
        use_state: bool = True,
        earlier: Session | None = None,
    ) -> None:
        self.volume = volume
        self.state = state
        self.inputs = inputs
        self.renderer = renderer
        self.basis = basis
        self.options = options
        self.asker = asker
        self.ask = asker.ask if asker else None
        self.use_state = use_state
        self.answered: dict[str, Given] = {}
        self.answers_before = dict(state.answers)
        self.history: list[str] = []  # the questions of this run that one can go back to
        self.existed, self.was_complete = state.exists, state.is_complete
        self.written: list[str] = []
        self.edited: list[str] = []  # by hand, as the last look found them
        self.merged: list[str] = []
        self.notes: tuple[str, ...] = ()
        self.kept: list[str] = []  # edited files whose new text stands beside them
        self.copy = ""  # the dated copy that this run has made
        self._settled: dict[str, OnConflict] = earlier._settled if earlier else {}
        self._deployed: dict[str, Given] | None = None
        self.last: Context | None = None  # the last look, as long as nothing was written or answered since
        # A session before the lock was taken looked at the same things: what it rendered and minted holds.
        self._made: Targets | None = earlier._made if earlier else None
        self._minted: dict[str, str] = earlier._minted if earlier else {}
        self._issued: tls_plan.Issued = earlier._issued if earlier else {}

    def context(self) -> Context:
        """The deployment as it should be, from what was said and what stands on the volume.

        Raises one InputError with all problems of all sources, VolumeError for a lost secret and
        DecisionNeeded for a bound one that would change, or while a restore is half done.
        """
        backups.require_whole(self.volume)
        on_disk = read_secrets(self.volume)
        given, problems = secrets_plan.parse_given(self.inputs.secrets)
        given |= self.inputs.exact
        resolution, accepted = self.resolve(secrets_plan.known_texts(on_disk, given)), frozenset(self.state.accepted)
        filled = {name: text for name, text in on_disk.items() if text and name not in self.state.secrets}
        exact = {name: said.text for name, said in self.inputs.exact.items()}
        self._raise_problems(resolution, problems + secrets_plan.check_filled(filled | exact))
        if resolution.missing:  # somebody is there to answer; until then nothing else can be planned
            nothing = Targets(self.renderer, Parts(resolution.values, {}, {}))
            return Context(resolution, nothing, {}, accepted, frozenset(self.state.again), self.ask)
        moved = self.state.exists and guards.has_moved(self.answers_before.get("DB_HOST"), resolution.values)
        if not self.state.exists and OUR_LABEL in (self.volume.read(COMPOSE) or b""):
            guards.refuse_without_secrets(resolution.values, on_disk, given)
        rotated = self.options.rotated
        others = {name: said for name, said in given.items() if name not in rotated}
        guards.refuse_unsafe(resolution.values, on_disk, others, self.state.secrets, moved)
        planned = secrets_plan.plan_secrets(resolution.values, on_disk, given, self._minted, rotated)
        targets = self._targets(resolution, planned)
        saved = self._saved(resolution, planned)
        again, ask_secrets = frozenset(self.state.again), self.options.prompt_secrets
        self.last = Context(resolution, targets, planned, accepted, again, self.ask, ask_secrets, saved)
        return self.last

    def context_now(self) -> Context:
        """The context of the last look, or a new one when something was written since."""
        return self.last or self.context()

    def resolve(self, secrets: dict[str, str]) -> Resolution:
        """The settings of this deployment, from all layers and the saved answers."""
        layers = [*self.inputs.layers, self.answered]
        saved = {key: said for key, said in self.state.answers.items() if key not in self.inputs.unset}
        return resolve(layers, self.inputs.presets, saved, secrets)

    def refusal(self, key: str, text: str) -> str:
        """Why this answer does not go together with everything else, or ""."""
        before = self.answered, self.last, self._made
        self.answered = self.answered | {key: Given(text, Source.ANSWER)}
        try:
            context = self.context()
            if not context.resolution.missing:
                _ = context.targets.all  # a value that a file cannot carry is refused here
                self.refuse_jump(context)
        except SetupError as error:
            return "; ".join(error.problems)
        finally:
            self.answered, self.last, self._made = before
        return ""

    def _raise_problems(self, resolution: Resolution, more: list[str]) -> None:
        problems = [*self.inputs.problems, *resolution.problems, *more]
        unanswerable = () if self.ask or self.inputs.unreadable else resolution.missing
        problems += [missing_text(key) for key in unanswerable]
        if problems:
            raise InputError(*problems)

    def _targets(self, resolution: Resolution, planned: dict[str, secrets_plan.Planned]) -> Targets:
        """The files to render; those of the last context are reused as long as they hold."""
        generations = secrets_plan.count_generations(planned, self.state.secrets, self.state.announced_secrets)
        texts = {name: one.text for name, one in planned.items() if SECRETS[name].shown}
        mark = self.state.basis.get(tls_plan.MARK, "")
        tls = tls_plan.plan_tls(self.volume, resolution.values, mark, self.options.renew_certificate, self._issued)
        parts = Parts(resolution.values, texts, generations, tls, (os.geteuid(), os.getegid()))
        if not (self._made and self._made.parts.equals(parts)):
            self._made = Targets(self.renderer, parts)
        return self._made

    def _saved(self, resolution: Resolution, planned: dict[str, secrets_plan.Planned]) -> tuple[File, ...]:
        """The configuration file, if it is or was asked for; with the secrets if they are or were."""
        if not (self.options.save_config or CONFIG in self.state.files):
            return ()
        whole = self.options.with_secrets or holds_secrets(self.volume.read(CONFIG) or b"")
        return (config_file(resolution, {name: one.text for name, one in planned.items()} if whole else None),)

    def concerned(self, context: Context) -> tuple[str | None, list[str]]:
        """The first step that has something to do, and why; (None, []) when all is as it should be."""
        work = planner.find_work(self.volume, self.state, self.answers_before, self.basis, context)
        self.edited, self.notes = work.edited, work.notes
        if not self.was_complete or not work.first:
            return work.first, work.reasons if self.was_complete else []
        return work.first, [*work.reasons, *planner.moved_defaults(self.deployed(), context.resolution)]

    def deployed(self) -> dict[str, Given]:
        """The settings in force before this run, as far as they are known."""
        if self._deployed is None:
            self._deployed = baseline.deployed(self.volume) if self.use_state else {}
        return self._deployed

    def refuse_jump(self, context: Context) -> None:
        """Raises DecisionNeeded for a version that must not follow the one that is deployed."""
        before = self.deployed().get(rules.AUTHENTIK)
        refusal = before and rules.refuse_upgrade(before.text, str(context.resolution.values[rules.AUTHENTIK]))
        if refusal:
            raise DecisionNeeded(f"{refusal}. Nothing was written")

    def files(self, context: Context) -> tuple[File, ...]:
        """Every file that this deployment should have, as far as that is known; the compose file last."""
        if context.resolution.missing:  # somebody is still to be asked
            return ()
        return (*context.saved, *context.targets.all)

    def reconcile(self, files: tuple[File, ...]) -> list[Change]:
        """Decide what happens to each file; raises DecisionNeeded for all edits that nobody agreed to lose."""
        state = self.state if self.use_state else None
        changes = [reconcile_file(self.volume, state, file, self._choose) for file in files]
        refused = [change.file.path for change in changes if change.action is Action.REFUSED]
        if refused:
            raise DecisionNeeded(*(f"{self.volume.path}/{path} {_REFUSED}" for path in refused))
        return changes

    def _choose(self, conflict: Conflict) -> OnConflict:
        """Decide about an edited file: by option or answer; otherwise it is kept, or a foreign one ends the run."""
        said = self.options.on_conflict
        if said and said != OnConflict.ASK:
            return said
        if self.asker:
            if conflict.path not in self._settled:
                self._settled[conflict.path] = self.asker.settle(conflict)
            return self._settled[conflict.path]
        return OnConflict.FAIL if conflict.foreign and not said else OnConflict.KEEP

    def save_state(self) -> None:
        """Writes the state, where this run has one."""
        if self.use_state:
            self.state.save(self.volume)
