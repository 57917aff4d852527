"""The review page: what was answered, what changes and what is missing; secrets masked."""

from __future__ import annotations

from setup import console
from setup.config.model import Source
from setup.config.secrets import SECRETS
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.deploy import summary
from setup.secrets import plan as secrets_plan
from setup.secrets.plan import Origin
from setup.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from setup.deploy.session import Session
    from setup.deploy.steps import Context


def list_entries(session: Session, context: Context) -> tuple[str, ...]:
    """List every setting that applies, and the secrets that are given or were skipped."""
    values = context.resolution.values
    names = list(context.resolution.applying())
    for name, secret in context.planned.items():
        skipped = session.was_complete or name in context.accepted
        if secret.origin in (Origin.GIVEN, Origin.KEPT, Origin.FILLED) or (
            skipped and secrets_plan.is_asked(SECRETS[name], values)
        ):
            names.append(name)
    return tuple(names)


def page(context: Context, entries: Iterable[str], *, whole: bool) -> list[str]:
    """Return each entry with its number, value and source; unless the `whole` is wanted, without the untouched ones."""
    lines, section, left_out = summary.heading("Review"), "", 0
    for number, key in enumerate(entries, start=1):
        if not (whole or _is_touched(context, key)):
            left_out += 1
            continue
        group = SETTINGS[key].group if key in SETTINGS else "Secrets"
        if group != section:
            lines += ["", f"--- {group} ---"]
        section = group
        lines.append(f"{number:3} {key} = {_shown(context, key)}")
    return [*lines, "", f"{left_out} more have their default or are on the volume."] if left_out else lines


def _is_touched(context: Context, key: str) -> bool:
    if key in SETTINGS:
        return context.resolution.values.resolved(key).source > Source.PRESET
    return context.planned[key].origin is not Origin.KEPT


def _shown(context: Context, key: str) -> str:
    if key in SETTINGS:
        resolved = context.resolution.values.resolved(key)
        return f"{show(resolved.value) or '(empty)'}  ({resolved.source.words})"
    masked = "******" if context.planned[key].text else "(empty)"
    return f"{masked}  ({summary.ORIGINS[context.planned[key].origin]})"


def notes(session: Session, context: Context, reasons: Iterable[str]) -> list[str]:
    """Return what would change, what is wrong and what is missing."""
    lines = [f"Changed: {reason}" for reason in reasons]
    for problem in session.certificate_error.problems if session.certificate_error else ():
        lines.append(f"To correct: {problem}")
    lines += [f"Missing: {sentence}" for sentence in context.targets.tls.missing]
    pending = secrets_plan.list_pending(context.resolution.values, context.secret_texts)
    names = ", ".join(secret.name for secret in pending)
    if pending and session.was_complete:
        lines.append(f"Missing: {names}")
    elif pending and context.ask_secrets:
        lines.append(f"Asked next: {names}")
    return ["", *map(console.wrapped, lines)] if lines else []
