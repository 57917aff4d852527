"""A web server on loopback in the stack's place: what it answers is up to the test, and it keeps what it was asked."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: Any  # of JSON


class Response(NamedTuple):
    status: int = 200
    body: Any = ""  # text, or data for JSON
    location: str = ""
    wait: float = 0


Answering = Callable[[Request], Response]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def serving(port: int, answer: Answering, certificate: tuple[Path, Path] | None = None) -> Iterator[list[Request]]:
    """Answer on this port until the block ends, by TLS with a certificate and its key; yield the requests."""
    requests: list[Request] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            requests.append(Request(self.command, self.path, headers, json.loads(body) if body else None))
            response = answer(requests[-1])
            time.sleep(response.wait)
            text = response.body if isinstance(response.body, str) else json.dumps(response.body, separators=(",", ":"))
            with contextlib.suppress(OSError):
                self.send_response(response.status)
                if response.location:
                    self.send_header("Location", response.location)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that does not trust the certificate leaves in the middle

    server = Server(("127.0.0.1", port), Handler)
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()  # its end is seen at once
    try:
        yield requests
    finally:
        server.shutdown()
        server.server_close()
