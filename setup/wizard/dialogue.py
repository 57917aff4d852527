"""The conversation of an interactive run around its questions: greeting, help, review and summaries."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from setup import console
from setup.config.derived import certificate_is_made
from setup.config.model import BACK, BACK_WORD, Field, Given, Outcome, Reply, Secret, Setting, Source
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.deploy import report, transaction
from setup.deploy.reconcile import BESIDE, KEEP, REPLACE, Conflict
from setup.deploy.steps import answered, prompt_user_secrets, step_of_secret, step_of_setting
from setup.errors import NotComplete
from setup.secrets import plan as secrets_plan
from setup.wizard import plain as lines
from setup.wizard import terminal
from setup.wizard.questions import NOTHING, WELCOME, Questions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from setup.deploy.session import Session
    from setup.state_manager import DeploymentState

# Terminals that cannot move the cursor.
_DUMB = ("", "dumb", "unknown")


def _read_with_keys(field: Field) -> Reply:
    from setup.wizard import prompt as wizard  # and with it prompt_toolkit

    return wizard.read(field)


class Dialogue:
    """Speaks with the operator; `ask` is what the steps ask their questions with."""

    def __init__(self, environ: Mapping[str, str], *, plain: bool) -> None:
        self._plain = plain or environ.get("TERM", "").lower() in _DUMB
        self._questions = Questions(lines.read if self._plain else _read_with_keys)
        self._questions.describe = self._describe
        self._questions.progress = self._progress
        self._questions.refusal = self._refusal
        self._session: Session | None = None
        self._offered = False  # a renewal
        if sys.stdin.encoding.lower() in ("ascii", "us-ascii", "ansi_x3.4-1968"):
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]

    def open(self) -> AbstractContextManager[None]:
        """The terminal for the time of the conversation."""
        return terminal.silent()

    def attach(self, session: Session) -> None:
        """From now on help and progress are those of this session."""
        self._session = session

    def ask(self, row: Setting | Secret, default: str) -> str | None:
        """The checked answer, None when the default was accepted or a secret was skipped, or BACK."""
        while True:
            answer = self._questions.ask(row, default)
            if answer != BACK or (self._session and self._session.history):
                return answer
            console.show(["  There is no earlier question to go back to."])

    def greet(self, state: DeploymentState, reset: bool) -> bool:
        """Opens the conversation; True when the operator wants to start from scratch."""
        back = BACK_WORD if self._plain else f"{BACK_WORD} or Shift-Tab"
        keys = f"? explains a question, {back} goes back, Ctrl-C saves and leaves"
        if not state.exists or reset:
            console.show(map(console.wrapped, (*WELCOME, keys)))
            return reset
        console.show(["", *report.existing_lines(state), ""])
        choice = self._questions.choose("Do you want to (c)ontinue, (r)eset, or (q)uit? [c/r/q]: ", ("c", "r", "q"))
        if choice == "q":
            raise NotComplete("Nothing was changed. Run the same command to go on")
        console.show(["", console.wrapped(keys)])
        return choice == "r"

    def review(self, session: Session) -> bool:
        """Shows every setting and lets any be changed; True when one was, so that the questions start over."""
        self._offer_renewal(session)
        while True:
            context = session.context()
            step, reasons = session.concerned(context)
            given = context.resolution, context.planned
            listed = report.reviewed(*given, session.state.accepted, session.was_complete)
            console.show(["", *report.review_lines(*given, listed, reasons), ""])
            name = self._choose_entry(listed, "write" if step else "leave")
            if not name:
                return False
            if name in SECRETS:
                self._change_secret(session, name)  # no question depends on it: back to the page
            elif self._change(session, name):
                return True

    def _offer_renewal(self, session: Session) -> None:
        """Asks, once, whether a certificate of ours that ends soon is to be renewed."""
        context = session.context()
        notes = context.targets.material.notes
        if self._offered or session.options.renew or not (notes and certificate_is_made(context.resolution.values)):
            return
        self._offered = True
        console.show(["", *map(console.wrapped, notes)])
        if self._questions.choose("Renew it now? [y/n]: ", ("y", "n")) == "y":
            session.options = session.options._replace(renew=True)

    def _choose_entry(self, listed: tuple[str, ...], otherwise: str) -> str:
        def check(text: str) -> str:
            known = _entry(text, listed) is not None
            return "" if known else f"type a number from 1 to {len(listed)}, or a name that stands there"

        question = f"Number or name to change, or Enter to {otherwise}: "
        return _entry(self._questions.line(question, check, listed), listed) or ""

    def _change(self, session: Session, key: str) -> bool:
        row, values = SETTINGS[key], session.context().resolution.values
        answer = self._questions.ask(row, report.shown(session.context().resolution, key))
        if answer is None or answer == BACK:
            return False
        # The page has shown the others: only what did not apply until now becomes a question.
        seen = [other for other, one in SETTINGS.items() if one.asked and one.when(values) and not values.given(other)]
        settled = tuple(other for other in seen if other != key)
        transaction.commit(session, step_of_setting(key), answered(row, answer)._replace(accepted=settled))
        session.state.reopen(step_of_setting(key))
        session.history.clear()
        return True

    def _change_secret(self, session: Session, name: str) -> None:
        row, resolution, one = SECRETS[name], session.context().resolution, session.context_now().planned[name]
        if row.bound and one.present and one.text:
            console.show([f"  {name} keeps its value: it is bound to {row.bound}."])
            return
        answer = self._questions.ask(row, one.text)
        if answer is None or answer == BACK:
            return
        session.inputs.secrets[name] = Given(show(row.kind.parse(answer)), Source.ANSWER)
        file = session.context().planned[name].file
        if file:
            transaction.commit(session, prompt_user_secrets.__name__, Outcome(secrets=(file,), done=False))
            session.state.reopen(step_of_secret(name, resolution))
            session.history.clear()

    def settle(self, conflict: Conflict) -> str:
        """What is to become of a file that was edited by hand and that this run would change."""
        why = f" ({conflict.why})" if conflict.why else ""
        console.show(
            ["", console.wrapped(f"{conflict.path} holds changes of yours, and its text changes here too{why}.")]
        )
        question = f"(k)eep yours, with the new text in {conflict.path}{BESIDE}, (r)eplace it, or (q)uit? [k/r/q]: "
        choice = self._questions.choose(question, ("k", "r", "q"))
        if choice == "q":
            raise NotComplete("Nothing was written; answers are saved. Run the same command to go on")
        return KEEP if choice == "k" else REPLACE

    def summarise_secrets(self, session: Session) -> None:
        """What became of the secrets that only the operator knows."""
        context = session.context_now()
        values = context.resolution.values
        asked = [name for name in context.planned if secrets_plan.is_asked(SECRETS[name], values)]
        provided = [name for name in asked if context.planned[name].text]
        told = [f"  {'✓' if name in provided else '⊘'} {name}" for name in asked]
        console.show(["", f"✓ {len(provided)}/{len(asked)} secrets provided", *told])

    def _refusal(self, row: Setting, text: str) -> str:
        return self._session.refusal(row.key, text) if self._session else ""

    def _describe(self, row: Setting | Secret) -> list[str]:
        """The help of one question: what it is, where it ends up, where its present value is from."""
        place = [f"{self._progress(row)}."] if self._plain else []
        if isinstance(row, Secret):
            return place + self._describe_secret(row)
        told = [row.help, f"Takes {row.kind.expects}."]
        told.append(f"Ends up in .env as {row.key}." if row.in_env else f"Shapes the generated files ({row.key}).")
        found = self._session.context_now().resolution.values.computed(row.key) if self._session else None
        if found:
            told.append(f"At present: {show(found.value) or '(empty)'}, from {found.source.label}.")
            told += [f"{NOTHING} alone empties it."] if row.empty and show(found.value) else []
        return place + told

    def _describe_secret(self, row: Secret) -> list[str]:
        places = [secrets_plan.path_of(row.name), *(f"{key} in .env" for key in row.shown)]
        told = [row.help, f"Takes {row.kind.expects}.", f"Ends up in {', '.join(places)}."]
        told += [f"Keeps its first value: it is bound to {row.bound}."] if row.bound else []
        if self._session:
            told.append(f"At present: {report.ORIGINS[self._session.context_now().planned[row.name].origin]}.")
        return told

    def _progress(self, row: Setting | Secret) -> str:
        """Where this question stands among those of its section."""
        if self._session is None:
            return ""
        context = self._session.context_now()
        values = context.resolution.values
        if isinstance(row, Secret):
            names = [name for name in context.planned if secrets_plan.is_asked(SECRETS[name], values)]
            return f"Secrets · {names.index(row.name) + 1} of {len(names)}" if row.name in names else ""
        keys = [key for key, other in SETTINGS.items() if other.asked and other.group == row.group]
        keys = [key for key in keys if values.can_apply(key)]
        return f"{row.group} · {keys.index(row.key) + 1} of {len(keys)}" if row.key in keys else ""


def _entry(text: str, listed: tuple[str, ...]) -> str | None:
    """The listed name that a number or a name in any case means, "" for no text."""
    text = text.strip()
    if text.isascii() and text.isdigit() and 0 < int(text[:4]) <= len(listed):
        return listed[int(text[:4]) - 1]
    return text and next((name for name in listed if name.lower() == text.lower()), None)
