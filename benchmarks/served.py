"""Measures a real Triton server under load: photos in, posteriors out.

    .ci/server .server
    python benchmarks/served.py exported/D.fp32.onnx --photos photos --server .server

Open loop with Poisson arrivals: a request is sent when it is due, however many are unanswered, and
its latency counts from that time. The server, its models and the load generator share the machine's
cores, and all requests go over loopback. The knee is the highest load whose p99 stays below a
multiple of the median latency without load.
"""

import tempfile
from io import BytesIO
from pathlib import Path

import click
import numpy as np
import pandas as pd
import result_tables
import torch
from PIL import Image
from result_rows import ResultRows
from serving.open_loop import counts, one_at_a_time, send
from serving.plot import plot
from serving.server import Server, running

from export.release import ExportOptions, export_onnx
from export.settings.serving import VIEW_NAMES, ServingOptions
from export.tensorrt.triton import write_repository
from vgg_deploy.data.directory import files_below, is_image
from vgg_deploy.files import whole_file
from vgg_deploy.load_curve.arrivals import poisson_arrivals
from vgg_deploy.load_curve.knee import knee
from vgg_deploy.load_curve.measures import LoadPoint, load_point, nearest_rank
from vgg_deploy.machine import available_cores
from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec

SHARES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)  # of the throughput of a full queue
SHORT_SHARES = (0.2, 0.6, 1.2)
SIZES = ((500, 375), (375, 500), (500, 333), (500, 375))  # of photos that are made here
TABLE = {
    "view": "view",
    "offered /s": "offered:.1f",
    "requests": "requests",
    "failed": "failed",
    "answers /s": "throughput:.1f",
    "p50 ms": "p50_ms:.1f",
    "p99 ms": "p99_ms:.1f",
    "limit ms": "limit_ms:.1f",
    "images per call of the net": "images_per_call:.2f",
    "generator late ms": "late_ms:.1f",
}


def thin_file(folder: Path) -> Path:
    """A random D of 1/16 of the width as an ONNX file, for rehearsals."""
    net = VGG(NetSpec("D", ("0", "1", "2", "3"), width=1 / 16, crop=32, train_side=(32, 64)))
    initialise(net, "he", torch.Generator().manual_seed(0))
    save_checkpoint(folder / "D.pt", Checkpoint(net.spec, net.state_dict()))
    return export_onnx(folder / "D.pt", folder, ExportOptions(), None, 1, lambda text: None)[0].path


def made_photos() -> list[bytes]:
    """JPEGs of photos' sizes, of smooth noise."""
    rng, photos = np.random.default_rng(0), []
    for width, height in SIZES:
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
        data = BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
        photos.append(data.getvalue())
    return photos


def measured(
    server: Server, net: str, view: str, photos: list[bytes], rate: float, count: int, seed: int
) -> tuple[LoadPoint, dict[str, object]]:
    """One load: its summary, and a row of the table without the limit."""
    due = poisson_arrivals(rate, count, seed)
    before = counts(server.grpc, net)
    sent = send(server.grpc, f"{net}_photos_{view}", photos, due)
    images, calls = np.subtract(counts(server.grpc, net), before)
    point = load_point(rate, due, sent.answered)
    return point, {
        "view": view,
        "offered": rate,
        "requests": point.requests,
        "failed": point.failed,
        "throughput": point.throughput,
        "p50_ms": point.p50,
        "p99_ms": point.p99,
        "longest_ms": point.longest,
        "images_per_call": images / calls,
        "late_ms": 1000 * sent.late,
        "seed": seed,
    }


@click.command(context_settings={"show_default": True})
@click.argument("model", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--server",
    "environment",
    default=".server",
    type=click.Path(exists=True, path_type=Path),
    help="Environment that .ci/server made.",
)
@click.option(
    "--photos",
    "folder",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of photos, sent in turn.  [default: smooth noise in JPEGs of 500 x 375]",
)
@click.option("--most-photos", default=200, help="Of the folder.")
@click.option("--requests", default=1000, help="Per load.")
@click.option("--multiple", default=5.0, help="Of the median without load; the limit of the p99.")
@click.option("--max-batch", default=16, help="Largest batch of the server.")
@click.option("--seed", default=1, help="Of the arrivals.")
@click.option("--short", is_flag=True, help="A thin net without MODEL, 3 loads of 100 requests.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    model: Path | None,
    environment: Path,
    folder: Path | None,
    most_photos: int,
    requests: int,
    multiple: float,
    max_batch: int,
    seed: int,
    short: bool,
    out: Path,
) -> None:
    """Write served.csv, .md and .png for MODEL, an ONNX file of vgg-export."""
    if model is None and not short:
        raise click.UsageError("name an ONNX file, or add --short for a thin net")
    if folder is None:
        photos = made_photos()
    else:
        names = [path for path in files_below(folder) if is_image(path.name)][:most_photos]
        if not names:
            raise click.UsageError(f"{folder}: no images there")
        photos = [path.read_bytes() for path in names]
    count, shares = (100, SHORT_SHARES) if short else (requests, SHARES)
    results = ResultRows(out / "served.csv", "A Triton server under load", TABLE)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        file = model or thin_file(place)
        serving = ServingOptions("python", VIEW_NAMES)
        write_repository(place / "models", [file], max_batch, click.echo, serving)
        net = min(path.name for path in (place / "models").iterdir())
        with running(environment, place / "models", place / "log") as server:
            results.note(
                f"{file.name}, {len(photos)} photos, Poisson arrivals (seed {seed}), "
                f"{available_cores()} cores for server and load generator, batches up to "
                f"{max_batch}. Started in {server.started_in:.1f} s."
            )
            for view in VIEW_NAMES:
                name = f"{net}_photos_{view}"
                alone = 1000 * one_at_a_time(server.grpc, name, photos, min(count, 100))
                median = nearest_rank(alone, 50)
                queue = send(server.grpc, name, photos, np.zeros(count)).answered
                full = load_point(float("inf"), np.zeros(count), queue).throughput
                points = []
                for share in shares:
                    point, row = measured(server, net, view, photos, share * full, count, seed)
                    points.append(point)
                    results.add(row | {"limit_ms": multiple * median, "share": share})
                    click.echo(f"{view}: {point}")
                found = knee(points, multiple * median)
                results.note(_sentence(view, median, full, found, points, multiple))
    with whole_file(out / "served.png") as partial:
        plot(pd.DataFrame(results.rows)).savefig(partial, format="png", dpi=120)
    results.note(result_tables.environment_block(available_cores()))
    print(results.markdown())


def _sentence(
    view: str,
    median: float,
    full: float,
    found: LoadPoint | None,
    points: list[LoadPoint],
    multiple: float,
) -> str:
    """What the loads of a view show."""
    text = (
        f"{view}: {median:.1f} ms without load (median of single requests), {full:.1f} answers/s "
        f"from a full queue. "
    )
    if found is None:
        lowest = min(point.offered for point in points)
        return text + f"Even {lowest:.1f} requests/s have a p99 above {multiple:g} times that."
    beyond = " or beyond: no higher load was measured" if found == points[-1] else ""
    return text + (
        f"Knee: {found.offered:.1f} requests/s, the highest load whose p99 ({found.p99:.1f} ms) "
        f"stays below {multiple:g} times the median without load{beyond}."
    )


if __name__ == "__main__":
    main()
