"""Holds the locked run-time packages against known advisories: `python .ci/audit.py [--offline] [LOCKFILE]`.

Exits 1 for a package that an advisory concerns, and for one that nobody has looked up. pip-audit asks an advisory
service; the list beside this file, kept by hand, is always consulted, and is all there is where no service answers. The
last line says which it was.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from packaging.specifiers import SpecifierSet

HERE = Path(__file__).resolve().parent
SERVICES = ("pypi", "osv")


def locked(path: Path) -> dict[str, str]:
    """Name -> version of everything that a lock file pins."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", path.read_text(), re.MULTILINE))


def by_list(packages: dict[str, str], known: dict[str, dict[str, str]]) -> list[str]:
    """Return the findings of our own list about these versions."""
    problems = []
    for name, version in packages.items():
        if name not in known:
            problems.append(f"{name} is not in .ci/advisories.toml: look its advisories up and add it")
        for advisory, affected in known.get(name, {}).items():
            if version in SpecifierSet(affected):
                problems.append(f"{name} {version}: {advisory} concerns {affected}")
    return problems


def by_service(lock: Path, packages: dict[str, str], service: str) -> list[str] | None:
    """Return the findings of an advisory service, None unless it answered for every one of these versions."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip", "--require-hashes"]
    command += ["--vulnerability-service", service, "--format", "json", "--progress-spinner", "off", "--timeout", "20"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):  # it could not even ask
        return None
    if {one["name"] for one in told if "vulns" in one} != packages.keys():
        return None
    return [f"{one['name']} {one['version']}: {vuln['id']}" for one in told for vuln in one["vulns"]]


def main(arguments: list[str]) -> int:
    offline = "--offline" in arguments
    lock = Path(next((word for word in arguments if not word.startswith("--")), HERE.parent / "requirements.txt"))
    packages = locked(lock)
    known = tomllib.loads((HERE / "advisories.toml").read_text())
    newest = known.pop("newest")
    problems = by_list(packages, known)
    answers = {} if offline else {service: by_service(lock, packages, service) for service in SERVICES}
    answered = [service for service, answer in answers.items() if answer is not None]
    problems += [text for answer in answers.values() for text in answer or ()]
    for problem in problems:
        print(problem, file=sys.stderr)
    days = (datetime.now(UTC).date() - newest).days
    asked = f"pip-audit by {' and '.join(answered)}" if answered else "no advisory service, as none answered"
    print(f"{len(packages)} packages, our list of {newest} ({days} days old), {asked}: {len(problems)} problems")
    return 1 if problems or not packages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
