"""Questions to somebody at a terminal; the only importer of prompt_toolkit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup.errors import NotComplete
from setup.model import Secret, Setting

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


class Wizard:
    """Asks one question after another; `show` prints lines above them."""

    def __init__(self, show: Callable[[list[str]], None]) -> None:
        self._show = show
        self._group = ""

    def welcome(self) -> None:
        self._show(list(WELCOME))

    def __call__(self, row: Setting | Secret, default: str) -> str | None:
        """The checked answer, or None when the default was accepted or a secret was skipped."""
        return self._ask_secret(row, default) if isinstance(row, Secret) else self._ask_setting(row, default)

    def choose(self) -> str:
        """What to do with an existing configuration: c, r or q."""
        while True:
            answer = self._line("Do you want to (c)ontinue, (r)eset, or (q)uit? [c/r/q]: ").strip().lower()
            if answer in ("c", "r", "q"):
                return answer

    def _ask_setting(self, row: Setting, default: str) -> str | None:
        if row.group != self._group:
            self._group = row.group
            self._show(["", f"--- {row.group} ---"])
        shown = f" [{default}]" if default else ""
        while True:
            answer = self._line(f"{row.question}{shown}: ")
            if not answer.strip() and (default or row.empty):
                return None
            try:
                row.kind.parse(answer)
            except ValueError as error:
                self._show([f"  {error}" + (f" (e.g., {row.example})" if row.example else "")])
            else:
                return answer

    def _ask_secret(self, row: Secret, default: str) -> str | None:
        if self._group != row.__class__.__name__:
            self._group = row.__class__.__name__
            self._show(list(SECRETS_INTRODUCTION))
        shown = f" [{default}]" if default else ""
        while True:
            answer = self._line(f"{row.question}{shown}: ", masked=row.masked)
            if not answer.strip():
                if not default:
                    self._show(["  ⊘ Skipped - will need to be filled manually"])
                return None
            try:
                row.kind.parse(answer)
            except ValueError as error:
                self._show([f"  it must be {row.kind.expects}" if row.masked else f"  {error}"])
            else:
                self._show([f"✓ Saved {row.name}"])
                return answer

    def _line(self, question: str, *, masked: bool = False) -> str:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import DummyHistory

        session: PromptSession[str] = PromptSession(history=DummyHistory())
        try:
            return session.prompt(question, is_password=masked)
        except EOFError:
            raise NotComplete("Progress saved. Run the same command to go on") from None
