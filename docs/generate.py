"""Writes the texts that derive from the catalogue; `make reference` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from setup.documents import load_yaml  # noqa: E402 - the checkout comes first
from setup.reference import documents  # noqa: E402


def texts() -> dict[Path, str]:
    """Every generated file with the text it should have."""
    defaults = load_yaml((ROOT / "setup" / "defaults.yaml").read_bytes())["settings"]
    found = documents(defaults, (ROOT / "README.md").read_text())
    return {ROOT / name: text for name, text in found.items()}


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text)
