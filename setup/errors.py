"""The few ways a run ends early, named by who must act; `cli` holds their only handler."""

from __future__ import annotations


class SetupError(Exception):
    """A run that cannot go on; every problem is a sentence for the operator, with what to type."""

    exit_code = 70
    kind = "bug"

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InputError(SetupError):
    """What the operator gave cannot be used: all problems of all sources at once."""

    exit_code = 1
    kind = "input"


class VolumeError(SetupError):
    """The volume, or a file on it, needs the operator's attention."""

    exit_code = 1
    kind = "volume"


class UsageError(SetupError):
    """The command line is wrong."""

    exit_code = 2
    kind = "usage"


class NotComplete(SetupError):
    """The operator left before the end; what was answered is saved."""

    exit_code = 3
    kind = "not-complete"


class Interrupted(SetupError):
    """The operator left in the middle of a question, by Ctrl-C, Ctrl-D or a closed terminal."""

    exit_code = 130
    kind = "interrupted"


class DecisionNeeded(SetupError):
    """Going on would lose something that only the operator may give up."""

    exit_code = 4
    kind = "decision"


class Busy(SetupError):
    """Another run is writing to this volume."""

    exit_code = 4
    kind = "busy"
