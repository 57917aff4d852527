"""One run's view of a deployment: what it resolves to, what is concerned, and the step transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from setup import concerns, conflicts, vault
from setup.authorities import ca_bundle
from setup.config_file import CONFIG
from setup.errors import DecisionNeeded, InputError, SetupError
from setup.files import Staged, Volume
from setup.model import File, Given, Outcome, SecretFile, Source
from setup.render import Renderer
from setup.resolve import Resolution, missing_text, resolve
from setup.secret_catalogue import SECRETS
from setup.sources import Inputs
from setup.state_manager import DeploymentState, digest
from setup.steps import Context, step_of_setting
from setup.targets import COMPOSE, OUR_LABEL, Targets

if TYPE_CHECKING:
    from setup.steps import Ask


class Options(NamedTuple):
    """What a run was asked to do besides configuring."""

    ask: Ask | None = None
    save_config: bool = False
    skip_prompts: bool = False
    reset: bool = False


class Session:
    """Everything one run works with; `written` and `notes` collect what its last message tells."""

    def __init__(
        self,
        volume: Volume,
        state: DeploymentState,
        inputs: Inputs,
        renderer: Renderer,
        basis: dict[str, str],
        options: Options,
        use_state: bool = True,
        earlier: Session | None = None,
    ) -> None:
        self.volume = volume
        self.state = state
        self.inputs = inputs
        self.renderer = renderer
        self.basis = basis
        self.options = options
        self.use_state = use_state
        self.answered: dict[str, Given] = {}
        self.answers_before = dict(state.answers)
        self.history: list[str] = []  # the questions of this run that one can go back to
        self.was_complete = state.is_complete
        self.written: list[str] = []
        self.notes: list[str] = []
        self._context: Context | None = None
        # A session before the lock was taken looked at the same things: what it rendered and minted holds.
        self._made: Targets | None = earlier._made if earlier else None
        self._minted: dict[str, str] = earlier._minted if earlier else {}

    def context(self) -> Context:
        """The deployment as it should be, from what was said and what stands on the volume.

        Raises one InputError with all problems of all sources, VolumeError for a lost secret and
        DecisionNeeded for a bound one that would change.
        """
        on_disk = self.read_secrets()
        given, problems = vault.canonical(self.inputs.secrets)
        resolution, accepted = self.resolve(vault.known(on_disk, given)), frozenset(self.state.accepted)
        filled = {name: text for name, text in on_disk.items() if text and name not in self.state.secrets}
        self._raise_problems(resolution, problems + vault.misfilled(filled))
        if resolution.missing:  # somebody is there to answer; until then nothing else can be planned
            nothing = Targets(self.renderer, resolution.values, {}, {})
            return Context(resolution, nothing, {}, accepted, frozenset(self.state.again), self.options.ask)
        moved = self.state.exists and conflicts.has_moved(self.answers_before.get("DB_HOST"), resolution.values)
        if not self.state.exists and OUR_LABEL in (self.volume.read(COMPOSE) or b""):
            conflicts.refuse_without_secrets(resolution.values, on_disk, given)
        conflicts.refuse(resolution.values, on_disk, given, self.state.secrets, moved)
        planned = vault.plan(resolution.values, on_disk, given, self._minted)
        targets = self._targets(resolution, planned)
        save_config = self.options.save_config or CONFIG in self.state.files
        again, ask_secrets = frozenset(self.state.again), not self.options.skip_prompts
        self._context = Context(
            resolution, targets, planned, accepted, again, self.options.ask, ask_secrets, save_config
        )
        return self._context

    def context_now(self) -> Context:
        """The context of the last look, or a new one when something was written since."""
        return self._context or self.context()

    def resolve(self, secrets: dict[str, str]) -> Resolution:
        """The settings of this deployment, from all layers and the saved answers."""
        layers = [*self.inputs.layers, self.answered]
        return resolve(layers, self.inputs.presets, self.state.answers, secrets)

    def refusal(self, key: str, text: str) -> str:
        """Why this answer does not go together with everything else, or ""."""
        before = self.answered, self._context, self._made
        self.answered = self.answered | {key: Given(text, Source.ANSWER)}
        try:
            context = self.context()
            if not context.resolution.missing:
                _ = context.targets.all  # a value that a file cannot carry is refused here
        except SetupError as error:
            return "; ".join(error.problems)
        finally:
            self.answered, self._context, self._made = before
        return ""

    def read_secrets(self) -> dict[str, str | None]:
        """Each secret's text on the volume, "" for an empty file, None where there is none."""
        return {name: vault.text_of(name, self.volume.read(vault.path_of(name))) for name in SECRETS}

    def _raise_problems(self, resolution: Resolution, more: list[str]) -> None:
        problems = [*self.inputs.problems, *resolution.problems, *more]
        unanswerable = () if self.options.ask or self.inputs.unreadable else resolution.missing
        problems += [missing_text(key) for key in unanswerable]
        if problems:
            raise InputError(*problems)

    def _targets(self, resolution: Resolution, planned: dict[str, vault.Planned]) -> Targets:
        """The files to render; those of the last context are reused as long as they hold."""
        generations = vault.generations(planned, self.state.secrets, self.state.announced_secrets)
        texts = {name: one.text for name, one in planned.items() if SECRETS[name].shown}
        bundle = ca_bundle(self.volume, resolution.values)
        if not (self._made and self._made.same(resolution.values, texts, generations, bundle)):
            self._made = Targets(self.renderer, resolution.values, texts, generations, bundle)
        return self._made

    def concerned(self, context: Context) -> tuple[str | None, list[str]]:
        """The first step that has something to do, and why; (None, []) when all is as it should be."""
        save_config = self.options.save_config
        look = concerns.look(self.volume, self.state, self.answers_before, self.basis, context, save_config)
        self.notes = look.notes
        return look.first, look.reasons if self.was_complete else []

    def to_publish(self, files: tuple[File, ...]) -> list[File]:
        """Those of the files that are not on the volume yet; raises DecisionNeeded for another's edits."""
        wanted, edited = [], []
        for file in files:
            there = self.volume.read(file.path)
            if there == file.data:
                continue
            if there is None or not self.use_state or self.state.knows(file.path, there):
                wanted.append(file)
            elif self.state.files.get(file.path) != digest(file.data):
                edited.append(file.path)
        if edited:
            raise DecisionNeeded(*(
                f"{self.volume.path}/{path} holds changes that are not from here and would be overwritten. Nothing was "
                f"written: move it away (mv {path} {path}.mine), run again, then carry your changes over"
                for path in edited
            ))  # fmt: skip
        return wanted

    def commit(self, step: str, outcome: Outcome) -> None:
        """Makes an outcome true: staged, announced, published, completed; a crash at any point repeats it."""
        files = self.to_publish(outcome.files)
        staged = self._stage(files, outcome.secrets)
        planned = self._context.planned if self._context else {}
        counts = vault.settled(planned, outcome.secrets, self.state.secrets, self.state.announced_secrets)
        self.state.begin(step, outcome.files, counts)
        if staged:  # else all of it stands on the volume already
            self.save_state()
            self.volume.publish(staged)
        self._remember(outcome)
        if outcome.done:
            self.state.complete(step)
        if self.state.is_complete:
            self._conclude()
        if self.options.ask or not outcome.done or self.state.is_complete:
            self.save_state()  # else the next step's announcement carries it: a crash between repeats a step
        self.written += [file.path for file in files] + [vault.path_of(secret.name) for secret in outcome.secrets]
        if outcome.secrets or not outcome.done:
            self._context = None

    def _stage(self, files: list[File], secrets: tuple[SecretFile, ...]) -> list[Staged]:
        """Secrets first, as the files are derived from them; the compose file last."""
        as_files = {s.name: File(vault.path_of(s.name), s.text.encode(), 0o644) for s in secrets}
        fresh = [as_files[secret.name] for secret in secrets if not secret.replace]
        replaced = [as_files[secret.name] for secret in secrets if secret.replace]
        files = sorted(files, key=lambda file: file.path == COMPOSE)
        staged = self.volume.stage(fresh, fresh=True)
        staged += self.volume.stage(replaced)
        return staged + self.volume.stage(files, backup=not self.use_state)

    def _remember(self, outcome: Outcome) -> None:
        if outcome.answers is not None:
            self.answered |= {key: said for key, said in outcome.answers.items() if said.source is Source.ANSWER}
            self.state.answers |= outcome.answers
            if outcome.done and self._context:  # what a preset outranks, or another spelling replaces, is forgotten
                kept = self._context.resolution.answers
                self.state.answers = {key: said for key, said in self.state.answers.items() if key in kept}
        settled = {*self.state.accepted, *self.state.again}  # Enter at one of `again` keeps what was there
        self.state.accepted += [key for key in outcome.accepted if key not in settled]
        if not outcome.done:
            asked = [*(outcome.answers or ()), *outcome.accepted, *(secret.name for secret in outcome.secrets)]
            self.state.again = [key for key in self.state.again if key not in asked]
            self.history += asked

    def go_back(self) -> None:
        """Opens the last question of this run again; its answer stays, as the default, until another is given."""
        if not self.history:
            return
        key = self.history.pop()
        if key in self.state.accepted:
            self.state.accepted.remove(key)
        else:
            self.state.again.append(key)
        if key not in SECRETS:
            self.state.reopen(step_of_setting(key))
        self._context = None
        self.save_state()

    def _conclude(self) -> None:
        """Records what the finished deployment depends on, and forgets files it no longer has."""
        context = self._context or self.context()
        paths = {file.path for file in context.targets.all} | ({CONFIG} if context.save_config else set())
        self.state.files = {path: known for path, known in self.state.files.items() if path in paths}
        self.state.basis = dict(self.basis)
        self.state.again = []  # what is left there no longer applies

    def recover(self) -> None:
        """Takes over what an interrupted run had announced and published."""
        for path, announced in self.state.announced.items():
            data = self.volume.read(path)
            if data is not None and digest(data) == announced:
                self.state.files[path] = announced

    def save_state(self) -> None:
        if self.use_state:
            self.state.save(self.volume)
