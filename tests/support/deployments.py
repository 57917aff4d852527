"""Resolved deployments for the tests of what follows from settings and secrets."""

from __future__ import annotations

from collections.abc import Mapping

from setup.config.model import Given, Source
from setup.config.resolver import Resolution, resolve
from setup.config.sources import gather
from setup.config.values import Values

REQUIRED = {"PUBLIC_URL": "avatar.example.com", "ENV_NAME": "example-prod", "SMTP_HOST": "mail.example.com"}
MAIL = {"SMTP_HOST": "mail.example.com"}


def given(source: Source, texts: Mapping[str, str]) -> dict[str, Given]:
    return {key: Given(text, source) for key, text in texts.items()}


def resolution(secrets: Mapping[str, str] | None = None, **environ: str) -> Resolution:
    """What the packaged defaults and these environment variables come to."""
    inputs = gather(environ, None, None, {}, {})
    assert not inputs.problems, inputs.problems
    return resolve(inputs.layers, inputs.presets, {}, secrets or {})


def values(secrets: Mapping[str, str] | None = None, **environ: str) -> Values:
    """The values of a deployment that is accepted, with the required settings filled in."""
    found = resolution(secrets, **(REQUIRED | environ))
    assert (found.problems, found.missing) == ((), ())
    return found.values


def refusals(secrets: Mapping[str, str] | None = None, **environ: str) -> tuple[str, ...]:
    """The problems of a deployment that is refused, with the required settings filled in."""
    found = resolution(secrets, **(REQUIRED | environ))
    assert found.problems, "nothing was refused"
    return found.problems
