"""Find the first step that has something to do, and why, from the state and the volume; render only to name a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache

from setup.config.advice import list_notes
from setup.config.config_file import holds_secrets
from setup.config.derived import on_kubernetes
from setup.config.engines import engine_of, names_content
from setup.config.model import Given, Source
from setup.config.resolver import Resolution, canonical, changes
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.config.values import Values
from setup.deploy.reconcile import read_proposal
from setup.deploy.steps import Context, prompt_user_secrets, step_of_file, step_of_secret, step_of_setting
from setup.deploy.targets import mark_edits
from setup.formats.digests import digest
from setup.formats.quoting import quote_env
from setup.secrets import guards
from setup.secrets.plan import Origin
from setup.state_manager import DeploymentState, split_additions
from setup.step_names import FINALIZE, STEP_NAMES
from setup.typed import NamedTuple
from setup.volume.layout import CA_BUNDLE, CERTIFICATE, CONFIG, ENV, LABEL_KEY, MAIN_FILES, PROPOSAL_SUFFIX
from setup.volume.volume import Volume

SECRETS_MARK = "secrets"  # in the state's basis: a fingerprint of all secrets
EDITS_MARK = "edits"  # and of the edited files that services mount, if there are any
# What Kubernetes reads when it creates a volume of a StatefulSet.
_FIXED = frozenset({
    "KUBERNETES_STORAGE_CLASS", "KUBERNETES_DATABASE_SIZE", "KUBERNETES_BLOCKS_SIZE", "KUBERNETES_METADATA_SIZE",
})  # fmt: skip
BAKED = ("__pycache__", "digest")  # below the package and the templates, in an image


def needs_new_names(volume: Volume, state: DeploymentState) -> bool:
    """Tell whether the last run has seen other edits of the files whose content names something for the engine."""
    target, edited = state.answers.get("TARGET"), {}
    for path in state.files:
        data = volume.read(path) if target and names_content(target.text, path) else None
        if data is not None and not state.knows(path, data):
            edited[path] = data
    return state.is_complete() and state.basis.get(EDITS_MARK, "") != mark_edits(volume.read(LABEL_KEY) or b"", edited)


class Work(NamedTuple):
    """The first step that has something to do, None if there is none, and why; the files that were edited by hand.

    A run that `only_tidies` removes new texts beside files that have no edit any more, which needs no backup.
    """

    first: str | None
    reasons: list[str]
    edited: list[str]
    notes: tuple[str, ...]
    only_tidies: bool = False


_Reason = tuple[str, str]  # the step that is concerned, and why


def find_work(
    volume: Volume,
    state: DeploymentState,
    before: Mapping[str, Given],
    basis: Mapping[str, str],
    context: Context,
) -> Work:
    """Compare what should be with what was recorded; `before` are the answers that this run started with."""
    reasons: list[_Reason] = [(state.next_step, "")] if state.next_step else []
    if state.exists:
        answers = canonical(context.resolution.values, context.resolution.answers)
        for line in changes(before, answers):
            reasons.append((step_of_setting(line.partition(":")[0]), line))
    for part in basis:
        if state.basis and basis[part] != state.basis.get(part):
            reasons.append((step_of_file(ENV), f"the {part} of this release changed"))
    files, edited = _compare_files(volume, state, context)
    reasons += [*files, *_compare_secrets(state, context)]
    if state.is_complete() and not reasons:
        for key in _stale_keys(volume, state, context):
            reasons.append((step_of_file(ENV), f"{key} follows from a secret"))
        if state.basis.get(SECRETS_MARK) != context.targets.mark:
            reasons.append((FINALIZE, _what_follows(state, context, "the secrets that services mount")))
        if state.basis.get(EDITS_MARK, "") != context.targets.edits_mark:
            reasons.append((FINALIZE, _what_follows(state, context, "files that were edited by hand")))
    outdated = list(_outdated_proposals(volume, state, edited)) if state.is_complete() else []
    only_tidies, reasons = bool(outdated and not reasons), reasons + outdated
    first = min((step for step, _ in reasons), key=STEP_NAMES.index, default=None)
    values = context.resolution.values
    changed = [*_note_new_engine(state, values), *_note_fixed_volumes(state, values, [reason for _, reason in reasons])]
    if state.is_complete() and guards.has_moved_back(before.get("DB_HOST"), values):
        changed.append(
            f"DB_HOST={values['DB_HOST']}: data does not move here from {before['DB_HOST'].text}. db_admin_user and "
            "db_admin_password stay those of that server, and the stack's own database is made with them. If it exists "
            "from before, it opens only with its own: restore the backup from before the move instead (--history)"
        )
    notes = (*context.targets.tls.notes, *list_notes(values), *changed)
    return Work(first, [reason for _, reason in reasons if reason], edited, notes, only_tidies)


def _note_new_engine(state: DeploymentState, values: Values) -> Iterator[str]:
    """Warn that data stays where it is when TARGET changes on a complete deployment."""
    for path in MAIN_FILES if state.is_complete() else ():
        if path in state.files and path != engine_of(values).main:
            yield (
                f"TARGET={values['TARGET']}: data does not move: the database, the stored objects and the uploads stay "
                f"in the volumes of what {path} has started, and no run changes {path} any more. "
                "docs/operate/move-to-another-host.md says how to move it"
            )


def _note_fixed_volumes(state: DeploymentState, values: Values, reasons: list[str]) -> Iterator[str]:
    """Warn that a cluster neither moves a volume that exists nor changes its class or size."""
    for line in reasons if state.is_complete() and on_kubernetes(values) else ():
        key = line.partition(":")[0]
        if key == "KUBERNETES_NAMESPACE":
            yield (
                f"{key}={values[key]}: data does not move: the database, the stored objects and the uploads stay in "
                "the earlier namespace, and what runs there goes on: "
                "kubectl get pods -A -l app.kubernetes.io/part-of=avatar"
            )
        if key in _FIXED:
            yield (
                f"{key}: volumes that exist keep theirs, and kubectl apply will refuse the change: "
                "docs/install/kubernetes.md says how a volume grows"
            )


def _compare_secrets(state: DeploymentState, context: Context) -> Iterator[_Reason]:
    """Yield the secrets that get a value, or that somebody filled in."""
    for name, secret in context.planned.items():
        known = name in state.secrets or name in state.announced_secrets
        if secret.file or (secret.text and not known):
            step = step_of_secret(name, context.resolution) if secret.text else prompt_user_secrets.__name__
            is_new = secret.file and secret.origin is not Origin.FILLED
            yield step, f"the secret {name} " + ("gets a value" if is_new else "was filled in")


def _stale_keys(volume: Volume, state: DeploymentState, context: Context) -> list[str]:
    """List the keys of our `.env` whose values are no longer those of the secrets that they come from."""
    data = volume.read(ENV)
    if data is None or not state.knows(ENV, data):
        return []
    present = dict(line.partition("=")[::2] for line in split_additions(ENV, data)[0].decode().splitlines())
    stale = []
    for key, text in context.targets.env_values().items():
        if key in present and present[key] != quote_env(text):
            stale.append(key)
    return stale


def _what_follows(state: DeploymentState, context: Context, cause: str) -> str:
    """Name the files of the engine that change with a cause; in a cluster it may be the cause alone."""
    names = []
    for file in context.targets.engine_files:
        if state.files.get(file.path) != digest(file.data):
            names.append(file.path)
    return f"{', '.join(names)} {'follow' if names[1:] else 'follows'} from {cause}" if names else f"{cause} changed"


def _compare_files(volume: Volume, state: DeploymentState, context: Context) -> tuple[list[_Reason], list[str]]:
    """Find the files of a complete deployment that are missing or out of date, and those edited by hand."""
    reasons, edited = [], []
    expected = list(state.files) if state.is_complete() else []
    whole = False  # the configuration file should hold the secrets
    for file in context.saved:
        whole = whole or holds_secrets(file.data)
        if file.path not in expected:
            expected.append(file.path)
    for path in expected:
        data = volume.read(path)
        if data is None:
            reasons.append((step_of_file(path), f"{path} is missing"))
        elif path == CONFIG and whole and not holds_secrets(data):
            reasons.append((step_of_file(path), f"{path} gets the secrets"))
        elif not state.knows(path, data):
            edited.append(path)
    tls = context.targets.tls
    bundle = digest(tls.ca_bundle) if tls.ca_bundle else ""
    if state.is_complete() and bundle != state.files.get(CA_BUNDLE, ""):
        reasons.append((step_of_file(CA_BUNDLE), "the trusted authorities changed"))
    if tls.reason:
        reasons.append((step_of_file(CERTIFICATE), tls.reason))
    return reasons, edited


def _outdated_proposals(volume: Volume, state: DeploymentState, edited: list[str]) -> Iterator[_Reason]:
    """Find the new texts that an earlier run put beside files which are as avatar-setup wrote them, or are again."""
    paths = [path for path in state.files if path not in edited]
    existing = volume.status_each(path + PROPOSAL_SUFFIX for path in paths)
    for path in paths if existing else ():
        data = volume.read(path)
        if data is not None and read_proposal(volume, state, path, data) is not None:
            yield step_of_file(path), f"{path}{PROPOSAL_SUFFIX} is no longer needed: {path} has the generated text"


def moved_defaults(before: Mapping[str, Given], resolution: Resolution) -> Iterator[str]:
    """Yield a line for every default that changes with this release, such as a version."""
    for key, setting in resolution.applying().items():
        old, text = before.get(key), show(setting.value)
        if old is None or callable(SETTINGS[key].default) or old.text == text:
            continue
        if setting.source <= Source.PRESET and old.source <= Source.PRESET:
            yield f"{key}: {old.text} -> {text} ({setting.source.words})"


def program_basis(templates_dir: str, package_dir: str) -> dict[str, str]:
    """Return the digests of the program and of the templates: they change with a release."""
    return {
        "program": _baked(package_dir) or tree_digest(package_dir, (".py", ".yaml")),
        "templates": _baked(templates_dir) or tree_digest(templates_dir, ("",)),
    }


def _baked(top: str) -> str:
    """Read the digest that the image's build stored; "" outside an image. Nothing changes inside one."""
    try:
        with open(os.path.join(top, *BAKED), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


@cache  # a program does not change while it runs
def tree_digest(top: str, endings: tuple[str, ...]) -> str:
    """Return one digest of all files with these endings below a folder, without caches."""
    parts = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "templates"))
        for name in sorted(names):
            if name.endswith(endings):
                with open(os.path.join(folder, name), "rb") as file:
                    parts.append(f"{os.path.relpath(folder, top)}/{name} {digest(file.read())}")
    return digest("\n".join(parts).encode())
