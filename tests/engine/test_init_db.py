"""The script that makes Authentik's database, against a real PostgreSQL, with names meant to break it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from tests.support import engine
from tests.unit.deploy.test_targets import interpolated, services

pytestmark = pytest.mark.docker

ADMIN, ADMIN_PASSWORD = "the admin", 'admin\'s "password" $1 \\'


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL."""

    name: str
    network: str

    def sql(self, text: str, database: str = "postgres", user: str = ADMIN, password: str = ADMIN_PASSWORD) -> str:
        """What `psql` prints for this SQL, signed in over the network as a client would be."""
        variables = {"PGHOST": "db", "PGUSER": user, "PGPASSWORD": password, "PGDATABASE": database}
        options = [option for key, value in variables.items() for option in ("-e", f"{key}={value}")]
        run = ("exec", "-i", *options, self.name, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
        return engine.docker(*run, input=text.encode()).stdout.decode().rstrip("\n")


@dataclass(frozen=True)
class Names:
    """The secrets of `authentik_init_db`."""

    authentik_database_name: str = "authentik"
    authentik_database_user: str = "authentikuser"
    authentik_database_password: str = "0f" * 32
    db_admin_user: str = ADMIN
    db_admin_password: str = ADMIN_PASSWORD


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    (directory / "user").write_text(ADMIN)
    (directory / "password").write_text(ADMIN_PASSWORD)
    options = ["-e", "POSTGRES_USER_FILE=/given/user", "-e", "POSTGRES_PASSWORD_FILE=/given/password"]
    options += ["-v", f"{directory}:/given:ro", "--network-alias", "db", "--network"]
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(engine.network())
        name = stack.enter_context(engine.container(engine.stand_ins()["postgres"], options=[*options, network]))
        ready = ("exec", name, "pg_isready", "-q", "-h", "127.0.0.1", "-d", "postgres", "-U", ADMIN)
        engine.until("PostgreSQL is ready", lambda: engine.docker(*ready, check=False).returncode == 0)
        yield Server(name, network)


def run(server: Server, tmp_path: Path, names: Names, shell: tuple[str, ...] = ()) -> tuple[int, str]:
    """Runs the service as compose would; its exit status and what it said."""
    for secret, text in asdict(names).items():
        (tmp_path / secret).write_text(text + "\n")
    entry = services("usual")["authentik_init_db"]
    entrypoint = [*(shell or entry["entrypoint"][:1]), *entry["entrypoint"][1:]]
    variables = {key: interpolated(text, {"DB_HOST": "db"}) for key, text in entry["environment"].items()}
    options = [option for key, value in variables.items() for option in ("-e", f"{key}={value}")]
    options += [
        "-v",
        f"{tmp_path}:/run/secrets:ro",
        "--network",
        server.network,
        "--entrypoint",
        entrypoint[0],
    ]
    script = interpolated(entry["command"][0], {})
    done = engine.docker(
        "run", "--rm", *options, engine.stand_ins()["postgres"], *entrypoint[1:], script, check=False, timeout=60
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def literal(text: str) -> str:
    return "U&'" + "".join(f"\\+{ord(char):06X}" for char in text) + "'"


def owner(server: Server, database: str) -> str:
    return server.sql(f"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = {literal(database)}")


def extensions(server: Server, database: str) -> set[str]:
    return set(server.sql("SELECT extname FROM pg_extension", database).split()) - {"plpgsql"}


def password_hash(server: Server, role: str) -> str:
    return server.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = {literal(role)}")


HOSTILE = (
    "authentik",
    """o'brien "x" $y""",
    "a=b host=evil",
    "postgresql://evil/x",
    "\\",
    "ends with \\",
    ":'name' :\"name\" :name",
    "'; DROP DATABASE postgres; --",
    '"; DROP ROLE "the admin"; --',
    "$(touch /tmp/x) `id` $$ ${HOME}",
    "%I %L %s %%",
    " blanks ",
    "-h",
    "UPPER lower",
    "select",
    "Ünïcödé 日本",
    "{{x}} #y !z *",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_twice(server, tmp_path, hostile):
    names = Names(hostile, f"role {hostile}", f"{hostile} password")
    for _ in range(2):
        assert run(server, tmp_path, names) == (0, "")
        assert owner(server, hostile) == f"role {hostile}"
        assert extensions(server, hostile) == {"uuid-ossp", "citext"}
        as_authentik = {"user": names.authentik_database_user, "password": names.authentik_database_password}
        made = server.sql("CREATE TABLE IF NOT EXISTS t (); SELECT current_user", hostile, **as_authentik)
        assert made == f"role {hostile}"
    assert server.sql("SELECT count(*) FROM pg_roles WHERE rolsuper") == "1"


def test_busybox_runs_it_too(server, tmp_path):
    """The shell of the real image, which is built on Alpine."""
    names = Names("""by busybox's "x" $y""", "busybox's role", "p'w")
    assert run(server, tmp_path, names, shell=("busybox", "sh")) == (0, "")
    assert owner(server, names.authentik_database_name) == "busybox's role"


def test_names_longer_than_postgresql_keeps(server, tmp_path):
    names = Names("database " + "é" * 60, "role " + "x" * 90, "p" * 300)
    for _ in range(2):
        status, words = run(server, tmp_path, names)
        assert status == 0, words


def test_a_role_that_exists_keeps_its_password(server, tmp_path):
    names = Names("another", "shared role", "first password")
    assert run(server, tmp_path, names)[0] == 0
    before = password_hash(server, "shared role")
    status, words = run(server, tmp_path, replace(names, authentik_database_password="second password"))
    assert status == 1
    assert "authentik_database_user exists, but not with authentik_database_password" in words
    assert "second password" not in words
    assert password_hash(server, "shared role") == before


def test_a_database_that_exists_keeps_its_owner(server, tmp_path):
    server.sql("CREATE ROLE somebody LOGIN; CREATE DATABASE theirs OWNER somebody;")
    assert run(server, tmp_path, Names("theirs", "another role"))[0] == 0
    assert owner(server, "theirs") == "somebody"
    assert extensions(server, "theirs") == {"uuid-ossp", "citext"}


def test_the_admin_as_authentiks_role_is_left_alone(server, tmp_path):
    before = password_hash(server, ADMIN)
    assert run(server, tmp_path, Names("of the admin", ADMIN))[0] == 1
    assert password_hash(server, ADMIN) == before
    assert run(server, tmp_path, Names("of the admin", ADMIN, ADMIN_PASSWORD)) == (0, "")


def test_an_administrator_that_is_no_superuser_suffices(server, tmp_path):
    """As on a managed server."""
    server.sql("CREATE ROLE managed LOGIN CREATEROLE CREATEDB PASSWORD 'managed'")
    names = Names("managed db", "managed role", "p", "managed", "managed")
    for _ in range(2):
        status, words = run(server, tmp_path, names)
        assert status == 0, words
    assert owner(server, "managed db") == "managed role"
    assert extensions(server, "managed db") == {"uuid-ossp", "citext"}


@pytest.mark.parametrize("wrong", [{"db_admin_password": "wrong"}, {"db_admin_user": "nobody"}])
def test_it_fails_where_the_administrator_cannot_sign_in(server, tmp_path, wrong):
    status, words = run(server, tmp_path, replace(Names("never made"), **wrong))
    assert status != 0
    assert "authentication failed" in words
    assert owner(server, "never made") == ""
