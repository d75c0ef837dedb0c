"""Draws the curves of a run or a chain: `python -m train.plot`."""

from pathlib import Path

import click

from train.hints import HINTS
from vgg_deploy.command_line import Command, say, version_option
from vgg_deploy.errors import hints, interruptible


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@version_option
@hints(HINTS)
@interruptible("nothing was changed")
def main(run: Path) -> None:
    """Draw loss, errors and learning rate of RUN, the folder of a run or chain, to curves.png."""
    from train.record.report_curves import check_matplotlib, curves_line

    check_matplotlib()
    say(f"Curves: {curves_line(run)}")


if __name__ == "__main__":
    main(prog_name="python -m train.plot")
