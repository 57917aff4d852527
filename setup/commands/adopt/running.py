"""Tell from the compose files of a deployment what runs: images, data volumes, ports and certificates; pure.

What runs outranks what `.env` or a state says about it. A volume that cannot be named is left open, because another,
empty one would start.
"""

from __future__ import annotations

import re

from setup.config.rules import SERVICES
from setup.config.settings import SETTINGS
from setup.formats import compose_file
from setup.formats.yaml_file import Malformed
from setup.typed import TYPE_CHECKING, NamedTuple
from setup.volume.layout import COMPOSE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from setup.formats.compose_file import Composition, Mount, Port, Service
    from setup.formats.dotenv import Env

# Service -> the whole image, or its parts by the settings that make it up. The last three follow the same settings.
_TAG = r"(?:@sha256:.+)?"
_API = rf"(?P<AVATAR_REGISTRY>.+)/avatar-service-api:(?P<AVATAR_API_VERSION>[^:@]+){_TAG}"
_WEED = rf"(?P<AVATAR_SEAWEEDFS_REGISTRY>.+)/seaweedfs:(?P<AVATAR_SEAWEEDFS_VERSION>[^:@]+){_TAG}"
_AUTHENTIK = rf"(?P<AVATAR_AUTHENTIK_REPOSITORY>.+)/server:(?P<AVATAR_AUTHENTIK_VERSION>[^:@]+){_TAG}"
_IMAGES = {
    "db": r"(?P<POSTGRES_IMAGE>.+)",
    "nginx": r"(?P<NGINX_IMAGE>.+)",
    "api": _API,
    "web": rf"(?P<AVATAR_REGISTRY>.+)/avatar-web:(?P<AVATAR_WEB_VERSION>[^:@]+){_TAG}",
    "master": _WEED,
    "authentik_server": _AUTHENTIK,
}
_LIKE = {
    "api": ("init-db", "dask-scheduler", "dask-worker"),
    "master": ("volume", "filer", "s3", "init-storage", "admin", "worker"),
    "authentik_server": ("authentik_worker",),
}
# Of an image that no setting can name, the database must not start with another release.
_KEEPS_DATA = {"db": "POSTGRES_IMAGE", "authentik_server": "AVATAR_AUTHENTIK_VERSION"}
_POSTGRES = "/var/lib/postgresql/data"
_DATA = (
    ("db", _POSTGRES, "DB_VOLUME"),
    ("filer", "/data", "SEAWEEDFS_VOLUME"),
    ("master", "/data", "SEAWEEDFS_METADATA_VOLUME"),
    ("volume", "/data", "SEAWEEDFS_BLOCKS_VOLUME"),
    ("authentik_server", "/data", "AUTHENTIK_VOLUME"),
)
_PROJECT = "octopize-avatar"  # as our compose file calls it
_YOUNGER = "AUTHENTIK_VOLUME"  # before Authentik 2025.12, there was no such volume
VOLUMES = tuple(key for _, _, key in _DATA)
KEYS = frozenset({*VOLUMES, *_KEEPS_DATA.values(), "DB_HOST"})  # what may be left open
_USUAL = {
    "SEAWEEDFS_METADATA_VOLUME": "avatar_seaweedfs_metadata",
    "SEAWEEDFS_BLOCKS_VOLUME": "avatar_seaweedfs_blocks",
    "AUTHENTIK_VOLUME": "avatar_authentik_data",
}
_CERTIFICATES = (
    ("NGINX_SSL_CERTIFICATE_PATH", "ssl_certificate", "/etc/nginx/tls/server.fullchain.crt"),
    ("NGINX_SSL_CERTIFICATE_KEY_PATH", "ssl_certificate_key", "/etc/nginx/tls/private/server.decrypted.key"),
)
# Where this stack or the public tool's mounts what the run writes, or what the settings name.
_KNOWN = (
    *("/etc/nginx/nginx.conf", "/etc/nginx/tls", "/etc/nginx/avatar", "/etc/avatar", "/blueprints", "/templates"),
    *("/media/public/", "/run/secrets", "/var/run/secrets", "/out", "/etc/seaweedfs/tls"),
)
# Why a service is gone.
_GONE = {"pdfgenerator": ": the API writes PDF reports itself since release 3"}
# What the API gets in its environment besides settings and secrets.
_GIVEN = {"DASK_SCHEDULER", "SECRETS_DIR", "STORAGE_ENDPOINT_HOST", "SSL_CERT_FILE"}
# Relative paths stay relative, and the file holds the values of env_file: secrets.
_RESOLVE = (
    "(umask 077 && docker compose config --no-path-resolution > resolved.yml && "
    "printf '\\nCOMPOSE_FILE=resolved.yml\\n' >> .env)"
)
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  # nosec: only compared


class Running(NamedTuple):
    """What the compose files come to: settings, and what else the API gets; why some are open; notes; nginx's ports."""

    settings: Mapping[str, str]
    unsure: Mapping[str, str]
    notes: tuple[str, ...]
    ports: tuple[Port, ...] | None = None  # None if that is unknown


def read_running(files: Sequence[bytes], nginx: bytes, env: Env, *, overriding: bool = True) -> Running:
    """Return what runs by these compose files, nginx's configuration and `.env`.

    Each file overrides the one before, or they are parts of one stack.
    """
    try:
        composition = compose_file.read(files, env) if files else compose_file.Composition({}, {})
    except Malformed as error:
        why, keys = f"it was not understood ({error})", (*VOLUMES, *_KEEPS_DATA.values())
        if not overriding:
            return Running({}, dict.fromkeys(keys, why), ())
        whole = f"{why}. To adopt what it comes to instead of answering, type in its directory: {_RESOLVE}"
        return Running({}, dict.fromkeys(keys, whole), (f"{COMPOSE} was not understood ({error})",))
    settings: dict[str, str] = {}
    unsure: dict[str, str] = {}
    services, notes = composition.services, []
    if services:
        settings |= _find_environment(services, env) if overriding else {}
        notes += [*_find_images(services, settings, unsure), *_find_volumes(composition, env, settings, unsure)]
        notes += [*_find_uncarried(services), *_find_gone(services, has_orphans=overriding)]
        notes += _find_others(composition) if overriding else ()
    if "nginx" in services:
        settings |= _find_certificates(services["nginx"], nginx)
    if nginx:
        tls = re.search(rb"^[ \t]*listen\s[^;#\n]*\bssl\b", nginx, re.MULTILINE)
        settings["NGINX_TLS_ENABLED"] = "true" if tls else "false"
    known = "nginx" in services and "ports" not in services["nginx"].unsure
    return Running(settings, unsure, tuple(notes), services["nginx"].ports if known else None)


def _find_environment(services: Mapping[str, Service], env: Env) -> dict[str, str]:
    """Return what the compose file gives to containers itself, under its name in `.env`."""
    given: dict[str, str] = {}
    for service in ("api", "authentik_server", "authentik_worker"):
        for key, text in services[service].environment.items() if service in services else ():
            is_known = key in SETTINGS or (service == "api" and key not in _GIVEN)
            if is_known and text.strip() and text != env.values.get(key):
                given.setdefault(key, text)
    return given


def _find_images(services: Mapping[str, Service], settings: dict[str, str], unsure: dict[str, str]) -> Iterator[str]:
    for name, pattern in _IMAGES.items():
        if name not in services:
            continue
        image = services[name].image
        parts = re.fullmatch(pattern, image)
        if parts:
            settings |= {key: text for key, text in parts.groupdict().items() if key not in settings}
            if "@" in image and name not in ("db", "nginx"):
                yield f"{name} runs {image}: the tag is kept, not the digest"
        elif name in _KEEPS_DATA:
            reason = services[name].unsure.get("image") or (f"{name} runs {image}" if image else f"{name} has no image")
            unsure[_KEEPS_DATA[name]] = reason
        else:
            yield f"{name} runs {image or 'no image'}, which no setting can name: the image of this release replaces it"
        for other in _LIKE.get(name, ()):
            if other in services and services[other].image not in ("", image):
                yield f"{other} runs {services[other].image}, and gets the image of {name} instead"


def _find_volumes(
    composition: Composition, env: Env, settings: dict[str, str], unsure: dict[str, str]
) -> Iterator[str]:
    """Find the Docker volume of each service with data; leave open what has none, or a part of one."""
    services = composition.services
    host = settings.get("DB_HOST") or env.values.get("DB_HOST", "") or "db"
    if host != "db" and host in services:
        unsure["DB_HOST"] = f"the database is the service {host}, and this stack calls its own db"
    for service, target, key in _DATA:
        mounts = services[service].mounts if service in services else ()
        if key == _YOUNGER and all(mount.target != target for mount in mounts):
            continue
        if service not in services:
            if service != "db" or host == "db" or host in services:
                unsure[key] = f"it has no service {service}, and an empty volume would start"
            continue
        mount, reason = _data_mount(services[service], target)
        volume = composition.volumes.get(mount.source) if mount else None
        if mount and not reason and not (volume and volume.name):
            reason = (
                f"{service} keeps its data in the volume {mount.source}, whose name in Docker depends on the project: "
                "see docker volume ls"
            )
        if reason or volume is None:
            unsure[key] = reason
            continue
        settings[key] = volume.name
        if volume.name != _USUAL.get(key, volume.name):
            yield f"{service} keeps its data in the volume {volume.name}, not in {_USUAL[key]}: it goes on with {key}"
        if volume.has_options:
            yield (
                f"the volume {volume.name} has a driver or options, which this compose file does not repeat: if docker "
                "compose asks whether to recreate it, answer no"
            )


def _data_mount(service: Service, target: str) -> tuple[Mount | None, str]:
    """Return the volume that a service mounts exactly there, and a reason if its data are elsewhere."""
    if "volumes" in service.unsure:
        return None, service.unsure["volumes"]
    above = [mount for mount in service.mounts if f"{target}/".startswith(f"{mount.target}/")]
    if not above:
        return None, f"it has no volume at {target}"
    mount = max(above, key=lambda one: len(one.target))
    if mount.kind == "bind":
        return None, (
            f"the data are in the directory {mount.source}, and the name of a Docker volume is needed. To make one of "
            "that directory: docker volume create -o type=none -o o=bind -o device=/its/whole/path NAME"
        )
    if mount.kind != "volume" or not mount.source:
        return None, f"what it mounts at {mount.target} has no name"
    inside = service.environment.get("PGDATA", target)
    if mount.is_part or mount.target != target or inside.rstrip("/") != target:
        return None, f"the data are in a folder of the volume {mount.source}, and this stack reads the volume itself"
    return mount, ""


def _find_certificates(nginx: Service, configuration: bytes) -> dict[str, str]:
    """Return the files that nginx mounts as certificate and key; with a certificate, it serves TLS."""
    settings: dict[str, str] = {}
    for key, directive, usual in _CERTIFICATES:
        match = re.search(rf"^[ \t]*{directive}[ \t]+([^;\s]+)[ \t]*;".encode(), configuration, re.MULTILINE)
        path = _host_path(nginx, match[1].decode(errors="replace") if match else usual)
        if path:
            settings[key] = path
    return settings | {"NGINX_TLS_ENABLED": "true" if _CERTIFICATES[0][0] in settings else "false"}


def _host_path(service: Service, inside: str) -> str:
    """Return the path on the host of a file in a container, "" if it is not mounted from there."""
    for mount in sorted(service.mounts, key=lambda one: -len(one.target)):
        if mount.kind == "bind" and f"{inside}/".startswith(f"{mount.target}/"):
            return mount.source.rstrip("/") + inside.removeprefix(mount.target)
    return ""


def _find_uncarried(services: Mapping[str, Service]) -> Iterator[str]:
    """Name the mounts and ports that this stack does not have."""
    data = {(service, target) for service, target, _ in _DATA}
    for name in services.keys() & SERVICES:
        service = services[name]
        certificates = [path for _, _, path in _CERTIFICATES]
        for mount in service.mounts:
            is_uploads = name.startswith("authentik_") and mount.target == "/data"
            is_known = mount.target.startswith(_KNOWN) or (name, mount.target) in data or mount.target in certificates
            if not (is_known or is_uploads) and mount.kind in ("bind", "volume"):
                yield (
                    f"{name} mounts {mount.source or 'a volume without a name'} at {mount.target}, which this stack "
                    "does not: add it to compose.override.yaml if it is still needed"
                )
        if service.ports and name != "nginx":
            shown = ", ".join(_show(port) for port in service.ports)
            yield f"{name} publishes {shown}, which this stack does not: add it to compose.override.yaml if needed"


def _find_others(composition: Composition) -> Iterator[str]:
    """Name what the files have beside the settings, and another name of the project."""
    for service, fields in composition.others.items():
        if not service or service in SERVICES:
            yield (
                f"the compose file gives {service or 'the stack'} {', '.join(fields)}, which this stack does not: "
                "keep it in compose.override.yaml if it is still needed"
            )
    if composition.project != _PROJECT:
        name = composition.project or "NAME"
        which = f"is called {name}" if composition.project else "has the NAME of its folder (see docker compose ls)"
        names = f"the project {which}, and this stack {_PROJECT}"
        stop = f"docker compose -p {name} down --remove-orphans"
        yield f"{names}: stop the old one first, or both use one database: {stop}"


def _find_gone(services: Mapping[str, Service], *, has_orphans: bool) -> Iterator[str]:
    gone = [service for service in services if service not in SERVICES]
    for service in gone:
        yield f"this release has no service {service}{_GONE.get(service, '')}"
    if gone and has_orphans:
        yield "docker compose up -d --remove-orphans removes the containers of services that this release lacks"


def publish(ports: tuple[Port, ...], url: str, *, tls: bool, mode: str) -> tuple[dict[str, str], list[str]]:
    """Return how nginx is published as settings, for this public address, and what they cannot say."""
    tcp = [port for port in ports if port.protocol == "tcp" and port.published.isdigit()]
    notes = [f"nginx publishes {_show(port)}, which no setting can say" for port in ports if port not in tcp]
    if not tcp:
        return {}, [*notes, "nginx publishes no port, and will: NGINX_BIND_ADDRESS=127.0.0.1 keeps it from the network"]
    match = re.search(r":(\d+)$", url.partition("://")[2] or url)
    public = match[1] if match else "443" if tls else ""
    main = next((port for port in tcp if tls and public in (port.target, port.published)), None)
    main = main or next((port for port in tcp if port.target == "443" or "80" not in port[1:3]), tcp[0])
    settings = {"NGINX_BIND_ADDRESS": "" if main.address in _EVERYWHERE else main.address}
    inner = public
    if not tls:
        inner = "80" if mode == "off" and not public and url.startswith("http://") else public
        inner = inner if mode == "off" and inner else main.published
        settings["NGINX_HTTP_PORT"] = inner
    settings["NGINX_PUBLISHED_PORT"] = main.published if main.published != inner else ""
    rest = [port for port in tcp if port != main]
    if tls:
        redirect = next((port for port in rest if "80" in port[1:3]), None)
        settings["NGINX_HTTP_REDIRECT_PORT"] = redirect.published if redirect else ""
        if redirect and (redirect.address in _EVERYWHERE) != (main.address in _EVERYWHERE):
            notes.append(f"nginx publishes {_show(redirect)}: it gets the address of the other port")
        rest = [port for port in rest if port != redirect]
    notes += [
        f"nginx publishes {_show(port)} too: add it to compose.override.yaml if it is still needed" for port in rest
    ]
    return settings, notes


def _show(port: Port) -> str:
    """Return a port as a compose file spells it."""
    address = f"[{port.address}]" if ":" in port.address else port.address
    words = [word for word in (address, port.published, port.target) if word]
    return ":".join(words) + ("" if port.protocol == "tcp" else f"/{port.protocol}")
