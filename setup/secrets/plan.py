"""What should become of every secret: kept, generated, taken over or left pending; pure but for the dice."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, NamedTuple

from setup.config.model import Given, Secret, Source
from setup.config.secrets import DIRECTORY, SECRETS
from setup.config.types import TEXT, show
from setup.config.values import Values
from setup.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class SecretFile(NamedTuple):
    """A secret to publish; only `replace` lets it take the place of another, non-empty one."""

    name: str
    text: str
    replace: bool = False


class Planned(NamedTuple):
    """What one secret should hold, and how it came to that.

    `origin` is `kept`, `given`, `generated`, `customary` or `pending`; `present` says that a file,
    perhaps an empty one, stands there already; `replaces` that another value stands there.
    """

    name: str
    text: str
    origin: str
    present: bool
    replaces: bool = False

    @property
    def file(self) -> SecretFile | None:
        """The file to publish, or None when what stands there is right."""
        if self.origin == "kept" or (self.origin == "pending" and self.present):
            return None
        return SecretFile(self.name, self.text, self.replaces)


def same(one: str, other: str) -> bool:
    """Whether two texts are the same value: a last newline, as a shell writes it, is none of it."""
    return one.removesuffix("\n") == other.removesuffix("\n")


def path_of(name: str) -> str:
    """Where a secret stands below the volume."""
    return f"{DIRECTORY}/{name}"


def text_of(name: str, data: bytes | None) -> str | None:
    """What a secret's file holds, None where there is no file; VolumeError for what cannot be a secret."""
    if data is None:
        return None
    path = path_of(name)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise VolumeError(f"{path} is not UTF-8 text: put its value back from a backup") from None
    if text and not text.strip():
        raise VolumeError(f"{path} holds only white space: put its value into it, or empty it (: > {path})")
    return text


def applicable(values: Values) -> list[Secret]:
    """The secrets that this deployment has."""
    return [secret for secret in SECRETS.values() if secret.when(values)]


def canonical(given: Mapping[str, Given]) -> tuple[dict[str, Given], list[str]]:
    """Given secrets in their kind's spelling, and a problem for each that will not do; never its text.

    A configuration file's stay as they are, to the byte: it may be another deployment's, handed over.
    """
    good, problems = {}, []
    for name, said in given.items():
        secret, exact = SECRETS[name], said.source is Source.CONFIG_FILE
        try:
            text = show(secret.kind.parse(said.text.removesuffix("\n") if exact else said.text))
            good[name] = said if exact else Given(text, said.source)
        except ValueError as error:
            reason = _hiding(secret, error) if secret.masked else str(error)
            problems.append(f"{name.upper()} ({said.source.label}): {reason}")
    return good, problems


def is_asked(secret: Secret, values: Values) -> bool:
    """Whether an interactive run asks for it: the operator's, and needed or with a customary value."""
    return is_operators(secret, values) and (secret.needed(values) or secret.customary is not None)


def misfilled(texts: Mapping[str, str]) -> list[str]:
    """A problem for each secret that was filled in by hand and will not do; never its text."""
    problems = []
    for name, text in texts.items():
        try:
            SECRETS[name].kind.parse(text.removesuffix("\n"))
        except ValueError as error:
            problems.append(f"{path_of(name)}: {_hiding(SECRETS[name], error)}")
    return problems


def _hiding(secret: Secret, error: ValueError) -> str:
    """A reason without the text it is about; plain text's own reasons never quote it."""
    reason = str(error) if secret.kind is TEXT else f"it must be {secret.kind.expects}"
    return f"{reason} (its value is not shown)"


def plan(
    values: Values,
    on_disk: Mapping[str, str | None],
    given: Mapping[str, Given],
    minted: dict[str, str] | None = None,
    rotated: Collection[str] = (),
) -> dict[str, Planned]:
    """The plan of every secret that applies; a file that is not empty is never planned anew, unless it is rotated.

    An unbound secret follows what was given. `minted` remembers what was generated, so that a second
    plan, be it before the first one is written or after it, has the same values.
    """
    minted = {} if minted is None else minted
    return {
        secret.name: _plan_one(secret, values, on_disk, given, minted, secret.name in rotated)
        for secret in applicable(values)
    }


def _plan_one(
    secret: Secret,
    values: Values,
    on_disk: Mapping[str, str | None],
    given: Mapping[str, Given],
    minted: dict[str, str],
    rotated: bool,
) -> Planned:
    current, said = on_disk.get(secret.name), given.get(secret.name)
    if current:
        new = said.text if said and (rotated or not is_bound(secret, values)) else ""
        if rotated and said is None and secret.generate:
            new = minted.setdefault(secret.name, GENERATORS[secret.generate]())
        if new and not same(new, current):
            return Planned(secret.name, new, "given" if said else "generated", present=True, replaces=True)
        return Planned(secret.name, current, "kept", present=True)
    origin, text = "pending", ""
    if said:
        origin, text = "given", said.text
    elif is_operators(secret, values):
        if secret.customary is not None and not (secret.theirs and secret.theirs(values)):
            origin, text = "customary", secret.customary
    elif secret.generate:
        origin, text = "generated", minted.setdefault(secret.name, GENERATORS[secret.generate]())
    return Planned(secret.name, text, origin, present=current is not None)


def is_operators(secret: Secret, values: Values) -> bool:
    """Whether only the operator can give this secret here, rather than this program."""
    return secret.generate is None or (secret.theirs is not None and secret.theirs(values))


def is_bound(secret: Secret, values: Values) -> bool:
    """Whether a value in force must stay; credentials of somebody else's server follow what is given."""
    return bool(secret.bound) and not (secret.theirs is not None and secret.theirs(values))


def known(on_disk: Mapping[str, str | None], given: Mapping[str, Given]) -> dict[str, str]:
    """The texts that defaults may follow from: what is given, unless a bound secret has its value already."""
    texts = {name: said.text for name, said in given.items()}
    return texts | {name: text for name, text in on_disk.items() if text and (SECRETS[name].bound or name not in given)}


def pending(values: Values, texts: Mapping[str, str]) -> list[Secret]:
    """The secrets that must be filled before the stack works."""
    return [secret for secret in applicable(values) if secret.needed(values) and not texts.get(secret.name)]


def generations(
    planned: Mapping[str, Planned], made: Mapping[str, int], announced: Mapping[str, int]
) -> dict[str, int]:
    """How often each secret has got a value; an announced number holds after a crash."""
    return {one.name: announced.get(one.name) or _generation(one, made.get(one.name, 0)) for one in planned.values()}


def settled(
    planned: Mapping[str, Planned],
    published: tuple[SecretFile, ...],
    made: Mapping[str, int],
    announced: Mapping[str, int],
) -> dict[str, int]:
    """The counts of the secrets that are there once these are published, kept ones included."""
    counts = generations(planned, made, announced)
    counts |= {one.name: 1 for one in published if one.text and not counts.get(one.name)}
    there = {one.name for one in published} | {one.name for one in planned.values() if one.origin == "kept"}
    return {name: count for name, count in counts.items() if name in there and count}


def _generation(one: Planned, before: int) -> int:
    if not one.text:
        return 0
    return before + 1 if one.replaces or not before else before


def _hexadecimal() -> str:
    return os.urandom(32).hex()


def _urlsafe() -> str:
    """32 random bytes, not beginning with a dash: some programs take that for an option."""
    while True:
        text = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _fernet() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


GENERATORS = {"hex": _hexadecimal, "urlsafe": _urlsafe, "fernet": _fernet}
