"""An `.env` that was edited by hand and whose rendering changed: merged by key, three ways; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from setup.formats import dotenv
from setup.formats.dotenv import MARKER, Statement
from setup.formats.yaml_file import Malformed

if TYPE_CHECKING:
    from collections.abc import Mapping


class Merged(NamedTuple):
    """The merged file, or the keys that both sides changed: then there is none."""

    data: bytes
    conflicts: tuple[str, ...] = ()


class _Side(NamedTuple):
    """One version: its pieces in their order, each key's text, and each key's value where it can be told."""

    pieces: list[Statement]
    texts: Mapping[str, str]
    values: Mapping[str, str]

    def same(self, key: str, other: _Side) -> bool:
        """Whether the other side says the same of a key: nothing, the same text, or the same value in other words."""
        mine, theirs = self.texts.get(key), other.texts.get(key)
        if mine is None or theirs is None:
            return mine is theirs
        return mine == theirs or (key in self.values and self.values[key] == other.values.get(key))


def merge(base: bytes, theirs: bytes, ours: bytes) -> Merged:
    """Their file with what changed from `base` to `ours`; the order and the comments stay theirs.

    Raises Malformed for a file that Compose would misread, or that says something twice.
    """
    before, there, here = _side(base), _side(theirs), _side(ours)
    changed, conflicts = set(), []
    for key in dict.fromkeys((*before.texts, *there.texts, *here.texts)):
        if here.same(key, before) or here.same(key, there):
            continue
        if there.same(key, before):
            changed.add(key)
        else:
            conflicts.append(key)
    if conflicts:
        return Merged(b"", tuple(conflicts))
    pieces = [_taken(piece, here) if piece.key in changed else piece for piece in there.pieces]
    for key in here.texts:
        if key in changed and key not in there.texts:
            pieces.insert(_place(key, list(here.texts), pieces), Statement(key, here.texts[key]))
    return Merged(_joined(pieces))


def _taken(piece: Statement, here: _Side) -> Statement:
    """Return a key as our side has it, without text if it no longer has the key."""
    return piece._replace(text=here.texts.get(piece.key, ""))


def _side(data: bytes) -> _Side:
    pieces = [piece._replace(text=_ended(piece.text)) if piece.key else piece for piece in dotenv.statements(data)]
    texts: dict[str, str] = {}
    for piece in pieces:
        if piece.key in texts:
            raise Malformed(f"{piece.key} appears twice")
        if piece.key:
            texts[piece.key] = piece.text
    return _Side(pieces, texts, dotenv.parse(data).values)


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _place(key: str, order: list[str], pieces: list[Statement]) -> int:
    """Where a new key belongs: behind the nearest one that stands before it, else before all others."""
    there = {piece.key: index for index, piece in enumerate(pieces) if piece.text}
    for earlier in reversed(order[: order.index(key)]):
        if earlier in there:
            return there[earlier] + 1
    return next((index for index, piece in enumerate(pieces) if piece.key), 0)


def _joined(pieces: list[Statement]) -> bytes:
    data = "".join(piece.text for piece in pieces).encode()
    if data.endswith(b"\n" + MARKER) or data == MARKER:
        return data
    return (data if data.endswith(b"\n") or not data else data + b"\n") + MARKER
