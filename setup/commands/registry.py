"""What else than configuring can be asked for: one function a verb, from the configurator to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from setup.config import sources
from setup.console import Answer
from setup.deploy import summary
from setup.deploy.session import Options
from setup.errors import Busy, ExitCode
from setup.secrets import guards, rotation
from setup.secrets.store import read_filled
from setup.volume import backups
from setup.volume.layout import LOCK, secret_path
from setup.volume.volume import Volume

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from setup.configure import DeploymentConfigurator


def status(configurator: DeploymentConfigurator, _options: argparse.Namespace) -> Answer:
    """How far the configuration is, and who is at work on it; reads only."""
    with Volume(configurator.output_dir) as volume:
        busy = _busy(volume)
        inputs = sources.gather({}, None, configurator.defaults_file, {}, {})
        session = configurator.session(volume, inputs, Options())
        state, half = session.state, backups.interrupted(volume)
        texts = read_filled(volume)
        resolution = session.resolve(texts)
        lost, pending = guards.Unfilled([], [])
        if not resolution.missing:
            lost, pending = guards.find_unfilled(resolution.values, texts, state.secrets)
        on_disk = {path: volume.read(path) for path in state.files}
        times = {name: at.st_mtime for name in texts if (at := volume.status(secret_path(name)))}
        way_out = backups.way_out(volume, half) if half else ""
        busy = busy or _busy(volume)  # one that ended or began meanwhile counts: it may have been half done
    ages = rotation.collect_ages(state.secrets, times)
    data = summary.status_data(state, resolution, pending, lost, on_disk)
    data |= {"secrets": ages, "restoring": half, "busy": busy}
    lines = summary.status_lines(state, pending, lost)
    if busy:
        lines += ["", f"◐ {busy[0].upper()}{busy[1:]}"]
    elif half:
        lines += ["", f"✗ Bringing back {half} was interrupted. {way_out}"]
    if half or not state.is_complete:
        return Answer(lines, data, ExitCode.NOT_COMPLETE)
    return Answer([*lines, *rotation.format_ages(ages)], data)


def _busy(volume: Volume) -> str:
    """Which run at work there is to wait for, "" without one; the lock is asked only where somebody has signed it."""
    try:
        if volume.read(LOCK):
            volume.require_free()
    except Busy as error:
        return str(error)
    return ""


def check(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Whether the stack would boot; reads only, and takes no lock."""
    from setup.checks.run import check_deployment

    inputs = sources.gather({}, None, configurator.defaults_file, {}, {})
    with Volume(configurator.output_dir) as volume:
        return check_deployment(configurator.session(volume, inputs, Options()), online=options.online)


# The others bring rooms along that the status need not wait for.


def look(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """What a run would change."""
    from setup.commands.diff import look as verb

    return verb(configurator, options)


def history(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """The dated copies."""
    from setup.commands.history import history as verb

    return verb(configurator, options)


def restore(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Brings a dated copy back."""
    from setup.commands.restore import restore as verb

    return verb(configurator, options)


def rotate(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Gives secrets new values."""
    from setup.commands.rotate import rotate as verb

    return verb(configurator, options)


def adopt(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Takes a deployment of another hand over."""
    from setup.commands.adopt.command import adopt as verb

    return verb(configurator, options)


def export(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Hands a deployment over."""
    from setup.commands.export import export as verb

    return verb(configurator, options)


DO: dict[str, Callable[[DeploymentConfigurator, argparse.Namespace], Answer]] = {
    "status": status,
    "check": check,
    "export": export,
    "rotate": rotate,
    "adopt": adopt,
    "history": history,
    "restore": restore,
    "look": look,
}
