"""What schemas pass and a server refuses, or what it takes and never comes to run.

Each rule is for one thing that a generator of manifests can get wrong so.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from tests.support.kubernetes import WORKLOADS, Object, Objects, Pod, label, of_kind, pods, selects

Rule = Callable[[Objects], Iterator[str]]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_UNITS = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000), "Ki": Decimal(1024)}
_UNITS |= {letter: Decimal(1000) ** power for power, letter in enumerate("MGTPE", 2)}
_UNITS |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("MGTPE", 2)}
_QUANTITY = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?)(m|k|Ki|[MGTPE]i?|[eE][+-]?[0-9]+)?")


def _each(objects: Objects) -> Iterator[tuple[str, Pod, Object]]:
    """Every container, with the words that a fault begins with."""
    for pod in pods(objects):
        for container in pod.containers:
            yield f"{label(pod.owner)}: {container['name']}", pod, container


def _repeated(texts: Sequence[Any]) -> list[Any]:
    return [text for text, count in Counter(texts).items() if count > 1]


def names(objects: Objects) -> Iterator[str]:
    """Names, label values and keys have the characters and the length that a server takes, and are there once."""
    identities = [(entry["kind"], entry["metadata"].get("namespace"), entry["metadata"]["name"]) for entry in objects]
    for kind, _, name in _repeated(identities):
        yield f"{kind}/{name}: is there twice"
    for entry in objects:
        name = entry["metadata"]["name"]
        pattern, limit = _SUBDOMAIN, 253
        if entry["kind"] in ("Service", "Namespace", *WORKLOADS):
            pattern, limit = (_SERVICE if entry["kind"] == "Service" else _LABEL), 63
        if entry["kind"] == "StatefulSet":
            limit = 52  # its pods carry a label of this and a hash
        if not pattern.fullmatch(name) or len(name) > limit:
            yield f"{label(entry)}: no name for a {entry['kind']}"
        for key in (entry.get("data") or {}) | (entry.get("binaryData") or {}):
            if not _KEY.fullmatch(key) or len(key) > 253:
                yield f"{label(entry)}: no name for a key: {key}"
        yield from _labels(label(entry), entry["metadata"].get("labels") or {})
    for pod in pods(objects):
        yield from _labels(f"{label(pod.owner)}: template", pod.labels)
        inner = [container["name"] for container in pod.containers]
        volumes = [volume["name"] for volume in pod.spec.get("volumes", ())] + pod.claims
        for name in inner + volumes:
            if not _LABEL.fullmatch(name) or len(name) > 63:
                yield f"{label(pod.owner)}: no name for a container or a volume: {name}"
        for name in _repeated(inner) + _repeated(volumes):
            yield f"{label(pod.owner)}: two containers or volumes have the name {name}"


def _labels(where: str, labels: Mapping[str, str]) -> Iterator[str]:
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        is_key = len(name) <= 63 and _LABEL_VALUE.fullmatch(name) and name
        if not is_key or (slash and not _SUBDOMAIN.fullmatch(prefix)):
            yield f"{where}: no key for a label: {key}"
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            yield f"{where}: no value for a label: {key}={value}"


def mounts(objects: Objects) -> Iterator[str]:
    """Every mount has a volume, every volume is mounted, and no path of a container is mounted twice."""
    for where, pod, container in _each(objects):
        volumes = {volume["name"] for volume in pod.spec.get("volumes", ())} | set(pod.claims)
        mounted = container.get("volumeMounts") or []
        for mount in mounted:
            if mount["name"] not in volumes:
                yield f"{where}: mounts {mount['name']}, which is no volume of the pod"
            if ":" in mount["mountPath"]:
                yield f"{where}: a colon in the path {mount['mountPath']}"
            inner = mount.get("subPath", "")
            if inner.startswith("/") or ".." in inner.split("/"):
                yield f"{where}: the subPath {inner} leaves its volume"
        for path in _repeated([mount["mountPath"].rstrip("/") for mount in mounted]):
            yield f"{where}: mounts {path} twice"
    for pod in pods(objects):
        used = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts") or ()}
        for name in [volume["name"] for volume in pod.spec.get("volumes", ())] + pod.claims:
            if name not in used:
                yield f"{label(pod.owner)}: no container mounts the volume {name}"


def environment(objects: Objects) -> Iterator[str]:
    """Every variable has a name that a server takes, one source, and is there once."""
    for where, _, container in _each(objects):
        entries = container.get("env") or []
        for name in _repeated([entry["name"] for entry in entries]):
            yield f"{where}: {name} is there twice"
        for entry in entries:
            if not re.fullmatch(r"[ -<>-~]+", entry["name"]):
                yield f"{where}: no name for a variable: {entry['name']!r}"
            if "value" in entry and "valueFrom" in entry:
                yield f"{where}: {entry['name']} has two sources"


def references(objects: Objects) -> Iterator[str]:
    """What a pod refers to is in the base, key for key; and what the base generates is used."""
    stored = {(entry["kind"], entry["metadata"]["name"]): entry for entry in objects}
    used = set()
    for where, kind, name, keys in _references(objects):
        used.add((kind, name))
        if (kind, name) not in stored:
            yield f"{where}: refers to {kind}/{name}, which is not there"
            continue
        entry = stored[kind, name]
        for key in sorted(keys - set((entry.get("data") or {}) | (entry.get("binaryData") or {}))):
            yield f"{where}: {kind}/{name} has no key {key}"
    for entry in of_kind(objects, "Secret", "ConfigMap", "PersistentVolumeClaim"):
        if (entry["kind"], entry["metadata"]["name"]) not in used:
            yield f"{label(entry)}: nothing uses it"


def _references(objects: Objects) -> Iterator[tuple[str, str, str, set[str]]]:
    """Who refers to which object, and to which of its keys."""
    for where, pod, container in _each(objects):
        for entry in container.get("env") or ():
            source = entry.get("valueFrom", {})
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if field in source:
                    yield f"{where}: {entry['name']}", kind, source[field]["name"], {source[field]["key"]}
        for entry in container.get("envFrom") or ():
            for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if field in entry:
                    yield f"{where}: envFrom", kind, entry[field]["name"], set()
        for mount in container.get("volumeMounts") or ():
            for volume in pod.spec.get("volumes", ()):
                if volume["name"] == mount["name"]:
                    yield from _behind(f"{where}: {mount['mountPath']}", volume, mount.get("subPath", ""))


def _behind(where: str, volume: Object, inner: str) -> Iterator[tuple[str, str, str, set[str]]]:
    if "persistentVolumeClaim" in volume:
        yield where, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], set()
    for field, kind, named in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
        if field in volume:
            items = {item["path"]: item["key"] for item in volume[field].get("items", ())}
            keys = set(items.values()) or ({inner} if inner else set())
            yield where, kind, volume[field][named], keys
            if items and inner and inner not in items:
                yield where, kind, volume[field][named], {f"{inner} among its items"}


def selectors(objects: Objects) -> Iterator[str]:
    """A workload selects its own pods and nobody else's."""
    for pod in pods(objects):
        if pod.owner["kind"] == "Job":
            if "selector" in pod.owner["spec"]:
                yield f"{label(pod.owner)}: a Job's selector is the server's to make"
            continue
        selector = pod.owner["spec"]["selector"]
        if not selector.get("matchLabels") or not selects(selector, pod.labels):
            yield f"{label(pod.owner)}: does not select its own pods"
        for other in pods(objects):
            if other.owner is not pod.owner and selects(selector, other.labels):
                yield f"{label(pod.owner)}: selects the pods of {label(other.owner)}"


def services(objects: Objects) -> Iterator[str]:
    """A Service reaches pods at a port that each of them has, by ports and a policy that its type allows."""
    for service in of_kind(objects, "Service"):
        spec, where = service["spec"], label(service)
        kind = spec.get("type", "ClusterIP")
        reached = [pod for pod in pods(objects) if spec.get("selector", {}).items() <= pod.labels.items()]
        if not spec.get("selector") or not reached:
            yield f"{where}: selects no pod"
        for port, pod in itertools.product(spec["ports"], reached if spec.get("selector") else ()):
            target = port.get("targetPort", port["port"])
            if not any(target in (own["containerPort"], own.get("name")) for own in _ports(pod)):
                yield f"{where}: {label(pod.owner)} has no port {target}"
        yield from _service_ports(where, kind, spec["ports"])
        if kind == "ClusterIP" and ("externalTrafficPolicy" in spec or "healthCheckNodePort" in spec):
            yield f"{where}: externalTrafficPolicy is for services that are reached from outside"
        if kind != "ClusterIP" and spec.get("clusterIP") == "None":
            yield f"{where}: a {kind} needs an address of its own"


def _service_ports(where: str, kind: str, ports: list[Object]) -> Iterator[str]:
    if len(ports) > 1 and not all(port.get("name") for port in ports):
        yield f"{where}: several ports, and not each has a name"
    for name in _repeated([port["name"] for port in ports if "name" in port]):
        yield f"{where}: two ports are named {name}"
    for number in _repeated([(port["port"], port.get("protocol", "TCP")) for port in ports]):
        yield f"{where}: has the port {number[0]} twice"
    for port in ports:
        if "name" in port and (not _LABEL.fullmatch(port["name"]) or len(port["name"]) > 63):
            yield f"{where}: no name for a port: {port['name']}"
        if "nodePort" in port and (kind == "ClusterIP" or not 30000 <= port["nodePort"] <= 32767):
            yield f"{where}: no nodePort: {port['nodePort']}"


def _ports(pod: Pod) -> list[Object]:
    return [port for container in pod.spec["containers"] for port in container.get("ports") or ()]


def container_ports(objects: Objects) -> Iterator[str]:
    """The names of ports fit in fifteen characters, and no port of a container is there twice."""
    for where, _, container in _each(objects):
        ports = container.get("ports") or []
        for port in ports:
            name = port.get("name", "a")
            if len(name) > 15 or not _PORT_NAME.fullmatch(name):
                yield f"{where}: no name for a port: {name}"
        for number in _repeated([(port["containerPort"], port.get("protocol", "TCP")) for port in ports]):
            yield f"{where}: has the port {number[0]} twice"


def restarts(objects: Objects) -> Iterator[str]:
    """A Job's pods end, those of the others never do; a Deployment's strategy has the fields of its type only."""
    for pod in pods(objects):
        policy = pod.spec.get("restartPolicy", "Always")
        allowed = ("Never", "OnFailure") if pod.owner["kind"] == "Job" else ("Always",)
        if policy not in allowed:
            yield f"{label(pod.owner)}: restartPolicy {policy}"
        strategy = pod.owner["spec"].get("strategy", {})
        if strategy.get("type") == "Recreate" and "rollingUpdate" in strategy:
            yield f"{label(pod.owner)}: Recreate with rollingUpdate"
        rolling = strategy.get("rollingUpdate", {})
        if rolling and all(str(rolling.get(key, 1)).rstrip("%") == "0" for key in ("maxSurge", "maxUnavailable")):
            yield f"{label(pod.owner)}: may neither add nor remove a pod"


def quantities(objects: Objects) -> Iterator[str]:
    """Quantities can be read, are positive, and a request is at most its limit."""
    for where, _, container in _each(objects):
        resources = container.get("resources") or {}
        for asked in ("limits", "requests"):
            for key, text in (resources.get(asked) or {}).items():
                if quantity(text) is None:
                    yield f"{where}: no quantity: {key} {text}"
        for key, text in (resources.get("requests") or {}).items():
            limit = quantity((resources.get("limits") or {}).get(key, "1E"))
            if limit is not None and (quantity(text) or 0) > limit:
                yield f"{where}: asks for more {key} than its limit"
    for where, text in _sizes(objects):
        if quantity(text) is None:
            yield f"{where}: no quantity: {text}"


def _sizes(objects: Objects) -> Iterator[tuple[str, Any]]:
    """The sizes of volumes."""
    claims = [(label(entry), entry) for entry in of_kind(objects, "PersistentVolumeClaim")]
    for pod in pods(objects):
        claims += [(label(pod.owner), claim) for claim in pod.owner["spec"].get("volumeClaimTemplates", ())]
        for volume in pod.spec.get("volumes", ()):
            if "sizeLimit" in (volume.get("emptyDir") or {}):
                yield f"{label(pod.owner)}: {volume['name']}", volume["emptyDir"]["sizeLimit"]
    for where, claim in claims:
        yield f"{where}: storage", claim["spec"]["resources"]["requests"]["storage"]


def quantity(text: Any) -> Decimal | None:
    """A quantity as a number; None if it is none, or not above zero."""
    read = _QUANTITY.fullmatch(str(text))
    if not read:
        return None
    digits, unit = read[1], read[2] or ""
    number = Decimal(digits) * _UNITS[unit] if unit in _UNITS else Decimal(f"{digits}{unit}")
    return number if number > 0 else None


def probes(objects: Objects) -> Iterator[str]:
    """A probe asks one thing of a port that is there; one success is enough for those that may restart a container."""
    for where, pod, container in _each(objects):
        is_first = container in pod.spec.get("initContainers", ()) and container.get("restartPolicy") != "Always"
        kinds = [kind for kind in ("livenessProbe", "startupProbe", "readinessProbe", "lifecycle") if kind in container]
        if is_first and kinds:
            yield f"{where}: an init container has no {kinds[0]}"
        for kind in kinds[: kinds.index("lifecycle") if "lifecycle" in kinds else None]:
            probe = container[kind]
            handlers = [key for key in ("exec", "httpGet", "tcpSocket", "grpc") if key in probe]
            if len(handlers) != 1:
                yield f"{where}: {kind} asks {len(handlers)} things"
            if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
                yield f"{where}: {kind} with a successThreshold of {probe['successThreshold']}"
            for key in ("periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold"):
                if probe.get(key, 1) < 1:
                    yield f"{where}: {kind} with a {key} of {probe[key]}"
            asked = [probe[key]["port"] for key in handlers if "port" in probe[key]]
            ports = container.get("ports") or ()
            if asked and not any(asked[0] in (port["containerPort"], port.get("name")) for port in ports):
                yield f"{where}: {kind} asks the port {asked[0]}, which the container does not have"
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        if container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) > grace:
            yield f"{where}: sleeps longer before it ends than it may take to end"


def sets(objects: Objects) -> Iterator[str]:
    """A StatefulSet has a Service that selects its pods, or they have no names; its claims say who may access them."""
    known = {entry["metadata"]["name"]: entry for entry in of_kind(objects, "Service")}
    for pod in pods(objects):
        if pod.owner["kind"] == "StatefulSet":
            service = known.get(pod.owner["spec"].get("serviceName", ""))
            if not service or not service["spec"].get("selector", {}).items() <= pod.labels.items():
                yield f"{label(pod.owner)}: has no Service of its own"
        for claim in pod.owner["spec"].get("volumeClaimTemplates", ()):
            if not claim["spec"].get("accessModes"):
                yield f"{label(pod.owner)}: the claim {claim['metadata']['name']} has no accessModes"


def budgets(objects: Objects) -> Iterator[str]:
    """A PodDisruptionBudget selects pods and lets at least one of them go."""
    for budget in of_kind(objects, "PodDisruptionBudget"):
        spec = budget["spec"]
        chosen = [pod for pod in pods(objects) if selects(spec["selector"], pod.labels)]
        if not chosen:
            yield f"{label(budget)}: selects no pod"
        if ("minAvailable" in spec) == ("maxUnavailable" in spec):
            yield f"{label(budget)}: wants either minAvailable or maxUnavailable"
        count = sum(pod.owner["spec"].get("replicas", 1) for pod in chosen)
        least, most = str(spec.get("minAvailable", 0)), str(spec.get("maxUnavailable", 1))
        if most in ("0", "0%") or least == "100%" or (least.isdigit() and int(least) >= count > 0):
            yield f"{label(budget)}: lets none of {count} pods go"


def policies(objects: Objects) -> Iterator[str]:
    """A NetworkPolicy selects pods, and those that it lets in are there."""
    for policy in of_kind(objects, "NetworkPolicy"):
        spec = policy["spec"]
        peers = [peer for rule in spec.get("ingress", ()) for peer in rule.get("from", ())]
        peers += [peer for rule in spec.get("egress", ()) for peer in rule.get("to", ())]
        inside = [peer["podSelector"] for peer in peers if "podSelector" in peer and "namespaceSelector" not in peer]
        for selector in (spec["podSelector"], *inside):
            if not any(selects(selector, pod.labels) for pod in pods(objects)):
                yield f"{label(policy)}: selects no pod by {selector}"
        for peer in peers:
            if "ipBlock" in peer and len(peer) > 1:
                yield f"{label(policy)}: an ipBlock stands alone"


def ingresses(objects: Objects) -> Iterator[str]:
    """An Ingress leads a host name, never an address, to a port of a Service."""
    known = {entry["metadata"]["name"]: entry for entry in of_kind(objects, "Service")}
    for ingress in of_kind(objects, "Ingress"):
        where, rules = label(ingress), ingress["spec"].get("rules", [])
        hosts = [rule["host"] for rule in rules if "host" in rule]
        hosts += [host for entry in ingress["spec"].get("tls", ()) for host in entry.get("hosts", ())]
        for host in hosts:
            if _is_address(host) or not _SUBDOMAIN.fullmatch(host.removeprefix("*.")):
                yield f"{where}: no host name: {host}"
        for path in [path for rule in rules for path in rule.get("http", {}).get("paths", ())]:
            if path.get("pathType") != "ImplementationSpecific" and not path.get("path", "").startswith("/"):
                yield f"{where}: no path: {path.get('path')}"
            backend = path["backend"]["service"]
            service = known.get(backend["name"], {"spec": {"ports": []}})
            wanted = backend["port"].get("number", backend["port"].get("name"))
            if not any(wanted in (port["port"], port.get("name")) for port in service["spec"]["ports"]):
                yield f"{where}: leads to {backend['name']}:{wanted}, which is not there"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def contexts(objects: Objects) -> Iterator[str]:
    """What a container may do does not contradict itself."""
    for where, pod, container in _each(objects):
        context = dict(pod.spec.get("securityContext") or {}) | dict(container.get("securityContext") or {})
        added = (context.get("capabilities") or {}).get("add") or []
        for name in added:
            if name.startswith("CAP_"):
                yield f"{where}: capabilities have no CAP_ here: {name}"
        may_more = context.get("privileged") or "SYS_ADMIN" in added
        if may_more and context.get("allowPrivilegeEscalation") is False:
            yield f"{where}: may escalate, and may not"
        if context.get("runAsNonRoot") and context.get("runAsUser") == 0:
            yield f"{where}: runs as root, and must not"
    for pod in pods(objects):
        for alias in pod.spec.get("hostAliases", ()):
            if not _is_address(alias["ip"]):
                yield f"{label(pod.owner)}: no address: {alias['ip']}"


RULES: tuple[Rule, ...] = (
    names, mounts, environment, references, selectors, services, container_ports, restarts, quantities, probes, sets,
    budgets, policies, ingresses, contexts,
)  # fmt: skip


def faults(objects: Objects) -> list[str]:
    """What a server refuses, or what never comes to run, by every rule."""
    return [f"{rule.__name__}: {fault}" for rule in RULES for fault in rule(objects)]
