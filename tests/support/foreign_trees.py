"""Deployments of other hands, as the tests of adoption find them: by hand, and of the public tool's layouts.

The facts are those of the public tool (its state files, the keys of its `.env`, its names of services and volumes);
the texts are ours.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.support import pki

BOOTSTRAP = "Zt0-bootstrap_token-of-akadmin-4f2a"

# What stands in `.secrets/`; files made by a shell end in a newline.
SECRETS = {
    "db_name": "avatar\n",
    "db_user": "avatar",
    "db_password": "0d" * 32 + "\n",
    "db_admin_user": "avatar_dba",
    "db_admin_password": 'it\'s "the" $admin password\n',
    "authentik_database_name": "authentik",
    "authentik_database_user": "authentik",
    "authentik_database_password": "1d" * 32,
    "authentik_secret_key": "2d" * 32 + "\n",
    "authjwt_secret_key": "3d" * 32,
    "clevercloud_sso_salt": "4d" * 32,
    "organization_name": "Example & Søns",
    "storage_encryption_key": "5d" * 32,
    "storage_admin_access_key_id": "6d" * 32,
    "storage_admin_secret_access_key": "7d" * 32 + "\n",
    "seaweedfs_admin_password": "admin-of-seaweed",
    "telemetry_s3_access_key_id": "",
    "telemetry_s3_secret_access_key": "",
}

# What stands in `.env` alone.
SHOWN = {
    "SSO_CLIENT_ID": "8d" * 32,
    "SSO_CLIENT_SECRET": "9d" * 32,
    "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_ID": "8d" * 32,
    "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_SECRET": "9d" * 32,
    "AUTHENTIK_BOOTSTRAP_PASSWORD": "first password of akadmin",
    "AUTHENTIK_BOOTSTRAP_TOKEN": BOOTSTRAP,
    "AUTHENTIK_API_TOKEN": BOOTSTRAP,
    "AUTHENTIK_WEBHOOK_SECRET": "hook-of-authentik",
    "AVATAR_AUTHENTIK_BLUEPRINT_WEBHOOK_SECRET": "hook-of-authentik",
    "SMTP_PASSWORD": "mail's $password #1",
}

ENV = {
    "ENV_NAME": "example-prod",
    "DB_VOLUME": "avatar_postgres_data",
    "SEAWEEDFS_VOLUME": "avatar_seaweedfs_data",
    "DB_HOST": "db",
    "AVATAR_API_VERSION": "3.18.0",
    "AVATAR_WEB_VERSION": "0.66.0",
    "AVATAR_SEAWEEDFS_REGISTRY": "chrislusf",
    "AVATAR_SEAWEEDFS_VERSION": "4.44",
    "AVATAR_SEAWEEDFS_LOG_VERBOSITY": "0",
    "AVATAR_AUTHENTIK_VERSION": "2026.8.4",
    "AVATAR_AUTHENTIK_REPOSITORY": "ghcr.io/goauthentik",
    "AUTHENTIK_BOOTSTRAP_EMAIL": "ada@example.com",
    "AVATAR_DOMAIN": "avatar.example.com",
    "AVATAR_WEB_CLIENT_URL": "https://avatar.example.com/web",
    "AVATAR_API_URL": "https://avatar.example.com/api",
    "AVATAR_STORAGE_ENDPOINT_PUBLIC_URL": "https://avatar.example.com/storage",
    "AVATAR_STORAGE_ENDPOINT_INTERNAL_URL": "http://s3:8333",
    "AVATAR_AUTHENTIK_BLUEPRINT_DOMAIN": "avatar.example.com",
    "AVATAR_AUTHENTIK_BLUEPRINT_API_REDIRECT_URI": "https://avatar.example.com/api/login/sso/auth",
    "AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE": "professional",
    "AVATAR_AUTHENTIK_BLUEPRINT_API_WEBHOOK_URL": "http://api:8000/internal/authentik/user-events",
    "SSO_PROVIDER_APP_NAME": "avatar-api",
    "SSO_PROVIDER_URL": "https://avatar.example.com/sso",
    "SHARED_STORAGE_PATH": "s3://{user_id}/{expire_days}d",
    "USE_CONSOLE_LOGGING": "false",
    "IS_SENTRY_ENABLED": "true",
    "LOG_LEVEL": "WARNING",
    "COMPATIBILITY_MAPPING_URL": "https://license.octopize.io/compatibility/compatibility_mapping.json",
    "SMTP_HOST": "mail.example.com",
    "SMTP_PORT": "587",
    "SMTP_USE_TLS": "false",
    "SMTP_START_TLS": "true",
    "SMTP_VERIFY": "true",
    "SMTP_SENDER_EMAIL": "noreply@example.com",
    "SMTP_USERNAME": "avatar@example.com",
}

# As a shell's hand writes some lines of it: a comment behind a value, quotes, `export`, another key's value.
SPELLED = {
    "SHARED_STORAGE_PATH": "SHARED_STORAGE_PATH=s3://{user_id}/{expire_days}d # for seaweedfs",
    "AVATAR_API_URL": 'AVATAR_API_URL="https://${AVATAR_DOMAIN}/api"',
    "LOG_LEVEL": "export LOG_LEVEL = WARNING",
    "SMTP_PASSWORD": "SMTP_PASSWORD='mail\\'s $password #1'",
    "AUTHENTIK_BOOTSTRAP_PASSWORD": 'AUTHENTIK_BOOTSTRAP_PASSWORD="first password of akadmin"',
}

COMPOSE = """\
x-logging: &logging
  driver: json-file
name: octopize-avatar
services:
  api:
    image: &api quay.io/octopize/avatar-service-api:${AVATAR_API_VERSION}
    logging: *logging
    env_file: [{path: .env, required: true}]
  init-db: {image: *api}
  web: {image: "quay.io/octopize/avatar-web:${AVATAR_WEB_VERSION}"}
  db:
    image: postgres:14-alpine
    volumes: ["postgres_data:/var/lib/postgresql/data"]
  master:
    image: &weed ${AVATAR_SEAWEEDFS_REGISTRY-chrislusf}/seaweedfs:${AVATAR_SEAWEEDFS_VERSION-4.44}
    volumes: ["./tls:/etc/seaweedfs/tls", "seaweedfs-metadata:/data"]
  volume: {image: *weed, volumes: ["seaweedfs-blocks:/data"]}
  filer: {image: *weed, volumes: ["seaweedfs-data:/data"]}
  authentik_server: {image: "${AVATAR_AUTHENTIK_REPOSITORY}/server:${AVATAR_AUTHENTIK_VERSION}"}
  nginx:
    image: nginx:1.31.0
    ports: ["443:443"]
    volumes:
      - ./nginx/nginx.conf:/etc/nginx/nginx.conf
      - ./tls/server.fullchain.crt:/etc/nginx/tls/server.fullchain.crt:ro
      - ./tls/private/server.decrypted.key:/etc/nginx/tls/private/server.decrypted.key:ro
volumes:
  postgres_data: {name: "${DB_VOLUME}", external: true}
  seaweedfs-data: {name: "${SEAWEEDFS_VOLUME}"}
  seaweedfs-metadata: {name: avatar_seaweedfs_metadata}
  seaweedfs-blocks: {name: avatar_seaweedfs_blocks}
"""
NGINX = "http {\n  server {\n    listen 443 ssl;\n    server_name avatar.example.com;\n  }\n}\n"


@cache
def tls() -> dict[str, str]:
    """A certificate that signs itself, and its key."""
    pair = pki.issue(pki.HOST, names=(pki.HOST,))
    return {"tls/server.fullchain.crt": pair.pem.decode(), "tls/private/server.decrypted.key": pair.private().decode()}


def by_hand(at: Path, **changed: str | None) -> Path:
    """`.env`, `.secrets/`, compose file, nginx and TLS; `changed` names files by their path, None leaves one out."""
    spelled = {key: SPELLED.get(key, f"{key}={text}") for key, text in {**ENV, **SHOWN}.items()}
    files: dict[str, str | None] = {".env": "# by hand\n" + "\n".join(spelled.values()) + "\nMAX_ALLOWED_LINES=7\n"}
    files |= {f".secrets/{name}": text for name, text in SECRETS.items()}
    files |= {"docker-compose.yml": COMPOSE, "nginx/nginx.conf": NGINX, "caddy/Caddyfile": "x", **tls()}
    for path, text in (files | changed).items():
        if text is not None:
            (at / path).parent.mkdir(parents=True, exist_ok=True)
            (at / path).write_text(text)
    return at


def edited(at: Path, path: str, old: str, new: str) -> None:
    """Changes a file of a tree in one place."""
    text = (at / path).read_text()
    assert old in text
    (at / path).write_text(text.replace(old, new))


def _state(month: int, items: dict[str, str]) -> str:
    lines = [f"created_at: '2026-0{month}-01T00:00:00Z'", "items:"]
    for key, text in sorted(items.items()):
        lines += [f"  {key}:", "    source: user_input", f"    value: '{text.replace(chr(39), 2 * chr(39))}'"]
    lines += ["schema_version: '1.0'", "steps:", "  required: completed", "tool_version: 3.7.0"]
    return "\n".join(lines) + "\n"


def versioned(at: Path) -> Path:
    """The layout of the public tool since 2.7: versions of its state, and what it generated from the last one."""
    generated = by_hand(at / "generated_files")
    secrets = {name: text.removesuffix("\n") for name, text in SECRETS.items() if text.strip()}
    items = {key: text for key, text in {**ENV, **SHOWN}.items() if key not in ("AVATAR_DOMAIN", "AUTHENTIK_API_TOKEN")}
    items |= secrets | {"PUBLIC_URL": "avatar.example.com", "PUBLIC_URL_SCHEME": "https", "NGINX_TLS_ENABLED": "true"}
    items |= {"DB_NAME": "avatar", "DB_USER": "avatar", "USE_AWS_SMTP_PRESET": "false"}
    for version, level in ((1, "DEBUG"), (2, "INFO"), (10, "WARNING")):
        folder = at / ".deployment_states" / f"v{version}"
        folder.mkdir(parents=True)
        (folder / "deployment_state.yaml").write_text(_state(version % 9, items | {"LOG_LEVEL": level}))
    (at / ".deployment_states" / "currently_deployed").symlink_to("v10")
    (at / ".deployment_states" / "v11").mkdir()  # begun, and without a state
    (at / "user_config").mkdir()
    for path in ("generated_files/caddy/Caddyfile",):
        (generated.parent / path).unlink()
    (generated / "caddy").rmdir()
    return at


def flat(at: Path) -> Path:
    """The layout of the public tool before that: one state, whose file bears the name of ours."""
    by_hand(at)
    items = {
        **ENV,
        "PUBLIC_URL": "avatar.example.com",
        "NGINX_TLS_ENABLED": "true",
        "ORGANIZATION_NAME": "Example & Søns",
    }
    config = "".join(f"  {key}: '{text}'\n" for key, text in items.items())
    state = f"version: '1.0'\nsteps:\n  step_0_required_config: completed\nconfig:\n{config}step_data: {{}}\n"
    (at / ".deployment-state.yaml").write_text(state)
    return at


# --- as releases of the public tool made them ---------------------------------------------------

# The images of its releases, and what their compose files keep the database and nginx in.
RELEASES = {
    "2.6": ("2.80.0", "0.63.0", "4.22", "2026.2.2", "postgres:17-alpine", "nginx:1.27.3"),
    "2.10": ("2.82.0", "0.63.0", "4.22", "2026.2.2", "postgres:14-alpine", "nginx:1.31.0"),
    "3.5": ("3.11.1", "0.68.0", "4.44", "2026.2.6", "postgres:14-alpine", "nginx:1.31.0"),
    "3.7": ("3.20.1", "0.68.0", "4.44", "2026.8.4", "postgres:14-alpine", "nginx:1.31.0"),
}
_NUMBERED = (
    "AVATAR_API_VERSION",
    "AVATAR_WEB_VERSION",
    "AVATAR_SEAWEEDFS_VERSION",
    "AVATAR_AUTHENTIK_VERSION",
)


def released(at: Path, release: str) -> Path:
    """A deployment as this release of the public tool renders it: small, with all that differs between releases."""
    *versions, postgres, nginx = RELEASES[release]
    is_2, is_flat = release.startswith("2."), release == "2.6"
    env = ENV | dict(zip(_NUMBERED, versions, strict=True))
    env |= {"SMTP_USE_TLS": "true", "SMTP_START_TLS": "false", "SMTP_SENDER_EMAIL": "noreply@octopize.io"}
    env["AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE"] = "demo" if is_2 else "free_trial"
    shown, secrets = dict(SHOWN), {name: text.removesuffix("\n") for name, text in SECRETS.items()}
    if is_2:
        env |= {"AVATAR_PDFGENERATOR_VERSION": "0.2.3", "AVATAR_PDFGENERATOR_URL": "http://pdfgenerator:8000"}
        del env["COMPATIBILITY_MAPPING_URL"], env["AVATAR_AUTHENTIK_BLUEPRINT_API_WEBHOOK_URL"], env["DB_HOST"]
        for key in ("AUTHENTIK_API_TOKEN", "AUTHENTIK_WEBHOOK_SECRET", "AVATAR_AUTHENTIK_BLUEPRINT_WEBHOOK_SECRET"):
            del shown[key]
        secrets |= {"pepper": "ad" * 32}
    if is_flat:
        env["SECRETS_DIR"] = ".secrets"
        secrets |= {"admin_emails": "ada@example.com", "file_encryption_key": "A" * 43 + "="}
    if release != "3.7":
        del secrets["seaweedfs_admin_password"]
    items = env | {
        "PUBLIC_URL": "avatar.example.com",
        "NGINX_TLS_ENABLED": "true",
        "ORGANIZATION_NAME": "Example & Søns",
    }
    items |= {"AVATAR_BASE_API_URL": "https://avatar.example.com/api", "TELEMETRY_S3_BUCKET_NAME": ""}
    items |= {} if is_2 else {"PUBLIC_HOSTNAME": "avatar.example.com", "USE_AWS_SMTP_PRESET": "false"}
    items |= {} if release.startswith("3.") else {"AVATAR_SSO_ENABLED": "true"}
    items |= {"_nginx_skip_path_validation": "true"} if is_flat else {}

    base = at if is_flat else at / "generated_files"
    compose = COMPOSE.replace("postgres:14-alpine", postgres).replace("nginx:1.31.0", nginx)
    if is_2:
        compose = compose.replace("  web: {", '  pdfgenerator: {image: "octopize/pdfgenerator:0.2.3"}\n  web: {')
    texts = {".env": "".join(f"{key}={text}\n" for key, text in (env | _unquoted(shown)).items())}
    texts |= {f".secrets/{name}": text for name, text in secrets.items()}
    texts |= {"docker-compose.yml": compose, "nginx/nginx.conf": NGINX}
    for path, text in texts.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(text)
    for path, text in tls().items():  # beside the generated files, from where the tool is started
        (at / path).parent.mkdir(parents=True, exist_ok=True)
        (at / path).write_text(text)
    if is_flat:
        config = "".join(f"  {key}: '{text}'\n" for key, text in items.items())
        state = f"version: '1.0'\nsteps:\n  step_0_required_config: completed\nconfig:\n{config}step_data: {{}}\n"
        (at / ".deployment-state.yaml").write_text(state)
    else:
        folder = at / ".deployment_states" / "v1"
        folder.mkdir(parents=True)
        (folder / "deployment_state.yaml").write_text(_state(9, items))
        (at / ".deployment_states" / "currently_deployed").symlink_to("v1")
    return at


def _unquoted(shown: dict[str, str]) -> dict[str, str]:
    """Values that the public tool's `.env`, which quotes nothing, can hold."""
    return shown | {"SMTP_PASSWORD": "mail-password", "AUTHENTIK_BOOTSTRAP_PASSWORD": "-first_password"}
