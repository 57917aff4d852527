"""Parse host names, addresses, URLs and e-mail addresses, and re-serialise them from their parts.

Every parser returns the canonical form or raises ValueError with the reason.
"""

from __future__ import annotations

import re

from setup.typed import NamedTuple


class PublicUrl(NamedTuple):
    """Hold the address people type: scheme ("" when none was given), host, port (None when none was given)."""

    scheme: str
    host: str
    port: int | None


def netloc(host: str, port: int | None) -> str:
    """Join `host[:port]`, with an IPv6 literal in brackets."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def short(text: str) -> str:
    """Quote a text for a message, on one line and cut to its length."""
    shown = repr(text)
    return shown if len(shown) <= 70 else f"{shown[:66]}...'"


def without_credentials(text: str) -> str:
    """Return an address for a message, without a password before an @ or a token behind a ?."""
    before, at, after = text.rpartition("@")
    shown, question, _ = (f"***@{after}" if at else before + after).partition("?")
    return f"{shown}?***" if question else shown


_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")  # a name that ends so is an IPv4 address to a browser


def _ip(text: str) -> str | None:
    """Return the canonical IP address, or None if the text is not meant as one."""
    if ":" not in text and not _NUMERIC.fullmatch(text.rpartition(".")[2]):
        return None
    import ipaddress

    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{short(text)} is not a valid IP address") from None
    if getattr(address, "scope_id", None):
        raise ValueError("an IPv6 address with a zone cannot be reached from elsewhere")
    return str(address)


_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"


def _ascii(text: str) -> str:
    """Return an international host name as A-labels, and any other text unchanged."""
    if text.isascii():
        return text
    import idna  # IDNA 2008, as browsers do it; the standard library's codec is IDNA 2003

    try:
        if len(text) > 253:
            raise idna.IDNAError("too long")
        return idna.encode(text, uts46=True).decode()
    except UnicodeError as error:
        reason = str(error)[:100]
        raise ValueError(f"{short(text)} is not a valid international host name ({reason})") from None


def _name(text: str) -> str:
    """Return a host name in lower case."""
    name = text.lower()
    if name.endswith(".") and len(name) > 1:
        raise ValueError(f"{short(text)} is a host name that ends with a dot: remove the dot")
    if not name or len(name) > 253 or not all(re.fullmatch(_LABEL, label) for label in name.split(".")):
        raise ValueError(f"{short(text)} is not a valid host name")
    return name


def host(text: str) -> str:
    text = text.strip()
    if "@" in text:
        raise ValueError("it must not contain a user name or password")
    if any(char in text for char in "/?#") or (text.count(":") == 1 and not text.startswith("[")):
        raise ValueError("it must be only the host name or IP address, without scheme, port or path")
    if text.startswith("[") and text.endswith("]") and ":" in text:
        text = text[1:-1]
    text = _ascii(text)
    return _ip(text) or _name(text)


def address(text: str) -> str:
    """Parse an IP address; one in brackets is IPv6."""
    text = text.strip()
    found = _ip(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    if found is None:
        raise ValueError(f"{short(text)} is not an IP address: give one, as in 127.0.0.1")
    return found


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise ValueError("its port must be a whole number from 1 to 65535")
    return int(text)


def _split_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise ValueError("an IPv6 address is written in brackets, as in [2001:db8::1]:8443")
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
    """Parse an http(s) URL with a path."""
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or scheme.lower() not in ("http", "https"):
        raise ValueError("it must be a URL that begins with https:// or http://")
    if "@" in authority:
        raise ValueError("it must not contain a user name or password")
    if not re.fullmatch(r"[A-Za-z0-9._~/%:@!*+,=-]*", path):
        raise ValueError("its path contains a character that is not allowed here")
    name, port = _split_port(authority)
    return f"{scheme.lower()}://{netloc(host(name), port)}{slash}{path}"


def switchable_url(text: str) -> str:
    try:
        return "disabled" if text.strip().lower() == "disabled" else http_url(text)
    except ValueError as error:
        raise ValueError(f"{error}; or the word disabled") from None


_LOCAL_PART = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"


def email(text: str) -> str:
    text = text.strip()
    local, _, domain = text.rpartition("@")
    if not domain or len(local) > 64 or not re.fullmatch(_LOCAL_PART, local):
        raise ValueError(f"{short(text)} is not an e-mail address")
    try:
        if domain.startswith("[") and domain.endswith("]"):
            return f"{local}@[{_literal(domain[1:-1])}]"
        name = host(domain)
    except ValueError as error:
        raise ValueError(f"{short(text)} is not an e-mail address: {error}") from None
    if _ip(name):
        raise ValueError(f"{short(text)} is not an e-mail address: an IP address is written in brackets there")
    return f"{local}@{name}"


def _literal(text: str) -> str:
    address = _ip(text)
    if address is None:
        raise ValueError("only an IP address is written in brackets")
    return address


def netloc_text(text: str) -> str:
    if "@" in text:
        raise ValueError("it must not contain a user name or password")
    name, port = _split_port(text.strip())
    return netloc(host(name), port)


def network(text: str) -> str:
    import ipaddress

    try:
        if "%" in text:
            raise ValueError("a zone is valid on one machine only")
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError("each must be an IP address or network, as in 10.0.0.0/8") from None
