"""Questions to the operator, each derived from its row of the catalogue; how a line is read is another's concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup import console
from setup.config.model import BACK, BACK_WORD, HELP_WORD, Field, Reply, Secret, Setting
from setup.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

WELCOME = (
    "",
    "Avatar Deployment Configuration",
    "================================",
    "Press Enter to accept default values shown in [brackets]",
)
SECRETS_INTRODUCTION = (
    "",
    "User-Provided Secrets",
    "======================",
    "You can provide these values now or skip and fill them in manually later.",
    "Press Enter to skip a value.",
    "",
)
NOTHING = "-"  # typed alone, it empties a setting that may be empty
SKIPPED = "  ⊘ Skipped - will need to be filled manually"
HIDDEN = "******"


def _nothing(_: object) -> str:
    return ""


class Questions:
    """Asks one after another by `read`, which turns a Field into a Reply.

    `describe` gives the help of a question, `progress` its place in its section, and `refusal` the reason why an
    answer does not go together with the others.
    """

    def __init__(self, read: Callable[[Field], Reply]) -> None:
        self._read_field = read
        self._section = ""
        self.describe: Callable[[Setting | Secret], list[str]] = lambda row: [row.help]
        self.progress: Callable[[Setting | Secret], str] = _nothing
        self.refusal: Callable[[Setting, str], str] = lambda _row, _text: ""

    def ask(self, row: Setting | Secret, default: str) -> str | None:
        """The checked answer, None when the default was accepted or a secret was skipped, or BACK."""
        self._open_section(row)
        return self._ask_secret(row, default) if isinstance(row, Secret) else self._ask_setting(row, default)

    def choose(self, question: str, answers: tuple[str, ...]) -> str:
        """One of a few words."""
        allowed = f"type one of {', '.join(answers)}"
        field = Field(question, lambda text: "" if text.strip().lower() in answers else allowed, answers)
        return self._read(field).text.strip().lower()

    def line(self, question: str, check: Callable[[str], str], words: tuple[str, ...]) -> str:
        """Any line that passes the check."""
        return self._read(Field(question, check, words)).text.strip()

    def _open_section(self, row: Setting | Secret) -> None:
        section = row.group if isinstance(row, Setting) else SECRETS_INTRODUCTION[1]
        if section != self._section:
            opening = ("", f"--- {section} ---") if isinstance(row, Setting) else SECRETS_INTRODUCTION
            console.show(map(console.wrapped, opening))
        self._section = section

    def _ask_setting(self, row: Setting, default: str) -> str | None:
        if row.notice:
            console.show([console.wrapped(row.notice)])
        clears = row.empty and bool(default)

        def check(text: str) -> str:
            text = text.strip()
            if not text:
                return "" if default or row.empty else f"a value is needed{_example(row)}"
            if clears and text == NOTHING:
                return self.refusal(row, "")
            return reason_of(row, text) or self.refusal(row, text)

        words = row.kind.choices or ((default,) if default else ())
        text = self._ask_line(row, Field(_question(row, default), check, words)).text
        if text == BACK or not text.strip():
            return text or None
        return "" if clears and text.strip() == NOTHING else text

    def _ask_secret(self, row: Secret, default: str) -> str | None:
        field = Field(
            _question(row, HIDDEN if default and row.masked else default),
            lambda text: reason_of(row, text) if text.strip() else "",
            masked=row.masked,
        )
        while True:
            reply = self._ask_line(row, field)
            if reply.text == BACK:
                return BACK
            if not reply.text.strip():
                console.show([f"✓ Saved {row.name}" if default else SKIPPED])
                return None
            if row.masked and not reply.pasted:
                again = Field(f"{row.question}, again: ", _nothing, masked=True)
                if self._read(again).text != reply.text:
                    console.show(["  the two differ: once more"])
                    continue
            console.show([f"✓ Saved {row.name}"])
            return reply.text

    def _ask_line(self, row: Setting | Secret, field: Field) -> Reply:
        """The reply to a row's question, with BACK for the word that goes back; help is shown as often as wanted."""
        while True:
            reply = self._read(field._replace(guided=True, progress=self.progress(row)))
            word = reply.text.strip()
            if word == BACK_WORD:
                return Reply(BACK)
            if word != HELP_WORD:
                return reply
            console.show(console.wrapped(sentence, "  ") for sentence in self.describe(row))

    def _read(self, field: Field) -> Reply:
        try:
            reply = self._read_field(field)
        except (EOFError, KeyboardInterrupt):
            raise Interrupted("Progress saved. Run the same command to go on") from None
        if reply.more:
            console.show(["  Only the first line was taken; the rest was dropped."])
        return reply


def _question(row: Setting | Secret, default: str) -> str:
    """The question with the words to choose from, an example where there is no default, and the default."""
    aside = ", ".join(row.kind.choices)
    if not (default or aside or "(" in row.question):
        none = "Enter for none" if isinstance(row, Setting) and row.empty else ""
        aside = "; ".join(filter(None, (row.example and f"e.g., {row.example}", none)))
    return f"{row.question}{f' ({aside})' if aside else ''}{f' [{default}]' if default else ''}: "


def _example(row: Setting | Secret) -> str:
    return f" (e.g., {row.example})" if row.example else ""


def reason_of(row: Setting | Secret, text: str) -> str:
    """Why a text will not do, or ""; never the text of a secret."""
    try:
        row.kind.parse(text)
    except ValueError as error:
        if isinstance(row, Secret) and row.masked:
            return f"it must be {row.kind.expects}"
        return f"{error}{'' if row.example in str(error) else _example(row)}"
    return ""
