"""Odd and hostile volumes, through the real program: nothing leads outside, nobody reads along, what lacks is named."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import disks
from tests.support.engine import docker
from tests.support.runs import (
    LAST_GOOD,
    LOCK,
    REQUIRED,
    ROOT,
    STAGED,
    STATE,
    WRITTEN,
    by_meaning,
    deployed,
    every_secret,
    lacking,
    leftovers,
    paths,
    present,
    ran,
    require_root,
    require_strace,
    run,
    secrets,
    tree,
    without_marks,
)
from tests.torture.injection import in_parallel, mislabelled

SERVICE, OTHER = 1000, 1001  # the user a service runs as, and one who has no business here

GIVEN = {**REQUIRED, **every_secret()}
CHANGED = {**GIVEN, "PUBLIC_URL": "other.example.com", "ORGANIZATION_NAME": "Other"}
WITH_KEYS = {"TLS_MODE": "self-signed"}  # certificates and their keys are written as well


def as_user(uid: int, *words: str) -> list[str]:
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", *words]


def anyones_interpreter() -> str:
    """A Python that every user may run."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        words = as_user(OTHER, python, "-c", "import json, select")
        if subprocess.run(words, capture_output=True, check=False, cwd="/").returncode == 0:
            return python
    lacking("no Python interpreter that every user may run (apt-get install python3)")
    return ""


def require(*programs: str) -> None:
    require_root()
    try:
        disks.require(*programs)
    except disks.Lacking as error:
        lacking(str(error))


def beneath(source: str, target: Path, *options: str) -> tuple[str, ...]:
    """What goes before a command that finds `source` mounted at `target`, and nobody else does."""
    mount = shlex.join(["mount", *options, source, str(target)])
    return ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder to which every user finds the way; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="avatar-setup-volumes-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def out(reachable: Path) -> Path:
    folder = reachable / "out"
    folder.mkdir(mode=0o755)
    return folder


# --- who can read along -------------------------------------------------------------------------

# Reads what it can reach below a folder, over and over, until its input is closed; then tells what it got.
SPY = """\
import json, os, select, sys
top, names = sys.argv[1], json.loads(sys.argv[2])
got = set()
while not select.select([sys.stdin], [], [], 0)[0]:
    found = {os.path.join(folder, name) for folder, _, files in os.walk(top) for name in files}
    for path in found | {os.path.join(top, name) for name in names}:
        try:
            with open(path, "rb") as file:
                file.read(1)
            got.add(os.path.relpath(path, top))
        except OSError:
            pass
print(json.dumps(sorted(got)))
"""

OPEN_ACLS = ("default:user:1001:rwx", "default:other::rwx", "default:mask::rwx")


@pytest.mark.parametrize(
    ("umask", "acls"), [(0o000, ()), (0o022, ()), (0o077, ()), (0o777, ()), (0o000, OPEN_ACLS), (0o777, OPEN_ACLS)]
)
def test_nobody_reads_along_at_any_moment(out: Path, umask: int, acls: tuple[str, ...]) -> None:
    require("setfacl")
    require_strace()
    for acl in acls:
        subprocess.run([disks.program("setfacl"), "-m", acl, str(out)], check=True)
    # Names that the spy need not find first, in the places where they are and where they are written.
    hidden = [f".secrets/{name.lower()}" for name in every_secret()]
    hidden += [f".secrets/.{name.lower()}{STAGED}" for name in every_secret()]
    hidden += ["tls/private/avatar-ca.key", "tls/private/server.decrypted.key"]
    names = [*hidden, STATE, LAST_GOOD, ".env", LOCK]
    slow = ("strace", "-f", "-qq", "-o", os.devnull, "-e", "inject=fsync,fchmod:delay_enter=15000")
    spying = as_user(OTHER, anyones_interpreter(), "-c", SPY, str(out), json.dumps(names))
    with subprocess.Popen(spying, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, text=True) as spy:
        ran(out, settings=GIVEN | WITH_KEYS, prefix=slow, umask=umask)
        ran(out, "--save-config", settings=CHANGED | WITH_KEYS, prefix=slow, umask=umask)
        got = json.loads(spy.communicate("")[0])
    assert {"docker-compose.yml", "nginx/nginx.conf"} <= set(got), "the spy sees what is public"
    public = ("docker-compose.yml", "nginx/", "authentik/", "tls/", f".docker-compose.yml{STAGED}")
    assert [path for path in got if not path.startswith(public) or path.startswith("tls/private/")] == []
    assert len(secrets(out)) > 20
    for name in ("db_password", "authentik_secret_key"):
        for_the_service = beneath(str(out / ".secrets" / name), Path("/etc/hostname"), "--bind")
        words = [*for_the_service, *as_user(SERVICE, "cat", "/etc/hostname")]
        read = subprocess.run(words, capture_output=True, check=False)
        assert read.stdout.decode() == secrets(out)[name], "a service reads the file that compose mounts for it"


# --- obstacles at every path that is written ----------------------------------------------------


def written(tmp_path: Path) -> list[str]:
    """Every file that a run may write, with the temporary names of some."""
    made = deployed(tmp_path / "reference", "--save-config", settings=GIVEN | WITH_KEYS)
    names = [str(path.relative_to(made)) for path in paths(made) if path.is_file()]
    return [*names, f".env{STAGED}", f".deployment-state.yaml{STAGED}", f".secrets/.db_password{STAGED}"]


def place(path: Path, kind: str) -> None:
    """Puts something that is no regular file at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: reading it has no end
    elif kind == "a directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryDirectory() as short:
            server.bind(f"{short}/s")
            os.rename(f"{short}/s", path)


KINDS = ("a pipe", "a device", "a directory", "a socket")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_by_name_at_every_path(reachable: Path, kind: str) -> None:
    require_root()
    names = written(reachable)[KINDS.index(kind) % 2 :: 2]  # two kinds at each path

    def check(name: str) -> Iterator[str]:
        out = reachable / name.replace("/", "-") / "out"
        out.mkdir(parents=True)
        place(out / name, kind)
        before = tree(out)
        done = run(out, "--save-config", settings=GIVEN | WITH_KEYS)
        if name.endswith(STAGED) and kind != "a directory":  # it is ours to remove
            if done.returncode or leftovers(out):
                yield f"ended with {done.returncode}: {done.stderr}"
            return
        if done.returncode != 1 or done.stderr.count("\n") != 1 or name.removesuffix(STAGED) not in done.stderr:
            yield f"ended with {done.returncode}: {done.stderr}"
        if not any(words in done.stderr for words in ("move it away", "replace it", "remove it", "run the same")):
            yield f"does not say what to type: {done.stderr}"
        if {path for path, one in tree(out).items() if one != before.get(path)} - {LOCK}:
            yield f"left something behind: {sorted(tree(out).keys() - before.keys())}"

    assert in_parallel(check, names) == []
    assert len(names) >= 20


def outside(top: Path, inside: Path) -> dict[str, tuple[object, ...]]:
    """All that a write could change about what lies beside the volume: bytes, modes, owners, times."""
    found = {}
    for path in (one for one in paths(top) if not one.is_relative_to(inside)):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (data, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
    return found


@pytest.mark.parametrize("flags", [(), ("--reset",)], ids=["change", "reset"])
def test_files_with_a_second_name_outside_are_replaced_and_not_written(reachable: Path, flags: tuple[str, ...]) -> None:
    """Every file of a deployment is a hard link to one outside: the next run gives it a new file instead."""
    out = deployed(reachable / "out", "--save-config", settings=GIVEN)
    for path in (one for one in paths(out) if one.is_file() and one.name != LOCK):
        target = reachable / "canary" / path.relative_to(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    before = outside(reachable, out)
    ran(out, "--save-config", *flags, settings=CHANGED)
    assert outside(reachable, out) == before
    assert "other.example.com" in (out / ".env").read_text()
    assert secrets(out)["organization_name"] == "Other"
    assert len(before) > 40


def test_a_lock_with_a_second_name_is_refused_before_anything_changes(reachable: Path) -> None:
    out = deployed(reachable / "out", settings=GIVEN)
    os.link(out / LOCK, reachable / "canary")
    (reachable / "canary").write_text("mine")
    before = tree(out), outside(reachable, out)
    refused = ran(out, settings=CHANGED, code=1)
    assert f"{LOCK} has other names" in refused.stderr and "remove it" in refused.stderr
    assert (tree(out), outside(reachable, out)) == before


BYTES = ("nothing", "other bytes", "a state")


@pytest.mark.parametrize("kind", BYTES)
def test_files_with_a_second_name_outside_in_a_new_volume(reachable: Path, kind: str) -> None:
    """Whatever bytes they bring: none of them is written to, and a refusal leaves nothing else behind."""
    reference = deployed(reachable / "reference", settings=GIVEN | WITH_KEYS)
    data = {"nothing": b"", "other bytes": b"mine", "a state": (reference / STATE).read_bytes()}[kind]
    names = [str(path.relative_to(reference)) for path in paths(reference) if path.is_file()]
    names = [STATE, LAST_GOOD, LOCK] if kind == "a state" else names[BYTES.index(kind) :: 2]

    def check(name: str) -> Iterator[str]:
        here = reachable / name.replace("/", "-")
        out, canary = here / "out", here / "canary"
        (out / name).parent.mkdir(parents=True)
        canary.write_bytes(data)
        os.link(canary, out / name)
        before, inside = outside(here, out), tree(out)
        done = run(out, settings=GIVEN | WITH_KEYS)
        if outside(here, out) != before:
            yield f"wrote outside, and ended with {done.returncode}: {done.stderr}"
        if done.returncode not in (0, 1, 4):
            yield f"ended with {done.returncode}: {done.stderr}"
        if done.returncode and tree(out) != inside:
            yield f"ended with {done.returncode} and left {sorted(tree(out).keys() - inside.keys())}: {done.stderr}"

    assert in_parallel(check, names) == []


# --- immutable files, other owners, mounts ------------------------------------------------------


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system that knows immutable files."""
    require("mkfs.ext4", "chattr")
    folder = tmp_path_factory.mktemp("ext4")
    with disks.mounted(disks.made("ext4", folder / "image"), folder / "mounted", "-o", "loop") as point:
        yield point


def torn(out: Path, before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """The files that are neither as before a run nor as after it; the state tells where it stopped."""
    now = {path: one for path, one in present(out).items() if not path.startswith(STATE) and not path.endswith(STAGED)}
    return [
        path
        for path in before.keys() | now.keys()
        if not path.startswith(STATE) and now.get(path) not in (before.get(path), after.get(path))
    ]


def attribute(change: str, path: Path) -> None:
    subprocess.run([disks.program("chattr"), change, str(path)], check=True)


@pytest.mark.parametrize("flag", ["i", "a"])
@pytest.mark.parametrize(
    "name",
    [".env", STATE, LAST_GOOD, LOCK, "docker-compose.yml", ".secrets/organization_name", ".", ".secrets", "nginx"],
)
def test_what_is_immutable_is_named_with_the_way_out_and_the_next_run_completes(
    ext4: Path, tmp_path: Path, name: str, flag: str
) -> None:
    out = ext4 / "out"
    deployed(out, settings=GIVEN)
    undisturbed = deployed(tmp_path / "after", settings=GIVEN)  # a copy of `out`, so with the same key of the labels
    ran(undisturbed, settings=CHANGED)
    before, after = present(out), present(undisturbed)
    attribute(f"+{flag}", out / name)
    try:
        refused = run(out, settings=CHANGED)
    finally:
        attribute(f"-{flag}", out / name)
    try:
        assert refused.returncode == 1, refused.stderr
        assert re.search(rf"{re.escape(str(out / name))}(/\S+)? (cannot be|is not)", refused.stderr), refused.stderr
        assert "chattr -i -a" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert torn(out, before, after) == []
        ran(out, settings=CHANGED)
        assert leftovers(out) == []
        assert present(out).keys() == after.keys()
    finally:
        shutil.rmtree(out)


def test_secrets_on_a_mount_of_their_own(reachable: Path, out: Path) -> None:
    """An encrypted one, say: they are written there, closed to others, and nothing is written below it."""
    require("mount")
    (reachable / "elsewhere").mkdir(mode=0o777)
    (out / ".secrets").mkdir()
    done = run(out, settings=GIVEN, prefix=beneath(str(reachable / "elsewhere"), out / ".secrets", "--bind"))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((reachable / "elsewhere").stat().st_mode) == 0o700
    assert (reachable / "elsewhere" / "db_password").read_text() == GIVEN["DB_PASSWORD"]
    assert list((out / ".secrets").iterdir()) == []


def test_secrets_on_a_mount_that_is_read_only_are_named_and_the_next_run_completes(tmp_path: Path) -> None:
    require("mount")
    out, after = deployed(tmp_path / "out", settings=GIVEN), tree(deployed(tmp_path / "after", settings=CHANGED))
    read_only = beneath(str(out / ".secrets"), out / ".secrets", "--bind", "-o", "ro")
    before = present(out)
    refused = run(out, settings=CHANGED, prefix=read_only)
    assert refused.returncode == 1, refused.stderr
    assert f"{out}/.secrets" in refused.stderr and "read-only" in refused.stderr and "without :ro" in refused.stderr
    assert torn(out, before, after) == []
    ran(out, settings=CHANGED)
    assert present(out).keys() == after.keys()


@pytest.mark.parametrize("name", [".env", STATE, ".secrets/organization_name"])
def test_a_single_file_that_is_mounted_is_named_and_the_next_run_completes(
    reachable: Path, tmp_path: Path, name: str
) -> None:
    """Docker makes one of `-v FILE:/out/NAME`; a rename cannot replace it, and writing it in place could tear it."""
    require("mount")
    out, after = deployed(reachable / "out", settings=GIVEN), tree(deployed(tmp_path / "after", settings=CHANGED))
    shutil.copy2(out / name, reachable / "outside")
    before, beside = present(out), outside(reachable, out)
    refused = run(out, settings=CHANGED, prefix=beneath(str(reachable / "outside"), out / name, "--bind"))
    assert refused.returncode == 1, refused.stderr
    assert f"{out}/{name} " in refused.stderr and "it is a mount point" in refused.stderr
    assert leftovers(out) == []
    assert outside(reachable, out) == beside
    assert torn(out, before, after) == []
    ran(out, settings=CHANGED)
    assert present(out).keys() == after.keys()


# --- volumes with less --------------------------------------------------------------------------


def less(out: Path, *rules: str, settings: Mapping[str, str] = GIVEN) -> subprocess.CompletedProcess[str]:
    """A run on a file system that lacks what these rules take away."""
    require_strace()
    taken = [word for rule in rules for word in ("-e", f"inject={rule}")]
    return run(out, settings=settings, prefix=("strace", "-f", "-qq", "-o", os.devnull, *taken))


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOSYS", "EXDEV", "EMLINK"])
def test_without_hard_links_all_is_as_with_them_and_a_warning_says_so(tmp_path: Path, error: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for settings in (GIVEN, CHANGED):
        done = less(out, f"linkat:error={error}", settings=settings)
        assert done.returncode == 0, done.stderr
        expected = deployed(tmp_path / settings["PUBLIC_URL"], settings=GIVEN)
        if settings is CHANGED:
            ran(expected, settings=CHANGED)
        assert without_marks(present(out)) == without_marks(present(expected))
        assert done.stderr.count("the volume's file system promises less") == (settings is GIVEN)


def test_without_hard_links_a_killed_run_is_finished_and_keeps_its_secrets(tmp_path: Path) -> None:
    """The second way to publish a secret, ended at every rename and resumed in the same way."""
    require_strace()
    expected = by_meaning(deployed(tmp_path / "expected"))

    def check(number: int) -> Iterator[str]:
        out = tmp_path / str(number) / "out"
        out.mkdir(parents=True)
        less(out, "linkat:error=EPERM", f"renameat:signal=KILL:when={number}", settings=REQUIRED)
        kept = secrets(out)
        done = less(out, "linkat:error=EPERM", settings=REQUIRED)
        if done.returncode:
            yield f"ended with {done.returncode}: {done.stderr}"
        now = secrets(out)
        yield from (f"the secret {name} changed" for name in kept if now.get(name) != kept[name])
        yield from (f"{path} differs" for path, one in by_meaning(out).items() if one != expected.get(path))

    assert in_parallel(check, range(1, 50, 4)) == []


def test_without_links_and_durable_folders_each_lack_is_said_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    folders = ("", ".secrets", "nginx", "authentik", "authentik/branding")
    only = [word for name in folders for word in ("-P", str(out / name).rstrip("/"))]
    rules = ("-e", "inject=fsync:error=EINVAL", "-e", "inject=linkat:error=EPERM")
    done = run(out, settings=GIVEN, prefix=("strace", "-f", "-qq", "-o", os.devnull, *only, *rules))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("promises less") == 2
    expected = deployed(tmp_path / "expected", settings=GIVEN)
    assert without_marks(tree(out)) == without_marks(tree(expected))
    assert mislabelled(out) == []


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL"])
def test_without_locks_a_deployment_is_not_touched(tmp_path: Path, error: str) -> None:
    out = deployed(tmp_path / "out", settings=GIVEN)
    before = tree(out)
    refused = less(out, f"flock:error={error}", settings=CHANGED)
    assert refused.returncode == 1
    assert "cannot be locked" in refused.stderr and "use a local volume" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert tree(out) == before


# FAT as drivers show it: without a way to set modes, with one that does nothing, and closed to others as a whole.
FAT = {
    "fuse": (),
    "kernel": ("-t", "vfat", "-o", "loop"),
    "kernel, quiet": ("-t", "vfat", "-o", "loop,quiet"),
    "kernel, quiet, for the owner alone": ("-t", "vfat", "-o", "loop,quiet,umask=077"),
}


@pytest.mark.parametrize("how", FAT)
@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_without_modes_a_volume_is_refused_before_anything_is_written(tmp_path: Path, how: str, umask: int) -> None:
    require("mkfs.vfat", "fusefat")
    image = disks.made("vfat", tmp_path / "image")
    if how == "fuse":
        if not os.access("/dev/fuse", os.W_OK):
            lacking("/dev/fuse is missing")
        mounted = disks.mounted_by(("fusefat", "-o", "rw+"), image, tmp_path / "out")
    else:
        if "vfat" not in Path("/proc/filesystems").read_text().split():
            pytest.skip("this kernel does not know vfat")
        mounted = disks.mounted(image, tmp_path / "out", *FAT[how])
    with mounted as out:
        (out / "mine.txt").write_text("mine")
        refused = run(out, settings=GIVEN, umask=umask)
        assert refused.returncode == 1
        assert (
            "keeps no file modes" in refused.stderr and "ext4" in refused.stderr and "docker run -v" in refused.stderr
        )
        assert refused.stderr.count("\n") == 1
        assert [path.name for path in paths(out)] == ["mine.txt"]


# --- the same through the image -----------------------------------------------------------------

IN_IMAGE = (
    "-e",
    "PUBLIC_URL=avatar.example.com",
    "-e",
    "ENV_NAME=example-prod",
    "-e",
    "SMTP_HOST=mail.example.com",
    "-e",
    "LOG_LEVEL=DEBUG",
)


def by_docker(out: Path, *options: str) -> tuple[int, str]:
    docker("build", "-q", "-t", "avatar-setup", ROOT, timeout=900)
    done = docker("run", "--rm", "-v", f"{out}:/out", *options, *IN_IMAGE, "avatar-setup", check=False)
    return done.returncode, done.stderr.decode()


def linked(out: Path, canary: Path) -> tuple[str, ...]:
    (out / ".env").unlink()
    (out / ".env").symlink_to("../canary")
    return ()


def hard_linked(out: Path, canary: Path) -> tuple[str, ...]:
    (out / LOCK).unlink()
    os.link(canary, out / LOCK)
    return ()


def single_file(out: Path, canary: Path) -> tuple[str, ...]:
    shutil.copyfile(out / ".env", canary)
    return ("-v", f"{canary}:/out/.env")


def read_only_secrets(out: Path, canary: Path) -> tuple[str, ...]:
    return ("-v", f"{out / '.secrets'}:/out/.secrets:ro", "-e", "ORGANIZATION_NAME=Other")


def made_by_root(out: Path, canary: Path) -> tuple[str, ...]:
    os.chown(out, OTHER, OTHER)
    return ("--user", f"{OTHER}:{OTHER}")


@pytest.mark.docker
@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        (linked, r"\.env is a symbolic link: replace it"),
        (hard_linked, r"deployment-state\.lock has other names.*remove it"),
        (single_file, r"/out/\.env cannot be written .* it is a mount point; mount the directory as a whole"),
        (read_only_secrets, r"/out/\.secrets/organization_name cannot be written .* mount the volume without :ro"),
        (made_by_root, r"/out/\.(env|secrets/\w+|deployment-state\.yaml) cannot be .*chown -R 1001:1001"),
    ],
)
def test_a_hostile_volume_in_a_container_is_refused_by_name(
    reachable: Path, hostile: Callable[[Path, Path], tuple[str, ...]], said: str
) -> None:
    require_root()
    out, canary = deployed(reachable / "out"), reachable / "canary"
    canary.write_text("mine")
    options = hostile(out, canary)
    before, beside = present(out), outside(reachable, out)
    code, told = by_docker(out, *options)
    assert code == 1, told
    assert re.search(said, told), told
    assert outside(reachable, out) == beside
    assert leftovers(out) == []
    changed = {path for path, one in present(out).items() if not path.startswith(STATE) and one != before.get(path)}
    whole = {".env", "nginx/nginx.conf", f"{WRITTEN}/.env", f"{WRITTEN}/nginx/nginx.conf"}  # published before
    assert changed <= whole


def test_a_directory_that_its_owner_may_not_write_is_told_the_mode_to_change(tmp_path: Path) -> None:
    require_root()
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o500)
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    refused = ran(out, prefix=prefix, code=1).stderr
    assert "its mode is 0500: on the host, chmod u+rwx the directory that is mounted there" in refused
    assert "--user" not in refused and ":ro" not in refused
    out.chmod(0o700)
    ran(out, prefix=prefix)
