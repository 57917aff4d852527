"""Typed values by key, computed when asked for, so that a default may depend on any other value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from setup.config.model import Given, Setting, Source
from setup.config.types import show

if TYPE_CHECKING:
    from collections.abc import Mapping


class Unavailable(Exception):
    """A value that cannot be had: it is missing, or what was given is not valid."""


class Resolved(NamedTuple):
    """A typed value and the source that won."""

    value: Any
    source: Source


class Values:
    """What the operator said plus the defaults that follow from it.

    `values["KEY"]` is the typed value and raises Unavailable where there is none; every reason is
    kept in `missing` (keys in the order met) and `invalid` (key -> the Given and why it was refused).
    """

    def __init__(self, settings: Mapping[str, Setting], given: Mapping[str, Given], secrets: Mapping[str, str]) -> None:
        self._settings = settings
        self._given = given
        self._secrets = secrets
        self._done: dict[str, Resolved | None] = {}
        self.missing: list[str] = []
        self.invalid: dict[str, tuple[Given, str]] = {}

    def __getitem__(self, key: str) -> Any:
        return self.resolved(key).value

    def given(self, key: str) -> bool:
        """Whether anybody said something for this key, rather than its default being in force."""
        return key in self._given and self._given[key].source > Source.DEFAULT

    def secret(self, name: str) -> str:
        """The secret's text as far as it is known, or ""."""
        return self._secrets.get(name, "").removesuffix("\n")

    def resolved(self, key: str) -> Resolved:
        """The value with its source; for a setting that does not apply, its default stays unasked."""
        if key not in self._done:
            self._done[key] = None  # a default that needs itself finds None here
            self._done[key] = self._resolve(self._settings[key])
        found = self._done[key]
        if found is None:
            raise Unavailable(key)
        return found

    def applies(self, key: str) -> bool:
        return self._settings[key].when(self)

    def computed(self, key: str) -> Resolved | None:
        """The value of a setting that applies, or None where it does not or cannot be had."""
        try:
            return self.resolved(key) if self.applies(key) else None
        except Unavailable:
            return None

    def can_apply(self, key: str) -> bool:
        """Whether a setting applies, as far as can be told by now."""
        try:
            return self.applies(key)
        except Unavailable:
            return False

    def texts(self) -> dict[str, str]:
        """Every value that has been computed, as text."""
        return {key: show(found.value) for key, found in self._done.items() if found is not None}

    def _resolve(self, setting: Setting) -> Resolved | None:
        given = self._given.get(setting.key)
        if given is None:
            default = setting.default(self) if callable(setting.default) else setting.default
            if default is None:
                self.missing.append(setting.key)
                return None
            given = Given(show(default), Source.DEFAULT)
        if given.source is Source.DEFAULT and setting.kind.pattern and not callable(setting.default):
            return Resolved(given.text, given.source)  # ours, and tested; compiling its pattern costs start time
        try:
            value = "" if setting.empty and not given.text.strip() else setting.kind.parse(given.text)
        except ValueError as error:
            self.invalid[setting.key] = (given, str(error))
            return None
        return Resolved(value, given.source)
