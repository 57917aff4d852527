"""`.env` as Compose reads it: quotes, escapes, comments, `export`, and what keys above it hold; pure.

What the file alone does not tell, such as a variable of the shell that runs Compose, is named instead of guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from setup.formats.yaml_file import Malformed, decode
from setup.typed import NamedTuple

# The last line of our `.env`; what stands below it is the operator's.
MARKER = b"# --- Yours: avatar-setup keeps everything below this line as it is. ---\n"

# What Compose calls a space, within a line and at the end of a value.
_BLANKS = " \t\v\f\r\x85\xa0"
_SPACES = (
    _BLANKS + "\n\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_KEY = rf"(?:export[ \t]+)?+([\w.\-\[\]]+)[{_BLANKS}]*(?:[=:][{_BLANKS}]*|(?=\n|$))"
_REST_OF_LINE = rf"[{_SPACES.replace(chr(10), '')}]*(?:#[^\n]*)?(?:\n|$)"
_ESCAPE = r'\\([abcfnrtv$"\\]|0\d{0,3})'
_ESCAPES = {"a": "\a", "b": "\b", "c": "\\c", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "$": "$$"}
_NAME = "[_a-z][_a-z0-9]*"
_WORD = r"[^{}$]"
for _ in range(3):  # a default may hold another variable with a default, and so on
    _WORD = rf"(?:[^{{}}$]|\$\{{{_NAME}(?::?[-+?]{_WORD}*)?\}}|\$(?!\{{))"
_VARIABLE = rf"\$(?:(\$)|({_NAME})|\{{({_NAME})(?:(:?[-+?])({_WORD}*))?\}}|(\{{))"


class Env(NamedTuple):
    """The value of every key, and why it cannot be told of those of which it cannot."""

    values: dict[str, str]
    unsure: dict[str, str]


class Statement(NamedTuple):
    """One key with its text as it is in the file, or with the key "" the text between two."""

    key: str
    text: str


LARGEST = 1024 * 1024  # what all values together may come to


class Unsure(Exception):
    """A value that depends on more than is known."""


def parse(data: bytes) -> Env:
    """Return what Compose reads from these bytes, in a shell that sets none of these keys.

    Raises Malformed, naming the line and never its text, for a file that Compose would refuse or misread.
    """
    text = decode(data)
    if "\0" in text:
        raise _malformed(text, text.index("\0"), "it holds a NUL character")
    env, at, size = Env({}, {}), 0, 0
    while (at := _next_statement(text, at)) < len(text):
        head = re.compile(_KEY).match(text, at)
        if not head:
            raise _malformed(text, at, "it is not KEY=VALUE")
        try:
            value, at = _value(text, head, env)
        except Unsure as reason:
            env.values.pop(head[1], None)
            env.unsure[head[1]], at = str(reason), _end_of_value(text, head)
        else:
            size += len(value)
            if size > LARGEST:
                raise _malformed(text, at, "its values come to more than 1 MiB")
            env.values[head[1]] = value
            env.unsure.pop(head[1], None)
    return env


def statements(data: bytes) -> list[Statement]:
    """Yield the whole file piece by piece; raise Malformed like `parse`."""
    text, found, at = decode(data), [], 0
    while at < len(text):
        start = _next_statement(text, at)
        if start > at:
            found.append(Statement("", text[at:start]))
        if start == len(text):
            break
        head = re.compile(_KEY).match(text, start)
        if not head:
            raise _malformed(text, start, "it is not KEY=VALUE")
        at = _end_of_value(text, head)
        if text[at - 1] != "\n" and text[at : at + 1] == "\n":
            at += 1
        found.append(Statement(head[1], text[start:at]))
    return found


def split_additions(data: bytes) -> tuple[bytes, bytes]:
    """Split our `.env` into what avatar-setup writes and the operator's additions below its last line."""
    if data.endswith(MARKER[:-1]):  # an editor removed the last newline
        return data + b"\n", b""
    ours, marker, additions = data.partition(b"\n" + MARKER)
    return ours + marker, additions


def has_additions(data: bytes) -> bool:
    """Tell whether the operator has lines of their own in our `.env`."""
    return bool(split_additions(data)[1].strip())


def outranked(data: bytes) -> list[str]:
    """List our keys that the operator's additions give another value; raise Malformed like `parse`."""
    ours, additions = split_additions(data)
    if not additions.strip():
        return []
    before, after = parse(ours).values, parse(data).values
    return [key for key in before if after.get(key) != before[key]]


def _next_statement(text: str, at: int) -> int:
    """Return the start of the next line that is neither blank nor a comment."""
    while at < len(text):
        if text[at] == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif text[at] in _SPACES:
            at += 1
        else:
            break
    return at


def _value(text: str, head: re.Match[str], env: Env) -> tuple[str, int]:
    """Return the value after a key, and where it ends; raise Unsure."""
    if not head[0].rstrip(_BLANKS).endswith(("=", ":")):
        raise Unsure("it has no value, so Compose takes that from the shell")
    end = _end_of_value(text, head)
    quote = text[head.end() : head.end() + 1]
    if quote not in ('"', "'") or not quote:
        return expanded(text[head.end() : end].partition(" #")[0].rstrip(_SPACES), env.values), end
    if "\r" in text[head.end() : end].rstrip(_SPACES):
        raise Unsure("it holds a carriage return, which releases of Compose read differently")
    inside = _unescaped_quotes(text[head.end() + 1 : _closing(text, head.end())], quote)
    return (expanded(_unescaped(inside), env.values) if quote == '"' else inside), end


def _end_of_value(text: str, head: re.Match[str]) -> int:
    start = head.end()
    if text[start : start + 1] not in ('"', "'"):
        end = text.find("\n", start)
        return len(text) if end < 0 else end
    rest = re.compile(_REST_OF_LINE).match(text, _closing(text, start) + 1)
    if not rest:
        raise _malformed(text, start, "something follows the closing quote")
    return rest.end()


def _closing(text: str, start: int) -> int:
    """Return where the quote that opens at `start` is closed."""
    at = start + 1
    while at < len(text) and text[at] != text[start]:
        at += 2 if text[at] == "\\" else 1
    if at >= len(text):
        raise _malformed(text, start, "a quote is not closed")
    return at


def _unescaped_quotes(text: str, quote: str) -> str:
    return re.sub(r"\\(.)", lambda found: quote if found[1] == quote else found[0], text, flags=re.DOTALL)


def _unescaped(text: str) -> str:
    """Escapes of double quotes as characters, and an escaped `$` as the `$$` that is not expanded."""

    def character(found: re.Match[str]) -> str:
        if found[1].startswith("0"):
            raise Unsure("it holds an octal escape")
        return _ESCAPES.get(found[1], found[1])

    return re.sub(_ESCAPE, character, text)


def expanded(text: str, values: Mapping[str, str], *, all_there_is: bool = False) -> str:
    """Replace the variables in a text by these values; raise Unsure.

    A name that is not among them may have its value from elsewhere, unless they are all there is.
    """
    if "$" not in text:
        return text
    size = 0

    def replaced(found: re.Match[str]) -> str:
        nonlocal size
        escaped, bare, braced, operator, word, other = found.groups()
        if escaped:
            return "$"
        if other:
            raise Unsure("it uses a form of ${...} that avatar-setup does not read")
        name = bare or braced
        if name not in values and not all_there_is:
            raise Unsure(f"it uses {name}, which no line above sets")
        if "$" in (word or "") and not all_there_is:
            raise Unsure("it uses a form of ${...} that avatar-setup does not read")
        value = _looked_up(name, operator or "", word or "", values.get(name))
        if "$" in (word or "") and value == word:
            value = expanded(word, values, all_there_is=True)
        size += len(value)
        if size > LARGEST:
            raise Unsure("it comes to more than 1 MiB")
        return value

    return re.sub(_VARIABLE, replaced, text, flags=re.IGNORECASE)


def _looked_up(name: str, operator: str, word: str, value: str | None) -> str:
    """`${name operator word}` for a name with this value; None when it is not set."""
    counts = bool(value) if operator.startswith(":") else value is not None
    if operator.endswith("+"):
        return word if counts else ""
    if operator.endswith("?") and not counts:
        raise Unsure(f"it requires {name}, which has no value")
    return value or "" if counts or not operator else word


def _malformed(text: str, at: int, reason: str) -> Malformed:
    number = text.count("\n", 0, at) + 1
    return Malformed(f"line {number}: {reason} (Compose would refuse or misread it)")
