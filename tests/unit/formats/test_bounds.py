"""What a hostile file makes the program do grows no faster than the file, or is refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from setup.checks import consistency
from setup.config import sources
from setup.config.hosts import short, without_credentials
from setup.formats import dotenv
from setup.formats.yaml_file import Malformed


def slope(work: Callable[[int], object], size: int) -> float:
    """How much longer four times the size takes; 4 is linear, 16 quadratic."""
    times = []
    for factor in (1, 4):
        best = 1e9
        for _ in range(3):
            start = time.perf_counter()
            work(size * factor)
            best = min(best, time.perf_counter() - start)
        times.append(best)
    return times[1] / times[0]


def test_variables_that_double_are_refused() -> None:
    lines = ["A0=xxxxxxxxxxxxxxxx"]
    for number in range(1, 27):
        lines.append(f"A{number}=${{A{number - 1}}}${{A{number - 1}}}")
    with pytest.raises(Malformed, match=r"^line \d+: its values come to more than 1 MiB"):
        dotenv.parse("\n".join(lines).encode())


def test_a_line_that_repeats_a_long_value_is_not_expanded() -> None:
    env = dotenv.parse(b"A=" + b"x" * 100_000 + b"\nB=" + b"${A}" * 30_000 + b"\nC=1\n")
    assert (env.unsure, env.values["C"]) == ({"B": "it comes to more than 1 MiB"}, "1")


def test_a_large_file_of_plain_values_is_read() -> None:
    data = "".join(f"FOREIGN_{number}=x\n" for number in range(20_000)).encode()
    assert len(dotenv.parse(data).values) == 20_000


def test_no_file_lists_more_problems_than_one_can_read(tmp_path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("".join(f"UNKNOWN_KEY_{number}: x\n" for number in range(10_000)))
    start = time.perf_counter()
    problems = sources.gather({}, str(path), None, {}, {}).problems
    assert time.perf_counter() - start < 20
    assert len(problems) == sources.MOST_PROBLEMS + 1
    assert "there is more to correct than these 20 keys" in problems[-1]


LOOKS: dict[str, Callable[[int], object]] = {
    "keys in .env": lambda size: dotenv.parse(b"".join(b"K%d=x\n" % number for number in range(size))),
    "addresses in one value": lambda size: dotenv.parse(b"A=" + b"://" * size * 10),
    "addresses in a refusal": lambda size: short(without_credentials("://" * size * 10)),
    "unknown keys": lambda size: sources.gather(
        {}, None, None, {f"UNKNOWN_{number}": "x" for number in range(size)}, {}
    ),
    "blank lines of nginx.conf": lambda size: re.findall(consistency._LISTEN, "\n" * size * 10, re.MULTILINE),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_is_linear(name: str) -> None:
    assert slope(LOOKS[name], 5_000) < 9
