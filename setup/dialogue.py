"""The conversation of an interactive run around its questions: greeting, help, review and summaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup import console, report, vault
from setup.catalogue import SETTINGS
from setup.errors import NotComplete
from setup.model import BACK, Secret, Setting
from setup.secret_catalogue import SECRETS
from setup.steps import answered, step_of_setting
from setup.wizard import Wizard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from setup.session import Session
    from setup.state_manager import DeploymentState

# Terminals that cannot move the cursor; prompt_toolkit would echo a password there.
_DUMB = ("", "dumb", "unknown")


class Dialogue:
    """Speaks with the operator; `ask` is what the steps ask their questions with."""

    def __init__(self, environ: Mapping[str, str], *, plain: bool) -> None:
        self._wizard = Wizard(console.show, plain=plain or environ.get("TERM", "") in _DUMB)
        self._session: Session | None = None
        self._wizard.describe = self._describe
        self._wizard.progress = self._progress
        self.ask = self._wizard.ask

    def attach(self, session: Session) -> None:
        """From now on help and progress are those of this session."""
        self._session = session

    def greet(self, state: DeploymentState, reset: bool) -> bool:
        """Opens the conversation; True when the operator wants to start from scratch."""
        if not state.exists or reset:
            self._wizard.welcome()
            return reset
        console.show(["", *report.existing_lines(state), ""])
        choice = self._wizard.choose("Do you want to (c)ontinue, (r)eset, or (q)uit? [c/r/q]: ", ("c", "r", "q"))
        if choice == "q":
            raise NotComplete("Nothing was changed. Run the same command to go on")
        return choice == "r"

    def review(self, session: Session) -> bool:
        """Shows every setting and lets any be changed; True when one was."""
        context = session.context()
        keys = list(context.resolution.applying())
        console.show(["", *report.review_lines(context.resolution, context.planned), ""])
        while True:
            answer = self._wizard.line("Number or name to change, or Enter to go on: ", tuple(keys))
            if not answer:
                return False
            key = keys[int(answer) - 1] if answer.isdigit() and 0 < int(answer) <= len(keys) else answer.upper()
            if key in keys:
                break
            console.show([f"  {answer!r} is neither a number from 1 to {len(keys)} nor a setting that is listed here"])
        return self._change(session, SETTINGS[key])

    def _change(self, session: Session, row: Setting) -> bool:
        answer = self._wizard.ask(row, report.shown(session.context().resolution, row.key))
        if answer not in (None, BACK):
            session.commit(step_of_setting(row.key), answered(row, answer))
            session.state.reopen(step_of_setting(row.key))
            session.history.clear()
        return True

    def summarise_secrets(self, session: Session) -> None:
        """What became of the secrets that only the operator knows."""
        context = session.context_now()
        values = context.resolution.values
        asked = [name for name in context.planned if vault.is_asked(SECRETS[name], values)]
        provided = [name for name in asked if context.planned[name].text]
        lines = [f"  {'✓' if name in provided else '⊘'} {name}" for name in asked]
        console.show(["", f"✓ {len(provided)}/{len(asked)} secrets provided", *lines])

    def _describe(self, row: Setting | Secret) -> list[str]:
        """The help of one question: what it is, where it ends up, where its present value is from."""
        if isinstance(row, Secret):
            places = [vault.path_of(row.name), *(f"{key} in .env" for key in row.shown)]
            bound = [f"Keeps its first value: it is bound to {row.bound}."] if row.bound else []
            return [row.help, f"Ends up in {', '.join(places)}.", *bound, f"Takes {row.kind.expects}."]
        lines = [row.help, f"Takes {row.kind.expects}."]
        lines.append(f"Ends up in .env as {row.key}." if row.in_env else "Shapes the generated files.")
        resolution = self._session.context().resolution if self._session else None
        found = resolution.values.computed(row.key) if resolution else None
        if resolution and found:
            text = report.shown(resolution, row.key) or "(empty)"
            lines.append(f"At present: {text}, from {found.source.label}.")
        return lines

    def _progress(self, row: Setting | Secret) -> str:
        """Where this question stands among those of its section."""
        if self._session is None:
            return ""
        context = self._session.context_now()
        values = context.resolution.values
        if isinstance(row, Secret):
            names = [name for name in context.planned if vault.is_asked(SECRETS[name], values)]
            return f"Secrets · {names.index(row.name) + 1} of {len(names)}" if row.name in names else ""
        keys = [key for key, other in SETTINGS.items() if other.asked and other.group == row.group]
        keys = [key for key in keys if values.can_apply(key)]
        return f"{row.group} · {keys.index(row.key) + 1} of {len(keys)}" if row.key in keys else ""
