"""Decide which secrets a rotation concerns, and list what it breaks and what to type elsewhere; never a value; pure."""

from __future__ import annotations

import time

from setup.config.derived import bundled_database, database_is_verified, on_swarm
from setup.config.engines import command, engine_of
from setup.config.secrets import ENCRYPTING, GROUPS, SECRETS
from setup.config.values import Values
from setup.environment import shell_word
from setup.errors import InputError, UsageError
from setup.formats.wrapping import unwrap
from setup.secrets.plan import list_applicable
from setup.typed import TYPE_CHECKING, Any
from setup.volume.layout import secret_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from setup.config.model import Given, Secret

# psql takes the new password from its environment, and quotes it and the role's name itself.
_SQL = r"""export new="$(cat)"; printf '%s\n' '\set new `printenv new`' "ALTER ROLE :\"role\" PASSWORD :'new';" | """
STORAGE_KEY = "storage_admin_access_key_id"


def select_secrets(words: Iterable[str], values: Values) -> list[Secret]:
    """Return the secrets that names and groups mean, once each; raises InputError for words that mean none here."""
    selected: dict[str, Secret] = {}
    problems = []
    for word in words:
        if word not in SECRETS and word not in GROUPS:
            raise UsageError(
                f"--rotate: no such secret or group; groups are {', '.join(GROUPS)} (docs/reference/settings.md)"
            )
        is_known = False
        for secret in list_applicable(values):
            if word in (secret.name, secret.group) and secret.breaks:
                is_known, selected[secret.name] = True, secret
        if not is_known:
            problems.append(_explain_refusal(word, values))
    if problems:
        raise InputError(*problems)
    return list(selected.values())


def _explain_refusal(word: str, values: Values) -> str:
    if word in GROUPS or not SECRETS[word].when(values):
        return f"--rotate {word}: this deployment has none"
    if SECRETS[word].bound:
        return f"--rotate {word}: it is a name, not a password, and bound to {SECRETS[word].bound}"
    return f"--rotate {word}: it is not secret: run with {word.upper()}=VALUE to change it"


def list_refusals(secrets: Iterable[Secret], reencrypted: bool, given: Mapping[str, Given]) -> list[str]:
    """Say for each secret that data is encrypted with why it must not change."""
    problems = []
    for secret in secrets:
        if secret.name in ENCRYPTING and not (reencrypted and secret.name in given):
            key = secret.name.upper()
            problems.append(
                f"--rotate {secret.name}: {secret.breaks}. avatar-setup cannot re-encrypt that data: once you have, "
                f"give the new value as {key} or {key}_FILE, with --i-have-reencrypted"
            )
    return problems


def list_breaks(secrets: Iterable[Secret]) -> list[str]:
    """Say for each secret what a new value breaks."""
    return [f"{secret.name}: {secret.breaks}" for secret in secrets]


def list_commands_before(names: Iterable[str], values: Values, texts: Mapping[str, str], sudo: str) -> list[str]:
    """List what to type before the services restart: the roles of the database take their new passwords.

    The password goes through pipes and an environment that only root can read, never into a command line.
    """
    if bundled_database(values):
        tls, server = "", '-U "$(cat /run/secrets/db_admin_user)"'
        into = command(values, engine_of(values).inside, "db", sudo)
    else:
        tls = "" if values["DB_SSLMODE"] == "disable" else f"PGSSLMODE={values['DB_SSLMODE']} "
        if database_is_verified(values):
            tls += f"PGSSLROOTCERT={shell_word(str(values['TLS_CA_PATH']))} "
        address = f"-h {values['DB_HOST']} -p {values['DB_PORT']}"
        server, into = f'{address} -U "$({sudo}cat {secret_path("db_admin_user")})"', ""
    script = shell_word(f'{_SQL}{tls}psql -qX -v ON_ERROR_STOP=1 -v role="$1" {server} -d postgres')
    commands = []
    for name in names:
        if SECRETS[name].role:
            role = shell_word(unwrap(texts.get(SECRETS[name].role, "")))
            commands.append(f"{sudo}cat {secret_path(name)} | {into}sh -c {script} - {role}")
    return [*_elsewhere(values, "db"), *commands] if commands and into else commands


def _elsewhere(values: Values, service: str) -> list[str]:
    """Say how a command finds the container of a service on another node: only Swarm needs that."""
    service = f"avatar_{service}"
    line = f"# if docker service ps {service} names another node, type docker -H ssh://NODE in place of docker"
    return [line] if on_swarm(values) else []


def list_commands_after(names: Collection[str], old_keys: Iterable[str], values: Values, sudo: str) -> Iterator[str]:
    """List what to do once the services run with the new values; `old_keys` are the files of the old storage keys.

    Removing a key that the storage does not have changes nothing (SeaweedFS, weed/shell/command_s3_configure.go).
    """
    if STORAGE_KEY in names:
        yield "# the storage still accepts each old key until it is removed"
        yield from _elsewhere(values, "master")
        inside = command(values, engine_of(values).inside, "master", sudo)
        shell = f"{inside}weed shell -master=master:9333 -filer=filer:8888"
        for path in old_keys:
            yield f'echo "s3.configure -apply -delete -user power_user -access_key $({sudo}cat {path})" | {shell}'
    for name, secret in SECRETS.items():
        if name in names and secret.by_hand:
            yield f"# {secret.by_hand}"


def collect_ages(counts: Mapping[str, int], times: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return since when each secret that can be rotated has its value, by its file's time, and how many it has had."""
    ages = {}
    for name, secret in SECRETS.items():
        if secret.breaks and name in times:
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(times[name]))
            ages[name] = {"since": since, "values": counts.get(name, 0)}
    return ages


def format_ages(ages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Format the same for people, a line for each secret."""
    width = max(map(len, ages), default=0)
    lines = ["", "Secrets:"] if ages else []
    for name, age in ages.items():
        first = "generated" if SECRETS[name].generate else "given"
        word = f"rotated, value {age['values']}," if age["values"] > 1 else first
        lines.append(f"  {name:{width}}  {word} {age['since'][:10]}")
    return lines
