"""One quoting function for each program that reads a generated file: Compose's `.env`, YAML, nginx, Swarm."""

from __future__ import annotations

import re

_ENV_BARE = r"[A-Za-z0-9_./:@%+,-]+"
_YAML_PLAIN = r"[ !#%-\[\]-~]*"  # what stands for itself in double quotes
_COMPOSE_PLAIN = r"[\w/.$-][\w/.${}:=-]*"
_NOT_COMPOSE = r"\$(?!\{[A-Z][A-Z0-9_]*\})"  # any $ but that of `${KEY}`
_NGINX_BARE = r"[A-Za-z0-9_./:@%+,*\[\]-]+"
_NGINX_LONGEST = 2000  # a parameter, backslashes doubled, fits nginx's buffer of 4096 bytes
_ENV_ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Unfit(ValueError):
    """A value that a format cannot carry; unlike a template's own ValueError the text never holds the value."""


def _is_control(char: str) -> bool:
    return ord(char) < 32 or ord(char) == 127


def quote_env(value: object) -> str:
    r"""Quote a value so that Compose reads it back from `.env`: bare, in single quotes, or escaped in double quotes.

    Raises Unfit for what no quoting carries: control characters other than LF, CR and TAB.
    """
    text = as_text(value)
    if not text or re.fullmatch(_ENV_BARE, text):
        return text
    if not any(char in "'\\" or _is_control(char) for char in text):
        return f"'{text}'"
    if any(_is_control(char) and char not in "\n\r\t" for char in text):
        raise Unfit("it holds a control character that an .env file cannot carry")
    return '"' + "".join(_ENV_ESCAPES.get(char, char) for char in text) + '"'


def quote_yaml(value: object) -> str:
    """Quote a value as a YAML scalar whose `$` Compose does not take for a variable.

    Raises Unfit for NUL: YAML could write it, but no process can be handed it.
    """
    text = as_text(value)
    if re.fullmatch(_YAML_PLAIN, text):  # as nearly all are
        return f'"{text}"'
    if "\0" in text:
        raise Unfit("it holds a NUL character, which no container can be given")
    return '"' + "".join(_yaml_char(char) for char in text) + '"'


def quote_plain(value: object) -> str:
    """Spell a text of the services' table for the compose file: bare, unless YAML would read that as something else.

    It may hold `${KEY}`, which Compose replaces. Raises Unfit for what is not plain, as no text of the table is.
    """
    text = as_text(value)
    if not re.fullmatch(_COMPOSE_PLAIN, text):
        raise Unfit("a text of the services' table is not plain")
    return f'"{text}"' if isinstance(value, str) and (text.isdigit() or text in ("true", "false")) else text


def quote_block(script: str, indent: int) -> str:
    """Indent a script for a block of the compose file, whose own `$` Compose leaves alone; `${KEY}` it replaces."""
    lines = re.sub(_NOT_COMPOSE, "$$", script.rstrip("\n")).split("\n")
    return "\n".join(" " * indent + line if line else line for line in lines)


def _yaml_char(char: str) -> str:
    code = ord(char)
    if char in '"\\':
        return "\\" + char
    if char == "$":
        return "$$"
    if 32 <= code < 127 or (code >= 0xA0 and code not in (0x2028, 0x2029, 0xFEFF) and code < 0xFFFE) or code > 0xFFFF:
        return char
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def quote_nginx(value: object) -> str:
    """Quote one nginx parameter; raises Unfit for `$` and control characters, which nginx cannot escape."""
    text = as_text(value)
    if any(char == "$" or _is_control(char) for char in text):
        raise Unfit("it holds a character that an nginx configuration cannot carry")
    if len(text.encode()) > _NGINX_LONGEST:
        raise Unfit("it is longer than nginx takes")
    if re.fullmatch(_NGINX_BARE, text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def quote_template(text: str) -> str:
    """Spell a text as a template from which Swarm's engine reads the same text; none is empty, because Docker's client
    would take that from a variable of its shell.
    """
    return text.replace("{{", '{{"{{"}}') or '{{""}}'


def as_text(value: object) -> str:
    """Return a value as text that a template may show: booleans in YAML's spelling, never a container by accident."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        str(value)  # a name that nobody defined says here which one it is
        raise TypeError(f"a template shows a {type(value).__name__}, not a text")
    if not value.isascii() and any(0xD800 <= ord(char) < 0xE000 for char in value):
        raise Unfit("it is not valid Unicode text")
    return value
