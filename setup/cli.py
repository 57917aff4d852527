"""Flags and exit codes; the only place where an error becomes a message."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from setup import __version__, console
from setup.configure import DeploymentConfigurator, find_templates
from setup.container import become_owner, require_mount
from setup.errors import InputError, Interrupted, SetupError, UsageError
from setup.secret_catalogue import SECRETS
from setup.values import BOOLEAN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HELP = """\
usage: avatar-setup [options]

  --output-dir DIR     where the deployment is written (in the image: /out)
  --config FILE        settings and secrets from a YAML file
  --set KEY=VALUE      one setting, as in docs/settings.md; repeat for more
  --preset NAME        default, dev-mode or airgapped
  --auth-type TYPE     email or username
  --non-interactive    ask nothing (so it is without a terminal)
  --plain              ask line by line, without control sequences
  --no-prompt-secrets  leave secrets that only you know for later
  --save-config        also write deployment-config.yaml, without secrets
  --reset              forget progress and answers; secrets and files stay
  --status             say how far the configuration is; exit 3 if incomplete
  --json, --quiet      answer in JSON; say only errors (--debug: where it was)
  --templates-dir DIR, --defaults-file FILE    other templates or defaults
  --version, --help

Every setting is also an environment variable; KEY_FILE names a file with it.
  docker run -it --rm -v /app/avatar:/out avatar-setup
  docker run --rm -v /app/avatar:/out -e PUBLIC_URL=avatar.example.com \\
    -e ENV_NAME=example-prod avatar-setup --preset airgapped
  docker run --rm -v /app/avatar:/out avatar-setup --status
"""

EXIT_NOT_COMPLETE = 3
EXIT_BUG = 70


class _Parser(argparse.ArgumentParser):
    """argparse whose messages never repeat a value: it could be a secret."""

    def error(self, message: str) -> NoReturn:
        masked = message.replace('"', "'").partition("'")[0].rstrip()
        raise UsageError(f"{masked} (see --help)")


def _plain_formatter(prog: str) -> argparse.HelpFormatter:
    """A formatter with a fixed width: looking the terminal's up imports half of the standard library."""
    return argparse.HelpFormatter(prog, width=80)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags; raises UsageError."""
    parser = _Parser(add_help=False, allow_abbrev=False, formatter_class=_plain_formatter)
    for flag in ("--help", "--version", "--status", "--json", "--quiet", "--debug", "--reset"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-h", dest="help", action="store_true")
    for flag in ("--non-interactive", "--no-prompt-secrets", "--save-config", "--plain"):
        parser.add_argument(flag, action="store_true")
    for flag in ("--config", "--preset", "--auth-type", "--templates-dir", "--defaults-file"):
        parser.add_argument(flag)
    parser.add_argument("--output-dir", default=".")
    parser.add_argument("--set", action="append", default=[])
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UsageError(f"unknown: {', '.join(map(_flag_of, unknown))} (see --help)")
    for name in ("output_dir", "config", "templates_dir", "defaults_file"):
        if getattr(known, name) == "":  # an unset shell variable, most likely
            raise UsageError(f"--{name.replace('_', '-')} is given without a path: name one, or leave the flag out")
    return known


def _flag_of(word: str) -> str:
    """The part of a word that cannot be a value."""
    if word.startswith("--"):
        return word.partition("=")[0]
    return word[:2] if word.startswith("-") else "a word without a flag"


def caller_config(options: argparse.Namespace) -> dict[str, str]:
    """What the flags say about settings; raises UsageError, which never repeats a value."""
    config: dict[str, str] = {}
    for pair in options.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError("--set wants KEY=VALUE, as in --set LOG_LEVEL=DEBUG")
        if key.lower() in SECRETS:
            name = key.upper()
            raise UsageError(
                f"--set {name}: a secret does not belong on the command line, where every user of the machine "
                f"can read it: give it as environment variable {name}, or as {name}_FILE=PATH"
            )
        config[key] = value
    if options.preset is not None:
        config["PRESET"] = options.preset
    if options.auth_type is not None:
        config["AUTH_TYPE"] = options.auth_type
    return config


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    console.prepare()
    words = sys.argv[1:] if arguments is None else list(arguments)
    environ = os.environ if environ is None else environ
    as_json, debug = "--json" in words, "--debug" in words
    try:
        return _run(parse(words), environ)
    except SetupError as error:
        _explain(error, as_json)
        return error.exit_code
    except Exception as error:
        return _bug(error, debug)


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.help:
        console.show([HELP.rstrip("\n")])
        return 0
    if options.version:
        console.show([f"avatar-setup {__version__}"])
        return 0
    configurator = DeploymentConfigurator(
        options.templates_dir or find_templates(), options.output_dir, options.defaults_file, caller_config(options)
    )
    configurator.environ = environ
    configurator.quiet = options.quiet or options.json
    configurator.plain = options.plain
    require_mount(options.output_dir, environ)
    configurator.preload(options.config)  # while this process may still read what root may read
    become_owner(options.output_dir, environ)
    if options.status:
        return _status(configurator, options.json)
    configurator.run(
        interactive=not (options.non_interactive or options.json or _asked_not_to_ask(environ)),
        config_file=options.config,
        save_config=options.save_config,
        prompt_secrets=not options.no_prompt_secrets,
        reset=options.reset,
    )
    if options.json:
        _show_json(configurator.result)
    return 0


def _asked_not_to_ask(environ: Mapping[str, str]) -> bool:
    said = environ.get("NON_INTERACTIVE", "")
    try:
        return bool(said) and BOOLEAN.parse(said) is True
    except ValueError as error:
        raise InputError(f"NON_INTERACTIVE={said!r}: {error}") from None


def _show_json(data: Mapping[str, Any]) -> None:
    import json

    console.show([json.dumps(data, indent=2, ensure_ascii=False)])


def _status(configurator: DeploymentConfigurator, as_json: bool) -> int:
    state, lines, data = configurator.status()
    if as_json:
        _show_json(data)
    else:
        console.show(lines)
    return 0 if state.is_complete else EXIT_NOT_COMPLETE


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
    return EXIT_BUG
