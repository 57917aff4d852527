"""Plan, guard and rotate the deployment's secrets."""

__all__ = ["guards", "plan", "rotation"]
