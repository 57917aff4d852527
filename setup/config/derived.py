"""Compute the values that follow from other values, each in one place.

The facts are those of the stack's tables ".env", "TLS and ports" and "Presets".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

from setup.config.hosts import email, netloc
from setup.config.model import Condition, Given, Source
from setup.config.values import Values
from setup.typed import Any
from setup.volume.layout import CA_BUNDLE

CA_BUNDLE_AT = f"/etc/avatar/{CA_BUNDLE}"  # where containers find the public roots and the private CA

NODE_PORTS = range(30000, 32768)  # those that a NodePort of Kubernetes may have
COMPOSE_ENGINE, KUBERNETES, SWARM = TARGETS = ("compose", "kubernetes", "swarm")
BUNDLED_DATABASE = "db"
FIRST_ACCOUNT = "akadmin"  # the first administrator of Authentik
GROUPS_OF_AVATAR = ("Octopize - Admins", "Octopize - Users")  # as the blueprint names them
BLUEPRINT_APPLICATION = "avatar-api"  # the slug in the blueprint
SPELLINGS = (  # two names of one thing, both ways
    ("TLS_MODE", "NGINX_TLS_ENABLED"),
    ("NGINX_TLS_ENABLED", "TLS_MODE"),
    ("AUTH_TYPE", "USE_EMAIL_AUTHENTICATION"),
    ("USE_EMAIL_AUTHENTICATION", "AUTH_TYPE"),
)
LICENSES = ("free_trial", "starter", "professional", "expert", "octopize")
OLDER_LICENSES = ("demo", "full")  # of API releases before 3
AWS_MAIL_HOST = "email-smtp.eu-west-3.amazonaws.com"


# --- what runs the containers -------------------------------------------------------------------


def on_compose(v: Values) -> bool:
    return bool(v["TARGET"] == COMPOSE_ENGINE)


def on_swarm(v: Values) -> bool:
    return bool(v["TARGET"] == SWARM)


def on_kubernetes(v: Values) -> bool:
    return bool(v["TARGET"] == KUBERNETES)


def has_ingress(v: Values) -> bool:
    return on_kubernetes(v) and bool(v["KUBERNETES_EXPOSURE"] == "Ingress")


def cluster_dns(v: Values) -> str:
    """Return the name that the DNS has in most clusters; nginx looks it up when it starts."""
    return f"kube-dns.kube-system.svc.{v['KUBERNETES_CLUSTER_DOMAIN']}"


# --- the public address -------------------------------------------------------------------------


def tls_mode(v: Values) -> str:
    """Return `provided`, unless the older NGINX_TLS_ENABLED or the URL's scheme says otherwise."""
    if v.given("NGINX_TLS_ENABLED"):
        return "provided" if v["NGINX_TLS_ENABLED"] else "off"
    return "off" if v["PUBLIC_URL"].scheme == "http" else "provided"


def tls_is_ours(v: Values) -> bool:
    """Tell whether TLS terminates at nginx."""
    return bool(v["TLS_MODE"] in ("provided", "self-signed"))


def certificate_is_given(v: Values) -> bool:
    return bool(v["TLS_MODE"] == "provided")


def certificate_is_made(v: Values) -> bool:
    return bool(v["TLS_MODE"] == "self-signed")


def has_private_ca(v: Values) -> bool:
    """Tell whether the services trust a CA beside the public ones: that of this deployment, or that of TLS_CA_PATH."""
    return certificate_is_made(v) or bool(v["TLS_CA_PATH"])


def https_port(v: Values) -> int:
    return v["PUBLIC_URL"].port or 443


def http_port(v: Values) -> int:
    """Return the port of plain HTTP: the public one with TLS off, else the one for the proxy in front."""
    if v["TLS_MODE"] == "off" and v["PUBLIC_URL"].port:
        return int(v["PUBLIC_URL"].port)
    return 8080


def listen_port(v: Values) -> int:
    """Return the port on which nginx listens inside, and which is published."""
    return int(v["NGINX_HTTPS_PORT"] if tls_is_ours(v) else v["NGINX_HTTP_PORT"])


def public_netloc(v: Values) -> str:
    """Return `host[:port]` as browsers show it, without the scheme's own port."""
    url = v["PUBLIC_URL"]
    if v["TLS_MODE"] == "off":
        return netloc(url.host, None if listen_port(v) == 80 else listen_port(v))
    return netloc(url.host, None if url.port == 443 else url.port)


def public_port(v: Values) -> int:
    """Return the port of the public address, also if browsers do not show it."""
    return listen_port(v) if v["TLS_MODE"] == "off" else int(v["PUBLIC_URL"].port or 443)


def base_url(v: Values) -> str:
    return ("http://" if v["TLS_MODE"] == "off" else "https://") + public_netloc(v)


def is_address(host: str) -> bool:
    """Tell whether this host is an IP address rather than a name."""
    return ":" in host or host.rpartition(".")[2].isdigit()


def web_client_url(v: Values) -> str:
    return base_url(v) + "/web/"


def api_url(v: Values) -> str:
    return base_url(v) + "/api"


def storage_url(v: Values) -> str:
    return base_url(v) + "/storage"


def sso_url(v: Values) -> str:
    return base_url(v) + "/sso"


def redirect_uri(v: Values) -> str:
    return str(v["AVATAR_API_URL"]).rstrip("/") + "/login/sso/auth"


# --- mail ---------------------------------------------------------------------------------------


def smtp_host(v: Values) -> str | None:
    """Return Amazon's server if the preset or the older provider names it; otherwise somebody must give one."""
    return AWS_MAIL_HOST if v["USE_AWS_SMTP_PRESET"] or by_aws_mail(v) else None


def smtp_sender(v: Values) -> str:
    """Return an address at the public host, because a foreign one fails SPF; Octopize's for its own account."""
    return "noreply@octopize.io" if v["SMTP_HOST"] == AWS_MAIL_HOST else f"noreply@{_mail_domain(v)}"


def smtp_user(v: Values) -> str | None:
    """Return no name, unless the server is Amazon's, which takes no mail without one."""
    return None if v["SMTP_HOST"] == AWS_MAIL_HOST and by_smtp(v) else ""


def smtp_use_tls(v: Values) -> bool:
    """Use implicit TLS on port 465, unless STARTTLS is requested explicitly."""
    return bool(v["SMTP_PORT"] == 465) and not (v.given("SMTP_START_TLS") and v["SMTP_START_TLS"])


def smtp_start_tls(v: Values) -> bool:
    """Use STARTTLS on every other port, unless implicit TLS is requested explicitly."""
    return bool(v["SMTP_PORT"] != 465) and not (v.given("SMTP_USE_TLS") and v["SMTP_USE_TLS"])


def bootstrap_email(v: Values) -> str:
    """Return the first administrator's address, else `admin@` and the public host."""
    emails = v.secret("admin_emails") if email_authentication(v) else ""
    with contextlib.suppress(ValueError):  # what is wrong with the list is said of the list
        return email(emails.replace("\n", ",").split(",")[0])
    return f"admin@{_mail_domain(v)}"


def _mail_domain(v: Values) -> str:
    host = v["PUBLIC_URL"].host
    return f"[{host}]" if is_address(host) else str(host)


# --- sign-in, telemetry, conditions -------------------------------------------------------------


def auth_type(v: Values) -> str:
    """Return `email`, unless the API's own USE_EMAIL_AUTHENTICATION says otherwise."""
    refused = v.given("USE_EMAIL_AUTHENTICATION") and not v["USE_EMAIL_AUTHENTICATION"]
    return "username" if refused else "email"


def email_authentication(v: Values) -> bool:
    return bool(v["AUTH_TYPE"] == "email")


def self_service_license(v: Values) -> str:
    return "demo" if api_before_3(v) else "free_trial"


def by_username(v: Values) -> bool:
    return bool(v["AUTH_TYPE"] == "username")


def telemetry(v: Values) -> bool:
    """Stay off until the operator says yes, or gives the bucket and both keys."""
    keys = ("telemetry_s3_access_key_id", "telemetry_s3_secret_access_key")
    return v.given("TELEMETRY_S3_BUCKET_NAME") and all(v.secret(name) for name in keys)


def telemetry_on(v: Values) -> bool:
    return bool(v["TELEMETRY_ENABLED"])


def external_database(v: Values) -> bool:
    return bool(v["DB_HOST"] != BUNDLED_DATABASE)


def database_is_verified(v: Values) -> bool:
    """Tell whether Authentik checks the certificate of an external database."""
    return external_database(v) and str(v["DB_SSLMODE"]).startswith("verify-")


def keeps_uploads(v: Values) -> bool:
    """Tell whether Authentik's uploads get a volume: 2025.10 changes the owner of its media, and nothing is mounted."""
    return not str(v["AVATAR_AUTHENTIK_VERSION"]).startswith("2025.10")


def bundled_database(v: Values) -> bool:
    return not external_database(v)


def by_aws_mail(v: Values) -> bool:
    return bool(v["MAIL_PROVIDER"] == "aws")


def by_smtp(v: Values) -> bool:
    return bool(v["MAIL_PROVIDER"] == "smtp")


def smtp_signs_in(v: Values) -> bool:
    return bool(v["SMTP_USERNAME"])


def serves_plain_http(v: Values) -> bool:
    return not tls_is_ours(v)


def behind_proxy(v: Values) -> bool:
    return bool(v["TLS_MODE"] == "behind-proxy")


def api_before_2_80(v: Values) -> bool:
    return is_before(v["AVATAR_API_VERSION"], 2, 80)


def api_before_2_82(v: Values) -> bool:
    return is_before(v["AVATAR_API_VERSION"], 2, 82)


def api_before_3(v: Values) -> bool:
    return is_before(v["AVATAR_API_VERSION"], 3)


def api_before_3_9(v: Values) -> bool:
    return is_before(v["AVATAR_API_VERSION"], 3, 9)


def is_before(version: str, *release: int) -> bool:
    """Tell whether an image tag is of an earlier release; one that names none, such as `latest`, counts as current.

    A tag with fewer numbers is the newest release of its line: 3 is not before 3.9.
    """
    parts = version.removeprefix("v").partition("-")[0].split(".")
    numbers = tuple(map(int, filter(str.isdecimal, parts)))
    return len(numbers) == len(parts) and numbers[: len(release)] < release[: len(numbers)]


def public_alias(v: Values) -> str:
    """Return the name by which the other containers find nginx; "" if there is none.

    Behind a proxy no service of the stack answers at the public address, and DNS resolves no IP address.
    """
    host = str(v["PUBLIC_URL"].host)
    return "" if behind_proxy(v) or is_address(host) else host


def certificate_names(v: Values) -> list[str]:
    """Return the names and addresses under which nginx answers, once each, the public one first."""
    return list(dict.fromkeys((v["PUBLIC_URL"].host, *v["TLS_EXTRA_NAMES"])))


def server_names(v: Values) -> list[str]:
    """Return the same as a Host header spells them."""
    return [netloc(name, None) for name in certificate_names(v)]


# --- images -------------------------------------------------------------------------------------

_IMAGE_NAMES = (
    "AVATAR_REGISTRY", "AVATAR_SEAWEEDFS_REGISTRY", "AVATAR_AUTHENTIK_REPOSITORY", "POSTGRES_IMAGE", "NGINX_IMAGE",
)  # fmt: skip
API_IMAGE = "${AVATAR_REGISTRY}/avatar-service-api:${AVATAR_API_VERSION}"
WEB_IMAGE = "${AVATAR_REGISTRY}/avatar-web:${AVATAR_WEB_VERSION}"
SEAWEEDFS_IMAGE = "${AVATAR_SEAWEEDFS_REGISTRY}/seaweedfs:${AVATAR_SEAWEEDFS_VERSION}"
AUTHENTIK_IMAGE = "${AVATAR_AUTHENTIK_REPOSITORY}/server:${AVATAR_AUTHENTIK_VERSION}"
POSTGRES_IMAGE, NGINX_IMAGE = "${POSTGRES_IMAGE}", "${NGINX_IMAGE}"
IMAGE_ARCHIVE = "avatar-images.tar"  # what `--images` saves


def is_airgapped(v: Values) -> bool:
    return bool(v["PRESET"] == "airgapped")


def images(v: Values) -> list[str]:
    """Return the images of the stack, as Compose reads them from the compose file."""
    names = []
    for image in (API_IMAGE, WEB_IMAGE, SEAWEEDFS_IMAGE, AUTHENTIK_IMAGE, POSTGRES_IMAGE, NGINX_IMAGE):
        names.append(re.sub(r"\$\{(\w+)\}", lambda found: str(v[found[1]]), image))
    return [*names, v["PREFLIGHT_IMAGE"]] if on_compose(v) and v["PREFLIGHT_IMAGE"] else names


def registry_of(image: str) -> str:
    """Return the registry of an image, "" for Docker Hub, which its name does not tell."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else ""


def with_mirror(given: Mapping[str, Given]) -> dict[str, Given]:
    """Replace the default registries by the mirror, if one is given."""
    mirror = given["REGISTRY_MIRROR"].text.strip() if "REGISTRY_MIRROR" in given else ""
    mirrored = {}
    for key in _IMAGE_NAMES if mirror else ():
        name = given.get(key)
        if name and name.source is Source.DEFAULT:
            path = name.text.removeprefix(f"{registry_of(name.text)}/")
            mirrored[key] = Given(f"{mirror.rstrip('/')}/{path}", Source.DEFAULT)
    return {**given, **mirrored}


# When a setting or secret applies, in words.
APPLIES_WITH: dict[Condition, str] = {
    api_before_2_80: "AVATAR_API_VERSION before 2.80",
    api_before_3: "AVATAR_API_VERSION before 3",
    api_before_3_9: "AVATAR_API_VERSION up to 3.8",
    behind_proxy: "TLS_MODE=behind-proxy",
    by_aws_mail: "MAIL_PROVIDER=aws",
    by_smtp: "MAIL_PROVIDER=smtp",
    by_username: "AUTH_TYPE=username",
    certificate_is_given: "TLS_MODE=provided",
    email_authentication: "AUTH_TYPE=email",
    external_database: "a DB_HOST of your own",
    on_compose: "TARGET=compose",
    on_kubernetes: "TARGET=kubernetes",
    on_swarm: "TARGET=swarm",
    has_ingress: "KUBERNETES_EXPOSURE=Ingress",
    keeps_uploads: "an Authentik from 2025.12 on",
    serves_plain_http: "TLS_MODE=behind-proxy or off",
    telemetry_on: "TELEMETRY_ENABLED=true",
    tls_is_ours: "TLS_MODE=provided or self-signed",
}


# --- what templates may use besides the settings ------------------------------------------------


def facts(v: Values) -> dict[str, Any]:
    """Return what templates may use besides the settings: lower case names, computed from the values."""
    return {
        "base_url": base_url(v),
        "public_host": v["PUBLIC_URL"].host,
        "public_alias": public_alias(v),
        "server_names": server_names(v),
        "public_netloc": public_netloc(v),
        "listen_port": listen_port(v),
        "public_port": public_port(v),
        "tls": tls_is_ours(v),
        "certificate_is_given": certificate_is_given(v),
        "behind_proxy": behind_proxy(v),
        "bundled_database": bundled_database(v),
        "database_is_verified": database_is_verified(v),
        "private_ca": has_private_ca(v),
    }
