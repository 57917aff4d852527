"""A deployment without TLS, made by the documented init service, held up by the preflight, and changed later."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support import engine, page_commands
from tests.support.documents import read_yaml
from tests.support.runs import secrets
from tests.support.stack import HOST, Stack, deployment
from tests.support.stack_contract import *  # noqa: F403 - the tests that every stack passes
from tests.unit.deploy.test_targets import API_SERVICES, NETWORKS

pytestmark = pytest.mark.docker

DOCUMENT = engine.ROOT / "docs" / "install" / "init-service.compose.yaml"
SMTP_PASSWORD = """it's "5 $5" \\  #no comment"""


def configure_by_init_service(stack: Stack, **settings: str) -> None:
    """The first command of docs/install/automated.md, with these settings in the init service's environment."""
    engine.image()
    document = read_yaml(DOCUMENT.read_text())
    environment = document["services"]["avatar-setup"]["environment"]
    stack.settings = environment | stack.settings | settings
    environment |= stack.settings
    (stack.directory / "smtp-password").write_text(SMTP_PASSWORD)
    (stack.directory / DOCUMENT.name).write_text(yaml.safe_dump(document))
    init = ("compose", "-p", f"{stack.project}-init", "-f", DOCUMENT.name)
    try:
        engine.docker(*init, "up", "-d", cwd=stack.directory)
    finally:
        engine.docker(*init, "down", "-v", cwd=stack.directory, check=False)


class HeldUp(NamedTuple):
    """What was seen of a deployment that waits for a secret: what compose and the preflight said, and containers."""

    stack: Stack
    said: str
    log: str
    containers: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def held_up(tmp_path_factory) -> Iterator[HeldUp]:
    with deployment(tmp_path_factory.mktemp("plain")) as made:
        settings = {"PUBLIC_URL": f"http://{HOST}:{made.port}", "DB_ADMIN_USER": "-;a=%I/-*{}#!"}
        settings |= {"SMTP_USERNAME": "12345678", "POSTGRES_IMAGE": engine.stand_ins()["older postgres"]}
        override = made.directory / "volumes.json"  # whose volume of the database follows DB_VOLUME
        override.write_text(
            override.read_text().replace(f"{made.project}-postgres_data", f"{made.project}-${{DB_VOLUME}}")
        )
        # An empty variable says nothing.
        configure_by_init_service(made, **settings, ORGANIZATION_NAME="", PREFLIGHT_IMAGE=engine.IMAGE)
        with pytest.raises(AssertionError) as refused:
            made.compose("up", "-d", "--wait")
        containers = made.every_container()
        yield HeldUp(made, str(refused.value), engine.logs(containers["preflight"]["Id"]), containers)


@pytest.fixture(scope="module")
def stack(held_up) -> Stack:
    made: Stack = held_up.stack
    (made.out / ".secrets" / "organization_name").write_text("Example & Söhne\n")
    made.up()
    return made


def test_a_pending_secret_keeps_every_service_from_starting(held_up: HeldUp) -> None:
    assert "preflight" in held_up.said
    assert "didn't complete successfully" in held_up.said
    fails = [line for line in held_up.log.splitlines() if line.startswith("fail")]
    assert len(fails) == 1
    assert ".secrets/organization_name" in fails[0]
    assert [name for name, text in secrets(held_up.stack.out).items() if len(text) > 12 and text in held_up.log] == []
    states = {service: entry["State"] for service, entry in held_up.containers.items()}
    preflight = states.pop("preflight")
    assert (preflight["Status"], preflight["ExitCode"]) == ("exited", 3)
    assert {service: state["Status"] for service, state in states.items()} == dict.fromkeys(NETWORKS, "created")


def test_the_preflight_passes_once_it_is_filled(stack: Stack) -> None:
    assert (stack.out / ".secrets" / "organization_name").read_text() == "Example & Söhne\n"
    assert stack.every_container()["preflight"]["State"]["ExitCode"] == 0


def test_the_preflight_sees_the_tree_and_nothing_else_as_its_owner(stack: Stack) -> None:
    entry = stack.every_container()["preflight"]
    assert [(mount["Source"], mount["RW"]) for mount in entry["Mounts"]] == [(str(stack.out), False)]
    assert list(entry["NetworkSettings"]["Networks"]) == ["none"]
    status = stack.out.stat()
    assert entry["Config"]["User"] == f"{status.st_uid}:{status.st_gid}"


def test_a_value_with_quotes_and_dollars_reaches_a_process_as_it_was_given(stack: Stack) -> None:
    assert stack.execute("api", "printenv", "SMTP_PASSWORD") == SMTP_PASSWORD + "\n"


# --- Day two: the same file with another value, and the same two commands ---------------------------------


def signed_in(stack: Stack) -> tuple[str, str, str]:
    texts = secrets(stack.out)
    return texts["db_user"], texts["db_password"], texts["db_name"]


def test_a_changed_setting_recreates_the_services_that_read_it_and_the_data_stays(stack: Stack) -> None:
    before = secrets(stack.out)
    before["organization_name"] = before["organization_name"].removesuffix("\n")  # of the shell that filled it
    stack.sql("CREATE TABLE kept AS SELECT 42 AS answer", *signed_in(stack))
    with stack.recreating(*API_SERVICES):
        configure_by_init_service(stack, LOG_LEVEL="DEBUG")
        stack.up()
    assert stack.execute("dask-worker", "printenv", "LOG_LEVEL") == "DEBUG\n"
    assert secrets(stack.out) == before
    assert stack.sql("SELECT answer FROM kept", *signed_in(stack)) == "42"


def test_a_changed_file_and_a_changed_secret_recreate_those_that_mount_them(stack: Stack) -> None:
    with stack.recreating("nginx", "admin"):
        configure_by_init_service(stack, TLS_EXTRA_NAMES="more.test", SEAWEEDFS_ADMIN_PASSWORD="another one")
        stack.up()
    assert stack.client.ask("/web", host="more.test").seen["service"] == "web"
    assert stack.execute("admin", "cat", "/run/secrets/seaweedfs_admin_password") == "another one"
    assert stack.sql("SELECT answer FROM kept", *signed_in(stack)) == "42"


def test_more_containers_share_the_requests(stack: Stack) -> None:
    configure_by_init_service(stack, REPLICAS_API="2", REPLICAS_DASK_WORKER="2", MEMORY_DASK_WORKER="1g")
    stack.up()
    try:
        containers = {entry[:12] for entry in stack.compose("ps", "-q", "api").split()}
        answered: set[str] = set()

        def both_have_answered() -> bool:
            answered.add(stack.client.ask("/api/anything").seen["container"])
            return answered == containers

        assert len(containers) == 2
        engine.until("both containers of the API answer", both_have_answered)
        workers = stack.compose("ps", "-q", "dask-worker").split()
        limits = engine.docker("inspect", "-f", "{{.HostConfig.Memory}}", *workers).stdout.split()
        assert list(map(int, limits)) == [1024**3] * 2
    finally:
        configure_by_init_service(stack, REPLICAS_API="1", REPLICAS_DASK_WORKER="1")
        stack.up()


# --- The sign-in ------------------------------------------------------------------------------------------

BLUEPRINT = "authentik/octopize-avatar-blueprint.yaml"


def authentik_sql(stack: Stack, statement: str) -> str:
    texts = secrets(stack.out)
    who = (f"authentik_database_{part}" for part in ("user", "password", "name"))
    return stack.sql(statement, *(texts[name] for name in who))


def domains(stack: Stack) -> list[str]:
    """The domains of the brands that Authentik's stand-in keeps."""
    shown = "SELECT fields->>'domain' FROM standin_objects WHERE model = 'authentik_brands.brand'"
    return authentik_sql(stack, shown).split()


def log_of_the_blueprint(stack: Stack) -> str:
    return engine.logs(stack.containers()["authentik_blueprint"]["Id"])


def test_a_user_name_of_digits_reaches_authentik_as_text(stack: Stack) -> None:
    for service in ("authentik_server", "authentik_worker"):
        assert stack.execute(service, "printenv", "AUTHENTIK_EMAIL__USERNAME") == "file:///run/secrets/smtp_username\n"
        assert stack.execute(service, "cat", "/run/secrets/smtp_username").strip() == "12345678"


def test_the_blueprint_is_applied_before_anybody_is_let_in(stack: Stack) -> None:
    assert domains(stack) == [stack.netloc]
    assert "Authentik has all that Avatar needs for signing in" in log_of_the_blueprint(stack)


def test_what_is_uploaded_stays_beside_the_logo(stack: Stack) -> None:
    folder = "/data/media/public"
    stack.execute("authentik_server", "sh", "-c", f"echo a picture > {folder}/uploaded.png")
    with stack.recreating("authentik_server"):
        stack.compose("rm", "-s", "-f", "authentik_server")
        stack.up()
    assert stack.execute("authentik_server", "cat", f"{folder}/uploaded.png") == "a picture\n"
    logo = stack.execute("authentik_server", "sha256sum", f"{folder}/brand_logo.png", "/media/public/brand_logo.png")
    assert len({line.split()[0] for line in logo.splitlines()}) == 1


def test_a_changed_domain_moves_the_brand(stack: Stack) -> None:
    configure_by_init_service(stack, PUBLIC_URL=f"http://other.test:{stack.port}")
    stack.up()
    assert domains(stack) == [f"other.test:{stack.port}"]


# --- Another PostgreSQL -----------------------------------------------------------------------------------


def typed(stack: Stack, commands: str) -> subprocess.CompletedProcess[str]:
    """What an operator types in the deployment's directory, whose project and volumes are the test's."""
    files = {"COMPOSE_PROJECT_NAME": stack.project, "COMPOSE_FILE": "docker-compose.yml:../volumes.json"}
    shell = ["sh", "-eu", "-c", commands.replace("/app/avatar", shlex.quote(str(stack.out)))]
    environment = engine.environment() | files
    return subprocess.run(
        shell, cwd=stack.out, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def in_database(stack: Stack, statement: str, database: str) -> str:
    """What the database answers to its administrator on its own socket."""
    user = secrets(stack.out)["db_admin_user"]
    words = ("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database, "-c", statement)
    return stack.execute("db", *words).strip()


def contents(stack: Stack) -> dict[str, str]:
    """What must be the same in another PostgreSQL: roles with their passwords, owners, rights, and rows."""
    texts = secrets(stack.out)
    ours, authentiks = texts["db_name"], texts["authentik_database_name"]
    roles = "SELECT rolname, pg_authid.rolpassword, rolconfig FROM pg_authid JOIN pg_roles USING (oid, rolname)"
    # Since 17, an owner has one right more.
    rights = (
        "SELECT relname, relowner::regrole, replace(relacl::text, 'xtm/', 'xt/') FROM pg_class"
        " WHERE relname IN ('moved', 'standin_objects')"
    )
    return {
        "roles": in_database(stack, f"{roles} WHERE oid >= 16384 ORDER BY 1", ours),
        "memberships": in_database(
            stack, "SELECT roleid::regrole, member::regrole FROM pg_auth_members WHERE roleid >= 16384", ours
        ),
        "databases": in_database(
            stack, "SELECT datname, datdba::regrole, datacl FROM pg_database WHERE NOT datistemplate ORDER BY 1", ours
        ),
        "ours": in_database(stack, rights, ours),
        "authentiks": in_database(stack, rights, authentiks),
        "extensions": in_database(stack, "SELECT extname FROM pg_extension ORDER BY 1", authentiks),
        "objects": in_database(stack, "SELECT id, model, fields FROM standin_objects ORDER BY 1", authentiks),
        "answer": in_database(stack, "SELECT answer FROM moved", ours),
    }


def major(stack: Stack) -> int:
    return int(in_database(stack, "SHOW server_version_num", "postgres")) // 10_000


def test_the_databases_move_to_another_postgresql_as_documented(stack: Stack) -> None:
    texts = secrets(stack.out)
    texts["organization_name"] = texts["organization_name"].removesuffix("\n")  # of the shell that filled it
    older = major(stack)
    stack.sql("CREATE TABLE moved AS SELECT 42 AS answer", *signed_in(stack))
    grants = 'GRANT SELECT ON moved TO "{}"; ALTER ROLE "{}" SET statement_timeout = 60000'
    in_database(stack, grants.format(texts["authentik_database_user"], texts["db_user"]), texts["db_name"])
    before, brands = contents(stack), domains(stack)
    page = engine.ROOT / "docs" / "operate" / "upgrade.md"
    (move,) = [block.text for block in page_commands.blocks_of(page) if "docker compose exec" in block.text]
    (configure,) = re.findall(r"(?m)^(docker run .* avatar-setup --set POSTGRES_IMAGE=\S+)", move)
    refused = typed(stack, configure)
    assert (refused.returncode, older) == (4, int(stack.settings["POSTGRES_IMAGE"].rpartition(":")[2].split("-")[0]))
    assert "Move to another PostgreSQL" in refused.stderr
    try:
        done = typed(stack, move)
        assert done.returncode == 0, done.stdout + done.stderr
        known = [f'ERROR:  {kind} "{texts["db_admin_user"]}" already exists' for kind in ("role", "database")]
        assert re.findall("ERROR: .*", done.stderr) == known
        assert (major(stack), contents(stack)) == (17, before)
        assert secrets(stack.out) == texts
        assert stack.sql("SELECT answer FROM moved", *signed_in(stack)) == "42"
        assert domains(stack) == brands == [stack.netloc]
        assert stack.status()["ready"] is True
    finally:
        engine.docker("volume", "rm", "-f", f"{stack.project}-avatar_postgres_data", check=False)


# --- A sign-in that does not come about ---------------------------------------------------------------------


@pytest.fixture
def first_failure_counts(stack: Stack) -> Iterator[None]:
    """Not after ten attempts, which take two minutes; the operator's commands read the override in the same way."""
    override = stack.directory / "volumes.json"
    before = override.read_text()
    override.write_text(json.dumps(json.loads(before) | {"services": {"authentik_blueprint": {"restart": "no"}}}))
    yield
    override.write_text(before)


def test_a_blueprint_that_authentik_refuses_ends_the_start(stack: Stack, first_failure_counts: None) -> None:
    blueprint = stack.out / BLUEPRINT
    good = blueprint.read_bytes()
    blueprint.write_bytes(good.replace(b"authentik_core.application\n", b"authentik_core_application\n"))
    try:
        with pytest.raises(AssertionError, match=r"authentik_blueprint.* didn't complete successfully: exit 1"):
            stack.up()
        assert "App or Model does not exist: authentik_core_application" in log_of_the_blueprint(stack)
        assert f"Authentik refuses {BLUEPRINT}" in log_of_the_blueprint(stack)
    finally:
        blueprint.write_bytes(good)


def test_a_blueprint_that_came_to_nothing_ends_the_start(stack: Stack, first_failure_counts: None) -> None:
    """As when the database takes nothing: Authentik's command ends with success."""
    rule = "CREATE RULE refused AS ON INSERT TO standin_objects DO INSTEAD NOTHING"
    authentik_sql(stack, f"DELETE FROM standin_objects; {rule}")
    try:
        with pytest.raises(AssertionError, match=r"authentik_blueprint.* didn't complete successfully: exit 1"):
            stack.up()
        assert f"the brand other.test:{stack.port}" in log_of_the_blueprint(stack)
        assert "docker compose logs authentik_worker" in log_of_the_blueprint(stack)
    finally:
        authentik_sql(stack, "DROP RULE refused ON standin_objects")
