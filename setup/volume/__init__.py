"""The only door to the output directory."""

__all__ = ["atomic", "backups", "directories", "layout", "lock", "volume"]
