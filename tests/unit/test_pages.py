"""What the pages name exists: tests, rooms, modules and functions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.runs import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_test_that_a_page_names_is_there(page) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text())
    for path, name in named:
        assert (ROOT / path).is_file(), path
        functions = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(node, "name")}
        assert not name or name in functions, f"{path}::{name}"


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as code hosts form them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, fragment = target.partition("#")
        linked = page.parent / path if path else page
        if "://" not in target and not (linked.exists() and (not fragment or fragment in anchors(linked))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("source", sorted((ROOT / "setup").rglob("*.py")), ids=page_id)
def test_every_page_that_a_message_names_is_there(source: Path) -> None:
    named = re.findall(r"docs/[\w/-]+\.\w+", source.read_text())
    assert [page for page in named if not (ROOT / page).is_file()] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
        linked = {(page.parent / link).resolve() for link in links if "://" not in link}
        left += linked - reached - set(left)
    assert [page for page in PAGES if page not in reached] == []


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


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
