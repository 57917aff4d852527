"""Read answers line by line, without control sequences: for screen readers, serial consoles, `expect` scripts."""

from __future__ import annotations

import functools

from setup import console
from setup.wizard import terminal
from setup.wizard.field import BACK_WORD, HELP_WORD, Field, Reply


def read(field: Field) -> Reply:
    """Return the first line that passes the check; do not echo a masked one. EOFError when the input ends."""
    while True:
        terminal.drop_typeahead()
        ask = functools.partial(console.ask, field.question)
        with terminal.echo_after_stops(not field.masked, ask):
            ask()  # after the echo is set: an answer may come at once
            text = terminal.read_line()
        more = terminal.drop_typeahead()
        if field.masked:
            console.write("\n")
        if field.guided and text.strip() in (HELP_WORD, BACK_WORD):
            return Reply(text)
        reason = field.check(text)
        if not reason:
            return Reply(text, more=more)
        console.show([console.wrapped(reason, "  ")])
