"""Build the pods of the Kubernetes base: containers, probes, mounts, and the init containers that wait.

The kubelet reads `$$` as `$` in commands, values and exec probes, and takes values from Secrets as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from setup.config import derived
from setup.config.secrets import SECRETS
from setup.config.services import AUTHENTIK_DATA, Condition, Health, Service, State, Variable
from setup.deploy.content import Content, Mount, escape, literal, value_of
from setup.typed import Any, NamedTuple
from setup.volume.layout import CERTIFICATE, CERTIFICATE_KEY, secret_path

PART_OF = {"app.kubernetes.io/part-of": "avatar"}
SECRET_ENV_NAME = "secret-env"  # noqa: S105 - of the Secret made of secret.env
DRAIN = 6  # seconds that a pod goes on serving after it is to stop: nginx knows its address for five

_SHELL = ("/bin/sh", "-euc")
_PROXIED = frozenset({"nginx", "api", "web", "s3", "authentik_server"})
_SHARING = {"avatar-setup/volume": AUTHENTIK_DATA}
_AUTHENTIK_GROUP = 1000  # of the image's user
# What an image's entry point needs to hand its folders to another user, and to become that user.
_BECOMES_ANOTHER = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
_BECOME = frozenset({"db", "master", "volume", "worker", "authentik_worker"})
# Where an image with a read-only root writes, beside its volumes: nginx's own packages, and Debian's.
_SCRATCH = {
    derived.NGINX_IMAGE: ("/var/cache/nginx", "/var/lib/nginx", "/run"),
    derived.POSTGRES_IMAGE: ("/tmp", "/var/run/postgresql"),  # noqa: S108  # nosec B108
    derived.SEAWEEDFS_IMAGE: ("/tmp", "/data"),  # noqa: S108  # nosec B108
}
_LEAST = {"cpu": "50m", "memory": "128Mi"}
_LEAST_WITH_DATA = {"cpu": "100m", "memory": "512Mi"}
_SHM_SIZES = {"512mb": "512Mi"}
_FOUND_BY = {"init-db": "db_", "authentik_init_db": "authentik_database_"}  # the secrets of the role that it makes


class Cluster(NamedTuple):
    """What the settings say about the cluster; `sizes` has one for each volume's key."""

    namespace: str
    storage_class: str
    sizes: dict[str, str]
    pull_secret: str
    exposure: str
    ingress_class: str
    ingress_tls: str
    address: str  # of nginx inside the cluster, "" for any
    host: str  # by which it is known outside


class Source(NamedTuple):
    """A key of a generated Secret or ConfigMap, with the file that it comes from."""

    kind: str
    name: str
    key: str
    path: str
    content: bytes
    target: str
    mode: int = 0o444


def name_of(text: str) -> str:
    """Return a name as Kubernetes takes it: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def labels_of(row: Service) -> dict[str, str]:
    """Return the labels by which a service's pods are selected."""
    return {"app.kubernetes.io/name": name_of(row.name), **PART_OF}


def network_label(network: str) -> dict[str, str]:
    """Return the label of the pods that are in one of Compose's networks."""
    return {f"avatar-setup/network-{network}": "true"}


def is_rolling(row: Service) -> bool:
    """Tell whether two pods of a service may run beside each other while one replaces the other."""
    return row.state is State.REPLICATED or row.name in ("nginx", "authentik_server", "authentik_worker")


def claims_of(row: Service) -> list[str]:
    """Return the volumes that are this service's alone; Authentik's pods share theirs."""
    return [volume.key for volume in row.volumes if volume.key != AUTHENTIK_DATA]


def sources_of(content: Content, row: Service) -> list[Source]:
    """Return all secrets and files that a service mounts."""
    sources = []
    for name in content.mounted.get(row.name, ()):
        path, text = secret_path(name), content.secrets.get(name, "")
        sources.append(Source("Secret", name_of(path), name, path, text.encode(), f"/run/secrets/{name}"))
    for mount in content.files.get(row.name, ()):
        sources.append(_source_of(mount))
    return sources


def _source_of(mount: Mount) -> Source:
    path = mount.source.removeprefix("./")
    if mount.target == f"/etc/nginx/{CERTIFICATE}":
        return Source("Secret", "tls-certificate", "tls.crt", path, mount.content, mount.target)
    if mount.target == f"/etc/nginx/{CERTIFICATE_KEY}":
        return Source("Secret", "tls-key", "tls.key", path, mount.content, mount.target, 0o400)
    return Source("ConfigMap", name_of(path), path.rpartition("/")[2], path, mount.content, mount.target)


def secret_env(content: Content) -> dict[str, str]:
    """Return the keys of `.env` that show a secret and that a service reads, with their values."""
    shown = set().union(*(secret.shown for secret in SECRETS.values()))
    values = {}
    for row in content.rows:
        for variable in row.environment:
            key = variable.text.removeprefix("${").removesuffix("}")
            if key in shown and not variable.computed:
                values[key] = content.env[key]
    return values


def build_pod(content: Content, cluster: Cluster, row: Service) -> dict[str, Any]:
    """Return the template of a service's pods."""
    labels = labels_of(row)
    for network in row.networks:
        labels |= network_label(network)
    spec: dict[str, Any] = {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": row.stop_grace + (DRAIN if row.name in _PROXIED else 0),
    }
    if cluster.pull_secret:
        spec["imagePullSecrets"] = [{"name": cluster.pull_secret}]
    if cluster.address and "proxy" in row.networks and row.name != "nginx":
        names = [alias for other in content.rows if other.name == "nginx" for alias in other.aliases]
        if names:
            spec["hostAliases"] = [{"ip": cluster.address, "hostnames": names}]
    if row.platform:
        spec["nodeSelector"] = {"kubernetes.io/arch": row.platform.partition("/")[2]}
    if row.state is State.REPLICATED:  # also of one, so that a second does not replace it
        spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        spec["topologySpreadConstraints"] = [spread | {"labelSelector": {"matchLabels": labels_of(row)}}]
    if any(volume.key == AUTHENTIK_DATA for volume in row.volumes):
        labels |= _SHARING
        spec["affinity"] = {"podAffinity": _together(row)}
        spec["securityContext"] |= {"fsGroup": _AUTHENTIK_GROUP, "fsGroupChangePolicy": "OnRootMismatch"}
    if row.state is State.ONCE:
        spec["restartPolicy"] = "Never"
    waiting = [*_wait(content, row)]
    if waiting:
        spec["initContainers"] = waiting
    spec["containers"] = [_container(content, row)]
    volumes = _volumes(content, row)
    if volumes:
        spec["volumes"] = volumes
    return {"metadata": {"labels": labels}, "spec": spec}


def _together(row: Service) -> dict[str, Any]:
    """Return the affinity of pods that share a volume, which one node at a time may mount.

    The others must go where the server is. It only prefers their node: with a must, a node that is lost would hold it.
    """
    if row.name == "authentik_server":
        term = {"labelSelector": {"matchLabels": _SHARING}, "topologyKey": "kubernetes.io/hostname"}
        return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
    server = {"app.kubernetes.io/name": name_of("authentik_server"), **PART_OF}
    term = {"labelSelector": {"matchLabels": server}, "topologyKey": "kubernetes.io/hostname"}
    return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


def _container(content: Content, row: Service) -> dict[str, Any]:
    container: dict[str, Any] = {"name": name_of(row.name), "image": literal(row.image, content.env)}
    if row.script:
        container |= {"command": [*_SHELL], "args": [literal(content.scripts[row.name], content.env)]}
    elif row.command:
        container["args"] = [literal(word, content.env) for word in row.command]
    if row.environment:
        container["env"] = _environment(content, row.environment)
    if row.serves:
        container["ports"] = [{"containerPort": port, "protocol": "TCP"} for port in row.serves]
    container |= _probes(row)
    if row.name in _PROXIED:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": DRAIN}}}
    container["resources"] = _resources(row)
    container["securityContext"] = _security(row)
    mounts = [*_mounts(content, row)]
    return container | ({"volumeMounts": mounts} if mounts else {})


def _resources(row: Service) -> dict[str, dict[str, str]]:
    """Return limits, and of what has none a small request: a pod without any starves first, and is evicted first."""
    limits = {}
    if row.memory:
        limits["memory"] = f"{row.memory[:-1]}{row.memory[-1].upper()}i"  # Kubernetes reads m as a thousandth
    if row.cpus:
        limits["cpu"] = row.cpus
    requests = {**(_LEAST_WITH_DATA if claims_of(row) else _LEAST)}
    for key in limits:
        del requests[key]  # the limit is requested
    resources = {"limits": limits, "requests": requests}
    return {key: part for key, part in resources.items() if part}


def _security(row: Service) -> dict[str, Any]:
    added: tuple[str, ...] = _BECOMES_ANOTHER if row.name in _BECOME else ()
    if row.name == "nginx":
        added = ("CHOWN", "SETGID", "SETUID")
        if min(row.serves) < 1024:
            added = ("CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID")
    context = _confined(added)
    if row.image in _SCRATCH:
        context["readOnlyRootFilesystem"] = True
    if row.user == "root":
        context["runAsUser"] = 0
    return context


def _confined(added: tuple[str, ...] = ()) -> dict[str, Any]:
    capabilities: dict[str, list[str]] = {"drop": ["ALL"]}
    if added:
        capabilities["add"] = [*added]
    return {"allowPrivilegeEscalation": False, "capabilities": capabilities}


def _environment(content: Content, variables: tuple[Variable, ...]) -> list[dict[str, Any]]:
    """Return the variables; one that shows a secret comes from the Secret, so that no manifest shows it."""
    hidden, env = secret_env(content), []
    for variable in variables:
        key = variable.text.removeprefix("${").removesuffix("}")
        if key in hidden and not variable.computed:
            reference = {"name": SECRET_ENV_NAME, "key": key}
            env.append({"name": variable.name, "valueFrom": {"secretKeyRef": reference}})
        else:
            env.append({"name": variable.name, "value": value_of(variable, content.env)})
    return env


def _probes(row: Service) -> dict[str, Any]:
    """Return the probes of a service, from its health; without one, it is ready when its port opens.

    Only what keeps no data and migrates nothing is restarted for its health: that would make an outage of a slow start.
    """
    health = row.health
    if health is None:
        return {"readinessProbe": {"tcpSocket": {"port": row.serves[0]}, "periodSeconds": 5}} if row.serves else {}
    timing = {"periodSeconds": health.interval, "timeoutSeconds": health.timeout, "successThreshold": 1}
    probes = {"readinessProbe": {**_test(row, health), **timing, "failureThreshold": 3}}
    if row.state is State.REPLICATED:
        patience = health.start_period // health.interval + 4 * health.retries
        probes["startupProbe"] = {**_test(row, health), **timing, "failureThreshold": patience}
        probes["livenessProbe"] = {**_test(row, health), **timing, "failureThreshold": health.retries}
    return probes


def _test(row: Service, health: Health) -> dict[str, Any]:
    """Return a GET where the kubelet can reach it, and else the command."""
    if health.path and health.port in row.serves:
        return {"httpGet": {"path": health.path, "port": health.port, "scheme": "HTTP"}}
    how, *words = health.test
    command = ["/bin/sh", "-c", *words] if how == "CMD-SHELL" else words
    return {"exec": {"command": [*map(escape, command)]}}


def _mounts(content: Content, row: Service) -> Iterator[dict[str, Any]]:
    """Yield what a container mounts: each file by its own path, because a volume of them is a folder of links."""
    for source in sources_of(content, row):
        yield {"name": source.name, "mountPath": source.target, "subPath": source.key, "readOnly": True}
    for volume in row.volumes:
        mount = {"name": name_of(volume.key), "mountPath": volume.target}
        # PostgreSQL takes no folder that has a lost+found. Another DB_VOLUME is another, empty one, as with Docker.
        yield mount | {"subPath": content.env["DB_VOLUME"]} if row.name == "db" else mount
    for name, target in _scratch(row):
        yield {"name": name, "mountPath": target}
    if row.shm_size:
        yield {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108  # nosec B108


def _scratch(row: Service) -> Iterator[tuple[str, str]]:
    taken = {volume.target for volume in row.volumes}
    for target in _SCRATCH.get(row.image, ()):
        if target not in taken:
            yield name_of(target), target


def _volumes(content: Content, row: Service) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = []
    for source in sources_of(content, row):
        if source.kind == "Secret":
            volumes.append({"name": source.name, "secret": {"secretName": source.name, "defaultMode": source.mode}})
        else:
            volumes.append({"name": source.name, "configMap": {"name": source.name, "defaultMode": source.mode}})
    for volume in row.volumes:
        if volume.key == AUTHENTIK_DATA:
            name = name_of(volume.key)
            volumes.append({"name": name, "persistentVolumeClaim": {"claimName": name}})
    for name, target in _scratch(row):
        volumes.append({"name": name, "emptyDir": {"medium": "Memory"} if target in row.tmpfs else {}})
    if row.shm_size:
        size = _SHM_SIZES[row.shm_size]
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    return volumes


def _wait(content: Content, row: Service) -> Iterator[dict[str, Any]]:
    """Yield the init containers that wait for what must come first; none may ask the API server.

    nginx waits for nobody: it starts without its upstreams, and one that is down must not take the others away.
    """
    if f"-ip={row.name}" in row.command:
        # Binds its own name, which DNS knows a moment later than the pod begins.
        text = f'until getent hosts {name_of(row.name)} | grep -qwF "$POD_IP"; do sleep 1; done'
        address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        yield _waiting("own-name", literal(row.image, content.env), text) | {"env": [address]}
    rows = {other.name: other for other in content.rows}
    if row.name in _FOUND_BY:  # they make roles: an external database is waited for too
        by_psql = rows["authentik_init_db"]
        text = 'until pg_isready -q -d postgres; do echo "waiting for $PGHOST"; sleep 2; done'
        where = tuple(each for each in by_psql.environment if each.name in ("PGHOST", "PGPORT"))
        waiting = _waiting("database", literal(by_psql.image, content.env), text)
        yield waiting | {"env": _environment(content, where)}
    asked = []
    for after in row.after if row.name != "nginx" else ():
        first = rows[after.service]
        if after.condition is Condition.COMPLETED:
            yield from _wait_for_effect(content, row, first)
        elif first.name != "db" and first.health and first.health.port in first.serves:
            asked.append(f"{name_of(first.name)}:{first.health.port}{first.health.path}")
    if asked:
        text = f"for url in {' '.join(asked)}; do\n"
        text += '  until wget -q -T 5 -O /dev/null "http://$url"; do echo "waiting for $url"; sleep 2; done\ndone\n'
        yield _waiting("services", literal(derived.SEAWEEDFS_IMAGE, content.env), text)


def _wait_for_effect(content: Content, row: Service, first: Service) -> Iterator[dict[str, Any]]:
    """Yield the container that waits for what a one-shot does: a role that can sign in, or a key that opens storage."""
    names: tuple[str, ...] = ()
    rows = {other.name: other for other in content.rows}
    if first.name == "init-storage":
        names = ("storage_admin_access_key_id", "storage_admin_secret_access_key")
        waiting = _waiting(first.name, literal(row.image, content.env), content.scripts["wait_storage.py"])
        waiting["command"] = ["python3", "-c"]
    elif first.name in _FOUND_BY:
        prefix, by_psql = _FOUND_BY[first.name], rows["authentik_init_db"]
        names = (f"{prefix}user", f"{prefix}password", f"{prefix}name")
        waiting = _waiting(first.name, literal(by_psql.image, content.env), content.scripts["wait_database.sh"])
        waiting["env"] = [*_environment(content, by_psql.environment), {"name": "PREFIX", "value": prefix}]
    else:
        return
    mounts = []
    for mount in _mounts(content, row):
        if mount.get("subPath") in names or mount["mountPath"] == derived.CA_BUNDLE_AT:
            mounts.append(mount)
    yield waiting | {"volumeMounts": mounts}


def _waiting(what: str, image: str, text: str) -> dict[str, Any]:
    context = _confined() | {"readOnlyRootFilesystem": True}
    waiting: dict[str, Any] = {"name": name_of(f"wait-for-{what}"), "image": image}
    # Of each container, these too, a namespace with a quota wants to know what it requests.
    waiting |= {"command": [*_SHELL], "args": [escape(text)], "resources": {"requests": {**_LEAST}}}
    return waiting | {"securityContext": context}
