"""Render the files of a deployment from its values: which files there are, and their bytes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType

from setup.config import derived
from setup.config.engines import logs_of, names_content, nginx_configuration, nginx_facts, start_commands
from setup.config.secrets import SECRETS
from setup.config.settings import GROUPS, SETTINGS
from setup.config.types import show
from setup.config.values import Values
from setup.deploy.templates import CannotCarry, Renderer
from setup.formats.digests import digest_all, fingerprint
from setup.formats.dotenv import MARKER
from setup.formats.quoting import Unfit, quote_env
from setup.formats.wrapping import unwrap
from setup.tls.plan import TlsPlan
from setup.typed import TYPE_CHECKING, Any, NamedTuple
from setup.volume.layout import (
    AUTHENTIK,
    BLUEPRINT,
    CA_BUNDLE,
    CERTIFICATE,
    CERTIFICATE_KEY,
    COMPOSE,
    ENV,
    NGINX,
    SECRETS_FOLDER,
    SMTP_USERNAME,
    File,
    file_at,
)

if TYPE_CHECKING:
    from setup.deploy.content import Content, Mount

OURS = b"# Written by avatar-setup"  # the first line of what other engines than Compose are given
_OUR_LABEL = b" avatar-setup.secrets: "  # in every compose file that avatar-setup wrote

# Where Authentik's containers expect the files of `authentik/`. All mount them; those that apply it also mount the
# blueprint.
_IN_AUTHENTIK = (
    ("smtp-username", "/run/secrets/smtp_username"),
    ("email/", "/templates/email/"),
    ("translations.json", "/templates/translations.json"),
    ("branding/favicon.ico", "/media/public/favicon.ico"),
    ("branding/brand_logo.png", "/media/public/brand_logo.png"),
)
_IN_AUTHENTIK_SHELL = "objects=$(cat <<'PYTHON'\n{}PYTHON\n)\nexec ak shell -c \"$objects\"\n"
_MEDIA = "/media/"
WAITING = ("wait_database.sh", "wait_storage.py")  # for what a one-shot does, where no engine tells that it has ended
_API_SERVICES = SECRETS["db_name"].services

_BLUEPRINT_PREFIX = "AVATAR_AUTHENTIK_BLUEPRINT_"


class Parts(NamedTuple):
    """What the files are made of.

    `secrets` are the texts of all secrets, "" while pending. `key` is that of their fingerprints.
    `owner` is the user and group of the files. `kept` are the bytes of edited files that stay, by path.
    """

    values: Values
    secrets: Mapping[str, str]
    key: bytes
    tls: TlsPlan = TlsPlan()
    owner: tuple[int, int] = (0, 0)
    kept: Mapping[str, bytes] = MappingProxyType({})

    def equals(self, other: Parts) -> bool:
        """Tell whether both render to the same bytes, as far as the inputs tell."""
        return self[1:] == other[1:] and self.values.texts() == other.values.texts()


def is_ours(main: bytes) -> bool:
    """Tell whether avatar-setup wrote the file with which a deployment is started."""
    return _OUR_LABEL in main or main.startswith(OURS)


def mark_edits(key: bytes, kept: Mapping[str, bytes]) -> str:
    """Return a fingerprint of edited files, "" if there are none."""
    parts = itertools.chain.from_iterable((path.encode(), kept[path]) for path in sorted(kept))
    return fingerprint(key, parts)[:16] if kept else ""


class Targets:
    """Render the files of one deployment, each once."""

    def __init__(self, renderer: Renderer, parts: Parts) -> None:
        self._renderer = renderer
        self.parts = parts
        self._values, self._secrets, self._key, self.tls, self._owner, self._kept = parts

    @cached_property
    def env(self) -> File:
        """Render `.env`, which only its owner may read because it shows some secrets."""
        text = self._renderer.text("env.j2", {"groups": self._env_groups()})
        return file_at(ENV, text + b"\n" + MARKER)

    @cached_property
    def nginx(self) -> tuple[File, ...]:
        """Render nginx's configuration, and add our own certificate and the CA bundle of the API services."""
        path = nginx_configuration(self._values)
        files = [file_at(path, self._renderer.text("nginx.conf.j2", self._context())), *self.tls.files]
        if self.tls.ca_bundle:
            files.append(file_at(CA_BUNDLE, self.tls.ca_bundle))
        return tuple(files)

    @cached_property
    def authentik(self) -> tuple[File, ...]:
        """Copy the blueprint and the branding; the blueprint gets a last line, the mail's user name a file."""
        names = self._renderer.static_names(AUTHENTIK)
        files = {name: self._renderer.static(name) for name in dict.fromkeys((*names, BLUEPRINT))}
        mark = self._blueprint_mark()
        files[BLUEPRINT] += (
            f"\n# Changes with the values it reads, so that Authentik applies it again: {mark}\n".encode()
        )
        files[SMTP_USERNAME] = f"{self._values['SMTP_USERNAME']}\n".encode()
        return tuple(file_at(name, data) for name, data in files.items())

    def _blueprint_mark(self) -> str:
        """Return a fingerprint of what the blueprint reads from its environment.

        Authentik applies a blueprint again when the file's hash changes, not when a variable does.
        """
        read = [f"BASE={derived.base_url(self._values)}"]
        for key, text in self.env_values().items():
            if key.startswith(_BLUEPRINT_PREFIX):
                read.append(f"{key}={text}")
        return self._fingerprint(read)

    @cached_property
    def compose(self) -> File:
        """Render `docker-compose.yml`, whose labels name what each service mounts."""
        from setup.config.services import NETWORKS, list_services, list_volumes

        rows = {row.name: row for row in list_services(self._values)}
        nothing = dict.fromkeys(rows, ())
        mounted = self._mounted()
        context = self._context() | {
            "row": rows,
            "scripts": {name: self._script(row.script) for name, row in rows.items()},
            "networks": NETWORKS,
            "data_volumes": list_volumes(self._values),
            "secret_names": sorted(set().union(*mounted.values())),
            "secret_directory": f"./{SECRETS_FOLDER}",
            "service_secrets": nothing | mounted,
            "fingerprints": {service: self._secrets_mark(names) for service, names in mounted.items()},
            "file_mounts": nothing | self._file_mounts(),
            "digests": self._digests(),
            "owner": ":".join(map(str, self._owner)),
        }
        return file_at(COMPOSE, self._renderer.text(f"{COMPOSE}.j2", context))

    @cached_property
    def stacks(self) -> tuple[File, ...]:
        """Render the stacks of Docker Swarm, of the same services with the same secrets and files."""
        from setup.deploy import swarm

        return swarm.render(self._content())

    @cached_property
    def kubernetes(self) -> tuple[File, ...]:
        """Render the base of Kubernetes, of the same services with the same secrets and files."""
        from setup.deploy import kubernetes

        return kubernetes.render(self._content(), kubernetes.read_cluster(self._values))

    def _content(self) -> Content:
        """Return what the files of Swarm and Kubernetes are made of."""
        from setup.config.services import list_services, list_volumes
        from setup.deploy.content import Content

        rows = list_services(self._values)
        scripts = {row.name: self._script(row.script) for row in rows}
        return Content(
            rows,
            list_volumes(self._values),
            self.env_values(),
            scripts | {name: self._renderer.static(f"scripts/{name}").decode() for name in WAITING},
            self._secrets,
            self._mounted(),
            self._mounts(),
            self._key,
            self._values["SWARM_ENCRYPTED"],
            self._values["SWARM_PORT_MODE"],
        )

    @property
    def naming(self) -> list[File]:
        """Return the files whose content names something for the engine."""
        return [file for file in (*self.nginx, *self.authentik) if names_content(self._values["TARGET"], file.path)]

    def _mounts(self) -> dict[str, tuple[Mount, ...]]:
        """Return for each service the files that it mounts as they will be, a given certificate included."""
        from setup.deploy.content import Mount

        data = {file.path: file.data for file in (*self.nginx, *self.authentik)} | dict(self._kept)
        mounts: dict[str, tuple[Mount, ...]] = {}
        for service, pairs in self._file_mounts().items():
            mounts[service] = tuple(Mount(path, to, data[path], path == CERTIFICATE_KEY) for path, to in pairs)
        if derived.certificate_is_given(self._values):
            parsed = self.tls.mark.encode() or b"not yet read"
            certificate = Mount(self._values["NGINX_SSL_CERTIFICATE_PATH"], f"/etc/nginx/{CERTIFICATE}", parsed)
            key_path = self._values["NGINX_SSL_CERTIFICATE_KEY_PATH"]
            mounts["nginx"] += (certificate, Mount(key_path, f"/etc/nginx/{CERTIFICATE_KEY}", parsed, is_private=True))
        return mounts

    def _script(self, names: Iterable[str]) -> str:
        """Return the files of a script as one; Python is for the shell of Authentik."""
        parts = []
        for name in names:
            part = self._renderer.static(f"scripts/{name}").decode()
            part = part.replace("LOGS_OF_THE_WORKER", logs_of(self._values, "authentik_worker"))
            part = part.replace("START_AGAIN", " && ".join(start_commands(self._values, "")))
            parts.append(_IN_AUTHENTIK_SHELL.format(part) if name.endswith(".py") else part)
        return "".join(parts)

    @property
    def all(self) -> tuple[File, ...]:
        """Return every file in the order in which the steps publish them; the main file last."""
        return (self.env, *self.nginx, *self.authentik, *self.engine_files)

    @property
    def engine_files(self) -> tuple[File, ...]:
        """Return what the engine is given, its main file last."""
        if derived.on_kubernetes(self._values):
            return self.kubernetes
        return self.stacks if derived.on_swarm(self._values) else (self.compose,)

    def _context(self) -> dict[str, Any]:
        values = {key: self._values[key] for key in SETTINGS if self._values.applies(key)}
        return values | derived.facts(self._values) | nginx_facts(self._values)

    def _file_mounts(self) -> dict[str, list[tuple[str, str]]]:
        """Return for each service the files that it mounts: path in the deployment, and path in the container."""
        mounts = {"nginx": [(nginx_configuration(self._values), f"/etc/{NGINX}")]}
        for path in (CERTIFICATE, CERTIFICATE_KEY) if self.tls.files else ():
            mounts["nginx"].append((path, f"/etc/nginx/{path}"))
        trusted = [(CA_BUNDLE, derived.CA_BUNDLE_AT)] if derived.has_private_ca(self._values) else []
        if trusted:
            mounts |= dict.fromkeys(_API_SERVICES, trusted)
            if derived.database_is_verified(self._values):
                mounts["authentik_init_db"] = trusted
        branding = list(trusted)
        for file in self.authentik:
            for source, target in _IN_AUTHENTIK:
                inside = file.path.startswith(f"{AUTHENTIK}/{source}")
                if inside and (derived.keeps_uploads(self._values) or not target.startswith(_MEDIA)):
                    branding.append((file.path, target + file.path.removeprefix(f"{AUTHENTIK}/{source}")))
        blueprint = (BLUEPRINT, f"/blueprints/{BLUEPRINT.removeprefix(f'{AUTHENTIK}/')}")
        applying = [blueprint, *branding]
        return mounts | {
            "authentik_server": branding,
            "authentik_worker": applying,
            "authentik_blueprint": applying,
        }

    def env_values(self) -> dict[str, str]:
        """Return every key of `.env` with its text, in the catalogue's order."""
        shown = {}
        for key, row in SETTINGS.items():
            if row.in_env and self._values.applies(key):
                shown[key] = show(self._values[key])
        for name, secret in SECRETS.items():
            for key in secret.shown:
                shown[key] = unwrap(self._secrets.get(name, ""))
        for key, text in shown.items():
            try:
                quote_env(text)
            except Unfit as error:
                raise CannotCarry(f"{key}: {error}") from None
        return shown

    def _env_groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        values = self.env_values()
        groups = []
        for group in GROUPS:
            lines = [(key, values.pop(key)) for key, row in SETTINGS.items() if row.group == group and key in values]
            if lines:
                groups.append((group, lines))
        if values:
            groups.append(("Secrets that services read from here", list(values.items())))
        return groups

    def _mounted(self) -> dict[str, tuple[str, ...]]:
        """Return for each service the secrets that it mounts, of those that this deployment has."""
        mounted: dict[str, list[str]] = {}
        for name, secret in SECRETS.items():
            for service in secret.services if secret.when(self._values) else ():
                mounted.setdefault(service, []).append(name)
        return {service: tuple(names) for service, names in mounted.items()}

    @property
    def marks(self) -> set[str]:
        """Return every text in the files that depends on the key and the secrets."""
        if not derived.on_compose(self._values):
            rendered = b"\n".join(file.data for file in self.engine_files).decode()
            return {self._blueprint_mark(), *re.findall(r"(?<=[_-])[0-9a-f]{16}\b", rendered)}
        marks = map(self._secrets_mark, self._mounted().values())
        return {*marks, self._blueprint_mark(), self._digests()["authentik_worker"]}

    @property
    def mark(self) -> str:
        """Return a fingerprint of all secrets: if it changes, so do labels."""
        return self._secrets_mark(self._secrets)

    @property
    def edits_mark(self) -> str:
        """Return a fingerprint of the edited files that services mount: names of Swarm and Kubernetes follow it."""
        return mark_edits(self._key, self._kept)

    def _secrets_mark(self, names: Iterable[str]) -> str:
        """Return a fingerprint of these secrets as they are mounted: if it changes, Compose recreates the service."""
        return self._fingerprint(f"{name}={self._secrets.get(name, '')}" for name in names)

    def _fingerprint(self, texts: Iterable[str]) -> str:
        """Return a short fingerprint for a file that everybody may read."""
        return fingerprint(self._key, map(str.encode, texts))[:16]

    def _digests(self) -> dict[str, str]:
        """Return for each service one digest of the files that it mounts: if one changes, Compose recreates it."""
        data = {file.path: file.data for file in (*self.nginx, *self.authentik) if file.path != CERTIFICATE_KEY}
        digests = {}
        for service, mounts in self._file_mounts().items():
            if mounts:
                digests[service] = digest_all(data[path] for path, _ in mounts if path in data)[:16]
        return digests
