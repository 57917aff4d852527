"""What all tests share: the markers of the suite's parts, and lines that say what was left out, and why."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from setup.deploy.templates import Renderer

# No example has a time limit: how long one takes is the machine's affair, and beside a sweep it is long.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest.register_assert_rewrite("tests.support")

TESTS = Path(__file__).resolve().parent
REQUIRED = os.environ.get("AVATAR_REQUIRE_DOCKER") == "1"


# Folder -> the marker of every test in it.
FOLDERS = {"torture": "torture", "terminal": "terminal", "faults": "slow", "kubernetes": "kubernetes"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and refuse a name that a log or a command line would garble."""
    garbled = [item.nodeid for item in items if not item.name.isascii()]
    if garbled:
        raise pytest.UsageError(f"names of tests must be ASCII: {garbled}")
    for item in items:
        if marker := FOLDERS.get(item.path.relative_to(TESTS).parts[0]):
            item.add_marker(marker)


def pytest_sessionstart() -> None:
    """Compile the templates, as the build of the image does: to compile them again would be half of each run."""
    Renderer(TESTS.parent / "templates").bake()


@cache
def missing_docker() -> str:
    """Why tests cannot use Docker here; "" when they can."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"`{' '.join(command)}` cannot be run ({type(error).__name__})"
        if done.returncode:
            return f"`{' '.join(command)}` says that there is none to use"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what wants a cluster or Docker where there is none; with AVATAR_REQUIRE_DOCKER=1 the latter fails."""
    if item.get_closest_marker("kubernetes") and not os.environ.get("KUBECONFIG"):
        pytest.skip("wants a Kubernetes cluster: `make kubernetes KUBECONFIG=FILE` names one")
    if item.get_closest_marker("docker") and missing_docker():
        if REQUIRED:
            pytest.fail(f"Docker is required here, but {missing_docker()}", pytrace=False)
        pytest.skip(f"wants Docker: {missing_docker()}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each thing that was wanted and is not here, with the number of tests that were not run."""
    skipped = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ())]  # file, line, reason
    without_docker = sum("wants Docker: " in reason for reason in skipped)
    if without_docker:
        terminalreporter.write_line(
            f"{without_docker} tests wanted Docker and were skipped: {missing_docker()}. "
            "With AVATAR_REQUIRE_DOCKER=1 they fail instead."
        )
    if without_cluster := sum("wants a Kubernetes cluster: " in reason for reason in skipped):
        terminalreporter.write_line(
            f"NOT PROVEN HERE: {without_cluster} tests wanted a Kubernetes cluster and were skipped: "
            "`make kubernetes KUBECONFIG=FILE` names one. docs/internals/proof.md says when they last ran."
        )
    reasons = [reason.partition("wants a real Authentik: ")[2] for reason in skipped]
    if without_authentik := [reason for reason in reasons if reason]:
        terminalreporter.write_line(
            f"NOT PROVEN HERE: {len(without_authentik)} tests wanted a real Authentik and were skipped: "
            f"{without_authentik[0]}. docs/internals/proof.md says when they last ran."
        )
