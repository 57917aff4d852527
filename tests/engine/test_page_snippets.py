"""What the pages say of nginx and of volumes, tried with the real programs."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from tests.engine.test_nginx_engine import UPSTREAMS, Nginx, upstreams
from tests.engine.test_nginx_engine import nginx as nginx_of
from tests.support import engine, page_commands
from tests.support.client import Client, exchanges_frames, trusting_anybody

pytestmark = pytest.mark.docker

HOWTO = engine.ROOT / "docs/howto"
BACKUP = engine.ROOT / "docs/operate/backup-and-restore.md"
HOST = "avatar.example.com"


def serial(port: int) -> str:
    """The serial number of the certificate that a port serves."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as tls,
    ):
        data = ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=data.encode(), capture_output=True, check=True
    )
    return shown.stdout.decode()


def snippets_of(page: str, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", (HOWTO / page).read_text(), re.M | re.S)
    assert found, page
    return found


def test_nginx_takes_the_snippets_of_the_pages(tmp_path: Path) -> None:
    engine.throw_away_certificate(tmp_path)
    acme = re.search(r"acme.conf <<'EOF'\n(.*?)^EOF", (HOWTO / "lets-encrypt.md").read_text(), re.M | re.S)
    assert acme
    http = snippets_of("behind-a-proxy.md", "nginx")[0] + acme[1]
    http = http.replace("/etc/ssl/avatar/fullchain.pem", "/given/throw-away.crt")
    http = http.replace("/etc/ssl/avatar/privkey.pem", "/given/throw-away.key")
    (tmp_path / "nginx.conf").write_text(f"events {{}}\nhttp {{\n{http}}}\n")
    options = ("run", "--rm", "--network", "none", "-v", f"{tmp_path}:/given:ro")
    engine.docker(*options, engine.stand_ins()["nginx"], "nginx", "-t", "-c", "/given/nginx.conf")


@contextlib.contextmanager
def avatar_behind_a_proxy(directory: Path) -> Iterator[Nginx]:
    """The generated nginx, which trusts whoever is on its network."""
    with engine.network() as network, upstreams(network, *UPSTREAMS):
        settings = {"TLS_MODE": "behind-proxy", "TRUSTED_PROXIES": engine.subnet(network)}
        with nginx_of(directory / "avatar", network, settings) as avatar:
            yield avatar


def test_caddy_runs_the_snippet_of_the_page_in_front_of_the_generated_nginx(tmp_path: Path) -> None:
    """As on the page but for the upstream's name, and a certificate of Caddy's own CA: no public one comes here."""
    snippet, image = snippets_of("behind-a-proxy.md", "caddyfile")[0], engine.proxy_image("caddy")
    assert f"{HOST} {{\n" in snippet and "10.0.0.10:8080" in snippet
    with avatar_behind_a_proxy(tmp_path) as avatar:
        given = snippet.replace("10.0.0.10", avatar.name).replace("{\n", "{\n    tls internal\n", 1)
        (tmp_path / "Caddyfile").write_text(given)
        options = ["-v", f"{tmp_path / 'Caddyfile'}:/etc/caddy/Caddyfile:ro", "--network", avatar.network]
        engine.docker("run", "--rm", *options, image, "caddy", "validate", "--config", "/etc/caddy/Caddyfile")
        passes_on(image, options, engine.gateway(avatar.network))


def test_traefik_runs_the_snippets_of_the_page_in_front_of_the_generated_nginx(tmp_path: Path) -> None:
    """As on the page but for the upstream's name; its resolver reaches nobody, so it shows a certificate of its own."""
    dynamic, static = snippets_of("behind-a-proxy.md", "yaml")
    assert "http://10.0.0.10:8080" in dynamic
    resolver = {"acme": {"tlsChallenge": {}, "caServer": "https://127.0.0.1:1/", "storage": "/tmp/acme.json"}}
    rest = {
        "providers": {"file": {"filename": "/etc/traefik/dynamic.yml"}},
        "certificatesResolvers": {"letsencrypt": resolver},
        "log": {"level": "WARN"},
    }
    with avatar_behind_a_proxy(tmp_path) as avatar:
        (tmp_path / "dynamic.yml").write_text(dynamic.replace("10.0.0.10", avatar.name))
        (tmp_path / "traefik.yml").write_text(static + yaml.safe_dump(rest))
        options = ["--network", avatar.network]
        for name in ("dynamic.yml", "traefik.yml"):
            options += ["-v", f"{tmp_path / name}:/etc/traefik/{name}:ro"]
        passes_on(engine.proxy_image("traefik"), options, engine.gateway(avatar.network))


def passes_on(image: str, options: Sequence[str], client: str) -> None:
    """A proxy, started so, does what the page says that it must do."""
    with engine.container(image, options=[*options, "-p", "127.0.0.1::443"]) as name:
        proxy = Client(engine.published(name, 443), HOST, trusting_anybody())
        engine.until("the proxy answers", lambda: proxy.answers() and proxy.ask("/").status == 302)
        asks(proxy, client)


def asks(proxy: Client, client: str) -> None:
    seen = proxy.ask("/api/a%2Fb//c%25%3B?x=%26", {"X-Forwarded-For": "203.0.113.9"}).seen
    assert (seen["service"], seen["path"], seen["headers"]["host"]) == ("api", "/a%2Fb//c%25%3B?x=%26", HOST)
    assert seen["headers"]["x-forwarded-for"] == client, "not what the client claims"
    assert seen["headers"]["x-forwarded-proto"] == "https"
    assert proxy.ask("/").all("Location") == ["/web"]
    assert proxy.ask("/storage/x", method="PUT", body=bytes(64 << 20)).seen["length"] == 64 << 20
    assert [len(value) for value in proxy.ask("/sso/?header=8192").all("X-Large")] == [8192]
    for path in ("/web/socket", "/sso/ws/client/"):
        exchanges_frames(proxy, path)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[str]:
    certificate, key = engine.throw_away_certificate(tmp_path)
    (tmp_path / "nginx.conf").write_text(
        "events {}\nhttp { server { listen 443 ssl; ssl_certificate /crt; ssl_certificate_key /key; } }\n"
    )
    mounts = {tmp_path / "nginx.conf": "/etc/nginx/nginx.conf", certificate: "/crt", key: "/key"}
    options = [option for source, target in mounts.items() for option in ("-v", f"{source}:{target}:ro")]
    with engine.container(engine.stand_ins()["nginx"], options=[*options, "-p", "127.0.0.1::443"]) as name:
        engine.until("nginx listens", lambda: engine.docker("exec", name, "nginx", "-t", check=False).returncode == 0)
        yield name


@pytest.mark.parametrize("in_place", [True, False], ids=["overwritten", "replaced"])
def test_a_renewed_certificate_needs_a_reload_if_overwritten_and_a_restart_if_replaced(
    nginx: str, tmp_path: Path, in_place: bool
) -> None:
    port = engine.published(nginx, 443)
    before = serial(port)
    (tmp_path / "new").mkdir()
    for new in engine.throw_away_certificate(tmp_path / "new"):
        if in_place:
            subprocess.run(["cp", new, tmp_path / new.name], check=True)  # as the hook does
        else:
            shutil.move(new, tmp_path / new.name)
    engine.docker("exec", nginx, "nginx", "-s", "reload")
    if in_place:
        engine.until("the new certificate is served", lambda: serial(port) != before)
    else:
        assert serial(port) == before
        engine.docker("restart", nginx)
        port = engine.published(nginx, 443)
        engine.until("nginx listens", lambda: _serves(port))
        assert serial(port) != before


def _serves(port: int) -> bool:
    try:
        return bool(serial(port))
    except OSError:
        return False


def loop_of(block: str, volumes: str, backup: Path) -> str:
    """The loop over the volumes in a block of the page, for these volumes and this folder."""
    found = re.search(r"^for volume in .*?^done$", block, re.M | re.S)
    assert found
    loop = re.sub(r"in avatar_.*?; do", f"in {volumes}; do", found[0], flags=re.S)
    return loop.replace("/srv/backup", str(backup)).replace("postgres:14-alpine", engine.stand_ins()["postgres"])


def test_a_database_volume_comes_back_from_the_archives_of_the_page(tmp_path: Path) -> None:
    blocks = [block.text for block in page_commands.blocks_of(BACKUP) if "for volume in" in block.text]
    volume, backup = engine.unique("volume"), tmp_path / "backup"
    backup.mkdir()
    save, restore = (loop_of(block, volume, backup) for block in blocks)
    options = ("-e", "POSTGRES_PASSWORD=secret", "-v", f"{volume}:/var/lib/postgresql/data", "--network", "none")

    def with_server(sql: str) -> str:
        with engine.container(engine.stand_ins()["postgres"], options=options) as name:
            ready = ("exec", name, "pg_isready", "-q", "-h", "127.0.0.1")
            engine.until("PostgreSQL is ready", lambda: engine.docker(*ready, check=False).returncode == 0)
            said = engine.docker("exec", "-u", "postgres", name, "psql", "-qAtX", "-c", sql).stdout.decode().strip()
            engine.docker("stop", name)
        return said

    try:
        with_server("CREATE TABLE kept AS SELECT 42 AS answer")
        subprocess.run(["sh", "-euc", save], check=True, env=engine.environment())
        engine.docker("volume", "rm", volume)
        subprocess.run(["sh", "-euc", restore], check=True, env=engine.environment())
        assert with_server("SELECT answer FROM kept") == "42"
    finally:
        engine.docker("volume", "rm", "-f", volume, check=False)
