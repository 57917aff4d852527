"""The only door to the output directory."""

__all__ = ["backups", "layout", "lock", "volume"]
