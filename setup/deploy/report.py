"""What the operator is told: the status, and the last message of a run; text and data, pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from setup.config.derived import base_url, bundled_database, certificate_is_made
from setup.config.model import Secret
from setup.config.resolver import Resolution
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.deploy.targets import AUTHORITY
from setup.environment import shell_word
from setup.secrets import plan as secrets_plan
from setup.secrets.plan import Origin
from setup.state_file import COMPLETED, IN_PROGRESS
from setup.state_manager import DeploymentState, digest_of_ours

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from setup.config.values import Values

_MARKS = {COMPLETED: "✓", IN_PROGRESS: "◐"}
_NOT_STARTED_MARK = "○"
# Where a secret's value is from, or will be; never the value.
ORIGINS = {
    Origin.KEPT: "on the volume",
    Origin.GIVEN: "given beforehand",
    Origin.GENERATED: "to be generated",
    Origin.CUSTOMARY: "the customary one",
    Origin.PENDING: "not given yet",
}
TITLE = "Deployment Configuration Status"
NOTHING_TO_DO = "Nothing to do: the configuration is complete and unchanged."


def step_title(name: str) -> str:
    """A step's name as the status shows it."""
    return name.replace("_", " ").title()


def heading(title: str, underline: int = 0) -> list[str]:
    return [title, "=" * (underline or len(title))]


def progress(state: DeploymentState) -> list[str]:
    """How far the deployment got, a line a step."""
    done = sum(status == COMPLETED for status in state.steps.values())
    lines = [f"{done}/{len(state.steps)} steps completed", ""]
    for name, status in state.steps.items():
        lines.append(f"  {_MARKS.get(status, _NOT_STARTED_MARK)} {step_title(name)}: {status}")
    if state.next_step:
        lines += ["", f"→ Next step: {step_title(state.next_step)}"]
    return lines


def status_lines(state: DeploymentState, pending: list[Secret], lost: list[Secret]) -> list[str]:
    """The answer to `--status`."""
    lines = [*heading(TITLE, 32), *progress(state)]
    if lost:
        lines += ["", "✗ Secrets that were made and are gone, to be put back from a backup:"]
        lines += [f"  {secrets_plan.path_of(secret.name)}" for secret in lost]
    if state.exists and pending:
        lines += ["", "⊘ Pending secrets, to be filled by hand:"]
        lines += [f"  {secrets_plan.path_of(secret.name)}" for secret in pending]
    return lines


def existing_lines(state: DeploymentState) -> list[str]:
    """What an interactive run shows when it finds a state."""
    return [*heading("Existing Configuration Found", 29), TITLE, "", *progress(state)]


def shown(resolution: Resolution, key: str) -> str:
    """The present text of a setting, "" where there is none."""
    found = resolution.values.computed(key)
    return show(found.value) if found else ""


def reviewed(
    resolution: Resolution, planned: Mapping[str, secrets_plan.Planned], accepted: Iterable[str], complete: bool
) -> tuple[str, ...]:
    """What the review page lists: every setting that applies, and the secrets that are given or were left open."""
    skipped = {name for name in planned if secrets_plan.is_asked(SECRETS[name], resolution.values)}
    skipped &= planned.keys() if complete else set(accepted)
    names = [name for name, one in planned.items() if one.origin in (Origin.GIVEN, Origin.KEPT) or name in skipped]
    return (*resolution.applying(), *names)


def review_lines(
    resolution: Resolution, planned: Mapping[str, secrets_plan.Planned], listed: Iterable[str], reasons: Iterable[str]
) -> list[str]:
    """The review page: each entry with its number, value and source, secrets masked; and what would change."""
    lines, section = heading("Review"), ""
    for number, key in enumerate(listed, start=1):
        group = SETTINGS[key].group if key in SETTINGS else "Secrets"
        if group != section:
            lines += ["", f"--- {group} ---"]
        section = group
        if key in SETTINGS:
            found = resolution.values.resolved(key)
            lines.append(f"{number:3} {key} = {show(found.value) or '(empty)'}  ({found.source.label})")
        else:
            masked = "******" if planned[key].text else "(empty)"
            lines.append(f"{number:3} {key} = {masked}  ({ORIGINS[planned[key].origin]})")
    changed = [f"Changed: {reason}" for reason in reasons]
    return lines + (["", *changed] if changed else [])


def status_data(
    state: DeploymentState,
    resolution: Resolution,
    pending: list[Secret],
    lost: list[Secret],
    on_disk: Mapping[str, bytes | None],
) -> dict[str, Any]:
    """The answer to `--status --json`; a setting that nobody gave yet is left out."""
    names = [secret.name for secret in pending]
    computed = {key: resolution.values.computed(key) for key in SETTINGS}
    return {
        "steps": dict(state.steps),
        "completed": sum(status == COMPLETED for status in state.steps.values()),
        "total": len(state.steps),
        "next_step": state.next_step,
        "complete": state.is_complete,
        "ready": state.is_complete and not names and not lost,
        "pending_secrets": names,
        "lost_secrets": [secret.name for secret in lost],
        "settings": {
            key: {"value": show(found.value), "source": found.source.label} for key, found in computed.items() if found
        },
        "files": {
            path: {"sha256": known, "state": _file_state(path, known, on_disk.get(path))}
            for path, known in state.files.items()
        },
    }


def _file_state(path: str, known: str, data: bytes | None) -> str:
    if data is None:
        return "missing"
    return "unmodified" if digest_of_ours(path, data) == known else "edited"


class Place(NamedTuple):
    """Where the deployment lies: as this program calls it, as the host does ("" if unknown), and how to run again."""

    directory: str
    host: str
    command: str

    @property
    def name(self) -> str:
        return self.host or self.directory

    @property
    def words(self) -> str:
        return self.host or f"the directory that is mounted at {self.directory}"

    def path(self, name: str) -> str:
        """A file of the deployment, for somebody on the host."""
        return f"{self.host}/{name}" if self.host else name


def last_message(
    place: Place,
    owner: tuple[int, int],
    written: list[str],
    pending: list[Secret],
    values: Values,
    missing: tuple[str, ...],
    copy: str = "",
) -> list[str]:
    """What was written, what is still to be filled in, and what to type next on the host."""
    lines = ["", *heading("Configuration complete"), *_written(place, owner, written)]
    if copy:
        lines += ["", "As it was before, it is kept. This takes the change back:"]
        lines.append(f"  {place.command} --restore {copy}")
    lines += pending_lines(place, owner, pending)
    if certificate_is_made(values):
        lines += ["", f"Clients accept {base_url(values)} once they trust its authority. Hand them this file:"]
        lines.append(f"  {place.path(AUTHORITY)}")
    lines += ["", "Its status, at any time:", f"  {place.command} --status"]
    first_database = secrets_plan.path_of("db_password") in written
    lines += ["", *_next_commands(place, owner, values, first_database, missing)]
    return lines


def pending_lines(place: Place, owner: tuple[int, int], pending: list[Secret]) -> list[str]:
    """Which secrets are still to be filled in, where, and how."""
    if not pending:
        return []
    where = "" if place.host else f" in {place.words}"
    file = shell_word(place.path(secrets_plan.path_of(pending[0].name)))
    into = f"sudo tee {file} >/dev/null" if owner[0] == 0 else f"cat > {file}"  # the value stays out of the history
    return [
        "",
        f"Pending: {len(pending)} value(s) that only you know. Put each into its file{where}: after a command such as",
        f"  {into}",
        "type the value, and Ctrl-D twice instead of Enter. The files:",
        *(f"  {place.path(secrets_plan.path_of(secret.name))}  ({secret.question})" for secret in pending),
        "then run this again, so that the files that depend on them follow:",
        f"  {place.command}",
    ]


def _written(place: Place, owner: tuple[int, int], written: list[str]) -> list[str]:
    secrets = [path for path in written if path.startswith(".secrets/")]
    files = sorted({path for path in written if path not in secrets})
    if not written:
        return [f"{place.name} holds all of it already; no file was changed."]
    lines = [f"Written to {place.name} (owner {owner[0]}:{owner[1]}):", *(f"  {path}" for path in files)]
    if secrets:
        lines.append(f"  .secrets/ ({len(set(secrets))} files)")
    return lines


def _next_commands(
    place: Place, owner: tuple[int, int], values: Values, first_database: bool, missing: tuple[str, ...]
) -> list[str]:
    sudo = _sudo(owner)
    registry = str(values["AVATAR_REGISTRY"]).partition("/")[0]
    lines = [f"Next, on the host, in {place.words}:", *(f"  # {sentence}" for sentence in missing)]
    if first_database and bundled_database(values):
        volume = values["DB_VOLUME"]
        lines += [
            f"  {sudo}docker volume ls -q --filter name={volume}",
            "  # an answer means that this host has an older database: its passwords would not match these secrets",
        ]
    lines += [f"  {sudo}docker login {registry}", f"  {sudo}docker compose up -d"]
    return lines


def _sudo(owner: tuple[int, int]) -> str:
    return "sudo " if owner[0] == 0 else ""
