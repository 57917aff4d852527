"""A real swarm: engines in namespaces of their own on this machine, joined by a bridge in another one.

Each engine has its own network, processes and mounts, so that ending its first process ends all that it started and
unmounts all that it mounted. Nothing of this machine's own network or engine is touched; images come from that engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support import engine

# The first process of an engine's namespaces. It waits for the network, and stays to bury what the engine orphans.
_FIRST = """\
mount -t tmpfs none /run
until ip -o address show dev eth0 2>/dev/null | grep -q 'inet '; do sleep 0.05; done
"$@" &
wait
"""
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")  # tests that are killed leave no process either
# Removes a folder and the control groups of its name once the tests end, also if they are killed: its input is theirs.
_REMOVES = """\
read -r _
for _ in $(seq 100); do
    rm -rf "$1" 2>/dev/null
    find /sys/fs/cgroup -maxdepth 2 -name "${1##*/}" -exec find {} -depth -type d -delete \\; 2>/dev/null
    [ -e "$1" ] || [ "$(find /sys/fs/cgroup -maxdepth 2 -name "${1##*/}")" ] || break
    sleep 0.1
done
"""
_PREFIX = "10.203.77"


class Node:
    """An engine in namespaces of its own; `pid` is their first process as this machine sees it."""

    def __init__(self, number: int, folder: Path, switch: int, like: Node | None = None) -> None:
        """Starts an engine; one that is `like` another has that one's images, layer for layer the same files."""
        self.name, self.address = f"node{number}", f"{_PREFIX}.{number}"
        self.folder, self._switch, self._port = folder, switch, f"port{number}"
        self.socket = folder / "docker.sock"
        self.log = folder / "log"
        (folder / "data").mkdir(parents=True)
        for part in ("image", "overlay2") if like else ():
            subprocess.run(["cp", "-al", like.folder / "data" / part, folder / "data" / part], check=True)
        pool = f"base=10.{210 + number}.0.0/16,size=24"
        dockerd = ["dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec", "-p", folder / "pid"]
        dockerd += ["-H", f"unix://{self.socket}", "--default-address-pool", pool]
        dockerd += ["--config-file", folder / "daemon.json", "--bip", f"10.{210 + number}.255.1/24"]
        dockerd += ["--cgroup-parent", f"/{folder.parent.name}", "--exec-opt", "native.cgroupdriver=cgroupfs"]
        (folder / "daemon.json").write_text('{"no-new-privileges": true}')  # as the check of a deployment advises
        spaces = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = [*_DIES_WITH_US, *spaces, "bash", "-c", f"hostname {self.name}\n{_FIRST}", "node", *map(str, dockerd)]
        with self.log.open("wb") as log:
            self._parent = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.pid = _first_child(self._parent)
        self._connect()

    def _connect(self) -> None:
        inside(self._switch, "ip", "link", "add", self._port, "type", "veth", "peer", "eth0", "netns", str(self.pid))
        inside(self._switch, "ip", "link", "set", self._port, "master", "bridge", "up")
        inside(self.pid, "ip", "link", "set", "lo", "up")
        inside(self.pid, "ip", "link", "set", "eth0", "up")
        # Without it, a name is asked for at a registry that never answers, instead of one that cannot be reached.
        inside(self.pid, "ip", "route", "add", "unreachable", "default")
        inside(self.pid, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")

    def docker(self, *arguments: str | Path, **options: Any) -> str:
        """What `docker ARGUMENTS` prints at this engine."""
        return engine.docker("-H", f"unix://{self.socket}", *arguments, **options).stdout.decode()

    def is_up(self) -> bool:
        if self._parent.poll() is not None:
            raise AssertionError(f"{self.name} ended:\n{self.log.read_text()[-3000:]}")
        return engine.docker("-H", f"unix://{self.socket}", "version", check=False).returncode == 0

    def cut_off(self) -> None:
        """Takes the node's cable out; its containers go on by themselves."""
        inside(self._switch, "ip", "link", "set", self._port, "down")

    def reconnect(self) -> None:
        inside(self._switch, "ip", "link", "set", self._port, "up")

    def load(self, images: Iterable[str]) -> None:
        """Gives the engine images of this machine's engine."""
        load = ["docker", "-H", f"unix://{self.socket}", "load", "-q"]
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE, env=engine.environment()) as save:
            subprocess.run(load, stdin=save.stdout, stdout=subprocess.DEVNULL, check=True, env=engine.environment())
        assert save.returncode == 0

    def kill(self) -> None:
        """Kills the first process, and with it the engine, its containers, and all their mounts."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        self._parent.wait(120)


class Swarm:
    """Engines that form a swarm, the first its manager; `switch` is a process in the network that joins them."""

    def __init__(self, nodes: list[Node], switch: int) -> None:
        self.nodes, self.switch = nodes, switch
        self._outside = ThreadPoolExecutor(8, initializer=_enter, initargs=(switch,))

    @property
    def manager(self) -> Node:
        return self.nodes[0]

    def docker(self, *arguments: str | Path, **options: Any) -> str:
        return self.manager.docker(*arguments, **options)

    def shell(self, line: str, cwd: Path | None = None, node: Node | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a line as somebody types it on a node, or on the manager."""
        variables = engine.environment() | {"DOCKER_HOST": f"unix://{(node or self.manager).socket}"}
        return subprocess.run(["sh", "-c", line], cwd=cwd, env=variables, capture_output=True, text=True, check=False)

    def form(self) -> None:
        """Makes the engines a swarm."""
        pool = ("--default-addr-pool", "10.220.0.0/16", "--default-addr-pool-mask-length", "24")
        self.docker("swarm", "init", "--advertise-addr", self.manager.address, *pool)
        token = self.docker("swarm", "join-token", "-q", "worker").strip()
        for node in self.nodes[1:]:
            node.docker("swarm", "join", "--token", token, "--advertise-addr", node.address, self.manager.address)

    def connect(self, address: str, port: int, timeout: float = 20) -> socket.socket:
        """A connection from the network that joins the nodes."""
        return self._outside.submit(socket.create_connection, (address, port), timeout).result()

    def services(self) -> dict[str, dict[str, Any]]:
        """Service -> what `docker service inspect` shows of it."""
        identifiers = self.docker("service", "ls", "-q").split()
        shown = json.loads(self.docker("service", "inspect", *identifiers)) if identifiers else []
        return {entry["Spec"]["Name"].partition("_")[2]: entry for entry in shown}

    def tasks(self) -> list[dict[str, str]]:
        """The tasks of all services, also those that have ended."""
        identifiers = self.docker("service", "ls", "-q").split()
        lines = self.docker("service", "ps", "--no-trunc", "--format", "{{json .}}", *identifiers).splitlines()
        return [json.loads(line) for line in lines]

    def settled(self, but: frozenset[str] = frozenset()) -> bool:
        """Tell whether every service has all its tasks and every job has completed, those named aside."""
        for line in self.docker("service", "ls", "--format", "{{.Name}} {{.Replicas}}").splitlines():
            name, have, *completed = line.split()  # as in "avatar_web 2/2", "avatar_init-db 0/1 (1/1 completed)"
            done, _, wanted = (completed[0].strip("(") if completed else have).partition("/")
            if name.partition("_")[2] not in but and done != wanted:
                return False
        return True


def _enter(pid: int) -> None:
    """Moves this thread into the network of a process; a socket stays where it was made."""
    with open(f"/proc/{pid}/ns/net", "rb") as space:
        if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns")


def inside(pid: int, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command in the network of a process."""
    entered = ["nsenter", f"--net=/proc/{pid}/ns/net", *command]
    done = subprocess.run(entered, capture_output=True, text=True, timeout=60, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done


@contextlib.contextmanager
def swarm(count: int = 3, images: Iterable[str] = ()) -> Iterator[Swarm]:
    """A swarm of so many engines that have these images; removed with all it has at the end."""
    folder = Path(tempfile.mkdtemp(prefix="avsw-", dir=_place()))
    with contextlib.ExitStack() as stack:
        remover = subprocess.Popen(
            ["bash", "-c", _REMOVES, "remover", folder], stdin=subprocess.PIPE, start_new_session=True
        )
        assert remover.stdin
        stack.callback(remover.wait, 60)
        stack.callback(remover.stdin.close)
        cable = subprocess.Popen([*_DIES_WITH_US, "unshare", "--net", "--fork", "--kill-child", "sleep", "infinity"])
        stack.callback(cable.wait)
        stack.callback(cable.kill)
        switch = _first_child(cable)
        inside(switch, "ip", "link", "add", "bridge", "type", "bridge")
        inside(switch, "ip", "address", "add", f"{_PREFIX}.254/24", "dev", "bridge")
        inside(switch, "ip", "link", "set", "bridge", "up")
        nodes: list[Node] = []
        for number in range(1, count + 1):
            nodes.append(Node(number, folder / f"n{number}", switch, nodes[0] if nodes else None))
            stack.callback(nodes[-1].wait)
            stack.callback(nodes[-1].kill)
            if number == 1:
                engine.until("node1 answers", nodes[0].is_up)
                nodes[0].load(images)
        for node in nodes:
            engine.until(f"{node.name} answers", node.is_up)
        made = Swarm(nodes, switch)
        made.form()
        stack.callback(_kill_all, nodes)  # at once: one after the other takes three times as long
        yield made


def _place() -> str:
    """Return where the engines keep their data: in memory if there is enough, which is filled and emptied at once.

    The path is short, because that of a socket has 107 characters at most.
    """
    memory = Path("/dev/shm")
    in_all = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    is_large = memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30 and in_all > 12 << 30
    return str(memory) if is_large else tempfile.gettempdir()


def _kill_all(nodes: list[Node]) -> None:
    for node in nodes:
        node.kill()


def _first_child(parent: subprocess.Popen[bytes]) -> int:
    """Return the process that `unshare --fork` started, once it is in namespaces of its own."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    end = time.monotonic() + 10
    while not (started := children.read_text().split()):
        assert time.monotonic() < end, "unshare started nothing"
        time.sleep(0.02)
    return int(started[0])
