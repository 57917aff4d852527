"""`--export`: what another host needs to make the same deployment, to a file or to standard output."""

from __future__ import annotations

import contextlib
import os

from setup import console
from setup.config.config_file import config_file, holds_secrets, is_ours
from setup.console import Answer
from setup.environment import host_path, require_mount, shell_word
from setup.errors import InputError, UsageError, VolumeError
from setup.secrets import guards
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_secrets
from setup.typed import TYPE_CHECKING
from setup.volume import lock
from setup.volume.backups import require_whole
from setup.volume.layout import CONFIG, LOCK, File, staged_name
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from setup.configure import DeploymentConfigurator


def export(configurator: DeploymentConfigurator, path: str, *, with_secrets: bool = False) -> Answer:
    """Export the settings of a deployment, and its secrets with --with-secrets; change nothing in it."""
    if path == "-" and with_secrets and console.is_watched():
        raise UsageError(
            "--with-secrets: secrets are not shown on a terminal: name a file, as in --export /out/export.yaml"
        )
    with Volume(configurator.output_dir) as volume:
        require_whole(volume)
        session = configurator.saved_session(volume)
        texts = {name: text or "" for name, text in read_secrets(volume).items()}
        resolution = session.resolve(texts)
        if not session.state.is_complete() or resolution.missing:
            raise InputError(f"{configurator.output_dir} holds no complete configuration yet: configure it first")
        lost = guards.find_lost(resolution.values, texts, session.state.secrets) if with_secrets else ()
        if lost:  # the other host would take it for one that never was, and make a new one
            raise VolumeError(*(guards.explain_lost(secret, resolution.values) for secret in lost))
    secrets = {secret.name: texts[secret.name] for secret in secrets_plan.list_applicable(resolution.values)}
    file = config_file(resolution, secrets if with_secrets else None)
    if path == "-":
        return Answer(file.data.decode().splitlines(), {"config": file.data.decode()})
    return _written(file, path, configurator, {**session.state.files, **session.state.announced})


def _written(file: File, path: str, configurator: DeploymentConfigurator, own: Container[str]) -> Answer:
    """Publish the file; overwrite nothing except an earlier export."""
    folder, name = os.path.split(os.path.abspath(path))
    require_mount(folder, configurator.environ)
    place = os.path.relpath(os.path.join(os.path.realpath(folder), name), os.path.realpath(configurator.output_dir))
    if place in own:
        raise VolumeError(
            f"{path} is one of the deployment's own files: name another one. --save-config writes {CONFIG} there and "
            "keeps it up to date"
        )
    file = file._replace(path=name)
    with Volume(folder) as volume:
        if volume.file(name) == file:
            return Answer([f"Nothing to do: {path} is up to date."], {"status": "unchanged", "file": path})
        volume.check_writable()
        with _alone(volume, "" if place.startswith("../") else configurator.output_dir):
            on_disk = volume.read(name)
            if on_disk is not None and not is_ours(on_disk):
                raise VolumeError(f"{path} exists and is not an export: name another file, or move it away")
            _replace(volume, file)
    return Answer(_next_lines(folder, file, configurator.environ), {"status": "complete", "file": path})


def _next_lines(folder: str, file: File, environ: Mapping[str, str]) -> list[str]:
    """Say where the file is on the host, and what to type on the other one: Docker 20.10 wants a whole path."""
    host, name = host_path(folder, environ), file.path
    here = shell_word(f"{host}/{name}") if host else name
    lines = [
        f"Written: {here}{'' if host else f', in the directory that is mounted at {folder}'}",
        "Copy it to the other host. There, beside it, with an empty directory for the deployment:",
        f'  docker run --rm -v /app/avatar:/out -v "$PWD"/{shell_word(name)}:/config.yaml:ro avatar-setup '
        "--config /config.yaml",
    ]
    if holds_secrets(file.data):
        lines += ["It holds every secret. Afterwards delete it on both hosts:", f"  rm {here}"]
    return lines


@contextlib.contextmanager
def _alone(volume: Volume, deployment: str) -> Iterator[None]:
    """Exclude other exports and runs, which would take the staged file for their own."""
    with contextlib.ExitStack() as held:
        if deployment:
            held.enter_context(held.enter_context(Volume(deployment)).locked(()))
        elif volume.status(LOCK):  # another deployment
            held.enter_context(volume.locked(()))
        else:
            held.enter_context(lock.alone(volume.path))
        yield


def _replace(volume: Volume, file: File) -> None:
    """Publish a file, and remove what is staged if that fails: no run would remove it from this folder."""
    try:
        volume.replace(file)
    except BaseException:
        with contextlib.suppress(VolumeError):
            volume.remove(staged_name(file.path))
        raise
