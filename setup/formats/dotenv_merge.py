"""An `.env` that was edited by hand and whose rendering changed: merged by key, three ways; pure."""

from __future__ import annotations

from setup.formats import dotenv
from setup.formats.dotenv import MARKER, Statement
from setup.formats.yaml_file import Malformed
from setup.typed import TYPE_CHECKING, NamedTuple

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
        """Tell whether both sides agree on a key: neither has it, or the text or at least the value is the same."""
        mine, theirs = self.texts.get(key), other.texts.get(key)
        if mine is None or theirs is None:
            return mine is theirs
        return mine == theirs or (key in self.values and self.values[key] == other.values.get(key))


def merge(base: bytes, theirs: bytes, ours: bytes) -> Merged:
    """Return their file with what changed from `base` to `ours`; the order and the comments stay theirs.

    Raise Malformed for a file that Compose would misread, or that has a key twice.
    """
    before, edited, wanted = _side(base), _side(theirs), _side(ours)
    changed, conflicts = set(), []
    for key in dict.fromkeys((*before.texts, *edited.texts, *wanted.texts)):
        if wanted.same(key, before) or wanted.same(key, edited):
            continue
        if edited.same(key, before):
            changed.add(key)
        else:
            conflicts.append(key)
    if conflicts:
        return Merged(b"", tuple(conflicts))
    pieces = [_taken(piece, wanted) if piece.key in changed else piece for piece in edited.pieces]
    for key in wanted.texts:
        if key in changed and key not in edited.texts:
            pieces.insert(_place(key, list(wanted.texts), pieces), Statement(key, wanted.texts[key]))
    return Merged(_joined(pieces))


def _taken(piece: Statement, wanted: _Side) -> Statement:
    """Return a key as our side has it, without text if it no longer has the key."""
    return piece._replace(text=wanted.texts.get(piece.key, ""))


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
    """Return where a new key belongs: after the nearest key that precedes it, or else before all others."""
    positions = {piece.key: index for index, piece in enumerate(pieces) if piece.text}
    for earlier in reversed(order[: order.index(key)]):
        if earlier in positions:
            return positions[earlier] + 1
    return next((index for index, piece in enumerate(pieces) if piece.key), 0)


def _joined(pieces: list[Statement]) -> bytes:
    data = "".join(piece.text for piece in pieces).encode()
    if data.endswith(b"\n" + MARKER) or data == MARKER:
        return data
    return (data if data.endswith(b"\n") or not data else data + b"\n") + MARKER
