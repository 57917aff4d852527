"""Which versions may follow which: Authentik migrates its database one release line at a time, and never back; pure."""

from __future__ import annotations

import re

AUTHENTIK = "AVATAR_AUTHENTIK_VERSION"

# The release lines at which every upgrade must stop.
STOPS = ((2025, 10), (2025, 12), (2026, 2), (2026, 5), (2026, 8))


def refusal(deployed: str, wanted: str) -> str:
    """Why Authentik cannot go from one version to another, with what to type; "" when it can.

    A tag that names no release line, such as a digest or a build of one's own, is the operator's affair.
    """
    before, after = _line(deployed), _line(wanted)
    if before is None or after is None or before == after:
        return ""
    if after < before:
        return (
            f"{AUTHENTIK}={wanted} is older than {deployed}, which is deployed, and Authentik's database is migrated "
            f"forwards only: keep the present one (--set {AUTHENTIK}={deployed}). If that was never started, "
            "the copy in .deployment-history takes it back (docs/day-two.md); if it was, a backup of the database from "
            "before must be put back as well"
        )
    skipped = [stop for stop in STOPS if before < stop < after]
    if not skipped:
        return ""
    stop = ".".join(map(str, skipped[0]))
    return (
        f"{AUTHENTIK}={wanted} is more than one release line after {deployed}, which is deployed, and Authentik's "
        f"database is migrated one line at a time. The next stop is {stop}: --set {AUTHENTIK}={stop}, docker compose "
        f"up -d, and when authentik_server is healthy the one after it; at the end --unset {AUTHENTIK} follows the "
        "releases again"
    )


def _line(version: str) -> tuple[int, int] | None:
    """The release line of a version such as 2026.8.4, None for anything else."""
    found = re.match(r"(20\d\d)\.(\d{1,2})(?:\.\d+)?(?:[-+].*)?$", version)
    return (int(found[1]), int(found[2])) if found else None
