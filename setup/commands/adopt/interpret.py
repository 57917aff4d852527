"""What a deployment of another hand says, in this program's terms: settings, secrets, what is left open; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from setup import state_file
from setup.commands.adopt import source as foreign
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.formats import compose_file, dotenv
from setup.formats.yaml_file import Malformed, load_yaml
from setup.secrets.plan import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Older names, and names whose meaning others carry or that mean nothing any more.
_OLDER = {"IS_TELEMETRY_ENABLED": "TELEMETRY_ENABLED"}
_ADDRESSES = ("AVATAR_WEB_CLIENT_URL", "AVATAR_API_URL", "WEB_CLIENT_URL", "BASE_API_URL")
_HOSTS = ("AVATAR_DOMAIN", "AVATAR_AUTHENTIK_BLUEPRINT_DOMAIN")
_IMPLIED = frozenset({
    *_ADDRESSES, "PUBLIC_URL_SCHEME", "RESOLVED_PUBLIC_BASE_URL", "SECRETS_DIR", "COMPOSE_PROJECT_NAME", "AVATAR_HOME",
    "USE_AWS_SMTP_PRESET", "deployment_mode", "SELF_SIGNED_CERT_PATH", "AVATAR_SSO_URL", "AVATAR_AUTHENTIK_URL",
    "AVATAR_API_PUBLIC_URL", "AVATAR_API_INTERNAL_URL",
})  # fmt: skip
_SECRET_OF = {key: name for name, secret in SECRETS.items() for key in (name, name.upper(), *secret.shown)}


class Told(NamedTuple):
    """A value, and where it stands."""

    text: str
    where: str


class Understood(NamedTuple):
    """A foreign deployment: settings, exact texts of secrets, and of both those that cannot be told, with the reason.

    `env` is what its `.env` holds, `unknown` are keys that mean nothing here, `problems` stop everything.
    """

    kind: str
    settings: dict[str, Told]
    secrets: dict[str, Told]
    env: dict[str, str]
    unsure: dict[str, str]
    unknown: list[str]
    notes: list[str]
    problems: list[str]


def understand(tree: foreign.Tree) -> Understood:
    """Everything that a tree says; its latest state outranks `.env`, and the compose file only fills gaps."""
    found = Understood(_kind(tree), {}, {}, {}, {}, [], [], [])
    found.problems.extend(foreign.problems(tree))
    told: dict[str, list[Told]] = {}
    for source in (_of_state, _of_env, _of_compose):
        entries, where = source(tree, found)
        for key, text in entries.items():
            told.setdefault(key, []).append(Told(text, where))
    _settings(found, told)
    _secrets(found, tree, told)
    found.unknown.extend(sorted(key for key in {*told, *found.unsure} if not _is_known(key)))
    names = {key: _SECRET_OF.get(key, _OLDER.get(key, key)) for key in found.unsure}
    return found._replace(unsure={names[key]: why for key, why in found.unsure.items() if _is_open(found, names[key])})


def _kind(tree: foreign.Tree) -> str:
    where, data = next(iter(tree.states.items()), ("", b""))
    if not where:
        return "made by hand"
    if where != foreign.STATE:
        return f"of the public deployment tool (state {where.split('/')[1]})"
    return f"of {state_file.TOOL}" if state_file.is_ours(data) else "of the public deployment tool"


def _of_state(tree: foreign.Tree, found: Understood) -> tuple[dict[str, str], str]:
    """The entries of the latest state."""
    where, data = next(iter(tree.states.items()), (foreign.STATE, b""))
    try:
        entries = _entries(data) if tree.states else {}
    except Malformed as error:
        told = where != foreign.STATE or str(error).endswith(state_file.RUN_NEWER)  # nothing else helps then
        found.problems.append(f"{tree.path}/{where}: {error}{'' if told else f'. {foreign.way_back(tree)}'}")
        entries = {}
    return {key: value for key, value in entries.items() if isinstance(value, str) and value.strip()}, where


def _entries(data: bytes) -> dict[str, Any]:
    """KEY -> value of a state, in any of its three formats; raises Malformed."""
    if state_file.is_ours(data):
        return {key: said.text for key, said in state_file.parse(data).answers.items()}
    document = load_yaml(data)
    sections = document if isinstance(document, dict) else {}
    if isinstance(sections.get("items"), dict):
        return {key: entry.get("value") for key, entry in sections["items"].items() if isinstance(entry, dict)}
    if not isinstance(sections.get("config"), dict):
        raise Malformed("it is no state file that this release knows: it has neither items nor a config")
    return dict(sections["config"])


def _of_env(tree: foreign.Tree, found: Understood) -> tuple[dict[str, str], str]:
    try:
        env = dotenv.parse(tree.files.get(foreign.ENV, b""))
    except Malformed as error:
        found.problems.append(f"{tree.path}/{foreign.ENV}: {error}")
        return {}, foreign.ENV
    found.env.update(env.values)
    found.unsure.update({key: f"in {foreign.ENV} {why}" for key, why in env.unsure.items()})
    return {key: text for key, text in env.values.items() if text.strip()}, foreign.ENV


def _of_compose(tree: foreign.Tree, found: Understood) -> tuple[dict[str, str], str]:
    """What the compose file tells; without one, nginx's configuration tells whether it serves TLS."""
    name = next((name for name in foreign.COMPOSE_NAMES if name in tree.files), "")
    try:
        told = compose_file.read(tree.files[name], found.env) if name else compose_file.Composed({}, {}, [])
    except Malformed as error:
        told = compose_file.Composed(
            {}, {}, [f"{name} was not understood ({error}): compare images and volumes yourself"]
        )
    found.unsure.update({key: f"in {name} {why}" for key, why in told.unsure.items()})
    found.notes.extend(told.notes)
    entries = dict(told.settings)
    nginx = tree.files.get(foreign.NGINX, b"")
    if nginx:
        tls = re.search(rb"^\s*listen\s[^;#]*\bssl\b", nginx, re.MULTILINE)
        entries["NGINX_TLS_ENABLED"] = "true" if tls else "false"
    return entries, name or foreign.NGINX


def _settings(found: Understood, told: Mapping[str, list[Told]]) -> None:
    """The settings, by their present names."""
    first = {key: values[0] for key, values in told.items()}
    for key, values in told.items():
        name = _OLDER.get(key, key)
        if name in SETTINGS and name != "NGINX_TLS_ENABLED":
            found.settings.setdefault(name, values[0])
        other = next((one for one in values[1:] if one.where == foreign.ENV), values[0])
        if name in SETTINGS and other.text.casefold() != values[0].text.casefold():
            found.notes.append(
                f"{key}: {values[0].where} says {values[0].text}, {other.where} {other.text}: taken is the first"
            )
    found.settings.update(_address(first))
    if "TELEMETRY_S3_BUCKET_NAME" in first:  # with a bucket, the public tool counts telemetry as on
        found.settings.setdefault("TELEMETRY_ENABLED", Told("true", first["TELEMETRY_S3_BUCKET_NAME"].where))
    else:
        found.settings.pop("TELEMETRY_ENABLED", None)


def _address(told: Mapping[str, Told]) -> dict[str, Told]:
    """PUBLIC_URL and TLS_MODE, which older deployments spell in other ways."""
    found = {}
    url = _public_url(told)
    if url:
        found["PUBLIC_URL"] = url
    enabled = told.get("NGINX_TLS_ENABLED")
    if enabled and "TLS_MODE" not in told:
        without = "off" if url and url.text.startswith("http://") else "behind-proxy"
        found["TLS_MODE"] = enabled._replace(text="provided" if enabled.text.strip().lower() == "true" else without)
    if "SELF_SIGNED_CERT_PATH" in told:
        found["TLS_CA_PATH"] = told["SELF_SIGNED_CERT_PATH"]
    return found


def _public_url(told: Mapping[str, Told]) -> Told | None:
    """The public address, with its scheme only where that says more than the usual https."""
    given = told.get("PUBLIC_URL")
    if given and "://" in given.text:
        return given
    addresses = [told[key] for key in _ADDRESSES if key in told]
    schemes = [told["PUBLIC_URL_SCHEME"].text] if "PUBLIC_URL_SCHEME" in told else []
    schemes += [address.text.partition("://")[0] for address in addresses if "://" in address.text]
    hosts = [given] if given else [told[key] for key in _HOSTS if key in told]
    hosts += [one._replace(text=one.text.rpartition("://")[2].partition("/")[0]) for one in addresses]
    if not hosts:
        return None
    plain = bool(schemes) and schemes[0].lower() == "http"
    return hosts[0]._replace(text=f"http://{hosts[0].text}" if plain else hosts[0].text)


def _secrets(found: Understood, tree: foreign.Tree, told: Mapping[str, list[Told]]) -> None:
    """Every secret, from its file, `.env` and state; one that is told in two ways is nobody's to choose here."""
    for name, secret in SECRETS.items():
        values = list(_of_file(found, tree, name))
        for key in dict.fromkeys((name, name.upper(), *secret.shown)):
            values += [one._replace(where=f"{one.where} ({key})") for one in told.get(key, [])]
        different = {value.text.removesuffix("\n"): value for value in reversed(values)}
        if len(different) > 1:
            found.unsure[name] = "stands with different values in " + " and ".join(
                one.where for one in different.values()
            )
        elif values:
            found.secrets[name] = values[0]
    token, bootstrap = found.secrets.get("authentik_api_token"), found.secrets.get("authentik_bootstrap_token")
    if token and bootstrap and token.text == bootstrap.text:
        del found.secrets["authentik_api_token"]
        found.notes.append(
            "AUTHENTIK_API_TOKEN was Authentik's bootstrap token, a superuser's: the API gets a token of its own"
        )


def _of_file(found: Understood, tree: foreign.Tree, name: str) -> Iterator[Told]:
    data = tree.files.get(path_of(name), b"")
    try:
        if data.strip():
            yield Told(data.decode(), path_of(name))
    except UnicodeDecodeError:
        found.problems.append(f"{tree.path}/{path_of(name)} is not UTF-8 text: put its value there from a backup")


def _is_known(key: str) -> bool:
    return key in SETTINGS or key in _OLDER or key in _IMPLIED or key in _SECRET_OF


def _is_open(found: Understood, name: str) -> bool:
    """Whether a value that one place does not tell matters, and is told by no other."""
    return (name in SETTINGS or name in SECRETS) and name not in found.secrets and name not in found.settings
