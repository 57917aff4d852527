"""Input files and YAML as plain data, refused as a whole where they are not what they should be."""

from __future__ import annotations

import os
import re
import stat
from codecs import BOM_UTF8

from setup.typed import Any, NamedTuple

LARGEST_FILE = 256 * 1024
DEEPEST = 8
DEEPEST_COMPOSE = 32
_MERGE_TAGS = ("!override", "!reset")  # how a compose file replaces or removes a value of the one before it


class Tagged(NamedTuple):
    """A value with a tag of a compose file."""

    tag: str
    value: Any


class Malformed(Exception):
    """A file that cannot be used as a whole; the text never quotes its contents."""


def read_input(path: str) -> bytes:
    """Return the bytes of a regular file of at most 256 KiB; raise Malformed with the reason."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise Malformed(
                    "it is a directory, which Docker creates if a file to mount does not exist: remove it, and put "
                    "the file there"
                )
            if not stat.S_ISREG(mode):
                raise Malformed("it is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(LARGEST_FILE + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Malformed(f"it cannot be read ({(error.strerror or 'error').lower()})") from None
    except ValueError:
        raise Malformed("its name holds a NUL character") from None
    if len(data) > LARGEST_FILE:
        raise Malformed("it is larger than 256 KiB")
    return data


def decode(data: bytes) -> str:
    """UTF-8 text; raises Malformed."""
    try:
        return data.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError:
        raise Malformed("it is not UTF-8 text") from None


def key_shown(key: str, place: str = "") -> str:
    """Quote a key for a message; name one that may be a value by its position instead."""
    if re.fullmatch(r"\s*([A-Za-z]+([_-][A-Za-z0-9]+)*)?\s*", key):
        return repr(key if len(key) <= 60 else f"{key[:57]}...")
    return f"{place} (not shown, as it may be a value)".lstrip()


def load_yaml(data: bytes, *, aliases: bool = False) -> Any:
    """Return a YAML document as dicts, lists and the texts as written; None for an empty value.

    Raises Malformed, naming a line and never its text, for duplicate keys, aliases and the tags of compose files
    unless they are wanted, other tags, several documents, deep nesting and everything that is not YAML. An alias is its
    anchor's very object.
    """
    import yaml

    text = decode(data)
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return _build(yaml, yaml.parse(text, Loader=loader), {} if aliases else None)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise Malformed(f"{where}: this is not valid YAML ({_hint(text, mark.line if mark else 0)})") from None
    except yaml.YAMLError:
        raise Malformed("it holds characters that YAML does not allow") from None


def _hint(text: str, line: int) -> str:
    """Guess what is wrong with a line."""
    around = text.split("\n")[max(0, line - 1) : line + 1]  # libyaml names the tab's line, or the one behind it
    for content in around:
        if "\t" in content[: len(content) - len(content.lstrip())]:
            return "a tab cannot indent a line: use blanks"
    return "does a value with : or # want quotes?"


def _build(yaml: Any, events: Any, anchors: dict[str, Any] | None) -> Any:
    """Build the document from parser events, so that it is checked before anything is expanded."""
    root: list[Any] = []
    stack: list[tuple[Any, list[Any]]] = [(root, [])]  # a container, and its waiting key
    documents, deepest = 0, DEEPEST if anchors is None else DEEPEST_COMPOSE
    for event in events:
        line = event.start_mark.line + 1
        anchor = getattr(event, "anchor", None)
        if anchor and anchors is None:
            raise Malformed(f"line {line}: anchors and aliases are not allowed")
        if isinstance(event, yaml.AliasEvent):
            _add(stack[-1], (anchors or {}).get(str(anchor)), line)
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise Malformed(f"line {line}: only one document is allowed")
        elif isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            tag = getattr(event, "tag", None)
            if tag and (anchors is None or tag not in _MERGE_TAGS):
                raise Malformed(f"line {line}: tags are not allowed")
            value = _value(yaml, event)
            _add(stack[-1], Tagged(tag, value) if tag else value, line)
            if anchor and anchors is not None:
                anchors[anchor] = value
            if isinstance(value, (dict, list)):
                stack.append((value, []))
            if len(stack) > deepest + 1:
                raise Malformed(f"line {line}: nested deeper than {deepest} levels")
    return root[0] if root else None


def _value(yaml: Any, event: Any) -> Any:
    if isinstance(event, yaml.MappingStartEvent):
        return {}
    if isinstance(event, yaml.SequenceStartEvent):
        return []
    plain = event.implicit[0]
    return None if plain and event.value in ("", "~", "null") else event.value


def _add(top: tuple[Any, list[Any]], value: Any, line: int) -> None:
    container, waiting = top
    if isinstance(container, list):
        container.append(value)
    elif not waiting:
        if not isinstance(value, str):
            raise Malformed(f"line {line}: a key must be a plain name")
        if value in container:
            raise Malformed(f"line {line}: the key {key_shown(value)} appears twice")
        waiting.append(value)
    else:
        container[waiting.pop()] = value


def dump_yaml(document: dict[str, Any]) -> bytes:
    """Write plain data as YAML that readers of 1.1 and 1.2 understand alike: a text is quoted unless it is a word."""
    import re

    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # the one in C is faster
        """Writes each value out, and texts of several lines as blocks."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    def write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        # One letter alone is quoted: y and n are booleans to Docker and kubectl, which PyYAML does not know.
        style = None if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]+", text) else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if text.count("\n") > 1 else style)

    Dumper.add_representer(str, write_text)
    text = yaml.dump(document, Dumper=Dumper, sort_keys=False, default_flow_style=False, width=100_000)
    return text.encode()
