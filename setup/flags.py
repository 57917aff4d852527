"""The command line: one table of flags, from which the parser, the help and the rules of what goes together follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from setup.config.secrets import SECRETS
from setup.errors import UsageError
from setup.typed import NamedTuple

_RUN = "Configure, or change what is configured"
_COMMANDS = "Or run one of these commands instead"
_ANY = "With any of these"

_EXAMPLES = """\
  docker run -it --rm -v /app/avatar:/out avatar-setup
  docker run --rm -v /app/avatar:/out -e PUBLIC_URL=avatar.example.com \\
    -e ENV_NAME=prod -e SMTP_HOST=mx.example.com avatar-setup --preset airgapped
"""


class Flag(NamedTuple):
    """A flag; without `value`, it is a switch.

    With a command, a flag is refused unless `commands` names that command; None stands for every command. A flag
    with `needs` also requires one of those flags.
    """

    name: str
    value: str
    help: str
    group: str = _RUN
    is_command: bool = False
    choices: tuple[str, ...] = ()
    commands: tuple[str, ...] | None = None
    needs: tuple[str, ...] = ()


FLAGS = (
    Flag("--output-dir", "DIR", "directory of the deployment (in the image: /out)"),
    Flag("--config", "FILE", "settings and secrets from a YAML file"),
    Flag("--set", "KEY=VALUE", "one setting, also read from variable KEY or KEY_FILE",
         commands=("--rotate", "--adopt", "--images")),
    Flag("--unset", "KEY", "reset to the default (may change with new releases)", commands=("--rotate",)),
    Flag("--preset", "NAME", "default, dev-mode or airgapped"),
    Flag("--auth-type", "TYPE", "email or username"),
    Flag("--non-interactive", "", "ask nothing (the default without a terminal)"),
    Flag("--plain", "", "ask line by line, without control sequences"),
    Flag("--no-prompt-secrets", "", "leave secrets that only you know for later"),
    Flag("--save-config", "", "also write deployment-config.yaml", commands=("--adopt",)),
    Flag("--with-secrets", "", "with --save-config or --export: with every secret",
         needs=("--export", "--save-config")),
    Flag("--renew-certificate", "", "issue the self-signed certificate again, now", commands=()),
    Flag("--on-conflict", "WORD", "for files edited by hand: ask, keep, replace or fail",
         choices=("ask", "keep", "replace", "fail"), commands=("--rotate", "--adopt")),
    Flag("--keep", "N", "how many backups to keep (10)"),
    Flag("--reset", "", "forget progress and answers; secrets and files stay", commands=()),
    Flag("--diff", "", "show what would change; exit 3 if anything would",
         commands=("--rotate", "--adopt", "--restore")),
    Flag("--dry-run", "", "the same; also for --rotate, --adopt and --restore",
         commands=("--rotate", "--adopt", "--restore")),
    Flag("--fill", "", "ask only for the values that are missing", _COMMANDS, is_command=True),
    Flag("--status", "", "show the progress; exit 3 if incomplete", _COMMANDS, is_command=True),
    Flag("--check", "", "check whether the stack would start; exit 3 if not", _COMMANDS, is_command=True),
    Flag("--host-check", "", "print a script that checks the host: pipe it into sh", _COMMANDS, is_command=True),
    Flag("--images", "", "list the images, and how to save and copy them", _COMMANDS, is_command=True),
    Flag("--invite", "EMAIL", "make a user of Avatar, and mail a sign-in link", _COMMANDS, is_command=True),
    Flag("--admin", "", "with --invite: an administrator", _COMMANDS, needs=("--invite",)),
    Flag("--online", "", "with --check or --invite: ask the running stack", _COMMANDS, needs=("--check", "--invite")),
    Flag("--rotate", "NAME", "new values for secrets, or a group such as sessions", _COMMANDS,
         is_command=True),
    Flag("--adopt", "DIR", "take over an existing deployment", _COMMANDS, is_command=True),
    Flag("--export", "FILE", "write the configuration to a file, or - to print it", _COMMANDS, is_command=True),
    Flag("--history", "", "list the backups, and what changed after each", _COMMANDS, is_command=True),
    Flag("--restore", "ID", "restore a backup", _COMMANDS, is_command=True),
    Flag("--yes", "", "confirm --rotate, --adopt or --restore", _COMMANDS),
    Flag("--i-have-reencrypted", "", "confirm a new key for encrypted data", _COMMANDS),
    Flag("--json", "", "answer in JSON", _ANY),
    Flag("--quiet", "", "show only errors", _ANY),
    Flag("--debug", "", "show where an internal error occurred", _ANY),
    Flag("--templates-dir", "DIR", "other templates", _ANY),
    Flag("--defaults-file", "FILE", "other defaults", _ANY),
    Flag("--version", "", "show the version", _ANY),
    Flag("--help", "", "show this help", _ANY),
)  # fmt: skip
_BY_NAME = {flag.name: flag for flag in FLAGS}


class CommandLine(NamedTuple):
    """The flags as they were given: every value by the name of its flag, "" for a switch."""

    given: dict[str, list[str]]

    def has(self, name: str) -> bool:
        """Tell whether a flag was given."""
        return name in self.given

    def value(self, name: str) -> str | None:
        """Return the last value of a flag, None if it was not given."""
        return self.given[name][-1] if name in self.given else None

    def values(self, name: str) -> tuple[str, ...]:
        """Return every value of a flag that may be repeated."""
        return tuple(self.given.get(name, ()))

    @property
    def command(self) -> str | None:
        """The flag that asks for something else than a run; a run of which only a preview is wanted is `--diff`."""
        for name in self.given:
            if _BY_NAME[name].is_command:
                return name
        return "--diff" if self.is_preview else None

    @property
    def is_preview(self) -> bool:
        """Whether nothing is to be written."""
        return self.has("--diff") or self.has("--dry-run")


def help_text() -> str:
    """Return the text of `--help`."""
    lines = ["usage: avatar-setup [options]"]
    for group in (_RUN, _COMMANDS, _ANY):
        lines += ["", f"{group}:"]
        for flag in FLAGS:
            if flag.group == group:
                lines.append(f"  {f'{flag.name} {flag.value}':21} {flag.help}")
    return "\n".join([*lines, "", _EXAMPLES])


def parse(words: Sequence[str]) -> CommandLine:
    """Parse the words of a command line; raise UsageError, which never repeats a value: it could be a secret."""
    given: dict[str, list[str]] = {}
    unknown: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        flag = _BY_NAME.get("--help" if word == "-h" else name)
        if flag is None:
            unknown.append(_describe_unknown(word))
            continue
        if equals and not flag.value:
            raise UsageError(f"{flag.name} takes no value (see --help)")
        if flag.value and not equals:
            value = _next_value(flag, left)
        given.setdefault(flag.name, []).append(value)
    if unknown:
        raise UsageError(f"unknown: {', '.join(unknown)} (see --help)")
    line = CommandLine(given)
    _check_values(line)
    _check_combinations(line)
    return line


def _next_value(flag: Flag, left: Iterator[str]) -> str:
    value = next(left, None)
    if value is None or (value.startswith("--") or value == "-h"):
        raise UsageError(f"{flag.name} needs a value: {flag.name} {flag.value} (see --help)")
    return value


def _describe_unknown(word: str) -> str:
    """Name the part of an unknown word that cannot be a value, and a flag that looks like it."""
    import difflib  # only a mistake pays for it

    if word.startswith("--") and len(word) > len("--"):
        name = word.partition("=")[0]
        known = name
    elif word.startswith("-"):
        name = word[:2]
        known = ""
    else:
        name = "a word without a flag"
        known = f"--{word}"
    close = difflib.get_close_matches(known, _BY_NAME, 1, 0.7)
    return f"{name}, did you mean {close[0]}?" if close else name


def _check_values(line: CommandLine) -> None:
    """Raise UsageError for values that are empty, or not one of the choices."""
    for name in line.given:
        flag = _BY_NAME[name]
        if flag.value in ("DIR", "FILE", "ID") and "" in line.values(name):  # an unset shell variable, most likely
            raise UsageError(f"{name} is given without a path: name one, or leave the flag out")
        if flag.choices and line.value(name) not in flag.choices:
            raise UsageError(f"{name} wants one of {', '.join(flag.choices)}")
    if "" in line.values("--rotate"):
        raise UsageError("--rotate wants a name or a group, as in --rotate sessions")


def _check_combinations(line: CommandLine) -> None:
    """Raise UsageError for two commands, and for flags that a command would ignore."""
    commands = [flag.name for flag in FLAGS if flag.is_command and line.has(flag.name)]
    if len(commands) > 1:
        raise UsageError(f"one command at a time: {' or '.join(commands)}")
    for name in line.given:
        flag = _BY_NAME[name]
        if flag.needs and not any(map(line.has, flag.needs)):
            raise UsageError(f"{name} goes with {' or '.join(flag.needs)}")
        if flag.commands is not None and commands and commands[0] not in flag.commands:
            raise UsageError(f"{name} does not go with {commands[0]}")


def caller_config(line: CommandLine) -> dict[str, str]:
    """Collect what the flags say about settings; raise UsageError, which never repeats a value."""
    config: dict[str, str] = {}
    for pair in line.values("--set"):
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
    _check_unset(line.values("--unset"))
    for flag, setting in (("--preset", "PRESET"), ("--auth-type", "AUTH_TYPE")):
        if line.has(flag):
            config[setting] = line.values(flag)[-1]
    return config


def _check_unset(keys: Iterable[str]) -> None:
    for key in keys:
        if key.lower() in SECRETS:
            raise UsageError(f"--unset {key.upper()}: a secret has no default to go back to; it stays as it is")
        if "=" in key:
            raise UsageError("--unset wants a KEY alone, as in --unset LOG_LEVEL")


def backups_to_keep(line: CommandLine, usual: int) -> int:
    """Return the number of --keep; raise UsageError."""
    text = line.value("--keep")
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 5 and int(text) > 0):
        raise UsageError("--keep wants a number from 1 to 9999, as in --keep 20")
    return int(text)
