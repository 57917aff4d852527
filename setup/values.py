"""The kinds of value: each parses the text an operator typed, or says what it expected instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: `parse` gives the typed value or raises ValueError with the reason."""

    name: str
    expects: str
    parse: Callable[[str], Any]
    choices: tuple[str, ...] = ()
    pattern: str = ""
    multiple: bool = False


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """The address people type: scheme ("" when none was given), host, port (None when none was given)."""

    scheme: str
    host: str
    port: int | None


def show(value: object) -> str:
    """The canonical text of a value: `parse(show(value)) == value` for every kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, PublicUrl):
        scheme = f"{value.scheme}://" if value.scheme else ""
        return scheme + netloc(value.host, value.port)
    return str(value)


def netloc(host: str, port: int | None) -> str:
    """`host[:port]`, an IPv6 literal in brackets."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _matching(pattern: str, reason: str) -> Callable[[str], str]:
    compiled: list[re.Pattern[str]] = []  # compiled at the first use: a start costs fewer milliseconds

    def parse(text: str) -> str:
        text = text.strip()
        if not compiled:
            compiled.append(re.compile(pattern))
        if not compiled[0].fullmatch(text):
            raise ValueError(reason)
        return text

    return parse


def _patterned(name: str, expects: str, pattern: str) -> Kind:
    return Kind(name, expects, _matching(pattern, f"it must be {expects}"), pattern=f"^(?:{pattern})$")


def choice(*choices: str) -> Kind:
    """One of a few words, in any case."""
    expects = "one of " + ", ".join(choices)
    by_fold = {word.casefold(): word for word in choices}

    def parse(text: str) -> str:
        word = by_fold.get(text.strip().casefold())
        if word is None:
            raise ValueError(f"it must be {expects}")
        return word

    return Kind("choice", expects, parse, choices)


def whole_number(name: str, low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""
    expects = f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        text = text.strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and low <= int(text) <= high):
            raise ValueError(f"it must be {expects}")
        return int(text)

    return Kind(name, expects, parse)


def _boolean(text: str) -> bool:
    word = text.strip().casefold()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ValueError("it must be true or false")


def _text(text: str) -> str:
    for char in text:
        code = ord(char)
        if code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000 or code in (0x2028, 0x2029):
            raise ValueError(f"it must not contain control characters (found U+{code:04X})")
    if not text:
        raise ValueError("it must not be empty")
    if len(text) > 4096:
        raise ValueError("it must not be longer than 4096 characters")
    return text


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


def _host(text: str) -> str:
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


def _public_url(text: str) -> PublicUrl:
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
        raise ValueError("it must not contain a path, a query or a fragment: give only the host, as in avatar.example.com")
    name, port = _split_port(rest)
    host = _host(name)
    if "_" in host:
        raise ValueError("a public host name must not contain an underscore")
    return PublicUrl(scheme, host, port)


def _http_url(text: str) -> str:
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
    return f"{scheme.lower()}://{netloc(_host(name), port)}{slash}{path}"


def _switchable_url(text: str) -> str:
    return "disabled" if text.strip().lower() == "disabled" else _http_url(text)


_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def _email(text: str) -> str:
    text = text.strip()
    local, at, domain = text.rpartition("@")
    if not at or len(local) > 64 or not _LOCAL_PART.fullmatch(local):
        raise ValueError(f"{text!r} is not an e-mail address")
    if domain.startswith("[") and domain.endswith("]"):
        return f"{local}@[{_host(domain[1:-1])}]"
    if _ip(domain):
        raise ValueError(f"{text!r} is not an e-mail address: an IP address stands in brackets there")
    return f"{local}@{_name(domain)}"


def _list_of(parse: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def parse_list(text: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(parse(part) for part in text.split(",")))

    return parse_list


def _network(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not an IP address or network, as in 10.0.0.0/8") from None


def _host_path(text: str) -> str:
    """A path on the Docker host, absolute or below the deployment's directory."""
    text = _text(text)
    if text.startswith("~"):
        raise ValueError("it must not begin with ~: give the whole path")
    return text if text.startswith(("/", "./", "../")) else f"./{text}"


def _netloc_text(text: str) -> str:
    name, port = _split_port(text.strip())
    return netloc(_host(name), port)


_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REGISTRY = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_REPOSITORY = rf"(?:{_REGISTRY}/)?{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

TEXT = Kind("text", "plain text without control characters", _text)
BOOLEAN = Kind("boolean", "true or false", _boolean, ("true", "false"))
PORT = whole_number("port", 1, 65535)
HOST = Kind("host", "a host name or an IP address", _host)
HOSTS = Kind("hosts", "host names or IP addresses, separated by commas", _list_of(_host), multiple=True)
NETLOC = Kind("host:port", "a host, or host:port", _netloc_text)
PUBLIC_URL = Kind("public URL", "a host, host:port, or an http(s) URL without a path", _public_url)
HTTP_URL = Kind("URL", "an http(s) URL", _http_url)
SWITCHABLE_URL = Kind("URL or disabled", "an http(s) URL, or the word disabled", _switchable_url)
EMAIL = Kind("e-mail address", "an e-mail address", _email)
EMAILS = Kind("e-mail addresses", "e-mail addresses, separated by commas", _list_of(_email), multiple=True)
NETWORKS = Kind("networks", "IP addresses or networks, separated by commas", _list_of(_network), multiple=True)
HOST_PATH = Kind("path", "a path on the Docker host", _host_path)
VERSION = _patterned("image version", "a valid image tag, as in 3.20.1", _TAG)
IMAGE = _patterned("image", "an image reference, as in nginx:1.31.0",
                   rf"{_REPOSITORY}(?::{_TAG})?(?:@sha256:[0-9a-f]{{64}})?")  # fmt: skip
REPOSITORY = _patterned("image prefix", "a registry and path, as in quay.io/octopize", _REPOSITORY)
NAME = _patterned("name", "letters, digits, dot, dash and underscore, beginning with a letter or digit",
                  r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")  # fmt: skip
DURATION = _patterned("duration", "a number and d, w or h, as in 30d, 2w or 12h", r"[1-9][0-9]{0,4}[dwh]")
STORAGE_PATH = _patterned("storage path", "an s3:// path, where the API fills in {user_id} and {expire_days}",
                          r"s3://[A-Za-z0-9_.{}/-]+")  # fmt: skip
HEX_KEY = _patterned("hex key", "64 hexadecimal digits (32 bytes)", r"[0-9a-fA-F]{64}")
FERNET_KEY = _patterned("Fernet key", "32 bytes as 44 characters of URL-safe base64", r"[A-Za-z0-9_-]{43}=")
LOG_LEVEL = choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
