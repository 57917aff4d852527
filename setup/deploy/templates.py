"""Render templates to bytes, with one quoting filter for each program that reads a generated file.

Jinja2 is imported at the first rendering: a run with nothing to do must not pay for it.
"""

from __future__ import annotations

import os
import re

from setup.errors import ExitCode, InputError, SetupError
from setup.formats.quoting import Unfit, as_text, quote_block, quote_env, quote_nginx, quote_plain, quote_yaml
from setup.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment, TemplateError


class CannotCarry(SetupError):
    """A value that the reader of a generated file could not get back unchanged."""

    exit_code = ExitCode.ATTENTION
    kind = "input"


_COMPILED = "__pycache__"  # below the templates; never part of a digest


def _comment(value: object) -> str:
    """Return text for a comment: it cannot leave its line."""
    return " ".join(as_text(value).split())


def _describe(error: TemplateError, path: str) -> str:
    """Say what is wrong with a template, and in which line; quote of Jinja2's text only what cannot hold a value."""
    import traceback

    from jinja2 import TemplateNotFound, TemplateSyntaxError

    if isinstance(error, TemplateSyntaxError):
        return f"line {error.lineno}: {error.message}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    if isinstance(error, TemplateNotFound) and not lines:
        return "it does not exist"
    unknown = re.fullmatch(r"'\w+' is undefined", str(error))  # the name is in the template itself
    return f"line {lines[-1] if lines else '?'}: {unknown[0] if unknown else type(error).__name__}"


class Renderer:
    """Render the templates of one directory; an undefined name is an error."""

    def __init__(self, templates_dir: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(templates_dir)
        self._environment: Environment | None = None

    def text(self, name: str, context: Mapping[str, Any]) -> bytes:
        """Render template `name`; raises CannotCarry for a value that its reader cannot get back."""
        if self._environment is None:
            self._environment = self._make_environment()
        from jinja2 import TemplateError

        try:
            return self._environment.get_template(name).render(context).encode()
        except Unfit as error:
            raise CannotCarry(f"{name.removesuffix('.j2')}: {error}") from None
        except TemplateError as error:
            path = os.path.join(self._directory, name)
            raise InputError(f"the template {path} cannot be used: {_describe(error, path)}") from None

    def static(self, name: str) -> bytes:
        """Read a file that is copied unchanged."""
        try:
            with open(os.path.join(self._directory, name), "rb") as file:
                return file.read()
        except OSError as error:
            reason = (error.strerror or "error").lower()
            raise InputError(f"the template {self._directory}/{name} cannot be read ({reason})") from None

    def static_names(self, below: str) -> tuple[str, ...]:
        """List every file below a folder of the templates, sorted, with / between the parts."""
        top = os.path.join(self._directory, below)
        paths = []
        for folder, _, names in os.walk(top):
            relative = os.path.relpath(folder, self._directory)
            paths += [os.path.join(relative, name) for name in names]
        return tuple(sorted(paths))

    def bake(self) -> None:
        """Compile every template into the cache below the templates; the build of the image does so."""
        os.makedirs(os.path.join(self._directory, _COMPILED), exist_ok=True)
        environment = self._make_environment(keep=True)
        for name in environment.list_templates(extensions=["j2"]):
            environment.get_template(name)

    def _make_environment(self, *, keep: bool = False) -> Environment:
        """Set up Jinja2; a compiled template is used while its source is the same."""
        from jinja2 import BytecodeCache, Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
        from jinja2.bccache import Bucket

        class Cache(FileSystemBytecodeCache):
            """A cache that only `bake` writes, and that does not depend on the path of the templates."""

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
        environment.filters.update(env=quote_env, nginx=quote_nginx, comment=_comment)
        environment.filters.update(yaml=quote_yaml, plain=quote_plain, block=quote_block)  # of the compose file
        return environment
