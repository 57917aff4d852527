"""Texts in which no secret shows, each in its place as a fingerprint: the same value, the same one; pure.

A fingerprint is keyed with a secret of the same deployment, 256 random bits that are never rotated in passing. So it is
the same in every run and tells two values apart, and without that key not even a short password can be guessed from it.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from setup import config_file
from setup.catalogue import SETTINGS
from setup.config_file import CONFIG
from setup.render import quote_env
from setup.secret_catalogue import SECRETS
from setup.targets import ENV

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

KEYED_BY = "storage_encryption_key"
_ASSIGNMENT = re.compile(r"(\s*(?:export\s+)?([\w.-]+)\s*[=:]\s*)(.*)")
# The files in which secrets belong: what an assignment looks like, and which key is that of which secret. In the
# configuration file a value that may go on in the next line, or behind a comma, counts as no assignment.
_ENV = _ASSIGNMENT, {key: name for name, secret in SECRETS.items() for key in secret.shown}
_CONFIG = (
    re.compile(r'((?:# )?(\w+): )("(?:[^"\\]|\\.)*"|[\w.:/@+-]*)'),
    {name.upper(): name for name in SECRETS},
)
_HOLDING = {ENV: _ENV, CONFIG: _CONFIG}
_SHORTEST = 6  # what is shorter stands in other words by chance


class Masks:
    """Masks what stands on the volume and what would: the secrets' texts as they are now, and as they would be.

    Of those that are `minted`, which no two runs have in common, it says only that.
    """

    def __init__(
        self, there: Mapping[str, str | None], wanted: Mapping[str, str], minted: Collection[str] = ()
    ) -> None:
        self._key = (there.get(KEYED_BY) or "").encode()
        self._minted = {wanted[name] for name in minted}
        self._spelled: dict[tuple[str, str], str] = {}  # as these files have it -> as it is
        self._known: dict[str, str] = {}
        for name, text in (*((name, "") for name in SECRETS), *there.items(), *wanted.items()):
            with contextlib.suppress(ValueError):  # what a file cannot carry does not stand there
                self._spelled[name, config_file.spelled(text or "")] = text or ""
                self._spelled[name, quote_env((text or "").removesuffix("\n"))] = text or ""
            if text and SECRETS[name].masked and len(text.strip()) >= _SHORTEST:
                self._known[text.strip()] = name

    def secret(self, name: str, text: str | None) -> str:
        """What is shown in place of a secret's text."""
        text = text and text.removesuffix("\n")
        if not text:
            return "(empty)" if text is not None else "(none)"
        if text in self._minted:
            return "(to be generated)"
        if not self._key:  # a deployment that has no key yet has nothing to compare with
            return "(given)"
        import hmac

        keyed = hmac.digest(self._key, b"\0".join((name.encode(), text.encode())), "sha256")
        return f"({keyed.hex()[:12]})"

    def lines(self, path: str, data: bytes, ours: Collection[str]) -> list[str]:
        """A file's lines; `ours` are those that are known to hold nothing of somebody else's."""
        text = data.decode(errors="replace")
        if path.startswith("tls/private/") or "\0" in text:
            what = "a private key" if path.startswith("tls/") else f"{len(data)} bytes"
            return [f"({what}) {self.secret(path, data.hex())}"]
        if path in _HOLDING:
            return [self._holding(*_HOLDING[path], line, ours) for line in text.splitlines()]
        return [self._line(line, ours) for line in text.splitlines()]

    def _holding(self, form: re.Pattern[str], keys: Mapping[str, str], line: str, ours: Collection[str]) -> str:
        """A setting of ours shows; a secret, which is among our own lines, or what somebody else has put there, not."""
        found = form.fullmatch(line)
        if found and found[2] in keys:
            name = keys[found[2]]
            return found[1] + self.secret(name, self._spelled.get((name, found[3]), found[3]))
        if not line or line in ours or line in config_file.FIXED or (found and found[2] in SETTINGS):
            return line
        return found[1] + self.secret(found[2], found[3]) if found else f"# {self.secret('', line)}"

    def _line(self, line: str, ours: Collection[str]) -> str:
        """What is not ours shows, but for a known secret and for what is called like one."""
        found = _ASSIGNMENT.fullmatch(line)
        if line in ours or not line:
            return line
        if found and found[3] and found[2].lower() in SECRETS:
            return found[1] + self.secret(found[2].lower(), found[3])
        for text, name in self._known.items():
            line = line.replace(text, self.secret(name, text))
        return line
