"""Texts in which no secret shows, each in its place as a fingerprint: the same value, the same one; pure.

A fingerprint is keyed with a secret of the same deployment, 256 random bits that are never rotated in passing. So it is
the same in every run and tells two values apart, and without that key not even a short password can be guessed from it.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from setup.config import config_file
from setup.config.config_file import CONFIG
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.deploy.targets import ENV
from setup.formats.quoting import quote_env

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

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
# Elsewhere: what is called like a secret, anywhere in a line, and has its value behind it, which may go on to its end.
_WORDS = (
    r"(?i:pass(?![a-z])|passw(?:or)?d|(?<=[\w.-])pwd|passphrase|secret(?!s)|_secrets|secrets(?=[\"']?\s*[=:]\s*[\"']?[\w/+])"
    r"|token|credential|salt|pepper|jwt|basicauth|auth(?:orization)?(?:[_-]header)?(?![\w.-])"
    r"|(?:api|access|private|encryption|signing|licen[cs]e|hmac|master|session|shared|app|rsa|ssh|tls)keys?)"
)
_KEY = r"(?i:(?<![a-z])(?:keys?|pw|creds?)(?![a-z]))|(?<=[a-z])(?:Keys?|Pw|Creds?)(?![a-z])"
_SECRET = rf"""(?:{_WORDS}|{_KEY}|(?i:{"|".join(SECRETS)}))"""
_NAME = rf"[\w.-]*{_SECRET}[\w.-]*"
_CALLED = re.compile(
    rf"""(?<![\w./-])(?:(-{_NAME})["']?(?:\s*,\s*|\s+)(?=["']?[^-\s"'])"""  # --requirepass X, in a list as well
    rf"""|({_NAME})["']?\s*(?:!?[=~]\*?|:)\s*)"""  # DB_PASSWORD=X, token: X, if ($http_x_token != X)
    rf"""|^[\s#]*(?:(?:\w+_)?(?:set|header|param)\w*\s+)+["']?\$?({_NAME})["']?\s+"""  # nginx: set $api_token X
    rf"""|\$\{{(\w*{_SECRET}\w*)[-+]"""  # ${{DB_PASSWORD-X}}
)
# - --token, its value being the next of the list, or in the next line; and what such a value is not.
_ASKING = re.compile(rf"""(?<![\w./-])-{_NAME}["']?(?:,|\s\\)?$""")
_NO_ANSWER = re.compile(r"""\s*(?:-\s+)?(?:["']?--?\w|[\w.-]+:(?:\s|$)|#|$)""")
_WHERE = re.compile(r"""["']?(?:\$\{\w+\}|(?:file://)?/run/secrets/\w+|\$\$\(cat /run/secrets/\w+\))["']?""")
# The password of a login; first that of a user who is called by an address.
_LOGINS = (
    re.compile(r"(?<=://)([^/\s:@]+@[^/\s:@]+:)([^/\s\"'@]+)(?=@)"),
    re.compile(r"(?<=://)([^/\s:@]*:)?((?(1)[^\s\"']+|[^/\s\"'@]+))(?=@)"),
)
_ALONE = re.compile(r"(?:&[\w-]+)?\s*(?:#.*)?")  # what may stand behind a key whose value begins below
_ENTRY = re.compile(r"\s*[\w.-]+:(\s|$)")
# Keys of services, secrets, networks and volumes in the Compose specification: below them are no values of one secret.
_COMPOSE = re.compile(
    r"\s*(?:build|cap_add|cap_drop|command|configs|container_name|depends_on|deploy|devices|dns|driver|driver_opts"
    r"|entrypoint|env_file|environment|expose|extends|external|external_links|extra_hosts|file|healthcheck|hostname|image"
    r"|init|internal|ipam|ipc|labels|links|logging|mem_limit|name|network_mode|networks|pid|platform|ports|privileged"
    r"|profiles|pull_policy|read_only|restart|runtime|scale|secrets|security_opt|shm_size|stdin_open|stop_grace_period"
    r"|stop_signal|sysctls|tmpfs|tty|ulimits|user|volumes|volumes_from|working_dir):(?:\s|$)"
)
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

    def _elsewhere(self, lines: Sequence[str], ours: Collection[str]) -> Iterator[str]:
        """What is not ours shows, but for a known secret, and for what is called like one, down to its last line."""
        depth, opened = -1, False  # of the key whose value may go on here; that has not begun yet
        asked = False  # the line before wants this one as its value
        for at, line in enumerate(lines):
            deep = len(line) - len(line.lstrip(" -"))
            if line.strip() and (deep <= depth or (opened and _ENTRY.match(line))):
                depth = -1
            if line in ours or not line.strip():
                yield line
            elif depth >= 0 or (asked and not _NO_ANSWER.match(line)):
                if depth < 0 and (line.rstrip().endswith(("|", ">")) or _CALLED.search(line)):
                    depth = deep - 1  # a text that begins where this one does
                opened = opened and line.lstrip().startswith("#")
                yield f"{line[: len(line) - len(line.lstrip())]}{self.secret('', line.strip())}"
            elif found := _CALLED.search(line):
                text = line[found.end() :].strip()
                depth, opened = deep, bool(_ALONE.fullmatch(text)) and _is_of_compose(lines[at + 1 :], deep)
                shown = not text or _WHERE.fullmatch(text)
                yield self._hidden(line[: found.end()]) + (
                    text if shown else self._value(found[found.lastindex or 0], text)
                )
            else:
                yield self._hidden(line)
            if line.strip() and not line.lstrip().startswith("#"):
                asked = bool(_ASKING.search(line.rstrip()))

    def _value(self, key: str, text: str) -> str:
        bare = text.strip("\"'")
        return self.secret(*self._known.get(bare, (key.lower(), bare)))

    def _hidden(self, line: str) -> str:
        """A line without the secrets that are known, and without the password of a login, or its only word."""
        for form, secret in self._known.items():
            line = line.replace(form, self.secret(*secret))
        for login in _LOGINS:
            line = login.sub(lambda found: (found[1] or "") + self.secret("", found[2]), line)
        return line


def _is_of_compose(lines: Iterable[str], depth: int) -> bool:
    """Whether below a key that is only called like a secret stands a service, or such: all keys there are Compose's."""
    first = 0
    for line in lines:
        deep = len(line) - len(line.lstrip(" -"))
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if deep <= depth:
            break
        first = first or deep
        if deep <= first and not _COMPOSE.match(line):
            return False
    return first > 0


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
