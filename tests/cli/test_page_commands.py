"""The commands of the pages do what the pages say: each `sh` block is run, with a stand-in for Docker."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import page_commands
from tests.support.pki import HOST, issue
from tests.support.runs import OPERATORS, REQUIRED, ROOT, ran

DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page_commands.blocks_of(page)]
HERE = "/app/avatar"  # where the deployment of the pages is

# What the deployment is like before the first block of a page, if not the usual one.
GIVEN: dict[str, Mapping[str, str]] = {"howto/behind-a-proxy.md": {"TLS_MODE": "self-signed"}}
PLACES = {"operate/adopt.md": "srv/old-avatar"}


def prepared(folder: Path, page: Path) -> dict[str, str]:
    """Make a complete deployment, what an operator brings along, and an environment with the stand-ins."""
    name = page.relative_to(DOCS).as_posix()
    out = folder / PLACES.get(name, "app/avatar")
    out.mkdir(parents=True)
    ran(out, settings=REQUIRED | OPERATORS | GIVEN.get(name, {}))
    live = folder / "etc/letsencrypt/live" / HOST
    (folder / "etc/letsencrypt/renewal-hooks/deploy").mkdir(parents=True)
    live.mkdir(parents=True)
    authority = issue("Example CA", authority=True)
    pair = issue(HOST, authority, names=[HOST])
    for directory in (live, folder):
        (directory / "fullchain.pem").write_bytes(pair.pem + authority.pem)
        (directory / "privkey.pem").write_bytes(pair.private())
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "srv/backup").mkdir(parents=True)
    page_commands.install(folder / "bin")
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "USER": "root",
        "DEPLOYMENT": str(out),
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_commands_of_a_page_work_in_their_order(page: Path, tmp_path: Path) -> None:
    environ = prepared(tmp_path, page)
    for block in page_commands.blocks_of(page):
        text = block.text
        for place in (HERE, "/etc/letsencrypt", "/srv/backup", "/srv/old-avatar"):
            text = text.replace(place, f"{tmp_path}{place}")
        done = subprocess.run(
            ["sh", "-eu", "-c", text], cwd=tmp_path, env=environ, capture_output=True, encoding="utf-8", check=False
        )
        output = (done.stdout + done.stderr).replace(str(tmp_path), "")
        where = f"{page.name}, line {block.line}:\n{output}"
        assert done.returncode == 0, where
        assert [line for line in block.shown if line.removesuffix("...") not in output] == [], where


def test_every_how_to_has_commands_that_are_run() -> None:
    folders = [DOCS / "howto", DOCS / "operate"]
    assert [page for folder in folders for page in folder.glob("*.md") if page not in PAGES] == []
