"""The checks behind `--check`: each returns findings, reads only, and never shows a secret."""

__all__ = ["network", "run"]
