"""The engine: plan, render and commit one deployment."""

__all__ = [
    "baseline",
    "diff",
    "options",
    "planner",
    "reconcile",
    "redact",
    "session",
    "steps",
    "summary",
    "templates",
    "transaction",
]
