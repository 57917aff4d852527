"""The mutants fit the program and the tests as they are now; `make torture` tries them."""

from __future__ import annotations

import re

import pytest

from tests.support.runs import ROOT
from tests.torture import mutants
from tests.torture.broken import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_fits_the_program(mutant: Mutant) -> None:
    assert mutants.misfits(mutant, ROOT) == []


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.noticed_by[0] == "pytest"], ids=str)
def test_what_notices_a_mutant_is_a_test(mutant: Mutant) -> None:
    path, _, expression = mutant.noticed_by[-3:]
    text = (ROOT / path).read_text()
    words = [word for word in re.split(r"\W+", expression) if word not in ("and", "or", "not", "")]
    assert [word for word in words if word not in text] == []


def test_the_published_mutants_are_those_that_are_tried() -> None:
    page = (ROOT / "docs" / "internals" / "reliability.md").read_text()
    published = page.partition("| mutant | noticed by |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    assert published == [mutant.row for mutant in MUTANTS]
