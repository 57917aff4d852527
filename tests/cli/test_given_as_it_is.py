"""What other tools add to a value, on every way in: dropped, or refused by name, on each run and not only the first."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.runs import OPERATORS, REQUIRED, command, deployed, env_file, environment, ran, run, secrets, tree

WHOLE = REQUIRED | OPERATORS


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out", settings=WHOLE)


def empty(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def failures(out: Path) -> dict[str, str]:
    found = json.loads(ran(out, "--check", "--json", settings={}, code=3).stdout)["findings"]
    return {one["name"]: f"{one['text']}: {one['todo']}" for one in found if one["level"] == "fail"}


# --- secrets on the volume are judged on every run ------------------------------------------------


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("smtp_password", "\r\r\n"),
        ("smtp_password", "\rb"),
        ("db_admin_user", "\r\n"),
        ("db_password", "\r"),
        ("storage_admin_access_key_id", "\r\n"),
        ("storage_admin_secret_access_key", "\r\n"),
    ],
)
def test_windows_line_ends_in_a_secret_are_refused_with_the_command(out: Path, name: str, added: str) -> None:
    file = out / ".secrets" / name
    before = file.read_bytes()
    file.write_bytes(before + added.encode())
    changed = tree(out)
    refusal = ran(out, settings={}, code=1).stderr
    assert f".secrets/{name}: it holds carriage returns (CR, U+000D)" in refusal
    assert f".secrets/{name}: it holds carriage returns (CR, U+000D)" in failures(out)["secret-form"]
    assert "env-stale" not in failures(out), "the run that it advises would refuse"
    assert tree(out) == changed
    subprocess.run(refusal[refusal.index("sed ") :], shell=True, cwd=out, check=True)
    ran(out, settings={})
    assert file.read_bytes().rstrip(b"\n") == before + added.replace("\r", "").encode().rstrip(b"\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [("smtp_password", "a\tb"), ("organization_name", "Ex\u200bample"), ("db_admin_user", "postgres\n\n")],
)
def test_what_check_refuses_no_run_takes(out: Path, name: str, text: str) -> None:
    (out / ".secrets" / name).write_text(text)
    before = tree(out)
    assert f".secrets/{name}: " in failures(out)["secret-form"]
    assert f".secrets/{name}: " in ran(out, settings={}, code=1).stderr
    assert tree(out) == before


def test_a_secret_that_is_given_again_or_rotated_need_not_be_valid_before(out: Path) -> None:
    (out / ".secrets/smtp_password").write_text("a\tb")
    ran(out, settings={"SMTP_PASSWORD": "new"})
    assert secrets(out)["smtp_password"] == "new"
    (out / ".secrets/seaweedfs_admin_password").write_text("a\tb")
    ran(out, "--rotate", "seaweedfs_admin_password", "--yes", settings={})
    assert "\t" not in secrets(out)["seaweedfs_admin_password"]


@pytest.mark.parametrize("text", ["ada@example.com\r\nbob@b.example\r\n", "ada@example.com,\nbob@b.example,\n"])
def test_a_list_that_was_typed_in_lines_is_written_on_one(out: Path, text: str) -> None:
    (out / ".secrets/admin_emails").write_bytes(text.encode())
    ran(out, settings={})
    assert secrets(out)["admin_emails"] == "ada@example.com,bob@b.example"
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_a_list_in_a_file_is_refused_by_its_entry(out: Path) -> None:
    (out / ".secrets/admin_emails").write_text("ada@example.com;bob@b.example")
    refusal = ran(out, settings={}, code=1).stderr
    assert ".secrets/admin_emails: 'ada@example.com;bob@b.example' is not an e-mail address" in refusal
    assert "separate several with commas" in refusal
    assert "AUTHENTIK_BOOTSTRAP_EMAIL" not in refusal


# --- quotes and invisible characters --------------------------------------------------------------


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_a_variable_are_refused_with_both_ways_out(tmp_path: Path, quote: str) -> None:
    """docker run --env-file keeps them."""
    out, text = empty(tmp_path), f"{quote}p@ss word{quote}"
    refusal = ran(out, settings=WHOLE | {"SMTP_PASSWORD": text, "DB_PASSWORD_FILE": f"{quote}/x{quote}"}, code=1).stderr
    assert (
        "SMTP_PASSWORD is wrapped in quotes, which docker run --env-file does not remove: leave them out. " in refusal
    )
    assert "If they belong to the value, give it by SMTP_PASSWORD_FILE" in refusal
    assert "DB_PASSWORD_FILE is wrapped in quotes, which docker run --env-file does not remove: leave them" in refusal
    assert tree(out) == {}
    (tmp_path / "password").write_text(text)
    settings = {key: value for key, value in WHOLE.items() if key != "SMTP_PASSWORD"}
    ran(out, settings=settings | {"SMTP_PASSWORD_FILE": str(tmp_path / "password")})
    assert secrets(out)["smtp_password"] == text
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_quotes_around_a_required_value_are_its_only_problem(tmp_path: Path) -> None:
    refusal = ran(empty(tmp_path), settings=WHOLE | {"ENV_NAME": '"prod"'}, code=1).stderr
    assert "ENV_NAME is wrapped in quotes" in refusal
    assert "ENV_NAME is missing" not in refusal
    refusal = ran(tmp_path / "out", settings={"ENV_NAME_FILE": "/nowhere"}, code=1).stderr
    assert "ENV_NAME_FILE=/nowhere: " in refusal and "PUBLIC_URL is missing" in refusal
    assert "ENV_NAME is missing" not in refusal


def test_quotes_around_a_secret_on_the_volume_are_a_warning(out: Path) -> None:
    """They may belong to it: a KEY_FILE wrote them there, or somebody copied them from a `.env`."""
    (out / ".secrets/smtp_password").write_text('"pw"')
    ran(out, settings={})
    found = json.loads(ran(out, "--check", "--json", settings={}, code=3).stdout)["findings"]
    texts = [(one["level"], one["text"]) for one in found if one["name"] == "secret-form"]
    assert texts == [("warn", ".secrets/smtp_password is wrapped in quotes, which are part of its value")]


def test_a_file_of_a_key_is_named_with_the_command_that_corrects_it(tmp_path: Path) -> None:
    out, file = empty(tmp_path), tmp_path / "pass word"
    settings = {key: text for key, text in WHOLE.items() if key != "SMTP_PASSWORD"}
    for text in (b"pw\r\r\n", b"p\rw", b"\rpw"):
        file.write_bytes(text)
        refusal = ran(out, settings=settings | {"SMTP_PASSWORD_FILE": str(file)}, code=1).stderr
        assert f"SMTP_PASSWORD_FILE={file}: it holds carriage returns (CR, U+000D)" in refusal
        assert "(environment)" not in refusal
        subprocess.run(refusal[refusal.index("sed ") :], shell=True, check=True)
        assert file.read_bytes().strip() == b"pw"
    file.write_text("smtp.example.com/x")
    refusal = ran(out, settings=settings | {"SMTP_HOST": "", "SMTP_HOST_FILE": str(file)}, code=1).stderr
    assert f"SMTP_HOST='smtp.example.com/x' (SMTP_HOST_FILE={file}): " in refusal


@pytest.mark.parametrize(
    "char", "\u3164\u115f\uffa0\u2800\u034f\u200b\u200d\u200e\u202e\u2066\u2060\ufeff\u00ad\u061c", ids=ascii
)
def test_characters_without_width_or_for_the_direction_are_refused(tmp_path: Path, char: str) -> None:
    out = empty(tmp_path)
    text = f"a{char}b"
    refusal = ran(out, settings=WHOLE | {"SMTP_PASSWORD": text, "ORGANIZATION_NAME": text}, code=1).stderr
    for key in ("SMTP_PASSWORD", "ORGANIZATION_NAME"):
        expected = f"{key} (environment): it must not contain invisible characters (found U+{ord(char):04X})"
        assert expected in refusal
    assert tree(out) == {}


# --- who is not asked, and what to undo -----------------------------------------------------------


def test_an_input_that_is_a_pipe_is_told_why_nobody_is_asked(tmp_path: Path) -> None:
    """As in `docker run -i` without `-t`."""
    out = empty(tmp_path)
    reading, writing = os.pipe()

    def errors(settings: dict[str, str]) -> str:
        done = subprocess.run(command(out), env=environment(settings), stdin=reading, capture_output=True, check=False)
        return done.stderr.decode()

    assert "note: nobody is asked, because the input is a pipe and not a terminal: to answer" in errors({})
    assert "docker run -it (add -t)" in errors({})
    assert "PUBLIC_URL is missing" in errors({})
    assert "nobody is asked" not in errors({"NON_INTERACTIVE": "true"})
    assert "nobody is asked" not in run(out, settings={}).stderr, "no input is no operator"
    os.close(reading)
    os.close(writing)


def test_a_stale_secret_in_an_edited_file_is_not_left_to_a_run_that_does_nothing(out: Path) -> None:
    env = out / ".env"
    lines = env.read_text()
    env.write_text(lines.replace(f"SMTP_PASSWORD={env_file(out)['SMTP_PASSWORD']}", "SMTP_PASSWORD=other"))
    assert "undo your edit of these lines, or move the file away (mv .env .env.mine)" in failures(out)["env-stale"]
    subprocess.run("mv .env .env.mine", shell=True, cwd=out, check=True)
    ran(out, settings={})
    assert env.read_text() == lines
    assert "env-stale" not in failures(out)
