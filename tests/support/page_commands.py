"""The `sh` blocks of a page, and programs for PATH that stand in for Docker's, with the real avatar-setup behind them.

Run as a module, this is the stand-in for `docker`. It runs avatar-setup where the page runs its image. Of the rest it
checks what a page can get wrong: the words of the command line, the services, their secrets, the volumes and the
project's directory. Then it says what it was asked, and does nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "avatar-setup"
PROJECT = "octopize-avatar"

# The words that the pages use, with the options that take a value.
_COMPOSE = {
    "up": (), "stop": (), "start": (), "down": (), "ps": ("--format",), "restart": (), "pull": (), "logs": ("--tail",),
    "exec": (), "run": ("--entrypoint",), "config": (), "create": (), "version": (),
}  # fmt: skip
_DOCKER = {
    "login", "build", "pull", "push", "tag", "save", "load", "image", "images", "version", "info", "ps", "inspect",
    "node", "stack", "service", "secret", "config", "exec",
}  # fmt: skip
_DUMPED = "-- PostgreSQL database cluster dump complete"
_NETWORKS = ("proxy", "dask", "storage", "seaweedfs", "database")


class Block(NamedTuple):
    """A block that a test runs, with the lines that the page shows below it."""

    page: Path
    line: int
    text: str
    shown: tuple[str, ...]


def blocks_of(page: Path) -> list[Block]:
    """Return the `sh` blocks of a page; a `text` block that follows directly shows what they print."""
    blocks = []
    text = page.read_text()
    for match in re.finditer(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", text, re.M | re.S):
        shown = [line.strip() for line in (match[2] or "").splitlines() if line.strip() not in ("", "...")]
        blocks.append(Block(page, text[: match.start()].count("\n") + 1, match[1], tuple(shown)))
    return blocks


def install(folder: Path) -> None:
    """Write the programs that the pages call into a folder for PATH."""
    programs = {
        "docker": f'exec "{sys.executable}" -m tests.support.page_commands "$@"',
        "avatar-setup": f'exec "{sys.executable}" -m setup --output-dir "$DEPLOYMENT" "$@"',
        "sudo": 'exec "$@"',
        "certbot": 'echo "certbot $*"',
        "systemctl": 'echo "systemctl $*"',
        "kubectl": f'case "$*" in *pg_dumpall*) echo "{_DUMPED}";; esac; echo "kubectl $*"',
    }
    folder.mkdir()
    for name, line in programs.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)


def say(*words: str) -> int:
    sys.stdout.write(" ".join(words) + "\n")
    return 0


def stop(reason: str) -> None:
    sys.exit(f"the stand-in refuses this: {reason}")


def docker(words: list[str]) -> int:
    command, *rest = words
    if command == "run":
        return run(rest)
    if command == "compose":
        compose(rest)
    elif command == "volume":
        known = {"ls", "create", "rm", "inspect"}
        if rest[0] not in known:
            stop(f"docker volume {rest[0]}")
        require_volumes(word for word in rest[1:] if word.startswith("avatar_"))
    elif command == "network":
        named = [word for word in rest if word.startswith(PROJECT)]
        if any(name.removeprefix(f"{PROJECT}_") not in _NETWORKS for name in named):
            stop(f"no such network: {named}")
    elif command not in _DOCKER:
        stop(f"docker {command}")
    if "pg_dumpall" in " ".join(words):
        say(_DUMPED)
    return say("docker", *words)


def run(words: list[str]) -> int:
    """Run avatar-setup on the directory that is mounted; check the mounts of any other image."""
    mounts: dict[str, str] = {}
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
    while words[0].startswith("-"):
        option = words.pop(0)
        if option in ("--rm", "-i", "-it"):
            continue
        if option not in ("-v", "-e", "--network", "-w", "--user", "--env-file"):
            stop(f"docker run {option}")
        value = words.pop(0)
        if option == "-v":
            source, target = value.split(":")[:2]
            mounts[target] = source
        elif option == "-e":
            key, _, text = value.partition("=")
            environ[key] = text
    image, *arguments = words
    require_volumes(source for source in mounts.values() if "/" not in source)
    for source in mounts.values():
        if "/" in source and not Path(source).exists():
            stop(f"{source} does not exist, so Docker would make a directory of root's")
    if image != IMAGE:
        return say("docker", "run", image, *arguments)
    if "/out" not in mounts:
        stop("nothing is mounted at /out")
    return subprocess.run(
        [sys.executable, "-m", "setup", "--output-dir", mounts["/out"], *(_from_the_host(mounts, arguments))],
        env={key: _from_the_host(mounts, [text])[0] for key, text in environ.items()},
        stdin=subprocess.DEVNULL,
        check=False,
    ).returncode


def _from_the_host(mounts: dict[str, str], words: Sequence[str]) -> list[str]:
    """Replace the paths of a container by those of the host."""
    replaced = []
    for word in words:
        inside = [target for target in mounts if word == target or word.startswith(f"{target}/")]
        replaced.append(mounts[inside[0]] + word.removeprefix(inside[0]) if inside else word)
    return replaced


def compose(words: list[str]) -> None:
    """Check a command of compose against the project in this directory."""
    document = yaml.safe_load(Path("docker-compose.yml").read_text())
    command, *rest = words
    if command not in _COMPOSE:
        stop(f"docker compose {command}")
    names = []
    while rest:
        word = rest.pop(0)
        if word in _COMPOSE[command]:
            rest.pop(0)
        elif not word.startswith("-"):
            names.append(word)
            if command in ("exec", "run"):  # what follows belongs to the container
                break
    unknown = [name for name in names if name not in document["services"]]
    if unknown:
        stop(f"the compose file has no service {', '.join(unknown)}")
    for secret in re.findall(r"/run/secrets/(\w+)", " ".join(rest)):
        if secret not in document["services"][names[0]]["secrets"]:
            stop(f"{names[0]} has no secret {secret}")


def require_volumes(names: Iterator[str]) -> None:
    """Refuse a data volume that the stack does not have."""
    place = Path(os.environ["DEPLOYMENT"])
    lines = (place / ".env").read_text().splitlines()
    settings = dict(line.partition("=")[::2] for line in lines if "_VOLUME=" in line)
    document = yaml.safe_load((place / "docker-compose.yml").read_text())
    known = {
        re.sub(r"\$\{(\w+)\}", lambda key: settings[key[1]], volume["name"]) for volume in document["volumes"].values()
    }
    unknown = [name for name in names if name not in known]
    if unknown:
        stop(f"the stack has no volume {', '.join(unknown)}")


if __name__ == "__main__":
    sys.exit(docker(sys.argv[1:]))
