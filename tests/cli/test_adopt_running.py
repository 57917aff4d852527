"""`--adopt`: what runs, by the compose file and its override, outranks `.env` and the state, and the report says so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from setup.formats.dotenv import parse
from tests.support import foreign_trees
from tests.support.documents import read_yaml
from tests.support.foreign_trees import edited
from tests.support.runs import OPERATORS, REQUIRED, STATE, deployed, ran, run, stamps, tree

PORTS = 'ports: ["443:443"]'
OVERRIDE = "docker-compose.override.yml"


def by_hand(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return foreign_trees.by_hand(tmp_path / "source")


def adopted(source: Path, *flags: str) -> str:
    """What the adoption of a tree into the directory beside it says."""
    return ran(source.parent / "out", "--adopt", str(source), "--yes", *flags, settings={}).stdout


def composed(out: Path) -> dict[str, Any]:
    """The compose file with the values of `.env`, as far as these tests look."""
    text = (out / "docker-compose.yml").read_text()
    for key, value in env_of(out).items():
        text = text.replace(f"${{{key}}}", value)
    return read_yaml(text)


def env_of(out: Path) -> dict[str, str]:
    return parse((out / ".env").read_bytes()).values


@pytest.mark.parametrize("place", ["compose file", "override"])
@pytest.mark.parametrize(
    ("service", "image", "key", "value"),
    [
        ("db", "postgres:16-alpine", "POSTGRES_IMAGE", "postgres:16-alpine"),
        ("authentik_server", "ghcr.io/goauthentik/server:2025.10.1", "AVATAR_AUTHENTIK_VERSION", "2025.10.1"),
        ("api", "quay.io/octopize/avatar-service-api:3.11.0", "AVATAR_API_VERSION", "3.11.0"),
        ("nginx", "mirror.example/nginx:1.27.0", "NGINX_IMAGE", "mirror.example/nginx:1.27.0"),
    ],
)
def test_an_image_that_runs_is_kept(place: str, service: str, image: str, key: str, value: str, tmp_path: Path) -> None:
    source = by_hand(tmp_path)
    edited(source, ".env", "# by hand", "POSTGRES_IMAGE=postgres:14-alpine\nNGINX_IMAGE=nginx:1.31.0")
    if place == "override":
        (source / OVERRIDE).write_text(f"services: {{{service}: {{image: '{image}'}}}}\n")
    else:
        document = read_yaml((source / "docker-compose.yml").read_text())
        document["services"][service]["image"] = image
        (source / "docker-compose.yml").write_text(yaml.safe_dump(document))
    before = env_of(source)[key]
    report = adopted(source)
    assert env_of(tmp_path / "out")[key] == value
    assert f"{key}: .env has {before}, " in report
    assert f"has {value}; what runs counts" in report
    assert "Nothing to do" in ran(tmp_path / "out", "--adopt", str(source), "--yes", settings={}).stdout


VOLUMES = {
    "DB_VOLUME": ('{name: "${DB_VOLUME}", external: true}', "postgres_data"),
    "SEAWEEDFS_VOLUME": ('{name: "${SEAWEEDFS_VOLUME}"}', "seaweedfs-data"),
    "SEAWEEDFS_METADATA_VOLUME": ("{name: avatar_seaweedfs_metadata}", "seaweedfs-metadata"),
    "SEAWEEDFS_BLOCKS_VOLUME": ("{name: avatar_seaweedfs_blocks}", "seaweedfs-blocks"),
}
GIVEN = (*VOLUMES, "AUTHENTIK_VOLUME")


@pytest.mark.parametrize("key", VOLUMES)
def test_a_data_volume_keeps_its_name_whatever_env_says(key: str, tmp_path: Path) -> None:
    source, (old, volume) = by_hand(tmp_path), VOLUMES[key]
    edited(source, "docker-compose.yml", old, "{name: '${NONE:-kept_data}', external: true}")
    report = adopted(source)
    assert composed(tmp_path / "out")["volumes"][volume]["name"] == "kept_data"
    assert "kept_data" in report
    assert "Nothing to do" in ran(tmp_path / "out", settings={}).stdout


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ('"postgres_data:/var/lib', '"./pgdata:/var/lib', "DB_VOLUME", "docker volume create -o type=none"),
        ('"seaweedfs-blocks:/data"', '"/srv/blocks:/data"', "SEAWEEDFS_BLOCKS_VOLUME", "/srv/blocks"),
        ('"seaweedfs-metadata:/data"', '"/data"', "SEAWEEDFS_METADATA_VOLUME", "has no name"),
        ("{name: avatar_seaweedfs_blocks}", "{}\nname_: x", "", ""),
        ("  filer: {", "  filer2: {", "SEAWEEDFS_VOLUME", "no service filer"),
        ("  db:\n", "  postgres:\n", "DB_VOLUME", "no service db"),
        (
            '    volumes: ["postgres_data:',
            '    environment: {PGDATA: /var/lib/postgresql/data/pg}\n    volumes: ["postgres_data:',
            "DB_VOLUME",
            "in a folder of the volume",
        ),
        ("image: postgres:14-alpine", "build: ./postgres", "POSTGRES_IMAGE", "db has no image"),
        ("services:\n", "include: [more.yaml]\nservices:\n", "DB_VOLUME", "docker compose config --no-path"),
    ],
)
def test_no_other_volume_or_database_starts_in_its_place(
    old: str, new: str, key: str, reason: str, tmp_path: Path
) -> None:
    source, out = by_hand(tmp_path), tmp_path / "out"
    if not key:  # the name of the project makes the name of the volume
        edited(source, "docker-compose.yml", old, "{}")
        adopted(source)
        assert composed(out)["volumes"]["seaweedfs-blocks"]["name"] == "octopize-avatar_seaweedfs-blocks"
        return
    edited(source, "docker-compose.yml", old, new)
    before = stamps(tmp_path)
    refused = ran(out, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    several = "was not understood" in refused  # all for one reason
    assert re.search(rf"{key}[A-Z_, ]* cannot be determined: in docker-compose.yml", refused)
    assert f"--set {'KEY' if several else key}=VALUE" in refused
    assert refused.count("was not understood") == several
    assert reason in refused
    assert stamps(tmp_path) == before
    given = ["POSTGRES_IMAGE=postgres:14-alpine", "AVATAR_AUTHENTIK_VERSION=2026.8.4", "DB_HOST=db"]
    given += [f"{name}=given_{name.lower()}" for name in GIVEN]
    flags = [word for pair in given for word in ("--set", pair)]
    adopted(source, *flags)
    assert env_of(out)["DB_VOLUME"] == "given_db_volume"


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ('["127.0.0.1:443:443"]', ["127.0.0.1:443:443"]),
        ('["8443:443"]', ["8443:443"]),
        ('["[::1]:8443:443"]', ["[::1]:8443:443"]),
        ('["127.0.0.1:443:443", "127.0.0.1:80:80"]', ["127.0.0.1:443:443", "127.0.0.1:80:80"]),
        ('["0.0.0.0:443:443"]', ["443:443"]),
        ("[{target: 443, published: '${NONE:-9443}', host_ip: 10.0.0.5}]", ["10.0.0.5:9443:443"]),
    ],
)
def test_ports_are_published_as_before(ports: str, expected: list[str], tmp_path: Path) -> None:
    source, out = by_hand(tmp_path), tmp_path / "out"
    edited(source, "docker-compose.yml", PORTS, f"ports: {ports}")
    adopted(source)
    assert composed(out)["services"]["nginx"]["ports"] == expected
    assert "listen 443 ssl" in (out / "nginx/nginx.conf").read_text()
    findings = json.loads(run(out, "--check", "--json", settings={}).stdout)["findings"]
    assert [row for row in findings if row["name"] == "address"] == []
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_what_cannot_be_carried_over_is_named(tmp_path: Path) -> None:
    source = by_hand(tmp_path)
    (source / OVERRIDE).write_text(
        "services:\n"
        "  nginx: {ports: ['9443:9443'], volumes: ['./conf.d:/etc/nginx/conf.d:ro']}\n"
        "  db: {ports: ['127.0.0.1:5432:5432']}\n"
        "  dask-worker: {image: 'quay.io/octopize/avatar-service-api:3.10.0'}\n"
        "  mailhog: {image: mailhog}\n"
    )
    report = adopted(source)
    for words in (
        "nginx publishes 9443:9443 too",
        "nginx mounts ./conf.d at /etc/nginx/conf.d, which this stack does not",
        "db publishes 127.0.0.1:5432:5432, which this stack does not",
        "dask-worker runs quay.io/octopize/avatar-service-api:3.10.0",
        "this release has no service mailhog",
        f"{OVERRIDE} was read, and stays there",
    ):
        assert words in report, words


@pytest.mark.parametrize("spelling", ["list", "mapping"])
def test_what_the_compose_file_gives_to_containers_counts(spelling: str, tmp_path: Path) -> None:
    source, out = by_hand(tmp_path), tmp_path / "out"
    given = {
        "LOG_LEVEL": "DEBUG",
        "SMTP_HOST": "mail.internal",
        "SMTP_PASSWORD": "of$$compose",
        "ENV_NAME": "${ENV_NAME}",
        "DATASET_EXPIRATION_DAYS": "${NONE:-14d}",
        "DASK_SCHEDULER": "another:8786",
        "EXTRA_OF_OURS": "yes",
    }
    document = read_yaml((source / "docker-compose.yml").read_text())
    as_list = [f"{key}={text}" for key, text in given.items()]
    document["services"]["api"]["environment"] = given if spelling == "mapping" else as_list
    (source / "docker-compose.yml").write_text(yaml.safe_dump(document))
    edited(source, ".env", "SMTP_PASSWORD='mail\\'s $password #1'\n", "")
    edited(source, ".env", "SMTP_HOST=mail.example.com\n", "")
    report = adopted(source)
    wanted = {"LOG_LEVEL": "DEBUG", "SMTP_HOST": "mail.internal", "DATASET_EXPIRATION_DAYS": "14d"}
    assert {key: env_of(out)[key] for key in wanted} == wanted
    assert (out / ".secrets/smtp_password").read_text() == "of$compose"
    assert "LOG_LEVEL: .env has WARNING, docker-compose.yml has DEBUG; what runs counts" in report
    assert "ENV_NAME: " not in report
    assert "of$compose" not in report
    unknown = report.partition("Not understood, and left in place:")[2].partition("\n\n")[0]
    assert unknown.split() == ["'EXTRA_OF_OURS'", "'MAX_ALLOWED_LINES'", "caddy"]
    assert "Nothing to do" in ran(out, "--adopt", str(source), "--yes", settings={}).stdout


@pytest.mark.parametrize("configured", [True, False])
def test_the_certificate_that_nginx_mounts_counts(configured: bool, tmp_path: Path) -> None:
    source, out = by_hand(tmp_path), tmp_path / "out"
    edited(source, ".env", "# by hand", "NGINX_SSL_CERTIFICATE_PATH=./none.crt")
    (source / "tls").rename(source / "certs")
    text = (source / "docker-compose.yml").read_text().replace("- ./tls/", "- ./certs/")
    if configured:  # a folder, and nginx's configuration names the files in it
        lines = "ssl_certificate /pki/server.fullchain.crt;\n ssl_certificate_key /pki/private/server.decrypted.key;\n"
        edited(source, "nginx/nginx.conf", "    listen", f"    {lines}    listen")
        text = text.replace("- ./certs/server.fullchain.crt:/etc/nginx/tls/server.fullchain.crt:ro", "- ./certs:/pki")
        text = "".join(line for line in text.splitlines(keepends=True) if "decrypted" not in line)
    (source / "docker-compose.yml").write_text(text)
    report = adopted(source)
    answers = read_yaml((out / STATE).read_text())["answers"]
    assert answers["NGINX_SSL_CERTIFICATE_PATH"]["value"] == "./certs/server.fullchain.crt"
    assert (out / "certs/private/server.decrypted.key").exists()
    assert "NGINX_SSL_CERTIFICATE_PATH: .env has ./none.crt" in report


def test_compose_file_in_env_names_the_files(tmp_path: Path) -> None:
    source = by_hand(tmp_path)
    edited(source, ".env", "# by hand", "COMPOSE_FILE=docker-compose.yml:prod.yml")
    out = tmp_path / "out"
    assert (
        "prod.yml: COMPOSE_FILE in .env names it"
        in ran(out, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    )
    (source / "prod.yml").write_text("services: {db: {image: 'postgres:16-alpine'}}\n")
    adopted(source)
    assert env_of(out)["POSTGRES_IMAGE"] == "postgres:16-alpine"


def test_what_a_service_has_because_of_its_place_is_named(tmp_path: Path) -> None:
    source = by_hand(tmp_path)
    own = "extra_hosts: ['ldap:10.0.0.3']\n    dns: [10.0.0.2]\n    labels: [traefik.enable=true]\n    restart: always"
    edited(source, "docker-compose.yml", "  api:\n", f"  api:\n    {own}\n")
    edited(source, "docker-compose.yml", "  web: {", "  web: {env_file: [.env, ./api.env], ")
    tuned = "labels: {avatar-setup.files: x}\n    ulimits: {nofile: 9}\n    command: postgres -c max_connections=300"
    edited(source, "docker-compose.yml", "  db:\n", f"  db:\n    {tuned}\n")
    report = adopted(source)
    assert "the compose file gives api dns, extra_hosts, labels, which this stack does not: keep it in" in report
    assert "the compose file gives web env_file, which this stack does not" in report
    assert "the compose file gives db command, ulimits, which this stack does not" in report


@pytest.mark.parametrize("in_place", [True, False])
def test_a_folder_of_secrets_that_nothing_reads_any_more_is_named(in_place: bool, tmp_path: Path) -> None:
    source = by_hand(tmp_path)
    (source / ".secrets").rename(source / "keys")
    edited(source, ".env", "# by hand", "SECRETS_DIR=/srv/avatar/keys")
    words = ran(source if in_place else tmp_path / "out", "--adopt", str(source), "--yes", settings={}).stdout
    assert (".secrets/ has the secrets of keys/. Once the new stack runs: rm -r keys" in words) == in_place


@pytest.mark.parametrize("in_place", [True, False])
def test_an_old_project_of_another_name_is_stopped_by_name(in_place: bool, tmp_path: Path) -> None:
    """`docker compose down` with the new file would leave it, and two databases would use one volume."""
    source = by_hand(tmp_path)
    edited(source, "docker-compose.yml", "name: octopize-avatar\n", "")
    words = ran(source if in_place else tmp_path / "out", "--adopt", str(source), "--yes", settings={}).stdout
    assert "the project has the NAME of its folder (see docker compose ls), and this stack octopize-avatar" in words
    assert "docker compose -p NAME down --remove-orphans" in words


@pytest.mark.docker
@pytest.mark.parametrize("in_place", [True, False])
def test_a_compose_file_that_extends_another_is_adopted_as_the_message_says(in_place: bool, tmp_path: Path) -> None:
    source = by_hand(tmp_path)
    (source / "base.yml").write_text("services: {base: {image: 'postgres:16-alpine'}}\n")
    edited(source, "docker-compose.yml", "image: postgres:14-alpine", "extends: {file: base.yml, service: base}")
    out = source if in_place else tmp_path / "out"
    refused = ran(out, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    match = re.search(r"\(umask.* >> \.env\)", refused)
    assert match
    subprocess.run(["sh", "-ec", match[0]], cwd=source, check=True)
    assert (source / "resolved.yml").stat().st_mode & 0o777 == 0o600
    words = ran(out, "--adopt", str(source), "--yes", settings={}).stdout
    assert env_of(out)["POSTGRES_IMAGE"] == "postgres:16-alpine"
    assert (out / "tls/server.fullchain.crt").exists()
    assert "NGINX_SSL_CERTIFICATE_PATH" not in (out / STATE).read_text()
    assert ("resolved.yml is not read any more" in words) == in_place
    assert ("resolved.yml was read, and stays there" in words) == (not in_place)


def test_in_place_the_files_that_compose_would_still_read_are_named(tmp_path: Path) -> None:
    source = by_hand(tmp_path)
    (source / "docker-compose.yml").rename(source / "compose.yaml")
    (source / OVERRIDE).write_text("services: {db: {image: 'postgres:16-alpine'}}\n")
    words = ran(source, "--adopt", str(source), "--yes", settings={}).stdout
    assert "mv compose.yaml compose.yaml.old" in words
    assert f"{OVERRIDE} still overrides docker-compose.yml" in words
    assert env_of(source)["POSTGRES_IMAGE"] == "postgres:16-alpine"
    subprocess.run(["mv", "compose.yaml", "compose.yaml.old"], cwd=source, check=True)
    assert "Nothing to do" in ran(source, "--adopt", str(source), "--yes", settings={}).stdout


# --- a deployment of ours -----------------------------------------------------------------------

EDITS = {
    "POSTGRES_IMAGE": ('image: "${POSTGRES_IMAGE}"', "image: postgres:16-alpine", "postgres:16-alpine"),
    "DB_VOLUME": ('name: "${DB_VOLUME}"', "name: kept_data", "kept_data"),
    "LOG_LEVEL": ('LOG_LEVEL: "${LOG_LEVEL}"', "LOG_LEVEL: DEBUG", "DEBUG"),
    "AVATAR_AUTHENTIK_VERSION": ("/server:${AVATAR_AUTHENTIK_VERSION}", "/server:2026.5.1", "2026.5.1"),
}


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("key", EDITS)
def test_an_edited_compose_file_of_ours_counts(key: str, in_place: bool, tmp_path: Path) -> None:
    source, (old, new, value) = deployed(tmp_path / "source"), EDITS[key]
    edited(source, "docker-compose.yml", old, new)
    out = source if in_place else tmp_path / "out"
    out.mkdir(exist_ok=True)
    done = ran(out, "--adopt", str(source), "--yes", settings={})
    assert env_of(out)[key] == value
    assert f"has {value}; what runs counts" in done.stdout + done.stderr
    before = stamps(out)
    assert "Nothing to do" in ran(out, "--adopt", str(source), "--yes", settings={}).stdout
    assert "Nothing to do" in ran(out, settings={}).stdout
    assert stamps(out) == before


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("before", ["2", "1"])
def test_an_edited_size_of_ours_counts(before: str, in_place: bool, tmp_path: Path) -> None:
    source = deployed(tmp_path / "source", settings={**REQUIRED, **OPERATORS, "REPLICAS_WEB": before})
    if before == "2":
        edited(source, "docker-compose.yml", "replicas: 2", "replicas: 5")
    else:
        platform = "    platform: linux/amd64\n"
        old = f'avatar-web:${{AVATAR_WEB_VERSION}}"\n{platform}'
        edited(source, "docker-compose.yml", old, f"{old}    deploy:\n      replicas: 5\n")
    out = source if in_place else tmp_path / "out"
    out.mkdir(exist_ok=True)
    ran(out, "--adopt", str(source), "--yes", settings={})
    assert "replicas: 5" in (out / "docker-compose.yml").read_text()
    assert 'REPLICAS_WEB: "5"' in ran(out, "--export", "-", settings={}).stdout
    assert "Nothing to do" in ran(out, "--adopt", str(source), "--yes", settings={}).stdout
    assert "edited by hand" not in ran(out, settings={}).stderr


def test_an_edited_port_of_ours_counts(tmp_path: Path) -> None:
    source, out = deployed(tmp_path / "source", settings={**REQUIRED, "TLS_MODE": "self-signed"}), tmp_path / "out"
    edited(source, "docker-compose.yml", '- "443:443"', '- "127.0.0.1:443:443"')
    out.mkdir()
    ran(out, "--adopt", str(source), "--yes", settings={})
    assert composed(out)["services"]["nginx"]["ports"] == ["127.0.0.1:443:443"]
    ran(source, "--adopt", str(source), "--yes", settings={})
    assert composed(source)["services"]["nginx"]["ports"] == ["127.0.0.1:443:443"]
    assert "Nothing to do" in ran(source, settings={}).stdout


@pytest.mark.parametrize("in_place", [True, False])
def test_a_volume_of_ours_that_became_a_directory_is_refused(in_place: bool, tmp_path: Path) -> None:
    source = deployed(tmp_path / "source")
    edited(source, "docker-compose.yml", "- postgres_data:/var/lib", "- ./pgdata:/var/lib")
    out = source if in_place else tmp_path / "out"
    out.mkdir(exist_ok=True)
    before = tree(tmp_path)
    assert "DB_VOLUME cannot be determined" in ran(out, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize("mode", ["provided", "self-signed", "behind-proxy", "off"])
def test_what_avatar_setup_wrote_says_nothing_else_than_its_settings(mode: str, tmp_path: Path) -> None:
    source = deployed(tmp_path / "source", settings={**REQUIRED, "TLS_MODE": mode, "PREFLIGHT_IMAGE": "avatar-setup"})
    done = ran(source, "--adopt", str(source), "--yes", settings={})
    assert "Nothing to do" in done.stdout
    assert done.stderr == ""


UPLOADS = "volumes: {authentik-data: {name: their_uploads}}\n"


@pytest.mark.parametrize("in_place", [True, False])
def test_a_volume_that_an_override_names_goes_on(in_place: bool, tmp_path: Path) -> None:
    source = deployed(tmp_path / "source")
    (source / "compose.override.yaml").write_text(UPLOADS)
    out = source if in_place else tmp_path / "out"
    out.mkdir(exist_ok=True)
    done = ran(out, "--adopt", str(source), "--yes", settings={})
    assert composed(out)["volumes"]["authentik-data"]["name"] == "their_uploads"
    assert "their_uploads, not in avatar_authentik_data: it goes on with AUTHENTIK_VOLUME" in done.stdout + done.stderr
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_uploads_in_a_directory_are_refused_and_older_ones_are_not_asked_for(tmp_path: Path) -> None:
    source = by_hand(tmp_path)
    (source / OVERRIDE).write_text("services: {authentik_server: {volumes: ['./uploads:/data']}}\n")
    refused = ran(tmp_path / "out", "--adopt", str(source), "--yes", settings={}, code=1).stderr
    assert "AUTHENTIK_VOLUME cannot be determined: " in refused and "./uploads" in refused
    (source / OVERRIDE).write_text(f"services: {{authentik_server: {{volumes: ['authentik-data:/data']}}}}\n{UPLOADS}")
    assert "their_uploads" in adopted(source)
    assert composed(tmp_path / "out")["volumes"]["authentik-data"]["name"] == "their_uploads"


def test_an_unchanged_deployment_of_ours_has_nothing_that_this_stack_lacks(tmp_path: Path) -> None:
    """Also without the records of what was written, which a copy may lack."""
    source = deployed(tmp_path / "source")
    shutil.rmtree(source / ".deployment-written")
    (tmp_path / "out").mkdir()
    report = adopted(source)
    assert "which this stack does not" not in report
    assert "Not understood" not in report


@pytest.mark.parametrize("ours", [True, False])
def test_what_an_override_changes_beside_the_settings_is_named(ours: bool, tmp_path: Path) -> None:
    source = deployed(tmp_path / "source") if ours else by_hand(tmp_path)
    (tmp_path / "out").mkdir(exist_ok=True)
    (source / OVERRIDE).write_text(
        "name: old\n"
        "services:\n"
        "  db: {command: postgres -c max_connections=300, networks: [corp]}\n"
        "  api: {environment: {EXTRA: x}, image: !reset null}\n"
        "networks: {corp: {external: true}, inner: {}}\n"
        "configs: {other: {file: ./x}}\n"
    )
    report = adopted(source)
    for words in (
        "the compose file gives db command, networks, which this stack does not: keep it in compose.override.yaml",
        "the compose file gives api environment, which this stack does not",
        "the compose file gives the stack configs, networks, which this stack does not",
        "the project is called old, and this stack octopize-avatar: stop the old one first",
    ):
        assert words in report, words
