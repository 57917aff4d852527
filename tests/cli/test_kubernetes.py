"""Runs with TARGET=kubernetes, as an operator makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.documents import read_yaml
from tests.support.pki import root
from tests.support.runs import OPERATORS, REQUIRED, paths, ran, stamps, tree

SETTINGS = REQUIRED | OPERATORS | {"TARGET": "kubernetes"}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kubernetes") / "avatar"
    folder.mkdir()
    ran(folder, settings=SETTINGS)
    return folder


def test_a_run_writes_a_base_and_no_compose_file(out: Path) -> None:
    kustomization = read_yaml((out / "kustomization.yaml").read_text())
    assert not (out / "docker-compose.yml").exists()
    assert not (out / "nginx").exists()
    sources = [*kustomization["secretGenerator"], *kustomization["configMapGenerator"]]
    read = [entry.rpartition("=")[2] for each in sources for entry in [*each.get("files", ()), *each.get("envs", ())]]
    missing = [path for path in [*read, *kustomization["resources"]] if not (out / path).is_file()]
    assert [path for path in missing if not path.startswith("tls/")] == []  # the certificate is the operator's


def test_the_secrets_that_are_shown_are_their_owners_alone(out: Path) -> None:
    private = {path.name for path in paths(out) if path.suffix == ".env" or path.name == ".env"}
    assert private >= {".env", "secret.env"}
    assert {(out / "kubernetes" / "secret.env").stat().st_mode & 0o777} == {0o600}


def test_a_second_run_changes_nothing(out: Path) -> None:
    before = stamps(out)
    ran(out, settings=SETTINGS)
    assert stamps(out) == before


def test_an_old_key_is_removed_once_no_pod_uses_it(out: Path) -> None:
    lines = ran(out, "--rotate", "storage", "--yes", settings=SETTINGS).stdout.splitlines()
    commands = [line for line in lines if "kubectl" in line]
    words = ["apply -k .", "wait --for=condition=complete", "rollout status", "weed shell", "--prune"]
    assert [word for command, word in zip(commands, words, strict=True) if word not in command] == []
    assert [line for line in commands if "{" in line] == []


def test_a_volume_that_exists_keeps_its_size(out: Path) -> None:
    done = ran(out, settings=SETTINGS | {"KUBERNETES_DATABASE_SIZE": "40Gi", "LOG_LEVEL": "DEBUG"})
    assert "KUBERNETES_DATABASE_SIZE: volumes that exist keep theirs" in done.stderr
    assert "LOG_LEVEL: volumes" not in done.stderr


def test_authorities_that_kubectl_could_not_apply_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.crt").write_bytes(root().pem * 100)
    settings = SETTINGS | {"TLS_CA_PATH": "./tls/ca.crt"}
    before = tree(tmp_path)
    done = ran(tmp_path, settings=settings, code=1)
    assert "tls/ca-bundle.crt: its " in done.stderr
    assert "leave only your own CAs in the file of TLS_CA_PATH" in done.stderr
    assert tree(tmp_path) == before
    ran(tmp_path, settings=settings | {"TARGET": "swarm"})
