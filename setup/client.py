"""Speak HTTP to the public address of the stack, within a time that is certain."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from setup.errors import NetworkError
from setup.typed import Any, NamedTuple

_STEP = 5  # seconds, for each step of a request that only asks
_WHOLE = 20  # seconds, for all of a request: a server may send one byte at a time
_LONGEST_BODY = 1 << 20


class Untrusted(NetworkError):
    """The server's certificate does not satisfy a client."""


class Reply(NamedTuple):
    """What a server has answered; `certificate` in PEM and `end`, its last second, with TLS only."""

    status: int
    location: str
    body: bytes
    certificate: bytes = b""
    end: float = 0

    @property
    def data(self) -> Any:
        """The body as JSON, None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Server:
    """The server behind `base`, a URL without a path.

    With https, `authorities` in PEM are trusted instead of this system's, unless there are none.
    """

    def __init__(self, base: str, authorities: bytes) -> None:
        scheme, _, self.netloc = base.partition("://")
        bracket = self.netloc.rfind("]")
        colon = self.netloc.rfind(":")
        host, port = (self.netloc[:colon], self.netloc[colon + 1 :]) if colon > bracket else (self.netloc, "")
        self.host = host.strip("[]")
        self.port = int(port or (443 if scheme == "https" else 80))
        self._context = _context(authorities) if scheme == "https" else None

    def resolve(self) -> list[str]:
        """Return the addresses of the host, none if its name does not resolve soon."""

        addresses: list[str] = []

        def look_up() -> None:
            with contextlib.suppress(OSError, UnicodeError):
                rows = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
                addresses.extend(dict.fromkeys(str(row[4][0]) for row in rows))

        _wait(_STEP, look_up)
        return addresses

    def ask(
        self, path: str, fields: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Return the answer to a GET, or with `fields` to a POST of JSON; raise NetworkError without one."""
        body = None if fields is None else json.dumps(fields).encode()
        all_headers = {"Host": self.netloc, "User-Agent": "avatar-setup"} | dict(headers or {})
        if body is not None:
            all_headers["Content-Type"] = "application/json"

        outcomes: list[Reply | NetworkError] = []

        def converse() -> None:
            try:
                outcomes.append(self._converse(path, body, all_headers))
            except ssl.SSLCertVerificationError as error:
                outcomes.append(Untrusted(error.verify_message))
            except ValueError:  # its text would show a header
                outcomes.append(NetworkError("the request holds a character that HTTP does not carry"))
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                outcomes.append(NetworkError(reason.lower()))

        _wait(_WHOLE, converse)
        outcome = outcomes[0] if outcomes else NetworkError(f"no complete answer within {_WHOLE} seconds")
        if isinstance(outcome, NetworkError):
            raise outcome
        return outcome

    def _converse(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        connection: http.client.HTTPConnection
        timeout = _STEP if body is None else _WHOLE
        if self._context:
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self._context)
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.connect()
            certificate, end = b"", 0.0
            if isinstance(connection.sock, ssl.SSLSocket):
                certificate = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(binary_form=True) or b"").encode()
                end = ssl.cert_time_to_seconds(str((connection.sock.getpeercert() or {})["notAfter"]))
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            location = answer.headers.get("Location", "")
            return Reply(answer.status, location, answer.read(_LONGEST_BODY), certificate, end)
        finally:
            connection.close()


def query(fields: Mapping[str, str]) -> str:
    """Encode the fields of a query."""
    return urlencode(fields)


def _context(authorities: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authorities.decode(errors="replace") or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # browsers do not require it, and old private CAs fail it
    return context


def _wait(seconds: float, work: Callable[[], None]) -> None:
    """Wait until `work` is done, or that long: then it is left to end by itself."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
