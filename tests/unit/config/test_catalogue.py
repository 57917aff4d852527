"""The catalogue against the stack's facts, which are written out here once more, independently of it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from setup.config import derived
from setup.config import secrets as secret_catalogue
from setup.config import settings as catalogue
from setup.config.model import always
from setup.config.resolver import resolve
from setup.config.secrets import SECRETS
from setup.config.settings import GROUPS, PRESETS, REQUIRED_KEYS, SETTINGS
from setup.config.sources import CONTROLS, gather
from setup.config.types import show
from setup.secrets.plan import GENERATORS, Origin, is_operators, list_pending, plan_secrets
from tests.support.deployments import REQUIRED, resolution, values
from tests.support.documents import read_yaml

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS = read_yaml((ROOT / "setup" / "defaults.yaml").read_text())

TELEMETRY = {"TELEMETRY_ENABLED": "true", "TELEMETRY_S3_BUCKET_NAME": "bucket"}
USERNAME = {"AVATAR_API_VERSION": "2.81", "AUTH_TYPE": "username"}
EXTERNAL = {"DB_HOST": "pg.example.com"}
API_2 = {"AVATAR_API_VERSION": "2.30"}
API_3_8 = {"AVATAR_API_VERSION": "3.8.4"}
AWS = {"MAIL_PROVIDER": "aws"}
OFF = {"TLS_MODE": "off"}
BEHIND = {"TLS_MODE": "behind-proxy"}
AIRGAPPED = {"PRESET": "airgapped"}
EVERYWHERE = [
    {},
    {"USE_AWS_SMTP_PRESET": "true", "SMTP_USERNAME": "AKIAEXAMPLE"},
    TELEMETRY,
    USERNAME,
    EXTERNAL,
    API_2,
    API_3_8,
    API_2 | AWS,
    OFF,
    BEHIND,
    AIRGAPPED,
    TELEMETRY | USERNAME | EXTERNAL | API_2 | OFF,
]


def _id(said):
    return " ".join(f"{key}={text}" for key, text in said.items()) or "smallest"


# --- the rows -----------------------------------------------------------------------------------


def test_names_are_unique_and_disjoint():
    assert len(SETTINGS) == len(catalogue._ROWS)
    assert len(SECRETS) == len(secret_catalogue._ROWS)
    variables = [*SETTINGS, *map(str.upper, SECRETS), *CONTROLS]
    variables += [f"{name}_FILE" for name in (*SETTINGS, *map(str.upper, SECRETS))]
    assert len(variables) == len({*variables})


def test_shown_names_are_unique_and_no_settings():
    shown = [key for secret in SECRETS.values() for key in secret.shown]
    assert len(shown) == len({*shown})
    assert not {*shown} & {*SETTINGS}


def test_names_are_written_as_names():
    assert all(re.fullmatch("[A-Z][A-Z0-9_]*", key) for key in SETTINGS)
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in SECRETS)


@pytest.mark.parametrize("row", [*SETTINGS.values(), *SECRETS.values()], ids=lambda row: row[0])
def test_every_row_can_be_asked_and_explained(row):
    for text in (row.question, row.help):
        assert text and text.strip() == text and text.isprintable()
    assert not row.question.endswith((":", "?", "."))
    assert row.help.endswith(".")


def test_groups_in_the_order_of_the_specification():
    assert GROUPS[0] == "Required Settings"
    assert {"PUBLIC_URL", "ENV_NAME"} == REQUIRED_KEYS
    assert {row.group for row in SETTINGS.values()} == {*GROUPS}
    in_groups = [key for group in GROUPS for key, row in SETTINGS.items() if row.group == group]
    assert in_groups == list(SETTINGS), "the rows of a group stand together"


@pytest.mark.parametrize(
    "row", [row for row in (*SETTINGS.values(), *SECRETS.values()) if row.example], ids=lambda row: row[0]
)
def test_examples_parse(row):
    assert show(row.kind.parse(row.example)) == row.example


@pytest.mark.parametrize(
    "row", [row for row in SETTINGS.values() if isinstance(row.default, str)], ids=lambda row: row.key
)
def test_constant_defaults_parse(row):
    if row.default == "":
        assert row.empty
    else:
        assert show(row.kind.parse(row.default)) == row.default


@pytest.mark.parametrize("said", EVERYWHERE, ids=_id)
def test_every_value_shows_itself(said):
    """parse(show(v)) == v for every value of a deployment, computed defaults included."""
    found = resolution(**REQUIRED | said)
    assert found.problems == ()
    for key, resolved in found.applying().items():
        text = show(resolved.value)
        assert (SETTINGS[key].kind.parse(text) if text else "") == resolved.value
        assert text or SETTINGS[key].empty


@pytest.mark.parametrize("row", [row for row in SETTINGS.values() if row.empty], ids=lambda row: row.key)
@pytest.mark.parametrize("blank", ["", "  "])
def test_an_empty_value_stays_empty_where_it_is_allowed(row, blank):
    inputs = gather(REQUIRED, None, None, {row.key: blank}, {})
    assert resolve(inputs.layers, inputs.presets, {}, {}).values[row.key] == ""


def test_customary_values_parse():
    named = {name: secret.customary for name, secret in SECRETS.items() if secret.customary is not None}
    assert all(show(SECRETS[name].kind.parse(text)) == text for name, text in named.items())


def test_generators_are_known_and_their_secrets_parse():
    for secret in SECRETS.values():
        if secret.generate:
            assert secret.kind.parse(GENERATORS[secret.generate]())


# --- defaults.yaml ------------------------------------------------------------------------------


def test_defaults_and_presets_name_known_settings_with_values_that_parse():
    assert {*DEFAULTS} == {"settings", "presets"}
    assert {*DEFAULTS["presets"]} == {*PRESETS}
    for section in (DEFAULTS["settings"], *DEFAULTS["presets"].values()):
        for key, text in section.items():
            assert isinstance(text, str), f"{key}: quote it, or YAML may change it"
            assert show(SETTINGS[key].kind.parse(text)) == text


def test_every_setting_has_one_default():
    """In its row or in defaults.yaml, never in both; only what nobody can guess has none."""
    without = {key for key, row in SETTINGS.items() if row.default is None}
    assert without - {*DEFAULTS["settings"]} == {"PUBLIC_URL", "ENV_NAME", "TELEMETRY_S3_BUCKET_NAME"}
    assert {*DEFAULTS["settings"]} <= without


# --- the table "Secrets" ------------------------------------------------------------------------

HEX, URLSAFE, FERNET = r"[0-9a-f]{64}", r"[A-Za-z0-9_][A-Za-z0-9_-]{42}", r"[A-Za-z0-9_-]{43}="
GENERATED = {
    "db_password": HEX, "db_admin_password": HEX, "authentik_database_password": HEX,
    "authjwt_secret_key": HEX, "pepper": HEX, "file_jwt_secret_key": HEX, "authentik_secret_key": HEX,
    "clevercloud_sso_salt": HEX,
    "file_encryption_key": FERNET, "storage_encryption_key": HEX,
    "storage_admin_access_key_id": HEX, "storage_admin_secret_access_key": HEX, "seaweedfs_admin_password": URLSAFE,
    "avatar_first_user_password": URLSAFE,
    "sso_client_id": HEX, "sso_client_secret": HEX,
    "authentik_bootstrap_password": URLSAFE, "authentik_bootstrap_token": URLSAFE, "authentik_api_token": URLSAFE,
    "authentik_webhook_secret": URLSAFE,
}  # fmt: skip
CUSTOMARY = {
    "db_name": "avatar", "db_user": "avataruser", "db_admin_user": "postgres",
    "authentik_database_name": "authentik", "authentik_database_user": "authentikuser",
}  # fmt: skip
OPERATORS = {
    "organization_name", "admin_emails", "avatar_first_user_name", "aws_mail_account_access_key_id",
    "aws_mail_account_secret_access_key", "smtp_password", "telemetry_s3_access_key_id",
    "telemetry_s3_secret_access_key",
}  # fmt: skip
# Those that only some deployments have.
CONDITIONAL = {
    "admin_emails": lambda said: "AUTH_TYPE" not in said,
    "avatar_first_user_name": lambda said: "AUTH_TYPE" in said,
    "avatar_first_user_password": lambda said: "AUTH_TYPE" in said,
    "aws_mail_account_access_key_id": lambda said: "MAIL_PROVIDER" in said,
    "aws_mail_account_secret_access_key": lambda said: "MAIL_PROVIDER" in said,
    "smtp_password": lambda said: "MAIL_PROVIDER" not in said,
    "pepper": lambda said: "AVATAR_API_VERSION" in said,
    "file_jwt_secret_key": lambda said: said.get("AVATAR_API_VERSION") == "2.30",
    "file_encryption_key": lambda said: said.get("AVATAR_API_VERSION", "3") < "3",
}
UNBOUND = {
    "seaweedfs_admin_password", "organization_name", "admin_emails", "avatar_first_user_name",
    "authentik_webhook_secret",
    "aws_mail_account_access_key_id", "aws_mail_account_secret_access_key", "smtp_password",
    "telemetry_s3_access_key_id", "telemetry_s3_secret_access_key",
}  # fmt: skip
SHOWN = {
    "sso_client_id": {"SSO_CLIENT_ID", "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_ID"},
    "sso_client_secret": {"SSO_CLIENT_SECRET", "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_SECRET"},
    "authentik_bootstrap_password": {"AUTHENTIK_BOOTSTRAP_PASSWORD"},
    "authentik_bootstrap_token": {"AUTHENTIK_BOOTSTRAP_TOKEN"},
    "authentik_api_token": {"AUTHENTIK_API_TOKEN", "AVATAR_AUTHENTIK_BLUEPRINT_API_TOKEN"},
    "authentik_webhook_secret": {"AUTHENTIK_WEBHOOK_SECRET", "AVATAR_AUTHENTIK_BLUEPRINT_WEBHOOK_SECRET"},
    "smtp_password": {"SMTP_PASSWORD"},
}
TABLE = {*GENERATED, *CUSTOMARY, *OPERATORS}
# Not a secret in itself, so that a question may show what is typed.
PLAIN = {*CUSTOMARY, "organization_name", "admin_emails", "avatar_first_user_name"}


def test_the_table_is_whole():
    """A new secret belongs into the tables above: this test alone names it, the others pass it over."""
    assert {*SECRETS} == TABLE, "GENERATED, CUSTOMARY and OPERATORS above name every secret"
    assert {name: {*row.shown} for name, row in SECRETS.items() if row.shown} == SHOWN, "SHOWN above"
    assert {name for name, row in SECRETS.items() if not row.bound} == UNBOUND, "UNBOUND above"
    assert {name for name, row in SECRETS.items() if not row.masked} == PLAIN, "PLAIN above"


def test_every_secret_reaches_a_service():
    """By its file or by `.env`; nothing of the stack reads file_encryption_key, which is kept for its data."""
    unread = [name for name, row in SECRETS.items() if not (row.services or row.shown)]
    assert unread == ["file_encryption_key"], "name its services in the row, or the keys of .env that show it"


def test_a_secret_that_shows_in_env_is_mounted_only_where_the_environment_would_change_it():
    """Authentik parses its environment as JSON, so that a password of digits would be a number."""
    assert [name for name, secret in SECRETS.items() if secret.shown and secret.services] == ["smtp_password"]


def test_which_secrets_a_deployment_has():
    for said in EVERYWHERE:
        expected = {name for name in TABLE if CONDITIONAL.get(name, lambda said: True)(said)}
        assert TABLE & {*plan_secrets(values(**said), {}, {})} == expected, f"{_id(said)}: CONDITIONAL says otherwise"


@pytest.mark.parametrize("name", GENERATED)
def test_generated_forms(name):
    planned = plan_secrets(values(**USERNAME | API_2), {}, {})
    assert planned[name].origin is Origin.GENERATED
    assert re.fullmatch(GENERATED[name], planned[name].text)


def test_generated_secrets_differ_from_each_other_and_from_run_to_run():
    v = values()
    texts = [one.text for _ in range(3) for one in plan_secrets(v, {}, {}).values() if one.origin is Origin.GENERATED]
    assert len(texts) == len({*texts})


def test_no_generated_url_safe_secret_begins_with_a_dash():
    """One in 64 would: some programs take it for an option."""
    assert not [text for text in (GENERATORS["urlsafe"]() for _ in range(1000)) if text.startswith("-")]


def test_customary_and_the_operators_own():
    for said in EVERYWHERE:
        planned = plan_secrets(values(**said), {}, {})
        theirs = OPERATORS | ({"db_admin_user", "db_admin_password"} if "DB_HOST" in said else set())
        for name in TABLE & {*planned}:
            if name in theirs:
                expected = (Origin.PENDING, "")
            elif name in CUSTOMARY:
                expected = (Origin.CUSTOMARY, CUSTOMARY[name])
            else:
                expected = (Origin.GENERATED, planned[name].text)
            assert (planned[name].origin, planned[name].text) == expected, f"{_id(said)}: {name}"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {"organization_name"}),
        ({"AVATAR_API_VERSION": "2.81"}, {"organization_name", "admin_emails"}),
        ({"AVATAR_API_VERSION": "2.82"}, {"organization_name"}),
        (API_2 | AWS, {"organization_name", "admin_emails", "aws_mail_account_access_key_id",
        "aws_mail_account_secret_access_key"}),
        (USERNAME, {"organization_name", "avatar_first_user_name"}),
        ({"SMTP_USERNAME": "avatar"}, {"organization_name", "smtp_password"}),
        (EXTERNAL, {"organization_name", "db_admin_user", "db_admin_password"}),
        (TELEMETRY, {"organization_name", "telemetry_s3_access_key_id", "telemetry_s3_secret_access_key"}),
    ],
    ids=lambda said: _id(said) if isinstance(said, dict) else "",
)  # fmt: skip
def test_what_stays_pending(said, expected):
    v = values(**said)
    texts = {name: one.text for name, one in plan_secrets(v, {}, {}).items()}
    assert TABLE & {secret.name for secret in list_pending(v, texts)} == expected


def test_whose_each_secret_is():
    for said in EVERYWHERE:
        theirs = OPERATORS | {*CUSTOMARY} | ({"db_admin_password"} if "DB_HOST" in said else set())
        assert {name for name in TABLE if is_operators(SECRETS[name], values(**said))} == theirs, _id(said)


def test_every_condition_is_put_into_words():
    """A setting or secret that is given and does not apply is named, with what it applies with."""
    conditions = {row.when for row in (*SETTINGS.values(), *SECRETS.values())} - {always}
    assert conditions - derived.APPLIES_WITH.keys() == set()


def test_conditions_are_decided_by_settings_alone():
    """A condition may be asked before any secret is known."""
    for said, row in itertools.product(EVERYWHERE, [*SETTINGS.values(), *SECRETS.values()]):
        assert row.when(values(**said)) in (True, False)
    assert derived.external_database(values(**EXTERNAL))
