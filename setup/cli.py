"""Flags and exit codes; the only place where an error becomes a message."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from setup import __version__, console
from setup.config.types import BOOLEAN
from setup.configure import DeploymentConfigurator, find_templates
from setup.console import Answer
from setup.deploy.options import RunOptions
from setup.deploy.reconcile import OnConflict
from setup.environment import become_owner, require_mount
from setup.errors import ExitCode, InputError, Interrupted, SetupError, VolumeError
from setup.flags import HELP, caller_config, copies_to_keep, parse
from setup.volume.backups import LAST

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from setup.commands.adopt.command import Adoptable


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    console.prepare()
    words = sys.argv[1:] if arguments is None else list(arguments)
    environ = os.environ if environ is None else environ
    as_json, debug = "--json" in words, "--debug" in words
    try:
        code = _run(parse(words), environ)
        _require_shown()
        return code
    except SetupError as error:
        _explain(error, as_json)
        return error.exit_code
    except Exception as error:
        return _bug(error, debug)


def _run(flags: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if flags.help:
        console.show([HELP.rstrip("\n")])
        return ExitCode.DONE
    if flags.version:
        console.show([f"avatar-setup {__version__}"])
        return ExitCode.DONE
    options = run_options(flags, environ)
    templates = flags.templates_dir or find_templates()
    config = caller_config(flags)
    configurator = DeploymentConfigurator(templates, flags.output_dir, flags.defaults_file, config, environ=environ)
    require_mount(flags.output_dir, environ)
    configurator.preload(options)
    source = _adopted(flags)
    become_owner(flags.output_dir, environ)
    answer = _do(flags, configurator, options, source)
    if answer is None:
        configurator.configure(options)
        answer = Answer((), configurator.result)
    if flags.json:
        _show_json(answer.data)
    else:
        console.show(answer.lines)
    return answer.exit_code


def run_options(flags: argparse.Namespace, environ: Mapping[str, str]) -> RunOptions:
    """What the flags ask of a run; raises UsageError, or InputError for NON_INTERACTIVE."""
    return RunOptions(
        interactive=not (flags.non_interactive or flags.json or _asked_not_to_ask(environ)),
        plain=flags.plain,
        quiet=flags.quiet or flags.json,
        config_file=flags.config,
        unset=tuple(flags.unset),
        save_config=flags.save_config,
        with_secrets=flags.with_secrets,
        prompt_secrets=not flags.no_prompt_secrets,
        reset=flags.reset,
        renew_certificate=flags.renew_certificate,
        on_conflict=OnConflict(flags.on_conflict) if flags.on_conflict else None,
        keep=copies_to_keep(flags, LAST),
        dry_run=flags.dry_run,
        confirmed=flags.yes,
    )


def _adopted(flags: argparse.Namespace) -> Adoptable | None:
    """Read the deployment to adopt while this process may still read what root may read."""
    if not flags.adopt:
        return None
    from setup.commands.adopt.command import read_source

    return read_source(flags.adopt, flags.output_dir)


def _do(
    flags: argparse.Namespace, configurator: DeploymentConfigurator, options: RunOptions, source: Adoptable | None
) -> Answer | None:
    """Run the command that the flags name; None for a run that configures."""
    answer: Answer | None
    if flags.status:
        from setup.commands.status import status

        answer = status(configurator)
    elif flags.check:
        from setup.commands.check import check

        answer = check(configurator, online=flags.online)
    elif flags.export:
        from setup.commands.export import export

        answer = export(configurator, flags.export, with_secrets=flags.with_secrets)
    elif flags.rotate:
        from setup.commands.rotate import rotate

        answer = rotate(configurator, flags.rotate, options, reencrypted=flags.i_have_reencrypted)
    elif source:
        from setup.commands.adopt.command import adopt

        answer = adopt(configurator, source, options)
    elif flags.history:
        from setup.commands.history import history

        answer = history(configurator)
    elif flags.restore:
        from setup.commands.restore import restore

        answer = restore(configurator, flags.restore, options)
    elif flags.dry_run:
        from setup.commands.diff import preview

        answer = preview(configurator, options)
    else:
        answer = None
    return answer


def _require_shown() -> None:
    if reason := console.lost():
        raise VolumeError(
            f"standard output cannot be written ({reason}), and what it got is not whole: send it to another place, or "
            "free some space there. But for what it shows, the command has done its work"
        )


def _asked_not_to_ask(environ: Mapping[str, str]) -> bool:
    said = environ.get("NON_INTERACTIVE", "")
    try:
        return bool(said) and BOOLEAN.parse(said) is True
    except ValueError as error:
        raise InputError(f"NON_INTERACTIVE={said!r}: {error}") from None


def _show_json(data: Mapping[str, Any]) -> None:
    import json

    console.show([json.dumps(data, indent=2, ensure_ascii=False)])


def _explain(error: SetupError, as_json: bool) -> None:
    if as_json:
        told = {"kind": error.kind, "exit_code": error.exit_code, "problems": list(error.problems)}
        _show_json({"error": told})
    if isinstance(error, Interrupted):
        console.warn(["", *error.problems])
    elif len(error.problems) == 1:
        console.warn([f"avatar-setup: {error.problems[0]}"])
    else:
        console.warn([f"avatar-setup: {len(error.problems)} problems:", *(f"  - {text}" for text in error.problems)])


def _bug(error: Exception, debug: bool) -> int:
    """A fault of this program: its kind and place, never its text, which may hold a value."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
    console.warn([f"avatar-setup: a fault of its own ({type(error).__name__} at {where}): please report it"])
    console.warn(["Nothing is half-written. --debug shows where it happened."] if not debug else [])
    if debug:
        console.warn(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    return ExitCode.INTERNAL
