"""Plan the value of every secret: kept, given, generated, customary or pending; pure except for the random bytes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from enum import Enum, auto

from setup.config.model import Given, Secret, Source
from setup.config.secrets import SECRETS
from setup.config.types import TEXT, show
from setup.config.values import Values
from setup.environment import shell_word
from setup.formats.wrapping import unwrap
from setup.typed import NamedTuple
from setup.volume.layout import secret_path

_CARRIAGE_RETURN = "it holds carriage returns (CR, U+000D), as Windows ends lines, and readers take them for its value"


class Origin(Enum):
    """Where a planned value comes from."""

    KEPT = auto()  # it is in the file
    FILLED = auto()  # it is in the file, with a line end that somebody's editor or shell put behind it
    GIVEN = auto()
    GENERATED = auto()
    CUSTOMARY = auto()  # such as the role postgres
    PENDING = auto()  # only the operator knows it


class SecretFile(NamedTuple):
    """A secret to publish; only `replace` lets it take the place of another, non-empty one."""

    name: str
    text: str
    replace: bool = False


class Planned(NamedTuple):
    """The value that one secret should have.

    `present` says that it has a file, perhaps an empty one; `replaces` that the file has another value.
    """

    name: str
    text: str
    origin: Origin
    present: bool
    replaces: bool = False

    @property
    def file(self) -> SecretFile | None:
        """The file to publish, or None if the present one is right."""
        if self.origin is Origin.KEPT or (self.origin is Origin.PENDING and self.present):
            return None
        return SecretFile(self.name, self.text, self.replaces)


def is_same(text: str, other: str) -> bool:
    """Tell whether two texts are the same value: what other tools put around it does not count."""
    return unwrap(text) == unwrap(other)


def names_of(secrets: Iterable[Secret | SecretFile]) -> list[str]:
    """Return the names of secrets, in their order."""
    return [secret.name for secret in secrets]


def list_applicable(values: Values) -> list[Secret]:
    """List the secrets that this deployment has."""
    return [secret for secret in SECRETS.values() if secret.when(values)]


def list_pending(values: Values, texts: Mapping[str, str]) -> list[Secret]:
    """List the secrets that must be filled in before the stack works."""
    return [secret for secret in list_applicable(values) if secret.needed(values) and not texts.get(secret.name)]


def parse_given(given: Mapping[str, Given]) -> tuple[dict[str, Given], list[str]]:
    """Return given secrets in their kind's spelling, and a problem for each that is not valid; never a masked text.

    A configuration file's secrets stay unchanged: it may come from another deployment, whose data needs them exactly.
    """
    good, problems = {}, []
    for name, secret_given in given.items():
        secret, key = SECRETS[name], name.upper()
        exact = secret_given.source is Source.CONFIG_FILE
        where = secret_given.named(key) if secret_given.path else f"{key} ({secret_given.source.words})"
        value = unwrap(secret_given.text) if exact else secret_given.text
        if _has_carriage_return(secret, secret_given.text if exact and secret.bound else value):
            problems.append(f"{where}: {_CARRIAGE_RETURN}{_remove(secret_given.path)}")
            continue
        try:
            text = show(secret.kind.parse(value))
            good[name] = secret_given if exact else Given(text, secret_given.source)
        except ValueError as error:
            problems.append(f"{where}: {_reason(secret, error)}")
    return good, problems


def check_filled(texts: Mapping[str, str]) -> list[str]:
    """Return a problem for each secret whose file does not hold a valid value; never a masked text.

    A line end behind a bound one stays, because data may depend on it; but no data depends on a carriage return.
    """
    problems = []
    for name, text in texts.items():
        secret, path, value = SECRETS[name], secret_path(name), unwrap(text)
        if _has_carriage_return(secret, text if secret.bound else value):
            problems.append(f"{path}: {_CARRIAGE_RETURN}{_remove(path)}")
            continue
        try:
            secret.kind.parse(value)
            if secret.kind.pattern and value != value.strip():
                raise ValueError("it must not begin or end with a blank or a line end")
        except ValueError as error:
            problems.append(f"{path}: {_reason(secret, error)}")
    return problems


def _has_carriage_return(secret: Secret, text: str) -> bool:
    """Tell whether one would be part of a secret; a list may be typed in lines."""
    return "\r" in text and not secret.kind.multiple


def _remove(path: str) -> str:
    return f": sed -i 's/\\r//g' {shell_word(path)}" if path else ""


def clean(secret: Secret, text: str) -> str:
    """Return a secret's text as its readers take it: without what other tools added, and a list on one line."""
    value = unwrap(text)
    if secret.kind.multiple and ({*value} & {"\r", "\n"} or value.endswith(",")):
        return show(secret.kind.parse(value))
    return value


def _reason(secret: Secret, error: ValueError) -> str:
    """Return a reason, of a masked secret without the text that it is about; plain text's own never quote it."""
    if not secret.masked:
        return str(error)
    reason = str(error) if secret.kind.name == TEXT.name else f"it must be {secret.kind.expects}"
    return f"{reason} (its value is not shown)"


def is_external(secret: Secret, values: Values) -> bool:
    """Tell whether a secret belongs to a server of the operator's, instead of one that this stack sets up."""
    return secret.theirs is not None and secret.theirs(values)


def is_operators(secret: Secret, values: Values) -> bool:
    """Tell whether only the operator can give this secret."""
    return secret.generate is None or is_external(secret, values)


def is_asked(secret: Secret, values: Values) -> bool:
    """Tell whether an interactive run asks for it: needed, optional and marked so, or with a customary value."""
    return is_operators(secret, values) and (secret.needed(values) or secret.customary is not None or secret.asked)


def is_bound(secret: Secret, values: Values) -> bool:
    """Tell whether its value must stay; the credentials of an external server follow what is given."""
    return bool(secret.bound) and not is_external(secret, values)


def plan_secrets(
    values: Values,
    on_disk: Mapping[str, str | None],
    given: Mapping[str, Given],
    generated: dict[str, str] | None = None,
    rotated: Collection[str] = (),
) -> dict[str, Planned]:
    """Plan every secret that applies; a file that is not empty keeps its value, unless the secret is rotated.

    An unbound secret follows what was given. `generated` remembers what was generated, so that a second plan has the
    same values, before the first one is written and after it.
    """
    generated = {} if generated is None else generated
    planned = {}
    for secret in list_applicable(values):
        name, current = secret.name, on_disk.get(secret.name)
        offer = given.get(name)
        if not current:
            origin, text = _first_value(secret, values, offer, generated)
            planned[name] = Planned(name, text, origin, present=current is not None)
            continue
        new = ""
        if offer:
            new = offer.text if name in rotated or not is_bound(secret, values) else ""
        elif name in rotated and secret.generate:
            new = _generate(secret.name, secret.generate, generated)
        planned[name] = Planned(name, current, Origin.KEPT, present=True)
        if not new and not is_bound(secret, values) and clean(secret, current) != current:
            planned[name] = Planned(name, clean(secret, current), Origin.FILLED, present=True, replaces=True)
        elif new and not is_same(new, current):
            planned[name] = Planned(name, new, Origin.GIVEN if offer else Origin.GENERATED, present=True, replaces=True)
    return planned


def _first_value(secret: Secret, values: Values, offer: Given | None, generated: dict[str, str]) -> tuple[Origin, str]:
    if offer:
        return Origin.GIVEN, offer.text
    if not is_external(secret, values):
        if secret.generate:
            return Origin.GENERATED, _generate(secret.name, secret.generate, generated)
        if secret.customary is not None:
            return Origin.CUSTOMARY, secret.customary
    return Origin.PENDING, ""


def _generate(name: str, generator: str, generated: dict[str, str]) -> str:
    return generated.setdefault(name, GENERATORS[generator]())


def known_texts(on_disk: Mapping[str, str | None], given: Mapping[str, Given]) -> dict[str, str]:
    """Return the texts that defaults may follow from: what is given, unless a bound secret has its value already."""
    texts = {name: offer.text for name, offer in given.items()}
    for name, text in on_disk.items():
        if text and (SECRETS[name].bound or name not in given):
            texts[name] = text
    return texts


def count_generations(
    planned: Mapping[str, Planned], made: Mapping[str, int], announced: Mapping[str, int]
) -> dict[str, int]:
    """Count how many values each secret has had; an announced number holds after a crash."""
    counts = {}
    for name, secret in planned.items():
        before = made.get(name, 0)
        is_new = secret.text and (secret.replaces or not before)
        counts[name] = announced.get(name) or (before + 1 if is_new else before if secret.text else 0)
    return counts


def count_published(
    planned: Mapping[str, Planned],
    published: Iterable[SecretFile],
    made: Mapping[str, int],
    announced: Mapping[str, int],
) -> dict[str, int]:
    """Count the values of the secrets that have one once these files are published, kept ones included."""
    counts = count_generations(planned, made, announced)
    on_volume = {name for name, secret in planned.items() if secret.origin in (Origin.KEPT, Origin.FILLED)}
    for file in published:
        on_volume.add(file.name)
        if file.text and not counts.get(file.name):
            counts[file.name] = 1
    return {name: count for name, count in counts.items() if name in on_volume and count}


def _hexadecimal() -> str:
    return os.urandom(32).hex()


def generate_key() -> bytes:
    """Return a key for fingerprints, as a line of text."""
    return f"{_hexadecimal()}\n".encode()


def _urlsafe() -> str:
    """Return 32 random bytes as text that does not begin with a dash: some programs take that for an option."""
    text = _fernet()
    while text.startswith("-"):
        text = _fernet()
    return text.rstrip("=")


def _fernet() -> str:
    import base64  # only a run that generates something pays for it

    return base64.urlsafe_b64encode(os.urandom(32)).decode()


GENERATORS = {"hex": _hexadecimal, "urlsafe": _urlsafe, "fernet": _fernet}
