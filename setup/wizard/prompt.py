"""One line from somebody at a terminal that can move its cursor; the only importer of prompt_toolkit.

It is imported when the first question is asked. A terminal that cannot do more, or `--plain`, is read
by `lines` instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
import termios
from typing import TYPE_CHECKING, Any

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, is_done
from prompt_toolkit.history import DummyHistory
from prompt_toolkit.input.typeahead import get_typeahead
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import ConditionalContainer, Float, FloatContainer, HSplit, Layout, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.processors import BeforeInput, PasswordProcessor
from prompt_toolkit.output import ColorDepth, create_output

from setup import console
from setup.config.model import BACK_WORD, HELP_WORD, Field, Reply
from setup.wizard import terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

SEVERAL_LINES = "this is more than one line: give one line"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Signalled(Exception):
    """A signal came; it is delivered again when the terminal is as it was."""


def read(field: Field, source: Input | None = None, output: Output | None = None) -> Reply:
    """The first line that passes the check; KeyboardInterrupt and EOFError for Ctrl-C and Ctrl-D."""
    return _Prompt(field, source, output or _output()).read()


def _output() -> Output:
    """The terminal without cursor position requests, which serial consoles answer late or never."""
    output = create_output(sys.stdout)
    output.enable_cpr = False  # type: ignore[attr-defined]
    return output


class _Prompt:
    """One question; what is `below` it is the reason of a refusal, or the words to choose from."""

    def __init__(self, field: Field, source: Input | None, output: Output) -> None:
        self._field = field
        self._drop_typeahead = terminal.drop_typeahead if source is None else lambda: False
        self._below = ""
        self._pasted = False
        self._received = 0
        self._buffer = Buffer(multiline=False, history=DummyHistory(), on_text_changed=self._on_change)
        self._app: Application[str] = Application(
            layout=self._layout(),
            key_bindings=self._keys(),
            color_depth=ColorDepth.DEPTH_1_BIT,  # bold reads the same on light and dark backgrounds
            include_default_pygments_style=False,
            input=source,
            output=output,
        )

    def read(self) -> Reply:
        """Runs the question, and leaves the terminal as it was."""
        self._drop_typeahead()
        try:
            with self._signals_wait():
                text = self._app.run(pre_run=self._before, set_exception_handler=False, handle_sigint=False)
        except (_Signalled, EOFError, OSError, termios.error):
            console.write("")  # of a terminal that is gone: what it no longer took is given up
            self._deliver_signal()
            raise EOFError from None
        self._deliver_signal()
        rest = get_typeahead(self._app.input)  # what was pasted behind the answer belongs to no question
        more = any(key.data.strip() for key in rest)
        return Reply(text, self._pasted, self._drop_typeahead() or more)

    def _deliver_signal(self) -> None:
        if self._received:
            signal.raise_signal(self._received)

    def _layout(self) -> Layout:
        question, progress = console.printable(self._field.question), console.printable(self._field.progress)
        masking = [PasswordProcessor()] if self._field.masked else []
        control = BufferControl(
            self._buffer,
            input_processors=[*masking, BeforeInput(question)],
            include_default_input_processors=False,
        )
        line = Window(control, wrap_lines=True, dont_extend_height=True)

        @Condition
        def has_room() -> bool:
            taken = len(question) + len(self._buffer.text) + len(progress)
            return taken + 2 <= self._app.output.get_size().columns

        aside = Window(FormattedTextControl(progress), height=1)
        beside = Float(ConditionalContainer(aside, has_room & ~is_done), right=0, top=0)
        told = FormattedTextControl(lambda: self._below, style="bold")
        below = Window(told, wrap_lines=True, dont_extend_height=True)
        shown = Condition(lambda: bool(self._below)) & ~is_done
        return Layout(HSplit([FloatContainer(line, [beside]), ConditionalContainer(below, shown)]), line)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        empty = Condition(lambda: not self._buffer.text)
        guided = Condition(lambda: self._field.guided)
        keys.add("enter")(self._enter)
        keys.add("tab")(self._complete)
        keys.add(Keys.BracketedPaste)(self._paste)
        keys.add("c-c")(lambda event: event.app.exit(exception=KeyboardInterrupt))
        keys.add("c-d", filter=empty)(lambda event: event.app.exit(exception=EOFError))
        keys.add("c-z")(lambda event: event.app.suspend_to_background())
        for key in ("s-tab", "c-b"):
            keys.add(key, filter=guided)(lambda event: event.app.exit(result=BACK_WORD))
        # A password may begin with it: there it is taken for help when it stays alone.
        keys.add(HELP_WORD, filter=guided & empty & Condition(lambda: not self._field.masked))(
            lambda event: event.app.exit(result=HELP_WORD)
        )
        return keys

    def _enter(self, event: KeyPressEvent) -> None:
        text = self._buffer.text
        alone = self._field.guided and text.strip() in (HELP_WORD, BACK_WORD)
        reason = "" if alone else self._field.check(text)
        if not reason:
            event.app.exit(result=text)
            return
        event.key_processor.empty_queue()  # the rest of a paste is no correction of what was refused
        self._buffer.cursor_position = len(text)
        self._tell(reason)

    def _complete(self, _event: KeyPressEvent) -> None:
        """Fills in as much as is certain, and shows the words that are left."""
        text = self._buffer.text
        found = [word for word in self._field.words if word.lower().startswith(text.lower())]
        certain = "".join(same[0] for same in _while_equal(found))
        if len(certain) > len(text) or len(found) == 1:
            self._buffer.text = certain
            self._buffer.cursor_position = len(certain)
        if len(found) > 1:
            self._tell("  ".join(found))

    def _paste(self, event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
        if "\n" in text:
            self._tell(SEVERAL_LINES)
            return
        self._buffer.insert_text(text)
        self._pasted = True

    def _tell(self, text: str) -> None:
        self._below = console.printable(console.wrapped(text))

    def _on_change(self, _buffer: Buffer) -> None:
        self._below = ""
        self._pasted = self._pasted and bool(self._buffer.text)

    @contextlib.contextmanager
    def _signals_wait(self) -> Iterator[None]:
        """Inside, a signal ends the question in an orderly way; an exception out of its handler would not."""

        def note(number: int, _frame: Any) -> None:
            self._received = self._received or number
            if self._app.loop:
                self._app.loop.call_soon_threadsafe(self._leave)

        before = {number: signal.signal(number, note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _before(self) -> None:
        """The last moment before the terminal is taken over."""
        asyncio.get_running_loop().set_exception_handler(self._broken)
        self._leave()

    def _leave(self, error: BaseException | None = None) -> None:
        future = self._app.future
        if (error or self._received) and future and not future.done():
            self._app.exit(exception=error or _Signalled())

    def _broken(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A fault while drawing or reading, such as a terminal that is gone, ends the question."""
        self._leave(context.get("exception") or OSError(context["message"]))


def _while_equal(words: list[str]) -> Iterator[tuple[str, ...]]:
    """The characters with which all these words begin."""
    return itertools.takewhile(lambda same: len(set(same)) == 1, zip(*words, strict=False))
