"""Support for the tests that use the real Docker engine: commands, stand-in images, throw-away containers.

Everything a test makes bears a name of its own and is removed at its end. Servers are published on loopback.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support.documents import read_yaml

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "avatar-setup"
BASE_IMAGE = "debian:trixie-slim"
PASSED_ON = ("PATH", "HOME")


def environment() -> dict[str, str]:
    """What docker needs of this process's environment, and nothing that compose would take for a setting."""
    return {key: text for key, text in os.environ.items() if key in PASSED_ON or key.startswith(("DOCKER_", "XDG_"))}


def docker(
    *arguments: str | Path, cwd: Path | None = None, input: bytes | None = None, check: bool = True, timeout: int = 300
) -> subprocess.CompletedProcess[bytes]:
    """Runs `docker ARGUMENTS`; a failure shows what it said."""
    command = ["docker", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=environment(), input=input, capture_output=True, timeout=timeout, check=False
    )
    if check and done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise AssertionError(f"{' '.join(command)[:300]} ended with {done.returncode}:\n{said[-4000:]}")
    return done


@cache
def image() -> str:
    """The image of this checkout."""
    docker("build", "-q", "-t", IMAGE, ROOT, timeout=900)
    return IMAGE


def build_inputs(to: Path) -> Path:
    """A copy of all that the image is built from, in a directory of its own."""
    for part in ("Dockerfile", ".dockerignore", "LICENSE", "entrypoint.sh", "requirements.txt", "setup", "templates"):
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.mkdir(exist_ok=True)
            shutil.copy2(ROOT / part, to / part)
    return to


@cache
def stand_ins() -> Mapping[str, str]:
    """The image names of setup/defaults.yaml, built as stand-ins where they are not here."""
    subprocess.run([ROOT / "tests" / "standins" / "build"], check=True, timeout=900, capture_output=True)
    settings = read_yaml((ROOT / "setup" / "defaults.yaml").read_text())["settings"]
    older = os.environ.get("OLDER_POSTGRES_IMAGE") or "avatar-standin/postgres:15"
    return {"nginx": settings["NGINX_IMAGE"], "postgres": settings["POSTGRES_IMAGE"], "older postgres": older}


@cache
def echo_image() -> str:
    """An image with a Python and the stand-in server in it, whatever the stack's images are here."""
    tag = "avatar-test-echo"
    docker("build", "-q", "--target", "web", "-t", tag, ROOT / "tests" / "standins", timeout=900)
    return tag


@cache
def proxy_image(name: str) -> str:
    """A real proxy, caddy or traefik."""
    tag = f"avatar-test-{name}"
    docker("build", "-q", "--target", name, "-t", tag, ROOT / "tests" / "standins", timeout=900)
    return tag


def unique(kind: str) -> str:
    """A name that no other run of the tests uses."""
    return f"avatar-test-{kind}-{uuid.uuid4().hex[:10]}"


@contextlib.contextmanager
def network() -> Iterator[str]:
    """A Docker network of our own."""
    name = unique("net")
    docker("network", "create", name)
    try:
        yield name
    finally:
        docker("network", "rm", name, check=False)


def gateway(network: str) -> str:
    """This machine's own address on a network, from which loopback's connections reach a container there."""
    shown = docker("network", "inspect", network, "-f", "{{(index .IPAM.Config 0).Gateway}}")
    return shown.stdout.decode().strip()


def subnet(network: str) -> str:
    """The addresses of a network, this machine's own on it included."""
    shown = docker("network", "inspect", network, "-f", "{{(index .IPAM.Config 0).Subnet}}")
    return shown.stdout.decode().strip()


@contextlib.contextmanager
def container(image: str, *command: str, options: Sequence[str | Path] = ()) -> Iterator[str]:
    """A container in the background; its name."""
    name = unique("box")
    try:
        docker("run", "-d", "--name", name, *options, image, *command)
        yield name
    finally:
        docker("rm", "-f", "-v", name, check=False)


def published(name: str, port: int) -> int:
    """The port on loopback behind which a container's port stands."""
    return int(docker("port", name, f"{port}/tcp").stdout.decode().split()[0].rpartition(":")[2])


def logs(name: str) -> str:
    done = docker("logs", name, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def until(what: str, probe: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until `probe()` is true, for at most so long."""
    end = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: still not so after {seconds} s")
        time.sleep(0.2)


def throw_away_certificate(directory: Path, host: str = "avatar.example.com") -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    certificate, key = directory / "throw-away.crt", directory / "throw-away.key"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    made += ["-addext", "keyUsage=digitalSignature,keyCertSign", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    return certificate, key
