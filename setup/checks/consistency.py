"""Whether `.env`, the compose file, nginx's configuration and the settings say the same; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from setup.config import derived
from setup.config.secrets import SECRETS
from setup.config.settings import DERIVED, SETTINGS
from setup.config.types import show
from setup.config.values import Values
from setup.deploy.targets import COMPOSE, ENV, NGINX
from setup.findings import Finding, Level
from setup.formats import compose_file, dotenv
from setup.formats.yaml_file import Malformed, load_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_VARIABLE = r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}"  # of the form that the template uses
_LISTEN = r"^\s*listen\s+(?:\[::\]:)?([0-9]+)"
_AGAIN = "run avatar-setup, which writes it anew; what was edited by hand, correct or move away first"


class Written(NamedTuple):
    """The three files that belong together."""

    env: bytes
    compose: bytes
    nginx: bytes


def look(
    written: Written, values: Values, texts: Mapping[str, str], stands: Callable[[str], bool]
) -> Iterator[Finding]:
    """What does not fit, or that all does; `texts` are the secrets' values, `stands` tells what is on the volume."""
    findings: list[Finding] = []
    env = dotenv.Env({}, {})
    try:
        env = dotenv.parse(written.env)
        findings += [*_variables(written.compose, env), *_secrets_in(env, values, texts), *_addresses(env, values)]
        findings += _others(env, values)
    except Malformed as error:
        findings.append(Finding("env-form", Level.FAIL, f"{ENV}: {error}", _AGAIN))
    try:
        document = load_yaml(written.compose, aliases=True)
        findings += _mounts(document, values, stands)
        findings += _ports(document, written.nginx, env.values, values)
    except Malformed as error:
        findings.append(Finding("compose-form", Level.FAIL, f"{COMPOSE}: {error}", _AGAIN))
    yield from findings
    if not findings:
        yield Finding("agreement", Level.OK, f"{ENV}, {COMPOSE} and {NGINX} fit each other and the settings")


def _variables(compose: bytes, env: dotenv.Env) -> Iterator[Finding]:
    used = set(re.findall(_VARIABLE, compose.decode(errors="replace")))
    unset = sorted(used - env.values.keys() - env.unsure.keys())
    if unset:
        yield Finding("env-unset", Level.FAIL, f"{COMPOSE} wants what {ENV} does not set: {', '.join(unset)}", _AGAIN)


def _secrets_in(env: dotenv.Env, values: Values, texts: Mapping[str, str]) -> Iterator[Finding]:
    """Keys of `.env` that no longer hold what the secrets they come from hold."""
    stale = [
        f"{key} (of .secrets/{name})"
        for name, secret in SECRETS.items()
        if secret.when(values)
        for key in secret.shown
        if key in env.values and env.values[key] != texts.get(name, "").removesuffix("\n")
    ]
    if stale:
        text = f"{ENV} does not hold the values of these secrets: {', '.join(stale)}"
        yield Finding("env-stale", Level.FAIL, text, _AGAIN)


def _addresses(env: dotenv.Env, values: Values) -> Iterator[Finding]:
    wrong = [
        f"{key} is not {show(values[key])}"
        for key, row in SETTINGS.items()
        if row.group == DERIVED and key in env.values and env.values[key] != show(values[key])
    ]
    if wrong:
        yield Finding("address", Level.FAIL, f"in {ENV}, {'; '.join(wrong)}", _AGAIN)


def _others(env: dotenv.Env, values: Values) -> Iterator[Finding]:
    """Keys that an edit by hand, or a second line further down, gives another value than the settings do."""
    said = {key: values.computed(key) for key, row in SETTINGS.items() if row.group != DERIVED and key in env.values}
    differing = [key for key, one in said.items() if one is not None and show(one.value) != env.values[key]]
    if differing:
        text = f"{ENV} has values of its own, and Compose takes them: {', '.join(differing)}"
        todo = "nothing, if that is meant: to have the settings say it, --set KEY=VALUE and remove the line"
        yield Finding("env-differs", Level.WARN, text, todo)


def _mounts(document: Any, values: Values, stands: Callable[[str], bool]) -> Iterator[Finding]:
    """What the compose file mounts from here and is not there; a given certificate is judged by itself."""
    given = {show(values[key]) for key in ("NGINX_SSL_CERTIFICATE_PATH", "NGINX_SSL_CERTIFICATE_KEY_PATH")}
    given = given if derived.certificate_is_given(values) else set()
    services, secrets = _mapping(document, "services"), _mapping(document, "secrets")
    sources = [compose_file.value(secret, "file") for secret in secrets.values()]
    for service in services.values():
        volumes = compose_file.value(service, "volumes")
        sources += [compose_file.value(volume, "source") for volume in (volumes if isinstance(volumes, list) else ())]
    below = {source for source in sources if isinstance(source, str) and source.startswith("./")} - given
    missing = sorted(source for source in below if not stands(source.removeprefix("./")))
    if missing:
        text = f"{COMPOSE} mounts what is not there: {', '.join(missing)}"
        yield Finding("mount-missing", Level.FAIL, text, "run avatar-setup, which writes what is its own")


def _ports(document: Any, nginx: bytes, env: Mapping[str, str], values: Values) -> Iterator[Finding]:
    wanted = str(derived.listen_port(values))
    served = f"by which {derived.base_url(values)} is reached" if not derived.behind_proxy(values) else "for the proxy"
    if wanted not in compose_file.ports(_mapping(document, "services"), env):
        yield Finding("address", Level.FAIL, f"{COMPOSE} does not publish port {wanted}, {served}", _AGAIN)
    if wanted not in re.findall(_LISTEN, nginx.decode(errors="replace"), re.MULTILINE):
        yield Finding("address", Level.FAIL, f"{NGINX} does not listen on port {wanted}, {served}", _AGAIN)


def _mapping(document: Any, key: str) -> dict[str, Any]:
    """The mapping below a key, an empty one where there is none."""
    found = compose_file.value(document, key)
    return found if isinstance(found, dict) else {}
