"""A command that is another one if its first word says so: vgg-bench history DIR.

click's groups need a subcommand always; here the words without one are the command's own.
"""

from collections.abc import Mapping
from typing import Any

import click

from bench.gate.refused import GateCommand


class FirstWords(GateCommand):
    """A command with others behind some first words. A file of such a name is written ./NAME."""

    def __init__(
        self, *args: Any, others: Mapping[str, click.Command] | None = None, **settings: Any
    ):
        """Define the command.

        Args:
            *args: Of `GateCommand`.
            others: Commands by their first word.
            **settings: Of `GateCommand`.
        """
        super().__init__(*args, **settings)
        self.others = dict(others or {})

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the words, by the command that the first one names.

        Args:
            info_name: How the program was called.
            args: The words.
            parent: Of click.
            **extra: Of click.
        """
        other = self.others.get(args[0]) if args else None
        if other is None:
            return super().make_context(info_name, args, parent, **extra)
        name = f"{info_name} {args[0]}" if info_name else args[0]
        return other.make_context(name, args[1:], parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command whose words they were.

        Args:
            ctx: Of `make_context`.
        """
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)
