"""One module for each command of the command line."""

__all__ = [
    "adopt",
    "adopt_interpret",
    "adopt_plan",
    "adopt_source",
    "diff",
    "export",
    "history",
    "registry",
    "restore",
    "restore_plan",
    "rotate",
]
