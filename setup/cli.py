"""Flags and exit codes; the only place where an error becomes a message."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from setup import __version__, console, flags
from setup.config.types import BOOLEAN
from setup.configure import DeploymentConfigurator, find_templates
from setup.environment import become_owner, require_mount
from setup.errors import ExitCode, InputError, Interrupted, SetupError, VolumeError
from setup.volume.backups import LAST

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    console.prepare()
    words = sys.argv[1:] if arguments is None else list(arguments)
    environ = os.environ if environ is None else environ
    as_json, debug = "--json" in words, "--debug" in words
    try:
        code = _run(flags.parse(words), environ)
        _require_shown()
        return code
    except SetupError as error:
        _explain(error, as_json)
        return error.exit_code
    except Exception as error:
        return _bug(error, debug)


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.help:
        console.show([flags.HELP.rstrip("\n")])
        return ExitCode.DONE
    if options.version:
        console.show([f"avatar-setup {__version__}"])
        return ExitCode.DONE
    configurator = _configurator(options, environ)
    require_mount(options.output_dir, environ)
    _read_early(configurator, options)
    become_owner(options.output_dir, environ)
    verb = flags.verb_of(options)
    if verb:
        return _do(verb, configurator, options)
    configurator.run(
        interactive=not (options.non_interactive or options.json or _asked_not_to_ask(environ)),
        config_file=options.config,
        save_config=options.save_config,
        prompt_secrets=not options.no_prompt_secrets,
        reset=options.reset,
    )
    if options.json:
        _show_json(configurator.result)
    return ExitCode.DONE


def _configurator(options: argparse.Namespace, environ: Mapping[str, str]) -> DeploymentConfigurator:
    templates, said = options.templates_dir or find_templates(), flags.caller_config(options)
    configurator = DeploymentConfigurator(templates, options.output_dir, options.defaults_file, said)
    configurator.environ = environ
    configurator.quiet = options.quiet or options.json
    configurator.plain = options.plain
    configurator.renew_certificate = options.renew_certificate
    configurator.with_secrets = options.with_secrets
    configurator.unset = tuple(options.unset)
    configurator.on_conflict = options.on_conflict
    configurator.keep = flags.copies_to_keep(options, LAST)
    return configurator


def _read_early(configurator: DeploymentConfigurator, options: argparse.Namespace) -> None:
    """Reads what this run is given while this process may still read what root may read."""
    configurator.preload(options.config)
    if options.adopt:
        from setup.commands.adopt.command import read_source

        options.found = read_source(options.adopt, options.output_dir)


def _do(verb: str, configurator: DeploymentConfigurator, options: argparse.Namespace) -> int:
    """Does something else than configuring, and shows its answer."""
    from setup.commands.registry import DO

    answer = DO[verb](configurator, options)
    if options.json:
        _show_json(answer.data)
    else:
        console.show(answer.lines)
    return answer.exit_code


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
