"""`setup.typed.NamedTuple` makes what `typing.NamedTuple` makes."""

from __future__ import annotations

import typing
from collections.abc import Callable

import pytest

from setup import typed


def _with(base: typing.Any) -> typing.Any:
    class Point(base):
        """A point."""

        x: int
        y: Callable[[int], Nowhere] | str = "here"  # type: ignore[name-defined]  # noqa: F821 - never evaluated
        z: tuple[str, ...] = ()

        def __str__(self) -> str:
            return f"{self.x} {self.y}"

        @property
        def double(self) -> int:
            return self.x * 2

        @classmethod
        def origin(cls) -> typing.Any:
            return cls(0)

        @staticmethod
        def unit() -> int:
            return 1

    return Point


@pytest.mark.parametrize("base", [typing.NamedTuple, typed.NamedTuple], ids=["typing", "typed"])
def test_a_class_becomes_a_named_tuple(base: typing.Any) -> None:
    point = _with(base)
    assert type(point) is type
    assert point.__mro__[1:] == (tuple, object)
    assert point._fields == ("x", "y", "z")
    assert point._field_defaults == {"y": "here", "z": ()}
    assert (point.__name__, point.__qualname__) == ("Point", "_with.<locals>.Point")
    assert (point.__module__, point.__doc__, point.__slots__) == (__name__, "A point.", ())
    assert point(1, z=("a",)) == (1, "here", ("a",))
    assert repr(point(1)) == "Point(x=1, y='here', z=())"
    assert str(point(1)) == "1 here"
    assert (point(2).double, point.origin().x, point.unit()) == (4, 0, 1)
    assert point(1)._replace(y="there").y == "there"


@pytest.mark.parametrize("base", [typing.NamedTuple, typed.NamedTuple], ids=["typing", "typed"])
def test_it_cannot_be_changed_and_takes_only_its_fields(base: typing.Any) -> None:
    point = _with(base)
    with pytest.raises(AttributeError):
        point(1).x = 2
    with pytest.raises(AttributeError):
        point(1).other = 2
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        point()
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        point(1, other=2)
