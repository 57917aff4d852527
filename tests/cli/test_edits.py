"""What an operator changed by hand survives: left alone, merged, kept beside the new text, or given up on purpose."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from setup.formats.dotenv import MARKER
from tests.support.runs import (
    DATED,
    REQUIRED,
    STATE,
    WRITTEN,
    deployed,
    env_file,
    ran,
    rewritten,
    run,
    secrets,
    stamps,
    tree,
)

OTHER = ("--set", "PUBLIC_URL=other.example.com")
NGINX = "nginx/nginx.conf"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def copies(out: Path) -> list[Path]:
    return sorted((out / DATED).glob("2*"))


def nothing_to_do(out: Path, *flags: str) -> str:
    """A run that finds nothing to do and changes nothing; its notes."""
    before = stamps(out)
    done = ran(out, *flags, settings={})
    assert "Nothing to do" in done.stdout
    assert stamps(out) == before
    return done.stderr


def test_an_unchanged_run_says_what_check_says_of_the_lines_of_the_operator(tmp_path: Path) -> None:
    given = {"TLS_MODE": "self-signed", "ORGANIZATION_NAME": "Example", "SMTP_PASSWORD": "a password"}
    out = deployed(tmp_path / "ready", settings=REQUIRED | given)
    assert ran(out, settings={}).stdout == "Nothing to do: the configuration is complete and unchanged.\n"
    with (out / ".env").open("a") as file:
        file.write("MINE=1\n")
    assert ran(out, settings={}).stdout == "Nothing to do: the configuration is complete and unchanged.\n"
    with (out / ".env").open("a") as file:
        file.write("this is no line of a .env file\n")
    checked = ran(out, "--check", settings={}, code=3).stdout
    shown = ran(out, settings={}).stdout
    assert "Missing before the stack can start:" in shown
    assert shown.splitlines()[-1] == checked.splitlines()[-1]


# --- only one side changed ----------------------------------------------------------------------


@pytest.mark.parametrize("path", [".env", NGINX, "docker-compose.yml", "authentik/branding/brand_logo.png"])
def test_an_edited_file_whose_rendering_did_not_change_is_left_alone(out: Path, path: str) -> None:
    data = b"MINE=1\n" + (out / path).read_bytes()
    (out / path).write_bytes(data)
    assert f"note: {path} was edited by hand and is left unchanged" in nothing_to_do(out)
    ran(out, "--set", "AVATAR_SEAWEEDFS_LOG_VERBOSITY=1" if path != ".env" else "TLS_EXTRA_NAMES=a.example.com")
    assert (out / path).read_bytes() == data


@pytest.mark.parametrize("flags", [(), OTHER, ("--reset",), (*OTHER, "--on-conflict", "replace")])
def test_the_documented_places_for_additions_are_never_touched(out: Path, flags: tuple[str, ...]) -> None:
    block = b"MINE=1\n# a comment, and no end of line: \xc3\xa9\r\nLOG_LEVEL=DEBUG"
    with (out / ".env").open("ab") as file:
        file.write(block)
    mine = {"compose.override.yaml": "services: {}\n", "nginx/conf.d/mine.conf": "# mine\n"}
    for path, text in mine.items():
        (out / path).parent.mkdir(exist_ok=True)
        (out / path).write_text(text)
    before = {path: (out / path).stat() for path in mine}
    done = ran(out, *flags)
    assert "by hand" not in done.stderr
    assert (out / ".env").read_bytes().partition(b"\n" + MARKER)[2] == block
    assert {path: (out / path).stat()[:9] for path in mine} == {path: status[:9] for path, status in before.items()}
    nothing_to_do(out)


def test_an_addition_that_outranks_what_a_run_changes_is_told(out: Path) -> None:
    with (out / ".env").open("ab") as file:
        file.write(b"LOG_LEVEL=ERROR\nMINE=1\n")
    output = "note: .env: a line of yours below the mark sets LOG_LEVEL too, and the last line counts: remove it"
    notes = ran(out, "--set", "LOG_LEVEL=DEBUG").stderr.splitlines()
    assert [note for note in notes if "below the mark" in note] == [output]


def test_the_check_tells_who_can_mend_a_stale_secret(out: Path) -> None:
    """A run never touches the operator's lines: to advise one would lead nowhere."""
    with (out / ".env").open("ab") as file:
        file.write(b"SSO_CLIENT_SECRET=mine\n")
    nothing_to_do(out)
    output = " ".join(ran(out, "--check", code=3).stdout.split())
    assert output.count("env-stale") == 1
    assert "SSO_CLIENT_SECRET (from .secrets/sso_client_secret) do: remove your lines with these keys" in output


def test_additions_survive_where_the_env_file_was_written_without_the_mark(out: Path) -> None:
    """A tree of an older release: its last line is no mark, and its hash is of that."""
    old = (out / ".env").read_bytes().removesuffix(b"\n" + MARKER)
    edit(out / STATE, sha256((out / ".env").read_bytes()).hexdigest(), sha256(old).hexdigest())
    (out / ".env").write_bytes(old)
    ran(out, *OTHER)
    assert (out / ".env").read_bytes().endswith(b"\n" + MARKER)
    nothing_to_do(out)


# --- both sides changed -------------------------------------------------------------------------


def test_an_edited_env_file_is_merged_by_key(out: Path) -> None:
    kept = secrets(out)
    edit(out / ".env", "LOG_LEVEL=INFO\n", "# louder\nLOG_LEVEL=DEBUG\nMINE=1\n")
    edit(out / ".env", "SMTP_PORT=587\n", "")
    before = stamps(out)
    done = ran(out, *OTHER)
    assert done.stderr == "note: .env was edited by hand: it now has your changes and the new ones\n"
    now = env_file(out)
    assert now["AVATAR_DOMAIN"] == "other.example.com"
    assert (now["LOG_LEVEL"], now["MINE"], now.get("SMTP_PORT")) == ("DEBUG", "1", None)
    assert "# louder\n" in (out / ".env").read_text()
    assert (out / ".env").stat().st_mode & 0o777 == 0o600
    assert secrets(out) == kept
    assert rewritten(before, stamps(out)) >= {".env", NGINX}
    assert "LOG_LEVEL=DEBUG" in (copies(out)[0] / ".env").read_text()
    assert ".env was edited by hand" in nothing_to_do(out)
    ran(out, "--set", "PUBLIC_URL=third.example.com")
    assert (env_file(out)["AVATAR_DOMAIN"], env_file(out)["MINE"]) == ("third.example.com", "1")


def test_an_edit_that_becomes_the_rendering_is_ours_again(out: Path) -> None:
    edit(out / ".env", "LOG_LEVEL=INFO\n", "LOG_LEVEL=DEBUG\n")
    ran(out, "--set", "LOG_LEVEL=DEBUG")
    assert nothing_to_do(out) == ""
    ran(out, "--set", "LOG_LEVEL=ERROR")
    assert env_file(out)["LOG_LEVEL"] == "ERROR"


def conflicting(out: Path) -> dict[str, bytes]:
    """Three files that were edited where the run below changes them as well."""
    edit(out / ".env", "AVATAR_DOMAIN=avatar.example.com", "AVATAR_DOMAIN=mine.example.com")
    edit(out / NGINX, "worker_processes auto;", "worker_processes 3;")
    edit(out / "docker-compose.yml", "retries: 12", "retries: 13")
    return {path: (out / path).read_bytes() for path in (".env", NGINX, "docker-compose.yml")}


@pytest.mark.parametrize("flags", [(), ("--on-conflict", "keep"), ("--on-conflict", "ask")])
def test_kept_files_have_their_new_text_beside_them(out: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    mine = conflicting(out)
    with (out / ".env").open("a") as file:
        file.write("MINE=1\n")
    done = ran(out, *OTHER, *flags, code=4)
    wanted = tree(
        deployed(
            tmp_path / "wanted",
            settings={"PUBLIC_URL": "other.example.com", "ENV_NAME": "example-prod", "SMTP_HOST": "mail.example.com"},
        )
    )
    for path, data in mine.items():
        assert f"{path} holds changes of yours and was left unchanged; its new text is in {path}.new" in done.stderr
        assert (out / path).read_bytes() == data + (b"MINE=1\n" if path == ".env" else b"")
        assert (out / f"{path}.new").stat().st_mode == (out / path).stat().st_mode
    assert (out / f"{NGINX}.new").read_bytes() == wanted[NGINX][1]
    beside = (out / ".env.new").read_text()
    assert "AVATAR_DOMAIN=other.example.com\n" in beside and beside.endswith(MARKER.decode() + "MINE=1\n")
    assert "Everything else is done" in done.stderr
    notes = nothing_to_do(out)
    for path in mine:
        assert f"{path} was edited by hand and is left unchanged; its new text is in {path}.new" in notes
    (out / ".env.new").rename(out / ".env")
    (out / f"{NGINX}.new").rename(out / NGINX)
    (out / "docker-compose.yml.new").rename(out / "docker-compose.yml")
    assert nothing_to_do(out) == ""


def test_replaced_files_stand_in_the_dated_copy(out: Path) -> None:
    mine = conflicting(out)
    done = ran(out, *OTHER, "--on-conflict", "replace")
    assert "by hand" not in done.stderr
    [copy] = copies(out)
    for path, data in mine.items():
        assert (copy / path).read_bytes() == data
        assert (out / path).read_bytes() != data
    assert env_file(out)["AVATAR_DOMAIN"] == "other.example.com"
    assert nothing_to_do(out) == ""


@pytest.mark.parametrize("target, main", [("compose", "docker-compose.yml"), ("swarm", "stack.yml")])
def test_a_new_text_that_was_kept_beside_a_file_goes_once_the_file_is_replaced(
    out: Path, target: str, main: str
) -> None:
    ran(out, "--set", f"TARGET={target}", settings={})
    paths = (".env", NGINX, main)
    edit(out / ".env", "AVATAR_DOMAIN=avatar.example.com", "AVATAR_DOMAIN=mine.example.com")
    for path in (NGINX, main):
        with (out / path).open("a") as file:
            file.write("# mine\n")
    ran(out, *OTHER, settings={}, code=4)
    assert all((out / f"{path}.new").exists() for path in paths)
    with (out / f"{NGINX}.new").open("a") as file:
        file.write("# mine as well\n")
    ran(out, "--set", "PUBLIC_URL=third.example.com", "--on-conflict", "replace", settings={})
    assert [path for path in paths if (out / f"{path}.new").exists()] == [NGINX]
    assert "Nothing to do" in ran(out, settings={}).stdout


@pytest.mark.parametrize("changes", [False, True], ids=["nothing else to do", "a change"])
def test_a_new_text_goes_once_its_file_has_no_edit_any_more(out: Path, changes: bool) -> None:
    """Except if it holds an edit of its own; and a run that only tidies up needs no backup."""
    conflicting(out)
    ran(out, *OTHER, settings={}, code=4)
    for path in (".env", NGINX, "docker-compose.yml"):
        shutil.copy(out / f"{path}.new", out / path)
    with (out / ".env").open("a") as file:
        file.write("MINE=1\n")
    edit(out / "docker-compose.yml.new", "retries: 12", "retries: 14")
    saved, flags = copies(out), ("--set", "LOG_LEVEL=DEBUG") if changes else ()
    shown = ran(out, "--diff", *flags, settings={}, code=3).stdout
    done = ran(out, *flags, settings={})
    for path in (".env", NGINX):
        assert f"  {path}.new (removed)\n" in shown
        assert f"Changed: {path}.new is no longer needed: {path} has the generated text\n" in done.stdout
        assert f"note: {path}.new was removed: {path} has the generated text\n" in done.stderr
        assert not (out / f"{path}.new").exists()
    assert "retries: 14" in (out / "docker-compose.yml.new").read_text()
    assert (out / ".env").read_text().endswith("MINE=1\n")
    assert (copies(out) != saved) == changes
    assert nothing_to_do(out) == ""


@pytest.mark.parametrize("undo", [False, True])
def test_a_new_text_goes_once_the_setting_and_the_edit_are_both_undone(out: Path, undo: bool) -> None:
    original = (out / NGINX).read_bytes()
    (out / NGINX).write_bytes(original + b"# mine\n")
    ran(out, *OTHER, settings={}, code=4)
    if undo:
        (out / NGINX).write_bytes(original)
    back = ("--set", "PUBLIC_URL=avatar.example.com")
    rows = json.loads(ran(out, *back, "--diff", "--json", settings={}, code=3 if undo else 4).stdout)["files"]
    rows = [(row["path"], row["change"]) for row in rows if row["path"].startswith("nginx/")]
    assert rows == [(f"{NGINX}.new", "removed" if undo else "kept")]
    ran(out, *back, settings={}, code=0 if undo else 4)
    assert (out / f"{NGINX}.new").exists() is not undo


def test_a_restore_removes_the_new_text_of_other_settings_and_its_undo_brings_it_back(out: Path) -> None:
    """Except if it holds an edit of its own."""
    conflicting(out)
    ran(out, *OTHER, settings={}, code=4)
    edit(out / "docker-compose.yml.new", "retries: 12", "retries: 14")
    [copy], before = copies(out), tree(out)
    shown = ran(out, "--restore", copy.name, "--diff", settings={}, code=3).stdout
    done = ran(out, "--restore", copy.name, settings={})
    for path in (".env", NGINX):
        assert f"  {path}.new (removed)\n" in shown and f"  {path}.new (removed)\n" in done.stdout
        assert not (out / f"{path}.new").exists()
        assert f"note: {path} was edited by hand and is left unchanged\n" in nothing_to_do(out)
    assert "retries: 14" in (out / "docker-compose.yml.new").read_text()
    ran(out, "--restore", copies(out)[-1].name, settings={})
    assert all(tree(out)[f"{path}.new"] == before[f"{path}.new"] for path in (".env", NGINX))


@pytest.mark.parametrize("on_conflict, code", [("keep", 4), ("replace", 0)])
def test_a_new_text_is_known_after_another_engine_was_in_use(out: Path, on_conflict: str, code: int) -> None:
    with (out / "docker-compose.yml").open("a") as file:
        file.write("# mine\n")
    ran(out, *OTHER, settings={}, code=4)
    ran(out, "--set", "TARGET=swarm", settings={})
    back = ("--set", "TARGET=compose", "--set", "PUBLIC_URL=third.example.com", "--on-conflict", on_conflict)
    ran(out, *back, settings={}, code=code)
    beside = out / "docker-compose.yml.new"
    assert "third.example.com" in beside.read_text() if code else not beside.exists()


@pytest.mark.parametrize("on_conflict", ["replace", "keep"])
def test_lines_of_the_operator_in_a_new_text_are_never_lost(out: Path, on_conflict: str) -> None:
    """Below the mark, what avatar-setup knows of a file does not tell an edit."""
    edit(out / ".env", "AVATAR_DOMAIN=avatar.example.com", "AVATAR_DOMAIN=mine.example.com")
    ran(out, *OTHER, settings={}, code=4)
    with (out / ".env.new").open("a") as file:
        file.write("MINE=1\n")
    another = ("--set", "PUBLIC_URL=third.example.com") if on_conflict == "replace" else ("--set", "LOG_LEVEL=DEBUG")
    ran(out, *another, "--on-conflict", on_conflict, settings={})
    assert (out / ".env.new").read_text().endswith("\nMINE=1\n")


@pytest.mark.parametrize("path", [".env", NGINX])
def test_an_edited_new_text_is_never_overwritten(out: Path, path: str) -> None:
    """It can be in no backup, so the run asks for a decision before it writes anything."""
    edit(out / ".env", "AVATAR_DOMAIN=avatar.example.com", "AVATAR_DOMAIN=mine.example.com")
    with (out / NGINX).open("a") as file:
        file.write("# mine\n")
    ran(out, *OTHER, settings={}, code=4)
    edit(out / f"{path}.new", "other.example.com", "edited.example.com")
    before = tree(out)
    for words in ((), ("--on-conflict", "keep")):
        refused = ran(out, "--set", "PUBLIC_URL=third.example.com", *words, settings={}, code=4).stderr
        assert f"{out}/{path}.new holds changes that are nowhere else" in refused
        assert f"(rm {path}.new)" in refused
        assert tree(out) == before
    (out / f"{path}.new").unlink()
    ran(out, "--set", "PUBLIC_URL=third.example.com", settings={}, code=4)
    assert "third.example.com" in (out / f"{path}.new").read_text()


def test_what_is_no_new_text_of_ours_stops_no_run(out: Path) -> None:
    (out / f"{NGINX}.new").mkdir()
    (out / ".env.new").symlink_to(".env")
    ran(out, *OTHER, settings={})
    assert (out / f"{NGINX}.new").is_dir()
    assert (out / ".env.new").is_symlink()


@pytest.mark.parametrize("flags", [OTHER, ("--reset", *OTHER)])
def test_fail_writes_nothing_and_names_every_file(out: Path, flags: tuple[str, ...]) -> None:
    mine = conflicting(out)
    before = stamps(out)
    done = ran(out, *flags, "--on-conflict", "fail", code=4)
    for path in mine:
        assert f"{path} holds changes that avatar-setup did not write and would be overwritten" in done.stderr
    assert "--on-conflict keep" in done.stderr and "--on-conflict replace" in done.stderr
    assert stamps(out) == before


def test_a_saved_configuration_that_was_edited_is_named_before_anything_is_written(out: Path) -> None:
    ran(out, "--save-config")
    (out / "deployment-config.yaml").write_text("PUBLIC_URL: mine.example.com\n")
    before = stamps(out)
    done = ran(out, *OTHER, "--on-conflict", "fail", code=4)
    assert "deployment-config.yaml holds changes" in done.stderr
    assert stamps(out) == before


def test_without_the_text_that_was_written_last_nothing_is_merged(out: Path) -> None:
    edit(out / ".env", "LOG_LEVEL=INFO\n", "LOG_LEVEL=DEBUG\n")
    (out / WRITTEN / ".env").write_text("LOG_LEVEL=INFO\n")  # not what the state knows
    ran(out, *OTHER, code=4)
    assert env_file(out)["LOG_LEVEL"] == "DEBUG"
    assert (out / ".env.new").exists()


def test_an_env_file_that_compose_would_misread_is_kept(out: Path) -> None:
    edit(out / ".env", "LOG_LEVEL=INFO\n", "LOG_LEVEL='INFO\n")
    ran(out, *OTHER, code=4)
    assert (out / ".env.new").exists()


# --- files that were never ours -----------------------------------------------------------------


def foreign(out: Path) -> Path:
    out.mkdir()
    (out / "docker-compose.yml").write_text("services: {}\n")
    return out


def test_a_foreign_file_stops_a_first_run_unless_somebody_decides(tmp_path: Path) -> None:
    out = foreign(tmp_path / "fresh")
    before = stamps(out)
    done = ran(out, code=4)
    assert "docker-compose.yml holds changes that avatar-setup did not write" in done.stderr
    assert stamps(out) == before
    ran(out, "--on-conflict", "keep", code=4)
    assert (out / "docker-compose.yml").read_text() == "services: {}\n"
    assert "octopize-avatar" in (out / "docker-compose.yml.new").read_text()


def test_a_foreign_file_that_is_replaced_stands_in_a_dated_copy(tmp_path: Path) -> None:
    out = foreign(tmp_path / "fresh")
    ran(out, "--on-conflict", "replace")
    [copy] = copies(out)
    assert (copy / "docker-compose.yml").read_text() == "services: {}\n"
    assert nothing_to_do(out) == ""


@pytest.mark.parametrize("word", ["", "KEEP", "yes"])
def test_another_word_is_refused(out: Path, word: str) -> None:
    done = run(out, "--on-conflict", word)
    assert done.returncode == 2
    assert "--on-conflict wants one of ask, keep, replace, fail" in done.stderr


@pytest.mark.parametrize("beside", [False, True], ids=["no proposal yet", "its bytes are there"])
def test_a_preview_of_a_kept_edit_ends_as_the_run_does(out: Path, beside: bool) -> None:
    nginx = out / "nginx/nginx.conf"
    nginx.write_text(nginx.read_text().replace("listen 443", "listen 444"))
    flags = ("--set", "PUBLIC_URL=b.example.com")
    if beside:
        copy = shutil.copytree(out, out.parent / "copy")
        ran(copy, *flags, settings={}, code=4)
        shutil.copy(copy / "nginx/nginx.conf.new", nginx.with_name("nginx.conf.new"))
    preview = ran(out, *flags, "--diff", settings={}, code=4)
    assert "nginx/nginx.conf holds changes of yours and would be left unchanged" in preview.stderr
    data = json.loads(ran(out, *flags, "--diff", "--json", settings={}, code=4).stdout)
    assert len(data["problems"]) == 1 and data["pending"]
    assert "was left unchanged" in ran(out, *flags, settings={}, code=4).stderr
