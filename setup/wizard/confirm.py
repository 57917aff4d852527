"""The last word before something is written: typed by a person, or `--yes`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from setup import console
from setup.config.model import Field
from setup.errors import DecisionNeeded, Interrupted, NotComplete
from setup.wizard import plain as lines
from setup.wizard import terminal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator


def asks(options: argparse.Namespace) -> bool:
    """Whether a person is there and is to be asked."""
    return console.is_terminal() and not (options.non_interactive or options.json)


@contextlib.contextmanager
def conversation(wanted: bool) -> Iterator[None]:
    """A terminal that is silent between questions and left as it was; an input that ends leaves all as it is."""
    with terminal.silent() if wanted else contextlib.nullcontext():
        try:
            yield
        except EOFError:
            raise Interrupted("Nothing was changed") from None


def confirm(question: str, word: str, options: argparse.Namespace) -> None:
    """Goes on when somebody types the word, or has given --yes; raises NotComplete or DecisionNeeded otherwise."""
    if options.yes:
        return
    if not asks(options):
        raise DecisionNeeded("nothing was written: the same command with --yes goes on")
    if lines.read(Field(question, lambda _text: "")).text.strip() != word:
        raise NotComplete("Nothing was changed")


def new_secret(question: str, check: Callable[[str], str]) -> str:
    """A value that is typed twice and not shown."""
    while True:
        text = lines.read(Field(f"{question}: ", check, masked=True)).text
        if lines.read(Field(f"{question}, again: ", lambda _text: "", masked=True)).text == text:
            return text
        console.show(["  They differ: once more."])
