"""Interpret the files of a deployment as settings and secrets of this program; pure."""

from __future__ import annotations

import posixpath
import re

from setup import state_file
from setup.commands.adopt import running, sizes, source
from setup.config.derived import COMPOSE_ENGINE, KUBERNETES
from setup.config.engines import ENGINES
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.deploy.targets import is_ours
from setup.formats import dotenv
from setup.formats.wrapping import unwrap
from setup.formats.yaml_file import Malformed, load_yaml
from setup.typed import TYPE_CHECKING, Any, NamedTuple
from setup.volume.layout import (
    COMPOSE,
    ENV,
    KUBERNETES_NGINX,
    NGINX,
    STACK,
    STACK_STATE,
    STATE,
    secret_path,
    written_path,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Older names, and names that others replace or that have no meaning any more.
_OLDER = {"IS_TELEMETRY_ENABLED": "TELEMETRY_ENABLED"}
_ADDRESSES = ("AVATAR_WEB_CLIENT_URL", "AVATAR_API_URL", "WEB_CLIENT_URL", "BASE_API_URL", "AVATAR_BASE_API_URL")
_HOSTS = ("PUBLIC_HOSTNAME", "AVATAR_DOMAIN", "AVATAR_AUTHENTIK_BLUEPRINT_DOMAIN")
_IMPLIED = frozenset({
    *_ADDRESSES, "PUBLIC_URL_SCHEME", "RESOLVED_PUBLIC_BASE_URL", "SECRETS_DIR", "COMPOSE_PROJECT_NAME", "AVATAR_HOME",
    "PUBLIC_HOSTNAME", "AVATAR_PDFGENERATOR_VERSION", "AVATAR_PDFGENERATOR_URL", "deployment_mode",
    "_nginx_skip_path_validation",  # which the flat layout of 2.7 to 2.10 saves
    "SELF_SIGNED_CERT_PATH", "AVATAR_SSO_URL", "AVATAR_AUTHENTIK_URL", "AVATAR_API_PUBLIC_URL",
    "AVATAR_API_INTERNAL_URL", "AVATAR_SSO_ENABLED", "COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR",
})  # fmt: skip
_STACKS = (STACK_STATE, STACK)  # those with volumes and ports
_SECRET_OF = {key: name for name, secret in SECRETS.items() for key in (name, name.upper(), *secret.shown)}


class Entry(NamedTuple):
    """A value, and where it was read."""

    text: str
    where: str


class Interpretation(NamedTuple):
    """The settings and exact secrets of a deployment.

    `unsure` has a reason for each that its files leave open, `env` the content of its `.env`, `unknown` the keys
    without a meaning here. With any of the `problems` it cannot be adopted. `runs` are the settings that the compose
    file gives another value than the other files, "" for none: what runs counts.
    """

    kind: str
    settings: Mapping[str, Entry]
    secrets: Mapping[str, Entry]
    env: Mapping[str, str]
    unsure: Mapping[str, str]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    runs: Mapping[str, Entry] = {}


class _Reading(NamedTuple):
    """The content of one file."""

    where: str
    entries: Mapping[str, Any]
    unsure: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


_Entries = dict[str, list[Entry]]


def interpret(tree: source.Tree) -> Interpretation:
    """Interpret all files of a tree: what runs by the compose file outranks the latest state, and that `.env`."""
    state, env = _read_state(tree), _read_env(tree)
    engine = _find_engine(tree, state)
    target = engine.entries.get("TARGET") or COMPOSE_ENGINE
    names = tree.compose if target == COMPOSE_ENGINE else ()  # or it is a leftover
    known = dotenv.Env(dict(env.entries), dict(env.unsure))
    sized, uncarried = _read_objects(tree, target, known)
    nginx = KUBERNETES_NGINX if target == KUBERNETES else NGINX
    if engine.where == STACK:  # what the state would have said, such as the volumes
        names = _STACKS
    now = running.Running({}, {}, ()) if env.problems else _read_running(tree, names, nginx, known)
    before = _read_written(tree)
    compose = _Reading(" and ".join(names) or nginx, now.settings)
    entries, unsure = _collect(state, engine, env, compose)
    settings, changed = _interpret_settings(entries)
    settings = sized | settings
    mounted = {key: text for key, text in now.settings.items() if key not in settings or not _is_lost(tree, key, text)}
    runs = _find_running(settings, now._replace(settings=mounted), before, compose.where)
    changed += runs.notes
    settings |= {key: entry for key, entry in runs.entries.items() if entry.text}
    for key in (*runs.unsure, *(key for key, entry in runs.entries.items() if not entry.text)):
        settings.pop(key, None)
    texts, undecodable = _decode_secrets(tree)
    secrets, conflicts = _interpret_secrets(texts, entries)
    notes = (*(note for note in now.notes if note not in before.notes), *changed, *uncarried)
    if _has_shared_token(secrets):
        del secrets["authentik_api_token"]
        notes += ("AUTHENTIK_API_TOKEN was Authentik's bootstrap token, a superuser's: the API gets its own token",)
    return Interpretation(
        _describe_kind(tree),
        settings,
        secrets,
        env.entries,
        _still_open(unsure | conflicts | runs.unsure, {*settings, *secrets}),
        tuple(sorted(filter(_is_unknown, {*entries, *unsure}))),
        notes,
        (*tree.problems, *state.problems, *env.problems, *undecodable),
        runs.entries,
    )


def _collect(*readings: _Reading) -> tuple[_Entries, dict[str, str]]:
    """Return every entry by its key, the one that outranks the others last, and what the files leave open."""
    entries: _Entries = {}
    unsure: dict[str, str] = {}
    for reading in readings:
        for key, text in reading.entries.items():
            if isinstance(text, str) and text.strip():
                entries.setdefault(key, []).append(Entry(text, reading.where))
        for key, reason in reading.unsure.items():
            unsure[key] = f"in {reading.where} {reason}"
    return entries, unsure


def _find_engine(tree: source.Tree, state: _Reading) -> _Reading:
    """Return what runs the containers: by the state, or, if it was lost, by the main file that the tree has."""
    if state.entries:
        target = state.entries.get("TARGET")
        return _Reading(state.where, {"TARGET": target} if target else {})
    ours = {engine.main: name for name, engine in ENGINES.items() if is_ours(tree.files.get(engine.main, b""))}
    if len(ours) > 1:
        return _Reading(" and ".join(ours), {}, {"TARGET": "there is nothing that says which of them runs"})
    if not ours or tree.compose:
        return _Reading("", {})
    ((main, target),) = ours.items()
    namespace = re.search(rb'^namespace: "?([a-z0-9-]+)', tree.files[main], re.MULTILINE)  # other objects elsewhere
    return _Reading(main, {"TARGET": target} | ({"KUBERNETES_NAMESPACE": namespace[1].decode()} if namespace else {}))


def _describe_kind(tree: source.Tree) -> str:
    where = next(iter(tree.states), "")
    if not where:
        return "made by hand"
    if where != STATE:
        return f"of the public deployment tool (state {where.split('/')[1]})"
    return f"of {state_file.TOOL}" if tree.has_own_state else "of the public deployment tool"


def _read_state(tree: source.Tree) -> _Reading:
    """Read the entries of the latest state file."""
    where, data = next(iter(tree.states.items()), (STATE, b""))
    try:
        return _Reading(where, _entries_of_state(data) if tree.states else {})
    except Malformed as error:
        final = where != STATE or isinstance(error, state_file.WrittenByNewer)
        advice = "" if final else f". {source.describe_recovery(STATE in tree.states, tree.last_good)}"
        return _Reading(where, {}, problems=(f"{tree.path}/{where}: {error}{advice}",))


def _entries_of_state(data: bytes) -> Mapping[str, Any]:
    """Return KEY -> value of a state file in any of its three formats; raise Malformed for any other."""
    if state_file.is_ours(data):
        return {key: given.text for key, given in state_file.parse(data).answers.items()}
    document = load_yaml(data)
    sections = document if isinstance(document, dict) else {}
    items, config = sections.get("items"), sections.get("config")
    if isinstance(items, dict):
        return {key: entry.get("value") for key, entry in items.items() if isinstance(entry, dict)}
    if isinstance(config, dict):
        return config
    raise Malformed("this release does not know the format of this state file: neither items nor a config")


def _read_env(tree: source.Tree) -> _Reading:
    try:
        env = dotenv.parse(tree.files.get(ENV, b""))
    except Malformed as error:
        return _Reading(ENV, {}, problems=(f"{tree.path}/{ENV}: {error}",))
    return _Reading(ENV, env.values, env.unsure)


def _read_objects(tree: source.Tree, target: str, env: dotenv.Env) -> tuple[dict[str, Entry], list[str]]:
    """Return what only the files of a cluster or a stack have, which a state or a compose file outranks, and notes."""
    if tree.has_own_state or target == COMPOSE_ENGINE:
        return {}, []
    sized, notes = sizes.read_sizes(tree.files, target, (), env)
    return {key: Entry(*pair) for key, pair in sized.items()}, notes


def _read_running(tree: source.Tree, names: Sequence[str], nginx: str, env: dotenv.Env) -> running.Running:
    files = [tree.files[name] for name in names if name in tree.files]
    now = running.read_running(files, tree.files.get(nginx, b""), env, overriding=names != _STACKS)
    if names == _STACKS:
        return now
    sized, notes = sizes.read_sizes(tree.files, COMPOSE_ENGINE, names, env)
    settings = {key: text for key, (text, _) in sized.items()}
    return now._replace(settings={**now.settings, **settings}, notes=(*now.notes, *notes))


def _read_written(tree: source.Tree) -> running.Running:
    """Return what would run by the files as avatar-setup wrote them: only what differs from it was edited by hand."""
    env, compose, nginx = map(written_path, (ENV, COMPOSE, NGINX))
    if compose not in tree.files:
        return running.Running({}, {}, ())
    try:
        values = dotenv.parse(tree.files.get(env, b""))
    except Malformed:
        values = dotenv.Env({}, {})
    return _read_running(tree, [compose], nginx, values)


class _Found(NamedTuple):
    """The settings of what runs that differ from the other files, those it leaves open, and notes."""

    entries: dict[str, Entry]
    unsure: dict[str, str]
    notes: list[str]


def _find_running(settings: Mapping[str, Entry], now: running.Running, before: running.Running, where: str) -> _Found:
    """Find what the compose file says otherwise than the other files, and than avatar-setup wrote it."""
    texts = {key: text for key, text in now.settings.items() if key in SETTINGS and text != before.settings.get(key)}
    texts.pop("NGINX_TLS_ENABLED", None)
    found = _Found({}, {}, [])
    if now.ports is not None and now.ports != before.ports:
        mode, url = settings.get("TLS_MODE"), settings.get("PUBLIC_URL")
        address = url.text if url else ""
        word = mode.text if mode else "off" if address.startswith("http://") else "provided"
        published, notes = running.publish(now.ports, address, tls=word in ("provided", "self-signed"), mode=word)
        texts |= published
        found.notes.extend(notes)
    for key, text in texts.items():
        entry = settings.get(key, Entry("", ""))
        is_only_there = entry.where == where and bool(before.settings)  # edited, and no other file has this setting
        if _normal(text) == _normal(entry.text) and not is_only_there:
            continue
        found.entries[key] = Entry(text, where)
        if entry.text and not is_only_there:
            found.notes.append(f"{key}: {entry.where} has {entry.text}, {where} has {text or 'none'}; what runs counts")
    for key, reason in now.unsure.items():
        if key not in before.unsure:
            found.unsure[key] = f"in {where} {reason}"
    return found


def _is_lost(tree: source.Tree, key: str, text: str) -> bool:
    """Tell whether the compose file mounts a file that is not there: another one may have taken its place."""
    return key.startswith("NGINX_SSL_") and tree.lacks(text)


def _normal(text: str) -> str:
    return posixpath.normpath(text.casefold()) if text else ""


def _interpret_settings(entries: _Entries) -> tuple[dict[str, Entry], list[str]]:
    """Return the settings by their present names, and a note for each whose value differs between two files."""
    settings: dict[str, Entry] = {}
    notes = []
    for key, values in entries.items():
        name, first = _OLDER.get(key, key), values[0]
        if name not in SETTINGS:
            continue
        if name != "NGINX_TLS_ENABLED":
            settings.setdefault(name, first)
        for other in values[1:]:
            if other.where == ENV and other.text.casefold() != first.text.casefold():
                notes.append(f"{key}: {first.where} has {first.text}, {other.where} has {other.text}; the first counts")
    settings |= _interpret_address({key: values[0] for key, values in entries.items()})
    if "TELEMETRY_S3_BUCKET_NAME" in entries:  # with a bucket, the public tool counts telemetry as on
        settings.setdefault("TELEMETRY_ENABLED", Entry("true", entries["TELEMETRY_S3_BUCKET_NAME"][0].where))
    else:
        settings.pop("TELEMETRY_ENABLED", None)
    return settings, notes


def _interpret_address(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return PUBLIC_URL, TLS_MODE and TLS_CA_PATH, which older deployments spell in other ways."""
    settings = {}
    url = _public_url(entries)
    if url:
        settings["PUBLIC_URL"] = url
    enabled = entries.get("NGINX_TLS_ENABLED")
    if enabled and "TLS_MODE" not in entries:
        without = "off" if url and url.text.startswith("http://") else "behind-proxy"
        mode = "provided" if enabled.text.strip().lower() == "true" else without
        settings["TLS_MODE"] = Entry(mode, enabled.where)
    if "SELF_SIGNED_CERT_PATH" in entries:
        settings["TLS_CA_PATH"] = entries["SELF_SIGNED_CERT_PATH"]
    return settings


def _public_url(entries: Mapping[str, Entry]) -> Entry | None:
    """Return the public address, with a scheme only if it is not the usual https."""
    given = entries.get("PUBLIC_URL")
    if given and "://" in given.text:
        return given
    schemes, hosts = [], []
    if "PUBLIC_URL_SCHEME" in entries:
        schemes.append(entries["PUBLIC_URL_SCHEME"].text)
    for key in ("PUBLIC_URL",) if given else _HOSTS:
        if key in entries:
            hosts.append(entries[key])
    for key in _ADDRESSES:
        if key in entries:
            scheme, separator, rest = entries[key].text.rpartition("://")
            schemes += [scheme] if separator else []
            hosts.append(Entry(rest.partition("/")[0], entries[key].where))
    if not hosts:
        return None
    plain = bool(schemes) and schemes[0].lower() == "http"
    return Entry(f"http://{hosts[0].text}", hosts[0].where) if plain else hosts[0]


def _decode_secrets(tree: source.Tree) -> tuple[dict[str, Entry], list[str]]:
    """Return the texts of the secrets' files, and a problem for each file that is not text."""
    texts, problems = {}, []
    for name in SECRETS:
        path = secret_path(name)
        data = tree.files.get(path, b"")
        try:
            if data.strip():
                texts[name] = Entry(data.decode(), path)
        except UnicodeDecodeError:
            problems.append(f"{tree.path}/{path} is not UTF-8 text: restore its value from a backup")
    return texts, problems


def _interpret_secrets(texts: Mapping[str, Entry], entries: _Entries) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return every secret from its file, `.env` or the state, and a reason for each that has different values."""
    secrets, conflicts = {}, {}
    for name, secret in SECRETS.items():
        values = [texts[name]] if name in texts else []
        for key in dict.fromkeys((name, name.upper(), *secret.shown)):
            for entry in entries.get(key, []):
                values.append(Entry(entry.text, f"{entry.where} ({key})"))
        places: dict[str, str] = {}
        for entry in values:
            places.setdefault(unwrap(entry.text), entry.where)
        if len(places) > 1:
            conflicts[name] = f"it has different values in {' and '.join(places.values())}"
        elif values:
            secrets[name] = values[0]
    return secrets, conflicts


def _has_shared_token(secrets: Mapping[str, Entry]) -> bool:
    """Tell whether the API uses the token of Authentik's superuser, as older deployments did."""
    token, bootstrap = secrets.get("authentik_api_token"), secrets.get("authentik_bootstrap_token")
    return bool(token and bootstrap and token.text == bootstrap.text)


def _still_open(unsure: Mapping[str, str], interpreted: set[str]) -> dict[str, str]:
    """Return, by present names, the unsure settings and secrets that no other file gives."""
    still_open = {}
    for key, reason in unsure.items():
        name = _SECRET_OF.get(key, _OLDER.get(key, key))
        if (name in SETTINGS or name in SECRETS) and name not in interpreted:
            still_open[name] = reason
    return still_open


def _is_unknown(key: str) -> bool:
    return not (key in SETTINGS or key in _OLDER or key in _IMPLIED or key in _SECRET_OF)
