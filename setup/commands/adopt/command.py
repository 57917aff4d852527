"""`--adopt`: a deployment of another hand becomes one of ours, with its settings and, to the byte, its secrets."""

from __future__ import annotations

import contextlib
import posixpath
from typing import TYPE_CHECKING, NamedTuple

from setup import console
from setup.commands import diff as looking
from setup.commands.adopt import plan as adoption
from setup.commands.adopt import source as foreign
from setup.commands.adopt.interpret import Understood, understand
from setup.config.model import Given, Source
from setup.config.resolver import Resolution
from setup.config.secrets import SECRETS
from setup.console import Answer
from setup.deploy import reconcile, summary, transaction
from setup.deploy.session import Session
from setup.deploy.targets import AUTHORITY, AUTHORITY_KEY, CA_BUNDLE
from setup.errors import DecisionNeeded, SetupError
from setup.formats.yaml_file import Malformed
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_secrets
from setup.state_file import is_ours, parse
from setup.state_manager import DeploymentState
from setup.tls import plan as tls_plan
from setup.volume import backups
from setup.volume.layout import File
from setup.volume.volume import Volume
from setup.wizard import confirm

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from setup.config.values import Values
    from setup.configure import DeploymentConfigurator


_CAUSE = "--adopt "


class Found(NamedTuple):
    """A deployment as it was read, the files that its settings name, and whether it is to stay where it is."""

    tree: foreign.Tree
    understood: Understood
    beside: list[File]
    in_place: bool


def read(path: str, output_dir: str) -> Found:
    """Reads a deployment while this process may still do so; raises where there is none, or no finished one."""
    tree = foreign.read(path)
    understood = understand(tree)
    named = {key: one for key, one in understood.settings.items() if key in adoption.PATHS}
    understood.settings.update({key: one._replace(text=adoption.straight(one.text)) for key, one in named.items()})
    paths = [posixpath.normpath(one.text) for one in named.values()]
    mode = understood.settings.get("TLS_MODE")
    made = tls_plan.OURS if mode and mode.text == "self-signed" else {}  # no setting names the authority
    if not tree.states:  # nothing tells that it was made here: it goes along where it stands
        made = made or {path: tls_plan.OURS[path] for path in (AUTHORITY_KEY, AUTHORITY)}
    below = [one for one in paths if one != CA_BUNDLE and not one.startswith(("/", "../"))]
    wanted = dict.fromkeys((*made, *below))
    beside, unreadable = foreign.also(tree, wanted)
    understood.problems.extend(unreadable or _lost(tree, {file.path for file in beside if file.data}))
    in_place = foreign.is_at(path, output_dir)
    if not in_place:  # there, a run goes on with whatever it finds
        foreign.require_finished(tree)
    return Found(tree, understood, [one._replace(mode=made.get(one.path, one.mode)) for one in beside], in_place)


def _lost(tree: foreign.Tree, there: set[str]) -> list[str]:
    """Name each certificate or key that a state of ours lists and that is gone: no other is issued for it."""
    wanted = [path for path in tls_plan.OURS if path not in there]
    with contextlib.suppress(Malformed):
        listed = parse(tree.states.get(foreign.STATE, b"")).files
        return [
            f"{tree.path}/{path} is missing, and was made there: put it back from a backup, or run avatar-setup there "
            "first, which says what it makes anew"
            for path in wanted
            if path in listed
        ]
    return []


def adopt(configurator: DeploymentConfigurator, options: argparse.Namespace) -> Answer:
    """Takes a deployment over once that is confirmed; the same command again finds nothing to do."""
    found, place = options.found, options.adopt
    asks = confirm.is_interactive(options) and not options.dry_run
    with Volume(configurator.output_dir) as volume, confirm.conversation(asks):
        if found.in_place and is_ours(found.tree.states.get(foreign.STATE, b"")):
            return _go_on(configurator, volume, options)
        look = _look(configurator, volume, found, options)
        if look.state.is_complete:
            return _already(look, place)
        report = _report(look, found, place)
        told = adoption.told(report)
        if options.dry_run:
            return looking.shown(look, look.context_now(), [], told)
        console.show(told if not configurator.quiet else [])
        confirm.confirm("Type adopt to take it over: ", "adopt", options)
        left = configurator.settle(look, lambda live: _carry(live, look, found, place))
    data = configurator.result | {"report": told}
    lines = adoption.afterwards(place, found.in_place) if not configurator.quiet else []
    return summary.with_decision(Answer(lines, data), left)


def _go_on(configurator: DeploymentConfigurator, volume: Volume, options: argparse.Namespace) -> Answer:
    """The end of an adoption that was interrupted, or the word that there is nothing to do; or a look at that."""
    newest = next(iter(backups.history(volume)), None)
    if newest and newest.cause.startswith(_CAUSE) and not DeploymentState.load(volume).is_complete:
        configurator.on_conflict = reconcile.REPLACE  # what is not from here has its copy
        configurator.cause = newest.cause  # of a copy made now as well: this may be interrupted in its turn
    if options.dry_run:
        return looking.look(configurator, options)
    configurator.run(interactive=False, config_file=options.config, save_config=options.save_config)
    return Answer((), configurator.result)


def _look(configurator: DeploymentConfigurator, volume: Volume, found: Found, options: argparse.Namespace) -> Session:
    """The deployment as it would become; raises InputError for all that keeps it from becoming that."""
    inputs, understood = configurator.gather(options.config), found.understood
    replace = reconcile.REPLACE if found.in_place else configurator.on_conflict
    asked = configurator.options(None, options.save_config)._replace(on_conflict=replace, adopts=found.in_place)
    look = configurator.session(volume, inputs, asked)
    given, _ = secrets_plan.parse_given(inputs.secrets)
    on_disk = read_secrets(look.volume)
    said = {key for layer in inputs.layers[2:] for key in layer}
    inputs.problems += adoption.problems(understood, options.adopt, said, given, on_disk)
    exact = {name: Given(one.text, Source.ADOPTED) for name, one in understood.secrets.items()}
    loud = {name for name in given if not SECRETS[name].bound and name in exact}
    inputs.exact = {
        name: one for name, one in exact.items() if name not in loud or secrets_plan.is_same(given[name].text, one.text)
    }
    volume.coming = {file.path: file.data for file in found.beside}
    there = {name: text for name, text in on_disk.items() if text} | secrets_plan.known_texts({}, given | inputs.exact)
    inputs.layers.insert(2, {})

    def resolved(settings: Mapping[str, Given]) -> Values:
        inputs.layers[2] = dict(settings)
        return look.resolve(there).values

    values = resolved(adoption.essential(adoption.adopted(understood), resolved))
    inputs.unreadable = inputs.unreadable or bool(understood.problems)  # what else is missing may stand there
    if not inputs.unreadable:
        inputs.problems += adoption.missing(values, there, options.adopt)
    look.context()  # raises with all of them at once
    return look


def _already(look: Session, place: str) -> Answer:
    """Nothing to do on a volume that holds this very deployment; raises DecisionNeeded on one that holds another."""
    step, reasons = look.concerned(look.context_now())
    if step:
        raise DecisionNeeded(
            f"{look.volume.path} holds a complete deployment already, and {place} would change it "
            f"({'; '.join(reasons)}): take an empty output directory"
        )
    return Answer([f"Nothing to do: {place} has been taken over, with all that it says."], {"status": "unchanged"})


def _report(look: Session, found: Found, place: str) -> adoption.Report:
    context = look.context_now()
    resolution: Resolution = context.resolution
    transaction.check(look, context)
    return adoption.Report(
        found.understood,
        place,
        resolution.values,
        resolution.answers,
        context.planned,
        context.targets.env_values(),
        [file.path for file in found.beside],
        [*found.tree.others, *_unknown_secrets(found)],
    )


def _unknown_secrets(found: Found) -> list[str]:
    """Files among the secrets that mean nothing here; they go along, as somebody may miss them."""
    known = {secrets_plan.path_of(name) for name in SECRETS}
    return [path for path in found.tree.files if path.startswith(f"{foreign.SECRETS}/") and path not in known]


def _carry(live: Session, look: Session, found: Found, place: str) -> None:
    """Before any other step: a copy of what is here, and everything that stands nowhere else, to the byte."""
    if _is_done(live, look):
        return
    if found.in_place:
        transaction.keep_copy(live, _CAUSE + place)
    files = [File(secrets_plan.path_of(name), said.text.encode(), 0o644) for name, said in live.inputs.exact.items()]
    files += [File(path, found.tree.files[path], 0o644) for path in _unknown_secrets(found)]
    files += found.beside
    there = {file.path: live.volume.file(file.path) for file in files}
    wanted = [file._replace(once=True) for file in files if not (one := there[file.path]) or not one.data]
    wanted += [one._replace(mode=0o644) for one in there.values() if one and one.mode != 0o644 and _is_secret(one)]
    live.volume.publish(live.volume.stage(wanted))


def _is_done(live: Session, look: Session) -> bool:
    """Whether another run has finished this very adoption since the look, which may have waited for the word.

    Whatever refuses this run does so here, before the first write; DecisionNeeded for a deployment that came meanwhile.
    """
    come, other = vars(live.state) != vars(look.state), True
    try:
        context = live.context()
        transaction.check(live, context)
        other = not live.state.is_complete or live.concerned(context)[0] is not None
    except SetupError:
        if not come:
            raise
    if come and other:
        raise DecisionNeeded(
            f"{live.volume.path} is no longer as it was looked at: another deployment has come there meanwhile. "
            "Nothing was written: give the same command again for another look, or take an empty output directory"
        )
    return come


def _is_secret(file: File) -> bool:
    """Whether it is one of ours, which containers read with their own users: by a closed folder, not by its mode."""
    return bool(file.data) and file.path.startswith(f"{foreign.SECRETS}/")
