"""What happened to a deployment, told from its dated copies: what changed between each and the next."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from setup.config.model import Answer, File, Given
from setup.config.secrets import DIRECTORY, SECRETS
from setup.deploy import baseline, diff
from setup.formats.yaml_file import Malformed
from setup.state_file import parse
from setup.state_manager import STATE
from setup.volume import backups
from setup.volume.volume import Volume

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from setup.configure import DeploymentConfigurator
    from setup.volume.backups import Copy

    Tree = Mapping[str, File]


def history(configurator: DeploymentConfigurator, _options: argparse.Namespace) -> Answer:
    """The copies, the newest first, each with what changed after it was made."""
    rows: list[dict[str, Any]] = []
    with Volume(configurator.output_dir) as volume:
        later: Tree | None = None
        for copy in backups.history(volume):
            tree = {file.path: file for file in backups.contents(volume, copy)}
            rows.append(_row(copy, tree, now(volume, copy) if later is None else later))
            later = tree
    lines = [line for row in rows for line in _row_lines(row)]
    return Answer(
        lines or ["There is no copy yet: one is made before a complete deployment changes."], {"copies": rows}
    )


def _row(copy: Copy, before: Tree, after: Tree) -> dict[str, Any]:
    paths = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    return {
        "id": copy.id,
        "version": copy.version,
        "before": copy.cause,
        "settings": diff.as_data(diff.settings(settings_of(before), settings_of(after))),
        "files": [path for path in paths if is_known(path)],
        "secrets": [path.rpartition("/")[2] for path in paths if is_secret(path)],
    }


def _row_lines(row: Mapping[str, Any]) -> list[str]:
    changed = diff.setting_lines(row["settings"])
    changed += [", ".join(row["files"])] if row["files"] else []
    changed += [f"secrets: {', '.join(row['secrets'])}"] if row["secrets"] else []
    title = f"{row['id']}  before {row['before']} (avatar-setup {row['version']})"
    return [title, *(f"  {line}" for line in changed or ["no file of the deployment changed"])]


def now(volume: Volume, copy: Copy) -> Tree:
    """The present state of what a copy tells about."""
    found = map(volume.file, {*copy.paths, *copy.absent, *ours(volume)})
    return {file.path: file for file in found if file is not None}


def settings_of(tree: Tree) -> Mapping[str, Given]:
    """The settings that were in force, from their record or, before there was one, the answers."""
    record, state = tree.get(baseline.SETTINGS_FILE), tree.get(STATE)
    with contextlib.suppress(Malformed):
        return baseline.recorded(record.data) if record else parse(state.data).answers if state else {}
    return {}


def ours(volume: Volume) -> set[str]:
    """The files that the present state knows, as far as it can be read, and their texts."""
    with contextlib.suppress(Malformed):
        files = parse(volume.read(STATE) or b"").files
        return {*files, *map(baseline.place, files)}
    return set()


def is_known(path: str) -> bool:
    """Whether an operator knows a file by its name: no secret, and none of those that are about the deployment."""
    return not path.startswith((f"{DIRECTORY}/", ".deployment-"))


def is_secret(path: str) -> bool:
    """Whether a path is that of a secret."""
    return path.startswith(f"{DIRECTORY}/") and path.rpartition("/")[2] in SECRETS
