"""The terminal itself: silent between questions, rid of what was pasted ahead, and in the end as it was."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Nothing that is typed or pasted inside shows, and nothing of it reaches the shell afterwards."""
    with echo(False):
        try:
            yield
        finally:
            drop_typeahead()


@contextlib.contextmanager
def echo(wanted: bool) -> Iterator[None]:
    """Whether what is typed inside shows; then the terminal is as it was."""
    before = _attributes()
    _set_echo(wanted)
    try:
        yield
    finally:
        if before:
            _set(before)


@contextlib.contextmanager
def echo_after_stops(wanted: bool, resumed: Callable[[], None]) -> Iterator[None]:
    """As `echo`, also after Ctrl-Z and fg: shells bring a terminal back as they know it. Then calls `resumed`."""

    def again(_number: int, _frame: Any) -> None:
        _set_echo(wanted)
        resumed()

    with echo(wanted):
        handler = signal.signal(signal.SIGCONT, again)
        try:
            yield
        finally:
            signal.signal(signal.SIGCONT, handler)


def drop_typeahead() -> bool:
    """Forgets what was typed or pasted before it was asked for; whether there was more than blank lines."""
    descriptor, dropped = sys.stdin.fileno(), b""
    with contextlib.suppress(OSError, termios.error):
        while select.select([descriptor], [], [], 0)[0]:
            data = os.read(descriptor, 4096)
            dropped += data
            if not data:
                break  # closed: the question itself finds that out
        termios.tcflush(descriptor, termios.TCIFLUSH)  # and the beginning of a line
    return bool(dropped.strip())


def read_line() -> str:
    """The next line as it was typed; EOFError where the input ends or the terminal is gone."""
    descriptor, data = sys.stdin.fileno(), b""
    try:
        with _signals() as signals:
            while not data.endswith(b"\n"):
                ready, _, _ = select.select([descriptor, signals], [], [])
                if signals in ready:
                    os.read(signals, 4096)
                if descriptor in ready:
                    chunk = os.read(descriptor, 4096)
                    if not chunk:
                        break
                    data += chunk
    except OSError:
        raise EOFError from None
    if not data:
        raise EOFError
    return data.decode(sys.stdin.encoding, "surrogateescape").rstrip("\r\n")


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor with something to read once a signal came: one that comes just before a read does not end it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _attributes() -> list[Any] | None:
    """The settings of the terminal, None for one that is gone."""
    try:
        return termios.tcgetattr(sys.stdin.fileno())
    except termios.error:
        return None


def _set_echo(wanted: bool) -> None:
    attributes = _attributes()
    if attributes:
        attributes[3] = attributes[3] | termios.ECHO if wanted else attributes[3] & ~termios.ECHO
        _set(attributes)


def _set(attributes: list[Any]) -> None:
    with contextlib.suppress(termios.error):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)
