"""The objects of a kustomize base: rendered by kubectl, and held against the schemas of releases."""

from __future__ import annotations

import importlib.resources
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.support.documents import read_yaml_all

Object = dict[str, Any]
Objects = Sequence[Object]

# The three that are supported upstream, as the package has them.
RELEASES = ("1.35", "1.36", "1.37")

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


def render(directory: Path) -> list[Object]:
    """What `kubectl apply -k` would send for a directory: kubectl's own kustomize, whole numbers and all."""
    done = subprocess.run([kubectl(), "kustomize", directory], capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return read_yaml_all(done.stdout)


def kubectl() -> str:
    """The kubectl of the development environment; another one on this machine may be years old."""
    beside = Path(sys.executable).parent / "kubectl"
    program = str(beside) if beside.exists() else shutil.which("kubectl")
    assert program, "no kubectl: `make test` installs the development environment, which has it"
    return program


# --- schemas -------------------------------------------------------------------------------------------


def schema_faults(objects: Objects, release: str) -> list[str]:
    """What the strict schemas of a release refuse, unknown keys included."""
    return [fault for entry in objects for fault in _schema_faults(json.dumps(entry), release)]


@cache  # most objects are the same whatever the answers are
def _schema_faults(text: str, release: str) -> tuple[str, ...]:
    entry = json.loads(text)
    validator = _validator(release, entry["kind"], entry["apiVersion"])
    if not validator:
        return (f"{label(entry)}: {release} has no {entry['apiVersion']}",)
    errors = validator.iter_errors(entry)
    return tuple(f"{label(entry)}: {error.json_path}: {error.message[:300]}" for error in errors)


@cache
def _validator(release: str, kind: str, version: str) -> Draft202012Validator | None:
    group, _, number = version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    path = _schemas(release) / f"{name}.json"
    if not path.is_file():
        return None
    return Draft202012Validator(json.loads(path.read_text()), registry=_definitions(release))


@cache
def _definitions(release: str) -> Registry[Any]:
    return Resource.from_contents(json.loads((_schemas(release) / "_definitions.json").read_text())) @ Registry()


def _schemas(release: str) -> Any:
    folder = importlib.resources.files("kubernetes_validate")
    return folder / "kubernetes-json-schema" / f"v{release}.0-local-strict"


# --- walking through objects -----------------------------------------------------------------------------


class Pod(NamedTuple):
    """The pods of one workload: its name as faults show it, their labels, and their specification."""

    owner: Object
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def claims(self) -> list[str]:
        """The volumes that a StatefulSet makes for each of its pods."""
        return [claim["metadata"]["name"] for claim in self.owner["spec"].get("volumeClaimTemplates", ())]


def label(entry: Object) -> str:
    return f"{entry['kind']}/{entry['metadata']['name']}"


def of_kind(objects: Objects, *kinds: str) -> list[Object]:
    return [entry for entry in objects if entry["kind"] in kinds]


def pods(objects: Objects) -> list[Pod]:
    made = []
    for entry in of_kind(objects, *WORKLOADS):
        template = entry["spec"]["template"]
        made.append(Pod(entry, template.get("metadata", {}).get("labels", {}), template["spec"]))
    return made


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector matches; one without expressions, which is all that we write."""
    assert set(selector) <= {"matchLabels"}, f"a selector that this does not read: {selector}"
    return selector.get("matchLabels", {}).items() <= labels.items()
