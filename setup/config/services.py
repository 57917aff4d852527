"""The table of services: what each container runs, gets, waits for and keeps.

The files of every engine render from it. Texts may hold `${KEY}` for a key of `.env`. A secret names the services that
mount it (`config.secrets`); `deploy.targets` knows which generated files each mounts. Only rendering needs this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from setup.config import derived
from setup.config.hosts import netloc
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.values import Values
from setup.typed import NamedTuple


class State(StrEnum):
    """How many of a service may run, and how long."""

    SINGLE = "single"  # exactly one: it keeps data, or a port of the host
    REPLICATED = "replicated"  # one or more, all alike
    ONCE = "once"  # runs to its end, and is safe to run again


class Condition(StrEnum):
    """What another service waits for, in Compose's words."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class After(NamedTuple):
    """A service that must have come so far before this one starts."""

    service: str
    condition: Condition = Condition.HEALTHY


class Variable(NamedTuple):
    """An environment variable; `computed` from settings, so that its text is never plain YAML. `why` is a comment."""

    name: str
    text: str
    computed: bool = False
    why: str = ""


class Health(NamedTuple):
    """How to find out whether a service is healthy: an exec form, and the same as a GET for those that offer it."""

    test: tuple[str, ...]
    port: int = 0
    path: str = ""
    interval: int = 5  # seconds, as the next two
    timeout: int = 5
    start_period: int = 60
    retries: int = 12


class Volume(NamedTuple):
    """A data volume, by its key in the compose file, at a place in the container."""

    key: str
    target: str
    is_seeded: bool = True  # an empty one gets what the image has at this place


class Port(NamedTuple):
    """A port of the host at an address, "" for all, that leads to one of the container."""

    address: str
    published: int
    target: int


class Service(NamedTuple):
    """A service; `script` names files of templates/scripts that `/bin/sh -euc` runs as one, in place of a command."""

    name: str
    image: str
    networks: tuple[str, ...]
    state: State = State.SINGLE
    command: tuple[str, ...] = ()
    script: tuple[str, ...] = ()
    environment: tuple[Variable, ...] = ()
    after: tuple[After, ...] = ()
    health: Health | None = None
    ports: tuple[Port, ...] = ()
    aliases: tuple[str, ...] = ()  # further names, in the first network
    hostname: str = ""
    user: str = ""
    volumes: tuple[Volume, ...] = ()
    tmpfs: tuple[str, ...] = ()
    stop_grace: int = 10  # seconds
    shm_size: str = ""
    platform: str = ""
    confined: bool = True  # no program in it gains rights by being executed
    replicas: int = 1
    memory: str = ""  # the most of a container, as in 512m; "" for no limit, as in the next
    cpus: str = ""
    serves: tuple[int, ...] = ()  # the ports at which other containers reach it


NETWORKS = ("proxy", "dask", "storage", "seaweedfs", "database")
AUTHENTIK_DATA = "authentik-data"
OBJECTS = "authentik_objects.py"  # for the shell of Authentik
_AMD64 = "linux/amd64"
_SIGN_IN_PATH = "/sso/"
# The ports at which others ask a service; SeaweedFS has one of gRPC 10000 above each.
_SERVES = {
    "api": (8000,), "web": (3000,), "dask-scheduler": (8786,), "db": (5432,), "authentik_server": (9000,),
    "master": (9333, 19333), "volume": (8080, 18080), "filer": (8888, 18888), "s3": (8333, 18333),
    "admin": (23646, 33646),
}  # fmt: skip
_SCHEDULER = "my-dask-scheduler"
_WEED = ("-v=${AVATAR_SEAWEEDFS_LOG_VERBOSITY}", "-logtostderr")


def list_services(v: Values) -> tuple[Service, ...]:
    """Return the services of a deployment, in the order of the compose file."""
    return tuple(_sized(v, (*_avatar(v), *_database(v), *_storage(), *_sign_in(v))))


def _sized(v: Values, rows: tuple[Service, ...]) -> Iterator[Service]:
    """Yield the rows with their ports, those that have settings for it with their replicas and limits."""
    for bare in rows:
        row = bare._replace(serves=_SERVES.get(bare.name, tuple(port.target for port in bare.ports)))
        name = row.name.upper().replace("-", "_")
        if f"REPLICAS_{name}" in SETTINGS:
            limits = {"memory": v[f"MEMORY_{name}"], "cpus": v[f"CPUS_{name}"]}
            row = row._replace(replicas=v[f"REPLICAS_{name}"], **limits)
        yield row


def list_volumes(v: Values) -> tuple[Variable, ...]:
    """Return the key of each data volume, and the name by which Docker knows it."""
    volumes = [
        Variable("seaweedfs-data", "${SEAWEEDFS_VOLUME}"),
        Variable("seaweedfs-metadata", v["SEAWEEDFS_METADATA_VOLUME"], computed=True),
        Variable("seaweedfs-blocks", v["SEAWEEDFS_BLOCKS_VOLUME"], computed=True),
    ]
    if derived.keeps_uploads(v):
        volumes.append(Variable(AUTHENTIK_DATA, v["AUTHENTIK_VOLUME"], computed=True))
    if derived.bundled_database(v):
        volumes.append(Variable("postgres_data", "${DB_VOLUME}"))
    return tuple(volumes)


def _of_env(*keys: str) -> list[Variable]:
    """Return the variables that have their name and value from `.env`."""
    return [Variable(key, f"${{{key}}}") for key in keys]


def _avatar(v: Values) -> tuple[Service, ...]:
    """Return the API with all that runs its image, the web client, and nginx in front."""
    environment = _api_environment(v)
    storage_is_ready = After("init-storage", Condition.COMPLETED)

    def of_api(name: str, state: State, networks: tuple[str, ...], *after: After) -> Service:
        row = Service(name, derived.API_IMAGE, networks, state, environment=environment, after=after)
        return row._replace(platform=_AMD64, confined=False)

    database = [After("db")] if derived.bundled_database(v) else []
    api = of_api(
        "api",
        State.REPLICATED,
        ("proxy", "dask", "storage", "database"),
        After("init-db", Condition.COMPLETED),
        storage_is_ready,
    )
    init_db = of_api("init-db", State.ONCE, ("storage", "database"), *database, After("s3"), storage_is_ready)
    scheduler = of_api("dask-scheduler", State.SINGLE, ("dask", "storage"), storage_is_ready)
    worker = of_api("dask-worker", State.REPLICATED, ("dask", "storage", "database"), storage_is_ready)
    address = f"{_SCHEDULER}:8786"
    return (
        api._replace(health=Health(("CMD", "curl", "-f", "http://localhost:8000/health"), 8000, "/health")),
        init_db._replace(command=("sh", "-c", "cd /app/avatar && python bin/dbtool.py setup")),
        scheduler._replace(command=("dask", "scheduler"), hostname=_SCHEDULER, aliases=(_SCHEDULER,)),
        worker._replace(command=("dask", "worker", address, "--preload", "api.domain.dask_worker_setup")),
        _web(),
        _nginx(v),
    )


def _api_environment(v: Values) -> tuple[Variable, ...]:
    variables = [
        Variable("DASK_SCHEDULER", f"{_SCHEDULER}:8786"),
        Variable("SECRETS_DIR", "/var/run/secrets"),
        Variable("STORAGE_ENDPOINT_HOST", "http://s3"),
    ]
    if derived.has_private_ca(v):
        why = "The public roots and the private CA in one file."
        variables.append(Variable("SSL_CERT_FILE", derived.CA_BUNDLE_AT, computed=True, why=why))
    variables += _of_env(
        "ENV_NAME", "USE_EMAIL_AUTHENTICATION", "DB_HOST", "MAIL_PROVIDER", "SMTP_HOST", "SMTP_PORT", "SMTP_USE_TLS",
        "SMTP_START_TLS", "SMTP_VERIFY", "SMTP_SENDER_EMAIL", "SMTP_USERNAME", "SSO_PROVIDER_APP_NAME",
    )  # fmt: skip
    if v["TELEMETRY_ENABLED"]:
        variables += _of_env("TELEMETRY_S3_ENDPOINT_URL", "TELEMETRY_S3_REGION", "TELEMETRY_S3_BUCKET_NAME")
    variables += _of_env(
        "USE_CONSOLE_LOGGING", "IS_SENTRY_ENABLED", "LOG_LEVEL", "COMPATIBILITY_MAPPING_URL", "SHARED_STORAGE_PATH",
        "DATASET_EXPIRATION_DAYS", "AVATAR_WEB_CLIENT_URL", "AVATAR_API_URL", "AVATAR_STORAGE_ENDPOINT_PUBLIC_URL",
        "AVATAR_STORAGE_ENDPOINT_INTERNAL_URL", "SSO_PROVIDER_URL", "SSO_CLIENT_ID", "SSO_CLIENT_SECRET",
        "AUTHENTIK_API_TOKEN", "AUTHENTIK_WEBHOOK_SECRET", "SMTP_PASSWORD",
    )  # fmt: skip
    return tuple(variables)


def _web() -> Service:
    environment = (
        *_of_env("ENV_NAME", "AVATAR_WEB_CLIENT_URL"),
        Variable("AVATAR_API_PUBLIC_URL", "${AVATAR_API_URL}"),
        Variable("AVATAR_API_INTERNAL_URL", "http://api:8000"),
        *_of_env("AVATAR_STORAGE_ENDPOINT_PUBLIC_URL", "AVATAR_STORAGE_ENDPOINT_INTERNAL_URL"),
        Variable("AVATAR_AUTHENTIK_URL", "${SSO_PROVIDER_URL}"),
        Variable("AVATAR_SSO_URL", "${AVATAR_API_URL}/login/sso"),
    )
    row = Service(
        "web", derived.WEB_IMAGE, ("proxy",), State.REPLICATED, environment=environment, after=(After("api"),)
    )
    return row._replace(platform=_AMD64, confined=False)


def _nginx(v: Values) -> Service:
    listen, alias = derived.listen_port(v), derived.public_alias(v)
    address = netloc(v["NGINX_BIND_ADDRESS"], None) if v["NGINX_BIND_ADDRESS"] else ""
    ports = [Port(address, v["NGINX_PUBLISHED_PORT"] or listen, listen)]
    if derived.tls_is_ours(v) and v["NGINX_HTTP_REDIRECT_PORT"]:
        ports.append(Port(address, v["NGINX_HTTP_REDIRECT_PORT"], v["NGINX_HTTP_REDIRECT_PORT"]))
    after = (
        After("api"),
        After("web", Condition.STARTED),
        After("s3"),
        After("authentik_blueprint", Condition.COMPLETED),
    )
    row = Service("nginx", derived.NGINX_IMAGE, ("proxy", "storage"), after=after, ports=tuple(ports))
    return row._replace(aliases=(alias,) if alias else ())


def _database(v: Values) -> tuple[Service, ...]:
    """Return the database, if it is part of the stack."""
    if not derived.bundled_database(v):
        return ()
    environment = (
        Variable("POSTGRES_USER_FILE", "/run/secrets/db_admin_user"),
        Variable("POSTGRES_PASSWORD_FILE", "/run/secrets/db_admin_password"),
    )
    test = 'pg_isready -q -h 127.0.0.1 -d postgres -U "$(cat /run/secrets/db_admin_user)"'
    row = Service("db", derived.POSTGRES_IMAGE, ("database",), environment=environment, stop_grace=60)
    volumes = (Volume("postgres_data", "/var/lib/postgresql/data"),)
    return (row._replace(health=Health(("CMD-SHELL", test)), volumes=volumes),)


def _storage() -> tuple[Service, ...]:
    """Return SeaweedFS: what keeps the data, the S3 gateway, and what configures and tidies it."""

    def of_weed(name: str, *after: str, command: tuple[str, ...] = (), script: str = "") -> Service:
        row = Service(name, derived.SEAWEEDFS_IMAGE, ("seaweedfs",), command=command, after=tuple(map(After, after)))
        return row._replace(script=(script,) if script else ())

    def asked(port: int, path: str, host: str) -> Health:
        return Health(("CMD", "wget", "-q", "-O", "/dev/null", f"http://{host}:{port}{path}"), port, path)

    master = of_weed("master", command=(
        *_WEED, "master", "-ip=master", "-mdir=/data", "-volumeSizeLimitMB=10", "-raftBootstrap", "-raftHashicorp",
        "-electionTimeout=1s", "-telemetry=false",
    ))  # fmt: skip
    volume = of_weed("volume", "master", command=(
        *_WEED, "volume", "-dir=/data", "-mserver=master:9333", "-port=8080", "-ip=volume", "-preStopSeconds=1",
        "-max=10000",
    ))  # fmt: skip
    filer = of_weed("filer", "master", "volume", script="filer.sh")
    s3 = of_weed("s3", "master", "volume", "filer", script="s3.sh")
    init_storage = of_weed("init-storage", "filer", "master", script="init_storage.sh")
    admin = of_weed("admin", "master", "filer", script="admin.sh")
    worker = of_weed("worker", "admin", "s3", command=(
        *_WEED, "worker", "-admin=admin:23646.33646", "-jobType=s3_lifecycle", "-workingDir=/data",
        "-metricsPort=9327", "-metricsIp=127.0.0.1",
    ))  # fmt: skip
    return (
        master._replace(
            health=asked(9333, "/cluster/healthz", "master"), volumes=(Volume("seaweedfs-metadata", "/data"),)
        ),
        volume._replace(health=asked(8080, "/healthz", "volume"), volumes=(Volume("seaweedfs-blocks", "/data"),)),
        filer._replace(health=asked(8888, "/healthz", "filer"), volumes=(Volume("seaweedfs-data", "/data"),)),
        s3._replace(health=asked(8333, "/healthz", "s3"), networks=("storage", "seaweedfs"), state=State.REPLICATED),
        init_storage._replace(tmpfs=("/tmp",), state=State.ONCE),  # noqa: S108  # nosec B108
        admin._replace(health=asked(23646, "/health", "admin")),
        worker._replace(health=asked(9327, "/ready", "127.0.0.1")),
    )


def _sign_in(v: Values) -> tuple[Service, ...]:
    """Return Authentik, and what prepares its database and makes sure of its blueprint."""
    bundled = derived.bundled_database(v)
    environment = [Variable("PGHOST", "${DB_HOST}")]
    if not bundled:
        environment += [Variable("PGPORT", "${DB_PORT}"), Variable("PGSSLMODE", "${DB_SSLMODE}")]
    if derived.database_is_verified(v):
        environment.append(Variable("PGSSLROOTCERT", derived.CA_BUNDLE_AT, computed=True))
    environment += [Variable("PGCONNECT_TIMEOUT", "10"), Variable("PGCLIENTENCODING", "UTF8")]
    init_db = Service("authentik_init_db", derived.POSTGRES_IMAGE, ("database",), State.ONCE)
    init_db = init_db._replace(script=("authentik_init_db.sh",), environment=tuple(environment))
    health = Health(("CMD", "ak", "healthcheck"), interval=15, timeout=30, start_period=600, retries=20)
    server = Service(
        "authentik_server", derived.AUTHENTIK_IMAGE, ("proxy", "database"), confined=False, shm_size="512mb"
    )
    uploads = (Volume(AUTHENTIK_DATA, "/data", is_seeded=False),) if derived.keeps_uploads(v) else ()
    server = server._replace(environment=_authentik_environment(v), volumes=uploads)
    inside = server._replace(networks=("database",))
    link = ("authentik_uploads.sh",) if uploads else ()
    blueprint = inside._replace(name="authentik_blueprint", state=State.ONCE)
    return (
        init_db._replace(after=(After("db"),) if bundled else ()),
        server._replace(
            command=("server",),
            health=health._replace(port=9000, path=f"{_SIGN_IN_PATH}-/health/live/"),
            after=(After("authentik_init_db", Condition.COMPLETED),),
        ),
        inside._replace(
            name="authentik_worker", command=("worker",), user="root", health=health, after=(After("authentik_server"),)
        ),
        blueprint._replace(
            script=("authentik_blueprint.sh", *link, OBJECTS),
            after=(After("authentik_server"), After("authentik_worker")),
        ),
    )


def _authentik_environment(v: Values) -> tuple[Variable, ...]:
    base_url = derived.base_url(v)
    why = "Without the path: known since 2026.8, required from 2026.11 on."
    variables = [Variable("AUTHENTIK_WEB__BASE_URL", base_url, computed=True, why=why)]
    if derived.has_private_ca(v):
        why = "It sends mail: the public roots and the private CA in one file, as for the API."
        variables.append(Variable("SSL_CERT_FILE", derived.CA_BUNDLE_AT, computed=True, why=why))
    variables += [*_authentik_database(v), *_AUTHENTIK_FIXED, *_authentik_mail(v)]
    prefix = "AVATAR_AUTHENTIK_BLUEPRINT_"
    variables += _of_env(
        "AUTHENTIK_BOOTSTRAP_EMAIL", "AUTHENTIK_BOOTSTRAP_PASSWORD", "AUTHENTIK_BOOTSTRAP_TOKEN",
        f"{prefix}API_REDIRECT_URI", f"{prefix}API_TOKEN", f"{prefix}API_WEBHOOK_URL", f"{prefix}CLIENT_ID",
        f"{prefix}CLIENT_SECRET", f"{prefix}DOMAIN",
    )  # fmt: skip
    variables.append(Variable(f"{prefix}LAUNCH_URL", f"{base_url}/web", computed=True))
    return (*variables, *_of_env(f"{prefix}SELF_SERVICE_LICENSE", f"{prefix}WEBHOOK_SECRET"))


def _authentik_database(v: Values) -> list[Variable]:
    key, secret = "AUTHENTIK_POSTGRESQL__", "file:///run/secrets/authentik_"
    variables = [Variable("AUTHENTIK_WEB__PATH", _SIGN_IN_PATH), Variable(f"{key}HOST", "${DB_HOST}")]
    if not derived.bundled_database(v):
        variables += [Variable(f"{key}PORT", "${DB_PORT}"), Variable(f"{key}SSLMODE", "${DB_SSLMODE}")]
    if derived.database_is_verified(v):
        variables.append(Variable(f"{key}SSLROOTCERT", derived.CA_BUNDLE_AT, computed=True))
    return [
        *variables,
        Variable(f"{key}NAME", f"{secret}database_name"),
        Variable(f"{key}USER", f"{secret}database_user"),
        Variable(f"{key}PASSWORD", f"{secret}database_password"),
        Variable("AUTHENTIK_SECRET_KEY", f"{secret}secret_key"),
    ]


_AUTHENTIK_FIXED = (
    Variable("AUTHENTIK_LISTEN__HTTP", "0.0.0.0:9000", why="Its default, [::], fails on hosts without IPv6."),
    Variable("AUTHENTIK_LISTEN__HTTPS", "0.0.0.0:9443"),
    Variable("AUTHENTIK_LISTEN__METRICS", "0.0.0.0:9300"),
    Variable("AUTHENTIK_DISABLE_STARTUP_ANALYTICS", "true"),
    Variable("AUTHENTIK_DISABLE_UPDATE_CHECK", "true"),
    Variable("AUTHENTIK_ERROR_REPORTING__ENABLED", "false"),
    Variable(
        "AUTHENTIK_AVATARS",
        "initials",
        why="Read when the database is new: by default a visitor's address is looked up at gravatar.com.",
    ),
)


def _authentik_mail(v: Values) -> list[Variable]:
    key, mounted = "AUTHENTIK_EMAIL__", "file:///run/secrets/smtp_"
    why = "From files: Authentik parses a value in the environment as JSON, where digits alone are a number."
    variables = [
        *(Variable(f"{key}HOST", "${SMTP_HOST}"), Variable(f"{key}PORT", "${SMTP_PORT}")),
        Variable(f"{key}USERNAME", f"{mounted}username", why=why),
    ]
    if SECRETS["smtp_password"].when(v):
        variables.append(Variable(f"{key}PASSWORD", f"{mounted}password"))
    return [
        *variables,
        Variable(
            f"{key}USE_TLS", "${SMTP_START_TLS}", why="Authentik's words: TLS is STARTTLS, SSL is TLS from the start."
        ),
        Variable(f"{key}USE_SSL", "${SMTP_USE_TLS}"),
        Variable(f"{key}TIMEOUT", "30"),
        Variable(f"{key}FROM", "${SMTP_SENDER_EMAIL}"),
    ]
