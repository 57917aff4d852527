"""`--diff`: what would change, with sources and without secrets; and nothing is written by it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from setup.config.secrets import SECRETS
from setup.deploy.redact import Redactor, lines_of
from setup.volume.layout import CONFIG
from tests.support import foreign_trees
from tests.support.canaries import BY_MAIL, Canary, canaries, environment, seen
from tests.support.runs import (
    LOCK,
    REQUIRED,
    ROOT,
    deployed,
    every_secret,
    holding,
    present,
    python,
    ran,
    require_root,
    require_strace,
    run,
    secrets,
    stamps,
    tree,
)

OTHER = {**REQUIRED, "PUBLIC_URL": "other.example.com"}
LOOKS = pytest.mark.parametrize("flag", ["--diff", "--dry-run"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return deployed(tmp_path / "out")


def looked(out: Path, *flags: str, code: int = 3, **options: object) -> dict[str, object]:
    """What `--diff --json` tells; it wrote nothing."""
    before = stamps(out)
    done = ran(out, "--diff", "--json", *flags, code=code, **options)
    assert stamps(out) == before
    answer = json.loads(done.stdout)
    assert answer["pending"] == (code in (3, 4))
    return answer


# --- it only looks ------------------------------------------------------------------------------


@pytest.mark.slow
@LOOKS
@pytest.mark.parametrize("settings", [REQUIRED, OTHER])
def test_a_look_opens_nothing_for_writing_and_takes_no_lock(
    out: Path, tmp_path: Path, flag: str, settings: dict[str, str]
) -> None:
    require_strace()
    log = tmp_path / "trace"
    calls = "openat,flock,mkdirat,renameat,unlinkat,linkat,ftruncate,fchmod,fsync,write,pwrite64"
    prefix = ("strace", "-f", "-qq", "-y", "-o", str(log), "-e", f"trace={calls}")
    with holding(out / LOCK):
        before = stamps(out)
        ran(out, flag, settings=settings, prefix=prefix, code=0 if settings is REQUIRED else 3)
        assert stamps(out) == before
    ours = [line for line in log.read_text().splitlines() if str(out) in line]
    assert ours
    assert not [line for line in ours if "openat(" not in line or "O_CREAT" in line or "O_WRONLY" in line]


@LOOKS
def test_a_look_at_an_empty_directory_shows_all_and_leaves_it_empty(tmp_path: Path, flag: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    done = ran(out, flag, code=3)
    assert tree(out) == {}
    assert "  PUBLIC_URL: (none) -> avatar.example.com (environment)" in done.stdout
    assert "--- /dev/null\n+++ docker-compose.yml\n" in done.stdout
    assert "+AUTHENTIK_API_TOKEN=(to be generated)" in done.stdout
    assert done.stdout.endswith("Nothing was written.\n")
    assert run(out, flag).stdout == done.stdout, "it is the same again, though secrets are generated anew"


def test_a_read_only_mount_can_be_looked_at(tmp_path: Path) -> None:
    require_root()
    out = deployed(tmp_path / "out")
    for settings, code in ((REQUIRED, 0), (OTHER, 3)):
        script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd / && shift && exec "$@"'
        prefix = ("unshare", "--mount", "sh", "-c", script, "sh", str(out))
        ran(out, "--diff", settings=settings, prefix=prefix, code=code)
    done = run(out, settings=OTHER, prefix=prefix)
    assert done.returncode == 1, "the mount was read-only"


def test_a_look_without_changes_loads_no_templates(out: Path) -> None:
    code = "import sys; from setup.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    loaded = python(code, "--output-dir", str(out), "--diff", cwd=out.parent).split()
    assert not {"jinja2", "difflib"} & set(loaded)


def test_a_second_look_after_the_run_finds_nothing(out: Path) -> None:
    looked(out, settings=OTHER)
    ran(out, settings=OTHER)
    assert looked(out, settings=OTHER, code=0) == {
        "pending": False,
        "reasons": [],
        "settings": [],
        "secrets": [],
        "files": [],
        "report": [],
        "problems": [],
    }
    assert "Nothing to do" in ran(out, "--diff", settings={}).stdout


# --- what it tells is what a run does -----------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        ("--set", "PUBLIC_URL=other.example.com"),
        ("--set", "LOG_LEVEL=DEBUG", "--save-config"),
        ("--set", "TLS_MODE=behind-proxy"),
        ("--preset", "dev-mode"),
        ("--reset",),
        ("--auth-type", "username", "--set", "AVATAR_API_VERSION=2.81"),
    ],
)
def test_the_files_it_names_are_those_a_run_writes(tmp_path: Path, flags: tuple[str, ...]) -> None:
    out = deployed(tmp_path / "out", settings={**REQUIRED, **every_secret()})
    settings = REQUIRED if "PUBLIC_URL=other.example.com" not in flags else {}
    answer = looked(out, *flags, settings=settings)
    before = present(out)
    ran(out, *flags, settings=settings)
    after = present(out)
    changed = {path for path in after if after[path] != before.get(path) and not path.startswith(".deployment-")}
    assert {row["path"] for row in answer["files"]} == {path for path in changed if not path.startswith(".secrets/")}
    assert {row["name"] for row in answer["secrets"]} == {path[9:] for path in changed if path.startswith(".secrets/")}


def test_a_setting_is_shown_with_its_old_and_new_source(out: Path) -> None:
    answer = looked(out, "--set", "LOG_LEVEL=DEBUG", settings=OTHER)
    rows = {row["key"]: (row["old"], row["new"]) for row in answer["settings"]}
    assert rows["LOG_LEVEL"] == ({"value": "INFO", "source": "default"}, {"value": "DEBUG", "source": "caller"})
    assert rows["PUBLIC_URL"][0] == {"value": "avatar.example.com", "source": "environment"}
    assert rows["AVATAR_DOMAIN"][1] == {"value": "other.example.com", "source": "default"}
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings=OTHER)
    answer = looked(out, "--unset", "LOG_LEVEL", settings={})
    assert [row["key"] for row in answer["settings"]] == ["LOG_LEVEL"]
    ran(out, "--set", "LOG_LEVEL=INFO", settings={})
    answer = looked(out, "--unset", "LOG_LEVEL", settings={})
    assert answer["settings"] == [
        {
            "key": "LOG_LEVEL",
            "old": {"value": "INFO", "source": "caller"},
            "new": {"value": "INFO", "source": "default"},
        }
    ]
    assert answer["files"] == []


def test_a_setting_that_no_longer_applies_is_told(out: Path) -> None:
    answer = looked(out, "--set", "TLS_MODE=behind-proxy")
    rows = {row["key"]: (row["old"], row["new"]) for row in answer["settings"]}
    assert rows["NGINX_SSL_CERTIFICATE_PATH"][1] is None
    assert rows["NGINX_HTTP_PORT"][0] is None


def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "release"
    shutil.copytree(ROOT / "setup", root / "setup", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "templates", root / "templates")
    return root


def released(root: Path, **versions: str) -> None:
    path = root / "setup" / "defaults.yaml"
    text = path.read_text()
    for key, version in versions.items():
        text = re.sub(rf"(?m)^  {key}: .*$", f'  {key}: "{version}"', text)
    path.write_text(text)


def test_a_new_release_says_which_versions_change(tmp_path: Path) -> None:
    root, out = checkout(tmp_path), tmp_path / "out"
    out.mkdir()
    released(root, AVATAR_AUTHENTIK_VERSION="2026.5.1")
    ran(out, "--set", "AVATAR_WEB_VERSION=0.68.0", root=root)
    released(root, AVATAR_AUTHENTIK_VERSION="2026.8.1", AVATAR_API_VERSION="3.99.10", AVATAR_WEB_VERSION="0.99.0")
    answer = looked(out, root=root)
    assert [(row["key"], row["old"]["value"], row["new"]["value"]) for row in answer["settings"]] == [
        ("AVATAR_API_VERSION", "3.20.1", "3.99.10"),
        ("AVATAR_AUTHENTIK_VERSION", "2026.5.1", "2026.8.1"),
    ]
    words = ran(out, root=root).stdout
    assert "Changed: AVATAR_API_VERSION: 3.20.1 -> 3.99.10 (default)\n" in words
    assert "Changed: AVATAR_AUTHENTIK_VERSION: 2026.5.1 -> 2026.8.1 (default)\n" in words
    assert "Changed: AVATAR_WEB_VERSION" not in words
    assert "Nothing to do" in ran(out, root=root).stdout


@pytest.mark.parametrize("recorded", [True, False])
def test_a_release_that_skips_a_line_of_authentik_is_refused_step_by_step(tmp_path: Path, recorded: bool) -> None:
    """What is deployed is known also where an older release has not recorded it."""
    root, out = checkout(tmp_path), tmp_path / "out"
    out.mkdir()
    released(root, AVATAR_AUTHENTIK_VERSION="2025.12.3")
    ran(out, root=root)
    if not recorded:
        shutil.rmtree(out / ".deployment-written")
    released(root, AVATAR_AUTHENTIK_VERSION="2026.8.4")
    for flags in ((), ("--diff",), ("--reset",)):
        before = stamps(out)
        done = ran(out, *flags, root=root, code=4)
        assert "The next stop is 2026.2: --set AVATAR_AUTHENTIK_VERSION=2026.2" in done.stderr
        assert stamps(out) == before
    for stop in ("2026.2", "2026.5", "2026.8"):
        ran(out, "--set", f"AVATAR_AUTHENTIK_VERSION={stop}", root=root)
    done = ran(out, "--unset", "AVATAR_AUTHENTIK_VERSION", root=root)
    assert "AVATAR_AUTHENTIK_VERSION: 2026.8 -> (default)" in done.stdout
    assert "AVATAR_AUTHENTIK_VERSION=2026.8.4\n" in (out / ".env").read_text()
    assert (
        "is older than the deployed 2026.8.4"
        in ran(out, "--set", "AVATAR_AUTHENTIK_VERSION=2026.5", root=root, code=4).stderr
    )


# --- edits by hand ------------------------------------------------------------------------------


def test_merged_kept_and_replaced_files_are_told_as_such(out: Path) -> None:
    env, nginx = out / ".env", out / "nginx" / "nginx.conf"
    env.write_text(env.read_text().replace("LOG_LEVEL=INFO", "LOG_LEVEL=DEBUG"))
    nginx.write_text(nginx.read_text() + "# mine\n")
    hows = {row["path"]: row["change"] for row in looked(out, settings=OTHER, code=4)["files"]}
    assert (hows[".env"], hows["nginx/nginx.conf.new"]) == ("merged", "kept")
    hows = {row["path"]: row["change"] for row in looked(out, "--on-conflict", "replace", settings=OTHER)["files"]}
    assert hows["nginx/nginx.conf"] == "replaced"
    before = stamps(out)
    assert "holds changes" in ran(out, "--diff", "--on-conflict", "fail", settings=OTHER, code=4).stderr
    assert stamps(out) == before


@pytest.mark.parametrize("on_conflict", ["keep", "replace"])
def test_it_names_each_new_text_that_a_run_writes_or_removes(out: Path, on_conflict: str) -> None:
    env, nginx = out / ".env", out / "nginx/nginx.conf"
    env.write_text(env.read_text().replace("AVATAR_DOMAIN=avatar", "AVATAR_DOMAIN=mine"))
    nginx.write_text(nginx.read_text() + "# mine\n")
    ran(out, settings=OTHER, code=4)
    shutil.copy(out / ".env.new", env)
    settings, flags = OTHER | {"PUBLIC_URL": "third.example.com"}, ("--on-conflict", on_conflict)
    code = 4 if on_conflict == "keep" else 0
    shown = ran(out, "--diff", *flags, settings=settings, code=code or 3).stdout
    rows = looked(out, *flags, settings=settings, code=code or 3)["files"]
    before = present(out)
    done = ran(out, *flags, settings=settings, code=code)
    after = present(out)
    removed = before.keys() - after.keys()
    written = {path for path in after if after[path] != before.get(path) and not path.startswith(".deployment-")}
    assert {row["path"] for row in rows if row["change"] == "removed"} == removed
    assert {row["path"] for row in rows if row["change"] != "removed"} == written
    assert "  .env.new (removed)\n" in shown
    assert "note: .env.new was removed: .env has the generated text\n" in done.stderr
    if on_conflict == "keep":
        assert removed == {".env.new"}
        assert "--- nginx/nginx.conf\n+++ nginx/nginx.conf.new\n" in shown


# --- no secret shows ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_secret_shows_and_equal_values_show_alike(tmp_path: Path, form: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first, second = canaries(), canaries()
    settings = BY_MAIL | environment(first)
    looks = [run(out, "--diff", *form, settings=settings)]
    ran(out, settings=settings)
    changed = BY_MAIL | {name: text for name, text in environment(second).items() if name == "SMTP_PASSWORD"}
    looks.append(run(out, "--diff", *form, settings=changed))
    (out / ".env").write_text(
        (out / ".env").read_text() + f"MINE={second['db_password'].text}\n# {second['pepper'].text}\n"
    )
    (out / "nginx/nginx.conf").write_text(f"# {first['db_password'].text}\n" + (out / "nginx/nginx.conf").read_text())
    looks.append(run(out, "--diff", *form, "--on-conflict", "replace", settings=changed | {"LOG_LEVEL": "DEBUG"}))
    looks.append(run(out, "--diff", *form, "--set", "TLS_EXTRA_NAMES=b.example.com", settings=changed))
    for number, done in enumerate(looks, 1):
        assert done.returncode == (4 if number == len(looks) else 3), "the last one leaves an edit to decide"
        for wanted in (first, second):
            assert seen(done.stdout + done.stderr, wanted) == set()
    assert looks[1].stdout.count("SMTP_PASSWORD=(") == 2
    assert len(set(re.findall(r"SMTP_PASSWORD=(\([0-9a-f]{12}\))", looks[1].stdout))) == 2
    assert "(given)" in looks[0].stdout


FILED = ("--save-config", "--with-secrets")
SMTP = "SMTP_PASSWORD"
BY_HAND = {
    "plain": "{}: {}\n",
    "quoted": '{}: "{} \\"x"\n',
    "a block": "{}: |\n  {}\n  {}\n",
    "over two lines": '{}: "{}\n  {}"\n',
    "a comment": "# {}: {}\n",
    "no setting": "# {} is {}\n",
}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_secret_shows_of_a_configuration_file_that_holds_them(tmp_path: Path, form: tuple[str, ...]) -> None:
    """Not of one that is made, changes, was edited by hand, or is brought back."""
    out = tmp_path / "out"
    out.mkdir()
    first, second, theirs = canaries(), canaries(), {"smtp_password": Canary("Canary77", "canary77")}
    settings = BY_MAIL | environment(first)
    changed = BY_MAIL | {SMTP: environment(second)[SMTP]}
    config = out / CONFIG
    looks = [run(out, "--diff", *FILED, *form, settings=settings), run(out, "--diff", *FILED, *form, settings=BY_MAIL)]
    ran(out, settings=settings)
    looks.append(run(out, "--diff", *FILED, *form, settings=BY_MAIL))
    ran(out, *FILED, settings=BY_MAIL)
    looks.append(run(out, "--diff", *form, settings=changed))
    looks.append(run(out, "--rotate", "sessions", "--dry-run", *form, settings=BY_MAIL))
    ran(out, settings=changed)
    made = {name: Canary(text, text) for name, text in secrets(out).items() if SECRETS[name].masked}
    newest = json.loads(ran(out, "--history", "--json", settings={}).stdout)["copies"][0]["id"]
    looks.append(run(out, "--restore", newest, "--diff", *form, settings={}))
    whole = config.read_text()
    for shape in BY_HAND.values():
        edited = shape.format(SMTP, *["Canary77"] * 2)
        config.write_text(re.sub(rf"(?m)^{SMTP}: .*\n", lambda _: edited, whole))  # noqa: B023
        edits = ("--on-conflict", "replace", "--set", "LOG_LEVEL=DEBUG")
        looks.append(run(out, "--diff", *edits, *form, settings=changed))
    for done in looks:
        assert done.returncode == 3, done.stderr
        assert not re.search("[0-9a-f]{20}", done.stdout), "a secret that would be generated"
        for wanted in (first, second, theirs, made):
            assert seen(done.stdout + done.stderr, wanted) == set(), done.stdout
    for done in looks[:2]:
        assert "+DB_PASSWORD: (" in done.stdout
    assert "+DB_PASSWORD: (to be generated)" in looks[1].stdout
    for done in (looks[3], looks[5]):
        assert len(set(re.findall(rf"[-+]{SMTP}: (\([0-9a-f]{{12}}\))", done.stdout))) == 2
    assert "+SMTP_HOST: " in looks[0].stdout
    assert "mail.example.com" in looks[0].stdout.partition("+SMTP_HOST: ")[2][:30]


# --- lines of other people ----------------------------------------------------------------------

FOREIGN = """\
  mine:
    image: canary77/image:1
    command: ["--password=canary77", "--port=80"]
    environment: {DATABASE_URL: "postgres://me:canary77@db/"}
"""


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_of_lines_that_are_not_ours_only_the_number_shows(tmp_path: Path, form: tuple[str, ...]) -> None:
    out, edited = foreign_trees.by_hand(tmp_path / "adopted"), deployed(tmp_path / "edited")
    (out / "docker-compose.yml").write_text(f"{foreign_trees.COMPOSE}{FOREIGN}")
    for path in ("docker-compose.yml", "nginx/nginx.conf", ".env"):
        ours = (edited / path).read_text()
        (edited / path).write_text(f"# foreign canary77\n{ours}{FOREIGN}")
    for done in (
        run(out, "--adopt", str(out), "--dry-run", *form, settings={}),
        run(edited, "--diff", "--on-conflict", "replace", "--set", "TLS_EXTRA_NAMES=b.example.com", *form),
    ):
        assert done.returncode == 3, done.stderr
        shown = done.stdout + done.stderr
        assert seen(shown, {"theirs": Canary("canary77", "canary77")}) == set(), shown
        assert "-1: (a line not written by avatar-setup)" in shown


def test_lines_of_ours_show_before_and_after(out: Path) -> None:
    done = ran(out, "--diff", settings=OTHER, code=3)
    assert "-AVATAR_DOMAIN=avatar.example.com\n" in done.stdout
    assert "+AVATAR_DOMAIN=other.example.com\n" in done.stdout
    assert "not written by avatar-setup" not in done.stdout


def test_lines_of_another_that_stay_are_no_difference(out: Path) -> None:
    """They are compared by what they say, though only their number shows, which may move."""
    env = out / ".env"
    env.write_text(f"# mine\n{env.read_text()}MINE=canary77\n")
    done = ran(out, "--diff", "--set", "LOG_LEVEL=DEBUG", code=3)
    assert "-LOG_LEVEL=INFO\n+LOG_LEVEL=DEBUG\n" in done.stdout
    assert not re.search(r"(?m)^[-+]\d+: ", done.stdout)
    assert "canary77" not in done.stdout


def test_a_line_that_was_edited_does_not_show(out: Path) -> None:
    env = out / ".env"
    env.write_text(env.read_text().replace("LOG_LEVEL=INFO", "LOG_LEVEL=INFO  # canary77"))
    for flags in (("--set", "LOG_LEVEL=DEBUG"), ("--set", "IS_SENTRY_ENABLED=false")):
        done = ran(out, "--diff", "--on-conflict", "replace", *flags, code=3)
        assert "canary77" not in done.stdout
        assert re.search(r"(?m)^[- ]\d+: \(a line not written by avatar-setup\)$", done.stdout)


KEYED = {"storage_encryption_key": "0123456789abcdef" * 4}


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\v"])
@pytest.mark.parametrize("path", [".env", CONFIG])
def test_no_part_of_a_secret_counts_as_a_line(path: str, separator: str) -> None:
    text = f"first{separator}canary77"
    line = f"SMTP_PASSWORD='{text}'" if path == ".env" else f'SMTP_PASSWORD: "{text}"'
    lines = Redactor(KEYED, {}).lines(path, f"{line}\n".encode(), lines_of(line.encode()))
    assert len(lines.shown) == 1
    assert "canary77" not in lines.shown[0]


@pytest.mark.parametrize("line", ["RETIRED_KEY=canary77", "SMTP_PASSWORD=canary77"])
def test_a_key_of_ours_that_is_no_setting_counts_as_secret(line: str) -> None:
    """Another release may have written a secret that this one does not know."""
    lines = Redactor(KEYED, {}).lines(".env", line.encode(), [line])
    assert re.fullmatch(rf"{line.partition('=')[0]}=\([0-9a-f]{{12}}\)", lines.shown[0])


# --- fingerprints -------------------------------------------------------------------------------


def test_fingerprints_are_stable_and_tell_values_apart() -> None:
    there = {"storage_encryption_key": "0123456789abcdef" * 4, "smtp_password": "pw"}
    redactor = Redactor(there, {"smtp_password": "other"})
    assert redactor.secret("smtp_password", "pw") == Redactor(there, {}).secret("smtp_password", "pw\n")
    assert len({redactor.secret(name, text) for name in ("smtp_password", "pepper") for text in ("pw", "other")}) == 4
    assert redactor.secret("smtp_password", "pw") != Redactor(there | {"storage_encryption_key": "f" * 64}, {}).secret(
        "smtp_password", "pw"
    )
    assert redactor.lines(".env", b"SMTP_PASSWORD=pw\n", ["SMTP_PASSWORD=pw"]).shown == (
        f"SMTP_PASSWORD={redactor.secret('smtp_password', 'pw')}",
    )


def test_without_a_key_of_the_deployment_there_is_no_fingerprint() -> None:
    """A hash without a key would let a short password be guessed."""
    redactor = Redactor({}, {"smtp_password": "pw"})
    assert redactor.secret("smtp_password", "pw") == "(given)"


@pytest.mark.parametrize("path", ["tls/private/server.decrypted.key", "authentik/branding/brand_logo.png"])
def test_keys_and_pictures_are_told_by_fingerprint(path: str) -> None:
    redactor = Redactor(KEYED, {})
    [line] = redactor.lines(path, b"\0-----BEGIN PRIVATE KEY-----\nhunter2\n", ()).shown
    assert "hunter2" not in line
    assert line != redactor.lines(path, b"\0-----BEGIN PRIVATE KEY-----\nhunter3\n", ()).shown[0]


# --- wrong usage and trouble --------------------------------------------------------------------


def test_a_look_at_bad_inputs_names_them_all(out: Path) -> None:
    before = stamps(out)
    done = ran(out, "--diff", "--set", "LOG_LEVEL=LOUD", "--set", "SMTP_PORT=x", "--unset", "NO_SUCH", code=1)
    assert all(word in done.stderr for word in ("LOG_LEVEL='LOUD'", "SMTP_PORT='x'", "NO_SUCH"))
    assert stamps(out) == before


def test_a_look_at_a_deployment_that_lost_a_secret_says_so(out: Path) -> None:
    (out / ".secrets" / "db_password").unlink()
    assert ".secrets/db_password had a value" in ran(out, "--diff", code=1).stderr


def test_the_preview_of_every_command_has_one_shape(out: Path) -> None:
    ran(out, "--set", "LOG_LEVEL=DEBUG", settings={})
    [backup] = json.loads(ran(out, "--history", "--json", settings={}).stdout)["copies"]
    shapes = []
    for flags in ((), ("--set", "LOG_LEVEL=INFO"), ("--rotate", "sessions"), ("--restore", backup["id"])):
        code = 3 if flags else 0
        data = json.loads(ran(out, *flags, "--diff", "--json", settings={}, code=code).stdout)
        shapes.append({key: type(value) for key, value in data.items()})
    assert shapes == shapes[:1] * 4
