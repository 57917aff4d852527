"""The SSO blueprint against the JSON schemas of blueprints that Authentik publishes, release by release.

`authentik-schemas.json.xz` has `blueprints/schema.json` of four releases, whole, as one object: release -> schema. A
published schema accepts a field that it does not know, as the importer does, which then drops it. Here such a field is
an error. A reference to another object becomes the kind of key that the schema wants in its place.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import lzma
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft7Validator, FormatChecker

from tests.support.blueprint import BLUEPRINT, Entry, Found, Reference, load, resolve
from tests.unit.deploy.test_blueprint import ENV

SCHEMAS = Path(__file__).with_name("authentik-schemas.json.xz")
RELEASES = ("2025.10.4", "2025.12.4", "2026.2.2", "2026.5.0-rc1")
KEYS = {"integer": 7, "string": "2b0c7a4e-6f1d-4c0e-9a55-0d3c1f0e8b21"}  # the two kinds of primary keys

Document = dict[str, Any]


class Mismatch(NamedTuple):
    """Where a schema disagrees with the blueprint: the entry's model, the field, and the schema's keyword."""

    model: str
    field: str
    keyword: str


# Fields that the release's importer takes or drops although its schema does not have them.
# `grant_types`: required from 2026.5 on, whose schema was published before it; earlier releases have no such field.
# `roles` of a user: from 2025.12 on. On 2025.10 it is dropped, and the API's account reads nothing.
# `pk` of the brand and the provider: the primary key, by which the importer also finds an object; no field of it.
EXCEPTIONS = {
    release: {
        Mismatch("authentik_providers_oauth2.oauth2provider", "grant_types", "additionalProperties"),
        Mismatch("authentik_providers_oauth2.oauth2provider", "pk", "additionalProperties"),
        Mismatch("authentik_brands.brand", "pk", "additionalProperties"),
    }
    for release in RELEASES
}
EXCEPTIONS["2025.10.4"].add(Mismatch("authentik_core.user", "roles", "additionalProperties"))


@cache
def schemas() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lzma.decompress(SCHEMAS.read_bytes()))
    return found


def alternatives(release: str) -> dict[str, dict[str, Any]]:
    """Model -> what an entry of it must be; fields that the schema does not know are refused."""
    schema = copy.deepcopy(schemas()[release])
    for name, definition in schema["$defs"].items():
        if name.startswith("model_") and definition["type"] == "object":
            definition["additionalProperties"] = False
    found = {}
    for entry in schema["$defs"]["blueprint_entry"]["oneOf"]:
        found[entry["properties"]["model"]["const"]] = entry | {
            "additionalProperties": False,
            "$defs": schema["$defs"],
        }
    return found


@cache
def validators(release: str) -> dict[str, Draft7Validator]:
    return {
        model: Draft7Validator(entry, format_checker=FormatChecker()) for model, entry in alternatives(release).items()
    }


def keyed(value: Any, schema: Any) -> Any:
    """The value with each reference replaced by a key, if the schema allows one there."""
    if isinstance(value, Found | Reference):
        kind = schema.get("type")
        is_key = kind == "integer" or schema.get("format") == "uuid"
        return KEYS[kind] if is_key else {"reference": value.model}
    if isinstance(value, list):
        return [keyed(item, schema.get("items", {})) for item in value]
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        return {name: keyed(item, fields.get(name, {})) for name, item in value.items()}
    return value


def document(release: str, entries: list[Entry]) -> Document:
    """The blueprint as this release's schema sees it, without YAML tags."""
    known = schemas()[release]["$defs"]
    listed = []
    for entry in entries:
        fields = known.get(f"model_{entry.model}", {})
        row = {"model": entry.model, "state": entry.state, "attrs": keyed(entry.attrs, fields)}
        if entry.identifiers:
            row["identifiers"] = keyed(entry.identifiers, fields)
        if entry.id:
            row["id"] = entry.id
        listed.append(row)
    return {**load(BLUEPRINT), "entries": listed}


def mismatches(release: str, blueprint: Document) -> Iterator[Mismatch]:
    """Everything in the blueprint's entries that the release's schema does not allow."""
    for entry in blueprint["entries"]:
        if entry["model"] not in validators(release):
            yield Mismatch(entry["model"], "model", "const")
            continue
        for error in validators(release)[entry["model"]].iter_errors(entry):
            if error.validator == "additionalProperties":
                known = error.schema.get("properties", {})
                for name in error.instance.keys() - known.keys():
                    yield Mismatch(entry["model"], name, "additionalProperties")
            else:
                fields = [str(part) for part in error.absolute_path if part not in {"attrs", "identifiers"}]
                yield Mismatch(entry["model"], ".".join(fields), str(error.validator))


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return resolve(BLUEPRINT, ENV)


@pytest.mark.parametrize("release", RELEASES)
def test_the_schema_is_the_one_that_authentik_publishes(release: str) -> None:
    schema = schemas()[release]
    assert schema["title"] == f"authentik {release} Blueprint schema"
    assert len(alternatives(release)) > 90
    Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("release", RELEASES)
def test_the_document_is_valid_as_published(release: str, entries: list[Entry]) -> None:
    errors = Draft7Validator(schemas()[release], format_checker=FormatChecker()).iter_errors(document(release, entries))
    assert [error.message[:300] for error in errors] == []


@pytest.mark.parametrize("release", RELEASES)
def test_every_field_is_known_but_for_the_named_exceptions(release: str, entries: list[Entry]) -> None:
    assert set(mismatches(release, document(release, entries))) == EXCEPTIONS[release]


# --- What the tests above would catch ---------------------------------------------------------------------


def entry_of(blueprint: Document, model: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in blueprint["entries"] if entry["model"] == model)
    return found


PROVIDER, ROLE, STAGE = (
    "authentik_providers_oauth2.oauth2provider",
    "authentik_rbac.role",
    "authentik_stages_email.emailstage",
)


def _misspell_field(blueprint: Document) -> Mismatch:
    attrs = entry_of(blueprint, PROVIDER)["attrs"]
    attrs["access_token_validty"] = attrs.pop("access_token_validity")
    return Mismatch(PROVIDER, "access_token_validty", "additionalProperties")


def _misspell_identifier(blueprint: Document) -> Mismatch:
    identifiers = entry_of(blueprint, ROLE)["identifiers"]
    identifiers["nome"] = identifiers.pop("name")
    return Mismatch(ROLE, "nome", "additionalProperties")


def _misspell_key_of_the_entry(blueprint: Document) -> Mismatch:
    entry = entry_of(blueprint, ROLE)
    entry["attr"] = entry.pop("attrs")
    return Mismatch(ROLE, "attr", "additionalProperties")


def _misspell_nested_field(blueprint: Document) -> Mismatch:
    entry_of(blueprint, PROVIDER)["attrs"]["redirect_uris"][0]["matching_mode"] = "exactly"
    return Mismatch(PROVIDER, "redirect_uris.0.matching_mode", "enum")


def _give_text_for_a_boolean(blueprint: Document) -> Mismatch:
    entry_of(blueprint, STAGE)["attrs"]["use_global_settings"] = "true"
    return Mismatch(STAGE, "use_global_settings", "type")


def _give_text_for_a_reference(blueprint: Document) -> Mismatch:
    entry_of(blueprint, PROVIDER)["attrs"]["signing_key"] = "authentik Self-signed Certificate"
    return Mismatch(PROVIDER, "signing_key", "format")


def _give_an_unknown_choice(blueprint: Document) -> Mismatch:
    entry_of(blueprint, PROVIDER)["attrs"]["sub_mode"] = "uuid"
    return Mismatch(PROVIDER, "sub_mode", "enum")


def _give_an_unknown_permission(blueprint: Document) -> Mismatch:
    entry_of(blueprint, ROLE)["attrs"]["permissions"] = ["authentik_core.read_user"]
    return Mismatch(ROLE, "permissions.0", "enum")


def _give_an_unknown_state(blueprint: Document) -> Mismatch:
    entry_of(blueprint, ROLE)["state"] = "deleted"
    return Mismatch(ROLE, "state", "enum")


def _name_an_unknown_model(blueprint: Document) -> Mismatch:
    entry_of(blueprint, ROLE)["model"] = "authentik_rbac.rolle"
    return Mismatch("authentik_rbac.rolle", "model", "const")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    "mutate",
    [
        _misspell_field,
        _misspell_identifier,
        _misspell_key_of_the_entry,
        _misspell_nested_field,
        _give_text_for_a_boolean,
        _give_text_for_a_reference,
        _give_an_unknown_choice,
        _give_an_unknown_permission,
        _give_an_unknown_state,
        _name_an_unknown_model,
    ],
)
def test_a_wrong_blueprint_is_refused(
    release: str, entries: list[Entry], mutate: Callable[[Document], Mismatch]
) -> None:
    blueprint = document(release, entries)
    expected = mutate(blueprint)
    assert set(mismatches(release, blueprint)) - EXCEPTIONS[release] == {expected}


@pytest.mark.parametrize("release", RELEASES)
def test_a_reference_is_refused_where_the_schema_wants_text(release: str, entries: list[Entry]) -> None:
    reference = Reference("claim-role", "authentik_providers_oauth2.scopemapping")
    changed = [
        dataclasses.replace(entry, attrs={**entry.attrs, "sub_mode": reference}) if entry.model == PROVIDER else entry
        for entry in entries
    ]
    found = set(mismatches(release, document(release, changed))) - EXCEPTIONS[release]
    assert {(mismatch.model, mismatch.field) for mismatch in found} == {(PROVIDER, "sub_mode")}
