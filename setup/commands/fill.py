"""`--fill`: ask only for the values that are missing, hidden if they are secret, and finish the run."""

from __future__ import annotations

from setup import console
from setup.console import Answer
from setup.deploy import ending
from setup.deploy.options import RunOptions
from setup.errors import InputError
from setup.secrets import plan as secrets_plan
from setup.secrets.store import read_filled
from setup.typed import TYPE_CHECKING
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.configure import DeploymentConfigurator


def fill(configurator: DeploymentConfigurator, options: RunOptions) -> Answer:
    """Ask for every value that is missing; without a terminal, raise InputError for each that was not given."""
    if not (options.interactive and console.is_terminal()):
        _require_given(configurator, options)
    return Answer((), configurator.configure(options._replace(fill=True)))


def _require_given(configurator: DeploymentConfigurator, options: RunOptions) -> None:
    """Raise InputError if a value is missing that nobody can be asked for, with what to type instead."""
    inputs = configurator.gather(options)
    with Volume(configurator.output_dir) as volume:
        session = configurator.session(volume, inputs, options)
        given = {name: offer.text for name, offer in inputs.secrets.items()}
        texts = given | read_filled(volume)
        command = ending.place_of(volume, configurator.environ).asking_command
        resolution = session.resolve(texts)
    names = list(resolution.missing)
    for secret in () if names else secrets_plan.list_pending(resolution.values, texts):
        names.append(secret.name.upper())
    if names:
        ways = ", ".join(f"{name} or {name}_FILE" for name in names)
        raise InputError(f"--fill asks on a terminal: {command} --fill. Without one, give as variables: {ways}")
