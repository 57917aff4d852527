"""What follows from other values: the table "TLS and ports", mail, sign-in, telemetry; and what is refused."""

from __future__ import annotations

import pytest

from setup.config import derived
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.types import show
from tests.support.deployments import MAIL, REQUIRED, refusals, resolution, values

HOST = "avatar.example.com"
BEHIND = {"TLS_MODE": "behind-proxy"}
OFF = {"TLS_MODE": "off"}
API_2 = {"AVATAR_API_VERSION": "2.81"}
AMAZON = "email-smtp.eu-west-3.amazonaws.com"
LICENSE = "AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE"
OLD_ON, OLD_OFF = {"NGINX_TLS_ENABLED": "true"}, {"NGINX_TLS_ENABLED": "false"}

# What is said -> the mode, BASE, and the port on which nginx listens and which it publishes.
TLS = [
    ({"PUBLIC_URL": HOST}, "provided", f"https://{HOST}", 443),
    ({"PUBLIC_URL": f"https://{HOST}"}, "provided", f"https://{HOST}", 443),
    ({"PUBLIC_URL": f"https://{HOST}:443"}, "provided", f"https://{HOST}", 443),
    ({"PUBLIC_URL": f"{HOST}:8443"}, "provided", f"https://{HOST}:8443", 8443),
    ({"PUBLIC_URL": f"https://{HOST}:8443"}, "provided", f"https://{HOST}:8443", 8443),
    ({"PUBLIC_URL": f"{HOST}:80"}, "provided", f"https://{HOST}:80", 80),
    ({"PUBLIC_URL": f"{HOST}:8443", "NGINX_HTTPS_PORT": "8443"}, "provided", f"https://{HOST}:8443", 8443),
    ({"PUBLIC_URL": HOST, "NGINX_HTTPS_PORT": "443"}, "provided", f"https://{HOST}", 443),
    ({"PUBLIC_URL": HOST, "TLS_MODE": "provided"}, "provided", f"https://{HOST}", 443),
    ({"PUBLIC_URL": HOST} | OLD_ON, "provided", f"https://{HOST}", 443),
    ({"PUBLIC_URL": HOST, "TLS_MODE": "provided"} | OLD_ON, "provided", f"https://{HOST}", 443),
    ({"PUBLIC_URL": f"{HOST}:8443", "TLS_MODE": "self-signed"}, "self-signed", f"https://{HOST}:8443", 8443),
    ({"PUBLIC_URL": HOST, "TLS_MODE": "self-signed"} | OLD_ON, "self-signed", f"https://{HOST}", 443),
    ({"PUBLIC_URL": "[2001:db8::1]:8443"}, "provided", "https://[2001:db8::1]:8443", 8443),
    ({"PUBLIC_URL": "192.0.2.1"}, "provided", "https://192.0.2.1", 443),
    ({"PUBLIC_URL": HOST, "NGINX_HTTP_PORT": "9999"}, "provided", f"https://{HOST}", 443),
    ({"PUBLIC_URL": f"http://{HOST}"}, "off", f"http://{HOST}:8080", 8080),
    ({"PUBLIC_URL": f"http://{HOST}:8088"}, "off", f"http://{HOST}:8088", 8088),
    ({"PUBLIC_URL": f"http://{HOST}:80"}, "off", f"http://{HOST}", 80),
    ({"PUBLIC_URL": f"http://{HOST}:443"}, "off", f"http://{HOST}:443", 443),
    ({"PUBLIC_URL": f"http://{HOST}", "NGINX_HTTP_PORT": "80"}, "off", f"http://{HOST}", 80),
    ({"PUBLIC_URL": f"http://{HOST}", "NGINX_HTTP_PORT": "81"}, "off", f"http://{HOST}:81", 81),
    ({"PUBLIC_URL": f"http://{HOST}:81", "NGINX_HTTP_PORT": "81"}, "off", f"http://{HOST}:81", 81),
    ({"PUBLIC_URL": HOST} | OFF, "off", f"http://{HOST}:8080", 8080),
    ({"PUBLIC_URL": f"{HOST}:8088"} | OFF, "off", f"http://{HOST}:8088", 8088),
    ({"PUBLIC_URL": f"{HOST}:80"} | OFF, "off", f"http://{HOST}", 80),
    ({"PUBLIC_URL": HOST} | OLD_OFF, "off", f"http://{HOST}:8080", 8080),
    ({"PUBLIC_URL": f"http://{HOST}"} | OLD_OFF, "off", f"http://{HOST}:8080", 8080),
    ({"PUBLIC_URL": HOST} | OFF | OLD_OFF, "off", f"http://{HOST}:8080", 8080),
    ({"PUBLIC_URL": "http://[::1]"}, "off", "http://[::1]:8080", 8080),
    ({"PUBLIC_URL": HOST, "NGINX_HTTPS_PORT": "9999"} | OFF, "off", f"http://{HOST}:8080", 8080),
    ({"PUBLIC_URL": HOST} | BEHIND, "behind-proxy", f"https://{HOST}", 8080),
    ({"PUBLIC_URL": f"https://{HOST}"} | BEHIND, "behind-proxy", f"https://{HOST}", 8080),
    ({"PUBLIC_URL": f"https://{HOST}:443"} | BEHIND, "behind-proxy", f"https://{HOST}", 8080),
    ({"PUBLIC_URL": f"https://{HOST}:8443"} | BEHIND, "behind-proxy", f"https://{HOST}:8443", 8080),
    ({"PUBLIC_URL": f"{HOST}:8443", "NGINX_HTTP_PORT": "81"} | BEHIND, "behind-proxy", f"https://{HOST}:8443", 81),
    ({"PUBLIC_URL": HOST} | BEHIND | OLD_OFF, "behind-proxy", f"https://{HOST}", 8080),
]  # fmt: skip


def _id(value):
    return " ".join(f"{key}={text}" for key, text in value.items()) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("said", "mode", "base", "port"), TLS, ids=_id)
def test_tls_and_ports(said, mode, base, port):
    v = values(**said)
    assert v["TLS_MODE"] == mode
    assert derived.base_url(v) == base
    assert derived.listen_port(v) == port
    assert derived.tls_is_ours(v) is (mode in ("provided", "self-signed"))
    assert derived.behind_proxy(v) is (mode == "behind-proxy")
    netloc = base.partition("://")[2]
    expected = {
        "AVATAR_DOMAIN": netloc,
        "AVATAR_AUTHENTIK_BLUEPRINT_DOMAIN": netloc,
        "AVATAR_WEB_CLIENT_URL": f"{base}/web/",
        "AVATAR_API_URL": f"{base}/api",
        "AVATAR_STORAGE_ENDPOINT_PUBLIC_URL": f"{base}/storage",
        "SSO_PROVIDER_URL": f"{base}/sso",
        "AVATAR_AUTHENTIK_BLUEPRINT_API_REDIRECT_URI": f"{base}/api/login/sso/auth",
    }
    assert {key: v[key] for key in expected} == expected


# What is said -> what the refusal must name: the keys, and what to type instead.
REFUSED = [
    ({"PUBLIC_URL": f"http://{HOST}", "TLS_MODE": "provided"}, ["PUBLIC_URL", "TLS_MODE=off", "remove the scheme"]),
    ({"PUBLIC_URL": f"http://{HOST}"} | OLD_ON, ["PUBLIC_URL", "TLS_MODE=off", "remove the scheme"]),
    ({"PUBLIC_URL": f"http://{HOST}:8443", "TLS_MODE": "provided"}, ["TLS_MODE=off", "remove the scheme"]),
    ({"PUBLIC_URL": f"http://{HOST}"} | BEHIND, ["PUBLIC_URL", "TLS_MODE=behind-proxy", "https://", "TLS_MODE=off"]),
    ({"PUBLIC_URL": f"https://{HOST}"} | OFF, ["PUBLIC_URL", "TLS_MODE=behind-proxy"]),
    ({"PUBLIC_URL": f"https://{HOST}"} | OLD_OFF, ["PUBLIC_URL", "TLS_MODE=behind-proxy"]),
    ({"PUBLIC_URL": f"https://{HOST}:8443"} | OLD_OFF, ["PUBLIC_URL", "TLS_MODE=behind-proxy"]),
    ({"PUBLIC_URL": HOST, "NGINX_HTTPS_PORT": "8443"}, ["NGINX_HTTPS_PORT=8443", "443", f"{HOST}:8443"]),
    ({"PUBLIC_URL": f"{HOST}:8443", "NGINX_HTTPS_PORT": "443"}, ["NGINX_HTTPS_PORT=443", "8443",
    "remove NGINX_HTTPS_PORT"]),
    ({"PUBLIC_URL": "[::1]", "NGINX_HTTPS_PORT": "8443"}, ["NGINX_HTTPS_PORT=8443", "[::1]:8443"]),
    ({"PUBLIC_URL": f"http://{HOST}:81", "NGINX_HTTP_PORT": "82"}, ["NGINX_HTTP_PORT=82", "81",
    "remove NGINX_HTTP_PORT"]),
    ({"PUBLIC_URL": f"http://{HOST}:80", "NGINX_HTTP_PORT": "8080"}, ["NGINX_HTTP_PORT=8080", "(80)"]),
    ({"PUBLIC_URL": f"{HOST}:81", "NGINX_HTTP_PORT": "82"} | OFF, ["NGINX_HTTP_PORT=82", "81"]),
    ({"PUBLIC_URL": f"http://{HOST}", "TLS_MODE": "self-signed"}, ["PUBLIC_URL", "TLS_MODE=off", "remove the scheme"]),
    ({"TLS_MODE": "self-signed"} | OLD_OFF, ["NGINX_TLS_ENABLED=false", "TLS_MODE=self-signed", "give only TLS_MODE"]),
    ({"TLS_MODE": "self-signed", "NGINX_HTTPS_PORT": "8443"}, ["NGINX_HTTPS_PORT=8443", "443"]),
    ({"TLS_MODE": "provided"} | OLD_OFF, ["NGINX_TLS_ENABLED=false", "TLS_MODE=provided", "give only TLS_MODE"]),
    (OFF | OLD_ON, ["NGINX_TLS_ENABLED=true", "TLS_MODE=off", "give only TLS_MODE"]),
    (BEHIND | OLD_ON, ["NGINX_TLS_ENABLED=true", "TLS_MODE=behind-proxy", "give only TLS_MODE"]),
    ({"NGINX_HTTP_REDIRECT_PORT": "443"}, ["NGINX_HTTP_REDIRECT_PORT=443", "as in 80"]),
    ({"PUBLIC_URL": f"{HOST}:80", "NGINX_HTTP_REDIRECT_PORT": "80"}, ["NGINX_HTTP_REDIRECT_PORT=80"]),
    ({"TARGET": "swarm", "NGINX_BIND_ADDRESS": "127.0.0.1"}, ["NGINX_BIND_ADDRESS=127.0.0.1", "Swarm", "remove"]),
    (MAIL | {"SMTP_USE_TLS": "true", "SMTP_START_TLS": "true"}, ["SMTP_USE_TLS", "SMTP_START_TLS", "false"]),
    ({"AUTH_TYPE": "email", "USE_EMAIL_AUTHENTICATION": "false"}, ["USE_EMAIL_AUTHENTICATION", "give only AUTH_TYPE"]),
    (API_2 | {"AUTH_TYPE": "username", "USE_EMAIL_AUTHENTICATION": "true"}, ["USE_EMAIL_AUTHENTICATION",
    "AUTH_TYPE=username"]),
    ({"AUTH_TYPE": "username"}, ["AUTH_TYPE=username", "before 3", "remove AUTH_TYPE"]),
    ({"USE_EMAIL_AUTHENTICATION": "no"}, ["USE_EMAIL_AUTHENTICATION=false", "before 3"]),
    ({"MAIL_PROVIDER": "aws"}, ["MAIL_PROVIDER=aws", "before 3", "SMTP_HOST", "USE_AWS_SMTP_PRESET=true"]),
    ({LICENSE: "demo"}, [f"{LICENSE}=demo", "API 3.20.1", "free_trial, starter"]),
    (API_2 | {LICENSE: "expert"}, [f"{LICENSE}=expert", "API 2.81", "demo, full"]),
]  # fmt: skip


@pytest.mark.parametrize(("said", "words"), REFUSED, ids=_id)
def test_refused_combinations(said, words):
    (problem,) = refusals(**said)
    assert [word for word in words if word not in problem] == []


def test_a_suggested_address_is_accepted():
    """What the refusal of another https port says to type works."""
    assert derived.listen_port(values(PUBLIC_URL=f"{HOST}:8443")) == 8443


def test_combinations_are_not_judged_where_their_parts_are_not_valid():
    (problem,) = refusals(PUBLIC_URL="a b", TLS_MODE="off", NGINX_HTTP_PORT="82")
    assert problem.startswith("PUBLIC_URL=")


@pytest.mark.parametrize("mode", ["on", "true", "provided,off", "self signed"])
def test_other_modes_are_refused(mode):
    (problem,) = refusals(TLS_MODE=mode)
    assert problem.startswith("TLS_MODE=")


@pytest.mark.parametrize(
    ("said", "there", "absent"),
    [
        ({}, {"NGINX_SSL_CERTIFICATE_PATH", "NGINX_SSL_CERTIFICATE_KEY_PATH", "NGINX_HTTPS_PORT",
        "NGINX_HTTP_REDIRECT_PORT"},
         {"NGINX_HTTP_PORT", "TRUSTED_PROXIES"}),
        (OFF, {"NGINX_HTTP_PORT"}, {"NGINX_SSL_CERTIFICATE_PATH", "NGINX_HTTPS_PORT", "NGINX_HTTP_REDIRECT_PORT",
        "TRUSTED_PROXIES"}),
        (BEHIND, {"NGINX_HTTP_PORT", "TRUSTED_PROXIES"}, {"NGINX_SSL_CERTIFICATE_KEY_PATH", "NGINX_HTTPS_PORT"}),
    ],
    ids=_id,
)  # fmt: skip
def test_what_applies_in_which_mode(said, there, absent):
    v = values(**said)
    assert {key for key in there | absent if v.applies(key)} == there


def test_defaults_of_the_tls_files():
    v = values()
    assert v["NGINX_SSL_CERTIFICATE_PATH"] == "./tls/server.fullchain.crt"
    assert v["NGINX_SSL_CERTIFICATE_KEY_PATH"] == "./tls/private/server.decrypted.key"
    assert (v["NGINX_HTTP_REDIRECT_PORT"], v["NGINX_IPV6"], v["TLS_CA_PATH"], v["TRUSTED_PROXIES"]) == (
        "",
        "auto",
        "",
        "",
    )


# Every derived value may be overridden by name; what follows from it follows.
OVERRIDES = [
    ("AVATAR_API_URL", "https://api.example.com/v1", "AVATAR_AUTHENTIK_BLUEPRINT_API_REDIRECT_URI",
    "https://api.example.com/v1/login/sso/auth"),
    ("AVATAR_API_URL", "https://api.example.com/v1/", "AVATAR_AUTHENTIK_BLUEPRINT_API_REDIRECT_URI",
    "https://api.example.com/v1/login/sso/auth"),
    ("AVATAR_DOMAIN", "other.example.com:8443", "AVATAR_WEB_CLIENT_URL", f"https://{HOST}/web/"),
    ("AVATAR_AUTHENTIK_BLUEPRINT_DOMAIN", "sso.example.com", "AVATAR_DOMAIN", HOST),
    ("AVATAR_WEB_CLIENT_URL", "https://web.example.com/", "AVATAR_API_URL", f"https://{HOST}/api"),
    ("AVATAR_STORAGE_ENDPOINT_PUBLIC_URL", "https://s3.example.com", "AVATAR_STORAGE_ENDPOINT_INTERNAL_URL",
    "http://s3:8333"),
    ("AVATAR_STORAGE_ENDPOINT_INTERNAL_URL", "http://minio:9000", "AVATAR_STORAGE_ENDPOINT_PUBLIC_URL",
    f"https://{HOST}/storage"),
    ("SSO_PROVIDER_URL", "https://sso.example.com/x", "AVATAR_AUTHENTIK_BLUEPRINT_API_REDIRECT_URI",
    f"https://{HOST}/api/login/sso/auth"),
    ("AVATAR_AUTHENTIK_BLUEPRINT_API_REDIRECT_URI", "https://a.example/cb", "AVATAR_API_URL", f"https://{HOST}/api"),
    ("AVATAR_AUTHENTIK_BLUEPRINT_API_WEBHOOK_URL", "http://other:1/hook", "AVATAR_API_URL", f"https://{HOST}/api"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text", "other", "follows"), OVERRIDES)
def test_derived_values_may_be_overridden(key, text, other, follows):
    v = values(**{key: text})
    assert show(v[key]) == text
    assert show(v[other]) == follows


# --- mail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "provider", "host"),
    [
        ({}, "smtp", "mail.example.com"),
        (API_2 | {"MAIL_PROVIDER": "aws"}, "aws", "mail.example.com"),
        (API_2 | {"MAIL_PROVIDER": "aws", "SMTP_HOST": ""}, "aws", AMAZON),
        ({"MAIL_PROVIDER": "smtp"}, "smtp", "mail.example.com"),
    ],
    ids=_id,
)
def test_mail_provider(said, provider, host):
    v = values(**said)
    assert (v["MAIL_PROVIDER"], v["SMTP_HOST"]) == (provider, host)


@pytest.mark.parametrize("said", [{}, {"MAIL_PROVIDER": "smtp"}, {"AVATAR_API_VERSION": "2.30"}], ids=_id)
def test_a_mail_server_needs_a_host(said):
    assert resolution(**REQUIRED | {"SMTP_HOST": ""} | said).missing == ("SMTP_HOST",)


def test_mail_defaults():
    v = values(**MAIL)
    keys = ("SMTP_PORT", "SMTP_VERIFY", "SMTP_SENDER_EMAIL", "SMTP_USERNAME")
    assert [v[key] for key in keys] == [587, True, f"noreply@{HOST}", ""]


def test_amazons_preset_fills_in_the_server_and_still_needs_a_sign_in():
    preset = REQUIRED | {"SMTP_HOST": "", "USE_AWS_SMTP_PRESET": "true"}
    assert resolution(**preset).missing == ("SMTP_USERNAME",)
    v = values(**preset, SMTP_USERNAME="AKIAEXAMPLE")
    keys = ("SMTP_HOST", "SMTP_PORT", "SMTP_USE_TLS", "SMTP_START_TLS", "SMTP_SENDER_EMAIL")
    assert [v[key] for key in keys] == [AMAZON, 587, False, True, "noreply@octopize.io"]
    assert "SMTP_PASSWORD" in SECRETS["smtp_password"].shown
    assert SECRETS["smtp_password"].needed(v)


@pytest.mark.parametrize(
    ("said", "use_tls", "start_tls"),
    [
        ({}, False, True),
        ({"SMTP_PORT": "587"}, False, True),
        ({"SMTP_PORT": "25"}, False, True),
        ({"SMTP_PORT": "2525"}, False, True),
        ({"SMTP_PORT": "465"}, True, False),
        ({"SMTP_PORT": "465", "SMTP_USE_TLS": "false"}, False, False),
        ({"SMTP_PORT": "465", "SMTP_START_TLS": "true"}, False, True),
        ({"SMTP_PORT": "465", "SMTP_START_TLS": "false"}, True, False),
        ({"SMTP_PORT": "587", "SMTP_USE_TLS": "true"}, True, False),
        ({"SMTP_PORT": "587", "SMTP_USE_TLS": "false"}, False, True),
        ({"SMTP_PORT": "25", "SMTP_START_TLS": "false"}, False, False),
        ({"SMTP_PORT": "25", "SMTP_START_TLS": "false", "SMTP_USE_TLS": "false"}, False, False),
    ],
    ids=_id,
)
def test_smtp_tls_follows_the_port_unless_given(said, use_tls, start_tls):
    v = values(**MAIL, **said)
    assert (v["SMTP_USE_TLS"], v["SMTP_START_TLS"]) == (use_tls, start_tls)


@pytest.mark.parametrize("port", ["465", "587", "25"])
def test_both_kinds_of_smtp_tls_are_refused_on_every_port(port):
    (problem,) = refusals(**MAIL, SMTP_PORT=port, SMTP_USE_TLS="true", SMTP_START_TLS="true")
    assert "SMTP_USE_TLS and SMTP_START_TLS are both true" in problem


@pytest.mark.parametrize(
    ("said", "secrets", "email"),
    [
        ({}, {}, "admin@avatar.example.com"),
        ({"PUBLIC_URL": "https://avatar.example.com:8443"}, {}, "admin@avatar.example.com"),
        ({"PUBLIC_URL": "192.0.2.1"}, {}, "admin@[192.0.2.1]"),
        ({"PUBLIC_URL": "[2001:db8::1]:8443"}, {}, "admin@[2001:db8::1]"),
        ({"PUBLIC_URL": "localhost"}, {}, "admin@localhost"),
        ({"PUBLIC_URL": "bücher.example"}, {}, "admin@xn--bcher-kva.example"),
        ({}, {"admin_emails": "ada@example.com,grace@example.com"}, "ada@example.com"),
        ({}, {"admin_emails": " ada@example.com , grace@example.com\n"}, "ada@example.com"),
        ({}, {"admin_emails": ""}, "admin@avatar.example.com"),
        ({"AUTHENTIK_BOOTSTRAP_EMAIL": "root@example.com"}, {"admin_emails": "ada@example.com"}, "root@example.com"),
    ],
    ids=_id,
)
def test_bootstrap_email(said, secrets, email):
    assert values(secrets, **said)["AUTHENTIK_BOOTSTRAP_EMAIL"] == email


def test_a_bad_list_of_admins_is_not_blamed_on_the_address_that_follows_from_it():
    address = values({"admin_emails": "Ada Lovelace\n"})["AUTHENTIK_BOOTSTRAP_EMAIL"]
    assert address == "admin@avatar.example.com"


# --- sign-in, telemetry, conditions -------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "auth_type", "by_email"),
    [
        ({}, "email", True),
        ({"AUTH_TYPE": "email"}, "email", True),
        (API_2 | {"AUTH_TYPE": "username"}, "username", False),
        ({"USE_EMAIL_AUTHENTICATION": "true"}, "email", True),
        (API_2 | {"USE_EMAIL_AUTHENTICATION": "no"}, "username", False),
        (API_2 | {"AUTH_TYPE": "username", "USE_EMAIL_AUTHENTICATION": "no"}, "username", False),
    ],
    ids=_id,
)
def test_auth_type(said, auth_type, by_email):
    v = values(**said)
    assert (v["AUTH_TYPE"], v["USE_EMAIL_AUTHENTICATION"]) == (auth_type, by_email)
    assert (derived.email_authentication(v), derived.by_username(v)) == (by_email, not by_email)


KEYS = {"telemetry_s3_access_key_id": "a", "telemetry_s3_secret_access_key": "b"}
BUCKET = {"TELEMETRY_S3_BUCKET_NAME": "bucket"}


@pytest.mark.parametrize(
    ("said", "secrets", "enabled"),
    [
        ({}, {}, False),
        ({}, KEYS, False),
        (BUCKET, {}, False),
        (BUCKET, {"telemetry_s3_access_key_id": "a"}, False),
        (BUCKET, KEYS | {"telemetry_s3_secret_access_key": "\n"}, False),
        (BUCKET, KEYS, True),
        (BUCKET | {"TELEMETRY_ENABLED": "true"}, {}, True),
        (BUCKET | {"TELEMETRY_ENABLED": "false"}, KEYS, False),
        (BUCKET | {"PRESET": "default"}, {}, True),
        (BUCKET | {"PRESET": "dev-mode"}, KEYS, False),
        (BUCKET | {"PRESET": "airgapped"}, KEYS, False),
        ({"PRESET": "airgapped", "TELEMETRY_ENABLED": "true"} | BUCKET, {}, True),
    ],
    ids=_id,
)
def test_telemetry_is_off_until_somebody_says_yes(said, secrets, enabled):
    v = values(secrets, **said)
    assert v["TELEMETRY_ENABLED"] is enabled
    keys = {key for key in SETTINGS if key.startswith("TELEMETRY_S3_")}
    assert {key for key in keys if v.applies(key)} == (keys if enabled else set())
    if enabled:
        assert v["TELEMETRY_S3_ENDPOINT_URL"] == "https://s3.fr-par.scw.cloud"
        assert v["TELEMETRY_S3_REGION"] == "fr-par"


@pytest.mark.parametrize("said", [{"TELEMETRY_ENABLED": "true"}, {"PRESET": "default"}], ids=_id)
def test_telemetry_needs_its_bucket(said):
    assert resolution(**REQUIRED, **said).missing == ("TELEMETRY_S3_BUCKET_NAME",)


@pytest.mark.parametrize(
    ("host", "external"),
    [("", False), ("db", False), ("DB", False), ("pg.example.com", True), ("10.0.0.1", True), ("db2", True)],
)
def test_external_database(host, external):
    v = values(DB_HOST=host)
    assert (derived.external_database(v), derived.bundled_database(v)) == (external, not external)


@pytest.mark.parametrize(
    ("version", "before"),
    [("2.9.1", True), ("v2.30", True), ("0.1", True), ("2", True), ("3.0.0", False), ("3.20.1", False),
        ("10.0", False), ("v3", False),
     ("latest", False), ("2f3a9c1", False), ("main-2.1", False)],
)  # fmt: skip
def test_api_before_3(version, before):
    assert derived.api_before_3(values(AVATAR_API_VERSION=version)) is before


@pytest.mark.parametrize(
    ("version", "release", "before"),
    [("3.1", (3, 10), True), ("3.10", (3, 9), False), ("3.10.2", (3, 2), False), ("3.8.9", (3, 9), True),
     ("3", (3, 9), False), ("2", (3, 9), True), ("2.79.12", (2, 80), True), ("2.80.0", (2, 80), False),
     ("3.9.0-rc1", (3, 9), False), ("3.8.0-rc1", (3, 9), True), ("4.9", (4, 41), True), ("4.41", (4, 41), False),
     ("3.8a", (3, 9), False), ("", (3, 9), False)],
)  # fmt: skip
def test_releases_compare_as_numbers(version, release, before):
    assert derived.is_before(version, *release) is before


@pytest.mark.parametrize(
    ("said", "alias", "names"),
    [
        ({}, HOST, [HOST]),
        (OFF, HOST, [HOST]),
        (BEHIND, "", [HOST]),
        ({"PUBLIC_URL": "192.0.2.1"}, "", ["192.0.2.1"]),
        ({"PUBLIC_URL": "[::1]:8443"}, "", ["[::1]"]),
        ({"TLS_EXTRA_NAMES": f"b.example,{HOST},::2"}, HOST, [HOST, "b.example", "[::2]"]),
    ],
    ids=_id,
)
def test_names_of_nginx(said, alias, names):
    v = values(**said)
    assert derived.public_alias(v) == alias
    assert derived.server_names(v) == names


def test_facts_are_no_settings():
    """The templates' further names are lower case, so that none hides a setting, and none is a secret's value."""
    facts = derived.facts(values({"db_password": "hunter2"}))
    assert all(name == name.lower() for name in facts)
    assert not {*map(str.upper, facts)} & {*SETTINGS}
    assert "hunter2" not in repr(facts)
