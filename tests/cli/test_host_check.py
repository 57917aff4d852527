"""`--host-check | sh`: the script is run by a real shell, with and without docker, and with one that answers oddly."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.runs import REQUIRED, deployed, lacking, ran
from tests.support.web import free_port

TOOLS = ("sh", "awk", "cat", "df", "getent", "grep", "head", "timeout")

# Answers as Docker's command does, of a version and with containers that the test says.
DOCKER = """\
#!/bin/sh
case "$1 $2" in
    'version --format') case $3 in *Client*) echo "$CLIENT" ;; *) echo "$VERSION" ;; esac ;;
    'compose version') [ -n "$COMPOSE" ] && echo "$COMPOSE" ;;
    'info --format') case $3 in *Swarm*) echo "$SWARM" ;; *) echo / ;; esac ;;
    'node ls') printf "$LABELLED" ;;
    'ps --filter') [ -z "$HELD" ] || echo "$HELD" ;;
    'image inspect') [ "$HERE" = yes ] ;;
    'manifest inspect') [ "$HERE" = mirror ] || { echo unauthorized: access denied >&2; exit 1; } ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""
GOOD = {"VERSION": "20.10.24+dfsg1 amd64", "COMPOSE": "v2.26.1-4", "HELD": "", "HERE": "yes"}


def script(out: Path) -> str:
    return ran(out, "--host-check", settings={}).stdout


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with what every host has, and without docker."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        program = shutil.which(name)
        if program is None:
            lacking(f"{name} is missing")
        (folder / name).symlink_to(str(program))
    return folder


def checked(text: str, tools: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Pipe the script into sh, as an operator does."""
    return subprocess.run(
        [tools / "sh"],
        input=text,
        env={"PATH": str(tools), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def with_docker(tools: Path) -> None:
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def out(tmp_path: Path, port: int) -> Path:
    return deployed(
        tmp_path / "out", settings=REQUIRED | {"PUBLIC_URL": f"localhost:{port}", "TLS_MODE": "self-signed"}
    )


@pytest.mark.parametrize("target", ["compose", "kubernetes", "swarm"])
def test_shellcheck_has_nothing_to_say(tmp_path: Path, target: str) -> None:
    if not shutil.which("shellcheck"):
        lacking("shellcheck is missing (apt-get install shellcheck)")
    text = script(deployed(tmp_path / "out", settings=REQUIRED | {"TARGET": target, "TLS_MODE": "self-signed"}))
    done = subprocess.run(["shellcheck", "-s", "sh", "-"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_good_host_passes(out: Path, port: int, tools: Path) -> None:
    with_docker(tools)
    done = checked(script(out), tools, **GOOD)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["ok    engine: Docker 20.10.24+dfsg1", "ok    compose: Compose 2.26.1-4"]
    assert lines[2].startswith("ok    disk: / has ")
    assert f"ok    port: {port} is free" in lines
    assert "ok    image: quay.io/octopize/avatar-service-api:3.20.1 is on this host" in lines
    assert lines[-1].startswith("ok    name: localhost resolves to ")


@pytest.mark.parametrize(
    ("instead", "code", "words"),
    [
        ({"VERSION": "19.03.15 amd64"}, 1, "fail  engine: Docker 19.03.15 is older than 20.10\n      do: upgrade"),
        ({"VERSION": "29.1.0 arm64"}, 0, "warn  engine: on arm64 the Avatar images"),
        ({"COMPOSE": ""}, 1, "fail  compose: docker has no compose\n      do: install it: https://"),
        ({"COMPOSE": "1.29.2"}, 1, "fail  compose: Compose 1.29.2 is older than 2"),
        ({"HELD": "octopize-avatar/"}, 0, "is held by this stack\n"),
        ({"HELD": "other/"}, 1, "is used by another container\n      do: stop it; it is shown by: docker ps --filter"),
        ({"HERE": "mirror"}, 0, "ok    image: nginx:1.31.0 can be pulled\n"),
        ({"HERE": "no"}, 1, "0.68.0 cannot be pulled: unauthorized: access denied\n      do: docker login quay.io\n"),
        ({"HERE": "no"}, 1, "nginx:1.31.0 cannot be pulled: unauthorized: access denied\n      do: docker login\n"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_line_with_what_to_do(
    out: Path, tools: Path, instead: dict[str, str], code: int, words: str
) -> None:
    with_docker(tools)
    done = checked(script(out), tools, **GOOD | instead)
    assert done.returncode == code, done.stdout
    assert done.stderr == ""
    assert words in done.stdout


SWARM = {"SWARM": "true [name=seccomp name=no-new-privileges]", "CLIENT": "28.2.2", "LABELLED": "2t3mu3k0grqca1ft\n"}


@pytest.mark.parametrize(
    ("instead", "code", "words"),
    [
        ({}, 0, "is a manager\nok    no-new-privileges: Docker on this host sets it\nok    client: docker 28"),
        ({}, 0, "ok    label: one node has avatar.database=true\nok    label: one node has"),
        ({"SWARM": "false [name=seccomp]"}, 1, "fail  swarm: this host is no manager of a swarm\n      do: "),
        ({"SWARM": "true [name=seccomp]"}, 0, "warn  no-new-privileges: Docker on this host does not set it"),
        ({"CLIENT": "25.0.3"}, 1, "fail  client: docker 25.0.3 is older than 26"),
        ({"LABELLED": ""}, 1, "no node has avatar.storage=true\n      do: docker node update --label-add avatar.st"),
        ({"LABELLED": "one\ntwo\n"}, 1, "several nodes have avatar.database=true\n      do: docker node update"),
        ({"HELD": "avatar/"}, 0, "is held by this stack\n"),
    ],
)  # fmt: skip
def test_a_manager_of_a_swarm_is_checked_in_place_of_compose(
    tmp_path: Path, port: int, tools: Path, instead: dict[str, str], code: int, words: str
) -> None:
    settings = {"TARGET": "swarm", "PUBLIC_URL": f"localhost:{port}", "TLS_MODE": "self-signed"}
    with_docker(tools)
    text = script(deployed(tmp_path / "swarm", settings=REQUIRED | settings))
    done = checked(text, tools, **GOOD | SWARM | {"COMPOSE": ""} | instead)
    assert done.returncode == code, done.stdout
    assert done.stderr == ""
    assert words in done.stdout


KUBECTL = """\
#!/bin/sh
case "$*" in
    version) [ -n "$SERVER" ] || { echo 'The connection was refused' >&2; exit 1; } ;;
    'get namespace avatar') [ "$NAMESPACE" = avatar ] ;;
    '-n avatar auth can-i create statefulsets.apps') [ "$MAY" = yes ] ;;
    'get nodes -o '*) echo "$NODES" ;;
    '-n avatar get secret registry') [ "$SECRET" = registry ] ;;
    'get storageclass -o '*) [ -n "$CLASSES" ] && echo "$CLASSES" ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""
CLUSTER = {"SERVER": "v1.36", "NAMESPACE": "avatar", "MAY": "yes", "NODES": "arm64 amd64", "SECRET": "registry"}
CLUSTER["CLASSES"] = "slow= fast= faster=true"


@pytest.mark.parametrize(
    ("instead", "code", "words"),
    [
        ({}, 0, "ok    cluster: it answers, and you may use the namespace avatar\nok    nodes: some are amd64"),
        ({}, 0, "ok    registry: the Secret registry exists\nok    name: localhost resolves to"),
        ({"SERVER": ""}, 1, "fail  cluster: it does not answer: The connection was refused\n      do: kubectl config"),
        (
            {"NAMESPACE": "x"},
            1,
            "or you may not see it\n      do: kubectl create namespace avatar",
        ),
        ({"MAY": "no"}, 1, "fail  cluster: you may not create objects in the namespace avatar"),
        ({"NODES": "arm64 arm64"}, 1, "fail  nodes: none is amd64"),
        ({"NODES": ""}, 0, "skip  nodes: you may not list them"),
        (
            {"CLASSES": "faster=true"},
            1,
            "fail  storage: there is no class fast\n      do: kubectl get storageclass; --set",
        ),
        ({"CLASSES": ""}, 0, "skip  storage: you may not list the classes"),
        (
            {"SECRET": ""},
            1,
            "fail  registry: there is no Secret registry in the namespace avatar, or you may not see it",
        ),
    ],
)
def test_a_cluster_is_checked_with_kubectl_alone(
    tmp_path: Path, tools: Path, instead: dict[str, str], code: int, words: str
) -> None:
    settings = {"TARGET": "kubernetes", "PUBLIC_URL": "localhost", "KUBERNETES_STORAGE_CLASS": "fast"}
    (tools / "kubectl").write_text(KUBECTL)
    (tools / "kubectl").chmod(0o755)
    done = checked(script(deployed(tmp_path / "out", settings=REQUIRED | settings)), tools, **CLUSTER | instead)
    assert done.returncode == code, done.stdout
    assert done.stderr == ""
    assert words in done.stdout


@pytest.mark.parametrize(
    ("classes", "code", "words"),
    [
        ("slow= fast=true", 0, "ok    storage: there is a default class"),
        ("slow= fast=false", 1, "fail  storage: there is no default class\n      do: kubectl get storageclass; --set"),
    ],
)
def test_a_cluster_needs_a_default_class_and_later_a_record(
    tmp_path: Path, tools: Path, classes: str, code: int, words: str
) -> None:
    settings = {"TARGET": "kubernetes", "PUBLIC_URL": "avatar.invalid"}
    (tools / "kubectl").write_text(KUBECTL)
    (tools / "kubectl").chmod(0o755)
    out = deployed(tmp_path / "out", settings=REQUIRED | settings)
    done = checked(script(out), tools, **CLUSTER | {"CLASSES": classes})
    assert done.returncode == code, done.stdout
    assert words in done.stdout
    record = "warn  name: avatar.invalid does not resolve yet: create a DNS record with the address that this shows"
    assert f"{record}: kubectl -n avatar get service,ingress" in done.stdout


def test_without_kubectl_it_says_what_to_install(tmp_path: Path, tools: Path) -> None:
    settings = {"TARGET": "kubernetes", "TLS_MODE": "self-signed"}
    done = checked(script(deployed(tmp_path / "out", settings=REQUIRED | settings)), tools)
    assert done.returncode == 1
    assert done.stdout.startswith("fail  cluster: kubectl is not on PATH\n      do: install it: https://")


def test_without_docker_the_rest_is_checked(out: Path, port: int, tools: Path) -> None:
    with socket.create_server(("127.0.0.1", port)):
        done = checked(script(out), tools)
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.startswith("fail  engine: docker is not on PATH\n      do: install Docker Engine: ")
    assert (
        f"fail  port: {port} is used by another program\n      do: stop it; it is shown by: sudo ss -ltnp"
        in done.stdout
    )
    assert "image:" not in done.stdout


def test_a_docker_that_does_not_answer_is_quoted(out: Path, tools: Path) -> None:
    (tools / "docker").write_text("#!/bin/sh\necho 'permission denied on /var/run/docker.sock' >&2\nexit 1\n")
    (tools / "docker").chmod(0o755)
    done = checked(script(out), tools)
    assert "fail  engine: docker does not answer: permission denied on /var/run/docker.sock" in done.stdout


def test_a_name_that_does_not_resolve_is_a_failure(tmp_path: Path, tools: Path) -> None:
    out = deployed(tmp_path / "other", settings=REQUIRED | {"PUBLIC_URL": "avatar.invalid"})
    with_docker(tools)
    done = checked(script(out), tools, **GOOD)
    assert "fail  name: avatar.invalid does not resolve on this host\n      do: create a DNS record" in done.stdout
    assert done.returncode == 1


def test_little_disk_space_is_a_failure(out: Path, tools: Path) -> None:
    with_docker(tools)
    text = script(out).replace("check_disk 20", "check_disk 999999999")
    assert "do: free disk space: docker system df" in checked(text, tools, **GOOD).stdout


def test_an_address_is_not_resolved_and_the_redirect_port_is_checked(tmp_path: Path) -> None:
    settings = {"PUBLIC_URL": "192.0.2.7", "TLS_MODE": "self-signed", "NGINX_HTTP_REDIRECT_PORT": "80"}
    text = script(deployed(tmp_path / "out", settings=REQUIRED | settings))
    assert text.endswith('check_port 443 01BB\ncheck_port 80 0050\n[ "$failures" -eq 0 ]\n')


def test_nothing_is_printed_before_a_deployment_is_configured(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = ran(tmp_path / "out", "--host-check", settings={}, code=1)
    assert done.stdout == ""
    assert "configure it first" in done.stderr


@pytest.mark.docker
def test_the_real_docker_of_this_machine_is_understood(out: Path) -> None:
    if not shutil.which("docker"):
        lacking("docker is missing")
    done = subprocess.run(
        ["sh"], input=script(out), env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    if "docker does not answer" in done.stdout:
        lacking("the engine does not run")
    assert done.stdout.startswith("ok    engine: Docker ")
    assert done.stderr == ""
