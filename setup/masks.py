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
    from collections.abc import Collection, Iterable, Iterator, Mapping

KEYED_BY = "storage_encryption_key"
# The files in which secrets belong: what an assignment looks like, and which key is that of which secret. In the
# configuration file a value that may go on in the next line, or behind a comma, counts as no assignment.
_ENV = (
    re.compile(r"(\s*(?:export\s+)?([\w.-]+)\s*[=:]\s*)(.*)"),
    {key: name for name, secret in SECRETS.items() for key in secret.shown},
)
_CONFIG = (
    re.compile(r'((?:# )?(\w+): )("(?:[^"\\]|\\.)*"|[\w.:/@+-]*)'),
    {name.upper(): name for name in SECRETS},
)
_HOLDING = {ENV: _ENV, CONFIG: _CONFIG}
_NOTE = re.compile(r"([\s'\"]#\s*)(.+)")  # a comment behind a value
# Elsewhere, what is called like a secret: by a word within a name, by one that is the name's end, or by one that begins
# and ends where a word does (`DB_KEYS`, `dbPw`, no monkey). `secrets` of Compose are no value, but a list of names.
_WORDS = (
    r"(?i:(?<!com)(?<!by)pass(?![a-z])|passw(?:or)?d|(?<=[\w.-])pwd|passphrase|secret|token|credential|creds(?![a-z])"
    r"|salt|pepper|basicauth|(?:auth(?:orization)?(?:[_-]?header)?|jwts?)(?![\w.-])"
    r"|(?:api|access|private|encryption|signing|licen[cs]e|hmac|master|session|shared|app|aes|rsa|ssh|ssl|tls)keys?)"
)
_BOUND = r"(?i:(?<![a-z])(?:key|pw|cred)s?(?![a-z]|_zone))|(?<=[a-z])(?:Key|Pw|Cred)s?(?![a-z])"
_SECRET = rf"""(?:{_WORDS}|{_BOUND}|(?i:{"|".join(SECRETS)}))"""
_NAME = rf"[\w.-]*{_SECRET}[\w.-]*"
_LISTED = r"""secrets["']?:\s*(?:[\[{&*#]|$)"""
_CALLED = re.compile(rf"""(?<![\w./-])(?<!\(\$)(?!{_LISTED})({_NAME})["']?\s*[=:]\s*""")
# Values that only say where one is.
_WHERE = re.compile(r"""["']?(?:\$\{\w+\}|(?:file://)?/run/secrets/\w+|\$\$\(cat /run/secrets/\w+\))["']?""")
# A login: its password, up to the last `@` of the host's part, or its only word; or a password that has a slash.
_LOGIN = re.compile(r"""(?<=://)(?:([^/\s"':]*:)?([^/\s"']+)(?=@)|([^/\s"':@]*:)([^\s"']+)(?=@))""")
_ALONE = re.compile(r"(?:&[\w-]+)?\s*(?:#.*)?")  # what may stand behind a key whose value begins below
_ENTRY = re.compile(r"\s*[\w.-]+:(\s|$)")
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
        self._known: dict[str, tuple[str, str]] = {}  # as other files may have it -> its name, and as it is
        for name, text in (*((name, "") for name in SECRETS), *there.items(), *wanted.items()):
            with contextlib.suppress(ValueError):  # what a file cannot carry does not stand there
                self._spelled[name, config_file.spelled(text or "")] = text or ""
                self._spelled[name, quote_env((text or "").removesuffix("\n"))] = text or ""
            if text and SECRETS[name].masked:
                self._known |= dict.fromkeys(_forms(text), (name, text))
        self._known = dict(sorted(self._known.items(), key=lambda one: -len(one[0])))  # one may hold another

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
        return list(self._elsewhere(text.splitlines(), ours))

    def _holding(self, form: re.Pattern[str], keys: Mapping[str, str], line: str, ours: Collection[str]) -> str:
        """A setting of ours shows; a secret, which is among our own lines, or what somebody else has put there, not."""
        found = form.fullmatch(line)
        if found and found[2] in keys:
            name = keys[found[2]]
            return found[1] + self.secret(name, self._spelled.get((name, found[3]), found[3]))
        if not line or line in ours or line in config_file.FIXED:
            return line
        if found and found[2] in SETTINGS:
            return _NOTE.sub(lambda note: note[1] + self.secret("", note[2]), line)
        return found[1] + self.secret(found[2], found[3]) if found else f"# {self.secret('', line)}"

    def _elsewhere(self, lines: Iterable[str], ours: Collection[str]) -> Iterator[str]:
        """What is not ours shows, but for a known secret, and for what is called like one, down to its last line."""
        depth, opened = -1, False  # of the key whose value may go on here; that has not begun yet
        for line in lines:
            deep = len(line) - len(line.lstrip(" -"))
            if line.strip() and (deep <= depth or (opened and _ENTRY.match(line))):
                depth = -1
            if line in ours or not line.strip():
                yield line
            elif depth >= 0:
                opened = opened and line.lstrip().startswith("#")
                yield f"{line[: len(line) - len(line.lstrip())]}{self.secret('', line.strip())}"
            elif found := _CALLED.search(line):
                text = line[found.end() :].strip()
                depth, opened = deep, bool(_ALONE.fullmatch(text))
                shown = not text or _WHERE.fullmatch(text)
                yield self._hidden(line[: found.end()]) + (text if shown else self._value(found[1], text))
            else:
                yield self._hidden(line)

    def _value(self, key: str, text: str) -> str:
        bare = text.strip("\"'")
        return self.secret(*self._known.get(bare, (key.lower(), bare)))

    def _hidden(self, line: str) -> str:
        """A line without the secrets that are known, and without the password of a login, or its only word."""
        for form, secret in self._known.items():
            line = line.replace(form, self.secret(*secret))
        return _LOGIN.sub(lambda found: (found[1] or found[3] or "") + self.secret("", found[2] or found[4]), line)


def _forms(text: str) -> Iterator[str]:
    """A text as files spell it, in any quotes, and with Compose's `$$`; each of its lines likewise."""
    for part in {text.strip(), *map(str.strip, text.splitlines())}:
        spelled = {part}
        for quote in (config_file.spelled, quote_env):
            with contextlib.suppress(ValueError):  # it cannot be spelled so
                form = quote(part)
                spelled.add(form[1:-1] if form[:1] in ("'", '"') else form)
        spelled |= {form.replace("'", "''") for form in spelled}
        spelled |= {form.replace("$", "$$") for form in spelled}
        yield from (form for form in spelled if len(form) >= _SHORTEST)
