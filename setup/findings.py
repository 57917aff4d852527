"""What a check reports: one finding, and how serious it is."""

from enum import StrEnum
from typing import NamedTuple

PENDING = "secret-pending"  # what `--fill` asks for


class Level(StrEnum):
    """How a check ends, from good to bad; SKIP if it cannot be decided here."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """The result of one check: its name, its level, what was seen, and what to do about it."""

    name: str
    level: Level
    text: str
    todo: str = ""
