"""Authentik moves one release line at a time and never back; other tags are the operator's affair."""

from __future__ import annotations

from itertools import pairwise

import pytest

from setup.config.releases import refuse_upgrade

LINES = ("2025.10", "2025.12", "2026.2", "2026.5", "2026.8")


@pytest.mark.parametrize(("before", "after"), list(pairwise(LINES)))
def test_one_line_at_a_time_is_allowed(before: str, after: str) -> None:
    assert refuse_upgrade(f"{before}.3", f"{after}.1") == ""
    assert refuse_upgrade(before, after) == ""


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("jump", range(2, 5))
def test_a_jump_is_refused_with_the_next_stop_and_what_to_type(before: int, jump: int) -> None:
    if before + jump < len(LINES):
        output = refuse_upgrade(f"{LINES[before]}.1", f"{LINES[before + jump]}.4")
        assert f"The next stop is {LINES[before + 1]}: --set AVATAR_AUTHENTIK_VERSION={LINES[before + 1]}," in output
        assert "--unset AVATAR_AUTHENTIK_VERSION" in output


@pytest.mark.parametrize(("before", "after"), [(after, before) for before, after in pairwise(LINES)])
def test_no_line_is_gone_back(before: str, after: str) -> None:
    output = refuse_upgrade(f"{before}.1", f"{after}.9")
    assert f"AVATAR_AUTHENTIK_VERSION={after}.9 is older than the deployed {before}.1" in output
    assert f"--set AVATAR_AUTHENTIK_VERSION={before}.1" in output


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2026.8.4", "2026.8.4"),
        ("2026.8.4", "2026.8.1"),  # within a line Authentik's database is the same
        ("2026.5.1", "2026.8.0-rc1"),
        ("2026.8.4", "2026.11.1"),  # a line that this release does not know yet
        ("latest", "2026.8.4"),
        ("2025.10.1", "my-own-build"),
        ("", "2026.8.4"),
    ],
)
def test_what_is_no_jump(before: str, after: str) -> None:
    assert refuse_upgrade(before, after) == ""


@pytest.mark.parametrize(
    ("before", "after", "stop"),
    [
        ("2024.12.3", "2026.8.4", "2025.10"),
        ("2025.11.1", "2026.8.4", "2025.12"),
        ("2026.5.1", "2026.11.1", "2026.8"),
        ("2026.2.0-rc2", "2026.8.4", "2026.5"),
    ],
)
def test_a_line_between_the_stops_goes_to_the_next_one(before: str, after: str, stop: str) -> None:
    assert f"The next stop is {stop}:" in refuse_upgrade(before, after)
