"""`--history` and `--restore`: list the backups, restore one, and undo that."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_given_certificate import full, put
from tests.support import pki
from tests.support.runs import (
    DATED,
    LAST_GOOD,
    LOCK,
    REQUIRED,
    STATE,
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
    run,
    secrets,
    stamps,
    tree,
)

GIVEN = {**REQUIRED, **every_secret()}
MARK = f"{DATED}/restoring"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out", settings=GIVEN)


def backup_ids(out: Path) -> list[str]:
    """Return the ids of the backups, the oldest first."""
    rows = json.loads(ran(out, "--history", "--json", settings={}).stdout)["copies"]
    return [row["id"] for row in rows][::-1]


def restorable(out: Path) -> dict[str, tuple[str, bytes]]:
    """Return what a restore brings back: all but the backups, the lock and the second state."""
    return {path: one for path, one in present(out).items() if path not in (LOCK, LAST_GOOD)}


def changed(out: Path) -> Path:
    """Change a deployment twice, and a third time by hand."""
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    ran(out, "--set", "PUBLIC_URL=other.example.com", "--save-config", settings={"ORGANIZATION_NAME": "Other"})
    (out / "nginx" / "nginx.conf").write_text("# mine\n")
    return out


# --- the history --------------------------------------------------------------------------------


def test_a_new_deployment_has_no_history(out: Path) -> None:
    before = stamps(out)
    assert ran(out, "--history").stdout == "No backup yet: a run saves one before it changes a complete deployment.\n"
    assert stamps(out) == before


def test_the_history_lists_what_changed_after_each_backup(out: Path) -> None:
    changed(out)
    before = stamps(out)
    given = ran(out, "--history").stdout
    assert stamps(out) == before
    assert re.fullmatch(
        r"\d{8}T\d{6}Z(-\d+)?  before a run \(avatar-setup [0-9.]+\)\n"
        r"  PUBLIC_URL: avatar.example.com \(environment\) -> other.example.com \(--set\)\n"
        r"(?s:.*)"
        r"  \.env, authentik/octopize-avatar-blueprint\.yaml, deployment-config\.yaml, docker-compose\.yml, "
        r"nginx/nginx\.conf\n"
        r"  secrets: organization_name\n"
        r"\d{8}T\d{6}Z(-\d+)?  before a run \(avatar-setup [0-9.]+\)\n"
        r"  LOG_LEVEL: INFO \(default\) -> DEBUG \(--set\)\n"
        r"  \.env\n",
        given,
    ), given
    for text in every_secret().values():
        assert text not in given or text == "Example"


def test_as_many_backups_are_kept_as_asked_for(out: Path) -> None:
    for number in range(12):
        ran(out, "--set", f"DATASET_EXPIRATION_DAYS={number + 1}d", settings={})
    assert len(backup_ids(out)) == 10
    ran(out, "--set", "DATASET_EXPIRATION_DAYS=20d", "--keep", "3", settings={})
    assert len(backup_ids(out)) == 3
    ran(out, "--set", "DATASET_EXPIRATION_DAYS=21d", "--keep", "1", settings={})
    [last] = backup_ids(out)
    assert "DATASET_EXPIRATION_DAYS=20d" in (out / DATED / last / ".env").read_text()


@pytest.mark.parametrize("number", ["0", "-1", "x", "", "10000", "1.5", pytest.param("\u0663", id="an arabic digit")])
def test_an_invalid_number_is_refused(out: Path, number: str) -> None:
    before = stamps(out)
    assert "--keep wants a number from 1 to 9999" in ran(out, "--keep", number, code=2).stderr
    assert stamps(out) == before


def test_an_unchanged_run_saves_no_backup(out: Path) -> None:
    ran(out, settings=GIVEN)
    assert not (out / DATED).exists()


@pytest.mark.slow
def test_no_backup_of_an_incomplete_deployment_is_saved(tmp_path: Path) -> None:
    require_strace()
    out = tmp_path / "out"
    out.mkdir()
    kill = ("strace", "-f", "-qq", "-o", os.devnull, "-e", "inject=linkat:signal=KILL:when=12")
    assert run(out, settings=GIVEN, prefix=kill).returncode == -9
    ran(out, settings={**GIVEN, "LOG_LEVEL": "DEBUG"})
    assert not (out / DATED).exists()


# --- a restore ----------------------------------------------------------------------------------


def test_a_restore_is_complete_and_can_be_undone(out: Path) -> None:
    first = restorable(out)
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    second = restorable(out)
    changed(out)
    third = restorable(out)
    before_first, before_second = backup_ids(out)[:2]
    done = ran(out, "--restore", before_first, settings={})
    assert restorable(out) == first
    assert (out / LAST_GOOD).read_bytes() == (out / STATE).read_bytes()
    undo = re.search(r"--restore (\S+)\n", done.stdout)[1]
    assert undo == backup_ids(out)[-1]
    assert "docker compose up -d" in done.stdout
    ran(out, "--restore", undo, settings={})
    assert restorable(out) == third
    ran(out, "--restore", before_second, settings={})
    assert restorable(out) == second
    assert leftovers(out) == []


def test_a_second_restore_of_the_same_backup_has_nothing_to_do(out: Path) -> None:
    changed(out)
    oldest = backup_ids(out)[0]
    output = ran(out, "--restore", oldest, settings={}).stdout
    before = stamps(out)
    done = ran(out, "--restore", oldest, settings={})
    following = output.partition("Next, on the host")[2]
    assert "docker compose up -d" in following
    assert done.stdout == (
        f"Nothing to do: the deployment equals the backup {oldest}.\n\n"
        f"If you have not done this yet, on the host{following}"
    )
    assert stamps(out) == before
    output = json.loads(ran(out, "--restore", oldest, "--json", settings={}).stdout)
    assert output == {"restored": oldest, "written": [], "removed": [], "secrets": [], "copy": ""}


def test_a_repeated_restore_prints_again_what_to_type(out: Path) -> None:
    """The database must learn the earlier password, and the first answer may not have been printed."""
    ran(out, "--rotate", "db_password", "--yes", settings={})
    (back,) = backup_ids(out)
    output = ran(out, "--restore", back, "--yes", settings={}).stdout
    again = ran(out, "--restore", back, "--yes", settings={}).stdout
    assert "Nothing to do" in again
    following = output.partition("Next, on the host")[2]
    assert "ALTER ROLE" in following
    assert following in again
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    ran(out, "--set", "LOG_LEVEL=INFO", settings={})
    assert "ALTER ROLE" not in ran(out, "--restore", back, "--yes", settings={}).stdout


def test_a_restored_deployment_is_unmodified_and_unchanged(out: Path) -> None:
    changed(out)
    ran(out, "--restore", backup_ids(out)[0], settings={})
    status = json.loads(ran(out, "--status", "--json", settings={}).stdout)
    assert status["complete"] is True
    assert {row["state"] for row in status["files"].values()} == {"unmodified"}
    before = stamps(out)
    assert "Nothing to do" in ran(out, settings={}).stdout
    assert stamps(out) == before
    given = ran(out, "--set", "LOG_LEVEL=DEBUG", settings={}).stdout
    assert "Changed: LOG_LEVEL: (default) -> DEBUG (--set)" in given


def test_inputs_that_differ_apply_again_and_are_named(out: Path) -> None:
    """Such as a variable in the compose file of an init service."""
    ran(out, settings={**GIVEN, "LOG_LEVEL": "DEBUG"})
    ran(out, "--restore", backup_ids(out)[0], settings={})
    assert env_file(out)["LOG_LEVEL"] == "INFO"
    given = ran(out, settings={**GIVEN, "LOG_LEVEL": "DEBUG"}).stdout
    assert "Changed: LOG_LEVEL: (default) -> DEBUG (environment)" in given
    assert env_file(out)["LOG_LEVEL"] == "DEBUG"


def test_edits_by_hand_come_back_as_edits(out: Path) -> None:
    """The text that was written last comes back too, so that edits are merged as before."""
    (out / ".env").write_text((out / ".env").read_text().replace("LOG_LEVEL=INFO", "LOG_LEVEL=DEBUG"))
    ran(out, "--set", "SMTP_PORT=26", "--on-conflict", "replace", settings={})
    ran(out, "--set", "SMTP_PORT=27", settings={})
    ran(out, "--restore", backup_ids(out)[0], settings={})
    assert ".env was edited by hand and is left unchanged" in ran(out, settings={}).stderr
    ran(out, "--set", "SMTP_PORT=28", settings={})
    assert (env_file(out)["LOG_LEVEL"], env_file(out)["SMTP_PORT"]) == ("DEBUG", "28")


def test_a_preview_of_a_restore_writes_nothing_and_shows_the_difference(out: Path) -> None:
    changed(out)
    oldest = backup_ids(out)[0]
    before = stamps(out)
    done = ran(out, "--restore", oldest, "--dry-run", settings={}, code=3)
    assert "-LOG_LEVEL=DEBUG\n+LOG_LEVEL=INFO\n" in done.stdout
    assert "  PUBLIC_URL: other.example.com (--set) -> avatar.example.com (environment)" in done.stdout
    assert re.search(r"organization_name: \([0-9a-f]{12}\) -> \([0-9a-f]{12}\)", done.stdout)
    assert "value-of" not in done.stdout
    assert stamps(out) == before
    ran(out, "--restore", oldest, settings={})
    assert "Nothing to do" in ran(out, "--restore", oldest, "--diff", settings={}).stdout


def test_a_later_file_is_removed(out: Path) -> None:
    ran(out, "--save-config", settings={})
    done = json.loads(ran(out, "--restore", backup_ids(out)[0], "--json", settings={}).stdout)
    assert done["removed"] == ["deployment-config.yaml"]
    assert not (out / "deployment-config.yaml").exists()
    ran(out, "--restore", done["copy"], settings={})
    assert (out / "deployment-config.yaml").exists()


def test_the_restored_backup_is_kept_whatever_number_is_kept(out: Path) -> None:
    changed(out)
    oldest = backup_ids(out)[0]
    ran(out, "--restore", oldest, "--keep", "1", settings={})
    assert backup_ids(out)[0] == oldest
    assert len(backup_ids(out)) == 2


def test_secrets_are_restored_and_bound_ones_only_with_consent(out: Path) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    (out / ".secrets" / "db_password").write_text("rotated since")
    (out / ".secrets" / "seaweedfs_admin_password").write_text("changed since")
    before = stamps(out)
    done = ran(out, "--restore", backup_ids(out)[0], settings={}, code=4)
    assert ".secrets/db_password would get an earlier value, and is bound to" in done.stderr
    assert "--yes" in done.stderr and "rotated since" not in done.stderr
    assert stamps(out) == before
    done = ran(out, "--restore", backup_ids(out)[0], "--yes", settings={})
    assert secrets(out)["db_password"] == every_secret()["DB_PASSWORD"]
    assert secrets(out)["seaweedfs_admin_password"] == every_secret()["SEAWEEDFS_ADMIN_PASSWORD"]
    assert "ALTER ROLE" in done.stdout
    assert f" --restore {backup_ids(out)[-1]} --yes\n" in done.stdout, "the command that undoes it is complete"
    assert every_secret()["DB_PASSWORD"] not in done.stdout


def test_a_secret_that_was_filled_in_later_is_not_emptied(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    ran(out, "--set", "LOG_LEVEL=DEBUG")
    (out / ".secrets" / "organization_name").write_text("Example")
    ran(out, "--restore", backup_ids(out)[0], settings={})
    assert secrets(out)["organization_name"] == "Example"
    assert env_file(out)["LOG_LEVEL"] == "INFO"


def test_a_reset_can_be_undone(out: Path) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    before = restorable(out)
    ran(out, "--reset", settings={**GIVEN, "PUBLIC_URL": "third.example.com"})
    ran(out, "--restore", backup_ids(out)[-1], settings={})
    assert restorable(out) == before


def test_a_deployment_whose_state_was_lost_can_be_restored(out: Path) -> None:
    before = restorable(out)
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    (out / STATE).write_text("damaged")
    assert ran(out, settings={}, code=1)
    ran(out, "--restore", backup_ids(out)[0], settings={})
    assert restorable(out) == before
    assert "Nothing to do" in ran(out, settings={}).stdout


AUTHORITY, AUTHORITY_KEY = "tls/avatar-ca.crt", "tls/private/avatar-ca.key"
CERTIFICATE, CERTIFICATE_KEY = "tls/server.fullchain.crt", "tls/private/server.decrypted.key"


def test_a_restore_keeps_a_later_authority(out: Path) -> None:
    """Clients trust it, and it cannot be generated again; a certificate can."""
    ran(out, "--set", "TLS_MODE=self-signed", "--set", "PUBLIC_URL=other.example.com", settings={})
    made = tree(out)
    done = json.loads(ran(out, "--restore", backup_ids(out)[0], "--json", settings={}).stdout)
    assert done["removed"] == ["tls/ca-bundle.crt", CERTIFICATE]
    for path in (AUTHORITY, AUTHORITY_KEY, CERTIFICATE_KEY):
        assert tree(out)[path] == made[path]
    for flags in (("--restore", backup_ids(out)[0]), ()):
        assert "Nothing to do" in ran(out, *flags, settings={}).stdout
    ran(out, "--set", "TLS_MODE=self-signed", settings={})
    assert tree(out)[AUTHORITY] == made[AUTHORITY]
    assert (out / CERTIFICATE).exists()


@pytest.mark.parametrize("known", [False, True], ids=["added later", "recorded in the state"])
def test_a_restore_keeps_the_operators_certificate(known: bool, out: Path) -> None:
    ran(out, "--set", "TLS_MODE=self-signed", settings={})
    mine = put(out, full(pki.server()), pki.server().private())
    (mine / CERTIFICATE_KEY).chmod(0o600)
    if known:  # a run has seen it, so that the state knows its hash
        ran(out, "--set", "LOG_LEVEL=DEBUG", "--set", "NGINX_HTTP_REDIRECT_PORT=80", settings={})
    ran(out, "--set", "TLS_MODE=provided", "--set", f"TLS_CA_PATH=./{AUTHORITY}", settings={})
    mine = tree(out)
    done = json.loads(ran(out, "--restore", backup_ids(out)[0], "--json", settings={}).stdout)
    assert done["removed"] == ["tls/ca-bundle.crt"]
    for path in (CERTIFICATE, CERTIFICATE_KEY, AUTHORITY, AUTHORITY_KEY):
        assert tree(out)[path] == mine[path]


def test_a_restore_keeps_a_later_file_that_was_edited(out: Path) -> None:
    ran(out, "--save-config", settings={})
    mine = (out / "deployment-config.yaml").read_text() + "# mine\n"
    (out / "deployment-config.yaml").write_text(mine)
    oldest = backup_ids(out)[0]
    assert json.loads(ran(out, "--restore", oldest, "--json", settings={}).stdout)["removed"] == []
    assert (out / "deployment-config.yaml").read_text() == mine
    assert "Nothing to do" in ran(out, "--restore", oldest, settings={}).stdout


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["20200101T000000Z", "..", "../../etc", "latest", "restoring"])
def test_the_refusal_of_an_unknown_backup_lists_those_that_exist(out: Path, name: str) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    before = stamps(out)
    done = ran(out, "--restore", name, settings={}, code=1)
    assert f"there are {backup_ids(out)[0]}" in done.stderr
    assert stamps(out) == before


def test_a_backup_of_a_newer_release_is_refused(out: Path) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    state = out / DATED / backup_ids(out)[0] / STATE
    state.write_text(re.sub(r"(?m)^schema: .*$", "schema: '99'", state.read_text()))
    before = stamps(out)
    assert (
        f"{STATE} cannot be restored by this release: its schema is 99"
        in ran(out, "--restore", backup_ids(out)[0], settings={}, code=1).stderr
    )
    assert stamps(out) == before


def test_a_backup_that_lost_a_file_is_refused(out: Path) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    (out / DATED / backup_ids(out)[0] / ".env").unlink()
    before = stamps(out)
    name = os.listdir(out / DATED)[0]
    assert "this backup is incomplete" in ran(out, "--restore", name, settings={}, code=1).stderr
    assert stamps(out) == before


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda folder: (folder / "manifest.json").write_text("x"),
    "deeply nested": lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
    "NUL": lambda folder: (folder / "manifest.json").write_text(
        '{"version": "1", "kind": "run", "secrets": [], "source": "", "paths": ["a\\u0000b"], "absent": []}'
    ),
    "a directory in its place": lambda folder: (
        (folder / "manifest.json").unlink(),
        (folder / "manifest.json").mkdir(),
    ),
    "one file missing": lambda folder: (folder / ".env").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damaged_backup_spoils_no_other(out: Path, damage: str) -> None:
    for level in ("DEBUG", "ERROR"):
        ran(out, "--set", f"LOG_LEVEL={level}", settings={})
    damaged, newest = backup_ids(out)
    DAMAGES[damage](out / DATED / damaged)
    remains = tree(out / DATED / damaged)
    listed = ran(out, "--history", settings={}).stdout
    assert f"{newest}  before a run" in listed
    assert "Damaged, and left alone:\n" in listed and f"move the folder {DATED}/{damaged} away" in listed
    rows = json.loads(ran(out, "--history", "--json", settings={}).stdout)
    assert ([row["id"] for row in rows["copies"]], list(rows["damaged"])) == ([newest], [damaged])
    assert damaged in ran(out, "--restore", damaged, settings={}, code=1).stderr
    ran(out, "--restore", newest, "--yes", settings={})
    ran(out, "--set", "LOG_LEVEL=INFO", "--keep", "9" if damage == "one file missing" else "1", settings={})
    ran(out, "--rotate", "seaweedfs_admin_password", "--yes", settings={})
    assert tree(out / DATED / damaged) == remains


def test_a_backup_of_an_impossible_date_is_one_like_others(out: Path) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    (out / DATED / backup_ids(out)[0]).rename(out / DATED / "99999999T999999Z")
    assert "99999999T999999Z  before a run" in ran(out, "--history", settings={}).stdout
    ran(out, "--set", "LOG_LEVEL=ERROR", settings={})
    assert backup_ids(out) == ["99999999T999999Z", "99999999T999999Z-2"]
    ran(out, "--restore", "99999999T999999Z", "--yes", settings={})


def test_a_restore_takes_the_lock(out: Path) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    name = backup_ids(out)[0]
    with holding(out / LOCK):
        before = tree(out)
        assert "another run is working" in ran(out, "--restore", name, settings={}, code=4).stderr
        assert tree(out) == before


@pytest.mark.parametrize(
    "flags", [("--restore", ""), ("--restore",), ("--restore", "x", "--status"), ("--history", "--status")]
)
def test_wrong_usage(out: Path, flags: tuple[str, ...]) -> None:
    before = stamps(out)
    assert run(out, *flags).returncode == 2
    assert stamps(out) == before


# --- interrupted --------------------------------------------------------------------------------


def half_restored(out: Path) -> str:
    """Kill a restore halfway and return the id of its backup."""
    require_strace()
    changed(out)
    oldest = backup_ids(out)[0]
    whole = Path(shutil.copytree(out, out.parent / "whole", symlinks=True))
    log = out.parent / "trace"
    trace = ("strace", "-f", "-qq", "-y", "-o", str(log), "-e", "trace=renameat")
    ran(whole, "--restore", oldest, settings={}, prefix=trace)
    marked = [number for number, line in enumerate(log.read_text().splitlines(), 1) if '"restoring"' in line]
    kill = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject=renameat:signal=KILL:when={marked[0] + 4}")
    assert run(out, "--restore", oldest, settings={}, prefix=kill).returncode == -9
    assert (out / MARK).read_text() == f"{oldest}\n"
    return oldest


@pytest.mark.slow
def test_an_interrupted_restore_must_be_finished_first(out: Path) -> None:
    oldest = half_restored(out)
    kept = backup_ids(out)
    half = tree(out)
    for flags in ((), ("--set", "LOG_LEVEL=ERROR"), ("--reset",), ("--diff",), ("--export", "-")):
        done = ran(out, *flags, settings=GIVEN, code=4)
        assert f"the restore of {oldest} was interrupted. Finish it (--restore {oldest})" in done.stderr
    done = ran(out, "--status", settings={}, code=3)
    assert f"The restore of {oldest} was interrupted. Finish it (--restore {oldest})" in done.stdout
    assert {**tree(out), LOCK: half[LOCK]} == half
    before = stamps(out)
    assert "would be restored" in ran(out, "--restore", oldest, "--dry-run", settings={}, code=3).stdout
    assert stamps(out) == before
    ran(out, "--restore", oldest, settings={})
    assert restorable(out) == restorable(out.parent / "whole")
    assert not (out / MARK).exists()
    assert backup_ids(out) == kept, "no backup was saved of the incomplete restore"


@pytest.mark.slow
def test_other_runs_are_refused_while_a_restore_is_in_progress(out: Path) -> None:
    oldest = half_restored(out)
    with holding(out / LOCK):
        before = tree(out)
        for flags in ((), ("--reset",), ("--diff",), ("--export", "-"), ("--rotate", "sso"), ("--restore", oldest)):
            output = ran(out, *flags, settings={}, code=4).stderr
            assert "another run is working on this volume (process 4711 on elsewhere)" in output, flags
            assert "interrupted" not in output
        output = ran(out, "--status", settings={}, code=3).stdout
        assert "◐ Another run is working on this volume (process 4711 on elsewhere)" in output
        assert "interrupted" not in output
        assert tree(out) == before


@pytest.mark.slow
def test_an_interrupted_restore_may_be_undone_at_once(out: Path) -> None:
    half_restored(out)
    done = ran(out, "--restore", backup_ids(out)[-1], settings={})
    assert "To undo the restore" not in done.stdout, "it would name the backup that was just restored"
    assert env_file(out)["AVATAR_DOMAIN"] == "other.example.com"
    assert (out / "nginx" / "nginx.conf").read_text() == "# mine\n"
    assert not (out / MARK).exists()


@pytest.mark.slow
def test_an_interrupted_restore_whose_backups_were_removed_says_what_to_do(out: Path) -> None:
    oldest, *others = half_restored(out), *backup_ids(out)[1:]
    shutil.rmtree(out / DATED / oldest)
    for output in (ran(out, settings={}, code=4).stderr, ran(out, "--status", settings={}, code=3).stdout):
        assert "That backup is gone: restore another one" in output
    for other in others:
        shutil.rmtree(out / DATED / other)
    for output in (ran(out, settings={}, code=4).stderr, ran(out, "--status", settings={}, code=3).stdout):
        assert "then rm .deployment-history/restoring and run again" in output
    (out / MARK).unlink()
    ran(out, "--on-conflict", "replace", settings=GIVEN)


@pytest.mark.slow
def test_a_signal_in_a_restore_leaves_no_staged_file(out: Path) -> None:
    require_strace()
    changed(out)
    oldest = backup_ids(out)[0]
    ended = 0
    for number in range(3, 60, 7):
        copy = Path(shutil.copytree(out, out.parent / str(number), symlinks=True))
        stop = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject=renameat:signal=TERM:when={number}")
        done = subprocess.run(
            [*stop, *command(copy, "--restore", oldest)], env=environment({}), capture_output=True, check=False
        )
        if done.returncode == 0:
            break
        ended += 1
        assert done.returncode == 143
        assert leftovers(copy) == []
        ran(copy, "--restore", oldest, settings={})
        assert env_file(copy)["LOG_LEVEL"] == "INFO"
    assert ended > 3


def killed(out: Path, rule: str, *flags: str) -> int:
    """Return the exit code of a run that is killed at a call, if it gets there."""
    require_strace()
    call, _, number = rule.partition(" ")
    kill = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={number}")
    return run(out, *flags, settings={}, prefix=kill).returncode


def calls(out: Path, name: str, *flags: str) -> list[str]:
    """Return the successful calls of an undisturbed run, as rules for `killed`."""
    require_strace()
    log = out.parent / "trace"
    ran(out, *flags, settings={}, prefix=("strace", "-f", "-qq", "-o", str(log), "-e", f"trace={name}"))
    lines = log.read_text().splitlines()
    return [f"{name} {number}" for number, line in enumerate(lines, 1) if line.endswith(" = 0")]


@pytest.mark.slow
def test_later_files_are_removed_however_often_the_restore_is_killed(out: Path) -> None:
    """One of them holds every secret: it must not stay because no state names it any more."""
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    ran(out, "--set", "TLS_MODE=self-signed", "--save-config", "--with-secrets", settings={})
    back = ("--restore", backup_ids(out)[0])
    whole, other = (shutil.copytree(out, out.parent / name, symlinks=True) for name in ("whole", "other"))
    removals = calls(whole, "unlinkat", *back)
    assert not (whole / "deployment-config.yaml").exists()
    rules = [*calls(other, "renameat", *back)[-2:], *removals]
    assert len(rules) > 6
    for rule in rules:
        copy = shutil.copytree(out, out.parent / rule, symlinks=True)
        assert killed(copy, rule, *back) == -9
        killed(copy, "unlinkat 2", *back)  # and once more, where it comes to that
        ran(copy, *back, settings={})
        assert restorable(copy) == restorable(whole), rule
        assert not (copy / MARK).exists()


@pytest.mark.slow
def test_a_finished_restore_lists_everything_that_was_restored(out: Path) -> None:
    """The database must learn the earlier password, whichever of the runs wrote it."""
    ran(out, "--rotate", "db_password,authjwt_secret_key", "--yes", settings={})
    back = ("--restore", backup_ids(out)[0], "--yes")
    whole, half = (shutil.copytree(out, out.parent / name, symlinks=True) for name in ("whole", "half"))
    renames = calls(whole, "renameat", *back)
    output = ran(out, *back, settings={}).stdout
    assert ".secrets/ (2 files)" in output
    assert "ALTER ROLE" in output
    assert killed(half, renames[-2], *back) == -9
    assert "would be restored" in ran(half, *back, "--dry-run", settings={}, code=3).stdout
    assert killed(half, "renameat 2", *back) == -9
    again = ran(half, *back, settings={}).stdout
    assert re.sub(r"\d{8}T\d{6}Z(-\d+)?", "ID", again.replace(str(half), str(out))) == re.sub(
        r"\d{8}T\d{6}Z(-\d+)?", "ID", output
    )
    assert f"--restore {backup_ids(half)[-1]} --yes\n" in again
    assert restorable(half) == restorable(whole)


@pytest.mark.slow
def test_a_restore_keeps_the_values_that_an_interrupted_rotation_replaces(out: Path) -> None:
    """If the second of two rotations is interrupted, only its backup holds the values in use."""
    ran(out, "--rotate", "db_password", "--yes", settings={})
    (first,) = backup_ids(out)
    long_ago = out / DATED / "20200101T000000Z"
    (out / DATED / first).rename(long_ago)
    in_use = secrets(out)["db_password"]
    whole = shutil.copytree(out, out.parent / "whole", symlinks=True)
    renames = calls(whole, "renameat", "--rotate", "db_password", "--yes")
    assert killed(out, renames[-2], "--rotate", "db_password", "--yes") == -9
    assert secrets(out)["db_password"] != in_use
    ran(out, "--restore", long_ago.name, "--yes", "--keep", "1", settings={})
    assert in_use in {(copy / ".secrets/db_password").read_text() for copy in (out / DATED).iterdir()}


@pytest.mark.slow
def test_a_restored_backup_of_an_incomplete_run_is_finished_first(out: Path) -> None:
    rotation = ("--rotate", "db_password", "--yes")
    renames = calls(shutil.copytree(out, out.parent / "whole", symlinks=True), "renameat", *rotation)
    assert killed(out, renames[-2], *rotation) == -9
    compose = out / "docker-compose.yml"
    compose.write_text(f"# mine\n{compose.read_text()}")
    ran(out, "--on-conflict", "replace", settings={})
    half = backup_ids(out)[-1]
    for output in (ran(out, "--restore", half, settings={}).stdout, ran(out, "--restore", half, settings={}).stdout):
        assert "finishes the run that was incomplete then" in output
        assert "docker compose up" not in output
    assert "Configuration complete" in ran(out, "--on-conflict", "replace", settings={}).stdout


@pytest.mark.slow
def test_a_restore_without_a_difference_offers_no_undo(out: Path) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    (first,) = backup_ids(out)
    ran(out, "--restore", first, settings={})
    second = backup_ids(out)[-1]
    whole = shutil.copytree(out, out.parent / "whole", symlinks=True)
    renames = calls(whole, "renameat", "--restore", second)
    assert killed(out, renames[-2], "--restore", second) == -9
    output = ran(out, "--restore", first, settings={}).stdout
    assert f"Restored {first}" in output
    assert "To undo the restore" not in output


@pytest.mark.slow
def test_another_restore_leaves_nothing_of_an_interrupted_one(out: Path) -> None:
    ran(out, "--save-config", settings={})
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    first, second = backup_ids(out)
    ran(out, "--restore", first, settings={})
    before = restorable(out)
    renames = calls(shutil.copytree(out, out.parent / "other", symlinks=True), "renameat", "--restore", second)
    assert killed(out, renames[-2], "--restore", second) == -9
    assert (out / "deployment-config.yaml").exists()
    assert killed(out, "unlinkat 2", "--restore", backup_ids(out)[-1]) == -9
    ran(out, "--restore", first, settings={})
    assert restorable(out) == before


@pytest.mark.slow
def test_a_finished_restore_keeps_a_certificate_that_both_deployments_name(out: Path) -> None:
    """avatar-setup made it once; since then it is one that the operator provides, and no later backup has it."""
    for setting in ("TLS_MODE=self-signed", "TLS_MODE=provided", "LOG_LEVEL=DEBUG", "LOG_LEVEL=ERROR"):
        ran(out, "--set", setting, settings={})
    back = ("--restore", backup_ids(out)[-1])
    whole = shutil.copytree(out, out.parent / "whole", symlinks=True)
    renames = calls(whole, "renameat", *back)
    assert (whole / "tls/server.fullchain.crt").exists()
    assert killed(out, renames[-2], *back) == -9
    ran(out, *back, settings={})
    assert restorable(out) == restorable(whole)
