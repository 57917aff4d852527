"""What must not happen to a secret: lost and made anew, contradicted, or used on a server it is not for; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup.config.derived import BUNDLED_DATABASE, external_database
from setup.config.model import Given, Secret, always
from setup.config.values import Values
from setup.errors import DecisionNeeded, VolumeError
from setup.secrets import plan as secrets_plan

if TYPE_CHECKING:
    from collections.abc import Mapping


def refuse(
    values: Values,
    on_disk: Mapping[str, str | None],
    given: Mapping[str, Given],
    made: Mapping[str, int],
    moved: bool,
) -> None:
    """Raises VolumeError for lost secrets, DecisionNeeded for bound ones that would get another value.

    `moved` says that a database server of the operator's has just taken the bundled one's place.
    """
    gone = [
        secret
        for secret in lost(values, on_disk, made)
        if secrets_plan.is_bound(secret, values) or secret.name not in given
    ]
    if gone:
        raise VolumeError(*(lost_text(secret, values) for secret in gone))
    decisions = [
        f"{secret.name.upper()} differs from the value in {secrets_plan.path_of(secret.name)}, which is bound to "
        f"{secret.bound}. Nothing was written: leave {secret.name.upper()} out to keep the present value"
        for secret in contradicted(values, on_disk, given)
    ] + [
        f"DB_HOST names another server, and {secrets_plan.path_of(secret.name)} holds the bundled database's value. "
        f"Nothing was written: give {secret.name.upper()} of that server, or empty the file to fill it in later"
        for secret in (left_behind(values, on_disk, given) if moved else ())
    ]
    if decisions:
        raise DecisionNeeded(*decisions)


def refuse_without_secrets(values: Values, on_disk: Mapping[str, str | None], given: Mapping[str, Given]) -> None:
    """Raises VolumeError where a deployment stands without a state and without secrets that its data is bound to.

    So it looks after a copy that left out what begins with a dot; made anew, they would not open the database.
    """
    gone = [
        secret
        for secret in secrets_plan.applicable(values)
        if secret.when is always
        and secrets_plan.is_bound(secret, values)
        and not secrets_plan.is_operators(secret, values)
        and not on_disk.get(secret.name)
        and secret.name not in given
    ]
    if gone:
        raise VolumeError(
            "a docker-compose.yml of ours stands here, but no state, and these secrets are missing that its data is "
            f"bound to: {', '.join(secret.name for secret in gone)}. Was it copied without the files whose names begin "
            "with a dot? Put .secrets back from where it came from (cp -a copies all). To make a new deployment with "
            "new secrets, move docker-compose.yml away and run the same command again"
        )


def lost_text(secret: Secret, values: Values) -> str:
    """What to do about a secret that was made and is gone."""
    text = f"the secret {secrets_plan.path_of(secret.name)} was made earlier and is now missing or empty: "
    if secrets_plan.is_bound(secret, values):
        return f"{text}put the file back from a backup. It is not made anew: it is bound to {secret.bound}"
    return f"{text}put the file back from a backup, or give it as {secret.name.upper()} or {secret.name.upper()}_FILE"


def lost(values: Values, on_disk: Mapping[str, str | None], made: Mapping[str, int]) -> list[Secret]:
    """The secrets that were made, are needed, and are gone: they must never be minted anew."""
    return [
        secret
        for secret in secrets_plan.applicable(values)
        if secret.name in made
        and not on_disk.get(secret.name)
        and secret.needed(values)
        and not (secret.theirs is not None and secret.theirs(values))
    ]


def has_moved(before: Given | None, values: Values) -> bool:
    """Whether the bundled database gives way to another server; `before` is the saved answer for DB_HOST."""
    return (before is None or before.text == BUNDLED_DATABASE) and external_database(values)


def left_behind(values: Values, on_disk: Mapping[str, str | None], given: Mapping[str, Given]) -> list[Secret]:
    """The credentials of the bundled database that would be used on the server that it just gave way to."""
    theirs = [
        secret for secret in secrets_plan.applicable(values) if secret.theirs is not None and secret.theirs(values)
    ]
    return [secret for secret in theirs if on_disk.get(secret.name) and secret.name not in given]


def contradicted(values: Values, on_disk: Mapping[str, str | None], given: Mapping[str, Given]) -> list[Secret]:
    """The bound secrets for which another value was given than the one that is in force."""
    found = []
    for secret in secrets_plan.applicable(values):
        current, said = on_disk.get(secret.name), given.get(secret.name)
        if current and said and secrets_plan.is_bound(secret, values) and not secrets_plan.same(said.text, current):
            found.append(secret)
    return found
