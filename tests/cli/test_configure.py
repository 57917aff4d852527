"""DeploymentConfigurator as a program uses it: its signatures, resuming, single steps, and working without state."""

from __future__ import annotations

import inspect
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from setup.configure import DeploymentConfigurator, find_templates
from setup.errors import Busy, DecisionNeeded, InputError, VolumeError
from setup.state_file import COMPLETED
from setup.state_manager import DeploymentState
from setup.volume.volume import Volume
from tests.support.runs import (
    LOCK,
    OPERATORS,
    REQUIRED,
    STATE,
    STEPS,
    WRITTEN,
    by_meaning,
    command,
    deployed,
    env_file,
    environment,
    every_secret,
    holding,
    leftovers,
    paths,
    python,
    ran,
    require_strace,
    secrets,
    stamps,
    tree,
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def configurator(out: Path, use_state: bool = True, **config: str) -> DeploymentConfigurator:
    """One that hears only what it is told here."""
    return DeploymentConfigurator(find_templates(), out, config={**REQUIRED, **config}, use_state=use_state, environ={})


def state_of(out: Path) -> DeploymentState:
    volume = Volume(out)
    try:
        return DeploymentState.load(volume)
    finally:
        volume.close()


# --- the interface ------------------------------------------------------------------------------


def test_the_signatures_are_those_of_the_specification() -> None:
    def parameters(function: object) -> list[tuple[str, object]]:
        found = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        return [(one.name, one.default) for one in found if one.name != "self" and one.kind != one.KEYWORD_ONLY]

    empty = inspect.Parameter.empty
    assert parameters(DeploymentConfigurator.__init__) == [
        ("templates_dir", empty),
        ("output_dir", empty),
        ("defaults_file", None),
        ("config", None),
        ("use_state", True),
    ]
    assert parameters(DeploymentConfigurator.run) == [
        ("interactive", True),
        ("config_file", None),
        ("auth_type", "email"),
        ("save_config", False),
        ("prompt_secrets", True),
        ("reset", False),
    ]
    more = inspect.signature(DeploymentConfigurator).parameters["environ"]
    assert (more.kind, more.default) == (more.KEYWORD_ONLY, None)
    assert [name for name, _ in parameters(DeploymentConfigurator.prompt_user_secrets)] == ["auth_type", "skip_prompts"]
    assert callable(DeploymentConfigurator._prompt_optional_config)


def test_a_run_makes_the_whole_tree_and_tells_what_it_did(out: Path) -> None:
    made = configurator(out)
    made.run(interactive=False)
    assert made.result["status"] == "complete"
    assert {".env", "nginx/nginx.conf", "docker-compose.yml", ".secrets/db_password"} <= set(made.result["written"])
    assert set(made.result["pending_secrets"]) == {name.lower() for name in OPERATORS}
    assert all((out / path).is_file() for path in made.result["written"])
    assert state_of(out).is_complete()
    again = configurator(out)
    again.run(interactive=False)
    assert (again.result["status"], again.result["written"]) == ("unchanged", [])


def test_a_default_auth_type_does_not_outrank_what_was_said(out: Path) -> None:
    configurator(out, AUTH_TYPE="username", AVATAR_API_VERSION="2.81").run(interactive=False)
    assert env_file(out)["USE_EMAIL_AUTHENTICATION"] == "false"
    configurator(out).run(interactive=False, auth_type="email")
    assert env_file(out)["USE_EMAIL_AUTHENTICATION"] == "false"


def test_an_auth_type_that_is_no_default_is_the_callers_word(out: Path) -> None:
    configurator(out, AVATAR_API_VERSION="2.81").run(interactive=False, auth_type="username")
    assert env_file(out)["USE_EMAIL_AUTHENTICATION"] == "false"
    assert "avatar_first_user_password" in secrets(out)


def test_configuration_files_and_saved_configurations(out: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("LOG_LEVEL: DEBUG\norganization_name: Example\n")
    configurator(out).run(interactive=False, config_file=tmp_path / "config.yaml", save_config=True)
    assert env_file(out)["LOG_LEVEL"] == "DEBUG"
    assert secrets(out)["organization_name"] == "Example"
    saved = (out / "deployment-config.yaml").read_text()
    assert 'LOG_LEVEL: "DEBUG"' in saved
    assert "Example" not in saved


def test_values_of_any_type_may_be_given(out: Path) -> None:
    config = {**REQUIRED, "SMTP_VERIFY": False, "SMTP_PORT": 465, "SMTP_HOST": "mail"}
    made = DeploymentConfigurator(find_templates(), str(out), config=config, environ={})
    made.run(interactive=False)
    shown = env_file(out)
    assert (shown["SMTP_VERIFY"], shown["SMTP_PORT"], shown["SMTP_USE_TLS"]) == ("false", "465", "true")


def test_a_refusal_comes_before_the_first_write(out: Path) -> None:
    with pytest.raises(InputError, match="LOG_LEVEL"):
        configurator(out, LOG_LEVEL="LOUD").run(interactive=False)
    assert tree(out) == {}


def test_a_run_beside_another_is_refused(out: Path) -> None:
    with holding(out / LOCK), pytest.raises(Busy, match="process 4711 on elsewhere"):
        configurator(out).run(interactive=False)
    assert [path.name for path in paths(out)] == [LOCK]


# --- resuming -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_ended_anywhere_is_resumed_by_another_process_without_inputs(tmp_path: Path) -> None:
    """Killed before each rename: so after every step, and in the middle of each that publishes files."""
    require_strace()
    whole = by_meaning(deployed(tmp_path / "whole", "--set", "LOG_LEVEL=DEBUG"))
    seen = set()
    for number in range(1, 100):
        out = tmp_path / str(number)
        out.mkdir()
        kill = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject=renameat:signal=KILL:when={number}")
        done = subprocess.run(
            [*kill, *command(out, "--set", "LOG_LEVEL=DEBUG")], env=environment(), capture_output=True, check=False
        )
        if done.returncode == 0:
            break
        completed = sum(status == COMPLETED for status in state_of(out).steps.values())
        seen.add(completed)
        kept = secrets(out)
        before = stamps(out)
        status = ran(out, "--status", code=3, settings={})
        assert f"{completed}/7 steps completed" in status.stdout
        assert stamps(out) == before
        ran(out, settings=REQUIRED if completed == 0 else {})
        assert kept.items() <= secrets(out).items()
        assert leftovers(out) == []
        if completed >= 2:  # the optional settings were saved
            assert by_meaning(out) == whole, f"after a kill before rename {number}"
        else:
            assert env_file(out)["LOG_LEVEL"] == "INFO"
    assert seen >= {0, 2, 3, 4, 5, 6}  # without questions the two first steps are saved together
    assert number > 12


def test_a_resume_keeps_what_was_answered_and_takes_what_is_new(out: Path) -> None:
    state = DeploymentState()
    volume = Volume(out)
    state.save(volume)
    volume.close()
    made = configurator(out)
    made._prompt_optional_config()
    assert state_of(out).steps["collect_optional_config"] == COMPLETED
    ran(out, settings={**REQUIRED, "LOG_LEVEL": "ERROR"})
    assert env_file(out)["LOG_LEVEL"] == "ERROR"


# --- single steps -------------------------------------------------------------------------------


def test_the_operators_secrets_can_be_taken_alone(out: Path) -> None:
    made = configurator(out)
    made.environ = {"ORGANIZATION_NAME": "Example"}
    made.prompt_user_secrets(auth_type="email", skip_prompts=True)
    assert secrets(out)["organization_name"] == "Example"
    assert (out / ".secrets" / "admin_emails").read_bytes() == b""
    assert state_of(out).steps["prompt_user_secrets"] == COMPLETED
    assert state_of(out).next_step == STEPS[0]
    kept = secrets(out)
    shown = env_file(out)
    ran(out)
    assert kept.items() <= secrets(out).items()
    assert env_file(out)["SSO_CLIENT_SECRET"] == secrets(out)["sso_client_secret"]
    assert env_file(out) == shown, "what stood in .env before is bound to secrets that must have been kept"


def test_a_single_step_takes_the_lock(out: Path) -> None:
    with holding(out / LOCK):
        with pytest.raises(Busy):
            configurator(out).prompt_user_secrets(skip_prompts=True)
        with pytest.raises(Busy):
            configurator(out)._prompt_optional_config()


def test_the_secrets_of_the_other_auth_type(out: Path) -> None:
    configurator(out, AVATAR_API_VERSION="2.81").prompt_user_secrets(auth_type="username", skip_prompts=True)
    assert (out / ".secrets" / "avatar_first_user_name").read_bytes() == b""
    assert not (out / ".secrets" / "admin_emails").exists()


# --- without state ------------------------------------------------------------------------------


def test_without_state_the_same_tree_is_made_but_for_the_state(out: Path, tmp_path: Path) -> None:
    configurator(out, use_state=False).run(interactive=False)
    expected = by_meaning(deployed(tmp_path / "reference"))
    remembered = (STATE, WRITTEN)
    assert by_meaning(out) == {path: one for path, one in expected.items() if not path.startswith(remembered)}


def test_without_state_a_second_run_changes_no_byte(out: Path) -> None:
    configurator(out, use_state=False).run(interactive=False)
    before = tree(out)
    configurator(out, use_state=False).run(interactive=False)
    assert tree(out) == before


def test_without_state_what_is_replaced_is_kept(out: Path) -> None:
    configurator(out, use_state=False).run(interactive=False)
    kept = secrets(out)
    old = (out / ".env").read_bytes()
    (out / "nginx" / "nginx.conf").write_text("by hand")
    configurator(out, use_state=False, LOG_LEVEL="DEBUG").run(interactive=False)
    assert secrets(out) == kept
    assert env_file(out)["LOG_LEVEL"] == "DEBUG"
    assert (out / ".env.bak").read_bytes() == old
    assert stat.S_IMODE((out / ".env.bak").stat().st_mode) == 0o600
    assert (out / "nginx" / "nginx.conf.bak").read_text() == "by hand"
    assert not (out / "docker-compose.yml.bak").exists()
    assert not list((out / ".secrets").glob("*.bak"))


def test_without_state_a_volume_that_has_one_is_refused(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    before = stamps(out)
    for reset in (False, True):
        with pytest.raises(VolumeError, match=STATE):
            configurator(out, use_state=False).run(interactive=False, reset=reset)
    with pytest.raises(VolumeError, match=STATE):
        configurator(out, use_state=False).prompt_user_secrets(skip_prompts=True)
    after = stamps(out)
    assert {path for path in after if after[path] != before.get(path)} <= {LOCK}


def test_without_state_no_run_works_beside_another(out: Path) -> None:
    with holding(out / LOCK), pytest.raises(Busy):
        configurator(out, use_state=False).run(interactive=False)


def test_without_state_a_bound_secret_still_holds(out: Path) -> None:
    first = configurator(out, use_state=False)
    first.environ = {"DB_PASSWORD": "first"}
    first.run(interactive=False)
    second = configurator(out, use_state=False)
    second.environ = {"DB_PASSWORD": "second"}
    with pytest.raises(DecisionNeeded, match="DB_PASSWORD"):
        second.run(interactive=False)
    assert secrets(out)["db_password"] == "first"


def test_from_another_process(out: Path) -> None:
    """As a script would: the package imported, nothing prepared."""
    code = (
        "import json, sys\n"
        "from setup.configure import DeploymentConfigurator, find_templates\n"
        "from setup.deploy.options import RunOptions\n"
        "made = DeploymentConfigurator(find_templates(), sys.argv[1], use_state=False)\n"
        "made.configure(RunOptions(quiet=True))\n"
        "print(json.dumps(made.result))\n"
    )
    settings = {**REQUIRED, **every_secret()}
    result = json.loads(python(code, str(out), cwd=out.parent, settings=settings))
    assert result["status"] == "complete"
    assert result["pending_secrets"] == []
    assert not (out / STATE).exists()
