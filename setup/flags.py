"""The command line's flags: their help, their parser, and what they say about settings."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from setup.config.secrets import SECRETS
from setup.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = """\
usage: avatar-setup [options]

Configure, or change what is configured:
  --output-dir DIR     where the deployment is written (in the image: /out)
  --config FILE        settings and secrets from a YAML file
  --set KEY=VALUE      one setting, as in docs/settings.md; repeat for more
  --unset KEY          back to the default, which moves with releases
  --preset NAME        default, dev-mode or airgapped
  --auth-type TYPE     email or username
  --non-interactive    ask nothing (so it is without a terminal)
  --plain              ask line by line, without control sequences
  --no-prompt-secrets  leave secrets that only you know for later
  --save-config        also write deployment-config.yaml; --with-secrets with
                       every secret in it
  --renew-certificate  issue the self-signed certificate again, now
  --on-conflict WORD   when a file that was edited by hand would change: ask (in
                       a terminal), keep it with the new text beside it, replace
                       it, fail
  --keep N             how many dated copies to keep (10)
  --reset              forget progress and answers; secrets and files stay
  --diff, --dry-run    only say what would change, secrets as fingerprints; exit
                       3 if something would; also with the verbs that change

Instead of that, one of:
  --status             say how far the configuration is; exit 3 if incomplete
  --check              say whether this would boot, changing nothing; exit 3 if
                       not; --online asks the network too
  --rotate NAME        new values for secrets, or for a group such as sessions;
                       says what breaks, and wants it confirmed
  --adopt DIR          take over a deployment made by hand or by another tool;
                       says what changes, and wants it confirmed
  --export FILE        the same file, or - for standard output, and no change
  --history            the dated copies, and what changed after each
  --restore ID         bring one back; --yes also secrets that data is bound to

  --yes                is the confirmation; for a key of encrypted data also
                       --i-have-reencrypted
  --json, --quiet      answer in JSON; say only errors (--debug: where it was)
  --templates-dir DIR, --defaults-file FILE    other templates or defaults
  --version, --help

Every setting is also an environment variable; KEY_FILE names a file with it.
  docker run -it --rm -v /app/avatar:/out avatar-setup
  docker run --rm -v /app/avatar:/out -e PUBLIC_URL=avatar.example.com \\
    -e ENV_NAME=example-prod avatar-setup --preset airgapped
  docker run --rm -v /app/avatar:/out avatar-setup --status
"""

# What a run may do instead of configuring, one at a time; `verbs` holds the functions of these names.
VERBS = ("status", "check", "export", "rotate", "adopt", "history", "restore")
CHANGING = ("rotate", "adopt", "restore")  # those that change the deployment
# What tells a run what to change, and the verbs that take it too.
OF_A_RUN = {
    "--set": ("rotate", "adopt"),
    "--unset": ("rotate",),
    "--reset": (),
    "--save-config": ("adopt",),
    "--renew-certificate": (),
    "--on-conflict": ("rotate", "adopt"),
}
SWITCHES = (
    *("--help", "--version", "--json", "--quiet", "--debug"),
    *("--reset", "--non-interactive", "--no-prompt-secrets", "--save-config", "--plain", "--with-secrets"),
    *("--renew-certificate", "--yes", "--i-have-reencrypted", "--online", "--diff", "--dry-run"),
)
VALUES = (
    *("--config", "--preset", "--auth-type", "--templates-dir", "--defaults-file", "--export", "--adopt"),
    *("--on-conflict", "--keep", "--restore"),
)
ON_CONFLICT = ("ask", "keep", "replace", "fail")
REPEATED = ("--set", "--unset", "--rotate")


argparse._ = str  # type: ignore[attr-defined]  # it has no translations, and looking for them imports `locale`


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
    for flag in (*SWITCHES, *(f"--{verb}" for verb in VERBS if f"--{verb}" not in (*VALUES, *REPEATED))):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-h", dest="help", action="store_true")
    for flag in VALUES:
        parser.add_argument(flag)
    for flag in REPEATED:
        parser.add_argument(flag, action="append", default=[])
    parser.add_argument("--output-dir", default=".")
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UsageError(f"unknown: {', '.join(map(_flag_of, unknown))} (see --help)")
    for name in ("output_dir", "config", "templates_dir", "defaults_file", "export", "adopt", "restore"):
        if getattr(known, name) == "":  # an unset shell variable, most likely
            raise UsageError(f"--{name.replace('_', '-')} is given without a path: name one, or leave the flag out")
    if "" in known.rotate:
        raise UsageError("--rotate wants a name or a group, as in --rotate sessions")
    if known.with_secrets and not (known.export or known.save_config):
        raise UsageError("--with-secrets goes with --export or --save-config")
    if known.on_conflict not in (None, *ON_CONFLICT):
        raise UsageError(f"--on-conflict wants one of {', '.join(ON_CONFLICT)}")
    known.dry_run = known.dry_run or known.diff
    _require_one_verb(known)
    return known


def _require_one_verb(known: argparse.Namespace) -> None:
    """Raises UsageError for two verbs, and for flags that the one would swallow in silence."""
    if known.online and not known.check:
        raise UsageError("--online goes with --check")
    asked = [verb for verb in VERBS if getattr(known, verb)]
    if len(asked) > 1:
        raise UsageError(f"one at a time: --{' or --'.join(asked)}")
    for verb in asked:
        for flag, verbs in OF_A_RUN.items():
            if verb not in verbs and getattr(known, flag[2:].replace("-", "_")):
                raise UsageError(f"{flag} does not go with --{verb}")
        if known.dry_run and verb not in CHANGING:
            raise UsageError(f"--dry-run goes with what writes; --{verb} changes nothing of the deployment")


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
    for key in options.unset:
        if key.lower() in SECRETS:
            raise UsageError(f"--unset {key.upper()}: a secret has no default to go back to; it stays as it is")
        if "=" in key:
            raise UsageError("--unset wants a KEY alone, as in --unset LOG_LEVEL")
    if options.preset is not None:
        config["PRESET"] = options.preset
    if options.auth_type is not None:
        config["AUTH_TYPE"] = options.auth_type
    return config


def copies_to_keep(options: argparse.Namespace, usual: int) -> int:
    """The number behind --keep; raises UsageError."""
    if options.keep is None:
        return usual
    if not (options.keep.isascii() and options.keep.isdigit() and int(options.keep[:6]) > 0 and len(options.keep) < 5):
        raise UsageError("--keep wants a number from 1 to 9999, as in --keep 20")
    return int(options.keep)
