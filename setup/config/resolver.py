"""Layers of answers to typed values, by one precedence; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from setup.config import derived
from setup.config.hosts import short, without_credentials
from setup.config.model import Given, Setting, Source
from setup.config.rules import RULES
from setup.config.settings import SETTINGS
from setup.config.types import EMAIL, EMAILS, show
from setup.config.values import Resolved, Unavailable, Values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Resolution(NamedTuple):
    """The values of a deployment, what to remember of them, and every reason why they will not do."""

    values: Values
    answers: dict[str, Given]
    problems: tuple[str, ...]
    missing: tuple[str, ...]

    def applying(self) -> dict[str, Resolved]:
        """The settings that apply to this deployment, in the catalogue's order."""
        return {key: self.values.resolved(key) for key in SETTINGS if self.values.applies(key)}


def resolve(
    layers: Sequence[Mapping[str, Given]],
    presets: Mapping[str, Mapping[str, str]],
    saved: Mapping[str, Given],
    secrets: Mapping[str, str],
) -> Resolution:
    """The winning answer of each key, parsed, with every default that follows and every rule applied.

    `layers` are those of `sources.Inputs` in rising precedence: defaults, defaults file, and then
    those that outrank the saved answers; further layers (answers given in this run) may follow.
    """
    given = _layered(layers, presets, saved)
    values = Values(SETTINGS, given, secrets)
    problems = [*_evaluate(values), *_refusals(values)]
    answers = {key: said for key, said in given.items() if said.source not in (Source.DEFAULT, Source.PRESET)}
    return Resolution(values, answers, tuple(dict.fromkeys(problems)), tuple(values.missing))


def _layered(
    layers: Sequence[Mapping[str, Given]], presets: Mapping[str, Mapping[str, str]], saved: Mapping[str, Given]
) -> dict[str, Given]:
    defaults, defaults_file, *louder = layers
    if defaults_file:  # a defaults file speaks for all defaults files before it
        saved = {key: said for key, said in saved.items() if said.source is not Source.DEFAULTS_FILE}
    quiet = {key: said for key, said in saved.items() if said.source is Source.DEFAULTS_FILE}
    loud = {key: said for key, said in saved.items() if said.source is not Source.DEFAULTS_FILE}
    said = {key: given for layer in louder for key, given in layer.items()}
    chosen = {**defaults_file, **quiet, **loud, **said}.get("PRESET", Given("", Source.DEFAULT)).text
    preset = {key: Given(text, Source.PRESET) for key, text in presets.get(chosen.strip().lower(), {}).items()}
    if "PRESET" in said:  # a preset named in this run outranks what was saved
        loud = {key: given for key, given in loud.items() if key not in preset}
    for key, other in derived.SPELLINGS:  # the spelling used in this run replaces a saved one
        if key in said and other not in said:
            loud.pop(other, None)
    return {**defaults, **defaults_file, **quiet, **preset, **loud, **said}


def _evaluate(values: Values) -> list[str]:
    """Looks at every value once and returns a problem for each that is not valid."""
    for key in SETTINGS:
        try:
            if values.given(key) or values.applies(key):
                values.resolved(key)
        except Unavailable:
            continue
    return [problem_text(SETTINGS[key], said, reason) for key, (said, reason) in values.invalid.items()]


def problem_text(row: Setting, said: Given, reason: str) -> str:
    """One sentence for a value that was refused, without credentials that stand in it."""
    shown = said.text if row.kind in (EMAIL, EMAILS) else without_credentials(said.text)
    example = f", as in {row.example}" if row.example and row.example not in reason else ""
    origin = f". {row.help}" if said.source is Source.DEFAULT else ""  # nobody typed it: say what it follows from
    return f"{row.key}={short(shown)} ({said.source.label}): {reason}{example}{origin}"


def missing_text(key: str) -> str:
    """One sentence for a setting that somebody must give, with every way to give it."""
    row = SETTINGS[key]
    example = row.example or "VALUE"
    return (
        f"{key} is missing. {row.help} Give it as environment variable {key}={example}, "
        f"as flag --set {key}={example}, or as line '{key}: {example}' in the configuration file"
    )


def _refusals(values: Values) -> list[str]:
    found = []
    for rule in RULES:
        try:
            refusal = rule(values)
        except Unavailable:
            continue
        if refusal:
            found.append(refusal)
    return found


def changes(before: Mapping[str, Given], after: Mapping[str, Given]) -> list[str]:
    """A line for every answer that differs from the saved one."""
    lines = []
    for key in SETTINGS:
        old, new = before.get(key), after.get(key)
        if (old and old.text) != (new and new.text):
            source = f" ({new.source.label})" if new else ""
            lines.append(f"{key}: {old.text if old else '(default)'} -> {new.text if new else '(default)'}{source}")
    return lines


def canonical(values: Values, answers: Mapping[str, Given]) -> dict[str, Given]:
    """The answers as they are saved: in the canonical spelling of their kind."""
    return {key: Given(show(values[key]), said.source) for key, said in answers.items()}
