"""Tell an operator and a program what a run did and how far the deployment is: status and last message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from setup import console
from setup.config.model import Secret
from setup.config.resolver import Resolution
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.secrets.plan import Origin, names_of
from setup.state_manager import TITLE, DeploymentState, digest_of_ours
from setup.typed import Any
from setup.volume.layout import secret_path

# Where a secret's value comes from; never the value.
ORIGINS = {
    Origin.KEPT: "on the volume",
    Origin.FILLED: "on the volume",
    Origin.GIVEN: "given",
    Origin.GENERATED: "to be generated",
    Origin.CUSTOMARY: "the usual value",
    Origin.PENDING: "not given yet",
}


# --- the status ---------------------------------------------------------------------------------


def heading(title: str, underline: int = 0) -> list[str]:
    """Return a title with a line below it."""
    return [title, "=" * (underline or len(title))]


def status_lines(state: DeploymentState, pending: list[Secret], lost: list[Secret]) -> list[str]:
    """Return the answer to `--status`."""
    lines = [*heading(TITLE, 32), *state.progress_lines()]
    if lost:
        lines += ["", "✗ Lost secrets, to be restored from a backup:", *_indented_paths(lost)]
    if state.exists and pending:
        lines += ["", "⊘ Pending secrets, which --fill asks for:", *_indented_paths(pending)]
    return lines


def existing_lines(state: DeploymentState) -> list[str]:
    """Return what an interactive run shows when it finds a state."""
    return [*heading("Existing Configuration Found", 29), TITLE, "", *state.progress_lines()]


def status_data(
    state: DeploymentState,
    resolution: Resolution,
    pending: list[Secret],
    lost: list[Secret],
    on_disk: Mapping[str, bytes | None],
) -> dict[str, Any]:
    """Return the answer to `--status --json`; a setting that nobody gave yet is left out."""
    settings, files = {}, {}
    for key in SETTINGS:
        if resolved := resolution.values.computed(key):
            settings[key] = {"value": show(resolved.value), "source": resolved.source.label}
    for path, known in state.files.items():
        files[path] = {"sha256": known, "state": _file_state(path, known, on_disk.get(path))}
    return {
        "steps": dict(state.steps),
        "completed": state.count_completed(),
        "total": len(state.steps),
        "next_step": state.next_step,
        "complete": state.is_complete(),
        "pending_secrets": names_of(pending),
        "lost_secrets": names_of(lost),
        "settings": settings,
        "files": files,
    }


def _indented_paths(secrets: Iterable[Secret]) -> list[str]:
    return console.indent(map(secret_path, names_of(secrets)))


def _file_state(path: str, known: str, data: bytes | None) -> str:
    if data is None:
        return "missing"
    return "unmodified" if digest_of_ours(path, data) == known else "edited"


def format_value(resolution: Resolution, key: str) -> str:
    """Return the present text of a setting, "" if it has none."""
    resolved = resolution.values.computed(key)
    return show(resolved.value) if resolved else ""
