"""The sources: which texts reach the settings from where, and what is refused before its meaning is looked at."""

from __future__ import annotations

import os

import pytest

from setup.config import sources
from setup.config.model import Given, Source
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.sources import Inputs, files_named, gather, preload

HIDDEN = "hunter2-and-more"


@pytest.fixture
def write(tmp_path):
    """Writes a file and gives its path as text."""

    def write_file(content: str | bytes, name: str = "input") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


def from_environment(**environ: str) -> Inputs:
    return gather(environ, None, None, {}, {})


def from_config(path: str) -> Inputs:
    return gather({}, path, None, {}, {})


def from_defaults(path: str) -> Inputs:
    return gather({}, None, path, {}, {})


def from_caller(**caller: object) -> Inputs:
    return gather({}, None, None, caller, {})


def texts(layer: dict[str, Given]) -> dict[str, str]:
    return {key: given.text for key, given in layer.items()}


def only_problem(inputs: Inputs) -> str:
    assert len(inputs.problems) == 1, inputs.problems
    return inputs.problems[0]


def test_five_layers_each_with_its_source(write):
    """In rising precedence: packaged defaults, defaults file, configuration file, environment, caller."""
    config, defaults = write("LOG_LEVEL: DEBUG", "config"), write("settings: {LOG_LEVEL: ERROR}", "defaults")
    inputs = gather({"LOG_LEVEL": "INFO"}, config, defaults, {"LOG_LEVEL": "WARNING"}, {})
    packaged, *others = inputs.layers
    assert {given.source for given in packaged.values()} == {Source.DEFAULT}
    assert others == [
        {"LOG_LEVEL": Given("ERROR", Source.DEFAULTS_FILE)},
        {"LOG_LEVEL": Given("DEBUG", Source.CONFIG_FILE)},
        {"LOG_LEVEL": Given("INFO", Source.ENVIRONMENT)},
        {"LOG_LEVEL": Given("WARNING", Source.CALLER)},
    ]
    assert inputs.problems == inputs.warnings == ()


def test_nothing_given():
    inputs = from_environment()
    assert [*inputs.layers[1:]] == [{}, {}, {}, {}]
    assert inputs.secrets == {}
    assert set(inputs.presets) == {"default", "dev-mode", "airgapped"}


# --- the environment ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_is_a_variable_and_a_file(key, write):
    assert from_environment(**{key: "a text"}).layers[3] == {key: Given("a text", Source.ENVIRONMENT)}
    path = write("a text\n")
    given = {key: Given("a text", Source.ENVIRONMENT, path)}
    assert from_environment(**{f"{key}_FILE": path}).layers[3] == given


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_is_a_variable_and_a_file(name, write):
    given = {name: Given("a text", Source.ENVIRONMENT)}
    assert from_environment(**{name.upper(): "a text"}).secrets == given
    path = write("a text\n")
    given = {name: Given("a text", Source.ENVIRONMENT, path)}
    assert from_environment(**{f"{name.upper()}_FILE": path}).secrets == given


def test_a_variable_is_written_in_capitals():
    inputs = from_environment(public_url="avatar", db_password="x")
    assert (inputs.layers[3], inputs.secrets) == ({}, {})


@pytest.mark.parametrize(
    "key", ["LOG_LEVEL", "LOG_LEVEL_FILE", "DB_PASSWORD", "DB_PASSWORD_FILE", "PRESET", "NGINX_HTTP_REDIRECT_PORT"]
)
def test_an_empty_variable_says_nothing(key):
    inputs = from_environment(**{key: ""})
    assert (inputs.layers[3], inputs.secrets, inputs.problems) == ({}, {}, ())


def test_an_empty_variable_does_not_contradict_its_file(write):
    path = write("DEBUG")
    assert texts(from_environment(LOG_LEVEL="", LOG_LEVEL_FILE=path).layers[3]) == {"LOG_LEVEL": "DEBUG"}
    assert texts(from_environment(LOG_LEVEL="INFO", LOG_LEVEL_FILE="").layers[3]) == {"LOG_LEVEL": "INFO"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("pass word", "pass word"), ("pass\n", "pass"), ("pass\n\n", "pass\n"), ("\npass", "\npass"),
        ("pass\r\n", "pass"), ("pass\r\n\r\n", "pass\r\n"), ("pass\r", "pass"),
        (" pass ", " pass "), ("\ufeffpass", "pass"), ("é$#'\"\\", "é$#'\"\\"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_file_loses_one_newline_and_nothing_else(write, content, text):
    assert from_environment(DB_PASSWORD_FILE=write(content)).secrets["db_password"].text == text


@pytest.mark.parametrize("key", ["LOG_LEVEL", "DB_PASSWORD"])
def test_a_variable_and_its_file_contradict_each_other(key, write):
    problem = only_problem(from_environment(**{key: HIDDEN, f"{key}_FILE": write(HIDDEN)}))
    assert problem == f"{key} and {key}_FILE are both set: unset one of them"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    problem = only_problem(from_environment(LOG_LEVEL_FILE=str(tmp_path / "no")))
    assert problem == f"LOG_LEVEL_FILE={tmp_path}/no: it cannot be read (no such file or directory)"


def test_a_file_that_is_not_text_is_named(write):
    path = write(b"\xff\xfe\x00")
    assert only_problem(from_environment(DB_PASSWORD_FILE=path)) == f"DB_PASSWORD_FILE={path}: it is not UTF-8 text"


@pytest.mark.parametrize("text", [HIDDEN, f"{HIDDEN}/with+slash=="])
def test_a_secret_in_the_place_of_its_path_is_not_repeated(text):
    problem = only_problem(from_environment(DB_PASSWORD_FILE=text))
    assert HIDDEN not in problem
    assert problem.startswith("DB_PASSWORD_FILE")
    assert "DB_PASSWORD_FILE=/" in problem, "shows how a path is given"


@pytest.mark.parametrize(
    ("name", "near"),
    [("PUBLIC_ULR", "PUBLIC_URL"), ("ENVNAME", "ENV_NAME"), ("SMTP_PASSWRD", "SMTP_PASSWORD"),
        ("SMTP_PASSWORD_FLIE", "SMTP_PASSWORD_FILE"),
     ("NON_INTERACTVE", "NON_INTERACTIVE"), ("AVATAR_API_VERSIO", "AVATAR_API_VERSION"),
     ("DB_PASWORD_FILE", "DB_PASSWORD_FILE")],
)  # fmt: skip
def test_a_near_miss_in_the_environment_is_a_warning(name, near):
    inputs = from_environment(**{name: HIDDEN})
    assert inputs.warnings == (f"the environment variable {name} is not known; did you mean {near}?",)
    assert inputs.problems == ()


@pytest.mark.parametrize(
    "name", ["HOME", "PATH", "MAIL", "TERM", "HOSTNAME", "LC_ALL", "PYTHONPATH", "PYTHONUNBUFFERED",
    "SSL_CERT_FILE", "NO_COLOR", "PUID",
             "AVATAR_SETUP_IMAGE", "DB_PORT", "KUBERNETES_SERVICE_HOST", "MY_UNRELATED_NAME", "NON_INTERACTIVE",
             "container", "_"],
)  # fmt: skip
def test_a_variable_of_somebody_else_is_no_near_miss(name):
    assert from_environment(**{name: "x"}).warnings == ()


# --- the configuration file ---------------------------------------------------------------------


def test_settings_and_secrets_of_the_configuration_file(write):
    inputs = from_config(write("PUBLIC_URL: avatar\ndb_password: one\nORGANIZATION_NAME: two\n"))
    assert inputs.layers[2] == {"PUBLIC_URL": Given("avatar", Source.CONFIG_FILE)}
    assert inputs.secrets == {
        "db_password": Given("one", Source.CONFIG_FILE),
        "organization_name": Given("two", Source.CONFIG_FILE),
    }
    assert inputs.problems == ()


@pytest.mark.parametrize("text", ["3.10", "NO", "22:22", "0o17", "1e3", "true", "2024-01-01", "007"])
def test_scalars_reach_the_settings_as_written(write, text):
    assert texts(from_config(write(f"ENV_NAME: {text}\n")).layers[2]) == {"ENV_NAME": text}


@pytest.mark.parametrize("value", ["", "~", "null"])
def test_a_key_without_a_value_says_nothing(write, value):
    inputs = from_config(write(f"LOG_LEVEL: {value}\ndb_password: {value}\n"))
    assert (inputs.layers[2], inputs.secrets, inputs.problems) == ({}, {}, ())


def test_an_explicit_empty_text_is_a_value(write):
    assert texts(from_config(write('SMTP_USERNAME: ""\n')).layers[2]) == {"SMTP_USERNAME": ""}


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", "{}\n", "\ufeff"])
def test_an_empty_configuration_file(write, content):
    inputs = from_config(write(content))
    assert (inputs.layers[2], inputs.problems, inputs.unreadable) == ({}, (), False)


def test_a_list_where_a_list_makes_sense(write):
    inputs = from_config(
        write("TLS_EXTRA_NAMES: [a.example, b.example]\nadmin_emails:\n- ada@a.example\n- bob@b.example\n")
    )
    assert texts(inputs.layers[2]) == {"TLS_EXTRA_NAMES": "a.example,b.example"}
    assert inputs.secrets["admin_emails"].text == "ada@a.example,bob@b.example"


@pytest.mark.parametrize(
    "line", ["LOG_LEVEL: [DEBUG]", "LOG_LEVEL: {a: b}", "db_password: [hunter2-and-more]",
    "db_password: {hunter2-and-more: x}",
             "TLS_EXTRA_NAMES: {a: b}", "TLS_EXTRA_NAMES: [[a]]", "TLS_EXTRA_NAMES: [a, ~]",
             "admin_emails: [{a: hunter2-and-more}]"],
)  # fmt: skip
def test_a_wrong_type_is_named(write, line):
    problem = only_problem(from_config(write(line)))
    assert f"{line.partition(':')[0]} must be a single value" in problem
    assert HIDDEN not in problem


@pytest.mark.parametrize("content", ["just words", "- PUBLIC_URL\n", "3.10"])
def test_a_file_that_is_no_mapping(write, content):
    path = write(content)
    inputs = from_config(path)
    assert (
        only_problem(inputs) == f"the configuration file {path}: it must hold KEY: VALUE lines, without a dash in front"
    )
    assert inputs.unreadable


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("PUBLIC_ULR", "did you mean PUBLIC_URL?"), ("public_url", "did you mean PUBLIC_URL?"),
        ("Db_Password", "did you mean DB_PASSWORD?"),
        ("DB_PASWORD", "did you mean DB_PASSWORD?"), ("LOG_LEVEL_FILE", "did you mean LOG_LEVEL?"),
        ("COMPLETELY_DIFFERENT", "docs/reference/settings.md"), (" PUBLIC_URL", "did you mean PUBLIC_URL?"),
        ("NON_INTERACTIVE", "docs/reference/settings.md"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_a_problem_with_the_nearest_name(write, key, hint):
    for inputs in (from_config(write(f"'{key}': {HIDDEN}\n")), from_caller(**{key: HIDDEN})):
        problem = only_problem(inputs)
        assert f"{key!r} is not a known key" in problem
        assert hint in problem
        assert HIDDEN not in problem


@pytest.mark.parametrize(
    "key", ["hunter2", "DB_PASSWORD=hunter2", "DB_PASSWORD hunter2", "<<", "AKIA7EXAMPLE", "pass:word"]
)
def test_a_key_that_may_be_a_value_is_told_by_its_place(write, key):
    """A line without its colon or indentation makes a key of a value."""
    problem = only_problem(from_config(write(f"LOG_LEVEL: INFO\n'{key}': x\n")))
    assert "key 2 (not shown, as it may be a value) is not a known key" in problem
    assert key not in problem


def test_a_long_unknown_key_is_cut(write):
    assert len(only_problem(from_config(write("? " + "k" * 3000 + "\n: 1\n")))) < 300


def test_a_secret_in_two_spellings_is_refused(write):
    """YAML's own check does not see that both lines mean one secret."""
    problem = only_problem(from_config(write(f"DB_PASSWORD: {HIDDEN}\ndb_password: other\n")))
    assert "DB_PASSWORD" in problem
    assert "twice" in problem
    assert HIDDEN not in problem


def test_an_unreadable_configuration_file_is_named_once(tmp_path):
    inputs = from_config(str(tmp_path / "no.yaml"))
    assert (
        only_problem(inputs)
        == f"the configuration file {tmp_path}/no.yaml: it cannot be read (no such file or directory)"
    )
    assert inputs.unreadable, "so that what it may have said is not called missing"


# --- the caller ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text"),
    [("DEBUG", "DEBUG"), (True, "true"), (False, "false"), (443, "443"), (0, "0"), ("", ""), (" x ", " x ")],
)
def test_values_of_the_caller(given, text):
    assert from_caller(NGINX_HTTP_PORT=given).layers[4] == {"NGINX_HTTP_PORT": Given(text, Source.CALLER)}


def test_lists_of_the_caller():
    assert texts(from_caller(TRUSTED_PROXIES=("10.0.0.0/8", "::1")).layers[4]) == {"TRUSTED_PROXIES": "10.0.0.0/8,::1"}


def test_none_of_the_caller_says_nothing():
    assert from_caller(LOG_LEVEL=None, DB_PASSWORD=None).layers[4] == {}


@pytest.mark.parametrize("given", [3.10, b"DEBUG", object(), {"a": "b"}, ["DEBUG"]])
def test_wrong_types_of_the_caller(given):
    assert "LOG_LEVEL must be a single value" in only_problem(from_caller(LOG_LEVEL=given))


def test_a_secret_of_the_louder_source_wins(write):
    config = write("db_password: file\npepper: file\nsmtp_password: file\n")
    environ = {"DB_PASSWORD": "environment", "PEPPER": "environment"}
    inputs = gather(environ, config, None, {"DB_PASSWORD": "caller"}, {})
    assert texts(inputs.secrets) == {"db_password": "caller", "pepper": "environment", "smtp_password": "file"}


# --- defaults files -----------------------------------------------------------------------------


def test_a_defaults_file_speaks_of_settings_and_presets(write):
    presets = "presets: {airgapped: {LOG_LEVEL: ERROR}, default: {IS_SENTRY_ENABLED: no}}"
    path = write(f"settings: {{AVATAR_API_VERSION: 3.30}}\n{presets}\n")
    inputs = from_defaults(path)
    assert inputs.problems == ()
    assert inputs.layers[1] == {"AVATAR_API_VERSION": Given("3.30", Source.DEFAULTS_FILE)}
    packaged = from_environment().presets
    assert inputs.presets["airgapped"] == packaged["airgapped"] | {"LOG_LEVEL": "ERROR"}
    assert inputs.presets["default"] == packaged["default"] | {"IS_SENTRY_ENABLED": "no"}
    assert inputs.presets["dev-mode"] == packaged["dev-mode"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("setings: {}", "unknown section 'setings'; known are settings and presets"),
        ("AVATAR_API_VERSION: '3'", "unknown section 'AVATAR_API_VERSION'"),
        ("settings: {AVATAR_API_VERSOIN: '3'}", "did you mean AVATAR_API_VERSION?"),
        ("settings: {DB_PASSWORD: hunter2-and-more}", "DB_PASSWORD is a secret"),
        ("presets: {airgapped: {db_password: hunter2-and-more}}", "DB_PASSWORD is a secret"),
        ("presets: {air-gapped: {}}", "unknown preset 'air-gapped'; known are default, dev-mode, airgapped"),
        ("presets: {airgapped: {LOG_LEVLE: x}}", "did you mean LOG_LEVEL?"),
        ("presets: {airgapped: {LOG_LEVEL: [a]}}", "LOG_LEVEL must be a single value"),
        ("settings: [a]", "must hold KEY: VALUE lines"), ("settings: text", "must hold KEY: VALUE lines"),
        ("presets: text", "must hold KEY: VALUE lines"), ("presets: [a]", "must hold KEY: VALUE lines"),
        ("presets: [[a, b]]", "must hold KEY: VALUE lines"),
        ("presets: {default: text}", "must hold KEY: VALUE lines"),
        ("- a", "must hold KEY: VALUE lines, without a dash in front"), ("a: &b c", "anchors and aliases"),
    ],
)  # fmt: skip
def test_a_wrong_defaults_file(write, content, words):
    path = write(content)
    inputs = from_defaults(path)
    problem = only_problem(inputs)
    assert words in problem
    assert problem.startswith(f"the defaults file {path}")
    assert HIDDEN not in problem
    assert len(inputs.layers) == 5, "no layer takes the place of another"


@pytest.mark.parametrize("content", ["", "settings:\npresets:\n", "presets: {default: }\n"])
def test_an_empty_defaults_file(write, content):
    inputs = from_defaults(write(content))
    assert (inputs.layers[1], inputs.problems) == ({}, ())
    assert inputs.presets == from_environment().presets


# --- together -----------------------------------------------------------------------------------


def test_the_problems_of_all_sources_at_once(write, tmp_path):
    defaults = write("b: {}\na: {}\n", "defaults")
    config = write("LOG_LEVL: x\nENV_NAME: [a]\n", "config")
    environ = {"PUBLIC_URL": "a", "PUBLIC_URL_FILE": "b", "DB_PASSWORD_FILE": str(tmp_path / "no")}
    found = gather(environ, config, defaults, {"DB_HOTS": "x"}, {}).problems
    parts = ["section 'a'", "section 'b'", "LOG_LEVL", "ENV_NAME", "PUBLIC_URL and", "DB_PASSWORD_FILE", "DB_HOTS"]
    assert len(found) == len(parts)
    assert all(part in problem for part, problem in zip(parts, found, strict=True)), found


def test_files_that_need_the_first_rights(write):
    """Every *_FILE that is set and the configuration file; they are read before rights are given up."""
    environ = {"DB_PASSWORD_FILE": "/a", "LOG_LEVEL_FILE": "/b", "SMTP_PASSWORD_FILE": "", "OTHER_FILE": "/c"}
    assert sorted(files_named(environ, "/d")) == ["/a", "/b", "/d"]
    assert list(files_named({}, None)) == []


def test_what_was_read_early_counts(write):
    secret, config = write("early\n", "secret"), write("LOG_LEVEL: DEBUG", "config")
    loaded = preload(iter([secret, config, "/nowhere/at/all"]))
    assert set(loaded) == {secret, config}
    os.unlink(secret)
    os.unlink(config)
    inputs = gather({"DB_PASSWORD_FILE": secret}, config, None, {}, loaded)
    assert inputs.problems == ()
    assert inputs.secrets["db_password"].text == "early"
    assert texts(inputs.layers[2]) == {"LOG_LEVEL": "DEBUG"}


def test_controls_are_neither_settings_nor_secrets():
    assert not {*SETTINGS, *map(str.upper, SECRETS)} & {*sources.CONTROLS}


@pytest.mark.parametrize("content", ["", "\n"])
@pytest.mark.parametrize("key", ["DB_PASSWORD", "LOG_LEVEL"])
def test_a_file_without_a_value_is_refused(write, key, content):
    """A password was generated and bound in its place."""
    path = write(content, "empty")
    assert gather({f"{key}_FILE": path}, None, None, {}, {}).problems == (
        f"{key}_FILE={path}: it is empty: put the value into it, or leave the variable out",
    )
