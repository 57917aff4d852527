"""`--images`, and what a deployment without internet takes from where."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from setup.config.rules import SERVICES
from tests.support.documents import read_yaml
from tests.support.runs import OPERATORS, REQUIRED, deployed, env_file, ran, tree

MIRROR = "registry.example.com:5000/avatar"
TAGS = {"AVATAR_API_VERSION": "3.21.0", "AVATAR_WEB_VERSION": "0.69.0", "AVATAR_SEAWEEDFS_VERSION": "4.45"}
IMAGES = [
    "quay.io/octopize/avatar-service-api:3.21.0",
    "quay.io/octopize/avatar-web:0.69.0",
    "chrislusf/seaweedfs:4.45",
    "ghcr.io/goauthentik/server:2026.8.4",
    "postgres:14-alpine",
    "nginx:1.31.0",
]
COPIES = [
    f"{MIRROR}/octopize/avatar-service-api:3.21.0",
    f"{MIRROR}/octopize/avatar-web:0.69.0",
    f"{MIRROR}/chrislusf/seaweedfs:4.45",
    f"{MIRROR}/goauthentik/server:2026.8.4",
    f"{MIRROR}/postgres:14-alpine",
    f"{MIRROR}/nginx:1.31.0",
]


def commands(out: Path, *flags: str, settings: Mapping[str, str]) -> list[list[str]]:
    """The words of each command that is printed."""
    shown = ran(out, "--images", *flags, settings=settings).stdout.replace("\\\n", "")
    return [shlex.split(line) for line in shown.splitlines() if line.startswith("  docker ")]


def images_of(out: Path) -> set[str]:
    """The images that compose starts, by the values of `.env`."""
    services = read_yaml((out / "docker-compose.yml").read_text())["services"]
    values = env_file(out)
    return {re.sub(r"\$\{(\w+)\}", lambda one: values[one[1]], service["image"]) for service in services.values()}


def test_the_images_are_those_that_compose_starts(tmp_path: Path) -> None:
    more = TAGS | {"PREFLIGHT_IMAGE": "avatar-setup:1"}
    out = deployed(tmp_path / "out", settings=REQUIRED | more)
    before = tree(out)
    data = json.loads(ran(out, "--images", "--json", settings={}).stdout)
    assert [row["image"] for row in data["images"]] == [*IMAGES, "avatar-setup:1"]
    assert {row["image"] for row in data["images"]} == images_of(out)
    assert tree(out) == before


def test_the_commands_save_and_load_every_image(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=REQUIRED | TAGS)
    found = commands(out, settings={})
    assert found == [
        ["docker", "login", "quay.io"],
        *(["docker", "pull", "--platform", "linux/amd64", image] for image in IMAGES),
        ["docker", "save", "-o", "avatar-images.tar", *IMAGES],
        ["docker", "load", "-i", "avatar-images.tar"],
    ]


def test_the_commands_copy_every_image_to_a_mirror(tmp_path: Path) -> None:
    """A deployment is not needed yet: what is given counts."""
    (tmp_path / "out").mkdir()
    found = commands(tmp_path / "out", "--set", f"REGISTRY_MIRROR={MIRROR}", settings=REQUIRED | TAGS)
    assert found == [
        ["docker", "login", "quay.io"],
        *(["docker", "pull", "--platform", "linux/amd64", image] for image in IMAGES),
        *(["docker", "tag", image, copy] for image, copy in zip(IMAGES, COPIES, strict=True)),
        ["docker", "login", "registry.example.com:5000"],
        *(["docker", "push", copy] for copy in COPIES),
        ["docker", "save", "-o", "avatar-images.tar", *COPIES],
        ["docker", "load", "-i", "avatar-images.tar"],
    ]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_mirror_that_is_no_registry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = ran(tmp_path / "out", "--images", "--set", "REGISTRY_MIRROR=https://mirror/", settings={}, code=1)
    assert "REGISTRY_MIRROR='https://mirror/' (--set): " in done.stderr


def test_a_machine_without_a_deployment_needs_no_settings(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert ["docker", "load", "-i", "avatar-images.tar"] in commands(tmp_path / "out", settings={})


def test_an_image_that_is_named_itself_is_not_mirrored(tmp_path: Path) -> None:
    named = {"REGISTRY_MIRROR": MIRROR, "NGINX_IMAGE": "nginx.example.com/nginx@sha256:" + "0" * 64}
    out = deployed(tmp_path / "out", settings=REQUIRED | named | {"POSTGRES_IMAGE": "db.example.com/our-postgres:15"})
    rows = {
        row["image"]: row["source"] for row in json.loads(ran(out, "--images", "--json", settings={}).stdout)["images"]
    }
    assert rows[named["NGINX_IMAGE"]] == "nginx@sha256:" + "0" * 64
    assert rows["db.example.com/our-postgres:15"] == "db.example.com/our-postgres:15"
    assert rows[f"{MIRROR}/octopize/avatar-web:0.68.0"] == "quay.io/octopize/avatar-web:0.68.0"


def test_a_mirror_moves_every_image_and_back(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=REQUIRED | TAGS)
    ran(out, "--set", f"REGISTRY_MIRROR={MIRROR}", settings={})
    assert images_of(out) == set(COPIES)
    ran(out, "--unset", "REGISTRY_MIRROR", settings={})
    assert images_of(out) == set(IMAGES)


# --- without internet -----------------------------------------------------------------------------


def test_the_preset_without_internet_names_no_outside_server(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=REQUIRED | {"PRESET": "airgapped", "REGISTRY_MIRROR": MIRROR})
    texts = [(out / name).read_text() for name in (".env", "docker-compose.yml", "nginx/nginx.conf")]
    texts.append((out / "authentik/octopize-avatar-blueprint.yaml").read_text())
    hosts = set(re.findall(r"https?://([^/\s\"':;]+)", "\n".join(texts)))
    assert hosts <= {"avatar.example.com", "localhost", "127.0.0.1", *SERVICES}
    values = env_file(out)
    assert values["IS_SENTRY_ENABLED"] == "false"
    assert values["COMPATIBILITY_MAPPING_URL"] == "disabled"
    assert not [key for key in values if key.startswith("TELEMETRY_")]
    assert all(image.startswith(f"{MIRROR}/") for image in images_of(out))
    authentik = read_yaml(texts[1])["services"]["authentik_server"]["environment"]
    assert authentik["AUTHENTIK_DISABLE_UPDATE_CHECK"] == authentik["AUTHENTIK_DISABLE_STARTUP_ANALYTICS"] == "true"
    assert (authentik["AUTHENTIK_ERROR_REPORTING__ENABLED"], authentik["AUTHENTIK_AVATARS"]) == ("false", "initials")
    assert "-telemetry=false" in read_yaml(texts[1])["services"]["master"]["command"]
    assert "check_have_i_been_pwned: false" in texts[3]


def test_the_preset_without_internet_needs_a_mail_server_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    amazon = {"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "x", "USE_AWS_SMTP_PRESET": "true", "SMTP_USERNAME": "a"}
    done = ran(tmp_path / "out", "--preset", "airgapped", settings=amazon, code=1)
    assert "PRESET=airgapped has no way there: give the SMTP_HOST of your own mail server" in done.stderr


def test_what_reaches_outside_in_spite_of_the_preset_is_noted(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    given = {"IS_SENTRY_ENABLED": "true", "COMPATIBILITY_MAPPING_URL": "https://example.com/map.json"}
    notes = ran(tmp_path / "out", "--preset", "airgapped", settings=REQUIRED | given).stderr
    for key, text in given.items():
        assert f"note: {key}={text}: PRESET=airgapped has no way there: remove {key} (--unset {key})" in notes
    assert "TELEMETRY_ENABLED" not in notes
    assert "has no way there" not in ran(tmp_path / "out", "--preset", "dev-mode", settings=given).stderr


def test_a_host_without_internet_loads_the_images_or_signs_in_to_its_mirror(tmp_path: Path) -> None:
    settings = REQUIRED | OPERATORS | {"PRESET": "airgapped", "TLS_MODE": "self-signed"}
    out = deployed(tmp_path / "out", settings=settings)
    shown = ran(out, "--check", settings={}).stdout
    assert "docker load -i avatar-images.tar" in shown
    assert "docker login" not in shown
    ran(out, "--set", f"REGISTRY_MIRROR={MIRROR}", settings={})
    assert "docker login registry.example.com:5000\n" in ran(out, "--check", settings={}).stdout
