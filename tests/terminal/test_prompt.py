"""One prompt with all its keys, on prompt_toolkit's own pipe instead of a terminal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from setup.wizard import prompt as wizard
from setup.wizard.field import Field, Reply

WORDS = ("behind-proxy", "beyond", "off")
PASTE = "\x1b[200~{}\x1b[201~"


class Wide(DummyOutput):
    def get_size(self) -> Size:
        return Size(rows=24, columns=80)


def read(keys: str, check: Callable[[str], str] = lambda _text: "", **more: object) -> Reply:
    """What these keys, all pressed at once, make of a question."""
    with create_pipe_input() as pipe:
        pipe.send_text(keys)
        return wizard.read(Field("Question: ", check, **more), pipe, Wide())  # type: ignore[arg-type]


def refuse(*texts: str) -> Callable[[str], str]:
    return lambda text: "no" if text in texts else ""


def test_a_line_is_read_as_it_was_typed() -> None:
    assert read("a  b\x7fc \r") == Reply("a  c ")
    assert read("abc\x01x\r") == Reply("xabc"), "editing keys work"
    assert read("abc\n") == Reply("abc"), "a line feed is Enter too"


def test_a_refused_text_stays_for_correction_and_swallows_what_came_with_it() -> None:
    seen: list[str] = []
    with create_pipe_input() as pipe:

        def check(text: str) -> str:
            seen.append(text)
            if len(seen) > 1:
                return ""
            pipe.send_text("!\r")
            return "no"

        pipe.send_text("bad\rthe rest of a paste\r")
        assert wizard.read(Field("Question: ", check), pipe, Wide()) == Reply("bad!")
    assert seen == ["bad", "bad!"]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\r"])
def test_one_pasted_line_is_taken_without_its_ending(ending: str) -> None:
    assert read(PASTE.format(f"pasted{ending}") + "\r") == Reply("pasted", pasted=True)


@pytest.mark.parametrize("between", ["\n", "\r\n", "\r", "\n\n"])
def test_several_pasted_lines_are_refused_as_a_whole(between: str) -> None:
    assert read("kept" + PASTE.format(f"a{between}b") + "\r") == Reply("kept")


def test_a_paste_that_was_deleted_is_no_paste() -> None:
    assert read(PASTE.format("pasted") + "\x15typed\r") == Reply("typed")


def test_lines_behind_the_answer_are_dropped_and_told() -> None:
    assert read("first\rsecond\rthird\r") == Reply("first", more=True)
    assert read("first\r\r\r") == Reply("first"), "impatience is no paste"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("b\t", "be"),
        ("beh\t", "behind-proxy"),
        ("O\t", "off"),
        ("x\t", "x"),
        ("\t", ""),
        ("behind-p\t", "behind-proxy"),
    ],
)
def test_tab_fills_in_what_is_certain(keys: str, text: str) -> None:
    assert read(keys + "\r", words=WORDS).text == text


def test_the_keys_of_a_question_are_its_own() -> None:
    for key in ("\x1b[Z", "\x02"):
        assert read(f"text{key}", guided=True).text == "<"
        assert read(f"text{key}\r").text == "text", "there is nothing to go back to elsewhere"
    assert read("?", guided=True).text == "?"
    assert read("?\r").text == "?"
    assert read("a?\r", guided=True).text == "a?", "only in an empty field"
    assert read("?a\r", guided=True, masked=True).text == "?a", "a password may begin with it"


@pytest.mark.parametrize("word", ["?", "<", " ? "])
def test_a_lone_word_for_help_or_back_is_never_checked(word: str) -> None:
    assert read(f"{word}\r", refuse(word), guided=True, masked=True).text == word


def test_leaving() -> None:
    with pytest.raises(KeyboardInterrupt):
        read("text\x03")
    with pytest.raises(EOFError):
        read("\x04")
    assert read("text\x01\x04\r").text == "ext", "with a text in the field Ctrl-D deletes"
