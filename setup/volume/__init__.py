"""The only door to the output directory."""

__all__ = ["atomic", "backups", "directories", "lock", "volume"]
