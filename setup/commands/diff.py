"""`--diff`: preview what a run would change: settings, secrets and files; nothing is written, not even a lock."""

from __future__ import annotations

from setup import console
from setup.config.model import Given
from setup.config.types import show
from setup.console import Answer
from setup.deploy import diff, transaction
from setup.deploy.ending import list_unused, with_decision, would_keep
from setup.deploy.redact import Redactor, lines_of_ours
from setup.secrets.plan import Origin
from setup.secrets.store import read_secrets
from setup.typed import TYPE_CHECKING
from setup.volume.layout import BLUEPRINT
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.configure import DeploymentConfigurator
    from setup.deploy.options import RunOptions
    from setup.deploy.session import Session
    from setup.deploy.steps import Context


def preview(configurator: DeploymentConfigurator, options: RunOptions) -> Answer:
    """Show what a run with these inputs would change."""
    with Volume(configurator.output_dir) as volume:
        inputs = configurator.gather(options)
        console.warn(f"warning: {warning}" for warning in inputs.warnings)
        session = configurator.session(volume, inputs, options)
        transaction.recover(session)
        context = session.context()
        console.warn(f"note: {note}" for note in list_unused(session))
        first, reasons = session.concerned(context)
        if first is None and not options.reset:
            return diff.nothing()
        reasons = [*(["progress and answers would be forgotten"] if options.reset else []), *reasons]
        return describe(session, context, reasons)


def describe(session: Session, context: Context, reasons: list[str], report: list[str] | None = None) -> Answer:
    """Show how settings, secrets and files would change, after the report of a command."""
    session.refuse_jump(context)
    changes = session.reconcile(session.files(context))
    on_disk, planned = read_secrets(session.volume), context.planned
    generated = [name for name, secret in planned.items() if secret.origin == Origin.GENERATED]
    texts = {name: secret.text for name, secret in planned.items()}
    redactor = Redactor(on_disk, texts, generated, _new_marks(session, context) if generated else ())
    ours = {change.file.path: lines_of_ours(session.volume, session.state, change.file) for change in changes}
    wanted = {name: secret.text for name, secret in planned.items() if secret.file}
    secrets = diff.secrets(on_disk, wanted, redactor)
    after = {
        key: Given(show(resolved.value), resolved.source) for key, resolved in context.resolution.applying().items()
    }
    changed = diff.settings(session.deployed() or session.answers_before, after)
    answer = diff.answer(reasons, changed, secrets=secrets, files=diff.files(changes, redactor, ours))
    if report:
        answer = answer._replace(lines=[*report, "", *answer.lines], data={**answer.data, "report": report})
    return with_decision(answer, would_keep(changes, context.resolution.values["TARGET"]))


def _new_marks(session: Session, context: Context) -> list[str]:
    """Return the marks that the files do not have yet."""
    present = session.volume.read(BLUEPRINT) or b""
    for file in context.targets.engine_files:
        present += session.volume.read(file.path) or b""
    return [mark for mark in context.targets.marks if mark.encode() not in present]
