"""The only writer to the terminal: results to stdout, messages about the run to stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def prepare() -> None:
    """Lets a terminal without UTF-8 show what it can instead of ending the run."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def is_terminal() -> bool:
    """Whether somebody can be asked: a terminal on stdin and on stdout."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty())


def show(lines: Iterable[str]) -> None:
    """Results: they go to stdout."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def warn(lines: Iterable[str]) -> None:
    """Messages about the run: they go to stderr."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()
