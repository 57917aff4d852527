"""What the pages name exists: tests, rooms, modules and functions."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.runs import ROOT

PAGES = [ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


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


def test_contributing_names_every_room_and_every_module_outside_one() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "setup").glob("*/__init__.py")]
    modules = [path.stem for path in (ROOT / "setup").glob("*.py") if path.stem != "__init__"]
    assert [room for room in rooms if f"`{room}/`" not in text] == []
    assert [module for module in modules if f"`{module}`" not in text] == []


def test_every_module_and_function_that_contributing_names_exists() -> None:
    rooms = "|".join(path.parent.name for path in (ROOT / "setup").glob("*/__init__.py"))
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for room, module, name in re.findall(rf"`(?:setup\.)?({rooms})\.(\w+)(?:\.([\w.]+))?`", text):
        path = ROOT / "setup" / room / f"{module}.py"
        assert path.is_file(), f"{room}.{module}"
        if name:
            names = set()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef | ast.FunctionDef):
                    names.add(node.name)
                elif isinstance(node, ast.Assign | ast.AnnAssign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    names.update(target.id for target in targets if isinstance(target, ast.Name))
            assert set(name.split(".")) <= names, f"{room}.{module}.{name}"
