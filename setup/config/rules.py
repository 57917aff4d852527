"""Refuse combinations of values, with what to type instead.

Facts: the stack's table "TLS and ports".
"""

from __future__ import annotations

from setup.config.derived import (
    AWS_MAIL_HOST,
    BLUEPRINT_APPLICATION,
    LICENSES,
    NODE_PORTS,
    OLDER_LICENSES,
    api_before_3,
    by_aws_mail,
    by_username,
    certificate_is_given,
    database_is_verified,
    external_database,
    has_ingress,
    https_port,
    is_address,
    is_airgapped,
    on_kubernetes,
    on_swarm,
    public_alias,
    tls_is_ours,
)
from setup.config.hosts import netloc
from setup.config.releases import POSTGRES_NEWEST, postgres_major
from setup.config.values import Values
from setup.volume.layout import CERTIFICATE, CERTIFICATE_KEY

SERVICES = frozenset({
    "api", "init-db", "dask-scheduler", "dask-worker", "web", "db", "master", "volume", "filer", "s3", "init-storage",
    "admin", "worker", "nginx", "authentik_init_db", "authentik_server", "authentik_worker", "authentik_blueprint",
    "preflight",
})  # fmt: skip
# The names by which the stack's containers find each other. nginx may also be found as its own public host.
_TAKEN_NAMES = SERVICES - {"nginx"} | {"my-dask-scheduler"}


def _public_host_is_free(v: Values) -> str:
    host = public_alias(v)
    if host not in _TAKEN_NAMES:
        return ""
    return (
        f"PUBLIC_URL: {host!r} is also a service of the stack, which the other services could no longer reach: "
        f"give another name, as in {host}.example.com"
    )


def _scheme_and_mode(v: Values) -> str:
    scheme, mode = v["PUBLIC_URL"].scheme, v["TLS_MODE"]
    if scheme == "http" and tls_is_ours(v):
        return (
            f"PUBLIC_URL says http://, but TLS_MODE={mode} serves https: "
            "set TLS_MODE=off, or remove the scheme from PUBLIC_URL"
        )
    if scheme == "http" and mode == "behind-proxy":
        return (
            "PUBLIC_URL says http://, but TLS_MODE=behind-proxy is for an https address: "
            "write https://, or set TLS_MODE=off"
        )
    if scheme == "https" and mode == "off":
        return (
            "PUBLIC_URL says https://, but nothing would serve TLS: set TLS_MODE=behind-proxy "
            "if TLS terminates at another proxy, TLS_MODE=provided with a certificate, or TLS_MODE=self-signed"
        )
    return ""


def _one_spelling_of_tls(v: Values) -> str:
    if not v.given("NGINX_TLS_ENABLED"):
        return ""
    enabled, mode = v["NGINX_TLS_ENABLED"], v["TLS_MODE"]
    if enabled == tls_is_ours(v):
        return ""
    word = "true" if enabled else "false"
    return f"NGINX_TLS_ENABLED={word} and TLS_MODE={mode} contradict each other: give only TLS_MODE"


def _one_https_port(v: Values) -> str:
    if not tls_is_ours(v) or v["NGINX_HTTPS_PORT"] == https_port(v):
        return ""
    port, host = v["NGINX_HTTPS_PORT"], v["PUBLIC_URL"].host
    return (
        f"NGINX_HTTPS_PORT={port} is not the port of PUBLIC_URL ({https_port(v)}): "
        f"put the port into PUBLIC_URL, as in {netloc(host, port)}, or remove NGINX_HTTPS_PORT"
    )


def _one_http_port(v: Values) -> str:
    port = v["PUBLIC_URL"].port
    if v["TLS_MODE"] != "off" or not port or v["NGINX_HTTP_PORT"] == port:
        return ""
    return f"NGINX_HTTP_PORT={v['NGINX_HTTP_PORT']} is not the port of PUBLIC_URL ({port}): remove NGINX_HTTP_PORT"


def _redirect_port_is_free(v: Values) -> str:
    port = v["NGINX_HTTP_REDIRECT_PORT"]
    if tls_is_ours(v) and port == v["NGINX_HTTPS_PORT"]:
        return f"NGINX_HTTP_REDIRECT_PORT={port} is also the https port: give another, as in 80"
    return ""


def _swarm_publishes_everywhere(v: Values) -> str:
    if not on_swarm(v) or not v["NGINX_BIND_ADDRESS"].strip("0.:"):  # none, or that of every interface
        return ""
    return (
        f"NGINX_BIND_ADDRESS={v['NGINX_BIND_ADDRESS']}: Swarm publishes a port at all addresses of a node: "
        "remove NGINX_BIND_ADDRESS, and keep others out with a firewall"
    )


def _one_kind_of_smtp_tls(v: Values) -> str:
    if v["SMTP_USE_TLS"] and v["SMTP_START_TLS"]:
        return (
            "SMTP_USE_TLS and SMTP_START_TLS are both true: set one of them to false "
            "(on port 465 SMTP_START_TLS, on 587 SMTP_USE_TLS)"
        )
    return ""


def _amazon_takes_no_mail_without_a_user(v: Values) -> str:
    if v["SMTP_HOST"] != AWS_MAIL_HOST or by_aws_mail(v) or v["SMTP_USERNAME"]:
        return ""
    return (
        f"SMTP_USERNAME is empty, but {AWS_MAIL_HOST} takes no mail without a sign-in: "
        "give the SMTP_USERNAME and SMTP_PASSWORD that Octopize gave you, or the SMTP_HOST of your own mail server"
    )


def _mail_stays_inside(v: Values) -> str:
    if not is_airgapped(v) or v["SMTP_HOST"] != AWS_MAIL_HOST:
        return ""
    return f"SMTP_HOST={AWS_MAIL_HOST}: PRESET=airgapped has no way there: give the SMTP_HOST of your own mail server"


def _provider_of_the_release(v: Values) -> str:
    if api_before_3(v) or not by_aws_mail(v):
        return ""
    return (
        "MAIL_PROVIDER=aws: the platform removed it, and only API releases before 3 know it. Remove MAIL_PROVIDER and "
        "give the SMTP_HOST of your mail server, or, with an SMTP_USERNAME and SMTP_PASSWORD for Amazon's server that "
        "Octopize gave you, USE_AWS_SMTP_PRESET=true"
    )


def _sign_in_of_the_release(v: Values) -> str:
    if api_before_3(v) or not by_username(v):
        return ""
    key = "AUTH_TYPE=username" if v.given("AUTH_TYPE") else "USE_EMAIL_AUTHENTICATION=false"
    return (
        f"{key}: the platform removed sign-in by user name, and only API releases before 3 know it: "
        f"remove {key.partition('=')[0]}, so that people sign in with their e-mail address"
    )


def _license_of_the_release(v: Values) -> str:
    key = "AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE"
    is_older = api_before_3(v)
    if (v[key] in OLDER_LICENSES) == is_older:
        return ""
    known = OLDER_LICENSES if is_older else LICENSES
    return f"{key}={v[key]}: API {v['AVATAR_API_VERSION']} does not know this licence: give one of {', '.join(known)}"


def _one_auth_type(v: Values) -> str:
    if v["USE_EMAIL_AUTHENTICATION"] == (v["AUTH_TYPE"] == "email"):
        return ""
    return f"USE_EMAIL_AUTHENTICATION contradicts AUTH_TYPE={v['AUTH_TYPE']}: give only AUTH_TYPE"


def _application_of_the_blueprint(v: Values) -> str:
    name = v["SSO_PROVIDER_APP_NAME"]
    if name == BLUEPRINT_APPLICATION or v.given("SSO_PROVIDER_URL"):
        return ""
    return (
        f"SSO_PROVIDER_APP_NAME={name}: the stack's own Authentik calls the application {BLUEPRINT_APPLICATION}: "
        "remove this setting, or give the SSO_PROVIDER_URL of your provider too"
    )


def _ca_of_the_database(v: Values) -> str:
    if not database_is_verified(v) or v["TLS_CA_PATH"]:
        return ""
    return (
        f"DB_SSLMODE={v['DB_SSLMODE']} checks the database's certificate, but no CA is given: "
        "set TLS_CA_PATH to the CA of the database, or DB_SSLMODE=require"
    )


def _volume_of_postgres(v: Values) -> str:
    major = postgres_major(v["POSTGRES_IMAGE"])
    if external_database(v) or major is None or major <= POSTGRES_NEWEST:
        return ""
    return (
        f"POSTGRES_IMAGE={v['POSTGRES_IMAGE']}: from 18 on, the image refuses a volume at the place where this stack "
        f"mounts it: give {POSTGRES_NEWEST}, as in postgres:{POSTGRES_NEWEST}-alpine"
    )


def _exposed_by_the_cluster(v: Values) -> str:
    """Refuse what says how a host publishes nginx: on Kubernetes, a Service or an Ingress does."""
    if not on_kubernetes(v):
        return ""
    exposure, port = v["KUBERNETES_EXPOSURE"], v["NGINX_PUBLISHED_PORT"]
    if v["NGINX_BIND_ADDRESS"]:
        return f"NGINX_BIND_ADDRESS={v['NGINX_BIND_ADDRESS']}: a pod has no address of a host: remove it"
    if port and exposure != "NodePort":
        return f"NGINX_PUBLISHED_PORT={port}: only a NodePort has one: remove it, or set KUBERNETES_EXPOSURE=NodePort"
    if port and port not in NODE_PORTS:
        return f"NGINX_PUBLISHED_PORT={port}: a NodePort is between 30000 and 32767: give one of these, or none"
    return ""


def _ingress_ends_tls(v: Values) -> str:
    if not has_ingress(v):
        return ""
    if tls_is_ours(v):
        return (
            f"KUBERNETES_EXPOSURE=Ingress terminates TLS, and so does TLS_MODE={v['TLS_MODE']}: "
            "set TLS_MODE=behind-proxy, or KUBERNETES_EXPOSURE=LoadBalancer"
        )
    if is_address(v["PUBLIC_URL"].host):
        return f"PUBLIC_URL: an Ingress takes no address, as {v['PUBLIC_URL'].host} is: give a host name"
    return ""


def _certificate_is_in_the_base(v: Values) -> str:
    """Refuse a certificate that kustomize could not read: it opens only files below the base."""
    places = {"NGINX_SSL_CERTIFICATE_PATH": CERTIFICATE, "NGINX_SSL_CERTIFICATE_KEY_PATH": CERTIFICATE_KEY}
    for key, place in places.items():
        path = v[key] if on_kubernetes(v) and certificate_is_given(v) else "./"
        if not path.startswith("./") or "/../" in path or "=" in path:
            return (
                f"{key}={path}: kustomize reads only files below the deployment's directory, without = in their names: "
                f"copy the file to ./{place} and remove {key}"
            )
    return ""


RULES = (
    _public_host_is_free,
    _scheme_and_mode,
    _one_spelling_of_tls,
    _one_https_port,
    _one_http_port,
    _redirect_port_is_free,
    _swarm_publishes_everywhere,
    _one_kind_of_smtp_tls,
    _amazon_takes_no_mail_without_a_user,
    _mail_stays_inside,
    _provider_of_the_release,
    _sign_in_of_the_release,
    _license_of_the_release,
    _one_auth_type,
    _application_of_the_blueprint,
    _ca_of_the_database,
    _volume_of_postgres,
    _exposed_by_the_cluster,
    _ingress_ends_tls,
    _certificate_is_in_the_base,
)
