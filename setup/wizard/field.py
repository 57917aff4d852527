"""One line to be read from a terminal, and what was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

# Typed alone, these ask for help and for the previous question; no kind of value takes them.
HELP_WORD, BACK_WORD = "?", "<"


class Field(NamedTuple):
    """One line to be read from a terminal: `check` gives the reason why a text will not do, or "".

    `words` complete it. A `guided` one takes HELP_WORD and BACK_WORD, and shows its `progress` where there is room.
    """

    question: str
    check: Callable[[str], str]
    words: tuple[str, ...] = ()
    masked: bool = False
    guided: bool = False
    progress: str = ""


class Reply(NamedTuple):
    """What was read; `pasted` when it was not typed, `more` when further lines came with it and were dropped."""

    text: str
    pasted: bool = False
    more: bool = False
