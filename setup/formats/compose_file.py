"""Read the facts of a deployment from a compose file that another tool wrote: images, volumes, ports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from setup.formats import dotenv
from setup.formats.yaml_file import Malformed, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Service -> the whole image, or its parts by the settings that make it up.
_IMAGES = (
    ("db", r"(?P<POSTGRES_IMAGE>.+)"),
    ("nginx", r"(?P<NGINX_IMAGE>.+)"),
    ("api", r"(?P<AVATAR_REGISTRY>.+)/avatar-service-api:(?P<AVATAR_API_VERSION>[^:@]+)"),
    ("web", r"(?P<AVATAR_REGISTRY>.+)/avatar-web:(?P<AVATAR_WEB_VERSION>[^:@]+)"),
    ("master", r"(?P<AVATAR_SEAWEEDFS_REGISTRY>.+)/seaweedfs:(?P<AVATAR_SEAWEEDFS_VERSION>[^:@]+)"),
    ("authentik_server", r"(?P<AVATAR_AUTHENTIK_REPOSITORY>.+)/server:(?P<AVATAR_AUTHENTIK_VERSION>[^:@]+)"),
)
# Service and place of its data -> the setting that names the volume, or the name that this stack gives it.
_DATA = (
    ("db", "/var/lib/postgresql/data", "DB_VOLUME"),
    ("filer", "/data", "SEAWEEDFS_VOLUME"),
    ("master", "/data", "avatar_seaweedfs_metadata"),
    ("volume", "/data", "avatar_seaweedfs_blocks"),
)
_CERTIFICATE, _KEY = "server.fullchain.crt", "private/server.decrypted.key"
_IN_NGINX = "/etc/nginx/tls"


class Composed(NamedTuple):
    """Settings; why one cannot be told; what to know before the stack starts; the services by name."""

    settings: dict[str, str]
    unsure: dict[str, str]
    notes: list[str]
    services: tuple[str, ...] = ()


def read(data: bytes, env: Mapping[str, str]) -> Composed:
    """Return the facts of a compose file, with variables from this `.env`; raise Malformed."""
    document = load_yaml(data, aliases=True)
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise Malformed("it has no services")
    composed = Composed(_images(services, env), {}, [], tuple(map(str, services)))
    for service, target, name in _DATA if "db" in services else ():
        _data_volume(composed, document, env, (service, target, name))
    composed.settings.update(_nginx(services, env) if "nginx" in services else {})
    return composed


def _nginx(services: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of nginx: its certificate and ports; with a certificate, it serves TLS."""
    certificate, key = (_mount(services, "nginx", f"{_IN_NGINX}/{name}", env) for name in (_CERTIFICATE, _KEY))
    published = list(ports(services, env))
    if not certificate:
        return {"NGINX_TLS_ENABLED": "false"} | ({"NGINX_HTTP_PORT": published[0]} if published else {})
    settings = {"NGINX_TLS_ENABLED": "true", "NGINX_SSL_CERTIFICATE_PATH": certificate}
    settings |= {"NGINX_SSL_CERTIFICATE_KEY_PATH": key} if key else {}
    return settings | ({"NGINX_HTTP_REDIRECT_PORT": "80"} if "80" in published else {})


def _images(services: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for service, pattern in _IMAGES:
        image = _text(value(services.get(service), "image"), env)
        parts = re.fullmatch(pattern, image) if image else None
        if parts:
            settings = parts.groupdict() | settings
    return settings


def _data_volume(
    composed: Composed, document: Mapping[str, Any], env: Mapping[str, str], place: tuple[str, str, str]
) -> None:
    """Find the Docker volume with a service's data; report an unknown one, because an empty one would start instead."""
    service, target, wanted = place
    source = _mount(document["services"], service, target, env)
    name = _volume_name(document, source, env) if source and not source.startswith((".", "/", "~")) else ""
    if wanted.isupper():
        if name:
            composed.settings[wanted] = name
        elif source:
            composed.unsure[wanted] = f"{service} keeps its data in {source}, but the name of a Docker volume is needed"
        else:
            composed.unsure[wanted] = f"{service} has no volume at {target}"
    elif name != wanted:
        composed.notes.append(
            f"{service} keeps its data in {name or source or 'a volume without a name'}, but this stack in the Docker "
            f"volume {wanted}: copy it there before the stack starts"
        )


def _volume_name(document: Mapping[str, Any], key: str, env: Mapping[str, str]) -> str:
    """Return the name that Docker knows a volume by, "" if only the running project knows it."""
    volumes = document.get("volumes")
    spec = volumes.get(key) if isinstance(volumes, dict) else None
    name = _text(value(spec, "name"), env)
    if name:
        return name
    if value(spec, "external") == "true":
        return key
    project = env.get("COMPOSE_PROJECT_NAME") or _text(document.get("name"), env)
    return f"{project}_{key}" if project else ""


def _mount(services: Mapping[str, Any], service: str, target: str, env: Mapping[str, str]) -> str | None:
    """Return what a service mounts at a path or above it, None for nothing."""
    volumes = value(services.get(service), "volumes")
    for entry in volumes if isinstance(volumes, list) else ():
        if isinstance(entry, dict):
            source, place = _text(entry.get("source"), env), _text(entry.get("target"), env)
        else:
            source, _, place = _text(entry, env).partition(":")
            place = place.partition(":")[0]
        place = place.rstrip("/")
        if place and (target == place or target.startswith(f"{place}/")):
            return source.rstrip("/") + target.removeprefix(place)
    return None


def ports(services: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[str]:
    """Return the ports of the host that lead to nginx."""
    entries = value(services.get("nginx"), "ports")
    for entry in entries if isinstance(entries, list) else ():
        text = _text(entry.get("published") if isinstance(entry, dict) else entry, env)
        published = text.removesuffix("/tcp").split(":")[-2:][0] if ":" in text or isinstance(entry, dict) else ""
        if published.isdigit():
            yield published


def value(mapping: Any, key: str) -> Any:
    """Return a key of a mapping, or of those that it merges."""
    if not isinstance(mapping, dict):
        return None
    if key in mapping:
        return mapping[key]
    merged = mapping.get("<<")
    for parent in merged if isinstance(merged, list) else [merged]:
        if isinstance(parent, dict) and key in parent:
            return parent[key]
    return None


def _text(value: Any, env: Mapping[str, str]) -> str:
    """Replace the variables in a text; return "" for anything else."""
    try:
        return dotenv.expanded(value, env, all_there_is=True) if isinstance(value, str) else ""
    except dotenv.Unsure:
        return ""
