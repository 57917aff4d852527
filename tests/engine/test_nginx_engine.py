"""The generated nginx configurations in a running nginx, with echoing upstreams behind it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import engine, trees
from tests.support.client import SPOOFED, Client, told, trusting_anybody

pytestmark = pytest.mark.docker

UPSTREAMS = ("web=3000", "api=8000", "authentik_server=9000", "s3=8333")
HOST = "avatar.example.com"


@dataclass(frozen=True)
class Nginx(Client):
    """A running nginx: its container, its network, and where it listens inside."""

    name: str = ""
    network: str = ""
    listens: int = 0


@contextlib.contextmanager
def upstreams(network: str, *which: str) -> Iterator[str]:
    """A container that answers under the names and ports of these upstreams."""
    named = [one.partition("=") for one in which]
    aliases = [option for name, _, _ in named for option in ("--network-alias", name)]
    servers = [f"python3 /usr/local/lib/standin/server.py {name} 0.0.0.0:{port} & " for name, _, port in named]
    command = ("sh", "-c", "".join(servers) + "wait")
    with engine.container(engine.echo_image(), *command, options=("--network", network, *aliases)) as name:
        engine.until("the upstreams listen", lambda: engine.logs(name).count("stand-in: ") == len(which))
        yield name


@contextlib.contextmanager
def nginx(directory: Path, network: str, settings: Mapping[str, str], patience: str = "300s") -> Iterator[Nginx]:
    """nginx with the configuration of these settings, on a network of ours."""
    made = trees.targets(settings)
    facts = trees.resolution(settings).values
    tls = facts["TLS_MODE"] in ("provided", "self-signed")
    port = facts["NGINX_HTTPS_PORT"] if tls else facts["NGINX_HTTP_PORT"]
    directory.mkdir(parents=True, exist_ok=True)
    # One worker: each remembers addresses for itself.
    config = made.nginx[0].data.replace(b"worker_processes auto;", b"worker_processes 1;")
    config = config.replace(b"proxy_read_timeout 300s;", f"proxy_read_timeout {patience};".encode())
    (directory / "nginx.conf").write_bytes(config)
    certificate, key = engine.throw_away_certificate(directory)
    mounts = {
        directory / "nginx.conf": "/etc/nginx/nginx.conf",
        certificate: "/etc/nginx/tls/server.fullchain.crt",
        key: "/etc/nginx/tls/private/server.decrypted.key",
        directory: "/etc/nginx/avatar",  # with or without a conf.d
    }
    options = [option for source, target in mounts.items() for option in ("-v", f"{source}:{target}:ro")]
    options += ["--network", network, "-p", f"127.0.0.1::{port}", "-p", "127.0.0.1::80"]
    with engine.container(engine.stand_ins()["nginx"], options=options) as name:
        context = trusting_anybody() if tls else None
        running = Nginx(engine.published(name, port), HOST, context, name, network, port)
        engine.until(f"nginx answers ({settings})", running.answers)
        yield running


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    with engine.network() as name, upstreams(name, *UPSTREAMS):
        yield name


@pytest.fixture(scope="module")
def ours(network, tmp_path_factory) -> Iterator[Nginx]:
    """TLS is ours, with a redirect port."""
    with nginx(tmp_path_factory.mktemp("ours"), network, {"NGINX_HTTP_REDIRECT_PORT": "80"}) as running:
        yield running


# --- Paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "service", "upstream_path"),
    [
        ("/web", "web", "/web"),
        ("/web/", "web", "/web/"),
        ("/web/a%2Fb%20c/%C3%A9?q=%2F&r=a+b", "web", "/web/a%2Fb%20c/%C3%A9?q=%2F&r=a+b"),
        ("/api", "api", "/"),
        ("/api/", "api", "/"),
        ("/api?x=1", "api", "/?x=1"),
        ("/api/users/a%2Fb?x=%26&y=%20#f", "api", "/users/a%2Fb?x=%26&y=%20#f"),
        ("/api//double//slash", "api", "//double//slash"),
        ("/api/a%0D%0AX-Injected:%201", "api", "/a%0D%0AX-Injected:%201"),
        ("/api/%7Etilde/~tilde", "api", "/%7Etilde/~tilde"),
        ("/api/api/api", "api", "/api/api"),
        ("/sso/", "authentik_server", "/sso/"),
        ("/sso/if/flow/x%2Fy/?next=%2Fsso%2F", "authentik_server", "/sso/if/flow/x%2Fy/?next=%2Fsso%2F"),
        ("/storage", "s3", "/"),
        ("/storage/?list-type=2&prefix=a%2Fb", "s3", "/?list-type=2&prefix=a%2Fb"),
        ("/storage/bucket/a%2Fb%20c%2B+%25/%E2%82%AC", "s3", "/bucket/a%2Fb%20c%2B+%25/%E2%82%AC"),
        ("/storage/bucket//leading-slash", "s3", "/bucket//leading-slash"),
    ],
)
def test_paths_reach_their_upstream_unchanged(ours, path, service, upstream_path):
    seen = ours.ask(path).seen
    assert (seen["service"], seen["path"]) == (service, upstream_path)


@pytest.mark.parametrize("path", ["/apix", "/storages/x", "/%61pi/x", "/x/../api/y", "/stora%67e"])
def test_a_prefix_in_another_spelling_is_not_found(ours, path):
    assert ours.ask(path).status == 404


@pytest.mark.parametrize(("path", "location"), [("/", "/web"), ("/anything", "/web"), ("/sso", "/sso/")])
def test_redirects_stay_on_the_address_the_browser_knows(ours, path, location):
    answer = ours.ask(path)
    assert answer.status in (301, 302)
    assert answer.all("Location") == [location]


def test_the_redirect_port_leads_to_the_public_address(ours):
    port = engine.published(ours.name, 80)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/a%2Fb?c=%20", headers={"Host": "evil.example"})
        response = connection.getresponse()
        assert response.status == 308
        assert response.getheader("Location") == "https://avatar.example.com/a%2Fb?c=%20"
        assert response.getheader("Strict-Transport-Security") is None


# --- Headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/web", "/api/x", "/sso/x", "/storage/x"])
def test_clients_cannot_say_who_they_are(ours, path):
    client = engine.gateway(ours.network)
    expected = {"x-forwarded-for": client, "x-real-ip": client, "x-forwarded-proto": "https", "x-forwarded-host": HOST}
    expected |= {"x-forwarded-prefix": "/storage"} if path.startswith("/storage") else {}
    assert told(ours.ask(path, SPOOFED).seen["headers"]) == expected


@pytest.mark.parametrize("path", ["/web", "/api/x", "/sso/x", "/storage/x"])
def test_the_host_keeps_its_port(ours, path):
    headers = ours.ask(path, host=f"{HOST}:443").seen["headers"]
    assert headers["host"] == headers["x-forwarded-host"] == f"{HOST}:443"


@pytest.mark.parametrize("path", ["/web", "/api/x", "/sso/x", "/storage/x", "/", "/apix"])
def test_the_headers_of_tls_are_said_once(ours, path):
    answer = ours.ask(path)
    assert answer.all("Strict-Transport-Security") == ["max-age=63072000"]
    assert answer.all("X-Content-Type-Options") == ["nosniff"]
    assert answer.all("Server") == ["nginx"]


def test_http2_names_its_host_too(ours):
    url = f"https://{HOST}:{ours.listens}/api/x"
    resolve = f"{HOST}:{ours.listens}:127.0.0.1"
    curl = ("curl", "-sk", "--http2", "--resolve", resolve, "-w", "\n%{http_version}", url)
    done = engine.docker("exec", ours.name, *curl)
    body, _, version = done.stdout.decode().rpartition("\n")
    assert version == "2"
    assert json.loads(body)["headers"]["host"] == HOST


@pytest.mark.parametrize("path", ["/api/x", "/sso/x"])
def test_large_response_headers_pass(ours, path):
    assert len(ours.ask(f"{path}?header=12000").all("X-Large")[0]) == 12000


def test_large_request_headers_pass(ours):
    seen = ours.ask("/sso/x?" + "q" * 12000, {"Cookie": "c" * 12000}).seen
    assert len(seen["headers"]["cookie"]) == 12000


@pytest.mark.parametrize(
    ("path", "upgrade", "passed"),
    [
        ("/web/x", "websocket", True),
        ("/web/x", "WebSocket", True),
        ("/sso/ws/", "websocket", True),
        ("/api/x", "websocket", False),
        ("/storage/x", "websocket", False),
        ("/web/x", "h2c", False),
        ("/sso/x", "websocket, h2c", False),
    ],
)
def test_websockets_and_no_other_upgrade(ours, path, upgrade, passed):
    headers = ours.ask(path, {"Upgrade": upgrade, "Connection": "Upgrade, HTTP2-Settings"}).seen["headers"]
    assert headers.get("upgrade") == ("websocket" if passed else None)
    assert headers.get("connection") == ("upgrade" if passed else None)


# --- Bodies -------------------------------------------------------------------------------------------


def test_a_body_passes(ours):
    assert ours.ask("/storage/b/o", method="PUT", body=b"x" * 3_000_000).seen["length"] == 3_000_000
    assert ours.ask("/api/o", method="POST", body=b"x" * 3_000_000).seen["length"] == 3_000_000


@pytest.mark.parametrize(("path", "most"), [("/storage/o", 4096 << 20), ("/api/o", 100 << 20)])
def test_bodies_have_a_limit(ours, path, most):
    assert ours.ask(path, {"Content-Length": str(most + 1)}, method="PUT").status == 413


def test_storage_streams_and_does_not_collect(ours):
    """The upstream answers while the client has sent half of the body only."""
    with contextlib.closing(ours.connect()) as connection:
        connection.putrequest("PUT", "/storage/early", skip_host=True)
        connection.putheader("Host", HOST)
        connection.putheader("Content-Length", "20")
        connection.endheaders(b"x" * 10)
        assert connection.getresponse().status == 200


# --- Hosts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:8443", "[::1]", "sub.avatar.example.com"])
def test_a_foreign_host_gets_no_further(ours, host):
    for path in ("/web", "/api/x", "/sso/x", "/storage/x"):
        answer = ours.ask(path, host=host)
        assert answer.status == 421
        assert b"https://avatar.example.com/" in answer.body
    probe = ours.ask("/", host=host)
    assert probe.status == 200
    assert probe.all("Strict-Transport-Security") == []


def test_a_request_without_a_host_gets_no_further(network, tmp_path):
    with nginx(tmp_path, network, {"PUBLIC_URL": "http://avatar.example.com:8080"}) as plain:
        with socket.create_connection(("127.0.0.1", plain.port), timeout=20) as connection:
            connection.sendall(b"GET /api/x HTTP/1.0\r\n\r\n")
            assert connection.makefile("rb").readline().split()[1] == b"421"
        headers = plain.ask("/api/x", SPOOFED, host=f"{HOST}:8080").seen["headers"]
        assert headers["x-forwarded-proto"] == "http"
        answer = plain.ask("/web", host=f"{HOST}:8080")
        assert answer.all("Strict-Transport-Security") == ["max-age=1"], "the upstream's own"


def test_every_given_name_is_answered(network, tmp_path):
    longest = ".".join(["x" * 62] * 4)
    names = {"PUBLIC_URL": "192.0.2.10", "TLS_EXTRA_NAMES": f"2001:db8::7,avatar.internal,a_b.internal,{longest}"}
    hosts = ("192.0.2.10", "[2001:db8::7]", "[2001:DB8::7]:443", "AVATAR.internal", "a_b.internal", longest)
    with nginx(tmp_path, network, names) as running:
        for host in hosts:
            assert running.ask("/api/x", host=host).seen["headers"]["host"] == host.lower()


@pytest.mark.parametrize("said", ["evil.example", "evil.example:8443", "avatar.example.com.evil.example"])
def test_a_request_line_with_another_host_deceives_nobody(ours, said):
    """nginx chooses the server by the request line's host where it has one: the Host header may then be anything."""
    headers = ours.ask(f"https://{HOST}/api/x", host=said).seen["headers"]
    for name in ("host", "x-forwarded-host"):
        assert headers[name].partition(":")[0] == HOST
    assert "evil" not in str(headers)


@pytest.mark.parametrize(
    ("host", "passed"), [(HOST, HOST), (f"{HOST}:443", f"{HOST}:443"), (f"{HOST}:8443", HOST), (f"{HOST}:1443", HOST)]
)
def test_the_host_reaches_upstreams_with_the_public_port_and_no_other(ours, host, passed):
    headers = ours.ask("/sso/x", host=host).seen["headers"]
    assert (headers["host"], headers["x-forwarded-host"]) == (passed, passed)


@pytest.mark.parametrize(
    "path",
    ["/api/internal", "/api/internal/authentik/x", "/api/%69nternal/x", "/api//internal/x", "/api/./internal/x"],
)
def test_what_the_stack_asks_the_api_directly_is_for_nobody_outside(ours, path):
    assert ours.ask(path).status == 404


# --- A certificate of our own -------------------------------------------------------------------------


def test_without_a_real_certificate_no_browser_is_bound_to_https(network, tmp_path):
    with nginx(tmp_path, network, {"TLS_MODE": "self-signed", "NGINX_HTTP_REDIRECT_PORT": "80"}) as running:
        for path in ("/", "/web", "/nothing"):
            answer = running.ask(path)
            assert answer.all("Strict-Transport-Security") == [], "the upstream's own is hidden too"
            assert answer.all("X-Content-Type-Options") == ["nosniff"]


# --- Behind a proxy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [True, False])
def test_behind_a_proxy_the_client_is_told_by_trusted_proxies_only(network, tmp_path, trusted):
    settings = {
        "PUBLIC_URL": "https://avatar.example.com:8443",
        "TLS_MODE": "behind-proxy",
        "TRUSTED_PROXIES": f"{engine.gateway(network)},198.51.100.0/24" if trusted else "203.0.113.0/24",
    }
    with nginx(tmp_path, network, settings) as running:
        spoofed = SPOOFED | {"X-Forwarded-For": "192.0.2.66, 203.0.113.9, 198.51.100.7"}
        headers = running.ask("/api/x", spoofed, host=f"{HOST}:8443").seen["headers"]
        told = "203.0.113.9" if trusted else engine.gateway(network)
        assert headers["x-forwarded-for"] == headers["x-real-ip"] == told
        assert headers["x-forwarded-proto"] == "https"
        assert headers["host"] == f"{HOST}:8443"
        assert running.ask("/", host=f"{HOST}:8443").all("Location") == ["/web"]


# --- Starting and restarting --------------------------------------------------------------------------


ROUTES = ("/web", "/api/x", "/sso/x", "/storage/x")


def _statuses(running: Nginx) -> set[int]:
    """What all routes answer, asked at once."""
    with ThreadPoolExecutor(len(ROUTES)) as pool:
        return set(pool.map(lambda path: running.ask(path).status, ROUTES))


def _address(name: str) -> str:
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return engine.docker("inspect", name, "-f", form).stdout.decode().strip()


def test_nginx_starts_before_its_upstreams_and_finds_them_again_elsewhere(tmp_path):
    with engine.network() as alone, nginx(tmp_path, alone, {}) as running:
        assert _statuses(running) == {502}
        with upstreams(alone, *UPSTREAMS) as first:
            old = _address(first)
            engine.until("nginx finds its upstreams", lambda: _statuses(running) == {200}, 30)
        # At first their address is asked still, where nobody refuses.
        assert _statuses(running) == {502}
        # Somebody else gets the address that they had.
        filler = engine.container(engine.echo_image(), "sleep", "60", options=("--network", alone))
        with filler, upstreams(alone, *UPSTREAMS) as second:
            assert _address(second) != old
            engine.until("nginx finds its upstreams at a new address", lambda: _statuses(running) == {200}, 30)


def test_an_upstream_that_has_the_request_and_does_not_answer_is_a_timeout(network, tmp_path):
    with nginx(tmp_path, network, {}, patience="1s") as running:
        assert _statuses(running) == {200}
        assert running.ask("/api/x?wait=3").status == 504


def test_nginx_listens_on_ipv6_where_told_to(network, tmp_path):
    with nginx(tmp_path, network, {"NGINX_IPV6": "on", "NGINX_HTTP_REDIRECT_PORT": "80"}) as running:
        sockets = engine.docker("exec", running.name, "cat", "/proc/net/tcp6").stdout.decode()
        assert {f":{port:04X} " in sockets for port in (443, 80)} == {True}
