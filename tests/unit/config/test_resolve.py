"""The one precedence of all sources: who wins, what is remembered, and how a problem is told."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from setup.config.derived import AWS_MAIL_HOST
from setup.config.model import Given, Source
from setup.config.resolver import Resolution, canonical, changes, missing_text, resolve
from setup.config.settings import SETTINGS
from setup.config.sources import gather
from setup.config.values import Unavailable, Values
from setup.configure import DeploymentConfigurator, find_templates
from tests.support.deployments import REQUIRED, given, resolution

KEY = "ENV_NAME"  # plain enough to carry the name of the source that won
PLACES = ("default", "defaults file", "preset", "saved", "config file", "environment", "caller", "answer")


def ask(
    *,
    defaults_file: Mapping[str, str] | None = None,
    config: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    caller: Mapping[str, str] | None = None,
    answers: Mapping[str, str] | None = None,
    saved: Mapping[str, Given] | None = None,
) -> Resolution:
    """One run: what each source says, over the packaged defaults and presets."""
    packaged = gather({}, None, None, {}, {})
    layers = [
        packaged.layers[0],
        given(Source.DEFAULTS_FILE, defaults_file or {}),
        given(Source.CONFIG_FILE, config or {}),
        given(Source.ENVIRONMENT, environ or {}),
        given(Source.CALLER, caller or {}),
        given(Source.ANSWER, answers or {}),
    ]
    return resolve(layers, packaged.presets, saved or given(Source.ENVIRONMENT, REQUIRED), {})


def remembered(found: Resolution) -> dict[str, Given]:
    """What a run leaves behind for the next one."""
    assert found.problems == ()
    return canonical(found.values, found.answers)


# --- the rows of the precedence -----------------------------------------------------------------


def said_in(places: tuple[str, ...]) -> Resolution:
    """A run in which each of these places says its own name for the same key."""
    words = {place: {KEY: place.replace(" ", "-")} if place in places else {} for place in PLACES}
    layers = [
        given(Source.DEFAULT, words["default"] | {"USE_CONSOLE_LOGGING": "no", "IS_SENTRY_ENABLED": "no"}),
        given(Source.DEFAULTS_FILE, words["defaults file"]),
        given(Source.CONFIG_FILE, words["config file"]),
        given(Source.ENVIRONMENT, words["environment"]),
        given(Source.CALLER, words["caller"]),
        given(Source.ANSWER, words["answer"]),
    ]
    saved = given(Source.ANSWER, {"PRESET": "airgapped", "PUBLIC_URL": "avatar.example.com"} | words["saved"])
    return resolve(layers, {"airgapped": words["preset"]}, saved, {})


@pytest.mark.parametrize(
    ("quieter", "louder"), [pytest.param(*pair, id=" < ".join(pair)) for pair in itertools.combinations(PLACES, 2)]
)
def test_precedence(quieter, louder):
    assert said_in((quieter, louder)).values[KEY] == louder.replace(" ", "-")


@pytest.mark.parametrize("number", range(1, len(PLACES) + 1))
def test_the_loudest_of_many_wins(number):
    assert said_in(PLACES[:number]).values[KEY] == PLACES[number - 1].replace(" ", "-")


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("default", Source.DEFAULT),
        ("defaults file", Source.DEFAULTS_FILE),
        ("preset", Source.PRESET),
        ("saved", Source.ANSWER),  # a saved answer keeps the source that it had
        ("config file", Source.CONFIG_FILE),
        ("environment", Source.ENVIRONMENT),
        ("caller", Source.CALLER),
        ("answer", Source.ANSWER),
    ],
)
def test_every_value_keeps_its_source(place, source):
    assert said_in((place,)).values.resolved(KEY).source is source


def test_the_sources_are_ranked():
    ranks = ["default", "defaults-file", "preset", "adopted"]
    ranks += ["config-file", "environment", "caller", "answer"]
    assert [source.label for source in sorted(Source)] == ranks


@pytest.mark.parametrize(("place", "said"), [(place, place not in ("default",)) for place in PLACES])
def test_a_default_is_not_something_that_was_said(place, said):
    assert said_in((place,)).values.given(KEY) is said


# --- what is remembered -------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "kept"), [(place, place not in ("default", "preset")) for place in PLACES])
def test_values_of_any_source_are_remembered_and_defaults_are_not(place, kept):
    assert (KEY in said_in((place,)).answers) is kept


def test_a_computed_default_is_not_remembered():
    found = ask()
    assert found.values["NGINX_HTTPS_PORT"] == 443
    assert found.values["LOG_LEVEL"] == "INFO"
    assert set(remembered(found)) == {"PUBLIC_URL", "ENV_NAME", "SMTP_HOST"}


def test_an_untouched_default_moves_with_a_new_release():
    saved = remembered(ask())
    newer = [given(Source.DEFAULT, {"AVATAR_API_VERSION": "4.0.0", "USE_CONSOLE_LOGGING": "no"}), {}]
    assert resolve(newer, {}, saved, {}).values["AVATAR_API_VERSION"] == "4.0.0"


def test_silence_changes_nothing():
    said = {"LOG_LEVEL": "debug", "PUBLIC_URL": "HTTPS://Avatar.Example.com/", "USE_CONSOLE_LOGGING": "yes"}
    first = ask(environ=said, caller={"DATASET_EXPIRATION_DAYS": "2w"}, config={"LOG_LEVEL": "ERROR"})
    second = ask(saved=remembered(first))
    assert second.values.texts() == first.values.texts()
    assert remembered(second) == remembered(first)
    assert changes(remembered(first), remembered(second)) == []


def test_answers_are_saved_in_their_canonical_spelling():
    found = ask(environ={"PUBLIC_URL": "HTTPS://Bücher.example:8443/", "LOG_LEVEL": "debug", "SMTP_VERIFY": "NO"})
    assert remembered(found) == given(
        Source.ENVIRONMENT,
        {
            "PUBLIC_URL": "https://xn--bcher-kva.example:8443",
            "ENV_NAME": "example-prod",
            "SMTP_HOST": "mail.example.com",
            "SMTP_VERIFY": "false",
            "LOG_LEVEL": "DEBUG",
        },
    )


def test_an_explicit_empty_answer_is_remembered():
    saved = remembered(ask(environ={"SMTP_USERNAME": "avatar"}))
    emptied = ask(config={"SMTP_USERNAME": ""}, saved=saved)
    assert emptied.values["SMTP_USERNAME"] == ""
    assert remembered(emptied)["SMTP_USERNAME"] == Given("", Source.CONFIG_FILE)


def test_amazons_server_without_a_user_name_is_refused():
    (problem,) = ask(config={"SMTP_HOST": AWS_MAIL_HOST, "SMTP_USERNAME": ""}).problems
    assert problem.startswith(f"SMTP_USERNAME is empty, but {AWS_MAIL_HOST}")


def test_an_answer_that_does_not_apply_now_is_kept_for_later():
    first = ask(environ={"NGINX_HTTP_REDIRECT_PORT": "80"})
    off = ask(environ={"TLS_MODE": "off"}, saved=remembered(first))
    assert "NGINX_HTTP_REDIRECT_PORT" not in off.applying()
    back = ask(environ={"TLS_MODE": "provided"}, saved=remembered(off))
    assert back.applying()["NGINX_HTTP_REDIRECT_PORT"].value == 80


def test_applying_are_the_settings_of_this_deployment_in_the_catalogues_order():
    keys = list(ask().applying())
    assert keys == [key for key in SETTINGS if key in keys]
    assert "NGINX_HTTPS_PORT" in keys
    assert not {"NGINX_HTTP_PORT", "TELEMETRY_S3_BUCKET_NAME", "TRUSTED_PROXIES"} & {*keys}


# --- defaults files -----------------------------------------------------------------------------


def test_a_defaults_file_stays_in_force_in_later_silent_runs():
    saved = remembered(ask(defaults_file={"AVATAR_API_VERSION": "3.30"}))
    assert saved["AVATAR_API_VERSION"] == Given("3.30", Source.DEFAULTS_FILE)
    later = ask(saved=saved)
    assert later.values["AVATAR_API_VERSION"] == "3.30"
    assert remembered(later) == saved


def test_a_new_defaults_file_speaks_for_the_one_before():
    saved = remembered(ask(defaults_file={"AVATAR_API_VERSION": "3.30", "AVATAR_WEB_VERSION": "0.70"}))
    later = ask(defaults_file={"AVATAR_API_VERSION": "3.40"}, saved=saved)
    assert later.values["AVATAR_API_VERSION"] == "3.40"
    assert later.values["AVATAR_WEB_VERSION"] == "0.68.0"


def test_a_remembered_defaults_file_is_as_quiet_as_before():
    saved = remembered(ask(defaults_file={"IS_SENTRY_ENABLED": "true"}))
    assert ask(caller={"PRESET": "airgapped"}, saved=saved).values["IS_SENTRY_ENABLED"] is False
    assert ask(saved=saved | given(Source.ANSWER, {"PRESET": "airgapped"})).values["IS_SENTRY_ENABLED"] is False


def test_a_defaults_file_may_choose_the_preset():
    found = ask(defaults_file={"PRESET": "airgapped"})
    assert found.values["PRESET"] == "airgapped"
    assert found.values["IS_SENTRY_ENABLED"] is False
    later = ask(saved=remembered(found))
    assert later.values["IS_SENTRY_ENABLED"] is False
    assert ask(defaults_file={"PRESET": "airgapped"}, caller={"PRESET": ""}).values["IS_SENTRY_ENABLED"] is True


# --- presets ------------------------------------------------------------------------------------

NAMED = {"config": "airgapped", "environ": "AirGapped", "caller": " airgapped ", "answers": "airgapped"}


@pytest.mark.parametrize(("where", "name"), NAMED.items())
def test_a_preset_named_in_this_run_outranks_saved_answers(where, name):
    saved = remembered(ask(environ={"USE_CONSOLE_LOGGING": "true", "IS_SENTRY_ENABLED": "true"}))
    found = ask(**{where: {"PRESET": name}}, saved=saved)
    assert found.values["PRESET"] == "airgapped"
    assert found.values.resolved("IS_SENTRY_ENABLED") == (False, Source.PRESET)
    assert found.values["USE_CONSOLE_LOGGING"] is False
    assert found.values["COMPATIBILITY_MAPPING_URL"] == "disabled"


@pytest.mark.parametrize(("where", "name"), NAMED.items())
def test_it_does_not_flip_back_in_a_later_silent_run(where, name):
    saved = remembered(ask(environ={"USE_CONSOLE_LOGGING": "true", "IS_SENTRY_ENABLED": "true"}))
    with_preset = ask(**{where: {"PRESET": name}}, saved=saved)
    silent = ask(saved=remembered(with_preset))
    assert silent.values.texts() == with_preset.values.texts()
    assert remembered(silent) == remembered(with_preset)


@pytest.mark.parametrize("where", ["config", "environ", "caller", "answers"])
def test_what_this_run_says_by_name_outranks_its_preset(where):
    found = ask(**{where: {"PRESET": "airgapped", "IS_SENTRY_ENABLED": "true"}})
    assert found.values["IS_SENTRY_ENABLED"] is True
    assert found.values["COMPATIBILITY_MAPPING_URL"] == "disabled"


def test_an_answer_given_after_the_preset_outranks_it():
    first = ask(caller={"PRESET": "airgapped"})
    second = ask(environ={"IS_SENTRY_ENABLED": "true"}, saved=remembered(first))
    third = ask(saved=remembered(second))
    assert second.values["IS_SENTRY_ENABLED"] is third.values["IS_SENTRY_ENABLED"] is True
    assert third.values["PRESET"] == "airgapped"


def test_another_preset_takes_the_place_of_the_first():
    first = ask(caller={"PRESET": "airgapped"})
    second = ask(caller={"PRESET": "dev-mode"}, saved=remembered(first))
    assert second.values["USE_CONSOLE_LOGGING"] is True
    assert second.values["COMPATIBILITY_MAPPING_URL"] != "disabled"


def test_an_empty_preset_ends_the_preset_and_keeps_what_was_answered():
    first = ask(caller={"PRESET": "airgapped", "LOG_LEVEL": "ERROR"})
    second = ask(caller={"PRESET": ""}, saved=remembered(first))
    assert second.values["IS_SENTRY_ENABLED"] is True
    assert second.values["LOG_LEVEL"] == "ERROR"
    assert ask(saved=remembered(second)).values["IS_SENTRY_ENABLED"] is True


@pytest.mark.parametrize(
    ("preset", "console", "sentry", "telemetry", "compatibility"),
    [
        ("", False, True, False, "https://license.octopize.io/compatibility/compatibility_mapping.json"),
        ("default", False, True, True, "https://license.octopize.io/compatibility/compatibility_mapping.json"),
        ("dev-mode", True, False, False, "https://license.octopize.io/compatibility/compatibility_mapping.json"),
        ("airgapped", False, False, False, "disabled"),
    ],
)
def test_the_presets(preset, console, sentry, telemetry, compatibility):
    found = resolution(PRESET=preset, TELEMETRY_S3_BUCKET_NAME="bucket", **REQUIRED)
    keys = ("USE_CONSOLE_LOGGING", "IS_SENTRY_ENABLED", "TELEMETRY_ENABLED", "COMPATIBILITY_MAPPING_URL")
    assert [found.values[key] for key in keys] == [console, sentry, telemetry, compatibility]


def test_an_unknown_preset_is_refused():
    (problem,) = ask(caller={"PRESET": "air-gapped"}).problems
    assert "PRESET='air-gapped' (--set)" in problem
    assert "default, dev-mode, airgapped" in problem


# --- two spellings of one thing -----------------------------------------------------------------

API_2 = {"AVATAR_API_VERSION": "2.81"}
SPELLINGS = [
    ({"NGINX_TLS_ENABLED": "true"}, {"TLS_MODE": "behind-proxy"}, "TLS_MODE", "behind-proxy"),
    ({"NGINX_TLS_ENABLED": "false"}, {"TLS_MODE": "provided"}, "TLS_MODE", "provided"),
    ({"TLS_MODE": "behind-proxy"}, {"NGINX_TLS_ENABLED": "true"}, "TLS_MODE", "provided"),
    (API_2 | {"USE_EMAIL_AUTHENTICATION": "false"}, {"AUTH_TYPE": "email"}, "AUTH_TYPE", "email"),
    (API_2 | {"AUTH_TYPE": "username"}, {"USE_EMAIL_AUTHENTICATION": "true"}, "AUTH_TYPE", "email"),
]


@pytest.mark.parametrize(("first", "second", "key", "value"), SPELLINGS)
def test_the_spelling_used_in_this_run_replaces_a_saved_one(first, second, key, value):
    """The refusal says "give only TLS_MODE": whoever does so must not meet an older answer of their own."""
    saved = remembered(ask(environ=first))
    found = ask(environ=second, saved=saved)
    assert found.problems == ()
    assert found.values[key] == value
    assert not (first.keys() - API_2.keys()) & remembered(found).keys()
    assert ask(saved=remembered(found)).values[key] == value


@pytest.mark.parametrize(("first", "second"), [(first, second) for first, second, _, _ in SPELLINGS])
def test_both_spellings_in_one_run_may_not_contradict_each_other(first, second):
    assert len(ask(config=first, environ=second).problems) == 1


# --- problems -----------------------------------------------------------------------------------


def test_what_is_missing_is_named_with_every_way_to_give_it():
    found = resolution(MAIL_PROVIDER="smtp", TELEMETRY_ENABLED="yes")
    assert found.missing == ("PUBLIC_URL", "ENV_NAME", "SMTP_HOST", "TELEMETRY_S3_BUCKET_NAME")
    assert found.problems == ()
    for key in found.missing:
        text, example = missing_text(key), SETTINGS[key].example
        assert text.startswith(f"{key} is missing. ")
        for way in (f"variable {key}={example}", f"--set {key}={example}", f"'{key}: {example}'"):
            assert way in text


@pytest.mark.parametrize("key", SETTINGS)
def test_a_value_that_was_refused_is_not_also_missing(key):
    found = resolution(**(REQUIRED | {key: "\x07"}))
    assert key not in found.missing
    assert [problem for problem in found.problems if problem.startswith(f"{key}=")] == [found.problems[0]]


def test_all_problems_at_once_in_the_catalogues_order():
    bad = {"PUBLIC_URL": "a b", "LOG_LEVEL": "loud", "SMTP_PORT": "0", "DATASET_EXPIRATION_DAYS": "30"}
    problems = ask(environ=bad).problems
    assert [problem.partition("=")[0] for problem in problems] == [key for key in SETTINGS if key in bad]


def test_a_problem_names_key_value_source_reason_and_an_example():
    (problem,) = ask(config={"PUBLIC_URL": "https://a/b"}).problems
    assert problem == (
        "PUBLIC_URL='https://a/b' (config-file): it must not contain a path, a query or a fragment: "
        "give only the host, as in avatar.example.com"
    )


def test_only_the_winning_text_is_judged():
    assert ask(config={"LOG_LEVEL": "loud"}, caller={"LOG_LEVEL": "ERROR"}).problems == ()


def test_a_text_is_judged_also_where_it_does_not_apply():
    (problem,) = ask(environ={"TLS_MODE": "off", "NGINX_HTTPS_PORT": "https"}).problems
    assert problem.startswith("NGINX_HTTPS_PORT='https' (environment)")


@pytest.mark.parametrize(
    "key",
    [
        "PUBLIC_URL",
        "SMTP_HOST",
        "AVATAR_API_URL",
        "COMPATIBILITY_MAPPING_URL",
        "NGINX_IMAGE",
        "AVATAR_DOMAIN",
        "TRUSTED_PROXIES",
        "TLS_EXTRA_NAMES",
    ],
)
@pytest.mark.parametrize(
    "text",
    ["https://user:hunter2@host/", "user:hunter2@host", "https://user:hunter2/x@host", "https://user:hunter2@1@host",
     "https://host/?token=hunter2", "https://host/?a=b&sig=hunter2#x", "x:hunter2@y, z"],
)  # fmt: skip
def test_credentials_in_an_address_are_never_repeated(key, text):
    problems = ask(environ={key: text}).problems
    assert problems
    assert "hunter2" not in "".join(problems)


def test_a_mistyped_mail_address_is_shown():
    (problem,) = ask(environ={"SMTP_SENDER_EMAIL": "ada@@example.com"}).problems
    assert "SMTP_SENDER_EMAIL='ada@@example.com'" in problem


def test_a_problem_stays_short_and_on_its_line():
    for key in SETTINGS:
        (problem, *_) = ask(environ={key: "\x1b[2J\n" + "x" * 5000}).problems
        assert len(problem) < 500
        assert problem.isprintable()


def test_changes_are_told_with_old_and_new_value():
    before = given(Source.ENVIRONMENT, {"LOG_LEVEL": "INFO", "ENV_NAME": "a", "DB_HOST": "pg"})
    after = given(Source.CALLER, {"LOG_LEVEL": "ERROR", "ENV_NAME": "a", "SMTP_HOST": "mail"})
    assert changes(before, after) == [
        "DB_HOST: pg -> (default)",
        "SMTP_HOST: (default) -> mail (--set)",
        "LOG_LEVEL: INFO -> ERROR (--set)",
    ]


# --- looking values up --------------------------------------------------------------------------


def test_what_cannot_be_had_is_told_apart_from_what_does_not_apply():
    found = resolution(ENV_NAME="prod", SMTP_PORT="smtp").values
    assert found.computed("PUBLIC_URL") is None, "missing"
    assert found.computed("AVATAR_API_URL") is None, "follows from what is missing"
    assert found.computed("SMTP_PORT") is None, "refused"
    assert found.computed("TELEMETRY_S3_REGION") is None, "does not apply"
    assert found.computed("ENV_NAME") == ("prod", Source.ENVIRONMENT)
    assert found.can_apply("LOG_LEVEL")
    assert not found.can_apply("NGINX_HTTPS_PORT"), "nobody knows yet"
    assert set(found.texts()) >= {"ENV_NAME", "LOG_LEVEL"}
    assert not {"PUBLIC_URL", "AVATAR_API_URL", "SMTP_PORT"} & found.texts().keys()


def test_a_default_that_needs_itself_is_unavailable():
    rows = {
        key: SETTINGS["ENV_NAME"]._replace(key=key, default=lambda v, other=other: v[other])
        for key, other in ("AB", "BA")
    }
    with pytest.raises(Unavailable):
        Values(rows, {}, {})["A"]


# --- the caller of the package ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "parameter", "by_email"),
    [
        ({}, {}, "true"),
        ({}, {"auth_type": "email"}, "true"),
        (API_2, {"auth_type": "username"}, "false"),
        (API_2 | {"AUTH_TYPE": "username"}, {}, "false"),
        (API_2 | {"AUTH_TYPE": "username"}, {"auth_type": "email"}, "false"),
        (API_2 | {"USE_EMAIL_AUTHENTICATION": "false"}, {"auth_type": "email"}, "false"),
        (API_2 | {"AUTH_TYPE": "email"}, {"auth_type": "username"}, "false"),
    ],
)
def test_a_parameters_default_never_outranks_what_the_operator_said(tmp_path, said, parameter, by_email):
    configurator = DeploymentConfigurator(find_templates(), tmp_path, environ=REQUIRED | said)
    configurator.run(interactive=False, **parameter)
    assert f"USE_EMAIL_AUTHENTICATION={by_email}\n" in (tmp_path / ".env").read_text()
