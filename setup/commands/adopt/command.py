"""`--adopt`: take over a deployment with its settings and, unchanged, its secrets."""

from __future__ import annotations

import contextlib
import posixpath

from setup import console
from setup.commands import diff
from setup.commands.adopt import plan, running
from setup.commands.adopt.interpret import Entry, Interpretation, interpret
from setup.commands.adopt.modernize import Ours, modernize
from setup.commands.adopt.source import Tree, is_at, read_more, read_tree, require_finished
from setup.config.model import Given, Source
from setup.config.secrets import SECRETS
from setup.config.sources import Inputs
from setup.console import Answer
from setup.deploy import ending, transaction
from setup.deploy.reconcile import OnConflict
from setup.deploy.session import Session, resolve_inputs
from setup.environment import as_owner
from setup.errors import DecisionNeeded, InputError, SetupError
from setup.formats.yaml_file import Malformed
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_secrets
from setup.state_file import parse
from setup.state_manager import DeploymentState
from setup.tls import plan as tls_plan
from setup.typed import TYPE_CHECKING, NamedTuple
from setup.volume import backups
from setup.volume.layout import (
    AUTHORITY,
    AUTHORITY_KEY,
    CA_BUNDLE,
    CERTIFICATE,
    SECRETS_FOLDER,
    STATE,
    File,
    secret_path,
)
from setup.volume.volume import Volume
from setup.wizard import confirm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from setup.config.values import Values
    from setup.configure import DeploymentConfigurator
    from setup.deploy.options import RunOptions


class Adoptable(NamedTuple):
    """A deployment to adopt: its tree, its meaning, and the files that its settings name.

    It is adopted in place if its directory is the output directory.
    """

    tree: Tree
    content: Interpretation
    files: tuple[File, ...]
    in_place: bool

    @property
    def path(self) -> str:
        """The directory, as the operator named it."""
        return self.tree.path

    @property
    def unknown_secrets(self) -> list[str]:
        """The files among the secrets that mean nothing here; they are copied, because somebody may need them."""
        known = set(map(secret_path, SECRETS))
        return [path for path in self.tree.files if path.startswith(f"{SECRETS_FOLDER}/") and path not in known]


def read_source(path: str, output_dir: str) -> Adoptable:
    """Read a deployment as its owner, before this process becomes another user; raise if there is no finished one."""
    with as_owner(path):
        return _read_source(path, output_dir)


def _read_source(path: str, output_dir: str) -> Adoptable:
    tree = read_tree(path)
    content = _with_normal_paths(interpret(tree))
    modes = _generated_modes(tree, content)
    files, unreadable = read_more(tree, dict.fromkeys((*modes, *_named_files(content))))
    problems = unreadable or _find_lost(tree, {file.path for file in files if file.data})
    content = _without_lost_authority(content, {file.path for file in files}, tree)
    in_place = is_at(path, output_dir)
    if not in_place:  # in place, the run continues from any state
        require_finished(tree)
    content = content._replace(problems=(*content.problems, *problems))
    return Adoptable(
        tree, content, tuple(file._replace(mode=modes.get(file.path, file.mode)) for file in files), in_place
    )


def _without_lost_authority(content: Interpretation, present: set[str], tree: Tree) -> Interpretation:
    """Drop the private CA of another tool's deployment if its file is missing: it is not needed to adopt the rest."""
    entry = content.settings.get("TLS_CA_PATH")
    path = posixpath.normpath(entry.text) if entry else ""
    if path in ("", CA_BUNDLE, *present) or path.startswith(("/", "../")) or tree.has_own_state or tree.unreadable:
        return content
    settings = {key: other for key, other in content.settings.items() if key != "TLS_CA_PATH"}
    note = f"{path}, the private CA, is missing in {tree.path}: put it in place, and give it as TLS_CA_PATH=./{path}"
    return content._replace(settings=settings, notes=(*content.notes, note))


def _note_authority(source: Adoptable) -> tuple[str, ...]:
    """Say that a CA of avatar-setup may have made the certificate that counts as the operator's: only a state knows."""
    mode = source.content.settings.get("TLS_MODE", Entry("provided", ""))
    path = source.content.settings.get("NGINX_SSL_CERTIFICATE_PATH", Entry(CERTIFICATE, "")).text
    texts = {file.path: file.data for file in source.files}
    if source.tree.states or mode.text != "provided" or AUTHORITY_KEY not in texts:
        return ()
    from setup.tls.certificates import load_first
    from setup.tls.chains import is_issued_by

    with contextlib.suppress(KeyError, ValueError):  # if it cannot be told, the operator may know
        made = load_first(texts[posixpath.normpath(path)])
        if not is_issued_by(made, load_first(texts[AUTHORITY])):
            return ()
    note = f"{AUTHORITY_KEY}: if its CA made the certificate in use, add --set TLS_MODE=self-signed: only the lost"
    return (f"{note} state said so, and otherwise it is one of yours",)


def _with_normal_paths(content: Interpretation) -> Interpretation:
    settings = dict(content.settings)
    for key in plan.PATHS:
        if key in settings:
            settings[key] = settings[key]._replace(text=plan.normalize_path(settings[key].text))
    return content._replace(settings=settings)


def _generated_modes(tree: Tree, content: Interpretation) -> Mapping[str, int]:
    """Return path and mode of the certificates and keys that avatar-setup may have made; no setting names them."""
    mode = content.settings.get("TLS_MODE")
    if mode and mode.text == "self-signed":
        return tls_plan.OURS
    if tree.states:
        return {}
    if "TARGET" in content.settings:  # its files name no certificate by which the settings could be told
        return tls_plan.OURS
    return {path: tls_plan.OURS[path] for path in (AUTHORITY_KEY, AUTHORITY)}  # without a state, take what exists


def _named_files(content: Interpretation) -> list[str]:
    """Return the files below the deployment that its settings name, except the bundle that every run generates."""
    paths = []
    for key in plan.PATHS:
        path = posixpath.normpath(content.settings[key].text) if key in content.settings else CA_BUNDLE
        if path != CA_BUNDLE and not path.startswith(("/", "../")):
            paths.append(path)
    return paths


def _find_lost(tree: Tree, present: set[str]) -> list[str]:
    """Return a problem for each certificate or key that the state records and that is missing: none is regenerated."""
    problems = []
    with contextlib.suppress(Malformed):
        for path in tls_plan.OURS.keys() & parse(tree.states.get(STATE, b"")).files:
            if path not in present:
                problems.append(
                    f"{tree.path}/{path} is missing, and the state there records it: restore it from a backup, or run "
                    "avatar-setup there first, which says what it regenerates"
                )
    return sorted(problems)


def adopt(configurator: DeploymentConfigurator, source: Adoptable, options: RunOptions) -> Answer:
    """Adopt a deployment after confirmation; the same command again finds nothing to do."""
    interactive = options.interactive and console.is_terminal()
    with Volume(configurator.output_dir) as volume, confirm.conversation(interactive and not options.dry_run):
        if source.in_place and source.tree.has_own_state:
            return _continue(configurator, volume, source, options)
        preview, source = _prepare(configurator, volume, source, options)
        if preview.state.is_complete():
            return _unchanged(preview, source)
        report = _report(preview, source)
        if options.dry_run:
            return diff.describe(preview, preview.context_now(), [], report)
        console.show(report if not options.quiet else [])
        if not options.confirmed:
            confirm.confirm("Type adopt to take it over: ", "adopt", interactive=interactive)
        left = configurator.carry_out(preview, lambda live: _copy_files(live, preview, source))
    data = configurator.result | {"report": report}
    lines = []
    if not options.quiet:
        lines = plan.describe_next(source.tree, source.in_place, source.content)
    return ending.with_decision(Answer(lines, data), left)


def _continue(configurator: DeploymentConfigurator, volume: Volume, source: Adoptable, options: RunOptions) -> Answer:
    """Run as usual on a deployment of ours; if it was edited by hand, the settings follow what runs."""
    newest = next(iter(backups.history(volume)), None)
    if newest and newest.reason.kind is backups.Kind.ADOPTION and not DeploymentState.load(volume).is_complete():
        # The files that are replaced are in that backup. A second backup gets its cause: this run may be interrupted.
        options = options._replace(on_conflict=OnConflict.REPLACE, reason=newest.reason)
    elif DeploymentState.load(volume).is_complete():
        options = options._replace(runs=_follow(configurator, source, options))
    if options.dry_run:
        return diff.preview(configurator, options)
    return Answer((), configurator.configure(options._replace(interactive=False)))


def _follow(configurator: DeploymentConfigurator, source: Adoptable, options: RunOptions) -> dict[str, str]:
    """Return the settings by which a compose file that was edited by hand runs, with notes; raise InputError."""
    given: set[str] = set().union(*configurator.gather(options).layers[2:])
    unsure = {key: why for key, why in source.content.unsure.items() if key in running.KEYS - given}
    if unsure:
        raise InputError(*plan.describe_unsure(unsure))
    console.warn(f"note: {note}" for note in source.content.notes)
    return {key: entry.text for key, entry in source.content.runs.items() if key not in given}


def _prepare(
    configurator: DeploymentConfigurator, volume: Volume, source: Adoptable, options: RunOptions
) -> tuple[Session, Adoptable]:
    """Resolve the deployment that the adoption would write, and bring the source's settings to this release.

    Raise InputError with all that prevents it.
    """
    inputs = configurator.gather(options)
    source = _modernized(source, inputs)
    settings = set().union(*inputs.layers[2:])
    if "TLS_MODE" not in settings:
        notes = (*source.content.notes, *_note_authority(source))
        source = source._replace(content=source.content._replace(notes=notes))
    if source.in_place:
        options = options._replace(on_conflict=OnConflict.REPLACE, adopts=True)
    state = DeploymentState.load(volume, options.adopts)
    volume.coming = {file.path: file.data for file in source.files}
    given, _ = secrets_plan.parse_given(inputs.secrets)
    on_disk, exact = read_secrets(volume), _exact_secrets(source.content, given)
    texts = secrets_plan.known_texts(on_disk, given | exact)

    def resolve(adopted: Mapping[str, Given]) -> Values:
        return resolve_inputs(inputs.with_adopted(adopted), state, {}, texts).values

    answers = {key: Given(entry.text, Source.ADOPTED) for key, entry in source.content.settings.items()}
    answers = plan.select_answers(answers, resolve)
    problems = [*inputs.problems, *plan.find_problems(source.path, source.content, settings, given, on_disk)]
    unreadable = inputs.unreadable or bool(source.content.problems)  # it may hold what seems to be missing
    if not unreadable:
        problems += plan.find_missing(resolve(answers), texts, source.path)
    inputs = inputs.with_adopted(answers)._replace(problems=tuple(problems), unreadable=unreadable, exact=exact)
    session = configurator.session(volume, inputs, options)
    session.context()  # raises with all problems at once
    return session, source


def _modernized(source: Adoptable, inputs: Inputs) -> Adoptable:
    defaults, defaults_file, *outranking = inputs.layers
    given: dict[str, str] = {}
    for layer in outranking:
        given |= {key: answer.text for key, answer in layer.items()}
    ours = Ours(given, {key: answer.text for key, answer in {**defaults, **defaults_file}.items()})
    content = modernize(source.content, ours, has_own_state=source.tree.has_own_state)
    return source._replace(content=content)


def _exact_secrets(content: Interpretation, given: Mapping[str, Given]) -> dict[str, Given]:
    """Return the secrets to copy unchanged: all but unbound ones that the operator gives another value."""
    exact = {}
    for name, entry in content.secrets.items():
        is_bound = bool(SECRETS[name].bound) or name not in given
        if is_bound or secrets_plan.is_same(given[name].text, entry.text):
            exact[name] = Given(entry.text, Source.ADOPTED)
    return exact


def _unchanged(session: Session, source: Adoptable) -> Answer:
    """Say that this deployment is already adopted; raise DecisionNeeded if the volume holds another one."""
    step, reasons = session.concerned(session.context_now())
    if step:
        raise DecisionNeeded(
            f"{session.volume.path} holds a complete deployment already, and {source.path} would change it "
            f"({'; '.join(reasons)}): use an empty output directory"
        )
    return Answer([f"Nothing to do: {source.path} is adopted already, with all its settings."], {"status": "unchanged"})


def _report(session: Session, source: Adoptable) -> list[str]:
    context = session.context_now()
    transaction.check(session, context)
    return plan.describe(
        plan.Report(
            source.path,
            source.content,
            context.resolution.values,
            context.resolution.answers,
            context.planned,
            context.targets.env_values(),
            [file.path for file in source.files],
            [name for name in source.tree.others if name not in source.tree.compose],
            source.unknown_secrets,
        )
    )


def _copy_files(live: Session, preview: Session, source: Adoptable) -> None:
    """Copy, before any step, what exists nowhere else, unchanged; in place, save a backup of everything first."""
    if _is_adopted(live, preview):
        return
    if source.in_place:
        transaction.save_backup(live, backups.Reason(backups.Kind.ADOPTION, source=source.path))
    files = [File(secret_path(name), given.text.encode(), 0o644) for name, given in live.inputs.exact.items()]
    files += [File(path, source.tree.files[path], 0o644) for path in source.unknown_secrets]
    wanted = []
    for file in (*files, *source.files):
        on_disk = live.volume.file(file.path)
        if not on_disk or not on_disk.data:
            wanted.append(file._replace(once=True))
        elif on_disk.mode != 0o644 and file.path.startswith(f"{SECRETS_FOLDER}/"):
            wanted.append(on_disk._replace(mode=0o644))  # containers read it as their own users; its folder is private
    live.volume.publish(live.volume.stage(wanted))


def _is_adopted(live: Session, preview: Session) -> bool:
    """Tell whether another run has finished this adoption while this one waited for confirmation.

    Raise here, before the first write, for anything that refuses this run, and for another deployment.
    """
    has_changed = vars(live.state) != vars(preview.state)
    is_same = False
    try:
        context = live.context()
        transaction.check(live, context)
        is_same = live.state.is_complete() and live.concerned(context)[0] is None
    except SetupError:
        if not has_changed:
            raise
    if has_changed and not is_same:
        raise DecisionNeeded(
            f"{live.volume.path} has changed: another run has written another deployment there meanwhile. Nothing was "
            "written by this run. Run the same command again, or use an empty output directory"
        )
    return has_changed
