"""Simulate the deploys of a cluster: what it was given under a name of which it takes no other content.

Swarm refuses another content for a secret or a config of the same name, and Kubernetes another specification for a Job.
"""

from __future__ import annotations

import json
from pathlib import Path

from setup.volume.layout import KUSTOMIZATION, SWARM_FILES
from tests.support import kubernetes
from tests.support.documents import read_yaml


class Deploys:
    """All deploys of one directory."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._known: dict[str, bytes] = {}
        self._refused: set[tuple[str, str]] = set()

    def up(self, *, force: bool = False) -> None:
        """Deploy, unless a certificate is still missing, or it is `force`: nothing is recreated so in a cluster."""
        if not force:
            named = self._of_kubernetes() if (self._out / KUSTOMIZATION).exists() else self._of_swarm()
            for name, content in named.items():
                if self._known.setdefault(name, content) != content:
                    self._refused.add((name, "an earlier deploy"))

    def stale(self) -> set[tuple[str, str]]:
        """Return each name that was given two contents."""
        return self._refused

    def _of_swarm(self) -> dict[str, bytes]:
        files = {}
        for path in SWARM_FILES:
            document = read_yaml((self._out / path).read_text())
            for entry in (*document.get("secrets", {}).values(), *document.get("configs", {}).values()):
                files[entry["name"]] = self._out / entry["file"]
        if not all(path.exists() for path in files.values()):
            return {}
        return {name: path.read_bytes() for name, path in files.items()}

    def _of_kubernetes(self) -> dict[str, bytes]:
        """The names of Secrets and ConfigMaps are hashes of their content, which kustomize puts into the Jobs."""
        document = read_yaml((self._out / KUSTOMIZATION).read_text())
        generators = (*document["secretGenerator"], *document["configMapGenerator"])
        files = [entry.partition("=")[2] for generator in generators for entry in generator.get("files", ())]
        if not all((self._out / path).exists() for path in files):
            return {}
        jobs = [entry for entry in kubernetes.render(self._out) if entry["kind"] == "Job"]
        return {kubernetes.label(job): json.dumps(job["spec"], sort_keys=True).encode() for job in jobs}
