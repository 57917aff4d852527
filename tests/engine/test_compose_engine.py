"""What the real programs say of the golden trees: Compose, and `nginx -t`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support import engine, trees
from tests.unit.deploy.test_targets import environment, services

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
        assert sources[1] == "/etc/our certs/a:b #1 $$5.crt"
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
    given = nginx_says(trees.named_targets(name).nginx[0].data, certificate, tmp_path)
    assert given.splitlines() == [
        "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok",
        "nginx: configuration file /etc/nginx/nginx.conf test is successful",
    ]


def test_nginx_accepts_the_longest_host_name(certificate, tmp_path):
    made = trees.targets({"PUBLIC_URL": LONG_HOST, "TLS_EXTRA_NAMES": LONG_HOST.replace("x", "y")})
    assert nginx_says(made.nginx[0].data, certificate, tmp_path).endswith("test is successful\n")


@pytest.mark.parametrize("name", ["usual", "plain-http"])
def test_compose_takes_the_override_that_is_never_touched(name, written, tmp_path):
    tree = Path(shutil.copytree(written(name), tmp_path / "tree"))
    (tree / "compose.override.yaml").write_text("services: {api: {labels: {mine: yes indeed}}, mine: {image: mine}}\n")
    done = engine.docker("compose", "config", "--format", "json", cwd=tree)
    read = json.loads(done.stdout)["services"]
    assert read["api"]["labels"]["mine"] == "yes indeed"
    assert set(read) == {*services(name), "mine"}
    assert done.stderr == b""
