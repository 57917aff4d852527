"""`--rotate`: new values for secrets, after saying what that breaks; the old ones stay in a dated copy."""

from __future__ import annotations

import calendar
import contextlib
import functools
import time
from typing import TYPE_CHECKING, NamedTuple

from setup import console
from setup.commands import diff as looking
from setup.config.model import Given, Secret, Source
from setup.config.types import show
from setup.console import Answer
from setup.deploy import summary, transaction
from setup.deploy.session import Options, Session
from setup.errors import InputError
from setup.secrets import plan as secrets_plan
from setup.secrets import rotation
from setup.secrets.store import read_filled
from setup.state_manager import STATE
from setup.volume import backups
from setup.volume.backups import Copy
from setup.volume.volume import Volume
from setup.wizard import confirm
from setup.wizard.questions import reason_against

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from setup.config.values import Values
    from setup.configure import DeploymentConfigurator

_A_REPEAT = 3600  # for so many seconds, the same command without a person counts as its repetition


class _Rotation(NamedTuple):
    """What is looked at: the session, its values and secrets, and the copy of a rotation that was interrupted."""

    session: Session
    values: Values
    texts: Mapping[str, str]
    given: Mapping[str, Given]
    copy: Copy | None


class _Moved(Exception):
    """Another run has worked on the volume between the look and the lock."""


def rotate(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Gives secrets new values once that is confirmed; the same command again finds nothing to do."""
    while True:
        with contextlib.suppress(_Moved):  # look again, and ask again
            return _rotate(configurator, options)


def _rotate(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    asks = confirm.is_interactive(options) and not options.dry_run
    inputs = configurator.gather(options.config)
    wanted = Options(on_conflict=configurator.on_conflict, keep=configurator.keep)
    with Volume(configurator.output_dir) as volume, confirm.conversation(asks):
        backups.require_whole(volume)
        seen = volume.read(STATE)
        look = _look(configurator.session(volume, inputs, wanted))
        chosen = _chosen(look, options)
        done = dict(_done(look, chosen, asks and not options.yes))
        left = [secret for secret in chosen if secret.name not in done]
        if not left and not look.copy:
            return _nothing(configurator, look, chosen, done)
        _require_new_values(look, left, asks)
        look.session.options = look.session.options._replace(
            rotated=frozenset(secret.name for secret in left),
            cause=backups.A_FINISH + look.copy.cause if look.copy else backups.A_RUN,  # of a copy of later edits
        )
        told = _told(look, left, done)
        if options.dry_run:
            return looking.shown(look.session, look.session.context(), [], told)
        transaction.check(look.session, look.session.context())
        if not look.copy:
            console.show(told if not (options.json or options.quiet) else [])
            words = ",".join(one.name for one in left)
            confirm.confirm(f"Type {words} to rotate: ", words, options)
        _ask_new_values(look, left)
        names = [secret.name for secret in (chosen if look.copy else left)]
        configurator.quiet = True  # the last message is this verb's own
        left_over = configurator.settle(look.session, lambda live: _keep(live, seen, look.copy, names))
        return summary.with_decision(_answer(configurator, look, names), left_over)


def _look(session: Session) -> _Rotation:
    """What stands there; raises InputError for a deployment that is not complete, unless a rotation left it so."""
    texts = read_filled(session.volume)
    given, problems = secrets_plan.parse_given(session.inputs.secrets)
    if problems:
        raise InputError(*problems)
    kept = (copy for copy in backups.history(session.volume) if not copy.cause.startswith(backups.A_FINISH))
    newest = next(kept, None)
    interrupted = newest if newest and backups.to_rotate(newest) and not session.state.is_complete else None
    if not session.state.is_complete and not interrupted:
        raise InputError("there is no complete configuration here: finish it first, then rotate")
    return _Rotation(session, session.resolve(texts).values, texts, given, interrupted)


def _chosen(look: _Rotation, options: argparse.Namespace) -> list[Secret]:
    """The secrets that the command names; raises InputError with the reasons against any of them."""
    words = [word for said in options.rotate for word in said.split(",") if word]
    chosen = [one for one in rotation.select_secrets(words, look.values) if one.name in look.texts or one.name in words]
    problems = rotation.list_refusals(chosen, options.i_have_reencrypted, look.given)
    problems += [f"--rotate {one.name}: it has no value yet" for one in chosen if one.name not in look.texts]
    if look.copy and set(backups.to_rotate(look.copy)) != {one.name for one in chosen}:
        problems = [f"an earlier rotation was interrupted: finish it first ({look.copy.cause})"]
    if problems:
        raise InputError(*problems)
    return chosen


def _done(look: _Rotation, chosen: list[Secret], confirms: bool) -> Iterator[tuple[str, str]]:
    """The secrets of which there is nothing left to do, each with the reason."""
    for secret in chosen:
        said = look.given.get(secret.name)
        if look.copy:
            if not secrets_plan.is_same(_old(look, look.copy, secret.name), look.texts[secret.name]):
                yield secret.name, f"  {secret.name} has its new value already"
        elif said:
            if secrets_plan.is_same(said.text, look.texts[secret.name]):
                hint = f" (without {secret.name.upper()}, a new one is made)" if secret.generate else ""
                yield secret.name, f"  {secret.name} has the given value already{hint}"
        elif not confirms and (minutes := _minutes_since(look, secret.name)) is not None:
            again = "at a terminal and without --yes it can be rotated again"
            yield secret.name, f"  {secret.name} was rotated {minutes} minutes ago; {again}"


def _minutes_since(look: _Rotation, name: str) -> int | None:
    """How long ago a secret was rotated, if that is so short that the command seems to be repeated."""
    for copy in backups.history(look.session.volume):
        if copy.cause.startswith(backups.A_RESTORE):
            return None  # whoever asks after that wants another value than the one brought back
        if name in backups.to_rotate(copy):
            age = time.time() - calendar.timegm(time.strptime(copy.id.partition("-")[0], "%Y%m%dT%H%M%SZ"))
            repeated = 0 <= age < _A_REPEAT and not secrets_plan.is_same(_old(look, copy, name), look.texts[name])
            return int(age / 60) if repeated else None
    return None


def _old(look: _Rotation, copy: Copy, name: str) -> str:
    """The value of a secret in a copy."""
    files = {file.path: file.data for file in backups.contents(look.session.volume, copy)}
    return files.get(secrets_plan.path_of(name), b"").decode()


def _require_new_values(look: _Rotation, left: list[Secret], asks: bool) -> None:
    problems = [
        f"--rotate {one.name}: only you know its new value: give it as {one.name.upper()} or {one.name.upper()}_FILE"
        for one in left
        if secrets_plan.is_operators(one, look.values) and one.name not in look.given and not asks
    ]
    if problems:
        raise InputError(*problems)


def _told(look: _Rotation, left: list[Secret], done: Mapping[str, str]) -> list[str]:
    """What new values break, before anything is asked."""
    told = ["What a new value breaks:", *rotation.list_breaks(left), *done.values()]
    ages = {one.name: _minutes_since(look, one.name) for one in left}
    return told + [f"  {name} was rotated {age} minutes ago" for name, age in ages.items() if age is not None]


def _ask_new_values(look: _Rotation, left: list[Secret]) -> None:
    """Asks for the values that only the operator knows."""
    for secret in left:
        if secrets_plan.is_operators(secret, look.values) and secret.name not in look.given:
            text = confirm.ask_new_secret(secret.question, functools.partial(reason_against, secret))
            look.session.inputs.secrets[secret.name] = Given(show(secret.kind.parse(text)), Source.ANSWER)


def _keep(live: Session, seen: bytes | None, interrupted: Copy | None, names: list[str]) -> None:
    """Keeps the copy with the old values, before anything changes; an interrupted rotation has it already.

    What somebody has edited since, and this run replaces, gets a copy of its own.
    """
    if live.volume.read(STATE) != seen:
        raise _Moved
    if not interrupted:
        transaction.keep_copy(live, backups.A_ROTATION + ",".join(names))


def _nothing(
    configurator: DeploymentConfigurator, look: _Rotation, chosen: list[Secret], done: Mapping[str, str]
) -> Answer:
    """Why nothing is left to do; and what to type all the same, as the run that did it may have had no time to say."""
    told, following = ["Nothing to do:", *done.values()], []
    for copy in backups.history(look.session.volume):
        names = [one.name for one in chosen if one.name in backups.rotated(look.session.volume, copy)]
        if names and any(_minutes_since(look, name) is not None for name in names):
            following = summary.after_rotation(look.session, look.values, names, copy.id)
            place = summary.place_of(look.session.volume, configurator.environ)
            told += ["", f"If that was not done yet: on the host, in {place.words}, in this order:", "", *following]
            break
    return Answer(told, {"status": "unchanged", "rotated": [], "next": following})


def _answer(configurator: DeploymentConfigurator, look: _Rotation, names: list[str]) -> Answer:
    """What was done, and what to type next, in order."""
    volume = look.session.volume
    place = summary.place_of(volume, configurator.environ)
    began = look.copy.id if look.copy else configurator.result["copy"]
    following = summary.after_rotation(look.session, look.values, names, began)
    copy = f"{backups.HISTORY}/{began}"
    told = [f"Rotated: {', '.join(names)}. The old values stay in {copy}.", ""]
    later = backups.since(volume, look.copy) if look.copy else []
    edited = [f"{backups.HISTORY}/{one.id}" for one in later if one.cause.startswith(backups.A_FINISH)]
    told += [f"What was edited since then, and has been replaced, stays in {', '.join(edited)}.", ""] if edited else []
    told += [f"Next, on the host, in {place.words}, in this order:", "", *following]
    return Answer(told, {"status": "complete", "rotated": names, "copy": copy, "next": following})
