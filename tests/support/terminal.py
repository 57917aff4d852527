"""A real pseudo-terminal for the tests: what a program shows on it, line by line, and keys to press."""

from __future__ import annotations

import contextlib
import os
import re
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pexpect

from tests.support.runs import ROOT, command

ENTER, TAB, SHIFT_TAB, CTRL_B, CTRL_C, CTRL_D, CTRL_U = "\r", "\t", "\x1b[Z", "\x02", "\x03", "\x04", "\x15"
PATIENCE = int(os.environ.get("PATIENCE", "30"))  # seconds to wait for what must come; nothing is measured

_TOKEN = re.compile(r"\x1b\[(?P<arguments>[?0-9;]*)(?P<letter>[A-Za-z])|\x1b[=>]|(?P<char>.)", re.S)


class Screen:
    """What a terminal shows, with all that has scrolled out of it; knows as much as the program uses."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self.wraps = True
        self._pending = ""

    def feed(self, text: str) -> None:
        text, self._pending = self._pending + text, ""
        head, escape, tail = text.rpartition("\x1b")
        if escape and not re.match(r"\[[?0-9;]*[A-Za-z]|[=>]", tail):
            text, self._pending = head, escape + tail  # the rest of a sequence is still to come
        for token in _TOKEN.finditer(text):
            if token["char"]:
                self._put(token["char"])
            elif token["letter"]:
                self._control(token["letter"], token["arguments"])

    def text(self, first: int = 0, last: int | None = None) -> str:
        rows = self.rows[first:] if last is None else self.rows[first : last + 1]
        return "\n".join("".join(row).rstrip() for row in rows)

    def _put(self, char: str) -> None:
        if char == "\n":
            self._go(self.row + 1, self.column)
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char == "\t":
            self.column = min(self.columns - 1, self.column // 8 * 8 + 8)
        elif char.isprintable():
            if self.column >= self.columns:
                if self.wraps:
                    self._go(self.row + 1, 0)
                else:
                    self.column = self.columns - 1
            row = self.rows[self.row]
            row += " " * (self.column + 1 - len(row))
            row[self.column] = char
            self.column += 1

    def _go(self, row: int, column: int) -> None:
        self.row, self.column = max(0, row), column
        while len(self.rows) <= self.row:
            self.rows.append([])

    def _control(self, letter: str, arguments: str) -> None:
        number = int(arguments) if arguments.isdigit() else 0
        if letter in "ABCD":
            steps = max(1, number)
            down = {"A": -steps, "B": steps}.get(letter, 0)
            right = {"C": steps, "D": -steps}.get(letter, 0)
            self._go(self.row + down, min(self.columns - 1, max(0, min(self.column, self.columns - 1) + right)))
        elif letter in "JK" and number == 0:
            del self.rows[self.row][self.column :]
            if letter == "J":
                del self.rows[self.row + 1 :]
        elif letter in "hl" and arguments == "?7":
            self.wraps = letter == "h"


class Terminal:
    """A program on a terminal of its own. `raw` is every byte it sent, `screen` what that looks like."""

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        *,
        columns: int = 80,
        rows: int = 24,
        cwd: Path | None = None,
    ) -> None:
        self.raw = ""
        self.screen = Screen(columns)
        self.ended = False
        self._mark = 0
        self.child = pexpect.spawn(
            words[0], list(words[1:]), env=dict(env), dimensions=(rows, columns), encoding="utf-8",
            codec_errors="surrogateescape", cwd=cwd and str(cwd), timeout=PATIENCE,
        )  # fmt: skip
        self.child.delaybeforesend = None
        self.child.ptyproc.delayafterclose = self.child.ptyproc.delayafterterminate = 0.02

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        with contextlib.suppress(pexpect.ExceptionPexpect, OSError):
            self.child.close(force=True)

    # --- reading ---

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Read until the condition holds, or fail with what the screen shows."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}; the terminal shows\n{self.screen.text()}"
            self._read(0.2)
            assert condition() or not self.ended, f"it ended before {what}; the terminal shows\n{self.screen.text()}"

    def _read(self, seconds: float) -> bool:
        """Takes in what the program sent; False when it has ended."""
        try:
            text = self.child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            self.ended = True
            return False
        self.raw += text
        self.screen.feed(text)
        return True

    @property
    def fresh(self) -> str:
        """What came since the last answer."""
        return self.screen.text(self._mark)

    @property
    def last_row(self) -> str:
        """The row with the cursor, up to the cursor."""
        column = self.screen.column
        return "".join(self.screen.rows[self.screen.row]).ljust(column)[:column]

    @property
    def _wrapped_row(self) -> str:
        """The row with the cursor, and those before it from which it was wrapped."""
        row, rows = self.screen.row, self.screen.rows
        columns = self.screen.columns
        while row > self._mark and len(rows[row - 1]) >= columns - 1:  # a blank at its end may have been left out
            row -= 1
        return "".join("".join(one).ljust(columns) for one in rows[row : self.screen.row]) + self.last_row

    @property
    def line(self) -> str:
        """What came since the last answer, up to the cursor, as one line: a question may wrap."""
        return "".join("".join(row) for row in self.screen.rows[self._mark : self.screen.row]) + self.last_row

    def asks(self, question: str) -> None:
        """Waits until a question is the last thing on the screen, before the cursor."""
        self.until(lambda: self.screen.row >= self._mark and question in self.line, f"the question {question!r}")

    def question_or_end(self) -> str:
        """Waits for the next question and returns it, "" when the program ends instead."""
        self.until(lambda: self._at_a_question or self.ended, "a question")
        return "" if self.ended else self._wrapped_row.rstrip().removesuffix(":")

    @property
    def _at_a_question(self) -> bool:
        """Whether the cursor waits behind a question, and all that belongs to it has come."""
        waits = self.raw.endswith((": ", "\x1b[?25h"))
        return waits and self.screen.row >= self._mark and self.line.endswith(": ")

    def shows(self, text: str) -> None:
        """Waits until a text came since the last answer."""
        self.until(lambda: text in self.fresh or text in " ".join(self.fresh.split()), repr(text))

    def ends(self) -> int:
        """Waits for the end, and returns the exit code; a signal's number is negative."""
        end = time.monotonic() + PATIENCE
        while self._read(0.2):
            assert time.monotonic() < end, f"it does not end; the terminal shows\n{self.screen.text()}"
        return self._code()

    # --- pressing keys ---

    def keys(self, text: str) -> None:
        self.child.send(text)

    def answer(self, text: str = "") -> None:
        """Types a line; what is looked for from now on comes after it."""
        self.until(lambda: "\x1b" not in self.raw or self.raw.endswith("\x1b[?25h"), "the cursor, back in its place")
        self._mark = self.screen.row + 1
        self.child.send(text + ENTER)

    def settle(self) -> None:
        """Everything up to here is old; what is looked for from now on comes after it."""
        self._mark = self.screen.row

    def paste(self, text: str) -> None:
        """A paste as terminals announce it."""
        self.child.send(f"\x1b[200~{text}\x1b[201~")

    def resize(self, rows: int, columns: int) -> None:
        self.screen.columns = columns
        self.child.setwinsize(rows, columns)

    def signal(self, number: int) -> None:
        os.kill(self.child.pid, number)

    def hang_up(self) -> int:
        """Closes the terminal, as a window does, and returns the exit code of the program."""
        with open(os.devnull, "rb") as null:
            os.dup2(null.fileno(), self.child.fileno())  # the last descriptor of its master goes away
        return self._code()

    def _code(self) -> int:
        self.child.wait()
        return self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus

    def is_sane(self) -> bool:
        """Whether a shell would find its terminal as it left it: echo, lines, visible cursor, no bracketed paste."""
        flags = termios.tcgetattr(self.child.fileno())[3]
        wanted = termios.ECHO | termios.ICANON | termios.ISIG
        modes = dict(re.findall(r"\x1b\[\?(25|2004|7)([hl])", self.raw))
        return flags & wanted == wanted and modes.get("25", "h") + modes.get("2004", "l") + modes.get("7", "h") == "hlh"


def environ(term: str = "xterm", **more: str) -> dict[str, str]:
    """A small environment of a terminal's own, with nothing of this machine's."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "error",
        "TERM": term,
        **more,
    }


def session(
    out: Path,
    *flags: str,
    term: str = "xterm",
    columns: int = 80,
    rows: int = 24,
    settings: Mapping[str, str] | None = None,
) -> Terminal:
    """The command line on a terminal."""
    return Terminal(command(out, *flags), environ(term, **(settings or {})), columns=columns, rows=rows, cwd=out.parent)


# --- a whole session ------------------------------------------------------------------------------

PASSWORD, KEY, SECRET_KEY = "correct horse $1 'battery'", "AKIATELEMETRY", "telemetry/secret+key"
MASKED = (PASSWORD, KEY, SECRET_KEY)

# Question (its beginning) -> what is typed; Enter alone for all others. Conditional questions, masked and open secrets.
ANSWERS = {
    "Public URL": "avatar.mycompany.com",
    "Environment name": "mycompany-prod",
    "SMTP host": "mail.mycompany.com",
    "SMTP user name": "avatar",
    "Send usage telemetry": "true",
    "Telemetry bucket": "mycompany-telemetry",
    "Log level": "DEBUG",
    "Organization name": "My Company",
    "SMTP password": PASSWORD,
    "Telemetry access key": KEY,
    "Telemetry secret key": SECRET_KEY,
}
GREETING = "Do you want to (c)ontinue, (r)eset, or (q)uit? [c/r/q]"
MORE = "Everything else has a default"
REVIEW = "Number or name to change"


def reply_to(question: str, answers: Mapping[str, str] = ANSWERS) -> str:
    if question.startswith(GREETING):
        return "c"
    if question.startswith(MORE):
        return answers.get(MORE, "y")
    if question.startswith(REVIEW):
        return "w" if question.endswith("w to write") else ""
    return next((text for beginning, text in answers.items() if question.startswith(beginning)), "")


def walk(terminal: Terminal, until: str = "", answers: Mapping[str, str] = ANSWERS) -> list[str]:
    """Answers every question up to one that begins so, or to the end; the questions that were asked."""
    asked: list[str] = []
    while question := terminal.question_or_end():
        assert asked[-3:] != [question] * 3, f"refused again and again; the terminal shows\n{terminal.fresh}"
        asked.append(question)
        if until and question.startswith(until):
            return asked
        terminal.answer(reply_to(question, answers))
    assert not until, f"{until!r} was not asked; the terminal shows\n{terminal.screen.text()}"
    return asked
