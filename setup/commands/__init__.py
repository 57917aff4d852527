"""One module for each command of the command line."""

__all__ = [
    "adopt",
    "check",
    "diff",
    "export",
    "fill",
    "history",
    "host_check",
    "images",
    "invite",
    "restore",
    "rotate",
    "status",
]
