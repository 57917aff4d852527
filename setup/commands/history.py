"""`--history`: list the backups, each with what changed after it was saved."""

from __future__ import annotations

import contextlib

from setup.config.model import Given
from setup.config.secrets import SECRETS
from setup.console import Answer, indent
from setup.deploy import baseline, diff
from setup.errors import VolumeError
from setup.formats.yaml_file import Malformed
from setup.state_file import parse
from setup.typed import TYPE_CHECKING, Any
from setup.volume import backups
from setup.volume.layout import SECRETS_FOLDER, SETTINGS_RECORD, STATE, File, is_record, written_path
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from setup.configure import DeploymentConfigurator
    from setup.volume.backups import Backup

    Tree = Mapping[str, File]

_NONE = "No backup yet: a run saves one before it changes a complete deployment."


def history(configurator: DeploymentConfigurator) -> Answer:
    """List the backups, the newest first, and the damaged ones behind them."""
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    with Volume(configurator.output_dir) as volume:
        later: Tree | None = None
        usable, damaged = backups.survey(volume)
        for backup in usable:
            try:
                tree = by_path(backups.contents(volume, backup))
            except VolumeError as error:
                damaged[backup.id] = str(error)
                continue
            rows.append(_row(backup, tree, read_present(volume, [backup]) if later is None else later))
            lines += _row_lines(rows[-1])
            later = tree
    if damaged:
        lines += ["Damaged, and left alone:", *indent(damaged.values())]
    return Answer(lines or [_NONE], {"copies": rows, "damaged": damaged})


def _row(backup: Backup, before: Tree, after: Tree) -> dict[str, Any]:
    files, secrets = [], []
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) == after.get(path):
            continue
        if is_shown(path):
            files.append(path)
        elif is_secret(path):
            secrets.append(path.rpartition("/")[2])
    return {
        "id": backup.id,
        "version": backup.version,
        "before": backup.reason.text,
        "settings": diff.as_data(changed_settings(before, after)),
        "files": files,
        "secrets": secrets,
    }


def _row_lines(row: Mapping[str, Any]) -> list[str]:
    changed = diff.setting_lines(row["settings"])
    if row["files"]:
        changed.append(", ".join(row["files"]))
    if row["secrets"]:
        changed.append(f"secrets: {', '.join(row['secrets'])}")
    title = f"{row['id']}  before {row['before']} (avatar-setup {row['version']})"
    return [title, *indent(changed or ["no file of the deployment changed"])]


def by_path(files: Iterable[File | None]) -> Tree:
    """Index the files that exist by their path."""
    tree = {}
    for file in files:
        if file is not None:
            tree[file.path] = file
    return tree


def read_present(volume: Volume, kept: Iterable[Backup]) -> Tree:
    """Read every file on the volume that the state or one of these backups names."""
    paths = files_of_state(volume)
    for backup in kept:
        paths.update(backup.paths, backup.absent)
    return by_path(volume.files(sorted(paths)))


def changed_settings(before: Tree, after: Tree) -> list[diff.Changed]:
    """List the settings that differ: of those in force or, if one side has no record of them, of the answers."""
    recorded = SETTINGS_RECORD in before and SETTINGS_RECORD in after
    return diff.settings(_settings_of(before, recorded), _settings_of(after, recorded))


def _settings_of(tree: Tree, recorded: bool) -> Mapping[str, Given]:
    if recorded:
        return baseline.recorded(tree[SETTINGS_RECORD].data)
    with contextlib.suppress(Malformed):
        return parse(tree[STATE].data).answers if STATE in tree else {}
    return {}


def files_of_state(volume: Volume) -> set[str]:
    """Return the paths that the present state knows and those of their kept texts; none if it cannot be read."""
    with contextlib.suppress(Malformed):
        files = parse(volume.read(STATE) or b"").files
        return {*files, *map(written_path, files)}
    return set()


def is_shown(path: str) -> bool:
    """Tell whether an operator knows this file by name: it is neither a secret nor a record of this program."""
    return not (path.startswith(f"{SECRETS_FOLDER}/") or is_record(path))


def is_secret(path: str) -> bool:
    """Tell whether a path is that of a secret."""
    return path.startswith(f"{SECRETS_FOLDER}/") and path.rpartition("/")[2] in SECRETS
