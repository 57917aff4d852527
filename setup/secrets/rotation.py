"""Which secrets a rotation concerns, what it breaks and what is to be done elsewhere: words, never a value; pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from setup.config.derived import bundled_database
from setup.config.secrets import ENCRYPTING, GROUPS, SECRETS
from setup.config.values import Values
from setup.environment import shell_word
from setup.errors import InputError, UsageError
from setup.secrets import plan as secrets_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from setup.config.model import Given, Secret

# Has psql take the new password from its environment, and quote it and the role's name itself.
_SQL = r"""export new="$(cat)"; printf '%s\n' '\set new `printenv new`' "ALTER ROLE :\"role\" PASSWORD :'new';" | """


def select(words: Iterable[str], values: Values) -> list[Secret]:
    """The secrets that these names and groups mean, once each; every word that means none is named."""
    chosen: dict[str, Secret] = {}
    there = {secret.name: secret for secret in secrets_plan.list_applicable(values)}
    problems = []
    for word in words:
        if word not in SECRETS and word not in GROUPS:
            raise UsageError(
                f"--rotate: there is no such secret or group; groups are {', '.join(GROUPS)} (docs/settings.md)"
            )
        names = [word] if word in SECRETS else [name for name, secret in SECRETS.items() if secret.group == word]
        found = {name: there[name] for name in names if name in there and SECRETS[name].breaks}
        chosen |= found
        if not found:
            problems.append(_why_not(word, word in there))
    if problems:
        raise InputError(*problems)
    return list(chosen.values())


def _why_not(word: str, is_there: bool) -> str:
    if not is_there:
        return f"--rotate {word}: this deployment has none"
    if SECRETS[word].bound:
        return f"--rotate {word}: it is a name, not a password, and bound to {SECRETS[word].bound}"
    return f"--rotate {word}: it is not secret: run with {word.upper()}=VALUE to change it"


def refusals(secrets: Iterable[Secret], reencrypted: bool, given: Mapping[str, Given]) -> list[str]:
    """Why a secret that data is encrypted with must not change."""
    problems = []
    for secret in secrets:
        if secret.name in ENCRYPTING and not (reencrypted and secret.name in given):
            problems.append(
                f"--rotate {secret.name}: {secret.breaks}, and nothing here re-encrypts it. Once that is done, "
                f"give the new value as {secret.name.upper()} or {secret.name.upper()}_FILE, with --i-have-reencrypted"
            )
    return problems


def breaks(secrets: Iterable[Secret]) -> list[str]:
    """A line for each secret: what a new value breaks."""
    return [f"  {secret.name}: {secret.breaks}" for secret in secrets]


def before_up(names: Iterable[str], values: Values, texts: Mapping[str, str], sudo: str) -> list[str]:
    """What to type before the services start again: the roles of the database take their new passwords.

    The password goes through pipes and an environment that only root can read, never into a command line.
    """
    if bundled_database(values):
        server, into = '-U "$(cat /run/secrets/db_admin_user)"', f"{sudo}docker compose exec -T db "
    else:
        server, into = f'-h {values["DB_HOST"]} -U "$({sudo}cat {secrets_plan.path_of("db_admin_user")})"', ""
    script = shell_word(f'{_SQL}psql -qX -v ON_ERROR_STOP=1 -v role="$1" {server} -d postgres')
    return [
        f"{sudo}cat {secrets_plan.path_of(name)} | {into}sh -c {script} - {_word(texts.get(SECRETS[name].role, ''))}"
        for name in names
        if SECRETS[name].role
    ]


def _word(text: str) -> str:
    return shell_word(text.removesuffix("\n"))


def after_up(names: Iterable[str], copy: str, sudo: str) -> Iterator[str]:
    """What to do once the services run with the new values."""
    names = set(names)
    if "storage_admin_access_key_id" in names:
        old = f"{sudo}cat {copy}/{secrets_plan.path_of('storage_admin_access_key_id')}"
        yield "# the storage still knows the old key: remove it"
        yield (
            f'echo "s3.configure -apply -delete -user power_user -access_key $({old})" | {sudo}docker compose exec -T '
            "master weed shell -master=master:9333 -filer=filer:8888"
        )
    yield from (f"# {secret.by_hand}" for name, secret in SECRETS.items() if name in names and secret.by_hand)


def ages(counts: Mapping[str, int], times: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Since when each secret that can be rotated has its value, by its file's own time, and how many it has had."""
    return {
        name: {"since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(times[name])), "values": counts.get(name, 0)}
        for name, secret in SECRETS.items()
        if secret.breaks and name in times
    }


def age_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The same for people, a line a secret."""
    width = max(map(len, found), default=0)
    lines = []
    for name, one in found.items():
        word = f"rotated, value {one['values']}," if one["values"] > 1 else "made"
        lines.append(f"  {name:{width}}  {word} {one['since'][:10]}")
    return ["", "Secrets:", *lines] if lines else []
