"""`--host-check`: print a script for what a container cannot see of its host; `| sh` runs it there."""

from __future__ import annotations

from setup.config import derived
from setup.config.derived import COMPOSE_ENGINE, KUBERNETES, SWARM
from setup.config.engines import address_of, image_commands, list_labels
from setup.console import Answer
from setup.environment import shell_word
from setup.errors import InputError
from setup.secrets.store import read_filled
from setup.typed import TYPE_CHECKING
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.config.values import Values
    from setup.configure import DeploymentConfigurator

_DISK = 20  # GiB: the images, and data to begin with

# Nothing reads standard input: that is this script, as `| sh` gives it.
_FUNCTIONS = r"""
failures=0
ok() { printf 'ok    %s\n' "$1"; }
warn() { printf 'warn  %s\n' "$1"; }
skip() { printf 'skip  %s\n' "$1"; }
fail() { printf 'fail  %s\n      do: %s\n' "$1" "$2"; failures=$((failures + 1)); }
first() { printf '%s\n' "$1" | head -n 1; }
is_at_least() { # VERSION MAJOR MINOR
    major=${1%%.*} rest=${1#*.}
    minor=${rest%%[!0-9]*}
    case $major in '' | *[!0-9]*) return 1 ;; esac
    [ "$major" -gt "$2" ] || { [ "$major" -eq "$2" ] && [ "${minor:-0}" -ge "$3" ]; }
}
patient() { # COMMAND...: for at most half a minute, if this host can tell
    if command -v timeout >/dev/null 2>&1; then timeout 30 "$@" </dev/null; else "$@" </dev/null; fi
}
check_name() { # HOST [COMMAND]: which shows its address once the stack runs
    if ! command -v getent >/dev/null 2>&1; then
        skip "name: whether $1 resolves cannot be seen on this system"
    elif found=$(patient getent ahosts "$1"); then
        ok "name: $1 resolves to $(first "$found" | awk '{ print $1 }')"
    elif [ -n "${2:-}" ]; then
        warn "name: $1 does not resolve yet: create a DNS record with the address that this shows: $2"
    else
        fail "name: $1 does not resolve on this host" 'create a DNS record for it, or add it to /etc/hosts'
    fi
}
"""

_DOCKER_FUNCTIONS = r"""
check_engine() {
    if ! command -v docker >/dev/null 2>&1; then
        fail 'engine: docker is not on PATH' 'install Docker Engine: https://docs.docker.com/engine/install/'
    elif ! found=$(patient docker version --format '{{.Server.Version}} {{.Server.Arch}}' 2>&1); then
        fail "engine: docker does not answer: $(first "$found")" 'start it, or pipe this into: sudo sh'
    elif ! is_at_least "${found% *}" 20 10; then
        fail "engine: Docker ${found% *} is older than 20.10" 'upgrade Docker Engine'
    else
        ok "engine: Docker ${found% *}"
        [ "${found#* }" = amd64 ] || warn "engine: on ${found#* } the Avatar images, which are for amd64, are slow"
        return 0
    fi
    return 1
}
check_compose() {
    if ! found=$(patient docker compose version --short 2>/dev/null); then
        fail 'compose: docker has no compose' 'install it: https://docs.docker.com/compose/install/linux/'
    elif ! is_at_least "${found#v}" 2 0; then
        fail "compose: Compose $found is older than 2" 'upgrade the plugin docker-compose-plugin'
    else
        ok "compose: Compose ${found#v}"
    fi
}
check_disk() { # GIB
    root=$(patient docker info --format '{{.DockerRootDir}}' 2>/dev/null) || root=
    free=$(df -Pk "${root:-/nowhere}" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }')
    if [ -z "$free" ]; then
        skip 'disk: the directory of Docker is not on this machine'
    elif [ "$free" -lt "$1" ]; then
        fail "disk: $root has $free GiB free, and the images and data need $1" "free disk space: docker system df"
    else
        ok "disk: $root has $free GiB free"
    fi
}
check_port() { # PORT HEXADECIMAL
    label='{{.Label "com.docker.compose.project"}}{{.Label "com.docker.stack.namespace"}}/'
    users=$(patient docker ps --filter "publish=$1" --format "$label" 2>/dev/null)
    if [ "$users" = octopize-avatar/ ] || [ "$users" = avatar/ ]; then
        ok "port: $1 is held by this stack"
    elif [ -n "$users" ]; then
        fail "port: $1 is used by another container" "stop it; it is shown by: docker ps --filter publish=$1"
    elif cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ":$2 [0-9A-F]*:0000 0A"; then
        fail "port: $1 is used by another program" "stop it; it is shown by: sudo ss -ltnp 'sport = :$1'"
    elif [ -r /proc/net/tcp ]; then
        ok "port: $1 is free"
    else
        skip "port: whether $1 is free cannot be seen on this system"
    fi
}
check_image() { # IMAGE REGISTRY
    if patient docker image inspect "$1" >/dev/null 2>&1; then
        ok "image: $1 is on this host"
    elif found=$(patient docker manifest inspect "$1" 2>&1); then
        ok "image: $1 can be pulled"
    else
        fail "image: $1 cannot be pulled: $(first "$found")" "docker login${2:+ $2}"
    fi
}
"""

_SWARM_FUNCTIONS = r"""
check_swarm() {
    found=$(patient docker info --format '{{.Swarm.ControlAvailable}} {{.SecurityOptions}}' 2>/dev/null) || found=
    case $found in
        true*) ok 'swarm: this host is a manager' ;;
        *) fail 'swarm: this host is no manager of a swarm' 'docker swarm init, or run this on a manager' ;;
    esac
    # Before Docker 24, only its configuration tells.
    case "$found $(cat /etc/docker/daemon.json 2>/dev/null)" in
        *no-new-privileges*) ok 'no-new-privileges: Docker on this host sets it' ;;
        *) warn 'no-new-privileges: Docker on this host does not set it: see --check' ;;
    esac
    found=$(patient docker version --format '{{.Client.Version}}' 2>/dev/null) || found=
    if is_at_least "$found" 26 0; then
        ok "client: docker $found"
    else
        fail "client: docker $found is older than 26 and cannot wait for a deploy" 'upgrade docker-ce-cli'
    fi
}
check_label() { # LABEL
    found=$(patient docker node ls -q --filter "node.label=$1=true" 2>/dev/null) || found=
    case $found in
        '') fail "label: no node has $1=true" "docker node update --label-add $1=true NODE" ;;
        *[!a-z0-9]*) fail "label: several nodes have $1=true" "docker node update --label-rm $1 NODE, on all but one" ;;
        *) ok "label: one node has $1=true" ;;
    esac
}
"""

_CLUSTER_FUNCTIONS = r"""
check_cluster() { # NAMESPACE
    if ! command -v kubectl >/dev/null 2>&1; then
        fail 'cluster: kubectl is not on PATH' 'install it: https://kubernetes.io/docs/tasks/tools/'
    elif ! found=$(patient kubectl version 2>&1); then
        fail "cluster: it does not answer: $(first "$found")" 'kubectl config get-contexts'
    elif ! patient kubectl get namespace "$1" >/dev/null 2>&1; then
        fail "cluster: there is no namespace $1, or you may not see it" "kubectl create namespace $1"
    elif ! patient kubectl -n "$1" auth can-i create statefulsets.apps >/dev/null 2>&1; then
        fail "cluster: you may not create objects in the namespace $1" 'ask who administers the cluster'
    else
        ok "cluster: it answers, and you may use the namespace $1"
        return 0
    fi
    return 1
}
check_nodes() {
    found=$(patient kubectl get nodes -o 'jsonpath={.items[*].status.nodeInfo.architecture}' 2>/dev/null) || found=
    case " $found " in
        '  ') skip 'nodes: you may not list them' ;;
        *' amd64 '*) ok 'nodes: some are amd64, as the Avatar images need' ;;
        *) fail "nodes: none is amd64, as the Avatar images need: $found" 'add an amd64 node' ;;
    esac
}
check_storage() { # CLASS, "" for the default one
    mark='.metadata.annotations.storageclass\.kubernetes\.io/is-default-class'
    mark="jsonpath={range .items[*]}{.metadata.name}={$mark} {end}"
    if ! found=$(patient kubectl get storageclass -o "$mark" 2>/dev/null); then
        skip 'storage: you may not list the classes'
        return
    fi
    choose='kubectl get storageclass; --set KUBERNETES_STORAGE_CLASS=NAME'
    case "$1 $found" in
        ' '*=true*) ok 'storage: there is a default class' ;;
        ' '*) fail 'storage: there is no default class' "$choose" ;;
        *" $1="*) ok "storage: the class $1 exists" ;;
        *) fail "storage: there is no class $1" "$choose" ;;
    esac
}
check_secret() { # NAMESPACE NAME
    if patient kubectl -n "$1" get secret "$2" >/dev/null 2>&1; then
        ok "registry: the Secret $2 exists"
    else
        fail "registry: there is no Secret $2 in the namespace $1, or you may not see it" 'see --check'
    fi
}
"""


def host_check(configurator: DeploymentConfigurator) -> Answer:
    """Print a script of POSIX sh that checks the host, the swarm or the cluster; it ends with 1 on a failure."""
    with Volume(configurator.output_dir) as volume:
        session = configurator.saved_session(volume)
        resolution = session.resolve(read_filled(volume))
    if resolution.problems or resolution.missing:
        raise InputError(f"{configurator.output_dir} holds no complete configuration yet: configure it first")
    more = {
        COMPOSE_ENGINE: _DOCKER_FUNCTIONS,
        SWARM: _DOCKER_FUNCTIONS + _SWARM_FUNCTIONS,
        KUBERNETES: _CLUSTER_FUNCTIONS,
    }
    functions = _FUNCTIONS + more[resolution.values["TARGET"]]
    lines = [
        "#!/bin/sh",
        "# Checks what this host must have for the Avatar deployment, and changes nothing; pipe it into sh.",
        *functions.strip("\n").replace("\n\n", "\n").split("\n"),
        "",
        *_calls(resolution.values),
        '[ "$failures" -eq 0 ]',
    ]
    return Answer(lines, {"script": "\n".join([*lines, ""])})


def _calls(values: Values) -> list[str]:
    host = str(values["PUBLIC_URL"].host)
    lines = _cluster_calls(values) if derived.on_kubernetes(values) else _docker_calls(values)
    shown = address_of(values)
    name = f"check_name {shell_word(host)} {shell_word(shown) if shown else ''}".rstrip()
    return lines if derived.is_address(host) else [*lines, name]


def _cluster_calls(values: Values) -> list[str]:
    namespace, secret = values["KUBERNETES_NAMESPACE"], values["KUBERNETES_IMAGE_PULL_SECRET"]
    lines = [f"if check_cluster {namespace}; then", "    check_nodes"]
    lines.append(f"    check_storage {shell_word(values['KUBERNETES_STORAGE_CLASS'])}")
    if len(image_commands(values)) > 1:  # more than the namespace
        lines.append(f"    check_secret {namespace} {secret}")
    return [*lines, "fi"]


def _docker_calls(values: Values) -> list[str]:
    ports = [derived.listen_port(values)]
    if derived.tls_is_ours(values) and values["NGINX_HTTP_REDIRECT_PORT"]:
        ports.append(int(values["NGINX_HTTP_REDIRECT_PORT"]))
    on_swarm = derived.on_swarm(values)
    lines = ["if check_engine; then", f"    check_{'swarm' if on_swarm else 'compose'}", f"    check_disk {_DISK}"]
    for label in list_labels(values):
        lines.append(f"    check_label {label}")
    for image in derived.images(values):
        lines.append(f"    check_image {shell_word(image)} {derived.registry_of(image)}".rstrip())
    lines.append("fi")
    for port in ports:
        lines.append(f"check_port {port} {port:04X}")
    return lines
