"""Tell an operator and a program what a run did and how far the deployment is: status, review page, last message."""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from setup import console
from setup.config.derived import APPLIES_WITH, base_url, bundled_database, certificate_is_made
from setup.config.model import Secret, Source
from setup.config.resolver import Resolution
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.config.values import Values
from setup.console import Answer
from setup.deploy import transaction
from setup.deploy.session import Session
from setup.deploy.steps import Context
from setup.environment import command_again, host_path, shell_word
from setup.errors import DecisionNeeded
from setup.formats import dotenv
from setup.formats.yaml_file import Malformed
from setup.secrets import plan as secrets_plan
from setup.secrets.plan import Origin, names_of
from setup.secrets.store import read_filled
from setup.state_manager import TITLE, DeploymentState, digest_of_ours
from setup.volume import backups
from setup.volume.layout import AUTHORITY, ENV, PROPOSAL_SUFFIX, SECRETS_FOLDER, secret_path
from setup.volume.volume import Volume

# Where a secret's value comes from; never the value.
ORIGINS = {
    Origin.KEPT: "on the volume",
    Origin.GIVEN: "given beforehand",
    Origin.GENERATED: "to be generated",
    Origin.CUSTOMARY: "the usual value",
    Origin.PENDING: "not given yet",
}
NOTHING_TO_DO = "Nothing to do: the configuration is complete and unchanged."


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
        lines += ["", "⊘ Pending secrets, to be filled by hand:", *_indented_paths(pending)]
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
        "ready": state.is_complete() and not pending and not lost,
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


# --- the review page ----------------------------------------------------------------------------


def shown(resolution: Resolution, key: str) -> str:
    """Return the present text of a setting, "" if it has none."""
    resolved = resolution.values.computed(key)
    return show(resolved.value) if resolved else ""


def reviewed(
    resolution: Resolution, planned: Mapping[str, secrets_plan.Planned], accepted: Iterable[str], complete: bool
) -> tuple[str, ...]:
    """List what the review page shows: every setting that applies, and the secrets that are given or were skipped."""
    names, accepted = list(resolution.applying()), set(accepted)
    for name, secret in planned.items():
        skipped = (complete or name in accepted) and secrets_plan.is_asked(SECRETS[name], resolution.values)
        if skipped or secret.origin in (Origin.GIVEN, Origin.KEPT):
            names.append(name)
    return tuple(names)


def review_lines(
    resolution: Resolution, planned: Mapping[str, secrets_plan.Planned], listed: Iterable[str], reasons: Iterable[str]
) -> list[str]:
    """Return the review page: each entry with its number, value and source, secrets masked; then what would change."""
    lines, section = heading("Review"), ""
    for number, key in enumerate(listed, start=1):
        group = SETTINGS[key].group if key in SETTINGS else "Secrets"
        if group != section:
            lines += ["", f"--- {group} ---"]
        section = group
        if key in SETTINGS:
            resolved = resolution.values.resolved(key)
            lines.append(f"{number:3} {key} = {show(resolved.value) or '(empty)'}  ({resolved.source.label})")
        else:
            masked = "******" if planned[key].text else "(empty)"
            lines.append(f"{number:3} {key} = {masked}  ({ORIGINS[planned[key].origin]})")
    changed = [f"Changed: {reason}" for reason in reasons]
    return [*lines, "", *changed] if changed else lines


# --- the last message ---------------------------------------------------------------------------


class Place(NamedTuple):
    """Where the deployment is: its path here and on the host ("" if unknown), the command to run again, the owner."""

    directory: str
    host: str
    command: str
    owner: tuple[int, int]

    @property
    def name(self) -> str:
        return self.host or self.directory

    @property
    def words(self) -> str:
        return self.host or f"the directory that is mounted at {self.directory}"

    @property
    def sudo(self) -> str:
        """What a command on the host needs in front: files of root are read by root."""
        return "sudo " if self.owner[0] == 0 else ""

    def path(self, name: str) -> str:
        """Return the path of a file of the deployment, for somebody on the host."""
        return f"{self.host}/{name}" if self.host else name


def place_of(volume: Volume, environ: Mapping[str, str]) -> Place:
    """Return where the deployment is, for people on the host."""
    host = host_path(volume.path, environ)
    return Place(volume.path, host, command_again(volume.path, host, environ), (os.geteuid(), os.getegid()))


def result(session: Session, status: str) -> dict[str, Any]:
    """Return what happened, as `DeploymentConfigurator.result` and `--json` have it."""
    return {
        "status": status,
        "written": list(session.done.written),
        "pending_secrets": names_of(_pending(session.context_now())),
        "kept_files": list(session.done.kept),
        "copy": session.backup,
        "notes": [*list_unused(session), *_notes(session), *session.work.notes, *session.volume.warnings],
    }


def list_unused(session: Session) -> Iterator[str]:
    """Name each setting and secret that this run was given and that does not apply to the deployment."""
    values = session.context_now().resolution.values
    for key, row in SETTINGS.items():
        if row.when(values) or not any(key in layer for layer in session.inputs.layers[2:]):
            continue
        default = row.default(values) if callable(row.default) else row.default
        if values[key] != default and values.resolved(key).source > Source.ADOPTED:
            yield f"{key} is given, but not used: it applies only with {APPLIES_WITH[row.when]}"
    for name, secret in SECRETS.items():
        if name in session.inputs.secrets and not secret.when(values):
            yield f"{name.upper()} is given, but not used: it applies only with {APPLIES_WITH[secret.when]}"


def _notes(session: Session) -> list[str]:
    """Say what happened to the files that were edited by hand, except those that need a decision."""
    notes = [f"{path} was edited by hand: it now has your changes and the new ones" for path in session.done.merged]
    for path in session.work.edited:
        if path not in itertools.chain(*session.done):
            left = session.volume.read(path + PROPOSAL_SUFFIX) is not None
            beside = f"; its new text is in {path}{PROPOSAL_SUFFIX}" if left else ""
            notes.append(f"{path} was edited by hand and is left unchanged{beside}")
    if ENV in session.done.written:
        with contextlib.suppress(Malformed):  # `--check` says what is wrong with a line
            for key in dotenv.outranked(session.volume.read(ENV) or b""):
                notes.append(
                    f"{ENV}: a line of yours below the mark sets {key} too, and the last line counts: remove it"
                )
    return notes


def last_message(session: Session, status: str, environ: Mapping[str, str]) -> list[str]:
    """Say what was written, what is still to be filled in, and what to type next on the host."""
    place, context = place_of(session.volume, environ), session.context_now()
    pending, values = _pending(context), context.resolution.values
    if status == "unchanged":
        return [NOTHING_TO_DO, *_pending_lines(place, pending)]
    lines = ["", *heading("Configuration complete"), *_written_lines(place, session.done.written)]
    if session.backup:
        lines += ["", "A backup of the previous state was saved. To undo this change:"]
        lines.append(f"  {place.command} --restore {session.backup}")
    lines += _pending_lines(place, pending)
    if certificate_is_made(values):
        lines += ["", f"Clients accept {base_url(values)} once they trust its CA. Give them this file:"]
        lines.append(f"  {place.path(AUTHORITY)}")
    lines += ["", "To see its status at any time:", f"  {place.command} --status", ""]
    first_database = secret_path("db_password") in session.done.written
    lines += _next_commands(place, values, first_database, context.targets.tls.missing)
    return lines + _finished_rotation(session, values)


def _pending_lines(place: Place, pending: list[Secret]) -> list[str]:
    """Say which secrets are still to be filled in, where, and how."""
    if not pending:
        return []
    where = "" if place.host else f" in {place.words}"
    file = shell_word(place.path(secret_path(pending[0].name)))
    into = f"sudo tee {file} >/dev/null" if place.sudo else f"cat > {file}"  # the value stays out of the history
    return [
        "",
        f"Pending: {len(pending)} value(s) that only you know. Put each into its file{where}: after a command such as",
        f"  {into}",
        "type the value, and Ctrl-D twice instead of Enter. The files:",
        *(f"  {place.path(secret_path(secret.name))}  ({secret.question})" for secret in pending),
        "then run this again, so that the files that depend on them follow:",
        f"  {place.command}",
    ]


def _written_lines(place: Place, written: tuple[str, ...]) -> list[str]:
    if not written:
        return [f"{place.name} is up to date; no file was changed."]
    secrets = {path for path in written if path.startswith(f"{SECRETS_FOLDER}/")}
    lines = [f"Written to {place.name} (owner {place.owner[0]}:{place.owner[1]}):"]
    lines += console.indent(sorted(set(written) - secrets))
    return lines + ([f"  {SECRETS_FOLDER}/ ({len(secrets)} files)"] if secrets else [])


def _next_commands(place: Place, values: Values, first_database: bool, missing: tuple[str, ...]) -> list[str]:
    registry = str(values["AVATAR_REGISTRY"]).partition("/")[0]
    lines = [f"Next, on the host, in {place.words}:", *(f"  # {sentence}" for sentence in missing)]
    if first_database and bundled_database(values):
        lines += [
            f"  {place.sudo}docker volume ls -q --filter name={values['DB_VOLUME']}",
            "  # if this prints a name, this host already has a database, whose passwords do not match these secrets",
        ]
    return [*lines, f"  {place.sudo}docker login {registry}", f"  {place.sudo}docker compose up -d"]


def _finished_rotation(session: Session, values: Values) -> list[str]:
    """Say what else must know the new values, if this run has finished a rotation that was interrupted."""
    interrupted = session.existed and not session.was_complete
    began = transaction.find_last_complete(session.volume) if interrupted else None
    if not began or not (names := backups.rotated(session.volume, began)):
        return []
    title = f"This run finished the interrupted rotation of {', '.join(names)}. Next, in this order:"
    return ["", title, "", *console.indent(after_rotation(session, values, names))]


def after_rotation(session: Session, values: Values, names: list[str]) -> list[str]:
    """Return the commands to type on the host once secrets have new values; the old ones are in the backups."""
    from setup.secrets import rotation

    sudo = "sudo " if os.geteuid() == 0 else ""
    old_keys = backups.list_old_values(session.volume, secret_path(rotation.STORAGE_KEY))
    return [
        *rotation.list_commands_before(names, values, read_filled(session.volume), sudo),
        f"{sudo}docker compose up -d",
        *rotation.list_commands_after(names, old_keys, sudo),
    ]


# --- what is left to decide ---------------------------------------------------------------------


def kept(session: Session) -> DecisionNeeded | None:
    """Return what is left to decide after the run: edited files whose new text is only beside them."""
    problems = []
    for path in session.done.kept:
        new = f"{path}{PROPOSAL_SUFFIX}"
        problems.append(
            f"{path} holds changes of yours and was left unchanged; its new text is in {new}: carry over what you "
            f"need, then remove it (rm {new}). Everything else is done"
        )
    return DecisionNeeded(*problems) if problems else None


def with_decision(answer: Answer, left: DecisionNeeded | None) -> Answer:
    """Return the answer of a command that has done everything except what somebody must decide, and warn of that."""
    if left is None:
        return answer
    console.warn(f"avatar-setup: {problem}" for problem in left.problems)
    return answer._replace(data={**answer.data, "problems": list(left.problems)}, exit_code=left.exit_code)


def _pending(context: Context) -> list[Secret]:
    return secrets_plan.list_pending(context.resolution.values, context.secret_texts)
