"""Show a file's lines without a secret: the values of our own secrets as fingerprints, other people's lines not at all.

A fingerprint is keyed with a secret of the same deployment: 256 random bits, which only an explicit rotation changes.
So the same value has the same fingerprint in every run, and without the key not even a short password can be guessed.
"""

from __future__ import annotations

import contextlib
import re

from setup.config import config_file
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.formats.quoting import quote_env, quote_template
from setup.formats.wrapping import unwrap
from setup.formats.yaml_file import load_yaml
from setup.state_manager import split_additions
from setup.typed import TYPE_CHECKING, NamedTuple
from setup.volume.layout import CONFIG, ENV, KEYS_FOLDER, KUBERNETES_ENV, SWARM_FILES, TLS_FOLDER, written_path

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from setup.state_manager import DeploymentState
    from setup.volume.layout import File
    from setup.volume.volume import Volume

KEYED_BY = "storage_encryption_key"
FOREIGN = "(a line not written by avatar-setup)"
# The files of ours that show secrets: what an assignment looks like, and which key is that of which secret.
_SHOWN = {key: name for name, secret in SECRETS.items() for key in secret.shown}
_ASSIGNMENTS = {
    ENV: (re.compile(r"(([\w.-]+)=)(.*)"), _SHOWN),
    KUBERNETES_ENV: (re.compile(r"(([\w.-]+)=)(.*)"), _SHOWN),
    CONFIG: (re.compile(r"((?:# )?(\w+): )(.*)"), {name.upper(): name for name in SECRETS}),
}


# In the stacks of Swarm other keys than these are no assignments, and shown.
_STACKS = re.compile(rf"( +({'|'.join(_SHOWN)}): )(.*)")


class Lines(NamedTuple):
    """The lines of a file: as they are, to be compared, and as they may be shown."""

    raw: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


def lines_of(data: bytes) -> list[str]:
    """Split a text at its line feeds only: a value may hold any other separator."""
    lines = data.decode(errors="replace").split("\n")
    return lines[:-1] if not lines[-1] else lines


def lines_of_ours(volume: Volume, state: DeploymentState, file: File) -> set[str]:
    """Return every line that we write to a file now, or are known to have written."""
    lines = {*lines_of(file.data), *lines_of(volume.read(written_path(file.path)) or b"")}
    on_disk = volume.read(file.path)
    if on_disk is not None and state.knows(file.path, on_disk):
        lines.update(lines_of(split_additions(file.path, on_disk)[0]))
    return lines


class Redactor:
    """Hide the secrets of one deployment: those on the volume, and those that a run would write.

    Those that are `generated`, which no two runs have in common, are called that, like the `marks` that follow them.
    """

    def __init__(
        self,
        on_disk: Mapping[str, str | None],
        wanted: Mapping[str, str],
        generated: Collection[str] = (),
        marks: Collection[str] = (),
    ) -> None:
        self._marks = marks
        self._key = (on_disk.get(KEYED_BY) or "").encode()
        self._generated = {wanted[name] for name in generated}
        self._unquoted: dict[tuple[str, str], str] = {}  # a secret's name and text as a file has it -> its text
        for name in SECRETS:
            for text in ("", on_disk.get(name) or "", wanted.get(name, "")):
                with contextlib.suppress(ValueError):  # a text that a file cannot carry is in none
                    self._unquoted[name, config_file.spelled(text)] = text
                    self._unquoted[name, quote_env(unwrap(text))] = text
                    self._unquoted[name, quote_template(unwrap(text).replace("$", "$$"))] = text

    def secret(self, name: str, text: str | None) -> str:
        """Return what is shown in place of a secret's text."""
        text = text and unwrap(text)
        if not text:
            return "(empty)" if text is not None else "(none)"
        if text in self._generated:
            return "(to be generated)"
        if not self._key:  # a deployment that has no key yet has nothing to compare with
            return "(given)"
        import hmac

        keyed = hmac.digest(self._key, b"\0".join((name.encode(), text.encode())), "sha256")
        return f"({keyed.hex()[:12]})"

    def lines(self, path: str, data: bytes, ours: Collection[str]) -> Lines:
        """Return a file's lines; `ours` are the lines that avatar-setup writes there, or wrote."""
        if path.startswith(f"{KEYS_FOLDER}/") or b"\0" in data:
            what = "a private key" if path.startswith(f"{TLS_FOLDER}/") else f"{len(data)} bytes"
            return Lines((data.hex(),), (f"({what}) {self.secret(path, data.hex())}",))
        raw, shown = lines_of(data), []
        for number, line in enumerate(raw, start=1):
            shown.append(self._ours(path, line) if not line or line in ours else f"{number}: {FOREIGN}")
        return Lines(tuple(raw), tuple(shown))

    def _ours(self, path: str, line: str) -> str:
        """Return a line of ours; in the files that show secrets, only the values of settings are shown."""
        for mark in self._marks:
            line = line.replace(mark, "(to be generated)")
        pattern, names = _ASSIGNMENTS.get(path, (_STACKS if path in SWARM_FILES else None, _SHOWN))
        assignment = pattern.fullmatch(line) if pattern else None
        if not assignment or assignment[2] in SETTINGS:
            return line
        name = names.get(assignment[2], assignment[2])
        text = str(load_yaml(assignment[3].encode()) or "") if path in SWARM_FILES else assignment[3]
        return assignment[1] + self.secret(name, self._unquoted.get((name, text), text))
