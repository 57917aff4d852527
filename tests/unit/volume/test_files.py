"""The only module that changes the disk: modes from the first moment, nothing torn, no link followed."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from setup.errors import Busy, VolumeError
from setup.volume.layout import SWEPT, File
from setup.volume.volume import Volume
from tests.support.runs import (
    LABEL_KEY,
    LAST_GOOD,
    LOCK,
    STAGED,
    STATE,
    WRITTEN,
    command,
    deployed,
    environment,
    holding,
    leftovers,
    paths,
    ran,
    require_root,
    require_strace,
    run,
    secrets,
    tree,
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def volume(out: Path) -> Iterator[Volume]:
    opened = Volume(out)
    yield opened
    opened.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def publish(volume: Volume, *files: File, backup: bool = False) -> None:
    volume.publish(volume.stage(files, backup=backup))


# --- reading ------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_reads_as_none(volume: Volume) -> None:
    assert volume.read(".env") is None
    assert volume.read("nginx/nginx.conf") is None


def test_a_file_reads_as_its_bytes(volume: Volume, out: Path) -> None:
    (out / "nginx").mkdir()
    (out / "nginx" / "nginx.conf").write_bytes(b"\0\xff")
    assert volume.read("nginx/nginx.conf") == b"\0\xff"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "./x", "a//b", "", ".", ".."])
def test_no_path_leads_out_of_the_directory(volume: Volume, path: str) -> None:
    with pytest.raises(VolumeError):
        volume.read(path)
    with pytest.raises(VolumeError):
        publish(volume, File(path, b"", 0o600))


def obstacle(path: Path, kind: str, outside: Path) -> None:
    """Puts something else than a regular file at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        path.symlink_to(outside / "victim")
    elif kind == "dangling link":
        path.symlink_to(outside / "nothing")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(path.parent)  # the name of a socket must be short
            server.bind(path.name)
            os.chdir(here)


OBSTACLES = ("link", "dangling link", "fifo", "directory", "socket")


@pytest.mark.parametrize("kind", OBSTACLES)
@pytest.mark.parametrize("path", [".env", "nginx/nginx.conf"])
def test_what_is_no_regular_file_is_refused_by_name(
    volume: Volume, out: Path, tmp_path: Path, path: str, kind: str
) -> None:
    (tmp_path / "victim").write_text("untouched")
    obstacle(out / path, kind, tmp_path)
    before = tree(out)
    for attempt in (lambda: volume.read(path), lambda: publish(volume, File(path, b"new", 0o644))):
        with pytest.raises(VolumeError) as refused:
            attempt()
        assert path in str(refused.value)
        assert re.search("move it away|replace it", str(refused.value))
    assert {name: one for name, one in tree(out).items() if STAGED not in name} == before
    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("target", ["elsewhere", "."])
def test_a_folder_that_is_a_link_is_refused_by_name(volume: Volume, out: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (out / "nginx").symlink_to(tmp_path / target)
    for attempt in (
        lambda: volume.read("nginx/nginx.conf"),
        lambda: publish(volume, File("nginx/nginx.conf", b"x", 0o644)),
        lambda: volume.sweep(["nginx"]),
    ):
        with pytest.raises(VolumeError, match="nginx is not a directory"):
            attempt()
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --- staging and publishing ---------------------------------------------------------------------


def test_staging_changes_no_file(volume: Volume, out: Path) -> None:
    (out / ".env").write_text("old")
    volume.stage([File(".env", b"new", 0o600)])
    assert (out / ".env").read_text() == "old"
    staged = [path for path in paths(out) if path.name != ".env"]
    assert [path.read_text() for path in staged] == ["new"]
    assert mode_of(staged[0]) == 0o600


def test_publishing_replaces_a_file_as_a_whole(volume: Volume, out: Path) -> None:
    (out / ".env").write_text("old")
    with (out / ".env").open() as reader:
        publish(volume, File(".env", b"new", 0o600))
        assert reader.read() == "old"  # whoever reads goes on reading one or the other
    assert tree(out) == {".env": (oct(stat.S_IFREG | 0o600), b"new")}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177])
def test_modes_do_not_depend_on_the_umask(volume: Volume, out: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        publish(
            volume,
            File(".env", b"", 0o600),
            File(".secrets/db_password", b"x", 0o644),
            File("authentik/branding/logo", b"", 0o644),
        )
    finally:
        os.umask(before)
    modes = {str(path.relative_to(out)): oct(mode_of(path)) for path in paths(out)}
    assert modes == {
        ".env": "0o600",
        ".secrets": "0o700",
        ".secrets/db_password": "0o644",
        "authentik": "0o755",
        "authentik/branding": "0o755",
        "authentik/branding/logo": "0o644",
    }


def test_a_secrets_folder_that_is_too_open_is_closed(volume: Volume, out: Path) -> None:
    (out / ".secrets").mkdir(mode=0o755)
    publish(volume, File(".secrets/a", b"x", 0o644))
    assert mode_of(out / ".secrets") == 0o700


def test_a_new_secret_cannot_replace_one(volume: Volume, out: Path) -> None:
    staged = volume.stage([File(".secrets/a", b"new", 0o644, once=True)])
    (out / ".secrets" / "a").write_text("filled by hand")
    with pytest.raises(VolumeError, match=r"\.secrets/a .*in the meantime"):
        volume.publish(staged)
    assert (out / ".secrets" / "a").read_text() == "filled by hand"


def test_a_new_secret_takes_the_place_of_an_empty_file(volume: Volume, out: Path) -> None:
    (out / ".secrets").mkdir()
    (out / ".secrets" / "a").touch()
    publish(volume, File(".secrets/a", b"new", 0o644, once=True))
    assert (out / ".secrets" / "a").read_text() == "new"


def test_a_backup_keeps_what_was_replaced_with_its_mode(volume: Volume, out: Path) -> None:
    (out / ".env").write_text("old")
    (out / ".env").chmod(0o640)
    publish(volume, File(".env", b"new", 0o600), backup=True)
    assert (out / ".env").read_text() == "new"
    assert (out / ".env.bak").read_text() == "old"
    assert mode_of(out / ".env.bak") == 0o640


def test_nothing_is_kept_where_nothing_was(volume: Volume, out: Path) -> None:
    publish(volume, File(".env", b"new", 0o600), backup=True)
    assert [path.name for path in paths(out)] == [".env"]


@pytest.mark.parametrize("error", [SystemExit(143), KeyboardInterrupt(), ValueError(), VolumeError("x")])
def test_what_ends_early_under_the_lock_leaves_nothing_staged(volume: Volume, out: Path, error: BaseException) -> None:
    (out / ".env").write_text("old")
    with pytest.raises(type(error)), volume.locked(["", "nginx"]):
        volume.stage([File(".env", b"new", 0o600), File("nginx/nginx.conf", b"", 0o644)])
        raise error
    assert [path.name for path in paths(out)] == [LOCK, ".env", "nginx"]
    assert (out / ".env").read_text() == "old"
    assert (out / LOCK).read_bytes() == b""


def test_what_a_killed_run_left_staged_is_removed_under_the_lock(volume: Volume, out: Path) -> None:
    volume.stage([File(".env", b"", 0o600), File("nginx/nginx.conf", b"", 0o644)])
    with volume.locked(["", "nginx", "tls"]):
        assert leftovers(out) == []


def test_sweeping_removes_only_what_was_staged(volume: Volume, out: Path) -> None:
    volume.stage([File(".env", b"", 0o600), File("nginx/nginx.conf", b"", 0o644)])
    (out / "mine").write_text("")
    (out / f"note{STAGED}").write_text("no dot in front: not ours")
    volume.sweep(["", "nginx", "tls"])
    assert [str(path.relative_to(out)) for path in paths(out)] == ["mine", "nginx", f"note{STAGED}"]


def test_a_link_under_a_staged_name_is_removed_not_followed(volume: Volume, out: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (out / f".env{STAGED}").symlink_to(tmp_path / "victim")
    publish(volume, File(".env", b"new", 0o600))
    (out / f".env{STAGED}").symlink_to(tmp_path / "victim")
    volume.sweep([""])
    assert (tmp_path / "victim").read_text() == "untouched"
    assert [path.name for path in paths(out)] == [".env"]


def test_a_directory_under_a_staged_name_is_refused_by_name(volume: Volume, out: Path) -> None:
    (out / f".env{STAGED}").mkdir()
    for attempt in (lambda: volume.sweep([""]), lambda: volume.stage([File(".env", b"", 0o600)])):
        with pytest.raises(VolumeError, match=r"\.env"):
            attempt()


def test_an_output_directory_that_is_missing_or_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("missing", "file"):
        with pytest.raises(VolumeError, match=f"{name} cannot be opened.*mkdir -p"):
            Volume(tmp_path / name)


# --- the lock -----------------------------------------------------------------------------------


def test_the_lock_file_names_its_holder_and_is_empty_at_rest(volume: Volume, out: Path) -> None:
    with volume.locked([]):
        assert (out / LOCK).read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
        assert mode_of(out / LOCK) == 0o600
        with pytest.raises(Busy, match=f"process {os.getpid()} on "), volume.locked([]):
            pass
    assert (out / LOCK).read_bytes() == b""
    with volume.locked([]):
        pass


def test_a_lock_of_another_process_is_respected_and_its_holder_named(volume: Volume, out: Path) -> None:
    with holding(out / LOCK):
        with pytest.raises(Busy, match="process 4711 on elsewhere"), volume.locked([]):
            pass
        assert (out / LOCK).read_text() == "process 4711 on elsewhere\n"
    with volume.locked([]):
        pass


def test_what_a_killed_run_left_in_the_lock_file_holds_nobody_up(volume: Volume, out: Path) -> None:
    (out / LOCK).write_text("process 1 on a container that is gone, with a long name\n")
    with volume.locked([]):
        assert (out / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert (out / LOCK).read_bytes() == b""


@pytest.mark.parametrize("kind", OBSTACLES)
def test_a_lock_file_that_is_none_is_refused(volume: Volume, out: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_text("untouched")
    obstacle(out / LOCK, kind, tmp_path)
    with pytest.raises(VolumeError, match=re.escape(LOCK)), volume.locked([]):
        pass
    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (tmp_path / "nothing").exists()


def test_a_lock_file_with_a_second_name_is_refused(volume: Volume, out: Path, tmp_path: Path) -> None:
    """It is emptied and written in place: with a hard link that would be somebody else's file."""
    (tmp_path / "victim").write_text("untouched")
    os.link(tmp_path / "victim", out / LOCK)
    with pytest.raises(VolumeError, match=re.escape(LOCK)), volume.locked([]):
        pass
    assert (tmp_path / "victim").read_text() == "untouched"


# --- whole runs against odd volumes -------------------------------------------------------------


def written(tmp_path: Path) -> list[str]:
    """Every file that a run writes, and the folders."""
    made = deployed(tmp_path / "reference")
    return [str(path.relative_to(made)) for path in paths(made)]


def test_every_folder_that_a_run_writes_into_is_swept(tmp_path: Path) -> None:
    made = deployed(tmp_path / "reference")
    assert {str(path.relative_to(made)) for path in paths(made) if path.is_dir()} <= set(SWEPT)


@pytest.mark.parametrize("kind", ["link", "dangling link"])
def test_no_run_follows_a_link_at_any_path(tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "nothing").unlink(missing_ok=True)
    followed = []
    names = written(tmp_path)
    assert len(names) > 35
    sample = [name for name in names if not name.startswith(".secrets/")] + [".secrets/db_password", ".secrets/db_name"]
    for number, name in enumerate(sample):
        out = tmp_path / str(number)
        out.mkdir()
        obstacle(out / name, kind, tmp_path)
        before = tree(out)
        done = run(out)
        now = {path: one for path, one in tree(out).items() if path in before}
        if done.returncode != 1 or name not in done.stderr or now != before or leftovers(out):
            followed.append((name, done.returncode, done.stderr))
    assert followed == []
    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (tmp_path / "nothing").exists()


def test_no_run_writes_through_a_folder_that_is_a_link(tmp_path: Path) -> None:
    for number, name in enumerate([".secrets", "nginx", "authentik", "authentik/branding", "tls"]):
        out, elsewhere = tmp_path / str(number), tmp_path / f"elsewhere{number}"
        elsewhere.mkdir()
        (out / name).parent.mkdir(parents=True)
        (out / name).symlink_to(elsewhere)
        refused = ran(out, code=1)
        assert f"{name} is not a directory" in refused.stderr
        assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket"])
@pytest.mark.parametrize("name", [".env", "docker-compose.yml", STATE, LOCK, ".secrets/db_password"])
def test_a_run_refuses_by_name_what_is_no_regular_file(out: Path, tmp_path: Path, name: str, kind: str) -> None:
    obstacle(out / name, kind, tmp_path)
    before = tree(out)
    refused = ran(out, code=1)
    assert name in refused.stderr
    assert "move it away" in refused.stderr
    assert {path: one for path, one in tree(out).items() if path in before} == before
    assert leftovers(out) == []


def test_a_single_file_mounted_into_the_volume_is_refused_by_name(out: Path, tmp_path: Path) -> None:
    require_root()
    (tmp_path / "mine").write_text("outside\n")
    (out / "docker-compose.yml").touch()
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path / "mine"), str(out / "docker-compose.yml"))
    refused = ran(out, code=4, prefix=prefix)  # bytes that are not from here
    assert "docker-compose.yml" in refused.stderr
    (tmp_path / "mine").write_text("")
    (out / "docker-compose.yml").unlink()
    (out / ".secrets").mkdir()
    (out / ".secrets" / "db_password").touch()
    prefix = (*prefix[:-1], str(out / ".secrets" / "db_password"))
    refused = ran(out, code=1, prefix=prefix)
    assert ".secrets/db_password" in refused.stderr
    assert "it is a mount point" in refused.stderr
    assert (tmp_path / "mine").read_text() == ""
    assert leftovers(out) == []
    ran(out)


# --- traced runs --------------------------------------------------------------------------------

_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) = (-?\d+)")


def traced(out: Path, *flags: str, calls: str, umask: int = 0o022, code: int = 0) -> list[tuple[str, str]]:
    """The system calls of a real run that succeeded, with descriptors shown as paths."""
    require_strace()
    log = out.parent / "trace"
    prefix = ("strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", f"trace={calls}")
    ran(out, *flags, prefix=prefix, umask=umask, code=code)
    found = [_CALL.match(line) for line in log.read_text().splitlines()]
    return [(call[1], call[2]) for call in found if call and not call[3].startswith("-")]


@pytest.mark.slow
def test_every_file_has_its_mode_from_its_first_moment(tmp_path: Path) -> None:
    for umask in (0o000, 0o022, 0o077, 0o777):
        out = tmp_path / oct(umask)
        out.mkdir()
        calls = traced(
            out, "--save-config", calls="openat,creat,mkdirat,mkdir,fchmod,fchmodat,chmod,mknodat", umask=umask
        )
        made = [arguments for call, arguments in calls if "O_CREAT" in arguments and str(out) in arguments]
        assert len(made) > 30
        for arguments in made:
            private = any(part in arguments for part in (STATE, LOCK, LABEL_KEY, ".env", "deployment-config", WRITTEN))
            assert arguments.split(", ")[3].split(" ")[0] == ("0600" if private else "0644"), arguments
        private = {True: set(), False: set()}
        for call, arguments in calls:
            if call == "mkdirat":
                private[WRITTEN in arguments].add((arguments.split('"')[1], arguments.rsplit(", ", 1)[1]))
        assert private[False] == {(".secrets", "0700"), ("nginx", "0755"), ("authentik", "0755"), ("branding", "0755")}
        assert private[True] == {(WRITTEN, "0700"), ("nginx", "0700"), ("authentik", "0700")}
        for call, arguments in calls:  # a mode is only ever set to what the umask took away, never taken away
            if "chmod" in call:
                taken = {0o077: ("0644", "0755"), 0o777: ("0600", "0644", "0700", "0755")}
                assert arguments.rsplit(", ", 1)[1] in taken.get(umask, ()), arguments
        modes = {oct(mode_of(path)) for path in paths(out) if not path.is_dir()}
        assert modes == {"0o600", "0o644"}
        assert {str(path.relative_to(out)): oct(mode_of(path)) for path in paths(out) if path.is_dir()} == {
            **dict.fromkeys([".secrets", WRITTEN, f"{WRITTEN}/nginx", f"{WRITTEN}/authentik"], "0o700"),
            **dict.fromkeys(["nginx", "authentik", "authentik/branding"], "0o755"),
        }
        closed = [str(path.relative_to(out)) for path in paths(out) if path.is_file() and mode_of(path) == 0o600]
        assert [path for path in closed if not path.startswith(WRITTEN)] == [
            *(LABEL_KEY, LOCK, STATE, LAST_GOOD, ".env", "deployment-config.yaml")
        ]
        assert all(mode_of(path) == 0o600 for path in paths(out / WRITTEN) if path.is_file())


@pytest.mark.slow
def test_nothing_is_published_before_it_is_durable_and_announced(out: Path) -> None:
    """Staged and synced, announced by a state, renamed, the folders synced, completed by a state."""
    events = traced(out, calls="write,fsync,renameat,renameat2,linkat,flock")
    durable: set[str] = set()
    announced: set[str] = set()
    unsynced: set[str] = set()
    published = 0
    for call, arguments in events:
        places = re.findall(r"<([^>]*)>", arguments)
        names = re.findall(r'"([^"]*)"', arguments)
        if call == "flock":
            durable.clear()
        elif call == "write" and str(out) in arguments:
            durable.discard(places[0])
        elif call == "fsync":
            durable.add(places[0])
            unsynced.discard(places[0])
        elif call in ("renameat", "renameat2", "linkat"):
            source, target = f"{places[0]}/{names[0]}", f"{places[1]}/{names[1]}"
            assert source in durable, f"{source} is published before it is synced"
            durable.add(target)
            if names[1] in (STATE, LAST_GOOD) or LAST_GOOD in names[1]:
                assert not unsynced, f"a state is published while {unsynced} is not durable"
                announced |= durable
            else:
                assert source in announced, f"{target} is published before a state announced it"
                published += 1
            if LAST_GOOD not in names[1]:  # it may be durable before the state or after it
                unsynced.add(places[1])
    assert not unsynced
    assert published == len(paths(out)) - len(list(out.rglob("*/"))) - 3  # all files but the states and the lock


@pytest.mark.slow
def test_the_compose_file_is_the_last_to_appear(out: Path) -> None:
    events = traced(out, calls="renameat,renameat2,linkat")
    names = [re.findall(r'"([^"]*)"', arguments)[1] for _, arguments in events if WRITTEN not in arguments]
    assert [name for name in names if STATE not in f".{name}"][-1] == "docker-compose.yml"
    assert names[-1] == STATE


def injected(out: Path, *rules: str, only: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A run whose system calls fail as told; `only` restricts that to calls on these paths."""
    require_strace()
    chosen = [word for path in only for word in ("-P", path)]
    injections = [word for rule in rules for word in ("-e", f"inject={rule}")]
    return run(out, prefix=("strace", "-f", "-qq", "-o", os.devnull, *chosen, *injections))


@pytest.mark.slow
def test_without_hard_links_a_run_completes_and_says_so(out: Path) -> None:
    done = injected(out, "linkat:error=EPERM")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("hard links") == 1
    assert leftovers(out) == []
    assert len(secrets(out)) > 20
    ran(out)


@pytest.mark.slow
def test_without_durable_folders_a_run_completes_and_says_so(out: Path) -> None:
    folders = [str(out / name) for name in ("", ".secrets", "nginx", "authentik", "authentik/branding")]
    done = injected(out, "fsync:error=EINVAL", only=tuple(path.rstrip("/") for path in folders))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("durable") == 1
    assert tree(out).keys() == tree(deployed(out.parent / "reference")).keys()


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP", "EINVAL"])
def test_a_volume_without_locks_is_refused_with_a_way_out(out: Path, error: str) -> None:
    done = injected(out, f"flock:error={error}")
    assert done.returncode == 1
    assert "cannot be locked" in done.stderr
    assert "use a local volume" in done.stderr
    assert [path.name for path in paths(out)] == [LOCK]


def test_a_full_disk_is_named_and_leaves_nothing_torn(tmp_path: Path) -> None:
    """A real one: a small tmpfs of the test's own."""
    require_root()
    out = tmp_path / "out"
    out.mkdir()
    script = (
        'mount -t tmpfs -o size=80k,mode=0700 none "$1" && shift\n'
        '"$@"; code=$?\n'
        f'find . -name "*{STAGED}"; cat {STATE}\n'
        'mount -o remount,size=8m . && cd . && "$@" >/dev/null; exit $((code * 10 + $?))'
    )
    script = script.replace("&& shift\n", '&& cd "$1" && shift\n')
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(out), *command(out)],
        env=environment(),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 10, done.stderr  # 1 with the disk full, then 0
    assert "free some space on the volume" in done.stderr
    assert STAGED not in done.stdout


@pytest.mark.slow
def test_two_runs_at_once_one_works_and_the_other_names_it(out: Path) -> None:
    require_strace()
    slow = ("strace", "-f", "-qq", "-o", os.devnull, "-e", "inject=fsync:delay_enter=3s:when=6")
    with subprocess.Popen(
        [*slow, *command(out)], env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as first:
        while first.poll() is None and not ((out / LOCK).exists() and (out / LOCK).read_text()):
            pass
        holder = (out / LOCK).read_text().strip()
        second = run(out, "--json")
        beside = run(out, "--status")
        first.communicate()
    assert first.returncode == 0
    assert second.returncode == 4
    assert re.fullmatch(r"process \d+ on \S+", holder)
    assert f"another run is working on this volume ({holder})" in second.stderr
    assert '"kind": "busy"' in second.stdout
    assert beside.returncode == 3
    assert (out / LOCK).read_bytes() == b""
    ran(out)
