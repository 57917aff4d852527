"""Backups: whole, private, durable before they count, and never more than wanted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from setup.errors import VolumeError
from setup.volume.backups import Kind, Reason, contents, find, history, save
from setup.volume.layout import HISTORY
from setup.volume.volume import Volume
from tests.support.runs import environment, paths, require_strace, stamps, tree

FILES = {
    ".env": (0o600, b"A=1\n"),
    "docker-compose.yml": (0o644, b"services: {}\n"),
    "nginx/nginx.conf": (0o640, b"events {}\n"),
    ".secrets/db_password": (0o644, b"hunter2"),
    ".secrets/smtp_password": (0o644, b""),
}
PATHS = [*FILES, "tls/ca-bundle.crt"]  # the last one does not exist
A_RUN = Reason(Kind.RUN)


def adopting(source: str) -> Reason:
    return Reason(Kind.ADOPTION, source=source)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    for name, (mode, data) in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    (folder / ".secrets").chmod(0o700)
    return folder


@pytest.fixture
def volume(out: Path) -> Iterator[Volume]:
    opened = Volume(out)
    yield opened
    opened.close()


def change(out: Path, text: str) -> None:
    (out / ".env").write_text(text)


def test_a_copy_holds_bytes_modes_and_what_was_absent(volume: Volume) -> None:
    name = save(volume, PATHS, A_RUN)
    [copy] = history(volume)
    assert (copy.id, copy.reason, copy.absent) == (name, A_RUN, ("tls/ca-bundle.crt",))
    assert {file.path: (file.mode, file.data) for file in contents(volume, copy)} == FILES
    assert find(volume, name) == copy


def test_a_copy_changes_nothing_else(volume: Volume, out: Path) -> None:
    before = tree(out)
    save(volume, PATHS, A_RUN)
    assert {path: one for path, one in tree(out).items() if not path.startswith(HISTORY)} == before


def test_a_copy_shares_no_file_with_the_deployment(volume: Volume, out: Path) -> None:
    """Real copies: an editor that writes in place would change a hard link with it."""
    name = save(volume, PATHS, A_RUN)
    assert all(path.stat().st_nlink == 1 for path in paths(out) if path.is_file())
    change(out, "A=2\n")
    assert (out / HISTORY / name / ".env").read_bytes() == b"A=1\n"


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_every_folder_of_a_copy_is_private_whatever_the_umask(volume: Volume, out: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        save(volume, PATHS, A_RUN)
    finally:
        os.umask(before)
    folders = [out / HISTORY, *(path for path in paths(out / HISTORY) if path.is_dir())]
    assert len(folders) == 4
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_a_history_folder_that_is_too_open_is_closed(volume: Volume, out: Path) -> None:
    (out / HISTORY).mkdir(mode=0o755)
    save(volume, PATHS, A_RUN)
    assert (out / HISTORY).stat().st_mode & 0o777 == 0o700


def test_the_same_bytes_are_kept_once(volume: Volume, out: Path) -> None:
    name = save(volume, PATHS, A_RUN)
    before = stamps(out)
    assert save(volume, PATHS, A_RUN) == name
    assert stamps(out) == before
    assert save(volume, PATHS, adopting("another change after a crash")) != name


@pytest.mark.parametrize("difference", ["bytes", "mode", "absent"])
def test_anything_else_is_kept_again(volume: Volume, out: Path, difference: str) -> None:
    first = save(volume, PATHS, A_RUN)
    if difference == "bytes":
        change(out, "A=2\n")
    elif difference == "mode":
        (out / ".env").chmod(0o640)
    else:
        (out / "docker-compose.yml").unlink()
    second = save(volume, PATHS, adopting("another"))
    assert [copy.id for copy in history(volume)] == [second, first]


def test_the_last_ones_are_kept_in_their_order_even_within_a_second(volume: Volume, out: Path) -> None:
    made = []
    for number in range(14):
        change(out, f"A={number}\n")
        made.append(save(volume, PATHS, adopting(f"change {number}"), last=12))
    assert [copy.id for copy in history(volume)] == made[:1:-1]
    assert [contents(volume, copy)[0].data for copy in history(volume)][-1] == b"A=2\n"


def test_one_copy_may_be_spared(volume: Volume, out: Path) -> None:
    oldest = save(volume, PATHS, adopting("the oldest"))
    change(out, "A=2\n")
    save(volume, PATHS, adopting("in between"))
    change(out, "A=3\n")
    newest = save(volume, PATHS, adopting("the newest"), last=1, spare=[oldest])
    assert [copy.id for copy in history(volume)] == [newest, oldest]


def test_a_clock_that_was_set_back_makes_no_copy_older_than_it_is(volume: Volume, out: Path) -> None:
    first = save(volume, PATHS, adopting("from the future"))
    (out / HISTORY / first).rename(out / HISTORY / "29991231T235959Z")
    change(out, "A=2\n")
    second = save(volume, PATHS, adopting("now"), last=1)
    assert [copy.id for copy in history(volume)] == [second]
    assert second == "29991231T235959Z-2"


def test_what_an_interrupted_run_left_is_no_copy_and_goes(volume: Volume, out: Path) -> None:
    torn = out / HISTORY / "20200101T000000Z"
    torn.mkdir(parents=True)
    (torn / ".env").write_text("half")
    assert history(volume) == []
    name = save(volume, PATHS, A_RUN)
    assert sorted(path.name for path in (out / HISTORY).iterdir()) == [name]


def test_remains_of_this_very_second_do_not_get_into_a_copy(volume: Volume, out: Path) -> None:
    """A run that is started again at once would else use their folder."""
    name = save(volume, PATHS, A_RUN)
    (out / HISTORY / name / "manifest.json").unlink()
    (out / HISTORY / name / ".torn.avatar-setup-new").write_text("half")
    later = save(volume, PATHS, A_RUN)
    assert later > name
    assert [path.name for path in (out / HISTORY).iterdir()] == [later]


def test_remains_go_also_when_the_newest_copy_stands_for_this_one(volume: Volume, out: Path) -> None:
    name = save(volume, PATHS, A_RUN)
    (out / HISTORY / "20200101T000000Z").mkdir()
    assert save(volume, PATHS, A_RUN) == name
    assert [path.name for path in (out / HISTORY).iterdir()] == [name]


def test_what_is_not_a_copy_stays(volume: Volume, out: Path) -> None:
    (out / HISTORY).mkdir()
    (out / HISTORY / "notes.txt").write_text("mine")
    for number in range(3):
        change(out, f"A={number}\n")
        save(volume, PATHS, A_RUN, last=1)
    assert (out / HISTORY / "notes.txt").read_text() == "mine"


def test_forgetting_follows_no_link(volume: Volume, out: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("precious")
    torn = out / HISTORY / "20200101T000000Z"
    torn.mkdir(parents=True)
    (torn / "folder").symlink_to(victim)
    (torn / "file").symlink_to(victim / "precious")
    save(volume, PATHS, A_RUN, last=1)
    assert (victim / "precious").read_text() == "precious"
    assert not torn.exists()
    (out / HISTORY / "20200101T000001Z").symlink_to(victim)
    change(out, "A=2\n")
    save(volume, PATHS, adopting("another"), last=1)
    assert (out / HISTORY / "20200101T000001Z").is_symlink(), "it is left alone"
    assert (victim / "precious").read_text() == "precious"


def test_a_copy_that_cannot_be_made_leaves_nothing_behind(volume: Volume, out: Path) -> None:
    save(volume, PATHS, A_RUN)
    change(out, "A=2\n")
    (out / "tls").mkdir()
    (out / "tls" / "ca-bundle.crt").symlink_to("/etc/hostname")
    before = tree(out)
    with pytest.raises(VolumeError, match="symbolic link"):
        save(volume, PATHS, adopting("another"))
    assert tree(out) == before


def test_a_copy_that_lost_a_file_is_named_and_stands_for_nothing(volume: Volume, out: Path) -> None:
    name = save(volume, PATHS, A_RUN)
    (out / HISTORY / name / ".secrets" / "db_password").unlink()
    with pytest.raises(VolumeError, match=rf"db_password is missing: .* move the folder {HISTORY}/{name} away"):
        contents(volume, find(volume, name))
    assert save(volume, PATHS, adopting("the same")) != name


def manifest(path: str) -> str:
    row = {"version": "1", "kind": "run", "secrets": [], "source": "", "paths": [path], "absent": []}
    return json.dumps(row)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"version": "1"}', '{"version": 1, "kind": "run", "paths": 3, "absent": []}'),
        pytest.param('{"version": "1", "cause": "a run", "paths": [], "absent": []}', id="no kind"),
        pytest.param(manifest("a\0b"), id="a path with a null character"),
        pytest.param(manifest("\ud800"), id="a path that no encoding has"),
        pytest.param("[" * 100_000, id="deeply nested"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(volume: Volume, out: Path, text: str) -> None:
    folder = out / HISTORY / "20200101T000000Z"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(VolumeError, match=r"20200101T000000Z/manifest\.json cannot be used: move the folder"):
        history(volume)


@pytest.mark.parametrize("name", ["20200101T000000Z", "", ".", "..", "../..", "/etc", "20200101T000000Z/.."])
def test_a_name_that_is_no_copy_is_refused_with_those_that_are(volume: Volume, name: str) -> None:
    with pytest.raises(VolumeError, match="there is none yet"):
        find(volume, name)
    kept = save(volume, PATHS, A_RUN)
    with pytest.raises(VolumeError, match=f"there are {kept}"):
        find(volume, name)


def test_a_manifest_says_no_more_than_names(volume: Volume, out: Path) -> None:
    name = save(volume, PATHS, A_RUN)
    text = (out / HISTORY / name / "manifest.json").read_text()
    assert "hunter2" not in text
    assert json.loads(text).keys() == {"version", "kind", "secrets", "source", "paths", "absent"}
    assert (out / HISTORY / name / "manifest.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_the_manifest_appears_when_all_else_is_durable_and_older_copies_go_after_it(out: Path, tmp_path: Path) -> None:
    require_strace()
    code = (
        "import sys; from setup.volume.backups import Reason, save; from setup.volume.volume import Volume\n"
        "save(Volume(sys.argv[1]), sys.argv[2].split(), Reason(), last=1)\n"
    )
    log = tmp_path / "trace"
    for text in ("A=1\n", "A=2\n"):
        change(out, text)
        tracer = ("strace", "-f", "-y", "-qq", "-o", str(log), "-e", "trace=renameat,fsync,unlinkat,mkdirat")
        program = (sys.executable, "-c", code, str(out), " ".join(PATHS))
        subprocess.run([*tracer, *program], env=environment({}), check=True)
    lines = [re.sub(r"^\d+ +", "", line) for line in log.read_text().splitlines() if str(out) in line]
    manifest = next(n for n, line in enumerate(lines) if line.startswith("renameat") and '"manifest.json"' in line)
    kept = [n for n, line in enumerate(lines) if line.startswith("renameat") and '"manifest.json"' not in line]
    removed = [n for n, line in enumerate(lines) if line.startswith("unlinkat") and ".avatar-setup-new" not in line]
    durable = [n for n, line in enumerate(lines) if line.startswith("fsync")]
    assert len(kept) == len(FILES)
    assert removed
    assert max(kept) < manifest < min(removed)
    for folder in ("", "/nginx", "/.secrets"):  # between the files' renames and the manifest's
        assert any(max(kept) < n < manifest and re.search(rf"Z(-\d+)?{folder}>\)", lines[n]) for n in durable), folder
    assert any(manifest < n < min(removed) for n in durable)
    assert '"manifest.json"' in lines[min(removed)]
