"""Resolve layers of answers to typed values, by one precedence; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from setup.config import derived
from setup.config.hosts import short, without_credentials
from setup.config.model import Given, Setting, Source
from setup.config.rules import RULES
from setup.config.settings import SETTINGS
from setup.config.types import EMAIL, EMAILS, show
from setup.config.values import Resolved, Unavailable, Values
from setup.typed import NamedTuple


class Resolution(NamedTuple):
    """Hold the values of a deployment, the answers to save, and every reason why they are refused."""

    values: Values
    answers: dict[str, Given]
    problems: tuple[str, ...]
    missing: tuple[str, ...]

    def applying(self) -> dict[str, Resolved]:
        """Return the settings that apply to this deployment, in the catalogue's order."""
        return {key: self.values.resolved(key) for key in SETTINGS if self.values.applies(key)}


def resolve(
    layers: Sequence[Mapping[str, Given]],
    presets: Mapping[str, Mapping[str, str]],
    saved: Mapping[str, Given],
    secrets: Mapping[str, str],
) -> Resolution:
    """Parse the winning answer of each key, compute the defaults that follow, and apply every rule.

    `layers` are those of `sources.Inputs` in rising precedence: defaults, defaults file, and then
    those that outrank the saved answers; further layers (answers given in this run) may follow.
    """
    given = _layered(layers, presets, saved)
    values = Values(SETTINGS, given, secrets)
    problems = [*_evaluate(values), *_refusals(values)]
    answers = {key: answer for key, answer in given.items() if answer.source not in (Source.DEFAULT, Source.PRESET)}
    return Resolution(values, answers, tuple(dict.fromkeys(problems)), tuple(values.missing))


def _layered(
    layers: Sequence[Mapping[str, Given]], presets: Mapping[str, Mapping[str, str]], saved: Mapping[str, Given]
) -> dict[str, Given]:
    """Return the winning answer of each key."""
    defaults, defaults_file, *outranking = layers
    from_defaults: dict[str, Given] = {}  # saved from a defaults file of an earlier run, which ranks as one
    answered: dict[str, Given] = {}
    for key, answer in saved.items():
        if answer.source is not Source.DEFAULTS_FILE:
            answered[key] = answer
        elif not defaults_file:  # a new defaults file replaces all of an earlier one
            from_defaults[key] = answer
    this_run: dict[str, Given] = {}
    for layer in outranking:
        this_run |= layer
    named = {**defaults_file, **from_defaults, **answered, **this_run}.get("PRESET", Given("", Source.DEFAULT))
    preset = {key: Given(text, Source.PRESET) for key, text in presets.get(named.text.strip().lower(), {}).items()}
    if "PRESET" in this_run:  # a preset named in this run outranks saved answers
        for key in preset:
            answered.pop(key, None)
    for key, other in derived.SPELLINGS:  # the spelling used in this run replaces a saved one
        if key in this_run and other not in this_run:
            answered.pop(other, None)
    return derived.with_mirror({**defaults, **defaults_file, **from_defaults, **preset, **answered, **this_run})


def _evaluate(values: Values) -> list[str]:
    """Compute every value once and return a problem for each that is not valid."""
    for key in SETTINGS:
        try:
            if values.given(key) or values.applies(key):
                values.resolved(key)
        except Unavailable:
            continue
    return [problem_text(SETTINGS[key], answer, reason) for key, (answer, reason) in values.invalid.items()]


def problem_text(row: Setting, answer: Given, reason: str) -> str:
    """Say in one sentence why a value is refused, without credentials that it contains."""
    shown = answer.text if row.kind in (EMAIL, EMAILS) else without_credentials(answer.text)
    example = f", as in {row.example}" if row.example and row.example not in reason else ""
    origin = f". {row.help}" if answer.source is Source.DEFAULT else ""  # nobody typed it: say what it is
    return f"{row.key}={short(shown)} ({answer.named(row.key)}): {reason}{example}{origin}"


def missing_text(key: str) -> str:
    """Say in one sentence that a setting is missing, with every way to give it."""
    row = SETTINGS[key]
    example = row.example or "VALUE"
    return (
        f"{key} is missing. {row.help} Give it as environment variable {key}={example}, "
        f"as flag --set {key}={example}, or as line '{key}: {example}' in the configuration file"
    )


def _refusals(values: Values) -> list[str]:
    """Apply every rule whose values can be had."""
    refusals = []
    for rule in RULES:
        try:
            refusals.append(rule(values))
        except Unavailable:
            continue
    return list(filter(None, refusals))


def changes(before: Mapping[str, Given], after: Mapping[str, Given]) -> list[str]:
    """Return a line for every answer that differs from the saved one."""
    lines = []
    for key in SETTINGS:
        old, new = before.get(key), after.get(key)
        if (old and old.text) != (new and new.text):
            source = f" ({new.source.words})" if new else ""
            lines.append(f"{key}: {old.text if old else '(default)'} -> {new.text if new else '(default)'}{source}")
    return lines


def canonical(values: Values, answers: Mapping[str, Given]) -> dict[str, Given]:
    """Return the answers as they are saved: in the canonical spelling of their kind."""
    return {key: Given(show(values[key]), answer.source) for key, answer in answers.items()}
