"""The command vgg-bench history: folders of results in, one page and one table out."""

from pathlib import Path

import click

from vgg_deploy.command_line import Command, say
from vgg_deploy.errors import interruptible

KEPT = "no file was written"


@click.command(
    "history",
    cls=Command,
    context_settings={"show_default": True},
    examples=(
        ("vgg-bench history results-1.1 results-1.2 results-1.3", "three runs"),
        ("vgg-bench history nightly/", "all results in the subfolders of one folder"),
    ),
)
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--out",
    default="history",
    type=click.Path(path_type=Path),
    help="Folder of history.html and history.csv.",
)
@interruptible(KEPT)
def main(folders: tuple[Path, ...], out: Path) -> None:
    """Draw error, speed, size and memory of several runs of vgg-bench, in order of their time.

    DIR is the --out of a run, or a folder of such folders. Runs carry the commit of the folder they
    were started in. Speeds and memory of one kind of machine make one line, errors on the same
    images too; nothing else is joined.
    """
    from bench.history.write import write_history

    for line in write_history(folders, out):
        say(line)
