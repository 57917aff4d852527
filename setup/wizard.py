"""Questions to somebody at a terminal; the only importer of prompt_toolkit.

Every question derives from its row of the catalogue. A terminal that cannot do more, or `--plain`,
gets the same questions line by line and without control sequences (`lines`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from setup.errors import Interrupted
from setup.lines import read_line
from setup.model import BACK, Secret, Setting

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
SEVERAL_LINES = "this is more than one line: give one line"


class Wizard:
    """Asks one question after another; `show` prints lines above them, `source` tells where a value is from."""

    def __init__(self, show: Callable[[list[str]], None], *, plain: bool) -> None:
        self._show = show
        self._plain = plain
        self._group = ""
        self._typed = True
        self.describe: Callable[[Setting | Secret], list[str]] = lambda row: [row.help]
        self.progress: Callable[[Setting | Secret], str] = lambda _row: ""

    def welcome(self) -> None:
        """The opening of a first session."""
        back = "<" if self._plain else "Shift-Tab"
        self._show([*WELCOME, f"? explains a question, {back} goes back, Ctrl-C saves and leaves"])

    def ask(self, row: Setting | Secret, default: str) -> str | None:
        """The checked answer, None when the default was accepted or a secret was skipped, or BACK."""
        self._open_section(row)
        return self._ask_secret(row, default) if isinstance(row, Secret) else self._ask_setting(row, default)

    def choose(self, question: str, answers: tuple[str, ...]) -> str:
        """One of a few words, asked again until it is one."""
        while True:
            answer = self._read(question, words=answers).strip()
            if answer.lower() in answers:
                return answer.lower()

    def line(self, question: str, words: tuple[str, ...] = ()) -> str:
        """Any line."""
        return self._read(question, words=words).strip()

    def _open_section(self, row: Setting | Secret) -> None:
        group = row.group if isinstance(row, Setting) else "User-Provided Secrets"
        if group == self._group:
            return
        self._group = group
        self._show(["", f"--- {group} ---"] if isinstance(row, Setting) else list(SECRETS_INTRODUCTION))
        if isinstance(row, Setting) and row.notice:
            self._show([row.notice])

    def _ask_setting(self, row: Setting, default: str) -> str | None:
        shown = f" [{default}]" if default else ""
        optional = bool(default) or row.empty

        def check(text: str) -> str:
            if not text.strip():
                return "" if optional else f"a value is needed (e.g., {row.example})"
            return _reason(row, text)

        answer = self._read(f"{row.question}{shown}: ", check, row, row.kind.choices)
        return answer if answer == BACK or answer.strip() else None

    def _ask_secret(self, row: Secret, default: str) -> str | None:
        shown = f" [{default}]" if default else ""

        def check(text: str) -> str:
            return _reason(row, text) if text.strip() else ""

        while True:
            answer = self._read(f"{row.question}{shown}: ", check, row)
            if answer == BACK:
                return BACK
            if not answer.strip():
                self._show([f"✓ Saved {row.name}" if default else "  ⊘ Skipped - will need to be filled manually"])
                return None
            if row.masked and self._typed and self._read(f"{row.question}, again: ", row=row) != answer:
                self._show(["  the two differ; once more"])
                continue
            self._show([f"✓ Saved {row.name}"])
            return answer

    def _read(
        self,
        question: str,
        check: Callable[[str], str] = lambda _text: "",
        row: Setting | Secret | None = None,
        words: tuple[str, ...] = (),
    ) -> str:
        masked = isinstance(row, Secret) and row.masked
        try:
            if self._plain:
                self._typed = True
                return read_line(question, check, self.describe(row) if row else [], masked=masked)
            return self._prompt(question, check, row, words, masked)
        except (EOFError, KeyboardInterrupt):
            raise Interrupted("Progress saved. Run the same command to go on") from None

    def _prompt(
        self,
        question: str,
        check: Callable[[str], str],
        row: Setting | Secret | None,
        words: tuple[str, ...],
        masked: bool,
    ) -> str:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import DummyHistory
        from prompt_toolkit.input.typeahead import clear_typeahead

        session: PromptSession[str] = PromptSession(history=DummyHistory(), output=_output())
        self._typed = True
        answer = session.prompt(
            question,
            is_password=masked,
            validator=_validator(check),
            validate_while_typing=False,
            completer=WordCompleter(list(words)) if words else None,
            complete_while_typing=False,
            key_bindings=self._keys(row, masked),
            rprompt=self.progress(row) if row else None,
            style=_style(),
            enable_history_search=False,
        )
        clear_typeahead(session.app.input)  # what was pasted behind the answer belongs to no question
        return answer

    def _keys(self, row: Setting | Secret | None, masked: bool) -> Any:
        """Back, help, and a paste that is refused when it is more than one line."""
        from prompt_toolkit.application import run_in_terminal
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.keys import Keys
        from prompt_toolkit.validation import ValidationError

        keys = KeyBindings()

        def help_wanted(_event: Any) -> None:
            if row:
                run_in_terminal(lambda: self._show(["", *self.describe(row), ""]))

        def is_empty() -> bool:
            from prompt_toolkit.application.current import get_app

            return not masked and not get_app().current_buffer.text

        keys.add("f1")(help_wanted)
        keys.add("?", filter=Condition(is_empty))(help_wanted)

        @keys.add("s-tab")
        @keys.add("c-b")
        def _back(event: Any) -> None:
            if row:
                event.app.exit(result=BACK)

        @keys.add(Keys.BracketedPaste)
        def _paste(event: Any) -> None:
            text = event.data.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
            if "\n" in text:
                event.current_buffer.validation_error = ValidationError(message=SEVERAL_LINES)
                event.current_buffer.validation_state = _invalid()
                return
            self._typed = False
            event.current_buffer.insert_text(text)

        return keys


def _reason(row: Setting | Secret, text: str) -> str:
    """Why a text will not do, or ""; never the text of a secret."""
    try:
        row.kind.parse(text)
    except ValueError as error:
        if isinstance(row, Secret) and row.masked:
            return f"it must be {row.kind.expects}"
        return f"{error} (e.g., {row.example})" if row.example and row.example not in str(error) else str(error)
    return ""


def _validator(check: Callable[[str], str]) -> Any:
    from prompt_toolkit.validation import ValidationError, Validator

    class Check(Validator):
        """Shows the reason under the field and keeps the text, with the cursor at its end."""

        def validate(self, document: Any) -> None:
            reason = check(document.text)
            if reason:
                raise ValidationError(len(document.text), reason)

    return Check()


def _invalid() -> Any:
    from prompt_toolkit.buffer import ValidationState

    return ValidationState.INVALID


def _style() -> Any:
    """No colours: bold reads the same on light and dark backgrounds, and without it nothing is lost."""
    from prompt_toolkit.styles import Style

    return Style.from_dict({"validation-toolbar": "noreverse bold", "rprompt": "noreverse"})


def _output() -> Any:
    """The terminal without cursor position requests, which serial consoles answer late or never."""
    import sys

    from prompt_toolkit.output import create_output

    output = create_output(sys.stdout)
    output.enable_cpr = False  # type: ignore[attr-defined]
    return output
