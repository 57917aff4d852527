"""Know what runs the containers, by TARGET: its main file, and what people type on the host."""

from __future__ import annotations

from setup.config.derived import (
    COMPOSE_ENGINE,
    IMAGE_ARCHIVE,
    KUBERNETES,
    SWARM,
    bundled_database,
    is_address,
    is_airgapped,
    keeps_uploads,
    on_kubernetes,
    on_swarm,
    registry_of,
)
from setup.config.hosts import netloc
from setup.config.model import Source
from setup.config.values import Values
from setup.typed import Any, NamedTuple
from setup.volume.layout import (
    AUTHENTIK,
    CA_BUNDLE,
    COMPOSE,
    KUBERNETES_NGINX,
    KUSTOMIZATION,
    NGINX,
    STACK,
    SWARM_FILES,
    TLS_FOLDER,
)


class Engine(NamedTuple):
    """What runs the containers; `{sudo}`, `{namespace}`, `{service}` and more in a command are filled in.

    `files` are what it is given; the last is the main file, published after all others. `start` starts a deployment and
    applies a change, `reload` lets nginx read a new certificate. `inside` runs a command in a service's container, with
    input. `login` and `load` prepare the first start, with images from a registry or from a file. `wait`
    ends when what was started runs, if `start` ends before; `prune` then removes secrets and files of earlier deploys.
    `stop` stops everything and keeps the data. `older` names the volume of an earlier database, if `keeper` has it.
    `upgrade` comes before `start` when the release of the API changes, if the engine does not wait for the one-shot
    that changes the database. `address` shows where the public name must lead, if that is known only after the start.
    """

    files: tuple[str, ...]
    start: tuple[str, ...]
    status: str
    logs: str
    reload: str
    inside: str
    stop: str
    login: tuple[str, ...]
    load: tuple[str, ...]
    older: str
    keeper: str
    wait: tuple[str, ...] = ()
    prune: tuple[str, ...] = ()
    upgrade: tuple[str, ...] = ()
    address: str = ""

    @property
    def main(self) -> str:
        """Return the file that shows that there is a deployment of this engine."""
        return self.files[-1]


def _deploy(file: str) -> str:
    return f"{{sudo}}docker stack deploy --detach=false --with-registry-auth -c {file} avatar"


def _prune(kind: str) -> str:
    """Return what removes every secret or config that no service uses: Swarm refuses to remove the others."""
    listed = f"{{sudo}}docker {kind} ls -q -f label=com.docker.stack.namespace=avatar"
    return f"{listed} | xargs -r {{sudo}}docker {kind} rm 2>/dev/null"


_KUBECTL = "kubectl -n {namespace}"
_PART_OF = "app.kubernetes.io/part-of=avatar"
_NAMESPACE = "kubectl create namespace {namespace}"
_PULL_SECRET = (
    f"{_KUBECTL} create secret docker-registry {{pull_secret}} --from-file=.dockerconfigjson=$HOME/.docker/config.json"
)
_LOGIN = "{sudo}docker login {registry}"
_OLDER = "{sudo}docker volume ls -q --filter name={volume}"
_LOAD = "{sudo}docker load -i {archive}    # "
# The label of the node that keeps a volume, by the volume's key. Without such a node the service waits: it never
# starts empty elsewhere.
STORAGE_LABEL = "avatar.storage"
LABELS = {"postgres_data": "avatar.database", "authentik-data": "avatar.sign-in"}
ENGINES = {
    COMPOSE_ENGINE: Engine(
        files=(COMPOSE,),
        start=("{sudo}docker compose up -d",),
        status="docker compose ps",
        logs="docker compose logs {service}",
        reload="docker compose restart nginx",
        inside="{sudo}docker compose exec -T {service} ",
        stop="docker compose down",
        login=(_LOGIN,),
        load=(f"{_LOAD}--images says how to make this file",),
        older=_OLDER,
        keeper="this host",
    ),
    SWARM: Engine(
        files=SWARM_FILES,
        start=tuple(map(_deploy, SWARM_FILES)),
        status="docker stack ps avatar",
        logs="docker service logs avatar_{service}",
        reload=_deploy(STACK),
        inside='{sudo}docker exec -i "$({sudo}docker ps -q -f name=avatar_{service}.)" ',
        stop="docker stack rm avatar",
        login=(_LOGIN,),
        load=(f"{_LOAD}on every node; --images says how to make this file",),
        older=f"{_OLDER}    # on the node of {LABELS['postgres_data']}",
        keeper="that node",
        prune=tuple(map(_prune, ("secret", "config"))),
    ),
    KUBERNETES: Engine(
        files=(KUSTOMIZATION,),
        start=("kubectl apply -k .",),
        status=f"{_KUBECTL} get pods",
        logs=f"{_KUBECTL} logs -l app.kubernetes.io/name={{service}} --tail=100",
        reload="kubectl apply -k .",
        inside=f"{_KUBECTL} exec -i svc/{{service}} -- ",
        stop=f"{_KUBECTL} scale deployment,statefulset -l {_PART_OF} --replicas=0",
        login=(_NAMESPACE, "docker login {registry}", _PULL_SECRET),
        load=(_NAMESPACE,),
        older=f"{_KUBECTL} get pvc --ignore-not-found -o name postgres-data-db-0",
        keeper="the namespace",
        wait=(
            f"{_KUBECTL} wait --for=condition=complete --timeout=30m job -l {_PART_OF}",
            f"{_KUBECTL} rollout status deployment -l {_PART_OF} --timeout=30m",
        ),
        prune=(
            f"kubectl apply -k . --prune -l {_PART_OF} --prune-allowlist=core/v1/Secret "
            "--prune-allowlist=core/v1/ConfigMap --prune-allowlist=batch/v1/Job "
            "--prune-allowlist=networking.k8s.io/v1/Ingress --prune-allowlist=policy/v1/PodDisruptionBudget",
        ),
        address=f"{_KUBECTL} get service,ingress",
        upgrade=(
            "kubectl apply -k . -l 'app.kubernetes.io/name notin (api,dask-scheduler,dask-worker)'",
            f"{_KUBECTL} wait --for=condition=complete --timeout=30m job -l app.kubernetes.io/name=init-db",
        ),
    ),
}


def engine_of(v: Values) -> Engine:
    """Return the engine of a deployment."""
    return ENGINES[v["TARGET"]]


def command(v: Values, text: str, service: str = "", sudo: str = "", **names: str) -> str:
    """Fill in a command of the engine; Kubernetes takes no underscore in a service's name."""
    if on_kubernetes(v):
        names |= {"namespace": v["KUBERNETES_NAMESPACE"], "pull_secret": v["KUBERNETES_IMAGE_PULL_SECRET"]}
        return text.format(service=service.replace("_", "-"), **names)
    return text.format(service=service, sudo=sudo, **names)


def image_commands(v: Values, sudo: str = "") -> list[str]:
    """Return what makes the images known to the engine; without a pull secret, a cluster pulls without signing in."""
    engine, registry = engine_of(v), v.resolved("AVATAR_REGISTRY")
    is_loaded = is_airgapped(v) and registry.source is Source.DEFAULT and not v["REGISTRY_MIRROR"]
    commands = engine.load if is_loaded else engine.login
    if on_kubernetes(v) and not v["KUBERNETES_IMAGE_PULL_SECRET"]:
        commands = (_NAMESPACE,)
    names = {"registry": registry_of(f"{v['AVATAR_REGISTRY']}/"), "archive": IMAGE_ARCHIVE}
    return [command(v, text, sudo=sudo, **names) for text in commands]


def list_labels(v: Values) -> list[str]:
    """List the labels of which each must be on exactly one node of a swarm, which keeps the data; none otherwise."""
    if not on_swarm(v):
        return []
    labels = [STORAGE_LABEL]
    if bundled_database(v):
        labels.append(LABELS["postgres_data"])
    if keeps_uploads(v):
        labels.append(LABELS["authentik-data"])
    return labels


def node_labels(v: Values, sudo: str) -> list[str]:
    """Return what tells a swarm which of its nodes keep data."""
    commands = []
    for label in list_labels(v):
        commands.append(f"{sudo}docker node update --label-add {label}=true NODE    # a name of docker node ls")
    return commands


def start_commands(v: Values, sudo: str, is_upgrade: bool = False) -> list[str]:
    """Return what to type to start a deployment, or to apply a change, such as another release of the API."""
    commands, engine = [], engine_of(v)
    for text in (*(engine.upgrade if is_upgrade else ()), *engine.start):
        commands.append(command(v, text, sudo=sudo))
    return commands


def wait_commands(v: Values) -> list[str]:
    """Return what waits until everything runs as it is now."""
    return [command(v, text) for text in engine_of(v).wait]


def prune_commands(v: Values, sudo: str) -> list[str]:
    """Return what removes what earlier deploys left, once everything runs with what is new."""
    return [command(v, text, sudo=sudo) for text in engine_of(v).prune]


def status_of(v: Values) -> str:
    """Return what shows which services run."""
    return command(v, engine_of(v).status)


def address_of(v: Values) -> str:
    """Return what shows the address for the DNS record of the public host, "" if that is known before the start."""
    return "" if is_address(v["PUBLIC_URL"].host) else command(v, engine_of(v).address)


def reload_of(v: Values) -> str:
    """Return what makes nginx read a new certificate."""
    return command(v, engine_of(v).reload)


def logs_of(v: Values, service: str) -> str:
    """Return what shows the logs of a service."""
    return command(v, engine_of(v).logs, service)


def names_content(target: str, path: str) -> bool:
    """Tell whether this file's content names something for the engine, so that a run follows an edit of it.

    On Kubernetes only what Jobs mount: kustomize names the rest itself.
    """
    if target == KUBERNETES:
        return path.startswith(f"{AUTHENTIK}/") or path == CA_BUNDLE
    return target == SWARM and path.startswith((NGINX, f"{AUTHENTIK}/", f"{TLS_FOLDER}/"))


def nginx_configuration(v: Values) -> str:
    """Return the path of nginx's configuration, which on Kubernetes lies with what is made of it."""
    return KUBERNETES_NGINX if on_kubernetes(v) else NGINX


def nginx_facts(v: Values) -> dict[str, Any]:
    """Return what nginx's configuration needs to find the other services: whom it asks, and for which names."""
    names = {}
    for name in ("web", "api", "authentik_server", "s3"):
        names[name] = name
        if on_kubernetes(v):
            names[name] = f"{name.replace('_', '-')}.{v['KUBERNETES_NAMESPACE']}.svc.{v['KUBERNETES_CLUSTER_DOMAIN']}"
    resolver = netloc(v["KUBERNETES_DNS_ADDRESS"], None) if on_kubernetes(v) else "127.0.0.11"
    return {"kubernetes": on_kubernetes(v), "resolver": resolver, "upstreams": names}
