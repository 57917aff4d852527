"""The stacks of Docker Swarm against the compose file: the same services, with the same values, secrets and files."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from setup.config.secrets import SECRETS
from setup.config.types import TEXT
from setup.deploy.redact import KEYED_BY, Redactor, lines_of
from setup.deploy.targets import Parts, Targets
from setup.deploy.templates import CannotCarry, Renderer
from setup.volume.layout import STACK, STACK_JOBS, SWARM_FILES, File
from tests.support.documents import read_yaml
from tests.support.hostile import CHOSEN
from tests.support.trees import CONFIGURATIONS, TEMPLATES, named_targets, resolution, secret_texts, targets
from tests.unit.deploy.test_targets import environment, stack

ALL = tuple(CONFIGURATIONS)


@cache
def stacks(name: str) -> dict[str, dict[str, Any]]:
    return {file.path: read_yaml(file.data) for file in named_targets(name).stacks if file.path in SWARM_FILES}


def swarm_services(name: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Service -> its stack, and itself there."""
    return {
        service: (document, row) for document in stacks(name).values() for service, row in document["services"].items()
    }


def read(text: str) -> str:
    """What a container is given of a variable: `docker stack deploy` fills what is empty and `$KEY` from its shell, and
    the engine reads what is left as a template.
    """
    assert text
    assert "$" not in text.replace("$$", "")
    parts = re.split(r'\{\{"(|\{\{)"\}\}', text.replace("$$", "$"))
    assert not any("{{" in literal for literal in parts[::2])
    return "".join(parts)


@pytest.mark.parametrize("name", ALL)
def test_both_have_the_same_services(name):
    assert set(swarm_services(name)) == set(stack(name))


@pytest.mark.parametrize("name", ALL)
def test_every_secret_reaches_the_services_that_it_reaches_under_compose(name):
    configuration = CONFIGURATIONS[name]
    texts = secret_texts(configuration.settings, configuration.secrets)
    for service, (document, row) in swarm_services(name).items():
        sources = {each["target"]: document["secrets"][each["source"]]["file"] for each in row.get("secrets", ())}
        files = {target: path for target, path in sources.items() if path.startswith("./.secrets/")}
        empty = {target for target, path in sources.items() if path == "./stack.empty"}
        wanted = set(stack(name)[service].get("secrets", ()))
        assert set(files) | empty == wanted
        assert empty == {secret for secret in wanted if not texts[secret]}
        assert files == {secret: f"./.secrets/{secret}" for secret in wanted - empty}


@pytest.mark.parametrize("name", ALL)
def test_every_service_has_the_environment_that_it_has_under_compose(name):
    for service, (_, row) in swarm_services(name).items():
        if "environment" in stack(name)[service]:
            given = {key: read(text) for key, text in row["environment"].items()}
            assert given == environment(name, service)
        else:
            assert "environment" not in row


@pytest.mark.parametrize("name", ALL)
def test_what_keeps_data_is_bound_to_a_label_and_never_runs_twice(name):
    for _, row in swarm_services(name).values():
        kept = [volume for volume in row.get("volumes", ()) if volume["type"] == "volume"]
        constraints = row["deploy"].get("placement", {}).get("constraints", [])
        assert len([text for text in constraints if text.startswith("node.labels.avatar.")]) == len(kept)
        if kept and row["deploy"].get("mode") != "replicated-job":
            assert row["deploy"]["replicas"] == 1
            assert row["deploy"]["update_config"]["order"] == "stop-first"


@pytest.mark.parametrize("name", ALL)
def test_names_are_those_that_swarm_takes(name):
    for document in stacks(name).values():
        for section in ("secrets", "configs"):
            for key, entry in document.get(section, {}).items():
                assert len(entry["name"]) <= 64
                assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", entry["name"])
                assert key in entry["name"]


@pytest.mark.parametrize("name", ALL)
def test_a_service_mounts_no_secret_nor_config_twice(name):
    """Docker sorts them by name, and those of one name as they come: a second deploy then replaces the tasks."""
    for document, row in swarm_services(name).values():
        for section in ("secrets", "configs"):
            names = [document[section][each["source"]]["name"] for each in row.get(section, ())]
            assert len(names) == len(set(names))


def test_a_new_secret_has_a_new_name_and_others_keep_theirs():
    settings = CONFIGURATIONS["usual"].settings

    def names(secrets: dict[str, str]) -> set[str]:
        made = targets(settings, secrets).stacks
        return {key for file in made if file.path in SWARM_FILES for key in read_yaml(file.data).get("secrets", ())}

    before, after = names({}), names({"authjwt_secret_key": "f" * 64})
    assert {key.rpartition("_")[0] for key in before ^ after} == {"authjwt_secret_key"}
    assert len(before ^ after) == 2


def test_only_the_owner_may_read_the_stacks():
    assert {file.mode for file in named_targets("usual").stacks} == {0o600}


def document(path: str, **settings: str) -> dict[str, Any]:
    """One stack of the usual deployment with these settings."""
    made = targets({"TARGET": "swarm"} | settings).stacks
    return next(read_yaml(file.data) for file in made if file.path == path)


@pytest.mark.parametrize("path", SWARM_FILES)
def test_every_network_is_encrypted_if_a_setting_says_so_and_none_otherwise(path):
    for setting, options in (("true", {"encrypted": ""}), ("false", None)):
        networks = document(path, SWARM_ENCRYPTED=setting)["networks"].values()
        assert [network.get("driver_opts") for network in networks] == [options] * len(networks)


@pytest.mark.parametrize("letter", "yYnN")
def test_a_letter_that_docker_reads_as_yes_or_no_is_quoted(letter):
    """Its parser, of YAML 1.1, knows both as booleans, unlike the one of these tests; it refuses them as a value."""
    made = targets({"TARGET": "swarm", "ENV_NAME": letter}).stacks
    text = next(file.data.decode() for file in made if file.path == STACK)
    assert set(re.findall(r"ENV_NAME: .*", text)) == {f'ENV_NAME: "{letter}"'}


def test_a_value_is_no_template_of_the_engine():
    """Which would refuse the stack, or give the container what it knows of itself."""
    service = document(STACK, SMTP_USERNAME="a{{b}}{{{$c", SMTP_HOST="mail.example.com")["services"]["api"]
    assert read(service["environment"]["SMTP_USERNAME"]) == "a{{b}}{{{$c"


def test_nginx_is_published_at_its_node_or_at_all_of_them():
    at_its_node, at_all = (document(STACK, SWARM_PORT_MODE=mode)["services"] for mode in ("host", "ingress"))
    assert [port["mode"] for port in at_its_node["nginx"]["ports"]] == ["host"]
    assert [port["mode"] for port in at_all["nginx"]["ports"]] == ["ingress"]
    # Swarm refuses a published port of all nodes without an address of the service's own.
    assert {name for name, row in at_all.items() if row["deploy"]["endpoint_mode"] == "vip"} == {"nginx"}
    assert {row["deploy"]["endpoint_mode"] for row in at_its_node.values()} == {"dnsrr"}


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_all_addresses_of_a_node_may_be_named(address):
    assert document(STACK, NGINX_BIND_ADDRESS=address) == document(STACK)


TEXTS = st.one_of(st.sampled_from(CHOSEN), st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=200))


@given(TEXTS, TEXTS)
def test_a_secret_that_a_stack_holds_is_never_shown(prefix, suffix):
    """Whatever surrounds it, and whatever YAML makes of that."""
    token = "ca5f00d1e7"
    try:
        text = TEXT.parse(f"{prefix}{token}{suffix}")
    except ValueError:
        reject()
    shown = [name for name, secret in SECRETS.items() if secret.shown]
    texts = dict.fromkeys(shown, text)
    holding = set()
    for file in rendered(texts):
        redacted = Redactor({KEYED_BY: "a key"}, texts).lines(file.path, file.data, lines_of(file.data))
        assert token not in "".join(redacted.shown)
        holding |= {file.path} if token in "".join(redacted.raw) else set()
    assert holding == {STACK_JOBS, STACK}


@pytest.mark.parametrize("text", ["", "a{{b", "$a", "plain", "Zoë €", "\U0001f511 \u2028", "null", "'"])
def test_a_secret_in_a_stack_is_shown_as_its_own_fingerprint(text):
    texts = {KEYED_BY: "a key", "authentik_bootstrap_password": text}
    redactor = Redactor(texts, texts)
    (file,) = (file for file in rendered({"authentik_bootstrap_password": text}) if file.path == STACK)
    shown = "\n".join(redactor.lines(file.path, file.data, lines_of(file.data)).shown)
    (line,) = set(re.findall(r"AUTHENTIK_BOOTSTRAP_PASSWORD: (.*)", shown))
    assert line == redactor.secret("authentik_bootstrap_password", text)


@pytest.mark.parametrize("spelling", ["null", "~", '""'])
def test_an_empty_value_that_somebody_wrote_into_a_stack_is_shown_as_an_empty_secret(spelling: str) -> None:
    redactor = Redactor({KEYED_BY: "a key"}, {})
    data = f"      AUTHENTIK_BOOTSTRAP_PASSWORD: {spelling}\n".encode()
    (line,) = redactor.lines(STACK, data, lines_of(data)).shown
    assert line.strip() == f"AUTHENTIK_BOOTSTRAP_PASSWORD: {redactor.secret('authentik_bootstrap_password', '')}"


def rendered(secrets: dict[str, str]) -> list[File]:
    """The stacks of the usual deployment with these secrets."""
    settings = {"TARGET": "swarm"}
    texts = secret_texts(settings) | secrets
    try:
        made = Targets(Renderer(TEMPLATES), Parts(resolution(settings).values, texts, b"key")).stacks
    except CannotCarry:
        reject()
    return [file for file in made if file.path in SWARM_FILES]
