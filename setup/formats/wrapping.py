"""Drop what other tools put around a value: a byte order mark before it, and one line end after it."""


def unwrap(text: str) -> str:
    """Return a value as its author meant it.

    An editor or a shell ends a line that nobody typed into the value, as LF, CRLF or CR; some write a mark before it.
    A second line end may be part of the value, and stays to be refused.
    """
    text = text.removeprefix("\ufeff")
    for end in ("\r\n", "\n", "\r"):
        if text.endswith(end):
            return text.removesuffix(end)
    return text


def is_quoted(text: str) -> bool:
    """Tell whether equal quotes surround a value."""
    value = unwrap(text)
    return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
