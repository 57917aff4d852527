"""Lead an interactive run: greeting, questions with help, review, and summaries."""

from __future__ import annotations

import contextlib
import sys

from setup import console
from setup.config.model import Given, Secret, Setting, Source
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.config.values import Unavailable
from setup.deploy import summary
from setup.deploy.reconcile import Conflict, OnConflict
from setup.deploy.steps import BACK, is_open, list_open
from setup.errors import NotComplete
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_filled
from setup.typed import TYPE_CHECKING
from setup.volume.layout import ENV, PROPOSAL_SUFFIX, secret_path
from setup.wizard import plain, review, terminal
from setup.wizard.field import BACK_WORD, HELP_WORD, Field, Reply
from setup.wizard.questions import EMPTY_WORD, NO_EARLIER, WELCOME, Questions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from setup.deploy.session import Session
    from setup.deploy.steps import Context
    from setup.state_manager import DeploymentState

_CHOICE = (
    "c goes on where the last run ended; a complete deployment shows its settings, to change any. r forgets progress "
    "and answers, after a backup; secrets and files stay. q changes nothing."
)


def _read_with_keys(field: Field) -> Reply:
    from setup.wizard import prompt  # and with it prompt_toolkit

    return prompt.read(field)


_MORE = "Everything else has a default. Change any of it? [y/N]: "
_MORE_HELP = (
    "y asks for sign-in, database, certificate paths, mail port and sender, logging, dataset expiry, image versions "
    "and the names in the database, each with its default. The review changes any of them one by one."
)


class Dialogue:
    """Talks with the operator; the steps ask their questions through `ask`."""

    def __init__(self, environ: Mapping[str, str], *, line_by_line: bool) -> None:
        self._line_by_line = line_by_line or environ.get("TERM", "").lower() in console.DUMB
        read = plain.read if self._line_by_line else _read_with_keys
        self._questions = Questions(read, self._describe, self._progress, self._refusal)
        self._session: Session | None = None
        self._renewal_was_offered = False
        self._asked: set[str] = set()
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
            if answer and answer != BACK and isinstance(row, Setting) and self._session:
                for note in self._session.list_notes(row.key, answer):
                    console.show([console.wrapped(f"note: {note}", "  ")])
            if answer != BACK or (self._session and self._session.history):
                return answer
            console.show([NO_EARLIER])

    def ask_for_more(self) -> bool | str:
        """Return whether the operator wants to change what has a default, or BACK."""
        console.show([""])
        while True:
            word = self._questions.ask_line(_MORE, _check_yes_or_no, ("y", "n")).lower()
            if word == HELP_WORD:
                console.show([console.wrapped(_MORE_HELP, "  ")])
            elif word != BACK_WORD:
                return word.startswith("y")
            elif self._session and self._session.history:
                return BACK
            else:
                console.show([NO_EARLIER])

    def greet(self, state: DeploymentState, reset: bool) -> bool:
        """Open the conversation; return True if the operator wants to start from scratch."""
        back = BACK_WORD if self._line_by_line else f"{BACK_WORD} or Shift-Tab"
        keys = f"? explains a question, {back} goes back, Ctrl-C"
        if not state.exists or reset:
            console.show(map(console.wrapped, (*WELCOME, f"{keys} saves and leaves")))
            return reset
        console.show(["", *summary.existing_lines(state), ""])
        question = "Do you want to (c)ontinue, (r)eset, or (q)uit? [c/r/q]: "
        choice = self._questions.choose(question, ("c", "r", "q"), _CHOICE)
        if choice == "q":
            raise NotComplete("Nothing was changed. Run the same command to go on")
        holds = choice == "c" and state.is_complete()
        console.show(["", console.wrapped(f"{keys} {'leaves without a change' if holds else 'saves and leaves'}")])
        return choice == "r"

    def review(self, session: Session) -> bool:
        """Show everything and change any of it; return True if the questions start over."""
        if not self._renewal_was_offered:
            self._renewal_was_offered = True
            review.offer_renewal(self._questions, session)
        with console.leaving(console.NOTHING_CHANGED) if session.was_complete else contextlib.nullcontext():
            return review.Review(self._questions, session).run()

    def fill(self, session: Session) -> None:
        """Ask for every secret that is missing, and keep the answers in memory until the run writes them."""
        context = session.context()
        with console.leaving(console.NOTHING_CHANGED):
            for row in secrets_plan.list_pending(context.resolution.values, context.secret_texts):
                answer = self._questions.ask(row, "", holds=True)
                while answer == BACK:
                    console.show([NO_EARLIER])
                    answer = self._questions.ask(row, "", holds=True)
                if answer is not None:
                    session.run.typed[row.name] = Given(show(row.kind.parse(answer)), Source.ANSWER)
        session.forget_context()

    def decide(self, conflict: Conflict) -> OnConflict:
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
        console.show(["", f"✓ {provided}/{len(asked)} secrets provided", *lines, ""])

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
            sentences.append(f"At present: {text or '(empty)'}, from {present.source.words}.")
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
        """Return the place of a question among all of this run, those before it included."""
        if self._session is None:
            return ""
        context = self._session.context_now()
        in_order = sorted(SETTINGS.values(), key=lambda other: not other.express)
        names = [other.key for other in list_open(context, in_order)]
        if context.ask_secrets:
            names += self._open_secrets(self._session, context)
        name = row.key if isinstance(row, Setting) else row.name
        self._asked.add(name)
        before = len(self._asked.difference(names))
        return f"Question {before + names.index(name) + 1} of {before + len(names)}" if name in names else ""

    def _open_secrets(self, session: Session, context: Context) -> list[str]:
        if context.planned:
            return [name for name, secret in context.planned.items() if is_open(context, secret)]
        names, known = [], {*read_filled(session.volume), *session.inputs.secrets}
        for name, row in SECRETS.items():  # settings are missing: count with what is known
            with contextlib.suppress(Unavailable):
                values = context.resolution.values
                if (
                    name not in known
                    and row.customary is None
                    and row.when(values)
                    and secrets_plan.is_asked(row, values)
                ):
                    names.append(name)
        return names


def _asked_secrets(context: Context) -> list[str]:
    """Return the names of the secrets that this deployment asks the operator for."""
    values = context.resolution.values
    return [name for name in context.planned if secrets_plan.is_asked(SECRETS[name], values)]


def _check_yes_or_no(text: str) -> str:
    return "" if text.strip().lower() in ("", "y", "yes", "n", "no") else "type y or n"
