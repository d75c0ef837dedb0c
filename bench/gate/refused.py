"""Withdraws an earlier verdict of the gate if a command line that asks for a gate is refused.

Options are read before anything else happens. Without this, a mistake in one of them would leave
the green gate.json of an earlier run, and a CI job would publish it as the verdict of this run.
"""

from pathlib import Path

import click
from click.core import ParameterSource

from vgg_deploy.command_line import Command

GATE_OPTIONS = (
    "max_top1_drop",
    "max_top5_drop",
    "min_agreement",
    "max_top1_error",
    "max_posterior_difference",
    "max_left_out",
    "max_box_drop",
    "min_spearman",
    "max_distance_error",
    "max_slowdown",
    "max_memory",
    "max_size",
    "gate_rows",
    "undecided",
)


class GateCommand(Command):
    """A command with a gate and an option --out; see the module."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options.

        Args:
            ctx: Takes the options.
            args: The command line.

        Raises:
            click.ClickException: For options that cannot be read.
        """
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.ClickException as error:
            self._withdraw(given, error)
            raise

    def _withdraw(self, args: list[str], error: click.ClickException) -> None:
        """Read again what can be read, to find the folder."""
        lenient = click.Context(
            self, resilient_parsing=True, ignore_unknown_options=True, allow_extra_args=True
        )
        super().parse_args(lenient, args)
        withdraw(lenient, error)


def withdraw(ctx: click.Context, error: click.ClickException) -> None:
    """Replace an earlier verdict in the folder of --out by the error, if any option is of a gate.

    Args:
        ctx: With the options of the command line, as far as they could be read.
        error: Why the command line was refused.

    Raises:
        InputError: If the earlier verdict cannot be replaced.
    """
    asked = [ctx.get_parameter_source(name) for name in GATE_OPTIONS]
    out = ctx.params.get("out")
    if out is None or ParameterSource.COMMANDLINE not in asked:
        return
    # here, because they load numpy, which --help should not wait for
    from bench.gate.verdict_files import withdraw_verdict
    from bench.results.results_folder import new_run_id

    withdraw_verdict(Path(out), error.format_message(), new_run_id())
