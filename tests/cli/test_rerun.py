"""Running again: what is left alone to the last time stamp, what follows, what is refused, and starting over."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import read_yaml
from tests.support.runs import (
    DATED,
    LABEL_KEY,
    LAST_GOOD,
    LOCK,
    OPERATORS,
    REQUIRED,
    ROOT,
    STAGED,
    STATE,
    WRITTEN,
    by_meaning,
    command,
    deployed,
    env_file,
    environment,
    every_secret,
    holding,
    leftovers,
    present,
    ran,
    require_strace,
    rewritten,
    secrets,
    stamps,
    tree,
    without_marks,
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A complete deployment with four pending secrets."""
    return deployed(tmp_path / "out")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A complete deployment with nothing pending."""
    return deployed(tmp_path / "whole", settings={**REQUIRED, **OPERATORS})


def state(out: Path) -> dict[str, object]:
    return dict(read_yaml((out / STATE).read_text()))


def label(out: Path, service: str) -> str:
    """The label by which compose sees that a service's secrets changed."""
    labels = read_yaml((out / "docker-compose.yml").read_text())["services"][service]["labels"]
    texts = labels.items() if isinstance(labels, dict) else (label.split("=", 1) for label in labels)
    return next(text for name, text in texts if "secret" in name)


# --- unchanged ----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, REQUIRED, {"PUBLIC_URL": "AVATAR.example.com", "LOG_LEVEL": ""}])
def test_an_unchanged_run_changes_no_byte_and_no_time(out: Path, settings: dict[str, str]) -> None:
    before, contents = stamps(out), tree(out)
    done = ran(out, settings=settings)
    assert "Nothing to do" in done.stdout
    assert stamps(out) == before
    assert tree(out) == contents


def test_an_unchanged_run_with_all_its_secrets_given_again(whole: Path) -> None:
    before = stamps(whole)
    again = {name.upper(): text for name, text in secrets(whole).items()}
    assert "Nothing to do" in ran(whole, settings={**REQUIRED, **again}).stdout
    assert stamps(whole) == before


@pytest.mark.slow
def test_an_unchanged_run_opens_nothing_for_writing(out: Path, tmp_path: Path) -> None:
    require_strace()
    log = tmp_path / "trace"
    ran(out, prefix=("strace", "-f", "-qq", "-o", str(log), "-e", "trace=%file,flock,fsync,ftruncate,fchmod"))
    lines = [line for line in log.read_text().splitlines() if str(out) in line or "flock" in line or "sync" in line]
    assert lines
    assert not [line for line in lines if re.search(r"O_WRONLY|O_RDWR|O_CREAT|flock|fsync|rename|unlink|mkdir", line)]


def imports(out: Path, *flags: str) -> set[str]:
    """The modules that a run which succeeds imports."""
    words = [sys.executable, "-X", "importtime", *command(out, *flags)[1:]]
    done = subprocess.run(
        words, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("flags", [(), ("--status",), ("--status", "--json"), ("--json",)])
def test_what_has_nothing_to_write_imports_no_template_engine_and_no_prompts(out: Path, flags: tuple[str, ...]) -> None:
    imported = imports(out, *flags)
    assert {"setup.cli", "setup.deploy.session", "yaml"} <= imported
    unwanted = {"jinja2", "prompt_toolkit", "markupsafe", "asyncio", "difflib", "traceback", "idna"}
    assert unwanted & {name.partition(".")[0] for name in imported} == set()
    assert "setup.wizard.prompt.prompt" not in imported


def test_a_first_run_does_import_the_template_engine(tmp_path: Path) -> None:
    """So that the test above can fail."""
    (tmp_path / "out").mkdir()
    done = imports(tmp_path / "out")
    assert "jinja2.environment" in done
    assert not [name for name in done if name.startswith("prompt_toolkit")]


# --- what follows a change ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "concerned"),
    [
        ("LOG_LEVEL=DEBUG", {".env"}),
        ("TLS_EXTRA_NAMES=avatar.internal", {"nginx/nginx.conf", "docker-compose.yml"}),
        ("AVATAR_API_VERSION=3.20.2", {".env"}),
        (
            "PUBLIC_URL=other.example.com",
            {".env", "nginx/nginx.conf", "docker-compose.yml", "authentik/octopize-avatar-blueprint.yaml"},
        ),
    ],
)
def test_a_changed_setting_rewrites_only_what_it_concerns(out: Path, setting: str, concerned: set[str]) -> None:
    before, kept = stamps(out), secrets(out)
    done = ran(out, "--set", setting)
    assert f"Changed: {setting.partition('=')[0]}" in done.stdout
    assert rewritten(before, stamps(out)) == concerned | {STATE, LAST_GOOD}
    assert secrets(out) == kept
    done = ran(out)  # silence keeps it
    assert "Nothing to do" in done.stdout or "PUBLIC_URL" in setting


def test_silence_changes_nothing_and_an_empty_variable_says_nothing(out: Path) -> None:
    ran(out, settings={**REQUIRED, "LOG_LEVEL": "DEBUG"})
    for settings in ({}, {"LOG_LEVEL": ""}, {"PUBLIC_URL": "", "ENV_NAME": ""}):
        assert "Nothing to do" in ran(out, settings=settings).stdout
    assert env_file(out)["LOG_LEVEL"] == "DEBUG"


def test_a_preset_named_in_this_run_outranks_what_was_saved(out: Path) -> None:
    ran(out, "--set", "USE_CONSOLE_LOGGING=false")
    ran(out, "--preset", "dev-mode")
    assert env_file(out)["USE_CONSOLE_LOGGING"] == "true"
    assert "Nothing to do" in ran(out).stdout


def test_the_same_values_from_another_source_change_no_output(out: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "PUBLIC_URL: avatar.example.com\nENV_NAME: example-prod\nSMTP_HOST: mail.example.com\n"
    )
    before = tree(out)
    ran(out, "--config", str(tmp_path / "config.yaml"), settings={})
    assert {path: one for path, one in tree(out).items() if path != STATE} == {
        path: one for path, one in before.items() if path != STATE
    }


def checkout(tmp_path: Path) -> Path:
    """A copy of the program, to be changed as a new release would be."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "setup", root / "setup", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "templates", root / "templates")
    return root


def test_an_untouched_default_moves_with_a_new_release(tmp_path: Path) -> None:
    root, out = checkout(tmp_path), tmp_path / "out"
    out.mkdir()
    ran(out, "--set", "AVATAR_WEB_VERSION=0.68.0", root=root)
    defaults = root / "setup" / "defaults.yaml"
    old = env_file(out)
    text = defaults.read_text().replace(f'"{old["AVATAR_API_VERSION"]}"', '"3.99.10"')
    defaults.write_text(text.replace(f'"{old["AVATAR_WEB_VERSION"]}"', '"0.99"'))
    kept = secrets(out)
    done = ran(out, root=root, settings={})
    assert "Changed: the program of this release changed" in done.stdout
    shown = env_file(out)
    assert shown["AVATAR_API_VERSION"] == "3.99.10"
    assert shown["AVATAR_WEB_VERSION"] == "0.68.0"  # that was an answer
    assert secrets(out) == kept
    assert "Nothing to do" in ran(out, root=root, settings={}).stdout


def test_a_changed_template_renders_anew_and_one_that_gives_the_same_bytes_does_not(tmp_path: Path) -> None:
    root, out = checkout(tmp_path), tmp_path / "out"
    out.mkdir()
    ran(out, root=root)
    template = root / "templates" / "nginx.conf.j2"
    template.write_text(template.read_text() + "{# nothing that shows #}")
    before = stamps(out)
    ran(out, root=root)
    assert rewritten(before, stamps(out)) == {STATE, LAST_GOOD}
    template.write_text("# new\n" + template.read_text())
    before = stamps(out)
    done = ran(out, root=root)
    assert "Changed: the templates of this release changed" in done.stdout
    assert {"nginx/nginx.conf", STATE} <= rewritten(before, stamps(out))
    assert ".env" not in rewritten(before, stamps(out))
    assert (out / "nginx" / "nginx.conf").read_text().startswith("# new\n")


def test_a_defaults_file_speaks_until_another_does(out: Path, tmp_path: Path) -> None:
    defaults = tmp_path / "defaults.yaml"
    for version in ("9.10", "9.20"):
        defaults.write_text(f"settings:\n  AVATAR_API_VERSION: '{version}'\n")
        ran(out, "--defaults-file", str(defaults))
        assert env_file(out)["AVATAR_API_VERSION"] == version
    assert "Nothing to do" in ran(out).stdout


# --- files that somebody else changed -----------------------------------------------------------


def test_a_file_that_was_there_before_the_first_run_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "fresh"
    out.mkdir()
    (out / "docker-compose.yml").write_text("services: {}\n")
    before = stamps(out)
    done = ran(out, code=4)
    assert "docker-compose.yml holds changes" in done.stderr
    assert stamps(out) == before


@pytest.mark.parametrize("path", [".env", "nginx/nginx.conf", "docker-compose.yml"])
def test_a_missing_output_file_is_written_again(out: Path, path: str) -> None:
    before, kept = tree(out), stamps(out)
    (out / path).unlink()
    done = ran(out)
    assert f"Changed: {path} is missing" in done.stdout
    assert present(out) == before
    assert rewritten(kept, stamps(out)) == {path, STATE, LAST_GOOD}


def test_a_missing_folder_is_made_again(out: Path) -> None:
    before = tree(out)
    shutil.rmtree(out / "authentik")
    shutil.rmtree(out / "nginx")
    ran(out)
    assert present(out) == before


# --- secrets ------------------------------------------------------------------------------------


def test_filled_in_secrets_are_picked_up_and_what_depends_on_them_follows(out: Path) -> None:
    api = label(out, "api")
    for name, text in {**OPERATORS, "ADMIN_EMAILS": "ada@example.com,grace@example.com"}.items():
        (out / ".secrets" / name.lower()).write_text(text)
    assert env_file(out)["AUTHENTIK_BOOTSTRAP_EMAIL"] == "admin@avatar.example.com"
    done = ran(out, settings={})
    assert "the secret admin_emails was filled in" in done.stdout
    assert env_file(out)["AUTHENTIK_BOOTSTRAP_EMAIL"] == "ada@example.com"
    assert label(out, "api") != api
    assert "secrets/" not in done.stdout.partition("Missing before")[2]
    assert OPERATORS.items() <= {name.upper(): text for name, text in secrets(out).items()}.items()
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_a_filled_in_password_shows_in_the_env_file(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, "SMTP_HOST": "mail.example.com", "SMTP_USERNAME": "avatar"})
    assert env_file(out)["SMTP_PASSWORD"] == ""
    (out / ".secrets" / "smtp_password").write_text("pa$$ word\n")
    ran(out, settings={})
    assert env_file(out)["SMTP_PASSWORD"] == "'pa$$ word'"
    assert (out / ".secrets" / "smtp_password").read_text() == "pa$$ word", "without the line end of the shell"
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_a_password_that_is_changed_by_hand_shows_in_the_env_file(tmp_path: Path) -> None:
    settings = {**REQUIRED, "SMTP_HOST": "mail.example.com", "SMTP_USERNAME": "avatar", "SMTP_PASSWORD": "first"}
    out = deployed(tmp_path / "out", settings=settings)
    (out / ".secrets" / "smtp_password").write_text("second")
    done = ran(out, settings={})
    assert "Changed: SMTP_PASSWORD follows from a secret" in done.stdout
    assert "second" not in done.stdout
    assert env_file(out)["SMTP_PASSWORD"] == "second"
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_an_address_that_is_changed_by_hand_shows_in_the_env_file(whole: Path) -> None:
    (whole / ".secrets" / "admin_emails").write_text("grace@example.com")
    ran(whole, settings={})
    assert env_file(whole)["AUTHENTIK_BOOTSTRAP_EMAIL"] == "grace@example.com"


def test_a_pending_secret_may_be_given_later(out: Path) -> None:
    ran(out, settings={"ORGANIZATION_NAME": "Example"})
    assert secrets(out)["organization_name"] == "Example"
    assert "organization_name" not in ran(out, "--status", settings={}).stdout


@pytest.mark.parametrize("text", ["nobody", "a@b@c", "ada@example.com;bob@example.com\n"])
def test_a_secret_that_was_filled_in_wrongly_is_named(out: Path, text: str) -> None:
    (out / ".secrets" / "admin_emails").write_bytes(text.encode())
    before = stamps(out)
    done = ran(out, settings={}, code=1)
    assert re.search(r"\.secrets/admin_emails: .* is not an e-mail address", done.stderr)
    assert "AUTHENTIK_BOOTSTRAP_EMAIL" not in done.stderr
    assert stamps(out) == before


def test_a_secret_that_holds_only_white_space_is_named(out: Path) -> None:
    (out / ".secrets" / "organization_name").write_text("\n")
    done = ran(out, settings={}, code=1)
    assert ".secrets/organization_name" in done.stderr


@pytest.mark.parametrize("how", ["missing", "empty"])
@pytest.mark.parametrize("name", ["db_password", "sso_client_secret", "seaweedfs_admin_password", "db_user"])
def test_a_lost_secret_is_named_and_never_generated_again(out: Path, name: str, how: str) -> None:
    path = out / ".secrets" / name
    text = path.read_text()
    if how == "empty":
        path.write_text("")
    else:
        path.unlink()
    before = stamps(out)
    for flags in ((), ("--reset",), ("--set", "LOG_LEVEL=DEBUG")):
        done = ran(out, *flags, code=1)
        assert f".secrets/{name} had a value and is now missing or empty" in done.stderr
        assert "restore the file from a backup" in done.stderr
        assert stamps(out) == before
    assert "7/7" in ran(out, "--status").stdout
    path.write_text(text)
    assert ran(out).returncode == 0
    assert secrets(out)[name] == text


def test_all_lost_secrets_are_named_at_once(out: Path) -> None:
    shutil.rmtree(out / ".secrets")
    done = ran(out, code=1)
    for name in ("db_password", "authentik_secret_key", "storage_encryption_key", "sso_client_id"):
        assert f".secrets/{name} had a value" in done.stderr
    assert not (out / ".secrets").exists()


@pytest.mark.parametrize("name", ["DB_PASSWORD", "STORAGE_ENCRYPTION_KEY", "SSO_CLIENT_SECRET", "DB_USER"])
def test_another_value_for_a_bound_secret_is_refused(out: Path, name: str) -> None:
    before, kept = stamps(out), secrets(out)[name.lower()]
    other = every_secret()[name]
    for flags in ((), ("--reset",)):
        done = ran(out, *flags, settings={**REQUIRED, name: other, "LOG_LEVEL": "DEBUG"}, code=4)
        assert f"{name} differs from the value in .secrets/{name.lower()}" in done.stderr
        assert "Nothing was written" in done.stderr
        assert kept not in done.stderr and other not in done.stderr
        assert stamps(out) == before


@pytest.mark.parametrize("name", ["SEAWEEDFS_ADMIN_PASSWORD", "ORGANIZATION_NAME", "AUTHENTIK_WEBHOOK_SECRET"])
def test_an_unbound_secret_follows_its_source(whole: Path, name: str) -> None:
    others = {key: text for key, text in secrets(whole).items() if key != name.lower()}
    done = ran(whole, settings={**REQUIRED, name: "another value"})
    assert f"the secret {name.lower()} gets a value" in done.stdout
    assert "another value" not in done.stdout + done.stderr
    assert secrets(whole) == {**others, name.lower(): "another value"}
    assert "Nothing to do" in ran(whole, settings={}).stdout
    if name == "AUTHENTIK_WEBHOOK_SECRET":
        assert env_file(whole)[name] == "'another value'"


def test_a_changed_secret_makes_the_services_that_mount_it_change(whole: Path) -> None:
    before, seen = label(whole, "db"), {label(whole, "api")}
    for number in (1, 2):
        ran(whole, settings={"ORGANIZATION_NAME": f"Example {number}"})
        seen.add(label(whole, "api"))
        assert label(whole, "db") == before
    assert len(seen) == 3


def test_another_postgres_never_meets_the_volume_of_the_deployed_one(whole: Path) -> None:
    before = tree(whole)
    refused = ran(whole, "--set", "POSTGRES_IMAGE=postgres:17-alpine", settings={}, code=4).stderr
    assert "PostgreSQL 17 cannot open the database's volume, which postgres:14-alpine wrote" in refused
    assert "docs/operate/upgrade.md" in refused
    assert tree(whole) == before
    refused = ran(whole, "--set", "POSTGRES_IMAGE=postgres:18-alpine", settings={}, code=1).stderr
    assert "from 18 on" in refused
    ran(whole, "--set", "POSTGRES_IMAGE=postgres:17-alpine", "--set", "DB_VOLUME=avatar_postgres_17", settings={})
    ran(whole, "--set", "POSTGRES_IMAGE=postgres:17.2-alpine", settings={})


@pytest.mark.parametrize(
    "image",
    ["postgres", "postgres:latest", "postgres:alpine", f"postgres@sha256:{'a' * 64}", "mirror.example/db:latest-pg16"],
)
def test_a_postgres_of_no_known_release_never_meets_the_volume(image: str, whole: Path) -> None:
    before = tree(whole)
    refused = ran(whole, "--set", f"POSTGRES_IMAGE={image}", settings={}, code=4).stderr
    assert f"POSTGRES_IMAGE={image} names no release of PostgreSQL" in refused
    assert "give a tag that begins with 14, as in postgres:14-alpine" in refused
    assert tree(whole) == before
    ran(whole, "--set", f"POSTGRES_IMAGE=postgres:14-alpine@sha256:{'a' * 64}", settings={})


def test_the_auth_type_can_be_switched_and_back(whole: Path) -> None:
    kept = secrets(whole)
    ran(
        whole, "--auth-type", "username", "--set", "AVATAR_API_VERSION=2.81", settings={"AVATAR_FIRST_USER_NAME": "ada"}
    )
    assert env_file(whole)["USE_EMAIL_AUTHENTICATION"] == "false"
    now = secrets(whole)
    assert kept.items() <= now.items()
    assert now.keys() - kept.keys() == {
        *("avatar_first_user_name", "avatar_first_user_password"),
        *("pepper", "file_encryption_key"),
    }
    compose = (whole / "docker-compose.yml").read_text()
    assert "avatar_first_user_password" in compose and "admin_emails" not in compose
    ran(whole, "--auth-type", "email", settings={})
    assert secrets(whole) == now
    assert env_file(whole)["USE_EMAIL_AUTHENTICATION"] == "true"
    assert "Nothing to do" in ran(whole, settings={}).stdout


# --- starting over ------------------------------------------------------------------------------


def copies(out: Path) -> list[Path]:
    return sorted(out.glob(f"{DATED}/2*"))


def test_a_reset_keeps_secrets_outputs_and_a_dated_copy_of_all(whole: Path) -> None:
    ran(whole, "--set", "LOG_LEVEL=DEBUG")
    before = present(whole)
    done = ran(whole, "--reset")
    copy = copies(whole)[-1]
    assert re.fullmatch(r"\d{8}T\d{6}Z(-\d+)?", copy.name)
    assert f" --restore {copy.name}\n" in done.stdout
    kept = {path: one for path, one in tree(copy).items() if path != "manifest.json" and one[1]}
    assert kept == {path: one for path, one in before.items() if one[1] and path not in (LOCK, LAST_GOOD)}
    assert secrets(whole) == secrets(copy)
    assert env_file(whole)["LOG_LEVEL"] == "INFO"
    assert present(whole).keys() == before.keys()
    assert "LOG_LEVEL" not in (whole / STATE).read_text()
    assert "Nothing to do" in ran(whole).stdout


def test_the_command_of_the_last_message_takes_a_reset_back(whole: Path) -> None:
    ran(whole, "--set", "LOG_LEVEL=DEBUG")
    before = present(whole)
    done = ran(whole, "--reset", "--set", "PUBLIC_URL=other.example.com", settings={**REQUIRED})
    [line] = [line.strip() for line in done.stdout.splitlines() if " --restore " in line]
    flags = line.partition(" --output-dir ")[2].split()[1:]  # the test has its own way to the program before them
    ran(whole, *flags, settings={})
    assert "Nothing to do" in ran(whole, settings={}).stdout
    after = present(whole)
    assert {path for path in before if after.get(path) != before[path]} <= {LAST_GOOD}
    assert after.keys() == before.keys()


def test_a_second_reset_does_not_overwrite_the_first_copy(whole: Path) -> None:
    ran(whole, "--set", "LOG_LEVEL=DEBUG")
    old = (whole / STATE).read_bytes()
    for _ in range(3):
        ran(whole, "--reset")
    assert old in [(copy / STATE).read_bytes() for copy in copies(whole)]


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({}, ()),
        ({"PUBLIC_URL": "avatar.example.com"}, ()),
        ({**REQUIRED, "LOG_LEVEL": "LOUD"}, ()),
        (REQUIRED, ("--set", "NO_SUCH=1")),
        (REQUIRED, ("--config", "/no/such/file")),
        ({**REQUIRED, "ADMIN_EMAILS": "nobody"}, ()),
    ],
)
def test_a_reset_with_invalid_inputs_forgets_nothing(
    out: Path, settings: dict[str, str], flags: tuple[str, ...]
) -> None:
    before = stamps(out)
    ran(out, "--reset", *flags, settings=settings, code=1)
    assert stamps(out) == before


def test_a_reset_of_an_empty_volume_is_a_first_run(tmp_path: Path) -> None:
    out = tmp_path / "fresh"
    out.mkdir()
    ran(out, "--reset")
    assert copies(out) == []
    assert by_meaning(out) == by_meaning(deployed(tmp_path / "reference"))


@pytest.mark.slow
def test_a_reset_after_a_crash_knows_the_files_that_were_announced(tmp_path: Path) -> None:
    """Killed between the renames and the word that they are complete, then started over with other settings."""
    require_strace()
    out = deployed(tmp_path / "out")
    names: list[str] = []
    for number in range(1, 30):
        shutil.rmtree(out)
        out = deployed(out)
        kill = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject=renameat:signal=KILL:when={number}")
        changed = command(out, "--set", "PUBLIC_URL=other.example.com")
        done = subprocess.run([*kill, *changed], env=environment(), capture_output=True, check=False)
        if done.returncode == 0:
            break
        ran(out, "--reset", "--set", "PUBLIC_URL=third.example.com")
        assert env_file(out)["AVATAR_DOMAIN"] == "third.example.com"
        names.append(env_file(out)["AVATAR_DOMAIN"])
    assert len(names) > 6


# --- the saved configuration --------------------------------------------------------------------


def test_a_saved_configuration_reproduces_the_deployment(tmp_path: Path) -> None:
    settings = {
        **REQUIRED,
        **every_secret(),
        "PRESET": "dev-mode",
        "SMTP_HOST": "mail.example.com",
        "SMTP_USERNAME": "avatar # 'me'",
        "SMTP_PORT": "465",
        "AVATAR_API_VERSION": "3.10",
        "NGINX_HTTP_REDIRECT_PORT": "80",
        "TLS_EXTRA_NAMES": "a.example.com,b.example.com",
        "DATASET_EXPIRATION_DAYS": "2w",
    }
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    ran(first, "--save-config", settings=settings)
    saved = first / "deployment-config.yaml"
    for text in every_secret().values():
        assert text not in saved.read_text() or text == "Example"
    shutil.copytree(first / ".secrets", second / ".secrets")
    ran(second, "--config", str(saved), "--save-config", settings={})
    one, two = without_marks(tree(first)), without_marks(tree(second))
    assert one.keys() == two.keys()
    sources = {STATE, LAST_GOOD, f"{WRITTEN}/settings.json"}  # they say where the answers came from
    assert {path for path in one if one[path] != two[path]} <= sources
    assert json.loads(ran(second, "--status", "--json", settings={}).stdout)["pending_secrets"] == []


def test_a_saved_configuration_is_kept_up_to_date(out: Path) -> None:
    ran(out, "--save-config")
    saved = out / "deployment-config.yaml"
    assert saved.stat().st_mode & 0o777 == 0o600
    before = stamps(out)
    assert "Nothing to do" in ran(out, "--save-config").stdout
    assert stamps(out) == before
    ran(out, "--set", "LOG_LEVEL=DEBUG")
    assert '\nLOG_LEVEL: "DEBUG"\n' in saved.read_text()


def test_a_saved_configuration_pins_no_default(out: Path) -> None:
    ran(out, "--save-config")
    answered = {line.partition(":")[0] for line in (out / "deployment-config.yaml").read_text().splitlines()}
    assert {key for key in answered if key and not key.startswith("#")} == set(REQUIRED)


# --- what is recorded is true -------------------------------------------------------------------


def test_the_recorded_hashes_are_those_of_the_files(whole: Path) -> None:
    ran(whole, "--set", "PUBLIC_URL=other.example.com", "--save-config")
    recorded = state(whole)["files"]
    assert isinstance(recorded, dict)
    for path, known in recorded.items():
        assert hashlib.sha256((whole / path).read_bytes()).hexdigest() == known
    files = {path for path, (mode, _) in tree(whole).items() if mode.startswith("0o100")}
    others = (".secrets/", DATED, WRITTEN, LABEL_KEY)
    assert set(recorded) == {path for path in files if not path.startswith(others)} - {STATE, LAST_GOOD, LOCK}
    assert leftovers(whole) == []


def test_what_a_kill_left_staged_is_named_and_removed_by_the_next_run(tmp_path: Path) -> None:
    """Also by a run that has nothing else to do, and not while another run is in progress."""
    out = deployed(tmp_path / "out")
    before = tree(out)
    backup = out / ".deployment-history/20200101T000000Z"
    backup.mkdir(parents=True, mode=0o700)
    left = [out / f".env{STAGED}", out / f"nginx/.nginx.conf{STAGED}", backup / f".env{STAGED}"]
    for path in left:
        path.write_text("SECRET=1\n")
    named = [f".env{STAGED}", f"nginx/.nginx.conf{STAGED}", ".deployment-history/20200101T000000Z"]
    found = json.loads(ran(out, "--check", "--json", settings={}, code=3).stdout)["findings"]
    [text] = [one["text"] for one in found if one["name"] == "leftovers"]
    assert text == f"an interrupted run left {', '.join(named)}"
    assert f"An interrupted run left {', '.join(named)}. The next run removes that" in ran(out, "--status").stdout
    assert json.loads(ran(out, "--status", "--json").stdout)["leftovers"] == named
    with holding(out / LOCK):
        assert "interrupted" not in ran(out, "--status").stdout
        ran(out, settings={})
        assert all(path.exists() for path in left)
    assert "Nothing to do" in ran(out, settings={}).stdout
    backup.parent.rmdir()
    assert tree(out) == before
    assert "leftovers" not in ran(out, "--check", settings={}, code=3).stdout
