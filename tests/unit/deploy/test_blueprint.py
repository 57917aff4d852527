"""The SSO blueprint: every fact the API relies on, every reference, every expression, every variable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from tests.support.blueprint import (
    AUTHENTIK_DIR,
    BLUEPRINT,
    BlueprintError,
    Entry,
    Found,
    Reference,
    Tag,
    blueprint_env_names,
    expressions,
    ico_sizes,
    load,
    png_size,
    resolve,
    run_expression,
    service_environment,
)

PREFIX = "AVATAR_AUTHENTIK_BLUEPRINT_"
ENV = {
    f"{PREFIX}DOMAIN": "avatar.example.com:8443",
    f"{PREFIX}CLIENT_ID": "b7d1f0c2a9e84d53",
    f"{PREFIX}CLIENT_SECRET": "a3f9c65e0b7d4812",
    f"{PREFIX}API_REDIRECT_URI": "https://avatar.example.com:8443/api/login/sso/auth",
    f"{PREFIX}LAUNCH_URL": "https://avatar.example.com:8443/web",
    f"{PREFIX}API_WEBHOOK_URL": "http://api:8000/internal/authentik/user-events",
    f"{PREFIX}API_TOKEN": "t0ken-of-the-service-account",
}
WEBHOOK_SECRET = f"{PREFIX}WEBHOOK_SECRET"
BRAND = "3c0f4f4e-6d0b-4a63-9d2c-0f6f1f7a5b1e"
PROVIDER = Found("authentik_providers_oauth2.oauth2provider", (("client_id", ENV[f"{PREFIX}CLIENT_ID"]),))

# The fields of each model's serializer in Authentik's API, besides those only a blueprint may give
# (`permissions` of a role, `key` of a token). Read in release 2026.8.3 for the provider, brand, user, token,
# rule, transport, e-mail stage and policy binding; in the releases around it for the rest. `!` marks a
# required field, `>` how the model of a reference must begin.
MODELS = {
    "authentik_blueprints.metaapplyblueprint": "identifiers! required",
    "authentik_brands.brand": (
        "domain! default branding_title branding_logo branding_favicon branding_custom_css"
        " branding_default_flow_background branding_map_tiles flow_authentication>authentik_flows.flow"
        " flow_invalidation>authentik_flows.flow flow_recovery>authentik_flows.flow"
        " flow_unenrollment>authentik_flows.flow flow_user_settings>authentik_flows.flow"
        " flow_device_code>authentik_flows.flow flow_lockdown>authentik_flows.flow"
        " flow_request>authentik_flows.flow flow_user_switch>authentik_flows.flow"
        " default_application>authentik_core.application web_certificate>authentik_crypto.certificatekeypair"
        " client_certificates>authentik_crypto.certificatekeypair attributes"
    ),
    "authentik_core.application": (
        "name! slug! provider>authentik_providers_oauth2.oauth2provider backchannel_providers open_in_new_tab"
        " meta_launch_url meta_icon meta_description meta_publisher policy_engine_mode group meta_hide"
    ),
    "authentik_core.group": (
        "name! is_superuser parents>authentik_core.group users>authentik_core.user attributes roles>authentik_rbac.role"
    ),
    "authentik_core.token": "identifier! intent! user!>authentik_core.user description expires expiring key managed",
    "authentik_core.user": (
        "username! name! is_active last_login groups>authentik_core.group roles>authentik_rbac.role email"
        " attributes path type password permissions"
    ),
    "authentik_events.notificationrule": (
        "name! transports>authentik_events.notificationtransport severity"
        " destination_group>authentik_core.group destination_event_user"
    ),
    "authentik_events.notificationtransport": (
        "name! mode webhook_url webhook_ca>authentik_crypto.certificatekeypair"
        " webhook_mapping_body>authentik_events.notificationwebhookmapping"
        " webhook_mapping_headers>authentik_events.notificationwebhookmapping"
        " email_subject_prefix email_template send_once"
    ),
    "authentik_events.notificationwebhookmapping": "name! expression!",
    "authentik_flows.flow": (
        "name! slug! title! designation! background policy_engine_mode compatibility_mode layout denied_action"
        " authentication"
    ),
    "authentik_flows.flowstagebinding": (
        "target!>authentik_flows.flow stage!>authentik_stages_ evaluate_on_plan re_evaluate_policies order!"
        " policy_engine_mode invalid_response_action"
    ),
    "authentik_policies.policybinding": (
        "policy>authentik_policies_ group>authentik_core.group user>authentik_core.user target!> negate enabled"
        " order! timeout failure_result"
    ),
    "authentik_policies_event_matcher.eventmatcherpolicy": ("name! execution_logging action client_ip app model query"),
    "authentik_policies_expression.expressionpolicy": "name! execution_logging expression!",
    "authentik_policies_password.passwordpolicy": (
        "name! execution_logging password_field amount_digits amount_uppercase amount_lowercase amount_symbols"
        " length_min symbol_charset error_message check_static_rules check_have_i_been_pwned check_zxcvbn"
        " hibp_allowed_count zxcvbn_score_threshold"
    ),
    "authentik_providers_oauth2.oauth2provider": (
        "name! authentication_flow>authentik_flows.flow authorization_flow!>authentik_flows.flow"
        " invalidation_flow!>authentik_flows.flow property_mappings>authentik_providers_oauth2.scopemapping"
        " client_type grant_types client_id client_secret access_code_validity access_token_validity"
        " refresh_token_validity refresh_token_threshold include_claims_in_id_token"
        " signing_key>authentik_crypto.certificatekeypair encryption_key>authentik_crypto.certificatekeypair"
        " redirect_uris! logout_uri logout_method sub_mode issuer_mode jwt_federation_sources"
        " jwt_federation_providers"
    ),
    "authentik_providers_oauth2.scopemapping": "managed name! expression! scope_name! description",
    "authentik_rbac.role": "name! permissions",
    "authentik_stages_email.emailstage": (
        "name! use_global_settings host port username password use_tls use_ssl timeout from_address token_expiry"
        " subject template activate_user_on_success recovery_max_attempts recovery_cache_timeout"
    ),
    "authentik_stages_identification.identificationstage": (
        "name! user_fields password_stage captcha_stage case_insensitive_matching show_matched_user"
        " enrollment_flow>authentik_flows.flow recovery_flow>authentik_flows.flow"
        " passwordless_flow>authentik_flows.flow sources show_source_labels pretend_user_exists"
        " enable_remember_me webauthn_stage"
    ),
    "authentik_stages_prompt.prompt": (
        "name! field_key! label! type! required placeholder initial_value order sub_text"
        " placeholder_expression initial_value_expression"
    ),
    "authentik_stages_prompt.promptstage": (
        "name! fields!>authentik_stages_prompt.prompt validation_policies>authentik_policies_"
    ),
    "authentik_stages_user_login.userloginstage": (
        "name! session_duration terminate_other_sessions remember_me_offset network_binding geoip_binding"
        " remember_device"
    ),
    "authentik_stages_user_write.userwritestage": (
        "name! user_creation_mode create_users_as_inactive create_users_group>authentik_core.group user_type"
        " user_path_template"
    ),
}


@dataclass(frozen=True)
class Fields:
    """The fields of a model: how a reference's model must begin, by field, and which are required."""

    targets: dict[str, str | None]
    required: frozenset[str]


def fields_of(model: str) -> Fields:
    assert model in MODELS, f"{model} is no model that this test knows"
    parts = [word.partition(">") for word in MODELS[model].split()]
    targets = {name.rstrip("!"): target if arrow else None for name, arrow, target in parts}
    return Fields(targets, frozenset(name.rstrip("!") for name, _, _ in parts if name.endswith("!")))


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return resolve(BLUEPRINT, ENV)


def only(entries: Iterable[Entry], model: str, **values: Any) -> Entry:
    """The one object of a model with these values that there will be."""
    kept = [e for e in entries if e.model == model and e.state != "absent"]
    found = [e for e in kept if values.items() <= e.values.items()]
    assert len(found) == 1, f"{len(found)} entries of {model} with {values}"
    return found[0]


def named(entries: Iterable[Entry], reference: Any) -> Entry:
    """The entry that a `!KeyOf` refers to."""
    assert isinstance(reference, Reference), f"not a !KeyOf: {reference!r}"
    return next(e for e in entries if e.id == reference.id)


def duration(text: str) -> timedelta:
    """A duration as Authentik writes it: `hours=1;minutes=2`."""
    units = (part.split("=") for part in text.split(";"))
    return timedelta(**{unit: float(amount) for unit, amount in units})


def flow(slug: str) -> Found:
    return Found("authentik_flows.flow", (("slug", slug),))


# --- The file -----------------------------------------------------------------------------------------


def test_it_is_a_blueprint_that_authentik_applies_by_itself() -> None:
    document = load(BLUEPRINT)
    assert document["version"] == 1
    assert document["metadata"]["name"]
    labels = document["metadata"].get("labels", {})
    assert labels.get("blueprints.goauthentik.io/instantiate", "true") == "true"
    assert all(isinstance(value, str) for value in labels.values())
    assert document.keys() <= {"version", "metadata", "context", "entries"}


def test_it_is_static() -> None:
    text = BLUEPRINT.read_text(encoding="utf-8")
    assert "{{" not in text
    assert "{%" not in text


def required_but_not_made(entries: list[Entry]) -> list[Entry]:
    """Entries without a field: they fail while their object is missing, and change nothing once it exists."""
    return [e for e in entries if e.state == "created" and not e.attrs]


def test_entries_use_models_states_and_fields_that_exist(entries: list[Entry]) -> None:
    for entry in entries:
        fields = fields_of(entry.model)
        assert entry.state in {"present", "created", "absent"}, entry
        assert entry.values.keys() - {"pk"} <= fields.targets.keys(), entry
        is_whole = fields.required <= entry.values.keys()
        assert is_whole or entry.state == "absent" or entry in required_but_not_made(entries), entry
        assert not entry.identifiers.keys() & entry.attrs.keys(), entry
        assert entry.identifiers or entry.model == "authentik_blueprints.metaapplyblueprint", entry


def test_references_have_the_model_their_field_wants(entries: list[Entry]) -> None:
    for entry in entries:
        for name, target in fields_of(entry.model).targets.items():
            value = entry.values.get(name)
            for item in value if isinstance(value, list) else [value]:
                if target is None or item is None:
                    assert not isinstance(item, Found | Reference), (entry, name)
                else:
                    assert isinstance(item, Found | Reference), (entry, name)
                    assert item.model.startswith(target), (entry, name)


CHOICES = {
    "policy_engine_mode": {"any", "all"},
    "severity": {"notice", "warning", "alert"},
    "designation": {"recovery"},
    "type": {"password", "service_account"},
    "intent": {"api"},
}
DURATIONS = {
    *("access_code_validity", "access_token_validity", "refresh_token_validity"),
    *("token_expiry", "session_duration"),
}


def test_choices_and_durations_are_valid(entries: list[Entry]) -> None:
    values = [(name, value) for e in entries for name, value in e.values.items()]
    for name, value in values:
        if name in CHOICES:
            assert value in CHOICES[name], name
        if name in DURATIONS:
            assert duration(value) >= timedelta(0), name
    assert CHOICES.keys() | DURATIONS <= {name for name, _ in values}


# What tells Authentik that an object is the one it made before. Renaming one leaves the old object behind on
# every site that has it, and makes the blueprint fail where another field must be unique (the client id).
IDENTITIES = {
    "authentik_brands.brand": [{"pk": BRAND, "domain": "avatar.example.com:8443"}] * 2,
    "authentik_core.application": [{"slug": "avatar-api"}],
    "authentik_core.group": [
        {"name": "Octopize - Admins"},
        {"name": "Octopize - Users"},
        {"name": "authentik Admins"},
    ],
    "authentik_core.token": [{"identifier": "avatar-api"}, {"identifier": "avatar-api-management-token"}],
    "authentik_core.user": [{"username": "avatar-api"}],
    "authentik_events.notificationrule": [
        {"name": "avatar-notify-api-on-user-events"},
        {"name": "avatar-user-events"},
    ],
    "authentik_events.notificationtransport": [{"name": "avatar-user-events"}],
    "authentik_events.notificationwebhookmapping": [
        {"name": "avatar-webhook-body"},
        {"name": "avatar-webhook-headers"},
    ],
    "authentik_flows.flow": [{"slug": "default-user-settings-flow"}, {"slug": "avatar-recovery-flow"}],
    "authentik_policies_event_matcher.eventmatcherpolicy": [
        {"name": "avatar-match-user-updated"},
        {"name": "avatar-match-user-deleted"},
    ],
    "authentik_policies_expression.expressionpolicy": [{"name": "avatar-recovery-ask-who"}],
    "authentik_policies_password.passwordpolicy": [{"name": "avatar-recovery-password-policy"}],
    "authentik_providers_oauth2.oauth2provider": [{"pk": PROVIDER, "name": "Octopize Avatar"}],
    "authentik_providers_oauth2.scopemapping": [
        {"name": "Octopize Avatar - is_authentik_superuser"},
        {"name": "Octopize Avatar - role"},
        {"name": "Octopize Avatar - license"},
    ],
    "authentik_rbac.role": [{"name": "Octopize Avatar - API"}],
    "authentik_stages_email.emailstage": [
        {"name": "avatar-recovery-email"},
        {"name": "avatar-email-account-confirmation"},
    ],
    "authentik_stages_identification.identificationstage": [
        {"name": "avatar-recovery-identification"},
        {"name": "default-authentication-identification"},
    ],
    "authentik_stages_prompt.prompt": [
        {"name": "avatar-recovery-field-password"},
        {"name": "avatar-recovery-field-password-repeat"},
    ],
    "authentik_stages_prompt.promptstage": [{"name": "avatar-recovery-password"}],
    "authentik_stages_user_login.userloginstage": [{"name": "avatar-recovery-login"}],
    "authentik_stages_user_write.userwritestage": [{"name": "avatar-recovery-write"}],
}


@pytest.mark.parametrize("model", sorted(IDENTITIES))
def test_objects_keep_their_identity(entries: list[Entry], model: str) -> None:
    assert [e.identifiers for e in entries if e.model == model] == IDENTITIES[model]


def test_bindings_are_known_by_what_they_bind(entries: list[Entry]) -> None:
    others = {e.model: e.identifiers.keys() for e in entries if e.model not in IDENTITIES}
    assert others == {
        "authentik_blueprints.metaapplyblueprint": set(),
        "authentik_flows.flowstagebinding": {"target", "stage"},
        "authentik_policies.policybinding": {"target", "policy"},
    }
    for entry in entries:
        if entry.model in others:
            assert entry.identifiers.keys() == others[entry.model], entry


def test_every_id_is_referred_to(entries: list[Entry]) -> None:
    assert {e.id for e in entries if e.id} == set(re.findall(r"!KeyOf ([\w-]+)", BLUEPRINT.read_text("utf-8")))


def test_no_object_is_described_twice(entries: list[Entry]) -> None:
    described = [
        (e.model, e.state, repr(sorted(e.identifiers.items(), key=lambda item: item[0])))
        for e in entries
        if e.identifiers
    ]
    assert len(described) == len(set(described))


def test_what_is_looked_up_was_applied_before(entries: list[Entry]) -> None:
    applied: set[str] = set()
    for entry in entries:
        if entry.model == "authentik_blueprints.metaapplyblueprint":
            applied.add(entry.attrs["identifiers"]["path"])
        if entry in required_but_not_made(entries):
            applied.add(f"default/flow-{entry.values['slug']}.yaml")
        for value in entry.values.values():
            for item in value if isinstance(value, list) else [value]:
                if (
                    isinstance(item, Found)
                    and item != PROVIDER
                    and entry.state != "absent"
                    and item not in entry.conditions
                ):
                    assert source_of(item) in {None, *applied}, f"{entry}: {item} may not exist yet"


def source_of(found: Found) -> str | None:
    """The blueprint of Authentik's that makes an object; none for what it makes before any blueprint."""
    if found == Found("authentik_crypto.certificatekeypair", (("name", "authentik Self-signed Certificate"),)):
        return None
    ((name, value),) = found.where
    if (found.model, name) == ("authentik_flows.flow", "slug") and value.startswith("default-"):
        return f"default/flow-{value}.yaml"
    if (found.model, name) == ("authentik_providers_oauth2.scopemapping", "managed"):
        assert value.startswith("goauthentik.io/providers/oauth2/scope-"), value
        return "system/providers-oauth2.yaml"
    raise AssertionError(f"{found} is not known to exist")


def test_a_missing_dependency_is_an_error_except_the_one_that_removes_itself(entries: list[Entry]) -> None:
    required = {
        e.attrs["identifiers"]["path"]: e.attrs["required"]
        for e in entries
        if e.model == "authentik_blueprints.metaapplyblueprint"
    }
    assert required.pop("system/bootstrap.yaml") is False
    assert required
    assert all(value is True for value in required.values())


# --- Groups -------------------------------------------------------------------------------------------


def test_admin_group(entries: list[Entry]) -> None:
    group = only(entries, "authentik_core.group", name="Octopize - Admins")
    assert group.state == "present"
    assert group.values["is_superuser"] is True
    assert group.values["attributes"] == {"role": "admin", "license": "professional"}


def test_user_group(entries: list[Entry]) -> None:
    group = only(entries, "authentik_core.group", name="Octopize - Users")
    assert group.state == "present"
    assert group.values["is_superuser"] is False
    assert group.values["attributes"] == {"license": "professional"}


# --- Claims -------------------------------------------------------------------------------------------


@dataclass
class Group:
    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


class Groups(list[Group]):
    def order_by(self, name: str) -> list[Group]:
        return sorted(self, key=lambda group: str(getattr(group, name)))


@dataclass
class User:
    """As much of Authentik's user as the expressions may use."""

    groups: list[Group] = field(default_factory=list)
    is_superuser: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    uuid: UUID = field(default_factory=lambda: UUID("7f6d5c4b-3a29-4817-9605-f4e3d2c1b0a9"))

    def all_groups(self) -> Groups:
        return Groups(self.groups)


ADMINS = Group("Octopize - Admins", {"role": "admin", "license": "expert"})
USERS = Group("Octopize - Users", {"license": "starter"})
PLAIN = Group("Accounting")

CLAIMS = ("is_authentik_superuser", "role", "license")


def claim(entries: list[Entry], name: str, user: User) -> Any:
    """What the scope mapping for a claim returns, evaluated with the names Authentik binds."""
    provider = only(entries, "authentik_providers_oauth2.oauth2provider")
    mappings = [named(entries, m) for m in provider.values["property_mappings"] if isinstance(m, Reference)]
    (mapping,) = (m for m in mappings if f'"{name}"' in m.values["expression"])
    context: dict[str, Any] = {"user": user, "request": SimpleNamespace(user=user), "provider": None, "token": None}
    return run_expression(mapping.values["expression"], **context)


def test_the_three_claims_are_on_scope_profile_and_on_the_provider(entries: list[Entry]) -> None:
    mappings = [e for e in entries if e.model == "authentik_providers_oauth2.scopemapping"]
    assert len(mappings) == 3
    assert {m.values["scope_name"] for m in mappings} == {"profile"}
    provider = only(entries, "authentik_providers_oauth2.oauth2provider")
    assert {m.id for m in mappings} <= {getattr(m, "id", None) for m in provider.values["property_mappings"]}


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("groups", [[], [ADMINS], [USERS], [ADMINS, USERS, PLAIN]])
def test_a_mapping_gives_no_claim_but_its_own(entries: list[Entry], name: str, groups: list[Group]) -> None:
    assert claim(entries, name, User(groups, attributes={"role": "root", "license": "x"})).keys() <= {name}


@pytest.mark.parametrize("flag", [True, False])
def test_superuser_claim_is_the_users_flag(entries: list[Entry], flag: bool) -> None:
    result = claim(entries, "is_authentik_superuser", User([ADMINS], is_superuser=flag))
    assert result["is_authentik_superuser"] is flag


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        ([], "user"),
        ([USERS], "user"),
        ([PLAIN], "user"),
        ([ADMINS], "admin"),
        ([USERS, ADMINS], "admin"),
        ([ADMINS, USERS], "admin"),
        ([Group("None", {"role": None})], "user"),
        ([Group("Empty", {"role": ""})], "user"),
        ([ADMINS, Group("Zero", {"role": "auditor"})], "auditor"),
        ([Group("Zero", {"role": "auditor"}), ADMINS], "auditor"),
    ],
)
def test_role_claim(entries: list[Entry], groups: list[Group], role: str) -> None:
    assert claim(entries, "role", User(groups)) == {"role": role}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], {}),
        ([PLAIN], {}),
        ([Group("None", {"license": None})], {}),
        ([Group("Empty", {"license": ""})], {}),
        ([USERS], {"license": "starter"}),
        ([ADMINS], {"license": "expert"}),
        ([ADMINS, PLAIN], {"license": "expert"}),
        ([USERS, ADMINS], {"license": "starter"}),
        ([ADMINS, USERS], {"license": "starter"}),
    ],
)
def test_license_claim_is_left_out_when_no_group_has_one(
    entries: list[Entry], groups: list[Group], expected: dict[str, str]
) -> None:
    assert claim(entries, "license", User(groups)) == expected


@pytest.mark.parametrize(("name", "value"), [("role", "admin"), ("license", "octopize")])
def test_a_users_own_attribute_counts_without_a_group_that_has_one(entries: list[Entry], name: str, value: str) -> None:
    """Octopize's own migration put the role of administrators on the user."""
    own = {"role": "admin", "license": "octopize"}
    assert claim(entries, name, User([PLAIN], attributes=own)) == {name: value}
    group = Group("Zero", {"role": "auditor", "license": "starter"})
    assert claim(entries, name, User([group], attributes=own)) == {name: group.attributes[name]}


# --- Provider, application, brand ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_type", "confidential"),
        ("client_id", ENV[f"{PREFIX}CLIENT_ID"]),
        ("client_secret", ENV[f"{PREFIX}CLIENT_SECRET"]),
        ("grant_types", ["authorization_code", "refresh_token"]),
        ("redirect_uris", [{"matching_mode": "strict", "url": ENV[f"{PREFIX}API_REDIRECT_URI"]}]),
        ("issuer_mode", "per_provider"),
        ("include_claims_in_id_token", True),
        ("sub_mode", "user_uuid"),
        ("authorization_flow", flow("default-provider-authorization-implicit-consent")),
        ("invalidation_flow", flow("default-invalidation-flow")),
        (
            "signing_key",
            Found("authentik_crypto.certificatekeypair", (("name", "authentik Self-signed Certificate"),)),
        ),
    ],
)
def test_provider(entries: list[Entry], name: str, value: Any) -> None:
    provider = only(entries, "authentik_providers_oauth2.oauth2provider")
    assert provider.state == "present"
    assert provider.values[name] == value


@pytest.mark.parametrize(
    ("name", "lifetime"),
    [
        ("access_code_validity", timedelta(minutes=1)),
        ("access_token_validity", timedelta(minutes=5)),
        ("refresh_token_validity", timedelta(days=7)),
    ],
)
def test_token_lifetimes(entries: list[Entry], name: str, lifetime: timedelta) -> None:
    provider = only(entries, "authentik_providers_oauth2.oauth2provider")
    assert duration(provider.values[name]) == lifetime


@pytest.mark.parametrize("scope", ["openid", "email", "offline_access", "profile"])
def test_provider_has_the_standard_scope(entries: list[Entry], scope: str) -> None:
    mappings = only(entries, "authentik_providers_oauth2.oauth2provider").values["property_mappings"]
    managed = f"goauthentik.io/providers/oauth2/scope-{scope}"
    assert mappings.count(Found("authentik_providers_oauth2.scopemapping", (("managed", managed),))) == 1


def test_provider_has_no_other_scopes(entries: list[Entry]) -> None:
    assert len(only(entries, "authentik_providers_oauth2.oauth2provider").values["property_mappings"]) == 7


def test_application(entries: list[Entry]) -> None:
    application = only(entries, "authentik_core.application", slug="avatar-api")
    assert application.state == "present"
    assert application.values["meta_launch_url"] == "https://avatar.example.com:8443/web"
    assert named(entries, application.values["provider"]).model == "authentik_providers_oauth2.oauth2provider"


def present_brand(entries: list[Entry]) -> Entry:
    return only((e for e in entries if e.state == "present"), "authentik_brands.brand")


def test_brand_is_the_public_domain_with_its_port(entries: list[Entry]) -> None:
    assert present_brand(entries).values["domain"] == "avatar.example.com:8443"


def test_brand_has_the_recovery_flow(entries: list[Entry]) -> None:
    recovery = named(entries, present_brand(entries).values["flow_recovery"])
    assert (recovery.model, recovery.values["slug"]) == ("authentik_flows.flow", "avatar-recovery-flow")


def test_brand_leads_to_the_application(entries: list[Entry]) -> None:
    application = named(entries, present_brand(entries).values["default_application"])
    assert (application.model, application.values["slug"]) == ("authentik_core.application", "avatar-api")


def test_the_sign_in_page_links_the_recovery_flow(entries: list[Entry]) -> None:
    model = "authentik_stages_identification.identificationstage"
    stage = only(entries, model, name="default-authentication-identification")
    assert stage.state == "present"
    assert named(entries, stage.values["recovery_flow"]).values["slug"] == "avatar-recovery-flow"
    assert stage.values["user_fields"] == ["email", "username"]


@pytest.mark.parametrize(("name", "file"), [("branding_logo", "brand_logo.png"), ("branding_favicon", "favicon.ico")])
def test_brand_images_are_names_below_the_media_directory(entries: list[Entry], name: str, file: str) -> None:
    value = present_brand(entries).values[name]
    assert value == file
    assert re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*", value)
    assert (AUTHENTIK_DIR / "branding" / file).is_file()


def test_a_new_brand_starts_with_the_usual_flows_and_keeps_others(entries: list[Entry]) -> None:
    start = only((e for e in entries if e.state == "created"), "authentik_brands.brand")
    assert start.attrs == {
        "flow_authentication": flow("default-authentication-flow"),
        "flow_invalidation": flow("default-invalidation-flow"),
        "flow_user_settings": flow("default-user-settings-flow"),
    }
    assert not start.attrs.keys() & present_brand(entries).attrs.keys()
    assert start.position < present_brand(entries).position


# --- Recovery flow ------------------------------------------------------------------------------------

RECOVERY_STAGES = [
    "authentik_stages_identification.identificationstage",
    "authentik_stages_email.emailstage",
    "authentik_stages_prompt.promptstage",
    "authentik_stages_user_write.userwritestage",
    "authentik_stages_user_login.userloginstage",
]


def test_what_the_official_tool_made_is_reused_or_removed(entries: list[Entry]) -> None:
    """Its flow and e-mail stage have our names; its other stages leave the flow, and none names its templates."""
    absent = [e for e in entries if e.state == "absent"]
    bindings = [e for e in absent if e.model == "authentik_flows.flowstagebinding"]
    gone = [e.values["stage"].where for e in bindings]
    assert [dict(where)["name"] for where in gone] == [
        "default-recovery-identification",
        "avatar-recovery-password-stage",
        "avatar-signup-password-ask",
        "default-recovery-user-write",
        "avatar-recovery-user-login",
    ]
    # Authentik stops at the removal of a binding that is not there: each is looked for by itself.
    for binding, ((_, name),) in zip(bindings, gone, strict=True):
        wanted = (("target__slug", "avatar-recovery-flow"), ("stage__name", name))
        assert binding.conditions == [Found("authentik_flows.flowstagebinding", wanted)]
    assert [e.values for e in absent if e not in bindings] == [
        {"identifier": "avatar-api-management-token"},
        {"name": "avatar-notify-api-on-user-events"},
    ]
    templates = {e.values["name"]: e.values["template"] for e in entries if e.model.endswith(".emailstage")}
    assert templates == {
        "avatar-recovery-email": "email/password_reset.html",
        "avatar-email-account-confirmation": "email/account_confirmation.html",
    }


def recovery_bindings(entries: list[Entry]) -> list[Entry]:
    bindings = [
        e
        for e in entries
        if e.model == "authentik_flows.flowstagebinding"
        and e.state != "absent"
        and named(entries, e.values["target"]).values["slug"] == "avatar-recovery-flow"
    ]
    return sorted(bindings, key=lambda e: int(e.values["order"]))


def recovery_stage(entries: list[Entry], model: str) -> Entry:
    (stage,) = (s for s in (named(entries, b.values["stage"]) for b in recovery_bindings(entries)) if s.model == model)
    return stage


def test_recovery_flow(entries: list[Entry]) -> None:
    recovery = only(entries, "authentik_flows.flow", slug="avatar-recovery-flow")
    assert recovery.values["designation"] == "recovery"
    assert recovery.values["authentication"] == "require_unauthenticated"


def test_recovery_stages_in_order(entries: list[Entry]) -> None:
    bindings = recovery_bindings(entries)
    assert [named(entries, b.values["stage"]).model for b in bindings] == RECOVERY_STAGES
    orders = [b.values["order"] for b in bindings]
    assert orders == sorted(set(orders))


def test_recovery_identification_does_not_tell_who_exists(entries: list[Entry]) -> None:
    stage = recovery_stage(entries, "authentik_stages_identification.identificationstage")
    assert stage.values["user_fields"] == ["email", "username"]
    assert stage.values["case_insensitive_matching"] is True
    assert stage.values["pretend_user_exists"] is True
    assert stage.values["show_matched_user"] is False


def test_recovery_token_lives_thirty_minutes_or_less(entries: list[Entry]) -> None:
    stage = recovery_stage(entries, "authentik_stages_email.emailstage")
    added_by_authentik = timedelta(minutes=1)
    lifetime = duration(stage.values["token_expiry"]) + added_by_authentik
    assert timedelta(minutes=5) <= lifetime <= timedelta(minutes=30)


def test_recovery_mail(entries: list[Entry]) -> None:
    stage = recovery_stage(entries, "authentik_stages_email.emailstage")
    assert stage.values["use_global_settings"] is True
    assert stage.values["template"] == "email/password_reset.html"
    assert stage.values["activate_user_on_success"] is False


def test_new_password_is_asked_twice_and_has_a_minimum_length(entries: list[Entry]) -> None:
    stage = recovery_stage(entries, "authentik_stages_prompt.promptstage")
    fields = [named(entries, item).values for item in stage.values["fields"]]
    assert [f["field_key"] for f in sorted(fields, key=lambda f: int(f["order"]))] == ["password", "password_repeat"]
    assert len({f["order"] for f in fields}) == 2
    assert [(f["type"], f["required"]) for f in fields] == [("password", True)] * 2
    (policy,) = (named(entries, item) for item in stage.values["validation_policies"])
    assert policy.model == "authentik_policies_password.passwordpolicy"
    assert policy.values["password_field"] == "password"
    assert policy.values["check_static_rules"] is True
    assert policy.values["length_min"] >= 12
    assert str(policy.values["length_min"]) in policy.values["error_message"]
    assert policy.values["check_have_i_been_pwned"] is False


def test_recovery_creates_no_user(entries: list[Entry]) -> None:
    stage = recovery_stage(entries, "authentik_stages_user_write.userwritestage")
    assert stage.values["user_creation_mode"] == "never_create"


@pytest.mark.parametrize(
    ("context", "asks"), [({}, True), ({"is_restored": None}, True), ({"is_restored": object()}, False)]
)
def test_a_link_of_an_administrator_does_not_ask_who_it_is(
    entries: list[Entry], context: dict[str, Any], asks: bool
) -> None:
    identification = recovery_bindings(entries)[0]
    assert identification.values["evaluate_on_plan"] is False
    assert identification.values["re_evaluate_policies"] is True
    (policy,) = policies_of(entries, identification)
    assert policy.model == "authentik_policies_expression.expressionpolicy"
    assert run_expression(policy.values["expression"], request=SimpleNamespace(context=context)) is asks


def test_no_other_stage_of_the_recovery_can_be_skipped(entries: list[Entry]) -> None:
    """Except by a policy of the official tool's, which always passes, where its database has that."""
    bindings = [e for e in entries if e.model == "authentik_policies.policybinding" and not e.conditions]
    bound = {e.values["target"].id for e in bindings}
    assert not bound & {binding.id for binding in recovery_bindings(entries)[1:]}


def test_who_recovers_is_not_sent_there_again(entries: list[Entry]) -> None:
    """The official tool's sign-in asks those whom it migrated for a new password until its policy has run."""
    (clears,) = (e for e in entries if e.model == "authentik_policies.policybinding" and e.conditions)
    (login,) = (e for e in recovery_bindings(entries) if e.id == clears.values["target"].id)
    assert named(entries, login.values["stage"]).model == "authentik_stages_user_login.userloginstage"
    assert clears.conditions == [clears.values["policy"]]
    assert clears.values["policy"].where == (("name", "avatar-clear-must-reset-password-flag"),)


def policies_of(entries: list[Entry], target: Entry) -> list[Entry]:
    """The policies bound to an entry, in their order; each binding must be effective."""
    bindings = [
        e
        for e in entries
        if e.model == "authentik_policies.policybinding" and e.values["target"].id == (target.id or "-")
    ]
    assert all(b.values["enabled"] is True and b.values["negate"] is False for b in bindings)
    orders = [b.values["order"] for b in bindings]
    assert len(orders) == len(set(orders))
    return [named(entries, b.values["policy"]) for b in sorted(bindings, key=lambda b: int(b.values["order"]))]


# --- Account of the API -------------------------------------------------------------------------------


def test_api_account_is_a_service_account(entries: list[Entry]) -> None:
    user = only(entries, "authentik_core.user", username="avatar-api")
    assert user.state == "present"
    assert user.values["type"] == "service_account"
    assert user.values["is_active"] is True
    assert "password" not in user.values


def test_api_account_may_read_users_and_nothing_else(entries: list[Entry]) -> None:
    user = only(entries, "authentik_core.user", username="avatar-api")
    (role,) = (named(entries, item) for item in user.values["roles"])
    assert role.model == "authentik_rbac.role"
    assert role.values["permissions"] == ["authentik_core.view_user"]
    assert user.values["groups"] == []
    assert "permissions" not in user.values
    members = [e for e in entries if e.model == "authentik_core.group" and e.values.keys() & {"users", "roles"}]
    assert not members


def test_api_token_never_expires_and_has_the_apis_key(entries: list[Entry]) -> None:
    token = only(entries, "authentik_core.token")
    assert token.state == "present"
    assert named(entries, token.values["user"]).values["username"] == "avatar-api"
    assert token.values["intent"] == "api"
    assert token.values["expiring"] is False
    assert "expires" not in token.values
    assert token.values["key"] == ENV[f"{PREFIX}API_TOKEN"]


def test_the_bootstrap_token_stays_with_authentik() -> None:
    assert not any("BOOTSTRAP" in name for name in blueprint_env_names(BLUEPRINT))


# --- User events --------------------------------------------------------------------------------------


def user_rule(entries: list[Entry]) -> Entry:
    return only(entries, "authentik_events.notificationrule")


def user_transport(entries: list[Entry]) -> Entry:
    (transport,) = (named(entries, item) for item in user_rule(entries).values["transports"])
    return transport


def test_rule_fires_for_updated_and_deleted_users(entries: list[Entry]) -> None:
    policies = policies_of(entries, user_rule(entries))
    assert {p.model for p in policies} == {"authentik_policies_event_matcher.eventmatcherpolicy"}
    criteria = [{k: v for k, v in p.values.items() if k != "name"} for p in policies]
    assert criteria == [
        {"action": "model_updated", "model": "authentik_core.user"},
        {"action": "model_deleted", "model": "authentik_core.user"},
    ]


def test_rule_goes_to_the_group_of_authentiks_administrators(entries: list[Entry]) -> None:
    rule = user_rule(entries)
    assert rule.state == "present"
    group = named(entries, rule.values["destination_group"])
    assert group.values["name"] == "authentik Admins"
    assert rule.values["destination_event_user"] is False


def test_the_first_account_may_open_avatar(entries: list[Entry]) -> None:
    """Authentik's bootstrap puts `akadmin` into this group."""
    group = only(entries, "authentik_core.group", name="authentik Admins")
    assert group.attrs == {"is_superuser": True, "attributes": {"role": "admin", "license": "expert"}}
    akadmin = User([Group("authentik Admins", group.attrs["attributes"])])
    assert claim(entries, "role", akadmin) == {"role": "admin"}
    assert claim(entries, "license", akadmin) == {"license": "expert"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("mode", "webhook"), ("webhook_url", ENV[f"{PREFIX}API_WEBHOOK_URL"]), ("send_once", True)],
)
def test_transport(entries: list[Entry], name: str, value: Any) -> None:
    assert user_transport(entries).state == "present"
    assert user_transport(entries).values[name] == value


KNOWN_USER = User()


def user_by(**filters: Any) -> User | None:
    """Stands in for Authentik's `ak_user_by`: user 42 exists."""
    assert filters.keys() == {"pk"}
    return KNOWN_USER if filters["pk"] == 42 else None


def event(action: str, model: Any) -> SimpleNamespace:
    return SimpleNamespace(action=action, context={} if model is None else {"model": model}, user={"pk": 42})


def user_model(pk: Any) -> dict[str, Any]:
    return {"app": "authentik_core", "model_name": "user", "pk": pk, "name": "Ada"}


@pytest.mark.parametrize(
    ("occurred", "user_uuid", "action"),
    [
        pytest.param(event("model_updated", user_model(42)), str(KNOWN_USER.uuid), "model_updated", id="updated"),
        pytest.param(event("model_deleted", user_model(42)), str(KNOWN_USER.uuid), "model_deleted", id="going"),
        pytest.param(event("model_deleted", user_model(43)), None, "model_deleted", id="deleted"),
        pytest.param(event("model_updated", user_model(None)), None, "model_updated", id="no key"),
        pytest.param(
            event("model_updated", {"app": "authentik_core", "model_name": "group", "pk": 42}),
            None,
            "model_updated",
            id="another model",
        ),
        pytest.param(
            event("model_updated", {"app": "elsewhere", "model_name": "user", "pk": 42}),
            None,
            "model_updated",
            id="another app",
        ),
        pytest.param(event("custom_test", None), None, "custom_test", id="no model"),
        pytest.param(SimpleNamespace(action="x", context={"model": None}, user={}), None, "x", id="model is null"),
        pytest.param(None, None, None, id="no event"),
    ],
)
def test_webhook_body(entries: list[Entry], occurred: Any, user_uuid: str | None, action: str | None) -> None:
    mapping = named(entries, user_transport(entries).values["webhook_mapping_body"])
    recipient = User([ADMINS], uuid=UUID(int=1))
    result = run_expression(
        mapping.values["expression"],
        {"ak_user_by": user_by},
        user=recipient,
        request=SimpleNamespace(user=recipient),
        notification=SimpleNamespace(event=occurred, body="what happened", user=recipient),
    )
    assert result == {"user_uuid": user_uuid, "action": action, "body": "what happened"}
    assert json.loads(json.dumps(result)) == result


def headers(entries: list[Entry]) -> Any:
    mapping = named(entries, user_transport(entries).values["webhook_mapping_headers"])
    return run_expression(mapping.values["expression"], user=None, request=None, notification=None)


@pytest.mark.parametrize("secret", ["s3cr3t-from-the-environment", "a_second-one", "{x}%s$HOME"])
def test_webhook_header_is_read_when_it_is_sent(
    entries: list[Entry], monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv(WEBHOOK_SECRET, secret)
    assert headers(entries) == {"Authorization": f"Bearer {secret}"}


def test_nothing_is_sent_without_the_secret(entries: list[Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEBHOOK_SECRET, raising=False)
    with pytest.raises(KeyError, match=WEBHOOK_SECRET):
        headers(entries)
    monkeypatch.setenv(WEBHOOK_SECRET, "")
    with pytest.raises(ValueError, match=WEBHOOK_SECRET):
        headers(entries)


# --- Environment and secrets --------------------------------------------------------------------------


def test_environment_the_worker_needs() -> None:
    assert blueprint_env_names(BLUEPRINT) == {*ENV, WEBHOOK_SECRET}


@pytest.mark.parametrize("name", sorted(ENV))
def test_a_variable_that_is_missing_or_empty_is_refused(name: str) -> None:
    for env in ({k: v for k, v in ENV.items() if k != name}, {**ENV, name: ""}):
        with pytest.raises(BlueprintError, match=name):
            resolve(BLUEPRINT, env)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (f"{PREFIX}CLIENT_SECRET", ("authentik_providers_oauth2.oauth2provider", "client_secret")),
        (f"{PREFIX}API_TOKEN", ("authentik_core.token", "key")),
    ],
)
def test_a_secret_goes_to_one_place(entries: list[Entry], name: str, place: tuple[str, str]) -> None:
    places = [(e.model, key) for e in entries for key, value in e.values.items() if ENV[name] in repr(value)]
    assert places == [place]


def test_the_webhook_secret_is_never_stored() -> None:
    assert f"!Env {WEBHOOK_SECRET}" not in BLUEPRINT.read_text(encoding="utf-8")
    readers = [source for source in expressions(load(BLUEPRINT)) if WEBHOOK_SECRET in source]
    assert len(readers) == 1


def test_expressions_hold_no_secret(entries: list[Entry]) -> None:
    sources = expressions(load(BLUEPRINT))
    assert len(sources) == 6
    for source in sources:
        assert not isinstance(source, Tag)
        words = set(re.findall(r"[A-Za-z0-9_+/=-]{20,}", source)) - {WEBHOOK_SECRET, "is_authentik_superuser"}
        assert not words, f"looks like a secret: {words}"
        assert not any(value in source for value in ENV.values())
    assert all(isinstance(e.values.get("expression", ""), str) for e in entries)


# --- Images -------------------------------------------------------------------------------------------


def test_logo_is_a_small_png() -> None:
    data = (AUTHENTIK_DIR / "branding" / "brand_logo.png").read_bytes()
    assert png_size(data) == (96, 96)
    assert len(data) < 4096


def test_favicon_is_a_small_icon() -> None:
    data = (AUTHENTIK_DIR / "branding" / "favicon.ico").read_bytes()
    assert ico_sizes(data) == [(16, 16), (32, 32)]
    assert len(data) < 4096


def test_a_damaged_image_is_noticed() -> None:
    logo = bytearray((AUTHENTIK_DIR / "branding" / "brand_logo.png").read_bytes())
    logo[60] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        png_size(bytes(logo))
    icon = (AUTHENTIK_DIR / "branding" / "favicon.ico").read_bytes()
    with pytest.raises(ValueError, match="follows"):
        ico_sizes(icon + b"\0")


# --- The reader of these tests ------------------------------------------------------------------------

HEAD = "version: 1\nentries:\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "blueprint.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}  - model: !Secret x", "unknown tag !Secret"),
        (f"{HEAD}  - model: !!python/name:os.system x", "python/name"),
        (f"{HEAD}  - model: a.b\n    model: a.c", "written twice"),
        (f"{HEAD}  - modle: a.b", "unknown keys"),
        (f"{HEAD}  - attrs: {{x: !KeyOf later}}\n  - id: later", "no earlier entry"),
        (f"{HEAD}  - id: same\n  - id: same", "given twice"),
        (f"{HEAD}  - attrs: {{x: !Find [a.b]}}", "wants conditions"),
        (f"{HEAD}  - attrs: {{x: !Find [a.b, [slug]]}}", "wants conditions"),
        (f"{HEAD}  - attrs: {{x: !Find [a.b, slug]}}", "wants conditions"),
        (f"{HEAD}  - attrs: {{x: !Env MISSING}}", "MISSING"),
        (f"{HEAD}  - attrs: {{x: !Env [MISSING, !Env SET]}}", "MISSING"),
        (f"{HEAD}  - attrs: {{x: !Context missing}}", "missing"),
        (f"{HEAD}  - attrs: {{x: !Format ['%s/%s', !Env SET]}}", "not enough"),
        (f"{HEAD}  - attrs: {{x: !Format ['%s', !Find [a.b, [c, d]]]}}", "would print"),
        (f"{HEAD}  - attrs: {{x: !If [true, 1, 2]}}", "teach the resolver"),
        ("version: 1", "list of entries"),
    ],
)
def test_reader_refuses(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BlueprintError, match=re.escape(message)):
        resolve(written(tmp_path, text), {"SET": "value"})


def test_reader_resolves(tmp_path: Path) -> None:
    text = (
        "version: 1\ncontext: {name: !Env SET}\nentries:\n  - model: a.b\n    id: one\n"
        "  - model: a.c\n    identifiers: {slug: !Context name}\n    attrs:\n"
        "      key: !KeyOf one\n      url: !Format ['%s/web', !Env SET]\n"
        "      list: [!Env [MISSING, fallback], !Context [missing, 7]]\n"
        "      found: !Find [a.b, [slug, !Env SET]]\n"
    )
    entry = resolve(written(tmp_path, text), {"SET": "value"})[1]
    assert entry.values == {
        "slug": "value",
        "key": Reference("one", "a.b"),
        "url": "value/web",
        "list": ["fallback", 7],
        "found": Found("a.b", (("slug", "value"),)),
    }


def test_environment_names_come_from_tags_at_any_depth_and_from_expressions(tmp_path: Path) -> None:
    text = (
        "version: 1\ncontext: {a: !Env IN_CONTEXT}\nentries:\n"
        "  - model: a.b\n    conditions: [!If [!Env IN_CONDITION, true, false]]\n"
        "    identifiers: {x: !Format ['%s', !Env IN_FORMAT]}\n"
        "    attrs:\n      found: !Find [a.b, [slug, !Env [IN_FIND, none]]]\n      expression: |\n"
        "        import os\n        from os import environ, getenv\n"
        "        return [os.environ['A'], os.environ.get('B'), os.getenv('C', 'x'), environ['D'], getenv('E')]\n"
    )
    assert blueprint_env_names(written(tmp_path, text)) == {
        *("IN_CONTEXT", "IN_CONDITION", "IN_FORMAT", "IN_FIND"),
        *("A", "B", "C", "D", "E"),
    }


def test_a_computed_environment_name_is_refused(tmp_path: Path) -> None:
    text = f"{HEAD}  - attrs:\n      expression: |\n        import os\n        return os.environ['A' + 'B']\n"
    with pytest.raises(BlueprintError, match="computed"):
        blueprint_env_names(written(tmp_path, text))


@pytest.mark.parametrize("environment", [{"A": "1", "B": None}, ["A=1", "B"]])
def test_service_environment_reads_both_notations(environment: Any) -> None:
    compose = {"services": {"authentik_worker": {"environment": environment}}}
    assert service_environment(compose, "authentik_worker") == {"A", "B"}
