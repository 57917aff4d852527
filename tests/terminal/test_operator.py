"""The operator's first evening: no dead end, nothing changes until it is confirmed, and one next command."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_check import edit, remove
from tests.cli.test_given_certificate import CHAIN, KEY, full, put
from tests.cli.test_self_signed import MORE as FURTHER
from tests.cli.test_self_signed import issue
from tests.support import pki
from tests.support.runs import OPERATORS, REQUIRED, deployed, env_file, ran, secrets, stamps
from tests.support.terminal import ANSWERS, CTRL_C, MORE, PASSWORD, REVIEW, Terminal, environ, reply_to, session, walk
from tests.terminal.test_wizard import back_to

AT_HOME = {**ANSWERS, "Public URL": pki.HOST}
PATHS = {"NGINX_SSL_CERTIFICATE_PATH": f"./{CHAIN}", "NGINX_SSL_CERTIFICATE_KEY_PATH": f"./{KEY}"}
COUNT = re.compile(r"Question (\d+) of (\d+)")
BOTH = pytest.mark.parametrize("flags", [(), ("--plain",)], ids=["keys", "plain"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def refused(terminal: Terminal, text: str, reason: str) -> None:
    """Types a line at the review, whose reason against it then shows under the empty field."""
    row = terminal.screen.row
    terminal.keys(f"{text}\r")
    terminal.until(lambda: reason in terminal.screen.text(row), "the reason")
    terminal.until(lambda: terminal.line.endswith(("write: ", "write:")), "the field, empty again")


# --- 1. an answer is refused for its own reason only --------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("wrong", ["junk", "of another host", "an encrypted key"])
def test_a_wrong_certificate_is_the_business_of_the_review_and_of_no_answer(
    tmp_path: Path, wrong: str, flags: tuple[str, ...]
) -> None:
    other = pki.issue("other.example.com", pki.intermediate(), names=("other.example.com",))
    chain, key = {
        "junk": (b"junk\n", other.private()),
        "of another host": (full(other), other.private()),
        "an encrypted key": (full(pki.server()), pki.server().encrypted()),
    }[wrong]
    out = put(tmp_path / "out", chain, key)
    with session(out, *flags, settings=PATHS) as terminal:
        walk(terminal, REVIEW, AT_HOME)
        assert "To correct: ./tls/" in " ".join(terminal.fresh.split())
        refused(terminal, "w", "./tls/")
        terminal.answer("TLS_MODE")
        terminal.asks("[provided]: ")
        terminal.answer("behind-proxy")
        walk(terminal)
        assert terminal.ends() == 0
    assert (out / CHAIN).read_bytes() == chain


def test_a_wrong_certificate_with_a_private_ca_refuses_no_answer_either(tmp_path: Path) -> None:
    out = put(tmp_path / "out", b"junk\n", pki.server().private())
    with session(out, "--set", "TLS_CA_PATH=./tls/ca.crt", settings=PATHS) as terminal:
        walk(terminal, REVIEW, AT_HOME)
        assert "cannot be used" not in terminal.screen.text()
        assert "To correct: ./tls/" in " ".join(terminal.fresh.split())


@BOTH
def test_a_certificate_question_is_refused_for_its_own_file(tmp_path: Path, flags: tuple[str, ...]) -> None:
    out = put(tmp_path / "out", b"junk\n", pki.server().private())
    with session(out, *flags) as terminal:
        walk(terminal, "Certificate chain", AT_HOME)
        terminal.keys("\r")
        terminal.shows("./tls/server.fullchain.crt")
        put(out, full(pki.server()), None)
        terminal.settle()
        terminal.keys("\r")
        terminal.shows("Certificate key (path on the host)")


@BOTH
def test_a_session_that_was_left_after_the_review_still_reaches_the_certificate(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """With `.env` written and a certificate that has become wrong, the next run opens with the review."""
    out = deployed(tmp_path / "out")
    back_to(out, "generate_nginx_config")
    put(out, b"junk\n", pki.server().private())
    with session(out, *flags) as terminal:
        walk(terminal, REVIEW)
        refused(terminal, "w", "./tls/")
        put(out, full(pki.server()), pki.server().private())
        terminal.answer("w")
        walk(terminal)
        assert terminal.ends() == 0
    assert (out / KEY).exists()


# --- 2. a change is no interview -----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("flag", [("--set", "LOG_LEVEL=DEBUG"), ("--set", "TLS_MODE=behind-proxy")])
def test_confirming_a_change_writes_it_and_asks_nothing(
    tmp_path: Path, flags: tuple[str, ...], flag: tuple[str, str]
) -> None:
    out = deployed(tmp_path / "out")
    with session(out, *flags, *flag, columns=120) as terminal:
        assert walk(terminal, REVIEW)[1:] == ["Number or name to change, a to show all, w to write"]
        assert "(--set)" in terminal.fresh
        terminal.answer("w")
        assert walk(terminal) == []
        assert terminal.ends() == 0
    assert "7/7" in ran(out, "--status", settings={}).stdout
    assert "Nothing to do" in ran(out, settings={}).stdout


@BOTH
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "a closed terminal"])
def test_leaving_the_review_of_a_complete_deployment_changes_nothing(
    tmp_path: Path, flags: tuple[str, ...], how: str
) -> None:
    out = deployed(tmp_path / "out")
    before = stamps(out)
    with session(out, *flags, "--set", "LOG_LEVEL=DEBUG", columns=120) as terminal:
        walk(terminal, REVIEW)
        assert "Ctrl-C leaves without a change" in terminal.fresh
        terminal.answer("TLS_MODE")
        terminal.asks("[provided]: ")
        terminal.answer("off")
        assert terminal.question_or_end().startswith("http port"), "asked because TLS is off"
        terminal.answer("8081")
        walk(terminal, REVIEW)
        for line in ("TLS_MODE: (default) -> off (answer)", "NGINX_HTTP_PORT: (default) -> 8081 (answer)"):
            assert f"Changed: {line}" in terminal.fresh
        terminal.answer("organization_name")
        terminal.asks("Organization name (e.g., Example): ")
        terminal.answer("My Company")
        walk(terminal, REVIEW)
        if how == "a closed terminal":
            terminal.hang_up()
        else:
            terminal.keys(CTRL_C) if how == "Ctrl-C" else terminal.signal(signal.SIGTERM)
            assert terminal.ends() == (130 if how == "Ctrl-C" else 143)
            assert "Nothing was changed" in terminal.screen.text()
        assert "✓ organization_name\n" in terminal.screen.text()
        assert "saved" not in terminal.screen.text().lower()
    changed = {path for path, stamp in stamps(out).items() if stamp != before.get(path)}
    assert changed <= {".", ".deployment-state.lock"}


@BOTH
def test_changes_held_by_the_review_are_written_together(tmp_path: Path, flags: tuple[str, ...]) -> None:
    out = deployed(tmp_path / "out")
    with session(out, *flags, columns=120) as terminal:
        walk(terminal, REVIEW)
        terminal.answer("LOG_LEVEL")
        terminal.asks("[INFO]: ")
        terminal.answer("DEBUG")
        walk(terminal, REVIEW)
        terminal.answer("organization_name")
        terminal.asks("Organization name (e.g., Example): ")
        terminal.answer("My Company")
        assert "organization_name" not in secrets(out)
        walk(terminal)
        assert terminal.ends() == 0
    assert env_file(out)["LOG_LEVEL"] == "DEBUG"
    assert secrets(out)["organization_name"] == "My Company"
    assert "LOG_LEVEL: INFO (default) -> DEBUG (answer)" in ran(out, "--history", settings={}).stdout


# --- 4. a refused answer is not continued --------------------------------------------------------------------------


def test_a_refused_choice_number_or_password_leaves_an_empty_field(out: Path) -> None:
    with session(out, settings={**REQUIRED, "SMTP_PASSWORD": ""}) as terminal:
        walk(terminal, "TLS mode")
        terminal.keys("selfsigned\r")
        terminal.shows("it must be one of provided")
        terminal.answer("provided")
        walk(terminal, "SMTP port", ANSWERS)
        terminal.keys("99999\r")
        terminal.shows("it must be a whole number")
        terminal.answer("465")
        walk(terminal, REVIEW)
        terminal.keys(f"{PASSWORD}\r")
        terminal.shows("or a name from the list")
        terminal.until(lambda: PASSWORD not in terminal.screen.text(), "the pasted text, gone")
        terminal.answer("LOG_LEVEL")
        terminal.asks("[DEBUG]: ")
        terminal.answer()
        walk(terminal)
        assert terminal.ends() == 0
    assert env_file(out)["SMTP_PORT"] == "465"


@BOTH
def test_help_and_back_work_at_choices_and_at_the_review(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, REVIEW)
        terminal.answer("?")
        terminal.shows("w writes everything that is listed")
        walk(terminal, REVIEW)
        terminal.answer("<")
        assert terminal.question_or_end().startswith("Authentik version"), "the last question before the review"
        walk(terminal)
        assert terminal.ends() == 0
    with session(out, *flags) as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.answer("?")
        terminal.shows("q changes nothing")
        terminal.asks("[c/r/q]: ")
        terminal.answer("<")
        terminal.shows("There is no earlier question to go back to.")
        terminal.asks("[c/r/q]: ")
        terminal.answer("q")
        assert terminal.ends() == 3


# --- the express path ------------------------------------------------------------------------------------------------

EXPRESS = {
    "Public URL": "avatar.mycompany.com",
    "Environment name": "mycompany-prod",
    "TLS mode": "self-signed",
    "SMTP host": "mail.mycompany.com",
    "Organization name": "My Company",
    "Admin email addresses": "ada@mycompany.com",
    MORE: "n",
}


@BOTH
def test_ten_answers_lead_from_an_empty_directory_to_a_deployment_that_is_ready(
    out: Path, flags: tuple[str, ...]
) -> None:
    with session(out, *flags, columns=120) as terminal:
        asked = walk(terminal, answers=EXPRESS)
        assert terminal.ends() == 0
        end = terminal.screen.text().partition("Configuration complete\n")[2]
    assert len(asked) <= 10
    assert ran(out, "--check", settings={}).stdout.rstrip().endswith("docker compose up -d")
    assert end.rstrip().endswith("docker compose up -d")
    assert "https://avatar.mycompany.com/sso/if/admin/" in end
    assert "as akadmin (ada@mycompany.com), with its first password" in end
    shows = next(line for line in end.splitlines() if "grep ^AUTHENTIK_BOOTSTRAP_PASSWORD=" in line)
    words = shows.removeprefix("  ").removeprefix("sudo ").split()
    password = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert password.strip() == f"AUTHENTIK_BOOTSTRAP_PASSWORD={secrets(out)['authentik_bootstrap_password']}"
    assert "--invite ada@example.com --admin --online" in end and "https://avatar.mycompany.com/web/" in end


@BOTH
def test_the_preset_without_internet_asks_for_the_registry(out: Path, flags: tuple[str, ...]) -> None:
    mirror = "registry.mycompany.com:5000/avatar"
    with session(out, *flags, columns=120) as terminal:
        asked = walk(terminal, answers={**EXPRESS, "Preset": "airgapped", "Registry with copies of all images": mirror})
        assert terminal.ends() == 0
    assert len(asked) <= 11
    assert env_file(out)["AVATAR_REGISTRY"] == f"{mirror}/octopize"
    assert env_file(out)["POSTGRES_IMAGE"] == f"{mirror}/postgres:14-alpine"


@BOTH
def test_a_preset_that_needs_what_the_operator_has_not_can_be_taken_back(out: Path, flags: tuple[str, ...]) -> None:
    """The screen says how: the bucket has no default, and only Octopize knows its name."""
    with session(out, *flags) as terminal:
        walk(terminal, "Telemetry bucket", {**EXPRESS, "Preset": "default"})
        assert "Without one, go back (<) and type - as the preset" in " ".join(terminal.fresh.split())
        while "for none) [default]: " not in terminal.line:
            terminal.answer("<")
            terminal.question_or_end()
        assert "Preset (default, dev-mode, airgapped; - for none) [default]: " in terminal.line
        terminal.answer("-")
        assert not [question for question in walk(terminal, MORE, EXPRESS) if question.startswith("Telemetry")]


@pytest.mark.parametrize("columns", [60, 120])
def test_questions_are_counted_truly(out: Path, columns: int) -> None:
    counted = []
    with session(out, columns=columns) as terminal:
        while question := terminal.question_or_end():
            if question.startswith((MORE, REVIEW)):
                terminal.answer(reply_to(question, EXPRESS))
                continue
            terminal.until(lambda: bool(COUNT.search(terminal.fresh)), "the number of the question")
            counted.append(tuple(map(int, COUNT.search(terminal.fresh).groups())))
            terminal.answer(reply_to(question, EXPRESS))
    assert [number for number, _ in counted] == list(range(1, len(counted) + 1))
    assert counted[-1][1] == counted[-2][1] == len(counted), "an answer may only add questions, or make some needless"


@BOTH
def test_the_answer_to_keep_all_other_defaults_is_remembered(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, REVIEW, EXPRESS)
        terminal.keys(CTRL_C)
        assert terminal.ends() == 130
    with session(out, *flags) as terminal:
        assert walk(terminal, REVIEW, EXPRESS)[1:] == ["Number or name to change, a to show all, w to write"]
        terminal.answer("TELEMETRY_ENABLED")
        terminal.asks("[false]: ")
        terminal.answer("true")
        assert terminal.question_or_end().startswith("Telemetry bucket"), "it has no default"
        terminal.answer("mycompany-telemetry")
        assert terminal.question_or_end().startswith(REVIEW)


@BOTH
def test_back_and_help_at_the_question_about_everything_else(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, MORE, EXPRESS)
        terminal.answer("?")
        terminal.shows("y asks for sign-in, database")
        walk(terminal, MORE, EXPRESS)
        terminal.answer("<")
        terminal.asks("SMTP user name (e.g., avatar; Enter for none): ")
        terminal.answer("avatar")
        walk(terminal, MORE, EXPRESS)
        terminal.answer("y")
        assert terminal.question_or_end().startswith("Database host")
        terminal.answer("<")
        terminal.asks("SMTP user name (- for none) [avatar]: ")
        terminal.answer()
        assert terminal.question_or_end().startswith("Database host"), "it is decided already"


@BOTH
def test_a_database_elsewhere_is_asked_for_its_port_and_tls_mode(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, "Database host")
        terminal.answer("db.mycompany.com")
        terminal.asks("Database port [5432]: ")
        terminal.answer("6432")
        terminal.asks("TLS to the database (disable, require, verify-ca, verify-full) [disable]: ")
        terminal.answer("require")
        assert terminal.question_or_end().startswith("Certificate chain")


# --- what shows while a run works ---------------------------------------------------------------

WORKS = """
import sys
from setup import console
console.prepare({})
with console.working("Generate Env File"):
    input()
    if sys.argv[1:]:
        raise RuntimeError
"""


@pytest.mark.parametrize(("words", "verdict"), [((), "✓"), (("fail",), "✗")])
def test_a_steps_line_shows_its_title_while_it_works_and_then_its_verdict(words: tuple[str, ...], verdict: str) -> None:
    with Terminal([sys.executable, "-c", WORKS, *words], environ()) as terminal:
        terminal.until(lambda: terminal.last_row.endswith("Generate Env File … "), "the title")
        terminal.keys("x\r")  # its echo ends the row
        assert terminal.ends() == len(words)
        assert terminal.screen.text().splitlines()[1].startswith(verdict)


@BOTH
def test_a_session_shows_the_steps_that_ask_nothing(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags, columns=60) as terminal:
        walk(terminal, answers=EXPRESS)
        assert terminal.ends() == 0
        shown = terminal.screen.text()
    steps = "".join(f"{title} … ✓\n" for title in ("Generate Env File", "Generate Nginx Config", "Generate Secrets"))
    assert f"\n\n{steps}\nUser-Provided Secrets\n" in shown
    assert "\n\nFinalize … ✓\n\nConfiguration complete\n" in shown
    assert "Collect" not in shown


def test_the_steps_of_a_run_that_asks_nobody_show_on_a_terminal_only(tmp_path: Path) -> None:
    settings = {**REQUIRED, **OPERATORS, "TLS_MODE": "self-signed"}
    for name in ("shown", "quiet", "piped"):
        (tmp_path / name).mkdir()
    with session(tmp_path / "shown", "--non-interactive", settings=settings) as terminal:
        assert terminal.ends() == 0
        assert terminal.screen.text().startswith("Collect Required Config … ✓\nCollect Optional Config … ✓\n")
    with session(tmp_path / "quiet", "--non-interactive", "--quiet", settings=settings) as terminal:
        assert terminal.ends() == 0
        assert terminal.screen.text().strip() == ""
    assert "…" not in ran(tmp_path / "piped", settings=settings).stdout


# --- --fill ----------------------------------------------------------------------------------------------------------


@BOTH
def test_fill_asks_only_what_is_missing_and_finishes(tmp_path: Path, flags: tuple[str, ...]) -> None:
    settings = {**REQUIRED, "TLS_MODE": "self-signed", "SMTP_HOST": "mail.example.com", "SMTP_USERNAME": "avatar"}
    out = deployed(tmp_path / "out", settings=settings)
    with session(out, "--fill", *flags, columns=120) as terminal:
        asked = walk(terminal, answers={**EXPRESS, "SMTP password": PASSWORD})
        assert terminal.ends() == 0
        assert PASSWORD not in terminal.raw
        assert terminal.screen.text().rstrip().endswith("docker compose up -d")
    assert [question.partition(" (")[0] for question in asked] == [
        "Organization name", "SMTP password", "SMTP password, again",
    ]  # fmt: skip
    assert secrets(out)["smtp_password"] == PASSWORD
    assert "battery" in env_file(out)["SMTP_PASSWORD"]
    ran(out, "--check", settings={})
    with session(out, "--fill", *flags, columns=120) as terminal:
        assert walk(terminal) == []
        assert terminal.ends() == 0
        assert "Nothing to do" in terminal.screen.text()


@BOTH
def test_leaving_fill_changes_nothing(tmp_path: Path, flags: tuple[str, ...]) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, "TLS_MODE": "self-signed", "SMTP_USERNAME": "avatar"})
    before = stamps(out)
    with session(out, "--fill", *flags) as terminal:
        terminal.asks("Organization name (e.g., Example): ")
        terminal.answer("My Company")
        assert terminal.question_or_end().startswith("SMTP password")
        terminal.keys(CTRL_C)
        assert terminal.ends() == 130
        assert "Nothing was changed" in terminal.screen.text()
        assert "✓ organization_name\n" in terminal.screen.text()
        assert "saved" not in terminal.screen.text().lower()
    changed = {path for path, stamp in stamps(out).items() if stamp != before.get(path)}
    assert changed <= {".", ".deployment-state.lock"}


def test_fill_without_a_terminal_says_what_to_type(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, "TLS_MODE": "self-signed"})
    done = ran(out, "--fill", settings={}, code=1)
    assert f"--output-dir {out} --fill. Without one, give as variables: ORGANIZATION_NAME or" in done.stderr
    assert "ORGANIZATION_NAME_FILE" in done.stderr
    ran(out, "--fill", settings=OPERATORS)
    assert secrets(out)["organization_name"] == "Example"


# --- the end of a run, --check and --status agree --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "last"),
    [
        ({"TLS_MODE": "self-signed"}, "--fill"),
        (OPERATORS, "--check"),
        ({**OPERATORS, "TLS_MODE": "self-signed"}, "docker compose up -d"),
    ],
    ids=["pending", "no certificate", "ready"],
)
def test_the_end_of_a_run_and_the_check_name_the_same_next_command(
    tmp_path: Path, settings: dict[str, str], last: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    ready = last.startswith("docker")
    first = ran(out, settings=REQUIRED | settings).stdout.splitlines()
    check = ran(out, "--check", settings={}, code=0 if ready else 3).stdout.splitlines()
    assert first[-2:] == check[-2:]
    assert first[-1].endswith(last)
    assert ("docker compose up -d" in "\n".join(first)) == ready
    assert first[-2].startswith(f"Next, on the host, in {out}")
    assert ("put those files there, then:" in first[-2]) == (last == "--check")
    status = ran(out, "--status", settings={}).stdout
    assert ("\nReady: yes\n" in status) == ready
    assert json.loads(ran(out, "--status", "--json", settings={}).stdout)["ready"] == ready


def test_the_check_names_the_cure_before_the_command(tmp_path: Path) -> None:
    """A certificate of another host is there: that file is to be replaced, and then the check says what to type."""
    out = deployed(tmp_path / "out", settings={**REQUIRED, **OPERATORS})
    other = pki.issue("other.example.com", pki.intermediate(), names=("other.example.com",))
    put(out, full(other), other.private())
    lines = ran(out, "--check", settings={}, code=3).stdout.splitlines()
    assert any(line.startswith("fail  certificate-names: ") for line in lines)
    assert lines[-2] == f"Next, on the host, in {out}, do what is said above, then:"
    assert lines[-1].endswith("--check")


def forget(out: Path) -> None:
    for path in out.glob(".deployment-state*"):
        path.unlink()


def let_expire(out: Path) -> None:
    issue(out, -3, out.parent)
    forget(out)
    (out / "docker-compose.yml").unlink()
    ran(out, settings={**REQUIRED, **OPERATORS, **FURTHER})  # a new state takes it for ours


@pytest.mark.parametrize(
    ("settings", "change", "flags"),
    [
        ({"TLS_MODE": "self-signed"}, remove("nginx/nginx.conf"), ""),
        ({"TLS_MODE": "behind-proxy"}, remove("docker-compose.yml"), ""),
        (dict(FURTHER), let_expire, "--renew-certificate"),
        ({"TLS_MODE": "behind-proxy"}, lambda out: back_to(out, "generate_secrets"), ""),
    ],
    ids=["a file is gone", "the compose file is gone", "the certificate has expired", "the run was left"],
)
def test_the_next_command_of_the_check_is_the_cure(
    tmp_path: Path, settings: dict[str, str], change: Callable[[Path], object], flags: str
) -> None:
    """Typed as it stands, it leads to the next command: to start the stack."""
    out = deployed(tmp_path / "out", settings={**REQUIRED, **OPERATORS, **settings})
    change(out)
    where, command = ran(out, "--check", settings={}, code=3).stdout.splitlines()[-2:]
    assert where == f"Next, on the host, in {out}:"
    assert command.endswith(f" --output-dir {out} {flags}".rstrip())
    done = subprocess.run(
        command, shell=True, env=environ(), cwd=out.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith("docker compose up -d")
    ran(out, "--check", settings={})


@pytest.mark.parametrize(
    ("change", "last"),
    [
        (edit("nginx/nginx.conf", "listen 443", "listen 444"), ", do what is said above, then:"),
        (forget, ":\n  --history"),
    ],
    ids=["an edit", "no state"],
)
def test_the_check_asks_for_what_no_run_does(tmp_path: Path, change: Callable[[Path], object], last: str) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, **OPERATORS, "TLS_MODE": "self-signed"})
    change(out)
    lines = ran(out, "--check", settings={}, code=3).stdout.splitlines()
    following, _, flags = last.partition("\n  ")
    assert lines[-2] == f"Next, on the host, in {out}{following}"
    assert lines[-1].endswith(f" --output-dir {out} {flags}".rstrip())
    if not flags:  # a run leaves the edit, and says the same
        assert ran(out, settings={}).stdout.splitlines()[-2:] == lines[-2:]


def test_the_check_prints_a_command_for_the_host_that_can_be_typed(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, **OPERATORS, "TLS_MODE": "self-signed"})
    with session(out, "--check", columns=60) as terminal:
        assert terminal.ends() == 0
        shown = terminal.raw.replace("\r\n", "\n")
    command = shown.partition("do: on the host:\n      ")[2].partition("\n")[0]
    assert command.endswith(" --host-check | sh")
    script = subprocess.run(
        command.removesuffix("| sh"),
        shell=True,
        env=environ(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert script.stdout.startswith("#!/bin/sh\n")


@pytest.mark.parametrize(
    "settings", [{"TLS_MODE": "self-signed"}, OPERATORS, {}], ids=["a secret", "a certificate", "both"]
)
def test_the_last_screen_says_how_to_sign_in_also_when_something_is_missing(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for flags in ((), ("--set", "LOG_LEVEL=DEBUG")):
        end = ran(out, *flags, settings=REQUIRED | settings).stdout.partition("Configuration complete\n")[2]
        parts = ["https://avatar.example.com/sso/if/admin/", "as akadmin (", "grep ^AUTHENTIK_BOOTSTRAP_PASSWORD="]
        parts += ["https://avatar.example.com/web/", "--invite ada@example.com --admin --online"]
        parts += ["Missing before the stack can start:", "Next, on the host"]
        assert [part for part in parts if part not in end] == []
        assert parts == sorted(parts, key=end.index)
        assert end.index("Next, on the host") == end.rindex("Next, on the host")
        assert len(end.partition("Next, on the host")[2].strip().splitlines()) == 2, "one command"


@BOTH
def test_leaving_the_review_of_a_complete_deployment_shows_how_to_sign_in(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, **OPERATORS, "TLS_MODE": "self-signed"})
    with session(out, *flags, columns=120) as terminal:
        walk(terminal)
        assert terminal.ends() == 0
        end = terminal.screen.text().partition("Nothing to do")[2]
    assert "grep ^AUTHENTIK_BOOTSTRAP_PASSWORD=" in end and "--invite" in end
    assert end.rstrip().endswith("docker compose up -d")
    assert ran(out, settings={}).stdout == "Nothing to do: the configuration is complete and unchanged.\n"


def test_prose_at_the_end_of_a_run_fits_a_narrow_window(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=REQUIRED | {"ORGANIZATION_NAME": "Example"})
    with session(out, "--fill", columns=60) as terminal:
        walk(terminal, answers=ANSWERS)
        assert terminal.ends() == 0
        end = terminal.screen.text().partition("Configuration complete\n")[2]
    assert "To undo this\nchange:\n" in end
    assert ".secrets/ (1 file)\n" in end


def test_a_comment_below_a_command_is_wrapped_as_a_comment(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, **OPERATORS, "TLS_MODE": "self-signed"})
    with session(out, "--check", columns=60) as terminal:
        assert terminal.ends() == 0
        rows = terminal.screen.text().partition("Only before the first start")[2].splitlines()
    comment = [row for row in rows if row.startswith("  # ")]
    assert len(comment) > 1 and comment[-1].endswith("the secrets that made it")


# --- colour ----------------------------------------------------------------------------------------


def test_the_check_shows_colour_beside_the_words_on_a_terminal(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    with session(out, "--check") as terminal:
        assert terminal.ends() == 3
        assert "\x1b[31mfail\x1b[0m  secret-pending: " in terminal.raw
        assert "\x1b[32mok  \x1b[0m  steps: " in terminal.raw
        assert max(map(len, terminal.screen.text().splitlines())) <= 80
        levels = re.findall(r"^(fail|warn|skip|ok)  ", terminal.screen.text(), re.MULTILINE)
    assert levels and levels == sorted(levels, key=["fail", "warn", "skip", "ok"].index), "failures come first"
    for quiet in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with session(out, "--check", settings=quiet) as terminal:
            terminal.ends()
            assert "\x1b" not in terminal.raw
    with session(out, "--check", "--plain") as terminal:
        terminal.ends()
        assert "\x1b" not in terminal.raw
    assert "\x1b" not in ran(out, "--check", settings={"TERM": "xterm"}, code=3).stdout
