"""Read from the files of an engine the settings that are nowhere else: sizes, storage, how nginx is reached; pure."""

from __future__ import annotations

import re

from setup.config.derived import COMPOSE_ENGINE, KUBERNETES, SWARM
from setup.config.settings import SETTINGS
from setup.formats import dotenv
from setup.formats.compose_file import SIZED, expanded, plain, value
from setup.formats.yaml_file import Malformed, Tagged, load_yaml
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
_IN_STACK = {"SWARM_PORT_MODE": "service nginx/ports/0/mode"}
_POD_LIMITS = "spec/template/spec/containers/0/resources/limits"
# In the older spelling of Compose, in that of Compose and Swarm, and in a cluster.
_SIZES = {
    "REPLICAS": ("scale", "deploy/replicas", "spec/replicas"),
    "MEMORY": ("mem_limit", "deploy/resources/limits/memory", f"{_POD_LIMITS}/memory"),
    "CPUS": ("cpus", "deploy/resources/limits/cpus", f"{_POD_LIMITS}/cpu"),
}
# The objects that every deployment has, and what is nowhere else.
_MAIN = (
    (KUBERNETES_WORKLOADS, "Deployment api", "REPLICAS_API, KUBERNETES_STORAGE_CLASS"),
    (KUBERNETES_NETWORK, "Service nginx", "KUBERNETES_EXPOSURE"),
    (STACK, "service api", "REPLICAS_API"),
    (STACK, "service nginx", "SWARM_PORT_MODE, NGINX_PUBLISHED_PORT"),
)
_UNCLEAR = "something other than one value"
_NEXT = rb"^---[ \t]*(?:#.*)?\r?$"
_CLUSTER_DOMAIN = rb"^[^#\n]*\.svc\.([a-z0-9.-]+)"
_RESOLVER = rb"^[ \t]*resolver \[?([^\s\];]+)"


def read_sizes(
    files: Mapping[str, bytes], target: str, compose: Sequence[str], env: dotenv.Env
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return each such setting with the file that has it, and a note for each value that no setting can take.

    Of compose files, only the first is read: what overrides it stays an override.
    """
    in_cluster = target == KUBERNETES
    names = (KUBERNETES_WORKLOADS, KUBERNETES_NETWORK) if in_cluster else (STACK,) if target == SWARM else compose[:1]
    settings: dict[str, tuple[str, str]] = {}
    notes: list[str] = []
    for name in names:
        objects, fault = _read_objects(files.get(name), in_cluster)
        notes += _find_lacking(objects, fault, name)
        for key, path in _places(target):
            written = _expanded(_text_at(objects, path), env)
            text = _normal(key, written, in_cluster)
            if _is_valid(key, text):
                settings[key] = (text, name)
            elif text:
                notes.append(f"{key}: {name} has {written}, which it does not take: give it as --set {key}=VALUE")
        if "Deployment api" in objects:
            settings.setdefault("KUBERNETES_IMAGE_PULL_SECRET", ("", name))
        if target == SWARM and _is_encrypted(objects):
            settings["SWARM_ENCRYPTED"] = ("true", name)
    if settings.get("KUBERNETES_EXPOSURE", ("", ""))[0] != "NodePort":  # a cluster may have added one
        settings.pop("NGINX_PUBLISHED_PORT", None)
    if in_cluster:
        settings.update(_read_nginx(files.get(KUBERNETES_NGINX, b"")))
    return settings, notes


def _find_lacking(objects: dict[str, Any], fault: str, name: str) -> Iterator[str]:
    """Name the objects that a file should have, with the settings that are nowhere else."""
    for place, thing, keys in _MAIN:
        if place == name and thing not in objects:
            what = f"{name} {fault or f'has no {thing}'}, so {keys} and its other settings get their defaults"
            yield f"{what}: give yours as --set KEY=VALUE"


def _is_valid(key: str, text: str) -> bool:
    """Tell whether a setting takes a text; a number such as 010 means 8 to Compose."""
    try:
        return bool(text) and not re.fullmatch(r"0\d[\d.]*", text) and SETTINGS[key].kind.parse(text) is not None
    except ValueError:
        return False


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
    """Yield each setting with its places in the files of an engine, the one that counts last."""
    for row in SIZED:
        for word, (older, in_compose, in_cluster) in _SIZES.items():
            key = f"{word}_{row.upper().replace('-', '_')}"
            if target == COMPOSE_ENGINE:
                yield key, f"service {row}/{older}"
            yield key, f"Deployment {row}/{in_cluster}" if target == KUBERNETES else f"service {row}/{in_compose}"
    yield from {KUBERNETES: _IN_CLUSTER, SWARM: _IN_STACK}.get(target, {}).items()


def _read_objects(data: bytes | None, in_cluster: bool) -> tuple[dict[str, Any], str]:
    """Return the objects of a file by kind and name, such as "service api", and why it cannot be read, "" if it can."""
    objects: dict[str, Any] = {}
    try:
        for part in re.split(_NEXT, data or b"", flags=re.MULTILINE) if in_cluster else (data or b"",):
            document = load_yaml(part, aliases=True)
            name = f"{value(document, 'kind')} {value(value(document, 'metadata'), 'name')}"
            objects |= {name: document} if in_cluster else {"networks": value(document, "networks")}
            for service, entry in plain(value(document, "services")).items():
                objects[f"service {service}"] = entry
    except Malformed as error:  # of a compose file, another reader says so
        return {}, f"cannot be read ({error})"
    return objects, "" if data is not None else "is missing"


def _text_at(entry: Any, path: str) -> str:
    """Return the text at a path, "" if nothing is there."""
    for word in path.split("/"):
        if isinstance(entry, list) and word == "0":
            entry = next(iter(entry), None)
        elif entry is None or isinstance(entry, (dict, Tagged)):
            entry = value(entry, word)
        else:
            return _UNCLEAR
    return entry if isinstance(entry, str) else "" if entry is None else _UNCLEAR


def _expanded(text: str, env: dotenv.Env) -> str:
    """Return a text as Compose reads it; unchanged if it uses what `.env` leaves open."""
    try:
        return expanded(text, env)
    except dotenv.Unsure:
        return text


def _normal(key: str, text: str, in_cluster: bool) -> str:
    """Return a value as its setting spells it, "" for no limit."""
    if key == "KUBERNETES_EXPOSURE" and text == "ClusterIP":
        return "Ingress"
    if key.startswith(("MEMORY", "CPUS")) and text == "0":
        return ""
    if not key.startswith("MEMORY") or (in_cluster and text.endswith(("M", "G"))):  # which are decimal there
        return text
    text = text.lower().removesuffix("b").removesuffix("i")
    is_whole = re.fullmatch(r"[1-9][0-9]*", text) and not int(text) % 2**20  # in bytes, as docker compose config has it
    return f"{int(text) >> 20}m" if is_whole else text
