"""Declare what a setting, a secret and a given value are: records without behaviour."""

from __future__ import annotations

# Annotations are evaluated here, unlike elsewhere: a NamedTuple compiles each one that is text, and these are many.
from collections.abc import Callable
from enum import IntEnum

from setup.config.types import TEXT, Kind
from setup.typed import Any, NamedTuple

# Both take a `values.Values`, a module that imports this one.
Condition = Callable[[Any], bool]
Default = str | Callable[[Any], Any] | None


class Source(IntEnum):
    """Name where a value came from; a higher source outranks a lower one."""

    DEFAULT = 0
    DEFAULTS_FILE = 1
    PRESET = 2
    ADOPTED = 3
    CONFIG_FILE = 4
    ENVIRONMENT = 5
    CALLER = 6
    ANSWER = 7

    @property
    def label(self) -> str:
        """Return the source's name in data and in the state file."""
        return self.name.lower().replace("_", "-")

    @property
    def words(self) -> str:
        """Return the source's name for an operator: what is called `caller` elsewhere was typed behind a flag."""
        return "--set" if self is Source.CALLER else self.label


BY_LABEL = {source.label: source for source in Source}


def always(_values: object) -> bool:
    """Hold for a setting or secret that every deployment has."""
    return True


class Setting(NamedTuple):
    """Declare one setting: a row of the catalogue, from which everything about it is derived.

    `default` is text as an operator would type it, or a function of the other values; None means
    that somebody must give it. `empty` allows an explicit empty value. `in_env` puts it into `.env`.
    `asked` makes it a question of an interactive run, and `notice` is shown before that question. One is always
    asked if its `express` holds; of the others all may keep their default at once.
    """

    key: str
    group: str
    question: str
    help: str
    kind: Kind
    default: Default = None
    example: str = ""
    when: Condition = always
    empty: bool = False
    in_env: bool = True
    asked: bool = False
    express: Condition | None = None
    notice: str = ""


class Secret(NamedTuple):
    """Declare one secret: how it is made, what it is bound to, where it shows and what a rotation does.

    `generate` names a generator of `secrets.plan`; None means that only the operator knows the value.
    `when` says that the deployment has its file, `needed` that the file must not stay empty. One that may stay empty is
    asked for if it is `asked`.
    `bound` names what breaks when it changes; "" for a secret that may follow its source.
    `shown` are the keys of `.env` that carry the value, `services` mount the file. `theirs` says when a secret that is
    otherwise generated or customary is the operator's to give. `group` names those that are rotated together.
    `breaks` says what a rotation breaks; "" for a secret that is not rotated. `role` is the secret with the name of the
    database role that takes the new password, `by_hand` what an operator does elsewhere afterwards.
    """

    name: str
    question: str
    help: str
    generate: str | None = None
    customary: str | None = None
    bound: str = ""
    shown: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    kind: Kind = TEXT
    when: Condition = always
    needed: Condition = always
    theirs: Condition | None = None
    group: str = ""
    masked: bool = True
    asked: bool = False
    example: str = ""
    breaks: str = ""
    role: str = ""
    by_hand: str = ""


class Given(NamedTuple):
    """Hold the text that somebody gave for a key, its source, and the path of the KEY_FILE that held it."""

    text: str
    source: Source
    path: str = ""

    def named(self, key: str) -> str:
        """Return where a value comes from, for an operator."""
        return f"{key}_FILE={self.path}" if self.path else self.source.words
