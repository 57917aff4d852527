"""Show what will be written before it is, and change any of it."""

from __future__ import annotations

from setup import console
from setup.config.derived import certificate_is_made
from setup.config.model import Given, Setting, Source
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.deploy import summary, transaction
from setup.deploy.steps import BACK, Outcome, answered, prompt_user_secrets, step_of_secret, step_of_setting
from setup.typed import TYPE_CHECKING
from setup.wizard import page
from setup.wizard.field import BACK_WORD, HELP_WORD
from setup.wizard.questions import NO_EARLIER

if TYPE_CHECKING:
    from setup.deploy.session import Session
    from setup.wizard.questions import Questions

WRITE, ALL = "w", "a"
_HELP = (
    "A number or a name changes that entry. a shows every setting, also those with their default; w writes everything "
    "that is listed under Changed, or the whole deployment if it is new. Ctrl-C leaves without writing it."
)


class Review:
    """Ask on one page whether to write; a complete deployment keeps its state until the operator says so."""

    def __init__(self, questions: Questions, session: Session) -> None:
        self._questions = questions
        self._session = session
        self._shows_all = False

    def run(self) -> bool:
        """Show the page until the operator writes or leaves; return True if the questions start over."""
        while True:
            entries, may_leave = self._show()
            word = self._choose(entries, may_leave)
            if word in ("", WRITE):
                return False
            if word == BACK_WORD:
                if self._session.history:
                    transaction.go_back(self._session)
                    return True
                console.show([NO_EARLIER])
            elif word == HELP_WORD:
                console.show([console.wrapped(_HELP, "  ")])
            elif word == ALL:
                self._shows_all = True
            elif word in SECRETS:
                self._change_secret(word)  # no question depends on it: show the review again
            elif self._change_setting(word):
                return True

    def _show(self) -> tuple[tuple[str, ...], bool]:
        """Show the page; return its entries, and whether there is nothing to write."""
        session = self._session
        context = session.context()
        step, reasons = session.concerned(context)
        entries = page.list_entries(session, context)
        lines = page.page(context, entries, whole=self._shows_all)
        console.show(["", *lines, *page.notes(session, context, reasons), ""])
        self._shows_all = False
        return entries, step is None

    def _choose(self, entries: tuple[str, ...], may_leave: bool) -> str:
        """Return the entry to change, or one of the words; "" for Enter, if that leaves."""
        listed = f"a number from 1 to {len(entries)}, or a name from the list"

        def check(text: str) -> str:
            word = text.strip()
            if word.lower() == ALL or _find_entry(word, entries) or (may_leave and not word):
                return ""
            if word.lower() == WRITE and not may_leave:
                return self._refuse_to_write()
            return f"type {listed}" if may_leave else f"type {WRITE} to write, or {listed}"

        otherwise = "Enter to leave" if may_leave else f"{WRITE} to write"
        question = f"Number or name to change, {ALL} to show all, {otherwise}: "
        word = self._questions.ask_line(question, check, entries)
        return word.lower() if len(word) < 2 and not word.isdigit() else _find_entry(word, entries) or ""

    def _refuse_to_write(self) -> str:
        """Return why what is listed cannot be written, or "": files on the volume may have changed since."""
        self._session.context()
        error = self._session.certificate_error
        return "; ".join(error.problems) if error else ""

    def _change_setting(self, key: str) -> bool:
        session, row = self._session, SETTINGS[key]
        values = session.context().resolution.values
        answer = self._questions.ask(row, summary.format_value(session.context().resolution, key))
        if answer is None or answer == BACK:
            return False
        if session.was_complete:
            self._hold(key, answer)
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

    def _hold(self, key: str, answer: str) -> None:
        """Keep an answer, and those to the questions that apply because of it, in memory until they are written."""
        session, before = self._session, self._session.answered
        known = self._list_applying()
        while True:
            session.answered = session.answered | {key: Given(answer, Source.ANSWER)}
            session.forget_context()
            new = [row for row in self._list_applying() if row not in known]
            if not new:
                return
            known.append(new[0])
            key, default = new[0].key, summary.format_value(session.context().resolution, new[0].key)
            reply = self._questions.ask(new[0], default)
            if reply == BACK:
                session.answered = before
                session.forget_context()
                return
            answer = default if reply is None else reply

    def _list_applying(self) -> list[Setting]:
        values = self._session.context_now().resolution.values
        rows = []
        for key, row in SETTINGS.items():
            if row.asked and values.can_apply(key) and not values.given(key):
                rows.append(row)
        return rows

    def _change_secret(self, name: str) -> None:
        session, row = self._session, SECRETS[name]
        resolution, present = session.context().resolution, session.context_now().planned[name]
        if row.bound and present.present and present.text:
            console.show([f"  {name} keeps its value: it is bound to {row.bound}."])
            return
        answer = self._questions.ask(row, present.text, holds=session.was_complete)
        if answer is None or answer == BACK:
            return
        session.run.typed[name] = Given(show(row.kind.parse(answer)), Source.ANSWER)
        file = session.context().planned[name].file
        if file and not session.was_complete:
            transaction.commit(session, prompt_user_secrets.__name__, Outcome(secrets=(file,), done=False))
            session.state.reopen(step_of_secret(name, resolution))
            session.history.clear()


def offer_renewal(questions: Questions, session: Session) -> None:
    """Ask whether to renew a self-signed certificate that ends soon."""
    context = session.context()
    notes = context.targets.tls.notes
    if not notes or not certificate_is_made(context.resolution.values) or session.run.renews:
        return
    console.show(["", *map(console.wrapped, notes)])
    if questions.choose("Renew it now? [y/n]: ", ("y", "n")) == "y":
        session.run.renews = True


def _find_entry(text: str, entries: tuple[str, ...]) -> str:
    """Return the entry that a number, or a name in any case, stands for; "" for none."""
    if text.isascii() and text.isdigit() and 0 < int(text[:4]) <= len(entries):
        return entries[int(text[:4]) - 1]
    return next((name for name in entries if name.lower() == text.lower()), "")
