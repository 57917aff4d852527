"""A deployment brought back to a dated copy.

A restore is announced by a mark beside the copies before its first change, and the state comes last. While the mark is
there, no other run begins: what stands on the volume may be half of one deployment and half of another.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from setup import __version__
from setup.commands.history import is_known, is_secret, ours, settings_of
from setup.commands.restore_plan import NO_WAY, Way, way_to, what_stands
from setup.config import sources
from setup.config.model import Answer, File
from setup.config.secrets import SECRETS
from setup.deploy import baseline, diff, summary, transaction
from setup.deploy.redact import Masks
from setup.deploy.session import Options
from setup.deploy.steps import FOLDERS
from setup.deploy.targets import COMPOSE
from setup.errors import DecisionNeeded, VolumeError
from setup.secrets import plan as secrets_plan
from setup.secrets import rotation
from setup.state_manager import LAST_GOOD, STATE
from setup.volume import backups
from setup.volume.volume import Volume

if TYPE_CHECKING:
    import argparse

    from setup.commands.history import Tree
    from setup.configure import DeploymentConfigurator
    from setup.volume.backups import Copy


# --- bringing one back --------------------------------------------------------------------------


def restore(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Brings a copy back, of which the same command finishes what was interrupted; a copy of the present is kept."""
    with Volume(configurator.output_dir) as volume:
        copy = backups.find(volume, options.restore)
        there = what_stands(volume, copy)
        way = way_to(volume, copy, there)
        if not (way.write or way.remove or backups.interrupted(volume)):
            return _nothing(configurator, volume, copy)
        if options.dry_run:
            return _preview(volume, copy, way, there)
        _require_consent(way, options.yes)
        volume.check_writable()
        with volume.locked({*FOLDERS, *(os.path.dirname(path) for path in copy.paths)}):
            way = way_to(volume, copy, what_stands(volume, copy))  # another run may have worked since
            _require_consent(way, options.yes)
            half, kept, others = backups.marked(volume)
            kept = kept if half else _keep(volume, copy, configurator.keep)
            whole = _whole(volume, copy, way, kept)
            _go(volume, way, [copy.id, kept, *sorted({half, *others} - {copy.id, kept, ""})])
        return _told(configurator, volume, copy, whole, kept)


def _whole(volume: Volume, copy: Copy, way: Way, kept: str) -> Way:
    """The way from how it was before, of which interrupted runs may have gone a part."""
    before: Tree = {}
    with contextlib.suppress(VolumeError):  # for the message only: a copy that lost a file does not end this run
        before = {file.path: file for file in backups.contents(volume, backups.find(volume, kept))}
    whole = way_to(volume, copy, before) if before else way
    write = {file.path: file for file in (*whole.write, *way.write)}
    return Way(tuple(write.values()), tuple(sorted({*whole.remove, *way.remove})))


def _require_consent(way: Way, yes: bool) -> None:
    """Raises DecisionNeeded for secrets that data or a server may have been given another value of since."""
    if way.bound and not yes:
        raise DecisionNeeded(*(
            f"{secrets_plan.path_of(secret.name)} would get its earlier value, and is bound to {secret.bound}. Nothing "
            "was written: give --yes to bring it back all the same"
            for secret in way.bound
        ))  # fmt: skip


def _keep(volume: Volume, copy: Copy, last: int) -> str:
    """Keeps the deployment as it is now; neither the copy that is brought back is forgotten for it, nor one in use."""
    files = {path for path in (*copy.paths, *copy.absent, *ours(volume)) if is_known(path)}
    spare = [copy.id, *transaction.still_wanted(volume)]
    return backups.keep(volume, baseline.everything(volume, files), backups.A_RESTORE + copy.id, last, spare)


def _go(volume: Volume, way: Way, mark: list[str]) -> None:
    """Announces the restore, writes secrets and files, removes what came later, and withdraws the announcement.

    The state of then comes at last: until all is done, the present one tells which files are to go.
    """
    volume.replace(File(backups.MARK, "\n".join([*mark, ""]).encode(), 0o600))
    order = sorted(way.write, key=lambda file: (not is_secret(file.path), file.path == COMPOSE))
    volume.publish(volume.stage(file for file in order if file.path != STATE))
    for path in way.remove:
        volume.remove(path)
    states = [file for file in way.write if file.path == STATE]
    volume.publish(volume.stage([*(file._replace(path=LAST_GOOD) for file in states), *states]))
    volume.remove(backups.MARK)


# --- what is told -------------------------------------------------------------------------------


def _preview(volume: Volume, copy: Copy, way: Way, before: Tree) -> Answer:
    there = {name: secrets_plan.text_of(name, volume.read(secrets_plan.path_of(name))) for name in SECRETS}
    wanted = {file.path.rpartition("/")[2]: file.data.decode() for file in way.write if is_secret(file.path)}
    masks = Masks(there, wanted)
    after = {file.path: file for file in backups.contents(volume, copy)}
    rows = [_file_row(path, before, after, masks) for path in (*way.written, *way.removed)]
    changed = diff.settings(settings_of(before), settings_of(after))
    secrets = diff.secrets(there, wanted, masks)
    return diff.answer([f"the deployment of {copy.id} would be brought back"], changed, secrets=secrets, files=rows)


def _file_row(path: str, before: Tree, after: Tree, masks: Masks) -> dict[str, Any]:
    old, new = before.get(path), after.get(path)
    texts = [tree[baseline.place(path)].data for tree in (before, after) if baseline.place(path) in tree]
    lines = {line for text in texts for line in text.decode(errors="replace").splitlines()}
    there = None if old is None else masks.lines(path, old.data, lines)
    wanted = [] if new is None else masks.lines(path, new.data, lines)
    how = "removed" if new is None else "new" if old is None else "changed"
    return {"path": path, "change": how, "diff": diff.diff(path, there, wanted)}


def _told(configurator: DeploymentConfigurator, volume: Volume, copy: Copy, way: Way, kept: str) -> Answer:
    place, back = summary.place_of(volume, configurator.environ), _taken_back(volume, kept)
    lines = [
        f"The deployment is again as it was before {copy.cause} ({copy.id}):",
        *(f"  {path}" for path in way.written),
    ]
    lines += [f"  {path} (removed)" for path in way.removed]
    lines += [f"  .secrets/ ({len(way.secrets)} files)"] if way.secrets else []
    if back.write or back.remove:
        lines += ["", "As it was until now, it is kept. This takes the restore back:"]
        lines.append(f"  {place.command} --restore {kept}{' --yes' if back.bound else ''}")
    if copy.version != __version__:
        lines += [
            "",
            f"That was avatar-setup {copy.version}: this one, {__version__}, would change it at its next run.",
        ]
    lines += ["", f"Next, on the host, in {place.words}:", *_next(configurator, volume, way)]
    data = {"restored": copy.id, "written": way.written, "removed": way.removed}
    return Answer(lines, data | {"secrets": way.secrets, "copy": kept})


def _taken_back(volume: Volume, kept: str) -> Way:
    """The way back to the copy of before a restore; none where that brings nothing back, or is gone."""
    with contextlib.suppress(VolumeError):
        copy = backups.find(volume, kept)
        return way_to(volume, copy, what_stands(volume, copy))
    return NO_WAY


def _nothing(configurator: DeploymentConfigurator, volume: Volume, copy: Copy) -> Answer:
    """That nothing is left to do; and what to type all the same, as the run that did it may have had no time to say."""
    lines, newest = [f"Nothing to do: the deployment is as it was in {copy.id}."], next(iter(backups.history(volume)))
    if newest.cause == backups.A_RESTORE + copy.id:
        words = summary.place_of(volume, configurator.environ).words
        lines += ["", f"If that was not done yet: on the host, in {words}:"]
        lines += _next(configurator, volume, _whole(volume, copy, NO_WAY, newest.id))
    return Answer(lines, {"restored": copy.id, "written": [], "removed": [], "secrets": [], "copy": ""})


def _next(configurator: DeploymentConfigurator, volume: Volume, way: Way) -> list[str]:
    """What to type on the host: what else has to know the earlier secrets, and the start.

    A copy made while a run was half done is finished first.
    """
    sudo = "sudo " if os.geteuid() == 0 else ""
    session = configurator.session(volume, sources.gather({}, None, configurator.defaults_file, {}, {}), Options())
    texts = {name: text for name, text in session.read_secrets().items() if text}
    known = session.state.exists
    if known and not session.state.is_complete:
        place = summary.place_of(volume, configurator.environ)
        return [f"  {place.command}", "  (that finishes what was half done then, and says what is next)"]
    before = rotation.before_up(way.secrets, session.resolve(texts).values, texts, sudo) if known else []
    return [f"  {line}" for line in (*before, f"{sudo}docker compose up -d")]
