"""`--status`: how far the configuration is; reads only, and takes no lock."""

from __future__ import annotations

from setup.checks import run
from setup.console import Answer
from setup.deploy import summary
from setup.errors import Busy, ExitCode
from setup.secrets import guards, rotation
from setup.secrets.store import read_filled
from setup.typed import TYPE_CHECKING
from setup.volume import backups
from setup.volume.layout import LOCK, secret_path
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.configure import DeploymentConfigurator


def status(configurator: DeploymentConfigurator) -> Answer:
    """Tell how far the configuration is, and which run is in progress; read only."""
    with Volume(configurator.output_dir) as volume:
        busy = _busy(volume)
        session = configurator.saved_session(volume)
        state, restoring = session.state, backups.interrupted(volume)
        texts = read_filled(volume)
        resolution = session.resolve(texts)
        lost, pending = guards.Unfilled([], [])
        if not resolution.missing:
            lost, pending = guards.find_unfilled(resolution.values, texts, state.secrets)
        on_disk = volume.read_each(state.files)
        statuses = volume.status_each(map(secret_path, texts))
        times = {name: statuses[path].st_mtime for name in texts if (path := secret_path(name)) in statuses}
        todo = backups.explain_recovery(volume, restoring) if restoring else ""
        failures = run.find_failures(session, (texts, resolution)) if state.is_complete() and not restoring else []
        leftovers = backups.find_leftovers(volume)
        busy = busy or _busy(volume)  # one that ended or began meanwhile counts: it may have been half done
    ages = rotation.collect_ages(state.secrets, times)
    data = summary.status_data(state, resolution, pending, lost, on_disk)
    data["ready"] = state.is_complete() and not restoring and not failures
    data |= {"secrets": ages, "restoring": restoring, "busy": busy, "leftovers": leftovers}
    lines = summary.status_lines(state, pending, lost)
    if busy:
        lines += ["", f"◐ {busy[0].upper()}{busy[1:]}"]
    elif restoring:
        lines += ["", f"✗ The restore of {restoring} was interrupted. {todo}"]
    if leftovers:
        lines += ["", f"⊘ An interrupted run left {', '.join(leftovers)}. The next run removes that"]
    if restoring or not state.is_complete():
        return Answer(lines, data, ExitCode.NOT_COMPLETE)
    ready = "yes" if data["ready"] else f"no, --check lists what is missing ({len(failures)})"
    return Answer([*lines, "", f"Ready: {ready}", *rotation.format_ages(ages)], data)


def _busy(volume: Volume) -> str:
    """Return which run is in progress, "" without one; try the lock only if a holder signed it."""
    try:
        if volume.read(LOCK):
            volume.require_free()
    except Busy as error:
        return str(error)
    return ""
