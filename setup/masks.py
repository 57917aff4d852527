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
# Values that only say where one is: a variable, a path, a secret that is mounted; or that one was masked already.
_WHERE = re.compile(
    r"""["']?(?:\$\{\w+\}|(?:(?:Basic|Bearer)\s)?\$[A-Za-z_]\w*|(?:file://)?/[a-z]+(?:/[\w.-]+)+"""
    r"""|\$\$\(cat /run/secrets/\w+\)|\((?:[0-9a-f]{12}|given|to be generated)\))["']?"""
)
# Values without `=` or `:` before them; what stands behind them shows.
_FLAG = rf"""(?<![\w./-])-{_NAME}["']?"""
# A word as a shell has it, or a list: quoted, partly quoted, or neither.
_WORD = r"""(?:\\".*?\\"|"(?:[^"\\]|\\.)*"|'[^']*'|\$\{\w+\}|\S)+?(?=["'\]),;}]*(?:\s|$|,["']))"""
_BESIDE = (
    # --requirepass X; "--requirepass", "X"
    re.compile(rf"""({_FLAG}(?:\s*,\s*|\s+))(?!["']?--|\\?$)({_WORD})"""),
    # curl -u user:X, but no ids of a user and a group
    re.compile(rf"""((?<![\w-])(?:-u|--user)["']?[\s,=]*["']?(?!\d+:\d+\b)[^\s"',:]*:)({_WORD})"""),
    # ${DB_PASSWORD-X}; another variable may stand in X
    re.compile(rf"""(\$\{{\w*(?:{_SECRET}|(?i:auth|jwt)(?=:?[-+]))\w*:?[-+])((?:\$\{{[^}}]*\}}|[^}}])+)"""),
    # nginx: if ($http_x_token != "X")
    re.compile(rf"""(\(\s*\${_NAME}\s*!?[=~]\*?\s*)(.+)(?=\))"""),
    # nginx: set $api_token X; proxy_set_header X-Token "X"; but none that only sounds like one, such as proxy_pass
    re.compile(
        r"""((?:^|[;{])[\s#]*(?!server_tokens|(?:proxy|fastcgi|scgi|uwsgi|grpc|memcached)_(?:pass(?![a-z])|cache_key))"""
        rf"""(?:\w+\s+)?["']?\$?{_NAME}["']?\s+)(?![!=~]\S?\s|\{{)(\S.*)(?=;)"""
    ),
)
_BEGUN = re.compile(rf"""(?:{_FLAG}|_header\s+["']?{_NAME}["']?)\s*,?\s*\\?$""")  # the next line has the value
# A login: behind a user its password, up to the last `@`; behind an address as user, or alone, in the host's part.
_LOGIN = re.compile(r"""(?<=://)(?:([^/\s"':@]*:)((?:(?!,\w+://)[^\s"'])+)|([^/\s"':]*:)?([^/\s"']+))(?=@)""")
_ALONE = re.compile(r"(?:[&!][\w-]+\s*)*(?:#.*)?")  # what may stand behind a key whose value begins below
_INDENT = re.compile(r"\s*(?:-\s+)*")
_ENTRY = re.compile(r"\s*[\w.-]+:(\s|$)")
# The Compose specification's keys of services, secrets, networks and volumes; not `content`, which is a secret itself.
_COMPOSE = re.compile(
    r"\s*(?:<<|annotations|attach|attachable|build|blkio_config|cap_add|cap_drop|cgroup|cgroup_parent|command|configs"
    r"|container_name|cpu\w+|cpus|credential_spec|depends_on|deploy|develop|devices?\w*|dns\w*|domainname|driver"
    r"|driver_opts|enable_ipv[46]|entrypoint|env_file|environment|expose|extends|external|external_links|extra_hosts|file"
    r"|gpus|group_add|healthcheck|hostname|image|init|internal|ipam|ipc|isolation|label_file|labels|links|logging"
    r"|mac_address|mem\w+|models|name|network_mode|networks|oom\w+|pids_limit|pid|platform|ports|post_start|pre_stop"
    r"|privileged|profiles|provider|pull_policy|read_only|restart|runtime|scale|secrets|security_opt|shm_size"
    r"|stdin_open|stop_grace_period|stop_signal|storage_opt|sysctls|tmpfs|tty|ulimits|use_api_socket|user|userns_mode"
    r"|uts|volumes|volumes_from|working_dir):(?:\s|$)"
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
        depth, begun = -1, None  # of the key whose value may go on here; of that which a line before has asked for
        for at, line in enumerate(lines):
            deep = _deep(line)
            text = line[deep:].strip()
            if text and deep <= depth:
                depth = -1
            if line in ours or not text:
                yield line
            elif depth >= 0:
                yield line[:deep] + self._value("", text)
            elif begun is not None and deep >= begun and not text.lstrip("\"'").startswith(("#", "--")):
                depth = deep - text.startswith(("|", ">"))  # such a text may begin where the next one of a list would
                yield line[:deep] + self._value("", text)
            elif found := _CALLED.search(line):
                text = line[found.end() :].strip()
                depth = -1 if _ALONE.fullmatch(text) and _is_compose(lines[at + 1 :], deep) else deep
                yield self._hidden(line[: found.end()]) + (text and self._value(found[1], text))
            else:
                yield self._hidden(line)
            if text and not text.startswith("#"):
                begun = deep + bool(_ENTRY.match(line)) if depth < 0 and _BEGUN.search(line) else None

    def _value(self, key: str, text: str) -> str:
        if _WHERE.fullmatch(text):
            return text
        bare = text.strip("\"'")
        return self.secret(*self._known.get(bare, (key.lower(), bare)))

    def _hidden(self, line: str) -> str:
        """A line without the secrets that are known, without values beside a name, and the password of a login."""
        for form, secret in self._known.items():
            line = line.replace(form, self.secret(*secret))
        for beside in _BESIDE:
            line = beside.sub(lambda found: found[1] + self._value("", found[2]), line)
        return _LOGIN.sub(lambda found: (found[1] or found[3] or "") + self.secret("", found[2] or found[4]), line)


def _deep(line: str) -> int:
    """Where a line's text begins, behind the dash of a list."""
    return len(_INDENT.match(line)[0])  # type: ignore[index]  # it matches nothing, too


def _is_compose(lines: Iterable[str], depth: int) -> bool:
    """Whether what stands below a key is plainly a service, or such: the keys of its first level are all Compose's."""
    first = 0
    for line in lines:
        deep = _deep(line)
        if not line[deep:] or line[deep] == "#":
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
