"""The labels by which `docker compose up -d` recreates every container whose secrets or files changed."""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.containers import Containers
from tests.support.documents import read_yaml
from tests.support.runs import (
    OPERATORS,
    REQUIRED,
    ROOT,
    STATE,
    by_meaning,
    deployed,
    env_file,
    python,
    ran,
    secrets,
    stamps,
    tree,
    without_marks,
)

KEY = ".deployment-labels.key"
SETTINGS = {**REQUIRED, **OPERATORS}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out", settings=SETTINGS)


def up(containers: Containers) -> set[str]:
    """Start what changed; no container may have other contents than the disk."""
    concerned = containers.up()
    assert containers.stale() == set()
    return concerned


def backup_id(out: Path) -> str:
    return max(path.name for path in (out / ".deployment-history").iterdir())


def labels(out: Path) -> dict[str, str]:
    services = read_yaml((out / "docker-compose.yml").read_text())["services"]
    return {name: entry.get("labels", {}).get("avatar-setup.secrets", "") for name, entry in services.items()}


def blueprint(out: Path) -> bytes:
    return (out / "authentik" / "octopize-avatar-blueprint.yaml").read_bytes()


def test_a_rotation_after_a_restore_reaches_the_container(out: Path) -> None:
    containers = Containers(out)
    up(containers)
    ran(out, "--rotate", "seaweedfs_admin_password", "--yes", settings={})
    assert up(containers) == {"admin"}
    ran(out, "--restore", backup_id(out), "--yes", settings={})
    ran(out, "--rotate", "seaweedfs_admin_password", "--yes", settings={})
    assert up(containers) == {"admin"}


def test_a_rotation_that_a_restore_took_back_reaches_the_containers_the_second_time(out: Path) -> None:
    """The containers started with the first new values, and nobody started them again after the restore."""
    containers = Containers(out)
    up(containers)
    ran(out, "--rotate", "database", "--yes", settings={})
    assert {"api", "authentik_server", "authentik_worker"} <= up(containers)
    ran(out, "--restore", backup_id(out), "--yes", settings={})
    ran(out, "--rotate", "database", "--yes", settings={})
    assert {"api", "authentik_server", "authentik_worker"} <= up(containers)


def test_secrets_that_swap_their_values_are_noticed(out: Path) -> None:
    folder = out / ".secrets"
    containers = Containers(out)
    up(containers)
    first, second = folder / "authjwt_secret_key", folder / "clevercloud_sso_salt"
    texts = first.read_text(), second.read_text()
    second.write_text(texts[0])
    first.write_text(texts[1])
    assert "docker-compose.yml follows from the secrets" in ran(out, settings={}).stdout
    assert "api" in up(containers)
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_a_secret_that_was_edited_by_hand_reaches_its_containers_after_a_run(out: Path) -> None:
    containers = Containers(out)
    up(containers)
    (out / ".secrets" / "organization_name").write_text("Another")
    ran(out, settings={})
    assert "api" in up(containers)


@pytest.mark.parametrize("change", ["LOG_LEVEL=DEBUG", "TARGET=compose"])
def test_a_restore_across_an_edit_by_hand_says_how_the_container_gets_it(out: Path, change: str) -> None:
    """The label follows from what avatar-setup wrote, so that `up -d` alone would leave the edited file in place."""
    ran(out, "--set", change, "--set", "SMTP_PORT=465", settings={})
    with (out / "nginx" / "nginx.conf").open("a") as file:
        file.write("# mine\n")
    containers = Containers(out)
    up(containers)
    command = "docker compose up -d --force-recreate --no-deps nginx\n"
    done = ran(out, "--restore", backup_id(out), "--yes", settings={})
    containers.up()
    assert containers.stale() == {("nginx", "./nginx/nginx.conf"), ("nginx", "./nginx")}
    assert command in done.stdout
    assert command in ran(out, "--restore", backup_id(out), "--yes", settings={}).stdout  # the edited file again
    ran(out, "--set", "PUBLIC_URL=other.example.com", "--on-conflict", "replace", settings={})
    assert command not in ran(out, "--restore", backup_id(out), "--yes", settings={}).stdout  # its label changes too


def test_a_restore_of_a_certificate_that_no_label_covers_says_how_nginx_gets_it(out: Path) -> None:
    ran(out, "--set", "TLS_MODE=self-signed", settings={})
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    (out / "tls" / "server.fullchain.crt").write_text("of somebody")
    containers = Containers(out)
    up(containers)
    done = ran(out, "--restore", backup_id(out), "--yes", settings={})
    containers.up()
    recreates = "docker compose up -d --force-recreate --no-deps nginx\n" in done.stdout
    assert (recreates, containers.stale()) == (True, {("nginx", "./tls/server.fullchain.crt")})


def test_the_blueprint_is_applied_again_after_a_rotation_a_restore_and_the_same_rotation(out: Path) -> None:
    seen = {blueprint(out)}
    ran(out, "--rotate", "authentik_webhook_secret", "--yes", settings={})
    seen.add(blueprint(out))
    ran(out, "--restore", backup_id(out), "--yes", settings={})
    assert blueprint(out) in seen
    ran(out, "--rotate", "authentik_webhook_secret", "--yes", settings={})
    assert len({*seen, blueprint(out)}) == 3


def test_a_restore_brings_the_labels_that_belong_to_its_contents(out: Path) -> None:
    before = labels(out)
    ran(out, "--rotate", "database", "--yes", settings={})
    assert labels(out) != before
    ran(out, "--restore", backup_id(out), "--yes", settings={})
    assert labels(out) == before
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_the_key_is_private_random_and_stays(out: Path, tmp_path: Path) -> None:
    key = out / KEY
    assert key.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\n", key.read_text())
    assert key.read_text() not in {(deployed(tmp_path / "other", "--quiet", settings=SETTINGS) / KEY).read_text()}
    before = key.read_text()
    ran(out, "--reset", settings=SETTINGS)
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    assert key.read_text() == before
    for path, (_, data) in tree(out).items():
        assert path.endswith(KEY) or before.strip().encode() not in data, path


def test_a_short_secret_cannot_be_found_from_what_everybody_may_read(tmp_path: Path) -> None:
    """Try each hash that needs no key: of the value, alone and with its name, cut to the label's length."""
    out = deployed(tmp_path / "out", settings=SETTINGS | {"ORGANIZATION_NAME": "x"})
    public = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file() and path.stat().st_mode & 0o004)
    tried = [b"x", b"organization_name=x", b"organization_name\0x"]
    for text, name in itertools.product(tried, ("md5", "sha1", "sha256", "blake2b")):
        assert hashlib.new(name, text).hexdigest()[:8].encode() not in public


@pytest.mark.parametrize("broken", [b"", None])
def test_a_lost_key_is_replaced_and_costs_only_a_start(out: Path, broken: bytes | None) -> None:
    containers = Containers(out)
    up(containers)
    (out / KEY).unlink() if broken is None else (out / KEY).write_bytes(broken)
    kept = secrets(out)
    assert "docker-compose.yml follows from the secrets" in ran(out, settings={}).stdout
    assert secrets(out) == kept
    assert "api" in up(containers)
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_without_state_the_same_answers_give_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "from setup.configure import DeploymentConfigurator as C\n"
        f"C({str(ROOT / 'templates')!r}, 'out', use_state=False).run(interactive=False)"
    )
    (tmp_path / "out").mkdir()
    python(code, cwd=tmp_path)
    before = (tmp_path / "out" / "docker-compose.yml").read_bytes()
    python(code, cwd=tmp_path)
    assert (tmp_path / "out" / "docker-compose.yml").read_bytes() == before


def test_an_export_gives_the_same_tree_elsewhere_except_for_the_key(out: Path, tmp_path: Path) -> None:
    exported, other = tmp_path / "export.yaml", tmp_path / "other"
    ran(out, "--export", str(exported), "--with-secrets", settings={})
    other.mkdir()
    ran(other, "--config", str(exported), settings={})
    assert secrets(other) == secrets(out)
    assert env_file(other) == env_file(out)
    assert (other / KEY).read_bytes() != (out / KEY).read_bytes()
    assert labels(other) != labels(out)
    shutil.copy(out / KEY, other / KEY)
    ran(other, settings={})
    ours, theirs = by_meaning(out), by_meaning(other)
    for path in ("docker-compose.yml", "authentik/octopize-avatar-blueprint.yaml", "nginx/nginx.conf", ".env"):
        assert theirs[path] == ours[path], path


def test_the_state_holds_no_key_and_no_hash_of_a_secret(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=SETTINGS | {"ORGANIZATION_NAME": "x"})
    state = (out / STATE).read_text()
    assert (out / KEY).read_text().strip() not in state
    assert hashlib.sha256(b"x").hexdigest() not in state


def test_an_unchanged_run_writes_nothing(out: Path) -> None:
    before = stamps(out)
    ran(out, settings={})
    assert stamps(out) == before


@pytest.mark.parametrize("mark", ["1234567890123456", "0012345670123456", "12e4567890123456"])
def test_a_mark_that_yaml_quotes_compares_as_any_other(mark: str) -> None:
    """The sweeps compare states whose marks are random: a number in one of them is no difference."""
    states = []
    for text in (mark, "abcdef0123456789"):
        data = yaml.safe_dump({"basis": {"program": "a", "secrets": text}}).encode()
        states.append(without_marks({STATE: ("0600", data)}))
    assert states[0] == states[1]
