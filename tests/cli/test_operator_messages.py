"""What commands say to a tired operator: no dead end, no false promise, and no value that another tool changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runs import (
    OPERATORS,
    REQUIRED,
    ROOT,
    WRITTEN,
    command,
    deployed,
    env_file,
    environment,
    ran,
    secrets,
)
from tests.support.terminal import session

MAIL = {"MAIL_PROVIDER": "smtp", "SMTP_HOST": "mail.example.com", "SMTP_USERNAME": "avatar"}


# --- line ends and byte order marks -----------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["p$w #1\n", "p$w #1\r\n", "p$w #1\r", "\ufeffp$w #1\n"], ids=repr)
def test_a_file_filled_by_hand_loses_its_line_end_everywhere(tmp_path: Path, typed: str) -> None:
    out = deployed(tmp_path / "out", settings=REQUIRED | MAIL)
    (out / ".secrets/smtp_password").write_bytes(typed.encode())
    (out / ".secrets/organization_name").write_bytes(b"Example\r\n")
    found = json.loads(ran(out, "--check", "--json", settings={}, code=3).stdout)["findings"]
    ended = [one for one in found if one["name"] == "secret-line-end"]
    assert {one["level"] for one in ended} == {"warn"}
    assert ".secrets/organization_name" in {one["text"].split()[0] for one in ended}
    told = ran(out, settings={}).stdout
    assert "Changed: the secret smtp_password was filled in" in told
    assert (secrets(out)["smtp_password"], secrets(out)["organization_name"]) == ("p$w #1", "Example")
    assert "p$w #1" in env_file(out)["SMTP_PASSWORD"]
    assert "secret-line-end" not in ran(out, "--check", settings={}, code=3).stdout
    assert "Nothing to do" in ran(out, settings={}).stdout


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
def test_a_value_given_with_a_line_end_is_taken_without(tmp_path: Path, end: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "password").write_bytes(f"\ufeffsecret one{end}".encode())
    (tmp_path / "config.yaml").write_text("LOG_LEVEL: |\n  DEBUG\norganization_name: |\n  Example\n")
    given = {**REQUIRED, **MAIL, "ENV_NAME": f"prod{end}", "ADMIN_EMAILS": f"ada@example.com{end}"}
    settings = {**given, "SMTP_PASSWORD_FILE": str(tmp_path / "password")}
    ran(out, "--config", str(tmp_path / "config.yaml"), settings=settings)
    assert env_file(out)["ENV_NAME"] == "prod"
    assert env_file(out)["LOG_LEVEL"] == "DEBUG"
    assert secrets(out)["smtp_password"] == "secret one"
    assert secrets(out)["admin_emails"] == "ada@example.com"
    assert secrets(out)["organization_name"] == "Example"


def test_a_bound_secret_keeps_its_bytes(tmp_path: Path) -> None:
    """Its services ignore the line end, and a file that data depends on is not rewritten for it."""
    out = deployed(tmp_path / "out")
    file = out / ".secrets/db_password"
    file.write_text(file.read_text() + "\n")
    ran(out, settings={})
    assert file.read_text().endswith("\n")
    assert "secret-line-end" not in ran(out, "--check", settings={}, code=3).stdout


# --- words ----------------------------------------------------------------------------------------------------


def test_a_group_is_confirmed_by_the_word_that_was_given(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    before = secrets(out)
    with session(out, "--rotate", "sessions") as terminal:
        terminal.asks("Type sessions to rotate: ")
        terminal.answer("sessions")
        assert terminal.ends() == 0
    after = secrets(out)
    assert before["authentik_secret_key"] != after["authentik_secret_key"]
    assert before["authjwt_secret_key"] != after["authjwt_secret_key"]


def test_an_export_names_the_hosts_file_a_command_for_every_engine_and_its_end(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=REQUIRED | OPERATORS)
    told = ran(out, "--export", str(out / "export.yaml"), "--with-secrets", settings={}).stdout
    assert told.startswith(f"Written: {out}/export.yaml\n")
    assert '-v "$PWD"/export.yaml:/config.yaml:ro avatar-setup --config /config.yaml\n' in told
    assert "-v ./" not in told, "Docker 20.10 refuses it"
    assert told.endswith(f"delete it on both hosts:\n  rm {out}/export.yaml\n")
    assert "\n  rm " not in ran(out, "--export", str(out / "other.yaml"), settings={}).stdout, "it holds no secret"


@pytest.mark.parametrize(
    "flags",
    [("--status",), ("--check",), ("--diff",), ("--host-check",), ("--images",), ("--rotate", "database", "--dry-run")],
)
def test_a_command_that_only_reads_claims_no_progress_when_it_is_interrupted(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    out = deployed(tmp_path / "out")
    stopped = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    # The signal comes when the command's own module is imported.
    code = (
        "import sys, runpy\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'setup.deploy.session': {stopped}\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['setup', *sys.argv[1:]]\n"
        "runpy.run_module('setup', run_name='__main__')\n"
    )
    words = [sys.executable, "-c", code, *command(out, *flags)[3:]]
    done = subprocess.run(words, env=environment({}), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert done.stderr == "\nNothing was changed\n"


def test_settings_that_were_set_by_a_flag_are_said_to_be(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    told = ran(out, "--set", "LOG_LEVEL=DEBUG", settings={}).stdout
    assert "LOG_LEVEL: (default) -> DEBUG (--set)" in told
    assert "LOG_LEVEL: INFO (default) -> DEBUG (--set)" in ran(out, "--history", settings={}).stdout
    refused = ran(out, "--set", "LOG_LEVEL=LOUD", settings={}, code=1).stderr
    assert "LOG_LEVEL='LOUD' (--set)" in refused


def test_the_history_lists_changes_even_if_a_record_is_missing(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    shutil.rmtree(out / WRITTEN)
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    title, *changed = ran(out, "--history", settings={}).stdout.splitlines()
    assert title.endswith("before a run (avatar-setup 0.1.0)")
    assert changed[0] == "  LOG_LEVEL: (none) -> DEBUG (--set)"
    assert "(default)" not in "".join(changed)


def test_the_status_calls_a_typed_secret_given(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=REQUIRED | MAIL | {"SMTP_PASSWORD": "typed"})
    told = ran(out, "--status", settings={}).stdout
    assert " smtp_password                    given 20" in told
    assert " db_password                      generated 20" in told


@pytest.mark.parametrize(("url", "doubted"), [("n", True), ("hospital-prod", True), ("localhost:8443", False)])
def test_an_unlikely_public_address_gets_a_note(tmp_path: Path, url: str, doubted: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    done = ran(out, settings=REQUIRED | {"PUBLIC_URL": url})
    assert ("has no dot" in done.stderr) == doubted
    other = tmp_path / "other"
    other.mkdir()
    with session(other, "--plain") as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.answer(url)
        terminal.asks("mycompany-prod): ")
        assert ("has no dot" in " ".join(terminal.screen.text().split())) == doubted


@pytest.mark.parametrize("word", ["help", "check", "status", "--stat"])
def test_the_image_says_which_flag_a_word_stands_for(tmp_path: Path, word: str) -> None:
    script = (ROOT / "entrypoint.sh").read_text()
    entry = tmp_path / "entrypoint.sh"
    main = "/opt/avatar-setup/setup/__main__.py"
    entry.write_text(script.replace(f"-P -S {main}", f"{ROOT}/setup/__main__.py").replace("python3", sys.executable))
    words = ["sh", str(entry), word]
    done = subprocess.run(words, env=environment({}), capture_output=True, text=True, timeout=60, check=False)
    flag = f"--{word.strip('-')}"
    assert done.returncode == 2
    assert f"did you mean {'--status' if word == '--stat' else flag}?" in done.stderr
