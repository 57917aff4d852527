"""Interactive sessions on a real pseudo-terminal: the specification's words, every key, and secrets that never show."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from setup.config.settings import SETTINGS
from setup.state_manager import DeploymentState
from setup.volume.volume import Volume
from tests.support.runs import (
    LAST_GOOD,
    LOCK,
    ROOT,
    STATE,
    command,
    deployed,
    env_file,
    present,
    ran,
    require_strace,
    secrets,
    stamps,
    tree,
)
from tests.support.terminal import (
    ANSWERS,
    CTRL_B,
    CTRL_C,
    CTRL_U,
    GREETING,
    KEY,
    MASKED,
    PASSWORD,
    REVIEW,
    SECRET_KEY,
    SHIFT_TAB,
    TAB,
    Terminal,
    environ,
    reply_to,
    session,
    walk,
)

BOTH = pytest.mark.parametrize("flags", [(), ("--plain",)], ids=["keys", "plain"])

# The specification's sessions, to the letter.
OPENING = """
Avatar Deployment Configuration
================================
Press Enter to accept default values shown in [brackets]
"""
FIRST_ANSWERS = """
--- Required Settings ---
Public URL (domain name, e.g., avatar.example.com): avatar.mycompany.com
Environment name (e.g., mycompany-prod): mycompany-prod

--- Installation Settings ---
"""
SECRETS = """
User-Provided Secrets
======================
You can provide these values now or skip and fill them in manually later.
Press Enter to skip a value.

"""
STATUS = """\
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
FOUND = f"""
Existing Configuration Found
=============================
Deployment Configuration Status

{STATUS}
Do you want to (c)ontinue, (r)eset, or (q)uit? [c/r/q]: """

# What the specification's operator types: one user name by hand, three secrets left for later.
TRANSCRIPT = {
    "Public URL": "avatar.mycompany.com",
    "Environment name": "mycompany-prod",
    "SMTP host": "mail.mycompany.com",
    "SMTP user name": "avatar",
    "Database user name": "avataruser",
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def state_of(out: Path) -> DeploymentState:
    volume = Volume(out)
    try:
        return DeploymentState.load(volume)
    finally:
        volume.close()


def back_to(out: Path, step: str) -> None:
    """A deployment whose last run ended before this step."""
    volume = Volume(out)
    try:
        state = DeploymentState.load(volume)
        state.reopen(step)
        state.save(volume)
    finally:
        volume.close()


def leave(terminal: Terminal) -> None:
    terminal.keys(CTRL_C)
    assert terminal.ends() == 130, terminal.screen.text()


def whole_page(terminal: Terminal) -> str:
    """The review page with every setting."""
    walk(terminal, REVIEW)
    terminal.answer("a")
    walk(terminal, REVIEW)
    return terminal.fresh


def finish(terminal: Terminal) -> str:
    """Enter at whatever is still asked; the whole screen."""
    walk(terminal)
    assert terminal.ends() == 0, terminal.screen.text()
    return terminal.screen.text()


# --- the sessions of the specification ------------------------------------------------------------------


@BOTH
def test_the_first_session_in_the_words_of_the_specification(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, answers=TRANSCRIPT)
        assert terminal.ends() == 0
        shown = "\n".join(line.rstrip() for line in terminal.screen.text().splitlines())
    assert shown.startswith(OPENING)
    assert FIRST_ANSWERS in shown
    assert SECRETS in shown
    assert "Database user name (e.g., avataruser) [avataruser]: avataruser\n✓ Saved db_user\n" in shown
    skipped = "\n  ⊘ Skipped - will need to be filled manually\n"
    assert f"Admin email addresses (comma-separated):{skipped}" in shown
    assert "\n✓ 5/8 secrets provided\n" in shown
    assert re.findall(r"--- (.*) ---", shown.partition("Review")[0]) == [
        "Required Settings", "Installation Settings", "TLS and Ports", "E-mail",
        "Installation Settings", "TLS and Ports", "E-mail", "Telemetry", "Logging", "Data and Storage", "Images",
    ]  # fmt: skip
    assert state_of(out).is_complete()


@BOTH
def test_resuming_in_the_words_of_the_specification(out: Path, flags: tuple[str, ...]) -> None:
    deployed_at = deployed(out.parent / "made")
    back_to(deployed_at, "generate_secrets")
    with session(deployed_at, *flags) as terminal:
        terminal.asks("[c/r/q]: ")
        assert terminal.screen.text().rstrip() == FOUND.rstrip()
        terminal.answer("c")
        assert terminal.question_or_end().startswith("Organization name"), "it continues from step 5"
        assert SECRETS in terminal.fresh
        leave(terminal)


def test_the_status_in_the_words_of_the_specification(out: Path) -> None:
    deployed_at = deployed(out.parent / "made")
    back_to(deployed_at, "generate_secrets")
    with session(deployed_at, "--status") as terminal:
        assert terminal.ends() == 3
        heading = "Deployment Configuration Status\n================================\n"
        assert terminal.screen.text().startswith(heading + STATUS)


# --- one question -----------------------------------------------------------------------------------------


def test_a_wrong_answer_is_refused_under_the_field_and_corrected_there(out: Path) -> None:
    with session(out) as terminal:
        terminal.asks("avatar.example.com): ")
        row = terminal.screen.row
        terminal.keys("avatar.mycompany.com/web\r")
        terminal.shows("it must not contain a path")
        terminal.until(lambda: terminal.screen.row == row, "the cursor, back in the field")
        assert terminal.line.endswith("avatar.mycompany.com/web"), "the text is kept"
        assert "it must not contain a path" in terminal.screen.text(row + 1)
        assert not (out / STATE).exists()
        terminal.keys("\x7f" * 4)
        terminal.answer()
        terminal.asks("mycompany-prod): ")
        assert "a path" not in terminal.screen.text(), "the reason goes away"
        leave(terminal)
    assert state_of(out).answers["PUBLIC_URL"].text == "avatar.mycompany.com"


def test_a_wrong_answer_is_refused_and_asked_again_line_by_line(out: Path) -> None:
    with session(out, "--plain") as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.answer("avatar.mycompany.com/web")
        terminal.asks("avatar.example.com): ")
        assert "\n  it must not contain a path" in terminal.screen.text()
        terminal.answer()
        terminal.asks("avatar.example.com): ")
        assert "  a value is needed (e.g., avatar.example.com)" in terminal.screen.text()
        leave(terminal)
    assert not (out / STATE).exists()


@BOTH
def test_an_answer_that_contradicts_another_one_is_refused_at_once(out: Path, flags: tuple[str, ...]) -> None:
    """Else it would end this session, and every later one."""
    with session(out, *flags, settings={"TLS_MODE": "provided"}) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.keys("http://avatar.mycompany.com\r")
        terminal.shows("set TLS_MODE=off, or remove the scheme")
        if flags:
            terminal.until(lambda: terminal.last_row.endswith("example.com): "), "the same question")
        terminal.keys(CTRL_U)
        terminal.answer("avatar.mycompany.com")
        terminal.asks("mycompany-prod): ")
        leave(terminal)


@BOTH
def test_help_explains_the_question_its_destination_and_the_value_in_force(out: Path, flags: tuple[str, ...]) -> None:
    with session(
        out, *flags, settings={"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "prod", "SMTP_HOST": "mail.example.com"}
    ) as terminal:
        walk(terminal, "SMTP port")
        terminal.keys("?\r" if flags else "?")
        terminal.shows("At present: 587, from default.")
        help_text = terminal.fresh
        terminal.asks("SMTP port [587]: ")
        assert SETTINGS["SMTP_PORT"].help in help_text
        assert "Takes a whole number from 1 to 65535." in help_text
        assert "Written to .env as SMTP_PORT." in help_text
        assert bool(re.search(r"Question \d+ of \d+\.", help_text)) == bool(flags)
        walk(terminal, "Organization name")
        terminal.keys("?\r" if flags else "?")
        terminal.shows("At present: not given yet.")
        assert "Written to .secrets/organization_name." in terminal.fresh
        leave(terminal)


def test_progress_shows_beside_the_question_while_it_is_asked(out: Path) -> None:
    with session(out) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.shows("Question 1 of ")
        terminal.answer("avatar.mycompany.com")
        terminal.asks("mycompany-prod): ")
        terminal.shows("Question 2 of ")
        assert "Question 1" not in terminal.screen.text()
        leave(terminal)


def test_tab_completes_words_and_lists_the_remaining_ones(out: Path) -> None:
    with session(
        out, settings={"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "prod", "SMTP_HOST": "mail.example.com"}
    ) as terminal:
        walk(terminal, "TLS mode")
        terminal.keys(TAB)
        terminal.shows("provided  self-signed  behind-proxy  off")
        terminal.keys("B" + TAB)
        terminal.asks("[provided]: behind-proxy")
        terminal.answer()
        walk(terminal, "Database host")
        terminal.keys(TAB)
        terminal.asks("[db]: db")
        terminal.answer()
        walk(terminal, "Log level")
        terminal.keys("e" + TAB)
        terminal.asks("[INFO]: ERROR")
        terminal.answer()
        walk(terminal, REVIEW)
        terminal.keys("avatar_a" + TAB)
        terminal.shows("AVATAR_AUTHENTIK_VERSION  ")
        terminal.asks("write: avatar_a")
        leave(terminal)
    assert state_of(out).answers["LOG_LEVEL"].text == "ERROR"
    assert state_of(out).answers["TLS_MODE"].text == "behind-proxy"


@BOTH
def test_telemetry_explains_what_is_sent_to_whom_before_it_asks(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, "Send usage telemetry")
        _, _, after = terminal.fresh.partition("--- Telemetry ---")
        notice = " ".join(after.split())
        assert notice.startswith("With telemetry, the API sends statistics of its use to Octopize, into a bucket")
        assert SETTINGS["TELEMETRY_S3_ENDPOINT_URL"].default in notice.partition("Send usage telemetry")[0]
        terminal.answer()
        assert terminal.question_or_end().startswith("Readable console logs"), "no bucket is asked for"
        leave(terminal)


@BOTH
def test_every_answer_is_on_the_volume_before_the_next_question(out: Path, flags: tuple[str, ...]) -> None:
    expected = {
        "Public URL": "PUBLIC_URL", "Environment name": "ENV_NAME",
        "SMTP host": "SMTP_HOST", "SMTP user name": "SMTP_USERNAME", "Send usage telemetry": "TELEMETRY_ENABLED",
        "Telemetry bucket": "TELEMETRY_S3_BUCKET_NAME", "Log level": "LOG_LEVEL",
        "Organization name": "organization_name", "SMTP password": "smtp_password",
        "Telemetry access key": "telemetry_s3_access_key_id", "Telemetry secret key": "telemetry_s3_secret_access_key",
    }  # fmt: skip
    seen = set()
    with session(out, *flags) as terminal:
        while question := terminal.question_or_end():
            beginning = next((words for words in expected if question.startswith(words)), "")
            terminal.answer(reply_to(question))
            terminal.question_or_end()
            if question.endswith(", again") or (beginning and expected[beginning].isupper()):
                name = expected[beginning]
                kept = secrets(out).get(name) or state_of(out).answers[name].text
                assert kept == ANSWERS[beginning]
                seen.add(name)
            elif not beginning and not question.startswith(REVIEW) and not question.startswith("Admin"):
                assert question_is_settled(out, question), question
    assert len(seen) == len(expected) - 1, "all but the organisation's name, which is not typed twice"


def question_is_settled(out: Path, question: str) -> bool:
    rows = [key for key, row in SETTINGS.items() if row.asked and question.startswith(row.question)]
    return all(key in state_of(out).accepted for key in rows)


# --- back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [SHIFT_TAB, CTRL_B, "<\r", "plain"])
def test_back_across_a_section_and_a_conditional_question(out: Path, key: str) -> None:
    flags, key = (("--plain",), "<\r") if key == "plain" else ((), key)
    with session(
        out, *flags, settings={"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "prod", "SMTP_HOST": "mail.example.com"}
    ) as terminal:
        walk(terminal, "TLS mode")
        terminal.answer("off")
        assert terminal.question_or_end().startswith("http port"), "asked because TLS is off"
        terminal.settle()
        terminal.keys(key)
        terminal.asks(
            "TLS mode (provided, self-signed, behind-proxy, off) [off]: "
        )  # the earlier answer is the default
        terminal.settle()
        terminal.keys(key)
        terminal.asks("Preset (default, dev-mode, airgapped; Enter for none): ")
        terminal.answer("dev-mode")
        terminal.asks("[off]: ")
        terminal.answer("provided")
        terminal.shows("--- E-mail ---")
        assert "http port" not in terminal.fresh
        leave(terminal)
    answers = state_of(out).answers
    assert (answers["PRESET"].text, answers["TLS_MODE"].text) == ("dev-mode", "provided")


def test_back_to_an_answer_and_enter_keeps_it(out: Path) -> None:
    with session(out, "--plain") as terminal:
        walk(terminal, "Preset")
        terminal.answer("<")
        terminal.asks("Environment name (e.g., mycompany-prod) [mycompany-prod]: ")
        terminal.answer()
        terminal.asks("Enter for none): ")
        leave(terminal)
    state = state_of(out)
    assert state.answers["ENV_NAME"].text == "mycompany-prod"
    assert not state.again
    assert "ENV_NAME" not in state.accepted


@BOTH
def test_a_run_that_is_killed_after_going_back_opens_there_again(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, "Database host")
        for beginning in ("SMTP user name", "SMTP host"):
            terminal.answer("<")
            assert terminal.question_or_end().startswith(beginning)
        terminal.signal(9)
        terminal.ends()
    with session(out, *flags) as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.answer("c")
        terminal.asks("SMTP host [mail.mycompany.com]: ")
        terminal.answer("other.mycompany.com")
        terminal.asks("SMTP user name (- for none) [avatar]: ")
        terminal.answer()
        terminal.asks("Database host [db]: ")
        leave(terminal)
    assert state_of(out).answers["SMTP_HOST"].text == "other.mycompany.com"


@BOTH
def test_back_stops_at_the_first_question_and_at_the_review(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.answer("<")
        terminal.shows("There is no earlier question to go back to.")
        terminal.asks("avatar.example.com): ")
        terminal.answer("avatar.mycompany.com")
        walk(terminal, "Database name")
        terminal.answer("<")
        terminal.shows("There is no earlier question to go back to.")
        terminal.asks("[avatar]: ")
        leave(terminal)


@BOTH
def test_back_over_a_password_keeps_it_on_enter_or_replaces_it_and_never_shows_it(
    out: Path, flags: tuple[str, ...]
) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, "Telemetry access key")
        assert secrets(out)["smtp_password"] == PASSWORD
        for replacement in ("", "another one"):
            terminal.answer("<")
            terminal.asks("SMTP password [******]: ")
            terminal.answer(replacement)
            if replacement:
                terminal.asks("SMTP password, again: ")
                terminal.answer(replacement)
            terminal.shows("✓ Saved smtp_password")
            terminal.asks("Telemetry access key: ")
            assert secrets(out)["smtp_password"] == (replacement or PASSWORD)
        walk(terminal)
        assert terminal.ends() == 0
        assert PASSWORD not in terminal.raw and "another one" not in terminal.raw
    assert env_file(out)["SMTP_PASSWORD"] == "'another one'"
    assert not state_of(out).again


# --- the review ----------------------------------------------------------------------------------------------


@BOTH
def test_the_review_shows_every_setting_with_value_and_source(out: Path, flags: tuple[str, ...]) -> None:
    given = {"ENV_NAME": "prod", "ORGANIZATION_NAME": "Example", "AUTHJWT_SECRET_KEY": "given beforehand"}
    with session(out, *flags, columns=150, settings=given) as terminal:
        page = whole_page(terminal)
        assert "given beforehand" not in page
        leave(terminal)
    found = {key: (text, source) for key, text, source in re.findall(r"^ *\d+ (\w+) = (.*)  \((.*)\)$", page, re.M)}
    conditional = {"NGINX_HTTP_PORT", "TRUSTED_PROXIES", "DB_PORT", "DB_SSLMODE", "AUTH_TYPE"}
    of_others = {key for key in SETTINGS if key.startswith(("KUBERNETES_", "SWARM_"))}  # of another TARGET
    assert SETTINGS.keys() - found.keys() == conditional | of_others
    assert found["PUBLIC_URL"] == ("avatar.mycompany.com", "answer")
    assert found["ENV_NAME"] == ("prod", "environment")
    assert found["TELEMETRY_S3_BUCKET_NAME"] == ("mycompany-telemetry", "answer")
    assert found["AVATAR_API_VERSION"][1] == "default"
    assert found["organization_name"] == found["authjwt_secret_key"] == ("******", "given")
    assert not {path.name for path in out.iterdir()} - {STATE, LAST_GOOD, LOCK}, "nothing is written yet"


@BOTH
def test_an_edit_by_number_reopens_what_depends_on_it_and_an_edit_by_name_does_too(
    out: Path, flags: tuple[str, ...]
) -> None:
    with session(out, *flags) as terminal:
        number = re.search(r"(\d+) TLS_MODE = provided", whole_page(terminal))[1]
        terminal.answer(number)
        terminal.asks("TLS mode (provided, self-signed, behind-proxy, off) [provided]: ")
        terminal.answer("off")
        assert terminal.question_or_end().startswith("http port")
        terminal.answer("8081")
        assert walk(terminal, REVIEW) == ["Number or name to change, a to show all, w to write"]
        assert "NGINX_HTTP_PORT = 8081  (answer)" in terminal.fresh
        assert "NGINX_SSL_CERTIFICATE_PATH" not in terminal.fresh
        terminal.answer("log_level")
        terminal.asks("[DEBUG]: ")
        terminal.answer("warning")
        walk(terminal, REVIEW)
        assert "LOG_LEVEL = WARNING  (answer)" in terminal.fresh
        finish(terminal)
    assert env_file(out)["LOG_LEVEL"] == "WARNING"


@BOTH
def test_an_entry_that_is_not_listed_is_refused(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, REVIEW)
        for text in ("0", "999", "NGINX_HTTP_PORT", "²", PASSWORD):
            terminal.keys(text)
            terminal.asks(f"write: {text}")
            terminal.keys("\r")
            terminal.until(lambda: terminal.line.endswith(("write: ", "write:")), "the field, empty again")
            terminal.shows("or a name from the list")
            terminal.settle()
        leave(terminal)


@BOTH
def test_a_setting_may_be_emptied_and_an_edit_may_be_dropped(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, REVIEW)
        terminal.answer("SMTP_USERNAME")
        terminal.asks("SMTP user name (- for none) [avatar]: ")
        terminal.answer("<")
        walk(terminal, REVIEW)
        assert "SMTP_USERNAME = avatar" in terminal.fresh
        terminal.answer("SMTP_USERNAME")
        terminal.asks("SMTP user name (- for none) [avatar]: ")
        terminal.answer("-")
        walk(terminal, REVIEW)
        assert "SMTP_USERNAME = (empty)  (answer)" in terminal.fresh
        shown = finish(terminal)
    assert "SMTP password" not in shown, "nobody signs in"


@BOTH
def test_a_secret_given_beforehand_can_be_replaced_in_the_review_and_is_not_asked(
    out: Path, flags: tuple[str, ...]
) -> None:
    with session(out, *flags, settings={"SMTP_PASSWORD": "the old one", "ADMIN_EMAILS": "ada@example.com"}) as terminal:
        walk(terminal, REVIEW)
        assert "smtp_password = ******  (given)" in terminal.fresh
        terminal.answer("smtp_password")
        terminal.asks("SMTP password [******]: ")
        terminal.answer(PASSWORD)
        terminal.asks("SMTP password, again: ")
        terminal.answer(PASSWORD)
        walk(terminal, REVIEW)
        asked = walk(terminal)
        assert terminal.ends() == 0
        assert "✓ 10/10 secrets provided" in terminal.screen.text()
        assert "the old one" not in terminal.raw and PASSWORD not in terminal.raw
    assert not [question for question in asked if question.startswith(("SMTP password", "Admin email"))]
    assert secrets(out)["smtp_password"] == PASSWORD


# --- secrets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ["xterm", "dumb", "unknown", "", "plain"])
def test_a_masked_secret_shows_nowhere_but_in_its_file(out: Path, tmp_path: Path, term: str) -> None:
    """Neither on the screen nor in the state, nor in the traceback of an error after it was typed."""
    templates = tmp_path / "templates"
    shutil.copytree(ROOT / "templates", templates)
    broken = (templates / "env.j2").read_text() + "{{ none.such.thing if 'battery' in (values | string) else '' }}"
    flags = ("--plain",) if term == "plain" else ()
    with session(out, *flags, term="xterm" if flags else term) as terminal:
        walk(terminal, "Telemetry secret key, again")
        (templates / "env.j2").write_text(broken)
        terminal.answer(SECRET_KEY)
        terminal.ends()
        for secret in MASKED:
            assert secret not in terminal.raw
    holding = {path for path, (_, data) in tree(out).items() if any(secret.encode() in data for secret in MASKED)}
    assert holding == {
        ".secrets/smtp_password", ".secrets/telemetry_s3_access_key_id", ".secrets/telemetry_s3_secret_access_key",
    }  # fmt: skip
    assert secrets(out)["telemetry_s3_access_key_id"] == KEY
    assert "battery" in env_file(out)["SMTP_PASSWORD"]


def test_an_internal_error_shows_no_secret_either(out: Path, tmp_path: Path) -> None:
    """The templates change while the session waits; what breaks then holds the secret in its frames."""
    templates = tmp_path / "templates"
    shutil.copytree(ROOT / "templates", templates)
    with session(out, "--debug", "--templates-dir", str(templates)) as terminal:
        walk(terminal, "Telemetry secret key, again")
        shutil.rmtree(templates)
        templates.write_text("no directory")
        terminal.answer(SECRET_KEY)
        assert terminal.ends() != 0
        assert not [secret for secret in MASKED if secret in terminal.raw]


@BOTH
def test_a_typed_password_is_asked_twice_until_both_are_the_same(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, "SMTP password")
        terminal.answer(PASSWORD)
        terminal.asks("SMTP password, again: ")
        terminal.answer("something else")
        terminal.shows("the two values differ")
        terminal.asks("SMTP password: ")
        assert "smtp_password" not in secrets(out)
        terminal.answer(PASSWORD)
        terminal.asks("SMTP password, again: ")
        terminal.answer(PASSWORD)
        terminal.asks("Telemetry access key: ")
        leave(terminal)
    assert secrets(out)["smtp_password"] == PASSWORD


def test_a_pasted_password_is_asked_once(out: Path) -> None:
    with session(out) as terminal:
        walk(terminal, "SMTP password")
        terminal.paste(PASSWORD + "\n")
        terminal.answer()
        terminal.asks("Telemetry access key: ")
        terminal.paste("abc")
        terminal.keys(CTRL_U)  # nothing is left of the paste: what follows is typed
        terminal.answer(KEY)
        terminal.asks("Telemetry access key, again: ")
        leave(terminal)
    assert secrets(out)["smtp_password"] == PASSWORD


def test_nothing_that_was_typed_comes_back_with_the_arrow_keys(out: Path) -> None:
    with session(out) as terminal:
        walk(terminal, "Telemetry access key")
        terminal.keys("\x1b[A\x1b[A\x19\x10")  # up, up, yank, previous
        terminal.keys("x\r")
        terminal.asks("Telemetry access key, again: ")
        terminal.keys("x\r")
        terminal.asks("Telemetry secret key: ")
        leave(terminal)
    assert secrets(out)["telemetry_s3_access_key_id"] == "x"


@BOTH
def test_a_lone_question_mark_at_a_password_is_a_question(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags) as terminal:
        walk(terminal, "SMTP password")
        terminal.answer("?")
        terminal.shows("Written to .secrets/smtp_password, SMTP_PASSWORD in .env.")
        terminal.asks("SMTP password: ")
        terminal.answer("?begins so")
        terminal.asks("again: ")
        terminal.answer("?begins so")
        terminal.asks("Telemetry access key: ")
        leave(terminal)
    assert secrets(out)["smtp_password"] == "?begins so"


@BOTH
def test_without_prompts_for_secrets_they_stay_pending(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags, "--no-prompt-secrets") as terminal:
        asked = walk(terminal)
        assert terminal.ends() == 0
        shown = "".join(terminal.screen.text().split())
    assert asked[-1].startswith(REVIEW)
    assert ".secrets/smtp_passwordisemptyormissing(SMTPpassword)" in shown
    assert shown.endswith("--fill")
    assert (out / ".secrets/smtp_password").read_text() == ""
    assert secrets(out)["db_user"] == "avataruser"


@BOTH
def test_a_password_does_not_show_after_the_program_was_stopped_and_resumed(out: Path, flags: tuple[str, ...]) -> None:
    """Shells bring a terminal back with its echo."""
    env = {**environ(), "PS1": "SHELL> ", "HOME": str(out.parent), "PYTHONWARNINGS": "ignore"}
    with Terminal(["bash", "--norc", "--noediting", "-i"], env, cwd=out.parent, columns=200) as terminal:
        terminal.asks("SHELL> ")
        terminal.answer(" ".join(command(out, *flags)))
        walk(terminal, "SMTP password")
        terminal.settle()
        terminal.keys("\x1a")
        terminal.shows("Stopped")
        terminal.asks("SHELL> ")
        terminal.settle()
        terminal.keys("fg\r")
        for question in ("SMTP password: ", "SMTP password, again: "):
            terminal.asks(question)
            terminal.keys(PASSWORD + "\r")
        terminal.asks("Telemetry access key: ")
        terminal.keys(CTRL_C)
        terminal.shows("Progress saved")
        terminal.settle()
        terminal.asks("SHELL> ")
        assert PASSWORD not in terminal.raw
    assert secrets(out)["smtp_password"] == PASSWORD


# A signal that comes just before the read, where it interrupts nothing: another thread takes it.
UNNOTICED = """
import signal, threading, time
from setup.wizard import terminal
def leave(number, frame):
    raise SystemExit(143)
signal.signal(signal.SIGTERM, leave)
threading.Thread(target=time.sleep, args=(120,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("a question: ", end="", flush=True)
terminal.read_line()
"""


def test_a_signal_that_comes_just_before_a_line_is_read_is_not_missed() -> None:
    with Terminal([sys.executable, "-c", UNNOTICED], environ(), cwd=ROOT) as terminal:
        terminal.asks("a question: ")
        terminal.signal(signal.SIGTERM)
        assert terminal.ends() == 143


def test_a_program_that_is_resumed_while_it_writes_a_question_asks_it_again(out: Path, tmp_path: Path) -> None:
    """Ctrl-Z may stop it there, as the question shows before the call that wrote it has returned."""
    require_strace()
    log, words = tmp_path / "trace", command(out, "--plain")
    with Terminal(["strace", "-qq", "-o", str(log), "-e", "trace=write", *words], environ()) as terminal:
        terminal.asks("avatar.example.com): ")
    writes = log.read_text().splitlines()
    (number,) = [number for number, line in enumerate(writes, start=1) if '"Public URL' in line]
    inject = ("strace", "-qq", "-o", os.devnull, "-e", f"inject=write:signal=CONT:when={number}")
    with Terminal([*inject, *words], environ()) as terminal:
        terminal.until(lambda: terminal.raw.count("avatar.example.com): ") == 2, "the question, for the second time")
        terminal.answer("avatar.mycompany.com")
        terminal.asks("mycompany-prod): ")


# --- pasting ----------------------------------------------------------------------------------------------------


def test_a_paste_of_several_lines_is_refused(out: Path) -> None:
    with session(out) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.paste("avatar.mycompany.com\nmycompany-prod\nusername\n")
        terminal.shows("this is more than one line: give one line")
        assert terminal.line.endswith("avatar.example.com): ")
        terminal.paste("avatar.mycompany.com\r\n")
        terminal.answer()
        terminal.asks("mycompany-prod): ")
        leave(terminal)
    assert list(state_of(out).answers) == ["PUBLIC_URL"]


@BOTH
def test_lines_that_come_at_once_answer_one_question(out: Path, flags: tuple[str, ...]) -> None:
    """As a terminal without bracketed paste sends them, or somebody who types ahead."""
    with session(out, *flags) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.keys("avatar.mycompany.com\rmycompany-prod\rusername\rdb2\r")
        terminal.shows("Only the first line was taken; the rest was dropped.")
        terminal.asks("Environment name (e.g., mycompany-prod): ")
        terminal.keys("bad name\rgood\rusername\r")
        terminal.shows("it must be letters")
        if flags:
            terminal.asks("Environment name (e.g., mycompany-prod): ")
        assert list(state_of(out).answers) == ["PUBLIC_URL"]
        leave(terminal)
    assert list(state_of(out).answers) == ["PUBLIC_URL"]


def test_surplus_pasted_lines_do_not_reach_the_shell(out: Path) -> None:
    """The rest of a paste would be commands there."""
    words = " ".join(command(out, "--plain"))
    with Terminal(["/bin/sh", "-c", f"{words}; cat"], environ(), cwd=out.parent) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.keys("\x04rm -rf everything\r")
        terminal.shows("Progress saved")
        terminal.settle()
        terminal.keys("after\r")
        terminal.shows("after\nafter")
        assert "everything" not in terminal.fresh
        assert terminal.is_sane()


# --- terminals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("term", "flags"), [("dumb", ()), ("unknown", ()), ("", ()), ("xterm", ("--plain",))])
def test_no_control_sequence_reaches_a_terminal_that_knows_none(out: Path, term: str, flags: tuple[str, ...]) -> None:
    with session(out, *flags, term=term) as terminal:
        finish(terminal)
        assert not re.search(r"[^\n\r\x20-\x7e✓⊘·→…]", terminal.raw)


@pytest.mark.parametrize("settings", [{}, {"NO_COLOR": "1"}])
def test_no_colour_is_used_so_none_carries_a_meaning(out: Path, settings: dict[str, str]) -> None:
    with session(out, settings=settings) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.keys("not a host\r")
        terminal.shows("not a valid host name")
        terminal.keys(CTRL_U)
        finish(terminal)
        codes = re.findall(r"\x1b\[([0-9;]*)m", terminal.raw)
        assert {part for code in codes for part in code.split(";")} == {"0", "1"}, "plain and bold"


@BOTH
def test_a_window_of_40_columns(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags, columns=40, rows=12) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.keys("not a host\r")
        terminal.shows("is not a valid host name")
        terminal.keys(CTRL_U)
        terminal.until(lambda: "not a host" not in terminal.line or flags, "an empty field")
        walk(terminal)
        assert terminal.ends() == 0
        assert "✓ 9/10 secrets provided" in terminal.screen.text()
        assert max(map(len, terminal.screen.text().splitlines())) <= 40
    assert env_file(out)["SMTP_HOST"] == "mail.mycompany.com"


def test_a_window_that_changes_its_size_during_a_question(out: Path) -> None:
    with session(out) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.keys("avatar.my")
        terminal.asks("avatar.my")
        terminal.resize(12, 40)
        terminal.until(lambda: terminal.line.endswith("ample.com): avatar.my"), "the question in 40 columns")
        terminal.keys("company.com")
        terminal.asks("avatar.mycompany.com")
        terminal.resize(24, 100)
        terminal.until(lambda: "example.com): avatar.mycompany.com" in terminal.last_row, "one row again")
        terminal.answer()
        terminal.asks("mycompany-prod): ")
        finish(terminal)
    assert state_of(out).answers["PUBLIC_URL"].text == "avatar.mycompany.com"


@BOTH
def test_without_utf_8_signs_are_spelled_and_letters_are_read(out: Path, flags: tuple[str, ...]) -> None:
    settings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with session(out, *flags, settings=settings) as terminal:
        terminal.asks("avatar.example.com): ")
        terminal.answer("straße.example")
        walk(terminal, answers={**ANSWERS, "Organization name": "Société"})
        assert terminal.ends() == 0
        shown = terminal.screen.text()
    assert shown.replace("straße", "").replace("Société", "").isascii(), "all but what the terminal itself echoed"
    assert "[x] Saved db_user" in shown
    assert "[-] Skipped - will need to be filled manually" in shown
    assert secrets(out)["organization_name"] == "Société"
    assert state_of(out).answers["PUBLIC_URL"].text == "xn--strae-oqa.example"
    with session(out, *flags, settings=settings) as terminal:
        terminal.asks("[c/r/q]: ")
        assert "  [x] Finalize: completed" in terminal.screen.text()
        leave(terminal)


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_with_half_a_terminal_nobody_is_asked_and_nothing_is_read(out: Path, closed: str) -> None:
    """As in `docker run -t` or `-i` alone: everything that is missing is named at once."""
    redirect = {"stdin": "</dev/zero", "stdout": ">/dev/null"}[closed]
    words = ["/bin/sh", "-c", f"{' '.join(command(out))} {redirect}"]
    with Terminal(words, environ(), cwd=out.parent) as terminal:
        assert terminal.ends() == 1
        for key in ("PUBLIC_URL", "ENV_NAME"):
            assert f"--set {key}=" in "".join(terminal.screen.text().splitlines())
    assert list(out.iterdir()) == []


def test_a_run_without_questions_loads_nothing_of_the_wizard(out: Path) -> None:
    code = "import sys; from setup.cli import main; main(['--output-dir', sys.argv[1]]); print(*sys.modules)"
    env = {**environ(), "PUBLIC_URL": "avatar.example.com", "ENV_NAME": "prod", "SMTP_HOST": "mail.example.com"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], env=env, capture_output=True, check=True, text=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert "setup.deploy.session" in loaded
    assert not [name for name in loaded if name.startswith("setup.wizard")]
    assert "prompt_toolkit" not in loaded


def test_line_by_line_needs_no_prompt_toolkit(out: Path) -> None:
    code = "import sys; sys.modules['prompt_toolkit'] = None; from setup.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "--plain", "--output-dir", str(out)]
    with Terminal(words, environ(), cwd=out.parent) as terminal:
        finish(terminal)
    assert state_of(out).is_complete()


# --- an existing configuration -------------------------------------------------------------------------------------


@BOTH
def test_quit_changes_nothing_and_exits_3(out: Path, flags: tuple[str, ...]) -> None:
    made = deployed(out.parent / "made")
    back_to(made, "generate_secrets")
    before = stamps(made)
    with session(made, *flags) as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.keys("x\r")
        terminal.shows("type one of c, r, q")
        terminal.until(lambda: terminal.last_row.endswith(("[c/r/q]: ", "[c/r/q]: x")), "the same question")
        terminal.keys(CTRL_U)
        terminal.answer("Q")
        assert terminal.ends() == 3
        assert "Nothing was changed." in terminal.screen.text()
    assert stamps(made) == before


@BOTH
def test_reset_saves_a_backup_and_keeps_the_secrets_and_the_outputs(out: Path, flags: tuple[str, ...]) -> None:
    made = deployed(
        out.parent / "made",
        settings={"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "old", "SMTP_HOST": "mail.example.com"},
    )
    before = tree(made)
    with session(made, *flags, columns=150) as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.answer("r")
        terminal.asks("avatar.example.com): ")
        message = " ".join(terminal.fresh.split())
        backup = re.search(r"A backup of the previous state: (\S+)", message)[1]
        assert {**present(made), LOCK: before[LOCK]} == before
        assert tree(made)[f"{backup}/{STATE}"] == before[STATE]
        finish(terminal)
    after = tree(made)
    assert env_file(made)["ENV_NAME"] == "mycompany-prod"
    for path, (_, data) in before.items():
        if path.startswith(".secrets/") and data:
            assert after[path][1] == data, path
    assert after[f"{backup}/{STATE}"] == before[STATE]


@BOTH
def test_continue_on_a_complete_deployment_offers_to_change_settings(out: Path, flags: tuple[str, ...]) -> None:
    made = deployed(out.parent / "made")
    before = stamps(made)
    with session(made, *flags) as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.answer("c")
        assert walk(terminal, REVIEW) == ["Number or name to change, a to show all, Enter to leave"]
        assert "LOG_LEVEL" not in terminal.fresh, "nobody has touched it"
        page = whole_page(terminal)
        assert "LOG_LEVEL = INFO  (default)" in page
        assert "db_password = ******  (on the volume)" in page
        terminal.answer()
        assert terminal.ends() == 0
        assert "Nothing to do: the configuration is complete and unchanged." in terminal.screen.text()
    changed = {path for path, stamp in stamps(made).items() if stamp != before[path]}
    assert changed <= {".", ".deployment-state.lock"}


@BOTH
def test_a_change_is_shown_before_it_is_written(out: Path, flags: tuple[str, ...]) -> None:
    made = deployed(
        out.parent / "made",
        settings={"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "prod", "SMTP_HOST": "mail.example.com"},
    )
    before = (made / ".env").read_bytes()
    with session(made, *flags, settings={"DATASET_EXPIRATION_DAYS": "2w"}) as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.answer("c")
        walk(terminal, REVIEW)
        assert "Changed: DATASET_EXPIRATION_DAYS: (default) -> 2w (environment)" in terminal.fresh
        terminal.answer("ENV_NAME")
        terminal.asks("[prod]: ")
        terminal.answer("prod-2")
        assert walk(terminal, REVIEW) == ["Number or name to change, a to show all, w to write"]
        page = terminal.fresh
        assert "Changed: ENV_NAME: prod -> prod-2 (answer)" in page
        assert "Changed: DATASET_EXPIRATION_DAYS: (default) -> 2w (environment)" in page
        assert (made / ".env").read_bytes() == before
        finish(terminal)
    assert (env_file(made)["ENV_NAME"], env_file(made)["DATASET_EXPIRATION_DAYS"]) == ("prod-2", "2w")


@BOTH
def test_pending_secrets_are_given_on_the_review_page_of_a_complete_deployment(
    out: Path, flags: tuple[str, ...]
) -> None:
    made = out.parent / "made"
    made.mkdir()
    with session(made, *flags) as terminal:
        walk(terminal, answers={**ANSWERS, "Organization name": "", "SMTP password": ""})
        assert terminal.ends() == 0
    compose = (made / "docker-compose.yml").read_bytes()
    with session(made, *flags) as terminal:
        terminal.asks("[c/r/q]: ")
        terminal.answer("c")
        walk(terminal, REVIEW)
        assert "organization_name = (empty)  (not given yet)" in terminal.fresh
        terminal.answer("organization_name")
        terminal.asks("Organization name (e.g., Example): ")
        terminal.answer("My Company")
        walk(terminal, REVIEW)
        terminal.answer("smtp_password")
        for _ in range(2):
            terminal.shows("SMTP password")
            terminal.question_or_end()
            terminal.answer(PASSWORD)
        walk(terminal, REVIEW)
        assert "organization_name = ******  (given)" in terminal.fresh
        assert secrets(made).keys().isdisjoint({"organization_name", "smtp_password"}), "nothing is written yet"
        terminal.answer("db_password")
        terminal.shows("db_password keeps its value: it is bound to the database's volume")
        assert walk(terminal) == ["Number or name to change, a to show all, w to write"]
        assert terminal.ends() == 0
    assert secrets(made)["organization_name"] == "My Company"
    assert "battery" in env_file(made)["SMTP_PASSWORD"]
    assert (made / "docker-compose.yml").read_bytes() != compose, "the services that read them are recreated"
    assert "Nothing to do" in ran(made, settings={}).stdout


# --- the end --------------------------------------------------------------------------------------------------------


@BOTH
def test_the_last_message_names_pending_secrets_and_what_to_type(out: Path, flags: tuple[str, ...]) -> None:
    with session(out, *flags, columns=200) as terminal:
        walk(terminal, answers={**ANSWERS, "Organization name": ""})
        assert terminal.ends() == 0
        end = terminal.screen.text().partition("Configuration complete\n")[2]
    assert f"Written to {out} " in end
    assert "  .secrets/organization_name is empty or missing (Organization name)\n" in end
    status = re.search(r"To see its status at any time:\n +(.*)\n", end)[1]
    done = subprocess.run(status.split(), env=environ(), cwd=out.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "7/7 steps completed" in done.stdout
    assert f"Next, on the host, in {out}:" in end
    assert end.rstrip().endswith(" --fill"), "docker compose up -d would be refused"
    assert "docker compose" not in end


def test_leaving_at_the_greeting_changes_nothing(out: Path) -> None:
    made = deployed(out.parent / "made")
    before = stamps(made)
    with session(made) as terminal:
        terminal.asks(GREETING)
        leave(terminal)
    assert stamps(made) == before
