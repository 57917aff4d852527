"""What a sweep hands back: how many cases it tried, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Result(NamedTuple):
    """One layer's figures; a violation is a sentence that names the case and says what to look at."""

    cases: int
    violations: list[str]
    note: str = ""  # what the table says beside the figures, such as the kinds of point that were tried


def joined(parts: Mapping[str, Result]) -> Result:
    """The figures of a layer that was tried in several places."""
    violations = [f"{where}: {text}" for where, part in parts.items() for text in part.violations]
    notes = [f"{part.cases} {where}{part.note and f' ({part.note})'}" for where, part in parts.items()]
    return Result(sum(part.cases for part in parts.values()), violations, ", ".join(notes))
