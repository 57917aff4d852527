"""A deployment handed over: what --export and --save-config write makes the same tree on another host."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from setup.formats.yaml_file import load_yaml
from setup.volume.layout import CONFIG
from tests.support.runs import (
    LAST_GOOD,
    LOCK,
    OPERATORS,
    REQUIRED,
    STATE,
    WRITTEN,
    command,
    deployed,
    environment,
    every_secret,
    holding,
    leftovers,
    present,
    ran,
    require_strace,
    secrets,
    stamps,
    tree,
    without_marks,
)

SETTINGS = {
    **REQUIRED,
    "PUBLIC_URL": "http://avatar.example.com:8081",
    "AVATAR_API_VERSION": "3.10",
    "SMTP_HOST": "mail.example.com",
    "SMTP_USERNAME": 'it\'s "$me" #1: {x}',
    "SMTP_PASSWORD": "smtp $password: #1 \\",
    "ORGANIZATION_NAME": "Example: {of} Søns",
    "NGINX_HTTPS_PORT": "8443",  # for the day TLS is on again
}


def differing(one: Path, other: Path) -> set[str]:
    """The paths that differ in two trees, except for where answers came from and what follows the labels' key."""
    mine, theirs = without_marks(present(one)), without_marks(present(other))
    return {path for path in mine.keys() | theirs.keys() if mine.get(path) != theirs.get(path)} - {
        STATE,
        LAST_GOOD,
        LOCK,
        f"{WRITTEN}/settings.json",
    }


def handed_over(out: Path, to: Path, *flags: str) -> Path:
    """The tree that an export makes of an empty directory."""
    to.mkdir()
    exported = to.parent / "export.yaml"
    ran(out, "--export", str(exported), *flags, settings={})
    ran(to, "--config", str(exported), settings={})
    return to


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, {**REQUIRED, **every_secret()}, {**REQUIRED, "AUTH_TYPE": "username", "AVATAR_API_VERSION": "2.81"}],
)
def test_an_export_with_secrets_makes_the_same_tree(settings: dict[str, str], tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=settings)
    assert differing(out, handed_over(out, tmp_path / "other", "--with-secrets")) == set()


def test_secrets_filled_in_by_hand_go_over_to_the_byte(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    for name, text in {"organization_name": " of  Søns\t", "admin_emails": "a@example.com, b@example.com"}.items():
        (out / ".secrets" / name).write_text(f"{text}\n")
    (out / ".secrets" / "organization_name").write_text(" of Søns \n")
    ran(out, settings={})
    other = handed_over(out, tmp_path / "other", "--with-secrets")
    assert secrets(other) == secrets(out)
    assert differing(out, other) == set()


def test_without_the_flag_no_secret_goes_over(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, **every_secret()})
    ran(out, "--export", str(tmp_path / "export.yaml"), settings={})
    text = (tmp_path / "export.yaml").read_text()
    assert "It holds no secret" in text
    assert not [name for name, value in secrets(out).items() if len(value) > 7 and value in text]


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_lost_secret_is_not_handed_over_as_one_that_never_was(tmp_path: Path, how: str) -> None:
    """The other host would make a new one, from a file that says it holds every secret."""
    out, lost = deployed(tmp_path / "out"), tmp_path / "out" / ".secrets" / "db_password"
    lost.unlink()
    if how == "empty":
        lost.touch()
    for target in ("-", str(tmp_path / "export.yaml")):
        done = ran(out, "--export", target, "--with-secrets", settings={}, code=1)
        assert ".secrets/db_password had a value and is now missing or empty: restore the file" in done.stderr
        assert "PASSWORD" not in done.stdout
    assert not (tmp_path / "export.yaml").exists()
    assert "It holds no secret" in ran(out, "--export", "-", settings={}).stdout


def test_a_secret_that_is_still_to_be_filled_in_goes_over_as_such(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    assert '# ORGANIZATION_NAME: ""\n' in ran(out, "--export", "-", "--with-secrets", settings={}).stdout


def test_an_export_is_closed_to_others_and_commented(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, **OPERATORS, "TLS_EXTRA_NAMES": "b.example"})
    exported = tmp_path / "export.yaml"
    ran(out, "--export", str(exported), "--with-secrets", settings={}, umask=0)
    assert exported.stat().st_mode & 0o777 == 0o600
    lines = exported.read_text().splitlines()
    assert "# --- TLS and Ports ---" in lines
    assert lines[lines.index('TLS_EXTRA_NAMES: "b.example"') - 1] == "# Further host names"
    assert '# LOG_LEVEL: "INFO"' in lines  # a default moves with releases
    assert any("./tls/server.fullchain.crt" in line for line in lines if line.startswith("# Files"))
    given = load_yaml(exported.read_bytes())
    assert given["ORGANIZATION_NAME"] == OPERATORS["ORGANIZATION_NAME"]
    assert given["SMTP_PASSWORD"] == OPERATORS["SMTP_PASSWORD"]
    assert "PEPPER" not in given  # of an earlier release


def test_a_second_export_has_nothing_to_do(tmp_path: Path) -> None:
    out, exported = deployed(tmp_path / "out"), tmp_path / "export.yaml"
    before = stamps(out)
    assert "Written" in ran(out, "--export", str(exported), settings={}).stdout
    there = stamps(tmp_path)
    assert "Nothing to do" in ran(out, "--export", str(exported), settings={}).stdout
    assert stamps(tmp_path) == there
    assert stamps(out) == before  # neither a state nor a lock
    assert "Written" in ran(out, "--export", str(exported), "--with-secrets", settings={}).stdout


def test_an_export_says_nothing_about_this_runs_inputs(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    usual = ran(out, "--export", "-", settings={}).stdout
    assert ran(out, "--export", "-", settings={"LOG_LEVEL": "DEBUG", "PUBLIC_URL": "other.example"}).stdout == usual


def test_standard_output_may_go_into_a_pipe_with_secrets(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=SETTINGS)
    shown = ran(out, "--export", "-", "--with-secrets", settings={}).stdout
    assert load_yaml(shown.encode())["SMTP_PASSWORD"] == SETTINGS["SMTP_PASSWORD"]


def test_secrets_do_not_show_on_a_terminal(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=SETTINGS)
    ours, theirs = pty.openpty()
    done = subprocess.run(
        command(out, "--export", "-", "--with-secrets"),
        env=environment({}),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    assert (done.returncode, "terminal" in done.stderr) == (2, True)


@pytest.mark.parametrize("there", ["an operator's notes\n", ""])
def test_no_other_file_is_overwritten(there: str, tmp_path: Path) -> None:
    out, exported = deployed(tmp_path / "out"), tmp_path / "export.yaml"
    exported.write_text(there)
    refused = ran(out, "--export", str(exported), settings={}, code=1)
    assert "is not an export" in refused.stderr
    assert exported.read_text() == there


def test_there_must_be_something_to_hand_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    assert "configure it first" in ran(tmp_path / "out", "--export", "-", settings={}, code=1).stderr


def test_the_flag_wants_a_file(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    assert "without a path" in ran(out, "--export", "", settings={}, code=2).stderr


def test_the_flag_for_secrets_is_none_by_itself(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    assert "--export" in ran(out, "--with-secrets", settings={}, code=2).stderr


# --- beside others, and interrupted -----------------------------------------------------------------


@contextlib.contextmanager
def held(out: Path, exported: Path) -> Iterator[subprocess.Popen[str]]:
    """An export that has staged its file and waits before it renames it."""
    require_strace()
    slow = ("strace", "-f", "-qq", "-o", os.devnull, "-e", "inject=renameat:delay_enter=4s")
    words = [*slow, *command(out, "--export", str(exported), "--with-secrets")]
    with subprocess.Popen(
        words, env=environment({}), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as it:
        while it.poll() is None and not [path for path in leftovers(exported.parent) if Path(path).stat().st_size]:
            pass
        yield it
        _, output = it.communicate()
        assert it.returncode == 0, output


@pytest.mark.slow
def test_of_two_exports_to_one_file_the_second_is_to_try_again(tmp_path: Path) -> None:
    out, exported = deployed(tmp_path / "out"), tmp_path / "to" / "export.yaml"
    exported.parent.mkdir()
    wanted = ran(out, "--export", "-", "--with-secrets", settings={}).stdout
    with held(out, exported):
        done = ran(out, "--export", str(exported), "--with-secrets", settings={}, code=4)
        assert "run the same command again" in done.stderr
    assert exported.read_text() == wanted
    assert "Nothing to do" in ran(out, "--export", str(exported), "--with-secrets", settings={}).stdout
    assert os.listdir(exported.parent) == [exported.name]


@pytest.mark.slow
@pytest.mark.parametrize("below", ["export.yaml", "nginx/export.yaml"])
def test_an_export_into_the_deployment_and_a_run_keep_off_each_other(tmp_path: Path, below: str) -> None:
    out = deployed(tmp_path / "out")
    other = {**REQUIRED, "LOG_LEVEL": "DEBUG"}
    with held(out, out / below):
        assert "another run is working on this volume (process" in ran(out, settings=other, code=4).stderr
    assert "It holds every secret" in (out / below).read_text()
    (out / below).unlink()
    with holding(out / LOCK):
        done = ran(out, "--export", str(out / below), settings={}, code=4)
        assert "process 4711 on elsewhere" in done.stderr
    assert not (out / below).exists()
    ran(out, settings=other)


def test_an_export_into_another_deployment_keeps_off_its_runs(tmp_path: Path) -> None:
    out, other = deployed(tmp_path / "out"), deployed(tmp_path / "other")
    with holding(other / LOCK):
        ran(out, "--export", str(other / "export.yaml"), settings={}, code=4)
    ran(out, "--export", str(other / "export.yaml"), settings={})


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "code"), [("signal=TERM", 143), ("error=EIO", 1)])
@pytest.mark.parametrize("folder", ["out", "to"])
def test_an_export_that_is_ended_leaves_nothing(tmp_path: Path, fault: str, code: int, folder: str) -> None:
    require_strace()
    out = deployed(tmp_path / "out")
    (tmp_path / "to").mkdir()
    before = tree(tmp_path)
    prefix = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject=fsync:{fault}:when=1")
    exported = str(tmp_path / folder / "export.yaml")
    ran(out, "--export", exported, "--with-secrets", settings={}, prefix=prefix, code=code)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("below", [CONFIG, ".env", "docker-compose.yml", "nginx/../nginx/nginx.conf"])
@pytest.mark.parametrize("there", [True, False])
def test_no_file_of_the_deployment_itself_is_written(tmp_path: Path, below: str, there: bool) -> None:
    """A later run would take it for an edit, and the secrets in the configuration file would be gone."""
    out = deployed(tmp_path / "out", "--save-config", "--with-secrets")
    if not there:
        (out / below).unlink()
    (tmp_path / "link").symlink_to(out)
    before = stamps(out)
    for folder in ("out", "link"):
        done = ran(out, "--export", f"{tmp_path / folder}/{below}", settings={}, code=1)
        assert "is one of the deployment's own files" in done.stderr
        assert "--save-config" in done.stderr
    assert stamps(out) == before


# --- --save-config ----------------------------------------------------------------------------------


def test_a_saved_configuration_with_secrets_makes_the_same_tree_and_follows(tmp_path: Path) -> None:
    out, saved = deployed(tmp_path / "out", settings=SETTINGS), tmp_path / "out" / CONFIG
    ran(out, "--save-config", settings={})
    assert "It holds no secret" in saved.read_text()
    output = ran(out, "--save-config", "--with-secrets", settings={}).stdout
    assert f"{CONFIG} gets the secrets" in output
    assert saved.stat().st_mode & 0o777 == 0o600
    assert "Nothing to do" in ran(out, "--save-config", "--with-secrets", settings={}).stdout
    ran(out, "--rotate", "db_password", "--yes", settings={})
    assert load_yaml(saved.read_bytes())["DB_PASSWORD"] == secrets(out)["db_password"]
    other = tmp_path / "other"
    other.mkdir()
    ran(other, "--config", str(saved), "--save-config", "--with-secrets", settings={})
    assert differing(out, other) == set()
    assert secrets(other) == secrets(out)


def test_an_export_is_what_save_config_writes(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", "--save-config", "--with-secrets", settings=SETTINGS)
    assert ran(out, "--export", "-", "--with-secrets", settings={}).stdout == (out / CONFIG).read_text()
