"""`--adopt` of a directory whose owner wants to read what only root, or only another container, may read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support import foreign_trees
from tests.support.runs import ROOT, ran, require_root, tree

CANARY = "root-only-canary-7f3a"
OWNER = 4242


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the source that only root may read."""
    path = tmp_path / "root-only"
    path.write_text(CANARY)
    path.chmod(0o600)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return foreign_trees.by_hand(tmp_path / "source")


def owned(top: Path) -> Path:
    """Give a tree to a user who is not root, and let that user get there."""
    require_root()
    for path in (top, *top.rglob("*")):
        os.lchown(path, OWNER, OWNER)
    for path in top.parents:
        if path.stat().st_mode & 0o005 != 0o005:
            path.chmod(path.stat().st_mode | 0o055)
    return top


def with_open_python(place: Path) -> tuple[str, ...]:
    """Return what lets other users reach a Python that lies in a closed home: a mount namespace with an open one."""
    for folder in reversed(Path(os.__file__).parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            below = next(path for path in Path(os.__file__).parents if path.parent == folder)
            script = (
                'mkdir -p "$1/$3" && mount --rbind "$2/$3" "$1/$3" && mount --rbind "$1" "$2" && shift 3 && exec "$@"'
            )
            return ("unshare", "--mount", "sh", "-c", script, "sh", str(place), str(folder), below.name)
    return ()


def adopted(source: Path, *, code: int = 0) -> str:
    """Adopt a tree into a directory of that user's; nothing that the user could not read may arrive there."""
    out = source.parent / "out"
    out.mkdir(exist_ok=True)
    os.chown(out, OWNER, OWNER)
    prefix = with_open_python(source.parent / "home")
    done = ran(out, "--adopt", str(source), "--yes", settings={}, code=code, prefix=prefix, real=True)
    for path, (_, data) in tree(out).items():
        assert CANARY.encode() not in data, path
    assert CANARY not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_link_to_a_root_only_file_among_the_secrets_is_not_copied(source: Path, secret: Path) -> None:
    (source / ".secrets/mine").symlink_to(secret)
    given = adopted(owned(source))
    assert "  .secrets/mine" in given.split("Not understood, and left in place:")[1]


def test_an_unknown_secret_that_is_a_link_inside_the_source_is_left_too(source: Path) -> None:
    (source / ".secrets/mine").symlink_to(".env")
    adopted(owned(source))
    assert not os.path.lexists(source.parent / "out/.secrets/mine")


def test_an_unknown_secret_is_copied_and_the_report_says_so(source: Path) -> None:
    (source / ".secrets/mine").write_text("mine")
    given = adopted(owned(source))
    assert "Secrets that mean nothing here, copied unchanged:\n    .secrets/mine" in given
    assert (source.parent / "out/.secrets/mine").read_text() == "mine"


@pytest.mark.parametrize(
    "path", [".secrets/organization_name", ".env", "nginx/nginx.conf", "tls/private/server.decrypted.key", ".secrets"]
)
def test_a_link_that_leads_out_of_the_source_is_refused_by_name(source: Path, secret: Path, path: str) -> None:
    place = source / path
    if place.is_dir():
        shutil.move(place, source.parent / "elsewhere")
        place.symlink_to(source.parent / "elsewhere")
    else:
        place.unlink(missing_ok=True)
        place.symlink_to(secret)
    given = adopted(owned(source), code=1)
    assert f"{source}/{path}" in given and "a link leads out of" in given
    assert f"cp -rL {path} {path}.new && rm {path} && mv {path}.new {path}" in given
    assert tree(source.parent / "out") == {}


def test_a_link_inside_the_source_is_followed(source: Path) -> None:
    shutil.move(source / "tls", source / "certificates")
    (source / "tls").symlink_to("certificates")
    adopted(owned(source))
    assert (source.parent / "out/tls/server.fullchain.crt").is_file()


def test_a_hard_link_to_a_root_only_file_is_not_read(source: Path, secret: Path) -> None:
    owned(source)
    (source / ".secrets/mine").hardlink_to(secret)
    given = adopted(source, code=1)
    assert "cannot be read (permission denied)" in given


@pytest.mark.parametrize("command", ["--status", "--adopt"])
def test_a_program_that_the_owner_may_not_read_is_said_before_anything(tmp_path: Path, command: str) -> None:
    """Root in a checkout that only root can enter, and a directory of another user."""
    require_root()
    source = foreign_trees.by_hand(tmp_path / "source")
    owned(source)
    checkout, out = tmp_path / "checkout", tmp_path / "out"
    checkout.mkdir()
    out.mkdir()
    os.chown(out, OWNER, OWNER)
    for name in ("setup", "templates"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    checkout.chmod(0o700)
    flags = (command, str(source)) if command == "--adopt" else (command,)
    prefix = with_open_python(tmp_path / "home")
    given = ran(out, *flags, settings={}, code=1, prefix=prefix, root=checkout, real=True).stderr
    assert f"belongs to user {OWNER}, who may not read this program in {checkout}: put the program where" in given
    assert tree(out) == {}
