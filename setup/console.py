"""The only writer to the terminal: results to stdout, messages about the run to stderr."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum

from setup.errors import ExitCode
from setup.typed import Any, NamedTuple, TextIO

# What a terminal without UTF-8 shows instead.
_SPELLED = {"✓": "[x]", "✗": "[!]", "◐": "[~]", "○": "[ ]", "⊘": "[-]", "→": "->", "·": "-", "…": "...", "–": "-"}
_SPELLING = "avatar-setup-spelling"
# What drives a terminal, reverses a text, or does not show: control and direction characters, of no width, line ends.
_HIDDEN = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
_lost: list[str] = []  # why standard output has not taken what was shown
PROGRESS_SAVED = "Progress saved. Run the same command to go on"
NOTHING_CHANGED = "Nothing was changed"
_last_words = [PROGRESS_SAVED]
_shows_colour = [False]
DUMB = ("", "dumb", "unknown")  # terminals that know no control sequence


class Colour(IntEnum):
    """A colour of a terminal, by its number in a control sequence."""

    RED = 31
    GREEN = 32
    YELLOW = 33


class Answer(NamedTuple):
    """What a command says: lines for people, the same as data, and the exit code."""

    lines: Iterable[str]
    data: Mapping[str, Any]
    exit_code: ExitCode = ExitCode.DONE


def prepare(environ: Mapping[str, str], *, plain: bool = False) -> None:
    """Let a terminal without UTF-8 show what it can, and keep our files from getting the numbers of closed streams."""
    _lost.clear()
    _shows_colour[0] = not (plain or environ.get("NO_COLOR") or environ.get("TERM", "").lower() in DUMB)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    codecs.register_error(_SPELLING, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_SPELLING)


def lost() -> str:
    """Return why standard output is incomplete, as on a full disk; "" if it is complete."""
    return _lost[0] if _lost else ""


@contextlib.contextmanager
def leaving(word: str) -> Iterator[None]:
    """Let an interrupted run say this inside the block, instead of PROGRESS_SAVED."""
    _last_words.append(word)
    try:
        yield
    finally:
        _last_words.pop()


def last_word() -> str:
    """Return what a run says if the operator leaves now."""
    return _last_words[-1]


def is_terminal() -> bool:
    """Tell whether somebody can be asked: both stdin and stdout are a terminal."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty())


def explain_silence() -> str:
    """Say why somebody who seems to be there is not asked; "" if nobody seems to be."""
    import stat

    if is_terminal() or sys.stdin is None:
        return ""
    if sys.stdin.isatty():
        return "nobody is asked, because the output is not a terminal: leave out what it is piped or redirected to"
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # a program has put something else in its place
        return ""
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return ""
    return (
        "nobody is asked, because the input is a pipe and not a terminal: to answer questions, docker run -it (add -t)"
    )


def is_watched() -> bool:
    """Tell whether results show on a terminal, rather than go into a file or a pipe."""
    return bool(sys.stdout and sys.stdout.isatty())


def visible(text: str) -> str:
    """Return a text with every character that would drive the terminal spelled: as \\u001b, which JSON reads too."""
    if text.isprintable():  # as nearly all is, and a start does not pay for the expression
        return text
    return re.sub(_HIDDEN, lambda match: f"\\u{ord(match[0]):04x}", text)


def printable(text: str) -> str:
    """Return a text as this terminal shows it."""
    return visible(text).encode(sys.stdout.encoding, _SPELLING).decode(sys.stdout.encoding)


def write(text: str) -> None:
    """Write the beginning of a line."""
    _write(sys.stdout, visible(text))


def ask(question: str) -> None:
    """Write a question past the stream: a signal handler may call this during another write, which a stream refuses."""
    with contextlib.suppress(OSError):  # the terminal is gone, as whoever reads the answer finds
        os.write(sys.stdout.fileno(), visible(question).encode(sys.stdout.encoding, _SPELLING))


@contextlib.contextmanager
def working(title: str) -> Iterator[None]:
    """Show on a terminal what is being done inside the block, and then how it ended, on the same line."""
    if not is_watched():
        yield
        return
    write(f"{title} … ")
    try:
        yield
    except Exception:
        write("✗\n")
        raise
    write("✓\n")  # a signal has its own last word, on a line of its own


class _Wrapped(str):
    """A text of several lines, whose line ends are ours."""

    __slots__ = ()


def wrapped(text: str, indent: str = "") -> str:
    """Wrap a sentence between words if it is wider than the terminal."""
    import shutil
    import textwrap

    width = max(20, shutil.get_terminal_size().columns)
    lines = textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return _Wrapped(lines)


def paragraph(text: str, indent: str = "") -> list[str]:
    """Return a sentence as lines that fit the terminal; a file or a pipe gets one line."""
    return wrapped(text, indent).splitlines() if is_watched() else [indent + text]


class _Coloured(str):
    """A line whose first word has a colour, by the length of that word."""

    __slots__ = ("colour", "length")
    colour: Colour
    length: int


def coloured(word: str, rest: str, colour: Colour | None) -> str:
    """Return a line that begins with a word in a colour; never the only sign of a meaning.

    Only if the terminal shows it and nobody has declined.
    """
    if not (colour and _shows_colour[0] and is_watched()):
        return word + rest
    line = _Coloured(word + rest)
    line.colour, line.length = colour, len(word)
    return line


def indent(lines: Iterable[str], by: int = 2) -> list[str]:
    """Indent the lines of a message."""
    return [f"{' ' * by}{line}" for line in lines]


def show(lines: Iterable[str]) -> None:
    """Show results on stdout."""
    _write_lines(sys.stdout, lines)


def warn(lines: Iterable[str]) -> None:
    """Show messages about the run on stderr."""
    _write_lines(sys.stderr, lines)


def _write_lines(stream: TextIO | None, lines: Iterable[str]) -> None:
    """Write lines; a line end inside one, as in the name of a file, begins none."""
    texts = []
    for line in lines:
        text = visible(line if isinstance(line, _Wrapped) else line.replace("\n", "\\n"))
        if isinstance(line, _Coloured):
            text = f"\x1b[{line.colour}m{text[: line.length]}\x1b[0m{text[line.length :]}"
        texts.append(text)
    _write(stream, "\n".join([*texts, ""]) if texts else "")


def _write(stream: TextIO | None, text: str) -> None:
    """Write and go on with the work, even if the reader is gone or the disk is full."""
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is left would fail again at the end
        if stream is sys.stdout and error.errno not in (errno.EPIPE, errno.EIO):  # a closed pipe, a closed terminal
            _lost.append((error.strerror or "error").lower())


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SPELLED.get(char, "?") for char in error.object[error.start : error.end]), error.end
