"""Settings and secrets: what exists, what was given, what it resolves to."""

__all__ = [
    "advice",
    "config_file",
    "derived",
    "model",
    "resolver",
    "rules",
    "secrets",
    "settings",
    "sources",
    "types",
    "values",
]
