"""Say how far a sweep is, on stderr, as its table comes only at the end of each layer."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

EVERY = 10  # seconds between two lines

Item = TypeVar("Item")


class Layer:
    """The layer that is tried, and the time when it began."""

    name = ""
    since = 0.0


def begin(name: str) -> None:
    """Note which layer the lines are about."""
    Layer.name, Layer.since = name, time.monotonic()


def counted(items: Iterable[Item], total: int, what: str = "case") -> Iterator[Item]:
    """Hand out the results of a sweep as they come, with a line now and then and one at the end."""
    said = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= EVERY or number == total:
            said = now
            print(f"{Layer.name}: {what} {number} of {total}, {now - Layer.since:.0f} s", file=sys.stderr, flush=True)
