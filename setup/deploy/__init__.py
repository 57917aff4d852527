"""The engine: plan, render and commit one deployment."""

__all__ = [
    "baseline",
    "diff",
    "ending",
    "options",
    "planner",
    "reconcile",
    "redact",
    "session",
    "steps",
    "summary",
    "targets",
    "templates",
    "transaction",
]
