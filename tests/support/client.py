"""A browser's part in the tests: requests to nginx's port on this machine, under whatever name."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a client may say of itself, and what no upstream may be told on its word.
SPOOFED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Scheme": "gopher",
    "X-Forwarded-Server": "evil",
    "X-Forwarded-Ssl": "off",
    "X-Real-IP": "203.0.113.9",
    "X-Original-URL": "/evil",
    "X-Rewrite-URL": "/evil",
    "Forwarded": "for=203.0.113.9",
    "Front-End-Https": "off",
    "Proxy": "http://evil.example",
}


def told(headers: Mapping[str, str]) -> dict[str, str]:
    """What an upstream was told of the client, of all the ways to tell it."""
    names = {name.lower() for name in SPOOFED}
    return {name: text for name, text in headers.items() if name in names}


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def seen(self) -> dict[str, Any]:
        """What the upstream saw."""
        assert self.status == 200, (self.status, self.body)
        loaded: dict[str, Any] = json.loads(self.body)
        return loaded

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True)
class Client:
    """Asks a port on loopback for `host`; by https where it has a context for it."""

    port: int
    host: str
    context: ssl.SSLContext | None = None

    def connect(self, timeout: float = 20) -> http.client.HTTPConnection:
        """An open connection; with TLS, the server has shown a certificate for the host's name."""
        connection = http.client.HTTPConnection(self.host, timeout=timeout)
        plain = self.open(timeout)
        name = self.host.partition(":")[0]
        connection.sock = self.context.wrap_socket(plain, server_hostname=name) if self.context else plain
        return connection

    def open(self, timeout: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes = b"",
        host: str = "",
    ) -> Answer:
        with contextlib.closing(self.connect()) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for key, value in {"Host": host or self.host, **(headers or {})}.items():
                connection.putheader(key, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())

    def answers(self) -> bool:
        try:
            return bool(self.ask("/").status)
        except (OSError, http.client.HTTPException):
            return False


def exchanges_frames(client: Client, path: str) -> None:
    """Opens a WebSocket, and fails unless frames come back."""
    with contextlib.closing(client.connect()) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = {"Host": client.host, "Upgrade": "websocket", "Connection": "Upgrade"}
        connection.request("GET", path, headers=upgrade | {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key})
        answer = http.client.HTTPResponse(connection.sock)
        answer.begin()
        assert answer.status == 101
        for text in (b"one", b"two"):
            connection.sock.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)  # masked with zeros
            assert answer.fp.read(2 + len(text)) == bytes([0x81, len(text)]) + text


def trusting(authority: Path) -> ssl.SSLContext:
    """Trusts this CA and no other, as strictly as Python does from 3.13 on."""
    context = ssl.create_default_context(cafile=str(authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
