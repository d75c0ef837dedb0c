"""Runs commands as a user does."""

from click.testing import CliRunner


def run(command, *args, code=0) -> str:
    """Run a command as a user does.

    Args:
        command: A click command.
        args: Its words.
        code: The exit code it must end with.

    Returns:
        Its output on one line, with single spaces.
    """
    result = CliRunner().invoke(command, [str(a) for a in args])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    assert code == 0 or "Traceback" not in result.output
    return " ".join(result.output.split())
