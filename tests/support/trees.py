"""The named configurations of the golden trees, and the trees they make.

    python -m tests.support.trees --update      stores them in tests/golden

A golden tree holds `.env`, the compose file and nginx's configuration as they must be, byte for byte, and a list of
every file with its mode and digest. Two trees are stored whole. Of the others the differences from the usual one are
stored; the digests among them stand for each byte.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from setup.config.model import Given, Source
from setup.config.resolver import Resolution, resolve
from setup.config.secrets import SECRETS
from setup.deploy.targets import Parts, Targets
from setup.deploy.templates import Renderer
from setup.tls.plan import TlsPlan
from setup.volume.layout import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, CERTIFICATE_KEY, File
from tests.support.documents import read_yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"
GOLDEN = ROOT / "tests" / "golden"
LIST = "FILES"
WHOLE = ("usual", "behind-proxy")  # the others as differences from the first

# What differs from these has its reason in a configuration below.
USUAL = {"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "example-prod", "SMTP_HOST": "mail.example.com"}
USUAL_SECRETS = {"organization_name": "Example"}
ADMINS = {"admin_emails": "ada@example.com,grace@example.com"}


@dataclass(frozen=True)
class Configuration:
    """What an operator says for one deployment; `about` tells what is special about it."""

    about: str
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)


CONFIGURATIONS = {
    "usual": Configuration("as little as possible is said: e-mail sign-in, TLS by nginx, bundled database"),
    "username-smtp": Configuration(
        "sign-in by user name, a mail server with TLS from the start and a hostile password",
        {
            "AVATAR_API_VERSION": "2.81.3",
            "AUTH_TYPE": "username",
            "SMTP_HOST": "mail.example.com",
            "SMTP_PORT": "465",
            "SMTP_USERNAME": "avatar user",
            "SMTP_SENDER_EMAIL": "avatar@example.com",
        },
        {"avatar_first_user_name": "ada", "smtp_password": """ it's "5 $5" \\ #no comment """},
    ),
    "telemetry-redirect": Configuration(
        "telemetry by preset, a redirect port, further host names, certificates under hostile paths",
        {
            "PRESET": "default",
            "TELEMETRY_S3_BUCKET_NAME": "example-telemetry",
            "NGINX_HTTP_REDIRECT_PORT": "80",
            "TLS_EXTRA_NAMES": "avatar.internal,192.0.2.7,2001:db8::7,avatar.example.com",
            "NGINX_SSL_CERTIFICATE_PATH": "/etc/our certs/a:b #1 $5.crt",
            "NGINX_SSL_CERTIFICATE_KEY_PATH": "../keys/it's \"the\" key.pem",
        },
        {"telemetry_s3_access_key_id": "AKEXAMPLE", "telemetry_s3_secret_access_key": "telemetry/secret+key="},
    ),
    "behind-proxy": Configuration(
        "TLS terminates at another proxy, which passes on the client's address",
        {
            "PUBLIC_URL": "https://avatar.example.com:8443",
            "TLS_MODE": "behind-proxy",
            "NGINX_HTTP_PORT": "8081",
            "TRUSTED_PROXIES": "10.0.0.0/8,2001:db8::/32,192.0.2.1",
        },
    ),
    "plain-http": Configuration(
        "no TLS at all, the port from the URL", {"PUBLIC_URL": "http://avatar.test:8088", "NGINX_TLS_ENABLED": "false"}
    ),
    "external-database": Configuration(
        "a database outside of the stack, and hostile names in it",
        {"DB_HOST": "pg.example.com", "DATASET_EXPIRATION_DAYS": "2w"},
        {
            "db_admin_user": "admin",
            "db_admin_password": "given by the provider",
            "authentik_database_name": """o'brien "x" $y""",
        },
    ),
    "self-signed": Configuration(
        "a certificate of our own, for further names and addresses",
        {"TLS_MODE": "self-signed", "TLS_EXTRA_NAMES": "avatar.internal,192.0.2.7,2001:db8::7", "PRESET": "airgapped"},
    ),
    "preflight": Configuration(
        "the stack waits for a check, and has no database of its own",
        {"PREFLIGHT_IMAGE": "mirror.example:5000/avatar-setup:0.1.0", "DB_HOST": "pg.example.com"},
        {"db_admin_user": "admin", "db_admin_password": "given by the provider"},
    ),
    "private-ca": Configuration(
        "a private CA, and a port in the public URL",
        {"PUBLIC_URL": "avatar.corp:9443", "TLS_CA_PATH": "./tls/ca.crt", "LOG_LEVEL": "DEBUG"},
    ),
    "ipv6-on": Configuration(
        "nginx listens on IPv6, with a redirect", {"NGINX_IPV6": "on", "NGINX_HTTP_REDIRECT_PORT": "80"}
    ),
    "ipv6-literal": Configuration(
        "the public host is an IPv6 address", {"PUBLIC_URL": "https://[2001:db8::1]:8443", "NGINX_IPV6": "on"}
    ),
    "ipv4-literal": Configuration(
        "the public host is an IPv4 address, without TLS", {"PUBLIC_URL": "http://192.0.2.10"}
    ),
    "api-2": Configuration(
        "an API release before 3 has more secrets, and may send mail from Octopize's account",
        {"AVATAR_API_VERSION": "2.30", "AVATAR_WEB_VERSION": "0.40", "MAIL_PROVIDER": "aws", "SMTP_HOST": ""},
    ),
    "airgapped": Configuration(
        "a site with a mirror of every image and no way out",
        {
            "PRESET": "airgapped",
            "PUBLIC_URL": "bücher.example",
            "AVATAR_REGISTRY": "mirror.example:5000/avatar",
            "AVATAR_SEAWEEDFS_REGISTRY": "mirror.example:5000/hub",
            "AVATAR_AUTHENTIK_REPOSITORY": "mirror.example:5000/authentik",
            "POSTGRES_IMAGE": "mirror.example:5000/postgres:14-alpine",
            "NGINX_IMAGE": "mirror.example:5000/nginx@sha256:" + "0f" * 32,
            "SMTP_HOST": "192.0.2.25",
            "SMTP_PORT": "25",
            "SMTP_VERIFY": "false",
        },
    ),
}  # fmt: skip

CA_BUNDLE = b"a stand-in for the public roots and the private CA\n"
# Real ones are never the same twice.
MADE = tuple(
    File(path, f"a stand-in for {path}\n".encode(), mode)
    for path, mode in ((AUTHORITY_KEY, 0o600), (AUTHORITY, 0o644), (CERTIFICATE_KEY, 0o600), (CERTIFICATE, 0o644))
)


@cache
def _defaults() -> dict[str, Any]:
    loaded: dict[str, Any] = read_yaml((ROOT / "setup" / "defaults.yaml").read_text())
    return loaded


def resolution(settings: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> Resolution:
    """The values of a deployment of which an operator says this much; every problem is an error."""
    texts = {"PRESET": ""} | USUAL | settings
    defaults = {key: Given(text, Source.DEFAULT) for key, text in _defaults()["settings"].items()}
    said = {key: Given(text, Source.CALLER) for key, text in texts.items() if text}
    found = resolve([defaults, {}, said], _defaults()["presets"], {}, _given(settings, secrets))
    if found.problems or found.missing:
        raise ValueError(f"problems: {found.problems}, missing: {found.missing}")
    return found


def secret_texts(settings: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> dict[str, str]:
    """A text for every secret of the deployment: what was given, the customary one, or one that anybody can see
    is not real."""
    values = resolution(settings, secrets).values
    given = _given(settings, secrets)
    texts = {}
    for name, row in SECRETS.items():
        if row.when(values):
            texts[name] = given.get(name) or row.customary or _not_real(name, row.generate)
    return texts


def _given(settings: Mapping[str, str], secrets: Mapping[str, str] | None) -> dict[str, str]:
    admins = {} if settings.get("AUTH_TYPE") == "username" else ADMINS
    return USUAL_SECRETS | admins | dict(secrets or {})


def _not_real(name: str, generate: str | None) -> str:
    if generate == "hex":
        return hashlib.sha256(f"not a real {name}".encode()).hexdigest()
    return f"not-a-real-{name}" if generate else ""


def targets(
    settings: Mapping[str, str],
    secrets: Mapping[str, str] | None = None,
    key: bytes = b"not a real key",
    owner: tuple[int, int] = (0, 0),
) -> Targets:
    """The files of a deployment of which an operator says this much."""
    values = resolution(settings, secrets).values
    own = values["TLS_MODE"] == "self-signed"
    tls = TlsPlan(MADE if own else (), CA_BUNDLE if own or values["TLS_CA_PATH"] else b"")
    return Targets(Renderer(TEMPLATES), Parts(values, secret_texts(settings, secrets), key, tls, owner))


@cache
def named_targets(name: str) -> Targets:
    """The files of one of the configurations above."""
    configuration = CONFIGURATIONS[name]
    return targets(configuration.settings, configuration.secrets)


def write_tree(directory: Path, made: Targets, secrets: Mapping[str, str]) -> Path:
    """Writes a deployment as the configurator would, secrets included, for a test that runs it."""
    secret_directory = directory / ".secrets"
    secret_directory.mkdir(parents=True)
    for name, text in secrets.items():
        (secret_directory / name).write_text(text)
        (secret_directory / name).chmod(0o644)
    for file in made.all:
        path = directory / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(file.mode)
    return directory


def golden_files(name: str) -> dict[str, bytes]:
    """Path below tests/golden -> bytes: the tree of a configuration, or how it differs from the usual one."""
    if name in WHOLE:
        return {f"{name}/{path}": data for path, data in made_files(name).items()}
    return {f"{name}.diff": _differences(made_files("usual"), made_files(name), lines_around=1).encode()}


@cache
def made_files(name: str) -> dict[str, bytes]:
    """Path -> bytes of the generated files, and the list of every file, which covers the static ones too."""
    files = named_targets(name).all
    shown = {file.path: file.data for file in files if not file.path.startswith(("authentik/", "tls/"))}
    return shown | {LIST: _listing(files)}


def _listing(files: tuple[File, ...]) -> bytes:
    lines = [f"{file.mode:04o} {hashlib.sha256(file.data).hexdigest()} {file.path}\n" for file in files]
    return "".join(lines).encode()


def _differences(old: Mapping[str, bytes], new: Mapping[str, bytes], lines_around: int) -> str:
    """A diff of two trees; without line numbers, which any change further up would move."""
    lines: list[str] = []
    for path in sorted(old.keys() | new.keys()):
        before, after = (tree.get(path, b"").decode().splitlines(keepends=True) for tree in (old, new))
        for line in difflib.unified_diff(before, after, f"usual/{path}", f"this/{path}", n=lines_around):
            lines.append("@@\n" if line.startswith("@@ -") else line)
    return "".join(lines)


def stored_files(name: str) -> dict[str, bytes]:
    """Path below tests/golden -> bytes of what is stored for a configuration."""
    paths = [*(GOLDEN / name).rglob("*"), GOLDEN / f"{name}.diff"]
    return {path.relative_to(GOLDEN).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def difference(name: str) -> str:
    """A diff from what is stored for a configuration to what is made now; "" if they are the same."""
    stored, made = stored_files(name), golden_files(name)
    lines: list[str] = []
    for path in sorted(stored.keys() | made.keys()):
        old, new = stored.get(path, b""), made.get(path, b"")
        if old != new or (path in stored) != (path in made):
            texts = (data.decode().splitlines(keepends=True) for data in (old, new))
            lines += difflib.unified_diff(*texts, f"golden/{path}", f"now/{path}", n=2)
            lines.append(f"({path}: {len(old)} bytes stored, {len(new)} made)\n")
    return "".join(lines)


def stored_names() -> set[str]:
    """The configurations for which something is stored."""
    return {path.name.removesuffix(".diff") for path in GOLDEN.iterdir()}


def update() -> list[str]:
    """Store every configuration as it is made now, and nothing else; the names of those that changed."""
    changed = [name for name in CONFIGURATIONS if difference(name)]
    unknown = sorted(stored_names() - CONFIGURATIONS.keys())
    for name in (*unknown, *changed):
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
        (GOLDEN / f"{name}.diff").unlink(missing_ok=True)
    for name in changed:
        for path, data in golden_files(name).items():
            target = GOLDEN / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return [*changed, *unknown]


def main() -> None:
    about = "Compare or write the golden trees."
    parser = argparse.ArgumentParser(prog="python -m tests.support.trees", description=about)
    parser.add_argument("--update", action="store_true", help="store them in tests/golden")
    if parser.parse_args().update:
        changed = update()
        print("changed: " + ", ".join(changed) if changed else "nothing changed")  # noqa: T201
    else:
        print("".join(difference(name) for name in CONFIGURATIONS) or "no difference")  # noqa: T201


if __name__ == "__main__":
    main()
