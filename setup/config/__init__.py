"""Settings and secrets: what exists, what was given, what it resolves to."""

__all__ = [
    "advice",
    "config_file",
    "derived",
    "engines",
    "model",
    "releases",
    "resolver",
    "rules",
    "secrets",
    "services",
    "settings",
    "sources",
    "types",
    "values",
]
