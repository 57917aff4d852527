"""Secrets: read them, plan their values, refuse what would lose or contradict one, and rotate them."""

__all__ = ["guards", "plan", "rotation", "store"]
