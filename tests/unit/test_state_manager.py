"""The state alone: its steps, what it remembers, and which files it refuses to take for itself."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from setup.config.model import Given, Source
from setup.config.settings import SETTINGS
from setup.deploy import steps
from setup.errors import VolumeError
from setup.formats.digests import digest
from setup.state_file import COMPLETED, IN_PROGRESS, NOT_STARTED
from setup.state_manager import DeploymentState
from setup.step_names import STEP_NAMES
from setup.volume.layout import LAST_GOOD, PLACES, File
from setup.volume.volume import Volume
from tests.support.runs import (
    OPERATORS,
    STATE,
    STEPS,
    deployed,
    every_secret,
    ran,
    require_strace,
    run,
    secrets,
    tree,
)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    opened = Volume(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out")


def a_full_state() -> DeploymentState:
    """A state in which every section holds something."""
    state = DeploymentState()
    state.steps["collect_required_config"] = COMPLETED
    state.answers = {"PUBLIC_URL": Given("avatar.example.com", Source.ENVIRONMENT)}
    state.accepted = ["LOG_LEVEL"]
    state.again = ["ENV_NAME"]
    state.files = {".env": digest(b"old")}
    state.secrets = {"db_password": 1}
    state.basis = {"program": "1", "templates": "2"}
    state.begin("generate_env_file", [File(".env", b"new", 0o600)], {"sso_client_id": 1})
    return state


def same(one: DeploymentState, other: DeploymentState) -> bool:
    return one.file.data == other.file.data


# --- the steps ----------------------------------------------------------------------------------


def test_the_seven_steps_have_their_names_in_their_order() -> None:
    assert STEP_NAMES == STEPS


def test_a_fresh_state_has_started_nothing(volume: Volume) -> None:
    state = DeploymentState.load(volume)
    assert state.steps == dict.fromkeys(STEPS, NOT_STARTED)
    assert not state.exists
    assert not state.is_complete()
    assert state.next_step == STEPS[0]


def test_loading_writes_nothing(volume: Volume, tmp_path: Path) -> None:
    DeploymentState.load(volume)
    assert tree(tmp_path) == {}


def test_a_step_goes_from_not_started_over_in_progress_to_completed(volume: Volume) -> None:
    state = DeploymentState()
    for step, after in zip(STEPS, (*STEPS[1:], None), strict=True):
        assert state.next_step == step
        state.begin(step, [], {})
        state.save(volume)
        assert DeploymentState.load(volume).steps[step] == IN_PROGRESS
        assert DeploymentState.load(volume).next_step == step
        state.complete(step)
        state.save(volume)
        assert DeploymentState.load(volume).steps[step] == COMPLETED
        assert DeploymentState.load(volume).next_step == after
    assert DeploymentState.load(volume).is_complete()


def test_what_is_announced_is_known_before_and_recorded_after(volume: Volume) -> None:
    state = DeploymentState()
    state.files = {".env": digest(b"old")}
    state.begin("generate_env_file", [File(".env", b"new", 0o600)], {"sso_client_id": 2})
    state.save(volume)
    begun = DeploymentState.load(volume)
    assert begun.announced == {".env": digest(b"new")}
    assert begun.announced_secrets == {"sso_client_id": 2}
    assert begun.knows(".env", b"old")
    assert begun.knows(".env", b"new")
    assert not begun.knows(".env", b"by hand")
    assert not begun.knows("nginx/nginx.conf", b"new")
    begun.complete("generate_env_file")
    begun.save(volume)
    completed = DeploymentState.load(volume)
    assert completed.files == {".env": digest(b"new")}
    assert completed.secrets == {"sso_client_id": 2}
    assert (completed.announced, completed.announced_secrets) == ({}, {})
    assert not completed.knows(".env", b"old")


def test_reopening_concerns_a_step_and_all_after_it() -> None:
    state = DeploymentState()
    for step in STEPS:
        state.complete(step)
    state.reopen("generate_secrets")
    assert list(state.steps.values()) == [COMPLETED] * 4 + [NOT_STARTED] * 3
    assert state.next_step == "generate_secrets"


def test_forgetting_keeps_what_protects_files_and_secrets() -> None:
    state = a_full_state()
    fresh = state.forget()
    assert fresh.steps == dict.fromkeys(STEPS, NOT_STARTED)
    assert (fresh.answers, fresh.accepted, fresh.again, fresh.basis) == ({}, [], [], {})
    assert (fresh.files, fresh.secrets) == (state.files, state.secrets)
    assert (fresh.announced, fresh.announced_secrets) == (state.announced, state.announced_secrets)


# --- what is on the disk ------------------------------------------------------------------------


def test_a_state_comes_back_as_it_was_saved(volume: Volume) -> None:
    state = a_full_state()
    state.save(volume)
    back = DeploymentState.load(volume)
    output = ("steps", "answers", "accepted", "again", "files", "announced", "secrets", "announced_secrets", "basis")
    for section in output:
        assert getattr(back, section) == getattr(state, section), section
    assert back.exists


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60))
def test_every_text_comes_back_unchanged(tmp_path: Path, text: str) -> None:
    volume = Volume(tmp_path)
    try:
        state = DeploymentState()
        state.answers = {"SMTP_USERNAME": Given(text, Source.ANSWER)}
        state.save(volume)
        assert DeploymentState.load(volume).answers == state.answers
    finally:
        volume.close()


@pytest.mark.parametrize("text", ["3.10", "NO", "null", "~", "", "22:22", "0x10", "1e3", "true", "- a", "a: b", " a "])
def test_texts_that_look_like_other_types_stay_texts(volume: Volume, text: str) -> None:
    state = DeploymentState()
    state.answers = {"AVATAR_API_VERSION": Given(text, Source.CALLER)}
    state.save(volume)
    assert DeploymentState.load(volume).answers["AVATAR_API_VERSION"] == Given(text, Source.CALLER)


@pytest.mark.parametrize("source", list(Source))
def test_every_source_comes_back(volume: Volume, source: Source) -> None:
    state = DeploymentState()
    state.answers = {"ENV_NAME": Given("prod", source)}
    state.save(volume)
    assert DeploymentState.load(volume).answers["ENV_NAME"].source is source


def test_the_same_state_gives_the_same_bytes(volume: Volume) -> None:
    state = a_full_state()
    state.save(volume)
    assert same(DeploymentState.load(volume), state)


def test_saving_replaces_the_file_as_a_whole_with_mode_0600(volume: Volume, tmp_path: Path) -> None:
    state = DeploymentState()
    state.save(volume)
    (tmp_path / STATE).chmod(0o644)
    before = (tmp_path / STATE).stat().st_ino
    state.save(volume)
    status = (tmp_path / STATE).stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_ino != before
    assert list(tree(tmp_path)) == [STATE, LAST_GOOD]


def test_the_state_of_before_stands_beside_a_state(volume: Volume, tmp_path: Path) -> None:
    state = a_full_state()
    state.save(volume)
    before = (tmp_path / STATE).read_bytes()
    assert not (tmp_path / LAST_GOOD).exists()
    state.complete("generate_env_file")
    state.save(volume)
    assert (tmp_path / LAST_GOOD).read_bytes() == before != (tmp_path / STATE).read_bytes()


def test_a_complete_state_stands_there_twice_in_two_files(deployment: Path) -> None:
    one, other = (deployment / STATE), (deployment / LAST_GOOD)
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_ino != other.stat().st_ino
    assert stat.S_IMODE(other.stat().st_mode) == 0o600


def test_no_secret_ever_stands_in_the_state(tmp_path: Path) -> None:
    given = every_secret()
    out = tmp_path / "out"
    out.mkdir()
    ran(
        out, settings={"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "prod", "SMTP_HOST": "mail.example.com", **given}
    )
    state = (out / STATE).read_text()
    texts = [*given.values(), *secrets(out).values()]
    for text in texts:
        assert text not in state or text in ("Example", "postgres"), text
        assert digest(text.encode()) not in state
    customary = {"avatar", "avataruser", "postgres", "authentik", "authentikuser"}
    assert OPERATORS["SMTP_PASSWORD"] in texts
    assert not any(text in state for text in secrets(out).values() if text not in customary | {"Example"})


# --- what is refused ----------------------------------------------------------------------------

GOOD = a_full_state().file.data.decode()

REFUSED = {
    "empty": b"",
    "one blank line": b"\n",
    "only a comment": b"# nothing\n",
    "garbage": b"{[}:\n\t- x",
    "binary": bytes(range(256)) * 8,
    "not UTF-8": "tool: avatar-setup\n# \xe9".encode("latin-1"),
    "UTF-16": GOOD.encode("utf-16"),
    "NUL bytes": b"\0" * 512,
    "a text": b"hello",
    "a list": b"- tool: avatar-setup\n",
    "an alias": GOOD.replace("steps:", "steps: &a").encode() + b"other: *a\n",
    "a tag": b"!!python/object:os.system {}\n",
    "a key twice": GOOD.encode() + b"tool: avatar-setup\n",
    "another tool's": b"tool: terraform\nschema: 1\nsteps: {}\n",
    "the public tool's": b"version: '1'\nsteps:\n  step_1_collect_required: completed\n",
    "no schema": GOOD.replace("schema: 1\n", "").encode(),
    "a schema that is none": GOOD.replace("schema: 1", "schema: 0").encode(),
    "a newer schema": GOOD.replace("schema: 1", "schema: 2").encode(),
    "steps of another release": GOOD.replace("finalize:", "polish:").encode(),
    "a step missing": GOOD.replace("  finalize: not-started\n", "").encode(),
    "a step's status": GOOD.replace("finalize: not-started", "finalize: done").encode(),
    "steps by index": GOOD.replace("steps:\n", "steps: 4\nother:\n").encode(),
    "an answer without a source": GOOD.replace("    source: environment\n", "").encode(),
    "an answer of unknown source": GOOD.replace("source: environment", "source: dream").encode(),
    "an answer of unknown key": GOOD.replace("  PUBLIC_URL:", "  PUBLIC_ULR:").encode(),
    "an accepted unknown key": GOOD.replace("- LOG_LEVEL", "- LOG_LEVLE").encode(),
    "an unknown key to be asked again": GOOD.replace("- ENV_NAME", "- ENV_MANE").encode(),
    "an unknown secret": GOOD.replace("db_password: 1", "db_passwort: 1").encode(),
    "answers as a list": GOOD.replace("answers:\n", "answers: []\nother:\n").encode(),
    "a count that is none": GOOD.replace("db_password: 1", "db_password: many").encode(),
    "a huge count": GOOD.replace("db_password: 1", "db_password: 99999999999").encode(),
    "files as a text": GOOD.replace("files:\n", "files: x\nother:\n", 1).encode(),
    "accepted as a text": GOOD.replace("accepted:\n- LOG_LEVEL", "accepted: LOG_LEVEL").encode(),
    "deep nesting": b"tool: avatar-setup\nschema: 1\nsteps: " + b"[" * 5000,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_a_state_that_cannot_be_used_is_refused_with_a_way_on(volume: Volume, tmp_path: Path, data: bytes) -> None:
    assert data != GOOD.encode()
    (tmp_path / STATE).write_bytes(data)
    with pytest.raises(VolumeError) as refused:
        DeploymentState.load(volume)
    message = str(refused.value)
    assert STATE in message
    assert "Nothing was changed" in message
    assert "backup" in message
    assert f"mv {STATE} {STATE}.broken" in message
    assert "Traceback" not in message
    assert (tmp_path / STATE).read_bytes() == data


def test_the_steps_of_a_run_are_those_of_the_state_file() -> None:
    assert tuple(steps.STEPS) == STEP_NAMES == STEPS
    assert {place.writer for place in PLACES} <= {*STEP_NAMES, "every run"}


def test_a_newer_schema_is_named_as_such(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(REFUSED["a newer schema"])
    with pytest.raises(VolumeError, match="schema is 2, this release knows 1: run the newer one"):
        DeploymentState.load(volume)


def test_a_state_that_was_cut_short_anywhere_is_refused(volume: Volume, tmp_path: Path) -> None:
    """A cut that would only lose the record of secrets must not pass for a state without any."""
    data = GOOD.rstrip("\n").encode()
    taken = []
    for length in range(len(data)):
        (tmp_path / STATE).write_bytes(data[:length])
        try:
            DeploymentState.load(volume)
        except VolumeError:
            continue
        taken.append(data[:length][-30:])
    assert taken == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Written by", "# Looked at by me\n# Written by"),
        ("\n", "\r\n"),
        ("value: avatar.example.com", "value: other.example.com"),
        ("status", "status"),
    ],
)
def test_a_harmless_edit_is_a_true_continuation(volume: Volume, tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / STATE).write_bytes(GOOD.replace(old, new).encode())
    state = DeploymentState.load(volume)
    assert state.next_step == "collect_optional_config"
    assert state.secrets == {"db_password": 1}
    assert state.answers["PUBLIC_URL"].text == ("other.example.com" if "other" in new else "avatar.example.com")


@pytest.mark.parametrize("flags", [(), ("--status",), ("--status", "--json"), ("--reset",), ("--non-interactive",)])
@pytest.mark.parametrize("kind", ["empty", "garbage", "another tool's", "a newer schema"])
def test_no_command_replaces_a_state_it_cannot_read(tmp_path: Path, kind: str, flags: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / STATE).write_bytes(REFUSED[kind])
    before = tree(out)
    refused = ran(out, *flags, code=1)
    assert f"mv {STATE} {STATE}.broken" in refused.stderr
    assert tree(out) == before


def test_the_advice_for_a_broken_state_works(deployment: Path, tmp_path: Path) -> None:
    (deployment / STATE).write_bytes(b"broken")
    (deployment / LAST_GOOD).unlink()  # as from a release that kept none
    kept = secrets(deployment)
    ran(deployment, code=1)
    (deployment / STATE).rename(deployment / f"{STATE}.broken")
    ran(deployment)
    assert secrets(deployment) == kept


@pytest.mark.parametrize("damage", ["empty", "garbage", "NUL bytes", "gone"])
def test_a_state_that_was_lost_comes_back_with_one_command(deployment: Path, damage: str) -> None:
    before = tree(deployment)
    if damage == "gone":
        (deployment / STATE).unlink()
    else:
        (deployment / STATE).write_bytes(REFUSED[damage])
    for flags in ((), ("--status",), ("--reset",), ("--set", "LOG_LEVEL=DEBUG")):
        refused = ran(deployment, *flags, code=1)
        assert f"cp {LAST_GOOD} {STATE}" in refused.stderr
    subprocess.run(["cp", LAST_GOOD, STATE], cwd=deployment, check=True)
    assert "Nothing to do" in ran(deployment, settings={}).stdout
    (deployment / STATE).chmod(0o600)
    assert tree(deployment) == before


@pytest.mark.slow
def test_a_state_that_was_lost_in_the_middle_goes_on_from_the_last_good_one(tmp_path: Path, volume: Volume) -> None:
    """Of a run that was killed: what came after the last good state is done again, and nothing is made anew."""
    out = tmp_path / "out"
    out.mkdir()
    killed = ("strace", "-qq", "-o", os.devnull, "-e", "trace=renameat", "-e", "inject=renameat:signal=KILL:when=20")
    require_strace()
    run(out, prefix=killed)
    kept = secrets(out)
    assert kept
    (out / STATE).write_bytes(b"")
    assert f"cp {LAST_GOOD} {STATE}" in ran(out, code=1).stderr
    (out / STATE).write_bytes((out / LAST_GOOD).read_bytes())
    ran(out)
    assert {name: secrets(out)[name] for name in kept} == kept


def test_a_state_and_its_last_good_one_both_lost_are_refused_with_a_way_on(deployment: Path) -> None:
    (deployment / STATE).write_bytes(b"")
    (deployment / LAST_GOOD).write_bytes(b"hello")
    kept = secrets(deployment)
    refused = ran(deployment, code=1)
    assert f"mv {STATE} {STATE}.broken; rm -f {LAST_GOOD}" in refused.stderr
    (deployment / STATE).unlink()
    (deployment / LAST_GOOD).unlink()
    ran(deployment)
    assert secrets(deployment) == kept


def test_an_invalid_answer_in_the_state_is_named_and_can_be_given_anew(deployment: Path) -> None:
    state = (deployment / STATE).read_text()
    (deployment / STATE).write_text(state.replace("value: avatar.example.com", "value: 'no host at all'"))
    before = tree(deployment)
    refused = ran(deployment, code=1, settings={})
    assert "PUBLIC_URL" in refused.stderr
    assert tree(deployment) == before
    ran(deployment, settings={"PUBLIC_URL": "avatar.example.com"})


def test_every_setting_can_be_saved(volume: Volume) -> None:
    state = DeploymentState()
    state.answers = {key: Given("x", Source.CONFIG_FILE) for key in SETTINGS}
    state.save(volume)
    assert list(DeploymentState.load(volume).answers) == list(SETTINGS)
