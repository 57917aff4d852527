"""What a rotation says to type, typed: a real PostgreSQL of the generated stack takes the new password."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import engine
from tests.support.runs import REQUIRED, ran, secrets

pytestmark = pytest.mark.docker

ROLE = """o'brien "x" $y `z` \\"""
NEW = 'it\'s "the" $new$ one; \\ `id` $(id)'


class Stack:
    """The database of a generated stack, under a project and a volume of its own."""

    def __init__(self, out: Path, project: str) -> None:
        self.out = out
        self.environment = {**engine.environment(), "COMPOSE_PROJECT_NAME": project}

    def sh(self, script: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs what an operator types in the deployment's directory."""
        done = subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=self.out,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def psql(self, sql: str) -> str:
        command = (
            "compose",
            "exec",
            "-T",
            "db",
            "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            "postgres",
        )
        done = subprocess.run(
            ["docker", *command],
            cwd=self.out,
            env=self.environment,
            input=sql,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def signs_in(self, role: str, password: str) -> bool:
        """Whether a client elsewhere on the network gets in with this password."""
        command = ("compose", "exec", "-T", "-e", f"PGPASSWORD={password}", "db", "psql", "-X", "-h", "db", "-U", role)
        done = subprocess.run(
            ["docker", *command, "-d", "postgres", "-c", "SELECT 1"],
            cwd=self.out,
            env=self.environment,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    engine.stand_ins()
    out, project = tmp_path_factory.mktemp("rotated") / "out", engine.unique("rotate")
    out.mkdir()
    ran(out, settings={**REQUIRED, "ORGANIZATION_NAME": "Example", "DB_VOLUME": project, "DB_USER": ROLE})
    made = Stack(out, project)
    try:
        made.sh("docker compose up -d --wait db")
        quoted = ROLE.replace('"', '""')
        made.psql(f"""CREATE ROLE "{quoted}" LOGIN PASSWORD '{secrets(out)["db_password"]}'""")
        yield made
    finally:
        made.sh("docker compose down --volumes --timeout 1", check=False)


def test_the_role_takes_the_new_password(stack: Stack) -> None:
    old = secrets(stack.out)["db_password"]
    assert stack.signs_in(ROLE, old)
    output = json.loads(
        ran(stack.out, "--rotate", "db_password", "--yes", "--json", settings={"DB_PASSWORD": NEW}).stdout
    )
    typed = output["next"][0].replace("sudo ", "")
    assert NEW not in typed
    assert stack.sh(typed).stderr == ""
    assert secrets(stack.out)["db_password"] == NEW
    assert stack.signs_in(ROLE, NEW)
    assert not stack.signs_in(ROLE, old)


def test_the_administrators_password_too(stack: Stack) -> None:
    output = json.loads(ran(stack.out, "--rotate", "db_admin_password", "--yes", "--json", settings={}).stdout)
    stack.sh(output["next"][0].replace("sudo ", ""))
    assert stack.signs_in("postgres", secrets(stack.out)["db_admin_password"])
    assert output["next"][1].endswith("docker compose up -d")
    stack.sh("docker compose up -d --wait db")
    assert stack.signs_in("postgres", secrets(stack.out)["db_admin_password"])
