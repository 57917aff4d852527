"""The files of a deployment as pure functions of its values: which there are, and their bytes."""

from __future__ import annotations

import hashlib
from functools import cached_property

from setup import derived
from setup.catalogue import GROUPS, IMAGES, SETTINGS
from setup.lookup import Values
from setup.model import File
from setup.render import CannotCarry, Renderer, quote_env
from setup.secret_catalogue import DIRECTORY, SECRETS
from setup.values import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ENV = ".env"
NGINX = "nginx/nginx.conf"
CA_BUNDLE = "tls/ca-bundle.crt"
COMPOSE = "docker-compose.yml"
AUTHENTIK = "authentik"

# What the API services do not get of `.env`, besides the group of images.
_NOT_FOR_API = ("DB_VOLUME", "SEAWEEDFS_VOLUME", "AVATAR_SEAWEEDFS_LOG_VERBOSITY", "AVATAR_DOMAIN")
_NOT_FOR_API_PREFIXES = ("AUTHENTIK_BOOTSTRAP_", "AVATAR_AUTHENTIK_BLUEPRINT_")


class Targets:
    """Renders the files of one deployment; `secrets` holds every secret's text, "" while pending."""

    def __init__(
        self,
        renderer: Renderer,
        values: Values,
        secrets: Mapping[str, str],
        generations: Mapping[str, int],
        ca_bundle: bytes = b"",
    ) -> None:
        self._renderer = renderer
        self._values = values
        self._secrets = secrets
        self._generations = generations
        self.ca_bundle = ca_bundle

    def same(
        self, values: Values, secrets: Mapping[str, str], generations: Mapping[str, int], ca_bundle: bytes
    ) -> bool:
        """Whether these would render to the same bytes, as far as the inputs tell."""
        mine = (self._values.texts(), self._secrets, self._generations, self.ca_bundle)
        return mine == (values.texts(), secrets, generations, ca_bundle)

    @cached_property
    def env(self) -> File:
        """`.env`, readable by its owner only: some secrets show in it."""
        return File(ENV, self._renderer.text("env.j2", {"groups": self._env_groups()}), 0o600)

    @cached_property
    def nginx(self) -> tuple[File, ...]:
        """nginx's configuration, and with a private CA the bundle that the API services trust."""
        files = [File(NGINX, self._renderer.text("nginx.conf.j2", self._context()), 0o644)]
        if self.ca_bundle:
            files.append(File(CA_BUNDLE, self.ca_bundle, 0o644))
        return tuple(files)

    @cached_property
    def authentik(self) -> tuple[File, ...]:
        """The blueprint and the branding, copied as they are."""
        names = self._renderer.static_names(AUTHENTIK)
        return tuple(File(name, self._renderer.static(name), 0o644) for name in names)

    @cached_property
    def compose(self) -> File:
        """`docker-compose.yml`, whose labels name what each service mounts."""
        context = self._context() | {
            "api_env_keys": self._api_env_keys(),
            "secret_names": sorted({name for names in self._mounted().values() for name in names}),
            "secret_directory": f"./{DIRECTORY}",
            "service_secrets": self._mounted(),
            "generations": {service: self._generation(names) for service, names in self._mounted().items()},
            "digests": self._digests(),
        }
        return File(COMPOSE, self._renderer.text("docker-compose.yml.j2", context), 0o644)

    @property
    def all(self) -> tuple[File, ...]:
        """Every file in the order in which the steps publish them; the compose file last."""
        return (self.env, *self.nginx, *self.authentik, self.compose)

    def _context(self) -> dict[str, Any]:
        keys = [key for key in SETTINGS if self._values.applies(key)]
        return {key: self._values[key] for key in keys} | derived.facts(self._values)

    def env_values(self) -> dict[str, str]:
        """Every key of `.env` with its text, in the catalogue's order."""
        shown = {
            key: show(self._values[key]) for key, row in SETTINGS.items() if row.in_env and self._values.applies(key)
        }
        for name, secret in SECRETS.items():
            for key in secret.shown:
                shown[key] = self._secrets.get(name, "").removesuffix("\n")
        for key, text in shown.items():
            try:
                quote_env(text)
            except ValueError as error:
                raise CannotCarry(f"{key}: {error}") from None
        return shown

    def _env_groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        values = self.env_values()
        groups = [(group, [(key, values.pop(key)) for key in _keys_of(group) if key in values]) for group in GROUPS]
        groups.append(("Secrets that must also stand here", list(values.items())))
        return [(title, lines) for title, lines in groups if lines]

    def _api_env_keys(self) -> list[str]:
        return [
            key
            for key in self.env_values()
            if key not in _NOT_FOR_API
            and not key.startswith(_NOT_FOR_API_PREFIXES)
            and not (key in SETTINGS and SETTINGS[key].group == IMAGES)
        ]

    def _mounted(self) -> dict[str, tuple[str, ...]]:
        """Service -> the secrets it mounts, of those that this deployment has."""
        mounted: dict[str, list[str]] = {}
        for name, secret in SECRETS.items():
            for service in secret.services if secret.when(self._values) else ():
                mounted.setdefault(service, []).append(name)
        return {service: tuple(names) for service, names in mounted.items()}

    def _generation(self, names: tuple[str, ...]) -> str:
        """A number that grows whenever one of these secrets changes, so that compose sees it."""
        return str(sum(self._generations.get(name, 0) for name in names))

    def _digests(self) -> dict[str, str]:
        files = (*self.nginx, *self.authentik)
        return {file.path: hashlib.sha256(file.data).hexdigest()[:16] for file in files}


def _keys_of(group: str) -> list[str]:
    return [key for key, row in SETTINGS.items() if row.group == group]
