"""Text formats that are read or written: bytes in, data out; no disk."""

__all__ = ["compose_file", "digests", "dotenv", "dotenv_merge", "quoting", "wrapping", "yaml_file"]
