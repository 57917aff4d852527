"""The base as a server gets it: configured by the real command, rendered by kubectl, for several sets of answers."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import kubernetes, pki
from tests.support.kubernetes_changes import refused_changes
from tests.support.kubernetes_rules import faults
from tests.support.runs import OPERATORS, REQUIRED, ROOT, ran

CHAIN, KEY, AUTHORITY = "tls/server.fullchain.crt", "tls/private/server.decrypted.key", "tls/ca.crt"
HOSTILE = """it's "$5" \\ $(HOME) $$ #no comment ="""
SELF_SIGNED = {"TLS_MODE": "self-signed"}
EXTERNAL = {"DB_HOST": "pg.example.com", "DB_ADMIN_USER": "admin", "DB_ADMIN_PASSWORD": "of the provider"}
SEVERAL = {"REPLICAS_API": "4", "REPLICAS_WEB": "2", "REPLICAS_DASK_WORKER": "6"}
LIMITED = {"MEMORY_API": "2g", "CPUS_API": "1.5", "MEMORY_DASK_WORKER": "8g"}

# What operators answer; a certificate of their own is put beside the base first.
ANSWERS: dict[str, Mapping[str, str]] = {
    "given certificate": {},
    "self-signed": SELF_SIGNED,
    "external database": SELF_SIGNED | EXTERNAL,
    "private authority": {"TLS_CA_PATH": f"./{AUTHORITY}"},
    "behind a proxy": {"TLS_MODE": "behind-proxy", "NGINX_HTTP_PORT": "8081", "TRUSTED_PROXIES": "10.0.0.0/8"},
    "node port": SELF_SIGNED | {"KUBERNETES_EXPOSURE": "NodePort", "PUBLIC_URL": "https://avatar.example.com:30443"},
    "ingress": {
        "TLS_MODE": "behind-proxy",
        "KUBERNETES_EXPOSURE": "Ingress",
        "KUBERNETES_INGRESS_CLASS": "nginx",
        "KUBERNETES_INGRESS_TLS_SECRET": "avatar-tls",
    },
    "hostile password": SELF_SIGNED | {"SMTP_PASSWORD": HOSTILE},
    "many pods with limits": SELF_SIGNED | SEVERAL | LIMITED,
    "every setting of the cluster": SELF_SIGNED
    | {
        "KUBERNETES_NAMESPACE": "octopize-prod",
        "KUBERNETES_STORAGE_CLASS": "fast",
        "KUBERNETES_IMAGE_PULL_SECRET": "registry",
        "KUBERNETES_NGINX_ADDRESS": "10.96.0.80",
        "KUBERNETES_DATABASE_SIZE": "100Gi",
        "NGINX_HTTP_REDIRECT_PORT": "80",
    },
}


class Base(NamedTuple):
    """A configured directory, and the objects that kubectl makes of it."""

    directory: Path
    objects: list[kubernetes.Object]

    def secret(self, key: str) -> str:
        """What the generated Secrets have under a key."""
        (value,) = {entry["data"][key] for entry in self.objects if entry["kind"] == "Secret" and key in entry["data"]}
        return base64.b64decode(value).decode()


Configure = Callable[..., Base]


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Base]:
    """A set of answers, configured once for all tests."""

    @cache
    def configure(answers: str) -> Base:
        return made(tmp_path_factory.mktemp("base") / "avatar", ANSWERS[answers])

    return configure


def made(directory: Path, answers: Mapping[str, str], *flags: str) -> Base:
    server = pki.issue(pki.HOST, pki.root(), names=(pki.HOST,))
    for path, data in ((CHAIN, server.pem), (KEY, server.private()), (AUTHORITY, pki.root().pem)):
        if not (directory / path).exists() and answers.get("TLS_MODE") != "self-signed":
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(data)
    directory.mkdir(exist_ok=True)
    ran(directory, *flags, settings={"TARGET": "kubernetes"} | REQUIRED | OPERATORS | answers)
    return Base(directory, kubernetes.render(directory))


@pytest.mark.parametrize("answers", ANSWERS)
def test_no_rule_of_a_server_is_broken(configured: Callable[[str], Base], answers: str) -> None:
    assert faults(configured(answers).objects) == []


@pytest.mark.parametrize("release", kubernetes.RELEASES)
@pytest.mark.parametrize("answers", ANSWERS)
def test_the_schemas_of_a_release_pass(configured: Callable[[str], Base], answers: str, release: str) -> None:
    assert kubernetes.schema_faults(configured(answers).objects, release) == []


@pytest.mark.parametrize("answers", ["given certificate", "hostile password"])
def test_a_password_arrives_as_it_was_given(configured: Callable[[str], Base], answers: str) -> None:
    password = ANSWERS[answers].get("SMTP_PASSWORD", OPERATORS["SMTP_PASSWORD"])
    base = configured(answers)
    assert base.secret("SMTP_PASSWORD") == password
    assert base.secret("smtp_password").rstrip("\n") == password


def test_a_second_run_changes_no_object(configured: Callable[[str], Base]) -> None:
    base = configured("self-signed")
    assert made(base.directory, SELF_SIGNED).objects == base.objects


@pytest.mark.parametrize(
    "answers, flags",
    [
        (SEVERAL, ()),
        ({"LOG_LEVEL": "DEBUG"}, ()),
        ({"AVATAR_API_VERSION": "3.21.0"}, ()),
        ({"KUBERNETES_EXPOSURE": "NodePort", "PUBLIC_URL": "https://avatar.example.com:30443"}, ()),
        (EXTERNAL, ()),
        ({}, ("--rotate", "authentik_secret_key", "--yes")),
        ({}, ("--rotate", "storage_admin_secret_access_key", "--yes")),
    ],
)
def test_a_server_takes_the_next_apply(tmp_path: Path, answers: dict[str, str], flags: tuple[str, ...]) -> None:
    before = made(tmp_path / "avatar", SELF_SIGNED).objects
    after = made(tmp_path / "avatar", SELF_SIGNED | answers, *flags).objects
    assert before != after
    assert refused_changes(before, after) == []


def test_the_overlay_of_the_page_can_be_rendered(configured: Callable[[str], Base], tmp_path: Path) -> None:
    page = (ROOT / "docs" / "install" / "kubernetes.md").read_text()
    (overlay,) = re.findall(r"```yaml\n# /app/avatar-overlay/kustomization.yaml\n(.*?)```", page, re.DOTALL)
    base = configured("self-signed")
    (tmp_path / "own.conf").write_text("client_body_timeout 20s;\n")
    above = os.path.relpath(base.directory, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(overlay.replace("../avatar", above))
    objects = kubernetes.render(tmp_path)
    assert faults(objects) == []
    assert {kubernetes.label(entry) for entry in base.objects} < {kubernetes.label(entry) for entry in objects}
    assert refused_changes(base.objects, objects) == []
