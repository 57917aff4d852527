"""A deployment behind another proxy, with sign-in by user name, on a database server of somebody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import engine
from tests.support.stack import HOST, Stack, deployment
from tests.support.stack_contract import *  # noqa: F403 - the tests that every stack passes
from tests.unit.deploy.test_targets import secrets_of

pytestmark = pytest.mark.docker

ADMIN = {"DB_ADMIN_USER": "-;a=%I/-*{}#!", "DB_ADMIN_PASSWORD": """ it's "5 $5" \\ #no comment """}
HOSTILE = {
    "DB_NAME": """a'v "a" $t""",
    "DB_USER": "role; DROP DATABASE postgres; --",
    "DB_PASSWORD": """p'a"s\\s $w %I {{x}}""",
    "AUTHENTIK_DATABASE_NAME": """o'brien "x" $y \\ postgresql://evil/x""",
    "AUTHENTIK_DATABASE_USER": """r=o'l "e" $z\\ Ünïcödé 日本""",
    "AUTHENTIK_DATABASE_PASSWORD": """b  l anks :'name' `id` $(id) ${HOME}""",
    "ORGANIZATION_NAME": "Example & Söhne",
    "SMTP_USERNAME": "ada o'neill",
    "SMTP_PASSWORD": "mail secret $key #1",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of a PostgreSQL that stands on a network of its own and is published on it by the host.

    Services reach it as they would reach a server elsewhere: by way of the host, from their network `database`.
    """
    given = tmp_path_factory.mktemp("server")
    for key, text in ADMIN.items():
        (given / key).write_text(text)
    with engine.network() as network:
        address = engine.gateway(network)
        files = {"POSTGRES_USER_FILE": "DB_ADMIN_USER", "POSTGRES_PASSWORD_FILE": "DB_ADMIN_PASSWORD"}
        options = [option for key, name in files.items() for option in ("-e", f"{key}=/given/{name}")]
        options += ["-v", f"{given}:/given:ro", "--network", network, "-p", f"{address}:5432:5432"]
        with engine.container(engine.stand_ins()["postgres"], options=options) as name:
            ready = ("exec", name, "pg_isready", "-q", "-h", "127.0.0.1")
            engine.until("PostgreSQL is ready", lambda: engine.docker(*ready, check=False).returncode == 0)
            yield address


@pytest.fixture(scope="module")
def stack(server, tmp_path_factory) -> Iterator[Stack]:
    with deployment(tmp_path_factory.mktemp("behind-proxy")) as made:
        made.configure(
            PUBLIC_URL=f"https://{HOST}",
            ENV_NAME="example-prod",
            TLS_MODE="behind-proxy",
            NGINX_HTTP_PORT=str(made.port),
            TRUSTED_PROXIES="172.16.0.0/12,192.168.0.0/16",  # where engines place their networks
            DB_HOST=server,
            SMTP_HOST="mail.example.com",
            **ADMIN,
            **HOSTILE,
        )
        assert made.status()["ready"] is True
        made.up()
        yield made


def test_containers_find_hostile_secrets_as_they_were_given(stack: Stack) -> None:
    for service in ("api", "authentik_worker"):
        for name in secrets_of(stack.auth, stack.mail)[service]:
            if name.upper() in HOSTILE:
                assert stack.execute(service, "cat", f"/run/secrets/{name}") == HOSTILE[name.upper()]
