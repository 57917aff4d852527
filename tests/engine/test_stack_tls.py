"""A deployment of which nothing is said but what must be, with a certificate of its own, later with the operator's."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.support import engine
from tests.support.client import Client, trusting
from tests.support.stack import HOST, Stack, deployment
from tests.support.stack_contract import *  # noqa: F403 - the tests that every stack passes
from tests.unit.deploy.test_targets import API_SERVICES

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    with deployment(tmp_path_factory.mktemp("tls")) as made:
        made.configure(
            PUBLIC_URL=f"{HOST}:{made.port}",
            ENV_NAME="example-prod",
            SMTP_HOST="mail.example.com",
            TLS_MODE="self-signed",
        )
        made.authority = made.out / "tls" / "avatar-ca.crt"
        made.up()
        yield made


def test_who_does_not_trust_the_authority_is_warned(stack: Stack) -> None:
    """All other tests of this module trust it, and nobody else, and look at the name."""
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        Client(stack.port, stack.netloc, ssl.create_default_context()).ask("/")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        Client(stack.port, "another.test", trusting(stack.authority)).ask("/")


def test_the_running_stack_is_asked_through_its_public_address(stack: Stack) -> None:
    """From the network of this machine, where only the name of the stack is not known."""
    network = ("--network", "host", "--add-host", f"{HOST}:127.0.0.1")
    command = ("run", "--rm", *network, "-v", f"{stack.out}:/out:ro", engine.image(), "--check", "--online")
    shown = engine.docker(*command, check=False).stdout.decode()  # a secret is pending
    for name in ("name", "answer", "certificate", "web", "api", "storage", "sign-in"):
        assert f"ok    public-{name}: " in shown
    stack.compose("stop", "api")
    try:
        shown = engine.docker(*command, check=False).stdout.decode()
    finally:
        stack.up()
    assert "fail  public-api: the API: /api/health answers 502\n      do: docker compose logs api" in shown
    assert "ok    public-web: " in shown


def test_the_headers_of_tls_come_from_nginx(stack: Stack) -> None:
    answer = stack.client.ask("/api/x")
    assert answer.all("Strict-Transport-Security") == [], "of the upstream, and not for an authority of one's own"
    assert answer.all("X-Content-Type-Options") == ["nosniff"]


# --- Large bodies --------------------------------------------------------------------------------------

MEGABYTE = 1 << 20
BODY = 200 * MEGABYTE


def memory_of_nginx(stack: Stack) -> int:
    """The most that its processes ever had in memory, in bytes."""
    statuses = stack.execute("nginx", "sh", "-c", "cat /proc/[0-9]*/status")
    return sum(int(line.split()[1]) for line in statuses.splitlines() if line.startswith("VmHWM:")) * 1024


def assert_nothing_was_collected(stack: Stack) -> None:
    assert memory_of_nginx(stack) < 64 * MEGABYTE
    assert "buffered to a temporary file" not in stack.compose("logs", "nginx")


def test_200_mb_stream_into_storage(stack: Stack) -> None:
    def received() -> int:
        return int(stack.client.ask("/storage/x").seen["received"])

    before, piece = received(), bytes(MEGABYTE)
    with contextlib.closing(stack.client.connect(60)) as connection:
        connection.putrequest("PUT", "/storage/bucket/large")
        connection.putheader("Content-Length", str(BODY))
        connection.endheaders()
        for _ in range(100):
            connection.send(piece)
        engine.until("storage has the first half", lambda: received() - before > BODY // 2 - 8 * MEGABYTE, 30)
        for _ in range(100):
            connection.send(piece)
        assert json.loads(connection.getresponse().read())["length"] == BODY
    assert_nothing_was_collected(stack)


def test_200_mb_stream_out_of_storage(stack: Stack) -> None:
    with contextlib.closing(stack.client.connect(60)) as connection:
        connection.request("GET", f"/storage/bucket/large?body={BODY}")
        answer = connection.getresponse()
        assert sum(len(piece) for piece in iter(lambda: answer.read(MEGABYTE), b"")) == BODY
    assert_nothing_was_collected(stack)


# --- The API at another address --------------------------------------------------------------------------

A_SECOND = 50
AT_MOST = 180 * A_SECOND
PATHS = ("/web", "/api/x", "/sso/x", "/storage/x")


class Visit(NamedTuple):
    began: float
    path: str
    outcome: int | str


def visit(client: Client, path: str) -> Visit:
    began = time.monotonic()
    try:
        return Visit(began, path, client.ask(path).status)
    except (OSError, http.client.HTTPException) as error:
        return Visit(began, path, repr(error))


@contextlib.contextmanager
def visitors(client: Client) -> Iterator[list[Visit]]:
    """Requests to all routes in turn, fifty a second, until the block ends; then the list is filled."""
    visits: list[Visit] = []
    enough = threading.Event()
    with ThreadPoolExecutor(100) as pool:

        def come() -> None:
            start = time.monotonic()
            coming = []
            for number, path in zip(range(AT_MOST), itertools.cycle(PATHS)):
                if enough.wait(max(0.0, start + number / A_SECOND - time.monotonic())):
                    break
                coming.append(pool.submit(visit, client, path))
            visits.extend(one.result() for one in coming)

        thread = threading.Thread(target=come)
        thread.start()
        try:
            yield visits
        finally:
            enough.set()
            thread.join()


def test_visitors_of_other_routes_never_notice_that_the_api_moves(stack: Stack) -> None:
    before = stack.addresses()["api"]
    shared = ("proxy", "storage")
    with visitors(stack.client) as visits:
        stack.compose("rm", "-s", "-f", "api")
        time.sleep(2)  # its address belongs to nobody: what is sent there is lost
        # Somebody else gets the addresses that the API had, where the engine gives out the lowest.
        networks = [f"{stack.project}_{name}" for name in shared]
        with engine.container(engine.echo_image(), "sleep", "300", options=("--network", networks[0])) as another:
            engine.docker("network", "connect", networks[1], another)
            stack.up()
            healthy = time.monotonic()
            time.sleep(12)
    after = stack.addresses()["api"]
    assert [name for name in shared if after[name] == before[name]] == []
    assert len(visits) < AT_MOST
    others = [one for one in visits if one.path != "/api/x"]
    assert [one for one in others if one.outcome != 200] == []
    of_the_api = [one for one in visits if one.path == "/api/x"]
    assert {one.outcome for one in of_the_api} == {200, 502}
    late = [one for one in of_the_api if one.began > healthy + 10]
    assert {one.outcome for one in late} == {200}


# --- Another certificate -----------------------------------------------------------------------------------


def test_a_certificate_of_the_operators_takes_the_place_of_ours(stack: Stack) -> None:
    certificate, key = engine.throw_away_certificate(stack.directory, HOST)
    (stack.out / "tls" / "server.fullchain.crt").write_bytes(certificate.read_bytes())
    (stack.out / "tls" / "private" / "server.decrypted.key").write_bytes(key.read_bytes())
    # nginx serves it, and the services of the API and of Authentik need not trust ours any longer.
    with stack.recreating("nginx", *API_SERVICES, "authentik_server", "authentik_worker"):
        stack.configure(TLS_MODE="provided")
        stack.up()
    stack.authority = certificate
    assert stack.client.ask("/api/x").all("Strict-Transport-Security") == ["max-age=63072000"]
