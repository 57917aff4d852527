"""Reads an Authentik blueprint as Authentik does, without Authentik.

The loader knows every tag of release 2026.8 and refuses any other. The tags this project uses are resolved
against a given environment; an object that Authentik would look up in its database becomes a `Found`. The
expressions in a blueprint are run as Authentik runs them: as the body of a function whose arguments are
the context.

For the test of the compose file: `blueprint_env_names(BLUEPRINT)` is what the worker's container must be
given, `service_environment(compose, "authentik_worker")` what it is given.
"""

from __future__ import annotations

import ast
import struct
import textwrap
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

AUTHENTIK_DIR = Path(__file__).resolve().parents[2] / "templates" / "authentik"
BLUEPRINT = AUTHENTIK_DIR / "octopize-avatar-blueprint.yaml"

TAGS = frozenset(
    {
        *("!KeyOf", "!Find", "!FindObject", "!Context", "!Env", "!File", "!Format", "!ParseJSON"),
        *("!If", "!Condition", "!Enumerate", "!Value", "!Index", "!AtIndex"),
    }
)
ENTRY_KEYS = frozenset({"model", "id", "state", "conditions", "identifiers", "attrs", "permissions"})


class BlueprintError(Exception):
    """Authentik would refuse this blueprint, or read it otherwise than it looks."""


# --- Loading ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tag:
    """A tag as written: its name and its arguments, which may be tags themselves."""

    name: str
    args: tuple[Any, ...]


class _Loader(yaml.SafeLoader):
    """A safe loader with Authentik's tags; an unknown tag and a key written twice are errors."""


def _construct_tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Tag:
    name = f"!{suffix}"
    if name not in TAGS:
        raise BlueprintError(f"unknown tag {name}, {node.start_mark}")
    if isinstance(node, yaml.ScalarNode):
        return Tag(name, (node.value,))
    if isinstance(node, yaml.SequenceNode):
        return Tag(name, tuple(loader.construct_object(item, deep=True) for item in node.value))
    raise BlueprintError(f"{name} takes a scalar or a sequence, {node.start_mark}")


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in result:
            raise BlueprintError(f"the key {key!r} is written twice, {key_node.start_mark}")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_multi_constructor("!", _construct_tag)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def load(path: Path) -> dict[str, Any]:
    """The document with its tags unresolved."""
    try:
        # The loader derives from SafeLoader and builds nothing besides `Tag`.
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise BlueprintError(str(error)) from error
    if not isinstance(document, dict) or not isinstance(document.get("entries"), list):
        raise BlueprintError("a blueprint is a mapping with a list of entries")
    return document


# --- Resolving ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """An object that Authentik looks up: its model and the conditions, field and value."""

    model: str
    where: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Reference:
    """Another entry of the same blueprint."""

    id: str
    model: str


@dataclass(frozen=True)
class Entry:
    """One entry with every tag resolved."""

    position: int
    model: str
    id: str | None
    state: str
    conditions: list[Any]
    identifiers: dict[str, Any]
    attrs: dict[str, Any]

    @property
    def values(self) -> dict[str, Any]:
        """What Authentik's serializer is given: the attributes, and the identifiers on top."""
        return {**self.attrs, **self.identifiers}


def resolve(path: Path, env: Mapping[str, str]) -> list[Entry]:
    """Every entry with its tags resolved from `env`; nothing may be missing or refer forward."""
    document = load(path)
    resolver = _Resolver(env, document.get("context") or {})
    return [resolver.entry(position, raw) for position, raw in enumerate(document["entries"])]


class _Resolver:
    def __init__(self, env: Mapping[str, str], context: Mapping[str, Any]) -> None:
        self._env = env
        self._context = context
        self._models: dict[str, str] = {}  # of the entries so far, by id

    def entry(self, position: int, raw: dict[str, Any]) -> Entry:
        if unknown := raw.keys() - ENTRY_KEYS:
            raise BlueprintError(f"entry {position} has unknown keys: {sorted(unknown)}")
        entry = Entry(
            position=position,
            model=str(self._value(raw.get("model", ""))),
            id=raw.get("id"),
            state=str(self._value(raw.get("state", "present"))),
            conditions=self._value(raw.get("conditions", [])),
            identifiers=self._value(raw.get("identifiers", {})),
            attrs=self._value(raw.get("attrs", {})),
        )
        if entry.id in self._models:
            raise BlueprintError(f"the id {entry.id!r} is given twice")
        if entry.id is not None:
            self._models[entry.id] = entry.model
        return entry

    def _value(self, value: Any) -> Any:
        if isinstance(value, Tag):
            return self._tag(value)
        if isinstance(value, dict):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        return value

    def _tag(self, tag: Tag) -> Any:
        match tag.name:
            case "!Env":
                return self._lookup("the environment variable", self._env.get(tag.args[0]) or None, tag)
            case "!Context":
                return self._lookup("the context key", self._value(self._context.get(tag.args[0])), tag)
            case "!KeyOf":
                return self._key_of(tag.args[0])
            case "!Find" | "!FindObject":
                return self._find(*tag.args)
            case "!Format":
                return self._format(*tag.args)
            case other:
                raise BlueprintError(f"{other} is Authentik's, but nothing here uses it: teach the resolver")

    def _lookup(self, kind: str, value: Any, tag: Tag) -> Any:
        """A value, else the default in the tag, which Authentik does not resolve further."""
        if value is not None:
            return value
        if len(tag.args) < 2 or isinstance(tag.args[1], Tag):
            raise BlueprintError(f"{kind} {tag.args[0]} is missing or empty")
        return tag.args[1]

    def _key_of(self, entry_id: str) -> Reference:
        if entry_id not in self._models:
            raise BlueprintError(f"!KeyOf {entry_id}: no earlier entry has that id")
        return Reference(entry_id, self._models[entry_id])

    def _find(self, model: Any, *conditions: Any) -> Found:
        pairs = [tuple(self._value(condition)) for condition in conditions if isinstance(condition, list)]
        if not conditions or len(pairs) != len(conditions) or any(len(pair) != 2 for pair in pairs):
            raise BlueprintError(f"!Find {model}: wants conditions of a field and a value, not {conditions}")
        return Found(str(self._value(model)), tuple((str(name), value) for name, value in pairs))

    def _format(self, template: str, *args: Any) -> str:
        values = tuple(self._value(arg) for arg in args)
        if not all(isinstance(value, str | int) for value in values):
            raise BlueprintError(f"!Format {template!r} would print {values!r}")
        try:
            return template % values
        except TypeError as error:
            raise BlueprintError(f"!Format {template!r}: {error}") from error


# --- The environment it needs -------------------------------------------------------------------------


def blueprint_env_names(path: Path) -> set[str]:
    """Every environment variable the worker's container must be given for this blueprint.

    These are the names of `!Env`, and those that an expression reads through `os.environ` or `os.getenv`
    when it runs. A name that is computed cannot be found here, and is refused.
    """
    document = load(path)
    names = {str(tag.args[0]) for tag in _tags(document) if tag.name == "!Env"}
    for source in expressions(document):
        names |= _names_read(source)
    return names


def _tags(value: Any) -> Iterator[Tag]:
    if isinstance(value, Tag):
        yield value
        value = value.args
    if isinstance(value, dict):
        value = value.values()
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        for item in value:
            yield from _tags(item)


def expressions(document: Mapping[str, Any]) -> list[str]:
    """The Python in a blueprint, as written."""
    attrs = [entry.get("attrs", {}) for entry in document["entries"]]
    return [values["expression"] for values in attrs if "expression" in values]


def _names_read(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(_wrap(source, ()))):
        match node:
            case ast.Subscript(value=ast.Attribute(attr="environ") | ast.Name(id="environ"), slice=key):
                names.add(_literal(key))
            case ast.Call(
                func=ast.Attribute(attr="get", value=ast.Attribute(attr="environ") | ast.Name(id="environ"))
                | ast.Attribute(attr="getenv")
                | ast.Name(id="getenv"),
                args=[key, *_],
            ):
                names.add(_literal(key))
    return names


def _literal(node: ast.expr) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise BlueprintError(f"an environment variable with a computed name: {ast.unparse(node)}")
    return node.value


def service_environment(compose: Mapping[str, Any], service: str) -> set[str]:
    """The names of the environment variables of a service in a compose file, in either notation."""
    environment = compose["services"][service].get("environment", {})
    if isinstance(environment, Mapping):
        return {str(name) for name in environment}
    return {str(item).partition("=")[0] for item in environment}


# --- Expressions --------------------------------------------------------------------------------------


def run_expression(source: str, helpers: Mapping[str, Any] | None = None, **context: Any) -> Any:
    """The value of an expression: `helpers` are Authentik's functions, `context` its variables."""
    scope: dict[str, Any] = dict(context)
    # The text is the project's own; Authentik runs it in the same way.
    exec(compile(_wrap(source, context), "expression", "exec"), dict(helpers or {}), scope)
    return scope["result"]


def _wrap(source: str, arguments: Mapping[str, Any] | tuple[()]) -> str:
    names = ", ".join(arguments)
    return f"def handler({names}):\n{textwrap.indent(source, '    ')}\nresult = handler({names})\n"


# --- Images -------------------------------------------------------------------------------------------


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG of 8-bit RGBA, after checking every chunk and every row of it."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("not a PNG")
    chunks = list(_png_chunks(data[8:]))
    kinds = [kind for kind, _ in chunks]
    if kinds[0] != b"IHDR" or kinds[-1] != b"IEND":
        raise ValueError(f"chunks out of order: {kinds}")
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    if rest != [8, 6, 0, 0, 0]:
        raise ValueError(f"not 8-bit RGBA without interlacing: {rest}")
    rows = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    if len(rows) != height * (1 + 4 * width) or any(rows[:: 1 + 4 * width][y] > 4 for y in range(height)):
        raise ValueError("rows of another size than the header says")
    return width, height


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        (length,) = struct.unpack_from(">I", data)
        kind, body = data[4:8], data[8 : 8 + length]
        (checksum,) = struct.unpack_from(">I", data, 8 + length)
        if checksum != zlib.crc32(kind + body):
            raise ValueError(f"wrong checksum in {kind!r}")
        yield kind, body
        data = data[12 + length :]


def ico_sizes(data: bytes) -> list[tuple[int, int]]:
    """The sizes of the images in an icon file whose images are PNGs, after checking each of them."""
    reserved, kind, count = struct.unpack_from("<HHH", data)
    if (reserved, kind) != (0, 1) or not count:
        raise ValueError("not an icon file")
    sizes, end = [], 6 + 16 * count
    for number in range(count):
        width, height, _, _, _, _, length, offset = struct.unpack_from("<BBBBHHII", data, 6 + 16 * number)
        if offset != end:
            raise ValueError("a gap or an overlap between the images")
        end = offset + length
        if png_size(data[offset:end]) != (width, height):
            raise ValueError("an image of another size than its entry says")
        sizes.append((width, height))
    if end != len(data):
        raise ValueError("something follows the last image")
    return sizes
