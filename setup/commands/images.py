"""`--images`: the images of a deployment, with the commands that save, load and copy them."""

from __future__ import annotations

from setup.config import derived
from setup.config.derived import COMPOSE_ENGINE, IMAGE_ARCHIVE, KUBERNETES, SWARM
from setup.config.resolver import resolve
from setup.console import Answer
from setup.environment import shell_word
from setup.errors import InputError
from setup.typed import TYPE_CHECKING
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.configure import DeploymentConfigurator
    from setup.deploy.options import RunOptions

_PLATFORM = "linux/amd64"  # the only one of the Avatar images
_LOADS = {
    COMPOSE_ENGINE: f"docker load -i {IMAGE_ARCHIVE}",
    SWARM: f"docker load -i {IMAGE_ARCHIVE}    # on every node",
    KUBERNETES: f"ctr -n k8s.io images import {IMAGE_ARCHIVE}    # on every node, with containerd",
}


def images(configurator: DeploymentConfigurator, options: RunOptions) -> Answer:
    """List the images of a deployment, or of one that is still to be configured with what this run is given."""
    inputs = configurator.gather(options)
    with Volume(configurator.output_dir) as volume:
        resolution = configurator.session(volume, inputs, options).resolve({})
    problems = [*inputs.problems, *resolution.problems]
    if problems:
        raise InputError(*problems)
    wanted = derived.images(resolution.values)
    usual = derived.images(resolve([inputs.layers[0], {}], {}, {}, {}).values)
    rows = []
    for number, image in enumerate(wanted):
        rows.append({"image": image, "source": _source(image, usual[number]) if number < len(usual) else image})
    return Answer(
        _lines(rows, _LOADS[resolution.values["TARGET"]]),
        {"platform": _PLATFORM, "archive": IMAGE_ARCHIVE, "images": rows},
    )


def _split(image: str) -> tuple[str, str]:
    """Split an image's name from its tag or digest, which keep their sign."""
    name, at, digest = image.partition("@")
    if at:
        return name.partition(":")[0] if ":" in name.rpartition("/")[2] else name, at + digest
    folder, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    return folder + slash + last, colon + tag


def _source(image: str, usual: str) -> str:
    """Return where a copy of an image comes from: the same version at its makers' registry."""
    (name, version), (origin, _) = _split(image), _split(usual)
    return origin + version if name.rpartition("/")[2] == origin.rpartition("/")[2] else image


def _lines(rows: list[dict[str, str]], load: str) -> list[str]:
    lines, copied = ["Images of this deployment:"], [row for row in rows if row["image"] != row["source"]]
    for row in rows:
        lines.append(f"  {row['image']}")
    lines += ["", "On a machine that reaches the registries:", *_logins(rows, "source")]
    for row in rows:
        lines.append(f"  docker pull --platform {_PLATFORM} {shell_word(row['source'])}")
    for row in copied:
        lines.append(f"  docker tag {shell_word(row['source'])} {shell_word(row['image'])}")
    if copied:
        lines += ["", "Into your registry:", *_logins(copied, "image")]
    for row in copied:
        lines.append(f"  docker push {shell_word(row['image'])}")
    lines += ["", "Or as a file, loaded where the deployment runs:", f"  docker save -o {IMAGE_ARCHIVE} \\"]
    for row in rows:
        lines.append(f"    {shell_word(row['image'])} \\")
    lines[-1] = lines[-1].removesuffix(" \\")
    lines.append(f"  {load}")
    if not copied:
        lines += ["", "For a registry of your own, add: --set REGISTRY_MIRROR=registry.example.com/avatar"]
    return lines


def _logins(rows: list[dict[str, str]], key: str) -> list[str]:
    """Return the commands that sign in: to Octopize's registry, or to the registry of the copies."""
    registry = derived.registry_of(rows[0][key])  # the Avatar images come first
    return [f"  docker login {registry}"] if registry else []
