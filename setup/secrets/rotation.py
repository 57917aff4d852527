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

# Password -> the secret that names its role in the database.
ROLES = {
    "db_password": "db_user",
    "db_admin_password": "db_admin_user",
    "authentik_database_password": "authentik_database_user",
}
# Has psql take the new password from its environment, and quote it and the role's name itself.
_SQL = r"""export new="$(cat)"; printf '%s\n' '\set new `printenv new`' "ALTER ROLE :\"role\" PASSWORD :'new';" | """
_DATABASE = "loses its database until the role has the new password"
_MAIL = "mail fails unless the mail server knows the new one already"
_TELEMETRY = "telemetry fails unless Octopize's storage knows the new one already"
_STORAGE_KEY = "programs of yours that use the storage's key fail once the old one is removed"
_SIGN_IN = "who is signing in at that moment has to start again"
BREAKS = {
    "db_password": f"the API {_DATABASE}",
    "db_admin_password": "the services that set databases up fail until the role has the new password",
    "authentik_database_password": f"Authentik {_DATABASE}",
    "authentik_secret_key": "all sessions at Authentik end: people sign in again; links in mails sent before fail",
    "authjwt_secret_key": "all sessions and tokens of the API end: people sign in again, API clients need new tokens",
    "clevercloud_sso_salt": "sign-in links of Clever Cloud fail until it has the new salt",
    "file_jwt_secret_key": "links to files that were handed out before fail",
    "pepper": "nobody can sign in: it is mixed into every stored password",
    "file_encryption_key": "every stored file becomes unreadable",
    "storage_encryption_key": "every stored object becomes unreadable",
    "storage_admin_access_key_id": _STORAGE_KEY,
    "storage_admin_secret_access_key": _STORAGE_KEY,
    "seaweedfs_admin_password": "the admin page of SeaweedFS wants the new one",
    "sso_client_id": _SIGN_IN,
    "sso_client_secret": _SIGN_IN,
    "authentik_bootstrap_password": "nothing by itself: Authentik read the old one at its first start and keeps it",
    "authentik_bootstrap_token": "nothing by itself: Authentik read the old one at its first start and keeps it",
    "authentik_api_token": "programs of yours that use this token fail",
    "authentik_webhook_secret": "user events are refused until both sides run with the new one",
    "avatar_first_user_password": "nothing by itself: the first user's account keeps its password",
    "aws_mail_account_access_key_id": _MAIL,
    "aws_mail_account_secret_access_key": _MAIL,
    "smtp_password": _MAIL,
    "telemetry_s3_access_key_id": _TELEMETRY,
    "telemetry_s3_secret_access_key": _TELEMETRY,
}
_BY_HAND = {
    "authentik_bootstrap_password": "sign in to Authentik as akadmin and change the password there",
    "authentik_bootstrap_token": "in Authentik, under Tokens, replace akadmin's bootstrap token",
    "avatar_first_user_password": "change the first user's password in Avatar",
    "clevercloud_sso_salt": "give the new salt to Clever Cloud",
    "authjwt_secret_key": "API clients and notebooks sign in again",
}


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
        found = {name: there[name] for name in names if name in there and name in BREAKS}
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
                f"--rotate {secret.name}: {BREAKS[secret.name]}, and nothing here re-encrypts it. Once that is done, "
                f"give the new value as {secret.name.upper()} or {secret.name.upper()}_FILE, with --i-have-reencrypted"
            )
    return problems


def breaks(secrets: Iterable[Secret]) -> list[str]:
    """A line for each secret: what a new value breaks."""
    return [f"  {secret.name}: {BREAKS[secret.name]}" for secret in secrets]


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
        f"{sudo}cat {secrets_plan.path_of(name)} | {into}sh -c {script} - {_word(texts.get(ROLES[name], ''))}"
        for name in names
        if name in ROLES
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
    yield from (f"# {words}" for name, words in _BY_HAND.items() if name in names)


def ages(counts: Mapping[str, int], times: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Since when each secret that can be rotated has its value, by its file's own time, and how many it has had."""
    return {
        name: {"since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(times[name])), "values": counts.get(name, 0)}
        for name in BREAKS
        if name in times
    }


def age_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The same for people, a line a secret."""
    width = max(map(len, found), default=0)
    lines = []
    for name, one in found.items():
        word = f"rotated, value {one['values']}," if one["values"] > 1 else "made"
        lines.append(f"  {name:{width}}  {word} {one['since'][:10]}")
    return ["", "Secrets:", *lines] if lines else []
