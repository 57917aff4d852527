"""The names of `typing` that this program uses, without its import, which takes a tenth of a short run.

A type checker sees `typing` itself. When the program runs, `NamedTuple` makes the same `collections.namedtuple` of a
class, and the other names stand for nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, NamedTuple, TextIO
else:
    from collections import namedtuple

    class _Fields(type):
        """Turn the annotations of a class into the fields of a named tuple, and its values into their defaults."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body.pop("__annotations__", {})
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            for key, value in body.items():
                setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Fields):
        """As `typing.NamedTuple`; its module needs `from __future__ import annotations`, so that none is evaluated."""

    Any = TextIO = object

__all__ = ["TYPE_CHECKING", "Any", "NamedTuple", "TextIO"]
