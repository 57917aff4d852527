"""What a check reports: one finding, and how serious it is."""

from __future__ import annotations

from enum import StrEnum

from setup.typed import NamedTuple

PENDING = "secret-pending"  # what `--fill` asks for


class Level(StrEnum):
    """How a check ends, from good to bad; SKIP if it cannot be decided here."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


class Cure(NamedTuple):
    """The run of avatar-setup that a failure needs: the one of the highest rank comes first.

    `by_hand` if something else must be done before, `asks` if the run needs a terminal.
    """

    rank: int
    flags: str = ""
    by_hand: bool = False
    asks: bool = False


BY_HAND, RUN_AFTER, RUN = Cure(0, "--check", by_hand=True), Cure(1, by_hand=True), Cure(1)
RENEW, FILL, CONTINUE = Cure(2, "--renew-certificate"), Cure(3, "--fill", asks=True), Cure(4, asks=True)
HISTORY = Cure(5, "--history")


def restore(backup: str) -> Cure:
    """Return the cure of a restore that was interrupted."""
    return Cure(6, f"--restore {backup}")


class Finding(NamedTuple):
    """The result of one check: its name, its level, what was seen, and what to do about it.

    A second line of `todo` is a command. `cure` is the same for the end of a run, which names one command for all.
    """

    name: str
    level: Level
    text: str
    todo: str = ""
    cure: Cure = BY_HAND
