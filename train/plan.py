"""Shows the stages of a chain and the time they take: `python -m train.plan`."""

from pathlib import Path
from typing import Any

import click

from train.hints import HINTS
from train.options import option_groups as groups
from train.options.machine_options import MachineOptions, joined_job
from train.options.request import TrainRequest, refuse_contradictions
from train.recipe.recipe_options import RecipeOptions
from train.recipe.stages import FineTune
from vgg_deploy.command_line import Command, version_option
from vgg_deploy.errors import hints, interruptible


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("run", required=False)
@groups.net_options
@groups.data_option("; with RUN the folder to which its images were moved")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the chain.  [default: runs/<chain>]",
)
@groups.recipe_options
@groups.fine_tune_options
@groups.images_option
@groups.device_option
@groups.threads_option
@groups.workers_option
@groups.on_error_option
@version_option
@hints(HINTS)
@interruptible("nothing was changed")
def main(
    run: str | None,
    arch: str,
    chain: str | None,
    stage: str | None,
    data: str | None,
    out: Path | None,
    fine_tune_epochs: int | None,
    fine_tune_lr: float | None,
    images: int | None,
    device: str | None,
    threads: int | None,
    workers: int | None,
    on_error: str,
    **recipe: Any,  # fields of RecipeOptions, checked by the types of their options
) -> None:
    """Show a chain's stages, what is done and the time the rest takes. Trains nothing.

    Name the folder RUN of a chain that was started, or "newest"; or give the options of
    python -m train that would start it, such as --chain paper --arch D.
    """
    request = TrainRequest(
        arch=arch,
        chain=chain or ("one-scale" if arch == "all" else None),
        stage=stage,
        data=data,
        out=out,
        images=images,
        recipe=RecipeOptions(**recipe),
        fine_tune=FineTune(fine_tune_epochs, fine_tune_lr),
    )
    if run and (request.recipe.given() or request.chain or stage or out or images):
        raise click.UsageError("RUN has a recipe of its own; leave the options of a recipe out")
    if not (run or request.chain):
        raise click.UsageError("name the folder of a chain, or add --chain paper")
    refuse_contradictions(request, plan_only=True, resumed=run is not None)
    machine = MachineOptions(device, threads, workers, on_error)
    with joined_job(machine) as settings, hints(HINTS):
        from train import command

        command.plan(request, run, settings)


if __name__ == "__main__":
    main(prog_name="python -m train.plan")
