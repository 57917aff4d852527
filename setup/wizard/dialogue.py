"""Lead an interactive run: greeting, questions with help, review, and summaries."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from setup import console
from setup.config.derived import certificate_is_made
from setup.config.model import Given, Secret, Setting, Source
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.deploy import summary, transaction
from setup.deploy.reconcile import Conflict, OnConflict
from setup.deploy.steps import BACK, Outcome, answered, prompt_user_secrets, step_of_secret, step_of_setting
from setup.errors import NotComplete
from setup.secrets import plan as secrets_plan
from setup.volume.layout import ENV, PROPOSAL_SUFFIX, secret_path
from setup.wizard import plain, terminal
from setup.wizard.field import BACK_WORD, Field, Reply
from setup.wizard.questions import EMPTY_WORD, WELCOME, Questions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from setup.deploy.session import Session
    from setup.deploy.steps import Context
    from setup.state_manager import DeploymentState

# Terminals that cannot move the cursor.
_DUMB = ("", "dumb", "unknown")


def _read_with_keys(field: Field) -> Reply:
    from setup.wizard import prompt  # and with it prompt_toolkit

    return prompt.read(field)


class Dialogue:
    """Talks with the operator; the steps ask their questions through `ask`."""

    def __init__(self, environ: Mapping[str, str], *, line_by_line: bool) -> None:
        self._line_by_line = line_by_line or environ.get("TERM", "").lower() in _DUMB
        read = plain.read if self._line_by_line else _read_with_keys
        self._questions = Questions(read, self._describe, self._progress, self._refusal)
        self._session: Session | None = None
        self._renewal_was_offered = False
        if sys.stdin.encoding.lower() in ("ascii", "us-ascii", "ansi_x3.4-1968"):
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]

    def open(self) -> AbstractContextManager[None]:
        """Keep the terminal silent between questions for the time of the conversation."""
        return terminal.silent()

    def attach(self, session: Session) -> None:
        """Take help, progress and refusals from this session."""
        self._session = session

    def ask(self, row: Setting | Secret, default: str) -> str | None:
        """Return the checked answer, None for an accepted default or a skipped secret, or BACK."""
        while True:
            answer = self._questions.ask(row, default)
            if answer != BACK or (self._session and self._session.history):
                return answer
            console.show(["  There is no earlier question to go back to."])

    def greet(self, state: DeploymentState, reset: bool) -> bool:
        """Open the conversation; return True if the operator wants to start from scratch."""
        back = BACK_WORD if self._line_by_line else f"{BACK_WORD} or Shift-Tab"
        keys = f"? explains a question, {back} goes back, Ctrl-C saves and leaves"
        if not state.exists or reset:
            console.show(map(console.wrapped, (*WELCOME, keys)))
            return reset
        console.show(["", *summary.existing_lines(state), ""])
        choice = self._questions.choose("Do you want to (c)ontinue, (r)eset, or (q)uit? [c/r/q]: ", ("c", "r", "q"))
        if choice == "q":
            raise NotComplete("Nothing was changed. Run the same command to go on")
        console.show(["", console.wrapped(keys)])
        return choice == "r"

    def review(self, session: Session) -> bool:
        """Show every setting and change any; return True after a change, so that the questions start over."""
        self._offer_renewal(session)
        while True:
            context = session.context()
            step, reasons = session.concerned(context)
            given = context.resolution, context.planned
            entries = summary.reviewed(*given, session.state.accepted, session.was_complete)
            console.show(["", *summary.review_lines(*given, entries, reasons), ""])
            name = self._choose_entry(entries, "write" if step else "leave")
            if not name:
                return False
            if name in SECRETS:
                self._change_secret(session, name)  # no question depends on it: show the review again
            elif self._change_setting(session, name):
                return True

    def _offer_renewal(self, session: Session) -> None:
        """Ask, once, whether to renew a self-signed certificate that ends soon."""
        context = session.context()
        notes = context.targets.tls.notes
        if not notes or not certificate_is_made(context.resolution.values):
            return
        if self._renewal_was_offered or session.run.renews:
            return
        self._renewal_was_offered = True
        console.show(["", *map(console.wrapped, notes)])
        if self._questions.choose("Renew it now? [y/n]: ", ("y", "n")) == "y":
            session.run.renews = True

    def _choose_entry(self, entries: tuple[str, ...], otherwise: str) -> str:
        """Return the entry to change, "" for Enter."""

        def check(text: str) -> str:
            if _find_entry(text, entries) is None:
                return f"type a number from 1 to {len(entries)}, or a name from the list"
            return ""

        question = f"Number or name to change, or Enter to {otherwise}: "
        return _find_entry(self._questions.ask_line(question, check, entries), entries) or ""

    def _change_setting(self, session: Session, key: str) -> bool:
        row, values = SETTINGS[key], session.context().resolution.values
        answer = self._questions.ask(row, summary.shown(session.context().resolution, key))
        if answer is None or answer == BACK:
            return False
        # The review has shown the other defaults, which counts as accepting them: only settings that did not apply
        # until now are asked.
        accepted = []
        for name, other in SETTINGS.items():
            if name != key and other.asked and other.when(values) and not values.given(name):
                accepted.append(name)
        transaction.commit(session, step_of_setting(key), answered(row, answer)._replace(accepted=tuple(accepted)))
        session.state.reopen(step_of_setting(key))
        session.history.clear()
        return True

    def _change_secret(self, session: Session, name: str) -> None:
        row, resolution = SECRETS[name], session.context().resolution
        present = session.context_now().planned[name]
        if row.bound and present.present and present.text:
            console.show([f"  {name} keeps its value: it is bound to {row.bound}."])
            return
        answer = self._questions.ask(row, present.text)
        if answer is None or answer == BACK:
            return
        session.run.typed[name] = Given(show(row.kind.parse(answer)), Source.ANSWER)
        file = session.context().planned[name].file
        if file:
            transaction.commit(session, prompt_user_secrets.__name__, Outcome(secrets=(file,), done=False))
            session.state.reopen(step_of_secret(name, resolution))
            session.history.clear()

    def settle(self, conflict: Conflict) -> OnConflict:
        """Ask what to do with a file that was edited by hand and that this run would change."""
        why = f" ({conflict.why})" if conflict.why else ""
        problem = f"{conflict.path} was edited by hand, and this run would change it too{why}."
        console.show(["", console.wrapped(problem)])
        question = (
            f"(k)eep yours, with the new text in {conflict.path}{PROPOSAL_SUFFIX}, (r)eplace it, or (q)uit? [k/r/q]: "
        )
        choice = self._questions.choose(question, ("k", "r", "q"))
        if choice == "q":
            raise NotComplete("Nothing was written; answers are saved. Run the same command to go on")
        return OnConflict.KEEP if choice == "k" else OnConflict.REPLACE

    def summarise_secrets(self, session: Session) -> None:
        """Show which of the secrets that only the operator knows were provided."""
        context = session.context_now()
        asked = _asked_secrets(context)
        provided = 0
        lines = []
        for name in asked:
            has_value = bool(context.planned[name].text)
            provided += has_value
            lines.append(f"  {'✓' if has_value else '⊘'} {name}")
        console.show(["", f"✓ {provided}/{len(asked)} secrets provided", *lines])

    def _refusal(self, row: Setting, text: str) -> str:
        return self._session.refusal(row.key, text) if self._session else ""

    def _describe(self, row: Setting | Secret) -> list[str]:
        """Return the help of one question: what it is, where the value goes, and what is in force."""
        sentences = [f"{self._progress(row)}."] if self._line_by_line else []
        sentences += [row.help, f"Takes {row.kind.expects}."]
        return sentences + (self._describe_secret(row) if isinstance(row, Secret) else self._describe_setting(row))

    def _describe_setting(self, row: Setting) -> list[str]:
        sentences = [f"Written to {ENV} as {row.key}." if row.in_env else f"Setting: {row.key}."]
        present = self._session.context_now().resolution.values.computed(row.key) if self._session else None
        if present:
            text = show(present.value)
            sentences.append(f"At present: {text or '(empty)'}, from {present.source.label}.")
            if row.empty and text:
                sentences.append(f"{EMPTY_WORD} alone empties it.")
        return sentences

    def _describe_secret(self, row: Secret) -> list[str]:
        places = ", ".join((secret_path(row.name), *row.shown))
        sentences = [f"Written to {places}{' in .env' if row.shown else ''}."]
        if row.bound:
            sentences.append(f"Keeps its first value: it is bound to {row.bound}.")
        if self._session:
            origin = self._session.context_now().planned[row.name].origin
            sentences.append(f"At present: {summary.ORIGINS[origin]}.")
        return sentences

    def _progress(self, row: Setting | Secret) -> str:
        """Return the place of a question in its section."""
        if self._session is None:
            return ""
        context = self._session.context_now()
        if isinstance(row, Secret):
            return _position("Secrets", row.name, _asked_secrets(context))
        keys = []
        for key, other in SETTINGS.items():
            if other.asked and other.group == row.group and context.resolution.values.can_apply(key):
                keys.append(key)
        return _position(row.group, row.key, keys)


def _asked_secrets(context: Context) -> list[str]:
    """Return the names of the secrets that this deployment asks the operator for."""
    values = context.resolution.values
    return [name for name in context.planned if secrets_plan.is_asked(SECRETS[name], values)]


def _position(section: str, name: str, names: list[str]) -> str:
    return f"{section} · {names.index(name) + 1} of {len(names)}" if name in names else ""


def _find_entry(text: str, entries: tuple[str, ...]) -> str | None:
    """Return the entry that a number, or a name in any case, stands for; "" for no text, None for no entry."""
    text = text.strip()
    if text.isascii() and text.isdigit() and 0 < int(text[:4]) <= len(entries):
        return entries[int(text[:4]) - 1]
    return text and next((name for name in entries if name.lower() == text.lower()), None)
