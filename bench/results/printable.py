"""Makes names of files and classes safe to show."""


def printable(text: str) -> str:
    r"""Replace control characters and broken Unicode, which file names may contain.

    Such a name could forge lines of a log, send commands to a terminal, or break XML.

    Example:
        >>> printable("a\nb") == "a\N{REPLACEMENT CHARACTER}b"
        True

    Args:
        text: Any text.
    """
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
