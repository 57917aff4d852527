"""A deployment behind another proxy, on a database server of somebody else's, which takes connections by TLS only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import engine, pki
from tests.support.runs import secrets
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


# As root, which alone may give the key to PostgreSQL's user.
START = """\
install -o postgres -g postgres -m 0600 /given/server.key /given/server.crt /given/hba /tmp/
exec docker-entrypoint.sh postgres -c ssl=on -c ssl_cert_file=/tmp/server.crt -c ssl_key_file=/tmp/server.key \
    -c hba_file=/tmp/hba -c log_connections=on
"""


class Server(NamedTuple):
    """A PostgreSQL outside of the stack, and the CA that signed its certificate."""

    address: str
    container: str
    authority: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A PostgreSQL that stands on a network of its own and is published on it by the host.

    Services reach it as they would reach a server elsewhere: by way of the host, from their network `database`.
    """
    given = tmp_path_factory.mktemp("server")
    for key, text in ADMIN.items():
        (given / key).write_text(text)
    with engine.network() as network:
        address = engine.gateway(network)
        authority = pki.issue("Company CA", authority=True)
        certificate = pki.issue("database", authority, names=[address])
        (given / "ca.crt").write_bytes(authority.pem)
        (given / "server.crt").write_bytes(certificate.pem)
        (given / "server.key").write_bytes(certificate.private())
        (given / "hba").write_text("local all all trust\nhostssl all all all scram-sha-256\n")
        files = {"POSTGRES_USER_FILE": "DB_ADMIN_USER", "POSTGRES_PASSWORD_FILE": "DB_ADMIN_PASSWORD"}
        options = [option for key, name in files.items() for option in ("-e", f"{key}=/given/{name}")]
        options += ["-v", f"{given}:/given:ro", "--network", network, "-p", f"{address}:5432:5432"]
        options += ["--entrypoint", "sh"]
        with engine.container(engine.stand_ins()["postgres"], "-euc", START, options=options) as name:
            ready = ("exec", name, "pg_isready", "-q", "-h", "127.0.0.1")
            engine.until("PostgreSQL is ready", lambda: engine.docker(*ready, check=False).returncode == 0)
            yield Server(address, name, given / "ca.crt")


@pytest.fixture(scope="module")
def stack(server, tmp_path_factory) -> Iterator[Stack]:
    with deployment(tmp_path_factory.mktemp("behind-proxy")) as made:
        (made.out / "company-ca.crt").write_bytes(server.authority.read_bytes())
        made.configure(
            PUBLIC_URL=f"https://{HOST}",
            ENV_NAME="example-prod",
            TLS_MODE="behind-proxy",
            NGINX_HTTP_PORT=str(made.port),
            TRUSTED_PROXIES="172.16.0.0/12,192.168.0.0/16",  # where engines place their networks
            DB_HOST=server.address,
            DB_SSLMODE="verify-full",
            TLS_CA_PATH="./company-ca.crt",
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


# --- The database by TLS ----------------------------------------------------------------------------------


def test_every_connection_to_the_database_is_encrypted(server: Server, stack: Stack) -> None:
    opened = [line for line in engine.logs(server.container).splitlines() if "connection authorized" in line]
    plain = [line for line in opened if "SSL enabled (protocol=TLSv1.3" not in line]
    assert plain == []
    texts = secrets(stack.out)
    for user in (texts["db_user"], texts["db_admin_user"], texts["authentik_database_user"]):
        assert [line for line in opened if f"user={user} database=" in line]


@pytest.mark.parametrize(("other", "complaint"), [("ca", "certificate verify failed"), ("name", "does not match")])
def test_a_server_that_cannot_be_verified_gets_no_password(
    server: Server, stack: Stack, tmp_path: Path, other: str, complaint: str
) -> None:
    """Not one that another CA has signed, nor one whose certificate names another host."""
    (tmp_path / "other.crt").write_bytes(pki.issue("Another CA", authority=True).pem)
    mounted = ("-v", f"{tmp_path}/other.crt:/other.crt:ro")
    seen = len(engine.logs(server.container))
    for service, prefix in (("authentik_init_db", "PG"), ("authentik_blueprint", "AUTHENTIK_POSTGRESQL__")):
        told = {
            "ca": ["-e", f"{prefix}SSLROOTCERT=/other.crt"],
            "name": ["-e", f"{prefix}HOST=another.test", "-e", f"PGHOSTADDR={server.address}"],
        }[other]
        said = stack.compose("run", "--rm", "-T", "--no-deps", *mounted, *told, service, check=False)
        assert complaint in said, f"{service}: {said}"
    assert "connection authorized" not in engine.logs(server.container)[seen:]
