"""The words of the project: plain English, the words of the field, and none that hide what is meant."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import ROOT

# A pattern that must not appear, and what to write instead.
BANNED = {
    r"\bof another hand\b": "not written by avatar-setup",
    r"\banew\b": "again, regenerate",
    r"\bat work\b": "in progress",
    r"\bstands? there\b": "exists",
    r"\bdated cop(y|ies)\b": "backup",
    r"\bverbs?\b": "command",
    r"\b(a|one|the|another|this) look\b(?! at )": "a read, a check, a preview",
    r"\bfaults? of its own\b": "internal error",
    r"\bfaults? of (avatar-setup|the program)\b": "internal error",
    r"\bmint(s|ed|ing)?\b": "generate",
    r"\bends? TLS\b": "TLS terminates at",
    r"\b(no|little|enough|much|has|once there is) room\b": "disk space",
    r"\bto the byte\b": "unchanged",
    r"\bput right\b": "correct",
    r"\bbut for\b": "except",
    r"\bhanded? on\b": "pass",
    r"\bin spite of\b": "despite",
}
# Where one of these words is meant as it is.
EXCEPTIONS: dict[str, tuple[str, ...]] = {
    "CHANGELOG.md": ("dated copy",),  # tells which word became which
}
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted((ROOT / "setup").rglob("*.py"))


def prose(module: Path) -> Iterator[str]:
    """Yield every comment and every text of a module, docstrings included."""
    text = module.read_text()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def banned_words(path: Path, text: str) -> list[str]:
    text = " ".join(text.split())
    allowed = EXCEPTIONS.get(path.relative_to(ROOT).as_posix(), ())
    reports = []
    for pattern, better in BANNED.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            if match[0].lower() not in allowed:
                around = text[max(0, match.start() - 40) : match.end() + 20]
                reports.append(f"{match[0]!r}, better {better!r}, in ...{around}...")
    return reports


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_uses_the_words_of_the_field(page: Path) -> None:
    assert banned_words(page, page.read_text()) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.relative_to(ROOT).as_posix())
def test_a_module_uses_the_words_of_the_field(module: Path) -> None:
    reports = []
    for text in prose(module):
        reports += banned_words(module, text)
    assert reports == []
