"""The records that the rooms hand to each other: frozen, without behaviour."""

# Annotations are evaluated here, unlike elsewhere: a NamedTuple compiles each one that is a text, and these are many.

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from setup.config.types import TEXT, Kind
from setup.errors import ExitCode
from setup.volume.layout import File

# Both take the `Values` of `lookup`, which stands above this room.
Condition = Callable[[Any], bool]
Default = str | Callable[[Any], Any] | None


BACK = "\x00back"  # the answer that asks for the previous question; no kind of value takes it

# What asks for help and for the previous question when it is typed alone; no kind of value wants these.
HELP_WORD, BACK_WORD = "?", "<"


class Source(IntEnum):
    """Where a value came from; a higher source outranks a lower one."""

    DEFAULT = 0
    DEFAULTS_FILE = 1
    PRESET = 2
    SAVED = 3
    ADOPTED = 4
    CONFIG_FILE = 5
    ENVIRONMENT = 6
    CALLER = 7
    ANSWER = 8

    @property
    def label(self) -> str:
        """The source's name in messages and in the state file."""
        return self.name.lower().replace("_", "-")


def always(_values: object) -> bool:
    """The condition of a setting or secret that every deployment has."""
    return True


class Setting(NamedTuple):
    """One setting: a row of the catalogue, from which everything about it is derived.

    `default` is text as an operator would type it, or a function of the other values; None means
    that somebody must give it. `empty` allows an explicit empty value. `in_env` puts it into `.env`.
    `asked` makes it a question of an interactive run, and `notice` is said before that question.
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
    notice: str = ""


class Secret(NamedTuple):
    """One secret: how it comes to be, what it is bound to and where it shows.

    `generate` names a generator of `vault`, None means that only the operator knows the value.
    `when` says that the deployment has its file, `needed` that the file must not stay empty.
    `bound` names what breaks when it changes; "" for a secret that may follow its source.
    `shown` are the keys of `.env` that carry the value, `services` mount the file. `theirs` says when a secret that is
    otherwise generated or customary is the operator's to give. `group` names those that are rotated together.
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
    example: str = ""


class Given(NamedTuple):
    """A text that somebody gave for a key, and who."""

    text: str
    source: Source


class Resolved(NamedTuple):
    """A typed value, the source that won, and whether it applies to this deployment."""

    value: Any
    source: Source
    applies: bool = True


class Material(NamedTuple):
    """What a deployment trusts and serves TLS with.

    `files` are the authority's and the certificate's where they are made here. `mark` is what the state remembers, so
    that the next run need not look closely: the end of the certificate, and a digest of all that was looked at.
    `reason` says why a file is new, and `missing` what the operator must still put there.
    """

    files: tuple[File, ...] = ()
    ca_bundle: bytes = b""
    mark: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class SecretFile(NamedTuple):
    """A secret to publish; only `replace` lets it take the place of another, non-empty one."""

    name: str
    text: str
    replace: bool = False


class Field(NamedTuple):
    """One line to be read from a terminal: `check` gives the reason why a text will not do, or "".

    `words` complete it. A `guided` one takes HELP_WORD and BACK_WORD, and shows its `progress` where there is room.
    """

    question: str
    check: Callable[[str], str]
    words: tuple[str, ...] = ()
    masked: bool = False
    guided: bool = False
    progress: str = ""


class Reply(NamedTuple):
    """What was read; `pasted` when it was not typed, `more` when further lines came with it and were dropped."""

    text: str
    pasted: bool = False
    more: bool = False


class Outcome(NamedTuple):
    """What a step wants to become true; `done` is False when it wants to be called again, `back` asks for the
    question before.

    `answers` are to be remembered, `accepted` names questions whose default or emptiness was taken.
    """

    files: tuple[File, ...] = ()
    secrets: tuple[SecretFile, ...] = ()
    answers: Mapping[str, Given] | None = None
    accepted: tuple[str, ...] = ()
    done: bool = True
    back: bool = False


class Answer(NamedTuple):
    """What a verb found or did: lines for people, the same as data, and the exit code."""

    lines: Iterable[str]
    data: Mapping[str, Any]
    exit_code: ExitCode = ExitCode.DONE
