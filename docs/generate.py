"""Write the texts that derive from the catalogue, and the recorded session; `make reference` runs it."""

from __future__ import annotations

import re
import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.reference import COMMAND_LINE, documents, with_part  # noqa: E402 - the checkout comes first
from setup.formats.yaml_file import load_yaml  # noqa: E402
from tests.support.terminal import PASSWORD, reply_to, session  # noqa: E402

SESSION, REVIEW, README = "docs/sessions/first.txt", "docs/sessions/review.svg", "README.md"
FILL = "docker run -it --rm -v /app/avatar:/out avatar-setup --fill"

# What the recorded operator types, question by question; Enter alone at all others.
TYPED = {
    "Public URL": ["https://avatar.mycompany.com/web", "avatar.mycompany.com"],
    "Environment name": ["mycompany-prod"],
    "TLS mode": ["?", ""],
    "SMTP host": ["mail.mycompany.com"],
    "SMTP user name": ["avatar"],
    "Everything else": [""],
    "Organization name": ["My Company"],
    "SMTP password": [PASSWORD, PASSWORD],
}


def texts() -> dict[Path, str]:
    """Return every generated file with the text it should have."""
    defaults = load_yaml((ROOT / "setup" / "defaults.yaml").read_bytes())["settings"]
    found = documents(defaults, (ROOT / COMMAND_LINE).read_text())
    recorded = record()
    found |= {SESSION: recorded, REVIEW: picture(_part(recorded, "Review", "Number or name"))}
    found[README] = with_excerpt((ROOT / README).read_text(), recorded)
    return {ROOT / name: text for name, text in found.items()}


def record() -> str:
    """Record a first session on a real terminal, line by line, as an operator of the image would see it."""
    typed = {beginning: list(replies) for beginning, replies in TYPED.items()}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "avatar")
        out.mkdir()
        with session(out, "--plain", columns=100) as terminal:
            while question := terminal.question_or_end():
                replies = next((typed[beginning] for beginning in typed if question.startswith(beginning)), [])
                terminal.answer(replies.pop(0) if replies else reply_to(question, {}))
            if terminal.ends() != 0:
                raise RuntimeError(terminal.screen.text())
        return _as_in_the_image(terminal.raw.replace("\r\n", "\n"), out)


def _as_in_the_image(text: str, out: Path) -> str:
    """Replace the directory, its owner and the command, which differ on each machine, by those of the image."""
    command = rf"\S+ -m setup --output-dir {re.escape(str(out))}"
    text = re.sub(command, "docker run --rm -v /app/avatar:/out avatar-setup", text)
    text = re.sub(r"\(owner \d+:\d+\)", "(owner 1000:1000)", text.replace(str(out), "/app/avatar"))
    text = text.replace("docker run --rm -v /app/avatar:/out avatar-setup --fill", FILL)
    text = text.replace("  sudo ", "  ")
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def _part(text: str, first: str, last: str) -> list[str]:
    """Return the lines from the first that begins with one text to the next that begins with another."""
    lines = text.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(first))
    end = next(number for number, line in enumerate(lines[begin:], begin) if line.startswith(last))
    return lines[begin : end + 1]


def picture(lines: list[str]) -> str:
    """Draw lines as an SVG: monospace text on its own background, so that it reads on light and dark pages."""
    step, width = 17, 8 * max(map(len, lines)) + 32
    height = step * len(lines) + 32
    rows = "".join(
        f'<tspan x="16" y="{28 + step * number}">{escape(line)}</tspan>\n' for number, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" aria-label="The review page of an interactive session">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="#f3f3f0" stroke="#8a8a85"/>\n'
        '<text xml:space="preserve" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13" '
        f'fill="#22262a">\n{rows}</text>\n</svg>\n'
    )


def with_excerpt(readme: str, recorded: str) -> str:
    """Return the README with the beginning and the secrets of the recorded session."""
    opening = _part(recorded, "Avatar Deployment Configuration", "Environment name")
    end = recorded.partition("\nConfiguration complete\n")[2].splitlines()
    return with_part(
        readme, "session", "\n".join(["```text", *opening, "...", "", "Configuration complete", *end, "```"])
    )


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text)
