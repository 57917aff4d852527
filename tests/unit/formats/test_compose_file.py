"""Compose files are read as `docker compose config` reads them, with overrides, variables and every spelling."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from setup.commands.adopt.source import COMPOSE_NAMES, OVERRIDES
from setup.formats import dotenv
from setup.formats.compose_file import Composition, Mount, Port, read
from setup.formats.yaml_file import Malformed
from tests.support.runs import lacking

SEEDS = range(40)
ENV = "TAG=16\nNAME=kept_data\nPORT=8443\nADDRESS=127.0.0.1\nEMPTY=\n"
TEXTS = {
    "image": (
        *("postgres:14-alpine", "postgres:${TAG}", "postgres:${NONE:-15}", "${EMPTY:-mirror.example}/postgres:$TAG"),
        *("postgres:${NONE:-${EMPTY:-${TAG}}}", "postgres:${EMPTY-x}14", "postgres:${TAG:+17}", "a/b${NONE}:1"),
    ),
    "ports": (
        *('"443:443"', '"127.0.0.1:443:443"', '"8443:443"', '"${ADDRESS}:${PORT}:443/tcp"', '"[::1]:443:443"'),
        *('"443"', "8080:80", '"${NONE:-80}:80"', '"443:443/udp"', '"8000-8002:9000-9002"', '"0.0.0.0:81:81"'),
        *("{target: 443, published: 443}", '{target: 443, published: "${PORT}", host_ip: 127.0.0.1, protocol: tcp}'),
        "{target: 80}",
    ),
    "volumes": (
        *("data:/var/lib/postgresql/data", "./data:/var/lib/postgresql/data:ro", "/srv/pg:/var/lib/postgresql/data/"),
        *("more:/more:rw", "${NONE:-more}:/more", "/anonymous", "../up:/up", "./a/../b:/c"),
        *("{type: volume, source: data, target: /var/lib/postgresql/data}", "{type: bind, source: ./x, target: /x}"),
        *(
            '{type: volume, source: "${NONE:-more}", target: /more, volume: {nocopy: true}}',
            "{type: tmpfs, target: /t}",
        ),
    ),
    "environment": ("A=1", "B=${TAG}", "A=2", "C=${NONE:-c}"),
}
VOLUMES = ("", "{name: '${NAME}'}", "{external: true}", "{name: other, external: true}", "{driver_opts: {type: none}}")


def document(dice: random.Random, *, is_override: bool) -> str:
    """A compose file of two services, or one that overrides some of it."""
    lines = [] if is_override and dice.random() < 0.5 else [f"name: {dice.choice(('one', 'two', '${NONE:-three}'))}"]
    lines += ["x-usual: &usual {image: 'usual:${TAG}', ports: ['9000:9000']}", "services:"]
    for service in ("db", "nginx"):
        merges = not is_override and dice.random() < 0.3
        lines += [f"  {service}:", *(["    <<: *usual"] if merges else ["    labels: {a: b}"])]
        if not is_override or dice.random() < 0.5:
            lines.append(f"    image: {dice.choice(TEXTS['image'])}")
        for key in ("ports", "volumes", "environment"):
            entries = dice.sample(TEXTS[key], dice.randrange(4))
            tag = dice.choice(("", "", " !override", " !reset")) if is_override else ""
            lines += [f"    {key}:{tag}{'' if entries else ' []'}"] if entries or tag else []
            lines += [f"      - {entry}" for entry in entries]
    lines += ["volumes:"]
    lines += [f"  {key}: {dice.choice(VOLUMES[:2] if is_override else VOLUMES)}" for key in ("data", "more")]
    return "\n".join(lines) + "\n"


@functools.cache
def require_compose() -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        lacking("docker compose is missing; no engine is needed")


def composed(at: Path) -> dict[str, object]:
    """What the real program makes of a directory."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(at)}
    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"], cwd=at, env=environ, capture_output=True, check=False
    )
    if done.returncode:
        raise Malformed(done.stderr.decode())
    return json.loads(done.stdout)


def as_read(at: Path, composition: Composition) -> dict[str, object]:
    """Our reading in the shape of the real program's."""
    services: dict[str, object] = {}
    for name, service in composition.services.items():
        ports = {(one.address, one.published, one.target, one.protocol) for one in service.ports}
        mounts = set()
        for mount in service.mounts:
            source = os.path.normpath(at / mount.source) if mount.kind == "bind" else mount.source
            mounts.add((mount.kind, source, mount.target))
        services[name] = (service.image, ports, mounts, dict(service.environment))
    used = {mount.source for service in composition.services.values() for mount in service.mounts}
    names = {key: volume.name for key, volume in composition.volumes.items() if key in used}
    return {"services": services, "volumes": names}


def as_composed(document: dict[str, object]) -> dict[str, object]:
    services = {}
    for name, entry in document["services"].items():  # type: ignore[attr-defined]
        ports = {
            (one.get("host_ip", ""), one.get("published", ""), str(one["target"]), one["protocol"])
            for one in entry.get("ports") or ()
        }
        mounts = {(one["type"], one.get("source", ""), one["target"]) for one in entry.get("volumes") or ()}
        services[name] = (entry["image"], ports, mounts, entry.get("environment") or {})
    volumes = document.get("volumes") or {}
    used = {mount[1] for service in services.values() for mount in service[2]}
    return {"services": services, "volumes": {key: one["name"] for key, one in volumes.items() if key in used}}  # type: ignore[attr-defined]


@pytest.mark.docker
@pytest.mark.parametrize("seed", SEEDS)
def test_files_are_read_as_compose_reads_them(seed: int, tmp_path: Path) -> None:
    require_compose()
    dice = random.Random(seed)
    texts = [document(dice, is_override=False)]
    texts += [document(dice, is_override=True)] if dice.random() < 0.8 else []
    for name, text in zip((dice.choice(COMPOSE_NAMES), dice.choice(OVERRIDES)), texts, strict=False):
        (tmp_path / name).write_text(text)
    (tmp_path / ".env").write_text(ENV)
    ours = as_read(tmp_path, read([text.encode() for text in texts], dotenv.parse(ENV.encode())))
    assert ours == as_composed(composed(tmp_path)), "\n---\n".join(texts)


@pytest.mark.docker
@pytest.mark.parametrize("names", [COMPOSE_NAMES, OVERRIDES])
def test_of_several_files_compose_takes_the_same_one(names: tuple[str, ...], tmp_path: Path) -> None:
    require_compose()
    if names is OVERRIDES:
        (tmp_path / "compose.yaml").write_text("services: {db: {image: none}}")
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f"services: {{db: {{image: 'image{number}'}}}}")
    assert composed(tmp_path)["services"]["db"]["image"] == "image0"  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    [
        "services: {db: {extends: {service: a}}}",
        "include: [a.yaml]\nservices: {db: {}}",
        "services: !custom {}",
        "x: 1",
    ],
)
def test_what_it_does_not_follow_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        read([text.encode()], dotenv.Env({}, {}))


def test_a_variable_that_env_leaves_open_is_not_taken_for_empty() -> None:
    env = dotenv.parse(b"TAG=$SHELL_ONLY\nPORT\n")
    text = b"services: {db: {image: 'postgres:${TAG}', ports: ['${PORT:-1}:1'], volumes: ['data:/data']}}"
    service = read([text], env).services["db"]
    assert set(service.unsure) == {"image", "ports"}
    assert service.mounts == (Mount("volume", "data", "/data"),)


def test_an_override_replaces_or_removes() -> None:
    first = b"services: {a: {image: x, ports: ['1:1']}, b: {image: y}}"
    second = b"services: {a: {ports: !override ['2:2']}, b: !reset null}"
    composition = read([first, second], dotenv.Env({}, {}))
    assert composition.services["a"].ports == (Port("", "2", "2"),)
    assert set(composition.services) == {"a"}
