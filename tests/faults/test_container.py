"""Whose files a run as root writes, and whether a volume is there at all: real processes with real identities."""

from __future__ import annotations

import functools
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from setup.environment import shell_word
from tests.support.runs import (
    OPERATORS,
    REQUIRED,
    ROOT,
    SITE_PACKAGES,
    environment,
    lacking,
    leftovers,
    paths,
    require_root,
    secrets,
)

UID, GID = 1234, 2345


@functools.cache
def anyones_python() -> str:
    """An interpreter that a process may still use after it has become another user."""
    code = "import os, encodings, yaml, jinja2; os.listdir(os.path.dirname(os.__file__))"
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        drop = ["setpriv", "--reuid", str(UID), "--regid", str(GID), "--clear-groups"]
        done = subprocess.run([*drop, python, "-c", code], env={"PYTHONPATH": SITE_PACKAGES}, check=False, cwd="/")
        reachable = all(os.stat(folder).st_mode & stat.S_IXOTH for folder in Path(python).resolve().parents)
        if done.returncode == 0 and reachable:
            return python
    return ""


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """The program where every user can read it."""
    require_root()
    if not anyones_python():
        lacking("no Python interpreter with PyYAML and Jinja2 that every user may run")
    with tempfile.TemporaryDirectory(prefix="avatar-setup-") as folder:
        os.chmod(folder, 0o755)
        for name in ("setup", "templates"):
            shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(folder)


@pytest.fixture
def out(checkout: Path) -> Iterator[Path]:
    """A directory of somebody else's."""
    with tempfile.TemporaryDirectory(prefix="avatar-setup-out-") as folder:
        os.chmod(folder, 0o755)
        volume = Path(folder, "out")
        volume.mkdir()
        os.chown(volume, UID, GID)
        yield volume


def started(
    checkout: Path, out: Path, *flags: str, prefix: tuple[str, ...] = (), settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A run of the command line by root, or by whom `prefix` makes of it."""
    env = environment(settings, checkout)
    env["PYTHONPATH"] += f":{SITE_PACKAGES}"
    return subprocess.run(
        [*prefix, anyones_python(), "-P", "-m", "setup", "--output-dir", str(out), *flags],
        env=env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def owners(out: Path) -> set[tuple[int, int]]:
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in paths(out)}


def as_user(uid: int, gid: int) -> tuple[str, ...]:
    return ("setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups")


# --- whose files --------------------------------------------------------------------------------


def test_root_becomes_the_owner_of_the_directory(checkout: Path, out: Path) -> None:
    done = started(checkout, out)
    assert done.returncode == 0, done.stderr
    assert owners(out) == {(UID, GID)}
    assert f"(owner {UID}:{GID})" in done.stdout
    assert "sudo" not in done.stdout
    assert len(secrets(out)) > 20
    assert started(checkout, out).returncode == 0


def test_puid_and_pgid_override(checkout: Path, out: Path) -> None:
    out.chmod(0o777)
    done = started(checkout, out, settings={**REQUIRED, "PUID": "4321", "PGID": "5432"})
    assert done.returncode == 0, done.stderr
    assert owners(out) == {(4321, 5432)}


def test_puid_alone_keeps_the_directorys_group(checkout: Path, out: Path) -> None:
    out.chmod(0o775)
    done = started(checkout, out, settings={**REQUIRED, "PUID": "4321"})
    assert done.returncode == 0, done.stderr
    assert owners(out) == {(4321, GID)}


def test_root_may_stay_root_by_name(checkout: Path, out: Path) -> None:
    done = started(checkout, out, settings={**REQUIRED, "PUID": "0", "PGID": "0"})
    assert done.returncode == 0, done.stderr
    assert owners(out) == {(0, 0)}


def test_root_stays_root_in_its_own_directory(checkout: Path, out: Path) -> None:
    os.chown(out, 0, 0)
    done = started(checkout, out)
    assert done.returncode == 0, done.stderr
    assert owners(out) == {(0, 0)}
    assert (
        "  sudo docker compose up -d\n"
        in started(checkout, out, settings={**REQUIRED, **OPERATORS, "TLS_MODE": "off"}).stdout
    )


def test_nothing_of_root_is_kept(checkout: Path, out: Path) -> None:
    """Neither a way back nor a group: what the process is after the change, from the process itself."""
    code = (
        "import json, os, sys\n"
        "from setup.environment import become_owner\n"
        "become_owner(sys.argv[1], {})\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "kept = [status[key].strip() for key in ('Uid', 'Gid', 'Groups', 'CapEff', 'CapPrm')]\n"
        "try:\n"
        "    os.setuid(0)\n"
        "except PermissionError:\n"
        "    kept.append('no way back')\n"
        "print(json.dumps(kept))\n"
    )
    env = {"PYTHONPATH": str(checkout)}
    words = ["setpriv", "--groups", "4,27", anyones_python(), "-c", code, str(out)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True, cwd="/")
    uid, gid, groups, effective, permitted, way_back = json.loads(done.stdout)
    assert uid.split() == [str(UID)] * 4
    assert gid.split() == [str(GID)] * 4
    assert groups == ""
    assert int(effective, 16) == int(permitted, 16) == 0
    assert way_back == "no way back"


def test_another_user_is_respected(checkout: Path, out: Path) -> None:
    os.chown(out, 777, 777)
    done = started(checkout, out, prefix=as_user(777, 777), settings={**REQUIRED, "PUID": "1", "PGID": "1"})
    assert done.returncode == 0, done.stderr
    assert owners(out) == {(777, 777)}


def test_another_user_in_a_foreign_directory_is_told_the_command(checkout: Path, out: Path) -> None:
    done = started(checkout, out, prefix=as_user(777, 777), settings={})
    assert done.returncode == 1
    assert f"not writable for user 777 (it belongs to {UID}:{GID})" in done.stderr
    assert f"--user {UID}:{GID}" in done.stderr
    assert "PUBLIC_URL" not in done.stderr
    assert paths(out) == []


@pytest.mark.parametrize("dropped", ["-setuid,-setgid", "-setuid", "-setgid", "-all"])
def test_without_the_capabilities_the_way_out_is_told_and_nothing_written(
    checkout: Path, out: Path, dropped: str
) -> None:
    done = started(checkout, out, prefix=("setpriv", "--bounding-set", dropped))
    assert done.returncode == 1, done.stderr
    assert f"{out} belongs to {UID}:{GID}, and this container cannot become {UID}:{GID}" in done.stderr
    assert f"docker run --user {UID}:{GID}" in done.stderr
    assert "--cap-add SETUID --cap-add SETGID" in done.stderr
    assert paths(out) == []


def test_without_the_capabilities_roots_own_directory_is_no_matter(checkout: Path, out: Path) -> None:
    os.chown(out, 0, 0)
    assert started(checkout, out, prefix=("setpriv", "--bounding-set", "-all")).returncode == 0
    assert owners(out) == {(0, 0)}


def test_an_owner_that_does_not_exist_in_this_namespace_is_no_fault_of_ours(checkout: Path, out: Path) -> None:
    """Rootless engines: the kernel refuses an unmapped id with another error than a missing capability."""
    prefix = ("unshare", "--user", "--map-root-user")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are switched off here")
    done = started(checkout, out, prefix=prefix)
    assert done.returncode == 1
    assert "internal error" not in done.stderr
    assert "cannot become" in done.stderr
    assert paths(out) == []


@pytest.mark.parametrize("text", ["ada", "-1", "1.5", "4294967295", "99999999999", " ", "1 2", "٣"])
@pytest.mark.parametrize("name", ["PUID", "PGID"])
def test_an_identity_that_is_no_number_is_named(checkout: Path, out: Path, name: str, text: str) -> None:
    for prefix in ((), as_user(777, 777)) if text == "ada" else ((),):
        done = started(checkout, out, settings={**REQUIRED, name: text}, prefix=prefix)
        assert done.returncode == 1
        assert f"{name}=" in done.stderr
        assert f"{name}=1000" in done.stderr
        assert paths(out) == []


def test_what_only_root_may_read_is_read_before_rights_are_given_up(checkout: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # mode 0700, root's
        password = Path(folder, "password")
        password.write_text("only root reads me\n")
        password.chmod(0o400)
        config = Path(folder, "config.yaml")
        config.write_text("LOG_LEVEL: DEBUG\n")
        settings = {**REQUIRED, "SMTP_HOST": "mail.example.com", "SMTP_PASSWORD_FILE": str(password)}
        done = started(checkout, out, "--config", str(config), settings=settings)
    assert done.returncode == 0, done.stderr
    assert secrets(out)["smtp_password"] == "only root reads me"
    assert owners(out) == {(UID, GID)}


def test_a_status_as_root_reads_as_the_owner(checkout: Path, out: Path) -> None:
    assert started(checkout, out).returncode == 0
    done = started(checkout, out, "--status", settings={})
    assert done.returncode == 0
    assert owners(out) == {(UID, GID)}


def test_services_can_read_their_secrets_and_other_users_cannot(checkout: Path, out: Path) -> None:
    assert started(checkout, out).returncode == 0
    secret = out / ".secrets" / "db_password"
    for path in (secret, out / ".env", out / ".deployment-state.yaml"):
        refused = subprocess.run([*as_user(777, 777), "cat", str(path)], capture_output=True, check=False)
        assert refused.returncode != 0, path
    mounted = ("unshare", "--mount", "sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh")
    read = subprocess.run(
        [*mounted, str(secret), "/etc/hostname", *as_user(777, 777), "cat", "/etc/hostname"],
        capture_output=True,
        check=False,
    )
    assert read.stdout == secret.read_bytes(), "a mount of the file itself, as compose makes it"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o644
    assert leftovers(out) == []


# --- a volume ------------------------------------------------------------------------------------


def on_the_root_file_system() -> Path:
    """A new directory that lies on no mount but the root's."""
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()} - {"/"}
    for folder in ("/var/tmp", "/opt", "/"):
        if not any(str(Path(folder, "x")).startswith(f"{mount}/") for mount in mounts):
            return Path(tempfile.mkdtemp(prefix="avatar-setup-", dir=folder))
    pytest.skip("every directory to write in lies on a mount of its own")


@pytest.fixture
def plain(checkout: Path) -> Iterator[Path]:
    folder = on_the_root_file_system()
    yield folder
    shutil.rmtree(folder)


IN_THE_IMAGE = {**REQUIRED, "AVATAR_SETUP_IMAGE": "1"}
BIND = ("unshare", "--mount", "sh", "-c", 'mount --bind "$1" "$1" && shift && exec "$@"', "sh")


def test_in_the_image_a_run_without_a_volume_is_refused_before_anything_else(checkout: Path, plain: Path) -> None:
    for flags in ((), ("--status",), ("--set", "LOG_LEVEL=LOUD")):
        done = started(checkout, plain, *flags, settings={**IN_THE_IMAGE, "PUBLIC_URL": "not a host"})
        assert done.returncode == 1
        assert f"no volume is mounted at {plain}" in done.stderr
        assert f"docker run -it --rm -v /app/avatar:{plain} avatar-setup" in done.stderr
        assert "LOG_LEVEL" not in done.stderr and "PUBLIC_URL" not in done.stderr
        assert paths(plain) == []


def test_outside_the_image_any_directory_will_do(checkout: Path, plain: Path) -> None:
    assert started(checkout, plain).returncode == 0


def test_a_volume_of_the_same_file_system_as_the_root_is_one(checkout: Path, plain: Path) -> None:
    """As with storage drivers that keep a container's root and the volumes on one file system."""
    done = started(checkout, plain, settings=IN_THE_IMAGE, prefix=(*BIND, str(plain)))
    assert done.returncode == 0, done.stderr


def test_a_directory_below_a_volume_will_do(checkout: Path, plain: Path) -> None:
    below = plain / "one deployment"
    below.mkdir()
    done = started(checkout, below, settings=IN_THE_IMAGE, prefix=(*BIND, str(plain)))
    assert done.returncode == 0, done.stderr
    assert (below / "docker-compose.yml").exists()


def test_a_volume_with_a_blank_in_its_name_is_one(checkout: Path, plain: Path) -> None:
    named = plain / "a volume"
    named.mkdir()
    assert started(checkout, named, settings=IN_THE_IMAGE, prefix=(*BIND, str(named))).returncode == 0


def test_help_and_version_need_no_volume(checkout: Path, plain: Path) -> None:
    for flag in ("--help", "--version"):
        assert started(checkout, plain / "missing", flag, settings=IN_THE_IMAGE).returncode == 0


@pytest.mark.parametrize(
    "text", ["/app/avatar", "", " ", "it's", "a b", "$HOME", "~", "`id`", "*", "é", "a\nb", "-n", "\\", "!!"]
)
def test_a_word_for_the_shell_is_one_word_there(text: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"printf '<%s>' {shell_word(text)}"], env={"HOME": "/nowhere"}, capture_output=True, check=True
    )
    assert done.stdout.decode() == f"<{text}>"
