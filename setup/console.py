"""The only writer to the terminal: results to stdout, messages about the run to stderr."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable


def prepare() -> None:
    """Lets a terminal without UTF-8 show what it can, and keeps the numbers of closed streams from our files."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def is_terminal() -> bool:
    """Whether somebody can be asked: a terminal on stdin and on stdout."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty())


def show(lines: Iterable[str]) -> None:
    """Results: they go to stdout."""
    _write(sys.stdout, lines)


def warn(lines: Iterable[str]) -> None:
    """Messages about the run: they go to stderr."""
    _write(sys.stderr, lines)


def _write(stream: TextIO | None, lines: Iterable[str]) -> None:
    """Nobody may be listening, or no longer: the work goes on."""
    if stream is None:
        return
    try:
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
