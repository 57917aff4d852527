"""Every way a run ends early, named by who must act, and every exit code; `cli` holds the only handler."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller; `__main__` needs the last two before anything can be imported."""

    DONE = 0
    ATTENTION = 1
    USAGE = 2
    NOT_COMPLETE = 3
    DECISION = 4
    INTERNAL = 70
    INTERRUPTED = 130
    TERMINATED = 143


class SetupError(Exception):
    """A run that cannot go on; every problem is a sentence for the operator, with what to type."""

    exit_code = ExitCode.INTERNAL
    kind = "bug"

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InputError(SetupError):
    """The operator's input cannot be used: all problems of all sources at once."""

    exit_code = ExitCode.ATTENTION
    kind = "input"


class VolumeError(SetupError):
    """The volume, or a file on it, needs the operator's attention."""

    exit_code = ExitCode.ATTENTION
    kind = "volume"


class NetworkError(SetupError):
    """The running stack does not answer, or not as it should."""

    exit_code = ExitCode.ATTENTION
    kind = "network"


class UsageError(SetupError):
    """The command line is wrong."""

    exit_code = ExitCode.USAGE
    kind = "usage"


class NotComplete(SetupError):
    """The operator quit before the last question; the answers so far are saved."""

    exit_code = ExitCode.NOT_COMPLETE
    kind = "not-complete"


class Interrupted(SetupError):
    """The operator left during a question, by Ctrl-C, Ctrl-D or a closed terminal."""

    exit_code = ExitCode.INTERRUPTED
    kind = "interrupted"


class DecisionNeeded(SetupError):
    """Going on would lose something that only the operator may give up."""

    exit_code = ExitCode.DECISION
    kind = "decision"


class Busy(SetupError):
    """Another run is writing to this volume."""

    exit_code = ExitCode.DECISION
    kind = "busy"
