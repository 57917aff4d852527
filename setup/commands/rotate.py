"""`--rotate`: give secrets new values, after saying what that breaks; a backup keeps the old ones."""

from __future__ import annotations

import functools

from setup import console
from setup.commands import diff
from setup.config.model import Given, Secret, Source
from setup.config.types import show
from setup.console import Answer
from setup.deploy import ending, transaction
from setup.deploy.session import Session
from setup.errors import InputError
from setup.secrets import plan as secrets_plan
from setup.secrets import rotation as rotations
from setup.secrets.store import read_filled
from setup.typed import TYPE_CHECKING, NamedTuple
from setup.volume import backups
from setup.volume.backups import Backup, Kind, Reason
from setup.volume.layout import HISTORY, STATE
from setup.volume.volume import Volume
from setup.wizard import confirm
from setup.wizard.questions import reason_against

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from setup.config.values import Values
    from setup.configure import DeploymentConfigurator
    from setup.deploy.options import RunOptions


class _Rotation(NamedTuple):
    """A planned rotation: the chosen secrets, and the reason for each that is done already.

    `interrupted` is the backup with the old values that an interrupted rotation has saved.
    """

    session: Session
    values: Values
    given: Mapping[str, Given]
    chosen: list[Secret]
    done: Mapping[str, str]
    interrupted: Backup | None

    @property
    def left(self) -> list[Secret]:
        """The secrets that still get a new value."""
        return [secret for secret in self.chosen if secret.name not in self.done]

    @property
    def names(self) -> list[str]:
        """The names of the secrets that have a new value when the rotation is finished."""
        return list(self.interrupted.reason.secrets) if self.interrupted else secrets_plan.names_of(self.left)


class _StateChanged(Exception):
    """Another run has written the state between the plan and the lock."""


def rotate(configurator: DeploymentConfigurator, names: Sequence[str], options: RunOptions) -> Answer:
    """Rotate secrets after confirmation; the same command finishes an interrupted rotation."""
    finishes = False
    options = options._replace(interactive=options.interactive and console.is_terminal())
    while True:
        asks = options.interactive and not options.dry_run
        with Volume(configurator.output_dir) as volume, confirm.conversation(asks):
            backups.require_whole(volume)
            seen = volume.read(STATE)
            session = configurator.session(volume, configurator.gather(options), options)
            rotation = _plan(session, names)
            if finishes and not rotation.interrupted:
                return _unchanged(configurator, rotation, ["another run has finished this rotation"])
            if not rotation.left and not rotation.interrupted:
                return _unchanged(configurator, rotation, _done_lines(rotation))
            try:
                return _rotate(configurator, rotation, names, seen)
            except _StateChanged:  # plan again, and ask again
                finishes = rotation.interrupted is not None


def _rotate(
    configurator: DeploymentConfigurator, rotation: _Rotation, names: Sequence[str], seen: bytes | None
) -> Answer:
    before, options, interrupted = rotation.session, rotation.session.options, rotation.interrupted
    _require_new_values(rotation, asks=options.interactive and not options.dry_run)
    rotating = options._replace(
        quiet=True,  # this command has its own last message
        rotated=frozenset(secrets_plan.names_of(rotation.left)),
        reason=interrupted.reason._replace(kind=Kind.FINISHED_ROTATION) if interrupted else Reason(),
    )
    session = configurator.session(before.volume, before.inputs, rotating)
    rotation = rotation._replace(session=session)
    report = ["What a new value breaks:"]
    for sentence in rotations.list_breaks(rotation.left):
        report += console.paragraph(sentence, "  ")
    report += _done_lines(rotation)
    if options.dry_run:
        return diff.describe(session, session.context(), [], report)
    transaction.check(session, session.context())
    if not interrupted:
        console.show(report if not options.quiet else [])
        words = ",".join(names)  # as they were typed: a group is confirmed by its name
        if not options.confirmed:
            confirm.confirm(f"Type {words} to rotate: ", words, interactive=options.interactive)
    _ask_new_values(rotation)
    left = configurator.carry_out(session, lambda live: _save_backup(live, rotation, seen))
    return ending.with_decision(_answer(configurator, rotation), left)


def _plan(session: Session, names: Sequence[str]) -> _Rotation:
    """Plan a rotation; raise InputError if the deployment is not complete, unless a rotation left it so."""
    given, problems = secrets_plan.parse_given(session.inputs.secrets)
    if problems:
        raise InputError(*problems)
    newest = None if session.state.is_complete() else _newest(backups.history(session.volume))
    interrupted = newest if newest and newest.reason.kind is Kind.ROTATION else None
    if not session.state.is_complete() and not interrupted:
        raise InputError(f"{session.volume.path} has no complete configuration: finish it first, then rotate")
    texts = read_filled(session.volume)
    values = session.resolve(texts).values
    words = [word for text in names for word in text.split(",") if word]
    chosen, problems = [], []
    for secret in rotations.select_secrets(words, values):
        if secret.name in texts:
            chosen.append(secret)
        elif secret.name in words:
            problems.append(f"--rotate {secret.name}: it has no value yet")
    if not chosen and not problems:
        problems.append(f"--rotate {','.join(words)}: it has no value yet")
    problems += rotations.list_refusals(chosen, session.options.reencrypted, given)
    done = _find_given(chosen, texts, given)
    if interrupted:
        rotated = interrupted.reason.secrets
        if set(secrets_plan.names_of(chosen)) - (done.keys() - set(rotated)) != set(rotated):
            problems = [f"an earlier rotation was interrupted: finish it first ({interrupted.reason.text})"]
        done |= dict.fromkeys(backups.rotated(session.volume, interrupted), "has its new value already")
    if problems:
        raise InputError(*problems)
    return _Rotation(session, values, given, chosen, done, interrupted)


def _newest(kept: Sequence[Backup]) -> Backup | None:
    """Return the newest backup, not counting those that were saved while an interrupted rotation was finished."""
    for backup in kept:
        if backup.reason.kind is not Kind.FINISHED_ROTATION:
            return backup
    return None


def _find_given(chosen: list[Secret], texts: Mapping[str, str], given: Mapping[str, Given]) -> dict[str, str]:
    """Return the secrets whose given value is the present one."""
    done = {}
    for secret in chosen:
        if secret.name in given and secrets_plan.is_same(given[secret.name].text, texts[secret.name]):
            hint = f" (without {secret.name.upper()}, a new one is generated)" if secret.generate else ""
            done[secret.name] = f"has the given value already{hint}"
    return done


def _done_lines(rotation: _Rotation) -> list[str]:
    return [f"  {name} {reason}" for name, reason in rotation.done.items()]


def _require_new_values(rotation: _Rotation, asks: bool) -> None:
    """Raise InputError for each secret whose new value only the operator knows, if nobody can be asked."""
    problems = []
    for secret in _unknown_values(rotation) if not asks else ():
        name = secret.name
        problems.append(
            f"--rotate {name}: only you know its new value: give it as {name.upper()} or {name.upper()}_FILE"
        )
    if problems:
        raise InputError(*problems)


def _unknown_values(rotation: _Rotation) -> list[Secret]:
    """Return the secrets whose new value only the operator knows and has not given."""
    secrets = []
    for secret in rotation.left:
        if secrets_plan.is_operators(secret, rotation.values) and secret.name not in rotation.given:
            secrets.append(secret)
    return secrets


def _ask_new_values(rotation: _Rotation) -> None:
    for secret in _unknown_values(rotation):
        text = confirm.ask_new_secret(secret.question, functools.partial(reason_against, secret))
        rotation.session.run.typed[secret.name] = Given(show(secret.kind.parse(text)), Source.ANSWER)


def _save_backup(live: Session, rotation: _Rotation, seen: bytes | None) -> None:
    """Save a backup of the old values before anything changes; an interrupted rotation has saved one already.

    Files that somebody edited since then and that this run replaces get a backup of their own.
    """
    if live.volume.read(STATE) != seen:
        raise _StateChanged
    if not rotation.interrupted:
        transaction.save_backup(live, Reason(Kind.ROTATION, tuple(rotation.names)))


def _unchanged(configurator: DeploymentConfigurator, rotation: _Rotation, reasons: list[str]) -> Answer:
    """Say that nothing is left to do, and repeat the next commands: the run that did it may have been killed."""
    volume, newest = rotation.session.volume, _newest(backups.survey(rotation.session.volume)[0])
    lines, following = ["Nothing to do:", *reasons], []
    chosen = secrets_plan.names_of(rotation.chosen)
    names = [name for name in backups.rotated(volume, newest) if name in chosen] if newest else []
    if newest and names:
        following = ending.after_rotation(rotation.session, rotation.values, names)
        place = ending.place_of(volume, configurator.environ)
        lines += ["", f"If you have not done this yet, on the host, in {place.words}, in this order:", "", *following]
    return Answer(lines, {"status": "unchanged", "rotated": [], "next": following})


def _answer(configurator: DeploymentConfigurator, rotation: _Rotation) -> Answer:
    """Say what was rotated, and what to type next, in order."""
    volume, interrupted = rotation.session.volume, rotation.interrupted
    place = ending.place_of(volume, configurator.environ)
    began = interrupted.id if interrupted else configurator.result["copy"]
    following = ending.after_rotation(rotation.session, rotation.values, rotation.names)
    folder = f"{HISTORY}/{began}"
    lines = [*console.paragraph(f"Rotated: {', '.join(rotation.names)}. The old values are in {folder}."), ""]
    edited = []
    for backup in backups.since(volume, interrupted) if interrupted else ():
        if backup.reason.kind is Kind.FINISHED_ROTATION:
            edited.append(f"{HISTORY}/{backup.id}")
    if edited:
        lines += [f"Files that were edited since then, and replaced now, are in {', '.join(edited)}.", ""]
    lines += [f"Next, on the host, in {place.words}, in this order:", "", *following]
    return Answer(lines, {"status": "complete", "rotated": rotation.names, "copy": folder, "next": following})
