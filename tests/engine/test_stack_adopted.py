"""A deployment made by hand, taken over by the image: it boots, and its secrets are then rotated as it says."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import engine, foreign_trees
from tests.support.documents import read_yaml
from tests.support.foreign_trees import SHOWN, edited
from tests.support.runs import secrets
from tests.support.stack import HOST, Stack, deployment
from tests.support.stack_contract import (
    test_every_route_leads_to_its_service,
    test_every_service_runs_or_has_ended_well_at_its_first_attempt,
)

pytestmark = pytest.mark.docker

__all__ = (
    "test_every_route_leads_to_its_service",
    "test_every_service_runs_or_has_ended_well_at_its_first_attempt",
)


def by_hand(stack: Stack) -> None:
    """A deployment without TLS at this stack's address, with the versions that stand-ins are here for."""
    source, port = stack.directory / "old", stack.port
    foreign_trees.by_hand(source, **dict.fromkeys(foreign_trees.tls()))
    settings = read_yaml((engine.ROOT / "setup" / "defaults.yaml").read_text())["settings"]
    for key in ("AVATAR_API_VERSION", "AVATAR_WEB_VERSION"):
        edited(source, ".env", f"{key}={foreign_trees.ENV[key]}", f"{key}={settings[key]}")
    edited(source, ".env", "https://", "http://")
    edited(source, ".env", "avatar.example.com", f"{HOST}:{port}")
    edited(source, "nginx/nginx.conf", "443 ssl", str(port))
    document = foreign_trees.COMPOSE.replace("443:443", f"{port}:{port}").splitlines()
    (source / "docker-compose.yml").write_text("\n".join(line for line in document if "/etc/nginx/tls" not in line))
    stack.settings |= {"PUBLIC_URL": f"http://{HOST}:{port}", "SMTP_HOST": foreign_trees.ENV["SMTP_HOST"]}


def run(stack: Stack, *arguments: str) -> str:
    mounts = ("-v", f"{stack.out}:/out", "-v", f"{stack.directory / 'old'}:/old:ro")
    return engine.docker("run", "--rm", *mounts, engine.image(), *arguments).stdout.decode()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with deployment(tmp_path_factory.mktemp("adopted")) as made:
        by_hand(made)
        run(made, "--adopt", "/old", "--yes")
        made.up()
        yield made


def test_its_processes_have_the_secrets_that_it_had(stack: Stack) -> None:
    assert stack.execute("api", "printenv", "SMTP_PASSWORD") == SHOWN["SMTP_PASSWORD"] + "\n"
    assert stack.execute("api", "printenv", "SSO_CLIENT_SECRET") == SHOWN["SSO_CLIENT_SECRET"] + "\n"
    assert stack.execute("db", "cat", "/run/secrets/db_admin_password") == foreign_trees.SECRETS["db_admin_password"]


def opens(stack: Stack, texts: dict[str, str]) -> bool:
    """Whether both databases take these passwords, read as their programs read them."""
    words = {name: text.removesuffix("\n") for name, text in texts.items()}
    return all(
        stack.sql("SELECT current_user", words[f"{who}_user"], words[f"{who}_password"], words[f"{who}_name"])
        == words[f"{who}_user"]
        for who in ("db", "authentik_database")
    )


def test_its_databases_open_with_the_passwords_that_it_had(stack: Stack) -> None:
    assert opens(stack, foreign_trees.SECRETS)


def typed(stack: Stack, line: str) -> str:
    """What comes of a line that the rotation says to type, in the deployment's directory."""
    files = f"-f docker-compose.yml -f {shlex.quote(str(stack.directory / 'volumes.json'))} -p {stack.project}"
    script = line.replace("docker compose", f"docker compose {files}")
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=stack.out,
        env=engine.environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_a_rotated_password_opens_the_database_and_recreates_who_mounts_it(stack: Stack) -> None:
    old = secrets(stack.out)
    output = json.loads(run(stack, "--rotate", "db_password,authentik_database_password", "--yes", "--json"))
    new = secrets(stack.out)
    mounting = {"api", "init-db", "dask-scheduler", "dask-worker"}
    mounting |= {"authentik_init_db", "authentik_server", "authentik_worker"}
    for line in output["next"][:2]:
        typed(stack, line)
    with stack.recreating(*mounting):
        stack.up()
    assert opens(stack, new)
    assert {name for name in new if new[name] != old[name]} == {"db_password", "authentik_database_password"}
    assert stack.client.ask("/web").seen["service"] == "web"


def test_a_rotated_key_of_the_storage_reaches_it_and_the_old_one_is_removed(stack: Stack) -> None:
    old = secrets(stack.out)["storage_admin_access_key_id"]
    output = json.loads(run(stack, "--rotate", "storage_admin_access_key_id", "--yes", "--json"))
    stack.up()
    new = secrets(stack.out)["storage_admin_access_key_id"]
    assert stack.execute("api", "cat", "/run/secrets/storage_admin_access_key_id") == new
    assert typed(stack, output["next"][-1]) == f"deleted {old}\n"
