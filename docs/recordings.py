"""Record sessions on a real terminal, line by line, as an operator of the image sees them: as text, and as pictures."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from setup.volume.layout import CERTIFICATE, CERTIFICATE_KEY
from tests.support import pki
from tests.support.runs import OPERATORS, REQUIRED, ran
from tests.support.terminal import PASSWORD, REVIEW, reply_to, session

Act = Callable[[Path], None]

_COMMAND = "docker run -it --rm -v /app/avatar:/out avatar-setup"
_SELF_SIGNED = REQUIRED | {"TLS_MODE": "self-signed"}


class Recording(NamedTuple):
    """A session to record: what exists before, the flags, and what is typed, question by question.

    Enter alone is typed at all other questions. Instead of a text, a reply may be an act: what the operator does in
    another window before typing `w`. The picture shows the lines from one beginning to another.
    """

    name: str
    title: str
    picture: tuple[str, str]
    typed: Mapping[str, Sequence[str | Act]]
    flags: tuple[str, ...] = ()
    before: Act = lambda _out: None


def _put_certificate(host: str) -> Act:
    """Return the act of writing a certificate for a host, and its key, where nginx expects them."""

    def put(out: Path) -> None:
        pair = pki.issue(host, pki.intermediate(), names=(host,))
        (out / CERTIFICATE_KEY).parent.mkdir(parents=True, exist_ok=True)
        (out / "tls/ca.crt").write_bytes(pki.root().pem)
        (out / CERTIFICATE).write_bytes(pair.pem + pki.intermediate().pem)
        (out / CERTIFICATE_KEY).write_bytes(pair.private())

    return put


def _deployed(settings: Mapping[str, str]) -> Act:
    """Return the act of configuring a deployment from the environment."""

    def deploy(out: Path) -> None:
        ran(out, settings=settings)

    return deploy


RECORDINGS = (
    Recording(
        "express",
        "The review page of a first session",
        ("Review", "Number or name"),
        {
            "Public URL": ("https://avatar.mycompany.com/web", "avatar.mycompany.com"),
            "Environment name": ("mycompany-prod",),
            "TLS mode": ("?", "self-signed"),
            "SMTP host": ("mail.mycompany.com",),
            "SMTP user name": ("avatar",),
            "Everything else": ("",),
            "Organization name": ("My Company",),
            "SMTP password": (PASSWORD, PASSWORD),
        },
    ),
    Recording(
        "fill",
        "What --fill asks for, and how it ends",
        ("$ ", "  docker compose up"),
        {"Organization name": ("My Company",), "SMTP password": (PASSWORD, PASSWORD)},
        ("--fill",),
        _deployed(_SELF_SIGNED),
    ),
    Recording(
        "certificate",
        "A certificate of another host is refused, and the right one is taken",
        ("Review", "User-Provided Secrets"),
        {
            "Public URL": ("avatar.example.com",),
            "Environment name": ("example-prod",),
            "SMTP host": ("mail.example.com",),
            "Organization name": ("Example",),
            "Everything else": ("",),
            REVIEW: ("w", _put_certificate("avatar.example.com")),
        },
        ("--set", "TLS_CA_PATH=./tls/ca.crt"),
        _put_certificate("www.example.com"),
    ),
    Recording(
        "change",
        "A change of one setting, confirmed at the review",
        ("$ ", "  docker compose up"),
        {REVIEW: ("w",)},
        ("--set", "LOG_LEVEL=DEBUG"),
        _deployed(_SELF_SIGNED | OPERATORS),
    ),
)


def record(recording: Recording) -> str:
    """Return a session with its command, without anything that differs on each machine."""
    asked: list[str] = []
    typed = {beginning: list(replies) for beginning, replies in recording.typed.items()}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "avatar")
        out.mkdir()
        recording.before(out)
        with session(out, "--plain", *recording.flags, columns=100) as terminal:
            while question := terminal.question_or_end():
                asked.append(question)
                if asked[-4:] == [question] * 4:
                    raise RuntimeError(terminal.screen.text())
                replies = next((typed[beginning] for beginning in typed if question.startswith(beginning)), [])
                reply = replies.pop(0) if replies else reply_to(question, {})
                if callable(reply):
                    reply(out)
                terminal.answer("w" if callable(reply) else reply)
            if terminal.ends() != 0:
                raise RuntimeError(terminal.screen.text())
        shown = terminal.raw.replace("\r\n", "\n")
        return f"$ {' '.join([_COMMAND, *recording.flags])}\n" + _as_in_the_image(shown, out)


def _as_in_the_image(text: str, out: Path) -> str:
    """Replace the directory, its owner, the command and the time, which differ each time, by those of the image."""
    command = rf"\S+ -m setup --output-dir {re.escape(str(out))}"
    text = re.sub(command, _COMMAND.replace(" -it", ""), text)
    text = re.sub(r"\(owner \d+:\d+\)", "(owner 1000:1000)", text.replace(str(out), "/app/avatar"))
    text = text.replace(_COMMAND.replace(" -it", "") + " --fill", f"{_COMMAND} --fill")
    text = re.sub(r"\d{8}T\d{6}Z", "20261128T120000Z", text.replace("  sudo ", "  "))
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def part(text: str, first: str, last: str) -> list[str]:
    """Return the lines from the first that begins with one text to the next that begins with another."""
    lines = text.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(first))
    end = next(number for number, line in enumerate(lines[begin:], begin) if line.startswith(last))
    return lines[begin : end + 1]


def picture(title: str, lines: list[str]) -> str:
    """Draw lines as an SVG: monospace text on its own background, so that it reads on light and dark pages."""
    step, width = 17, 8 * max(map(len, lines)) + 32
    height = step * len(lines) + 32
    rows = "".join(
        f'<tspan x="16" y="{28 + step * number}">{escape(line)}</tspan>\n' for number, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(title)}">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="#f3f3f0" stroke="#8a8a85"/>\n'
        '<text xml:space="preserve" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13" '
        f'fill="#22262a">\n{rows}</text>\n</svg>\n'
    )
