"""The base for Kubernetes against the compose file: the same services, with the same values, secrets and networks."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import itertools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from setup.config.services import NETWORKS
from setup.deploy.targets import Targets
from setup.deploy.templates import CannotCarry
from setup.volume.layout import KUBERNETES_ENV, KUBERNETES_NGINX, KUSTOMIZATION
from tests.support.documents import read_yaml, read_yaml_all
from tests.support.trees import CONFIGURATIONS, TEMPLATES, named_targets, resolution, targets
from tests.unit.deploy.test_targets import environment, stack

# A certificate must lie below the base, and so these have it where it is by default.
INSIDE = {"NGINX_SSL_CERTIFICATE_PATH": "", "NGINX_SSL_CERTIFICATE_KEY_PATH": ""}
ALL = tuple(name for name in CONFIGURATIONS if name != "preflight")  # whose container is Compose's alone
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@cache
def base(name: str) -> Targets:
    configuration = CONFIGURATIONS[name]
    return targets({**configuration.settings, **INSIDE, "TARGET": "kubernetes"}, configuration.secrets)


class Objects(NamedTuple):
    """The files of a base, and the objects in them."""

    files: dict[str, str]
    kustomization: dict[str, Any]
    objects: list[dict[str, Any]]

    @property
    def pods(self) -> dict[str, dict[str, Any]]:
        """Service, as Kubernetes names it -> the template of its pods."""
        found = {}
        for each in self.objects:
            if "template" in each.get("spec", {}):
                found[each["metadata"]["labels"]["app.kubernetes.io/name"]] = each["spec"]["template"]
        return found

    @property
    def sources(self) -> dict[tuple[str, str], dict[str, str]]:
        """Kind and name of what kustomize generates -> key -> path of the file."""
        found = {}
        for kind in ("secret", "configMap"):
            for each in self.kustomization[f"{kind}Generator"]:
                found[kind, each["name"]] = dict(entry.split("=") for entry in each.get("files", ()))
        return found

    def of_kind(self, kind: str) -> dict[str, dict[str, Any]]:
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] == kind}


def read(made: Targets) -> Objects:
    files = {file.path: file.data.decode() for file in (made.nginx[0], *made.kubernetes)}
    kustomization = read_yaml(files[KUSTOMIZATION])
    objects = [each for path in kustomization["resources"] for each in read_yaml_all(files[path])]
    return Objects(files, kustomization, objects)


def changed(**settings: str) -> Objects:
    return read(targets({"TARGET": "kubernetes", **settings}))


def expanded(text: str) -> str:
    """What the kubelet makes of a text, which must name no variable of its own."""
    assert "$" not in text.replace("$$", "")
    return text.replace("$$", "$")


def mounts(pod: dict[str, Any], container: dict[str, Any], sources: dict[tuple[str, str], dict[str, str]]) -> Any:
    """Path in the container -> path of the file of the deployment; every mount has its volume."""
    volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
    for each in container.get("volumeMounts", ()):
        volume = volumes.get(each["name"], {})
        if "secret" in volume:
            yield each["mountPath"], sources["secret", volume["secret"]["secretName"]][each["subPath"]]
        elif "configMap" in volume:
            yield each["mountPath"], sources["configMap", volume["configMap"]["name"]][each["subPath"]]


def containers(made: Objects) -> Iterator[dict[str, Any]]:
    for pod in made.pods.values():
        yield from pod["spec"]["containers"]
        yield from pod["spec"].get("initContainers", ())


@pytest.mark.parametrize("name", ALL)
def test_both_have_the_same_services(name):
    assert set(read(base(name)).pods) == {service.replace("_", "-") for service in stack(name)}


@pytest.mark.parametrize("name", ALL)
def test_every_secret_reaches_the_services_that_it_reaches_under_compose(name):
    made = read(base(name))
    for service, row in stack(name).items():
        pod = made.pods[service.replace("_", "-")]["spec"]
        paths = dict(mounts(pod, pod["containers"][0], made.sources))
        secret = {target: path for target, path in paths.items() if path.startswith(".secrets/")}
        assert secret == {f"/run/secrets/{each}": f".secrets/{each}" for each in row.get("secrets", ())}
        for container in pod.get("initContainers", ()):
            assert dict(mounts(pod, {"volumeMounts": [], **container}, made.sources)).items() <= paths.items()


@pytest.mark.parametrize("name", ALL)
def test_every_file_is_mounted_where_compose_mounts_it(name):
    made = read(base(name))
    for service, row in stack(name).items():
        pod = made.pods[service.replace("_", "-")]["spec"]
        paths = dict(mounts(pod, pod["containers"][0], made.sources))
        wanted = {}
        for volume in row.get("volumes", ()):
            if isinstance(volume, dict) and volume["type"] == "bind" and volume["target"] != "/etc/nginx/avatar":
                wanted[volume["target"]] = volume["source"].removeprefix("./")
        if service == "nginx":
            wanted["/etc/nginx/nginx.conf"] = KUBERNETES_NGINX
            if name == "telemetry-redirect":
                wanted["/etc/nginx/tls/server.fullchain.crt"] = "tls/server.fullchain.crt"
                wanted["/etc/nginx/tls/private/server.decrypted.key"] = "tls/private/server.decrypted.key"
        assert {target: path for target, path in paths.items() if not path.startswith(".secrets/")} == wanted


@pytest.mark.parametrize("name", ALL)
def test_every_service_has_the_environment_that_it_has_under_compose(name):
    made = read(base(name))
    hidden = dict(line.split("=", 1) for line in made.files[KUBERNETES_ENV].splitlines())
    for service, row in stack(name).items():
        given = {}
        for each in made.pods[service.replace("_", "-")]["spec"]["containers"][0].get("env", ()):
            if "value" in each:
                given[each["name"]] = expanded(each["value"])
            else:
                given[each["name"]] = hidden[each["valueFrom"]["secretKeyRef"]["key"]]
        assert given == (environment(name, service) if "environment" in row else {})


def test_no_manifest_shows_a_secret():
    made = read(base("username-smtp"))
    texts = [text for text in named_targets("username-smtp").parts.secrets.values() if len(text) > 12]
    for path, text in made.files.items():
        if path != KUBERNETES_ENV:
            assert not [secret for secret in texts if secret in text]
    modes = {file.path: file.mode for file in base("username-smtp").kubernetes}
    assert modes.pop(KUBERNETES_ENV) == 0o600
    assert set(modes.values()) == {0o644}


@pytest.mark.parametrize("name", ALL)
def test_who_shares_a_network_may_connect_and_nobody_else(name):
    made = read(base(name))
    allowed = set()
    for policy in made.of_kind("NetworkPolicy").values():
        selected = policy["spec"]["podSelector"]["matchLabels"].items()
        for rule in policy["spec"]["ingress"]:
            for each in rule.get("from", ()):
                peers = each["podSelector"]["matchLabels"].items()
                for a, b in itertools.permutations(made.pods, 2):
                    if peers <= made.pods[a]["metadata"]["labels"].items() and (
                        selected <= made.pods[b]["metadata"]["labels"].items()
                    ):
                        allowed.add((a, b))
    networks = {service.replace("_", "-"): set(row["networks"]) for service, row in stack(name).items()}
    assert allowed == {(a, b) for a, b in itertools.permutations(networks, 2) if networks[a] & networks[b]}
    for pod in made.pods.values():  # a pod that no policy selects may be reached from anywhere
        assert any(f"avatar-setup/network-{network}" in pod["metadata"]["labels"] for network in NETWORKS)


@pytest.mark.parametrize("name", ALL)
def test_an_init_container_asks_only_services_that_its_pod_reaches(name):
    made = read(base(name))
    services = made.of_kind("Service")
    networks = {service.replace("_", "-"): set(row["networks"]) for service, row in stack(name).items()}
    for service, pod in made.pods.items():
        for container in pod["spec"].get("initContainers", ()):
            for asked, port in re.findall(r"\b([a-z][a-z0-9-]*):(\d{2,5})/", " ".join(container["args"])):
                assert int(port) in [each["port"] for each in services[asked]["spec"]["ports"]]
                assert networks[asked] & networks[service]


@pytest.mark.parametrize("name", ALL)
def test_containers_have_no_rights_that_they_do_not_need(name):
    made = read(base(name))
    for pod in made.pods.values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
    for container in containers(made):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


@pytest.mark.parametrize("name", ALL)
def test_names_are_those_that_kubernetes_takes(name):
    made = read(base(name))
    names = [each["metadata"]["name"] for each in made.objects] + [each for _, each in made.sources]
    for pod in made.pods.values():
        names += [volume["name"] for volume in pod["spec"].get("volumes", ())]
    names += [container["name"] for container in containers(made)]
    assert [each for each in names if not DNS_LABEL.fullmatch(each)] == []


def test_every_upstream_is_a_whole_name_of_a_service():
    made = changed(KUBERNETES_NAMESPACE="two", KUBERNETES_DNS_ADDRESS="10.43.0.10")
    asked = re.findall(r"http://([a-z0-9-]+)\.two\.svc\.cluster\.local:(\d+)", made.files[KUBERNETES_NGINX])
    services = made.of_kind("Service")
    assert {name for name, _ in asked} == {"web", "api", "authentik-server", "s3"}
    for name, port in asked:
        assert int(port) in [each["port"] for each in services[name]["spec"]["ports"]]
    assert "resolver 10.43.0.10 valid=5s ipv6=off;" in made.files[KUBERNETES_NGINX]
    assert "svc.cluster.local valid=5s;" in changed(NGINX_IPV6="on").files[KUBERNETES_NGINX]


@pytest.mark.parametrize(("name", "env"), [("usual", {"PGHOST": "db"}), ("external-database", None)])
def test_what_makes_roles_waits_for_its_database(name, env):
    wanted = env or {"PGHOST": "pg.example.com", "PGPORT": "5432"}
    pods = read(base(name)).pods
    for job in ("init-db", "authentik-init-db"):
        (waiting,) = [each for each in pods[job]["spec"]["initContainers"] if each["name"] == "wait-for-database"]
        assert {each["name"]: each["value"] for each in waiting["env"]} == wanted


def test_a_job_is_named_by_what_it_does_and_by_its_secrets():
    def jobs(settings: dict[str, str], secrets: dict[str, str]) -> dict[str, str]:
        made = read(targets({"TARGET": "kubernetes", **settings}, secrets))
        return {name.rpartition("-")[0]: name for name in made.of_kind("Job")}

    before = jobs({}, {})
    key = jobs({}, {"storage_admin_secret_access_key": "f" * 64})
    assert {name for name in before if before[name] != key[name]} == {"init-storage", "init-db"}
    token = jobs({}, {"authentik_api_token": "another-token"})
    assert {name for name in before if before[name] != token[name]} == {"init-db", "authentik-blueprint"}
    level = jobs({"LOG_LEVEL": "DEBUG"}, {})
    assert {name for name in before if before[name] != level[name]} == {"init-db"}


def test_a_script_names_the_commands_of_the_cluster():
    (text,) = changed().pods["authentik-blueprint"]["spec"]["containers"][0]["args"]
    assert "See: kubectl -n avatar logs -l app.kubernetes.io/name=authentik-worker --tail=100; then: kubectl" in text


def test_what_keeps_data_is_single_and_its_volume_outlives_it():
    made = changed(KUBERNETES_DATABASE_SIZE="7Gi", KUBERNETES_STORAGE_CLASS="fast")
    kept = {}
    for name, each in made.of_kind("StatefulSet").items():
        assert each["spec"]["replicas"] == 1
        for claim in each["spec"]["volumeClaimTemplates"]:
            kept[name] = claim["spec"]["resources"]["requests"]["storage"]
            assert claim["spec"]["storageClassName"] == "fast"
    assert kept == {"db": "7Gi", "master": "10Gi", "volume": "100Gi", "filer": "10Gi"}
    assert set(made.of_kind("PersistentVolumeClaim")) == {"authentik-data"}


def test_another_database_volume_is_another_folder():
    def folder(**settings: str) -> str:
        (mount,) = (each for each in mounts(changed(**settings)) if each["name"] == "postgres-data")
        return mount["subPath"]

    def mounts(made: Objects) -> list[dict[str, Any]]:
        return made.pods["db"]["spec"]["containers"][0]["volumeMounts"]

    assert folder() == "avatar_postgres_data"
    assert folder(DB_VOLUME="avatar_postgres_17") == "avatar_postgres_17"


@pytest.mark.parametrize("name", ALL)
def test_a_quota_learns_what_each_container_requests(name):
    for pod in read(base(name)).pods.values():
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            known = container["resources"].get("requests", {}).keys() | container["resources"].get("limits", {}).keys()
            assert known == {"cpu", "memory"}, container["name"]


def test_pods_that_share_a_volume_share_a_node_and_follow_their_server():
    pods = changed().pods
    server = pods["authentik-server"]["metadata"]["labels"].items()
    for name in ("authentik-worker", "authentik-blueprint"):
        (term,) = pods[name]["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["labelSelector"]["matchLabels"].items() <= server
    affinity = pods["authentik-server"]["spec"]["affinity"]["podAffinity"]
    (preferred,) = affinity.pop("preferredDuringSchedulingIgnoredDuringExecution")
    assert affinity == {}  # it must be able to leave a node that is lost
    wanted = preferred["podAffinityTerm"]["labelSelector"]["matchLabels"].items()
    assert wanted <= pods["authentik-worker"]["metadata"]["labels"].items()


def test_several_are_limited_spread_and_kept_when_a_node_is_emptied():
    made = changed(REPLICAS_API="4", MEMORY_API="512m", CPUS_API="0.5", MEMORY_WEB="2g")
    api = made.of_kind("Deployment")["api"]["spec"]
    assert api["replicas"] == 4
    assert api["template"]["spec"]["containers"][0]["resources"] == {"limits": {"memory": "512Mi", "cpu": "0.5"}}
    assert api["template"]["spec"]["topologySpreadConstraints"]
    one = changed(MEMORY_API="512m", CPUS_API="0.5").of_kind("Deployment")["api"]["spec"]
    assert one == api | {"replicas": 1}  # so that scaling replaces none
    web = made.pods["web"]["spec"]["containers"][0]
    assert web["resources"] == {"limits": {"memory": "2Gi"}, "requests": {"cpu": "50m"}}
    db = made.pods["db"]["spec"]["containers"][0]
    assert db["resources"] == {"requests": {"cpu": "100m", "memory": "512Mi"}}
    budgets = made.of_kind("PodDisruptionBudget")
    assert {name: each["spec"]["maxUnavailable"] for name, each in budgets.items()} == {"api": 1}


@pytest.mark.parametrize(
    ("settings", "kind", "policy"),
    [
        ({}, "LoadBalancer", "Local"),
        ({"KUBERNETES_EXPOSURE": "NodePort"}, "NodePort", "Local"),
        ({"KUBERNETES_EXPOSURE": "Ingress", "TLS_MODE": "behind-proxy"}, "ClusterIP", None),
    ],
)
def test_nginx_sees_the_address_of_the_client(settings, kind, policy):
    made = changed(**settings)
    spec = made.of_kind("Service")["nginx"]["spec"]
    assert (spec["type"], spec.get("externalTrafficPolicy")) == (kind, policy)
    assert [name for name, each in made.of_kind("Service").items() if each["spec"].get("type") == kind] == ["nginx"]
    assert set(made.of_kind("Ingress")) == ({"avatar"} if kind == "ClusterIP" else set())


@pytest.mark.parametrize(
    ("settings", "port", "node_port"),
    [
        ({"NGINX_PUBLISHED_PORT": "30443"}, 443, 30443),  # something in front passes the public one on to it
        ({"PUBLIC_URL": "avatar.example.com:30443"}, 30443, 30443),
        ({}, 443, None),  # the cluster chooses
    ],
)
def test_the_port_of_a_node_is_the_published_one(settings, port, node_port):
    spec = changed(KUBERNETES_EXPOSURE="NodePort", **settings).of_kind("Service")["nginx"]["spec"]
    wanted = {"name": f"tcp-{port}", "port": port, "targetPort": port, "protocol": "TCP"}
    assert spec["ports"] == [wanted | ({"nodePort": node_port} if node_port else {})]


def test_an_ingress_has_its_class_and_certificate():
    settings = {"KUBERNETES_INGRESS_CLASS": "haproxy", "KUBERNETES_INGRESS_TLS_SECRET": "avatar-tls"}
    made = changed(KUBERNETES_EXPOSURE="Ingress", TLS_MODE="behind-proxy", **settings)
    spec = made.of_kind("Ingress")["avatar"]["spec"]
    assert spec["ingressClassName"] == "haproxy"
    assert spec["tls"] == [{"hosts": ["avatar.example.com"], "secretName": "avatar-tls"}]
    backend = spec["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["port"]["number"] in [
        each["port"] for each in made.of_kind("Service")[backend["name"]]["spec"]["ports"]
    ]


def test_pods_find_the_public_name_at_a_given_address():
    made = changed(KUBERNETES_NGINX_ADDRESS="10.96.0.80")
    assert made.of_kind("Service")["nginx"]["spec"]["clusterIP"] == "10.96.0.80"
    aliases = {name for name, pod in made.pods.items() if "hostAliases" in pod["spec"]}
    assert aliases == {"api", "web", "authentik-server"}
    assert made.pods["api"]["spec"]["hostAliases"] == [{"ip": "10.96.0.80", "hostnames": ["avatar.example.com"]}]


def test_every_pod_pulls_with_the_account_of_the_registry():
    made = changed(KUBERNETES_IMAGE_PULL_SECRET="registry")
    assert {str(pod["spec"]["imagePullSecrets"]) for pod in made.pods.values()} == {"[{'name': 'registry'}]"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"NGINX_BIND_ADDRESS": "127.0.0.1"},
            "NGINX_BIND_ADDRESS=127.0.0.1: a pod has no address of a host: remove it",
        ),
        ({"NGINX_PUBLISHED_PORT": "8443"}, "NGINX_PUBLISHED_PORT=8443: only a NodePort has one"),
        (
            {"KUBERNETES_EXPOSURE": "NodePort", "NGINX_PUBLISHED_PORT": "443"},
            "NGINX_PUBLISHED_PORT=443: a NodePort is between 30000 and 32767",
        ),
        ({"KUBERNETES_EXPOSURE": "Ingress"}, "set TLS_MODE=behind-proxy"),
        (
            {"KUBERNETES_EXPOSURE": "Ingress", "TLS_MODE": "behind-proxy", "PUBLIC_URL": "192.0.2.1"},
            "PUBLIC_URL: an Ingress takes no address",
        ),
        ({"NGINX_SSL_CERTIFICATE_PATH": "/etc/ssl/a.crt"}, "copy the file to ./tls/server.fullchain.crt and remove"),
        (
            {"NGINX_SSL_CERTIFICATE_KEY_PATH": "./tls/../../a.key"},
            "copy the file to ./tls/private/server.decrypted.key",
        ),
        ({"NGINX_SSL_CERTIFICATE_PATH": "./tls/a=b.crt"}, "without = in their names"),
    ],
)
def test_what_a_cluster_could_not_do_is_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        resolution({"TARGET": "kubernetes", **settings})
    if "KUBERNETES_EXPOSURE" not in settings:
        assert resolution(settings).problems == ()


def test_the_script_that_waits_for_the_storage_signs_what_it_asks(tmp_path):
    """The signature is compared with one that is made here, by the steps of Amazon's "Signature Version 4"."""
    asked: list[Any] = []

    class Storage(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers)
            self.send_response(200 if len(asked) > 1 else 403)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    def sign(key: bytes, text: str) -> bytes:
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    (tmp_path / "storage_admin_access_key_id").write_text("id")
    (tmp_path / "storage_admin_secret_access_key").write_text("key")
    with http.server.HTTPServer(("127.0.0.1", 0), Storage) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        script = (TEMPLATES / "scripts" / "wait_storage.py").read_text()
        script = script.replace("/run/secrets", str(tmp_path)).replace("s3:8333", host).replace("sleep(3)", "sleep(0)")
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
        server.shutdown()
    assert done.stdout == f"waiting for {host}: HTTP Error 403: Forbidden\n"
    sent = asked[1]
    day, nothing = sent["X-Amz-Date"][:8], hashlib.sha256(b"").hexdigest()
    request = f"GET\n/\n\nhost:{host}\nx-amz-content-sha256:{nothing}\nx-amz-date:{sent['X-Amz-Date']}\n"
    request += f"\nhost;x-amz-content-sha256;x-amz-date\n{nothing}"
    text = f"AWS4-HMAC-SHA256\n{sent['X-Amz-Date']}\n{day}/us-east-1/s3/aws4_request\n"
    text += hashlib.sha256(request.encode()).hexdigest()
    key = sign(sign(sign(sign(b"AWS4key", day), "us-east-1"), "s3"), "aws4_request")
    assert sent["Authorization"].endswith(f", Signature={sign(key, text).hex()}")
    assert f"Credential=id/{day}/us-east-1/s3/aws4_request," in sent["Authorization"]


def test_a_secret_of_two_lines_is_refused():
    with pytest.raises(CannotCarry, match="SMTP_PASSWORD: it holds a line break"):
        _ = targets({"TARGET": "kubernetes", "SMTP_USERNAME": "ada"}, {"smtp_password": "a\nb"}).kubernetes
