"""`--adopt`: take over a deployment that avatar-setup did not write."""

__all__ = ["command"]
