"""A command as a user gives it."""

from click.testing import CliRunner


def run(command, *args, code=0) -> str:
    """A command as a user gives it; what it says, with its line breaks and tables' spaces taken out."""
    result = CliRunner().invoke(command, [str(a) for a in args])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    assert code == 0 or "Traceback" not in result.output
    return " ".join(result.output.split())
