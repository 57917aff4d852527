"""The engine: plan, render and commit one deployment."""

__all__ = [
    "baseline",
    "diff",
    "planner",
    "reconcile",
    "redact",
    "render",
    "report",
    "session",
    "steps",
    "summary",
    "targets",
    "transaction",
]
