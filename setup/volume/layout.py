"""Every path of the volume, with its mode, its writer and who may look in: no path is spelled out anywhere else.

Add a generated file here first: a constant for its path, and a row of PLACES if its folder is new.
"""

from __future__ import annotations

from setup.step_names import FINALIZE, GENERATE_ENV_FILE, GENERATE_NGINX_CONFIG
from setup.typed import NamedTuple


class File(NamedTuple):
    """A file for the volume, or one read from it: path below the output directory, bytes and mode.

    A file that is written `once` never replaces another one, unless that one is empty.
    """

    path: str
    data: bytes
    mode: int
    once: bool = False


# What the operator starts and what the stack mounts.
COMPOSE = "docker-compose.yml"
COMPOSE_BEFORE = ("compose.yaml", "compose.yml")  # which Compose reads instead, if one exists
COMPOSE_NAMES = (*COMPOSE_BEFORE, COMPOSE, "docker-compose.yaml")  # it reads the first of them
ENV = ".env"
STACK_STATE = "stack.state.yml"  # of Docker Swarm, in the order in which they are deployed
STACK_JOBS = "stack.jobs.yml"
STACK = "stack.yml"
STACK_EMPTY = "stack.empty"  # what stands for an empty secret there
SWARM_FILES = (STACK_STATE, STACK_JOBS, STACK)
KUSTOMIZATION = "kustomization.yaml"
KUBERNETES = "kubernetes"  # the folder of its objects
KUBERNETES_WORKLOADS = f"{KUBERNETES}/workloads.yaml"
KUBERNETES_JOBS = f"{KUBERNETES}/jobs.yaml"
KUBERNETES_NETWORK = f"{KUBERNETES}/network.yaml"
KUBERNETES_NGINX = f"{KUBERNETES}/nginx.conf"
KUBERNETES_ENV = f"{KUBERNETES}/secret.env"  # the secrets that services read from their environment
MAIN_FILES = (COMPOSE, STACK, KUSTOMIZATION)  # the last that is published, one for each engine
NGINX = "nginx/nginx.conf"
AUTHENTIK = "authentik"
BLUEPRINT = f"{AUTHENTIK}/octopize-avatar-blueprint.yaml"
SMTP_USERNAME = f"{AUTHENTIK}/smtp-username"  # for Authentik, which takes digits in its environment for a number
SECRETS_FOLDER = ".secrets"
TLS_FOLDER = "tls"
KEYS_FOLDER = f"{TLS_FOLDER}/private"
CA_BUNDLE = f"{TLS_FOLDER}/ca-bundle.crt"
# TLS_MODE=self-signed creates these; a certificate of the operator's has the same place unless settings name another.
CERTIFICATE = f"{TLS_FOLDER}/server.fullchain.crt"
CERTIFICATE_KEY = f"{KEYS_FOLDER}/server.decrypted.key"
AUTHORITY = f"{TLS_FOLDER}/avatar-ca.crt"
AUTHORITY_KEY = f"{KEYS_FOLDER}/avatar-ca.key"
# What --save-config and --export-config write.
CONFIG = "deployment-config.yaml"

# What is added to the name of a file.
BACKUP_SUFFIX = ".bak"  # the bytes that it had before
PROPOSAL_SUFFIX = ".new"  # the bytes that it would have if the operator had not edited it
STAGED_SUFFIX = ".avatar-setup-new"  # the temporary name of a file before it is published, with a dot in front

# What avatar-setup remembers.
_RECORDS = ".deployment-"
STATE = f"{_RECORDS}state.yaml"
LAST_GOOD = f"{STATE}{BACKUP_SUFFIX}"
LOCK = f"{_RECORDS}state.lock"
LABEL_KEY = f"{_RECORDS}labels.key"  # of the fingerprints that stand in files which everybody may read
WRITTEN = f"{_RECORDS}written"  # the text of every generated file, and the settings behind it
SETTINGS_RECORD = f"{WRITTEN}/settings.json"
HISTORY = f"{_RECORDS}history"  # a folder for each backup
RESTORE_MARK = f"{HISTORY}/restoring"  # names the backup that is being restored
_MANIFEST = "manifest.json"


class Place(NamedTuple):
    """A file, or a folder (its path ends with a slash) whose files share mode and writer.

    `writer` is the step that writes there first, or "every run" for its own records.
    No other user of the host may enter a `private` folder.
    """

    path: str
    mode: int
    writer: str
    private: bool = False


PLACES = (
    Place("", 0o644, FINALIZE),  # the output directory: what has no row of its own
    Place(STATE, 0o600, "every run"),
    Place(LAST_GOOD, 0o600, "every run"),
    Place(LOCK, 0o600, "every run"),
    Place(LABEL_KEY, 0o600, FINALIZE),
    Place(ENV, 0o600, GENERATE_ENV_FILE),
    Place("nginx/", 0o644, GENERATE_NGINX_CONFIG),
    Place(f"{TLS_FOLDER}/", 0o644, GENERATE_NGINX_CONFIG),
    Place(f"{KEYS_FOLDER}/", 0o600, GENERATE_NGINX_CONFIG, private=True),
    Place(f"{SECRETS_FOLDER}/", 0o644, GENERATE_ENV_FILE, private=True),  # read by any container user
    Place(f"{AUTHENTIK}/", 0o644, FINALIZE),
    Place(f"{AUTHENTIK}/branding/", 0o644, FINALIZE),
    Place(CONFIG, 0o600, FINALIZE),
    Place(COMPOSE, 0o644, FINALIZE),
    Place(STACK_STATE, 0o600, FINALIZE),
    Place(STACK_JOBS, 0o600, FINALIZE),
    Place(STACK, 0o600, FINALIZE),
    Place(STACK_EMPTY, 0o600, FINALIZE),
    Place(KUSTOMIZATION, 0o644, FINALIZE),
    Place(f"{KUBERNETES}/", 0o644, FINALIZE),
    Place(KUBERNETES_ENV, 0o600, FINALIZE),
    Place(KUBERNETES_NGINX, 0o644, GENERATE_NGINX_CONFIG),
    Place(f"{WRITTEN}/", 0o600, GENERATE_ENV_FILE, private=True),
    Place(f"{WRITTEN}/nginx/", 0o600, GENERATE_NGINX_CONFIG, private=True),
    Place(f"{WRITTEN}/{AUTHENTIK}/", 0o600, FINALIZE, private=True),
    Place(f"{WRITTEN}/{KUBERNETES}/", 0o600, FINALIZE, private=True),
    Place(f"{HISTORY}/", 0o600, "every run", private=True),
)
# Folders that may hold staged files while a run writes, and after it was killed.
SWEPT = tuple(place.path.rstrip("/") for place in PLACES if not place.path or place.path.endswith("/"))
_ROWS = {place.path: place for place in PLACES}
_PRIVATE = tuple(place.path for place in PLACES if place.private)


def place_of(path: str) -> Place:
    """Return the row of a path: its own, or that of the nearest folder above it."""
    rest = path
    while rest not in _ROWS:  # the output directory, "", has a row
        rest = rest[: rest.rfind("/", 0, -1) + 1]
    return _ROWS[rest]


def file_at(path: str, data: bytes, *, once: bool = False) -> File:
    """Return a file with the mode that its path has."""
    return File(path, data, place_of(path).mode, once)


def folder_mode(folder: str) -> int:
    """Return the mode of a folder: other users enter only what is not private."""
    return 0o700 if f"{folder}/".startswith(_PRIVATE) else 0o755


def is_record(path: str) -> bool:
    """Tell whether a path belongs to what avatar-setup remembers, rather than to the deployment."""
    return path.startswith(_RECORDS)


def secret_path(name: str) -> str:
    """Return the path of a secret's file."""
    return f"{SECRETS_FOLDER}/{name}"


def written_path(path: str) -> str:
    """Return where the text of a generated file is kept as it was last written."""
    return f"{WRITTEN}/{path}"


def backup_path(identifier: str, path: str) -> str:
    """Return where a backup keeps a file."""
    return f"{HISTORY}/{identifier}/{path}"


def manifest_path(identifier: str) -> str:
    """Return the path of a backup's manifest."""
    return backup_path(identifier, _MANIFEST)


def staged_name(name: str) -> str:
    """Return the temporary name beside a name, under which a file is staged."""
    return f".{name.lstrip('.')}{STAGED_SUFFIX}"


def is_staged_name(name: str) -> bool:
    """Tell whether a name in a folder is that of a staged file."""
    return name.startswith(".") and name.endswith(STAGED_SUFFIX)
