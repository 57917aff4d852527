"""The compose file says of every service what its row of the table says, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from setup.config.services import NETWORKS, Health, Service, State, list_services, list_volumes
from setup.config.settings import SETTINGS
from setup.deploy.targets import WAITING
from setup.formats.yaml_file import load_yaml
from tests.support.trees import CONFIGURATIONS, TEMPLATES, named_targets, targets
from tests.unit.deploy.test_targets import compose, stack

ALL = sorted(CONFIGURATIONS)
SCRIPT = ["/bin/sh", "-euc"]


def rows(name: str) -> dict[str, Service]:
    return {row.name: row for row in list_services(named_targets(name).parts.values)}


def undoubled(text: str) -> str:
    return text.replace("$$", "$")


def seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def health(entry: Mapping[str, Any] | None) -> Any:
    """What a healthcheck asks and how often, as a row says it."""
    if not entry:
        return None
    times = [seconds(entry[key]) for key in ("interval", "timeout", "start_period")]
    return (tuple(map(undoubled, entry["test"])), *times, int(entry["retries"]))


def expected_health(row: Health | None) -> Any:
    return row and (row.test, row.interval, row.timeout, row.start_period, row.retries)


def networks(entry: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    reached = entry["networks"]
    if not isinstance(reached, dict):
        return tuple(reached), ()
    aliases = [alias for options in reached.values() for alias in (options or {}).get("aliases", ())]
    return tuple(reached), tuple(aliases)


def data(entry: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    volumes = []
    for volume in entry.get("volumes", ()):
        if isinstance(volume, str):
            volumes.append((*volume.split(":"), True))
        elif volume["type"] == "volume":
            volumes.append((volume["source"], volume["target"], not volume.get("volume", {}).get("nocopy")))
    return volumes


def size(deploy: Mapping[str, Any]) -> tuple[int, str, str]:
    limits = deploy.get("resources", {}).get("limits", {})
    return int(deploy.get("replicas", 1)), limits.get("memory", ""), limits.get("cpus", "")


def facts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the compose file says of a service, in the fields of a row."""
    command = entry.get("command", [])
    return {
        "image": entry["image"],
        "networks": networks(entry),
        "once": entry["restart"] == "on-failure:10",
        "words": [command] if isinstance(command, str) else command,
        "environment": {key: str(text) for key, text in entry.get("environment", {}).items()},
        "after": {other: row["condition"] for other, row in entry["depends_on"].items()},
        "health": health(entry.get("healthcheck")),
        "ports": entry.get("ports", []),
        "hostname": entry.get("hostname", ""),
        "user": entry.get("user", ""),
        "data": data(entry),
        "tmpfs": entry.get("tmpfs", []),
        "stop_grace": seconds(entry.get("stop_grace_period", "10s")),
        "shm_size": entry.get("shm_size", ""),
        "platform": entry.get("platform", ""),
        "confined": entry.get("security_opt") == ["no-new-privileges:true"],
        "size": size(entry.get("deploy", {})),
    }


def expected(row: Service) -> dict[str, Any]:
    ports = [f"{port.address + ':' if port.address else ''}{port.published}:{port.target}" for port in row.ports]
    return {
        "image": row.image,
        "networks": (row.networks, row.aliases),
        "once": row.state is State.ONCE,
        "words": list(row.command),
        "environment": {variable.name: variable.text for variable in row.environment},
        "after": {after.service: after.condition for after in row.after},
        "health": expected_health(row.health),
        "ports": ports,
        "hostname": row.hostname,
        "user": row.user,
        "data": list(map(tuple, row.volumes)),
        "tmpfs": list(row.tmpfs),
        "stop_grace": row.stop_grace,
        "shm_size": row.shm_size,
        "platform": row.platform,
        "confined": row.confined,
        "size": (row.replicas, row.memory, row.cpus),
    }


@pytest.mark.parametrize("name", ALL)
def test_the_compose_file_says_what_the_table_says(name: str) -> None:
    entries = stack(name)
    assert list(entries) == list(rows(name))
    for service, row in rows(name).items():
        found = facts(entries[service])
        if row.script:
            assert entries[service]["entrypoint"] == SCRIPT
            found["words"] = []  # the next test
        assert found == expected(row), service


SIZES = {"REPLICAS_API": "4", "REPLICAS_DASK_WORKER": "6", "MEMORY_DASK_WORKER": "16g", "CPUS_WEB": "0.5"}


def test_sizes_are_those_of_the_settings_and_nothing_else_changes() -> None:
    usual = load_yaml(targets({}).compose.data, aliases=True)["services"]
    sized = load_yaml(targets(SIZES).compose.data, aliases=True)["services"]
    deploy = {name: entry.pop("deploy") for name, entry in sized.items() if "deploy" in entry}
    assert sized == usual
    assert deploy == {
        "api": {"replicas": "4"},
        "dask-worker": {"replicas": "6", "resources": {"limits": {"memory": "16g"}}},
        "web": {"resources": {"limits": {"cpus": "0.5"}}},
    }


def test_only_what_may_have_copies_has_a_setting_for_it() -> None:
    with_setting = {key.removeprefix("REPLICAS_").lower() for key in SETTINGS if key.startswith("REPLICAS_")}
    replicated = {row.name.replace("-", "_") for row in rows("usual").values() if row.state is State.REPLICATED}
    assert with_setting == replicated - {"s3"}  # the gateway follows the storage behind it, which is single


@pytest.mark.parametrize("name", ALL)
def test_a_script_is_that_of_its_files(name: str) -> None:
    for service, row in rows(name).items():
        if row.script:
            (script,) = stack(name)[service]["command"]
            text = re.sub(r"\$\{([A-Z_]+)\}", r"$${\1}", script)  # the keys of .env stay single
            for file in row.script:
                written = (TEMPLATES / "scripts" / file).read_text().rstrip("\n")
                written = written.replace("LOGS_OF_THE_WORKER", "docker compose logs authentik_worker")
                assert written.replace("START_AGAIN", "docker compose up -d") in undoubled(text)


def test_every_script_belongs_to_a_service() -> None:
    used = {file for name in ALL for row in rows(name).values() for file in row.script} | set(WAITING)
    assert {path.name for path in (TEMPLATES / "scripts").iterdir()} == used


@pytest.mark.parametrize("name", ALL)
def test_the_networks_and_volumes_are_those_of_the_rows(name: str) -> None:
    reached = {network for row in rows(name).values() for network in row.networks}
    assert list(compose(name)["networks"]) == list(NETWORKS)
    assert reached == set(NETWORKS)
    kept = {volume.key for row in rows(name).values() for volume in row.volumes}
    volumes = {volume.name: volume.text for volume in list_volumes(named_targets(name).parts.values)}
    assert {key: entry["name"] for key, entry in compose(name)["volumes"].items()} == volumes
    assert kept == set(volumes)


def test_a_health_check_by_http_asks_what_its_row_says() -> None:
    for row in rows("usual").values():
        if (
            row.health and row.health.path and row.name != "authentik_server"
        ):  # whose image has a word of its own for it
            assert row.health.test[-1].endswith(f":{row.health.port}{row.health.path}"), row.name
