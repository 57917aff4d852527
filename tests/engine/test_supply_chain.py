"""What the image is made of: packages without a known advisory, a true bill of materials, the same in every build."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.support.engine import build_inputs, docker, unique
from tests.support.runs import ROOT

IMAGE = "avatar-setup"
RECORDS = "var/lib/dpkg/status.d/"
PYTHON = "opt/avatar-setup/lib/"
# What the engine puts into every container, and so into what it exports.
ENGINES = {".dockerenv", "dev", "etc", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", "proc", "sys"}
AUTHORITIES = "/usr/share/ca-certificates/mozilla"  # joined into one bundle
# Ours, the packages' records and licences, and what the build itself makes.
NOT_FROM_A_PACKAGE = ("opt/", "dev/", "usr/share/doc/", RECORDS)
MADE_HERE = {
    "etc/group", "etc/ld.so.cache", "etc/nsswitch.conf", "etc/passwd", "etc/ssl/certs/ca-certificates.crt",
    "usr/local/bin/avatar-setup",
}  # fmt: skip


# --- known advisories -------------------------------------------------------------------------------


def audit(lock: Path) -> tuple[int, str]:
    command = [sys.executable, ROOT / ".ci" / "audit.py", "--offline", lock]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_the_locked_packages_have_no_known_advisory() -> None:
    assert audit(ROOT / "requirements.txt") == (0, "")


@pytest.mark.parametrize(
    ("pinned", "words"),
    [
        ("jinja2==3.1.5", "jinja2 3.1.5: CVE-2025-27516 concerns <3.1.6"),
        ("idna==3.14", "idna 3.14: CVE-2026-45409 concerns <3.15"),
        ("pyyaml==5.1.2", "pyyaml 5.1.2: CVE-2019-20477"),
        ("leftpad==1.0", "leftpad is not in .ci/advisories.toml"),
    ],
)
def test_a_package_with_an_advisory_or_unknown_ends_the_check(tmp_path: Path, pinned: str, words: str) -> None:
    (tmp_path / "lock").write_text(f"{pinned} \\\n    --hash=sha256:00\n")
    code, output = audit(tmp_path / "lock")
    assert code == 1
    assert words in output


def test_a_lock_file_without_packages_is_no_clean_one(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("# nothing\n")
    assert audit(tmp_path / "lock")[0] == 1


# --- the image -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image() -> str:
    """The image of this checkout."""
    docker("build", "-q", "-t", IMAGE, ROOT, timeout=900)
    return IMAGE


def exported(image: str) -> tarfile.TarFile:
    """All that a container of this image starts with."""
    name = docker("create", image).stdout.decode().strip()
    try:
        return tarfile.open(fileobj=io.BytesIO(docker("export", name).stdout))
    finally:
        docker("rm", name)


# --- the bill of materials --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sbom(image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What `make sbom` writes; it has been held against CycloneDX's own schema there."""
    command = [sys.executable, ROOT / ".ci" / "sbom.py", image]
    made = [subprocess.run(command, stdout=subprocess.PIPE, timeout=120, check=True).stdout for _ in range(2)]
    assert made[0] == made[1], "the same image, the same bytes"
    return json.loads(made[0])


def of_kind(sbom: dict, beginning: str) -> dict[str, dict]:
    """Name -> component, of one kind of package."""
    return {one["name"]: one for one in sbom["components"] if one["purl"].startswith(f"pkg:{beginning}/")}


def owners(paths: list[str]) -> dict[str, str]:
    """Package -> version for these files, as dpkg knows them on the base that they come from; fails for nobody's."""
    base = unique("base")
    docker("build", "-q", "--target", "base", "-t", base, ROOT, timeout=900)
    script = (
        "xargs dpkg-query --search > /tmp/found && cut -d: -f1 /tmp/found | sort -u "
        "| xargs dpkg-query --show -f '${Package}\\t${Version}\\n'"
    )
    try:
        output = docker("run", "--rm", "-i", base, "sh", "-c", script, input="\n".join(paths).encode() + b"\n").stdout
    finally:
        docker("rmi", base, check=False)
    return dict(line.split("\t") for line in output.decode().splitlines())


@pytest.mark.docker
def test_the_sbom_names_every_debian_package_that_a_file_of_the_image_is_from(sbom: dict, image: str) -> None:
    """Looked up file by file, not in the records that the bill was made from."""
    with exported(image) as contents:
        files = {one.name for one in contents if one.isfile()}
    files = {name for name in files if not name.startswith(NOT_FROM_A_PACKAGE) and "__pycache__" not in name}
    found = owners([AUTHORITIES, *(f"/{name}" for name in sorted(files - MADE_HERE - ENGINES))])
    listed = {name: one["version"] for name, one in of_kind(sbom, "deb").items()}
    assert listed == found
    assert len(listed) >= 10


@pytest.mark.docker
def test_the_sbom_names_the_python_packages_in_the_image_with_the_hashes_of_the_lock_file(
    sbom: dict, image: str
) -> None:
    with exported(image) as contents:
        metadata = [
            message_from_bytes(contents.extractfile(one).read())  # type: ignore[union-attr]
            for one in contents
            if one.name.startswith(PYTHON) and one.name.endswith(".dist-info/METADATA")
        ]
    installed = {re.sub(r"[-_.]+", "-", one["Name"]).lower(): one["Version"] for one in metadata}
    listed = of_kind(sbom, "pypi")
    assert {name: one["version"] for name, one in listed.items()} == installed
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements.txt").read_text()):
        name, hashes = entry.partition("==")[0], set(re.findall(r"--hash=sha256:(\w+)", entry))
        output = {one["content"] for link in listed[name]["externalReferences"] for one in link["hashes"]}
        assert output == hashes, name


@pytest.mark.docker
def test_the_sbom_names_what_is_built_into_a_package(sbom: dict, image: str) -> None:
    """The OpenSSL in `cryptography` is none of Debian's; which one it is, the library itself says."""
    parts = {one["name"]: one["version"] for one in of_kind(sbom, "pypi")["cryptography"]["components"]}
    program = "from cryptography.hazmat.backends.openssl import backend; print(backend.openssl_version_text())"
    output = docker("run", "--rm", image, "python3", "-c", program).stdout.decode()
    assert output.startswith(f"OpenSSL {parts['openssl']} ")
    assert len(parts) > 10


@pytest.mark.docker
def test_the_sbom_says_which_image_it_describes(sbom: dict, image: str) -> None:
    inspected = json.loads(docker("image", "inspect", image).stdout)[0]
    subject = sbom["metadata"]["component"]
    assert subject["version"] == inspected["Config"]["Labels"]["org.opencontainers.image.version"]
    assert [one["value"] for one in subject["properties"]] == inspected["RootFS"]["Layers"]
    assert {one["ref"] for one in sbom["dependencies"]} >= {one["purl"] for one in sbom["components"]}


# --- the same image again ------------------------------------------------------------------------------


@contextlib.contextmanager
def built(checkout: Path) -> Iterator[str]:
    """An image built without a cache."""
    name = unique("reproducible")
    docker("build", "-q", "--no-cache", "-t", name, checkout, timeout=900)
    try:
        yield name
    finally:
        docker("rmi", name, check=False)


def another_checkout(to: Path) -> Path:
    """The same sources as somebody else has them: other times, other modes, a stale cache."""
    build_inputs(to)
    for path in sorted(to.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (time.time() - 10**7,) * 2)
    (to / "setup" / "__pycache__").mkdir()
    (to / "setup" / "__pycache__" / "cli.cpython-313.pyc").write_bytes(b"stale")
    return to


def listing(image: str) -> dict[str, tuple[object, ...]]:
    """Path -> kind, mode, owner, time of change, link and contents' hash of everything in an image."""
    with exported(image) as contents:
        return {
            one.name: (
                one.type, oct(one.mode), one.uid, one.gid, one.mtime, one.linkname,
                hashlib.sha256(contents.extractfile(one).read()).hexdigest() if one.isfile() else "",  # type: ignore[union-attr]
            )
            for one in contents
            if one.name not in ENGINES and not one.name.startswith("dev/")
        }  # fmt: skip


@pytest.mark.docker
def test_two_builds_without_a_cache_make_the_same_image(tmp_path: Path) -> None:
    """Every path with its mode, owner, time and contents; the layers' digests and the configuration too."""
    with built(ROOT) as one, built(another_checkout(tmp_path / "elsewhere")) as other:
        first, second = listing(one), listing(other)
        assert {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)} == set()
        assert len(first) > 1000
        looks = [json.loads(docker("image", "inspect", name).stdout)[0] for name in (one, other)]
    assert looks[0]["RootFS"] == looks[1]["RootFS"]
    for part in ("Config", "Architecture", "Os", "Size"):
        assert looks[0][part] == looks[1][part], part
