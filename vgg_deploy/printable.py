"""Makes names of files and classes safe to show, and to keep in CSV files."""

import json

REPLACED = "\N{REPLACEMENT CHARACTER}"
FORMULA = ("=", "+", "-", "@")  # with these, spreadsheets begin a formula
WORKFLOW_COMMANDS = ("::", "##[")  # of GitHub: at the start of a line, and anywhere in it


def printable(text: str) -> str:
    r"""Replace control characters, broken Unicode and the marks of a CI server's commands.

    A name of a file may contain them. It could forge lines of a log, send commands to a terminal
    or to a CI server, or break XML.

    Example:
        >>> printable("a\nb") == "a\N{REPLACEMENT CHARACTER}b"
        True
        >>> printable("::error::x.jpg") == "\N{REPLACEMENT CHARACTER}:error::x.jpg"
        True

    Args:
        text: Any text.
    """
    at_start, anywhere = WORKFLOW_COMMANDS
    shown = "".join(char if char.isprintable() else REPLACED for char in text)
    words = shown.lstrip(" " + REPLACED)
    if words.startswith(at_start):
        shown = shown[: len(shown) - len(words)] + REPLACED + words[1:]
    return shown.replace(anywhere, f"#{REPLACED}[")


def csv_text(text: str) -> str:
    r"""A name as it stands in a CSV file: itself, or as a JSON string if it could do harm there.

    Harm do names that a spreadsheet takes for a formula, control characters and line breaks,
    broken Unicode, and marks of a CI server's commands. `json.loads` gives the name back. A name
    that itself begins with a quotation mark is written as JSON too, so a cell that begins with
    one always is JSON.

    Example:
        >>> csv_text("disc"), csv_text("=1+1"), csv_text("a\nb"), csv_text('"x"')
        ('disc', '"=1+1"', '"a\\nb"', '"\\"x\\""')

    Args:
        text: Any text.
    """
    harmless = text.lstrip()[:1] not in (*FORMULA, '"') and printable(text) == text
    return text if harmless else json_text(text)


def json_text(content: object, indent: int | None = None) -> str:
    """JSON in ASCII, without marks of a CI server's commands.

    Args:
        content: What JSON can hold.
        indent: Spaces of a level; on one line without it.
    """
    text = json.dumps(content, indent=indent)
    return text.replace("\x7f", "\\u007f").replace("##[", "##\\u005b")
