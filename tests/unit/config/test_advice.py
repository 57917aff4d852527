"""Values that are well formed and cannot work get a note, and the usual ones get none."""

from __future__ import annotations

import pytest

from setup.config.advice import list_notes
from tests.support.deployments import MAIL, values

DOUBTFUL = {
    "database": ({"DB_HOST": "localhost"}, "DB_HOST=localhost"),
    "database by address": ({"DB_HOST": "127.0.0.1"}, "127.0.0.1 is the container itself"),
    "database by IPv6": ({"DB_HOST": "::1"}, "DB_HOST=::1"),
    "mail": ({"SMTP_HOST": "127.0.1.1"}, "SMTP_HOST=127.0.1.1"),
    "mail by a name below localhost": ({"SMTP_HOST": "mail.localhost"}, "mail.localhost is the container itself"),
    "storage": ({"AVATAR_STORAGE_ENDPOINT_INTERNAL_URL": "http://localhost:8333"}, "http://localhost:8333"),
    "storage by IPv6": ({"AVATAR_STORAGE_ENDPOINT_INTERNAL_URL": "http://[::1]:8333"}, "::1 is the container itself"),
    "webhook": (
        {"AVATAR_AUTHENTIK_BLUEPRINT_API_WEBHOOK_URL": "http://localhost:8000/internal/authentik/user-events"},
        "AVATAR_AUTHENTIK_BLUEPRINT_API_WEBHOOK_URL",
    ),
    "proxies": ({"TLS_MODE": "behind-proxy", "TRUSTED_PROXIES": "10.0.0.0/8,0.0.0.0/0"}, "TRUSTED_PROXIES=0.0.0.0/0"),
    "IPv6 proxies": ({"TLS_MODE": "behind-proxy", "TRUSTED_PROXIES": "::/0"}, "TRUSTED_PROXIES=::/0"),
    "half of everyone": ({"TLS_MODE": "behind-proxy", "TRUSTED_PROXIES": "128.0.0.0/1"}, "TRUSTED_PROXIES=128.0.0.0/1"),
    "STARTTLS on the port of TLS": (
        MAIL | {"SMTP_PORT": "465", "SMTP_START_TLS": "true"},
        "SMTP_PORT=465 with SMTP_START",
    ),
    "mail port": (MAIL | {"SMTP_USE_TLS": "true", "SMTP_START_TLS": "false"}, "SMTP_PORT=587 with SMTP_USE_TLS=true"),
}
USUAL = {
    "defaults": {},
    "database": {"DB_HOST": "db.example.com"},
    "a name that only begins so": {"DB_HOST": "localhost.example.com", "SMTP_HOST": "127-0-0-1.example.com"},
    "mail": MAIL,
    "implicit TLS": MAIL | {"SMTP_PORT": "465"},
    "proxies": {"TLS_MODE": "behind-proxy", "TRUSTED_PROXIES": "10.0.0.0/8,2001:db8::/32,fc00::/7"},
    "proxies that do not apply": {"TLS_MODE": "self-signed", "TRUSTED_PROXIES": "0.0.0.0/0"},
    "storage by its address": {"AVATAR_STORAGE_ENDPOINT_INTERNAL_URL": "http://[2001:db8::1]:8333"},
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_cannot_work_is_noted(name: str) -> None:
    settings, words = DOUBTFUL[name]
    (note,) = list_notes(values(**settings))
    assert words in note


@pytest.mark.parametrize("name", USUAL)
def test_what_is_usual_is_not_noted(name: str) -> None:
    assert list_notes(values(**USUAL[name])) == []
