"""Read from the files of an engine the settings that are nowhere else: sizes, storage, how nginx is reached; pure."""

from __future__ import annotations

import re

from setup.config.derived import KUBERNETES, SWARM
from setup.config.settings import SETTINGS
from setup.formats.compose_file import value
from setup.formats.yaml_file import Malformed, load_yaml
from setup.typed import TYPE_CHECKING, Any
from setup.volume.layout import KUBERNETES_NETWORK, KUBERNETES_NGINX, KUBERNETES_WORKLOADS, STACK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Where the files have a setting. An object of a cluster is its kind and its name.
_CLAIM = "spec/volumeClaimTemplates/0/spec"
_IN_CLUSTER = {
    "KUBERNETES_EXPOSURE": "Service nginx/spec/type",
    "KUBERNETES_NGINX_ADDRESS": "Service nginx/spec/clusterIP",
    "NGINX_PUBLISHED_PORT": "Service nginx/spec/ports/0/nodePort",
    "KUBERNETES_INGRESS_CLASS": "Ingress avatar/spec/ingressClassName",
    "KUBERNETES_INGRESS_TLS_SECRET": "Ingress avatar/spec/tls/0/secretName",
    "KUBERNETES_STORAGE_CLASS": f"StatefulSet master/{_CLAIM}/storageClassName",
    "KUBERNETES_DATABASE_SIZE": f"StatefulSet db/{_CLAIM}/resources/requests/storage",
    "KUBERNETES_BLOCKS_SIZE": f"StatefulSet volume/{_CLAIM}/resources/requests/storage",
    "KUBERNETES_METADATA_SIZE": f"StatefulSet master/{_CLAIM}/resources/requests/storage",
    "KUBERNETES_UPLOADS_SIZE": "PersistentVolumeClaim authentik-data/spec/resources/requests/storage",
    "KUBERNETES_IMAGE_PULL_SECRET": "Deployment api/spec/template/spec/imagePullSecrets/0/name",
}
_IN_STACK = {"SWARM_PORT_MODE": "services/nginx/ports/0/mode"}
_POD_LIMITS = "spec/template/spec/containers/0/resources/limits"
_SIZES = {
    "REPLICAS": ("deploy/replicas", "spec/replicas"),
    "MEMORY": ("deploy/resources/limits/memory", f"{_POD_LIMITS}/memory"),
    "CPUS": ("deploy/resources/limits/cpus", f"{_POD_LIMITS}/cpu"),
}
_MAIN = {KUBERNETES_WORKLOADS: "Deployment api", KUBERNETES_NETWORK: "Service nginx"}
_ONLY = {KUBERNETES_WORKLOADS: "REPLICAS_API, KUBERNETES_STORAGE_CLASS", KUBERNETES_NETWORK: "KUBERNETES_EXPOSURE"}
_NEXT = rb"^---[ \t]*(?:#.*)?\r?$"
_CLUSTER_DOMAIN = rb"^[^#\n]*\.svc\.([a-z0-9.-]+)"
_RESOLVER = rb"^[ \t]*resolver \[?([^\s\];]+)"


def read_sizes(
    files: Mapping[str, bytes], target: str, compose: Sequence[str]
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return each such setting with the file that has it, and a note for each value that its setting cannot take.

    Of compose files, only the first is read: what overrides it stays an override.
    """
    in_cluster = target == KUBERNETES
    names = tuple(_MAIN) if in_cluster else (STACK,) if target == SWARM else compose[:1]
    settings: dict[str, tuple[str, str]] = {}
    notes = []
    for name in names:
        objects = _read_objects(files.get(name, b""), in_cluster)
        if in_cluster and _MAIN[name] not in objects:
            what = f"{_ONLY[name]} and its other settings get their defaults"
            notes.append(f"{name} cannot be read, so {what}: give yours as --set KEY=VALUE")
        for key, path in _places(target):
            written = _text_at(objects, path)
            text = _normal(key, written, in_cluster)
            if not text:
                continue
            try:
                SETTINGS[key].kind.parse(text)
            except ValueError:
                notes.append(f"{key}: {name} has {written}, which it does not take: give it as --set {key}=VALUE")
            else:
                settings[key] = (text, name)
        if _MAIN[KUBERNETES_WORKLOADS] in objects:
            settings.setdefault("KUBERNETES_IMAGE_PULL_SECRET", ("", name))
        if target == SWARM and _is_encrypted(objects):
            settings["SWARM_ENCRYPTED"] = ("true", name)
    if settings.get("KUBERNETES_EXPOSURE", ("", ""))[0] != "NodePort":  # a cluster may have added one
        settings.pop("NGINX_PUBLISHED_PORT", None)
    if in_cluster:
        settings.update(_read_nginx(files.get(KUBERNETES_NGINX, b"")))
    return settings, notes


def _is_encrypted(stack: dict[str, Any]) -> bool:
    """Tell whether the networks of a stack are encrypted."""
    networks = value(stack, "networks")
    for network in networks.values() if isinstance(networks, dict) else ():
        options = value(network, "driver_opts")
        if isinstance(options, dict) and "encrypted" in options:
            return True
    return False


def _read_nginx(data: bytes) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield what nginx's configuration knows of the cluster."""
    for key, pattern in (("KUBERNETES_CLUSTER_DOMAIN", _CLUSTER_DOMAIN), ("KUBERNETES_DNS_ADDRESS", _RESOLVER)):
        match = re.search(pattern, data, re.MULTILINE)
        if match:
            yield key, (match[1].decode(errors="replace"), KUBERNETES_NGINX)


def _places(target: str) -> Iterator[tuple[str, str]]:
    """Yield each setting with its place in the files of an engine."""
    for row in ("api", "web", "dask-worker"):
        for word, (in_compose, in_cluster) in _SIZES.items():
            key = f"{word}_{row.upper().replace('-', '_')}"
            yield key, f"Deployment {row}/{in_cluster}" if target == KUBERNETES else f"services/{row}/{in_compose}"
    yield from {KUBERNETES: _IN_CLUSTER, SWARM: _IN_STACK}.get(target, {}).items()


def _read_objects(data: bytes, in_cluster: bool) -> dict[str, Any]:
    """Return a compose file or stack as it is, the objects of a cluster by kind and name; {} if it cannot be read."""
    objects: dict[str, Any] = {}
    try:
        for part in re.split(_NEXT, data, flags=re.MULTILINE) if in_cluster else (data,):
            document = load_yaml(part, aliases=True)
            name = f"{value(document, 'kind')} {value(value(document, 'metadata'), 'name')}"
            if isinstance(document, dict):
                objects |= {name: document} if in_cluster else document
    except Malformed:  # of a compose file, another reader says so
        return {}
    return objects


def _text_at(entry: Any, path: str) -> str:
    for word in path.split("/"):
        entry = next(iter(entry), None) if isinstance(entry, list) else value(entry, word)
    return entry if isinstance(entry, str) else ""


def _normal(key: str, text: str, in_cluster: bool) -> str:
    """Return a value as its setting spells it."""
    if key == "KUBERNETES_EXPOSURE" and text == "ClusterIP":
        return "Ingress"
    if key.startswith("MEMORY_") and not (in_cluster and text.endswith(("M", "G"))):  # which are decimal there
        return text.lower().removesuffix("i").removesuffix("b")
    return text
