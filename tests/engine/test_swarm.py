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

from setup.config import derived
from setup.config.engines import engine_of, prune_commands, start_commands
from setup.secrets import rotation
from setup.volume.layout import STACK, STACK_JOBS, STACK_STATE
from tests.support import engine, runs, trees
from tests.support.client import Client
from tests.support.documents import read_yaml
from tests.support.swarm import Node, Swarm, swarm

pytestmark = pytest.mark.docker

PORT = 8080
HOST = f"avatar.test:{PORT}"
SIZE = {"REPLICAS_API": "4", "REPLICAS_WEB": "2", "REPLICAS_DASK_WORKER": "6"}
SETTINGS = {"TARGET": "swarm", "PUBLIC_URL": f"http://{HOST}"} | SIZE
PAGE = engine.ROOT / "docs" / "install" / "swarm.md"
VALUES = trees.resolution(SETTINGS).values


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
        shutil.rmtree(self.directory)
        trees.write_tree(self.directory, trees.targets(given, secrets), trees.secret_texts(given, secrets))

    def deploy(self, *stacks: str) -> None:
        """Types the lines that avatar-setup prints; a client before 26 does not wait, so the tests do."""
        can_wait = "--detach" in self.cluster.docker("stack", "deploy", "--help")
        for line in start_commands(VALUES, ""):
            if not stacks or any(f" {name} " in line for name in stacks):
                # Only jobs: else each service would be watched for five seconds, one after the other.
                flag = "--detach=false" if STACK_JOBS in line else "--detach=true"
                typed = line.replace("--detach=false", flag if can_wait else "")
                done = self.cluster.shell(f"SMTP_USERNAME=of-the-shell {typed} --resolve-image never", self.directory)
                assert done.returncode == 0, done.stderr
                if STACK_JOBS in line and not can_wait:
                    self.wait()

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
        return self.visitor_at({node.name for node in self.cluster.nodes})

    def visitor_at(self, nodes: set[str]) -> Visitor:
        """A visitor of nginx, which runs on one of these nodes."""
        addresses = {node.name: node.address for node in self.cluster.nodes}
        task = self.running("nginx", nodes)[0]
        return Visitor(PORT, HOST, cluster=self.cluster, address=addresses[task["Node"]])

    def tasks(self, service: str) -> list[dict[str, str]]:
        return [task for task in self.cluster.tasks() if service_of(task) == service]

    def running(self, service: str, nodes: set[str] | None = None) -> list[dict[str, str]]:
        """The running tasks of a service, only those on these nodes."""
        tasks = [task for task in self.tasks(service) if task["CurrentState"].startswith("Running")]
        return [task for task in tasks if nodes is None or task["Node"] in nodes]

    def templates(self) -> dict[str, Any]:
        """Service -> what its tasks are made from: Swarm replaces them if it changes."""
        return {name: service["Spec"]["TaskTemplate"] for name, service in self.cluster.services().items()}

    def node_of(self, service: str) -> Node:
        """The node that runs a service which is single."""
        (task,) = self.running(service)
        return next(node for node in self.cluster.nodes if node.name == task["Node"])

    def secrets(self) -> set[str]:
        return set(self.cluster.docker("secret", "ls", "--format", "{{.Name}}").split())


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    engine.stand_ins()
    images = sorted(set(derived.images(VALUES)))
    with swarm(3, images) as cluster:
        made = Deployment(cluster, tmp_path_factory.mktemp("swarm"))
        made.write()
        # Without the label of the database: it waits, and starts nowhere.
        label = ("node", "update", "--label-add")
        cluster.docker(*label, "avatar.storage=true", "--label-add", "avatar.sign-in=true", "node2")
        made.deploy(STACK_STATE)
        made.wait(frozenset({"db"}))
        (pending,) = made.tasks("db")
        assert pending["CurrentState"].startswith("Pending")
        assert "no suitable node" in pending["Error"]
        cluster.docker(*label, "avatar.database=true", "node2")
        made.wait()
        made.deploy(STACK_JOBS, STACK)
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


def test_an_empty_value_is_not_taken_from_the_shell_that_deploys(deployed):
    service = "dask-scheduler"
    inside = engine_of(VALUES).inside.format(sudo="", service=service)
    shown = deployed.cluster.shell(f"{inside} printenv SMTP_USERNAME", node=deployed.node_of(service))
    assert (shown.returncode, shown.stdout) == (0, "\n"), shown.stderr


@pytest.mark.parametrize("service", ["nginx", "db", "authentik_server"])
def test_the_line_for_the_daemon_confines_every_container(deployed, service):
    node = deployed.node_of(service)
    inside = engine_of(VALUES).inside.format(sudo="", service=service)
    assert "NoNewPrivs:\t1" in deployed.cluster.shell(f"{inside} cat /proc/1/status", node=node).stdout


def test_the_check_of_a_host_finds_a_manager_and_its_labels(deployed, tmp_path):
    out = runs.deployed(tmp_path / "out", settings=runs.REQUIRED | SETTINGS)
    script = runs.ran(out, "--host-check", settings={}).stdout
    (tmp_path / "script").write_text(script)
    lines = deployed.cluster.shell("sh script", tmp_path).stdout.splitlines()
    wanted = {"swarm: this host is a manager"}
    wanted |= {f"label: one node has avatar.{label}=true" for label in ("database", "storage", "sign-in")}
    assert {f"ok    {line}" for line in wanted} <= set(lines)


def test_a_second_deploy_replaces_nothing_and_adds_what_a_setting_adds(deployed):
    before, templates = lasting(deployed), deployed.templates()
    deployed.write(REPLICAS_WEB="3")
    deployed.deploy()
    deployed.wait()
    assert deployed.templates() == templates
    after = lasting(deployed)
    assert before < after
    assert [deployed.cluster.docker("inspect", "-f", "{{.Slot}}", task).strip() for task in after - before] == ["3"]
    assert len(deployed.running("web")) == 3


def test_a_file_of_the_operators_adds_to_a_stack(deployed):
    mine = deployed.directory / "mine.yml"
    mine.write_text(PAGE.read_text().partition("```yaml\n")[2].partition("```")[0])
    (deployed.directory / "nginx" / "mine.conf").write_text("# mine\n")
    merged = deployed.cluster.shell(f"docker stack config -c {STACK} -c {mine.name}", deployed.directory)
    if "unknown" in merged.stderr:
        pytest.skip("this docker has no `stack config`")
    assert merged.returncode == 0, merged.stderr
    document = read_yaml(merged.stdout)
    targets = {each["target"] for each in document["services"]["nginx"]["configs"]}
    assert targets == {"/etc/nginx/nginx.conf", "/etc/nginx/avatar/conf.d/mine.conf"}


def test_a_lost_node_is_replaced(deployed):
    lost, *others = reversed(deployed.cluster.nodes)
    names = {node.name for node in others}
    lost.cut_off()
    try:
        engine.until("tasks moved", lambda: len(deployed.running("api", names)) == 4, 60)
        engine.until("nginx runs elsewhere", lambda: bool(deployed.running("nginx", names)), 20)
        visitor = deployed.visitor_at(names)
        engine.until("it answers", visitor.answers, 20)
        for path in ("/api/x", "/web", "/sso/x"):
            assert visitor.ask(path).status == 200
    finally:
        lost.reconnect()
    engine.until("the node is back", lambda: "Down" not in deployed.cluster.docker("node", "ls"))
    deployed.wait()


def test_a_rotation_under_load_fails_no_request_and_leaves_secrets_that_are_not_used(deployed):
    before, old = ids(deployed.running("api")), deployed.secrets()
    mounted = ("authjwt_secret_key", "authentik_secret_key", "db_password")
    new = dict.fromkeys((*mounted, "sso_client_secret"), "f" * 64)
    with Load(deployed.visitor, ("/api/x", "/web")) as load:
        deployed.write(new, REPLICAS_WEB="3")
        for line in rotation.list_commands_before(new, VALUES, trees.secret_texts(SETTINGS, new), ""):
            if not line.startswith("#"):
                done = deployed.cluster.shell(line, deployed.directory, deployed.node_of("db"))
                assert done.returncode == 0, done.stderr
        deployed.deploy()
        engine.until("every task is new", lambda: not before & ids(deployed.running("api")), 120)
        # The workers are replaced one after the other, for longer than a test needs to see.
        deployed.wait(frozenset({"dask-worker"}))
    assert load.answers[200] > 100
    assert set(load.answers) == {200}
    both = deployed.secrets()
    replaced = {f"avatar_{name}" for name in mounted}
    assert {name.rpartition("_")[0] for name in both - old} == replaced
    for line in prune_commands(VALUES, ""):
        deployed.cluster.shell(line)
    assert {name.rpartition("_")[0] for name in both - deployed.secrets()} == replaced
    assert not old - both


def lasting(deployed: Deployment) -> set[str]:
    """The tasks of all services but the jobs, which every deploy runs again.

    Nor those of the workers: one that loses its scheduler, as on a busy machine, ends by itself.
    """
    others = ("init-db", "init-storage", "authentik_init_db", "authentik_blueprint", "dask-worker")
    tasks = [task for task in deployed.cluster.tasks() if service_of(task) not in others]
    return ids(tasks)


def service_of(task: dict[str, str]) -> str:
    return task["Name"].rpartition(".")[0].partition("_")[2]


def ids(tasks: list[dict[str, str]]) -> set[str]:
    return {task["ID"] for task in tasks}


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
