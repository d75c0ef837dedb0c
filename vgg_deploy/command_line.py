"""Shows errors of the core as click does, and parses options that several commands have."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from vgg_deploy import __version__, faults
from vgg_deploy.errors import CheckFailed, InputError, VGGDeployError, interrupted
from vgg_deploy.impossible_names import impossible_names_refused
from vgg_deploy.memory_faults import ADVICE, memory_ran_out
from vgg_deploy.near_misses import did_you_mean
from vgg_deploy.number_bounds import LARGEST_CHANNEL_VALUE
from vgg_deploy.printable import printable
from vgg_deploy.standard_streams import FULL, exit_code, failed_stream, open_missing_streams
from vgg_deploy.stop_signals import end_at_signals, stopped_by_signals

if TYPE_CHECKING:
    ChoiceType = click.Choice[str]
else:
    ChoiceType = click.Choice  # earlier versions of click cannot be subscripted

Channels = tuple[float, float, float]  # of R, G and B


class ShownError(click.ClickException):
    """An error of the core in click's form: one sentence and an exit code, no traceback."""

    def __init__(self, error: VGGDeployError):
        super().__init__(shown_message(error))
        self.exit_code = error.exit_code  # type: ignore[misc]  # click reads the instance's own


class Command(click.Command):
    """A command that shows errors of the core, and examples at the end of its help.

    It ends in order whatever happens: at signals, at standard streams that cannot be written, and
    at faults of the program itself.
    """

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

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        """Parse the words, with the ends of `invoke`."""
        with _shown_ends():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            ShownError: For an error of the core, a signal, or a name that no file can have.
        """
        with _shown_ends():
            _refuse_lost_folder()
            return super().invoke(ctx)

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command as a process of its own, which ends with an exit code.

        Raises:
            SystemExit: With that code.
        """
        if not settings.get("standalone_mode", True):
            return super().main(*args, **settings)
        open_missing_streams()
        code: Any = 0
        try:
            with stopped_by_signals():
                super().main(*args, **settings)
        except SystemExit as end:
            code = end.code
        except KeyboardInterrupt as stop:  # before or after the command's own work
            error = interrupted(stop, "nothing was under way")
            show_error(error)
            code = error.exit_code
        except Exception as error:
            code = _unexpected_end(error)
        if failed := failed_stream():
            code = _stream_end(*failed)
        end_at_signals(code if isinstance(code, int) else 0 if code is None else 1)
        sys.exit(code)


def _unexpected_end(error: Exception) -> int:
    """Show an error that nobody expected; returns the exit code."""
    if memory_ran_out(error):
        wanting = CheckFailed("memory ran out", ADVICE)
        show_error(wanting)
        return wanting.exit_code
    if failed_stream() is None:
        click.echo(f"Error: {faults.fault_sentence(error, __version__)}", err=True)
    return faults.EXIT_CODE


@contextmanager
def _shown_ends() -> Iterator[None]:
    """Turn what ends a command into what click shows, or an exit code.

    Raises:
        ShownError: For an error of the core, a signal, or a name that no file can have.
        SystemExit: Where a standard stream cannot be written.
    """
    try:
        with impossible_names_refused():
            yield
    except VGGDeployError as error:
        raise ShownError(error) from None
    except KeyboardInterrupt as stop:
        raise ShownError(interrupted(stop, "nothing was under way")) from None
    except ShownError:
        raise
    except click.ClickException as error:  # click's own lists have lines that begin with a tab
        lines = map(printable, error.message.split("\n\t"))
        error.message = "\n\t".join(lines)  # type: ignore[misc]
        raise
    except OSError:
        if failed := failed_stream():
            sys.exit(_stream_end(*failed))
        raise


def _refuse_lost_folder() -> None:
    """Libraries that are imported later end the process without a word if it has no folder.

    Raises:
        InputError: If the working directory has been removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise InputError(
            f"the working directory cannot be found ({reason}); change to another one"
        ) from None


def _stream_end(name: str, error: OSError) -> int:
    """Say that a stream cannot be written, unless its reader has left; returns the exit code."""
    code = exit_code(error)
    if code == FULL:
        click.echo(
            f"Error: {name} cannot be written ({error.strerror}); send it somewhere else", err=True
        )
    return code


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
    click.echo(f"Error: {shown_message(error)}", file=file or sys.stderr)


def shown_message(error: VGGDeployError) -> str:
    """The sentence of an error on one line, whatever names it has, and its details below."""
    sentence = printable(error.message)
    return f"{sentence}\n\n{error.details}" if error.details else sentence


def say(line: str, err: bool = False) -> None:
    """Print one line, whatever names it has.

    Args:
        line: The text.
        err: Whether it goes to standard error.
    """
    click.echo(printable(line), err=err)


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
