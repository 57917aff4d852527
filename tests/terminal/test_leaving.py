"""Leaving at every question of a full session, in every way; the next run asks the rest and nothing else."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.support.runs import STATE, by_meaning, leftovers
from tests.support.terminal import ANSWERS, CTRL_C, CTRL_D, GREETING, MASKED, Terminal, reply_to, session, walk

SAVED = "Progress saved. Run the same command to go on"
WAYS = ("kill -9", "Ctrl-C", "Ctrl-D", "SIGTERM", "SIGHUP", "a closed terminal")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, tuple[str, bytes]]]:
    """The questions of a session that nobody leaves, and the tree that it makes."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    out.mkdir()
    with session(out, "--plain") as terminal:
        questions = walk(terminal)
        assert terminal.ends() == 0, terminal.screen.text()
    assert len(questions) > 30
    assert all(any(question.startswith(beginning) for question in questions) for beginning in ANSWERS)
    return questions, by_meaning(out)


def leave(terminal: Terminal, way: str) -> None:
    """Leaves at the question on the screen; what the operator and the shell must find then."""
    if way == "a closed terminal":
        assert terminal.hang_up() in (130, 143)
        return
    if way.startswith("Ctrl"):
        terminal.keys({"Ctrl-C": CTRL_C, "Ctrl-D": CTRL_D}[way])
    else:
        terminal.signal({"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}[way])
    code = terminal.ends()
    if way == "kill -9":
        assert code == -9
        return
    assert code == (130 if way.startswith("Ctrl") else 143)
    assert SAVED in terminal.screen.text()
    assert terminal.is_sane()
    assert "Traceback" not in terminal.raw


def leave_everywhere(
    out: Path, ways: Iterable[str], begin: Callable[[], Terminal], leave: Callable[[Terminal, str], None]
) -> list[str]:
    """Leaves once at every question and comes back each time; the questions in the order they first appeared."""
    left: list[str] = []
    for way in itertools.cycle(ways):
        with begin() as terminal:
            if (out / STATE).exists():
                assert terminal.question_or_end() == GREETING
                terminal.answer("c")
            if left:
                on_the_screen = left[-1].removesuffix(", again")
                assert terminal.question_or_end() == on_the_screen, "it opens at the question that was on the screen"
            while (question := terminal.question_or_end()) in left:
                terminal.answer(reply_to(question))
            if not question:
                assert terminal.ends() == 0, terminal.screen.text()
                return left
            left.append(question)
            leave(terminal, way)
            assert not any(secret in terminal.raw for secret in MASKED)
            assert not leftovers(out) or way == "kill -9"
    raise AssertionError("there are no ways to leave")


@pytest.mark.parametrize("way", [way for way in WAYS if way != "SIGHUP"])
def test_left_at_every_question_and_resumed_line_by_line(tmp_path: Path, undisturbed, way: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    questions, tree = undisturbed
    assert leave_everywhere(out, [way], lambda: session(out, "--plain"), leave) == questions
    assert by_meaning(out) == tree


def test_left_at_every_question_and_resumed_with_all_keys(tmp_path: Path, undisturbed) -> None:
    out = tmp_path / "out"
    out.mkdir()
    questions, tree = undisturbed
    assert leave_everywhere(out, WAYS, lambda: session(out), leave) == questions
    assert by_meaning(out) == tree
    assert STATE in tree
