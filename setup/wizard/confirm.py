"""Ask a person to confirm a change before it is written, unless `--yes` did."""

from __future__ import annotations

import contextlib

from setup import console
from setup.errors import DecisionNeeded, Interrupted, NotComplete
from setup.typed import TYPE_CHECKING
from setup.wizard import plain, terminal
from setup.wizard.field import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def conversation(wanted: bool) -> Iterator[None]:
    """Keep the terminal silent between the questions of a command; an input that ends changes nothing."""
    with terminal.silent() if wanted else contextlib.nullcontext():
        try:
            yield
        except EOFError:
            raise Interrupted(console.NOTHING_CHANGED) from None


def confirm(question: str, word: str, *, interactive: bool) -> None:
    """Return if the operator types the word; raise NotComplete otherwise, or DecisionNeeded if nobody is there."""
    if not interactive:
        raise DecisionNeeded("nothing was written: to confirm, run the same command with --yes")
    with console.leaving(console.NOTHING_CHANGED):
        answer = plain.read(Field(question, lambda _text: "")).text.strip()
    if answer != word:
        raise NotComplete(console.NOTHING_CHANGED)


def ask_new_secret(question: str, check: Callable[[str], str]) -> str:
    """Ask twice for a value that does not show, until both are the same."""
    with console.leaving(console.NOTHING_CHANGED):
        while True:
            text = plain.read(Field(f"{question}: ", check, masked=True)).text
            if plain.read(Field(f"{question}, again: ", lambda _text: "", masked=True)).text == text:
                return text
            console.show(["  The two values differ: type it again."])
