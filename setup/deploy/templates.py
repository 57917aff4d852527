"""Templates to bytes; one quoting filter for each program that reads a generated file.

Jinja2 is imported at the first rendering, so that a run with nothing to do never pays for it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from setup.errors import ExitCode, InputError, SetupError
from setup.formats.quoting import Unfit, as_text, quote_env, quote_nginx, quote_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment, TemplateError


class CannotCarry(SetupError):
    """A value that the generated file's reader could not get back unchanged."""

    exit_code = ExitCode.ATTENTION
    kind = "input"


_COMPILED = "__pycache__"  # below the templates; never part of a digest


def _comment(value: object) -> str:
    """Text for a comment line: it cannot leave the line."""
    return " ".join(as_text(value).split())


def _told(error: TemplateError, path: str) -> str:
    """What is wrong with a template, and in which line; of what Jinja2 says only what cannot hold a value."""
    import traceback

    from jinja2 import TemplateNotFound, TemplateSyntaxError

    if isinstance(error, TemplateSyntaxError):
        return f"line {error.lineno}: {error.message}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    if isinstance(error, TemplateNotFound) and not lines:
        return "it is not there"
    unknown = re.fullmatch(r"'\w+' is undefined", str(error))  # such a name stands in the template itself
    return f"line {lines[-1] if lines else '?'}: {unknown[0] if unknown else type(error).__name__}"


class Renderer:
    """Renders the templates below one directory; strict, so that a name nobody defined is an error."""

    def __init__(self, templates_dir: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(templates_dir)
        self._environment: Environment | None = None

    def text(self, name: str, context: Mapping[str, Any]) -> bytes:
        """The bytes of template `name`; raises CannotCarry where a value does not fit its reader."""
        if self._environment is None:
            self._environment = self._make_environment()
        from jinja2 import TemplateError

        try:
            return self._environment.get_template(name).render(context).encode()
        except Unfit as error:
            raise CannotCarry(f"{name.removesuffix('.j2')}: {error}") from None
        except TemplateError as error:
            path = os.path.join(self._directory, name)
            raise InputError(f"the template {path} cannot be used: {_told(error, path)}") from None

    def static(self, name: str) -> bytes:
        """The bytes of a file that is copied as it is."""
        try:
            with open(os.path.join(self._directory, name), "rb") as file:
                return file.read()
        except OSError as error:
            reason = (error.strerror or "error").lower()
            raise InputError(f"the template {self._directory}/{name} cannot be read ({reason})") from None

    def static_names(self, below: str) -> tuple[str, ...]:
        """Every file below a folder of the templates, sorted, with / between the parts."""
        top = os.path.join(self._directory, below)
        found = []
        for folder, _, names in os.walk(top):
            relative = os.path.relpath(folder, self._directory)
            found += [os.path.join(relative, name) for name in names]
        return tuple(sorted(found))

    def bake(self) -> None:
        """Compiles every template into the cache below the templates; the image's build does so."""
        os.makedirs(os.path.join(self._directory, _COMPILED), exist_ok=True)
        environment = self._make_environment(keep=True)
        for name in environment.list_templates(extensions=["j2"]):
            environment.get_template(name)

    def _make_environment(self, *, keep: bool = False) -> Environment:
        """Jinja2 for our templates; what was baked is used as long as the source is the same."""
        from jinja2 import BytecodeCache, Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
        from jinja2.bccache import Bucket

        class Cache(FileSystemBytecodeCache):
            """Written by `bake` alone, and found wherever the templates lie."""

            def get_cache_key(self, name: str, filename: str | None = None) -> str:  # noqa: ARG002
                return name

            def dump_bytecode(self, bucket: Bucket) -> None:
                if keep:
                    super().dump_bytecode(bucket)

        compiled = os.path.join(self._directory, _COMPILED)
        cache: BytecodeCache | None = Cache(compiled, "%s.cache") if os.path.isdir(compiled) else None
        environment = Environment(  # noqa: S701 - nothing here is HTML; each target has its own filter
            loader=FileSystemLoader(self._directory),
            bytecode_cache=cache,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters.update(env=quote_env, yaml=quote_yaml, nginx=quote_nginx, comment=_comment)
        return environment
