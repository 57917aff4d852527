"""What a hostile file makes the program do grows no faster than the file, or is refused."""

from __future__ import annotations

import re

import pytest

from setup.checks import consistency
from setup.config import sources
from setup.config.hosts import short, without_credentials
from setup.formats import dotenv
from setup.formats.yaml_file import Malformed


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
    problems = sources.gather({}, str(path), None, {}, {}).problems
    assert len(problems) == sources.MOST_PROBLEMS + 1
    assert "there is more to correct than these 20 keys" in problems[-1]


# Sizes at which work that grows with the square of the input would not end; `make bench` prints the slopes.


def test_a_value_of_many_addresses_is_read() -> None:
    addresses = "://" * 1_000_000
    assert dotenv.parse(b"A=" + addresses.encode()[: dotenv.LARGEST]).values["A"] == addresses[: dotenv.LARGEST]
    assert short(without_credentials(addresses)).startswith("'://://")


def test_many_unknown_keys_are_read() -> None:
    given = {f"UNKNOWN_{number}": "x" for number in range(100_000)}
    assert sources.gather({}, None, None, given, {}).problems


def test_a_configuration_of_blank_lines_is_searched() -> None:
    assert re.findall(consistency._LISTEN, "\n" * 1_000_000, re.MULTILINE) == []
