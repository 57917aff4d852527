"""Read compose files as Compose does, with the files that override the first: images, ports, mounts, volumes; pure.

It reads what a deployment's facts need, and refuses what it does not follow, such as `extends`, instead of guessing.
"""

from __future__ import annotations

import posixpath
import re

from setup.formats import dotenv
from setup.formats.yaml_file import Malformed, Tagged, load_yaml
from setup.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


_TAKEN = {"image", "ports", "volumes"}  # the fields of a service that settings can say, or that are named one by one
_SECTIONS = {"name", "version", "services", "volumes"}
# The fields of a first file that its operator added for their host; the others are those of the stack itself.
_LOCAL = {
    *("cap_add", "cpuset", "devices", "dns", "dns_opt", "dns_search", "env_file", "extra_hosts", "labels"),
    *("mem_reservation", "memswap_limit", "network_mode", "privileged", "profiles", "runtime", "sysctls", "ulimits"),
}
_TUNED = {"db": {"command", "entrypoint", "shm_size"}, "nginx": {"command", "entrypoint"}}  # of these, also
_SIZES = {"cpus", "deploy", "mem_limit", "scale"}
SIZED = ("api", "web", "dask-worker")  # of which these are settings


class Port(NamedTuple):
    """A port of the host (`published`, "" for any) at an address ("" for all) that leads to one of a container."""

    address: str
    published: str
    target: str
    protocol: str = "tcp"


class Mount(NamedTuple):
    """A file or folder of the host, or a volume by its key in the file, at a place in a container."""

    kind: str
    source: str
    target: str
    is_part: bool = False  # a folder of a volume


class Service(NamedTuple):
    """What a service runs and what it is given; `unsure` has a reason for each field that cannot be told."""

    image: str
    ports: tuple[Port, ...]
    mounts: tuple[Mount, ...]
    environment: Mapping[str, str]
    unsure: Mapping[str, str]


class DataVolume(NamedTuple):
    """A volume by the name that Docker knows it by, "" if only the running project knows that."""

    name: str
    has_options: bool


class Composition(NamedTuple):
    """The services and volumes that files come to together, and the name of the project, "" for that of the folder.

    `others` are the fields that the files have besides, by service; "" for an overriding file itself.
    """

    services: Mapping[str, Service]
    volumes: Mapping[str, DataVolume]
    project: str = ""
    others: Mapping[str, Sequence[str]] = {}


def read(files: Sequence[bytes], env: dotenv.Env) -> Composition:
    """Return what Compose makes of a file and those that override it, with this `.env`; raise Malformed."""
    services: dict[str, Any] = {}
    volumes: dict[str, Any] = {}
    others: dict[str, dict[str, None]] = {}
    name = ""
    for number, data in enumerate(files):
        document = plain(load_yaml(data, aliases=True))
        for key, entry in ({"": document} | plain(value(document, "services"))).items():
            known = _TAKEN if key else _SECTIONS
            fields = plain(entry).keys() - known if number else _local_fields(key, plain(entry))
            others[key] = others.get(key, {}) | dict.fromkeys(map(str, fields))
        if value(document, "include"):
            raise Malformed("it uses include")
        name = _text(value(document, "name"), env) or name
        for key, entry in plain(value(document, "services")).items():
            services[key] = _merged(services.get(key, {}), entry)
        for key, entry in plain(value(document, "volumes")).items():
            volumes[key] = {**volumes.get(key, {}), **plain(entry)}
    services = {key: entry for key, entry in services.items() if entry is not None}
    if not services:
        raise Malformed("it has no services")
    project = env.values.get("COMPOSE_PROJECT_NAME") or name
    return Composition(
        {key: _service(entry, env) for key, entry in services.items()},
        {key: _volume(key, entry, project, env) for key, entry in volumes.items()},
        project,
        {key: sorted(fields) for key, fields in others.items() if fields},
    )


def _local_fields(name: str, service: dict[str, Any]) -> set[str]:
    """Return the fields of a service that its operator added."""
    fields = service.keys() & (_LOCAL | _TUNED.get(name, set()) | (set() if name in SIZED else _SIZES))
    if all(str(label).startswith("avatar-setup.") for label in _entries(service.get("labels"))):
        fields -= {"labels"}
    files = service.get("env_file")
    for file in files if isinstance(files, list) else [files]:
        if not re.fullmatch(r"(\./)?[.]env", value(file, "path") or str(file)):
            return fields
    return fields - {"env_file"}  # Compose's own


def value(mapping: Any, key: str) -> Any:
    """Return a key of a mapping, or of those that it merges."""
    return plain(mapping).get(key)


def plain(entry: Any, depth: int = 0) -> dict[str, Any]:
    """Return a mapping with all that it merges; an empty one for anything else."""
    content = entry.value if isinstance(entry, Tagged) else entry
    if not isinstance(content, dict) or depth > 8:
        return {}
    parents = content.get("<<")
    merged: dict[str, Any] = {}
    for parent in reversed(parents if isinstance(parents, list) else [parents]):
        merged |= plain(parent, depth + 1)
    return merged | {key: item for key, item in content.items() if key != "<<"}


def _merged(before: dict[str, Any] | None, entry: Any) -> dict[str, Any] | None:
    """Return a service as an overriding file leaves it, its lists as lists of all entries."""
    tag, content = (entry.tag if isinstance(entry, Tagged) else ""), plain(entry)
    if tag == "!reset":
        return None
    if "extends" in content:
        raise Malformed("it uses extends")
    merged = {} if tag == "!override" or not before else dict(before)
    for key in ("ports", "volumes", "environment"):
        new = content.get(key)
        replaces = isinstance(new, Tagged)
        new = new.value if isinstance(new, Tagged) and new.tag == "!override" else None if replaces else new
        merged[key] = [*(merged.get(key, []) if not replaces else []), *_entries(new)]
    if "image" in content:
        image = content["image"]
        merged["image"] = image if not isinstance(image, Tagged) else image.value if image.tag == "!override" else None
    return merged


def _entries(items: Any) -> list[Any]:
    """Return the entries of a list, or those of a mapping as KEY=VALUE."""
    if isinstance(items, dict):
        return [f"{key}={item}" if isinstance(item, str) else key for key, item in plain(items).items()]
    return items if isinstance(items, list) else []


def _service(entry: Mapping[str, Any], env: dotenv.Env) -> Service:
    unsure: dict[str, str] = {}

    def sure(field: str, item: Any) -> str:
        try:
            return expanded(item, env)
        except dotenv.Unsure as reason:
            unsure[field] = str(reason)
            return ""

    ports: dict[Port, None] = {}
    for item in entry["ports"]:
        ports |= dict.fromkeys(_ports(_with_texts(item, lambda text: sure("ports", text))))
    mounts: dict[str, Mount] = {}
    for item in entry["volumes"]:
        mount = _mount(_with_texts(item, lambda text: sure("volumes", text)))
        mounts.pop(mount.target, None)
        mounts[mount.target] = mount
    environment = {}
    for item in entry["environment"]:
        key, equals, text = sure("environment", item).partition("=")
        if equals:
            environment[key] = text
    return Service(sure("image", entry.get("image")), tuple(ports), tuple(mounts.values()), environment, unsure)


def _with_texts(item: Any, expand: Any) -> Any:
    """Return an entry of a list with the variables in it replaced."""
    if not isinstance(item, (dict, Tagged)):
        return expand(item)
    return {key: expand(text) if isinstance(text, str) else text for key, text in plain(item).items()}


def _ports(item: Any) -> Iterator[Port]:
    """Yield the ports of an entry, long or short, as in 127.0.0.1:8443:443/tcp; a range stands for several."""
    if isinstance(item, dict):
        protocol = item.get("protocol") or "tcp"
        yield Port(_bare(item.get("host_ip") or ""), item.get("published") or "", item.get("target") or "", protocol)
        return
    text, _, protocol = str(item).partition("/")
    rest, _, target = text.rpartition(":")
    address, _, published = rest.rpartition(":")
    targets, hosts = _range(target), _range(published)
    for number, port in enumerate(targets):
        host = hosts[number] if len(hosts) == len(targets) else published
        yield Port(_bare(address), host, port, protocol.lower() or "tcp")


def _bare(address: str) -> str:
    return address.removeprefix("[").removesuffix("]")


def _range(text: str) -> list[str]:
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    return [text] if not match else [str(port) for port in range(int(match[1]), int(match[2]) + 1)][:1000]


def _mount(item: Any) -> Mount:
    """Return the mount of an entry, long or short, as in ./here:/there:ro."""
    if isinstance(item, dict):
        part = bool(value(item.get("volume"), "subpath"))
        return Mount(item.get("type") or "", item.get("source") or "", _clean(item.get("target") or ""), part)
    parts = str(item).split(":")
    if len(parts) == 1:
        return Mount("volume", "", _clean(parts[0]))
    return Mount("bind" if parts[0].startswith((".", "/", "~")) else "volume", parts[0], _clean(parts[1]))


def _clean(path: str) -> str:
    return posixpath.normpath(path) if path else ""


def _volume(key: str, entry: Mapping[str, Any], project: str, env: dotenv.Env) -> DataVolume:
    external, options = entry.get("external"), bool(entry.get("driver_opts") or entry.get("driver"))
    name = _text(entry.get("name") or value(external, "name"), env)
    if not name and external and str(external).lower() != "false":
        name = key
    return DataVolume(name or (f"{project}_{key}" if project else ""), options)


def _text(item: Any, env: dotenv.Env) -> str:
    try:
        return expanded(item, env)
    except dotenv.Unsure:
        return ""


def expanded(item: Any, env: dotenv.Env) -> str:
    """Replace the variables in a text, "" for anything else; raise Unsure if one of them is."""
    if not isinstance(item, str):
        return ""
    for key in env.unsure:
        if re.search(rf"\$\{{?{re.escape(key)}\b", item):
            raise dotenv.Unsure(f"it uses {key}, which .env leaves open")
    return dotenv.expanded(item, env.values, all_there_is=True)
