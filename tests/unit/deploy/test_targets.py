"""The rendered files against the stack's facts, written down here anew and not taken from the catalogue."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import crossplane
import pytest

from setup.config.secrets import SECRETS
from setup.deploy.targets import Targets
from setup.errors import SetupError
from tests.support import trees
from tests.support.blueprint import BLUEPRINT, blueprint_env_names
from tests.support.documents import read_yaml
from tests.support.trees import CONFIGURATIONS, named_targets

ALL = tuple(CONFIGURATIONS)
VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@cache
def compose(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = read_yaml(named_targets(name).compose.data)
    return loaded


def services(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose(name)["services"]
    return found


def stack(name: str) -> dict[str, dict[str, Any]]:
    """The services as they are without the preflight, whose own tests say how they are with it."""
    found = {}
    for service, entry in services(name).items():
        waits = {other: row for other, row in entry.get("depends_on", {}).items() if other != "preflight"}
        if service != "preflight":
            found[service] = entry | {"depends_on": waits}
    return found


def interpolated(text: str, env: dict[str, str]) -> str:
    """What Compose makes of a scalar; the engine's tests show that it does."""
    return VARIABLE.sub(lambda match: env[match[1]] if match[1] else "$", text)


def environment(name: str, service: str) -> dict[str, str]:
    """What a service's processes find in their environment."""
    env = named_targets(name).env_values()
    return {key: interpolated(text, env) for key, text in stack(name)[service]["environment"].items()}


# --- The table "Services" -----------------------------------------------------------------------------

STARTED, HEALTHY, COMPLETED = "service_started", "service_healthy", "service_completed_successfully"
NETWORKS = {
    "api": "proxy dask storage database",
    "init-db": "storage database",
    "dask-scheduler": "dask storage",
    "dask-worker": "dask storage database",
    "web": "proxy",
    "db": "database",
    "nginx": "proxy storage",
    "master": "seaweedfs",
    "volume": "seaweedfs",
    "filer": "seaweedfs",
    "s3": "storage seaweedfs",
    "init-storage": "seaweedfs",
    "admin": "seaweedfs",
    "worker": "seaweedfs",
    "authentik_init_db": "database",
    "authentik_server": "proxy database",
    "authentik_worker": "database",
    "authentik_blueprint": "database",
}
WAITS_FOR = {
    "api": {"init-db": COMPLETED, "init-storage": COMPLETED},
    "init-db": {"db": HEALTHY, "s3": HEALTHY, "init-storage": COMPLETED},
    "dask-scheduler": {"init-storage": COMPLETED},
    "dask-worker": {"init-storage": COMPLETED},
    "web": {"api": HEALTHY},
    "db": {},
    "nginx": {"api": HEALTHY, "web": STARTED, "s3": HEALTHY, "authentik_blueprint": COMPLETED},
    "master": {},
    "volume": {"master": HEALTHY},
    "filer": {"master": HEALTHY, "volume": HEALTHY},
    "s3": {"master": HEALTHY, "volume": HEALTHY, "filer": HEALTHY},
    "init-storage": {"filer": HEALTHY, "master": HEALTHY},
    "admin": {"master": HEALTHY, "filer": HEALTHY},
    "worker": {"admin": HEALTHY, "s3": HEALTHY},
    "authentik_init_db": {"db": HEALTHY},
    "authentik_server": {"authentik_init_db": COMPLETED},
    "authentik_worker": {"authentik_server": HEALTHY},
    "authentik_blueprint": {"authentik_server": HEALTHY, "authentik_worker": HEALTHY},
}
API_IMAGE = "quay.io/octopize/avatar-service-api:3.20.1"
SEAWEEDFS_IMAGE = "chrislusf/seaweedfs:4.44"
AUTHENTIK = ("authentik_server", "authentik_worker", "authentik_blueprint")
AUTHENTIK_IMAGE = "ghcr.io/goauthentik/server:2026.8.4"
IMAGES = {
    **dict.fromkeys(("api", "init-db", "dask-scheduler", "dask-worker"), API_IMAGE),
    **dict.fromkeys(("master", "volume", "filer", "s3", "admin", "worker", "init-storage"), SEAWEEDFS_IMAGE),
    **dict.fromkeys(AUTHENTIK, AUTHENTIK_IMAGE),
    **dict.fromkeys(("db", "authentik_init_db"), "postgres:14-alpine"),
    "web": "quay.io/octopize/avatar-web:0.68.0",
    "nginx": "nginx:1.31.0",
}
ONE_SHOTS = {"init-db", "init-storage", "authentik_init_db", "authentik_blueprint"}
AMD64_ONLY = {"api", "init-db", "dask-scheduler", "dask-worker", "web"}
EXTERNAL = {"external-database", "preflight"}


def of(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """A table's rows for this configuration: an external database leaves out `db`."""
    rows = {service: row for service, row in table.items() if name not in EXTERNAL or service != "db"}
    if name in EXTERNAL and table is WAITS_FOR:
        rows = {service: {other: why for other, why in row.items() if other != "db"} for service, row in rows.items()}
    return rows


def test_there_are_enough_configurations():
    assert len(ALL) >= 8


@pytest.mark.parametrize("name", ALL)
def test_the_project_is_named_and_has_all_stack(name):
    assert compose(name)["name"] == "octopize-avatar"
    assert set(stack(name)) == set(of(name, NETWORKS))
    assert len(NETWORKS) == 18


@pytest.mark.parametrize("name", ALL)
def test_networks(name):
    declared = compose(name)["networks"]
    assert set(declared) == {"proxy", "dask", "storage", "seaweedfs", "database"}
    assert all(row == {"driver": "bridge"} for row in declared.values())
    assert {service: set(entry["networks"]) for service, entry in stack(name).items()} == {
        service: set(row.split()) for service, row in of(name, NETWORKS).items()
    }


@pytest.mark.parametrize("name", ALL)
def test_waiting(name):
    waiting = {
        service: {other: row["condition"] for other, row in entry.get("depends_on", {}).items()}
        for service, entry in stack(name).items()
    }
    assert waiting == of(name, WAITS_FOR)
    assert all(
        set(row) == {"condition"} for entry in stack(name).values() for row in entry.get("depends_on", {}).values()
    )


@pytest.mark.parametrize("name", ALL)
def test_everything_waits_for_the_preflight_where_there_is_one(name):
    preflight = services(name).get("preflight")
    waiting = {service for service, entry in services(name).items() if "preflight" in entry.get("depends_on", {})}
    assert waiting == (set(services(name)) - {"preflight"} if name == "preflight" else set())
    if preflight:
        conditions = [services(name)[service]["depends_on"]["preflight"] for service in waiting]
        assert all(one == {"condition": COMPLETED} for one in conditions)


def test_the_preflight_is_the_owner_and_can_do_nothing_but_look():
    preflight = dict(services("preflight")["preflight"])
    assert preflight.pop("logging") == {"driver": "json-file", "options": {"max-size": "12m", "max-file": "5"}}
    assert preflight == {
        "image": "mirror.example:5000/avatar-setup:0.1.0",
        "command": ["--check"],
        "user": "0:0",
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "no",
        "volumes": [
            {
                "type": "bind",
                "source": ".",
                "target": "/out",
                "read_only": True,
                "bind": {"create_host_path": False},
            }
        ],
    }
    made = trees.targets({"PREFLIGHT_IMAGE": "avatar-setup"}, owner=(1234, 5678))
    assert b'user: "1234:5678"' in made.compose.data


@pytest.mark.parametrize("name", ALL)
def test_a_health_that_is_waited_for_is_checked(name):
    wanted = {other for row in of(name, WAITS_FOR).values() for other, why in row.items() if why == HEALTHY}
    assert wanted <= {service for service, entry in stack(name).items() if "healthcheck" in entry}


@pytest.mark.parametrize("name", ALL)
def test_every_one_shot_is_waited_for(name):
    once = {service for service, entry in stack(name).items() if entry["restart"] != "unless-stopped"}
    assert once == ONE_SHOTS
    for service in once:
        assert stack(name)[service]["restart"] == "on-failure:10"
        waits = [entry.get("depends_on", {}).get(service) for entry in stack(name).values()]
        assert {"condition": COMPLETED} in waits


@pytest.mark.parametrize("name", sorted(set(ALL) - {"airgapped", "api-2", "username-smtp"}))
def test_images(name):
    env = named_targets(name).env_values()
    images = {service: interpolated(entry["image"], env) for service, entry in stack(name).items()}
    assert images == of(name, IMAGES)


def test_a_mirror_serves_every_image():
    env = named_targets("airgapped").env_values()
    for service, entry in services("airgapped").items():
        assert interpolated(entry["image"], env).startswith("mirror.example:5000/"), service


@pytest.mark.parametrize("name", ALL)
def test_platform_and_logging(name):
    for service, entry in stack(name).items():
        assert entry.get("platform") == ("linux/amd64" if service in AMD64_ONLY else None), service
        assert entry["logging"] == {"driver": "json-file", "options": {"max-size": "12m", "max-file": "5"}}, service


# --- What runs ----------------------------------------------------------------------------------------

WEED = "-v=0 -logtostderr"
COMMANDS = {
    "init-db": ["sh", "-c", "cd /app/avatar && python bin/dbtool.py setup"],
    "dask-scheduler": ["dask", "scheduler"],
    "dask-worker": ["dask", "worker", "my-dask-scheduler:8786", "--preload", "api.domain.dask_worker_setup"],
    "master": f"{WEED} master -ip=master -mdir=/data -volumeSizeLimitMB=10 -raftBootstrap -raftHashicorp"
    " -electionTimeout=1s -telemetry=false".split(),
    "volume": f"{WEED} volume -dir=/data -mserver=master:9333 -port=8080 -ip=volume -preStopSeconds=1"
    " -max=10000".split(),
    "worker": f"{WEED} worker -admin=admin:23646.33646 -jobType=s3_lifecycle -workingDir=/data -metricsPort=9327"
    " -metricsIp=127.0.0.1".split(),
    "authentik_server": "server",
    "authentik_worker": "worker",
}
SHELL_LINES = {
    "filer": (
        "WEED_S3_SSE_KEK=$(cat /run/secrets/storage_encryption_key)",
        f'exec weed {WEED} filer -defaultStoreDir=/data -ip.bind=0.0.0.0 -master="master:9333"',
    ),
    "s3": (
        "WEED_S3_SSE_KEK=$(cat /run/secrets/storage_encryption_key)",
        f'exec weed {WEED} s3 -filer="filer:8888" -ip.bind=0.0.0.0 -iam.readOnly=false'
        " -port.iceberg=0 -port.lance=0 -ip=s3",
    ),
    "admin": (
        "WEED_ADMIN_PASSWORD=$(cat /run/secrets/seaweedfs_admin_password)",
        f"exec weed {WEED} admin -master=master:9333 -port=23646 -adminUser=admin -dataDir=/data",
    ),
    "init-storage": (
        'echo "s3.configure -apply -user power_user -access_key $id -secret_key $key -actions Admin" |',
        "weed shell -master=master:9333 -filer=filer:8888",
    ),
}
HEALTH = {
    "api": "curl -f http://localhost:8000/health",
    "master": "wget -q -O /dev/null http://master:9333/cluster/healthz",
    "volume": "wget -q -O /dev/null http://volume:8080/healthz",
    "filer": "wget -q -O /dev/null http://filer:8888/healthz",
    "s3": "wget -q -O /dev/null http://s3:8333/healthz",
    "admin": "wget -q -O /dev/null http://admin:23646/health",
    "worker": "wget -q -O /dev/null http://127.0.0.1:9327/ready",
    "authentik_server": "ak healthcheck",
    "authentik_worker": "ak healthcheck",
}


@pytest.mark.parametrize("service", COMMANDS)
def test_commands(service):
    env = named_targets("usual").env_values()
    command = services("usual")[service]["command"]
    shown = interpolated(command, env) if isinstance(command, str) else [interpolated(part, env) for part in command]
    assert shown == COMMANDS[service]
    assert "entrypoint" not in services("usual")[service]


@pytest.mark.parametrize("service", SHELL_LINES)
def test_shell_commands(service):
    entry = services("usual")[service]
    script = interpolated(entry["command"][0], named_targets("usual").env_values())
    assert entry["entrypoint"] == ["/bin/sh", "-euc"]
    flat = " ".join(script.replace("\\\n", " ").split())
    for line in SHELL_LINES[service]:
        assert line in flat


@pytest.mark.parametrize("service", ["api", "web", "nginx", "db"])
def test_what_runs_as_its_image_says(service):
    assert not {"command", "entrypoint"} & set(services("usual")[service])


@pytest.mark.parametrize("name", ALL)
def test_health_checks(name):
    checks = {service: entry["healthcheck"] for service, entry in stack(name).items() if "healthcheck" in entry}
    tests = {service: check["test"] for service, check in checks.items() if service != "db"}
    assert tests == {service: ["CMD", *line.split()] for service, line in HEALTH.items()}
    if "db" in checks:
        assert checks["db"]["test"][0] == "CMD-SHELL"
        assert checks["db"]["test"][1].startswith("pg_isready ")
    assert checks["authentik_server"]["start_period"] == "600s"
    for service, check in checks.items():
        assert set(check) == {"test", "interval", "timeout", "retries", "start_period"}, service


def test_hostnames():
    found = {service: entry["hostname"] for service, entry in services("usual").items() if "hostname" in entry}
    assert found == {"dask-scheduler": "my-dask-scheduler"}
    assert services("usual")["dask-scheduler"]["networks"]["dask"] == {"aliases": ["my-dask-scheduler"]}


def test_the_worker_of_authentik_is_root_and_the_server_is_not():
    users = {service: entry["user"] for service, entry in services("usual").items() if "user" in entry}
    assert users == {"authentik_worker": "root"}


# --- Variables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_every_variable_is_defined_in_env(name):
    text = named_targets(name).compose.data.decode()
    without_comments = re.sub(r"(?m)^\s*#.*$", "", text)
    names = {match[1] for match in VARIABLE.finditer(without_comments) if match[1]}
    lines = named_targets(name).env.data.decode().splitlines()
    defined = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert names <= set(defined)
    assert len(defined) == len(set(defined))
    assert not re.search(r"(?<!\$)\$(?![\${])", without_comments), "a variable without braces, or a lone $"


DERIVED = {
    "AVATAR_DOMAIN": "{netloc}",
    "AVATAR_WEB_CLIENT_URL": "{base}/web/",
    "AVATAR_API_URL": "{base}/api",
    "AVATAR_STORAGE_ENDPOINT_PUBLIC_URL": "{base}/storage",
    "AVATAR_STORAGE_ENDPOINT_INTERNAL_URL": "http://s3:8333",
    "SSO_PROVIDER_URL": "{base}/sso",
    "AVATAR_AUTHENTIK_BLUEPRINT_DOMAIN": "{netloc}",
    "AVATAR_AUTHENTIK_BLUEPRINT_API_REDIRECT_URI": "{base}/api/login/sso/auth",
    "AVATAR_AUTHENTIK_BLUEPRINT_API_WEBHOOK_URL": "http://api:8000/internal/authentik/user-events",
}
# base, where nginx listens and what it publishes, the alias of nginx on `proxy`
ADDRESSES = {
    "usual": ("https://avatar.example.com", [443], "avatar.example.com"),
    "username-smtp": ("https://avatar.example.com", [443], "avatar.example.com"),
    "telemetry-redirect": ("https://avatar.example.com", [443, 80], "avatar.example.com"),
    "behind-proxy": ("https://avatar.example.com:8443", [8081], None),
    "plain-http": ("http://avatar.test:8088", [8088], "avatar.test"),
    "external-database": ("https://avatar.example.com", [443], "avatar.example.com"),
    "preflight": ("https://avatar.example.com", [443], "avatar.example.com"),
    "self-signed": ("https://avatar.example.com", [443], "avatar.example.com"),
    "private-ca": ("https://avatar.corp:9443", [9443], "avatar.corp"),
    "ipv6-on": ("https://avatar.example.com", [443, 80], "avatar.example.com"),
    "ipv6-literal": ("https://[2001:db8::1]:8443", [8443], None),
    "ipv4-literal": ("http://192.0.2.10:8080", [8080], None),
    "api-2": ("https://avatar.example.com", [443], "avatar.example.com"),
    "airgapped": ("https://xn--bcher-kva.example", [443], "xn--bcher-kva.example"),
}


@pytest.mark.parametrize("name", ALL)
def test_addresses(name):
    base, ports, alias = ADDRESSES[name]
    env = named_targets(name).env_values()
    expected = {key: text.format(base=base, netloc=base.partition("://")[2]) for key, text in DERIVED.items()}
    assert {key: env[key] for key in expected} == expected
    nginx = stack(name)["nginx"]
    assert nginx["ports"] == [f"{port}:{port}" for port in ports]
    assert nginx["networks"]["proxy"] == ({"aliases": [alias]} if alias else None)
    assert {service for service, entry in stack(name).items() if "ports" in entry} == {"nginx"}


USUAL_ENV = {
    "ENV_NAME": "example-prod",
    "DB_HOST": "db",
    "DB_VOLUME": "avatar_postgres_data",
    "SEAWEEDFS_VOLUME": "avatar_seaweedfs_data",
    "AVATAR_SEAWEEDFS_LOG_VERBOSITY": "0",
    "AVATAR_API_VERSION": "3.20.1",
    "AVATAR_WEB_VERSION": "0.68.0",
    "AVATAR_SEAWEEDFS_VERSION": "4.44",
    "AVATAR_AUTHENTIK_VERSION": "2026.8.4",
    "AVATAR_REGISTRY": "quay.io/octopize",
    "AVATAR_SEAWEEDFS_REGISTRY": "chrislusf",
    "AVATAR_AUTHENTIK_REPOSITORY": "ghcr.io/goauthentik",
    "POSTGRES_IMAGE": "postgres:14-alpine",
    "NGINX_IMAGE": "nginx:1.31.0",
    "SSO_PROVIDER_APP_NAME": "avatar-api",
    "AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE": "free_trial",
    "AUTHENTIK_BOOTSTRAP_EMAIL": "ada@example.com",
    "SHARED_STORAGE_PATH": "s3://{user_id}/{expire_days}d",
    "DATASET_EXPIRATION_DAYS": "30d",
    "USE_EMAIL_AUTHENTICATION": "true",
    "USE_CONSOLE_LOGGING": "false",
    "IS_SENTRY_ENABLED": "true",
    "LOG_LEVEL": "INFO",
    "COMPATIBILITY_MAPPING_URL": "https://license.octopize.io/compatibility/compatibility_mapping.json",
    "MAIL_PROVIDER": "smtp",
    "SMTP_HOST": "mail.example.com",
    "SMTP_PORT": "587",
    "SMTP_USE_TLS": "false",
    "SMTP_START_TLS": "true",
    "SMTP_VERIFY": "true",
    "SMTP_SENDER_EMAIL": "noreply@avatar.example.com",
    "SMTP_USERNAME": "",
    "SMTP_PASSWORD": "",
}
# One generated value each, under both names.
TWINS = {
    "sso_client_id": ("SSO_CLIENT_ID", "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_ID"),
    "sso_client_secret": ("SSO_CLIENT_SECRET", "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_SECRET"),
    "authentik_webhook_secret": ("AUTHENTIK_WEBHOOK_SECRET", "AVATAR_AUTHENTIK_BLUEPRINT_WEBHOOK_SECRET"),
    "authentik_api_token": ("AUTHENTIK_API_TOKEN", "AVATAR_AUTHENTIK_BLUEPRINT_API_TOKEN"),
    "authentik_bootstrap_password": ("AUTHENTIK_BOOTSTRAP_PASSWORD",),
    "authentik_bootstrap_token": ("AUTHENTIK_BOOTSTRAP_TOKEN",),
}


ELSEWHERE = {"DB_HOST": "pg.example.com", "DB_PORT": "5432", "DB_SSLMODE": "disable"}
CHANGED_ENV = {
    "username-smtp": {
        "AVATAR_API_VERSION": "2.81.3",
        "AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE": "demo",
        "USE_EMAIL_AUTHENTICATION": "false",
        "SMTP_PORT": "465",
        "SMTP_USE_TLS": "true",
        "SMTP_START_TLS": "false",
        "SMTP_SENDER_EMAIL": "avatar@example.com",
        "SMTP_USERNAME": "avatar user",
        "SMTP_PASSWORD": """ it's "5 $5" \\ #no comment """,
        "AUTHENTIK_BOOTSTRAP_EMAIL": "admin@avatar.example.com",
    },
    "telemetry-redirect": {
        "TELEMETRY_S3_ENDPOINT_URL": "https://s3.fr-par.scw.cloud",
        "TELEMETRY_S3_REGION": "fr-par",
        "TELEMETRY_S3_BUCKET_NAME": "example-telemetry",
    },
    "external-database": {**ELSEWHERE, "DATASET_EXPIRATION_DAYS": "2w"},
    "preflight": ELSEWHERE,
    "self-signed": {"IS_SENTRY_ENABLED": "false", "COMPATIBILITY_MAPPING_URL": "disabled"},
    "plain-http": {"SMTP_SENDER_EMAIL": "noreply@avatar.test"},
    "private-ca": {"LOG_LEVEL": "DEBUG", "SMTP_SENDER_EMAIL": "noreply@avatar.corp"},
    "ipv6-literal": {"SMTP_SENDER_EMAIL": "noreply@[2001:db8::1]"},
    "ipv4-literal": {"SMTP_SENDER_EMAIL": "noreply@[192.0.2.10]"},
    "airgapped": {
        "IS_SENTRY_ENABLED": "false",
        "COMPATIBILITY_MAPPING_URL": "disabled",
        "SMTP_HOST": "192.0.2.25",
        "SMTP_SENDER_EMAIL": "noreply@xn--bcher-kva.example",
        "SMTP_PORT": "25",
        "SMTP_VERIFY": "false",
        "AVATAR_REGISTRY": "mirror.example:5000/avatar",
        "AVATAR_SEAWEEDFS_REGISTRY": "mirror.example:5000/hub",
        "AVATAR_AUTHENTIK_REPOSITORY": "mirror.example:5000/authentik",
        "POSTGRES_IMAGE": "mirror.example:5000/postgres:14-alpine",
        "NGINX_IMAGE": "mirror.example:5000/nginx@sha256:" + 32 * "0f",
    },
    "api-2": {
        "AVATAR_API_VERSION": "2.30",
        "AVATAR_WEB_VERSION": "0.40",
        "AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE": "demo",
        "MAIL_PROVIDER": "aws",
        "SMTP_HOST": "email-smtp.eu-west-3.amazonaws.com",
        "SMTP_SENDER_EMAIL": "noreply@octopize.io",
    },
}
# Keys of `.env` for whoever reads it by eye: no service needs them.
READ_BY_NOBODY = {"AVATAR_DOMAIN"}


def test_env_holds_the_documented_keys_and_no_other():
    for name in ALL:
        texts = trees.secret_texts(CONFIGURATIONS[name].settings, CONFIGURATIONS[name].secrets)
        base = ADDRESSES[name][0]
        expected = USUAL_ENV | {key: texts[secret] for secret, keys in TWINS.items() for key in keys}
        expected |= {key: text.format(base=base, netloc=base.partition("://")[2]) for key, text in DERIVED.items()}
        expected |= CHANGED_ENV.get(name, {})
        assert named_targets(name).env_values() == expected, f"{name}: USUAL_ENV, TWINS and CHANGED_ENV say otherwise"
        assert named_targets(name).env.mode == 0o600


def test_every_key_of_env_is_read_by_a_service():
    """A new key reaches no service until its row in setup/config/services.py names it."""
    text = "".join(named_targets(name).compose.data.decode() for name in ALL)
    read = {match[1] for match in VARIABLE.finditer(re.sub(r"(?m)^\s*#.*$", "", text))}
    unread = {key for name in ALL for key in named_targets(name).env_values()} - read
    assert unread == READ_BY_NOBODY, "name these in the row of a service in setup/config/services.py"


# --- "Who gets what" ----------------------------------------------------------------------------------

API_SERVICES = ("api", "init-db", "dask-scheduler", "dask-worker")
PRIVATE_AUTHORITY = ("private-ca", "self-signed")
# The keys of `.env` that the API services get, those of telemetry where there is telemetry.
OF_THE_API = """
    ENV_NAME USE_EMAIL_AUTHENTICATION DB_HOST MAIL_PROVIDER SMTP_HOST SMTP_PORT SMTP_USE_TLS SMTP_START_TLS
    SMTP_VERIFY SMTP_SENDER_EMAIL SMTP_USERNAME SSO_PROVIDER_APP_NAME TELEMETRY_S3_ENDPOINT_URL TELEMETRY_S3_REGION
    TELEMETRY_S3_BUCKET_NAME USE_CONSOLE_LOGGING IS_SENTRY_ENABLED LOG_LEVEL COMPATIBILITY_MAPPING_URL
    SHARED_STORAGE_PATH DATASET_EXPIRATION_DAYS AVATAR_WEB_CLIENT_URL AVATAR_API_URL
    AVATAR_STORAGE_ENDPOINT_PUBLIC_URL AVATAR_STORAGE_ENDPOINT_INTERNAL_URL SSO_PROVIDER_URL SSO_CLIENT_ID
    SSO_CLIENT_SECRET AUTHENTIK_API_TOKEN AUTHENTIK_WEBHOOK_SECRET SMTP_PASSWORD
"""
BESIDES = {
    "STORAGE_ENDPOINT_HOST": "http://s3",
    "DASK_SCHEDULER": "my-dask-scheduler:8786",
    "SECRETS_DIR": "/var/run/secrets",
}


def of_api(env: dict[str, str]) -> dict[str, str]:
    """The environment of the API services, as it follows from `.env`."""
    return {key: env[key] for key in OF_THE_API.split() if key in env} | BESIDES


def test_environment_of_the_api_services():
    for name, service in itertools.product(ALL, API_SERVICES):
        found = environment(name, service)
        certificate_file = found.pop("SSL_CERT_FILE", None)
        expected = of_api(named_targets(name).env_values())
        assert found == expected, f"{name}, {service}: OF_THE_API says otherwise than its row of services.py"
        bundle = [mount["target"] for mount in stack(name)[service].get("volumes", ())]
        assert bundle == ([certificate_file] if name in PRIVATE_AUTHORITY else []), f"{name}, {service}"


def of_web(base: str) -> dict[str, str]:
    """The web client's environment."""
    return {
        "ENV_NAME": "example-prod",
        "AVATAR_WEB_CLIENT_URL": f"{base}/web/",
        "AVATAR_API_PUBLIC_URL": f"{base}/api",
        "AVATAR_API_INTERNAL_URL": "http://api:8000",
        "AVATAR_STORAGE_ENDPOINT_PUBLIC_URL": f"{base}/storage",
        "AVATAR_STORAGE_ENDPOINT_INTERNAL_URL": "http://s3:8333",
        "AVATAR_AUTHENTIK_URL": f"{base}/sso",
        "AVATAR_SSO_URL": f"{base}/api/login/sso",
    }


def test_environment_of_the_web_client():
    for name in ALL:
        assert environment(name, "web") == of_web(ADDRESSES[name][0]), f"{name}: of_web says otherwise"


def test_authentik_has_memory_for_its_temporary_files() -> None:
    """Its TMPDIR is /dev/shm, of which a container has 64 MB by default."""
    for service in AUTHENTIK:
        assert services("usual")[service]["shm_size"] == "512mb"


def of_authentik(env: dict[str, str], base: str, private_ca: bool = False) -> dict[str, str]:
    """The environment of Authentik's services, as it follows from `.env`."""
    expected = {
        "AUTHENTIK_WEB__PATH": "/sso/",
        "AUTHENTIK_POSTGRESQL__HOST": env["DB_HOST"],
        "AUTHENTIK_POSTGRESQL__NAME": "file:///run/secrets/authentik_database_name",
        "AUTHENTIK_POSTGRESQL__USER": "file:///run/secrets/authentik_database_user",
        "AUTHENTIK_POSTGRESQL__PASSWORD": "file:///run/secrets/authentik_database_password",
        "AUTHENTIK_SECRET_KEY": "file:///run/secrets/authentik_secret_key",
        "AUTHENTIK_LISTEN__HTTP": "0.0.0.0:9000",
        "AUTHENTIK_LISTEN__HTTPS": "0.0.0.0:9443",
        "AUTHENTIK_LISTEN__METRICS": "0.0.0.0:9300",
        "AUTHENTIK_DISABLE_STARTUP_ANALYTICS": "true",
        "AUTHENTIK_DISABLE_UPDATE_CHECK": "true",
        "AUTHENTIK_ERROR_REPORTING__ENABLED": "false",
        "AUTHENTIK_WEB__BASE_URL": base,
        "AUTHENTIK_EMAIL__TIMEOUT": "30",
        "AUTHENTIK_AVATARS": "initials",
        "AUTHENTIK_EMAIL__HOST": env["SMTP_HOST"],
        "AUTHENTIK_EMAIL__PORT": env["SMTP_PORT"],
        "AUTHENTIK_EMAIL__USERNAME": "file:///run/secrets/smtp_username",
        "AUTHENTIK_EMAIL__USE_TLS": env["SMTP_START_TLS"],
        "AUTHENTIK_EMAIL__USE_SSL": env["SMTP_USE_TLS"],
        "AUTHENTIK_EMAIL__FROM": env["SMTP_SENDER_EMAIL"],
        "AVATAR_AUTHENTIK_BLUEPRINT_LAUNCH_URL": f"{base}/web",
    }
    if "DB_PORT" in env:
        expected |= {"AUTHENTIK_POSTGRESQL__PORT": env["DB_PORT"], "AUTHENTIK_POSTGRESQL__SSLMODE": env["DB_SSLMODE"]}
        if env["DB_SSLMODE"].startswith("verify-"):
            expected["AUTHENTIK_POSTGRESQL__SSLROOTCERT"] = "/etc/avatar/tls/ca-bundle.crt"
    if env["MAIL_PROVIDER"] == "smtp":
        expected["AUTHENTIK_EMAIL__PASSWORD"] = "file:///run/secrets/smtp_password"
    if private_ca:
        expected["SSL_CERT_FILE"] = "/etc/avatar/tls/ca-bundle.crt"
    prefixes = ("AUTHENTIK_BOOTSTRAP_", "AVATAR_AUTHENTIK_BLUEPRINT_")
    return expected | {key: text for key, text in env.items() if key.startswith(prefixes)}


def test_environment_of_authentik():
    for name, service in itertools.product(ALL, AUTHENTIK):
        expected = of_authentik(named_targets(name).env_values(), ADDRESSES[name][0], name in PRIVATE_AUTHORITY)
        assert environment(name, service) == expected, f"{name}, {service}: of_authentik says otherwise"


def test_the_blueprint_finds_every_variable_it_names():
    for service in ("authentik_worker", "authentik_blueprint"):
        assert blueprint_env_names(BLUEPRINT) <= set(environment("usual", service))


def test_nobody_else_gets_a_value_of_env():
    allowed = {*API_SERVICES, "web", *AUTHENTIK}
    for service in set(services("usual")) - allowed:
        found = services("usual")[service].get("environment", {})
        named = {match[1] for text in found.values() for match in VARIABLE.finditer(text) if match[1]}
        assert named <= ({"DB_HOST", "DB_PORT", "DB_SSLMODE"} if service == "authentik_init_db" else set()), service


ON_TLS = {"DB_HOST": "pg.example.com", "DB_PORT": "6432", "TLS_CA_PATH": "./tls/ca.crt"}


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_database_elsewhere_is_reached_at_its_port_and_with_tls(mode: str) -> None:
    made = trees.targets(ON_TLS | {"DB_SSLMODE": mode}, {"db_admin_password": "given"})
    entries, env = read_yaml(made.compose.data)["services"], made.env_values()
    bundle = {"/etc/avatar/tls/ca-bundle.crt"}
    for service, prefix in (*((name, "AUTHENTIK_POSTGRESQL__") for name in AUTHENTIK), ("authentik_init_db", "PG")):
        found = {key: interpolated(text, env) for key, text in entries[service]["environment"].items()}
        assert (found[f"{prefix}PORT"], found[f"{prefix}SSLMODE"]) == ("6432", mode)
        # With a CA, libpq would verify for `require` too.
        assert {found[key] for key in found if key == f"{prefix}SSLROOTCERT"} == (bundle if "verify" in mode else set())
        mounted = {mount["target"] for mount in entries[service].get("volumes", ()) if "target" in mount}
        assert bundle <= mounted or mode == "require"
    for service in API_SERVICES:
        assert not {"DB_PORT", "DB_SSLMODE"} & set(entries[service]["environment"])


def test_a_certificate_cannot_be_checked_without_a_ca() -> None:
    settings = {"DB_HOST": "pg.example.com", "DB_SSLMODE": "verify-full"}
    with pytest.raises(ValueError, match=r"DB_SSLMODE=verify-full .* set TLS_CA_PATH"):
        trees.resolution(settings)
    assert trees.resolution(settings | {"TLS_CA_PATH": "./tls/ca.crt"}).problems == ()


def as_authentik_reads(text: str) -> Any:
    """What its configuration makes of a variable that begins with AUTHENTIK (authentik/lib/config.py)."""
    with contextlib.suppress(json.JSONDecodeError):
        text = json.loads(text)
    if isinstance(text, str):
        urlsplit(text)
    return text


def test_what_operators_type_reaches_authentik_as_they_typed_it() -> None:
    typed = {"SMTP_HOST": "mail.example.com", "SMTP_USERNAME": "1e5", "SMTP_SENDER_EMAIL": "true@example.com"}
    typed |= {"AUTHENTIK_BOOTSTRAP_EMAIL": "12345678@example.com", "DB_HOST": "5e.example.com"}
    given = {"smtp_password": "12345678", "db_admin_password": "given", "authentik_bootstrap_password": '"abc"'}
    made = trees.targets(typed, given)
    for service in AUTHENTIK:
        texts = read_yaml(made.compose.data)["services"][service]["environment"]
        found = {key: interpolated(text, made.env_values()) for key, text in texts.items()}
        read = {key: as_authentik_reads(text) for key, text in found.items() if key.startswith("AUTHENTIK")}
        assert read["AUTHENTIK_EMAIL__HOST"] == typed["SMTP_HOST"]
        assert read["AUTHENTIK_EMAIL__FROM"] == typed["SMTP_SENDER_EMAIL"]
        assert read["AUTHENTIK_POSTGRESQL__HOST"] == typed["DB_HOST"]
        # Its own blueprint reads these from the environment, unparsed.
        assert found["AUTHENTIK_BOOTSTRAP_EMAIL"] == typed["AUTHENTIK_BOOTSTRAP_EMAIL"]
        assert found["AUTHENTIK_BOOTSTRAP_PASSWORD"] == '"abc"'
        assert read["AUTHENTIK_EMAIL__USERNAME"] == "file:///run/secrets/smtp_username"
    assert [file.data for file in made.authentik if file.path == "authentik/smtp-username"] == [b"1e5\n"]


@pytest.mark.parametrize("text", ["true", "FALSE", "null", "1e5", "1.5e-3"])
@pytest.mark.parametrize("key", ["SMTP_HOST", "DB_HOST"])
def test_a_host_that_authentik_would_take_for_something_else_is_refused(key: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"{key}.*Authentik would not read .* as a name"):
        trees.resolution({key: text})


@pytest.mark.parametrize("text", ["x://[y", "//]"])
@pytest.mark.parametrize("key", ["authentik_bootstrap_password", "authentik_bootstrap_token"])
def test_a_secret_at_which_authentik_would_not_start_is_refused(key: str, text: str) -> None:
    kind = SECRETS[key].kind
    with pytest.raises(ValueError, match="broken URL"):
        kind.parse(text)
    assert kind.parse("a//[b") == "a//[b"


_DATABASE = "db_name db_user db_password"
_STORAGE_KEYS = "storage_admin_access_key_id storage_admin_secret_access_key"
_ADMIN = "db_admin_user db_admin_password"
_AUTHENTIK_DATABASE = "authentik_database_name authentik_database_user authentik_database_password"
_ALL_API = f"{_DATABASE} organization_name authjwt_secret_key {_STORAGE_KEYS}"
SECRETS_OF = {
    "api": f"{_ALL_API} telemetry_s3_access_key_id telemetry_s3_secret_access_key clevercloud_sso_salt",
    "init-db": f"{_ALL_API} {_ADMIN}",
    "dask-scheduler": _ALL_API,
    "dask-worker": _ALL_API,
    "db": _ADMIN,
    "authentik_init_db": f"{_ADMIN} {_AUTHENTIK_DATABASE}",
    **dict.fromkeys(AUTHENTIK, f"{_AUTHENTIK_DATABASE} authentik_secret_key"),
    "filer": "storage_encryption_key",
    "s3": "storage_encryption_key",
    "init-storage": _STORAGE_KEYS,
    "admin": "seaweedfs_admin_password",
}


OF_API_AND_INIT_DB = {
    "email": "admin_emails",
    "username": "avatar_first_user_name avatar_first_user_password",
    "aws": "aws_mail_account_access_key_id aws_mail_account_secret_access_key",
    "smtp": "",
    "up to 3.8": "pepper",
    "before 2.80": "file_jwt_secret_key",
}


def secrets_of(*what: str, bundled: bool = True) -> dict[str, set[str]]:
    """Service -> its secrets, in a deployment of which this much is said (keys of the table above)."""
    found = {service: set(row.split()) for service, row in SECRETS_OF.items() if bundled or service != "db"}
    for service in ("api", "init-db"):
        found[service].update(*(OF_API_AND_INIT_DB[one].split() for one in what))
    if "smtp" in what:  # Authentik sends the mail of a recovery
        for service in AUTHENTIK:
            found[service].add("smtp_password")
    return found


def test_secrets_of_each_service():
    for name in ALL:
        auth = "username" if name == "username-smtp" else "email"
        mail = "aws" if name == "api-2" else "smtp"
        older = {"api-2": ["up to 3.8", "before 2.80"], "username-smtp": ["up to 3.8"]}.get(name, [])
        expected = secrets_of(auth, mail, *older, bundled=name not in EXTERNAL)
        found = {service: entry["secrets"] for service, entry in stack(name).items() if "secrets" in entry}
        mounted = {service: set(names) for service, names in found.items()}
        assert mounted == expected, f"{name}: SECRETS_OF says otherwise than `services` of the secret's row"
        assert all(len(names) == len(set(names)) for names in found.values()), name


@pytest.mark.parametrize("name", ALL)
def test_every_secret_that_is_named_has_its_file(name):
    declared = compose(name)["secrets"]
    assert declared == {secret: {"file": f"./.secrets/{secret}"} for secret in declared}
    mounted = {secret for entry in stack(name).values() for secret in entry.get("secrets", ())}
    assert set(declared) == mounted
    configuration = CONFIGURATIONS[name]
    assert mounted <= set(trees.secret_texts(configuration.settings, configuration.secrets))


@pytest.mark.parametrize("name", ALL)
def test_no_secret_of_a_file_stands_in_the_compose_file_or_in_nginx(name):
    configuration = CONFIGURATIONS[name]
    texts = trees.secret_texts(configuration.settings, configuration.secrets)
    generated = [text for secret, text in texts.items() if SECRETS[secret].generate and len(text) > 12]
    made = named_targets(name)
    for file in (made.compose, *made.nginx):
        assert not [text for text in generated if text.encode() in file.data]


# --- Mounts, volumes, labels --------------------------------------------------------------------------


def binds(name: str) -> dict[str, dict[str, str]]:
    """Service -> container path -> host path, of every bind mount; each must be in the long syntax."""
    found: dict[str, dict[str, str]] = {}
    for service, entry in stack(name).items():
        for mount in entry.get("volumes", ()):
            if isinstance(mount, str):
                assert mount.partition(":")[0] in compose(name)["volumes"], f"{service}: {mount} is no named volume"
                continue
            if mount["type"] == "volume":
                continue
            assert mount["type"] == "bind"
            assert mount["read_only"] is True
            assert mount["bind"] == {"create_host_path": False}
            source = interpolated(mount["source"], named_targets(name).env_values())
            found.setdefault(service, {})[mount["target"]] = source
    return found


CERTIFICATE, KEY = "/etc/nginx/tls/server.fullchain.crt", "/etc/nginx/tls/private/server.decrypted.key"
BRANDING = {
    "/media/public/favicon.ico": "./authentik/branding/favicon.ico",
    "/media/public/brand_logo.png": "./authentik/branding/brand_logo.png",
}


@pytest.mark.parametrize("name", ALL)
def test_bind_mounts(name):
    found = binds(name)
    nginx = {"/etc/nginx/nginx.conf": "./nginx/nginx.conf", "/etc/nginx/avatar": "./nginx"}
    if ADDRESSES[name][0].startswith("https") and name != "behind-proxy":
        nginx |= {CERTIFICATE: "./tls/server.fullchain.crt", KEY: "./tls/private/server.decrypted.key"}
    if name == "telemetry-redirect":
        nginx |= {CERTIFICATE: "/etc/our certs/a:b #1 $5.crt", KEY: '../keys/it\'s "the" key.pem'}
    assert found["nginx"] == nginx
    bundle = {"/etc/avatar/tls/ca-bundle.crt": "./tls/ca-bundle.crt"}
    authentik = BRANDING | (bundle if name in PRIVATE_AUTHORITY else {})
    authentik["/run/secrets/smtp_username"] = "./authentik/smtp-username"
    assert found["authentik_server"] == authentik
    blueprint = "octopize-avatar-blueprint.yaml"
    applying = authentik | {f"/blueprints/{blueprint}": f"./authentik/{blueprint}"}
    assert found["authentik_worker"] == found["authentik_blueprint"] == applying
    with_bundle = dict.fromkeys(API_SERVICES, bundle) if name in PRIVATE_AUTHORITY else {}
    others = {service: row for service, row in found.items() if not service.startswith(("nginx", "authentik"))}
    assert others == with_bundle


@pytest.mark.parametrize("name", ALL)
def test_every_file_of_ours_reaches_a_container(name):
    mounted = {path for row in binds(name).values() for path in row.values()}
    ours = {f"./{file.path}" for file in named_targets(name).all} - {"./.env", "./docker-compose.yml"}
    authority = {"./tls/avatar-ca.crt", "./tls/private/avatar-ca.key"}  # for clients, and for nobody else
    assert ours - mounted == (authority if name == "self-signed" else set())


def test_authentik_2025_10_gets_no_branding() -> None:
    """That release changes the owner of its media, and its worker stops at a mount that it cannot change.

    Nor a volume for uploads: it looks for them in /media.
    """
    made = trees.targets({"AVATAR_AUTHENTIK_VERSION": "2025.10.4"})
    for text in (b"/media/", b"authentik-data"):
        assert text not in made.compose.data
        assert text in named_targets("usual").compose.data
    stop = read_yaml(made.compose.data)["services"]
    assert stop["authentik_blueprint"]["depends_on"] == services("usual")["authentik_blueprint"]["depends_on"]
    assert "ak apply_blueprint octopize-avatar-blueprint.yaml" in stop["authentik_blueprint"]["command"][0]


@pytest.mark.parametrize("name", ALL)
def test_volumes(name):
    env = named_targets(name).env_values()
    names = {volume: interpolated(row["name"], env) for volume, row in compose(name)["volumes"].items()}
    expected = {
        "seaweedfs-data": "avatar_seaweedfs_data",
        "seaweedfs-metadata": "avatar_seaweedfs_metadata",
        "seaweedfs-blocks": "avatar_seaweedfs_blocks",
        "authentik-data": "avatar_authentik_data",
        "postgres_data": "avatar_postgres_data",
    }
    used = {
        "db": "postgres_data:/var/lib/postgresql/data",
        "master": "seaweedfs-metadata:/data",
        "volume": "seaweedfs-blocks:/data",
        "filer": "seaweedfs-data:/data",
    }
    if name in EXTERNAL:
        del expected["postgres_data"], used["db"]
    assert names == expected
    named = {
        service: [mount for mount in entry.get("volumes", ()) if isinstance(mount, str)]
        for service, entry in stack(name).items()
    }
    assert {service: row for service, row in named.items() if row} == {service: [row] for service, row in used.items()}
    uploads = {"type": "volume", "source": "authentik-data", "target": "/data", "volume": {"nocopy": True}}
    mounting = {service for service, entry in stack(name).items() if uploads in entry.get("volumes", ())}
    assert mounting == set(AUTHENTIK)


def labels(made: Targets) -> dict[str, dict[str, str]]:
    entries = read_yaml(made.compose.data)["services"]
    return {service: entry.get("labels", {}) for service, entry in entries.items()}


@pytest.mark.parametrize("name", ALL)
def test_who_mounts_files_or_secrets_is_labelled(name):
    for service, found in labels(named_targets(name)).items():
        expected = {"avatar-setup.secrets"} if "secrets" in services(name)[service] else set()
        expected |= {"avatar-setup.files"} if service in binds(name) else set()
        assert set(found) == expected, service


def test_a_changed_secret_changes_the_label_of_those_that_mount_it():
    usual = labels(named_targets("usual"))
    for secret in SECRETS:
        changed = labels(trees.targets({}, {secret: "another@example.com"}))
        concerned = {service for service in usual if changed[service] != usual[service]}
        mounting = {service for service, entry in services("usual").items() if secret in entry.get("secrets", ())}
        # The blueprint's last line follows the values that the blueprint reads.
        reading = any(key.startswith("AVATAR_AUTHENTIK_BLUEPRINT_") for key in SECRETS[secret].shown)
        assert concerned == mounting | ({"authentik_worker", "authentik_blueprint"} if reading else set()), secret


def test_a_changed_file_changes_the_label_of_those_that_mount_it():
    changed, usual = labels(trees.targets({"TLS_EXTRA_NAMES": "more.example"})), labels(named_targets("usual"))
    assert {service for service in usual if changed[service] != usual[service]} == {"nginx"}


# --- nginx --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    """A function from a configuration's name to its nginx directives, as crossplane reads them."""
    directory = tmp_path_factory.mktemp("nginx")

    @cache
    def parse(name: str) -> list[dict[str, Any]]:
        path = directory / f"{name}.conf"
        path.write_bytes(named_targets(name).nginx[0].data)
        payload = crossplane.parse(str(path), single=True)
        assert payload["status"] == "ok", payload["errors"]
        http = [entry for entry in payload["config"][0]["parsed"] if entry["directive"] == "http"]
        block: list[dict[str, Any]] = http[0]["block"]
        return block

    return parse


def directives(block: list[dict[str, Any]], name: str) -> list[list[str]]:
    return [entry["args"] for entry in block if entry["directive"] == name]


def blocks(block: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [entry for entry in block if entry["directive"] == name]


def main_server(http: list[dict[str, Any]]) -> list[dict[str, Any]]:
    servers = [entry["block"] for entry in blocks(http, "server")]
    (found,) = [block for block in servers if directives(block, "server_name") != [[""]]]
    return found


SERVER_NAMES = {
    "self-signed": ["avatar.example.com", "avatar.internal", "192.0.2.7", "[2001:db8::7]"],
    "telemetry-redirect": ["avatar.example.com", "avatar.internal", "192.0.2.7", "[2001:db8::7]"],
    "plain-http": ["avatar.test"],
    "private-ca": ["avatar.corp"],
    "ipv6-literal": ["[2001:db8::1]"],
    "ipv4-literal": ["192.0.2.10"],
    "airgapped": ["xn--bcher-kva.example"],
}
WITHOUT_TLS = ("behind-proxy", "plain-http", "ipv4-literal")


@pytest.mark.parametrize("name", ALL)
def test_nginx_listens_where_it_is_published(name, parsed):
    ports, ssl = ADDRESSES[name][1], [] if name in WITHOUT_TLS else ["ssl"]
    addresses = ["{}", "[::]:{}"] if name.startswith("ipv6") else ["{}"]
    expected = [[address.format(ports[0]), *ssl] for address in addresses]
    assert directives(main_server(parsed(name)), "listen") == expected
    servers = [entry["block"] for entry in blocks(parsed(name), "server")]
    others = [block for block in servers if block != main_server(parsed(name))]
    found = [args for block in others for args in directives(block, "listen")]
    redirect = [[address.format(port), "default_server"] for port in ports[1:] for address in addresses]
    assert found == [[*args, "default_server"] for args in expected] + redirect


@pytest.mark.parametrize("name", ALL)
def test_nginx_answers_to_the_public_names(name, parsed):
    assert directives(main_server(parsed(name)), "server_name") == [SERVER_NAMES.get(name, ["avatar.example.com"])]


@pytest.mark.parametrize("name", ALL)
def test_the_headers_of_tls_stand_where_tls_is_ours(name, parsed):
    headers = {args[0]: args[1:] for args in directives(parsed(name), "add_header")}
    hidden = {args[0] for args in directives(parsed(name), "proxy_hide_header")}
    for server in blocks(parsed(name), "server"):
        for block in (server["block"], *(location["block"] for location in blocks(server["block"], "location"))):
            assert not directives(block, "add_header"), "it would switch off those above"
    if name in WITHOUT_TLS:
        assert headers == {}
        assert hidden == set()
        assert not directives(parsed(name), "ssl_certificate")
    else:
        assert headers == {
            "X-Content-Type-Options": ["nosniff", "always"],
            "Strict-Transport-Security": ["$avatar_hsts", "always"],
        }
        assert hidden == set(headers)
        (hsts,) = [entry["block"] for entry in blocks(parsed(name), "map") if entry["args"][1] == "$avatar_hsts"]
        # A browser that has seen it would refuse to go on once our authority is no longer trusted.
        assert directives(hsts, "default") == [["" if name == "self-signed" else "max-age=63072000"]]
        assert directives(parsed(name), "ssl_protocols") == [["TLSv1.2", "TLSv1.3"]]
        assert directives(parsed(name), "ssl_certificate") == [[CERTIFICATE]]
        assert directives(parsed(name), "ssl_certificate_key") == [[KEY]]
    assert directives(parsed(name), "server_tokens") == [["off"]]


@pytest.mark.parametrize("name", ALL)
def test_forwarded_headers_are_said_by_nginx(name, parsed):
    headers = {args[0]: args[1] for args in directives(parsed(name), "proxy_set_header")}
    assert headers["Host"] == headers["X-Forwarded-Host"] == "$host$avatar_port"
    assert headers["X-Forwarded-Proto"] == ADDRESSES[name][0].partition(":")[0]
    assert headers["X-Forwarded-For"] == headers["X-Real-IP"] == "$remote_addr"
    server = main_server(parsed(name))
    for block in (server, *(location["block"] for location in blocks(server, "location"))):
        assert not directives(block, "proxy_set_header"), "it would switch off those above"


@pytest.mark.parametrize("name", ALL)
def test_only_named_proxies_tell_the_clients_address(name, parsed):
    trusted = [["10.0.0.0/8"], ["2001:db8::/32"], ["192.0.2.1/32"]] if name == "behind-proxy" else []
    assert directives(parsed(name), "set_real_ip_from") == trusted
    assert directives(parsed(name), "real_ip_header") == ([["X-Forwarded-For"]] if trusted else [])


@pytest.mark.parametrize("name", ALL)
def test_routes(name, parsed):
    found = {entry["args"][-1]: entry["block"] for entry in blocks(main_server(parsed(name)), "location")}
    upstreams = {path: dict(directives(block, "set")).get("$avatar_upstream") for path, block in found.items()}
    assert upstreams == {
        "/": None,
        "@timeout": None,
        "/web": "http://web:3000",
        "/api/internal": None,
        "/api/internal/": None,
        "/api": "http://api:8000/$avatar_api_rest",
        "/sso/": "http://authentik_server:9000",
        "/storage": "http://s3:8333/$avatar_storage_rest",
    }
    assert directives(found["/"], "return") == [["302", "/web"]]
    assert directives(found["/api/internal"], "return") == directives(found["/api/internal/"], "return") == [["404"]]
    assert directives(parsed(name), "proxy_buffer_size") == [["16k"]]
    assert directives(parsed(name), "proxy_buffers") == [["8", "16k"]]
    assert directives(found["/storage"], "client_max_body_size") == [["4096M"]]
    assert directives(parsed(name), "resolver")[0][0] == "127.0.0.11"


# --- What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [*(name for name in NETWORKS if "_" not in name), "my-dask-scheduler"])
def test_the_public_host_is_no_service_of_the_stack(service):
    if service == "nginx":
        assert trees.resolution({"PUBLIC_URL": service}).problems == ()
        return
    with pytest.raises(ValueError, match="is also a service of the stack"):
        trees.resolution({"PUBLIC_URL": service})
    behind = trees.resolution({"PUBLIC_URL": service, "TLS_MODE": "behind-proxy"})
    assert behind.problems == ()


def test_a_value_that_env_cannot_carry_is_refused_by_name():
    made = trees.targets({"SMTP_HOST": "mail.example.com"}, {"smtp_password": "bell\x07"})
    with pytest.raises(SetupError, match=r"SMTP_PASSWORD: .*control character"):
        _ = made.env


def test_keys_are_their_owners_alone():
    modes = {file.path: file.mode for file in named_targets("self-signed").all if file.path.startswith("tls/")}
    assert {path for path, mode in modes.items() if mode == 0o600} == {path for path in modes if path.endswith(".key")}
    assert len(modes) == 5


def test_files_have_their_modes():
    files = named_targets("private-ca").all
    assert {file.path: file.mode for file in files if not file.path.startswith("authentik")} == {
        ".env": 0o600,
        "nginx/nginx.conf": 0o644,
        "tls/ca-bundle.crt": 0o644,
        "docker-compose.yml": 0o644,
    }
    assert files[-1].path == "docker-compose.yml"


def test_static_files_are_copied_as_they_are():
    for file in named_targets("usual").authentik:
        if file.path == "authentik/smtp-username":
            continue
        copied = (trees.TEMPLATES / file.path).read_bytes()
        if file.path.endswith("/octopize-avatar-blueprint.yaml"):
            added = file.data.removeprefix(copied)
            assert re.fullmatch(rb"\n# [^\n]*: [0-9a-f]{16}\n", added)
        else:
            assert file.data == copied
        assert file.mode == 0o644


@pytest.mark.parametrize(
    "said", [{"PUBLIC_URL": "other.example.com"}, {"AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE": "expert"}]
)
def test_the_blueprint_changes_with_what_it_reads(said):
    assert trees.targets(said).authentik != named_targets("usual").authentik
    assert trees.targets({"LOG_LEVEL": "DEBUG"}).authentik == named_targets("usual").authentik
