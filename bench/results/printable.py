"""Names of files and classes as they may be shown."""


def printable(text: str) -> str:
    """Replace control characters and broken Unicode, which file names may hold.

    A name could else forge lines of a log, send commands to a terminal, or break XML.
    """
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
