"""A canary for every secret: a value that stands nowhere else, and the look for it, however it was encoded."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import secrets as randomness
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from setup.config.secrets import SECRETS
from setup.volume.layout import ENV, HISTORY, KUBERNETES_ENV, SECRETS_FOLDER, SWARM_FILES
from tests.support.runs import REQUIRED, WRITTEN, paths

# Two deployments in which, together, every secret has its place.
BY_MAIL = REQUIRED | {
    "SMTP_HOST": "mail.example.com", "SMTP_USERNAME": "avatar", "TELEMETRY_ENABLED": "true",
    "TELEMETRY_S3_BUCKET_NAME": "example-telemetry", "AUTHENTIK_BOOTSTRAP_EMAIL": "root@example.com",
}  # fmt: skip
BY_NAME = REQUIRED | {"AUTH_TYPE": "username", "MAIL_PROVIDER": "aws", "AVATAR_API_VERSION": "2.30.0"}
ON_SWARM = BY_MAIL | {"TARGET": "swarm", "TLS_MODE": "self-signed"}
ON_KUBERNETES = BY_MAIL | {"TARGET": "kubernetes", "TLS_MODE": "self-signed"}
DEPLOYMENTS = {"by-mail": BY_MAIL, "by-name": BY_NAME, "on-swarm": ON_SWARM, "on-kubernetes": ON_KUBERNETES}
_SHOWING = {ENV, *SWARM_FILES, KUBERNETES_ENV}  # the files that show secrets, those that the catalogue says are shown

# Asked in the open, as they are no passwords: an operator reads them on the screen while typing.
OPEN = frozenset(name for name, secret in SECRETS.items() if not secret.masked)


class Canary(NamedTuple):
    """A secret's value; `token` survives every quoting, as it is made of letters and digits only."""

    text: str
    token: str


def _shaped(kind: str, token: str) -> str:
    """A value of this kind with the token in it."""
    shapes = {
        "hex key": token.ljust(64, "0"),
        "Fernet key": token.ljust(43, "A") + "=",
        "storage key": f"{token}/+",
        "role": token,
        "e-mail addresses": f"{token}@example.com",
        "text": f"{token} $1 'b' \"c\" #d \\e",
    }
    return shapes[kind]


def canaries() -> dict[str, Canary]:
    """Name -> canary, new in every call."""
    made = {}
    for name, secret in SECRETS.items():
        token = "ca" + randomness.token_hex(12)
        made[name] = Canary(token if secret.bound and not secret.masked else _shaped(secret.kind.name, token), token)
    return made


@functools.cache
def _traces(canary: Canary) -> tuple[bytes, ...]:
    """What would give a canary away: itself, its base64, hexadecimal or reversed form, a hash of it alone."""
    token, text = canary.token.encode(), canary.text.encode()
    traces = [token, token[::-1], token.hex().encode()]
    traces += [base64.b64encode(b"x" * shift + token)[4:-4] for shift in range(3)]
    traces += [hashlib.sha256(whole).hexdigest().encode() for whole in (text, text + b"\n", token)]
    return tuple(trace.lower() for trace in traces)


def seen(data: bytes | str, wanted: Mapping[str, Canary]) -> set[str]:
    """The names of the secrets of which there is a trace."""
    lower = (data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data).lower()
    return {name for name, canary in wanted.items() if any(trace in lower for trace in _traces(canary))}


def environment(wanted: Mapping[str, Canary]) -> dict[str, str]:
    return {name.upper(): canary.text for name, canary in wanted.items()}


def places(out: Path, wanted: Mapping[str, Canary]) -> set[tuple[str, str]]:
    """Every file of a deployment, and each canary in it, but for those where a secret belongs.

    Those are its own file, and `.env` and what Swarm or Kubernetes read in its place for one that the catalogue says is
    shown there; and the same where the deployment is kept as it was, and as it was written last.
    """
    found = set()
    closed = not (out / HISTORY).exists() or (out / HISTORY).stat().st_mode & 0o077 == 0
    for path in paths(out):
        where = str(path.relative_to(out))
        origin = re.sub(rf"^{re.escape(HISTORY)}/[^/]+/", "", where) if closed else where
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        for name in seen(data, wanted) | seen(where, wanted):
            shown = origin.removeprefix(f"{WRITTEN}/").removesuffix(".new") in _SHOWING and SECRETS[name].shown
            if origin != f"{SECRETS_FOLDER}/{name}" and not shown:
                found.add((where, name))
    return found
