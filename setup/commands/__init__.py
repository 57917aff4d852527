"""One module for each command of the command line."""

__all__ = [
    "adopt",
    "diff",
    "export",
    "history",
    "registry",
    "restore",
    "rotate",
]
