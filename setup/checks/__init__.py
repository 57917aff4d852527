"""The checks behind --check."""

__all__ = ["consistency", "network", "run", "volume"]
