"""The seven steps: each is a function from a context to what should become true."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from setup.config.model import Given, Secret, Setting, Source
from setup.config.resolver import Resolution, canonical
from setup.config.secrets import SECRETS
from setup.config.settings import REQUIRED_KEYS, SETTINGS
from setup.config.types import show
from setup.deploy.targets import Targets
from setup.secrets import plan as secrets_plan
from setup.secrets.plan import Origin, SecretFile
from setup.typed import NamedTuple
from setup.volume.layout import File, place_of

Ask = Callable[[Setting | Secret, str], str | None]


BACK = "\x00back"  # the answer that asks for the previous question; no kind of value takes it


class Outcome(NamedTuple):
    """Describe what a step wants to become true.

    `answers` are to be remembered; `accepted` names questions whose default or emptiness was taken.
    `kept` names the questions that are answered by keeping all their defaults at once, `again` those to be asked.
    `done` is False when the step wants to be called again, `back` asks for the question before.
    """

    files: tuple[File, ...] = ()
    secrets: tuple[SecretFile, ...] = ()
    answers: Mapping[str, Given] | None = None
    accepted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    done: bool = True
    back: bool = False


class Context(NamedTuple):
    """All that a step may know; without `ask` nobody can be asked.

    `ask(row, default)` gives the checked answer, None when the default (or nothing) was accepted, or BACK.
    `ask_for_more()` gives whether to ask more than the express questions, or BACK. `accepted` are the questions that
    are settled, `again` those that are to be asked, also once more.
    """

    resolution: Resolution
    targets: Targets
    planned: Mapping[str, secrets_plan.Planned]
    accepted: frozenset[str] = frozenset()
    again: frozenset[str] = frozenset()
    ask: Ask | None = None
    ask_for_more: Callable[[], bool | str] | None = None
    ask_secrets: bool = True
    saved: tuple[File, ...] = ()  # the configuration file, if it is wanted

    @property
    def secret_texts(self) -> dict[str, str]:
        """Return every planned secret's text, "" while pending."""
        return {name: secret.text for name, secret in self.planned.items()}


def collect_required_config(context: Context) -> Outcome:
    """Collect PUBLIC_URL and ENV_NAME."""
    return _collect(context, [row for key, row in SETTINGS.items() if key in REQUIRED_KEYS])


def collect_optional_config(context: Context) -> Outcome:
    """Collect every other setting that somebody gave; the rest keeps its default."""
    optional = [row for key, row in SETTINGS.items() if key not in REQUIRED_KEYS]
    express = [row for row in optional if row.express]
    rest = [row for row in optional if not row.express]
    values, undecided = context.resolution.values, []
    for row in rest:  # also those that do not apply yet
        is_settled = row.key in context.accepted or row.key in context.again or values.given(row.key)
        if row.asked and not is_settled:
            undecided.append(row.key)
    if context.ask_for_more and undecided and not list_open(context, express):
        return _decide_on_rest(context.ask_for_more(), undecided)
    return _collect(context, [*express, *rest])


def _decide_on_rest(answer: bool | str, undecided: list[str]) -> Outcome:
    """Return that these settings, and the names of the databases, are asked or keep their defaults."""
    if answer == BACK:
        return Outcome(done=False, back=True)
    if not answer:
        return Outcome(kept=tuple(undecided), done=False)
    keys = list(undecided)
    for name, secret in SECRETS.items():
        if secret.customary is not None:
            keys.append(name)
    return Outcome(again=tuple(keys), done=False)


def _collect(context: Context, rows: list[Setting]) -> Outcome:
    """Ask one question at a time, so that each answer is saved before the next question."""
    values = context.resolution.values
    open_rows = list_open(context, rows)
    if context.ask and open_rows:
        row = open_rows[0]
        if row.key in context.resolution.missing:
            return answered(row, context.ask(row._replace(empty=False), ""))
        return answered(row, context.ask(row, show(values[row.key])))
    answers = context.resolution.answers
    return Outcome(answers=canonical(values, {row.key: answers[row.key] for row in rows if row.key in answers}))


def list_open(context: Context, rows: Iterable[Setting]) -> list[Setting]:
    """List the settings of these that are still to be asked."""
    values, open_rows = context.resolution.values, []
    for row in rows:
        is_wanted = row.key in context.again or _is_unanswered(context, row)
        if is_wanted and values.can_apply(row.key):
            open_rows.append(row)
    return open_rows


def _is_unanswered(context: Context, row: Setting) -> bool:
    """Tell whether a question of the express path has no answer yet."""
    values = context.resolution.values
    if not row.express or row.key in context.accepted or values.given(row.key):
        return False
    return values.can_apply(row.key) and row.express(values)


def is_open(context: Context, planned: secrets_plan.Planned) -> bool:
    """Tell whether a secret is still to be asked: one with a customary value only if somebody wants to change it."""
    if not secrets_plan.is_asked(SECRETS[planned.name], context.resolution.values):
        return False
    return planned.name in context.again or (planned.origin is Origin.PENDING and planned.name not in context.accepted)


def answered(row: Setting | Secret, answer: str | None, replace: bool = False) -> Outcome:
    """Return what an answer to one question makes true; the step is called again for the next question."""
    name = row.key if isinstance(row, Setting) else row.name
    if answer == BACK:
        return Outcome(done=False, back=True)
    if answer is None:
        return Outcome(accepted=(name,), done=False)
    if isinstance(row, Secret):
        return Outcome(secrets=(SecretFile(name, show(row.kind.parse(answer)), replace),), done=False)
    return Outcome(answers={name: Given(answer, Source.ANSWER)}, done=False)


def generate_env_file(context: Context) -> Outcome:
    """Write `.env`, and the secrets that it shows: their files are the source."""
    return Outcome((context.targets.env,), _to_publish(context, lambda row: bool(row.shown), pending=False))


def generate_nginx_config(context: Context) -> Outcome:
    """Write `nginx/nginx.conf` and `tls/`: our own certificate, and the trusted CAs if one of them is private."""
    return Outcome(context.targets.nginx)


def generate_secrets(context: Context) -> Outcome:
    """Write the secrets that nobody needs to know."""
    values = context.resolution.values
    return Outcome(secrets=_to_publish(context, lambda row: not secrets_plan.is_operators(row, values)))


def prompt_user_secrets(context: Context) -> Outcome:
    """Ask for the secrets that only the operator knows; a skipped one becomes an empty file to fill."""
    values = context.resolution.values
    if context.ask and context.ask_secrets:
        for name, planned in context.planned.items():
            if is_open(context, planned):
                return answered(SECRETS[name], context.ask(SECRETS[name], planned.text), name in context.again)
    # `.env` and the secrets that it shows exist already, unless this step is called alone.
    secrets = _to_publish(context, lambda row: secrets_plan.is_operators(row, values) or bool(row.shown))
    return Outcome((context.targets.env,), secrets)


def finalize(context: Context) -> Outcome:
    """Write Authentik's blueprint, the saved configuration if wanted, and last of all what the engine is given."""
    return Outcome((*context.targets.authentik, *context.saved, *context.targets.engine_files))


def _to_publish(context: Context, mine: Callable[[Secret], bool], *, pending: bool = True) -> tuple[SecretFile, ...]:
    files = []
    for name, planned in context.planned.items():
        if planned.file and mine(SECRETS[name]) and (pending or planned.text):
            files.append(planned.file)
    return tuple(files)


STEPS: dict[str, Callable[[Context], Outcome]] = {
    step.__name__: step
    for step in (
        collect_required_config,
        collect_optional_config,
        generate_env_file,
        generate_nginx_config,
        generate_secrets,
        prompt_user_secrets,
        finalize,
    )
}


def step_of_file(path: str) -> str:
    """Return the step that writes a file."""
    return place_of(path).writer


def step_of_secret(name: str, resolution: Resolution) -> str:
    """Return the step that first publishes a secret."""
    if SECRETS[name].shown:
        return generate_env_file.__name__
    ours = not secrets_plan.is_operators(SECRETS[name], resolution.values)
    return (generate_secrets if ours else prompt_user_secrets).__name__


def step_of_setting(key: str) -> str:
    """Return the step that collects a setting."""
    return (collect_required_config if key in REQUIRED_KEYS else collect_optional_config).__name__
