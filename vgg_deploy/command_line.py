"""Shows errors of the core as click does, and parses options that several commands have."""

import sys
from importlib.metadata import version
from typing import IO, Any

import click

from vgg_deploy.errors import VGGDeployError

Channels = tuple[float, float, float]  # of R, G and B


class ShownError(click.ClickException):
    """An error of the core in click's form: one sentence and an exit code, no traceback."""

    def __init__(self, error: VGGDeployError):
        super().__init__(error.message)
        self.exit_code = error.exit_code  # type: ignore[misc]  # click reads the instance's own


class Command(click.Command):
    """A command that shows errors of the core."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            ShownError: For an error of the core.
        """
        try:
            return super().invoke(ctx)
        except VGGDeployError as error:
            raise ShownError(error) from None


def show_error(error: VGGDeployError, file: IO[str] | None = None) -> None:
    """Write an error as click does, in a process that must not end yet.

    Args:
        error: Of the core.
        file: Where to write it; standard error by default.
    """
    click.echo(f"Error: {error.message}", file=file or sys.stderr)


version_option = click.version_option(version("vgg-deploy"), message="%(prog)s %(version)s")


def parse_channels(ctx: click.Context, param: click.Parameter, text: str | None) -> Channels | None:
    """Parse an option's "R,G,B", as a click callback.

    Returns:
        Three numbers; None if the option was not given.

    Raises:
        click.BadParameter: If the text is not three numbers.
    """
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.strip("()[] ").split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not three numbers; write R,G,B such as 0.485,0.456,0.406"
        ) from None
    return red, green, blue
