"""Render the stacks of Docker Swarm from the table of services: plain data, dumped by one safe dumper.

Only a run with TARGET=swarm needs this module.
"""

from __future__ import annotations

from collections.abc import Iterable

from setup.config.engines import LABELS, STORAGE_LABEL
from setup.config.services import NETWORKS, Health, Service, State
from setup.deploy.content import Content, Mount, escape, literal, value_of
from setup.formats.digests import fingerprint
from setup.formats.quoting import quote_template
from setup.formats.yaml_file import dump_yaml
from setup.typed import Any
from setup.volume.layout import STACK, STACK_EMPTY, STACK_JOBS, STACK_STATE, SWARM_FILES, File, file_at, secret_path

EMPTY = quote_template("").encode()  # Swarm takes no empty secret: this one is a template of nothing

_HEADER = b"""\
# Written by avatar-setup, for Docker Swarm. Change settings through avatar-setup, not here. It shows secrets.
# A manager deploys stack.state.yml, stack.jobs.yml and stack.yml, in this order, each with:
#   docker stack deploy --detach=false --with-registry-auth -c FILE avatar
"""
_STATE = frozenset({"db", "master", "volume", "filer", "s3"})
_LAST = frozenset({"authentik_blueprint"})  # a one-shot for what the last stack starts
_RUN_SECRETS = "/run/secrets/"
_NAME_LENGTH = 40  # of a config's key; with prefix and fingerprint at most the 64 characters that Swarm takes
_OWN_NAME = frozenset({"master", "volume", "filer", "s3", "admin"})  # is asked by its name before DNS knows it
_TMPFS_SIZES = {"512mb": 512 * 1024 * 1024}


def render(content: Content) -> tuple[File, ...]:
    """Render the three stacks, in the order in which they are deployed."""
    parts: dict[str, list[Service]] = {name: [] for name in SWARM_FILES}
    for row in content.rows:
        parts[_stack_of(row)].append(row)
    files = [file_at(STACK_EMPTY, EMPTY)]
    for name, rows in parts.items():
        files.append(file_at(name, _HEADER + dump_yaml(_stack(content, rows))))
    return tuple(files)


def _stack_of(row: Service) -> str:
    if row.name in _STATE:
        return STACK_STATE
    return STACK_JOBS if row.state is State.ONCE and row.name not in _LAST else STACK


def _stack(content: Content, rows: Iterable[Service]) -> dict[str, Any]:
    """Return one stack, with what its services use at the top level."""
    stack: dict[str, Any] = {
        "version": "3.8",
        "services": {},
        "networks": {},
        "volumes": {},
        "secrets": {},
        "configs": {},
    }
    names = {volume.name: literal(volume.text, content.env) for volume in content.volumes}
    for row in rows:
        stack["services"][row.name] = _service(content, row, stack)
        for volume in row.volumes:
            stack["volumes"][volume.key] = {"name": names[volume.key]}
    used = {name for entry in stack["services"].values() for name in entry["networks"]}
    for name in NETWORKS:
        if name in used:
            options = {"driver_opts": {"encrypted": ""}} if content.is_encrypted else {}
            stack["networks"][name] = {"driver": "overlay", **options}
    return {key: part for key, part in stack.items() if part}


def _service(content: Content, row: Service, stack: dict[str, Any]) -> dict[str, Any]:
    """Return a service; the secrets and configs that it mounts are added to the stack's own."""
    service: dict[str, Any] = {"image": literal(row.image, content.env)}
    if row.script:
        service["entrypoint"] = ["/bin/sh", "-euc"]
        service["command"] = [literal(content.scripts[row.name], content.env)]
    elif row.command:
        service["command"] = [literal(word, content.env) for word in row.command]
    for each in row.environment:
        service.setdefault("environment", {})[each.name] = quote_template(value_of(each, content.env))
    if row.user:
        service["user"] = row.user
    hostname = row.hostname or (row.name if row.name in _OWN_NAME else "")
    if hostname:
        service["hostname"] = hostname
    service["networks"] = dict.fromkeys(row.networks)
    if row.aliases:
        service["networks"][row.networks[0]] = {"aliases": [escape(alias) for alias in row.aliases]}
    if row.health:
        service["healthcheck"] = _health(row.health)
    if row.ports:
        service["ports"] = [
            {"target": port.target, "published": port.published, "protocol": "tcp", "mode": content.port_mode}
            for port in row.ports
        ]
    service |= _mounts(content, row, stack)
    service["stop_grace_period"] = f"{row.stop_grace}s"
    service["logging"] = {"driver": "json-file", "options": {"max-size": "12m", "max-file": "5"}}
    service["deploy"] = _deploy(row)
    if row.ports and content.port_mode == "ingress":
        service["deploy"]["endpoint_mode"] = "vip"  # which it needs
    return service


def _health(health: Health) -> dict[str, Any]:
    return {
        "test": [escape(word) for word in health.test],
        "interval": f"{health.interval}s",
        "timeout": f"{health.timeout}s",
        "retries": health.retries,
        "start_period": f"{health.start_period}s",
    }


def _mounts(content: Content, row: Service, stack: dict[str, Any]) -> dict[str, Any]:
    """Return a service's secrets, configs and volumes; /run/secrets takes only secrets."""
    secrets, configs = [], []
    for name in content.mounted.get(row.name, ()):
        text = content.secrets.get(name, "")
        key = _declare(content, stack["secrets"], Mount(secret_path(name), name, text.encode()))
        secrets.append(_use(key, name, 0o444))
    for mount in content.files.get(row.name, ()):
        if mount.is_private:
            secrets.append(_use(_declare(content, stack["secrets"], mount), mount.target, 0o400))
        elif mount.target.startswith(_RUN_SECRETS):
            secrets.append(
                _use(_declare(content, stack["secrets"], mount), mount.target.removeprefix(_RUN_SECRETS), 0o444)
            )
        else:
            configs.append(_use(_declare(content, stack["configs"], mount), mount.target, 0o444))
    volumes: list[dict[str, Any]] = []
    for volume in row.volumes:
        seeding = {} if volume.is_seeded else {"volume": {"nocopy": True}}
        volumes.append({"type": "volume", "source": volume.key, "target": volume.target, **seeding})
    if row.shm_size:
        size = _TMPFS_SIZES[row.shm_size]
        place = "/dev/shm"  # noqa: S108  # nosec B108
        volumes.append({"type": "tmpfs", "target": place, "tmpfs": {"size": size}})
    volumes += [{"type": "tmpfs", "target": target} for target in row.tmpfs]
    mounts = {"secrets": secrets, "configs": configs, "volumes": volumes}
    return {key: part for key, part in mounts.items() if part}


def _declare(content: Content, section: dict[str, Any], mount: Mount) -> str:
    """Add a secret or config to the stack, named by a fingerprint of its content, and return its key.

    Each empty one has a name of its own too: Docker lists what has one name in any order, and replaces the tasks then.
    """
    base = mount.target.rpartition("/")[2][:_NAME_LENGTH]  # which is ours, unlike the path of a given certificate
    mark = fingerprint(content.key, (mount.source.encode(), mount.content))[:16]
    key = f"{base}_{mark}"
    source = mount.source if mount.source.startswith(("/", "./", "../")) else f"./{mount.source}"
    if mount.content:
        section[key] = {"name": f"avatar_{key}", "file": escape(source)}
    else:
        section[key] = {"name": f"avatar_{key}", "file": f"./{STACK_EMPTY}", "template_driver": "golang"}
    return key


def _use(key: str, target: str, mode: int) -> dict[str, Any]:
    return {"source": key, "target": target, "uid": "0", "gid": "0", "mode": mode}


def _deploy(row: Service) -> dict[str, Any]:
    """Return how many tasks run, where, and how they are replaced."""
    constraints = [f"node.labels.{LABELS.get(volume.key, STORAGE_LABEL)} == true" for volume in row.volumes]
    if row.platform:
        constraints.append("node.platform.arch == x86_64")
    deploy: dict[str, Any] = {"endpoint_mode": "dnsrr"}
    if row.state is State.ONCE:
        deploy |= {"mode": "replicated-job", "restart_policy": {"condition": "on-failure", "delay": "5s"}}
    else:
        order = "start-first" if row.state is State.REPLICATED else "stop-first"
        # Longer than nginx remembers an address, so that it knows the new task before the next old one goes.
        update = {"parallelism": 1, "delay": "6s", "order": order, "failure_action": "rollback"}
        back = {"parallelism": 1, "order": order}
        deploy |= {"replicas": row.replicas, "restart_policy": {"condition": "any", "delay": "5s"}}
        deploy |= {"update_config": update, "rollback_config": back}
    if constraints:
        deploy["placement"] = {"constraints": constraints}
    limits = {key: text for key, text in (("memory", row.memory), ("cpus", row.cpus)) if text}
    if limits:
        deploy["resources"] = {"limits": limits}
    return deploy
