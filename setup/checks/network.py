"""Check from the network, if asked to, that the public name resolves and that this stack answers there."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from typing import TYPE_CHECKING

from setup.config import derived
from setup.config.values import Values
from setup.findings import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT = 5  # seconds, for the resolver and for each step of the request


def check_network(values: Values, authorities: bytes) -> Iterator[Finding]:
    """Check name and answer; `authorities` in PEM are trusted instead of this system's, unless there are none."""
    host, base = str(values["PUBLIC_URL"].host), derived.base_url(values)
    if not derived.is_address(host):
        addresses = _resolve(host)
        if not addresses:
            yield Finding("public-name", Level.FAIL, f"{host} does not resolve here", "create a DNS record for it")
            return
        yield Finding("public-name", Level.OK, f"{host} resolves to {', '.join(addresses)}")
    yield _check_answer(host, base, _context(authorities) if base.startswith("https") else None)


def _resolve(host: str) -> list[str]:
    """Resolve a name; return nothing after a while, because the resolver's own timeout is long."""
    addresses: list[str] = []

    def resolve() -> None:
        try:
            rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        addresses.extend(dict.fromkeys(str(row[4][0]) for row in rows))

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(_TIMEOUT)
    return list(addresses)


def _context(authorities: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authorities.decode(errors="replace") or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # browsers do not require it, and old private CAs fail it
    return context


def _check_answer(host: str, base: str, context: ssl.SSLContext | None) -> Finding:
    """Check what answers at the public address: this stack redirects to its web client."""
    netloc = base.partition("://")[2]
    port = netloc.rpartition(":")[2] if netloc.rpartition("]")[2].count(":") else ""
    connection: http.client.HTTPConnection
    if context:
        connection = http.client.HTTPSConnection(host, int(port or 443), timeout=_TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection(host, int(port or 80), timeout=_TIMEOUT)
    logs = "see docker compose ps, and docker compose logs nginx"
    try:
        connection.request("GET", "/", headers={"Host": netloc, "User-Agent": "avatar-setup"})
        answer = connection.getresponse()
        location = answer.headers.get("Location", "")
    except ssl.SSLCertVerificationError as error:
        text = f"{base} has a certificate that is not trusted here: {error.verify_message}"
        todo = "compare it with the one that --check reads; after a change, docker compose restart nginx"
        return Finding("public-answer", Level.FAIL, text, todo)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Finding("public-answer", Level.FAIL, f"{base} does not answer: {reason.lower()}", logs)
    finally:
        connection.close()
    if location.endswith("/web"):
        return Finding("public-answer", Level.OK, f"{base} answers and leads to the web client")
    text = f"{base} answers {answer.status} instead of leading to the web client"
    return Finding("public-answer", Level.WARN, text, logs)
