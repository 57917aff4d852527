"""The verbs through the image, as an operator types them: owners, hardening, and a second time."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import foreign_trees
from tests.support.engine import IMAGE, docker, image
from tests.support.runs import REQUIRED, STATE, secrets, stamps, tree, without_marks

pytestmark = pytest.mark.docker

HARDENED = ("--read-only", "--security-opt", "no-new-privileges", "--network", "none")
OWNED = (*HARDENED, "--cap-drop", "ALL", "--user", "1234:5678")


@pytest.fixture(scope="module", autouse=True)
def image_of_this_checkout() -> None:
    image()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An ordinary user's directory."""
    path = tmp_path / "avatar"
    path.mkdir()
    os.chown(path, 1234, 5678)
    return path


def run(out: Path, *words: str, options: tuple[str, ...] = (), code: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = docker("run", "--rm", "-v", f"{out}:/out", *options, IMAGE, *words, check=False)
    assert done.returncode == code, (done.stdout + done.stderr).decode()
    return done


def read_only(out: Path, *words: str, code: int = 0) -> str:
    """What is answered where nothing can be written."""
    done = docker("run", "--rm", "-v", f"{out}:/out:ro", *OWNED, IMAGE, *words, check=False)
    assert done.returncode == code, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


def configured(out: Path) -> Path:
    run(out, options=tuple(word for key, text in REQUIRED.items() for word in ("-e", f"{key}={text}")))
    return out


def owners(out: Path) -> set[tuple[int, int]]:
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in out.rglob("*")}


@pytest.mark.parametrize("name", ["by_hand", "versioned", "flat"])
def test_a_deployment_of_roots_becomes_one_of_the_directorys_owner(name: str, out: Path, tmp_path: Path) -> None:
    """The source's secrets are only root's to read; they are read before root becomes somebody else."""
    source = getattr(foreign_trees, name)(tmp_path / "old")
    base = source / ("generated_files" if name == "versioned" else "")
    for path in (base / ".secrets").iterdir():
        path.chmod(0o600)
    before = stamps(source)
    options = (*HARDENED, "-v", f"{source}:/old:ro")
    assert b"--yes" in run(out, "--adopt", "/old", options=options, code=4).stderr
    assert tree(out) == {}
    run(out, "--adopt", "/old", "--yes", options=options)
    assert stamps(source) == before
    assert owners(out) == {(1234, 5678)}
    assert secrets(out)["db_password"] == foreign_trees.SECRETS["db_password"]
    stood = stamps(out)
    assert b"Nothing to do" in run(out, "--adopt", "/old", "--yes", options=options).stdout
    assert stamps(out) == stood


def test_a_deployment_is_adopted_where_it_stands(out: Path) -> None:
    foreign_trees.by_hand(out)
    for path in (out, *out.rglob("*")):
        os.chown(path, 1234, 5678)
    before = (out / ".env").read_bytes()
    run(out, "--adopt", "/out", "--yes", options=OWNED)
    (copy,) = (out / ".deployment-history").iterdir()
    assert (copy / ".env").read_bytes() == before
    assert owners(out) == {(1234, 5678)}
    stood = stamps(out)
    assert b"Nothing to do" in run(out, "--adopt", "/out", "--yes", options=OWNED).stdout
    assert stamps(out) == stood


def test_a_group_of_secrets_is_rotated(out: Path) -> None:
    before = secrets(configured(out))
    output = json.loads(run(out, "--rotate", "sso", "--yes", "--json", options=OWNED).stdout)
    after = secrets(out)
    assert {name for name in after if after[name] != before[name]} == set(output["rotated"])
    assert len(output["rotated"]) == 4
    assert owners(out) == {(1234, 5678)}
    assert b"rotated, value 2," in run(out, "--status", options=OWNED).stdout


def test_a_deployment_goes_to_another_directory(out: Path, tmp_path: Path) -> None:
    configured(out)
    exported = run(out, "--export", "-", "--with-secrets", options=OWNED).stdout
    (tmp_path / "export.yaml").write_bytes(exported)
    other = tmp_path / "other"
    other.mkdir()
    os.chown(other, 1234, 5678)
    run(other, "--config", "/export.yaml", options=("-v", f"{tmp_path / 'export.yaml'}:/export.yaml:ro", *HARDENED))
    one, two = without_marks(tree(out)), without_marks(tree(other))
    different = {path for path in one.keys() | two.keys() if one.get(path) != two.get(path)}
    assert different <= {STATE, f"{STATE}.bak", ".deployment-written/settings.json"}


def test_an_export_needs_a_place_that_stays(out: Path) -> None:
    configured(out)
    assert b"no volume is mounted" in run(out, "--export", "/tmp/export.yaml", options=OWNED, code=1).stderr
    assert b"Written" in run(out, "--export", "/out/export.yaml", options=OWNED).stdout
    assert b"Nothing to do" in run(out, "--export", "/out/export.yaml", options=OWNED).stdout
    assert (out / "export.yaml").stat().st_mode & 0o777 == 0o600


def test_a_change_is_looked_at_made_listed_and_taken_back(out: Path) -> None:
    before = tree(configured(out))
    stood = stamps(out)
    output = read_only(out, "--set", "LOG_LEVEL=DEBUG", "--diff", code=3)
    assert "LOG_LEVEL: INFO (default) -> DEBUG (--set)" in output
    assert "+LOG_LEVEL=DEBUG" in output.splitlines()
    assert stamps(out) == stood
    assert "No backup yet" in read_only(out, "--history")
    output = run(out, "--set", "LOG_LEVEL=DEBUG", options=OWNED).stdout.decode()
    (copy,) = (out / ".deployment-history").iterdir()
    assert f"--restore {copy.name}\n" in output
    assert b"Nothing to do" in run(out, "--set", "LOG_LEVEL=DEBUG", options=OWNED).stdout
    assert "LOG_LEVEL: INFO (default) -> DEBUG (--set)" in read_only(out, "--history")
    assert "-LOG_LEVEL=DEBUG" in read_only(out, "--restore", copy.name, "--dry-run", code=3)
    run(out, "--restore", copy.name, options=OWNED)
    after = tree(out)
    assert {path for path in before if after.get(path) != before[path]} <= {f"{STATE}.bak"}
    assert owners(out) == {(1234, 5678)}
    stood = stamps(out)
    assert b"Nothing to do" in run(out, "--restore", copy.name, options=OWNED).stdout
    assert b"Nothing to do" in run(out, "--unset", "LOG_LEVEL", options=OWNED).stdout
    assert "Nothing to do" in read_only(out, "--diff")
    assert stamps(out) == stood


def test_a_setting_goes_back_to_its_default_and_an_edit_is_kept(out: Path) -> None:
    configured(out)
    run(out, "--set", "LOG_LEVEL=DEBUG", options=OWNED)
    run(out, "--unset", "LOG_LEVEL", options=OWNED)
    assert "LOG_LEVEL=INFO\n" in (out / ".env").read_text()
    nginx = out / "nginx" / "nginx.conf"
    nginx.write_text(f"# mine\n{nginx.read_text()}")
    output = run(out, "--set", "PUBLIC_URL=other.example.com", options=OWNED, code=4)
    assert b"nginx/nginx.conf.new" in output.stdout + output.stderr
    assert nginx.read_text().startswith("# mine\n")
    assert "other.example.com" in (out / "nginx" / "nginx.conf.new").read_text()
    run(out, "--set", "PUBLIC_URL=third.example.com", "--on-conflict", "replace", options=OWNED)
    assert "third.example.com" in nginx.read_text()


def test_the_check_reads_and_changes_nothing(out: Path) -> None:
    configured(out)
    stood = stamps(out)
    output = read_only(out, "--check", "--json", code=3)
    failed = [one["name"] for one in json.loads(output)["findings"] if one["level"] == "fail"]
    assert "secret-pending" in failed
    assert stamps(out) == stood


def test_the_images_are_listed_without_a_deployment() -> None:
    """Nothing is mounted: on a machine that only copies them, there is none."""
    shown = docker("run", "--rm", *OWNED, "-e", "AVATAR_WEB_VERSION=0.70.0", IMAGE, "--images").stdout.decode()
    assert "  docker pull --platform linux/amd64 quay.io/octopize/avatar-web:0.70.0\n" in shown


def test_the_printed_script_checks_this_host(out: Path) -> None:
    script = read_only(configured(out), "--host-check")
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (1, ""), "the name does not resolve here"
    assert done.stdout.startswith("ok    engine: Docker ")
    assert "fail  name: avatar.example.com does not resolve on this host" in done.stdout
