"""The shell scripts of the compose file, run here with a `weed` that tells what it was given."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.runs import lacking
from tests.support.trees import named_targets
from tests.unit.deploy.test_targets import interpolated, services

WEED = """\
#!/bin/sh
printf '%s\\n' "$@" > "$OUT/arguments"
env > "$OUT/environment"
[ "$1" != shell ] || cat > "$OUT/stdin"
echo "all keys are shown here"
printf '%s' "$COMPLAINT" >&2
exit "${STATUS:-0}"
"""


def run(directory: Path, service: str, secrets: dict[str, str], **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs a service's script with these secrets."""
    script = interpolated(services("usual")[service]["command"][0], named_targets("usual").env_values())
    (directory / "secrets").mkdir()
    for name, text in secrets.items():
        (directory / "secrets" / name).write_text(text)
    (directory / "weed").write_text(WEED)
    (directory / "weed").chmod(0o755)
    entry = services("usual")[service]["entrypoint"]
    return subprocess.run(
        [*entry, script.replace("/run/secrets", str(directory / "secrets"))],
        env={"PATH": f"{directory}:{os.environ['PATH']}", "OUT": str(directory), **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "service", ["filer", "s3", "init-storage", "admin", "authentik_init_db", "authentik_blueprint"]
)
def test_shellcheck_has_nothing_to_say(service):
    if not shutil.which("shellcheck"):
        lacking("shellcheck is missing (apt-get install shellcheck)")
    (script,) = services("usual")[service]["command"]
    script = interpolated(script, named_targets("usual").env_values())
    done = subprocess.run(["shellcheck", "--shell=sh", "-"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


WITH_A_SECRET = {
    "filer": ("storage_encryption_key", "WEED_S3_SSE_KEK"),
    "s3": ("storage_encryption_key", "WEED_S3_SSE_KEK"),
    "admin": ("seaweedfs_admin_password", "WEED_ADMIN_PASSWORD"),
}


@pytest.mark.parametrize("service", WITH_A_SECRET)
def test_weed_gets_its_secret_by_the_environment(tmp_path, service):
    secret, variable = WITH_A_SECRET[service]
    hostile = 'it\'s "5" $HOME `id` \\n'
    done = run(tmp_path, service, {secret: hostile + "\n"})
    assert done.returncode == 0, done.stderr
    assert f"{variable}={hostile}\n" in (tmp_path / "environment").read_text()
    assert hostile not in (tmp_path / "arguments").read_text()


@pytest.mark.parametrize("secrets", [{}, {"empty": ""}])
@pytest.mark.parametrize("service", WITH_A_SECRET)
def test_weed_does_not_start_without_its_secret(tmp_path, service, secrets):
    done = run(tmp_path, service, {WITH_A_SECRET[service][0]: ""} if secrets else {})
    assert done.returncode != 0
    assert WITH_A_SECRET[service][0] in done.stderr
    assert not (tmp_path / "arguments").exists()


KEY, SECRET_KEY = "storage_admin_access_key_id", "storage_admin_secret_access_key"


def test_the_storage_keys_are_handed_to_the_shell_of_weed(tmp_path):
    done = run(tmp_path, "init-storage", {KEY: "AK0/+=_.-z\n", SECRET_KEY: "secret/0+="})
    assert (done.returncode, done.stderr) == (0, "")
    expected = "s3.configure -apply -user power_user -access_key AK0/+=_.-z -secret_key secret/0+= -actions Admin\n"
    assert (tmp_path / "stdin").read_text() == expected
    assert (tmp_path / "arguments").read_text().split() == ["shell", "-master=master:9333", "-filer=filer:8888"]
    assert "shown" not in done.stdout


@pytest.mark.parametrize("bad", ["", "a b", "a;b", "a'b", 'a"b', "a\nb", "a$b", "-a", "a*", "é", "a\\b"])
@pytest.mark.parametrize("which", [KEY, SECRET_KEY])
def test_keys_that_the_shell_of_weed_would_split_are_refused(tmp_path, which, bad):
    done = run(tmp_path, "init-storage", {KEY: "good", SECRET_KEY: "good"} | {which: bad})
    assert done.returncode == 1
    assert "storage key" in done.stderr
    assert not (tmp_path / "arguments").exists()


@pytest.mark.parametrize("complaint", ["error: no filer\n", "I0101 connecting\nerror: refused", "unknown command: x"])
def test_what_the_shell_of_weed_complains_about_is_a_failure(tmp_path, complaint):
    done = run(tmp_path, "init-storage", {KEY: "a", SECRET_KEY: "b"}, COMPLAINT=complaint)
    assert done.returncode == 1
    assert complaint.strip() in done.stderr
    assert "shown" not in done.stdout + done.stderr


def test_a_shell_of_weed_that_fails_is_a_failure(tmp_path):
    done = run(tmp_path, "init-storage", {KEY: "a", SECRET_KEY: "b"}, STATUS="3", COMPLAINT="lost")
    assert done.returncode == 1
    assert "lost" in done.stderr


def test_log_lines_of_weed_are_no_failure(tmp_path):
    lines = "I0101 12:00:00 masterclient.go:1 rpc error: code = Unavailable, will retry\n"
    assert run(tmp_path, "init-storage", {KEY: "a", SECRET_KEY: "b"}, COMPLAINT=lines).returncode == 0
