"""A deployment brought back to a dated copy.

A restore is announced by a mark beside the copies before its first change, and the state comes last. While the mark is
there, no other run begins: what stands on the volume may be half of one deployment and half of another.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from setup import __version__, copies, preview, rotation, sources, vault, written
from setup.container import command_again, host_path
from setup.documents import Malformed
from setup.errors import DecisionNeeded, VolumeError
from setup.files import Volume
from setup.masks import Masks
from setup.model import Answer, File, Secret
from setup.past import is_known, is_secret, ours, settings_of
from setup.secret_catalogue import DIRECTORY, SECRETS
from setup.session import Options
from setup.state_document import parse
from setup.state_manager import LAST_GOOD, STATE, digest
from setup.steps import FOLDERS
from setup.targets import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, CERTIFICATE_KEY, COMPOSE

if TYPE_CHECKING:
    import argparse

    from setup.configure import DeploymentConfigurator
    from setup.copies import Copy
    from setup.past import Tree


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


# --- bringing one back --------------------------------------------------------------------------


def restore(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Brings a copy back, of which the same command finishes what was interrupted; a copy of the present is kept."""
    with Volume(configurator.output_dir) as volume:
        copy = copies.find(volume, options.restore)
        there = _there(volume, copy)
        way = _way(volume, copy, there)
        if not (way.write or way.remove or copies.interrupted(volume)):
            told = f"Nothing to do: the deployment is as it was in {copy.id}."
            return Answer([told], {"restored": copy.id, "written": [], "removed": [], "secrets": [], "copy": ""})
        if options.dry_run:
            return _preview(volume, copy, way, there)
        _require_consent(way, options.yes)
        volume.check_writable()
        with volume.locked({*FOLDERS, *(os.path.dirname(path) for path in copy.paths)}):
            way = _way(volume, copy, _there(volume, copy))  # another run may have worked since
            _require_consent(way, options.yes)
            half, kept, others = copies.marked(volume)
            kept = kept if half else _keep(volume, copy, configurator.keep)
            whole = _whole(volume, copy, way, kept)
            _go(volume, way, [copy.id, kept, *sorted({half, *others} - {copy.id, kept, ""})])
        return _told(configurator, volume, copy, whole, kept)


def _there(volume: Volume, copy: Copy) -> Tree:
    """What stands there of all that a copy, the state, or a restore that was interrupted tells of."""
    paths = {path for one in _begun(volume) for path in one.paths} | {*copy.paths, *copy.absent, *ours(volume)}
    found = map(volume.file, paths | {LAST_GOOD})
    return {file.path: file for file in found if file is not None}


def _begun(volume: Volume) -> list[Copy]:
    """The copies of which files may stand there, as restores were interrupted; the one of before among them."""
    half, kept, others = copies.marked(volume)
    return [copy for copy in copies.history(volume) if copy.id in (half, kept, *others)]


def _way(volume: Volume, copy: Copy, there: Tree) -> Way:
    """What differs from a copy; a secret that was filled in since is not emptied, and only what is ours is removed."""
    write = []
    for file in copies.contents(volume, copy):
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
    for path in (STATE, LAST_GOOD, *(f"{copies.HISTORY}/{copy.id}/{STATE}" for copy in _begun(volume))):
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
    from setup import certificates

    with contextlib.suppress(KeyError, ValueError):
        certificate, authority = (certificates.first_of(there[path].data) for path in (CERTIFICATE, AUTHORITY))
        return certificates.is_issued_by(certificate, authority)
    return False


def _whole(volume: Volume, copy: Copy, way: Way, kept: str) -> Way:
    """The way from how it was before, of which interrupted runs may have gone a part."""
    before: Tree = {}
    with contextlib.suppress(VolumeError):  # for the message only: a copy that lost a file does not end this run
        before = {file.path: file for file in copies.contents(volume, copies.find(volume, kept))}
    whole = _way(volume, copy, before) if before else way
    write = {file.path: file for file in (*whole.write, *way.write)}
    return Way(tuple(write.values()), tuple(sorted({*whole.remove, *way.remove})))


def _require_readable(copy: Copy, state: bytes) -> None:
    try:
        parse(state)
    except Malformed as error:
        raise VolumeError(f"the copy {copy.id} cannot be brought back by this release: its state: {error}") from None


def _require_consent(way: Way, yes: bool) -> None:
    """Raises DecisionNeeded for secrets that data or a server may have been given another value of since."""
    if way.bound and not yes:
        raise DecisionNeeded(*(
            f"{vault.path_of(secret.name)} would get its earlier value, and is bound to {secret.bound}. Nothing was "
            "written: give --yes to bring it back all the same"
            for secret in way.bound
        ))  # fmt: skip


def _keep(volume: Volume, copy: Copy, last: int) -> str:
    """Keeps the deployment as it is now; the copy that is brought back is not forgotten for it."""
    files = {path for path in (*copy.paths, *copy.absent, *ours(volume)) if is_known(path)}
    return copies.keep(volume, written.everything(volume, files), copies.A_RESTORE + copy.id, last, spare=copy.id)


def _go(volume: Volume, way: Way, mark: list[str]) -> None:
    """Announces the restore, writes secrets and files, removes what came later, and withdraws the announcement.

    The state of then comes at last: until all is done, the present one tells which files are to go.
    """
    volume.replace(File(copies.MARK, "\n".join([*mark, ""]).encode(), 0o600))
    order = sorted(way.write, key=lambda file: (not is_secret(file.path), file.path == COMPOSE))
    volume.publish(volume.stage(file for file in order if file.path != STATE))
    for path in way.remove:
        volume.remove(path)
    states = [file for file in way.write if file.path == STATE]
    volume.publish(volume.stage([*(file._replace(path=LAST_GOOD) for file in states), *states]))
    volume.remove(copies.MARK)


# --- what is told -------------------------------------------------------------------------------


def _preview(volume: Volume, copy: Copy, way: Way, before: Tree) -> Answer:
    there = {name: vault.text_of(name, volume.read(vault.path_of(name))) for name in SECRETS}
    wanted = {file.path.rpartition("/")[2]: file.data.decode() for file in way.write if is_secret(file.path)}
    masks = Masks(there, wanted)
    after = {file.path: file for file in copies.contents(volume, copy)}
    rows = [_file_row(path, before, after, masks) for path in (*way.written, *way.removed)]
    changed = preview.settings(settings_of(before), settings_of(after))
    secrets = preview.secrets(there, wanted, masks)
    return preview.answer([f"the deployment of {copy.id} would be brought back"], changed, secrets=secrets, files=rows)


def _file_row(path: str, before: Tree, after: Tree, masks: Masks) -> dict[str, Any]:
    old, new = before.get(path), after.get(path)
    texts = [tree[written.place(path)].data for tree in (before, after) if written.place(path) in tree]
    lines = {line for text in texts for line in text.decode(errors="replace").splitlines()}
    there = None if old is None else masks.lines(path, old.data, lines)
    wanted = [] if new is None else masks.lines(path, new.data, lines)
    how = "removed" if new is None else "new" if old is None else "changed"
    return {"path": path, "change": how, "diff": preview.diff(path, there, wanted)}


def _told(configurator: DeploymentConfigurator, volume: Volume, copy: Copy, way: Way, kept: str) -> Answer:
    host = host_path(volume.path, configurator.environ)
    command = command_again(volume.path, host, configurator.environ)
    lines = [
        f"The deployment is again as it was before {copy.cause} ({copy.id}):",
        *(f"  {path}" for path in way.written),
    ]
    lines += [f"  {path} (removed)" for path in way.removed]
    lines += [f"  .secrets/ ({len(way.secrets)} files)"] if way.secrets else []
    if kept not in ("", copy.id):
        lines += ["", "As it was until now, it is kept. This takes the restore back:"]
        lines.append(f"  {command} --restore {kept}{' --yes' if way.bound else ''}")
    if copy.version != __version__:
        lines += [
            "",
            f"That was avatar-setup {copy.version}: this one, {__version__}, would change it at its next run.",
        ]
    sudo = "sudo " if os.geteuid() == 0 else ""
    lines += ["", f"Next, on the host, in {host or f'the directory that is mounted at {volume.path}'}:"]
    lines += [f"  {line}" for line in _elsewhere(configurator, volume, way, sudo)]
    data = {"restored": copy.id, "written": way.written, "removed": way.removed}
    return Answer([*lines, f"  {sudo}docker compose up -d"], data | {"secrets": way.secrets, "copy": kept})


def _elsewhere(configurator: DeploymentConfigurator, volume: Volume, way: Way, sudo: str) -> list[str]:
    """What else has to know the earlier secrets."""
    session = configurator.session(volume, sources.gather({}, None, configurator.defaults_file, {}, {}), Options())
    texts = {name: text for name, text in session.read_secrets().items() if text}
    return rotation.before_up(way.secrets, session.resolve(texts).values, texts, sudo) if session.state.exists else []
