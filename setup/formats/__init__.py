"""Text formats that are read or written: bytes in, data out; no disk."""

__all__ = ["compose_file", "dotenv", "dotenv_merge", "yaml_file"]
