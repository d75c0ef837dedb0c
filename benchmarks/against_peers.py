"""Compares `python -m bench` with its peers, in turn, on the same photos, weights and cores.

    python benchmarks/against_peers.py --data FOLDER

1. crop: image files to top-1, the centre crop of Q 256: timm's validate.py and onnx_validate.py,
   torchvision's reference evaluation, a plain ONNX Runtime loop, Polygraphy's runner, OpenVINO in
   fp32, bf16 and int8.
2. dense: image files to top-1, whole images at Q 256, each of its own size: the plain loops in ONNX
   Runtime and OpenVINO, Polygraphy.
3. net: one random image per call: ONNX Runtime's session, OpenVINO's benchmark_app.

Every evaluation is a process of its own (a script of benchmarks/peers/, which can be run alone).
All run on the same cores, and each round runs all of them once. Times exclude imports and loading.
A peer that is not installed gets a row with the reason.
"""

import os
import tempfile
from pathlib import Path

import click
import pandas as pd
from peer_comparison.evaluations import VIEWS, select
from peer_comparison.prepare import RandomNet, Settings, model_files, random_net, write_photos
from peer_comparison.report import EXPLANATION, plot, tables
from peer_comparison.rounds import run_rounds
from peer_comparison.summary import summary
from result_tables import environment_block, write_csv

from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file, write_text
from vgg_deploy.net.checkpoint import load_checkpoint


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with val/<class>/*; without it built-in images.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, path_type=Path),
    help="Checkpoint (.pt) of A, B, D or E; without it random weights.",
)
@click.option("--arch", default="D")
@click.option("--width", default=1.0, help="Of random weights.")
@click.option("--images", default=32)
@click.option(
    "--enlarge",
    type=int,
    help="First rescale the photos to this shorter side, pixels; ILSVRC's is mostly 375.",
)
@click.option("--side", default=256, help="Q, pixels.")
@click.option("--batch", default=16)
@click.option("--threads", default=2)
@click.option("--calls", default=20, help="Of the view net.")
@click.option("--rounds", default=3)
@click.option("--views", default="crop,dense,net")
@click.option(
    "--only",
    help="Only rows with one of these comma-separated words in their name, and their references.",
)
@click.option("--short", is_flag=True, help="8 images, 5 calls, 1 round, crops and the net alone.")
@click.option(
    "--kept",
    default="build/peers",
    type=click.Path(path_type=Path),
    help="Folder of the nets, for the next run.",
)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    data: Path | None,
    weights: Path | None,
    arch: str,
    width: float,
    images: int,
    enlarge: int | None,
    side: int,
    batch: int,
    threads: int,
    calls: int,
    rounds: int,
    views: str,
    only: str | None,
    short: bool,
    kept: Path,
    out: Path,
) -> None:
    """Write peers.csv, peers_samples.csv, peers.md and peers.png."""
    if short:
        images, calls, rounds, views = 8, 5, 1, "crop,net"
    if unknown := set(views.split(",")) - set(VIEWS):
        raise InputError(
            f"--views {', '.join(sorted(unknown))}: unknown; choose from {', '.join(VIEWS)}"
        )
    # inherited by all processes that are started here
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    dataset = (open_dataset(data, "val") if data else built_in("val", images)).subset(images)
    selected = select(views.split(","), only.split(",") if only else [])
    names = {evaluation.file for of_view in selected.values() for evaluation in of_view}
    with tempfile.TemporaryDirectory() as scratch:
        photos = write_photos(dataset, enlarge, Path(scratch) / "photos")
        source = weights or random_net(RandomNet(arch, width), dataset, kept)
        files = model_files(names, source, photos, kept)
        spec = load_checkpoint(source).spec
        title = (
            f"# VGG-{spec.arch} against peers\n\nWidth {spec.width:g}, "
            f"{f'weights {weights.name}' if weights else 'random weights'}, {len(dataset)} images, "
            f"{threads} threads on as many cores"
        )
        settings = Settings(files, photos, side, batch, threads, calls)
        # written after each round, because rounds are long
        for samples in run_rounds(selected, settings, rounds):
            text = write_results(samples, title, settings, out)
    print(text)


def write_results(samples: pd.DataFrame, title: str, settings: Settings, out: Path) -> str:
    """Write tables and plot of the rounds so far.

    Returns:
        The text of peers.md.
    """
    rows = summary(samples)
    rounds = samples["round"].max() + 1
    text = (
        f"{title}, {rounds} rounds in turn: {EXPLANATION}\n\n{tables(rows, settings.side)}\n\n"
        f"![images/s](peers.png)\n\n{environment_block(settings.threads)}"
    )
    write_csv(rows, out / "peers.csv")
    write_csv(samples.drop(columns="predictions"), out / "peers_samples.csv")
    write_text(out / "peers.md", text)
    with whole_file(out / "peers.png") as partial:
        plot(rows, settings.side).savefig(partial, format="png", dpi=150, facecolor="white")
    return text


if __name__ == "__main__":
    main()
