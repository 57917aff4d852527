"""The command line: flags, exit codes, what stands where, and that nothing waits for anybody."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import setup
from setup.flags import FLAGS, help_text
from tests.support.runs import (
    LOCK,
    OPERATORS,
    REQUIRED,
    ROOT,
    STATE,
    command,
    deployed,
    env_file,
    environment,
    holding,
    leftovers,
    paths,
    python,
    ran,
    require_root,
    require_strace,
    run,
    secrets,
    stamps,
    tree,
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


# --- help and version ---------------------------------------------------------------------------


HELP = help_text()


def test_help_fits_a_screen() -> None:
    lines = HELP.splitlines()
    assert len(lines) <= 50
    assert max(len(line) for line in lines) <= 80


def test_help_names_every_flag_and_no_other() -> None:
    known = {flag.name for flag in FLAGS}
    assert len(known) >= 17
    assert set(re.findall(r"^  (--[a-z][a-z-]+)", HELP, re.MULTILINE)) == known


def test_help_shows_an_example_with_and_one_without_questions() -> None:
    assert len(re.findall("^  docker run ", HELP, re.MULTILINE)) == 2


@pytest.mark.parametrize(
    ("word", "suggested"),
    [("--stat", "--status"), ("help", "--help"), ("check", "--check"), ("--outputdir", "--output-dir")],
)
def test_a_word_close_to_a_flag_is_answered_with_it(out: Path, word: str, suggested: str) -> None:
    assert f"did you mean {suggested}?" in ran(out, word, settings={}, code=2).stderr


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_shown_and_nothing_else_happens(out: Path, flag: str) -> None:
    done = ran(out, flag, settings={})
    assert (done.stdout, done.stderr) == (HELP, "")
    assert tree(out) == {}


def test_version(out: Path) -> None:
    done = ran(out, "--version", settings={})
    assert done.stdout == f"avatar-setup {setup.__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == setup.__version__


def test_the_installed_command_starts_the_same_program(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["configure"].partition(":")
    code = f"import sys; from {module} import {name}; sys.argv = ['configure', '--version']; sys.exit({name}())"
    assert python(code, cwd=tmp_path, settings={}) == f"avatar-setup {setup.__version__}\n"


def test_the_help_examples_are_understood(tmp_path: Path) -> None:
    """What stands behind `avatar-setup` in each example, without the container."""
    joined = HELP.replace("\\\n", " ")
    for number, example in enumerate(re.findall("^  docker run (.*)$", joined, re.MULTILINE)):
        out = tmp_path / str(number)
        out.mkdir()
        before, _, flags = example.partition(" avatar-setup")
        settings = dict(pair.split("=", 1) for pair in re.findall(r"-e (\S+)", before))
        done = run(out, *flags.split(), settings=settings)
        assert done.returncode == {0: 1, 1: 0}[number], done.stderr  # no terminal; complete


# --- wrong usage --------------------------------------------------------------------------------

SECRET = "hunter2-is-my-secret"


@pytest.mark.parametrize(
    "flags",
    [
        ("--pasword=" + SECRET,),
        ("--no-such-flag", SECRET),
        (SECRET,),
        (f"-p{SECRET}",),
        ("-p", SECRET),
        (f"-h{SECRET}",),
        ("--status=" + SECRET,),
        (f"--status=it's {SECRET}",),
        (f'--status=a "quoted" {SECRET}',),
        (f"--status=both ' and \" {SECRET}",),
        (f"--status='{SECRET}'",),
        ("--stat",),
        ("--set",),
        ("--set", SECRET),
        ("--config",),
        ("--auth-typ", SECRET),
        ("--set", f"DB_PASSWORD={SECRET}"),
        ("--set", f"db_password={SECRET}"),
        ("--set", f"Smtp_Password={SECRET}"),
        ("--", SECRET),
    ],
)
def test_wrong_usage_exits_2_and_repeats_no_value(out: Path, flags: tuple[str, ...]) -> None:
    done = ran(out, *flags, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("avatar-setup: ")
    assert SECRET not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert tree(out) == {}


OF_A_RUN = {
    "--set": ("--set", "LOG_LEVEL=DEBUG"),
    "--unset": ("--unset", "LOG_LEVEL"),
    "--reset": ("--reset",),
    "--save-config": ("--save-config",),
    "--renew-certificate": ("--renew-certificate",),
    "--on-conflict": ("--on-conflict", "keep"),
}
TAKEN = {"--rotate": {"--set", "--unset", "--on-conflict"}, "--adopt": {"--set", "--save-config", "--on-conflict"}}
VERBS = {
    "--status": (),
    "--check": (),
    "--history": (),
    "--export": ("-",),
    "--restore": ("20260101T000000Z", "--yes"),
    "--rotate": ("sessions", "--yes"),
    "--adopt": ("source", "--yes"),
}


@pytest.mark.parametrize(("verb", "flag"), [(v, f) for v in VERBS for f in OF_A_RUN if f not in TAKEN.get(v, ())])
def test_a_flag_that_a_verb_would_swallow_is_refused(tmp_path: Path, verb: str, flag: str) -> None:
    out = deployed(tmp_path / "out")
    before = stamps(out)
    done = ran(out, verb, *VERBS[verb], *OF_A_RUN[flag], code=2)
    assert (done.stdout, done.stderr) == ("", f"avatar-setup: {flag} does not go with {verb}\n")
    assert stamps(out) == before


def test_a_look_takes_what_a_run_takes(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    for flag in OF_A_RUN.keys() - {"--renew-certificate"}:
        assert run(out, "--diff", *OF_A_RUN[flag]).returncode in (0, 3), flag
    own = deployed(tmp_path / "own", settings={**REQUIRED, "TLS_MODE": "self-signed"})
    ran(own, "--diff", "--renew-certificate", code=3)


def test_a_rotation_changes_settings_too(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", "--set", "LOG_LEVEL=DEBUG")
    ran(out, "--rotate", "sessions", "--yes", "--unset", "LOG_LEVEL")
    assert env_file(out)["LOG_LEVEL"] == "INFO"
    ran(out, "--rotate", "storage", "--yes", "--set", "LOG_LEVEL=ERROR")
    assert env_file(out)["LOG_LEVEL"] == "ERROR"


def test_an_unknown_flag_is_named(out: Path) -> None:
    assert "--pasword" in ran(out, f"--pasword={SECRET}", code=2).stderr


def test_a_secret_on_the_command_line_is_refused_with_the_way_to_give_it(out: Path) -> None:
    told = ran(out, "--set", f"SMTP_PASSWORD={SECRET}", code=2).stderr
    assert "SMTP_PASSWORD_FILE=PATH" in told


@pytest.mark.parametrize("key", ["db-password", "DB_PASSWORT", "PASSWORD", "DB_PASSWORD_FILE", "public_url", ""])
def test_an_unknown_key_of_set_repeats_no_value(out: Path, key: str) -> None:
    done = ran(out, "--set", f"{key}={SECRET}", code=1)
    assert SECRET not in done.stderr
    assert "not a known key" in done.stderr
    assert tree(out) == {}


@pytest.mark.parametrize("text", ["maybe", "2", "ja"])
def test_a_non_interactive_that_is_no_boolean_is_named(out: Path, text: str) -> None:
    done = ran(out, settings={**REQUIRED, "NON_INTERACTIVE": text}, code=1)
    assert "NON_INTERACTIVE" in done.stderr
    assert "true or false" in done.stderr
    assert tree(out) == {}


@pytest.mark.parametrize(("command", "code"), [("--status", 3), ("--check", 3), ("--history", 0), ("--diff", 3)])
def test_a_command_that_asks_nothing_ignores_non_interactive(out: Path, command: str, code: int) -> None:
    done = ran(out, command, settings={**REQUIRED, "NON_INTERACTIVE": "maybe"}, code=code)
    assert "NON_INTERACTIVE" not in done.stderr


@pytest.mark.parametrize("flag", ["--templates-dir", "--defaults-file", "--config"])
def test_a_path_that_is_not_there_is_named(out: Path, flag: str) -> None:
    done = ran(out, flag, "/no/such/place", code=1)
    assert "/no/such/place" in done.stderr
    assert tree(out) == {}


def test_an_output_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = ran(tmp_path / "missing", code=1)
    assert "missing cannot be opened" in done.stderr
    assert "docker run -v" in done.stderr


def test_an_output_directory_that_is_not_writable_is_named_before_anything_else(tmp_path: Path) -> None:
    require_root()
    out = tmp_path / "out"
    out.mkdir()
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh", str(out))
    done = ran(out, settings={"LOG_LEVEL": "LOUD"}, prefix=prefix, code=1)
    assert "not writable" in done.stderr
    assert "PUBLIC_URL" not in done.stderr
    assert "mount it without :ro" in done.stderr


# --- nobody to ask ------------------------------------------------------------------------------


def unread(out: Path, *flags: str, settings: dict[str, str]) -> tuple[int, str, str]:
    """A run whose stdin is a pipe that stays open with an answer in it, which must still be there afterwards."""
    reader, writer = os.pipe()
    os.write(writer, b"answer\n")
    done = subprocess.run(
        command(out, *flags), env=environment(settings), stdin=reader, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    os.set_blocking(reader, False)
    assert os.read(reader, 100) == b"answer\n"
    os.close(reader)
    os.close(writer)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("flags", [(), ("--non-interactive",), ("--reset",), ("--json",)])
def test_without_a_terminal_all_that_is_missing_is_named_at_once(out: Path, flags: tuple[str, ...]) -> None:
    code, _, told = unread(out, *flags, settings={})
    assert code == 1
    for key in ("PUBLIC_URL", "ENV_NAME", "SMTP_HOST"):
        assert f"environment variable {key}=" in told
        assert f"flag --set {key}=" in told
        assert f"line '{key}: " in told
    assert tree(out) == {}


def test_without_a_terminal_a_run_reads_nothing(out: Path) -> None:
    code, _, _ = unread(out, settings=REQUIRED)
    assert code == 0
    code, _, _ = unread(out, "--status", settings={})
    assert code == 0


def test_without_a_terminal_all_problems_of_all_sources_come_at_once(out: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("SMTP_PORT: none\nNO_SUCH: 1\n")
    flags = ("--config", str(tmp_path / "config.yaml"), "--set", "DB_HOST=a b")
    settings = {"LOG_LEVEL": "LOUD", "ADMIN_EMAILS": "nobody", "ENV_NAME_FILE": "/no/such/file"}
    told = ran(out, *flags, settings=settings, code=1).stderr
    for key in ("SMTP_PORT", "NO_SUCH", "DB_HOST", "LOG_LEVEL", "ADMIN_EMAILS", "ENV_NAME_FILE", "PUBLIC_URL"):
        assert key in told
    assert re.match(r"avatar-setup: \d problems:\n  - ", told)


def in_a_terminal(out: Path, *flags: str, settings: dict[str, str]) -> tuple[int, str]:
    """A run whose stdin, stdout and stderr are a terminal in which nobody types."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        command(out, *flags), env=environment(settings), stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    ) as process:
        os.close(slave)
        told = b""
        try:
            while chunk := os.read(master, 4096):
                told += chunk
        except OSError:
            pass  # the other end is closed: the run has ended
        process.wait(timeout=60)
    os.close(master)
    return process.returncode, told.decode()


@pytest.mark.parametrize("said", ["true", "1", "yes", "TRUE"])
def test_non_interactive_asks_nothing_even_in_a_terminal(out: Path, said: str) -> None:
    code, told = in_a_terminal(out, settings={"NON_INTERACTIVE": said})
    assert code == 1
    assert "PUBLIC_URL is missing" in told
    assert "[c/r/q]" not in told


def test_the_flag_asks_nothing_even_in_a_terminal(out: Path) -> None:
    code, told = in_a_terminal(out, "--non-interactive", settings=REQUIRED)
    assert code == 0
    assert "Press Enter" not in told
    assert len(secrets(out)) > 20


def test_a_run_without_stdin_and_stdout(out: Path) -> None:
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *command(out)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (closed, done.stderr)
        assert "Traceback" not in done.stderr
    assert (out / "docker-compose.yml").exists()
    assert leftovers(out) == []


# --- what stands where --------------------------------------------------------------------------


def test_results_go_to_stdout_and_messages_to_stderr(out: Path) -> None:
    done = ran(out, settings={**REQUIRED, "LOG_LEVELL": "DEBUG"})
    assert "Configuration complete" in done.stdout
    assert done.stderr == "warning: the environment variable LOG_LEVELL is not known; did you mean LOG_LEVEL?\n"
    refused = ran(out, "--set", "LOG_LEVEL=LOUD", code=1)
    assert refused.stdout == ""
    assert "LOG_LEVEL" in refused.stderr


def test_quiet_says_only_errors(out: Path) -> None:
    done = ran(out, "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    assert "LOG_LEVEL" in ran(out, "--quiet", "--set", "LOG_LEVEL=LOUD", code=1).stderr


def test_json_of_a_run(out: Path) -> None:
    first = json.loads(ran(out, "--json").stdout)
    assert first["status"] == "complete"
    assert ".env" in first["written"]
    assert sorted(first["pending_secrets"]) == sorted(name.lower() for name in OPERATORS)
    second = json.loads(ran(out, "--json").stdout)
    assert (second["status"], second["written"]) == ("unchanged", [])
    third = json.loads(ran(out, "--json", "--set", "LOG_LEVEL=DEBUG").stdout)
    assert third["written"] == [".env"]
    assert any("LOG_LEVEL" in line for line in third["changed"])


def test_json_of_a_refusal_tells_its_kind(out: Path) -> None:
    def error(*flags: str, code: int) -> dict[str, object]:
        done = ran(out, *flags, "--json", code=code)
        assert done.stderr
        found = json.loads(done.stdout)["error"]
        assert found["exit_code"] == code
        assert found["problems"]
        return dict(found)

    assert error("--set", "LOG_LEVEL=LOUD", code=1)["kind"] == "input"
    assert error("--nonsense", code=2)["kind"] == "usage"
    with holding(out / LOCK):
        assert error(code=4)["kind"] == "busy"
    ran(out)
    (out / ".env").write_text("mine")
    assert error("--set", "LOG_LEVEL=DEBUG", code=4)["kind"] == "decision"
    (out / STATE).write_text("broken")
    assert error(code=1)["kind"] == "volume"


def test_a_terminal_without_utf_8_ends_no_run(out: Path) -> None:
    settings = {**REQUIRED, "LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    settings["PYTHONIOENCODING"] = "ascii"
    ran(out, settings=settings)
    assert "7/7" in ran(out, "--status", settings=settings).stdout


@pytest.mark.parametrize("flags", [("--help",), ("--status",), ("--status", "--json"), (), ("--json",)])
def test_a_reader_that_went_away_is_no_fault_of_ours(tmp_path: Path, flags: tuple[str, ...]) -> None:
    out = deployed(tmp_path / "out")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command(out, *flags), env=environment(), stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_run_completes_for_a_reader_that_went_away(out: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command(out), env=environment(), stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, timeout=60, check=False
    )
    os.close(writer)
    assert done.returncode == 0
    ran(out, "--status", settings={})


def filled(out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A run with a full disk behind standard output."""
    with open("/dev/full", "w") as full:
        return subprocess.run(
            command(out, *flags), env=environment(), cwd=out.parent, stdin=subprocess.DEVNULL, stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip


LOOKS = (
    *(("--help",), ("--version",), ("--status",), ("--status", "--json"), ("--history",), ("--export", "-")),
    *(("--diff", "--set", "LOG_LEVEL=DEBUG"), ("--rotate", "db_password", "--dry-run"), (), ("--json",)),
)


@pytest.mark.parametrize("flags", LOOKS)
def test_a_full_disk_behind_standard_output_is_no_fault_of_ours(tmp_path: Path, flags: tuple[str, ...]) -> None:
    out = deployed(tmp_path / "out")
    before = stamps(out)
    done = filled(out, *flags)
    assert done.returncode == 1
    assert "standard output cannot be written (no space left on device), and the output is incomplete" in done.stderr
    assert done.stderr.count("\n") == 1
    assert stamps(out) == before


@pytest.mark.parametrize("flags", [("--set", "LOG_LEVEL=DEBUG"), ("--rotate", "db_password", "--yes")])
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_run_completes_with_a_full_disk_behind_standard_output(
    tmp_path: Path, flags: tuple[str, ...], as_json: tuple[str, ...]
) -> None:
    out = deployed(tmp_path / "out")
    before = tree(out)
    done = filled(out, *flags, *as_json)
    assert (done.returncode, "standard output cannot be written" in done.stderr) == (1, True)
    assert "report it" not in done.stderr
    assert tree(out) != before
    ran(out, "--status", settings={})


def test_a_refusal_is_said_with_a_full_disk_behind_standard_output(out: Path) -> None:
    done = filled(out, "--set", "LOG_LEVEL=NOPE", "--json")
    assert (done.returncode, "LOG_LEVEL" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_a_full_disk_behind_standard_error_changes_no_exit_code(out: Path) -> None:
    with open("/dev/full", "w") as full:
        for flags, code in ((("--set", "LOG_LEVEL=NOPE"), 1), (("--status", "--nope"), 2), ((), 0)):
            done = subprocess.run(
                command(out, *flags), env=environment(), cwd=out.parent, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=full, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == code


# --- the configuration by flags -----------------------------------------------------------------


def test_every_flag_that_configures(out: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "PUBLIC_URL: file.example.com\nENV_NAME: from-file\nSMTP_HOST: mail.example.com\nLOG_LEVEL: ERROR\n"
    )
    (tmp_path / "defaults.yaml").write_text('settings:\n  AVATAR_WEB_VERSION: "9.10"\n')
    ran(
        out, "--config", str(tmp_path / "config.yaml"), "--defaults-file", str(tmp_path / "defaults.yaml"),
        "--preset", "dev-mode", "--auth-type", "username", "--set", "AVATAR_API_VERSION=2.81",
        "--set", "LOG_LEVEL=DEBUG", "--set", "SMTP_PORT=25",
        "--no-prompt-secrets", "--save-config", "--templates-dir", str(ROOT / "templates"), settings={},
    )  # fmt: skip
    shown = env_file(out)
    assert shown["ENV_NAME"] == "from-file"
    assert shown["AVATAR_WEB_VERSION"] == "9.10"
    assert shown["USE_CONSOLE_LOGGING"] == "true"
    assert shown["USE_EMAIL_AUTHENTICATION"] == "false"
    assert (shown["LOG_LEVEL"], shown["SMTP_PORT"]) == ("DEBUG", "25")
    assert (out / "deployment-config.yaml").exists()


def test_the_output_directory_is_here_unless_told(out: Path) -> None:
    words = [sys.executable, "-m", "setup"]
    done = subprocess.run(words, env=environment(), cwd=out, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0
    assert (out / "docker-compose.yml").exists()


# --- faults of our own, and signals -------------------------------------------------------------


def test_a_fault_of_our_own_shows_no_value_and_no_traceback(tmp_path: Path) -> None:
    """A broken installation: a copy of the package in which a line raises an error with a value in it."""
    root, out = tmp_path / "root", tmp_path / "out"
    out.mkdir()
    shutil.copytree(ROOT / "setup", root / "setup", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "templates").symlink_to(ROOT / "templates")
    source = root / "setup" / "secrets" / "plan.py"
    broken = f"def plan_secrets(*_, **__):\n    {{}}['{SECRET}']\n\n\ndef _plan("
    source.write_text(source.read_text().replace("def plan_secrets(", broken))
    done = run(out, root=root)
    assert done.returncode == 70
    assert re.search(r"internal error \(KeyError at plan\.py:\d+\)", done.stderr)
    assert SECRET not in done.stderr + done.stdout
    debug = run(out, "--debug", root=root)
    assert debug.returncode == 70
    assert "session.py:" in debug.stderr
    assert SECRET not in debug.stderr
    assert tree(out) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_a_signal_ends_a_run_with_its_code_and_a_word(out: Path, number: signal.Signals, code: int) -> None:
    require_strace()
    name = number.name.removeprefix("SIG")
    prefix = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject=fsync:signal={name}:when=9")
    done = run(out, prefix=prefix)
    assert done.returncode == code
    assert done.stderr == "\nProgress saved. Run the same command to go on\n"
    assert leftovers(out) == []
    assert (out / LOCK).read_bytes() == b""
    kept = secrets(out)
    ran(out)
    assert kept.items() <= secrets(out).items()


def test_nothing_is_written_by_help_status_and_refusals(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    before = stamps(out)
    ran(out, "--help")
    ran(out, "--status")
    ran(out, "--set", "LOG_LEVEL=LOUD", code=1)
    ran(out, "--reset", "--set", "LOG_LEVEL=LOUD", code=1)
    ran(out, "--nonsense", code=2)
    assert stamps(out) == before
    assert paths(out)


def test_templates_without_the_blueprint_are_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    for name in ("env.j2", "nginx.conf.j2", "docker-compose.yml.j2"):
        shutil.copy(ROOT / "templates" / name, tmp_path / "templates")
    (tmp_path / "out").mkdir()
    done = run(tmp_path / "out", "--templates-dir", str(tmp_path / "templates"), settings=REQUIRED)
    assert done.returncode == 1
    assert "octopize-avatar-blueprint.yaml" in done.stderr
