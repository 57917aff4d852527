"""`--check`: whether the stack would start; reads only, and takes no lock."""

from __future__ import annotations

from setup.checks import run
from setup.typed import TYPE_CHECKING
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.configure import DeploymentConfigurator
    from setup.console import Answer


def check(configurator: DeploymentConfigurator, *, online: bool = False) -> Answer:
    """Check the deployment, and with `online` also what the network says about it."""
    with Volume(configurator.output_dir) as volume:
        return run.check_deployment(configurator.saved_session(volume), configurator.environ, online=online)
