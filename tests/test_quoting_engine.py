"""Quoting against the programs themselves: Compose, a container that is handed the values, and nginx."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from setup.render import quote_env, quote_nginx, quote_yaml, reference
from tests import engine
from tests.hostile import CHOSEN, carried, generated

pytestmark = pytest.mark.docker

TEXTS = [*CHOSEN, *generated(2200)]
# In each: long enough to be worth a container, short enough for what a process can be handed.
COMPOSE = """\
services:
  probe:
    image: {image}
    network_mode: none
    environment:
{lines}"""


def test_there_are_as_many_as_there_should_be():
    assert len(CHOSEN) >= 60
    assert len(carried(quote_env, TEXTS)) >= 2060
    assert len(carried(quote_yaml, TEXTS)) >= 2060
    assert len(carried(quote_nginx, TEXTS)) >= 1000


def _read_by_config(directory: Path) -> list[str]:
    """The values as `docker compose config` shows them: with each $ as $$."""
    done = engine.docker("compose", "config", "--format", "json", cwd=directory)
    assert not done.stderr, done.stderr.decode()
    shown = json.loads(done.stdout)["services"]["probe"]["environment"]
    return [shown[f"V{number}"].replace("$$", "$") for number in range(len(shown))]


def _read_by_container(directory: Path) -> list[str]:
    """The values as a process of the service finds them."""
    project = engine.unique("quoting")
    run = ("compose", "-p", project, "run", "--rm", "-T", "probe", "cat", "/proc/self/environ")
    raw = engine.docker(*run, cwd=directory).stdout
    found = dict(entry.split("=", 1) for entry in raw.decode().split("\0") if entry)
    return [found[f"V{number}"] for number in range(sum(name[0] == "V" for name in found))]


def _differences(expected: Sequence[str], read: Sequence[str]) -> list[tuple[str, str]]:
    assert len(read) == len(expected)
    return [pair for pair in zip(expected, read, strict=True) if pair[0] != pair[1]]


@pytest.fixture(scope="module")
def by_env(tmp_path_factory) -> tuple[Path, list[str]]:
    """A deployment whose values stand in `.env`, and what they are."""
    directory = tmp_path_factory.mktemp("by-env")
    pairs = carried(quote_env, TEXTS)
    env = "".join(f"V{number}={quoted}\n" for number, (_, quoted) in enumerate(pairs))
    lines = "".join(f"      V{number}: {reference(f'V{number}')}\n" for number in range(len(pairs)))
    (directory / ".env").write_text(env, encoding="utf-8", newline="")
    (directory / "docker-compose.yml").write_text(COMPOSE.format(image=engine.BASE_IMAGE, lines=lines))
    return directory, [text for text, _ in pairs]


@pytest.fixture(scope="module")
def by_yaml(tmp_path_factory) -> tuple[Path, list[str]]:
    """A deployment whose values stand in the compose file itself, and what they are."""
    directory = tmp_path_factory.mktemp("by-yaml")
    pairs = carried(quote_yaml, TEXTS)
    lines = "".join(f"      V{number}: {quoted}\n" for number, (_, quoted) in enumerate(pairs))
    text = COMPOSE.format(image=engine.BASE_IMAGE, lines=lines)
    (directory / "docker-compose.yml").write_text(text, encoding="utf-8", newline="")
    return directory, [text for text, _ in pairs]


def test_compose_reads_back_what_stands_in_env(by_env):
    directory, texts = by_env
    assert _differences(texts, _read_by_config(directory)) == []


def test_a_container_is_handed_what_stands_in_env(by_env):
    directory, texts = by_env
    assert _differences(texts, _read_by_container(directory)) == []


def test_compose_reads_back_what_stands_in_its_file(by_yaml):
    directory, texts = by_yaml
    assert _differences(texts, _read_by_config(directory)) == []


def test_a_container_is_handed_what_stands_in_the_compose_file(by_yaml):
    directory, texts = by_yaml
    assert _differences(texts, _read_by_container(directory)) == []


def test_nginx_answers_with_what_was_quoted(tmp_path):
    pairs = carried(quote_nginx, TEXTS)
    locations = "".join(
        f"    location = /{number} {{ return 200 {quoted}; }}\n" for number, (_, quoted) in enumerate(pairs)
    )
    config = (
        "events {}\nhttp {\n  access_log off;\n  keepalive_requests 100000;\n"
        f"  server {{\n    listen 80;\n{locations}  }}\n}}\n"
    )
    (tmp_path / "nginx.conf").write_text(config, encoding="utf-8", newline="")
    mount = f"{tmp_path / 'nginx.conf'}:/etc/nginx/nginx.conf:ro"
    options = ("-v", mount, "-p", "127.0.0.1::80")
    with engine.container(engine.stand_ins()["nginx"], options=options) as name:
        connection = http.client.HTTPConnection("127.0.0.1", engine.published(name, 80), timeout=30)
        engine.until(f"nginx answers ({engine.logs(name)})", lambda: _get(connection, 0) is not None)
        read = [_get(connection, number) for number in range(len(pairs))]
        connection.close()
    assert _differences([text for text, _ in pairs], read) == []


def _get(connection: http.client.HTTPConnection, number: int) -> str | None:
    try:
        connection.request("GET", f"/{number}")
        return connection.getresponse().read().decode()
    except OSError:
        connection.close()
        return None
