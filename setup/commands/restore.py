"""`--restore`: bring a deployment back to one of its backups.

Before its first change, the run writes a mark that names the backup; the earlier state file comes last. While the mark
exists no other run begins, because the files may be half of one deployment and half of another.
"""

from __future__ import annotations

import contextlib
import os

from setup import __version__
from setup.commands.history import by_path, changed_settings, files_of_state, is_secret, is_shown, read_present
from setup.config.derived import COMPOSE_ENGINE
from setup.config.engines import start_commands
from setup.config.model import Secret
from setup.config.secrets import SECRETS
from setup.console import Answer, indent
from setup.deploy import baseline, diff, ending, transaction
from setup.deploy.planner import needs_new_names
from setup.deploy.reconcile import read_proposal
from setup.deploy.redact import Lines, Redactor, lines_of
from setup.errors import DecisionNeeded, VolumeError
from setup.formats.digests import digest
from setup.formats.yaml_file import Malformed
from setup.secrets import rotation
from setup.secrets.store import read_filled, read_secrets
from setup.state_file import Sections, parse
from setup.state_manager import DeploymentState, digest_of_ours, split_additions
from setup.typed import TYPE_CHECKING, Any, NamedTuple
from setup.volume import backups
from setup.volume.backups import Kind, Reason
from setup.volume.layout import (
    AUTHENTIK,
    AUTHORITY,
    AUTHORITY_KEY,
    BLUEPRINT,
    CERTIFICATE,
    CERTIFICATE_KEY,
    COMPOSE,
    HISTORY,
    LAST_GOOD,
    MAIN_FILES,
    NGINX,
    PROPOSAL_SUFFIX,
    RESTORE_MARK,
    SECRETS_FOLDER,
    STATE,
    SWEPT,
    File,
    file_at,
    secret_path,
    written_path,
)
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from setup.commands.history import Tree
    from setup.configure import DeploymentConfigurator
    from setup.deploy.options import RunOptions
    from setup.volume.backups import Backup

# Never removed, like secrets: clients trust the authority, and a backup holds a key only until it is forgotten.
_NEVER_REMOVED = (AUTHORITY, AUTHORITY_KEY, CERTIFICATE_KEY)


class RestorePlan(NamedTuple):
    """The files to write and the paths to remove, so that the deployment equals a backup."""

    write: tuple[File, ...] = ()
    remove: tuple[str, ...] = ()

    @property
    def secrets(self) -> list[str]:
        """The names of the secrets that get another value."""
        return [os.path.basename(file.path) for file in self.write if is_secret(file.path)]

    @property
    def bound(self) -> list[Secret]:
        """Those secrets that existing data or a server depends on."""
        return [SECRETS[name] for name in self.secrets if SECRETS[name].bound]

    @property
    def written(self) -> list[str]:
        """The files to name as written."""
        return [file.path for file in self.write if is_shown(file.path)]

    @property
    def removed(self) -> list[str]:
        """The files to name as removed."""
        return list(filter(is_shown, self.remove))


def restore(configurator: DeploymentConfigurator, backup_id: str, options: RunOptions) -> Answer:
    """Restore a backup after saving one of the present state; the same command finishes an interrupted restore."""
    with Volume(configurator.output_dir) as volume:
        backup = backups.find(volume, backup_id)
        on_disk = _read_present(volume, backup)
        plan = plan_restore(volume, backup, on_disk)
        if not (plan.write or plan.remove or backups.interrupted(volume)):
            return _unchanged(configurator, volume, backup)
        if options.dry_run:
            return _preview(volume, backup, plan, on_disk)
        _require_consent(plan, options.confirmed)
        volume.check_writable()
        with volume.locked({*SWEPT, *map(os.path.dirname, backup.paths)}):
            plan = plan_restore(volume, backup, _read_present(volume, backup))  # another run may have changed files
            _require_consent(plan, options.confirmed)
            interrupted = backups.interrupted(volume)  # then that run has saved the state from before it
            saved = _saved_by_restore(volume) if interrupted else _back_up(volume, backup, plan, options.keep)
            total = _plan_since(volume, backup, plan, saved)
            _apply(volume, plan, backup)
        return _answer(configurator, volume, backup, total, saved)


# --- the plan -----------------------------------------------------------------------------------


def plan_restore(volume: Volume, backup: Backup, on_disk: Tree) -> RestorePlan:
    """Plan the changes that lead from the files on disk to a backup.

    A secret that was filled in since stays filled in, and only files that this program wrote are removed.
    """
    write, earlier = [], {}
    for file in backups.contents(volume, backup):
        if file.path == STATE:
            earlier = _read_state(backup, file.data).files
        is_filled_in = is_secret(file.path) and not file.data and file.path in on_disk
        if on_disk.get(file.path) != file and not is_filled_in:
            write.append(file)
    stay = {*backup.paths, *([LAST_GOOD] if STATE in backup.paths else [])}
    hashes = _known_hashes(volume)
    remove = _list_outdated(volume, earlier)
    for path in sorted(on_disk.keys() - stay, key=lambda path: (path == STATE, path)):
        if _is_removable(path, on_disk, hashes):
            remove.append(path)
    return RestorePlan(tuple(write), tuple(remove))


def _list_outdated(volume: Volume, earlier: Mapping[str, str]) -> list[str]:
    """List the unedited new texts beside files whose generated text was another at the time of these hashes."""
    outdated = []
    with contextlib.suppress(VolumeError):  # a state that cannot be used tells nothing
        state = DeploymentState.load(volume)
        for path in state.files:
            is_other = state.files[path] != earlier.get(path)
            if is_other and read_proposal(volume, state, path, volume.read(path)) is not None:
                outdated.append(path + PROPOSAL_SUFFIX)
    return outdated


def _read_present(volume: Volume, backup: Backup) -> Tree:
    files = read_present(volume, [backup, *_possible_sources(volume)])
    return {**files, **by_path([volume.file(LAST_GOOD)])}


def _possible_sources(volume: Volume) -> list[Backup]:
    """Return the backups whose files an interrupted restore may have mixed: of before, the first and the latest.

    No others: what only they have was there before, and may be in use, such as a certificate that was made here once.
    """
    identifier = backups.interrupted(volume)
    if not identifier:
        return []
    saved = _saved_by_restore(volume)
    names = {identifier, saved.id, saved.reason.source} if saved else {identifier}
    return [backup for backup in backups.history(volume) if backup.id in names]


def _known_hashes(volume: Volume) -> set[tuple[str, str]]:
    """Return path and hash of every file that the states on the volume record as written."""
    known: set[tuple[str, str]] = set()
    states = [f"{HISTORY}/{backup.id}/{STATE}" for backup in _possible_sources(volume)]
    for path in (STATE, LAST_GOOD, *states):
        with contextlib.suppress(Malformed):
            state = parse(volume.read(path) or b"")
            known.update(state.files.items(), state.announced.items())
    return known


def _is_removable(path: str, on_disk: Tree, hashes: set[tuple[str, str]]) -> bool:
    """Tell whether removing a later file loses nothing: no secret, key or authority, and unmodified."""
    if path.startswith(f"{SECRETS_FOLDER}/") or path in _NEVER_REMOVED:
        return False
    if not is_shown(path):
        return True
    return (path, digest(on_disk[path].data)) in hashes and (path != CERTIFICATE or _is_self_signed(on_disk))


def _is_self_signed(on_disk: Tree) -> bool:
    """Tell whether the authority on the volume issued the certificate; a state may record an operator's too."""
    from setup.tls import certificates, chains

    with contextlib.suppress(KeyError, ValueError):
        certificate = certificates.load_first(on_disk[CERTIFICATE].data)
        return chains.is_issued_by(certificate, certificates.load_first(on_disk[AUTHORITY].data))
    return False


def _read_state(backup: Backup, state: bytes) -> Sections:
    try:
        return parse(state)
    except Malformed as error:
        path = f"{HISTORY}/{backup.id}/{STATE}"
        raise VolumeError(f"{path} cannot be restored by this release: {error}") from None


def _require_consent(plan: RestorePlan, yes: bool) -> None:
    """Raise DecisionNeeded for secrets whose present value data or a server may depend on."""
    if plan.bound and not yes:
        raise DecisionNeeded(*(
            f"{secret_path(secret.name)} would get an earlier value, and is bound to {secret.bound}. Nothing "
            "was written. To restore it anyway, add --yes"
            for secret in plan.bound
        ))  # fmt: skip


# --- the change ---------------------------------------------------------------------------------


def _back_up(volume: Volume, backup: Backup, plan: RestorePlan, last: int) -> Backup:
    """Save a backup of the present state; keep the one to be restored, and those that an interrupted run needs."""
    paths = set(filter(is_shown, (*backup.paths, *backup.absent, *files_of_state(volume), *plan.remove)))
    needed = [backup.id, *transaction.list_needed_backups(volume)]
    reason = Reason(Kind.RESTORE, source=backup.id)
    return backups.find(volume, backups.save(volume, baseline.everything(volume, paths), reason, last, needed))


def _saved_by_restore(volume: Volume) -> Backup | None:
    """Return the backup that the last restore saved, None if another run has saved one since or it was removed."""
    newest = next(iter(backups.history(volume)), None)
    return newest if newest and newest.reason.kind is Kind.RESTORE else None


def _apply(volume: Volume, plan: RestorePlan, backup: Backup) -> None:
    """Write the mark, the secrets and the files; remove later files; write the state; remove the mark.

    The state comes last because, until all is done, the present one tells which files are to be removed.
    """
    volume.replace(file_at(RESTORE_MARK, f"{backup.id}\n".encode()))
    files, states = [], []
    for file in plan.write:
        if file.path == STATE:
            states = [file._replace(path=LAST_GOOD), file]
        else:
            files.append(file)
    files.sort(key=lambda file: (not is_secret(file.path), file.path in MAIN_FILES))
    volume.publish(volume.stage(files))
    for path in plan.remove:
        volume.remove(path)
    volume.publish(volume.stage(states))
    volume.remove(RESTORE_MARK)


# --- the answer ---------------------------------------------------------------------------------


def _plan_since(volume: Volume, backup: Backup, plan: RestorePlan, saved: Backup | None) -> RestorePlan:
    """Add to a plan what interrupted runs have done of it since that backup was saved: the whole, for the message."""
    before: Tree = {}
    with contextlib.suppress(VolumeError):  # a backup that lost a file does not end the run for a message
        before = by_path(backups.contents(volume, saved)) if saved else {}
    if not before:
        return plan
    total = plan_restore(volume, backup, before)
    write = {**by_path(total.write), **by_path(plan.write)}
    return RestorePlan(tuple(write.values()), tuple(sorted({*total.remove, *plan.remove})))


def _preview(volume: Volume, backup: Backup, plan: RestorePlan, on_disk: Tree) -> Answer:
    texts = read_secrets(volume)
    wanted = {os.path.basename(file.path): file.data.decode() for file in plan.write if is_secret(file.path)}
    redactor = Redactor(texts, wanted)
    after = by_path(backups.contents(volume, backup))
    rows = [_file_row(path, on_disk, after, redactor) for path in (*plan.written, *plan.removed)]
    changed = changed_settings(on_disk, after)
    secrets = diff.secrets(texts, wanted, redactor)
    return diff.answer([f"backup {backup.id} would be restored"], changed, secrets=secrets, files=rows)


def _file_row(path: str, before: Tree, after: Tree, redactor: Redactor) -> dict[str, Any]:
    old, new = before.get(path), after.get(path)
    ours = _lines_of_ours(before, path) | _lines_of_ours(after, path)
    present = None if old is None else redactor.lines(path, old.data, ours)
    wanted = Lines() if new is None else redactor.lines(path, new.data, ours)
    change = "removed" if new is None else "new" if old is None else "changed"
    return {"path": path, "change": change, "diff": diff.unified(path, present, wanted)}


def _lines_of_ours(tree: Tree, path: str) -> set[str]:
    """Return the lines that avatar-setup is known to have written to a file of a deployment."""
    file, written, state = tree.get(path), tree.get(written_path(path)), tree.get(STATE)
    lines = set(lines_of(written.data)) if written else set()
    with contextlib.suppress(Malformed):
        if file and state and parse(state.data).files.get(path) == digest_of_ours(path, file.data):
            lines.update(lines_of(split_additions(path, file.data)[0]))
    return lines


def _answer(
    configurator: DeploymentConfigurator, volume: Volume, backup: Backup, plan: RestorePlan, saved: Backup | None
) -> Answer:
    place = ending.place_of(volume, configurator.environ)
    lines = [f"Restored {backup.id}, the deployment before {backup.reason.text}:"]
    lines += indent(plan.written)
    lines += [f"  {path} (removed)" for path in plan.removed]
    if plan.secrets:
        lines.append(f"  {SECRETS_FOLDER}/ ({len(plan.secrets)} files)")
    undo = _plan_undo(volume, saved)
    if saved and (undo.write or undo.remove):
        lines += ["", "A backup of the previous state was saved. To undo the restore:"]
        lines.append(f"  {place.command} --restore {saved.id}{' --yes' if undo.bound else ''}")
    if backup.version != __version__:
        lines += ["", f"avatar-setup {backup.version} wrote it; the next run of {__version__} will update it."]
    commands = [*_next_commands(configurator, volume, plan), *_recreating(volume, saved, plan)]
    lines += ["", f"Next, on the host, in {place.words}:", *commands]
    data = {"restored": backup.id, "written": plan.written, "removed": plan.removed}
    return Answer(lines, data | {"secrets": plan.secrets, "copy": saved.id if saved else ""})


def _recreating(volume: Volume, saved: Backup | None, plan: RestorePlan) -> list[str]:
    """Return the command for the containers that `up -d` leaves alone: no label tells of a file edited by hand."""
    before: Tree = {}
    with contextlib.suppress(VolumeError, Malformed):
        target = parse(volume.read(STATE) or b"").answers.get("TARGET")
        if target and target.text != COMPOSE_ENGINE:  # the names in its files follow what has changed
            return []
    with contextlib.suppress(VolumeError):
        before = by_path(backups.contents(volume, saved)) if saved else {}
    if COMPOSE not in before:
        return []
    now, services = volume.read(COMPOSE) or b"", []
    for path in (*plan.written, *plan.removed):
        services += [name for name in _mounting(path) if _label(before[COMPOSE].data, name) == _label(now, name)]
    services = sorted(set(services))
    sudo = "sudo " if os.geteuid() == 0 else ""
    return [f"  {sudo}docker compose up -d --force-recreate --no-deps {' '.join(services)}"] if services else []


def _mounting(path: str) -> tuple[str, ...]:
    """Return the services that mount a file."""
    if path in (NGINX, CERTIFICATE, CERTIFICATE_KEY):
        return ("nginx",)
    if path == BLUEPRINT:
        return ("authentik_worker",)
    return ("authentik_server", "authentik_worker") if path.startswith(f"{AUTHENTIK}/") else ()


def _label(compose: bytes, service: str) -> bytes:
    """Return the label of a service that changes with the files it mounts."""
    of_service = compose.partition(f"\n  {service}:\n".encode())[2]
    return of_service.partition(b"avatar-setup.files: ")[2].partition(b"\n")[0]


def _plan_undo(volume: Volume, saved: Backup | None) -> RestorePlan:
    """Plan the way back to the backup from before the restore; empty if that backup is gone."""
    with contextlib.suppress(VolumeError):
        if saved:
            return plan_restore(volume, saved, _read_present(volume, saved))
    return RestorePlan()


def _unchanged(configurator: DeploymentConfigurator, volume: Volume, backup: Backup) -> Answer:
    """Say that nothing is left to do, and repeat the next commands: the run that did it may have been killed."""
    lines = [f"Nothing to do: the deployment equals the backup {backup.id}."]
    if saved := _saved_by_restore(volume):
        words = ending.place_of(volume, configurator.environ).words
        lines += ["", f"If you have not done this yet, on the host, in {words}:"]
        total = _plan_since(volume, backup, RestorePlan(), saved)
        lines += [*_next_commands(configurator, volume, total), *_recreating(volume, saved, total)]
    return Answer(lines, {"restored": backup.id, "written": [], "removed": [], "secrets": [], "copy": ""})


def _next_commands(configurator: DeploymentConfigurator, volume: Volume, plan: RestorePlan) -> list[str]:
    """Return what to type on the host: first what else must learn the earlier secrets, then the start.

    If the backup was saved while a run was incomplete, that run is finished first.
    """
    sudo = "sudo " if os.geteuid() == 0 else ""
    session = configurator.saved_session(volume)
    place = ending.place_of(volume, configurator.environ)
    if session.state.exists and not session.state.is_complete():
        return [f"  {place.command}", "  (it finishes the run that was incomplete then, and prints the next commands)"]
    if not session.state.exists:
        return [f"  {place.command}", "  (it prints what to type next)"]
    texts = read_filled(session.volume)
    values = session.resolve(texts).values
    commands = rotation.list_commands_before(plan.secrets, values, texts, sudo)
    lines = indent([*commands, *start_commands(values, sudo)])
    if needs_new_names(volume, session.state):  # the backup was saved before a run had seen the edits
        lines[:0] = [f"  {place.command}", "  (first: it gives each edited file its name for the engine)"]
    return lines
