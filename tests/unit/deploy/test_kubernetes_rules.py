"""The rules for Kubernetes' objects: a whole base breaks none of them, and each is broken by what it is for."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.support import kubernetes
from tests.support.documents import read_yaml_all
from tests.support.kubernetes_changes import refused_changes
from tests.support.kubernetes_rules import RULES, faults, quantity

# One object of each kind that rules know, small and whole.
BASE = list(
    read_yaml_all("""\
apiVersion: v1
kind: Secret
metadata: {name: key-5h7, labels: {part-of: base}}
data: {key: c2VjcmV0}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: page-9k2}
data: {index.html: hello}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: uploads}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  replicas: 2
  selector: {matchLabels: {app: api}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: api, net: front}}
    spec:
      terminationGracePeriodSeconds: 20
      hostAliases: [{ip: 192.0.2.7, hostnames: [example.com]}]
      initContainers:
      - {name: wait, image: "wait:1", command: [wait]}
      containers:
      - name: api
        image: api:1
        env:
        - {name: MODE, value: plain}
        - {name: KEY, valueFrom: {secretKeyRef: {name: key-5h7, key: key}}}
        ports: [{name: http, containerPort: 8000, protocol: TCP}]
        resources: {limits: {memory: 1Gi}, requests: {memory: 500Mi, cpu: 250m}}
        livenessProbe: {tcpSocket: {port: 8000}, successThreshold: 1}
        readinessProbe: {httpGet: {path: /, port: http}, successThreshold: 2}
        lifecycle: {preStop: {sleep: {seconds: 5}}}
        securityContext: {allowPrivilegeEscalation: false, runAsUser: 1000, capabilities: {drop: [ALL], add: [CHOWN]}}
        volumeMounts:
        - {name: key, mountPath: /run/key, subPath: key, readOnly: true}
        - {name: page, mountPath: /srv/index.html, subPath: index.html}
        - {name: uploads, mountPath: /uploads}
      volumes:
      - {name: key, secret: {secretName: key-5h7}}
      - {name: page, configMap: {name: page-9k2}}
      - {name: uploads, persistentVolumeClaim: {claimName: uploads}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db, net: front}}
    spec:
      containers:
      - name: db
        image: db:1
        ports: [{containerPort: 5432, protocol: TCP}]
        volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
      volumes: [{name: tmp, emptyDir: {sizeLimit: 64Mi}}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 5Gi}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: migrate-1a2b}
spec:
  template:
    metadata: {labels: {app: migrate}}
    spec: {restartPolicy: OnFailure, containers: [{name: migrate, image: "api:1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: api}
  ports: [{name: http, port: 80, targetPort: 8000, protocol: TCP, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: db, port: 5432, protocol: TCP}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: api}
spec: {minAvailable: 1, selector: {matchLabels: {app: api}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: front}
spec:
  podSelector: {matchLabels: {net: front}}
  ingress: [{from: [{podSelector: {matchLabels: {net: front}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: front}
spec:
  tls: [{hosts: [example.com], secretName: outside}]
  rules:
  - host: example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: api, port: {number: 80}}}}]}
""")
)
POD, CONTAINER = "Deployment/api spec.template.spec", "Deployment/api spec.template.spec.containers.0"
SERVICE, INNER = "Service/api spec", "Service/db spec"
GONE = object()

# Rule, where, what it is there, and what the fault says.
BAD: list[tuple[str, str, Any, str]] = [
    ("names", "Deployment/api metadata.name", "my_api", "no name for a Deployment"),
    ("names", "Service/api metadata.name", "3scale", "no name for a Service"),
    ("names", "StatefulSet/db metadata.name", "d" * 53, "no name for a StatefulSet"),
    ("names", "Job/migrate-1a2b metadata.name", "j" * 64, "no name for a Job"),
    ("names", "ConfigMap/page-9k2 metadata.name", "Page", "no name for a ConfigMap"),
    ("names", "ConfigMap/page-9k2 data", {"a/b": ""}, "no name for a key: a/b"),
    ("names", "Secret/key-5h7 metadata.labels.part-of", "v" * 64, "no value for a label"),
    ("names", "Secret/key-5h7 metadata.labels", {"/x": "y"}, "no key for a label: /x"),
    ("names", f"{CONTAINER}.name", "a_b", "a container or a volume: a_b"),
    ("names", f"{CONTAINER}.name", "wait", "two containers or volumes have the name wait"),
    ("names", f"{POD}.volumes.1.name", "key", "two containers or volumes have the name key"),
    ("names", "Service/db metadata.name", "api", "Service/api: is there twice"),
    ("mounts", f"{CONTAINER}.volumeMounts.0.name", "keys", "mounts keys, which is no volume"),
    ("mounts", f"{CONTAINER}.volumeMounts.0.mountPath", "/uploads/", "mounts /uploads twice"),
    ("mounts", f"{CONTAINER}.volumeMounts.0.mountPath", "/a:b", "a colon"),
    ("mounts", f"{CONTAINER}.volumeMounts.0.subPath", "../key", "leaves its volume"),
    ("mounts", f"{CONTAINER}.volumeMounts", [], "no container mounts the volume key"),
    (
        "mounts",
        "StatefulSet/db spec.template.spec.containers.0.volumeMounts",
        [],
        "no container mounts the volume data",
    ),
    ("environment", f"{CONTAINER}.env.1.name", "MODE", "MODE is there twice"),
    ("environment", f"{CONTAINER}.env.0.name", "A=B", "no name for a variable"),
    ("environment", f"{CONTAINER}.env.1.value", "x", "KEY has two sources"),
    ("references", f"{CONTAINER}.env.1.valueFrom.secretKeyRef.key", "other", "has no key other"),
    ("references", f"{CONTAINER}.env.1.valueFrom.secretKeyRef.name", "key", "Secret/key, which is not there"),
    ("references", f"{CONTAINER}.env.1.valueFrom", {"configMapKeyRef": {"name": "page-9k2", "key": "x"}}, "no key x"),
    ("references", f"{CONTAINER}.envFrom", [{"secretRef": {"name": "no"}}], "Secret/no, which is not there"),
    ("references", f"{CONTAINER}.volumeMounts.1.subPath", "x", "ConfigMap/page-9k2 has no key x"),
    ("references", f"{POD}.volumes.0.secret.secretName", "key", "Secret/key, which is not there"),
    ("references", f"{POD}.volumes.0.secret.items", [{"key": "k", "path": "key"}], "Secret/key-5h7 has no key k"),
    ("references", f"{POD}.volumes.0.secret.items", [{"key": "key", "path": "k"}], "has no key key among its items"),
    ("references", f"{POD}.volumes.2.persistentVolumeClaim.claimName", "x", "PersistentVolumeClaim/x, which is not"),
    ("references", f"{POD}.volumes.1", {"name": "page", "emptyDir": {}}, "ConfigMap/page-9k2: nothing uses it"),
    ("selectors", "Deployment/api spec.selector.matchLabels.app", "web", "does not select its own pods"),
    ("selectors", "Deployment/api spec.selector.matchLabels", {}, "does not select its own pods"),
    ("selectors", "Deployment/api spec.selector.matchLabels", {"net": "front"}, "selects the pods of StatefulSet/db"),
    ("selectors", "Job/migrate-1a2b spec.selector", {"matchLabels": {"app": "migrate"}}, "the server's to make"),
    ("services", f"{SERVICE}.selector.app", "web", "selects no pod"),
    ("services", f"{SERVICE}.selector", GONE, "selects no pod"),
    ("services", f"{SERVICE}.ports.0.targetPort", 8001, "Deployment/api has no port 8001"),
    ("services", f"{SERVICE}.ports.0.targetPort", "htpp", "Deployment/api has no port htpp"),
    ("services", f"{SERVICE}.selector", {"net": "front"}, "StatefulSet/db has no port 8000"),
    ("services", f"{SERVICE}.ports.0.nodePort", 443, "no nodePort: 443"),
    ("services", f"{SERVICE}.ports.0.name", "a_b", "no name for a port: a_b"),
    ("services", f"{SERVICE}.ports", [{"port": 1, "targetPort": 8000}, {"port": 2, "targetPort": 8000}], "not each"),
    ("services", f"{SERVICE}.ports", [{"name": "a", "port": 8000}, {"name": "b", "port": 8000}], "port 8000 twice"),
    ("services", f"{SERVICE}.ports", [{"name": "a", "port": 8000}, {"name": "a", "port": 80}], "two ports are named a"),
    ("services", f"{SERVICE}.type", "ClusterIP", "externalTrafficPolicy is for"),
    ("services", f"{SERVICE}.clusterIP", "None", "a NodePort needs an address"),
    ("container_ports", f"{CONTAINER}.ports.0.name", "a-name-too-long-", "no name for a port"),
    ("container_ports", f"{CONTAINER}.ports.0.name", "8000", "no name for a port: 8000"),
    ("container_ports", f"{CONTAINER}.ports", [{"containerPort": 1}, {"containerPort": 1}], "has the port 1 twice"),
    ("restarts", f"{POD}.restartPolicy", "OnFailure", "restartPolicy OnFailure"),
    ("restarts", "Job/migrate-1a2b spec.template.spec.restartPolicy", GONE, "restartPolicy Always"),
    ("restarts", "Deployment/api spec.strategy.type", "Recreate", "Recreate with rollingUpdate"),
    ("restarts", "Deployment/api spec.strategy.rollingUpdate.maxSurge", 0, "neither add nor remove"),
    ("quantities", f"{CONTAINER}.resources.limits.memory", "1GB", "no quantity: memory 1GB"),
    ("quantities", f"{CONTAINER}.resources.requests.cpu", "0", "no quantity: cpu 0"),
    ("quantities", f"{CONTAINER}.resources.limits.memory", "400M", "more memory than its limit"),
    ("quantities", "PersistentVolumeClaim/uploads spec.resources.requests.storage", "1g", "no quantity: 1g"),
    ("quantities", "StatefulSet/db spec.template.spec.volumes.0.emptyDir.sizeLimit", "64mb", "no quantity: 64mb"),
    (
        "quantities",
        "StatefulSet/db spec.volumeClaimTemplates.0.spec.resources.requests.storage",
        "-1Gi",
        "no quantity: -1Gi",
    ),
    ("probes", f"{CONTAINER}.livenessProbe.successThreshold", 2, "livenessProbe with a successThreshold of 2"),
    ("probes", f"{CONTAINER}.readinessProbe.httpGet.port", "web", "asks the port web"),
    ("probes", f"{CONTAINER}.readinessProbe.exec", {"command": ["true"]}, "readinessProbe asks 2 things"),
    ("probes", f"{CONTAINER}.readinessProbe.timeoutSeconds", 0, "a timeoutSeconds of 0"),
    ("probes", f"{CONTAINER}.lifecycle.preStop.sleep.seconds", 21, "sleeps longer"),
    ("probes", f"{POD}.initContainers.0.livenessProbe", {"tcpSocket": {"port": 1}}, "an init container has no"),
    ("sets", "StatefulSet/db spec.serviceName", "dbs", "has no Service of its own"),
    ("sets", f"{INNER}.selector.app", "api", "has no Service of its own"),
    ("sets", "StatefulSet/db spec.volumeClaimTemplates.0.spec.accessModes", [], "has no accessModes"),
    ("budgets", "PodDisruptionBudget/api spec.selector.matchLabels.app", "web", "selects no pod"),
    ("budgets", "PodDisruptionBudget/api spec.minAvailable", 2, "lets none of 2 pods go"),
    ("budgets", "PodDisruptionBudget/api spec.minAvailable", "100%", "lets none of 2 pods go"),
    ("budgets", "Deployment/api spec.replicas", 1, "lets none of 1 pods go"),
    ("budgets", "PodDisruptionBudget/api spec.maxUnavailable", 1, "either minAvailable or"),
    ("policies", "NetworkPolicy/front spec.podSelector.matchLabels.net", "back", "selects no pod"),
    ("policies", "NetworkPolicy/front spec.ingress.0.from.0.podSelector.matchLabels.net", "back", "selects no pod"),
    ("policies", "NetworkPolicy/front spec.ingress.0.from.0.ipBlock", {"cidr": "192.0.2.0/24"}, "stands alone"),
    ("ingresses", "Ingress/front spec.rules.0.host", "192.0.2.1", "no host name: 192.0.2.1"),
    ("ingresses", "Ingress/front spec.tls.0.hosts.0", "Example.com", "no host name: Example.com"),
    ("ingresses", "Ingress/front spec.rules.0.http.paths.0.path", "api", "no path: api"),
    ("ingresses", "Ingress/front spec.rules.0.http.paths.0.backend.service.port.number", 443, "api:443, which is not"),
    ("ingresses", "Ingress/front spec.rules.0.http.paths.0.backend.service.name", "web", "web:80, which is not"),
    ("contexts", f"{CONTAINER}.securityContext.capabilities.add", ["CAP_CHOWN"], "no CAP_ here"),
    ("contexts", f"{CONTAINER}.securityContext.capabilities.add", ["SYS_ADMIN"], "may escalate, and may not"),
    ("contexts", f"{CONTAINER}.securityContext.privileged", True, "may escalate, and may not"),
    ("contexts", f"{POD}.securityContext", {"runAsNonRoot": True, "runAsUser": 0}, "runs as root, and must not"),
    ("contexts", f"{POD}.hostAliases.0.ip", "example.com", "no address: example.com"),
]

# Where, what it becomes, and what is refused; "" if nothing is.
CHANGES: list[tuple[str, Any, str]] = [
    ("Deployment/api spec.replicas", 5, ""),
    ("Deployment/api spec.template.spec.containers.0.image", "api:2", ""),
    ("Deployment/api spec.selector.matchLabels.net", "front", "Deployment/api: selector cannot change"),
    ("StatefulSet/db spec.template.spec.containers.0.image", "db:2", ""),
    ("StatefulSet/db spec.serviceName", "dbs", "StatefulSet/db: serviceName cannot change"),
    (
        "StatefulSet/db spec.volumeClaimTemplates.0.spec.resources.requests.storage",
        "9Gi",
        "StatefulSet/db: volumeClaimTemplates cannot change",
    ),
    ("Job/migrate-1a2b spec.template.spec.containers.0.image", "api:2", "Job/migrate-1a2b: template cannot change"),
    ("Job/migrate-1a2b metadata.name", "migrate-3c4d", ""),
    ("PersistentVolumeClaim/uploads spec.resources.requests.storage", "2Gi", ""),
    (
        "PersistentVolumeClaim/uploads spec.resources.requests.storage",
        "1Mi",
        "PersistentVolumeClaim/uploads: resources",
    ),
    ("PersistentVolumeClaim/uploads spec.storageClassName", "fast", "PersistentVolumeClaim/uploads: storageClassName"),
    ("Service/db spec.clusterIP", GONE, "Service/db: clusterIP cannot change"),
    ("Service/api spec.type", "LoadBalancer", ""),
]


def changed(where: str, value: Any) -> list[kubernetes.Object]:
    """The base with one value replaced, added, or taken away."""
    objects = copy.deepcopy(BASE)
    name, path = where.split(" ")
    (part,) = (entry for entry in objects if kubernetes.label(entry) == name)
    *way, last = path.split(".")
    for key in way:
        part = part.setdefault(key, {}) if isinstance(part, dict) else part[int(key)]
    if value is GONE:
        del part[last]
    else:
        part[int(last) if isinstance(part, list) else last] = value
    return objects


def test_a_whole_base_breaks_no_rule() -> None:
    assert faults(BASE) == []


@pytest.mark.parametrize("release", kubernetes.RELEASES)
def test_a_whole_base_passes_the_schemas(release: str) -> None:
    assert kubernetes.schema_faults(BASE, release) == []


@pytest.mark.parametrize("rule, where, value, fault", BAD)
def test_each_rule_finds_what_it_is_for(rule: str, where: str, value: Any, fault: str) -> None:
    found = [text for text in faults(changed(where, value)) if text.startswith(f"{rule}: ")]
    assert any(fault in text for text in found), found


def test_every_rule_has_an_object_that_breaks_it() -> None:
    assert {rule.__name__ for rule in RULES} == {row[0] for row in BAD}


@pytest.mark.parametrize("where, value, refusal", CHANGES)
def test_a_change_that_a_server_refuses_is_seen(where: str, value: Any, refusal: str) -> None:
    refused = refused_changes(BASE, changed(where, value))
    assert [text for text in refused if refusal in text] == refused
    assert bool(refused) == bool(refusal)


@pytest.mark.parametrize(
    "text, number",
    [("1", 1), ("250m", 0.25), ("1Ki", 1024), ("2Mi", 2097152), ("1E", 10**18), ("1Ei", 2**60), ("1e3", 1000)],
)
def test_quantities_are_read_as_a_server_reads_them(text: str, number: float) -> None:
    assert quantity(text) == number


def test_what_no_schema_knows_is_a_fault() -> None:
    unknown = changed("Deployment/api spec.replica", 3)
    assert any("replica" in fault for fault in kubernetes.schema_faults(unknown, kubernetes.RELEASES[-1]))
    removed = changed("PodDisruptionBudget/api apiVersion", "policy/v1beta1")
    assert kubernetes.schema_faults(removed, kubernetes.RELEASES[-1]) == [
        "PodDisruptionBudget/api: 1.37 has no policy/v1beta1"
    ]
