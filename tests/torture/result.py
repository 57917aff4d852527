"""What a sweep hands back: how many cases it tried, and what went wrong."""

from __future__ import annotations

from typing import NamedTuple


class Result(NamedTuple):
    """One layer's figures; a violation is a sentence that names the case and says what to look at."""

    cases: int
    violations: list[str]
    note: str = ""  # what the table says beside the figures, such as the kinds of point that were tried
