"""The parts of the suite: every test belongs to one of them, and CI runs them all."""

from __future__ import annotations

import itertools
import re
import tomllib

import pytest

from tests.conftest import FOLDERS
from tests.support.runs import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
PARTS = dict(re.findall(r"^(test[a-z-]*): PART = (.+)$", MAKEFILE, re.MULTILINE))


def markers() -> set[str]:
    """Every marker that a test of this project may have."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    return {line.partition(":")[0] for line in lines}


def test_the_parts_name_every_marker() -> None:
    words = {word for expression in PARTS.values() for word in re.findall(r"[a-z_]+", expression)}
    assert words - {"not", "and", "or"} == markers() >= set(FOLDERS.values())


@pytest.mark.parametrize("count", range(5))
def test_a_test_belongs_to_one_part_whatever_its_markers_are(count: int) -> None:
    for chosen in itertools.combinations(sorted(markers()), count):
        marked = dict.fromkeys(markers(), False) | dict.fromkeys(chosen, True)
        parts = [part for part, expression in PARTS.items() if eval(expression, {}, marked)]
        assert len(parts) == 1, f"a test marked {chosen} belongs to {parts}"


def test_ci_runs_every_part_and_the_quick_one_first() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    runs = re.findall(r"^(?:foreground|background) .*?\b(test[a-z-]*)$", script, re.MULTILINE)
    assert runs[0] == "test"
    assert sorted(runs) == sorted(PARTS)
