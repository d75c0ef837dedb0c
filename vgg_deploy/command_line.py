"""Shows errors of the core as click does, and parses options that several commands have."""

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from vgg_deploy import __version__
from vgg_deploy.errors import InputError, VGGDeployError
from vgg_deploy.near_misses import did_you_mean
from vgg_deploy.number_bounds import LARGEST_CHANNEL_VALUE

if TYPE_CHECKING:
    ChoiceType = click.Choice[str]
else:
    ChoiceType = click.Choice  # earlier versions of click cannot be subscripted

# What a name itself causes, wherever it is looked up first
IMPOSSIBLE_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
Channels = tuple[float, float, float]  # of R, G and B


class ShownError(click.ClickException):
    """An error of the core in click's form: one sentence and an exit code, no traceback."""

    def __init__(self, error: VGGDeployError):
        super().__init__(error.message)
        self.exit_code = error.exit_code  # type: ignore[misc]  # click reads the instance's own


class Command(click.Command):
    """A command that shows errors of the core, and examples at the end of its help."""

    def __init__(
        self, *args: Any, examples: Sequence[tuple[str, str]] = (), **settings: Any
    ) -> None:
        """Define the command.

        Args:
            *args: Of `click.Command`.
            examples: Command lines, each with what it does.
            **settings: Of `click.Command`.
        """
        super().__init__(*args, **settings)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples: a command line is never wrapped, so that it can be copied."""
        super().format_epilog(ctx, formatter)
        if not self.examples:
            return
        with formatter.section("Examples"):
            for line, purpose in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
                formatter.indent()
                formatter.write_text(purpose)
                formatter.dedent()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            ShownError: For an error of the core, and for a name that no file can have.
        """
        try:
            return super().invoke(ctx)
        except VGGDeployError as error:
            raise ShownError(error) from None
        except OSError as error:
            if error.errno not in IMPOSSIBLE_NAMES or error.filename is None:
                raise
            reason = os.strerror(error.errno).lower()
            raise ShownError(InputError(f"{error.filename!s:.300}: {reason}; correct it")) from None


class Choice(ChoiceType):
    """One of some names; for another one the message guesses which was meant."""

    def __init__(self, choices: Iterable[str], synonyms: Mapping[str, str] | None = None):
        """Define the names.

        Args:
            choices: All of them.
            synonyms: See `did_you_mean`.
        """
        super().__init__(choices)
        self.synonyms = synonyms

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """The sentence about an unknown name."""
        message = super().get_invalid_choice_message(value, ctx).removesuffix(".")
        return f"{message}{did_you_mean(str(value), self.choices, self.synonyms)}"


def show_error(error: VGGDeployError, file: IO[str] | None = None) -> None:
    """Write an error as click does, in a process that must not end yet.

    Args:
        error: Of the core.
        file: Where to write it; standard error by default.
    """
    click.echo(f"Error: {error.message}", file=file or sys.stderr)


version_option = click.version_option(__version__, message="%(prog)s %(version)s")


def parse_channels(ctx: click.Context, param: click.Parameter, text: str | None) -> Channels | None:
    """Parse an option's "R,G,B", as a click callback.

    Returns:
        Three numbers; None if the option was not given.

    Raises:
        click.BadParameter: If the text is not three finite numbers.
    """
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.strip("()[] ").split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not three numbers; write R,G,B such as 0.485,0.456,0.406"
        ) from None
    if not all(abs(value) <= LARGEST_CHANNEL_VALUE for value in (red, green, blue)):  # nan neither
        raise click.BadParameter(
            f"{text!r} has a number that no channel can have; write R,G,B such as 0.485,0.456,0.406"
        )
    return red, green, blue


def split_names(text: str) -> tuple[str, ...]:
    """Names of a comma-separated list, each once, in their order.

    Example:
        >>> split_names("fc8, conv1_1,fc8,")
        ('fc8', 'conv1_1')
    """
    names = (part.strip() for part in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def split_known_names(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """As `split_names`, for a list whose names are known.

    Args:
        text: Comma-separated names.
        known: All names that exist.

    Raises:
        click.BadParameter: For another name.

    Example:
        >>> split_known_names("fp16,fp32", ("fp32", "fp16"))
        ('fp16', 'fp32')
    """
    names = split_names(text)
    for name in names:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is unknown; choose from {', '.join(known)}{did_you_mean(name, known)}"
            )
    return names


def split_whole_numbers(text: str, example: str, most: int, least: int = 1) -> tuple[int, ...]:
    """Numbers of a comma-separated list, each once, ascending.

    Args:
        text: Comma-separated whole numbers.
        example: A valid list, for the message.
        most: Largest number that is allowed.
        least: Smallest number that is allowed.

    Raises:
        click.BadParameter: For anything else.

    Example:
        >>> split_whole_numbers("384,256,384", "256,384,512", 8192)
        (256, 384)
    """
    try:
        numbers = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a list of whole numbers; write {example}"
        ) from None
    if numbers[0] < least or numbers[-1] > most:
        wrong = numbers[0] if numbers[0] < least else numbers[-1]
        raise click.BadParameter(f"{wrong} is out of range; write numbers from {least} to {most}")
    return numbers
