"""Bad input is refused before the first write, by the real command line, and with words that help.

Each case runs against an empty directory and against a complete deployment. The refusal ends with exit 1
(an input) or 2 (a flag), changes not one byte and no time stamp, names the key and what to type, and shows
neither a traceback nor a secret. Most cases run in this process, a few in one of their own.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from setup.cli import main
from tests.support.bad_files import MALFORMED, NOT_READABLE
from tests.support.bad_files import SECRET as QUOTED
from tests.support.runs import REQUIRED, deployed, require_root, run, stamps

HIDDEN = "hunter2-and-more"


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """One complete deployment for all cases: none may change it."""
    return deployed(tmp_path_factory.mktemp("bad") / "out")


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return tmp_path_factory.mktemp("empty")


class Refusal(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def refuse(complete, empty, capsys):
    """Runs the command line on both directories and checks what holds for every refusal."""

    def refused(*flags: str, code: int = 1, hidden: str = HIDDEN, **environ: str) -> str:
        for directory in (complete, empty):
            before = stamps(directory)
            ended = main(["--output-dir", str(directory), *flags], REQUIRED | environ)
            said = capsys.readouterr()
            assert ended == code, said.err
            assert stamps(directory) == before
            assert said.out == ""
            assert "Traceback" not in said.err
            assert hidden not in said.err
            assert said.err.startswith("avatar-setup: ")
            assert all(line.isprintable() for line in said.err.splitlines())
            assert len(said.err) < 3000
        return said.err

    return refused


# --- settings, by every way they can be given ---------------------------------------------------

# Key, text, and words of the message: what is wrong, or what is expected instead.
SETTINGS_CASES = [
    ("PUBLIC_URL", "https://avatar.example.com/web", ["path", "avatar.example.com"]),
    ("PUBLIC_URL", "https://avatar.example.com?x=1", ["query"]),
    ("PUBLIC_URL", "https://avatar.example.com#top", ["fragment"]),
    ("PUBLIC_URL", f"https://ada:{HIDDEN}@avatar.example.com", ["user name or password"]),
    ("PUBLIC_URL", f"ada:{HIDDEN}@avatar.example.com", ["user name or password"]),
    ("PUBLIC_URL", "ftp://avatar.example.com", ["https or http"]),
    ("PUBLIC_URL", "https:avatar.example.com", ["port"]),
    ("PUBLIC_URL", "avatar.example.com:0", ["1 to 65535"]),
    ("PUBLIC_URL", "avatar.example.com:65536", ["1 to 65535"]),
    ("PUBLIC_URL", "avatar.example.com:https", ["1 to 65535"]),
    ("PUBLIC_URL", "avatar.example.com:", ["1 to 65535"]),
    ("PUBLIC_URL", "avatar..example.com", ["host name"]),
    ("PUBLIC_URL", "avatar_1.example.com", ["underscore"]),
    ("PUBLIC_URL", "-avatar.example.com", ["host name"]),
    ("PUBLIC_URL", "avatar example.com", ["host name"]),
    ("PUBLIC_URL", "*.example.com", ["host name"]),
    ("PUBLIC_URL", "avatar.example.com;rm -rf /", ["host name"]),
    ("PUBLIC_URL", "$(hostname)", ["host name"]),
    ("PUBLIC_URL", "${DOMAIN}", ["host name"]),
    ("PUBLIC_URL", "{{ cookiecutter.domain }}", ["host name"]),
    ("PUBLIC_URL", "avatar.example.com\nEVIL=1", ["host name"]),
    ("PUBLIC_URL", "avatar.example.com\r\nHost: evil", ["port"]),
    ("PUBLIC_URL", "\x1b[31mavatar", ["host name"]),
    ("PUBLIC_URL", "1.2.3", ["IP address"]),
    ("PUBLIC_URL", "1.2.3.400", ["IP address"]),
    ("PUBLIC_URL", "127.0x1", ["IP address"]),
    ("PUBLIC_URL", "[2001:db8::1", ["brackets"]),
    ("PUBLIC_URL", "[fe80::1%25eth0]", ["zone"]),
    ("PUBLIC_URL", "2001:db8:::1", ["IP address"]),
    ("PUBLIC_URL", "a" * 64 + ".example.com", ["host name"]),
    ("PUBLIC_URL", "a." * 130 + "com", ["host name"]),
    ("PUBLIC_URL", "bü\u200dcher.example", ["international"]),
    ("PUBLIC_URL", "999。1。1。1", ["IP address"]),
    ("ENV_NAME", "my company", ["letters, digits"]),
    ("ENV_NAME", "-prod", ["letters, digits"]),
    ("ENV_NAME", "prod\nEVIL=1", ["letters, digits"]),
    ("ENV_NAME", "p" * 64, ["letters, digits"]),
    ("ENV_NAME", "é", ["letters, digits"]),
    ("PRESET", "production", ["default, dev-mode, airgapped"]),
    ("PRESET", "air gapped", ["default, dev-mode, airgapped"]),
    ("AUTH_TYPE", "phone", ["email, username"]),
    ("AUTH_TYPE", "email,username", ["email, username"]),
    ("USE_EMAIL_AUTHENTICATION", "maybe", ["true or false"]),
    ("DB_HOST", "pg.example.com:5432", ["without scheme, port or path"]),
    ("DB_HOST", f"postgres://ada:{HIDDEN}@pg/avatar", ["user name or password"]),
    ("DB_HOST", "pg example", ["host name"]),
    ("DB_VOLUME", "../data", ["letters, digits"]),
    ("DB_VOLUME", "/var/lib/data", ["letters, digits"]),
    ("SEAWEEDFS_VOLUME", "a:b", ["letters, digits"]),
    ("TLS_MODE", "on", ["provided, self-signed, behind-proxy, off"]),
    ("NGINX_TLS_ENABLED", "TRUE!", ["true or false"]),
    ("NGINX_SSL_CERTIFICATE_PATH", "~/tls/server.crt", ["whole path"]),
    ("NGINX_SSL_CERTIFICATE_PATH", "./tls/", ["file"]),
    ("NGINX_SSL_CERTIFICATE_PATH", "/tls/a\nb.crt", ["U+000A"]),
    ("NGINX_SSL_CERTIFICATE_KEY_PATH", "/", ["file"]),
    ("NGINX_SSL_CERTIFICATE_KEY_PATH", " ./key.pem", ["blank"]),
    ("TLS_CA_PATH", "./nowhere.crt", ["TLS_CA_PATH=./tls/ca.crt"]),
    ("TLS_CA_PATH", "../ca.crt", ["TLS_CA_PATH=./tls/ca.crt"]),
    ("TLS_CA_PATH", "/etc", ["TLS_CA_PATH=./tls/ca.crt"]),
    ("TLS_CA_PATH", "/dev/zero", ["TLS_CA_PATH=./tls/ca.crt"]),
    ("TLS_CA_PATH", "/etc/passwd", ["PEM certificate"]),
    ("TLS_CA_PATH", str(Path(__file__).parent / "damaged.crt"), ["the block that begins in line 1 is damaged"]),
    ("TLS_EXTRA_NAMES", "a.example;b.example", ["host name"]),
    ("TLS_EXTRA_NAMES", "a.example;b.example", ["host name"]),
    ("NGINX_HTTPS_PORT", "0", ["1 to 65535"]),
    ("NGINX_HTTPS_PORT", "https", ["1 to 65535"]),
    ("NGINX_HTTP_PORT", "80.5", ["1 to 65535"]),
    ("NGINX_HTTP_PORT", "٨٠", ["1 to 65535"]),
    ("NGINX_HTTP_REDIRECT_PORT", "-80", ["1 to 65535"]),
    ("NGINX_HTTP_REDIRECT_PORT", "9" * 5000, ["1 to 65535"]),
    ("NGINX_IPV6", "yes", ["auto, on, off"]),
    ("TRUSTED_PROXIES", "10.0.0.0/33", ["10.0.0.0/8"]),
    ("TRUSTED_PROXIES", "proxy.example.com", ["10.0.0.0/8"]),
    ("TRUSTED_PROXIES", "fe80::1%eth0", ["10.0.0.0/8"]),
    ("MAIL_PROVIDER", "sendgrid", ["smtp, aws"]),
    ("SMTP_HOST", "smtps://mail.example.com", ["without scheme, port or path"]),
    ("SMTP_HOST", "mail.example.com:465", ["without scheme, port or path"]),
    ("SMTP_HOST", "mail.example.com.", ["host name"]),
    ("SMTP_PORT", "70000", ["1 to 65535"]),
    ("SMTP_PORT", "0x1D1", ["1 to 65535"]),
    ("SMTP_USE_TLS", "starttls", ["true or false"]),
    ("SMTP_START_TLS", "2", ["true or false"]),
    ("SMTP_VERIFY", "nope", ["true or false"]),
    ("SMTP_SENDER_EMAIL", "avatar", ["e-mail address"]),
    ("SMTP_SENDER_EMAIL", "avatar@", ["e-mail address"]),
    ("SMTP_SENDER_EMAIL", "Avatar <avatar@example.com>", ["e-mail address"]),
    ("SMTP_SENDER_EMAIL", "a@b.example, c@d.example", ["e-mail address"]),
    ("SMTP_SENDER_EMAIL", "a@example.com\nBcc: evil@example.com", ["e-mail address"]),
    ("SMTP_SENDER_EMAIL", "a@192.0.2.1", ["brackets"]),
    ("SMTP_USERNAME", "ada\nEVIL=1", ["U+000A"]),
    ("SMTP_USERNAME", "ada\x00", ["U+0000"]),
    ("SMTP_USERNAME", "x" * 4097, ["4096"]),
    ("SSO_PROVIDER_APP_NAME", "avatar api", ["letters, digits"]),
    ("AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE", "gold", ["free_trial, starter, professional"]),
    ("AUTHENTIK_BOOTSTRAP_EMAIL", "akadmin", ["e-mail address"]),
    ("TELEMETRY_ENABLED", "sometimes", ["true or false"]),
    ("TELEMETRY_S3_ENDPOINT_URL", "s3.fr-par.scw.cloud", ["https://"]),
    ("TELEMETRY_S3_ENDPOINT_URL", f"https://key:{HIDDEN}@s3.example.com", ["user name or password"]),
    ("TELEMETRY_S3_REGION", "fr par", ["letters, digits"]),
    ("TELEMETRY_S3_BUCKET_NAME", "s3://bucket", ["letters, digits"]),
    ("USE_CONSOLE_LOGGING", "json", ["true or false"]),
    ("IS_SENTRY_ENABLED", "https://sentry.io", ["true or false"]),
    ("LOG_LEVEL", "verbose", ["DEBUG, INFO, WARNING, ERROR, CRITICAL"]),
    ("LOG_LEVEL", "20", ["DEBUG, INFO, WARNING, ERROR, CRITICAL"]),
    ("COMPATIBILITY_MAPPING_URL", "off", ["the word disabled"]),
    ("COMPATIBILITY_MAPPING_URL", f"https://x.example/map?sig={HIDDEN}", ["path"]),
    ("SHARED_STORAGE_PATH", "/data", ["s3://"]),
    ("SHARED_STORAGE_PATH", "s3://{user_id}/$(id)", ["s3://"]),
    ("DATASET_EXPIRATION_DAYS", "30", ["30d, 2w or 12h"]),
    ("DATASET_EXPIRATION_DAYS", "0d", ["30d, 2w or 12h"]),
    ("DATASET_EXPIRATION_DAYS", "-1d", ["30d, 2w or 12h"]),
    ("DATASET_EXPIRATION_DAYS", "1 month", ["30d, 2w or 12h"]),
    ("DATASET_EXPIRATION_DAYS", "1.5d", ["30d, 2w or 12h"]),
    ("AVATAR_SEAWEEDFS_LOG_VERBOSITY", "5", ["0 to 4"]),
    ("AVATAR_SEAWEEDFS_LOG_VERBOSITY", "debug", ["0 to 4"]),
    ("AVATAR_API_VERSION", "quay.io/octopize/avatar:3", ["image tag"]),
    ("AVATAR_API_VERSION", "3.20.1 ; latest", ["image tag"]),
    ("AVATAR_WEB_VERSION", "-1", ["image tag"]),
    ("AVATAR_SEAWEEDFS_VERSION", "v" * 129, ["image tag"]),
    ("AVATAR_AUTHENTIK_VERSION", "{{VERSION}}", ["image tag"]),
    ("AVATAR_REGISTRY", "https://quay.io/octopize", ["quay.io/octopize"]),
    ("AVATAR_SEAWEEDFS_REGISTRY", "mirror/Chris", ["registry"]),
    ("AVATAR_AUTHENTIK_REPOSITORY", "ghcr.io/goauthentik/", ["registry"]),
    ("POSTGRES_IMAGE", "postgres:", ["nginx:1.31.0"]),
    ("POSTGRES_IMAGE", f"ada:{HIDDEN}@mirror.example/postgres:14", ["image reference"]),
    ("NGINX_IMAGE", "nginx:1.31.0 --privileged", ["image reference"]),
    ("NGINX_IMAGE", "nginx@sha256:abc", ["image reference"]),
    ("AVATAR_DOMAIN", "https://avatar.example.com", ["port"]),
    ("AVATAR_WEB_CLIENT_URL", "avatar.example.com/web", ["https://"]),
    ("AVATAR_API_URL", "https://avatar.example.com/api?x", ["path"]),
    ("AVATAR_STORAGE_ENDPOINT_PUBLIC_URL", "s3://bucket", ["https://"]),
    ("AVATAR_STORAGE_ENDPOINT_INTERNAL_URL", "http://s3 8333", ["host name"]),
    ("SSO_PROVIDER_URL", "https://", ["host name"]),
    ("AVATAR_AUTHENTIK_BLUEPRINT_DOMAIN", "a b", ["host name"]),
    ("AVATAR_AUTHENTIK_BLUEPRINT_API_REDIRECT_URI", "javascript:alert(1)", ["https://"]),
    ("AVATAR_AUTHENTIK_BLUEPRINT_API_WEBHOOK_URL", "http://api:0/x", ["port"]),
]  # fmt: skip


def by_environment(key: str, text: str, path: Path) -> tuple[list[str], dict[str, str]]:
    return [], {key: text}


def by_file(key: str, text: str, path: Path) -> tuple[list[str], dict[str, str]]:
    path.write_text(text)
    return [], {f"{key}_FILE": str(path), key: ""}


def by_config(key: str, text: str, path: Path) -> tuple[list[str], dict[str, str]]:
    path.write_text(f"{key}: {json.dumps(text)}\n")
    return ["--config", str(path)], {key: ""}


def by_flag(key: str, text: str, path: Path) -> tuple[list[str], dict[str, str]]:
    return ["--set", f"{key}={text}"], {}


WAYS = {"environment": by_environment, "file": by_file, "config-file": by_config, "--set": by_flag}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("key", "text", "words"), SETTINGS_CASES, ids=lambda value: ascii(value)[:40])
def test_a_bad_setting(refuse, tmp_path, way, key, text, words):
    flags, environ = WAYS[way](key, text, tmp_path / "input")
    message = refuse(*flags, **environ)
    assert key in message
    assert [word for word in words if word not in message] == []
    where = f"{key}_FILE={tmp_path / 'input'}" if way == "file" else way
    assert f"({where})" in message or key == "TLS_CA_PATH"


def test_the_corpus_is_large_and_knows_every_kind():
    assert len(SETTINGS_CASES) > 110
    assert len(SETTINGS_CASES) + len(MALFORMED) + len(NOT_READABLE) > 150


@pytest.mark.parametrize(
    "key", ["PUBLIC_URL", "ENV_NAME", "AUTH_TYPE", "DB_HOST", "SMTP_HOST", "SMTP_PORT", "LOG_LEVEL",
    "AVATAR_API_VERSION", "AVATAR_API_URL", "SMTP_VERIFY"]
)  # fmt: skip
@pytest.mark.parametrize("text", ["", " "])
def test_an_explicit_empty_value_is_refused_where_a_value_is_needed(refuse, tmp_path, key, text):
    flags, environ = by_config(key, text, tmp_path / "input")
    assert f"{key}=" in refuse(*flags, **environ)
    assert f"{key}=" in refuse("--set", f"{key}={text}")


# --- secrets: named, never shown ----------------------------------------------------------------

SECRET_CASES = [
    ("DB_PASSWORD", f"{HIDDEN}\nsecond line", "U+000A"),
    ("DB_PASSWORD", f"{HIDDEN}\r\n\r\n", "U+000D"),
    ("DB_PASSWORD", f"{HIDDEN}\x00", "U+0000"),
    ("DB_PASSWORD", HIDDEN * 300, "4096"),
    ("SMTP_PASSWORD", f"\t{HIDDEN}", "U+0009"),
    ("AWS_MAIL_ACCOUNT_SECRET_ACCESS_KEY", f"{HIDDEN}\u2028", "U+2028"),
    ("STORAGE_ENCRYPTION_KEY", HIDDEN, "64 hexadecimal digits"),
    ("STORAGE_ENCRYPTION_KEY", HIDDEN + "0" * (64 - len(HIDDEN)), "64 hexadecimal digits"),
    ("FILE_ENCRYPTION_KEY", HIDDEN, "44 characters"),
    ("ORGANIZATION_NAME", "Example\nEVIL=1", "U+000A"),
    ("ORGANIZATION_NAME", "   ", "blank"),
    ("ADMIN_EMAILS", "ada", "e-mail address"),
    ("ADMIN_EMAILS", "ada@example.com;bob@example.com", "e-mail address"),
    ("ADMIN_EMAILS", "ada@example.com;grace@example.com", "e-mail address"),
    ("AVATAR_FIRST_USER_NAME", "a\x7f", "U+007F"),
]


@pytest.mark.parametrize("way", ["environment", "file", "config-file"])
@pytest.mark.parametrize(("key", "text", "words"), SECRET_CASES, ids=lambda value: ascii(value)[:40])
def test_a_bad_secret(refuse, tmp_path, way, key, text, words):
    flags, environ = WAYS[way](key, text, tmp_path / "input")
    message = refuse(*flags, **environ)
    assert key in message
    assert words in message


def test_a_secret_in_json_is_not_shown_either(complete, capsys):
    assert main(["--output-dir", str(complete), "--json"], REQUIRED | {"DB_PASSWORD": f"{HIDDEN}\nx"}) == 1
    said = capsys.readouterr()
    assert HIDDEN not in said.out + said.err
    (problem,) = json.loads(said.out)["error"]["problems"]
    assert "DB_PASSWORD" in problem


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--config", "--defaults-file"])
@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file(refuse, tmp_path, flag, case):
    data, words = MALFORMED[case]
    (tmp_path / "input").write_bytes(data)
    message = refuse(flag, str(tmp_path / "input"), hidden=QUOTED)
    assert str(tmp_path / "input") in message
    assert words in message


@pytest.mark.parametrize("case", NOT_READABLE)
@pytest.mark.parametrize("key", ["--config", "--defaults-file", "DB_PASSWORD_FILE", "LOG_LEVEL_FILE"])
def test_what_is_no_readable_file(refuse, tmp_path, key, case):
    make, words = NOT_READABLE[case]
    path = tmp_path / "input"
    make(path)
    message = refuse(key, str(path)) if key.startswith("--") else refuse(**{key: str(path)})
    assert str(path) in message
    assert words in message
    assert key in message or key.startswith("--")


@pytest.mark.parametrize("key", ["--config", "--defaults-file", "SMTP_PASSWORD_FILE"])
def test_a_file_without_rights(tmp_path, key):
    """Root may read everything, so it gives that right up first."""
    prefix = ()
    if os.geteuid() == 0:
        require_root()
        prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    path, out = tmp_path / "input", tmp_path / "out"
    path.write_text(HIDDEN)
    path.chmod(0)
    out.mkdir()
    flags, environ = ((key, str(path)), {}) if key.startswith("--") else ((), {key: str(path)})
    done = run(out, *flags, settings=REQUIRED | environ, prefix=prefix)
    assert done.returncode == 1
    assert f"{path}: it cannot be read (permission denied)" in done.stderr
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\xff\xfeh\x00", "not UTF-8"), (b"caf\xe9", "not UTF-8"), ("verbose".encode("utf-16"), "not UTF-8"),
        (b"IN\x00FO", "DEBUG, INFO")],
    ids=repr,
)  # fmt: skip
def test_a_setting_file_that_is_not_text(refuse, tmp_path, data, words):
    (tmp_path / "input").write_bytes(data)
    message = refuse(LOG_LEVEL_FILE=str(tmp_path / "input"))
    assert words in message
    assert "LOG_LEVEL" in message


def test_ten_megabytes(refuse, tmp_path):
    (tmp_path / "input").write_bytes(b"# comment\n" * 1_000_000)
    assert "larger than 256 KiB" in refuse("--config", str(tmp_path / "input"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"PUBLIC_ULR: {HIDDEN}", "did you mean PUBLIC_URL?"), (f"public_url: {HIDDEN}", "did you mean PUBLIC_URL?"),
        (f"DB_PASSWRD: {HIDDEN}", "did you mean DB_PASSWORD?"),
        (f"Db_Password: {HIDDEN}", "did you mean DB_PASSWORD?"),
        (f"DB_PASSWORD_FILE: {HIDDEN}", "did you mean DB_PASSWORD?"),
        (f"something_else: {HIDDEN}", "'something_else' is not a known key"),
        (f"DB_PASSWORD: {HIDDEN}\ndb_password: {HIDDEN}", "DB_PASSWORD is given twice"),
        (f"DB_PASSWORD: [{HIDDEN}]", "DB_PASSWORD must be a single value"),
        (f"DB_PASSWORD: {{x: {HIDDEN}}}", "DB_PASSWORD must be a single value"),
        ("LOG_LEVEL: [INFO]", "LOG_LEVEL must be a single value"),
        (f"- DB_PASSWORD: {HIDDEN}", "KEY: VALUE lines"), (HIDDEN, "KEY: VALUE lines"),
        ("LOG_LEVEL: 3.10", "LOG_LEVEL='3.10'"),
        ("SMTP_PORT: 22:22", "SMTP_PORT='22:22'"), ("SMTP_PORT: 1e3", "SMTP_PORT='1e3'"),
        ("LOG_LEVEL: |\n  two\n  lines\n", "LOG_LEVEL='two\\nlines'"),
        ("SMTP_HOST: NO:", "line 1"),
        ("LOG_LEVEL: INFO\n\tENV_NAME: a", "line 2, column 1: this is not valid YAML (a tab"),
        ("SMTP_HOST: NO:", "does a value with : or # want quotes?"),
        ("- LOG_LEVEL: INFO", "it must hold KEY: VALUE lines, without a dash in front"),
        ("LOG_LEVEL:\n  - INFO", "LOG_LEVEL must be a single value, as in LOG_LEVEL: VALUE"),
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_a_bad_line_of_the_configuration_file(refuse, tmp_path, line, words):
    (tmp_path / "input").write_text(line)
    assert words in refuse("--config", str(tmp_path / "input"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("presets: text", "presets must hold"), ("presets: [a]", "presets must hold"),
        ("settings: [a]", "settings must hold"),
        ("presets: {airgapped: a}", "airgapped must hold"), ("presets: {unknown: {}}", "unknown preset 'unknown'"),
        ("LOG_LEVEL: INFO", "unknown section"),
        (f"settings: {{DB_PASSWORD: {HIDDEN}}}", "DB_PASSWORD is a secret"),
        ("settings: {LOG_LEVEL: loud}", "LOG_LEVEL='loud' (defaults-file)"),
        ("settings: {PRESET: loud}", "PRESET='loud' (defaults-file)"),
        ("settings: {LOG_LEVLE: INFO}", "did you mean LOG_LEVEL?"),
    ],
)  # fmt: skip
def test_a_bad_defaults_file(refuse, tmp_path, text, words):
    (tmp_path / "input").write_text(text)
    assert words in refuse("--defaults-file", str(tmp_path / "input"))


# --- the environment ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["PUBLIC_URL", "DB_PASSWORD", "PRESET"])
def test_a_variable_and_its_file(refuse, tmp_path, key):
    (tmp_path / "input").write_text(HIDDEN)
    message = refuse(**{key: HIDDEN, f"{key}_FILE": str(tmp_path / "input")})
    assert f"{key} and {key}_FILE are both set: unset one of them" in message


@pytest.mark.parametrize("text", [HIDDEN, f"{HIDDEN}/x==", f"./{HIDDEN}", f"/{HIDDEN}", f"/{HIDDEN}/x=="])
def test_a_secret_where_its_path_belongs(refuse, text):
    assert "DB_PASSWORD_FILE=/run/secrets/db_password" in refuse(DB_PASSWORD_FILE=text)


@pytest.mark.parametrize(("key", "text"), [("PUID", "root"), ("PGID", "-1"), ("PUID", "1.5"), ("PGID", "٣")])
def test_a_bad_identity(refuse, key, text):
    assert f"{key}=1000" in refuse(**{key: text})


def test_bytes_that_are_no_text(refuse):
    """What Python makes of an environment variable that is not UTF-8."""
    message = refuse(SMTP_USERNAME="caf\udce9", DB_PASSWORD=f"{HIDDEN}\udce9", DB_USER_FILE="/no/caf\udce9")
    for key in ("SMTP_USERNAME", "DB_PASSWORD", "DB_USER_FILE"):
        assert key in message


# --- combinations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"PUBLIC_URL": "http://avatar.example.com", "TLS_MODE": "provided"}, "TLS_MODE=off"),
        ({"PUBLIC_URL": "http://avatar.example.com", "TLS_MODE": "behind-proxy"}, "https://"),
        ({"PUBLIC_URL": "https://avatar.example.com", "TLS_MODE": "off"}, "TLS_MODE=behind-proxy"),
        ({"PUBLIC_URL": "https://avatar.example.com", "NGINX_TLS_ENABLED": "false"}, "TLS_MODE=behind-proxy"),
        ({"NGINX_TLS_ENABLED": "false", "TLS_MODE": "provided"}, "give only TLS_MODE"),
        ({"NGINX_HTTPS_PORT": "8443"}, "avatar.example.com:8443"),
        ({"PUBLIC_URL": "http://avatar.example.com:81", "NGINX_HTTP_PORT": "82"}, "remove NGINX_HTTP_PORT"),
        ({"NGINX_HTTP_REDIRECT_PORT": "443"}, "as in 80"),
        ({"SMTP_USE_TLS": "true", "SMTP_START_TLS": "true"}, "set one of them to false"),
        ({"AUTH_TYPE": "username", "USE_EMAIL_AUTHENTICATION": "true"}, "give only AUTH_TYPE"),
        ({"TELEMETRY_ENABLED": "true"}, "TELEMETRY_S3_BUCKET_NAME is missing"),
        ({"PRESET": "default"}, "TELEMETRY_ENABLED=false"),
    ],
    ids=lambda said: " ".join(f"{key}={text}" for key, text in said.items()) if isinstance(said, dict) else "",
)
def test_a_combination_that_is_refused(refuse, said, words):
    assert words in refuse(**said)


def test_what_is_missing_is_said_with_every_way_to_give_it(empty, capsys):
    before = stamps(empty)
    assert main(["--output-dir", str(empty)], {}) == 1
    said = capsys.readouterr().err
    for words in (
        "PUBLIC_URL is missing",
        "ENV_NAME is missing",
        "--set ENV_NAME=",
        "environment variable PUBLIC_URL=",
    ):
        assert words in said
    assert stamps(empty) == before


def test_the_problems_of_all_sources_in_one_message(refuse, tmp_path):
    (tmp_path / "config").write_text(f"LOG_LEVLE: {HIDDEN}\nSMTP_PORT: smtp\nDB_PASSWORD: [{HIDDEN}]\n")
    (tmp_path / "defaults").write_text("settings: {AVATAR_API_VERSION: a b}\n")
    message = refuse(
        *("--config", str(tmp_path / "config"), "--defaults-file", str(tmp_path / "defaults"), "--set", "TLS_MODE=on"),
        PUBLIC_URL="a b",
        DB_USER=f"{HIDDEN}\nx",
        ORGANIZATION_NAME_FILE="/nowhere",
    )
    keys = [
        "LOG_LEVLE",
        "SMTP_PORT",
        "DB_PASSWORD",
        "AVATAR_API_VERSION",
        "TLS_MODE",
        "PUBLIC_URL",
        "DB_USER",
        "ORGANIZATION_NAME_FILE",
    ]
    assert [key for key in keys if key not in message] == []
    assert message.startswith("avatar-setup: 8 problems:\n")


def test_an_unreadable_file_does_not_make_its_settings_missing(empty, capsys):
    assert main(["--output-dir", str(empty), "--config", "/nowhere.yaml"], {}) == 1
    said = capsys.readouterr().err
    assert "/nowhere.yaml" in said
    assert "missing" not in said


# --- flags --------------------------------------------------------------------------------------

FLAGS = {
    "--set without a value": (["--set"], "--set"),
    "--set without =": (["--set", "LOG_LEVEL"], "--set LOG_LEVEL=DEBUG"),
    "--set with a secret": (["--set", f"DB_PASSWORD={HIDDEN}"], "environment variable DB_PASSWORD"),
    "--set with a secret in small letters": (["--set", f"db_password={HIDDEN}"], "DB_PASSWORD_FILE"),
    "--set with a secret in mixed letters": (["--set", f"Smtp_Password={HIDDEN}"], "SMTP_PASSWORD_FILE"),
    "--set= with a secret": ([f"--set=DB_PASSWORD={HIDDEN}"], "DB_PASSWORD_FILE"),
    "--set with a secret and no =": (["--set", HIDDEN], "--set LOG_LEVEL=DEBUG"),
    "a value for a switch": ([f"--reset={HIDDEN}"], "--reset"),
    "a value for another switch": ([f"--non-interactive={HIDDEN}"], "--non-interactive"),
    "a word": ([HIDDEN], "--help"),
    "a word after --": (["--", HIDDEN], "--help"),
    "an unknown flag with a value": ([f"--smtp-password={HIDDEN}"], "--smtp-password"),
    "an unknown flag and a word": (["--smtp-password", HIDDEN], "--smtp-password"),
    "a flag cut short": (["--stat"], "--stat"),
    "no value for --config": (["--config"], "--config"),
    "no value for --preset": (["--preset", "--quiet"], "--preset"),
    "no value for --auth-type": (["--auth-type"], "--auth-type"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_a_bad_flag(refuse, case):
    flags, words = FLAGS[case]
    assert words in refuse(*flags, code=2)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--preset", "production"], "PRESET='production' (--set): it must be one of default, dev-mode, airgapped"),
        (["--auth-type", "phone"], "AUTH_TYPE='phone' (--set): it must be one of email, username"),
        (["--auth-type", ""], "AUTH_TYPE=''"),
        (["--set", f"LOG_LEVLE={HIDDEN}"], "did you mean LOG_LEVEL?"),
        (["--set", f"log_level={HIDDEN}"], "did you mean LOG_LEVEL?"),
        (["--set", f"={HIDDEN}"], "'' is not a known key"),
        (["--set", f"DB_PASSWRD={HIDDEN}"], "did you mean DB_PASSWORD?"),
        (["--set", "LOG_LEVEL=INFO", "--set", "LOG_LEVEL=loud"], "LOG_LEVEL='loud'"),
    ],
)
def test_a_bad_value_of_a_flag(refuse, flags, words):
    assert words in refuse(*flags)


# --- in a process of its own --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "settings", "code", "words"),
    [
        ((), {"PUBLIC_URL": "a b"}, 1, "PUBLIC_URL='a b' (environment)"),
        ((), {"DB_PASSWORD": f"{HIDDEN}\n{HIDDEN}"}, 1, "DB_PASSWORD (environment)"),
        ((), {"DB_PASSWORD_FILE": HIDDEN}, 1, "DB_PASSWORD_FILE=/run/secrets/db_password"),
        (("--config", "bomb.yaml"), {}, 1, "bomb.yaml: line 1: anchors and aliases are not allowed"),
        (("--config", "fifo"), {}, 1, "fifo: it is not a regular file"),
        (("--config", "folder"), {}, 1, "folder: it is a directory, which Docker creates if a file to mount does not"),
        ((), {"DB_PASSWORD_FILE": "folder"}, 1, "it is a directory, which Docker creates if a file to mount does not"),
        ((), {"TLS_CA_PATH": "/etc"}, 1, "it is a directory, which Docker creates if a file to mount does not"),
        (("--set", f"DB_PASSWORD={HIDDEN}"), {}, 2, "does not belong on the command line"),
        ((f"--reset={HIDDEN}",), {}, 2, "--reset"),
        (("--debug",), {"LOG_LEVEL": "loud", "DB_PASSWORD": f"{HIDDEN}\n{HIDDEN}"}, 1, "LOG_LEVEL='loud'"),
    ],
)
def test_as_a_program(tmp_path, flags, settings, code, words):
    (tmp_path / "bomb.yaml").write_bytes(MALFORMED["bomb"][0])
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    done = run(out, *flags, settings=REQUIRED | settings)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert HIDDEN not in done.stderr
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    ["\ufeffLOG_LEVEL: DEBUG\n", "LOG_LEVEL: DEBUG\r\nENV_NAME: other\r\n",
        "%YAML 1.1\n---\nLOG_LEVEL: debug\n...\n", '{"LOG_LEVEL": "DEBUG"}'],
    ids=["BOM", "CRLF", "directive", "JSON"],
)  # fmt: skip
def test_odd_but_good_files_are_accepted(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content, newline="")
    out = tmp_path / "out"
    out.mkdir()
    done = run(out, "--config", "config.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "LOG_LEVEL=DEBUG\n" in (out / ".env").read_text()
