"""`--invite`: make a user of Avatar in Authentik, which then mails the link with which they choose a password."""

from __future__ import annotations

from setup.checks import network
from setup.client import Server, Untrusted, query
from setup.config import derived
from setup.config.engines import logs_of, start_commands, status_of
from setup.config.types import EMAIL
from setup.console import Answer
from setup.deploy import ending
from setup.environment import shell_word
from setup.errors import InputError, NetworkError, UsageError
from setup.formats.wrapping import unwrap
from setup.secrets.store import read_filled
from setup.typed import TYPE_CHECKING, Any, NamedTuple
from setup.volume.layout import CA_BUNDLE, secret_path
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from setup.config.values import Values
    from setup.configure import DeploymentConfigurator

_TOKEN = "authentik_bootstrap_token"  # noqa: S105 - its name
_STAGE = "avatar-recovery-email"  # as the blueprint names it


class Invitation(NamedTuple):
    """Who is invited, and into which group; administrators are internal users of Authentik, others external ones."""

    address: str
    group: str
    type: str

    @property
    def fields(self) -> dict[str, Any]:
        """The new user, as Authentik's API takes it."""
        names = {"username": self.address, "name": self.address, "email": self.address}
        return {**names, "type": self.type, "is_active": True, "groups": []}


def invite(configurator: DeploymentConfigurator, address: str, *, is_admin: bool, online: bool) -> Answer:
    """Make the user and send the mail if `online`; else print a script that does so on the host."""
    try:
        address = EMAIL.parse(address)
    except ValueError as error:
        raise UsageError(f"--invite: {error}, as in --invite ada@example.com") from None
    admins, users = derived.GROUPS_OF_AVATAR
    invitation = Invitation(address, admins, "internal") if is_admin else Invitation(address, users, "external")
    with Volume(configurator.output_dir) as volume:
        session, texts = configurator.saved_session(volume), read_filled(volume)
        resolution = session.resolve(texts)
        if not session.state.is_complete() or resolution.problems or resolution.missing or _TOKEN not in texts:
            raise InputError(f"{configurator.output_dir} holds no complete configuration yet: configure it first")
        values = resolution.values
        url, base = f"{values['SSO_PROVIDER_URL']}/api/v3/", derived.base_url(values)
        if not url.startswith(f"{base}/"):
            raise InputError(
                f"SSO_PROVIDER_URL={values['SSO_PROVIDER_URL']} is not this stack's Authentik: invite there"
            )
        if not online:
            lines = _script(invitation, ending.place_of(volume, configurator.environ), values)
            return Answer(lines, {"script": "\n".join([*lines, ""])})
        server = network.public_server(volume, values)
    authentik = _Authentik(server, url.removeprefix(base), unwrap(texts[_TOKEN]), values)
    return _perform(authentik, invitation, str(values["AVATAR_WEB_CLIENT_URL"]))


def _apply(values: Values) -> str:
    start, logs = " && ".join(start_commands(values, "")), logs_of(values, "authentik_blueprint")
    return f"{start} applies the blueprint again, and {logs} says what it lacks"


class _Authentik:
    """Speaks to Authentik's API as its first administrator."""

    def __init__(self, server: Server, path: str, token: str, values: Values) -> None:
        self._server, self._path, self._token, self._values = server, path, token, values
        self._logs, self.mail_logs = logs_of(values, "authentik_server"), logs_of(values, "authentik_worker")
        self.apply = _apply(values)

    def ask(self, path: str, fields: Mapping[str, Any] | None = None) -> Any:
        """Return what the API answers as data; raise NetworkError for everything but success."""
        base = derived.base_url(self._values)
        try:
            reply = self._server.ask(self._path + path, fields, {"Authorization": f"Bearer {self._token}"})
        except Untrusted as error:
            reason = f"has a certificate that is not trusted here: {error}. --check --online says what to do"
            raise NetworkError(f"{base} {reason}") from None
        except NetworkError as error:
            raise NetworkError(f"{base} does not answer: {error}. Is the stack up? {status_of(self._values)}") from None
        if reply.status in (401, 403):
            raise NetworkError(
                f"{secret_path(_TOKEN)}: Authentik does not accept this token ({reply.status}), which it takes at its "
                f"first start only. At {self._values['SSO_PROVIDER_URL']}/if/admin/, as {derived.FIRST_ACCOUNT}, make "
                "the user under Directory > Users, or give the bootstrap token the text of that file"
            )
        if reply.status in (502, 503, 504):
            raise NetworkError(f"Authentik does not answer ({reply.status}): {self._logs}")
        if not 200 <= reply.status < 300:
            reason = reply.body[:300].decode(errors="replace")
            raise NetworkError(f"{path.partition('?')[0]}: Authentik answers {reply.status}: {reason}. {self.apply}")
        return reply.data

    def find(self, path: str, **filters: str) -> list[dict[str, Any]]:
        """Return the objects of a list that have these fields."""
        data = self.ask(f"{path}?{query(filters)}")
        rows = data.get("results") if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise NetworkError(f"{path}: this is not what Authentik answers: {self._logs}")
        return rows


def _perform(authentik: _Authentik, invitation: Invitation, web: str) -> Answer:
    """Find everything that is needed before anything is made; what exists already is not made again."""
    address, group = invitation.address, invitation.group
    groups = authentik.find("core/groups/", name=group, include_users="false")
    stages = authentik.find("stages/email/", name=_STAGE)
    for found, what in ((groups, f"group {group}"), (stages, f"e-mail stage {_STAGE}")):
        if not found:
            raise NetworkError(f"Authentik has no {what}: {authentik.apply}")
    users = authentik.find("core/users/", email=address) or authentik.find("core/users/", username=address)
    if len(users) > 1:
        raise NetworkError(
            f"{address}: {len(users)} users have this address: correct that under Directory > Users first"
        )
    if users and not users[0]["is_active"]:
        raise NetworkError(f"{address}: the user exists and is deactivated: activate it under Directory > Users first")
    user = users[0] if users else authentik.ask("core/users/", invitation.fields)
    authentik.ask(f"core/groups/{groups[0]['pk']}/add_user/", {"pk": user["pk"]})
    stage = stages[0]["pk"]  # Authentik before 2026 reads it from the address, later releases from the body
    authentik.ask(f"core/users/{user['pk']}/recovery_email/?{query({'email_stage': stage})}", {"email_stage": stage})
    name = address if user["username"] == address else f"{address} ({user['username']})"
    lines = [
        f"{name} exists already, and is now in the group {group}." if users else f"Made {name} in the group {group}.",
        f"A mail with a link to choose a password is on its way. After that, sign-in is at {web}",
        f"If no mail arrives: {authentik.mail_logs}",
    ]
    return Answer(lines, {"email": address, "group": group, "created": not users, "mail": "sent"})


_FUNCTIONS = r"""
stop() { printf '%s\n' "$1" >&2; exit 1; }
ask() { # PATH [JSON]
    printf 'header = "Authorization: Bearer %s"\n' "$(sed 's/["\\]/\\&/g' TOKEN)" |
        curl -sS -f -m 30 -K - OPTIONS -H 'Content-Type: application/json' ${2:+-d "$2"} "$api$1"
}
key() { grep -o '"pk": *[^,}]*' | head -n 1 | tr -cd '0-9a-f-'; }
"""


def _script(invitation: Invitation, place: ending.Place, values: Values) -> list[str]:
    """Return a script of POSIX sh that does what `_perform` does, with curl; it reads the token where it is."""
    import json

    address, group, own = invitation.address, invitation.group, derived.has_private_ca(values)
    functions = _FUNCTIONS.replace("TOKEN", secret_path(_TOKEN))
    functions = functions.replace(" OPTIONS", f" --cacert {CA_BUNDLE}" if own else "")
    reasons = shell_word(
        f"Authentik does not answer, refuses the token, or lacks the group or the stage. {_apply(values)}"
    )
    return [
        "#!/bin/sh",
        f"# Makes {address} a user of Avatar, and lets Authentik mail the link to choose a password.",
        f"# Pipe this into {place.sudo}sh, on the host in {place.words}; or add --online.",
        "set -eu",
        *([f"cd {shell_word(place.host)}"] if place.host else []),
        f"api={shell_word(values['SSO_PROVIDER_URL'] + '/api/v3/')}",
        *functions.strip("\n").split("\n"),
        f"group=$(ask {shell_word('core/groups/?' + query({'name': group, 'include_users': 'false'}))} | key)",
        f"stage=$(ask {shell_word('stages/email/?' + query({'name': _STAGE}))} | key)",
        f"reasons={reasons}",
        '[ -n "$group" ] || stop "$reasons"',
        '[ -n "$stage" ] || stop "$reasons"',
        f"user=$(ask {shell_word('core/users/?' + query({'email': address}))} | key)",
        f'[ -n "$user" ] || user=$(ask core/users/ {shell_word(json.dumps(invitation.fields))} | key)',
        '[ -n "$user" ] || stop "The user was not made; the reason is above."',
        'ask "core/groups/$group/add_user/" "{\\"pk\\": $user}"',
        'ask "core/users/$user/recovery_email/?email_stage=$stage" "{\\"email_stage\\": \\"$stage\\"}"',
        f"echo {shell_word(f'A mail with a link to choose a password is on its way to {address}.')}",
    ]
