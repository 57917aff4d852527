"""Read one line on a terminal that can move its cursor; the only importer of prompt_toolkit.

The module is imported with the first question. `plain` reads dumb terminals and sessions with `--plain`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import termios

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
from setup.typed import TYPE_CHECKING, Any
from setup.wizard import terminal
from setup.wizard.field import BACK_WORD, HELP_WORD, Field, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

SEVERAL_LINES = "this is more than one line: give one line"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Signalled(Exception):
    """Raised for a signal, which is delivered again once the terminal is restored."""


def read(field: Field, source: Input | None = None, output: Output | None = None) -> Reply:
    """Return the first line that passes the check; raise KeyboardInterrupt for Ctrl-C, EOFError for Ctrl-D."""
    return _Prompt(field, source, output or _make_output()).read()


def _make_output() -> Output:
    """Return the terminal without cursor position requests, which serial consoles answer late or never."""
    output = create_output(sys.stdout)
    output.enable_cpr = False  # type: ignore[attr-defined]
    return output


class _Prompt:
    """One question; `_below` holds the reason for a refusal or the words to choose from."""

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
        """Ask the question and restore the terminal."""
        self._drop_typeahead()
        try:
            with self._defer_signals():
                text = self._app.run(pre_run=self._prepare, set_exception_handler=False, handle_sigint=False)
        except (_Signalled, EOFError, OSError, termios.error):
            console.write("")  # drops output that a closed terminal no longer took
            self._deliver_signal()
            raise EOFError from None
        self._deliver_signal()
        rest = "".join(key.data for key in get_typeahead(self._app.input))  # lines pasted after the answer
        return Reply(text, self._pasted, self._drop_typeahead() or bool(rest.strip()))

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
        def fits() -> bool:
            width = len(question) + len(self._buffer.text) + len(progress)
            return width + 2 <= self._app.output.get_size().columns

        aside = Window(FormattedTextControl(progress), height=1)
        beside = Float(ConditionalContainer(aside, fits & ~is_done), right=0, top=0)
        control_below = FormattedTextControl(lambda: self._below or ("" if fits() else progress), style="bold")
        below = Window(control_below, wrap_lines=True, dont_extend_height=True)
        shown = Condition(lambda: bool(self._below or (progress and not fits()))) & ~is_done
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
        # A password may begin with "?": at a masked question it means help only if it is the whole line.
        keys.add(HELP_WORD, filter=guided & empty & Condition(lambda: not self._field.masked))(
            lambda event: event.app.exit(result=HELP_WORD)
        )
        return keys

    def _enter(self, event: KeyPressEvent) -> None:
        text = self._buffer.text
        is_command = self._field.guided and text.strip() in (HELP_WORD, BACK_WORD)
        reason = "" if is_command else self._field.check(text)
        if not reason:
            event.app.exit(result=text)
            return
        event.key_processor.empty_queue()  # the rest of a paste must not correct the refused text
        if self._field.clears:
            self._buffer.reset()
        self._buffer.cursor_position = len(self._buffer.text)
        self._show_below(reason)

    def _complete(self, _event: KeyPressEvent) -> None:
        """Complete the text as far as all matching words agree, and list them."""
        text = self._buffer.text
        matching = [word for word in self._field.words if word.lower().startswith(text.lower())]
        prefix = _common_prefix(matching)
        if len(prefix) > len(text) or len(matching) == 1:
            self._buffer.text = prefix
            self._buffer.cursor_position = len(prefix)
        if len(matching) > 1:
            self._show_below("  ".join(matching))

    def _paste(self, event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
        if "\n" in text:
            self._show_below(SEVERAL_LINES)
            return
        self._buffer.insert_text(text)
        self._pasted = True

    def _show_below(self, text: str) -> None:
        self._below = console.printable(console.wrapped(text))

    def _on_change(self, _buffer: Buffer) -> None:
        self._below = ""
        self._pasted = self._pasted and bool(self._buffer.text)

    @contextlib.contextmanager
    def _defer_signals(self) -> Iterator[None]:
        """Let a signal end the question in an orderly way; an exception raised in its handler would not."""

        def note(number: int, _frame: Any) -> None:
            self._received = self._received or number
            if self._app.loop:
                self._app.loop.call_soon_threadsafe(self._stop)

        before = {number: signal.signal(number, note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _prepare(self) -> None:
        """Install the error handler just before the terminal is taken over, and stop if a signal already came."""
        asyncio.get_running_loop().set_exception_handler(self._on_error)
        self._stop()

    def _stop(self, error: BaseException | None = None) -> None:
        future = self._app.future
        if (error or self._received) and future and not future.done():
            self._app.exit(exception=error or _Signalled())

    def _on_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End the question after an error while drawing or reading, such as a closed terminal."""
        self._stop(context.get("exception") or OSError(context["message"]))


def _common_prefix(words: list[str]) -> str:
    """Return the longest text with which all words begin."""
    prefix = words[0] if words else ""
    while not all(word.startswith(prefix) for word in words):
        prefix = prefix[:-1]
    return prefix
