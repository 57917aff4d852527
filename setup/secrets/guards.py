"""Refuse what must not happen to a secret: lost and regenerated, contradicted, or used on the wrong server; pure."""

from __future__ import annotations

from collections.abc import Mapping

from setup.config.derived import BUNDLED_DATABASE, external_database
from setup.config.engines import ENGINES, engine_of
from setup.config.model import Given, Secret, always
from setup.config.values import Values
from setup.errors import DecisionNeeded, VolumeError
from setup.secrets.plan import is_bound, is_external, is_operators, is_same, list_applicable, list_pending
from setup.typed import NamedTuple
from setup.volume.layout import secret_path


class Unfilled(NamedTuple):
    """The secrets that have no value and need one: lost ones had one before, pending ones wait for the operator."""

    lost: list[Secret]
    pending: list[Secret]


def find_unfilled(values: Values, texts: Mapping[str, str], made: Mapping[str, int]) -> Unfilled:
    """Find the secrets without a value, in the order of the catalogue; `made` are those that had one."""
    lost = find_lost(values, texts, made)
    return Unfilled(lost, [secret for secret in list_pending(values, texts) if secret not in lost])


def find_lost(values: Values, on_disk: Mapping[str, str | None], made: Mapping[str, int]) -> list[Secret]:
    """Find the secrets that had a value, are needed, and are gone: they must never be regenerated."""
    lost = []
    for secret in list_applicable(values):
        is_gone = secret.name in made and not on_disk.get(secret.name)
        if is_gone and secret.needed(values) and not is_external(secret, values):
            lost.append(secret)
    return lost


def explain_lost(secret: Secret, values: Values) -> str:
    """Say what to do about a lost secret."""
    text = f"{secret_path(secret.name)} had a value and is now missing or empty: restore the file from a backup"
    if is_bound(secret, values):
        return f"{text}. It is not regenerated, because it is bound to {secret.bound}"
    return f"{text}, or give it as {secret.name.upper()} or {secret.name.upper()}_FILE"


def refuse_unsafe(
    values: Values,
    on_disk: Mapping[str, str | None],
    given: Mapping[str, Given],
    made: Mapping[str, int],
    moved: bool,
) -> None:
    """Raise VolumeError for lost secrets, DecisionNeeded for bound ones that would get another value.

    `moved` says that a database server of the operator's has just replaced the bundled one.
    """
    lost = []
    for secret in find_lost(values, on_disk, made):
        if is_bound(secret, values) or secret.name not in given:
            lost.append(explain_lost(secret, values))
    if lost:
        raise VolumeError(*lost)
    decisions = []
    for secret in find_contradicted(values, on_disk, given):
        key = secret.name.upper()
        decisions.append(
            f"{key} differs from the value in {secret_path(secret.name)}, which is bound to {secret.bound}. Nothing "
            f"was written: leave {key} out to keep the current value"
        )
    for secret in list_applicable(values) if moved else ():
        key = secret.name.upper()
        if is_external(secret, values) and on_disk.get(secret.name) and secret.name not in given:
            decisions.append(
                f"DB_HOST names another server, but {secret_path(secret.name)} holds the bundled database's value. "
                f"Nothing was written: give the {key} of that server, or empty the file to fill it in later"
            )
    if decisions:
        raise DecisionNeeded(*decisions)


def refuse_without_secrets(
    main: str, values: Values, on_disk: Mapping[str, str | None], given: Mapping[str, Given]
) -> None:
    """Raise VolumeError for a deployment that has neither a state nor the secrets that its data is bound to.

    That is the result of a copy that left out names that begin with a dot. New secrets would not open its database.
    """
    missing = []
    for secret in list_applicable(values):
        is_ours = secret.when is always and is_bound(secret, values) and not is_operators(secret, values)
        if is_ours and not on_disk.get(secret.name) and secret.name not in given:
            missing.append(secret.name)
    if missing:
        raise VolumeError(
            f"{main}: avatar-setup wrote it, but there is no state, and these secrets are missing that its "
            f"data is bound to: {', '.join(missing)}. Was it copied without the files whose names begin with a dot? "
            "Copy .secrets again from where it came from (cp -a copies everything). For a new deployment with new "
            f"secrets, move {main} away and run the same command again"
        )


def refuse_other_engine(main: str, values: Values, path: str) -> None:
    """Raise VolumeError for a deployment without a state that another engine runs than the default one."""
    if main != engine_of(values).main:
        target = next(name for name, engine in ENGINES.items() if engine.main == main)
        raise VolumeError(
            f"{main}: avatar-setup wrote it for TARGET={target}, but there is no state, and no TARGET was given. "
            f"Nothing was written: give TARGET, or take over the settings from the files: avatar-setup --adopt {path}"
        )


def has_moved(before: Given | None, values: Values) -> bool:
    """Tell whether another server replaces the bundled database; `before` is the saved answer for DB_HOST."""
    return (before is None or before.text == BUNDLED_DATABASE) and external_database(values)


def has_moved_back(before: Given | None, values: Values) -> bool:
    """Tell whether the bundled database replaces a server of the operator's."""
    return before is not None and before.text != BUNDLED_DATABASE and not external_database(values)


def find_contradicted(values: Values, on_disk: Mapping[str, str | None], given: Mapping[str, Given]) -> list[Secret]:
    """Find the bound secrets for which another value was given than the one on disk."""
    contradicted = []
    for secret in list_applicable(values):
        current, offer = on_disk.get(secret.name), given.get(secret.name)
        if current and offer and is_bound(secret, values) and not is_same(offer.text, current):
            contradicted.append(secret)
    return contradicted
