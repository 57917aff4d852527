"""What has something to do, and why: told from the state and the volume, without rendering anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from setup.config.config_file import CONFIG, holds_secrets
from setup.config.model import Source
from setup.config.resolver import canonical, changes
from setup.config.settings import SETTINGS
from setup.config.types import show
from setup.deploy.steps import Context, prompt_user_secrets, step_of_file, step_of_secret, step_of_setting
from setup.deploy.targets import CA_BUNDLE, ENV
from setup.formats.digests import digest
from setup.formats.quoting import quote_env
from setup.state_file import STEP_NAMES
from setup.state_manager import DeploymentState, split_additions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from setup.config.model import Given
    from setup.config.resolver import Resolution
    from setup.volume.volume import Volume


BAKED = ("__pycache__", "digest")  # below the package and the templates, in an image


class Look(NamedTuple):
    """The first step that is concerned, None when all is as it should be, and why; which files were edited by hand."""

    first: str | None
    reasons: list[str]
    edited: list[str]
    notes: tuple[str, ...]


def look(
    volume: Volume,
    state: DeploymentState,
    before: Mapping[str, Given],
    basis: Mapping[str, str],
    context: Context,
) -> Look:
    """Compares what should be with what was recorded; `before` are the answers as this run found them."""
    found = [(state.next_step, "")] if state.next_step else []
    answers = canonical(context.resolution.values, context.resolution.answers)
    lines = changes(before, answers) if state.exists else []
    found += [(step_of_setting(line.partition(":")[0]), line) for line in lines]
    parts = [part for part in basis if state.basis and basis[part] != state.basis.get(part)]
    found += [(STEP_NAMES[2], f"the {part} of this release changed") for part in parts]
    files, edited = _files(volume, state, context)
    found += files
    for name, one in context.planned.items():
        if one.file or (one.text and name not in {**state.secrets, **state.announced_secrets}):
            reason = f"the secret {name} " + ("gets a value" if one.file else "was filled in")
            step = step_of_secret(name, context.resolution) if one.text else prompt_user_secrets.__name__
            found.append((step, reason))
    if state.is_complete and not found:
        found += [(step_of_file(ENV), f"{key} follows from a secret") for key in _stale(volume, state, context)]
    first = min((step for step, _ in found), key=STEP_NAMES.index, default=None)
    return Look(first, [reason for _, reason in found if reason], edited, context.targets.material.notes)


def _stale(volume: Volume, state: DeploymentState, context: Context) -> list[str]:
    """The keys of our `.env` whose values are no longer those of the secrets they come from."""
    data = volume.read(ENV)
    if data is None or not state.knows(ENV, data):
        return []
    standing = dict(line.partition("=")[::2] for line in split_additions(ENV, data)[0].decode().splitlines())
    should = {key: quote_env(text) for key, text in context.targets.env_values().items()}
    return [key for key in should.keys() & standing.keys() if should[key] != standing[key]]


def _files(volume: Volume, state: DeploymentState, context: Context) -> tuple[list[tuple[str, str]], list[str]]:
    """The files of a complete deployment that are missing or out of date, and those edited by hand."""
    found, edited = [], []
    expected = [path for path in state.files if state.is_complete]
    expected += [file.path for file in context.saved if file.path not in expected]
    whole = any(holds_secrets(file.data) for file in context.saved)
    for path in expected:
        data = volume.read(path)
        if data is None or (path == CONFIG and whole and not holds_secrets(data)):
            found.append((step_of_file(path), f"{path} is missing" if data is None else f"{path} gets the secrets"))
        elif not state.knows(path, data):
            edited.append(path)
    material = context.targets.material
    bundle = digest(material.ca_bundle) if material.ca_bundle else ""
    if state.is_complete and bundle != state.files.get(CA_BUNDLE, ""):
        found.append((STEP_NAMES[3], "the trusted authorities changed"))
    if material.reason:
        found.append((STEP_NAMES[3], material.reason))
    return found, edited


def moved(before: Mapping[str, Given], resolution: Resolution) -> Iterator[str]:
    """A line for every default of ours that has another value than the one in force, such as a version."""
    for key, one in resolution.applying().items():
        old, fixed = before.get(key), not callable(SETTINGS[key].default)
        if (
            old
            and fixed
            and one.source <= Source.PRESET
            and old.source <= Source.PRESET
            and old.text != show(one.value)
        ):
            yield f"{key}: {old.text} -> {show(one.value)} ({one.source.label})"


def program_basis(templates_dir: str, package_dir: str) -> dict[str, str]:
    """Digests of the program and of the templates, by which a new release is noticed."""
    return {
        "program": _baked(package_dir) or tree_digest(package_dir, (".py", ".yaml")),
        "templates": _baked(templates_dir) or tree_digest(templates_dir, ("",)),
    }


def _baked(top: str) -> str:
    """The digest that the image's build has left, "" elsewhere: nothing changes inside an image."""
    try:
        with open(os.path.join(top, *BAKED), encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def tree_digest(top: str, endings: tuple[str, ...]) -> str:
    """One digest of all files of these endings below a folder, caches left out."""
    parts = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "templates"))
        for name in sorted(names):
            if name.endswith(endings):
                with open(os.path.join(folder, name), "rb") as file:
                    parts.append(f"{os.path.relpath(folder, top)}/{name} {digest(file.read())}")
    return digest("\n".join(parts).encode())
