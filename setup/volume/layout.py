"""Every path of the volume; and what a file on it is."""

from __future__ import annotations

from typing import NamedTuple


class File(NamedTuple):
    """A file for the volume, or one read from it: path below the output directory, bytes and mode.

    A file that is written `once` never replaces another one, unless that one is empty.
    """

    path: str
    data: bytes
    mode: int
    once: bool = False
