"""DeploymentConfigurator: gather the inputs, run the steps that have something to do, and report."""

from __future__ import annotations

import contextlib
import os
import re

from setup import console
from setup.config import sources
from setup.deploy import ending, transaction
from setup.deploy.ending import Status
from setup.deploy.options import Asker, RunOptions
from setup.deploy.planner import program_basis
from setup.deploy.session import Run, Session
from setup.deploy.steps import STEPS
from setup.deploy.templates import Renderer
from setup.errors import DecisionNeeded, SetupError, VolumeError
from setup.state_manager import DeploymentState
from setup.step_names import (
    ASKING_STEPS,
    COLLECT_OPTIONAL_CONFIG,
    GENERATE_ENV_FILE,
    GENERATE_NGINX_CONFIG,
    PROMPT_USER_SECRETS,
    STEP_NAMES,
    step_title,
)
from setup.typed import TYPE_CHECKING, Any
from setup.volume import backups
from setup.volume.backups import Kind, Reason
from setup.volume.layout import HISTORY, STATE, SWEPT
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from setup.wizard.dialogue import Dialogue

PACKAGE = os.path.dirname(os.path.abspath(__file__))


# What a program says instead of a flag; a flag that is not here is one of the command.
_PARAMETERS = {
    "--set": "config",
    "--config": "config_file",
    "--output-dir": "output_dir",
    "--templates-dir": "templates_dir",
    "--defaults-file": "defaults_file",
    "--auth-type": "auth_type",
    "--save-config": "save_config=True",
    "--no-prompt-secrets": "prompt_secrets=False",
    "--non-interactive": "interactive=False",
    "--reset": "reset=True",
}
_ONLY_FLAGS = (
    "--adopt", "--check", "--fill", "--history", "--i-have-reencrypted", "--on-conflict", "--renew-certificate",
    "--restore", "--rotate", "--status", "--unset", "--yes",
)  # fmt: skip


def name_parameters(problem: str) -> str:
    """Return a command's message as a program needs it: `--set KEY=VALUE` becomes `config={"KEY": "VALUE"}`."""

    def replace(match: re.Match[str]) -> str:
        flag, key, value = match.group("flag", "key", "value")
        if flag == "--set" and key:
            return f'config={{"{key}": "{value}"}}'
        rest = match[0].partition(flag)[2]
        return f"avatar-setup {flag}{rest}" if flag in _ONLY_FLAGS else _PARAMETERS.get(flag, flag) + rest

    return re.sub(
        r"(flag |avatar-setup )?(?P<flag>--[a-z-]+)( (?P<key>[A-Z][A-Z0-9_]*)=(?P<value>[^ ,;:)]*))?", replace, problem
    )


def find_templates() -> str:
    """Return the directory of the templates: inside the installed package, or beside it in a checkout."""
    inside = os.path.join(PACKAGE, "templates")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(PACKAGE), "templates")


class DeploymentConfigurator:
    """Write one deployment into `output_dir`, resuming where an earlier run ended.

    `config` holds the caller's settings by key; they outrank environment and files. `environ` stands in for the
    environment of the process, {} for none. With `quiet`, nothing is printed: what a run has to say is in its result.
    """

    def __init__(
        self,
        templates_dir: str | os.PathLike[str],
        output_dir: str | os.PathLike[str],
        defaults_file: str | os.PathLike[str] | None = None,
        config: Mapping[str, Any] | None = None,
        use_state: bool = True,
        *,
        environ: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        self.templates_dir = os.fspath(templates_dir)
        self.output_dir = os.fspath(output_dir)
        self.defaults_file = os.fspath(defaults_file) if defaults_file else None
        self.config = dict(config or {})
        self.use_state = use_state
        self.environ = os.environ if environ is None else environ
        self.quiet = quiet
        self.result: dict[str, Any] = {}
        self._renderer = Renderer(self.templates_dir)
        self._preloaded: dict[str, bytes] = {}
        self._live: Session | None = None
        self._dialogue: Dialogue | None = None

    def preload(self, options: RunOptions) -> None:
        """Read the input files of this run now, while this process may still read them."""
        self._preloaded = sources.preload(sources.files_named(self.environ, options.config_file, self.defaults_file))

    def run(
        self,
        interactive: bool = True,
        config_file: str | os.PathLike[str] | None = None,
        auth_type: str = "email",
        save_config: bool = False,
        prompt_secrets: bool = True,
        reset: bool = False,
    ) -> dict[str, Any]:
        """Complete the deployment, or find that there is nothing to do, and return what happened.

        The keys of the result: `status` (complete, unchanged), `written`, `changed`, `pending_secrets`,
        `kept_files`, `copy` (the backup that was saved), `notes`, `warnings`. Without a terminal nobody is asked.
        `auth_type` counts as the caller's setting if it is not the default. Raise a SetupError before anything is
        written if an input is invalid; it names the parameters of this class.
        """
        options = RunOptions(
            interactive=interactive,
            config_file=os.fspath(config_file) if config_file else None,
            save_config=save_config,
            prompt_secrets=prompt_secrets,
            reset=reset,
            quiet=self.quiet,
        )
        try:
            return self.configure(options, auth_type)
        except SetupError as error:
            raise type(error)(*map(name_parameters, error.problems)) from None

    def configure(self, options: RunOptions, auth_type: str = "email") -> dict[str, Any]:
        """Complete the deployment as `run` does, with every option of the command line, and return the result."""
        inputs = self.gather(options, auth_type)
        self._warn("warning", inputs.warnings)
        self.result = {"warnings": list(inputs.warnings)}
        with Volume(self.output_dir) as volume, self._conversation(options) as dialogue:
            if dialogue:
                state = DeploymentState.load(volume)
                if not (options.fill and state.exists):
                    options = options._replace(reset=dialogue.greet(state, options.reset))
            seen = volume.read(STATE)
            session = self.session(volume, inputs, options, _asker(dialogue))
            if not session.state.is_complete():
                volume.check_writable()  # a read-only volume is reported before anything else
                if options.interactive and not dialogue:
                    self._warn("note", filter(None, [console.explain_silence()]))
            if not dialogue and transaction.nothing_to_do(session, seen):
                backups.clear_leftovers(volume)
                self._conclude(session, Status.UNCHANGED)
            elif left := self.carry_out(session):
                raise left
        return self.result

    def carry_out(self, planned: Session, prepare: Callable[[Session], None] | None = None) -> DecisionNeeded | None:
        """Take the lock, call `prepare`, and do what `planned` found to do; return what is left to decide then."""
        planned.volume.check_writable()
        with planned.volume.locked((*SWEPT, *map(os.path.dirname, planned.volume.coming))):
            self._live = self._load(planned.volume, planned.run)
            try:
                if prepare:
                    prepare(self._live)
                self._conclude(self._live, Status.COMPLETE if self._run_steps(self._live) else Status.UNCHANGED)
                return ending.kept(self._live)
            finally:
                self._live = None

    def prompt_user_secrets(self, auth_type: str = "email", skip_prompts: bool = False) -> None:
        """Run the step of that name: ask for the operator's secrets, or leave the open ones pending."""
        with self._session_for_a_step(RunOptions(prompt_secrets=not skip_prompts), auth_type) as session:
            self._step(session, PROMPT_USER_SECRETS)

    def _prompt_optional_config(self) -> None:
        """Run the step `collect_optional_config`: ask for the settings that have a default."""
        with self._session_for_a_step(RunOptions()) as session:
            self._step(session, COLLECT_OPTIONAL_CONFIG)

    def gather(self, options: RunOptions, auth_type: str = "email") -> sources.Inputs:
        """Gather everything this run was given."""
        caller = self.config if auth_type == "email" else self.config | {"AUTH_TYPE": auth_type}
        caller = {**options.runs, **caller}
        path = options.config_file
        inputs = sources.gather(self.environ, path, self.defaults_file, caller, self._preloaded)
        return sources.take_back(inputs, options.unset)

    def session(
        self, volume: Volume, inputs: sources.Inputs, options: RunOptions, asker: Asker | None = None
    ) -> Session:
        """Begin a run: load the state; raise VolumeError if it cannot be read."""
        basis = program_basis(self.templates_dir, PACKAGE)
        return self._load(volume, Run(inputs, options, asker, self._renderer, basis))

    def saved_session(self, volume: Volume) -> Session:
        """Load the deployment as its state describes it, without the environment and the flags of this run."""
        return self.session(volume, sources.gather({}, None, self.defaults_file, {}, {}), RunOptions())

    def _load(self, volume: Volume, run: Run) -> Session:
        state = DeploymentState()
        if self.use_state:
            state = DeploymentState.load(volume, run.options.adopts)
        elif volume.read(STATE) is not None:
            raise VolumeError(f"{volume.path} holds a state file ({STATE}): run with state, or use another directory")
        state = state.forget() if run.options.reset else state
        return Session(volume, state, run, self.use_state)

    @contextlib.contextmanager
    def _conversation(self, options: RunOptions) -> Iterator[Dialogue | None]:
        """Yield the dialogue with the operator for the time of a run; None if nobody is asked."""
        if not (options.interactive and console.is_terminal()):
            yield None
            return
        from setup.wizard.dialogue import Dialogue

        self._dialogue = Dialogue(self.environ, line_by_line=options.plain)
        try:
            with self._dialogue.open():
                yield self._dialogue
        finally:
            self._dialogue = None

    def _run_steps(self, session: Session) -> bool:
        """Run every step that has something to do; return False if none had."""
        transaction.recover(session)
        if self._dialogue:
            self._dialogue.attach(session)
        reviewed = session.state.is_complete() and self._dialogue is not None and self._review(session)
        context = session.context()
        first, reasons = session.concerned(context)
        if session.asker is None:
            transaction.check(session, context)  # refuses before the first write
        if session.options.reset and session.state.exists:
            transaction.save_backup(session, Reason(Kind.RESET))
            kept = f"{HISTORY}/{session.backup}"
            self._say(session, f"Starting from scratch; secrets and files stay. A backup of the previous state: {kept}")
        if first is None and not session.options.reset:
            return False
        for reason in () if self._dialogue else reasons:  # the review has shown them
            self._say(session, f"Changed: {reason}")
        self.result["changed"] = reasons
        session.state.reopen(first or STEP_NAMES[0])
        while name := session.state.next_step:
            certificate_is_wrong = name == GENERATE_NGINX_CONFIG and session.certificate_error
            if self._dialogue and (certificate_is_wrong or (name == GENERATE_ENV_FILE and not reviewed)):
                reviewed = self._review(session)
            elif name == COLLECT_OPTIONAL_CONFIG:
                self._prompt_optional_config()
            elif name == PROMPT_USER_SECRETS:
                self.prompt_user_secrets(skip_prompts=not session.options.prompt_secrets)
            else:
                self._step(session, name)
        return True

    def _review(self, session: Session) -> bool:
        """Show everything before it is written; return False if a change asks for another round."""
        if self._dialogue and session.was_complete and session.options.fill:
            self._dialogue.fill(session)
        elif self._dialogue and self._dialogue.review(session):
            return False
        transaction.check(session, session.context())  # refuses before the first write
        session.history.clear()
        console.show([""])  # the lines of the steps come next
        if session.was_complete:
            session.ask = None  # the page has shown every setting: nobody leaves while it is written
            session.forget_context()
        return True

    def _step(self, session: Session, name: str) -> None:
        """Run one step, as often as it has another question, or until the operator goes back."""
        done = False
        is_shown = not (session.options.quiet or self.quiet or (session.ask and name in ASKING_STEPS))
        with console.working(step_title(name)) if is_shown else contextlib.nullcontext():
            while not done:
                outcome = STEPS[name](session.context_now())
                if name == GENERATE_NGINX_CONFIG and session.certificate_error:
                    raise session.certificate_error
                if outcome.back:
                    transaction.go_back(session)
                    done = session.state.next_step != name
                    continue
                transaction.commit(session, name, outcome)
                done = outcome.done
        if self._dialogue and session.ask and name == PROMPT_USER_SECRETS and session.options.prompt_secrets:
            self._dialogue.summarise_secrets(session)

    @contextlib.contextmanager
    def _session_for_a_step(self, options: RunOptions, auth_type: str = "email") -> Iterator[Session]:
        """Yield the session of the run in progress, or a new one for a step that is called alone."""
        if self._live:
            yield self._live
            return
        inputs = self.gather(options, auth_type)
        with Volume(self.output_dir) as volume, volume.locked(SWEPT), self._conversation(options) as dialogue:
            session = self.session(volume, inputs, options, _asker(dialogue))
            transaction.recover(session)
            if dialogue:
                dialogue.attach(session)
            yield session
            session.save_state()

    def _conclude(self, session: Session, status: Status) -> None:
        self.result |= ending.result(session, status)
        self._warn("note", self.result["notes"])
        is_quick = not (session.work.edited or ending.has_additions(session) or console.is_watched())
        if status is Status.UNCHANGED and is_quick:
            failures = ending.known_failures(session)
        else:
            from setup.checks import run

            failures = run.find_failures(session)
        self._say(session, *ending.last_message(session, status, failures, self.environ))

    def _warn(self, kind: str, sentences: Iterable[str]) -> None:
        if not self.quiet:
            console.warn(f"{kind}: {sentence}" for sentence in sentences)

    def _say(self, session: Session, *lines: str) -> None:
        if not session.options.quiet:
            console.show(lines)


def _asker(dialogue: Dialogue | None) -> Asker | None:
    return Asker(dialogue.ask, dialogue.ask_for_more, dialogue.decide) if dialogue else None
