"""Write the texts that derive from the catalogue, and the recorded sessions; `make reference` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.recordings import RECORDINGS, part, picture, record  # noqa: E402 - the checkout comes first
from docs.reference import COMMAND_LINE, documents, with_part  # noqa: E402
from setup.formats.yaml_file import load_yaml  # noqa: E402

README = "README.md"


def texts() -> dict[Path, str]:
    """Return every generated file with the text it should have."""
    defaults = load_yaml((ROOT / "setup" / "defaults.yaml").read_bytes())["settings"]
    generated = documents(defaults, (ROOT / COMMAND_LINE).read_text())
    for recording in RECORDINGS:
        text = record(recording)
        generated[f"docs/sessions/{recording.name}.txt"] = text
        generated[f"docs/sessions/{recording.name}.svg"] = picture(recording.title, part(text, *recording.picture))
    generated[README] = with_excerpt((ROOT / README).read_text(), generated["docs/sessions/express.txt"])
    return {ROOT / name: text for name, text in generated.items()}


def with_excerpt(readme: str, recorded: str) -> str:
    """Return the README with the beginning and the end of the recorded first session."""
    opening = part(recorded, "$ ", "Environment name")
    end = part(recorded, "To sign in", "  docker compose up")
    return with_part(readme, "session", "\n".join(["```text", *opening, "...", "", *end, "```"]))


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text)
