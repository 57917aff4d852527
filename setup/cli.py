"""Flags and exit codes; the only place where an error becomes a message."""

from __future__ import annotations

import os
import sys

from setup import __version__, console, flags
from setup.config.types import BOOLEAN
from setup.configure import DeploymentConfigurator, find_templates
from setup.console import Answer
from setup.deploy.options import RunOptions
from setup.deploy.reconcile import OnConflict
from setup.environment import become_owner, require_mount
from setup.errors import ExitCode, InputError, Interrupted, SetupError, VolumeError
from setup.typed import TYPE_CHECKING, Any
from setup.volume.backups import LAST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from setup.commands.adopt.command import Adoptable
    from setup.flags import CommandLine

_ASKING = (None, "--fill", "--rotate", "--adopt")  # the others never ask, whatever NON_INTERACTIVE says


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    environ = os.environ if environ is None else environ
    console.prepare(environ, plain="--plain" in words)
    as_json, debug = "--json" in words, "--debug" in words
    try:
        code = _run(flags.parse(words), environ)
        _require_shown()
        return code
    except SetupError as error:
        _explain(error, as_json)
        return error.exit_code
    except Exception as error:
        return _report_bug(error, debug)


def _run(line: CommandLine, environ: Mapping[str, str]) -> int:
    if line.has("--help"):
        console.show(flags.help_text().rstrip("\n").split("\n"))
        return ExitCode.DONE
    if line.has("--version"):
        console.show([f"avatar-setup {__version__}"])
        return ExitCode.DONE
    options = _run_options(line, environ)
    output_dir = line.value("--output-dir") or "."
    configurator = DeploymentConfigurator(
        line.value("--templates-dir") or find_templates(),
        output_dir,
        line.value("--defaults-file"),
        flags.caller_config(line),
        environ=environ,
    )
    if line.command != "--images":  # it writes nothing, and a machine that only copies images has no deployment
        require_mount(output_dir, environ)
    configurator.preload(options)
    source = _read_source(line.value("--adopt"), output_dir)
    become_owner(output_dir, environ)
    answer = _run_command(line, configurator, options, source)
    if line.has("--json"):
        _show_json(answer.data)
    else:
        console.show(answer.lines)
    return answer.exit_code


def _run_options(line: CommandLine, environ: Mapping[str, str]) -> RunOptions:
    """Make the options of a run from the flags; raise UsageError, or InputError for NON_INTERACTIVE."""
    on_conflict = line.value("--on-conflict")
    silent = line.has("--non-interactive") or line.has("--json") or line.command not in _ASKING
    return RunOptions(
        interactive=not (silent or _is_non_interactive(environ)),
        plain=line.has("--plain"),
        quiet=line.has("--quiet") or line.has("--json"),
        config_file=line.value("--config"),
        unset=line.values("--unset"),
        save_config=line.has("--save-config"),
        with_secrets=line.has("--with-secrets"),
        prompt_secrets=not line.has("--no-prompt-secrets"),
        reset=line.has("--reset"),
        renew_certificate=line.has("--renew-certificate"),
        on_conflict=OnConflict(on_conflict) if on_conflict else None,
        keep=flags.backups_to_keep(line, LAST),
        dry_run=line.is_preview,
        confirmed=line.has("--yes"),
        reencrypted=line.has("--i-have-reencrypted"),
    )


def _read_source(path: str | None, output_dir: str) -> Adoptable | None:
    """Read the deployment to adopt while this process, if it is root, can still become its owner."""
    if path is None:
        return None
    from setup.commands.adopt.command import read_source

    return read_source(path, output_dir)


def _run_command(
    line: CommandLine, configurator: DeploymentConfigurator, options: RunOptions, source: Adoptable | None
) -> Answer:
    """Run the command that the flags name, or configure; each imports only what it needs."""
    answer = _report(line, configurator, options)
    if answer is not None:
        return answer
    match line.command:
        case "--rotate":
            from setup.commands.rotate import rotate

            answer = rotate(configurator, line.values("--rotate"), options)
        case "--adopt" if source:
            from setup.commands.adopt.command import adopt

            answer = adopt(configurator, source, options)
        case "--fill":
            from setup.commands.fill import fill

            answer = fill(configurator, options)
        case "--restore":
            from setup.commands.restore import restore

            answer = restore(configurator, line.values("--restore")[-1], options)
        case _:
            answer = Answer((), configurator.configure(options))
    return answer


def _report(line: CommandLine, configurator: DeploymentConfigurator, options: RunOptions) -> Answer | None:
    """Run a command that changes nothing of the deployment; return None for the others."""
    answer = None
    match line.command:
        case "--status":
            from setup.commands.status import status

            answer = status(configurator)
        case "--check":
            from setup.commands.check import check

            answer = check(configurator, online=line.has("--online"))
        case "--export":
            from setup.commands.export import export

            answer = export(configurator, line.values("--export")[-1], with_secrets=options.with_secrets)
        case "--host-check":
            from setup.commands.host_check import host_check

            answer = host_check(configurator)
        case "--images":
            from setup.commands.images import images

            answer = images(configurator, options)
        case "--invite":
            from setup.commands.invite import invite

            email = line.values("--invite")[-1]
            answer = invite(configurator, email, is_admin=line.has("--admin"), online=line.has("--online"))
        case "--history":
            from setup.commands.history import history

            answer = history(configurator)
        case "--diff":
            from setup.commands.diff import preview

            answer = preview(configurator, options)
    return answer


def _require_shown() -> None:
    if reason := console.lost():
        raise VolumeError(
            f"standard output cannot be written ({reason}), and the output is incomplete: send it somewhere else, or "
            "free disk space there. The command itself has finished"
        )


def _is_non_interactive(environ: Mapping[str, str]) -> bool:
    text = environ.get("NON_INTERACTIVE", "")
    try:
        return bool(text) and BOOLEAN.parse(text) is True
    except ValueError as error:
        raise InputError(f"NON_INTERACTIVE={text!r}: {error}") from None


def _show_json(data: Mapping[str, Any]) -> None:
    import json

    console.show(json.dumps(data, indent=2, ensure_ascii=False).split("\n"))


def _explain(error: SetupError, as_json: bool) -> None:
    if as_json:
        _show_json({"error": {"kind": error.kind, "exit_code": error.exit_code, "problems": list(error.problems)}})
    if isinstance(error, Interrupted):
        console.warn(["", *error.problems])
    elif len(error.problems) == 1:
        console.warn([f"avatar-setup: {error.problems[0]}"])
    else:
        console.warn([f"avatar-setup: {len(error.problems)} problems:", *(f"  - {text}" for text in error.problems)])


def _report_bug(error: Exception, debug: bool) -> int:
    """Report an internal error by its kind and place, never by its text, which may hold a value."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
    console.warn([f"avatar-setup: internal error ({type(error).__name__} at {place}): please report it"])
    if debug:
        console.warn(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    else:
        console.warn(["Nothing is half-written. --debug shows where it happened."])
    return ExitCode.INTERNAL
