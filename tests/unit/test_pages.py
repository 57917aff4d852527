"""What the pages promise a reader is there: every test that one names as its proof."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.runs import ROOT

PAGES = [ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text())
    for path, name in named:
        assert (ROOT / path).is_file(), path
        functions = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(node, "name")}
        assert not name or name in functions, f"{path}::{name}"


def test_the_threat_model_names_a_test_for_every_threat() -> None:
    table = (ROOT / "SECURITY.md").read_text().partition("| threat |")[2].partition("\n\n")[0]
    rows = [row for row in table.splitlines()[2:] if row.startswith("|")]
    assert len(rows) >= 20
    assert [row for row in rows if "`tests/" not in row.rpartition(" | ")[2]] == []
