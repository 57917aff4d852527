"""The plain part of YAML that our own files need: nested KEY: VALUE lines, and lists of texts.

Most runs meet nothing else, and to import PyYAML takes a fifth of a run that changes nothing.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from setup.formats.quoting import quote_text

_TEXT = r"""(?:[\w./](?:[\w./:@%+-]*[\w./@%+-])?|"[ !#-\[\]-~]*"|'[ -&(-~]*')"""
_LINE = rf"( *)(?:#[ -~]*|- ({_TEXT})|([A-Za-z_.][\w./-]{{0,99}}):(?: ({_TEXT}|\[\]|\{{\}}))?)?"
_DEEPEST = 8
_BARE_KEY = r"[A-Za-z_.][A-Za-z0-9_./-]*"
_BARE_TEXT = r"[A-Za-z_/][A-Za-z_./-]*"  # without digits, so that random hashes look alike
_NOT_TEXT = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")  # to one reader of YAML or another


def read_plain(text: str) -> dict[str, Any] | None:
    """Return a document as PyYAML would; None for an empty one, and for all that is not plain, be it right or wrong."""
    levels: list[tuple[int, dict[str, Any]]] = [(0, {})]  # indentation and mapping, outermost first
    items: tuple[int, list[Any]] = (-1, [])  # the same of a list, while its lines go on
    heading = ""  # the last key, while its value may follow below
    for match in map(re.compile(_LINE, re.ASCII).fullmatch, text.removesuffix("\n...\n").split("\n")):
        if match is None:
            return None
        indent, (item, key, value) = len(match[1]), match.group(2, 3, 4)
        if item:
            if heading and indent >= levels[-1][0]:
                items = indent, []
                levels[-1][1][heading] = items[1]
                heading = ""
            elif indent != items[0]:
                return None
            items[1].append(_read_value(item))
        elif key:
            if heading and indent > levels[-1][0]:
                below: dict[str, Any] = {}
                levels[-1][1][heading] = below
                levels.append((indent, below))
            while indent < levels[-1][0]:
                levels.pop()
            mapping = levels[-1][1]
            if indent != levels[-1][0] or key in mapping or key == "null" or len(levels) > _DEEPEST:
                return None
            mapping[key] = _read_value(value)
            heading, items = "" if value else key, (-1, [])
    return levels[0][1] or None


def _read_value(text: str | None) -> Any:
    if text in (None, "null"):
        return None
    if text in ("[]", "{}"):
        return [] if text == "[]" else {}
    return text[1:-1] if text[0] in "\"'" else text


def dump_plain(document: Mapping[str, Any]) -> str:
    """Write mappings, lists of texts, texts and numbers as YAML, for `read_plain` and for every reader of YAML."""
    return "".join(f"{line}\n" for line in _write(document, ""))


def _write(mapping: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in mapping.items():
        start = f"{indent}{_spell(key, _BARE_KEY)}:"
        if value and isinstance(value, dict):
            yield start
            yield from _write(value, f"{indent}  ")
        elif value and isinstance(value, list):
            yield start
            for item in value:
                yield f"{indent}- {_spell(item, _BARE_TEXT)}"
        else:  # a text, a number, or an empty list or mapping
            yield f"{start} {_spell(value, _BARE_TEXT) if isinstance(value, str) else value}"


def _spell(text: str, bare: str) -> str:
    return text if re.fullmatch(bare, text) and text.lower() not in _NOT_TEXT else quote_text(text)
