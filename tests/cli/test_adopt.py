"""`--adopt`: the same settings, secrets copied unchanged, and an unchanged source."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from setup.config.secrets import IRREPLACEABLE, SECRETS
from setup.formats.dotenv import parse
from setup.volume.layout import RESTORE_MARK
from tests.support import engine, foreign_trees, pki
from tests.support.documents import read_yaml
from tests.support.foreign_trees import ENV, SHOWN, edited
from tests.support.runs import (
    LAST_GOOD,
    LOCK,
    REQUIRED,
    STATE,
    deployed,
    env_file,
    holding,
    leftovers,
    ran,
    require_root,
    require_strace,
    run,
    stamps,
    tree,
    without_marks,
)
from tests.support.runs import secrets as secrets_of
from tests.support.terminal import session
from tests.torture import cases
from tests.torture.injection import QUIET, Scene, completes, rehearsed

MADE = ("by_hand", "versioned", "flat")
TEXTS = {name: text for name, text in foreign_trees.SECRETS.items() if text}
WHERE_FROM = {STATE, LAST_GOOD, LOCK, ".deployment-written/settings.json"}
FRESH = {"AUTHENTIK_API_TOKEN"}  # the API gets a token of its own


def made(name: str, at: Path) -> Path:
    return getattr(foreign_trees, name)(at)


# What moves to this release with an adoption.
MOVED = {"AVATAR_API_VERSION": "3.20.1", "AVATAR_WEB_VERSION": "0.68.0"}


def adopted(name: str, tmp_path: Path, *flags: str, settings: dict[str, str] | None = None) -> Path:
    """An empty directory after it took over a deployment of this layout."""
    out, source = tmp_path / "out", made(name, tmp_path / "source")
    out.mkdir()
    ran(out, "--adopt", str(source), "--yes", *flags, settings=settings or {})
    return out


def state(out: Path) -> dict[str, dict[str, dict[str, str]]]:
    return read_yaml((out / STATE).read_text())


def env_of(out: Path) -> dict[str, str]:
    """The values of `.env` as Compose reads them."""
    return parse((out / ".env").read_bytes()).values


@pytest.mark.parametrize("name", MADE)
def test_settings_and_secrets_equal_the_sources_key_by_key(name: str, tmp_path: Path) -> None:
    out = adopted(name, tmp_path)
    base = tmp_path / "source" / ("generated_files" if name == "versioned" else "")
    source, values = env_of(base), env_of(out)
    assert {key: values[key] for key in ENV} == ENV | MOVED
    known = {key: text for key, text in source.items() if key in values and key not in {*FRESH, *MOVED}}
    assert {key: values[key] for key in known} == known
    assert set(source) - set(values) == {"MAX_ALLOWED_LINES"}
    for path in (base / ".secrets").iterdir():
        assert (out / ".secrets" / path.name).read_bytes() == path.read_bytes(), path.name
    assert {values[key] for key in FRESH}.isdisjoint(SHOWN.values())


@pytest.mark.parametrize("name", MADE)
def test_the_source_stays_as_it_is_and_the_result_is_complete(name: str, tmp_path: Path) -> None:
    source = made(name, tmp_path / "source")
    (tmp_path / "out").mkdir()
    before = stamps(source)
    ran(tmp_path / "out", "--adopt", str(source), "--yes", settings={})
    assert stamps(source) == before
    status = json.loads(ran(tmp_path / "out", "--status", "--json", settings={}).stdout)
    assert (status["complete"], status["pending_secrets"]) == (True, [])
    assert leftovers(tmp_path / "out") == []


@pytest.mark.parametrize("name", MADE)
def test_only_what_differs_from_this_release_is_remembered(name: str, tmp_path: Path) -> None:
    answers = state(adopted(name, tmp_path))["answers"]
    assert {one["source"] for one in answers.values()} == {"adopted"}
    assert set(answers) == {
        *("PUBLIC_URL", "ENV_NAME", "AUTHENTIK_BOOTSTRAP_EMAIL"),
        *("AVATAR_WEB_CLIENT_URL", "AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE", "LOG_LEVEL", "SMTP_HOST"),
        *("SMTP_SENDER_EMAIL", "SMTP_USERNAME"),
    }


@pytest.mark.parametrize("release", foreign_trees.RELEASES)
def test_what_each_release_of_the_public_tool_made_is_adopted_whole(release: str, tmp_path: Path) -> None:
    source, out = foreign_trees.released(tmp_path / "source", release), tmp_path / "out"
    out.mkdir()
    base = source if release == "2.6" else source / "generated_files"
    told = ran(out, "--adopt", str(source), "--yes", settings={}).stdout
    ran(out, "--check", settings={})
    assert "Nothing to do" in ran(out, settings={}).stdout
    for path in (base / ".secrets").iterdir():
        assert (out / ".secrets" / path.name).read_bytes() == path.read_bytes(), path.name
    before, after = env_of(base), env_of(out)
    for key in (*SHOWN, "AVATAR_AUTHENTIK_VERSION", "SMTP_SENDER_EMAIL"):
        assert key in FRESH or key not in before or after[key] == before[key], key
    moved = ("AVATAR_API_VERSION", "AVATAR_WEB_VERSION", "AVATAR_SEAWEEDFS_VERSION")
    assert [after[key] for key in moved] == ["3.20.1", "0.68.0", "4.44"]
    assert after["AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE"] == "free_trial"
    assert (after["SMTP_USE_TLS"], after["SMTP_START_TLS"]) == ("false", "true")
    assert "SMTP_USE_TLS=true cannot work on port 587" in told
    assert after["POSTGRES_IMAGE"] == foreign_trees.RELEASES[release][4]
    is_2 = release.startswith("2.")
    assert ("this release has no service pdfgenerator" in told) is is_2
    assert ("kept, though this release does not use them: pepper" in told) is is_2
    assert "Not understood" not in told


@pytest.mark.parametrize(
    ("key", "version", "reason"),
    [
        ("AVATAR_API_VERSION", "2.82.0", "pdfgenerator"),
        ("AVATAR_WEB_VERSION", "0.67.9", "AVATAR_SSO_ENABLED"),
        ("AVATAR_SEAWEEDFS_VERSION", "4.9", "options"),
        ("AVATAR_AUTHENTIK_VERSION", "2026.8.4", "The next stop is 2026.5"),
        ("POSTGRES_IMAGE", "postgres:14-alpine", "PostgreSQL 14 cannot open"),
    ],
)
def test_a_pin_that_cannot_work_is_refused(key: str, version: str, reason: str, tmp_path: Path) -> None:
    source, out = foreign_trees.released(tmp_path / "source", "2.6"), tmp_path / "out"
    out.mkdir()
    refused = ran(out, "--adopt", str(source), "--yes", "--set", f"{key}={version}", settings={}, code=1).stderr
    assert f"{key}={version}" in refused
    assert reason in refused
    assert tree(out) == {}


def test_a_pin_and_a_newer_version_are_kept(tmp_path: Path) -> None:
    source, out = foreign_trees.released(tmp_path / "source", "3.5"), tmp_path / "out"
    out.mkdir()
    edited(source, "generated_files/.env", "AVATAR_WEB_VERSION=0.68.0", "AVATAR_WEB_VERSION=0.70.0")
    edited(source, ".deployment_states/v1/deployment_state.yaml", "value: '0.68.0'", "value: '0.70.0'")
    ran(out, "--adopt", str(source), "--yes", "--set", "AVATAR_API_VERSION=3.10.2", settings={})
    assert env_of(out)["AVATAR_API_VERSION"] == "3.10.2"
    assert env_of(out)["AVATAR_WEB_VERSION"] == "0.70.0"


@pytest.mark.parametrize("name", MADE)
def test_the_same_command_again_has_nothing_to_do(name: str, tmp_path: Path) -> None:
    out = adopted(name, tmp_path)
    before = stamps(out)
    outcome = ran(out, "--adopt", str(tmp_path / "source"), "--yes", settings={})
    assert "Nothing to do" in outcome.stdout
    assert stamps(out) == before
    assert "Nothing to do" in ran(out, settings={}).stdout


def test_certificates_and_unknown_secrets_go_along(tmp_path: Path) -> None:
    source = foreign_trees.by_hand(
        tmp_path / "source", **{".secrets/avatar_api_key": "of somebody\n", ".secrets/pepper": "p"}
    )
    (source / "tls/private/server.decrypted.key").chmod(0o600)
    out = tmp_path / "out"
    out.mkdir()
    outcome = ran(out, "--adopt", str(source), "--yes", settings={}).stdout
    assert ".secrets/avatar_api_key" in outcome[outcome.index("mean nothing here, copied") :]
    for path, mode in {
        "tls/server.fullchain.crt": 0o644,
        "tls/private/server.decrypted.key": 0o600,
        ".secrets/avatar_api_key": 0o644,
        ".secrets/pepper": 0o644,
    }.items():
        assert (out / path).read_bytes() == (source / path).read_bytes()
        assert (out / path).stat().st_mode & 0o777 == mode, path
    assert (out / ".secrets").stat().st_mode & 0o777 == 0o700


def test_nothing_is_written_before_it_is_confirmed(tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    before = stamps(tmp_path)
    refused = ran(out, "--adopt", str(source), settings={}, code=4)
    assert "--yes" in refused.stderr
    assert stamps(tmp_path) == before
    for words in (
        "made by hand",
        "SMTP_HOST=mail.example.com  (.env)",
        "MAX_ALLOWED_LINES",
        "caddy",
        "AUTHENTIK_API_TOKEN",
    ):
        assert words in refused.stdout
    shown = refused.stdout + refused.stderr
    assert [text for text in (*TEXTS.values(), *SHOWN.values()) if len(text) > 12 and text.strip() in shown] == []


@pytest.mark.parametrize(("typed", "code"), [("adopt", 0), ("yes", 3), ("", 3)])
def test_a_person_types_the_word(typed: str, code: int, tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    with session(out, "--adopt", str(source)) as terminal:
        terminal.asks("Type adopt to take it over: ")
        terminal.answer(typed)
        assert terminal.ends() == code
        assert terminal.is_sane()
    assert (out / STATE).exists() == (code == 0)


def own(tmp_path: Path) -> Path:
    """A deployment of ours with its own authority."""
    settings = {**REQUIRED, "TLS_MODE": "self-signed", "TLS_EXTRA_NAMES": "b.example"}
    return deployed(tmp_path / "source", settings=settings)


def test_a_deployment_that_appears_during_confirmation_is_not_changed(tmp_path: Path) -> None:
    source, out = own(tmp_path), tmp_path / "out"
    (source / ".secrets/extra_thing").write_text("of somebody")
    out.mkdir()
    with session(out, "--adopt", str(source), columns=300) as terminal:
        terminal.asks("Type adopt to take it over: ")
        ran(out)
        before = tree(out)
        terminal.answer("adopt")
        assert terminal.ends() == 4
        terminal.shows("another run has written another deployment there meanwhile")
        terminal.shows("use an empty output directory")
        assert "leave" not in terminal.fresh
    assert tree(out) == before


@pytest.mark.parametrize("in_place", [True, False])
def test_the_same_adoption_by_two_at_once_is_one(in_place: bool, tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    out = source if in_place else out
    with session(out, "--adopt", str(source)) as terminal:
        terminal.asks("Type adopt to take it over: ")
        ran(out, "--adopt", str(source), "--yes", settings={})
        before = tree(out)
        terminal.answer("adopt")
        assert terminal.ends() == 0
    assert tree(out) == before


@pytest.mark.parametrize("name", MADE)
def test_in_place_a_backup_of_the_previous_files_is_saved(name: str, tmp_path: Path) -> None:
    out = made(name, tmp_path / "out")
    before = tree(out)
    outcome = ran(out, "--adopt", str(out), "--yes", settings={})
    assert "--volumes" in outcome.stdout
    after = tree(out)
    changed = {path for path in before if after.get(path) != before[path] and before[path][1]}
    (copy,) = (out / ".deployment-history").iterdir()
    for path in changed:
        assert (copy / path).read_bytes() == before[path][1], path
    assert changed <= {".env", "docker-compose.yml", "nginx/nginx.conf", STATE}
    base = out / "generated_files" if name == "versioned" else out
    kept = {path.name: path.read_bytes() for path in (base / ".secrets").iterdir()}
    assert {path: data for path, data in kept.items() if (out / ".secrets" / path).read_bytes() != data} == {}
    assert env_of(out)["SMTP_PASSWORD"] == SHOWN["SMTP_PASSWORD"]
    stood = stamps(out)
    assert "Nothing to do" in ran(out, "--adopt", str(out), "--yes", settings={}).stdout
    assert stamps(out) == stood


def test_in_place_containers_can_read_the_secrets(tmp_path: Path) -> None:
    out = foreign_trees.by_hand(tmp_path / "out")
    for path in (out / ".secrets").iterdir():
        path.chmod(0o600)
    ran(out, "--adopt", str(out), "--yes", settings={})
    assert {path.stat().st_mode & 0o777 for path in (out / ".secrets").iterdir() if path.stat().st_size} == {0o644}


@pytest.mark.parametrize("name", sorted(IRREPLACEABLE - {"pepper", "file_encryption_key"}))
def test_a_secret_that_data_depends_on_is_not_generated(name: str, tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source", **{f".secrets/{name}": None}), tmp_path / "out"
    out.mkdir()
    refused = ran(out, "--adopt", str(source), "--yes", settings={}, code=1)
    assert f"{name} was not found in {source}" in refused.stderr
    assert f"{name.upper()}_FILE=PATH" in refused.stderr
    assert f"cat /run/secrets/{name}" in refused.stderr
    assert tree(out) == {}
    given = "0123456789abcdef" * (4 if "key" in name else 2)
    ran(out, "--adopt", str(source), "--yes", settings={name.upper(): given})
    assert secrets_of(out)[name] == given


def test_every_obstacle_is_named_at_once(tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    edited(source, ".env", "ENV_NAME=example-prod\n", "")
    edited(source, ".env", "export LOG_LEVEL = WARNING", "LOG_LEVEL=$LEVEL")
    edited(source, ".env", "professional", "gold")
    (source / ".secrets/storage_encryption_key").unlink()
    refused = ran(out, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    for words in (
        "ENV_NAME is missing",
        "LOG_LEVEL cannot be determined: in .env it uses LEVEL, which no line above sets. Give it as environment",
        "LICENSE='gold' (adopted)",
        "storage_encryption_key",
    ):
        assert words in refused
    assert tree(out) == {}


def test_what_cannot_be_read_is_named_alone(tmp_path: Path) -> None:
    """What else is missing may well stand there."""
    source, out = foreign_trees.by_hand(tmp_path / "source", **{".env": "V='"}), tmp_path / "out"
    out.mkdir()
    refused = ran(out, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    assert refused.count("\n") == 1
    assert f"{source}/.env: line 1" in refused


def test_what_the_operator_says_settles_what_cannot_be_told(tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    edited(source, ".env", "export LOG_LEVEL = WARNING", "LOG_LEVEL=$LEVEL")
    edited(source, ".env", "\nSSO_CLIENT_SECRET=" + "9d" * 32, "\nSSO_CLIENT_SECRET=other")
    assert (
        "sso_client_secret cannot be determined"
        in ran(out, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    )
    words = {"LOG_LEVEL": "ERROR", "SSO_CLIENT_SECRET": "9d" * 32, "SMTP_PASSWORD": "a newer one"}
    ran(out, "--adopt", str(source), "--yes", settings=words)
    assert {key: env_of(out)[key] for key in words} == words


def test_a_bound_secret_that_is_given_otherwise_is_refused(tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    refused = ran(out, "--adopt", str(source), "--yes", settings={"DB_PASSWORD": "hunter-number-2"}, code=1)
    assert "DB_PASSWORD is given" in refused.stderr
    assert "hunter" not in refused.stderr
    assert tree(out) == {}
    ran(out, "--adopt", str(source), "--yes", settings={"DB_PASSWORD": TEXTS["db_password"].strip()})
    assert secrets_of(out)["db_password"] == TEXTS["db_password"]


def test_another_deployment_is_not_overwritten(tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), deployed(tmp_path / "out")
    before = tree(out)
    refused = ran(out, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    assert ".secrets/db_password has another value than" in refused
    assert tree(out) == before


def test_a_changed_deployment_is_not_changed_back(tmp_path: Path) -> None:
    out = adopted("by_hand", tmp_path)
    ran(out, "--set", "LOG_LEVEL=ERROR", settings={})
    before = tree(out)
    refused = ran(out, "--adopt", str(tmp_path / "source"), "--yes", settings={}, code=4)
    assert "LOG_LEVEL" in refused.stderr
    assert tree(out) == before


def test_a_plain_run_says_how_such_a_deployment_is_taken_over(tmp_path: Path) -> None:
    out = foreign_trees.flat(tmp_path / "out")
    assert "--adopt" in ran(out, settings=REQUIRED, code=1).stderr


def test_a_deployment_of_ours_moves_with_its_answers(tmp_path: Path) -> None:
    settings = {**REQUIRED, "LOG_LEVEL": "DEBUG", "PRESET": "airgapped", "TLS_EXTRA_NAMES": "b.example"}
    source, out = deployed(tmp_path / "source", settings=settings), tmp_path / "out"
    out.mkdir()
    ran(out, "--adopt", str(source), "--yes", settings={})
    one, two = without_marks(tree(source)), without_marks(tree(out))
    assert {path for path in one.keys() | two.keys() if one.get(path) != two.get(path)} <= WHERE_FROM
    assert set(state(out)["answers"]) == set(settings)


def refused_elsewhere(source: Path, code: int) -> str:
    """What an adoption into an empty directory ends with; it has written nothing."""
    out, before = source.parent / "elsewhere", stamps(source)
    out.mkdir()
    words = ran(out, "--adopt", str(source), "--yes", settings={}, code=code).stderr
    assert ran(out, "--adopt", str(source), "--dry-run", settings={}, code=code).stderr == words
    assert (tree(out), stamps(source)) == ({}, before)
    return words


def self_signed(at: Path) -> Path:
    """Only the state tells that its certificate was made here, and with which authority."""
    return deployed(at, settings={**REQUIRED, "TLS_MODE": "self-signed"})


def comes_with_its_authority(source: Path, out: Path, *flags: str) -> None:
    ran(out, "--adopt", str(source), "--yes", *flags, settings={})
    assert [(out / path).read_bytes() for path in AUTHORITY] == [(source / path).read_bytes() for path in AUTHORITY]
    assert state(out)["answers"]["TLS_MODE"]["value"] == "self-signed"


def types_there(source: Path, command: str, outcome: str) -> None:
    assert f"({command})" in outcome
    subprocess.run(["sh", "-ec", command], cwd=source, check=True)


PUT_BACK = f"cp {LAST_GOOD} {STATE}"
# What becomes of the state -> the reason of the refusal.
LOST: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "emptied": (lambda path: path.write_bytes(b""), "this release does not know the format of this state file"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-5]), "a part of it is missing"),
    "gone": (Path.unlink, "it is missing"),
}


@pytest.mark.parametrize("how", LOST)
def test_a_deployment_that_lost_its_state_is_not_taken_for_one_made_by_hand(how: str, tmp_path: Path) -> None:
    """Otherwise it would be adopted without its settings and its authority."""
    source, (lose, reason) = self_signed(tmp_path / "source"), LOST[how]
    lose(source / STATE)
    outcome = refused_elsewhere(source, code=1)
    assert f"{source}/{STATE}: {reason}" in outcome
    types_there(source, PUT_BACK, outcome)
    comes_with_its_authority(source, tmp_path / "elsewhere")


def test_where_the_state_is_gone_the_last_good_one_comes_before_all_else(tmp_path: Path) -> None:
    """Older versions of the public tool, which stayed after an adoption in place, would speak in its stead."""
    source = foreign_trees.versioned(tmp_path / "source")
    ran(source, "--adopt", str(source), "--yes", settings={})
    (source / STATE).unlink()
    assert PUT_BACK in refused_elsewhere(source, code=1)
    assert PUT_BACK in ran(source, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    shutil.copytree(source, tmp_path / "bare", ignore=lambda _folder, names: {*names} - {LAST_GOOD})
    (tmp_path / "elsewhere").rmdir()
    assert PUT_BACK in refused_elsewhere(tmp_path / "bare", code=1)


@pytest.mark.parametrize("kept", [b"", b"hello", None])
def test_where_no_state_is_left_its_settings_are_given_beside_the_command(kept: bytes | None, tmp_path: Path) -> None:
    source = self_signed(tmp_path / "source")
    (source / STATE).write_bytes(b"")
    (source / LAST_GOOD).unlink() if kept is None else (source / LAST_GOOD).write_bytes(kept)
    outcome = refused_elsewhere(source, code=1)
    assert "Restore it there from a backup, or move" in outcome
    assert "give settings such as TLS_MODE beside the command" in outcome
    assert PUT_BACK not in outcome
    types_there(source, f"mv {STATE} {STATE}.broken" + f"; mv {LAST_GOOD} {LAST_GOOD}.broken" * bool(kept), outcome)
    comes_with_its_authority(source, tmp_path / "elsewhere", "--set", "TLS_MODE=self-signed")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("schema: 1", "schema: 99", "its schema is 99, this release knows 1: run the newer one"),
        ("  ENV_NAME:", "  NEXT:", "this release does not know its entry 'NEXT': correct it, or run the newer one"),
    ],
)
def test_for_the_state_of_a_newer_release_no_other_is_put_back(old: str, new: str, reason: str, tmp_path: Path) -> None:
    source = deployed(tmp_path / "source")
    edited(source, STATE, old, new)
    assert refused_elsewhere(source, code=1).splitlines()[0] == f"avatar-setup: {source}/{STATE}: {reason}"


@pytest.mark.parametrize("state", ["", None])
def test_a_last_good_state_that_cannot_be_used_is_not_offered(state: str | None, tmp_path: Path) -> None:
    source = deployed(tmp_path / "source")
    whole = (source / LAST_GOOD).read_text()
    if state is None:
        (source / STATE).unlink()
    else:
        (source / STATE).write_text(state)
    (source / LAST_GOOD).write_text(whole.replace("schema: 1", "schema: 99"))
    words = refused_elsewhere(source, code=1)
    assert "beside it cannot be used either: its schema is 99, this release knows 1: run the newer one" in words
    assert "mv " not in words
    (tmp_path / "elsewhere").rmdir()
    (source / LAST_GOOD).write_text(whole[:-5])
    words = refused_elsewhere(source, code=1)
    assert f"{LAST_GOOD} {LAST_GOOD}.broken" in words
    assert "cp " not in words


def test_a_last_good_state_of_others_stops_nothing(tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    (source / LAST_GOOD).write_text("items: {}\n")
    out.mkdir()
    ran(out, "--adopt", str(source), "--yes", settings={})


@pytest.mark.parametrize("output", ["file/below", "loop", "nowhere"])
def test_an_output_that_cannot_be_opened_is_not_said_of_the_source(output: str, tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / output
    (tmp_path / "file").write_text("of others")
    (tmp_path / "loop").symlink_to("loop")
    before = stamps(tmp_path)
    done = run(tmp_path, "--adopt", str(source), "--yes", "--output-dir", str(out), settings={})
    assert (done.returncode, stamps(tmp_path)) == (1, before)
    assert f"the output directory {out} cannot be opened" in done.stderr
    assert str(source) not in done.stderr


@pytest.mark.parametrize("call", ["openat", "newfstatat"])
@pytest.mark.slow
def test_a_directory_that_fails_while_it_is_looked_at_is_no_fault_of_the_program(call: str, tmp_path: Path) -> None:
    """Like a network share that fails once: at each access to the source, its files and the output."""
    require_strace()
    source, out = deployed(tmp_path / "source", settings={**REQUIRED, "TLS_MODE": "self-signed"}), tmp_path / "out"
    out.mkdir()
    adoption, log = ("--adopt", str(source), "--dry-run"), tmp_path / "trace"
    ran(out, *adoption, settings={}, code=3, prefix=("strace", "-qq", "-o", str(log), "-e", f"trace={call}"))
    calls = enumerate(log.read_text().splitlines(), start=1)
    looks = [number for number, line in calls if f'"{source}' in line or f'"{out}"' in line]
    assert len(looks) > 5
    for number in looks:
        inject = ("strace", "-qq", "-o", os.devnull, "-e", f"inject={call}:error=EDQUOT:when={number}")
        done = run(out, *adoption, settings={}, prefix=inject)
        assert done.returncode in (1, 3), f"{call} {number}: {done.stderr}"
        assert tree(out) == {}


def test_a_deployment_of_ours_that_is_half_restored_is_finished_first(tmp_path: Path) -> None:
    source = deployed(tmp_path / "source")
    ran(source, "--set", "LOG_LEVEL=DEBUG")
    (copy,) = os.listdir(source / ".deployment-history")
    (source / RESTORE_MARK).write_text(f"{copy}\n")
    words = refused_elsewhere(source, code=4)
    assert f"--restore {copy}" in words
    assert str(source) in words
    assert f"--restore {copy}" in ran(source, "--adopt", str(source), "--yes", settings={}, code=4).stderr


def test_a_deployment_of_ours_that_is_not_complete_is_finished_first(tmp_path: Path) -> None:
    source = deployed(tmp_path / "source")
    edited(source, STATE, "finalize: completed", "finalize: not-started")
    words = refused_elsewhere(source, code=1)
    assert f"{source} is not complete" in words
    assert "avatar-setup" in words
    ran(source, settings={})
    ran(tmp_path / "elsewhere", "--adopt", str(source), "--yes", settings={})


@pytest.mark.parametrize("made", [deployed, foreign_trees.by_hand])
def test_a_source_in_use_by_another_run_is_refused(made: Callable[[Path], Path], tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    (source / LOCK).touch()
    with holding(source / LOCK):
        assert f"{source}: another run is working" in refused_elsewhere(source, code=4)
    ran(tmp_path / "elsewhere", "--adopt", str(source), "--yes", settings={})


@pytest.mark.parametrize("bits", [0o600, 0o644])
def test_a_deployment_of_ours_moves_with_its_authority(bits: int, tmp_path: Path) -> None:
    """Clients trust it, and it has issued the certificate: neither is generated again, whatever the mode of the key."""
    settings = {**REQUIRED, "TLS_MODE": "self-signed", "TLS_EXTRA_NAMES": "b.example"}
    source, out = deployed(tmp_path / "source", settings=settings), tmp_path / "out"
    one = without_marks(tree(source))
    (source / "tls/private/avatar-ca.key").chmod(bits)
    out.mkdir()
    ran(out, "--adopt", str(source), "--yes", settings={})
    two = without_marks(tree(out))
    assert {path for path in one.keys() | two.keys() if one.get(path) != two.get(path)} <= WHERE_FROM
    assert {"tls/avatar-ca.crt", "tls/private/avatar-ca.key", "tls/private/server.decrypted.key"} <= two.keys()
    before = stamps(out)
    assert "Nothing to do" in ran(out, "--adopt", str(source), "--yes", settings={}).stdout
    assert "Nothing to do" in ran(out, settings={}).stdout
    assert stamps(out) == before


AUTHORITY = ("tls/avatar-ca.crt", "tls/private/avatar-ca.key")


@pytest.mark.parametrize("lost", ["folder", "files", "gone", "empty"])
def test_an_authority_that_cannot_be_read_is_not_generated(lost: str, tmp_path: Path) -> None:
    source = own(tmp_path)
    if lost == "folder":
        shutil.rmtree(source / "tls")
        (source / "tls").symlink_to(tmp_path / "nowhere")
    for path in AUTHORITY if lost != "folder" else ():
        (source / path).unlink()
        if lost == "files":
            (source / path).symlink_to(tmp_path / "nowhere")
        if lost == "empty":
            (source / path).touch()
    words = refused_elsewhere(source, code=1)
    for path in AUTHORITY:
        assert words.count(f"{source}/{path}") == 1


def test_an_authority_that_lost_its_key_is_not_adopted(tmp_path: Path) -> None:
    source = own(tmp_path)
    (source / "tls/private/avatar-ca.key").unlink()
    assert f"{source}/tls/private/avatar-ca.key is missing" in refused_elsewhere(source, code=1)


@pytest.mark.parametrize("path", ["tls/private/server.decrypted.key", "tls/private", "tls"])
def test_a_key_that_may_not_be_read_is_named(path: str, tmp_path: Path) -> None:
    require_root()
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    os.chown(source / path, 1000, 1000)
    (source / path).chmod(0o700)
    as_anybody = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    words = ran(out, "--adopt", str(source), "--yes", settings={}, prefix=as_anybody, code=1).stderr
    assert f"{source}/tls/private/server.decrypted.key: it cannot be read (permission denied)" in words
    assert tree(out) == {}


def test_a_certificate_behind_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    source = foreign_trees.by_hand(tmp_path / "source")
    shutil.rmtree(source / "tls")
    (source / "tls").symlink_to("old/tls")
    words = refused_elsewhere(source, code=1)
    assert f"{source}/tls/private/server.decrypted.key: it cannot be read" in words
    (source / "tls").unlink()
    ran(tmp_path / "elsewhere", "--adopt", str(source), "--yes", settings={})  # it may come later


def test_a_key_of_another_certificate_is_refused_at_once_and_mended_in_the_source(tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "elsewhere"
    path, other = source / "tls/private/server.decrypted.key", pki.issue("other.example", names=("other.example",))
    right = path.read_text()
    path.write_text(other.private().decode())
    words = refused_elsewhere(source, code=1)
    assert "./tls/private/server.decrypted.key is not the key of the first certificate" in words
    path.write_text(right)
    ran(out, "--adopt", str(source), "--yes", settings={})
    assert (out / "tls/private/server.decrypted.key").read_text() == right


@pytest.mark.parametrize("folder", ["./nginx/../certs/", "./certs//", "./none/.././certs/", "certs/./"])
def test_a_path_that_goes_round_names_the_same_file(folder: str, tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    (source / "tls").rename(source / "certs")
    names = ("server.fullchain.crt", "private/server.decrypted.key")
    words = (f"NGINX_SSL_CERTIFICATE_PATH={folder}{names[0]}", f"NGINX_SSL_CERTIFICATE_KEY_PATH={folder}{names[1]}")
    edited(source, ".env", "# by hand", "\n".join((*words, f"TLS_CA_PATH={folder}{names[0]}")))
    out.mkdir()
    ran(out, "--adopt", str(source), "--yes", settings={})
    assert not (out / "none").exists()
    for name in names:
        assert (out / "certs" / name).read_bytes() == (source / "certs" / name).read_bytes()
    assert state(out)["answers"]["NGINX_SSL_CERTIFICATE_PATH"]["value"] == f"./certs/{names[0]}"
    findings = json.loads(run(out, "--check", "--json", settings={}).stdout)["findings"]
    assert {one["level"] for one in findings if "certificate" in one["name"] or one["name"] == "authorities"} == {"ok"}
    assert "Nothing to do" in ran(out, "--adopt", str(source), "--yes", settings={}).stdout


@pytest.mark.parametrize("path", ["./tls/../../server.crt", "../server.crt", "/none/server.crt"])
def test_a_path_that_leads_elsewhere_stays_as_it_is(path: str, tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "old/source"), tmp_path / "out"
    edited(source, "docker-compose.yml", "- ./tls/server.fullchain.crt:", f"- {path}:")
    (source.parent / "server.crt").write_text("of others")
    out.mkdir()
    ran(out, "--adopt", str(source), "--yes", settings={})
    assert state(out)["answers"]["NGINX_SSL_CERTIFICATE_PATH"]["value"] == path


def test_a_private_authority_is_trusted_on(tmp_path: Path) -> None:
    """As the public tool does with a certificate that signs itself."""
    source, out = foreign_trees.versioned(tmp_path / "source"), tmp_path / "out"
    latest = ".deployment_states/v10/deployment_state.yaml"
    path = "./tls/server.fullchain.crt"
    edited(source, latest, "items:\n", f"items:\n  SELF_SIGNED_CERT_PATH:\n    source: system\n    value: {path}\n")
    out.mkdir()
    ran(out, "--adopt", str(source), "--yes", settings={})
    assert foreign_trees.tls()["tls/server.fullchain.crt"].strip() in (out / "tls/ca-bundle.crt").read_text()


@pytest.mark.parametrize("in_place", [True, False])
def test_a_private_authority_is_not_taken_from_the_bundle_that_is_written_here(in_place: bool, tmp_path: Path) -> None:
    """It would hold itself once more after every run, and no longer what stood there."""
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    authority = foreign_trees.tls()["tls/server.fullchain.crt"]
    (source / "tls/ca-bundle.crt").write_text(authority)
    edited(source, ".env", "# by hand", "TLS_CA_PATH=./tls/ca-bundle.crt")
    out.mkdir()
    place = source if in_place else out
    before = stamps(tmp_path)
    words = ran(place, "--adopt", str(source), "--yes", settings={}, code=1).stderr
    assert "TLS_CA_PATH=./tls/ca-bundle.crt: it is tls/ca-bundle.crt, which avatar-setup generates" in words
    assert "as in TLS_CA_PATH=./tls/ca.crt" in words
    assert stamps(tmp_path) == before
    (place / "tls").mkdir(exist_ok=True)
    (place / "tls/ca.crt").write_text(authority)
    ran(place, "--adopt", str(source), "--yes", "--set", "TLS_CA_PATH=./tls/ca.crt", settings={})
    assert (place / "tls/ca-bundle.crt").read_text().count(authority.strip()) == 1
    assert "Nothing to do" in ran(place, settings={}).stdout


@pytest.mark.parametrize("flags", [(), ("--with-secrets",)])
def test_the_configuration_file_is_written_too(flags: tuple[str, ...], tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    adopt = ("--adopt", str(source), "--yes", "--save-config", *flags)
    assert "+++ deployment-config.yaml" in ran(out, *adopt, "--dry-run", settings={}, code=3).stdout
    ran(out, *adopt, settings={})
    saved = (out / "deployment-config.yaml").read_text()
    assert f"SMTP_HOST: {ENV['SMTP_HOST']}" in saved.replace('"', "").replace("'", "")
    assert (TEXTS["db_password"].strip() in saved) == bool(flags)
    before = stamps(out)
    assert "Nothing to do" in ran(out, *adopt, settings={}).stdout
    assert stamps(out) == before
    ran(source, "--adopt", str(source), "--yes", settings={})
    ran(source, *adopt, settings={})  # there it is a run like any other
    assert (source / "deployment-config.yaml").exists()


def test_the_answer_as_data(tmp_path: Path) -> None:
    source, out = foreign_trees.by_hand(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    outcome = json.loads(ran(out, "--adopt", str(source), "--yes", "--json", settings={}).stdout)
    assert outcome["status"] == "complete"
    assert any("MAX_ALLOWED_LINES" in line for line in outcome["report"])
    assert json.loads(ran(out, "--adopt", str(source), "--yes", "--json", settings={}).stdout)["status"] == "unchanged"


def test_the_directory_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "without a path" in ran(tmp_path / "out", "--adopt", "", settings={}, code=2).stderr
    refused = ran(tmp_path / "out", "--adopt", str(tmp_path / "nowhere"), settings={}, code=1).stderr
    assert "nowhere cannot be read" in refused


@pytest.mark.docker
@pytest.mark.parametrize("name", MADE)
def test_compose_accepts_an_adopted_tree(name: str, tmp_path: Path) -> None:
    out = adopted(name, tmp_path)
    done = engine.docker("compose", "config", "--format", "json", cwd=out)
    assert done.stderr == b""
    api = json.loads(done.stdout)["services"]["api"]["environment"]
    assert api["SMTP_PASSWORD"].replace("$$", "$") == SHOWN["SMTP_PASSWORD"]
    assert api["SSO_CLIENT_SECRET"] == SHOWN["SSO_CLIENT_SECRET"]
    assert env_file(out)["AVATAR_AUTHENTIK_VERSION"] == ENV["AVATAR_AUTHENTIK_VERSION"]
    assert os.path.samefile(json.loads(done.stdout)["secrets"]["db_password"]["file"], out / ".secrets/db_password")
    assert {"db_password", "storage_encryption_key"} <= SECRETS.keys()


@pytest.mark.parametrize("name", MADE)
def test_a_preview_of_an_adoption_is_complete_and_writes_nothing(name: str, tmp_path: Path) -> None:
    source, out = made(name, tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    before = stamps(source)
    outcome = ran(out, "--adopt", str(source), "--dry-run", settings={}, code=3).stdout
    assert "Understood:" in outcome
    assert "+++ docker-compose.yml" in outcome
    assert [secret for secret, text in TEXTS.items() if len(text) > 12 and text in outcome] == []
    assert (list(out.iterdir()), stamps(source)) == ([], before)
    data = json.loads(ran(out, "--adopt", str(source), "--dry-run", "--json", settings={}, code=3).stdout)
    assert {row["name"] for row in data["secrets"]} >= set(TEXTS)
    ran(out, "--adopt", str(source), "--yes", settings={})
    assert "Nothing to do" in ran(out, "--adopt", str(source), "--dry-run", settings={}).stdout


def test_in_place_a_preview_of_an_adopted_deployment_writes_nothing(tmp_path: Path) -> None:
    out = deployed(tmp_path / "out")
    before, look = stamps(out), ("--adopt", str(out), "--dry-run")
    assert "Nothing to do" in ran(out, *look).stdout
    outcome = ran(out, *look, "--set", "LOG_LEVEL=DEBUG", code=3).stdout
    assert "LOG_LEVEL: INFO (default) -> DEBUG" in outcome
    assert "+++ .env" in outcome
    assert stamps(out) == before


def test_in_place_what_was_edited_since_is_not_replaced(tmp_path: Path) -> None:
    out = foreign_trees.by_hand(tmp_path / "out")
    again = ("--adopt", str(out), "--yes", "--set", "PUBLIC_URL=avatar.example.com:8443")
    ran(out, *again[:3], settings={})
    (out / "nginx/nginx.conf").write_text("# mine\n")
    kept = ran(out, *again, settings={}, code=4).stderr
    assert "nginx/nginx.conf" in kept
    assert (out / "nginx/nginx.conf").read_text() == "# mine\n"
    assert "avatar.example.com:8443" in (out / "nginx/nginx.conf.new").read_text()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """An adoption in place, and the calls that it makes on the volume."""
    require_strace()
    return rehearsed(cases.ADOPTION_IN_PLACE, tmp_path_factory.mktemp("adoption"))


def ended_at(scene: Scene, out: Path, call: str, number: int) -> int:
    """The exit code of that adoption, killed at the n-th of such calls where there are as many."""
    return scene.disturbed(
        out, *QUIET, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"
    ).returncode


@pytest.mark.slow
def test_in_place_a_preview_of_an_interrupted_adoption_writes_nothing(scene: Scene) -> None:
    for number in range(2, len([point for point in scene.points if point.call == "renameat"]), 5):
        with scene.copy() as out:
            assert ended_at(scene, out, "renameat", number) == -9
            before = stamps(out)
            outcome = ran(out, "--adopt", "out", "--dry-run", settings={}, code=3).stdout
            assert "would change" in outcome, number
            assert stamps(out) == before
            assert completes(scene, out) == []


@pytest.mark.slow
def test_in_place_a_second_interruption_is_mended_by_the_same_command_too(scene: Scene, tmp_path: Path) -> None:
    mended = ended = 0
    with scene.copy() as once:
        assert ended_at(scene, once, "fsync", 50) == -9
        for number in range(1, 80, 3):
            out = Path(shutil.copytree(once, tmp_path / str(number) / "out", symlinks=True))
            ended = ended_at(scene, out, "renameat", number)
            if ended != -9:
                break
            assert completes(scene, out) == []
            mended += 1
    assert (mended > 5, ended) == (True, 0)
