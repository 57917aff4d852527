"""Configures one Avatar deployment; `python -m setup` starts it."""

__version__ = "0.1.0"
