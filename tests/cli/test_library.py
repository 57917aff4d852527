"""The two public classes as a program uses them: the documented example, a state by its directory, quiet runs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from setup.configure import DeploymentConfigurator, find_templates
from setup.errors import Busy, DecisionNeeded, InputError, SetupError, VolumeError
from setup.state_file import COMPLETED, IN_PROGRESS, NOT_STARTED
from setup.state_manager import DeploymentState
from setup.step_names import STEP_NAMES
from setup.volume.volume import Volume
from tests.support.runs import REQUIRED, ran, secrets, tree

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "python-api.md"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def quiet_one(out: Path, **config: str) -> DeploymentConfigurator:
    return DeploymentConfigurator(find_templates(), out, config={**REQUIRED, **config}, environ={}, quiet=True)


def documented_methods() -> set[str]:
    table = PAGE.read_text().partition("## DeploymentState")[2].partition("## Errors")[0]
    return set(re.findall(r"`(\w+)\(", table)) - {"DeploymentState"}


def test_the_documented_example_runs(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(code, {"output_dir": out})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("complete ['organization_name'")
    assert lines[1] == f"<DeploymentState({str(out)!r}, 7/7 steps completed, complete)>"
    assert len(lines) == 2


def test_every_documented_method_exists_and_no_public_one_is_left_out() -> None:
    internal = {"load", "save", "begin", "complete", "reopen", "knows", "forget", "count_completed", "progress_lines"}
    public = {name for name, value in vars(DeploymentState).items() if name[0] != "_" and callable(value)}
    assert public - internal - {"load"} == documented_methods()


def test_a_state_is_marked_step_by_step(out: Path) -> None:
    state = DeploymentState(out)
    assert (state.has_started(), state.is_complete(), state.get_next_step()) == (False, False, STEP_NAMES[0])
    for number, step in enumerate(STEP_NAMES):
        assert state.get_step_status(step) == NOT_STARTED
        state.mark_step_started(step)
        assert DeploymentState(out).get_step_status(step) == IN_PROGRESS
        assert state.has_started()
        state.mark_step_completed(step)
        assert DeploymentState(out).is_step_completed(step)
        assert f"{number + 1}/7 steps completed" in repr(state)
    assert state.is_complete()
    assert state.get_next_step() is None


def test_what_another_run_wrote_is_seen_at_once(out: Path) -> None:
    state = DeploymentState(out)
    quiet_one(out).run(interactive=False)
    assert state.is_complete()
    assert state.get_step_status("finalize") == COMPLETED


def test_marks_by_hand_do_not_stand_for_files(out: Path) -> None:
    state = DeploymentState(out)
    for step in STEP_NAMES:
        state.mark_step_completed(step)
    result = quiet_one(out).run(interactive=False)
    assert result["status"] == "complete"
    assert {".env", "docker-compose.yml", ".secrets/db_password"} <= set(result["written"])
    assert quiet_one(out).run(interactive=False)["status"] == "unchanged"


def test_a_reset_keeps_files_and_secrets(out: Path) -> None:
    quiet_one(out).run(interactive=False)
    before = secrets(out)
    state = DeploymentState(out)
    state.reset()
    assert (state.has_started(), state.get_next_step()) == (False, STEP_NAMES[0])
    quiet_one(out).run(interactive=False)
    assert secrets(out) == before


def test_the_printed_status_is_that_of_the_command(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = DeploymentState(out)
    state.mark_step_completed(STEP_NAMES[0])
    state.mark_step_started(STEP_NAMES[1])
    capsys.readouterr()
    state.print_status()
    printed = capsys.readouterr().out
    assert printed.splitlines()[2] == "1/7 steps completed"
    assert ran(out, "--status", code=3).stdout.startswith(printed)


@pytest.mark.parametrize("method", ["get_step_status", "is_step_completed", "mark_step_started", "mark_step_completed"])
def test_an_unknown_step_is_refused(out: Path, method: str) -> None:
    with pytest.raises(ValueError, match=r"'finalise' is not a step; the steps are collect_required_config, .*"):
        getattr(DeploymentState(out), method)("finalise")
    assert tree(out) == {}


def test_questions_write_nothing_and_marks_respect_the_lock(out: Path) -> None:
    state = DeploymentState(out)
    state.has_started(), state.is_complete(), state.get_next_step(), state.print_status(), repr(state)
    assert tree(out) == {}
    with Volume(out) as volume, volume.locked(()), pytest.raises(Busy):
        state.mark_step_started(STEP_NAMES[0])
    assert not state.has_started()


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="nowhere"):
        DeploymentState(tmp_path / "nowhere")


def test_a_quiet_run_prints_nothing_and_returns_all(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = quiet_one(out, SMTP_VERIFY="false").run(interactive=False)
    env = out / ".env"
    env.write_text(env.read_text().replace("LOG_LEVEL=INFO", "LOG_LEVEL=TRACE"))
    with pytest.raises(DecisionNeeded):
        quiet_one(out, LOG_LEVEL="DEBUG").run(interactive=False)
    assert result["status"] == "complete"
    assert capfd.readouterr() == ("", "")


def test_warnings_are_in_the_result(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = quiet_one(out)
    made.environ = {"PUBLIC_ULR": "other.example.com"}
    result = made.run(interactive=False)
    (warning,) = result["warnings"]
    assert "PUBLIC_ULR" in warning
    assert result is made.result
    assert capfd.readouterr() == ("", "")


def test_an_empty_environment_hides_that_of_the_process(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("LOG_LEVEL", "PRESET", "ORGANIZATION_NAME", "PUBLIC_URL", "NON_INTERACTIVE", "PUID"):
        monkeypatch.setenv(key, "not read")
    result = quiet_one(out).run(interactive=False)
    assert "organization_name" in result["pending_secrets"]
    assert "not read" not in (out / ".env").read_text()
    assert os.environ["LOG_LEVEL"] == "not read"


def problems(out: Path, **config: str) -> str:
    made = DeploymentConfigurator(find_templates(), out, config=config, environ={}, quiet=True)
    with pytest.raises(SetupError) as caught:
        made.run(interactive=False)
    return "\n".join(caught.value.problems)


def test_errors_name_parameters(out: Path, tmp_path: Path) -> None:
    missing = problems(out)
    assert 'config={"PUBLIC_URL": "avatar.example.com"}' in missing
    assert 'config={"ENV_NAME": ' in missing
    assert "--set" not in missing
    with pytest.raises(InputError) as caught:
        quiet_one(out).run(interactive=False, config_file=tmp_path / "none.yaml")
    assert "--config" not in str(caught.value)
    assert tree(out) == {}


def test_what_only_the_command_can_do_is_named_as_a_command(out: Path) -> None:
    quiet_one(out, AVATAR_AUTHENTIK_VERSION="2025.10.4").run(interactive=False)
    with pytest.raises(DecisionNeeded) as caught:
        quiet_one(out, AVATAR_AUTHENTIK_VERSION="2026.8.4").run(interactive=False)
    message = str(caught.value)
    assert re.search(r'config=\{"AVATAR_AUTHENTIK_VERSION": "[0-9.]+"\}', message)
    assert "avatar-setup --unset AVATAR_AUTHENTIK_VERSION" in message
