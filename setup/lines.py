"""Questions line by line, without a control sequence: screen readers, serial consoles, `expect` scripts."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from setup.model import BACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELP_WORD, BACK_WORD = "?", "<"


def read_line(question: str, check: Callable[[str], str], help_lines: list[str], *, masked: bool) -> str:
    """The first line that passes the check, or BACK; `?` alone shows the help and `<` alone goes back.

    Raises EOFError when the input ends. A masked line is not echoed.
    """
    while True:
        _write(question)
        line = _masked_line() if masked else sys.stdin.readline()
        if not line:
            raise EOFError
        text = line.rstrip("\r\n")
        if help_lines and text == HELP_WORD:
            _write("".join(f"  {help_line}\n" for help_line in help_lines))
            continue
        if help_lines and text == BACK_WORD:
            return BACK
        reason = check(text)
        if not reason:
            return text
        _write(f"  {reason}\n")


def _masked_line() -> str:
    with _no_echo():
        line = sys.stdin.readline()
    _write("\n")
    return line


@contextlib.contextmanager
def _no_echo() -> Iterator[None]:
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
