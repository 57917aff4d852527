"""What deployments of other hands are understood to say: settings, secrets to the byte, and what is left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from setup.commands.adopt.interpret import Interpretation, interpret
from setup.commands.adopt.source import read_tree
from setup.errors import InputError
from tests.support import foreign_trees
from tests.support.foreign_trees import ENV, SECRETS, SHOWN, edited
from tests.support.runs import deployed

MADE = {"by_hand": "made by hand", "versioned": "tool (state v10)", "flat": "of the public deployment tool"}
# Under which secret's name a key of `.env` is kept.
KEPT_AS = {
    "SSO_CLIENT_ID": "sso_client_id",
    "SSO_CLIENT_SECRET": "sso_client_secret",
    "AUTHENTIK_BOOTSTRAP_PASSWORD": "authentik_bootstrap_password",
    "AUTHENTIK_BOOTSTRAP_TOKEN": "authentik_bootstrap_token",
    "AUTHENTIK_WEBHOOK_SECRET": "authentik_webhook_secret",
    "SMTP_PASSWORD": "smtp_password",
}


def interpreted(path: Path) -> Interpretation:
    return interpret(read_tree(str(path)))


def settings_of(path: Path) -> dict[str, str]:
    deployment = interpreted(path)
    assert (deployment.problems, deployment.unsure) == ((), {})
    return {key: entry.text for key, entry in deployment.settings.items()}


@pytest.mark.parametrize("name", MADE)
def test_every_setting_and_secret_of_a_tree_is_interpreted(name: str, tmp_path: Path) -> None:
    deployment = interpreted(getattr(foreign_trees, name)(tmp_path))
    assert deployment.kind.endswith(MADE[name])
    assert (deployment.problems, deployment.unsure) == ((), {})
    settings = {key: entry.text for key, entry in deployment.settings.items()}
    assert {key: settings[key] for key in ENV} == ENV
    assert settings["PUBLIC_URL"] == "avatar.example.com"
    assert settings["TLS_MODE"] == "provided"
    assert settings["POSTGRES_IMAGE"] == "postgres:14-alpine"
    texts = {name: entry.text for name, entry in deployment.secrets.items()}
    assert {name: texts.get(name, "") for name in SECRETS} == SECRETS
    assert {key: texts[name] for key, name in KEPT_AS.items()} == {key: SHOWN[key] for key in KEPT_AS}
    assert deployment.unknown == ("MAX_ALLOWED_LINES",)


@pytest.mark.parametrize("name", MADE)
def test_the_api_does_not_keep_a_superusers_token(name: str, tmp_path: Path) -> None:
    at = getattr(foreign_trees, name)(tmp_path)
    deployment = interpreted(at)
    assert "authentik_api_token" not in deployment.secrets
    assert any("AUTHENTIK_API_TOKEN" in note for note in deployment.notes)
    env = "generated_files/.env" if name == "versioned" else ".env"
    edited(at, env, f"AUTHENTIK_API_TOKEN={foreign_trees.BOOTSTRAP}", "AUTHENTIK_API_TOKEN=its-own")
    assert interpreted(at).secrets["authentik_api_token"].text == "its-own"


def test_the_latest_state_wins_and_says_over_what(tmp_path: Path) -> None:
    at = foreign_trees.versioned(tmp_path)
    edited(at, "generated_files/.env", "export LOG_LEVEL = WARNING", "LOG_LEVEL=ERROR")
    deployment = interpreted(at)
    assert deployment.settings["LOG_LEVEL"].text == "WARNING"
    assert any(note.startswith("LOG_LEVEL: ") and "v10" in note and ".env" in note for note in deployment.notes)


def test_a_state_without_its_files_still_says_its_settings_and_secrets(tmp_path: Path) -> None:
    foreign_trees.versioned(tmp_path / "whole")
    (tmp_path / "whole" / ".deployment_states").rename(tmp_path / ".deployment_states")
    deployment = interpreted(tmp_path)
    assert deployment.settings["SMTP_HOST"].text == ENV["SMTP_HOST"]
    assert deployment.secrets["db_password"].text == SECRETS["db_password"].removesuffix("\n")


@pytest.mark.parametrize(
    ("lines", "url", "mode"),
    [
        ("AVATAR_DOMAIN=a.example:8443", "a.example:8443", None),
        ("AVATAR_DOMAIN=a.example\nAVATAR_API_URL=http://a.example/api", "http://a.example", None),
        ("AVATAR_API_URL=https://a.example/api", "a.example", None),
        ("BASE_API_URL='http://a.example:8000'", "http://a.example:8000", None),
        ("PUBLIC_URL=http://a.example\nAVATAR_DOMAIN=b.example", "http://a.example", None),
        ("AVATAR_DOMAIN=a.example\nNGINX_TLS_ENABLED=True", "a.example", "provided"),
        ("AVATAR_DOMAIN=a.example\nNGINX_TLS_ENABLED=false", "a.example", "behind-proxy"),
        ("AVATAR_API_URL=http://a.example:81/api\nNGINX_TLS_ENABLED=false", "http://a.example:81", "off"),
    ],
)
def test_older_names_of_the_public_address(lines: str, url: str, mode: str | None, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(lines)
    settings = settings_of(tmp_path)
    assert settings["PUBLIC_URL"] == url
    assert settings.get("TLS_MODE") == mode


def test_telemetry_counts_as_on_with_a_bucket_only(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("IS_TELEMETRY_ENABLED=true\nTELEMETRY_S3_REGION=fr-par\n")
    assert "TELEMETRY_ENABLED" not in settings_of(tmp_path)
    (tmp_path / ".env").write_text("TELEMETRY_S3_BUCKET_NAME=bucket\n")
    assert settings_of(tmp_path)["TELEMETRY_ENABLED"] == "true"


COMPOSED = {
    "DB_VOLUME": ('{name: "${DB_VOLUME}", external: true}', "{external: true}", "postgres_data"),
    "POSTGRES_IMAGE": ("postgres:14-alpine", "registry.example/postgres:16", "registry.example/postgres:16"),
    "AVATAR_REGISTRY": ("quay.io/octopize/avatar-service-api", "mirror.example/avatar-service-api", "mirror.example"),
    "NGINX_HTTP_REDIRECT_PORT": ('["443:443"]', '["127.0.0.1:80:8080", "443:443/tcp"]', "80"),
    "NGINX_SSL_CERTIFICATE_PATH": ("- ./tls/server.fullchain.crt:", "- /etc/ssl/a.crt:", "/etc/ssl/a.crt"),
}


@pytest.mark.parametrize("key", COMPOSED)
def test_what_only_the_compose_file_tells(key: str, tmp_path: Path) -> None:
    old, new, expected = COMPOSED[key]
    at = foreign_trees.by_hand(tmp_path)
    edited(at, "docker-compose.yml", old, new)
    edited(at, ".env", "DB_VOLUME=avatar_postgres_data\n", "")
    deployment = interpreted(at)
    assert deployment.settings[key].text == expected


def test_a_volume_without_a_name_belongs_to_its_project(tmp_path: Path) -> None:
    at = foreign_trees.by_hand(tmp_path)
    edited(at, "docker-compose.yml", '  postgres_data: {name: "${DB_VOLUME}", external: true}\n', "  postgres_data:\n")
    edited(at, ".env", "DB_VOLUME=avatar_postgres_data\n", "")
    assert settings_of(at)["DB_VOLUME"] == "octopize-avatar_postgres_data"
    edited(at, "docker-compose.yml", "name: octopize-avatar\n", "")
    assert "DB_VOLUME" in interpreted(at).unsure


def test_a_database_outside_of_docker_volumes_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    at = foreign_trees.by_hand(tmp_path)
    edited(at, "docker-compose.yml", "postgres_data:/var/lib", "./pgdata:/var/lib")
    edited(at, ".env", "DB_VOLUME=avatar_postgres_data\n", "")
    assert "./pgdata" in interpreted(at).unsure["DB_VOLUME"]


def test_objects_in_other_volumes_are_mentioned(tmp_path: Path) -> None:
    at = foreign_trees.by_hand(tmp_path)
    edited(at, "docker-compose.yml", "{name: avatar_seaweedfs_blocks}", "{name: mine}")
    assert any("mine" in note and "avatar_seaweedfs_blocks" in note for note in interpreted(at).notes)


def test_a_compose_file_that_is_not_understood_is_mentioned(tmp_path: Path) -> None:
    at = foreign_trees.by_hand(tmp_path, **{"docker-compose.yml": "services: !custom {}\n"})
    assert any("docker-compose.yml was not understood" in note for note in interpreted(at).notes)


@pytest.mark.parametrize(
    ("path", "old", "new", "name"),
    [
        (".env", "LOG_LEVEL = WARNING", "LOG_LEVEL=${LEVEL}", "LOG_LEVEL"),
        (".env", "SMTP_PASSWORD='mail\\'s $password #1'", "SMTP_PASSWORD=$PASSWORD", "smtp_password"),
        (".env", "\nSSO_CLIENT_SECRET=" + "9d" * 32, "\nSSO_CLIENT_SECRET=other", "sso_client_secret"),
        (".env", "ENV_NAME=", "DB_USER=other\nENV_NAME=", "db_user"),
    ],
)
def test_what_cannot_be_known_for_certain_is_named(path: str, old: str, new: str, name: str, tmp_path: Path) -> None:
    at = foreign_trees.by_hand(tmp_path)
    edited(at, path, old, new)
    deployment = interpreted(at)
    assert set(deployment.unsure) == {name}
    assert "other" not in deployment.unsure[name].replace("another", "")


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        (".env", "V0='open", "line 1"),
        (".secrets/db_password", "\udcff", "UTF-8"),
        (".deployment-state.yaml", "tool: avatar-setup\nschema: 99\n", "schema"),
        (".deployment-state.yaml", "something: else\n", "neither items nor a config"),
        (".deployment-state.yaml", "a: [", "line"),
    ],
)
def test_what_cannot_be_read_is_a_problem_with_its_path(path: str, text: str, reason: str, tmp_path: Path) -> None:
    at = foreign_trees.by_hand(tmp_path)
    (at / path).write_bytes(text.encode("utf-8", "surrogateescape"))
    (problem,) = interpreted(at).problems
    assert path in problem
    assert reason in problem


def test_secrets_elsewhere(tmp_path: Path) -> None:
    """Older compose files take the folder from SECRETS_DIR, often with the host's whole path."""
    at = foreign_trees.by_hand(tmp_path)
    (at / ".secrets").rename(at / "keys")
    edited(at, ".env", "ENV_NAME=", "AVATAR_HOME=/srv/avatar\nSECRETS_DIR=${AVATAR_HOME}/keys/\nENV_NAME=")
    assert interpreted(at).secrets["db_password"].text == SECRETS["db_password"]


def test_the_compose_file_names_the_folder_of_the_secrets(tmp_path: Path) -> None:
    at = foreign_trees.by_hand(tmp_path)
    (at / ".secrets").rename(at / "secrets")
    named = 'secrets:\n  db_password:\n    file: "./secrets/db_password"\nvolumes:\n'
    edited(at, "docker-compose.yml", "\nvolumes:\n", f"\n{named}")
    assert interpreted(at).secrets["db_password"].text == SECRETS["db_password"]
    assert read_tree(str(at)).others == ("caddy",)


def test_a_deployment_of_ours_is_understood_too(tmp_path: Path) -> None:
    out = deployed(
        tmp_path / "out",
        settings={"PUBLIC_URL": "a.example", "ENV_NAME": "x", "SMTP_HOST": "mail.example.com", "LOG_LEVEL": "DEBUG"},
    )
    deployment = interpreted(out)
    assert deployment.kind == "of avatar-setup"
    assert (deployment.problems, deployment.unsure, deployment.unknown) == ((), {}, ())
    assert deployment.settings["LOG_LEVEL"].text == "DEBUG"
    assert deployment.secrets["sso_client_secret"].text == (out / ".secrets" / "sso_client_secret").read_text()


@pytest.mark.parametrize("made", ["empty", "other", "missing", "file"])
def test_a_directory_without_a_deployment_is_refused(made: str, tmp_path: Path) -> None:
    at = tmp_path / made
    if made in ("empty", "other"):
        at.mkdir()
    if made == "other":
        (at / "notes.txt").write_text("x")
    if made == "file":
        at.write_text("x")
    with pytest.raises(InputError, match=made):
        read_tree(str(at))


def test_what_stands_beside_is_listed(tmp_path: Path) -> None:
    at = foreign_trees.by_hand(tmp_path, **{"compose.override.yaml": "services: {}\n"})
    assert read_tree(str(at)).others == ("caddy", "compose.override.yaml")
