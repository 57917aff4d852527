"""Values that quoting must survive: sixty-odd chosen ones and thousands that are generated from a fixed seed."""

from __future__ import annotations

import random
from collections.abc import Callable

CHOSEN = (
    "plain",
    "",
    "0",
    "007",
    "3.10",
    "1e3",
    "0x1F",
    "22:22",
    "true",
    "NO",
    "null",
    "~",
    "-",
    "--flag",
    "?",
    ":",
    "a: b",
    "- item",
    "=leading",
    "a=b=c",
    "export X=1",
    "#comment",
    "a #comment",
    "a#b",
    " leading blank",
    "trailing blank ",
    "  ",
    "\ttabs\t",
    "$",
    "$$",
    "$HOME",
    "${HOME}",
    "${HOME:-default}",
    "${UNDEFINED:?error}",
    "\\$HOME",
    "$(touch /tmp/x)",
    "`touch /tmp/x`",
    "'",
    "''",
    "it's",
    '"',
    '""',
    'say "hi"',
    "both ' and \"",
    "'\"$\\",
    "\\",
    "\\\\",
    "ends with \\",
    "\\n is no newline",
    "\\\" and \\'",
    "line\nbreak",
    "\n",
    "trailing newline\n",
    "\nX=injected",
    "a\r\nb",
    "carriage\rreturn",
    "{brace} [bracket] (paren)",
    "{{ jinja }} {% raw %}",
    "!tag &anchor *alias",
    "| > @ ` %",
    "a; listen 81; #",
    "a}; server { listen 81; }",
    "é ü ß — “quoted” ’",
    "日本語 Ελληνικά العربية",
    "emoji 👩‍💻 \U0001f600",
    "e\u0301 combining",
    "no-break\u00a0space",
    "next\u0085line",
    "line\u2028separator\u2029both",
    "zero\u200bwidth\ufeffmark",
    "\ufeffleading mark",
    "right-to-left \u202e mark",
    "private \ue000 and last \uffff \U0010ffff",
    "c1 \u0080\u009b controls",
    "s3://{user_id}/{expire_days}d",
    "https://user:p%40ss@host:8443/p?q=1&r=%2F#frag",
    'o\'brien "x" $y',
    "x" * 1500,
    "\\" * 1000,
    "'" * 500 + '"' * 500,
    "$" * 501,
)

# Odd characters are as likely as plain ones.
_CHARACTERS = (
    "abcXYZ0189" * 3
    + "'\"\\$`#={}[]()<>!&*|%@,:;?^~-+./_ " * 3
    + "\n\t\r"
    + "\u00e9\u00df\u4e2d\u00a0\u0085\u2028\ufeff\u200b\u0301\U0001f600"
)
_CONTROLS = "\x00\x01\x07\x0b\x1b\x1f\x7f"
_PIECES = ("$$", "${X}", "\\n", "\\\\", "''", '""', " #", ": ", "- ", "${", "$'", "\\'", '\\"', "\r\n", "{{", "%}")


def generated(count: int, seed: int = 20260101) -> list[str]:
    """So many texts, the same ones each time; about one in twenty holds a control character."""
    source = random.Random(seed)
    texts = []
    for _ in range(count):
        parts = [source.choice(_CHARACTERS) for _ in range(source.randrange(24))]
        for _ in range(source.randrange(3)):
            parts.insert(source.randrange(len(parts) + 1), source.choice(_PIECES))
        if source.random() < 0.05:
            parts.insert(source.randrange(len(parts) + 1), source.choice(_CONTROLS))
        texts.append("".join(parts))
    return texts


def carried(quote: Callable[[object], str], texts: tuple[str, ...] | list[str]) -> list[tuple[str, str]]:
    """(text, its quoted form) of each text that this target takes."""
    pairs = []
    for text in texts:
        try:
            pairs.append((text, quote(text)))
        except ValueError:
            continue
    return pairs
