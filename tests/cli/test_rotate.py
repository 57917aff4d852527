"""`--rotate`: new values for the named secrets and no others, and the old ones in a backup."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from setup.config.secrets import ENCRYPTING, SECRETS
from setup.formats.dotenv import parse
from tests.support.documents import read_yaml
from tests.support.runs import (
    LOCK,
    OPERATORS,
    REQUIRED,
    STATE,
    command,
    deployed,
    environment,
    holding,
    leftovers,
    ran,
    require_strace,
    run,
    secrets,
    stamps,
    tree,
)
from tests.support.terminal import session
from tests.torture.injection import QUIET, Case, Scene, rehearsed
from tests.torture.races import stopped

SETTINGS = {**REQUIRED, **OPERATORS}
SMTP = {**REQUIRED, "SMTP_HOST": "mail.example.com", "SMTP_USERNAME": "avatar", "SMTP_PASSWORD": "the old one"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out", settings=SETTINGS)


def labels(out: Path) -> dict[str, str]:
    """Service -> the label that follows its secrets."""
    services = read_yaml((out / "docker-compose.yml").read_text())["services"]
    return {name: entry.get("labels", {}).get("avatar-setup.secrets", "") for name, entry in services.items()}


def counts(out: Path) -> dict[str, int]:
    return read_yaml((out / STATE).read_text())["secrets"]


def backups_of(out: Path) -> list[Path]:
    folder = out / ".deployment-history"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def changed(before: dict[str, str], out: Path) -> set[str]:
    return {name for name, text in secrets(out).items() if before.get(name) != text}


def differing(before: dict[str, tuple[str, bytes]], out: Path) -> set[str]:
    """The paths, but for those of our own records, at which a tree is not as it was."""
    after = tree(out)
    paths = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return {path for path in paths if not path.startswith(".deployment-")}


def test_a_secret_gets_a_new_value_and_its_services_are_recreated(out: Path) -> None:
    before, marks, files = secrets(out), labels(out), tree(out)
    output = ran(out, "--rotate", "db_password", "--yes", settings={})
    assert changed(before, out) == {"db_password"}
    assert re.fullmatch("[0-9a-f]{64}", secrets(out)["db_password"])
    assert {name for name, mark in labels(out).items() if mark != marks[name]} == set(SECRETS["db_password"].services)
    assert counts(out)["db_password"] == 2
    (copy,) = backups_of(out)
    assert (copy / ".secrets/db_password").read_text() == before["db_password"]
    assert copy.name in output.stdout
    assert differing(files, out) == {".secrets/db_password", "docker-compose.yml"}
    assert leftovers(out) == []


def test_env_follows_a_secret_that_shows_in_it(out: Path) -> None:
    blueprint = (out / "authentik/octopize-avatar-blueprint.yaml").read_bytes()
    ran(out, "--rotate", "sso_client_secret", "--yes", settings={})
    values = parse((out / ".env").read_bytes()).values
    for key in SECRETS["sso_client_secret"].shown:
        assert values[key] == secrets(out)["sso_client_secret"]
    assert (out / "authentik/octopize-avatar-blueprint.yaml").read_bytes() != blueprint  # Authentik applies it again


def test_a_group_and_several_names(out: Path) -> None:
    before = secrets(out)
    ran(out, "--rotate", "sessions,seaweedfs_admin_password", "--rotate", "authjwt_secret_key", "--yes", settings={})
    assert changed(before, out) == {"authentik_secret_key", "authjwt_secret_key", "seaweedfs_admin_password"}


def test_a_finished_rotation_rotates_again_when_it_is_repeated(out: Path) -> None:
    ran(out, "--rotate", "db_password", "--yes", settings={})
    before = secrets(out)
    ran(out, "--rotate", "db_password", "--yes", settings={})
    assert changed(before, out) == {"db_password"}
    assert counts(out)["db_password"] == 3


def test_every_key_that_the_storage_may_still_accept_is_removed(out: Path) -> None:
    """Whoever missed the last message of a rotation repeats it: the first key is valid until it is removed."""
    keys = []
    for _ in range(3):
        keys.append(secrets(out)["storage_admin_access_key_id"])
        shown = ran(out, "--rotate", "storage", "--yes", settings={}).stdout
        deletions = [line for line in shown.splitlines() if "s3.configure -apply -delete" in line]
        removed = [re.search(r"cat (\S+storage_admin_access_key_id)", line) for line in deletions]
        assert [(out / found[1]).read_text() for found in removed if found] == keys
    assert not any(key in shown for key in keys)


def test_a_new_value_may_be_given_and_is_not_rotated_when_it_is_given_again(out: Path, tmp_path: Path) -> None:
    """The first run may have been killed before it said what to type, so the second says it."""
    (tmp_path / "new").write_text("given by a vault\n")
    rotation = functools.partial(ran, out, "--rotate", "db_password", "--yes")
    given = {"DB_PASSWORD_FILE": str(tmp_path / "new")}
    following = rotation(settings=given).stdout.partition("Next, on the host")[2]
    assert "ALTER ROLE" in following
    assert secrets(out)["db_password"] == "given by a vault"
    before = stamps(out)
    again = rotation(settings=given).stdout
    assert "db_password has the given value already" in again
    assert f"If you have not done this yet, on the host{following}" in again
    assert stamps(out) == before
    rotation(settings={"DB_PASSWORD": "another value of mine"})
    assert secrets(out)["db_password"] == "another value of mine"


def test_a_plain_run_afterwards_changes_nothing(out: Path) -> None:
    ran(out, "--rotate", "database,sso", "--yes", settings={})
    before = tree(out)
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    assert differing(before, out) == {".env"}


@pytest.mark.parametrize("name", sorted(ENCRYPTING))
def test_what_data_is_encrypted_with_is_refused(name: str, tmp_path: Path) -> None:
    settings = {**SETTINGS, "AVATAR_API_VERSION": "2.71.0"}
    out = deployed(tmp_path / "out", settings=settings)
    before = tree(out)
    assert "--i-have-reencrypted" in ran(out, "--rotate", name, "--yes", settings={}, code=1).stderr
    flags = ("--rotate", name, "--yes", "--i-have-reencrypted")
    assert f"{name.upper()}_FILE" in ran(out, *flags, settings={}, code=1).stderr
    assert tree(out) == before
    new = "B" * 43 + "=" if name == "file_encryption_key" else "fedcba9876543210" * 4
    ran(out, *flags, settings={name.upper(): new})
    assert secrets(out)[name] == new


def test_what_only_the_operator_knows_must_be_given(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=SMTP)
    before = tree(out)
    refused = ran(out, "--rotate", "mail", "--yes", settings={}, code=1)
    assert "SMTP_PASSWORD_FILE" in refused.stderr
    assert tree(out) == before
    ran(out, "--rotate", "mail", "--yes", settings={"SMTP_PASSWORD": "the new one"})
    assert secrets(out)["smtp_password"] == "the new one"
    assert parse((out / ".env").read_bytes()).values["SMTP_PASSWORD"] == "the new one"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("hunter2", 2, "no such secret or group"),
        ("db_user", 1, "bound to the database's volume"),
        ("organization_name", 1, "ORGANIZATION_NAME=VALUE"),
        ("pepper", 1, "has none"),
        ("pepper,db_user", 1, "2 problems"),
        ("", 2, "wants a name"),
    ],
)
def test_what_cannot_be_rotated_is_named(out: Path, words: str, code: int, said: str) -> None:
    before = tree(out)
    refused = ran(out, "--rotate", words, "--yes", settings={}, code=code)
    assert said in refused.stderr
    assert "hunter2" not in refused.stderr
    assert tree(out) == before


def test_nothing_is_written_before_it_is_confirmed(out: Path) -> None:
    before = stamps(out)
    refused = ran(out, "--rotate", "sessions", settings={}, code=4)
    assert "people sign in again" in refused.stdout
    assert "--yes" in refused.stderr
    assert stamps(out) == before


@pytest.mark.parametrize(("typed", "code"), [("db_password", 0), ("yes", 3), ("", 3)])
def test_a_person_types_the_name(out: Path, typed: str, code: int) -> None:
    before = secrets(out)
    with session(out, "--rotate", "db_password") as terminal:
        terminal.shows("the API loses its database")
        terminal.asks("Type db_password to rotate: ")
        terminal.answer(typed)
        assert terminal.ends() == code
        assert terminal.is_sane()
    assert bool(changed(before, out)) == (code == 0)


def test_a_person_is_asked_for_what_only_they_know(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out", settings=SMTP)
    with session(out, "--rotate", "smtp_password") as terminal:
        terminal.asks("Type smtp_password to rotate: ")
        terminal.answer("smtp_password")
        for question, typed in (
            ("SMTP password: ", "one"),
            ("again: ", "another"),
            ("SMTP password: ", "battery staple"),
        ):
            terminal.asks(question)
            terminal.answer(typed)
        terminal.asks("again: ")
        terminal.answer("battery staple")
        assert terminal.ends() == 0
        assert "battery" not in terminal.raw
    assert secrets(out)["smtp_password"] == "battery staple"


def test_no_value_shows(out: Path) -> None:
    before = secrets(out)
    output = ran(out, "--rotate", "database,sso,storage", "--yes", settings={})
    shown = output.stdout + output.stderr
    values = {*before.values(), *secrets(out).values()}
    assert [text for text in values if len(text) > 30 and text in shown] == []
    assert [text for text in values if len(text) > 30 and text in (out / STATE).read_text()] == []


def test_an_incomplete_deployment_is_finished_first(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "finish it first" in ran(tmp_path / "out", "--rotate", "db_password", "--yes", settings={}, code=1).stderr


def test_the_answer_as_data(out: Path) -> None:
    given = {"DB_PASSWORD": "given by a vault"}
    rotation = functools.partial(ran, out, "--rotate", "db_password", "--yes", "--json", settings=given)
    output = json.loads(rotation().stdout)
    assert (output["status"], output["rotated"]) == ("complete", ["db_password"])
    assert (out / output["copy"]).is_dir()
    assert any("ALTER ROLE" in line for line in output["next"])
    assert json.loads(rotation().stdout)["status"] == "unchanged"


def test_the_status_tells_when_each_secret_was_made_or_rotated(out: Path) -> None:
    os.utime(out / ".secrets" / "db_password", (0, 86400 * 365))
    shown = ran(out, "--status", settings={}).stdout
    assert re.search(r"\n  db_password +generated 1971-01-01\n", shown)
    ran(out, "--rotate", "db_password", "--yes", settings={})
    today = time.strftime("%Y-%m-%d", time.gmtime())
    shown = ran(out, "--status", settings={}).stdout
    assert re.search(rf"\n  db_password +rotated, value 2, {today}\n", shown)
    output = json.loads(ran(out, "--status", "--json", settings={}).stdout)["secrets"]
    assert output["db_password"]["values"] == 2
    assert output["db_password"]["since"].startswith(today)
    assert set(output) == {name for name in secrets(out) if SECRETS[name].masked}


def test_an_interrupted_restore_must_be_finished_before_a_rotation(out: Path) -> None:
    ran(out, "--rotate", "db_password", "--yes", settings={})
    mark = out / ".deployment-history/restoring"
    mark.write_text(f"{backups_of(out)[0].name}\n")
    assert "halfway" in ran(out, "--rotate", "db_password", "--yes", settings={}, code=4).stderr


# --- beside edits by hand ---------------------------------------------------------------------------


@pytest.fixture
def edited(out: Path) -> Path:
    compose = out / "docker-compose.yml"
    compose.write_text(compose.read_text().replace("services:\n", "# mine\nservices:\n", 1))
    return out


def test_beside_an_edited_file_it_still_says_what_to_type(edited: Path) -> None:
    before = secrets(edited)
    done = ran(edited, "--rotate", "db_password", "--yes", settings={}, code=4)
    assert changed(before, edited) == {"db_password"}
    assert "ALTER ROLE" in done.stdout
    assert backups_of(edited)[-1].name in done.stdout
    assert "docker-compose.yml holds changes of yours and was left unchanged" in done.stderr
    output = json.loads(ran(edited, "--rotate", "sessions", "--yes", "--json", settings={}, code=4).stdout)
    assert output["rotated"] == ["authentik_secret_key", "authjwt_secret_key"]
    assert any("docker-compose.yml" in problem for problem in output["problems"])


def test_what_is_said_about_edited_files_holds_for_a_rotation(edited: Path) -> None:
    before = tree(edited)
    refused = ran(edited, "--rotate", "db_password", "--yes", "--on-conflict", "fail", settings={}, code=4).stderr
    assert "docker-compose.yml" in refused
    assert tree(edited) == before
    ran(edited, "--rotate", "db_password", "--yes", "--on-conflict", "replace", settings={})
    assert "# mine" not in (edited / "docker-compose.yml").read_text()
    assert not (edited / "docker-compose.yml.new").exists()


# --- interrupted ------------------------------------------------------------------------------------

NAMES = "db_password,sso_client_secret"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A rotation of NAMES, and the calls that it makes on the volume."""
    require_strace()
    case = Case("a rotation", {}, ("--rotate", NAMES, "--yes"), functools.partial(deployed, settings=SETTINGS))
    return rehearsed(case, tmp_path_factory.mktemp("rotation"))


def after_the_backup(scene: Scene) -> list[int]:
    """Return the renames of a rotation after those of its backup."""
    return [point.number for point in scene.points if point.call == "renameat"][-18:]


def killed(scene: Scene, out: Path, number: int) -> None:
    """The rotation, killed as it renames for the n-th time."""
    inject = ("-e", "trace=renameat", "-e", f"inject=renameat:signal=KILL:when={number}")
    assert scene.disturbed(out, *QUIET, *inject).returncode == -9


@pytest.mark.slow
def test_the_same_command_finishes_an_interrupted_rotation_and_rotates_nothing_twice(scene: Scene) -> None:
    original, between, names = secrets(scene.start), 0, NAMES.split(",")
    for number in after_the_backup(scene):
        with scene.copy() as out:
            killed(scene, out, number)
            halfway, values = changed(original, out), secrets(out)
            between += len(halfway) == 1
            ran(out, "--rotate", NAMES, "--yes", settings={})
            assert changed(original, out) == set(names)
            assert {name for name in halfway if secrets(out)[name] != values[name]} == set(), number
            assert {name: counts(out)[name] for name in names} == dict.fromkeys(names, 2)
            (copy,) = backups_of(out)
            assert {name: (copy / ".secrets" / name).read_text() for name in names} == {n: original[n] for n in names}
            assert parse((out / ".env").read_bytes()).values["SSO_CLIENT_SECRET"] == secrets(out)["sso_client_secret"]
            assert leftovers(out) == []
    assert between > 2


@pytest.mark.slow
def test_the_same_command_finishes_a_rotation_of_which_one_value_was_given_already(scene: Scene) -> None:
    """The backup names what changes; the command names more than that."""
    interrupted = 0
    for number in after_the_backup(scene)[::4]:
        with scene.copy() as out:
            original = secrets(out)
            settings = {"DB_PASSWORD": original["db_password"]}
            kill = (*QUIET, "-e", "trace=renameat", "-e", f"inject=renameat:signal=KILL:when={number}")
            ended = run(out, "--rotate", NAMES, "--yes", settings=settings, prefix=kill).returncode
            interrupted += ended == -9 and run(out, "--status", settings={}).returncode == 3
            finished = run(out, "--rotate", NAMES, "--yes", "--json", settings=settings)
            assert finished.returncode == 0, finished.stderr
            assert "db_password" not in json.loads(finished.stdout)["rotated"]
            assert changed(original, out) == {"sso_client_secret"}
    assert interrupted


@pytest.mark.slow
def test_a_rotation_is_refused_while_another_run_is_in_progress(scene: Scene) -> None:
    with scene.copy() as out:
        killed(scene, out, after_the_backup(scene)[9])
        with holding(out / LOCK):
            for names in ("sessions", NAMES):
                refused = ran(out, "--rotate", names, "--yes", settings={}, code=4).stderr
                assert "another run is working on this volume (process 4711 on elsewhere)" in refused


@pytest.mark.slow
def test_an_interrupted_rotation_must_be_finished_first(scene: Scene) -> None:
    with scene.copy() as out:
        killed(scene, out, after_the_backup(scene)[9])
        refused = ran(out, "--rotate", "sessions", "--yes", settings={}, code=1)
        assert f"--rotate {NAMES}" in refused.stderr
        ran(out, settings={})  # a plain run makes the deployment whole with whatever is new by then
        before = secrets(out)
        ran(out, "--rotate", "seaweedfs_admin_password", "--yes", settings={})
        assert changed(before, out) == {"seaweedfs_admin_password"}


@pytest.mark.slow
def test_edits_before_a_rotation_is_finished_are_saved_however_often_that_is_killed(scene: Scene) -> None:
    """In further backups: the one with the old values stays unchanged, whatever number is kept."""
    finish, names = ("--rotate", NAMES, "--yes", "--on-conflict", "replace", "--keep", "1"), NAMES.split(",")
    edits = {".env": b"SSO_CLIENT_SECRET=mine\n", "docker-compose.yml": b"# mine\n"}
    with scene.copy() as half:
        original = secrets(half)
        killed(scene, half, after_the_backup(scene)[9])
        (began,) = backups_of(half)
        olds = {name: (began / ".secrets" / name).read_text() for name in names}
        for path, pattern in ((".env", "(?m)^SSO_CLIENT_SECRET=.*\n"), ("docker-compose.yml", "(?m)^(?=services:)")):
            text = (half / path).read_text()
            (half / path).write_text(re.sub(pattern, edits[path].decode(), text, count=1))
        copied = functools.partial(shutil.copytree, half, symlinks=True)

        log = half.parent / "renames"
        renames = ("strace", "-f", "-qq", "-o", str(log), "-e", "trace=renameat")
        ran(Path(copied(half.parent / "whole" / "out")), *finish, settings={}, prefix=renames)
        lines = log.read_text().splitlines()
        made = [number for number, line in enumerate(lines, 1) if "manifest.json" in line][-1]
        for number in range(made, len(lines)):  # the last rename completes the state
            out = Path(copied(half.parent / str(number) / "out"))
            kill = (*QUIET, "-e", "trace=renameat", "-e", f"inject=renameat:signal=KILL:when={number}")
            assert run(out, *finish, settings={}, prefix=kill).returncode == -9
            before = secrets(out)
            output = ran(out, *finish, settings={}).stdout
            for path, words in edits.items():
                assert [copy.name for copy in backups_of(out) if words in (copy / path).read_bytes()], number
            assert {name: (out / began.relative_to(half) / ".secrets" / name).read_text() for name in names} == olds
            assert changed(original, out) == set(names)
            assert changed(before, out) == {name for name in names if before[name] == original[name]}
            assert f"The old values are in .deployment-history/{began.name}." in output
            others = [f".deployment-history/{copy.name}" for copy in backups_of(out) if copy.name != began.name]
            assert all(other in output.partition("replaced now, are in")[2] for other in others)


def test_a_run_without_a_state_does_not_finish_an_earlier_rotation(out: Path) -> None:
    ran(out, "--rotate", "db_password", "--yes", settings={})
    for name in (STATE, f"{STATE}.bak"):
        (out / name).unlink()
    output = ran(out, "--on-conflict", "replace", settings=SETTINGS).stdout
    assert "Configuration complete" in output
    assert "ALTER ROLE" not in output


@pytest.mark.slow
def test_a_run_that_finishes_a_rotation_prints_what_to_type(scene: Scene) -> None:
    output = 0
    for number in after_the_backup(scene):
        with scene.copy() as out:
            original = secrets(out)
            killed(scene, out, number)
            done = changed(original, out)
            said = ran(out, settings={}).stdout
            assert ("ALTER ROLE" in said) == ("db_password" in done), number
            assert ("finished the interrupted rotation" in said) == bool(done), number
            output += "ALTER ROLE" in said
            assert "ALTER ROLE" not in ran(out, "--set", "LOG_LEVEL=DEBUG", settings={}).stdout
    assert output > 2


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--reset",), ("--set", "PUBLIC_URL=other.example.com")])
def test_a_run_that_finishes_a_rotation_keeps_the_old_values_whatever_else_it_keeps(
    scene: Scene, flags: tuple[str, ...]
) -> None:
    with scene.copy() as out:
        original = secrets(out)
        (out / "nginx/nginx.conf").write_text("# mine\n")
        killed(scene, out, after_the_backup(scene)[12])
        assert "db_password" in changed(original, out)
        said = ran(out, *flags, "--on-conflict", "replace", "--keep", "1", settings=SETTINGS).stdout
        olds = [(copy / ".secrets/db_password").read_text() for copy in backups_of(out)]
        assert original["db_password"] in olds
        assert "ALTER ROLE" in said


@pytest.mark.slow
def test_a_reset_that_was_interrupted_too_says_what_to_type_when_it_is_repeated(scene: Scene) -> None:
    with scene.copy() as out:
        killed(scene, out, after_the_backup(scene)[12])
        inject = ("-e", "trace=renameat", "-e", "inject=renameat:signal=KILL:when={}")
        whole = Path(shutil.copytree(out, out.parent / "whole" / "out", symlinks=True))
        log = out.parent / "log"
        ran(whole, "--reset", settings=SETTINGS, prefix=("strace", "-f", "-qq", "-o", str(log), *inject[:2]))
        made = [number for number, line in enumerate(log.read_text().splitlines(), 1) if "manifest.json" in line][-1]
        kill = (*QUIET, *inject[:3], inject[3].format(made + 3))
        assert run(out, "--reset", settings=SETTINGS, prefix=kill).returncode == -9
        assert "ALTER ROLE" in ran(out, "--reset", settings=SETTINGS).stdout
        assert len(backups_of(out)) == 3


def test_a_reset_after_a_rotation_does_not_claim_to_have_finished_it(out: Path) -> None:
    ran(out, "--rotate", "db_password", "--yes", settings={})
    assert "finished the interrupted rotation" not in ran(out, "--reset", settings=SETTINGS).stdout


@pytest.mark.slow
def test_a_rotation_saves_its_own_backup_beside_that_of_another_command(out: Path) -> None:
    require_strace()
    log = out.parent / "trace"
    change = ("--set", "LOG_LEVEL=DEBUG")
    whole = Path(shutil.copytree(out, out.parent / "whole" / "out", symlinks=True))
    ran(whole, *change, settings={}, prefix=("strace", "-f", "-qq", "-o", str(log), "-e", "trace=renameat"))
    made = [number for number, line in enumerate(log.read_text().splitlines(), 1) if "manifest.json" in line][-1]
    kill = (*QUIET, "-e", "trace=renameat", "-e", f"inject=renameat:signal=KILL:when={made + 1}")
    assert run(out, *change, settings={}, prefix=kill).returncode == -9
    assert len(backups_of(out)) == 1
    ran(out, "--rotate", "db_password", "--yes", settings={})
    assert len(backups_of(out)) == 2


@pytest.mark.slow
def test_a_run_that_was_interrupted_after_a_rotation_was_is_no_rotation(scene: Scene) -> None:
    with scene.copy() as out:
        killed(scene, out, after_the_backup(scene)[0])  # its copy is made, and nothing else
        inject = ("-e", "trace=linkat", "-e", "inject=linkat:signal=KILL:when=2")
        assert run(out, "--set", "LOG_LEVEL=DEBUG", settings={}, prefix=(*QUIET, *inject)).returncode == -9
        before = secrets(out)
        for words in (NAMES, "sessions"):
            assert "finish it first" in ran(out, "--rotate", words, settings={}, code=1).stderr
        assert secrets(out) == before


@pytest.mark.slow
def test_one_of_two_runs_that_finish_a_rotation_has_nothing_to_do(scene: Scene) -> None:
    before_the_lock = next(point for point in scene.points if point.call == "access")
    with scene.copy() as out:
        killed(scene, out, after_the_backup(scene)[9])
        log = out.parent / "log"
        log.touch()
        stop = ("-e", "trace=access", "-e", f"inject=access:signal=STOP:when={before_the_lock.number}")
        words = ["strace", "-f", "-qq", "-s", "0", "-o", str(log), *stop, *command(out, "--rotate", NAMES, "--yes")]
        with subprocess.Popen(
            words, env=environment({}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as first:
            held = stopped(log, first)
            assert held
            other = run(out, "--rotate", NAMES, "--yes", settings={})
            values = secrets(out)
            os.kill(held, signal.SIGCONT)
            output, _ = first.communicate(timeout=60)
        assert other.returncode == 0, other.stderr
        assert "Nothing to do" in output
        assert first.returncode == 0
        assert secrets(out) == values


@pytest.mark.slow
def test_a_preview_of_an_interrupted_rotation_lists_what_is_left_and_writes_nothing(scene: Scene) -> None:
    original, names = secrets(scene.start), NAMES.split(",")
    for number in after_the_backup(scene):
        with scene.copy() as out:
            killed(scene, out, number)
            before, left = stamps(out), set(names) - changed(original, out)
            data = json.loads(ran(out, "--rotate", NAMES, "--dry-run", "--json", settings={}, code=3).stdout)
            assert {row["name"] for row in data["secrets"]} == left, number
            assert stamps(out) == before


def test_a_preview_of_a_rotation_lists_what_it_breaks_and_changes_and_writes_nothing(out: Path) -> None:
    before = stamps(out)
    output = ran(out, "--rotate", "db_password", "--dry-run", settings={}, code=3).stdout
    assert "the API loses its database until" in output
    assert re.search(r"  db_password: \([0-9a-f]{12}\) -> \(to be generated\)", output)
    assert re.search(r'^- +avatar-setup.secrets: "[0-9a-f]{16}"$', output, re.M)
    assert re.search(r'^\+ +avatar-setup.secrets: "\(to be generated\)"$', output, re.M)
    assert [name for name, text in secrets(out).items() if len(text) > 7 and text in output] == []
    data = json.loads(ran(out, "--rotate", "db_password", "--dry-run", "--json", settings={}, code=3).stdout)
    assert [row["name"] for row in data["secrets"]] == ["db_password"]
    assert stamps(out) == before


def test_a_group_without_a_value_is_no_empty_answer(out: Path) -> None:
    done = run(out, "--rotate", "telemetry", "--yes", settings={})
    assert done.returncode == 1
    assert "--rotate telemetry: it has no value yet" in done.stderr
