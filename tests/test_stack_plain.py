"""A deployment without TLS, made by the documented init service, and changed by it later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests import engine
from tests.stack import HOST, Stack, deployment
from tests.stack_contract import *  # noqa: F403 - the tests that every stack passes
from tests.support import secrets
from tests.test_targets import API_SERVICES

pytestmark = pytest.mark.docker

DOCUMENT = engine.ROOT / "docs" / "init-service.compose.yaml"
SMTP_PASSWORD = """ it's "5 $5" \\ #no comment """


def start_by_init_service(stack: Stack, **settings: str) -> None:
    """The two commands of docs/init-service.md, with these settings in the init service's environment."""
    engine.image()
    document = yaml.safe_load(DOCUMENT.read_text())
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
    stack.up()


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    with deployment(tmp_path_factory.mktemp("plain")) as made:
        start_by_init_service(made, PUBLIC_URL=f"http://{HOST}:{made.port}", DB_ADMIN_USER="-;a=%I/-*{}#!")
        yield made


def test_a_value_with_quotes_and_dollars_reaches_a_process_as_it_was_given(stack: Stack) -> None:
    assert stack.execute("api", "printenv", "SMTP_PASSWORD") == SMTP_PASSWORD + "\n"


# --- Day two: the same file with another value, and the same two commands ---------------------------------


def signed_in(stack: Stack) -> tuple[str, str, str]:
    texts = secrets(stack.out)
    return texts["db_user"], texts["db_password"], texts["db_name"]


def test_a_changed_setting_recreates_the_services_that_read_it_and_the_data_stays(stack: Stack) -> None:
    before = secrets(stack.out)
    stack.sql("CREATE TABLE kept AS SELECT 42 AS answer", *signed_in(stack))
    with stack.recreating(*API_SERVICES):
        start_by_init_service(stack, LOG_LEVEL="DEBUG")
    assert stack.execute("dask-worker", "printenv", "LOG_LEVEL") == "DEBUG\n"
    assert secrets(stack.out) == before
    assert stack.sql("SELECT answer FROM kept", *signed_in(stack)) == "42"


def test_a_changed_file_and_a_changed_secret_recreate_those_that_mount_them(stack: Stack) -> None:
    with stack.recreating("nginx", "admin"):
        start_by_init_service(stack, TLS_EXTRA_NAMES="more.test", SEAWEEDFS_ADMIN_PASSWORD="another one")
    assert stack.client.ask("/web", host="more.test").seen["service"] == "web"
    assert stack.execute("admin", "cat", "/run/secrets/seaweedfs_admin_password") == "another one"
    assert stack.sql("SELECT answer FROM kept", *signed_in(stack)) == "42"
