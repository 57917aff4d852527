"""Secrets of a complete deployment: changed, emptied, restored, and moved to another database server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.runs import LAST_GOOD, OPERATORS, REQUIRED, STATE, deployed, env_file, ran, secrets, stamps

WHOLE = {**REQUIRED, **OPERATORS}
SMTP = {"SMTP_HOST": "mail.example.com", "SMTP_USERNAME": "avatar", "SMTP_PASSWORD": "hunter2"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out", settings=WHOLE)


def status(out: Path) -> dict[str, object]:
    return dict(json.loads(ran(out, "--status", "--json").stdout))


def test_settings_derived_from_a_changed_secret_change_in_the_same_run(out: Path) -> None:
    changed = WHOLE | {"ADMIN_EMAILS": "new@example.com"}
    ran(out, settings=changed)
    assert env_file(out)["AUTHENTIK_BOOTSTRAP_EMAIL"] == "new@example.com"
    before = stamps(out)
    assert "Nothing to do" in ran(out, settings=changed).stdout
    assert stamps(out) == before


def test_a_secret_that_is_no_longer_needed_may_be_emptied(tmp_path: Path) -> None:
    out = deployed(tmp_path / "smtp", settings=WHOLE | SMTP)
    ran(out, "--set", "SMTP_USERNAME=", settings={})
    (out / ".secrets/smtp_password").write_text("")
    ran(out, settings={})
    assert env_file(out)["SMTP_PASSWORD"] == ""


def test_a_lost_secret_of_the_operators_may_be_given_again(out: Path) -> None:
    (out / ".secrets/organization_name").unlink()
    done = ran(out, code=1)
    assert "ORGANIZATION_NAME_FILE" in done.stderr
    ran(out, settings=WHOLE | {"ORGANIZATION_NAME": "Example"})
    assert secrets(out)["organization_name"] == "Example"


def test_a_lost_bound_secret_is_accepted_only_from_a_backup(out: Path) -> None:
    (out / ".secrets/db_password").write_text("")
    done = ran(out, settings=WHOLE | {"DB_PASSWORD": "another"}, code=1)
    assert "backup" in done.stderr
    assert (out / ".secrets/db_password").read_text() == ""


def test_the_status_distinguishes_lost_and_pending_secrets(out: Path) -> None:
    (out / ".secrets/db_password").write_text("")
    output = ran(out, "--status").stdout
    lost, _, pending = output.partition("Pending")
    assert ".secrets/db_password" in lost
    assert "backup" in lost
    assert pending == ""
    assert status(out)["lost_secrets"] == ["db_password"]
    assert status(out)["pending_secrets"] == []
    assert status(out)["ready"] is False


def test_another_database_server_does_not_get_the_bundled_ones_credentials(out: Path) -> None:
    before = stamps(out)
    done = ran(out, "--set", "DB_HOST=pg.example.com", code=4)
    assert "DB_ADMIN_USER" in done.stderr
    assert "DB_ADMIN_PASSWORD" in done.stderr
    assert stamps(out) == before


def test_the_credentials_of_another_database_server_replace_the_bundled_ones(out: Path) -> None:
    theirs = {"DB_ADMIN_USER": "adm", "DB_ADMIN_PASSWORD": "theirs"}
    kept = secrets(out)["db_password"]
    ran(out, "--set", "DB_HOST=pg.example.com", settings=WHOLE | theirs)
    found = secrets(out)
    assert (found["db_admin_user"], found["db_admin_password"], found["db_password"]) == ("adm", "theirs", kept)
    assert "Nothing to do" in ran(out).stdout


def test_emptied_credentials_of_another_database_server_are_pending(out: Path) -> None:
    for name in ("db_admin_user", "db_admin_password"):
        (out / ".secrets" / name).write_text("")
    ran(out, "--set", "DB_HOST=pg.example.com")
    assert status(out)["pending_secrets"] == ["db_admin_user", "db_admin_password"]


def test_the_warning_about_an_older_database_is_for_the_first_run_only(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    first = ran(tmp_path / "out", settings=WHOLE | {"TLS_MODE": "self-signed"}).stdout
    assert "docker volume ls" in first
    later = ran(tmp_path / "out", "--set", "LOG_LEVEL=DEBUG").stdout
    assert "docker compose up -d" in later
    assert "docker volume ls" not in later


def test_another_sso_application_needs_another_provider(out: Path) -> None:
    done = ran(out, "--set", "SSO_PROVIDER_APP_NAME=other", code=1)
    assert "SSO_PROVIDER_URL" in done.stderr
    ran(out, "--set", "SSO_PROVIDER_APP_NAME=other", "--set", "SSO_PROVIDER_URL=https://id.example.com/sso")


def test_a_copy_without_its_hidden_files_gets_no_new_secrets(out: Path, tmp_path: Path) -> None:
    """`cp -r deployment/* elsewhere` leaves out exactly the files that cannot be generated again."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in out.iterdir():
        if not path.name.startswith("."):
            subprocess.run(["cp", "-r", path, copy], check=True)
    before = stamps(copy)
    refused = ran(copy, settings=WHOLE, code=1)
    assert "db_password" in refused.stderr and "cp -a" in refused.stderr
    assert stamps(copy) == before
    subprocess.run(["cp", "-a", out / ".secrets", copy], check=True)
    ran(copy, settings=WHOLE)
    assert secrets(copy) == secrets(out)


def test_moving_the_compose_file_away_starts_a_new_deployment(out: Path) -> None:
    old = secrets(out)
    for name in (STATE, LAST_GOOD, ".env"):
        (out / name).unlink()
    shutil.rmtree(out / ".secrets")
    (out / "docker-compose.yml").rename(out / "docker-compose.yml.old")
    ran(out, settings=WHOLE)
    assert secrets(out)["db_password"] != old["db_password"]
