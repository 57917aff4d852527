"""Describe a line to read from a terminal, and the reply."""

from __future__ import annotations

from collections.abc import Callable

from setup.typed import NamedTuple

# Typed alone, these ask for help and for the previous question; no kind of value takes them.
HELP_WORD, BACK_WORD = "?", "<"


class Field(NamedTuple):
    """A line to read from a terminal: `check` returns the reason against a text, or "".

    `words` complete it. A `guided` one takes HELP_WORD and BACK_WORD, and shows its `progress`. A refused text stays in
    the field to be corrected, or with `clears` is removed from it.
    """

    question: str
    check: Callable[[str], str]
    words: tuple[str, ...] = ()
    masked: bool = False
    guided: bool = False
    progress: str = ""
    clears: bool = False


class Reply(NamedTuple):
    """The line; `pasted` if it was not typed, `more` if further lines came with it and were dropped."""

    text: str
    pasted: bool = False
    more: bool = False
