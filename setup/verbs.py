"""What else than configuring can be asked for: one function a verb, from the configurator to its answer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from setup import conflicts, report, rotation, sources, vault
from setup.adopt import adopt
from setup.files import Volume
from setup.hand_over import export
from setup.model import Answer
from setup.rotate import rotate
from setup.session import Options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from setup.configure import DeploymentConfigurator

EXIT_NOT_COMPLETE = 3


def status(configurator: DeploymentConfigurator, _options: argparse.Namespace) -> Answer:
    """How far the configuration is; reads only, and takes no lock."""
    with contextlib.closing(Volume(configurator.output_dir)) as volume:
        session = configurator.session(volume, sources.gather({}, None, configurator.defaults_file, {}, {}), Options())
        state = session.state
        texts = {name: text for name, text in session.read_secrets().items() if text}
        resolution = session.resolve(texts)
        lost = [] if resolution.missing else conflicts.lost(resolution.values, texts, state.secrets)
        pending = [] if resolution.missing else vault.pending(resolution.values, texts)
        pending = [secret for secret in pending if secret not in lost]
        on_disk = {path: volume.read(path) for path in state.files}
        times = {name: at.st_mtime for name in texts if (at := volume.status(vault.path_of(name)))}
    ages = rotation.ages(state.secrets, times)
    data = report.status_data(state, resolution, pending, lost, on_disk) | {"secrets": ages}
    lines = report.status_lines(state, pending, lost)
    if not state.is_complete:
        return Answer(lines, data, EXIT_NOT_COMPLETE)
    return Answer([*lines, *rotation.age_lines(ages)], data)


def check(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Whether the stack would boot; reads only, and takes no lock."""
    from setup.check import check

    inputs = sources.gather({}, None, configurator.defaults_file, {}, {})
    with contextlib.closing(Volume(configurator.output_dir)) as volume:
        return check(configurator.session(volume, inputs, Options()), online=options.online)


DO: dict[str, Callable[[DeploymentConfigurator, argparse.Namespace], Answer]] = {
    "status": status,
    "check": check,
    "export": export,
    "rotate": rotate,
    "adopt": adopt,
}
