"""Read the environment, *_FILE variables and input files, and judge their shape, never their meaning.

No other module reads them. Problems are collected instead of raised, so that one message names those of all sources.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from setup.config.model import Given, Secret, Source
from setup.config.secrets import SECRETS
from setup.config.settings import PRESETS, SETTINGS
from setup.formats.wrapping import is_quoted, unwrap
from setup.formats.yaml_file import Malformed, decode, key_shown, load_yaml, read_input
from setup.typed import Any, NamedTuple

CONTROLS = ("NON_INTERACTIVE", "PUID", "PGID", "NO_COLOR")
_OURS = ("PYTHON", "PROMPT_TOOLKIT_", "AVATAR_SETUP_")  # set by the image
# Variables of shells and base images, which are not misspelled settings.
_USUAL = frozenset({
    "PATH", "HOME", "HOSTNAME", "TERM", "PWD", "OLDPWD", "SHLVL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "SHELL",
    "USER", "LOGNAME", "TZ", "EDITOR", "PAGER", "MAIL", "CI", "VIRTUAL_ENV", "COLUMNS", "LINES", "SSL_CERT_FILE",
    "container", "_",
})  # fmt: skip


class Inputs(NamedTuple):
    """What this run was given; `layers` are the settings by source, in rising precedence."""

    layers: tuple[Mapping[str, Given], ...]
    secrets: Mapping[str, Given]
    presets: Mapping[str, Mapping[str, str]]
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unreadable: bool = False  # a file may hold what seems to be missing
    unset: frozenset[str] = frozenset()  # saved answers that this run takes back
    exact: Mapping[str, Given] = {}  # secrets of another deployment, byte for byte
    refused: frozenset[str] = frozenset()  # keys that are given and have a problem, so that they are not missing

    def with_adopted(self, settings: Mapping[str, Given]) -> Inputs:
        """Add the settings of another deployment as the layer below what the operator gave."""
        return self._replace(layers=(*self.layers[:2], settings, *self.layers[2:]))


class _Reading(NamedTuple):
    """What one source gave."""

    layer: dict[str, Given]
    secrets: dict[str, Given]
    problems: list[str]
    presets: Mapping[str, Mapping[str, str]] = {}
    unreadable: bool = False
    refused: frozenset[str] = frozenset()


def gather(
    environ: Mapping[str, str],
    config_file: str | None,
    defaults_file: str | None,
    caller: Mapping[str, Any],
    preloaded: Mapping[str, bytes],
) -> Inputs:
    """Return everything this run was given; `preloaded` holds files that were read before rights were dropped."""
    readings = (
        _read_defaults(_packaged_defaults(), Source.DEFAULT, preloaded),
        _read_defaults(defaults_file, Source.DEFAULTS_FILE, preloaded),
        _read_config(config_file, preloaded),
        _read_environment(environ, preloaded),
        _take(caller, Source.CALLER, "--set"),
    )
    layers, problems, unreadable = [], [], False
    refused: set[str] = set()
    secrets: dict[str, Given] = {}
    presets: dict[str, dict[str, str]] = {}
    for reading in readings:
        layers.append(reading.layer)
        secrets |= reading.secrets
        problems += reading.problems
        unreadable = unreadable or reading.unreadable
        refused |= reading.refused
        for name, settings in reading.presets.items():
            presets.setdefault(name, {}).update(settings)
    warnings = tuple(_near_misses(environ))
    inputs = Inputs(tuple(layers), secrets, presets, tuple(problems), warnings, unreadable)
    return inputs._replace(refused=frozenset(refused))


MOST_PROBLEMS = 20  # of one file; each unknown key is compared with every known one


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


def _load_mapping(path: str, what: str, preloaded: Mapping[str, bytes]) -> tuple[dict[str, Any], list[str]]:
    """Return the KEY: VALUE lines of a file, or why it cannot be used."""
    try:
        content = load_yaml(preloaded[path] if path in preloaded else read_input(path))
        if content is not None and not isinstance(content, dict):
            raise Malformed("it must hold KEY: VALUE lines, without a dash in front")
    except Malformed as error:
        return {}, [f"{what} {path}: {error}"]
    return content or {}, []


def _read_defaults(path: str | None, source: Source, preloaded: Mapping[str, bytes]) -> _Reading:
    if not path:
        return _Reading({}, {}, [])
    where = f"the defaults file {path}"
    content, problems = _load_mapping(path, "the defaults file", preloaded)
    unreadable = bool(problems)
    for key in sorted(content.keys() - {"settings", "presets"}):
        problems.append(f"{where}: unknown section {key_shown(key)}; known are settings and presets")
    settings = _take(_section(content, "settings", where, problems), source, where, secrets_allowed=False)
    problems += settings.problems
    presets = {}
    sections = _section(content, "presets", where, problems)
    for name in sections:
        if name not in PRESETS:
            problems.append(f"{where}: unknown preset {key_shown(name)}; known are {', '.join(PRESETS)}")
            continue
        entries = _section(sections, name, where, problems)
        preset = _take(entries, Source.PRESET, f"{where}, preset {name}", secrets_allowed=False)
        problems += preset.problems
        presets[name] = {key: given.text for key, given in preset.layer.items()}
    return _Reading(settings.layer, {}, problems, presets, unreadable)


def take_back(inputs: Inputs, keys: Iterable[str]) -> Inputs:
    """Reset saved answers to their defaults (`--unset`); it is a contradiction to give one in the same run."""
    unset, problems = frozenset(keys), []
    for key in sorted(unset):
        given = [layer[key].source.words for layer in inputs.layers[2:] if key in layer]
        if key not in SETTINGS:
            problems.append(f"--unset: {key_shown(key)} is not a known key{_nearest(key)}")
        elif given:
            problems.append(f"--unset {key}: it is also given ({', '.join(given)}): remove one of the two")
    return inputs._replace(unset=unset, problems=(*inputs.problems, *problems))


def _section(content: Mapping[str, Any], name: str, where: str, problems: list[str]) -> dict[str, Any]:
    """Return the mapping under a name, an empty one if there is none; add to `problems` if it is something else."""
    section = content.get(name)
    if section is not None and not isinstance(section, dict):
        problems.append(f"{where}: {name} must hold KEY: VALUE lines")
    return section if isinstance(section, dict) else {}


def _read_config(path: str | None, preloaded: Mapping[str, bytes]) -> _Reading:
    what = "the configuration file"
    content, problems = _load_mapping(path, what, preloaded) if path else ({}, [])
    reading = _take(content, Source.CONFIG_FILE, f"{what} {path}")
    return reading._replace(problems=problems + reading.problems, unreadable=bool(problems))


def _take(entries: Mapping[str, Any], source: Source, where: str, *, secrets_allowed: bool = True) -> _Reading:
    """Take KEY: VALUE entries; an unknown key is a problem that names the nearest known one."""
    layer: dict[str, Given] = {}
    secrets: dict[str, Given] = {}
    problems: list[str] = []
    for place, (key, raw) in enumerate(entries.items(), 1):
        if len(problems) == MOST_PROBLEMS:
            problems.append(f"{where}: there is more to correct than these {MOST_PROBLEMS} keys: correct them first")
            break
        key = str(key)  # noqa: PLW2901 - a library's caller may hand over anything
        name = key.lower()
        is_secret = name in SECRETS and key in (name, name.upper())
        problem = _key_problem(key, place, entries, is_secret and not secrets_allowed)
        if problem:
            problems.append(f"{where}: {problem}")
            continue
        row = SECRETS[name] if is_secret else SETTINGS[key]
        # A bound secret in a file may come from another deployment, whose data needs it unchanged.
        exact = isinstance(row, Secret) and bool(row.bound) and source is Source.CONFIG_FILE
        text = _as_text(raw, row.kind.multiple, exact)
        if text is None:
            problems.append(f"{where}: {key} must be a single value, as in {key}: VALUE")
        elif raw is None:
            continue
        elif is_secret:
            secrets[name] = Given(text, source)
        else:
            layer[key] = Given(text, source)
    return _Reading(layer, secrets, problems)


def _key_problem(key: str, place: int, entries: Mapping[str, Any], unwanted_secret: bool) -> str:
    """Return why a key is refused, or ""; a secret may be written in upper or in lower case, not in both."""
    name = key.lower()
    if unwanted_secret:
        return (
            f"{key.upper()} is a secret and does not belong here: give it as environment variable or {key.upper()}_FILE"
        )
    if key not in SETTINGS and not (name in SECRETS and key in (name, name.upper())):
        return f"{key_shown(key, f'key {place}')} is not a known key{_nearest(key)}"
    if name in SECRETS and key == name and name.upper() in entries:
        return f"{name.upper()} is given twice, in upper and in lower case: remove one"
    return ""


def _as_text(raw: object, multiple: bool, exact: bool) -> str | None:
    """Return a value as an operator would type it, or exactly; None for one that is not single."""
    if raw is None:
        return ""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, (str, int)):
        return str(raw) if exact else unwrap(str(raw))
    if multiple and isinstance(raw, (list, tuple)) and all(isinstance(part, str) for part in raw):
        return ",".join(raw)
    return None


def _read_environment(environ: Mapping[str, str], preloaded: Mapping[str, bytes]) -> _Reading:
    """Read the variables KEY and KEY_FILE; an empty one says nothing."""
    layer: dict[str, Given] = {}
    secrets: dict[str, Given] = {}
    problems = []
    refused = set()
    for key in (*SETTINGS, *map(str.upper, SECRETS)):
        text, path = environ.get(key, ""), environ.get(f"{key}_FILE", "")
        problem = next(filter(None, (_quotes_problem(key, text, key), _quotes_problem(f"{key}_FILE", path))), "")
        if text and path:
            problem = problem or f"{key} and {key}_FILE are both set: unset one of them"
        if problem:
            problems.append(problem)
            refused.add(key)
            continue
        if path:
            try:
                data = preloaded[path] if path in preloaded else read_input(path)
                text = decode(data)
                if not unwrap(text):
                    raise Malformed("it is empty: put the value into it, or leave the variable out")
            except Malformed as error:
                problems.append(f"{_file_named(key, path)}: {error}")
                refused.add(key)
                continue
        text = unwrap(text)
        if text and key in SETTINGS:
            layer[key] = Given(text, Source.ENVIRONMENT, path)
        elif text:
            secrets[key.lower()] = Given(text, Source.ENVIRONMENT, path)
    return _Reading(layer, secrets, problems, refused=frozenset(refused))


def _quotes_problem(name: str, text: str, key: str = "") -> str:
    """Say that a variable holds the quotes around its value; return "" if it does not."""
    if not is_quoted(text):
        return ""
    belongs = f". If they belong to the value, give it by {key}_FILE" if key else ""
    return f"{name} is wrapped in quotes, which docker run --env-file does not remove: leave them out{belongs}"


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
    return f"; did you mean {near}?" if near else " (docs/reference/settings.md lists them)"


def _nearest_name(name: str, known: set[str], cutoff: float) -> str:
    import difflib  # only a mistyped name pays for it

    return "".join(difflib.get_close_matches(name, sorted(known), 1, cutoff))
