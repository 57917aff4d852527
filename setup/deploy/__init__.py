"""The engine: plan, render and commit one deployment."""

__all__ = [
    "baseline",
    "diff",
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
