"""Note values that are well formed and yet cannot work, or do harm; nothing is refused for them."""

from __future__ import annotations

from setup.config.releases import FLOORS, refuse_pin
from setup.config.types import show
from setup.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from setup.config.values import Values

# Settings that name a server which containers connect to.
_SERVERS = (
    "DB_HOST", "SMTP_HOST", "TELEMETRY_S3_ENDPOINT_URL", "AVATAR_STORAGE_ENDPOINT_INTERNAL_URL",
    "AVATAR_AUTHENTIK_BLUEPRINT_API_WEBHOOK_URL",
)  # fmt: skip
# What asks a server outside, and the value with which it does not.
_OUTGOING = {"IS_SENTRY_ENABLED": False, "TELEMETRY_ENABLED": False, "COMPATIBILITY_MAPPING_URL": "disabled"}


def list_notes(values: Values) -> list[str]:
    """Return a sentence for each value that was given and that cannot work in this deployment."""
    return [
        *_note_short_host(values),
        *_note_loopback(values),
        *_note_everyone(values),
        *_note_airgapped(values),
        *_note_mail_port(values),
        *_note_old_images(values),
    ]


def _note_short_host(values: Values) -> Iterator[str]:
    url = values.computed("PUBLIC_URL")
    host = url.value.host if url else "localhost"
    if "." not in host and ":" not in host and host != "localhost":
        yield (
            f"PUBLIC_URL={host} has no dot: if browsers reach it only by a longer name, give that one, as in "
            f"{host}.example.com"
        )


def _note_loopback(values: Values) -> Iterator[str]:
    for key in _SERVERS:
        setting = values.computed(key) if values.given(key) else None
        host = _host_of(str(setting.value)) if setting else ""
        is_every = bool(host) and not host.strip("0.:")  # the address of every interface
        if is_every or host in ("localhost", "::1") or host.endswith(".localhost") or host.startswith("127."):
            yield (
                f"{key}={setting.value if setting else ''}: inside a container, {host} is the container itself: "
                "give a name or an address by which other machines reach that server"
            )


def _host_of(text: str) -> str:
    """Return the host of a URL, or of a text that is only a host."""
    authority = text.partition("://")[2].partition("/")[0] or text
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority if authority.count(":") > 1 else authority.partition(":")[0]


def _note_everyone(values: Values) -> Iterator[str]:
    networks = values.computed("TRUSTED_PROXIES")
    for network in networks.value if networks else ():
        if int(network.rpartition("/")[2]) < (7 if ":" in network else 8):  # wider than any private network
            yield (
                f"TRUSTED_PROXIES={network}: every client in it may then claim any address in X-Forwarded-For: "
                "give the network of the proxy, as in 10.0.0.0/8"
            )


def _note_airgapped(values: Values) -> Iterator[str]:
    preset = values.computed("PRESET")
    for key, quiet in _OUTGOING.items() if preset and preset.value == "airgapped" else ():
        setting = values.computed(key)
        if setting and setting.value != quiet:
            yield f"{key}={show(setting.value)}: PRESET=airgapped has no way there: remove {key} (--unset {key})"


def _note_mail_port(values: Values) -> Iterator[str]:
    port, implicit, start = map(values.computed, ("SMTP_PORT", "SMTP_USE_TLS", "SMTP_START_TLS"))
    if port and start and start.value and port.value == 465:
        yield (
            "SMTP_PORT=465 with SMTP_START_TLS=true: servers expect TLS from the start on this port: remove "
            "SMTP_USE_TLS and SMTP_START_TLS, which follow the port, or give port 587"
        )
    if port and implicit and implicit.value and port.value in (25, 587):
        yield (
            f"SMTP_PORT={port.value} with SMTP_USE_TLS=true: servers expect STARTTLS on this port: remove SMTP_USE_TLS "
            "and SMTP_START_TLS, which follow the port, or give port 465"
        )


def _note_old_images(values: Values) -> Iterator[str]:
    for key in FLOORS:
        setting = values.computed(key)
        refusal = refuse_pin(key, setting.value) if setting else ""
        if refusal:
            yield refusal
