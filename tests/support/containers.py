"""Simulate `docker compose up -d`: which services it recreates, and which contents their containers then have.

Compose recreates a service if its entry in the compose file, with the variables of `.env`, differs from that of its
container. It looks at no mounted file. A container keeps the contents that a mounted file had when it was created,
because a file that is replaced by a rename never reaches it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from setup.formats import dotenv
from tests.support.documents import read_yaml


class _Container(NamedTuple):
    entry: str
    contents: dict[str, bytes | None]


class Containers:
    """The containers of one deployment."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._running: dict[str, _Container] = {}

    def up(self, *, force: bool = False) -> set[str]:
        """Start or recreate what differs, or everything; return the services concerned."""
        concerned = set()
        wanted = self._wanted()
        for service, container in wanted.items():
            if force or service not in self._running or self._running[service].entry != container.entry:
                self._running[service] = container
                concerned.add(service)
        self._running = {service: self._running[service] for service in wanted}
        return concerned

    def down(self) -> None:
        """Remove every container."""
        self._running = {}

    def stale(self) -> set[tuple[str, str]]:
        """Return service and path of every mounted file that has other contents on the disk than in the container."""
        different = set()
        for service, container in self._running.items():
            for path, data in container.contents.items():
                if self._read(path) != data:
                    different.add((service, path))
        return different

    def _wanted(self) -> dict[str, _Container]:
        document = read_yaml((self._out / "docker-compose.yml").read_text())
        values = dotenv.parse((self._out / ".env").read_bytes()).values
        files = {name: entry["file"] for name, entry in document["secrets"].items()}
        wanted = {}
        for service, entry in document["services"].items():
            text = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], json.dumps(entry, sort_keys=True))
            paths = [files[name] for name in entry.get("secrets", ())]
            for volume in entry.get("volumes", ()):
                if _is_bind(volume):
                    paths.append(volume["source"])
            wanted[service] = _Container(text, {path: self._read(path) for path in paths})
        return wanted

    def _read(self, path: str) -> bytes | None:
        place = self._out / path
        if place.is_dir():  # a program read its files when it started
            return b"".join(file.read_bytes() for file in sorted(place.rglob("*")) if file.is_file())
        return place.read_bytes() if place.exists() else None


def _is_bind(volume: Any) -> bool:
    """Whether contents are mounted that a container keeps; the preflight sees the whole directory, and runs once."""
    return isinstance(volume, dict) and volume.get("type") == "bind" and volume["source"] != "."
