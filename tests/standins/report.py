"""What a stand-in's process finds: `report.py NAME` prints it as one line and fails where it may not read a secret.

Names only, of the environment as of the secrets: neither log nor answer shows a value.
"""

import json
import os
import sys
from pathlib import Path

MARK = "stand-in: "


def report(service: str) -> dict[str, object]:
    """Who asks, the names of its environment, and each secret with "readable" or the reason why not."""
    return {"service": service, "uid": os.getuid(), "environment": sorted(os.environ), "secrets": _secrets()}


def _secrets() -> dict[str, str]:
    directory = Path("/run/secrets")
    paths = sorted(directory.iterdir()) if directory.is_dir() else []
    return {path.name: _readable(path) for path in paths}


def _readable(path: Path) -> str:
    try:
        path.read_bytes()
    except OSError as error:
        return f"{error.strerror} for uid {os.getuid()}"
    return "readable"


def announce(service: str) -> None:
    """Prints the report; ends the process where a secret cannot be read, as the original would end."""
    found = report(service)
    sys.stdout.write(f"{MARK}{json.dumps(found)}\n")
    sys.stdout.flush()
    if wrong := {name: how for name, how in _secrets().items() if how != "readable"}:
        sys.exit(f"secrets that cannot be read: {wrong}")


if __name__ == "__main__":
    announce(sys.argv[1])
