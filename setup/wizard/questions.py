"""Ask the questions of the catalogue: each comes from its row, and the `read` of `plain` or `prompt` reads the line."""

from __future__ import annotations

from setup import console
from setup.config.model import Secret, Setting
from setup.config.types import HOST_PATH
from setup.deploy.steps import BACK
from setup.errors import Interrupted
from setup.typed import TYPE_CHECKING
from setup.wizard.field import BACK_WORD, HELP_WORD, Field, Reply

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
EMPTY_WORD = "-"  # typed alone, it empties a setting that may be empty
SKIPPED = "  ⊘ Skipped - will need to be filled manually"
HIDDEN = "******"
NO_EARLIER = "  There is no earlier question to go back to."


def _accept(_text: str) -> str:
    return ""


class Questions:
    """Asks one question after another through `read`, which turns a Field into a Reply.

    The caller supplies the help of a question (`describe`), its place in its section (`progress`) and the reason why
    an answer contradicts the others (`refusal`).
    """

    def __init__(
        self,
        read: Callable[[Field], Reply],
        describe: Callable[[Setting | Secret], list[str]],
        progress: Callable[[Setting | Secret], str],
        refusal: Callable[[Setting, str], str],
    ) -> None:
        self._read_field = read
        self._describe = describe
        self._progress = progress
        self._refusal = refusal
        self._section = ""

    def ask(self, row: Setting | Secret, default: str, *, holds: bool = False) -> str | None:
        """Return the checked answer, None for an accepted default or a skipped secret, or BACK.

        A caller that only `holds` a secret, to write it with the rest later, does not let it be called saved.
        """
        self._open_section(row)
        if isinstance(row, Secret):
            return self._ask_secret(row, default, f"✓ {row.name}" if holds else f"✓ Saved {row.name}")
        return self._ask_setting(row, default)

    def choose(self, question: str, answers: tuple[str, ...], explanation: str = "") -> str:
        """Return one of a few words."""
        allowed = f"type one of {', '.join(answers)}"

        def check(text: str) -> str:
            return "" if text.strip().lower() in answers else allowed

        while True:
            word = self.ask_line(question, check, answers).lower()
            if word == BACK_WORD:
                console.show([NO_EARLIER])
            elif word == HELP_WORD:
                console.show([console.wrapped(explanation or f"{allowed[0].upper()}{allowed[1:]}.", "  ")])
            else:
                return word

    def ask_line(self, question: str, check: Callable[[str], str], words: tuple[str, ...]) -> str:
        """Return a line that passes the check, or HELP_WORD or BACK_WORD; `words` complete it."""
        return self._read(Field(question, check, words, guided=True, clears=True)).text.strip()

    def _open_section(self, row: Setting | Secret) -> None:
        section = row.group if isinstance(row, Setting) else SECRETS_INTRODUCTION[1]
        if section != self._section:
            opening = ("", f"--- {section} ---") if isinstance(row, Setting) else SECRETS_INTRODUCTION
            console.show(map(console.wrapped, opening))
        self._section = section

    def _ask_setting(self, row: Setting, default: str) -> str | None:
        if row.notice:
            console.show([console.wrapped(row.notice)])
        may_clear = row.empty and bool(default)

        def check(text: str) -> str:
            text = text.strip()
            if not text:
                refusal = self._refusal(row, default) if row.kind is HOST_PATH and default else ""
                return refusal or ("" if default or row.empty else f"a value is needed{_example(row)}")
            if may_clear and text == EMPTY_WORD:
                return self._refusal(row, "")
            return reason_against(row, text) or self._refusal(row, text)

        words = row.kind.choices or ((default,) if default else ())
        clears = bool(row.kind.choices) or row.kind.is_number
        text = self._ask_row(row, Field(_format_question(row, default), check, words, clears=clears)).text
        if text == BACK or not text.strip():
            return text or None
        return "" if may_clear and text.strip() == EMPTY_WORD else text

    def _ask_secret(self, row: Secret, default: str, receipt: str) -> str | None:
        field = Field(
            _format_question(row, HIDDEN if default and row.masked else default),
            lambda text: reason_against(row, text) if text.strip() else "",
            masked=row.masked,
            clears=row.masked,
        )
        while True:
            reply = self._ask_row(row, field)
            if reply.text == BACK:
                return BACK
            if not reply.text.strip():
                console.show([receipt if default else SKIPPED])
                return None
            if row.masked and not reply.pasted:
                repetition = Field(f"{row.question}, again: ", _accept, masked=True)
                if self._read(repetition).text != reply.text:
                    console.show(["  the two values differ: type it again"])
                    continue
            console.show([receipt])
            return reply.text

    def _ask_row(self, row: Setting | Secret, field: Field) -> Reply:
        """Return the reply to a row's question, BACK for the word that goes back; show help as often as it is asked."""
        while True:
            reply = self._read(field._replace(guided=True, progress=self._progress(row)))
            word = reply.text.strip()
            if word == BACK_WORD:
                return Reply(BACK)
            if word != HELP_WORD:
                return reply
            for sentence in self._describe(row):
                console.show([console.wrapped(sentence, "  ")])

    def _read(self, field: Field) -> Reply:
        try:
            reply = self._read_field(field)
        except (EOFError, KeyboardInterrupt):
            raise Interrupted(console.last_word()) from None
        if reply.more:
            console.show(["  Only the first line was taken; the rest was dropped."])
        return reply


def reason_against(row: Setting | Secret, text: str) -> str:
    """Return why the row refuses a text, or ""; never include the text of a masked secret."""
    try:
        row.kind.parse(text)
    except ValueError as error:
        if isinstance(row, Secret) and row.masked:
            return f"it must be {row.kind.expects}"
        return f"{error}{'' if row.example in str(error) else _example(row)}"
    return ""


def _format_question(row: Setting | Secret, default: str) -> str:
    """Return the question with its choices, an example if there is no default, how to give none, and the default."""
    aside = ", ".join(row.kind.choices)
    if "(" not in row.question:
        example = f"e.g., {row.example}" if row.example and not default else ""
        none = f"{EMPTY_WORD if default else 'Enter'} for none" if isinstance(row, Setting) and row.empty else ""
        aside = "; ".join(filter(None, (aside or example, none)))
    return f"{row.question}{f' ({aside})' if aside else ''}{f' [{default}]' if default else ''}: "


def _example(row: Setting | Secret) -> str:
    return f" (e.g., {row.example})" if row.example else ""
