"""The stacks on a real swarm of three engines: deployed in their order, used, scaled, rotated, and a node lost."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from setup.volume.layout import SWARM_FILES
from tests.support import engine, trees
from tests.support.client import Client
from tests.support.swarm import Swarm, swarm

pytestmark = pytest.mark.docker

PORT = 8080
HOST = f"avatar.test:{PORT}"
SIZE = {"REPLICAS_API": "4", "REPLICAS_WEB": "2", "REPLICAS_DASK_WORKER": "6"}
SETTINGS = dict(trees.CONFIGURATIONS["usual"].settings) | {"PUBLIC_URL": f"http://{HOST}"} | SIZE
DATABASE = frozenset({"db", "init-db", "authentik_init_db"})


@dataclass(frozen=True)
class Visitor(Client):
    """A client in the network that joins the nodes; it finds nginx where its task runs."""

    cluster: Swarm | None = None
    address: str = ""

    def open(self, timeout: float) -> socket.socket:
        assert self.cluster is not None
        return self.cluster.connect(self.address, self.port, timeout)


class Deployment:
    """A tree of stacks, and the swarm that runs them."""

    def __init__(self, cluster: Swarm, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory

    def write(self, secrets: Mapping[str, str] | None = None, **settings: str) -> None:
        given = SETTINGS | settings
        made = trees.targets(given, secrets)
        shutil.rmtree(self.directory)
        trees.write_tree(self.directory, made, trees.secret_texts(given, secrets))
        for file in made.stacks:
            (self.directory / file.path).write_bytes(file.data)

    def deploy(self, *stacks: str, waits: bool = True) -> None:
        for name in stacks or SWARM_FILES:
            command = (
                "stack",
                "deploy",
                f"--detach={str(not waits).lower()}",
                "--resolve-image",
                "never",
                "-c",
                name,
                "avatar",
            )
            self.cluster.docker(*command, cwd=self.directory)

    def wait(self, but: frozenset[str] = frozenset(), seconds: float = 120) -> None:
        try:
            engine.until("all tasks run", lambda: self.cluster.settled(but), seconds)
        except AssertionError as error:
            error.add_note(self.cluster.docker("service", "ls"))
            error.add_note("\n".join(f"{task['Name']} {task['CurrentState']} {task['Error']}" for task in self.failed))
            raise

    @property
    def failed(self) -> list[dict[str, str]]:
        return [task for task in self.cluster.tasks() if task["Error"]]

    @property
    def visitor(self) -> Visitor:
        nodes = {node.name: node.address for node in self.cluster.nodes}
        running = self.running("nginx")
        return Visitor(PORT, HOST, cluster=self.cluster, address=nodes[running[0]["Node"]])

    def running(self, service: str) -> list[dict[str, str]]:
        name = f"avatar_{service}."
        tasks = self.cluster.tasks()
        return [task for task in tasks if task["Name"].startswith(name) and task["CurrentState"].startswith("Running")]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    engine.stand_ins()
    defaults = trees.resolution(SETTINGS).values
    versions = {key: defaults[key] for key in ("POSTGRES_IMAGE", "NGINX_IMAGE")}
    images = set(versions.values()) | {
        f"{defaults['AVATAR_REGISTRY']}/avatar-service-api:{defaults['AVATAR_API_VERSION']}",
        f"{defaults['AVATAR_REGISTRY']}/avatar-web:{defaults['AVATAR_WEB_VERSION']}",
        f"{defaults['AVATAR_SEAWEEDFS_REGISTRY']}/seaweedfs:{defaults['AVATAR_SEAWEEDFS_VERSION']}",
        f"{defaults['AVATAR_AUTHENTIK_REPOSITORY']}/server:{defaults['AVATAR_AUTHENTIK_VERSION']}",
    }
    with swarm(3, sorted(images)) as cluster:
        made = Deployment(cluster, tmp_path_factory.mktemp("swarm"))
        made.write()
        # Without the label of the database: it waits, and starts nowhere.
        cluster.docker("node", "update", "--label-add", "avatar.storage=true", "node2")
        cluster.docker("node", "update", "--label-add", "avatar.sign-in=true", "node2")
        made.deploy(SWARM_FILES[0], waits=False)
        engine.until("storage runs", lambda: cluster.settled(DATABASE), 60)
        pending = [task for task in cluster.tasks() if task["Name"] == "avatar_db.1"]
        assert [task["CurrentState"].split()[0] for task in pending] == ["Pending"]
        assert "no suitable node" in pending[0]["Error"]
        cluster.docker("node", "update", "--label-add", "avatar.database=true", "node2")
        made.wait()
        made.deploy(*SWARM_FILES[1:])
        made.wait()
        assert not made.failed
        yield made


@pytest.mark.parametrize("path, service", [("/api/x", "api"), ("/web", "web"), ("/sso/x", "authentik_server")])
def test_every_route_leads_to_its_service(deployed, path, service):
    assert deployed.visitor.ask(path).seen["service"] == service


def test_every_service_runs_as_often_as_its_setting_says(deployed):
    counts = {name: len(deployed.running(name)) for name in ("api", "web", "dask-worker", "db")}
    assert counts == {"api": 4, "web": 2, "dask-worker": 6, "db": 1}


@pytest.mark.parametrize("path, uid", [("/api/x", 0), ("/sso/x", 1000)])
def test_secrets_are_readable_by_the_user_of_the_image(deployed, path, uid):
    seen = deployed.visitor.ask(path).seen
    assert seen["uid"] == uid
    assert set(seen["secrets"].values()) == {"readable"}


def test_a_second_deploy_replaces_nothing(deployed):
    before = {task["ID"] for task in deployed.cluster.tasks()}
    deployed.write()
    deployed.deploy()
    deployed.wait()
    assert {task["ID"] for task in deployed.cluster.tasks()} == before


def test_a_rotation_under_load_fails_no_request(deployed):
    before = {task["ID"] for task in deployed.running("api")}
    with Load(deployed.visitor, ("/api/x", "/web")) as load:
        deployed.write({"authjwt_secret_key": "f" * 64})
        deployed.deploy()
        engine.until("every task is new", lambda: not before & ids(deployed.running("api")), 90)
        deployed.wait()
    assert load.answers[200] > 100
    assert set(load.answers) == {200}


def test_a_lost_node_is_replaced(deployed):
    lost = deployed.cluster.nodes[2]
    lost.cut_off()
    try:
        engine.until("tasks moved", lambda: len(running_on(deployed, "api", {"node1", "node2"})) == 4, 60)
    finally:
        lost.reconnect()
    engine.until("the node is back", lambda: "Down" not in deployed.cluster.docker("node", "ls"), 60)


def ids(tasks: list[dict[str, str]]) -> set[str]:
    return {task["ID"] for task in tasks}


def running_on(deployed: Deployment, service: str, nodes: set[str]) -> list[dict[str, str]]:
    return [task for task in deployed.running(service) if task["Node"] in nodes]


class Load:
    """Asks for paths again and again while the block runs, and counts the answers."""

    def __init__(self, visitor: Visitor, paths: tuple[str, ...]) -> None:
        self._visitor, self._ended = visitor, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(path,)) for path in paths]
        self.answers: Counter[Any] = Counter()

    def _ask(self, path: str) -> None:
        while not self._ended.is_set():
            try:
                self.answers[self._visitor.ask(path).status] += 1
            except (OSError, json.JSONDecodeError) as error:
                self.answers[repr(error)] += 1
            time.sleep(0.05)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
