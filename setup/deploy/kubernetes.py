"""Render the base for Kubernetes: what `kubectl apply -k` reads, from the table of services.

Kustomize makes each Secret and ConfigMap of a file beside it, and adds a hash of the content to its name: a pod that
mounts a changed file is replaced, and no other. Only a run with TARGET=kubernetes needs this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from setup.config.derived import NODE_PORTS, has_ingress
from setup.config.services import AUTHENTIK_DATA, NETWORKS, Service, State
from setup.config.values import Values
from setup.deploy.content import Content
from setup.deploy.kubernetes_pod import (
    PART_OF,
    SECRET_ENV_NAME,
    Cluster,
    Source,
    build_pod,
    claims_of,
    is_rolling,
    labels_of,
    name_of,
    network_label,
    secret_env,
    sources_of,
)
from setup.deploy.templates import CannotCarry
from setup.formats.digests import fingerprint
from setup.formats.yaml_file import dump_yaml
from setup.typed import Any
from setup.volume.layout import (
    CA_BUNDLE,
    KUBERNETES_ENV,
    KUBERNETES_JOBS,
    KUBERNETES_NETWORK,
    KUBERNETES_WORKLOADS,
    KUSTOMIZATION,
    File,
    file_at,
)

INGRESS = "Ingress"  # of the exposures, the one that is no type of a Service

_HEAD = b"""\
# Written by avatar-setup. Change settings through avatar-setup, and everything else in an overlay of your own: a
# kustomization in another directory that names this one under `resources`.
"""
_APPS = "apps/v1"
_FIRST_START = 1800  # seconds until a Deployment counts as failed: Authentik first makes all its tables
_LONGEST_LINE = 60_000  # bytes
_LARGEST_NOTE = 250 << 10  # bytes of an object: `kubectl apply` keeps it in an annotation, and 256 KiB is all of those
_LARGEST_BODY = "4096m"  # of an upload, as nginx takes it


def read_cluster(v: Values) -> Cluster:
    """Return what the settings say about the cluster."""
    sizes = {
        "postgres_data": v["KUBERNETES_DATABASE_SIZE"],
        "seaweedfs-blocks": v["KUBERNETES_BLOCKS_SIZE"],
        "seaweedfs-data": v["KUBERNETES_METADATA_SIZE"],
        "seaweedfs-metadata": v["KUBERNETES_METADATA_SIZE"],
        AUTHENTIK_DATA: v["KUBERNETES_UPLOADS_SIZE"],
    }
    return Cluster(
        v["KUBERNETES_NAMESPACE"],
        v["KUBERNETES_STORAGE_CLASS"],
        sizes,
        v["KUBERNETES_IMAGE_PULL_SECRET"],
        v["KUBERNETES_EXPOSURE"],
        v["KUBERNETES_INGRESS_CLASS"] if has_ingress(v) else "",
        v["KUBERNETES_INGRESS_TLS_SECRET"] if has_ingress(v) else "",
        v["KUBERNETES_NGINX_ADDRESS"],
        v["PUBLIC_URL"].host,
    )


def render(content: Content, cluster: Cluster) -> tuple[File, ...]:
    """Render the base; the kustomization, without which nothing is applied, last."""
    hidden = _secret_env(content)
    documents: dict[str, list[dict[str, Any]]] = {
        KUBERNETES_WORKLOADS: [],
        KUBERNETES_JOBS: [],
        KUBERNETES_NETWORK: [*_policies(content)],
    }
    if any(volume.name == AUTHENTIK_DATA for volume in content.volumes):
        claim = _claim(cluster, AUTHENTIK_DATA)
        documents[KUBERNETES_WORKLOADS].append(claim)
    for row in content.rows:
        if row.state is State.ONCE:
            documents[KUBERNETES_JOBS].append(_job(content, cluster, row, hidden))
        else:
            documents[KUBERNETES_WORKLOADS].append(_workload(content, cluster, row))
            documents[KUBERNETES_NETWORK] += _reached(cluster, row)
    files = [file_at(KUBERNETES_ENV, hidden)]
    for path, objects in documents.items():
        files.append(file_at(path, _HEAD + b"---\n".join(map(dump_yaml, objects))))
    files.append(file_at(KUSTOMIZATION, _HEAD + dump_yaml(_kustomization(content, cluster, documents))))
    return tuple(files)


def _secret_env(content: Content) -> bytes:
    """Return the file of the variables that show a secret; kustomize reads a line as it is, without quotes."""
    lines = []
    for key, text in secret_env(content).items():
        if len(key) + len(text.encode()) > _LONGEST_LINE:  # kustomize would leave it out, and all that follow
            raise CannotCarry(f"{key}: it is too long for a line of {KUBERNETES_ENV}")
        if "\n" in text or "\r" in text:
            raise CannotCarry(f"{key}: it holds a line break, which kustomize cannot read from {KUBERNETES_ENV}")
        lines.append(f"{key}={text}\n")
    return "".join(lines).encode()


def _kustomization(content: Content, cluster: Cluster, resources: Iterable[str]) -> dict[str, Any]:
    generators: dict[str, list[dict[str, Any]]] = {"Secret": [], "ConfigMap": []}
    generators["Secret"].append({"name": SECRET_ENV_NAME, "envs": [KUBERNETES_ENV]})
    for source in _all_sources(content):
        generators[source.kind].append({"name": source.name, "files": [f"{source.key}={source.path}"]})
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": cluster.namespace,
        "resources": [*resources],
        "generatorOptions": {"labels": {**PART_OF}},
        "secretGenerator": generators["Secret"],
        "configMapGenerator": generators["ConfigMap"],
    }


def _all_sources(content: Content) -> Iterable[Source]:
    sources = {}
    for row in content.rows:
        for source in sources_of(content, row):
            sources[source.name] = source
            size = len(source.content) + source.content.count(b"\n")  # as JSON
            if source.path == CA_BUNDLE and size > _LARGEST_NOTE:
                reason = f"its {size >> 10} KiB are more than `kubectl apply` can note, which is {_LARGEST_NOTE >> 10}"
                raise CannotCarry(f"{CA_BUNDLE}: {reason}: leave only your own CAs in the file of TLS_CA_PATH")
    return sources.values()


def _named(kind: str, version: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}}


def _workload(content: Content, cluster: Cluster, row: Service) -> dict[str, Any]:
    """Return the Deployment of a service, or the StatefulSet of one that keeps data."""
    name, labels, claims = name_of(row.name), labels_of(row), claims_of(row)
    spec: dict[str, Any] = {"replicas": row.replicas, "selector": {"matchLabels": labels}}
    template = build_pod(content, cluster, row)
    if claims:
        # Volumes of a StatefulSet outlive it: `kubectl delete -k` deletes no data.
        volumes = []
        for key in claims:
            volumes.append(_claim(cluster, key))
        spec |= {"serviceName": name, "template": template, "volumeClaimTemplates": volumes}
        return _named("StatefulSet", _APPS, name, labels) | {"spec": spec}
    spec |= {"progressDeadlineSeconds": _FIRST_START, "strategy": {"type": "Recreate"}}
    if is_rolling(row):
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return _named("Deployment", _APPS, name, labels) | {"spec": spec | {"template": template}}


def _claim(cluster: Cluster, key: str) -> dict[str, Any]:
    """Return a claim of a volume, which one node at a time may mount."""
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}
    if cluster.storage_class:
        spec["storageClassName"] = cluster.storage_class
    spec["resources"] = {"requests": {"storage": cluster.sizes[key]}}
    return _named("PersistentVolumeClaim", "v1", name_of(key), {**PART_OF}) | {"spec": spec}


def _job(content: Content, cluster: Cluster, row: Service, hidden: bytes) -> dict[str, Any]:
    """Return a one-shot. A Job cannot be changed, so its name has a fingerprint of all that decides what it does."""
    name, labels = name_of(row.name), labels_of(row)
    spec = {"backoffLimit": 10, "template": build_pod(content, cluster, row)}
    text = dump_yaml(spec)
    contents = [text, hidden if b"secretKeyRef" in text else b""]
    for source in sources_of(content, row):
        contents.append(source.content)
    mark = fingerprint(content.key, contents)[:16]
    return _named("Job", "batch/v1", f"{name}-{mark}", labels) | {"spec": spec}


def _reached(cluster: Cluster, row: Service) -> Iterator[dict[str, Any]]:
    """Yield what makes a service reachable, and keeps one of several when a node is emptied."""
    labels = labels_of(row)
    if row.name == "nginx":
        yield from _entrance(cluster, row)
    elif row.serves:
        for name in (row.name, *row.aliases):
            spec: dict[str, Any] = {"selector": labels, "ports": _ports(row)}
            if claims_of(row) and "seaweedfs" in row.networks:
                # Each binds, or is told by the master, the address of its own name before it is ready.
                spec = {"clusterIP": "None", "publishNotReadyAddresses": True, **spec}
            yield _named("Service", "v1", name_of(name), labels) | {"spec": spec}
    if row.replicas > 1:
        spec = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
        yield _named("PodDisruptionBudget", "policy/v1", name_of(row.name), labels) | {"spec": spec}


def _ports(row: Service) -> list[dict[str, Any]]:
    ports = []
    for port in row.serves:
        ports.append({"name": f"tcp-{port}", "port": port, "targetPort": port, "protocol": "TCP"})
    return ports


def _entrance(cluster: Cluster, row: Service) -> Iterator[dict[str, Any]]:
    """Yield nginx's Service as it is exposed; what comes from outside reaches it with the client's address."""
    labels, ports = labels_of(row), _ports(row)
    spec: dict[str, Any] = {"type": "ClusterIP", "selector": labels, "ports": ports}
    if cluster.exposure != INGRESS:
        spec = {"type": cluster.exposure, "externalTrafficPolicy": "Local", "selector": labels, "ports": ports}
    for port, entry in zip(row.ports, ports, strict=True):
        if cluster.exposure == "NodePort" and port.published in NODE_PORTS:
            entry["nodePort"] = port.published
    if cluster.address:
        spec["clusterIP"] = cluster.address
    yield _named("Service", "v1", "nginx", labels) | {"spec": spec}
    if cluster.exposure == INGRESS:
        yield _ingress(cluster, row)


def _ingress(cluster: Cluster, row: Service) -> dict[str, Any]:
    backend = {"service": {"name": "nginx", "port": {"number": row.serves[0]}}}
    spec: dict[str, Any] = {}
    if cluster.ingress_class:
        spec["ingressClassName"] = cluster.ingress_class
    if cluster.ingress_tls:
        spec["tls"] = [{"hosts": [cluster.host], "secretName": cluster.ingress_tls}]
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec["rules"] = [{"host": cluster.host, "http": {"paths": paths}}]
    ingress = _named("Ingress", "networking.k8s.io/v1", "avatar", labels_of(row)) | {"spec": spec}
    prefix = "nginx.ingress.kubernetes.io/"  # read by that controller alone, whose default is 1 MB
    ingress["metadata"]["annotations"] = {
        f"{prefix}proxy-body-size": _LARGEST_BODY,
        f"{prefix}proxy-request-buffering": "off",
        f"{prefix}proxy-read-timeout": "300",
    }
    return ingress


def _policies(content: Content) -> Iterator[dict[str, Any]]:
    """Yield a policy for each of Compose's networks: who shares one may connect, and nobody else.

    As under Compose, every pod may connect to the outside; nginx alone is reached from there.
    """
    for network in NETWORKS:
        label = network_label(network)
        allowed = [{"from": [{"podSelector": {"matchLabels": label}}]}]
        yield _policy(f"network-{network}", label, allowed)
    for row in content.rows:
        if row.name == "nginx":
            ports = []
            for port in row.serves:
                ports.append({"port": port, "protocol": "TCP"})
            yield _policy("from-outside", labels_of(row), [{"ports": ports}])


def _policy(name: str, label: dict[str, str], ingress: list[dict[str, Any]]) -> dict[str, Any]:
    spec = {"podSelector": {"matchLabels": label}, "policyTypes": ["Ingress"], "ingress": ingress}
    return _named("NetworkPolicy", "networking.k8s.io/v1", name, {**PART_OF}) | {"spec": spec}
