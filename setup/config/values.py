"""Compute typed values by key when they are asked for, so that a default may depend on any other value."""

from __future__ import annotations

from collections.abc import Mapping

from setup.config.model import Given, Setting, Source
from setup.config.types import show
from setup.formats.wrapping import unwrap
from setup.typed import Any, NamedTuple


class Unavailable(Exception):
    """Say that a value cannot be had: it is missing, or what was given is not valid."""


class Resolved(NamedTuple):
    """Hold a typed value and the source that won."""

    value: Any
    source: Source


class Values:
    """Combine what the operator gave with the defaults that follow from it.

    `values["KEY"]` is the typed value and raises Unavailable if there is none; every reason is
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
        """Tell whether anybody gave this key, so that its default is not in force."""
        return key in self._given and self._given[key].source > Source.DEFAULT

    def secret(self, name: str) -> str:
        """Return the secret's text as far as it is known, or ""."""
        return unwrap(self._secrets.get(name, ""))

    def resolved(self, key: str) -> Resolved:
        """Return the value with its source, also of a setting that does not apply."""
        if key not in self._done:
            self._done[key] = None  # a default that needs itself finds None here
            self._done[key] = self._resolve(self._settings[key])
        resolved = self._done[key]
        if resolved is None:
            raise Unavailable(key)
        return resolved

    def applies(self, key: str) -> bool:
        """Tell whether this deployment has the setting."""
        return self._settings[key].when(self)

    def computed(self, key: str) -> Resolved | None:
        """Return the value of a setting, or None if it does not apply or cannot be had."""
        try:
            return self.resolved(key) if self.applies(key) else None
        except Unavailable:
            return None

    def can_apply(self, key: str) -> bool:
        """Tell whether a setting applies, False while that is not known yet."""
        try:
            return self.applies(key)
        except Unavailable:
            return False

    def texts(self) -> dict[str, str]:
        """Return every value that has been computed, as text."""
        return {key: show(resolved.value) for key, resolved in self._done.items() if resolved is not None}

    def _resolve(self, setting: Setting) -> Resolved | None:
        given = self._given.get(setting.key)
        if given is None:
            default = setting.default(self) if callable(setting.default) else setting.default
            if default is None:
                self.missing.append(setting.key)
                return None
            given = Given(show(default), Source.DEFAULT)
        if given.source is Source.DEFAULT and setting.kind.pattern and not callable(setting.default):
            return Resolved(given.text, given.source)  # a tested constant: compiling its pattern costs start-up time
        try:
            value = "" if setting.empty and not given.text.strip() else setting.kind.parse(given.text)
        except ValueError as error:
            self.invalid[setting.key] = (given, str(error))
            return None
        return Resolved(value, given.source)
