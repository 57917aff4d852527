"""Interactive questions."""

__all__ = ["confirm", "dialogue", "plain", "prompt", "questions", "terminal"]
