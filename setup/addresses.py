"""Host names, addresses, URLs and e-mail addresses: parsed, and re-serialised from their parts.

Every parser gives the canonical form or raises ValueError with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """The address people type: scheme ("" when none was given), host, port (None when none was given)."""

    scheme: str
    host: str
    port: int | None


def netloc(host: str, port: int | None) -> str:
    """`host[:port]`, an IPv6 literal in brackets."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _ip(text: str) -> str | None:
    """The canonical IP address, or None when the text is not meant as one."""
    last = text.rpartition(".")[2]
    if ":" not in text and not last.isdigit():
        return None
    import ipaddress

    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a valid IP address") from None
    if getattr(address, "scope_id", None):
        raise ValueError("an IPv6 address with a zone cannot be reached from elsewhere")
    return str(address)


_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


def _name(text: str) -> str:
    """A host name as A-labels, in lower case."""
    if not text.isascii():
        import idna  # IDNA 2008, as browsers do it; the standard library's codec is IDNA 2003

        try:
            text = idna.encode(text, uts46=True).decode()
        except idna.IDNAError as error:
            raise ValueError(f"{text!r} is not a valid international host name ({error})") from None
    text = text.lower()
    if not text or len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError(f"{text!r} is not a valid host name")
    return text


def host(text: str) -> str:
    text = text.strip()
    if text.startswith("[") and text.endswith("]") and ":" in text:
        text = text[1:-1]
    return _ip(text) or _name(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise ValueError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _split_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise ValueError("an IPv6 address stands in brackets, as in [2001:db8::1]:8443")
        return host, _port(rest[1:]) if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, _port(port) if colon else None


def public_url(text: str) -> PublicUrl:
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    scheme = scheme.lower()
    if separator and scheme not in ("http", "https"):
        raise ValueError("the scheme must be https or http")
    if "@" in rest:
        raise ValueError("it must not contain a user name or password")
    rest = rest.removesuffix("/")
    if any(char in rest for char in "/?#\\"):
        raise ValueError("it must not contain a path, a query or a fragment: give only the host")
    name, port = _split_port(rest)
    public = host(name)
    if "_" in public:
        raise ValueError("a public host name must not contain an underscore")
    return PublicUrl(scheme, public, port)


def http_url(text: str) -> str:
    """An http(s) URL with a path, its parts re-serialised."""
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or scheme.lower() not in ("http", "https"):
        raise ValueError("it must be a URL that begins with https:// or http://")
    if "@" in authority:
        raise ValueError("it must not contain a user name or password")
    if not re.fullmatch(r"[A-Za-z0-9._~/%:@!*+,=-]*", path):
        raise ValueError("its path holds a character that a URL path of this kind does not take")
    name, port = _split_port(authority)
    return f"{scheme.lower()}://{netloc(host(name), port)}{slash}{path}"


def switchable_url(text: str) -> str:
    return "disabled" if text.strip().lower() == "disabled" else http_url(text)


_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def email(text: str) -> str:
    text = text.strip()
    local, at, domain = text.rpartition("@")
    if not at or len(local) > 64 or not _LOCAL_PART.fullmatch(local):
        raise ValueError(f"{text!r} is not an e-mail address")
    if domain.startswith("[") and domain.endswith("]"):
        return f"{local}@[{host(domain[1:-1])}]"
    if _ip(domain):
        raise ValueError(f"{text!r} is not an e-mail address: an IP address stands in brackets there")
    return f"{local}@{_name(domain)}"


def netloc_text(text: str) -> str:
    name, port = _split_port(text.strip())
    return netloc(host(name), port)


def network(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not an IP address or network, as in 10.0.0.0/8") from None
