"""Check that `.env`, what the engine is given, nginx's configuration and the settings agree; pure."""

from __future__ import annotations

import posixpath
import re

from setup.config import derived
from setup.config.engines import nginx_configuration
from setup.config.secrets import SECRETS
from setup.config.settings import DERIVED, SETTINGS
from setup.config.types import show
from setup.config.values import Values
from setup.findings import RUN, RUN_AFTER, Finding, Level
from setup.formats import dotenv
from setup.formats.quoting import quote_env
from setup.formats.wrapping import unwrap
from setup.formats.yaml_file import Malformed, load_yaml
from setup.secrets.plan import check_filled
from setup.typed import TYPE_CHECKING, Any, NamedTuple
from setup.volume.layout import COMPOSE, ENV, KUSTOMIZATION, STACK, secret_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

_VARIABLE = r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}"  # of the form that the template uses
# As a compose file or a stack spells what comes from here, and as kustomization.yaml does; odd paths are not ours.
_MOUNT = r'^ +(?:file|source): "?(\./[\w./-]+)"?$'
_GENERATOR = r'^ +- "?(?:[\w.-]+=)?(\.?[\w.-]+/[\w./-]+)"?$'
_LISTEN = r"^[ \t]*listen\s+(?:\[::\]:)?([0-9]+)"
_RUN_AGAIN = "undo your edit, or move the file away; then run avatar-setup, which generates it again"


class Generated(NamedTuple):
    """The files that belong together; `engine` are those that the engine is given, by path, the main file last."""

    env: bytes
    engine: Mapping[str, bytes]
    nginx: bytes
    env_is_edited: bool = False


def check_consistency(
    files: Generated,
    values: Values,
    texts: Mapping[str, str],
    existing: Callable[[Iterable[str]], Collection[str]],
) -> Iterator[Finding]:
    """Report what does not agree, or that all does; `texts` are the secrets, `existing` finds paths."""
    findings: list[Finding] = []
    env = dotenv.Env({}, {})
    try:
        env = dotenv.parse(files.env)
        findings += _check_variables(files.engine, env)
        findings += _check_shown_secrets(files, env.values, values, _valid(texts))
        findings += [*_check_addresses(env, values), *_check_overrides(env, values)]
    except Malformed as error:
        findings.append(Finding("env-form", Level.FAIL, f"{ENV}: {error}", _RUN_AGAIN, RUN_AFTER))
    for path, data in files.engine.items():
        try:
            findings += _check_mounts(path, _list_sources(path, load_yaml(data, aliases=True)), values, existing)
            findings += _check_published(path, data, env, values)
        except Malformed as error:
            findings.append(Finding("compose-form", Level.FAIL, f"{path}: {error}", _RUN_AGAIN, RUN_AFTER))
    findings += _check_listening(files, values)
    yield from findings
    if not findings:
        names = ", ".join([ENV, *files.engine])
        yield Finding(
            "agreement", Level.OK, f"{names} and {nginx_configuration(values)} agree with each other and the settings"
        )


def check_unmodified(
    files: Generated,
    values: Values,
    texts: Mapping[str, str],
    existing: Callable[[Iterable[str]], Collection[str]],
) -> list[Finding]:
    """Report what has changed around files that are as a run wrote them: secrets, and what they mount."""
    shown = dict(line.partition("=")[::2] for line in files.env.decode().splitlines())
    valid = _valid(texts)
    quoted = dict(zip(valid, map(quote_env, valid.values()), strict=True))
    findings = [*_check_shown_secrets(files, shown, values, quoted)]
    for path, data in files.engine.items():
        sources = re.findall(_GENERATOR if path == KUSTOMIZATION else _MOUNT, data.decode(), re.MULTILINE)
        findings += _check_mounts(path, sources, values, existing)
    return findings


def _check_variables(engine: Mapping[str, bytes], env: dotenv.Env) -> Iterator[Finding]:
    used = set(re.findall(_VARIABLE, engine.get(COMPOSE, b"").decode(errors="replace")))
    unset = sorted(used - env.values.keys() - env.unsure.keys())
    if unset:
        text = f"{COMPOSE} uses variables that {ENV} does not set: {', '.join(unset)}"
        yield Finding("env-unset", Level.FAIL, text, _RUN_AGAIN, RUN_AFTER)


def _valid(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the text of each secret, "" for an empty one; without those that are refused on their own."""
    valid = {}
    for name in SECRETS:
        text = texts.get(name, "")
        if not text or not check_filled({name: text}):
            valid[name] = unwrap(text)
    return valid


def _check_shown_secrets(
    files: Generated, shown: Mapping[str, str], values: Values, texts: Mapping[str, str]
) -> Iterator[Finding]:
    """Check the keys of `.env` that carry a valid secret; a run changes our lines, only the operator those below.

    `texts` are the valid secrets, spelled as `shown` has the values of `.env`.
    """
    theirs = dotenv.outranked(files.env)
    by_run: list[str] = []
    by_hand: list[str] = []
    for name, secret in SECRETS.items():
        for key in secret.shown if secret.when(values) else ():
            if key in shown and name in texts and shown[key] != texts[name]:
                (by_hand if key in theirs else by_run).append(f"{key} (from {secret_path(name)})")
    text = f"{ENV} does not have the current values of these secrets"
    if by_run:
        undo = f"undo your edit of these lines, or move the file away (mv {ENV} {ENV}.mine), and then "
        undo = undo if files.env_is_edited else ""
        todo = f"{undo}run avatar-setup, which writes them"
        yield Finding("env-stale", Level.FAIL, f"{text}: {', '.join(by_run)}", todo, RUN_AFTER if undo else RUN)
    if by_hand:
        todo = f"remove your lines with these keys at the end of {ENV}"
        yield Finding("env-stale", Level.FAIL, f"{text}: {', '.join(by_hand)}", todo)


def _check_addresses(env: dotenv.Env, values: Values) -> Iterator[Finding]:
    wrong = []
    for key, row in SETTINGS.items():
        if row.group == DERIVED and key in env.values and env.values[key] != show(values[key]):
            wrong.append(f"{key} is not {show(values[key])}")
    if wrong:
        yield Finding("address", Level.FAIL, f"{ENV}: {'; '.join(wrong)}", _RUN_AGAIN, RUN_AFTER)


def _check_overrides(env: dotenv.Env, values: Values) -> Iterator[Finding]:
    """Check the keys that an edit by hand, or a second line further down, gives another value than the settings."""
    overridden = []
    for key, row in SETTINGS.items():
        setting = values.computed(key) if row.group != DERIVED and key in env.values else None
        if setting is not None and show(setting.value) != env.values[key]:
            overridden.append(key)
    if overridden:
        text = f"{ENV} overrides these settings: {', '.join(overridden)}"
        todo = "nothing, if you meant that; otherwise remove the line, and change the setting with --set KEY=VALUE"
        yield Finding("env-differs", Level.WARN, text, todo)


def _list_sources(path: str, document: Any) -> list[Any]:
    """Return what a compose file, a stack or a kustomization mounts, as it names it."""
    from setup.formats import compose_file

    sources = []
    for section in ("secrets", "configs"):
        for entry in _mapping(document, section).values():
            sources.append(compose_file.value(entry, "file"))
    for section in ("secretGenerator", "configMapGenerator") if path == KUSTOMIZATION else ():
        for generator in compose_file.value(document, section) or ():
            for kind in ("files", "envs"):
                sources += [str(name).rpartition("=")[2] for name in compose_file.value(generator, kind) or ()]
    for service in _mapping(document, "services").values():
        volumes = compose_file.value(service, "volumes")
        for volume in volumes if isinstance(volumes, list) else ():
            sources.append(compose_file.value(volume, "source"))
    return sources


def _check_mounts(
    path: str, sources: list[Any], values: Values, existing: Callable[[Iterable[str]], Collection[str]]
) -> Iterator[Finding]:
    """Check that what a file mounts from here exists; a provided certificate has findings of its own."""
    elsewhere = {".", ".."}
    if derived.certificate_is_given(values):
        for key in ("NGINX_SSL_CERTIFICATE_PATH", "NGINX_SSL_CERTIFICATE_KEY_PATH"):
            elsewhere.add(posixpath.normpath(show(values[key])))
    ours = {}
    for source in map("./{}".format, sources) if path == KUSTOMIZATION else sources:
        if isinstance(source, str) and source.startswith("./"):
            name = posixpath.normpath(source if path == KUSTOMIZATION else source.replace("$$", "$"))
            if name not in elsewhere and not name.startswith("../"):
                ours[name] = source
    missing = [ours[name] for name in ours.keys() - existing(ours)]
    if missing:
        text = f"{path} mounts files that do not exist: {', '.join(sorted(missing))}"
        todo = "put those of yours there; then run avatar-setup, which writes its own"
        yield Finding("mount-missing", Level.FAIL, text, todo, RUN_AFTER)


def _check_published(path: str, data: bytes, env: dotenv.Env, values: Values) -> Iterator[Finding]:
    """Check that the stack of nginx publishes the port; in a cluster, a Service does."""
    from setup.formats import compose_file

    if path not in (COMPOSE, STACK):
        return
    port, use = _port(values)
    published = str(values["NGINX_PUBLISHED_PORT"] or port)
    service = compose_file.read([data], env).services.get("nginx")
    if not service or published not in [mapping.published for mapping in service.ports]:
        yield Finding("address", Level.FAIL, f"{path} does not publish port {published}, {use}", _RUN_AGAIN, RUN_AFTER)


def _check_listening(files: Generated, values: Values) -> Iterator[Finding]:
    port, use = _port(values)
    if port not in re.findall(_LISTEN, files.nginx.decode(errors="replace"), re.MULTILINE):
        yield Finding(
            "address",
            Level.FAIL,
            f"{nginx_configuration(values)} does not listen on port {port}, {use}",
            _RUN_AGAIN,
            RUN_AFTER,
        )


def _port(values: Values) -> tuple[str, str]:
    """Return the port on which nginx listens, and what it is for."""
    use = "which the proxy connects to" if derived.behind_proxy(values) else f"the port of {derived.base_url(values)}"
    return str(derived.listen_port(values)), use


def _mapping(document: Any, key: str) -> dict[str, Any]:
    """Return the mapping below a key, an empty one if there is none."""
    from setup.formats import compose_file

    mapping = compose_file.value(document, key)
    return mapping if isinstance(mapping, dict) else {}
