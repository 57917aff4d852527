"""`--check --online`: the running stack is asked through its public address, on loopback here."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.cli.test_check import SETTINGS, findings
from tests.cli.test_given_certificate import CHAIN, KEY
from tests.support import pki
from tests.support.runs import deployed, ran, run
from tests.support.web import Answering, Request, Response, free_port, serving

SIGN_IN = "/sso/application/o/avatar-api/"
DISCOVERY = f"{SIGN_IN}.well-known/openid-configuration"
PARTS = ["public-web", "public-api", "public-storage", "public-sign-in"]


def stack(base: str, **instead: Response) -> Answering:
    """Answer as a stack that works, except for the paths that end as `instead` says."""
    usual = {
        "/": Response(302, location="/web"),
        "/web": Response(200, "<html>"),
        "/api/health": Response(200, "{}"),
        "/storage/healthz": Response(200),
        DISCOVERY: Response(200, {"issuer": f"{base}{SIGN_IN}"}),
    }

    def answer(request: Request) -> Response:
        for name, response in instead.items():
            if name in request.path:
                return response
        return usual.get(request.path, Response(404))

    return answer


def asked(out: Path) -> list[tuple[str, str, str]]:
    return [one for one in findings(out, "--online") if one[1].startswith("public-")]


def failing(out: Path) -> list[tuple[str, str]]:
    """Name and text of what is not fine at the public address, in JSON and by the exit code as well."""
    done = run(out, "--check", "--online", "--json", settings={})
    data = json.loads(done.stdout)
    found = [(one["name"], f"{one['text']}: {one['todo']}") for one in data["findings"] if one["level"] == "fail"]
    assert data["ready"] is True
    assert data["answers"] is (done.returncode == 0) is not bool(found)
    return found


class Deployment:
    """A deployment at a port of its own, by https if it has a certificate."""

    def __init__(self, out: Path, host: str = "localhost", **more: str) -> None:
        self.port = free_port()
        scheme = more.pop("scheme", "https")
        self.base = f"{scheme}://{host}:{self.port}"
        url = self.base if scheme == "http" else f"{host}:{self.port}"
        self.out = deployed(out, settings=SETTINGS | {"PUBLIC_URL": url} | more)

    @property
    def certificate(self) -> tuple[Path, Path]:
        return self.out / CHAIN, self.out / KEY


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path / "out")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_stack_that_works_is_fine_and_the_verdict_tells_how_to_sign_in(host: str, tmp_path: Path) -> None:
    one = Deployment(tmp_path / "out", host)
    named = ["public-name"] if host == "localhost" else []
    with serving(one.port, stack(one.base), one.certificate) as requests:
        assert [found[:2] for found in asked(one.out)] == [
            ("ok", name) for name in [*named, "public-answer", "public-certificate", *PARTS]
        ]
        shown = ran(one.out, "--check", "--online", settings={}).stdout
    assert {request.headers["host"] for request in requests} == {f"{host}:{one.port}"}
    assert "\nThe stack answers (" in shown
    assert "To sign in, once the stack runs:" in shown
    assert "before the first start" not in shown.lower()
    assert "docker compose up" not in shown


def test_before_the_first_start_it_says_what_to_type(deployment: Deployment) -> None:
    ((name, text),) = failing(deployment.out)
    assert name == "public-answer"
    assert f"{deployment.base} does not answer: connection refused: docker compose up -d" in text
    shown = ran(deployment.out, "--check", "--online", settings={}, code=3).stdout
    assert "\nReady: the stack can start, but it does not answer (" in shown
    assert shown.endswith("docker compose up -d\n")


@pytest.mark.parametrize(
    ("path", "response", "name", "words"),
    [
        ("/web", Response(502), "public-web", "the web client: /web answers 502: docker compose logs web"),
        ("/api/", Response(503), "public-api", "the API: /api/health answers 503: docker compose logs api"),
        ("/storage/", Response(504), "public-storage", "/storage/healthz answers 504: docker compose logs s3"),
        ("/sso/", Response(502), "public-sign-in", "answers 502: docker compose logs authentik_server"),
        ("/sso/", Response(404), "public-sign-in",
         "know the application avatar-api: docker compose logs authentik_blueprint"),
        ("/sso/", Response(200, "<html>"), "public-sign-in", "Authentik calls itself None instead of https://localhost:"),
        ("/sso/", Response(200, {"issuer": "http://localhost/sso/"}), "public-sign-in",
         "itself http://localhost/sso/ instead of https://localhost:"),
    ],
)  # fmt: skip
def test_a_part_that_does_not_work_is_named_with_its_log(
    deployment: Deployment, path: str, response: Response, name: str, words: str
) -> None:
    with serving(deployment.port, stack(deployment.base, **{path: response}), deployment.certificate):
        ((found, text),) = failing(deployment.out)
        shown = ran(deployment.out, "--check", "--online", settings={}, code=3).stdout
    assert found == name
    assert words in text
    assert "docker compose up -d" not in shown


def test_another_server_at_the_address_is_noticed(deployment: Deployment) -> None:
    other = Response(302, location="https://portal.example.com/")
    with serving(deployment.port, lambda _request: other, deployment.certificate):
        levels = {name: level for level, name, _ in asked(deployment.out)}
    assert levels.pop("public-answer") == "warn"
    assert {name for name, level in levels.items() if level == "fail"} == set(PARTS)


def test_a_proxy_that_hides_the_host_is_noticed(tmp_path: Path) -> None:
    one = Deployment(tmp_path / "out", TLS_MODE="behind-proxy")
    leaf = served_by_another(one, tmp_path)
    text = f"Avatar is at {one.base}/\n"
    with serving(one.port, lambda _request: Response(200, text), leaf):
        found = dict(failing(one.out))
    assert "let the proxy in front pass on the Host header" in found["public-answer"]


def test_a_proxy_with_a_certificate_of_a_private_ca_is_asked(tmp_path: Path) -> None:
    one = Deployment(tmp_path / "out", TLS_MODE="behind-proxy")
    with serving(one.port, stack(one.base), served_by_another(one, tmp_path)):
        assert {level for level, _, _ in asked(one.out)} == {"ok"}
    (one.out / "tls/ca.crt").unlink()
    ran(one.out, "--unset", "TLS_CA_PATH", settings={})
    with serving(one.port, stack(one.base), (tmp_path / "leaf.crt", tmp_path / "leaf.key")):
        ((name, text),) = failing(one.out)
    assert name == "public-certificate"
    assert "correct it at the proxy in front; if a CA of your own has issued it, set TLS_CA_PATH to that CA" in text


def served_by_another(one: Deployment, folder: Path) -> tuple[Path, Path]:
    """The certificate of a proxy in front, which is of a private CA that the deployment trusts."""
    leaf = pki.issue("proxy", names=("localhost",), issuer=pki.root())
    (one.out / "tls").mkdir(exist_ok=True)
    (one.out / "tls/ca.crt").write_bytes(pki.root().pem)
    ran(one.out, "--set", "TLS_CA_PATH=./tls/ca.crt", settings={})
    (folder / "leaf.crt").write_bytes(leaf.pem)
    (folder / "leaf.key").write_bytes(leaf.private())
    return folder / "leaf.crt", folder / "leaf.key"


def test_a_plain_http_stack_is_asked_without_tls(tmp_path: Path) -> None:
    one = Deployment(tmp_path / "out", scheme="http", TLS_MODE="off")
    with serving(one.port, stack(one.base)):
        assert [found[:2] for found in asked(one.out)] == [
            ("ok", name) for name in ["public-name", "public-answer", *PARTS]
        ]


def test_a_certificate_that_clients_refuse_is_a_failure(deployment: Deployment, tmp_path: Path) -> None:
    other = Deployment(tmp_path / "other")
    with serving(deployment.port, stack(deployment.base), other.certificate):
        ((name, text),) = failing(deployment.out)
    assert name == "public-certificate"
    assert "has a certificate that is not trusted here" in text
    assert "docker compose restart nginx" in text


def test_a_renewed_certificate_that_nginx_does_not_serve_yet_is_noticed(deployment: Deployment) -> None:
    old = []
    for path in deployment.certificate:
        old.append(path.with_suffix(".old"))
        old[-1].write_bytes(path.read_bytes())
    ran(deployment.out, "--renew-certificate", settings={})
    with serving(deployment.port, stack(deployment.base), (old[0], old[1])):
        (found,) = [one for one in asked(deployment.out) if one[1] == "public-certificate"]
    assert found[0] == "warn"
    assert "still serves another certificate than the one in the file: docker compose restart nginx" in found[2]


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"])
def test_what_speaks_neither_tls_nor_http_does_not_answer(deployment: Deployment, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", deployment.port)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.sendall(answer)
            connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        ((name, text),) = failing(deployment.out)
    assert name == "public-answer"
    assert f"{deployment.base} does not answer: " in text


@pytest.mark.slow
def test_a_server_that_is_silent_is_not_waited_for(tmp_path: Path) -> None:
    one = Deployment(tmp_path / "out", scheme="http", TLS_MODE="off")
    with serving(one.port, stack(one.base, **{"/api/": Response(wait=30)})):
        began = time.monotonic()
        ((name, text),) = failing(one.out)
        assert time.monotonic() - began < 15
    assert name == "public-api"
    assert "does not answer: timed out: docker compose logs api" in text


def test_a_name_that_does_not_resolve_is_a_failure(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=SETTINGS | {"PUBLIC_URL": "avatar.invalid"})
    ((level, name, text),) = asked(out)
    assert (level, name) == ("fail", "public-name")
    assert "avatar.invalid does not resolve here" in text


def test_a_deployment_that_cannot_start_is_asked_too(deployment: Deployment) -> None:
    (deployment.out / ".secrets/organization_name").write_text("")
    with serving(deployment.port, stack(deployment.base), deployment.certificate):
        shown = ran(deployment.out, "--check", "--online", settings={}, code=3).stdout
    assert "ok    public-api" in shown
    assert "\nNot ready (" in shown


def test_online_goes_with_check(deployment: Deployment) -> None:
    assert "--online goes with --check" in ran(deployment.out, "--online", settings={}, code=2).stderr
