"""What one run is asked to do: one record, made from the flags or from a caller's parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from setup.deploy.reconcile import Conflict, OnConflict
from setup.deploy.steps import Ask
from setup.typed import NamedTuple
from setup.volume import backups


class RunOptions(NamedTuple):
    """Everything that shapes a run besides its settings and secrets."""

    interactive: bool = True  # ask, if a person is at a terminal
    plain: bool = False  # ask line by line
    quiet: bool = False
    config_file: str | None = None
    unset: tuple[str, ...] = ()
    save_config: bool = False
    with_secrets: bool = False  # in the saved or exported configuration
    prompt_secrets: bool = True
    reset: bool = False
    renew_certificate: bool = False
    on_conflict: OnConflict | None = None
    keep: int = backups.LAST  # so many backups
    dry_run: bool = False
    confirmed: bool = False  # by --yes
    reencrypted: bool = False  # the operator has re-encrypted the data of the key to rotate
    # Filled in by the commands, not by flags:
    fill: bool = False  # ask only for what is missing
    rotated: frozenset[str] = frozenset()  # secrets that get another value
    adopts: bool = False  # a state of another tool counts as none
    runs: Mapping[str, str] = {}  # the settings by which files that were edited by hand run already
    reason: backups.Reason = backups.Reason()  # why a backup is saved


class Asker(NamedTuple):
    """How a run reaches the person at the terminal.

    `ask` is for a setting or secret, `ask_for_more` for whether to ask what has a default, `decide` for an edited file.
    """

    ask: Ask
    ask_for_more: Callable[[], bool | str]
    decide: Callable[[Conflict], OnConflict]
