"""Tell at the end of a run what it did, what is missing, how to sign in, and the one command to type next."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from setup import console
from setup.config.derived import (
    APPLIES_WITH,
    FIRST_ACCOUNT,
    base_url,
    bundled_database,
    certificate_is_made,
)
from setup.config.engines import (
    address_of,
    command,
    engine_of,
    image_commands,
    names_content,
    node_labels,
    prune_commands,
    start_commands,
    wait_commands,
)
from setup.config.model import Secret, Source
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.values import Values
from setup.console import Answer
from setup.deploy import transaction
from setup.deploy.reconcile import Action, Change
from setup.deploy.session import Session
from setup.deploy.summary import heading
from setup.environment import command_again, host_path, shell_word
from setup.errors import DecisionNeeded
from setup.findings import BY_HAND, FILL, PENDING, Finding, Level
from setup.formats import dotenv
from setup.formats.yaml_file import Malformed
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_filled
from setup.tls.provided import CERTIFICATE_FILE, KEY_FILE
from setup.typed import Any, NamedTuple
from setup.volume import backups
from setup.volume.layout import AUTHORITY, ENV, PROPOSAL_SUFFIX, SECRETS_FOLDER, secret_path
from setup.volume.volume import Volume

_API = "AVATAR_API_VERSION"
NOTHING_TO_DO = "Nothing to do: the configuration is complete and unchanged."


class Status(StrEnum):
    """How a run has ended."""

    COMPLETE = "complete"
    UNCHANGED = "unchanged"


class Place(NamedTuple):
    """Where the deployment is: its path here and on the host ("" if unknown), the command to run again, the owner.

    `asking_command` is the one for a run that asks.
    """

    directory: str
    host: str
    command: str
    asking_command: str
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
    command = command_again(volume.path, host, environ)
    asking = command.replace("docker run --rm", "docker run -it --rm", 1)
    return Place(volume.path, host, command, asking, (os.geteuid(), os.getegid()))


def result(session: Session, status: Status) -> dict[str, Any]:
    """Return what happened, as `DeploymentConfigurator.result` and `--json` have it."""
    return {
        "status": status.value,
        "written": list(session.done.written),
        "pending_secrets": _pending_names(session),
        "kept_files": list(session.done.kept),
        "copy": session.backup,
        "notes": [*list_unused(session), *_notes(session), *session.work.notes, *session.volume.warnings],
    }


def _pending_names(session: Session) -> list[str]:
    context = session.context_now()
    pending = secrets_plan.list_pending(context.resolution.values, context.secret_texts)
    return [secret.name for secret in pending]


def known_failures(session: Session) -> list[Finding]:
    """Return what is missing, as far as the plan of a run knows it without another check."""
    context = session.context_now()
    findings = []
    for secret in secrets_plan.list_pending(context.resolution.values, context.secret_texts):
        findings.append(pending_finding(secret))
    for sentence in context.targets.tls.missing:
        findings.append(Finding(CERTIFICATE_FILE, Level.FAIL, sentence))
    return findings


def has_additions(session: Session) -> bool:
    """Tell whether the operator has lines of their own in `.env`, which a run does not judge."""
    return dotenv.has_additions(session.volume.read(ENV) or b"")


def pending_finding(secret: Secret) -> Finding:
    """Return the finding of a value that only the operator knows and has not given."""
    text = f"{secret_path(secret.name)} is empty or missing ({secret.question})"
    return Finding(PENDING, Level.FAIL, text, "run avatar-setup --fill on a terminal, which asks for it", FILL)


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
    for path in session.done.removed:
        notes.append(f"{path} was removed: {path.removesuffix(PROPOSAL_SUFFIX)} has the generated text")
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


def last_message(session: Session, status: Status, failures: list[Finding], environ: Mapping[str, str]) -> list[str]:
    """Say what was written, what is still missing, how the first person signs in, and what to type next on the host.

    `failures` are what would keep the stack from starting.
    """
    place, values = place_of(session.volume, environ), session.context_now().resolution.values
    is_first = secret_path("db_password") in session.done.written or session.options.fill or _has_moved(session, values)
    upgrade = not is_first and _upgrades_api(session, values)
    lines = [NOTHING_TO_DO] if status is Status.UNCHANGED else _report(session, place, values)
    if status is Status.COMPLETE or session.options.fill or console.is_watched():
        lines += sign_in_lines(place, values)
    if failures:
        lines += ["", "Missing before the stack can start:"]
        for finding in failures:
            todo = "" if finding.name == PENDING or not finding.todo else f": {finding.todo}"
            lines += console.paragraph(f"{finding.text}{todo}", "  ")
        lines += command_for(place, failures)
    elif status is Status.COMPLETE or session.options.fill or console.is_watched():
        lines += [*(_before_first_start(place, values) if is_first else ()), *_start_lines(place, values, upgrade)]
    return lines + _finished_rotation(session, values)


def _has_moved(session: Session, values: Values) -> bool:
    """Tell whether this run has changed the engine, or the namespace in a cluster, where nothing is prepared yet."""
    for key in ("TARGET", "KUBERNETES_NAMESPACE") if session.was_complete else ():
        before, now = session.answers_before.get(key), values.computed(key)
        if now and now.value != (before.text if before else SETTINGS[key].default):
            return True
    return False


def _upgrades_api(session: Session, values: Values) -> bool:
    """Tell whether this run has changed the release of the API, which first changes the database."""
    before = session.deployed().get(_API) if session.was_complete and session.done.written else None
    return bool(before and before.text != values[_API])


def _report(session: Session, place: Place, values: Values) -> list[str]:
    lines = ["", *heading("Configuration complete"), *_written_lines(place, session.done.written)]
    if session.backup:
        lines += ["", *console.paragraph("A backup of the previous state was saved. To undo this change:")]
        lines.append(f"  {place.command} --restore {session.backup}")
    if certificate_is_made(values):
        sentence = f"Clients accept {base_url(values)} once they trust its CA. Give them this file:"
        lines += ["", *console.paragraph(sentence)]
        lines.append(f"  {place.path(AUTHORITY)}")
    return [*lines, "", "To see its status at any time:", f"  {place.command} --status"]


def command_for(place: Place, failures: list[Finding]) -> list[str]:
    """Return what to do if something keeps the stack from starting, and the one command to type then."""
    cure, waits, files_only = BY_HAND, False, True
    for finding in failures:
        cure, waits = max(cure, finding.cure), waits or finding.cure.by_hand
        files_only = files_only and finding.name in (CERTIFICATE_FILE, KEY_FILE)
    before = f", {'put those files there' if files_only else 'do what is said above'}, then"
    before = before if waits and cure < FILL else ""
    command = place.asking_command if cure.asks else place.command
    return ["", f"Next, on the host, in {place.words}{before}:", f"  {command} {cure.flags}".rstrip()]


def next_lines(place: Place, values: Values) -> list[str]:
    """Say how the first person signs in, and what to type to start the stack."""
    return [*sign_in_lines(place, values), *_before_first_start(place, values), *_start_lines(place, values)]


def _start_lines(place: Place, values: Values, is_upgrade: bool = False) -> list[str]:
    commands = start_commands(values, place.sudo, is_upgrade)
    return ["", f"Next, on the host, in {place.words}:", *console.indent(commands)]


def sign_in_lines(place: Place, values: Values) -> list[str]:
    """Say how the first person signs in; the account's address is where Authentik sends its mail."""
    key, address = SECRETS["authentik_bootstrap_password"].shown[0], values["AUTHENTIK_BOOTSTRAP_EMAIL"]
    shown = address_of(values)
    return [
        "",
        "To sign in, once the stack runs:",
        *([f"  {shown}    # the address for the DNS record of {values['PUBLIC_URL'].host}"] if shown else ()),
        f"  {values['SSO_PROVIDER_URL']}/if/admin/",
        *console.paragraph(f"as {FIRST_ACCOUNT} ({address}), with its first password, which this shows:", "  "),
        f"  {place.sudo}grep ^{key}= {shell_word(place.path(ENV))}",
        "",
        *console.paragraph(f"To invite people, who then sign in at {values['AVATAR_WEB_CLIENT_URL']}:"),
        f"  {place.command} --invite ada@example.com --admin --online",
    ]


def _before_first_start(place: Place, values: Values) -> list[str]:
    lines = ["", "Only before the first start, on the host:"]
    lines += console.indent([*image_commands(values, place.sudo), *node_labels(values, place.sudo)])
    if bundled_database(values):
        engine = engine_of(values)
        lines.append("  " + command(values, engine.older, sudo=place.sudo, volume=values["DB_VOLUME"]))
        warning = (
            f"a name means that {engine.keeper} already has a database, which opens only with the secrets that made it"
        )
        lines += console.paragraph(warning, "  # ")
    return lines


def _written_lines(place: Place, written: Sequence[str]) -> list[str]:
    if not written:
        return [f"{place.name} is up to date; no file was written."]
    secrets = {path for path in written if path.startswith(f"{SECRETS_FOLDER}/")}
    lines = [f"Written to {place.name} (owner {place.owner[0]}:{place.owner[1]}):"]
    lines += console.indent(sorted(set(written) - secrets))
    number = "1 file" if len(secrets) == 1 else f"{len(secrets)} files"
    return lines + ([f"  {SECRETS_FOLDER}/ ({number})"] if secrets else [])


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
        *start_commands(values, sudo),
        *wait_commands(values),
        *rotation.list_commands_after(names, old_keys, values, sudo),
        *prune_commands(values, sudo),
    ]


# --- what is left to decide ---------------------------------------------------------------------


def kept(session: Session) -> DecisionNeeded | None:
    """Return what is left to decide after the run: edited files whose new text is only beside them."""
    target = session.context_now().resolution.values["TARGET"]
    fate = "was left unchanged; its new text is in {new}"
    return _explain_kept(session.done.kept, target, fate, "Everything else is done")


def would_keep(changes: Iterable[Change], target: str) -> DecisionNeeded | None:
    """Return what a run with these changes would leave to decide."""
    paths = [change.file.path for change in changes if change.action is Action.KEPT]
    fate = "would be left unchanged, with its new text in {new}"
    return _explain_kept(paths, target, fate, "A run would exit with 4, too")


def _explain_kept(paths: Iterable[str], target: str, fate: str, rest: str) -> DecisionNeeded | None:
    problems = []
    for path in paths:
        new = f"{path}{PROPOSAL_SUFFIX}"
        text = f"{path} holds changes of yours and {fate.format(new=new)}"
        last = f"remove it (rm {new})"
        last += ", and run avatar-setup again: new content needs a new name" if names_content(target, path) else ""
        problems.append(f"{text}: carry over what you need, then {last}. {rest}")
    return DecisionNeeded(*problems) if problems else None


def with_decision(answer: Answer, left: DecisionNeeded | None) -> Answer:
    """Return the answer of a command that has done everything except what somebody must decide, and warn of that."""
    if left is None:
        return answer
    console.warn(f"avatar-setup: {problem}" for problem in left.problems)
    return answer._replace(data={**answer.data, "problems": list(left.problems)}, exit_code=left.exit_code)
