"""Read the environment, *_FILE variables and input files, and judge their shape, never their meaning.

No other module reads them. Problems are collected instead of raised, so that one message names those of all sources.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from setup.config.model import Given, Source
from setup.config.secrets import SECRETS
from setup.config.settings import PRESETS, SETTINGS
from setup.formats.yaml_file import Malformed, decode, key_shown, load_yaml, read_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CONTROLS = ("NON_INTERACTIVE", "PUID", "PGID", "NO_COLOR")
_OURS = ("PYTHON", "PROMPT_TOOLKIT_", "AVATAR_SETUP_")  # set by the image
# Variables of shells and base images, which are not misspelled settings.
_USUAL = frozenset({
    "PATH", "HOME", "HOSTNAME", "TERM", "PWD", "OLDPWD", "SHLVL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "SHELL",
    "USER", "LOGNAME", "TZ", "EDITOR", "PAGER", "MAIL", "CI", "VIRTUAL_ENV", "COLUMNS", "LINES", "SSL_CERT_FILE",
    "container", "_",
})  # fmt: skip


class Inputs:
    """Collect what this run was given, by source; `layers` are in rising precedence."""

    def __init__(self) -> None:
        self.layers: list[dict[str, Given]] = []
        self.secrets: dict[str, Given] = {}
        self.exact: dict[str, Given] = {}  # secrets of another deployment, byte for byte
        self.presets: dict[str, dict[str, str]] = {}
        self.unset: frozenset[str] = frozenset()  # saved answers that this run takes back
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.unreadable = False


def gather(
    environ: Mapping[str, str],
    config_file: str | None,
    defaults_file: str | None,
    caller: Mapping[str, Any],
    preloaded: Mapping[str, bytes],
) -> Inputs:
    """Return everything this run was given; `preloaded` holds files that were read before rights were dropped."""
    inputs = Inputs()
    _read_defaults(inputs, _packaged_defaults(), Source.DEFAULT, preloaded)
    _read_defaults(inputs, defaults_file, Source.DEFAULTS_FILE, preloaded)
    _read_config(inputs, config_file, preloaded)
    _read_environment(inputs, environ, preloaded)
    _take(inputs, caller, Source.CALLER, "--set")
    return inputs


def files_named(environ: Mapping[str, str], *given: str | None) -> Iterator[str]:
    """Name the files that these inputs read and that may need more rights than the volume does."""
    yield from (environ[key] for key in _file_variables() if environ.get(key))
    yield from (path for path in given if path)


def preload(paths: Iterator[str]) -> dict[str, bytes]:
    """Read those files that can be read now; the others are judged when they are needed."""
    loaded = {}
    for path in paths:
        try:
            loaded[path] = read_input(path)
        except Malformed:
            continue
    return loaded


def _packaged_defaults() -> str:
    return os.path.join(os.path.dirname(os.path.dirname(__file__)), "defaults.yaml")


def _load_mapping(inputs: Inputs, path: str, what: str, preloaded: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the KEY: VALUE lines of a file, none of one that cannot be used."""
    try:
        content = load_yaml(preloaded[path] if path in preloaded else read_input(path))
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise Malformed("it must hold KEY: VALUE lines, without a dash in front")
    except Malformed as error:
        inputs.problems.append(f"{what} {path}: {error}")
        inputs.unreadable = True
        return {}
    return content


def _read_defaults(inputs: Inputs, path: str | None, source: Source, preloaded: Mapping[str, bytes]) -> None:
    if not path:
        inputs.layers.append({})
        return
    where = f"the defaults file {path}"
    content = _load_mapping(inputs, path, "the defaults file", preloaded)
    for key in sorted(content.keys() - {"settings", "presets"}):
        inputs.problems.append(f"{where}: unknown section {key_shown(key)}; known are settings and presets")
    _take(inputs, _section(inputs, content, "settings", where), source, where, secrets_allowed=False)
    presets = _section(inputs, content, "presets", where)
    for name in presets:
        if name not in PRESETS:
            inputs.problems.append(f"{where}: unknown preset {key_shown(name)}; known are {', '.join(PRESETS)}")
            continue
        scratch = Inputs()
        entries = _section(scratch, presets, name, where)
        _take(scratch, entries, Source.PRESET, f"{where}, preset {name}", secrets_allowed=False)
        inputs.problems += scratch.problems
        inputs.presets.setdefault(name, {}).update({key: given.text for key, given in scratch.layers[0].items()})


def take_back(inputs: Inputs, keys: Iterable[str]) -> None:
    """Reset saved answers to their defaults (`--unset`); it is a contradiction to give one in the same run."""
    inputs.unset = frozenset(keys)
    for key in sorted(inputs.unset):
        given = [layer[key].source.label for layer in inputs.layers[2:] if key in layer]
        if key not in SETTINGS:
            inputs.problems.append(f"--unset: {key_shown(key)} is not a known key{_nearest(key)}")
        elif given:
            inputs.problems.append(f"--unset {key}: it is also given ({', '.join(given)}): remove one of the two")


def _section(inputs: Inputs, content: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return the mapping under a name, an empty one if there is none."""
    section = content.get(name)
    if section is not None and not isinstance(section, dict):
        inputs.problems.append(f"{where}: {name} must hold KEY: VALUE lines")
    return section if isinstance(section, dict) else {}


def _read_config(inputs: Inputs, path: str | None, preloaded: Mapping[str, bytes]) -> None:
    content = _load_mapping(inputs, path, "the configuration file", preloaded) if path else {}
    _take(inputs, content, Source.CONFIG_FILE, f"the configuration file {path}")


def _take(
    inputs: Inputs, entries: Mapping[str, Any], source: Source, where: str, *, secrets_allowed: bool = True
) -> None:
    """Add one layer of KEY: VALUE entries; an unknown key is a problem that names the nearest known one."""
    layer: dict[str, Given] = {}
    for key, raw in entries.items():
        key = str(key)  # noqa: PLW2901 - a library's caller may hand over anything
        name = key.lower()
        is_secret = name in SECRETS and key in (name, name.upper())
        problem = _key_problem(key, entries, is_secret and not secrets_allowed)
        if problem:
            inputs.problems.append(f"{where}: {problem}")
            continue
        text = _as_text(raw, SECRETS[name].kind.multiple if is_secret else SETTINGS[key].kind.multiple)
        if text is None:
            inputs.problems.append(f"{where}: {key} must be a single value, as in {key}: VALUE")
        elif raw is None:
            continue
        elif is_secret:
            inputs.secrets[name] = Given(text, source)
        else:
            layer[key] = Given(text, source)
    inputs.layers.append(layer)


def _key_problem(key: str, entries: Mapping[str, Any], unwanted_secret: bool) -> str:
    """Return why a key is refused, or ""; a secret may be written in upper or in lower case, not in both."""
    name = key.lower()
    if unwanted_secret:
        return (
            f"{key.upper()} is a secret and does not belong here: give it as environment variable or {key.upper()}_FILE"
        )
    if key not in SETTINGS and not (name in SECRETS and key in (name, name.upper())):
        place = [*map(str, entries)].index(key) + 1
        return f"{key_shown(key, f'key {place}')} is not a known key{_nearest(key)}"
    if name in SECRETS and key == name and name.upper() in entries:
        return f"{name.upper()} is given twice, in upper and in lower case: remove one"
    return ""


def _as_text(raw: object, multiple: bool) -> str | None:
    """Return a value as an operator would type it, None for one that is not single."""
    if raw is None:
        return ""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, (str, int)):
        return str(raw)
    if multiple and isinstance(raw, (list, tuple)) and all(isinstance(part, str) for part in raw):
        return ",".join(raw)
    return None


def _read_environment(inputs: Inputs, environ: Mapping[str, str], preloaded: Mapping[str, bytes]) -> None:
    """Add the layer of the variables KEY and KEY_FILE; an empty one says nothing."""
    layer: dict[str, Given] = {}
    for key in (*SETTINGS, *map(str.upper, SECRETS)):
        text, path = environ.get(key, ""), environ.get(f"{key}_FILE", "")
        if text and path:
            inputs.problems.append(f"{key} and {key}_FILE are both set: unset one of them")
            continue
        if path:
            try:
                data = preloaded[path] if path in preloaded else read_input(path)
                text = decode(data).removesuffix("\n")
            except Malformed as error:
                inputs.problems.append(f"{_file_named(key, path)}: {error}")
                continue
        if text and key in SETTINGS:
            layer[key] = Given(text, Source.ENVIRONMENT)
        elif text:
            inputs.secrets[key.lower()] = Given(text, Source.ENVIRONMENT)
    inputs.layers.append(layer)
    inputs.warnings += _near_misses(environ)


def _file_named(key: str, path: str) -> str:
    """Name a KEY_FILE and its path; what is no path may be the secret itself, put there by mistake."""
    begins, _, rest = path[1:].partition("/")
    if key in SETTINGS or (path.startswith("/") and rest and os.path.isdir(f"/{begins}")):
        return f"{key}_FILE={path}"
    return f"{key}_FILE (not shown; it wants a path, as in {key}_FILE=/run/secrets/{key.lower()})"


def _near_misses(environ: Mapping[str, str]) -> Iterator[str]:
    known = {*SETTINGS, *map(str.upper, SECRETS), *_file_variables(), *CONTROLS}
    for name in sorted(environ.keys() - known - _USUAL):
        if name.startswith(_OURS):
            continue
        alike = {key for key in known if key[:2] == name[:2] or key[-4:] == name[-4:]}
        near = _nearest_name(name, alike, 0.85) if alike else ""
        if near:
            yield f"the environment variable {name} is not known; did you mean {near}?"


def _file_variables() -> Iterator[str]:
    return (f"{key}_FILE" for key in (*SETTINGS, *map(str.upper, SECRETS)))


def _nearest(key: str) -> str:
    near = _nearest_name(key.upper(), {*SETTINGS, *map(str.upper, SECRETS)}, 0.6)
    return f"; did you mean {near}?" if near else " (docs/settings.md lists them)"


def _nearest_name(name: str, known: set[str], cutoff: float) -> str:
    import difflib  # only a mistyped name pays for it

    return "".join(difflib.get_close_matches(name, sorted(known), 1, cutoff))
