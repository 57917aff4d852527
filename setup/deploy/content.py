"""What an engine other than Compose is given: the rows, and the values that the compose file only names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from setup.config.services import Service, Variable
from setup.typed import NamedTuple


class Mount(NamedTuple):
    """A file of the deployment in a container; `content` is what names its version."""

    source: str
    target: str
    content: bytes
    is_private: bool = False  # for root alone, and never where every administrator may read it


class Content(NamedTuple):
    """What the files of Swarm and Kubernetes are made of: the rows, and what each row's name has of the rest.

    `secrets` are the texts of all secrets; `key` is that of the fingerprints in names.
    """

    rows: tuple[Service, ...]
    volumes: tuple[Variable, ...]
    env: Mapping[str, str]
    scripts: Mapping[str, str]
    secrets: Mapping[str, str]
    mounted: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[Mount, ...]]
    key: bytes
    is_encrypted: bool = False  # Swarm's overlay networks, as the next
    port_mode: str = "host"


def literal(text: str, env: Mapping[str, str]) -> str:
    """Return a text of the table with its `${KEY}` replaced, because neither engine reads `.env`; the rest escaped."""
    return escape(re.sub(r"\$\{(\w+)\}", lambda key: env[key[1]], text))


def escape(text: str) -> str:
    """Return a text from which Swarm and Kubernetes read the same back: both take `$$` for `$`."""
    return text.replace("$", "$$")


def value_of(variable: Variable, env: Mapping[str, str]) -> str:
    """Return an environment variable's value, escaped."""
    return escape(variable.text) if variable.computed else literal(variable.text, env)
