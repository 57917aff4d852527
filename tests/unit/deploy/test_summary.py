"""What the operator is told: the status to the letter, its data, and the last message of a run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from setup.config.settings import SETTINGS
from setup.deploy import summary
from setup.state_manager import DeploymentState
from setup.volume.volume import Volume
from tests.support.runs import (
    LOCK,
    OPERATORS,
    REQUIRED,
    STATE,
    STEPS,
    command,
    deployed,
    environment,
    every_secret,
    holding,
    ran,
    require_root,
    require_strace,
    secrets,
    stamps,
    tree,
)

# The session of the specification.
FOUR_OF_SEVEN = """\
Deployment Configuration Status
================================
4/7 steps completed

  ✓ Collect Required Config: completed
  ✓ Collect Optional Config: completed
  ✓ Generate Env File: completed
  ✓ Generate Nginx Config: completed
  ○ Generate Secrets: not-started
  ○ Prompt User Secrets: not-started
  ○ Finalize: not-started

→ Next step: Generate Secrets
"""

FOUND = """\
Existing Configuration Found
=============================
Deployment Configuration Status

4/7 steps completed

  ✓ Collect Required Config: completed
  ✓ Collect Optional Config: completed
  ✓ Generate Env File: completed
  ✓ Generate Nginx Config: completed
  ○ Generate Secrets: not-started
  ○ Prompt User Secrets: not-started
  ○ Finalize: not-started

→ Next step: Generate Secrets
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def after(number: int) -> DeploymentState:
    state = DeploymentState()
    for step in STEPS[:number]:
        state.complete(step)
    return state


def saved(state: DeploymentState, out: Path) -> None:
    volume = Volume(out)
    state.save(volume)
    volume.close()


def interrupted(out: Path, rule: str) -> None:
    """A real run that was killed."""
    require_strace()
    kill = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={rule}")
    done = subprocess.run([*kill, *command(out)], env=environment(), capture_output=True, check=False)
    assert done.returncode == -9


# --- the text -----------------------------------------------------------------------------------


def test_the_status_of_an_interrupted_configuration_is_the_specifications(out: Path) -> None:
    saved(after(4), out)
    assert ran(out, "--status", code=3, settings={}).stdout == FOUR_OF_SEVEN


def test_an_interactive_run_shows_it_under_its_own_heading() -> None:
    assert "\n".join(summary.existing_lines(after(4))) + "\n" == FOUND


@pytest.mark.parametrize("number", range(8))
def test_every_stage_has_its_line(out: Path, number: int) -> None:
    saved(after(number), out)
    lines = ran(out, "--status", code=0 if number == 7 else 3, settings={}).stdout.splitlines()
    assert lines[2] == f"{number}/7 steps completed"
    titles = [step.replace("_", " ").title() for step in STEPS]
    marks = [f"  ✓ {title}: completed" for title in titles[:number]]
    marks += [f"  ○ {title}: not-started" for title in titles[number:]]
    assert lines[4:11] == marks
    last = "Ready: no, --check lists what is missing (" if number == 7 else f"→ Next step: {titles[number]}"
    assert lines[11] == ""
    assert lines[12].startswith(last)


@pytest.mark.slow
def test_a_step_that_was_interrupted_is_in_progress(out: Path) -> None:
    interrupted(out, "linkat:signal=KILL:when=1")
    shown = ran(out, "--status", code=3, settings={}).stdout
    assert "2/7 steps completed" in shown
    assert "  ◐ Generate Env File: in-progress\n" in shown
    assert "→ Next step: Generate Env File\n" in shown
    data = json.loads(ran(out, "--status", "--json", code=3, settings={}).stdout)
    assert data["steps"]["generate_env_file"] == "in-progress"
    assert data["next_step"] == "generate_env_file"


def test_an_empty_volume_has_a_status(out: Path) -> None:
    shown = ran(out, "--status", code=3, settings={}).stdout
    assert "0/7 steps completed" in shown
    assert "→ Next step: Collect Required Config" in shown
    assert tree(out) == {}


def test_pending_secrets_are_listed_until_they_are_filled(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    shown = ran(out, "--status", settings={}).stdout
    assert "7/7 steps completed" in shown
    assert "Next step" not in shown
    for name in OPERATORS:
        assert f"  .secrets/{name.lower()}\n" in shown
        (out / ".secrets" / name.lower()).write_text(OPERATORS[name])
    assert "Pending" not in ran(out, "--status", settings={}).stdout


def test_the_status_says_nothing_about_this_runs_inputs(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    usual = ran(out, "--status", settings={}).stdout
    assert ran(out, "--status", settings={"LOG_LEVEL": "LOUD", "PUBLIC_URL": "other.example.com"}).stdout == usual


# --- the data -----------------------------------------------------------------------------------


def test_the_status_as_data(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", "--set", "LOG_LEVEL=debug", settings={**REQUIRED, "PRESET": "dev-mode"})
    data = json.loads(ran(out, "--status", "--json", settings={}).stdout)
    assert data["steps"] == dict.fromkeys(STEPS, "completed")
    assert (data["completed"], data["total"], data["next_step"]) == (7, 7, None)
    assert (data["complete"], data["ready"]) == (True, False)
    assert sorted(data["pending_secrets"]) == sorted(name.lower() for name in OPERATORS)
    assert data["settings"]["LOG_LEVEL"] == {"value": "DEBUG", "source": "caller"}
    assert data["settings"]["PUBLIC_URL"] == {"value": "avatar.example.com", "source": "environment"}
    assert data["settings"]["USE_CONSOLE_LOGGING"] == {"value": "true", "source": "preset"}
    assert data["settings"]["SMTP_PORT"] == {"value": "587", "source": "default"}
    assert data["settings"].keys() <= SETTINGS.keys()
    for path, one in data["files"].items():
        assert one["sha256"] == hashlib.sha256((out / path).read_bytes()).hexdigest()
        assert one["state"] == "unmodified"
    assert {".env", "nginx/nginx.conf", "docker-compose.yml"} <= data["files"].keys()
    assert not any(path.startswith(".secrets/") for path in data["files"])


def test_the_data_tells_edited_and_missing_files(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    (out / ".env").write_text("mine")
    (out / "docker-compose.yml").unlink()
    files = json.loads(ran(out, "--status", "--json", settings={}).stdout)["files"]
    assert files[".env"]["state"] == "edited"
    assert files["docker-compose.yml"]["state"] == "missing"


@pytest.mark.parametrize(("mode", "ready"), [("self-signed", True), ("provided", False)])
def test_ready_means_that_the_check_passes(tmp_path: Path, mode: str, ready: bool) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, **OPERATORS, "TLS_MODE": mode})
    data = json.loads(ran(out, "--status", "--json", settings={}).stdout)
    assert (data["complete"], data["ready"], data["pending_secrets"]) == (True, ready, [])
    ran(out, "--check", settings={}, code=0 if ready else 3)


def test_the_data_of_an_empty_volume(out: Path) -> None:
    data = json.loads(ran(out, "--status", "--json", code=3, settings={}).stdout)
    assert (data["completed"], data["complete"], data["ready"], data["files"]) == (0, False, False, {})


def test_no_secret_shows_in_the_status(tmp_path: Path) -> None:
    given = every_secret()
    out = deployed(tmp_path / "out", settings={**REQUIRED, **given})
    shown = ran(out, "--status", settings={}).stdout + ran(out, "--status", "--json", settings={}).stdout
    for name, text in secrets(out).items():
        if name not in ("organization_name", "admin_emails"):
            assert text not in shown, name
    assert given["SMTP_PASSWORD"] not in shown


# --- only a look --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--status",), ("--status", "--json")])
@pytest.mark.parametrize("at_work", [True, False], ids=["beside a run", "alone"])
def test_the_status_writes_nothing_and_keeps_nobody_out(tmp_path: Path, flags: tuple[str, ...], at_work: bool) -> None:
    """It only asks for the lock beside a run, which has it: whoever comes later never finds the status there."""
    require_strace()
    out = deployed(tmp_path / "out")
    before = stamps(out)
    log = tmp_path / "trace"
    calls = "openat,open,creat,flock,mkdirat,mkdir,renameat,rename,renameat2,unlinkat,unlink,linkat,ftruncate,fchmod"
    with holding(out / LOCK) if at_work else contextlib.nullcontext():
        held = stamps(out)
        ran(out, *flags, prefix=("strace", "-f", "-qq", "-o", str(log), "-e", f"trace={calls}"), settings={})
        assert stamps(out) == held
    text = "\n".join(line for line in log.read_text().splitlines() if "/proc/self/coredump_filter" not in line)
    assert "O_CREAT" not in text and "O_WRONLY" not in text and "O_RDWR|" not in text.replace("/dev/", "")
    rest = [line for line in text.splitlines() if not any(word in line for word in ("open", "exited", "+++"))]
    assert bool(rest) == at_work
    assert all("LOCK_SH|LOCK_NB)" in line and "EAGAIN" in line for line in rest)
    assert stamps(out).keys() == before.keys()


def test_the_status_names_a_run_at_work(tmp_path: Path) -> None:
    """What is not complete then is under way, not interrupted."""
    out = deployed(tmp_path / "out")
    output = "nother run is working on this volume (process 4711 on elsewhere): wait for it to end and run again"
    with holding(out / LOCK):
        assert f"◐ A{output}\n" in ran(out, "--status", settings={}).stdout
        assert json.loads(ran(out, "--status", "--json", settings={}).stdout)["busy"] == f"a{output}"
    (out / LOCK).write_text("process 4711 on elsewhere\n")  # as a run that was killed leaves it
    assert "4711" not in ran(out, "--status", settings={}).stdout
    assert json.loads(ran(out, "--status", "--json", settings={}).stdout)["busy"] == ""


def test_the_status_of_a_volume_that_only_may_be_read(tmp_path: Path) -> None:
    require_root()
    out = deployed(tmp_path / "out")
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh", str(out))
    assert "7/7" in ran(out, "--status", prefix=prefix, settings={}).stdout
    assert "Nothing to do" in ran(out, prefix=prefix).stdout
    refused = ran(out, "--set", "LOG_LEVEL=DEBUG", prefix=prefix, code=1)
    assert "not writable" in refused.stderr and "without :ro" in refused.stderr


# --- the last message ---------------------------------------------------------------------------


def test_the_last_message_tells_what_was_written_what_is_pending_and_what_to_type(out: Path) -> None:
    output = ran(out).stdout
    assert f"Written to {out} (owner {os.geteuid()}:{os.getegid()})" in output
    for path in (".env", "docker-compose.yml", "nginx/nginx.conf"):
        assert f"  {path}\n" in output
    for name in OPERATORS:
        assert f"  .secrets/{name.lower()} is empty or missing (" in output
    assert "docker compose up" not in output, "it would be refused"
    assert output.endswith(f" --output-dir {out} --fill\n")
    output = ran(out, settings={**OPERATORS, "TLS_MODE": "self-signed"}).stdout
    sudo = "sudo " if os.geteuid() == 0 else ""
    assert output.endswith(f"Next, on the host, in {out}:\n  {sudo}docker compose up -d\n")


def test_the_first_message_of_a_deployment_that_is_ready_says_what_comes_before_the_start(out: Path) -> None:
    output = ran(out, settings={**REQUIRED, **OPERATORS, "TLS_MODE": "self-signed"}).stdout
    sudo = "sudo " if os.geteuid() == 0 else ""
    assert f"  {sudo}docker login quay.io\n" in output
    assert "name=avatar_postgres_data" in output
    assert output.endswith(f"  {sudo}docker compose up -d\n")


def test_the_last_message_follows_the_settings(out: Path) -> None:
    settings = {**REQUIRED, **OPERATORS, "AVATAR_REGISTRY": "mirror.example.com/avatar", "DB_HOST": "db.example.com"}
    admin = {"DB_ADMIN_USER": "postgres", "DB_ADMIN_PASSWORD": "x" * 20, "TLS_MODE": "self-signed"}
    output = ran(out, settings={**settings, **admin}).stdout
    assert "docker login mirror.example.com\n" in output
    assert "docker volume ls" not in output
    assert "Missing" not in output


def test_no_secret_shows_in_what_a_run_says(out: Path) -> None:
    given = every_secret()
    done = ran(out, settings={**REQUIRED, **given})
    again = ran(out, "--debug", settings={**REQUIRED, **given, "SEAWEEDFS_ADMIN_PASSWORD": "another-one"})
    output = done.stdout + done.stderr + again.stdout + again.stderr
    for name, text in (given | {"X": "another-one"}).items():
        if name not in ("ORGANIZATION_NAME",):
            assert text not in output, name
    assert "seaweedfs_admin_password" in again.stdout
    assert STATE in {path.name for path in out.iterdir()}
