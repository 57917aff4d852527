"""Parse values: each kind takes the text that an operator typed, or says what it expects instead."""

from __future__ import annotations

import re
from collections.abc import Callable

from setup.config import hosts
from setup.config.hosts import short
from setup.typed import Any, NamedTuple


class Kind(NamedTuple):
    """Declare a kind of value; `parse` returns the typed value or raises ValueError with the reason."""

    name: str
    expects: str
    parse: Callable[[str], Any]
    choices: tuple[str, ...] = ()
    pattern: str = ""
    multiple: bool = False
    is_number: bool = False


def show(value: object) -> str:
    """Return the canonical text of a value: `parse(show(value)) == value` for every kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, hosts.PublicUrl):
        scheme = f"{value.scheme}://" if value.scheme else ""
        return scheme + hosts.netloc(value.host, value.port)
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def _matching(pattern: str, reason: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        text = text.strip()
        if not re.fullmatch(pattern, text):  # compiled at its first use, so that a start does not pay for all
            raise ValueError(reason)
        return text

    return parse


def _patterned(name: str, expects: str, pattern: str) -> Kind:
    return Kind(name, expects, _matching(pattern, f"it must be {expects}"), pattern=f"^(?:{pattern})$")


def choice(*choices: str) -> Kind:
    """Make a kind that takes one of a few words, in any case."""
    expects = "one of " + ", ".join(choices)
    by_fold = {word.casefold(): word for word in choices}

    def parse(text: str) -> str:
        word = by_fold.get(text.strip().casefold())
        if word is None:
            raise ValueError(f"it must be {expects}")
        return word

    return Kind("choice", expects, parse, choices)


def whole_number(name: str, low: int, high: int) -> Kind:
    """Make a kind that takes a whole number from `low` to `high`."""
    expects = f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        text = text.strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and low <= int(text) <= high):
            raise ValueError(f"it must be {expects}")
        return int(text)

    return Kind(name, expects, parse, is_number=True)


def _boolean(text: str) -> bool:
    word = text.strip().casefold()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ValueError("it must be true or false")


_BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # letters and marks that show nothing


def _text(text: str) -> str:
    for char in text:
        code = ord(char)
        if code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000 or code in (0x2028, 0x2029):
            raise ValueError(f"it must not contain control characters (found U+{code:04X})")
    if not text.isascii():
        import unicodedata  # few texts need it

        for char in text:
            if unicodedata.category(char) == "Cf" or char in _BLANKS:  # of no width, or for the direction of the text
                raise ValueError(f"it must not contain invisible characters (found U+{ord(char):04X}): type it again")
    if not text.strip():
        raise ValueError("it must not be blank" if text else "it must not be empty")
    if len(text) > 4096:
        raise ValueError("it must not be longer than 4096 characters")
    return text


def _server(text: str) -> str:
    """Parse the host of a server that Authentik connects to: it parses its environment as JSON."""
    name = hosts.host(text)
    if re.fullmatch(r"true|false|null|[0-9]+(?:\.[0-9]+)?e-?[0-9]+", name):
        raise ValueError(f"Authentik would not read {name!r} as a name: give the whole one, as in {name}.example.com")
    return name


def _unlike_an_address(text: str) -> str:
    """Parse a text that Authentik finds in its environment, where a broken URL would keep it from starting."""
    text = _text(text)
    if re.match(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//", text) and (set("[]") & set(text) or not text.isascii()):
        raise ValueError("it must not be a broken URL, at which Authentik does not start")
    return text


def _list_of(parse: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def parse_list(text: str) -> tuple[str, ...]:
        entries = re.split(r",?[ \t]*\r?\n|,", text.strip().removesuffix(","))
        values = []
        for entry in entries:
            try:
                values.append(parse(entry))
            except ValueError as error:
                several = len(entries) > 1 or re.search(r"[;|\s]", entry.strip())
                shown = short(hosts.without_credentials(entry.strip()))
                named = "" if shown in str(error) or short(entry.strip()) in str(error) else f"{shown}: "
                raise ValueError(f"{named}{error}{': separate several with commas' if several else ''}") from None
        return tuple(dict.fromkeys(values))

    return parse_list


def _unpadded_text(text: str) -> str:
    """Parse a text that must not begin or end with a blank."""
    text = _text(text)
    if text != text.strip():
        raise ValueError("it must not begin or end with a blank")
    return text


def _host_path(text: str) -> str:
    """Parse the path of a file on the Docker host, absolute or below the deployment's directory."""
    text = _text(text)
    if text.startswith(("~", "$", "%")) or re.search(r"`|\$[({]|/\$[A-Z]", text):
        raise ValueError("it must be the whole path: nothing replaces ~ and variables here")
    if "://" in text or re.match(r"[A-Za-z]:[\\/]", text) or "\\" in text:
        raise ValueError("it must be a path of the Docker host, as in /etc/ssl/avatar.pem")
    if text.endswith((":ro", ":rw", ":z", ":Z")):
        raise ValueError(f"it must be only the path, without {text[text.rindex(':') :]}")
    text = _unpadded_text(text)
    if text.rpartition("/")[2] in ("", ".", ".."):
        raise ValueError("it must name a file")
    return text if text.startswith(("/", "./", "../")) else f"./{text}"


_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REGISTRY = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_REPOSITORY = rf"(?:{_REGISTRY}/)?{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

TEXT = Kind("text", "plain text without control characters", _text)
UNLIKE_AN_ADDRESS = Kind("text", "text without control characters, no broken URL such as x://[y", _unlike_an_address)
# Authentik reads these from files, and drops what surrounds the text: it would sign in with another name or password.
UNPADDED_TEXT = Kind("text", "plain text without control characters, and without blanks at its ends", _unpadded_text)
BOOLEAN = Kind("boolean", "true or false", _boolean, ("true", "false"))
PORT = whole_number("port", 1, 65535)
REPLICAS = whole_number("number", 1, 100)
MEMORY = _patterned("memory", "a number and m or g, as in 512m or 8g", r"[1-9][0-9]{0,5}[mg]")
CPUS = _patterned(
    "processors", "a number of processors, as in 2 or 0.5", r"(?!0+(?:\.0*)?$)[0-9]{1,3}(?:\.[0-9]{1,2})?"
)
QUANTITY = _patterned("size", "a number and Mi, Gi or Ti, as in 20Gi", r"[1-9][0-9]{0,5}[MGT]i")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
LABEL = _patterned("name", "lower-case letters, digits and dashes, at most 63, no dash at either end", _LABEL)
OBJECT = _patterned("name", "lower-case letters, digits, dots and dashes, no dash at either end of a part",
                    rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")  # fmt: skip
HOST = Kind("host", "a host name or an IP address", hosts.host)
ADDRESS = Kind("address", "an IP address", hosts.address)
SERVER = HOST._replace(parse=_server)
HOSTS = Kind("hosts", "host names or IP addresses, separated by commas", _list_of(hosts.host), multiple=True)
NETLOC = Kind("host:port", "a host, or host:port", hosts.netloc_text)
PUBLIC_URL = Kind("public URL", "a host, host:port, or an http(s) URL without a path", hosts.public_url)
HTTP_URL = Kind("URL", "an http(s) URL", hosts.http_url)
SWITCHABLE_URL = Kind("URL or disabled", "an http(s) URL, or the word disabled", hosts.switchable_url)
EMAIL = Kind("e-mail address", "an e-mail address", hosts.email)
EMAILS = Kind("e-mail addresses", "e-mail addresses, separated by commas", _list_of(hosts.email), multiple=True)
NETWORKS = Kind("networks", "IP addresses or networks, separated by commas", _list_of(hosts.network), multiple=True)
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
# initdb fails on other names, and the database would restart for ever; so does CREATE EXTENSION.
ADMIN_ROLE = _patterned("role", "a role name without blanks, quotes, $, \\, -- and comment marks, up to 63 long, "
                        "not beginning with pg_",
                        r"(?!pg_)(?!.*(?:--|/\*|\*/))[!#%&(-\[\]-~]{1,63}")  # fmt: skip
# weed's shell splits what it reads and knows no quoting.
STORAGE_KEY = _patterned("storage key", "letters, digits and / + = _ . -, not beginning with a dash",
                         r"[A-Za-z0-9/+=_.][A-Za-z0-9/+=_.-]*")  # fmt: skip
HEX_KEY = _patterned("hex key", "64 hexadecimal digits (32 bytes)", r"[0-9a-fA-F]{64}")
FERNET_KEY = _patterned("Fernet key", "32 bytes as 44 characters of URL-safe base64", r"[A-Za-z0-9_-]{43}=")
LOG_LEVEL = choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
