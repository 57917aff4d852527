"""A deployment as its operator makes it: the image writes the tree, compose starts what stands there, unedited.

Only the names of the project and of its volumes are others than an operator's, so that the tests never touch the data
of a deployment that lives on the same engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.support import engine
from tests.support.client import SPOOFED, Client, trusting
from tests.unit.deploy.test_targets import NETWORKS, WAITS_FOR

HOST = "avatar.test"
VOLUMES = ("seaweedfs-data", "seaweedfs-metadata", "seaweedfs-blocks", "postgres_data", "authentik-data")
REPORT = "stand-in: "
OWNER = 1234  # of the tree, as of a directory that an ordinary user made

# Takes pairs of host and port, and prints those that can be connected to.
PROBE = """\
import concurrent.futures, json, socket, sys
def reached(target):
    try:
        socket.create_connection(tuple(target), timeout=3).close()
    except OSError:
        return None
    return target
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps([one for one in pool.map(reached, json.loads(sys.argv[1])) if one]))
"""


def free_port() -> int:
    """A port that nobody has, and that the kernel gives to no outgoing connection before nginx takes it."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


class Stack:
    """A deployment of stand-ins below `directory`; its public port is free on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.out, self.project = directory, directory / "avatar", engine.unique("stack")
        self.port = free_port()
        self.settings: dict[str, str] = {}
        self.authority: Path | None = None  # what a client trusts, where TLS is ours
        self.out.mkdir()
        if os.geteuid() == 0:
            os.chown(self.out, OWNER, OWNER)
        names = {volume: {"name": f"{self.project}-{volume}"} for volume in VOLUMES}
        (directory / "volumes.json").write_text(json.dumps({"volumes": names}))

    # --- what was asked for --------------------------------------------------------------------------

    @property
    def netloc(self) -> str:
        return self.settings["PUBLIC_URL"].rpartition("/")[2]

    @property
    def scheme(self) -> str:
        return "http" if self.settings["PUBLIC_URL"].startswith("http:") else "https"

    @property
    def public_port(self) -> str:
        return self.netloc.partition(":")[2] or {"http": "80", "https": "443"}[self.scheme]

    @property
    def auth(self) -> str:
        return self.settings.get("AUTH_TYPE", "email")

    @property
    def mail(self) -> str:
        return "smtp" if "SMTP_HOST" in self.settings else "aws"

    @property
    def bundled(self) -> bool:
        return "DB_HOST" not in self.settings

    @property
    def private_ca(self) -> bool:
        return self.settings.get("TLS_MODE") == "self-signed" or "TLS_CA_PATH" in self.settings

    @property
    def services(self) -> set[str]:
        return set(NETWORKS) - (set() if self.bundled else {"db"})

    # --- the operator's commands ---------------------------------------------------------------------

    def configure(self, **settings: str) -> str:
        """Runs the image with these settings, and those of earlier runs, in its environment; what it said."""
        self.settings |= settings
        said = [option for key, text in self.settings.items() for option in ("-e", f"{key}={text}")]
        done = engine.docker("run", "--rm", "-v", f"{self.out}:/out", *said, engine.image())
        return (done.stdout + done.stderr).decode()

    def status(self) -> dict[str, Any]:
        done = engine.docker("run", "--rm", "-v", f"{self.out}:/out", engine.image(), "--status", "--json")
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown

    def compose(self, *arguments: str, check: bool = True, timeout: int = 300) -> str:
        files = ("-f", self.out / "docker-compose.yml", "-f", self.directory / "volumes.json")
        project = ("--project-directory", self.out, "-p", self.project)
        done = engine.docker("compose", *files, *project, *arguments, cwd=self.out, check=check, timeout=timeout)
        return (done.stdout + (b"" if check else done.stderr)).decode()

    def up(self) -> None:
        """`docker compose up -d --wait`; where that fails, the error shows what the containers said."""
        try:
            self.compose("up", "-d", "--wait")
        except AssertionError as error:
            error.add_note(self.compose("ps", "-a", check=False))
            error.add_note(self.compose("logs", "--no-color", "--tail", "5", check=False)[-6000:])
            raise

    def down(self) -> None:
        self.compose("down", "-v", "--timeout", "2", "--remove-orphans", check=False)

    # --- what runs -----------------------------------------------------------------------------------

    def every_container(self) -> dict[str, dict[str, Any]]:
        """Service -> its container as `docker inspect` shows it."""
        found = json.loads(engine.docker("inspect", *self.compose("ps", "-aq").split()).stdout)
        return {entry["Config"]["Labels"]["com.docker.compose.service"]: entry for entry in found}

    def containers(self) -> dict[str, dict[str, Any]]:
        """The same without the preflight, which is no part of the stack and has tests of its own."""
        return {service: entry for service, entry in self.every_container().items() if service != "preflight"}

    def ids(self) -> dict[str, str]:
        return {service: entry["Id"] for service, entry in self.containers().items()}

    @contextlib.contextmanager
    def recreating(self, *concerned: str) -> Iterator[None]:
        """The block gives these services new containers, and none but these and those that wait for them."""
        before = self.ids()
        yield
        after = self.ids()
        found = {service for service in before if after[service] != before[service]}
        assert set(concerned) <= found <= with_dependents(concerned)

    def execute(self, service: str, *command: str, user: str = "") -> str:
        """What a command prints inside of a service's container."""
        return self.compose("exec", "-T", *(("-u", user) if user else ()), service, *command)

    def reports(self) -> dict[str, dict[str, Any]]:
        """Service -> what its stand-in found when it last started; the real programs report nothing."""
        found = {}
        for service, entry in self.containers().items():
            lines = [line for line in engine.logs(entry["Id"]).splitlines() if line.startswith(REPORT)]
            if lines:
                found[service] = json.loads(lines[-1].removeprefix(REPORT))
        return found

    def variables(self, service: str) -> set[str]:
        """The names of the environment that compose gives to a service, besides those of its image."""
        entry = self.containers()[service]
        image = json.loads(engine.docker("image", "inspect", entry["Image"]).stdout)[0]
        return {one.partition("=")[0] for one in {*entry["Config"]["Env"]} - {*(image["Config"]["Env"] or ())}}

    def addresses(self) -> dict[str, dict[str, str]]:
        """Service -> network -> its container's address there, of those that run."""
        containers = self.containers()
        networks = {service: entry["NetworkSettings"]["Networks"] for service, entry in containers.items()}
        return {
            service: {name.removeprefix(f"{self.project}_"): row["IPAddress"] for name, row in rows.items()}
            for service, rows in networks.items()
            if containers[service]["State"]["Running"]
        }

    @contextlib.contextmanager
    def places(self, one_shots: Iterable[str]) -> Iterator[dict[str, str]]:
        """Service -> a container in its place: its own, or for those that have ended one that sleeps there."""
        found, sleepers = self.ids(), {}
        try:
            for service in one_shots:
                run = ("run", "-d", "-T", "--no-deps", "--entrypoint", "sleep", service, "300")
                sleepers[service] = self.compose(*run).strip()
            yield found | sleepers
        finally:
            if sleepers:
                engine.docker("rm", "-f", *sleepers.values(), check=False)

    def sql(self, statement: str, user: str, password: str, database: str) -> str:
        """What PostgreSQL answers over the network to somebody who signs in from Authentik's container."""
        words = ("psql", "-X", "-q", "-A", "-t", "-U", user, "-d", database, "-c", statement)
        line = f'PGHOST="$AUTHENTIK_POSTGRESQL__HOST" PGPASSWORD={shlex.quote(password)} {shlex.join(words)}'
        return self.execute("authentik_server", "sh", "-c", line).rstrip("\n")

    # --- from outside --------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        return Client(self.port, self.netloc, trusting(self.authority) if self.authority else None)

    def client_addresses(self) -> set[str]:
        """Where a client on this machine seems to come from: nginx's way out, unless a trusted proxy tells."""
        if "TRUSTED_PROXIES" in self.settings:
            return {SPOOFED["X-Forwarded-For"]}
        return {row["Gateway"] for row in self.containers()["nginx"]["NetworkSettings"]["Networks"].values()}


def reached(container: str, targets: list[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of the targets that can be connected to from inside a container."""
    # Docker answers for its own names at once; for others it asks around, which nobody needs to wait for.
    run = ("exec", "-e", "RES_OPTIONS=timeout:2 attempts:1", container, "python3", "-c", PROBE, json.dumps(targets))
    return {(host, port) for host, port in json.loads(engine.docker(*run).stdout)}


def with_dependents(services: Iterable[str]) -> set[str]:
    """These services and all that wait for one of them, which some releases of compose recreate with it."""
    found = set(services)
    while more := {service for service, others in WAITS_FOR.items() if found & others.keys()} - found:
        found |= more
    return found


@contextlib.contextmanager
def deployment(directory: Path) -> Iterator[Stack]:
    """A stack that is not yet configured, and is removed with all it has at the end."""
    engine.stand_ins()
    made = Stack(directory)
    try:
        yield made
    finally:
        made.down()
