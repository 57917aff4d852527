"""The plan of every secret: a value on disk is kept, a given one accepted, others generated once or left pending."""

from __future__ import annotations

import pytest

from setup.config.model import Given, Source
from setup.config.secrets import SECRETS
from setup.secrets import guards
from setup.secrets import plan as secrets_plan
from setup.secrets.plan import Origin, SecretFile
from setup.volume.layout import secret_path
from tests.support.deployments import MAIL, given, values

HIDDEN = "hunter2-and-more"
BOUND = sorted(name for name, secret in SECRETS.items() if secret.bound)
UNBOUND = sorted(set(SECRETS) - {*BOUND})


def everything(**said: str):
    """Return values under which most secrets apply; mail and sign-in decide about the rest."""
    return values(AVATAR_API_VERSION="2.30", **said)


def values_with(name: str):
    """Return values under which a secret applies."""
    for said in ({}, {"MAIL_PROVIDER": "aws"}, {"AUTH_TYPE": "username"}):
        v = everything(**said)
        if SECRETS[name].when(v):
            return v
    raise AssertionError(name)


def said(name: str, text: str) -> dict[str, Given]:
    return given(Source.ENVIRONMENT, {name: text})


def plan_of(name: str, on_disk: str | None = None, text: str | None = None) -> secrets_plan.Planned:
    return secrets_plan.plan_secrets(values_with(name), {name: on_disk}, said(name, text) if text else {})[name]


# --- one secret ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("on_disk", ["the value", " x "])
def test_a_value_on_the_volume_is_kept(name, on_disk):
    one = plan_of(name, on_disk)
    assert (one.text, one.origin, one.file) == (on_disk, Origin.KEPT, None)


@pytest.mark.parametrize("name", SECRETS)
def test_a_line_end_behind_a_value_is_dropped_unless_data_is_bound_to_it(name):
    one = plan_of(name, "the value\n")
    if secrets_plan.is_bound(SECRETS[name], values_with(name)):
        assert (one.text, one.file) == ("the value\n", None)
    else:
        assert (one.text, one.file) == ("the value", SecretFile(name, "the value", replace=True))


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("on_disk", [None, ""])
def test_a_given_value_is_accepted(name, on_disk):
    """Any secret may be supplied on the first run, also one that would be generated."""
    one = plan_of(name, on_disk, "given")
    assert one.origin is Origin.GIVEN
    assert one.file == SecretFile(name, "given", replace=False)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("ending", ["", "\n"])
def test_the_same_value_again_changes_nothing(name, ending):
    one = plan_of(name, "same" + ending, "same")
    assert (one.origin, one.file) == (Origin.KEPT, None)
    assert guards.find_contradicted(values_with(name), {name: "same" + ending}, said(name, "same")) == []


@pytest.mark.parametrize("name", BOUND)
def test_a_bound_secret_does_not_follow_its_source(name):
    one = plan_of(name, "old", "new")
    assert (one.text, one.file) == ("old", None)
    assert guards.find_contradicted(values_with(name), {name: "old"}, said(name, "new")) == [SECRETS[name]]


@pytest.mark.parametrize("name", UNBOUND)
def test_an_unbound_secret_follows_its_source_like_a_setting(name):
    one = plan_of(name, "old", "new")
    assert one.file == SecretFile(name, "new", replace=True)
    assert one.replaces
    assert guards.find_contradicted(values_with(name), {name: "old"}, said(name, "new")) == []


@pytest.mark.parametrize("name", [name for name, secret in SECRETS.items() if secret.generate])
@pytest.mark.parametrize("on_disk", [None, ""])
def test_a_missing_secret_is_generated(name, on_disk):
    one = plan_of(name, on_disk)
    assert one.origin is Origin.GENERATED
    assert one.file == SecretFile(name, one.text, replace=False)
    assert one.text != plan_of(name, on_disk).text


@pytest.mark.parametrize("name", [name for name, secret in SECRETS.items() if secret.customary])
def test_a_customary_value_is_used_by_default(name):
    one = plan_of(name)
    assert (one.origin, one.file) == (Origin.CUSTOMARY, SecretFile(name, SECRETS[name].customary))


@pytest.mark.parametrize(
    "name", [name for name, secret in SECRETS.items() if not secret.generate and secret.customary is None]
)
def test_an_operators_secret_gets_an_empty_file_once(name):
    assert plan_of(name).file == SecretFile(name, "", replace=False)
    assert plan_of(name, "").file is None
    assert plan_of(name).origin is plan_of(name, "").origin is Origin.PENDING


@pytest.mark.parametrize("name", ["db_admin_user", "db_admin_password"])
def test_an_external_databases_administrator_is_the_operators(name):
    v = values(DB_HOST="pg.example.com")
    one = secrets_plan.plan_secrets(v, {}, {})[name]
    assert (one.origin, one.text) == (Origin.PENDING, "")
    assert SECRETS[name] in secrets_plan.list_pending(v, {})
    assert secrets_plan.plan_secrets(v, {}, said(name, "x"))[name].origin is Origin.GIVEN
    assert SECRETS[name] not in secrets_plan.list_pending(v, {name: "x"})


def test_a_second_plan_before_the_first_is_written_has_the_same_values():
    minted: dict[str, str] = {}
    first = secrets_plan.plan_secrets(values(), {}, {}, minted)
    assert secrets_plan.plan_secrets(values(), {}, {}, minted) == first
    assert secrets_plan.plan_secrets(values(), {}, {}, {}) != first
    assert minted == {name: one.text for name, one in first.items() if one.origin is Origin.GENERATED}


def test_only_secrets_that_apply_are_planned():
    aws = everything(MAIL_PROVIDER="aws")
    assert "smtp_password" not in secrets_plan.plan_secrets(aws, {"smtp_password": "old"}, {})
    assert "pepper" not in secrets_plan.plan_secrets(values(), {}, said("pepper", "x"))


# --- lost, contradicted, pending ----------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("on_disk", [{}, {"x": None}, {"x": ""}], ids=["unknown", "missing", "empty"])
def test_a_secret_that_had_a_value_and_is_missing_is_lost(name, on_disk):
    found = {name: on_disk["x"]} if on_disk else {}
    v = values_with(name)
    assert guards.find_lost(v, found, {name: 1}) == ([SECRETS[name]] if SECRETS[name].needed(v) else [])


def test_a_secret_is_not_lost_if_it_never_had_a_value_or_has_one_or_does_not_apply():
    v = values()
    assert guards.find_lost(v, {}, {}) == []
    assert guards.find_lost(v, {"db_password": "x"}, {"db_password": 3}) == []
    assert guards.find_lost(v, {}, {"pepper": 1, "smtp_password": 1}) == []


def test_a_secret_without_a_value_is_not_contradicted():
    assert guards.find_contradicted(values(), {"db_password": ""}, said("db_password", "new")) == []
    assert guards.find_contradicted(values(), {}, said("db_password", "new")) == []


@pytest.mark.parametrize(
    ("name", "said", "asked"),
    [
        ("organization_name", {}, True),
        ("db_name", {}, True),
        ("db_admin_password", {}, False),
        ("db_admin_password", {"DB_HOST": "pg.example.com"}, True),
        ("db_password", {"DB_HOST": "pg.example.com"}, False),
        ("telemetry_s3_access_key_id", {}, False),
        ("telemetry_s3_access_key_id", {"TELEMETRY_ENABLED": "yes", "TELEMETRY_S3_BUCKET_NAME": "b"}, True),
        ("smtp_password", MAIL, False),
        ("smtp_password", MAIL | {"SMTP_USERNAME": "avatar"}, True),
    ],
)
def test_the_operator_is_asked_for_needed_secrets(name, said, asked):
    """The operator's secrets, where they are needed or have a customary value; never what is generated."""
    assert secrets_plan.is_asked(SECRETS[name], values(**said)) is asked


@pytest.mark.parametrize(("text", "is_pending"), [("", True), ("x", False)])
def test_pending_is_needed_and_empty(text, is_pending):
    found = secrets_plan.list_pending(values(), {"organization_name": text, "db_name": "avatar", "db_password": "x"})
    assert (SECRETS["organization_name"] in found) is is_pending
    assert SECRETS["telemetry_s3_access_key_id"] not in found, "not needed with telemetry off"


# --- generations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "replaces", "made", "announced", "count"),
    [
        ("", False, 0, 0, 0),
        ("x", False, 0, 0, 1),
        ("x", False, 1, 0, 1),
        ("x", False, 5, 0, 5),
        ("x", True, 1, 0, 2),
        ("x", True, 5, 0, 6),
        ("x", True, 0, 0, 1),
        ("x", False, 1, 2, 2),
        ("x", True, 1, 2, 2),
    ],
)
def test_generations_count_the_values_of_a_secret(text, replaces, made, announced, count):
    """An announced number holds after a crash: the secret may have been published already."""
    planned = {"db_name": secrets_plan.Planned("db_name", text, Origin.GIVEN, present=True, replaces=replaces)}
    before, output = {"db_name": made} if made else {}, {"db_name": announced} if announced else {}
    assert secrets_plan.count_generations(planned, before, output) == {"db_name": count}


# --- given and hand-filled texts ----------------------------------------------------------------

MULTIPLE_LINES = "one\ntwo"
BAD = dict.fromkeys(SECRETS, MULTIPLE_LINES) | {"storage_encryption_key": HIDDEN, "file_encryption_key": HIDDEN}


@pytest.mark.parametrize("name", SECRETS)
def test_an_invalid_given_secret_is_named_and_not_shown(name):
    good, (problem,) = secrets_plan.parse_given(said(name, HIDDEN + BAD[name]))
    assert good == {}
    assert problem.startswith(f"{name.upper()} (environment): ")
    assert HIDDEN not in problem or name == "admin_emails"
    assert problem.endswith("(its value is not shown)") is SECRETS[name].masked


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" ", "blank"),
        ("\u00a0", "blank"),
        ("a\rb", "U+000D"),
        ("a\x00b", "U+0000"),
        ("x" * 5000, "4096"),
    ],
)
def test_invalid_texts_are_refused_for_every_secret(text, words):
    for name in ("db_password", "organization_name"):
        _, (problem,) = secrets_plan.parse_given(said(name, text))
        assert problem.startswith(f"{name.upper()} (environment): it ")
        assert words in problem
        assert len(problem) < 200


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("admin_emails", "Ada@Example.com, bob@b.example", "Ada@example.com,bob@b.example"),
        ("db_password", ' it\'s "$5" #1 \\ ', ' it\'s "$5" #1 \\ '),
        ("organization_name", "Müller & Söhne", "Müller & Söhne"),
        ("storage_encryption_key", "Ab" * 32, "Ab" * 32),
        ("file_encryption_key", "_-" * 21 + "A=", "_-" * 21 + "A="),
    ],
)
def test_given_secrets_get_the_spelling_of_their_kind(name, text, shown):
    assert secrets_plan.parse_given(said(name, text)) == ({name: Given(shown, Source.ENVIRONMENT)}, [])


def test_all_problems_are_reported_at_once():
    good, problems = secrets_plan.parse_given(
        given(Source.CONFIG_FILE, {"db_password": "a\nb", "db_user": "x", "pepper": ""})
    )
    assert set(good) == {"db_user"}
    assert [problem.partition(" ")[0] for problem in problems] == ["DB_PASSWORD", "PEPPER"]


def test_an_invalid_value_that_is_not_masked_may_be_shown():
    _, (problem,) = secrets_plan.parse_given(said("admin_emails", "Ada"))
    assert "'Ada' is not an e-mail address" in problem


@pytest.mark.parametrize("name", SECRETS)
def test_an_invalid_secret_in_a_file_is_named_by_its_path(name):
    (problem,) = secrets_plan.check_filled({name: HIDDEN + BAD[name]})
    assert problem.startswith(f".secrets/{name}: ")
    assert HIDDEN not in problem or not SECRETS[name].masked


def test_a_secret_in_a_file_may_end_with_a_newline():
    assert secrets_plan.check_filled({"db_name": "avatar\n", "admin_emails": "ada@example.com, b@c.de\n"}) == []


def test_the_generators_are_named_by_the_rows():
    assert {secret.generate for secret in SECRETS.values()} - {None} == {*secrets_plan.GENERATORS}
    assert all(secret.customary is None for secret in SECRETS.values() if secret.generate)


def test_the_path_of_a_secret():
    assert secret_path("db_name") == ".secrets/db_name"
