"""The way back to a dated copy: which files differ from it, and which of those that came later may go."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from setup.commands.history import is_known, is_secret, ours
from setup.config.model import File, Secret
from setup.config.secrets import DIRECTORY, SECRETS
from setup.deploy.targets import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, CERTIFICATE_KEY
from setup.errors import VolumeError
from setup.formats.yaml_file import Malformed
from setup.state_file import parse
from setup.state_manager import LAST_GOOD, STATE, digest
from setup.volume import backups
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.commands.history import Tree
    from setup.volume.backups import Copy

# They stay, as secrets do: what clients trust, and keys, which the copies have only until they are forgotten.
_NEVER = (AUTHORITY, AUTHORITY_KEY, CERTIFICATE_KEY)


class Way(NamedTuple):
    """What leads back to a copy; nothing of either when all is as it was."""

    write: tuple[File, ...]
    remove: tuple[str, ...]

    @property
    def secrets(self) -> list[str]:
        """The names of the secrets that get another value."""
        return [file.path.rpartition("/")[2] for file in self.write if is_secret(file.path)]

    @property
    def bound(self) -> list[Secret]:
        """Those among them that data or a server knows."""
        return [SECRETS[name] for name in self.secrets if SECRETS[name].bound]

    @property
    def written(self) -> list[str]:
        """The files that get their earlier text."""
        return [file.path for file in self.write if is_known(file.path)]

    @property
    def removed(self) -> list[str]:
        """The files that were not there then."""
        return [path for path in self.remove if is_known(path)]


NO_WAY = Way((), ())


def what_stands(volume: Volume, copy: Copy) -> Tree:
    """What stands there of all that a copy, the state, or a restore that was interrupted tells of."""
    paths = {path for one in _begun(volume) for path in one.paths} | {*copy.paths, *copy.absent, *ours(volume)}
    found = map(volume.file, paths | {LAST_GOOD})
    return {file.path: file for file in found if file is not None}


def _begun(volume: Volume) -> list[Copy]:
    """The copies of which files may stand there, as restores were interrupted; the one of before among them."""
    half, kept, others = backups.marked(volume)
    return [copy for copy in backups.history(volume) if copy.id in (half, kept, *others)]


def way_to(volume: Volume, copy: Copy, there: Tree) -> Way:
    """What differs from a copy; a secret that was filled in since is not emptied, and only what is ours is removed."""
    write = []
    for file in backups.contents(volume, copy):
        filled = is_secret(file.path) and not file.data and file.path in there
        if there.get(file.path) != file and not filled:
            write.append(file)
        if file.path == STATE:
            _require_readable(copy, file.data)
    stays = {*copy.paths, *([LAST_GOOD] if STATE in copy.paths else [])}
    known = _known(volume)
    gone = [path for path in sorted(there.keys() - stays) if _may_go(path, there, known)]
    return Way(tuple(write), tuple(sorted(gone, key=lambda path: path == STATE)))


def _known(volume: Volume) -> set[tuple[str, str]]:
    """Path and hash of all that the states here know, with those of restores that were interrupted."""
    known: set[tuple[str, str]] = set()
    for path in (STATE, LAST_GOOD, *(f"{backups.HISTORY}/{copy.id}/{STATE}" for copy in _begun(volume))):
        with contextlib.suppress(Malformed):
            state = parse(volume.read(path) or b"")
            known |= {*state.files.items(), *state.announced.items()}
    return known


def _may_go(path: str, there: Tree, known: set[tuple[str, str]]) -> bool:
    """Whether nothing is lost with a file that came later: no secret, key or authority, and ours to the byte."""
    if path.startswith(f"{DIRECTORY}/") or path in _NEVER:
        return False
    if not is_known(path):
        return True
    return (path, digest(there[path].data)) in known and (path != CERTIFICATE or _is_made_here(there))


def _is_made_here(there: Tree) -> bool:
    """Whether the authority that stands here issued the certificate: the state knows an operator's, once served."""
    from setup.tls import certificates

    with contextlib.suppress(KeyError, ValueError):
        certificate, authority = (certificates.first_of(there[path].data) for path in (CERTIFICATE, AUTHORITY))
        return certificates.is_issued_by(certificate, authority)
    return False


def _require_readable(copy: Copy, state: bytes) -> None:
    try:
        parse(state)
    except Malformed as error:
        raise VolumeError(f"the copy {copy.id} cannot be brought back by this release: its state: {error}") from None
