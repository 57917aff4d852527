"""What the pages say of nginx and of volumes, tried with the real programs."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import engine, page_commands

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


def snippet_of(page: str, language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", (HOWTO / page).read_text(), re.M | re.S)
    assert found, page
    return found[1]


def test_nginx_takes_the_snippets_of_the_pages(tmp_path: Path) -> None:
    engine.throw_away_certificate(tmp_path)
    acme = re.search(r"acme.conf <<'EOF'\n(.*?)^EOF", (HOWTO / "lets-encrypt.md").read_text(), re.M | re.S)
    assert acme
    http = snippet_of("behind-a-proxy.md", "nginx") + acme[1]
    http = http.replace("/etc/ssl/avatar/fullchain.pem", "/given/throw-away.crt")
    http = http.replace("/etc/ssl/avatar/privkey.pem", "/given/throw-away.key")
    (tmp_path / "nginx.conf").write_text(f"events {{}}\nhttp {{\n{http}}}\n")
    options = ("run", "--rm", "--network", "none", "-v", f"{tmp_path}:/given:ro")
    engine.docker(*options, engine.stand_ins()["nginx"], "nginx", "-t", "-c", "/given/nginx.conf")


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
