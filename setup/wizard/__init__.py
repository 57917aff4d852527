"""Questions to the operator, in sections, with help, a way back and a review before anything is written."""

__all__ = ["confirm", "dialogue", "questions"]
