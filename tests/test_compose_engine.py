"""What the real programs say of the golden trees: Compose, `nginx -t`, and a whole stack of stand-ins."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import engine, trees
from tests.test_targets import environment, services

pytestmark = pytest.mark.docker

ALL = tuple(trees.CONFIGURATIONS)
LONG_HOST = ".".join(["x" * 60] * 4)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A function from a configuration's name to the directory that holds its tree."""
    top = tmp_path_factory.mktemp("trees")

    def directory(name: str) -> Path:
        if not (top / name).exists():
            configuration = trees.CONFIGURATIONS[name]
            texts = trees.secret_texts(configuration.settings, configuration.secrets)
            trees.write_tree(top / name, trees.named_targets(name), texts)
        return top / name

    return directory


@pytest.mark.parametrize("name", ALL)
def test_compose_accepts_the_tree_without_a_warning(name, written):
    done = engine.docker("compose", "config", "-q", cwd=written(name))
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("name", ALL)
def test_compose_reads_the_tree_as_the_other_tests_do(name, written):
    done = engine.docker("compose", "config", "--format", "json", cwd=written(name))
    read = json.loads(done.stdout)["services"]
    assert set(read) == set(services(name))
    for service, entry in read.items():
        found = {key: text.replace("$$", "$") for key, text in (entry.get("environment") or {}).items()}
        assert found == (environment(name, service) if "environment" in services(name)[service] else {}), service
        secrets = {secret["source"] for secret in entry.get("secrets", ())}
        assert secrets == set(services(name)[service].get("secrets", ())), service
    sources = [mount["source"] for mount in read["nginx"]["volumes"]]
    if name == "telemetry-redirect":
        assert sources[1] == "/etc/our certs/a:b #1 $$HOME.crt"
        assert sources[2].endswith('/keys/it\'s "the" key.pem')


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    return engine.throw_away_certificate(tmp_path_factory.mktemp("certificate"))


def nginx_says(config: bytes, certificate: tuple[Path, Path], tmp_path: Path) -> str:
    """What `nginx -t` says of a configuration, with the names of the upstreams resolvable."""
    (tmp_path / "nginx.conf").write_bytes(config)
    files = dict(zip(("server.fullchain.crt", "private/server.decrypted.key"), certificate, strict=True))
    mounts = [f"{source}:/etc/nginx/tls/{name}:ro" for name, source in files.items()]
    mounts.append(f"{tmp_path / 'nginx.conf'}:/etc/nginx/nginx.conf:ro")
    options = [option for mount in mounts for option in ("-v", mount)]
    for upstream in ("web", "api", "authentik_server", "s3"):
        options += ["--add-host", f"{upstream}:127.0.0.1"]
    done = engine.docker("run", "--rm", *options, engine.stand_ins()["nginx"], "nginx", "-t", check=False)
    return done.stderr.decode()


@pytest.mark.parametrize("name", ALL)
def test_nginx_accepts_its_configuration(name, certificate, tmp_path):
    said = nginx_says(trees.named_targets(name).nginx[0].data, certificate, tmp_path)
    assert said.splitlines() == [
        "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok",
        "nginx: configuration file /etc/nginx/nginx.conf test is successful",
    ]


def test_nginx_accepts_the_longest_host_name(certificate, tmp_path):
    made = trees.targets({"PUBLIC_URL": LONG_HOST, "TLS_EXTRA_NAMES": LONG_HOST.replace("x", "y")})
    assert nginx_says(made.nginx[0].data, certificate, tmp_path).endswith("test is successful\n")


# --- A whole stack ------------------------------------------------------------------------------------

HOSTILE_SECRETS = {
    "authentik_database_name": """o'brien "x" $y""",
    "authentik_database_user": """r=o'l "e" $z\\""",
    "authentik_database_password": """p'a"s\\s $w %I""",
    "db_name": """a'v "a" $t""",
    "db_admin_user": "the admin",
    "organization_name": "Example & Söhne",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """A deployment of stand-ins in a project of its own, with volumes of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.project = directory, engine.unique("stack")
        self.port = free_port()
        self.settings = {
            "PUBLIC_URL": f"https://avatar.test:{self.port}",
            "DB_VOLUME": f"{self.project}-db",
            "SEAWEEDFS_VOLUME": f"{self.project}-data",
        }
        self.write()

    def write(self, generations: dict[str, int] | None = None, **settings: str) -> None:
        """Writes the tree anew."""
        shutil.rmtree(self.directory, ignore_errors=True)
        said = self.settings | settings
        texts = trees.secret_texts(said, HOSTILE_SECRETS)
        trees.write_tree(self.directory, trees.targets(said, HOSTILE_SECRETS, generations), texts)
        certificate, key = engine.throw_away_certificate(self.directory)
        (self.directory / "tls" / "private").mkdir(parents=True)
        certificate.rename(self.directory / "tls" / "server.fullchain.crt")
        key.rename(self.directory / "tls" / "private" / "server.decrypted.key")
        # Of two volumes the stack gives the names itself; those of another stack stay out of this.
        names = {volume: {"name": f"{self.project}-{volume}"} for volume in ("seaweedfs-metadata", "seaweedfs-blocks")}
        (self.directory / "docker-compose.override.yml").write_text(json.dumps({"volumes": names}))

    def compose(self, *arguments: str, check: bool = True) -> str:
        done = engine.docker("compose", "-p", self.project, *arguments, cwd=self.directory, check=check)
        return done.stdout.decode()

    def containers(self) -> dict[str, dict[str, Any]]:
        """Service -> its container as `docker inspect` shows it."""
        names = self.compose("ps", "-aq").split()
        found = json.loads(engine.docker("inspect", *names).stdout)
        return {entry["Config"]["Labels"]["com.docker.compose.service"]: entry for entry in found}

    def ask(self, path: str) -> dict[str, Any]:
        """What the upstream saw of a request to the public address."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        connection.request("GET", path, headers={"Host": f"avatar.test:{self.port}"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    engine.stand_ins()
    made = Stack(tmp_path_factory.mktemp("stack") / "tree")
    try:
        made.compose("up", "-d", "--wait")
        yield made
    finally:
        made.compose("down", "-v", "--timeout", "2", check=False)


def test_the_stack_comes_up(stack):
    states = {service: entry["State"] for service, entry in stack.containers().items()}
    assert len(states) == 17
    ended = {service: state["ExitCode"] for service, state in states.items() if not state["Running"]}
    assert ended == {"init-db": 0, "init-storage": 0, "authentik_init_db": 0}
    healthy = {service for service, state in states.items() if state.get("Health", {}).get("Status") == "healthy"}
    assert healthy >= {"api", "db", "master", "volume", "filer", "s3", "admin", "worker", "authentik_server"}


@pytest.mark.parametrize(
    ("path", "service"), [("/web", "web"), ("/api/x", "api"), ("/sso/x", "authentik_server"), ("/storage/x", "s3")]
)
def test_every_route_of_the_stack_leads_somewhere(stack, path, service):
    assert stack.ask(path)["service"] == service


def test_other_containers_reach_the_public_address_through_nginx(stack):
    url = f"https://avatar.test:{stack.port}/sso/x"
    seen = json.loads(stack.compose("exec", "-T", "api", "curl", "-sk", url))
    assert seen["service"] == "authentik_server"
    assert seen["headers"]["Host"] == f"avatar.test:{stack.port}"


def test_containers_find_hostile_secrets_as_they_are(stack):
    for service in ("api", "authentik_server", "authentik_worker"):
        for name in services("usual")[service]["secrets"]:
            if name in HOSTILE_SECRETS:
                assert stack.compose("exec", "-T", service, "cat", f"/run/secrets/{name}") == HOSTILE_SECRETS[name]


def test_starting_again_recreates_nothing(stack):
    before = {service: entry["Id"] for service, entry in stack.containers().items()}
    stack.compose("up", "-d", "--wait")
    assert {service: entry["Id"] for service, entry in stack.containers().items()} == before


def test_starting_again_recreates_what_a_change_concerns(stack):
    before = {service: entry["Id"] for service, entry in stack.containers().items()}
    changed = dict.fromkeys(trees.SECRETS, 1) | {"seaweedfs_admin_password": 2}
    stack.write(changed, TLS_EXTRA_NAMES="more.test")
    stack.compose("up", "-d", "--wait")
    after = {service: entry["Id"] for service, entry in stack.containers().items()}
    recreated = {service for service in before if after[service] != before[service]}
    # Compose may take those along that wait for a service it recreates.
    assert {"nginx", "admin"} <= recreated <= {"nginx", "admin", "worker"}
    served = stack.compose("exec", "-T", "nginx", "cat", "/etc/nginx/nginx.conf")
    assert "more.test" in served
