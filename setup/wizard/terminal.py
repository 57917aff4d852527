"""Control the terminal: no echo between questions, no typed-ahead input, and its settings restored at the end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios

from setup.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Hide what is typed or pasted inside the block, and keep it from the shell afterwards."""
    with echo(False):
        try:
            yield
        finally:
            drop_typeahead()


@contextlib.contextmanager
def echo(wanted: bool) -> Iterator[None]:
    """Switch the echo on or off inside the block, then restore the terminal."""
    before = _read_attributes()
    _set_echo(wanted)
    try:
        yield
    finally:
        if before:
            _write_attributes(before)


@contextlib.contextmanager
def echo_after_stops(wanted: bool, resumed: Callable[[], None]) -> Iterator[None]:
    """Do the same as `echo`, and again after Ctrl-Z and `fg`, because shells restore the echo; then call `resumed`."""

    def resume(_number: int, _frame: Any) -> None:
        _set_echo(wanted)
        resumed()

    with echo(wanted):
        handler = signal.signal(signal.SIGCONT, resume)
        try:
            yield
        finally:
            signal.signal(signal.SIGCONT, handler)


def drop_typeahead() -> bool:
    """Discard input that came before its question; return whether it was more than blank lines."""
    descriptor, dropped = sys.stdin.fileno(), b""
    with contextlib.suppress(OSError, termios.error):
        while select.select([descriptor], [], [], 0)[0]:
            data = os.read(descriptor, 4096)
            dropped += data
            if not data:
                break  # closed: the next read reports it
        termios.tcflush(descriptor, termios.TCIFLUSH)  # and an unfinished line
    return bool(dropped.strip())


def read_line() -> str:
    """Return the next line as it was typed; raise EOFError if the input ends or the terminal is gone."""
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
    """Yield a descriptor that becomes readable on a signal: one that comes just before `read` does not end it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _read_attributes() -> list[Any] | None:
    """Return the settings of the terminal, None if it is gone."""
    try:
        return termios.tcgetattr(sys.stdin.fileno())
    except termios.error:
        return None


def _set_echo(wanted: bool) -> None:
    attributes = _read_attributes()
    if attributes:
        attributes[3] = attributes[3] | termios.ECHO if wanted else attributes[3] & ~termios.ECHO
        _write_attributes(attributes)


def _write_attributes(attributes: list[Any]) -> None:
    with contextlib.suppress(termios.error):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)
