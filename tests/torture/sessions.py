"""Wizard sessions on a real terminal, killed, stopped or hung up while each of the answers is being saved.

Leaving at a question that waits is tests/terminal/test_leaving.py; here the signal comes as the answer is saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.support.runs import by_meaning, command, leftovers, secrets
from tests.support.terminal import GREETING, MASKED, Terminal, environ, session, walk
from tests.torture.injection import QUIET, Tree, differences, in_parallel, scratch, state_problems, used
from tests.torture.result import Result

CODES = {"KILL": -9, "TERM": 143, "INT": 130, "HUP": 143}


class Ending(NamedTuple):
    """A signal as a session enters a call; `plain` asks line by line."""

    folder: Path
    signal: str
    call: str
    number: int
    plain: bool
    whole: Tree
    questions: Sequence[str]

    def __str__(self) -> str:
        return f"{self.signal} at {self.call} #{self.number}, {'line by line' if self.plain else 'with all keys'}"


def run(sample: bool) -> Result:
    with scratch() as folder:
        endings = _endings(folder)
        chosen = endings[:: 37 if sample else 1]
        return Result(len(chosen), in_parallel(_ended, chosen))


def _endings(folder: Path) -> list[Ending]:
    """Every save of a session that nobody disturbs, with each signal; the two kinds of prompt in turn."""
    out, log = folder / "whole", folder / "trace"
    out.mkdir()
    with _session(
        out, "strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", "trace=renameat,fsync"
    ) as terminal:
        questions = walk(terminal)
        assert terminal.ends() == 0, terminal.screen.text()
    whole, points = by_meaning(out), used(log.read_text(), out)
    renames = [point for point in points if point.call == "renameat"]
    syncs = [point for point in points if point.call == "fsync"][::3]
    return [
        Ending(folder, signal, point.call, point.number, number % 2 == 1, whole, questions)
        for signal in CODES
        for number, point in enumerate([*renames, *syncs] if signal == "KILL" else renames)
    ]


def _session(out: Path, *prefix: str, plain: bool = False) -> Terminal:
    words = [*prefix, *command(out, *(("--plain",) if plain else ()))]
    return Terminal(words, environ(), cwd=out.parent)


def _ended(ending: Ending) -> Iterator[str]:
    at = ("-e", f"trace={ending.call}", "-e", f"inject={ending.call}:signal={ending.signal}:when={ending.number}")
    with TemporaryDirectory(dir=ending.folder) as place:
        out = Path(place, "out")
        out.mkdir()
        with _session(out, *QUIET, *at, plain=ending.plain) as terminal:
            asked = walk(terminal)
            code = terminal.ends()
            if code != CODES[ending.signal]:
                yield f"it ended with {code}: {terminal.screen.text()}"
            if ending.signal != "KILL":
                yield from ([] if terminal.is_sane() else ["the terminal was not left as it was found"])
                yield from (f"{path} was left staged" for path in leftovers(out))
            yield from (f"{secret} was shown" for secret in MASKED if secret in terminal.raw)
        yield from state_problems(out)
        kept = secrets(out)
        yield from _resumed(ending, out, asked)
        now = secrets(out)
        yield from (f"the next session changed the secret {name}" for name in kept if kept[name] != now.get(name))


def _resumed(ending: Ending, out: Path, asked: Sequence[str]) -> Iterator[str]:
    """The next session asks the last question again or the one after it, and completes."""
    with session(out, "--plain") as terminal:
        again = [question for question in walk(terminal) if question != GREETING]
        code = terminal.ends()
        if code != 0:
            yield f"the next session ended with {code}: {terminal.screen.text()}"
    last = asked[-1].removesuffix(", again")  # a password is typed twice
    settled = {question for question in asked if question.removesuffix(", again") != last}
    yield from (f"{question!r} was asked again" for question in again if question in settled)
    yield from (f"{path} differs from the undisturbed session's" for path in differences(by_meaning(out), ending.whole))
    yield from (f"{path} was left staged" for path in leftovers(out))
