"""Compares --max-top1-drop with NNCF's accuracy control and ONNX Runtime's quantizer.

    python benchmarks/limit.py --model best.pt --data FOLDER --limit 1 --nncf VENV/bin/python

All three calibrate on the same photos, choose on the same ones, and are judged on the same others:
those that vgg-export takes. NNCF runs in an environment of its own; without --nncf it is left out.
ONNX Runtime's quantizer keeps no layers: it is what a limit is not asked of.
"""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from result_tables import environment_block, markdown_table, write_csv

from export.limit.criterion import Criterion, Standard
from export.limit.photos import batches_of, open_photos, standard
from export.python import export
from export.quantize.rounding import LAST
from export.release import export_onnx
from export.released_files import PartlyExported
from export.settings.export_options import ExportOptions
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.files import write_text
from vgg_deploy.net.open_net import open_net
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.statistics.evidence import LEVEL

ALONE = Path(__file__).parent / "alone" / "nncf_limit.py"
HEADS = ["tool", "loss, points", "at most (95 %)", "lost", "won", "in float", "MB", "seconds"]
PRECISION = "int8-cpu"


@dataclass(frozen=True)
class Found:
    """What one tool ended with."""

    tool: str
    best: np.ndarray  # (judging images,) best classes
    in_float: list[str]
    size: int  # bytes
    seconds: float  # to find it


def pixels_of(photos: Dataset, spec: NetSpec, threads: int) -> list[np.ndarray]:
    """(3, H, W) uint8 of every photo at the net's test scale, in their order."""
    scale = Scale(spec.test_side, spec.preprocessing.filter)
    found: dict[int, np.ndarray] = {}
    for batch in batches_of(photos, scale, threads, None):
        found.update(zip(batch.indices.tolist(), batch.images, strict=True))
    return [found[i] for i in range(len(photos))]


def save_pixels(path: Path, images: list[np.ndarray], labels: np.ndarray) -> None:
    np.savez(path, labels=labels, **{str(i): image for i, image in enumerate(images)})


def answers(path: Path, images: list[np.ndarray], threads: int) -> np.ndarray:
    """Best classes by a file in ONNX Runtime."""
    import onnxruntime  # here, after vgg_deploy has turned its telemetry off

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    best = [session.run(["posterior"], {"image": image[None]})[0][0].argmax() for image in images]
    return np.array(best, np.int64)


class Reader:
    """Gives ONNX Runtime's quantizer one photo after the other."""

    def __init__(self, images: list[np.ndarray]):
        self.images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {"image": image[None]}


def by_ours(
    model: Path, options: ExportOptions, out: Path, judge: list[np.ndarray], threads: int
) -> Found | None:
    start = time.monotonic()
    try:
        (exported,) = export_onnx(model, out, options, None, threads, print)
    except PartlyExported as error:
        click.echo(f"ours: {error.message}", err=True)
        return None
    seconds = time.monotonic() - start
    best = answers(exported.path, judge, threads)
    kept = [name for name in exported.kept if name != LAST]
    return Found("vgg-export --max-top1-drop", best, kept, exported.size, seconds)


def by_onnxruntime(
    fp32: Path, out: Path, calibrate: list[np.ndarray], judge: list[np.ndarray], threads: int
) -> Found:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    path = out / "onnxruntime.onnx"
    start = time.monotonic()
    quantize_static(
        fp32,
        path,
        Reader(calibrate),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=["Conv", "MaxPool", "Relu"],
        nodes_to_exclude=[LAST],
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    seconds = time.monotonic() - start
    best = answers(path, judge, threads)
    return Found("onnxruntime.quantization", best, [], path.stat().st_size, seconds)


def by_nncf(python: Path, fp32: Path, out: Path, points: float) -> Found:
    subprocess.run([python, ALONE, fp32, out, str(points / 100)], check=True)
    found = json.loads((out / "nncf.json").read_text())
    names = [name for name in found["float"] if name != LAST]
    best = np.array(found["best"], np.int64)
    return Found("NNCF accuracy control", best, names, found["bytes"], found["seconds"])


def rows_of(
    tools: list[Found], reference: Standard, criterion: Criterion
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for found in tools:
        tally = reference.tally(found.best)
        evidence = criterion.evidence(tally, LEVEL)
        rows.append(
            {
                "tool": found.tool,
                "loss_pct": 100 * evidence.estimate,
                "high_pct": 100 * evidence.high,
                "lost": tally.lost,
                "won": tally.won,
                "images": tally.images,
                "in_float": " ".join(found.in_float),
                "mb": found.size / 1e6,
                "seconds": found.seconds,
            }
        )
    return rows


def report(rows: list[dict[str, object]], error_pct: float | None, threads: int) -> str:
    texts = [
        [
            str(row["tool"]),
            f"{row['loss_pct']:.2f}",
            f"{row['high_pct']:.2f}",
            str(row["lost"]),
            str(row["won"]),
            str(row["in_float"]) or "none",
            f"{row['mb']:.1f}",
            f"{row['seconds']:.0f}",
        ]
        for row in rows
    ]
    head = f"fp32's top-1 error on the {rows[0]['images']} judging photos: {error_pct:.2f} %.\n\n"
    return head + markdown_table(HEADS, texts) + "\n" + environment_block(threads)


@click.command(help=__doc__)
@click.option("--model", required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="With labels.")
@click.option("--limit", "points", default=1.0, help="Percentage points.")
@click.option("--calibration-images", "images", default=512)
@click.option("--nncf", type=click.Path(path_type=Path), help="Python that has nncf and openvino.")
@click.option("--threads", default=2)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    model: Path,
    data: Path,
    points: float,
    images: int,
    nncf: Path | None,
    threads: int,
    out: Path,
) -> None:
    work = out / "limit_files"
    work.mkdir(parents=True, exist_ok=True)
    net = open_net(model)
    options = ExportOptions(
        (PRECISION,), max_top1_drop=points, data=data, calibration_images=images
    )
    photos = open_photos(data, options, net, str(model), False)
    spec = net.spec
    del net
    parts = {"calibrate": photos.calibrate, "choose": photos.choose, "judge": photos.judge}
    pixels = {name: pixels_of(part, spec, threads) for name, part in parts.items()}
    for name, part in parts.items():
        labels = np.zeros(len(part), np.int64)
        if name != "calibrate":  # its images need not have classes of the net
            accepted = standard(part, photos.classes, labels).accepted
            labels = labels if accepted is None else accepted[:, 0]
        save_pixels(work / f"{name}.npz", pixels[name], labels)
    (fp32,) = export(model, work, precision="fp32", name="ours", threads=threads)
    judge = pixels["judge"]
    reference = standard(photos.judge, photos.classes, answers(fp32.path, judge, threads))
    tools: list[Callable[[], Found | None]] = [
        lambda: by_ours(model, options, work, judge, threads),
        lambda: by_onnxruntime(fp32.path, work, pixels["calibrate"], judge, threads),
    ]
    if nncf:
        tools.append(lambda: by_nncf(nncf, fp32.path, work, points))
    found = [result for tool in tools if (result := tool()) is not None]
    rows = rows_of(found, reference, Criterion(points, photos.judge.labelled))
    write_csv(pd.DataFrame(rows), out / "limit.csv")
    text = f"# A limit of {points:g} points: three quantizers\n\n{photos.stated}.\n"
    write_text(out / "limit.md", text + report(rows, reference.error_pct(), threads))
    click.echo(pd.DataFrame(rows).to_string())


if __name__ == "__main__":
    main()
