"""HTTP to the public address: which server is meant, and what an error may show."""

from __future__ import annotations

import pytest

from setup.client import Server
from setup.errors import NetworkError
from tests.support.web import Response, free_port, serving


@pytest.mark.parametrize(
    ("base", "host", "port"),
    [
        ("https://avatar.example.com", "avatar.example.com", 443),
        ("http://avatar.example.com", "avatar.example.com", 80),
        ("https://avatar.example.com:8443", "avatar.example.com", 8443),
        ("https://[2001:db8::7]", "2001:db8::7", 443),
        ("http://[2001:db8::7]:8080", "2001:db8::7", 8080),
        ("https://192.0.2.7:8443", "192.0.2.7", 8443),
    ],
)
def test_the_base_names_host_and_port(base: str, host: str, port: int) -> None:
    server = Server(base, b"")
    assert (server.host, server.port) == (host, port)


@pytest.mark.parametrize("token", ["two\nlines", "no latin: \u20ac"])
def test_a_header_that_http_does_not_carry_is_not_shown(token: str, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with serving(port, lambda _request: Response()) as requests, pytest.raises(NetworkError) as error:
        Server(f"http://127.0.0.1:{port}", b"").ask("/", headers={"Authorization": f"Bearer {token}"})
    assert str(error.value) == "the request holds a character that HTTP does not carry"
    assert requests == []
    assert capfd.readouterr() == ("", "")


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    port = free_port()
    with serving(port, lambda _request: Response(302, location="http://elsewhere.example/")) as requests:
        reply = Server(f"http://127.0.0.1:{port}", b"").ask("/a", {"b": 1})
    assert (reply.status, reply.location, len(requests)) == (302, "http://elsewhere.example/", 1)
    assert (requests[0].method, requests[0].body) == ("POST", {"b": 1})
