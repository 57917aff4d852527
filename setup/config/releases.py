"""Judge the releases of images: what this compose file can run, and which upgrades a database cannot make.

Facts: the stack's pages about versions and about what changed by release.
"""

import re

from setup.config.derived import is_before

# Authentik migrates its database one release line at a time, and never back.
AUTHENTIK = "AVATAR_AUTHENTIK_VERSION"
# The release lines at which every upgrade must stop.
STOPS = ((2025, 10), (2025, 12), (2026, 2), (2026, 5), (2026, 8))

POSTGRES = "POSTGRES_IMAGE"
POSTGRES_ENDED = 14  # the newest major release that gets no fixes any more
POSTGRES_NEWEST = 17  # from 18 on, the image refuses a volume at the place where this stack mounts it

# The images whose releases move with those of this program: the oldest that this stack can run, and why.
FLOORS = {
    "AVATAR_API_VERSION": ((3,), "older ones need the service pdfgenerator, which this stack does not have"),
    "AVATAR_WEB_VERSION": ((0, 68), "older ones need AVATAR_SSO_ENABLED, which the platform removed"),
    "AVATAR_SEAWEEDFS_VERSION": ((4, 41), "older ones do not know the options with which this stack starts it"),
}


def refuse_pin(key: str, version: str) -> str:
    """Say why this stack cannot run a release, with what to type; "" if it can, or if the tag names no release."""
    floor, reason = FLOORS[key]
    if not is_before(version, *floor):
        return ""
    return (
        f"{key}={version}: this stack needs {'.'.join(map(str, floor))} or newer, because {reason}. "
        f"Leave {key} out to move to the release that this one was made for"
    )


def refuse_upgrade(deployed: str, wanted: str) -> str:
    """Say why Authentik cannot go from one version to another, with what to type; "" if it can.

    A tag that names no release line, such as a digest or a custom build, is left to the operator.
    """
    before, after = _line(deployed), _line(wanted)
    if before is None or after is None or before == after:
        return ""
    if after < before:
        return (
            f"{AUTHENTIK}={wanted} is older than the deployed {deployed}, and Authentik cannot migrate its database "
            f"back: keep the present one (--set {AUTHENTIK}={deployed}). If that was never started, a backup in "
            ".deployment-history restores it (docs/operate/change-a-setting.md); if it was, restore an earlier backup "
            "of the database as well"
        )
    skipped = [stop for stop in STOPS if before < stop < after]
    if not skipped:
        return ""
    stop = ".".join(map(str, skipped[0]))
    return (
        f"{AUTHENTIK}={wanted} is more than one release line after the deployed {deployed}, and Authentik migrates its "
        f"database one line at a time. The next stop is {stop}: --set {AUTHENTIK}={stop}, then what "
        "that run prints last. Once authentik_server is healthy, go on to the one after it. At the end, "
        f"--unset {AUTHENTIK} follows the releases again"
    )


def refuse_other_postgres(deployed: str, wanted: str) -> str:
    """Say why PostgreSQL cannot open the volume of another major release, with what to do; "" if it can.

    An image whose tag names no release, such as `latest`, may be of any.
    """
    before, after = postgres_major(deployed), postgres_major(wanted)
    if before is None or before == after or deployed == wanted:
        return ""
    if after is None:
        return (
            f"{POSTGRES}={wanted} names no release of PostgreSQL, and another one cannot open the database's volume, "
            f"which {deployed} wrote: give a tag that begins with {before}, as in postgres:{before}-alpine, with a "
            "digest behind it if you want one"
        )
    return (
        f"{POSTGRES}={wanted}: PostgreSQL {after} cannot open the database's volume, which {deployed} wrote. Keep it "
        f"(--set {POSTGRES}={deployed}), or dump the databases and restore them into a new volume, as "
        f"docs/operate/upgrade.md describes under 'Move to another PostgreSQL'"
    )


def postgres_major(image: str) -> int | None:
    """Return the major release of an image such as postgres:14-alpine, None if its tag names none."""
    match = re.search(r":(\d{1,3})(?:[.-][\w.-]*)?(?:@\S*)?$", image)
    return int(match[1]) if match else None


def _line(version: str) -> tuple[int, int] | None:
    """Return the release line of a version such as 2026.8.4, None for anything else."""
    match = re.match(r"(20\d\d)\.(\d{1,2})(?:\.\d+)?(?:[-+].*)?$", version)
    return (int(match[1]), int(match[2])) if match else None
