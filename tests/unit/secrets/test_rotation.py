"""Which secrets a rotation selects, why some are refused, and which commands the others need."""

from __future__ import annotations

import pytest

from setup.config.model import Given, Source
from setup.config.secrets import ENCRYPTING, GROUPS, IRREPLACEABLE, SECRETS
from setup.config.settings import SETTINGS
from setup.config.values import Values
from setup.errors import InputError, UsageError
from setup.secrets import rotation

TEXTS = {"db_user": "avataruser", "db_admin_user": "postgres", "authentik_database_user": "authentikuser"}


def values(**settings: str) -> Values:
    given = {
        "PUBLIC_URL": "a.example",
        "ENV_NAME": "x",
        "SMTP_HOST": "mail.example.com",
        "AVATAR_API_VERSION": "3.10",
        **settings,
    }
    return Values(SETTINGS, {key: Given(text, Source.CALLER) for key, text in given.items()}, {})


def names(*words: str, **settings: str) -> list[str]:
    return [secret.name for secret in rotation.select_secrets(words, values(**settings))]


def test_every_password_and_key_can_be_rotated_and_no_name_can() -> None:
    wrong = [secret.name for secret in SECRETS.values() if bool(secret.breaks) != secret.masked]
    assert wrong == [], "say in its row in config/secrets.py what a rotation `breaks`"
    assert {secret.role for secret in SECRETS.values() if secret.role} == set(TEXTS)
    assert {"storage_encryption_key", "pepper", "file_encryption_key"} == ENCRYPTING < IRREPLACEABLE
    assert {"db_password", "db_admin_password", "authentik_database_password", "db_user"} < IRREPLACEABLE


def test_names_and_groups_select_each_secret_once() -> None:
    assert names("sessions", "authjwt_secret_key") == ["authentik_secret_key", "authjwt_secret_key"]
    assert names("mail", SMTP_HOST="mail.example") == ["smtp_password"]
    assert {"sessions", "storage", "database", "sso", "mail"} <= set(GROUPS)
    assert "storage_encryption_key" not in names("storage")


def test_an_unknown_word_is_not_repeated() -> None:
    with pytest.raises(UsageError) as refused:
        names("hunter2")
    assert "hunter2" not in str(refused.value)
    assert "sessions" in str(refused.value)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("db_user", "bound to the database's volume"),
        ("admin_emails", "ADMIN_EMAILS=VALUE"),
        ("pepper", "has none"),
        ("aws_mail_account_access_key_id", "has none"),
    ],
)
def test_a_missing_secret_and_a_name_are_refused(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        names(word)


@pytest.mark.parametrize("name", sorted(ENCRYPTING))
def test_an_encryption_key_needs_the_flag_and_the_new_value(name: str) -> None:
    secret = SECRETS[name]
    (refusal,) = rotation.list_refusals([secret], False, {name: Given("x", Source.ENVIRONMENT)})
    assert f"{name.upper()}_FILE" in refusal
    assert "--i-have-reencrypted" in refusal
    assert rotation.list_refusals([secret], True, {})
    assert rotation.list_refusals([secret], True, {name: Given("x", Source.ENVIRONMENT)}) == []


def test_commands_for_the_roles_of_the_database() -> None:
    """test_rotate_engine proves that it works."""
    (line,) = rotation.list_commands_before(["db_password", "smtp_password"], values(), TEXTS, "sudo ")
    assert line.startswith("sudo cat .secrets/db_password | sudo docker compose exec -T db sh -c '")
    assert line.endswith("' - avataruser")
    assert "ALTER ROLE" in line
    assert rotation.list_commands_before(["smtp_password"], values(), TEXTS, "") == []
    (outside,) = rotation.list_commands_before(["db_password"], values(DB_HOST="db.example"), TEXTS, "")
    assert "docker" not in outside
    assert "-h db.example" in outside
    assert "PGSSL" not in outside


@pytest.mark.parametrize(("mode", "verified"), [("require", ""), ("verify-full", "PGSSLROOTCERT=./company-ca.crt ")])
def test_the_new_password_goes_to_a_server_elsewhere_as_authentik_connects_to_it(mode: str, verified: str) -> None:
    settings = {"DB_HOST": "db.example", "DB_SSLMODE": mode, "TLS_CA_PATH": "./company-ca.crt"}
    (line,) = rotation.list_commands_before(["db_password"], values(**settings), TEXTS, "")
    assert f" PGSSLMODE={mode} {verified}psql " in line


def test_commands_after_the_restart() -> None:
    names, old_keys = (
        [rotation.STORAGE_KEY, "authentik_bootstrap_password"],
        [f"history/1/.secrets/{rotation.STORAGE_KEY}"],
    )
    output = list(rotation.list_commands_after(names, old_keys, values(), ""))
    assert "-delete" in output[1]
    assert "$(cat history/1/.secrets/storage_admin_access_key_id)" in output[1]
    assert "akadmin" in output[2]
    assert list(rotation.list_commands_after(["db_password"], [], values(), "")) == []


def test_a_container_may_be_on_another_node_of_a_swarm() -> None:
    def commands(*words: str, **settings: str) -> list[str]:
        return rotation.list_commands_before(words, values(**settings), TEXTS, "")

    assert "docker -H ssh://NODE" in commands("db_password", TARGET="swarm")[0]
    assert len(commands("db_password", TARGET="swarm")) == 2
    assert commands("authjwt_secret_key", TARGET="swarm") == []
    elsewhere = {"TARGET": "swarm", "DB_HOST": "pg.example.com"}  # its password goes there from here
    assert "NODE" not in "".join(commands("db_password", **elsewhere) + commands("db_password"))
