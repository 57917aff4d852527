"""The one room that uses the network, when it is asked to: does the public name resolve, and who answers there."""

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

_PATIENCE = 5  # seconds, for each thing that is waited for


def look(values: Values, authorities: bytes) -> Iterator[Finding]:
    """Two findings; `authorities` in PEM are trusted instead of this system's, unless there are none."""
    host, base = str(values["PUBLIC_URL"].host), derived.base_url(values)
    if not derived.is_address(host):
        addresses = _addresses(host)
        if not addresses:
            yield Finding("public-name", Level.FAIL, f"{host} does not resolve here", "make a DNS record for it")
            return
        yield Finding("public-name", Level.OK, f"{host} is {', '.join(addresses)}")
    yield _answer(host, base, _context(authorities) if base.startswith("https") else None)


def _addresses(host: str) -> list[str]:
    """What a name resolves to; nothing after a while, as the resolver's own patience is long."""
    found: list[str] = []

    def resolve() -> None:
        try:
            rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend(dict.fromkeys(str(row[4][0]) for row in rows))

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return list(found)


def _context(authorities: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authorities.decode(errors="replace") or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # browsers do not insist on it, and old private authorities fail it
    return context


def _answer(host: str, base: str, context: ssl.SSLContext | None) -> Finding:
    """What answers at the public address; it is this stack when it leads to the web client."""
    netloc = base.partition("://")[2]
    port = netloc.rpartition(":")[2] if netloc.rpartition("]")[2].count(":") else ""
    number = int(port) if port else (443 if context else 80)
    connection: http.client.HTTPConnection = (
        http.client.HTTPSConnection(host, number, timeout=_PATIENCE, context=context)
        if context
        else http.client.HTTPConnection(host, number, timeout=_PATIENCE)
    )
    start = "is the stack up? docker compose ps, docker compose logs nginx"
    try:
        connection.request("GET", "/", headers={"Host": netloc, "User-Agent": "avatar-setup"})
        answer = connection.getresponse()
        location = answer.headers.get("Location", "")
    except ssl.SSLCertVerificationError as error:
        text = f"what answers at {base} shows a certificate that is not accepted here: {error.verify_message}"
        return Finding(
            "public-answer", Level.FAIL, text, "is it the one that --check reads, and was nginx started since?"
        )
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Finding("public-answer", Level.FAIL, f"nothing answers at {base}: {reason.lower()}", start)
    finally:
        connection.close()
    if location.endswith("/web"):
        return Finding("public-answer", Level.OK, f"{base} answers and leads to the web client")
    return Finding(
        "public-answer", Level.WARN, f"{base} answers {answer.status}, which is not this stack's answer", start
    )
