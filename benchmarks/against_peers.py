"""`python -m bench` against its peers, in turn, on the same photos, weights and cores: python benchmarks/against_peers.py --data FOLDER

1. crop: image files to top-1, the centre crop of Q 256: timm's validate.py and onnx_validate.py, torchvision's reference
   evaluation, a plain ONNX Runtime loop, Polygraphy's runner, OpenVINO in fp32, bf16 and int8.
2. dense: image files to top-1, whole images at Q 256, each of its own size: the plain loops in ONNX Runtime and OpenVINO, Polygraphy.
3. net: one random picture a call: ONNX Runtime's session, OpenVINO's benchmark_app.

Every evaluation is a process of its own (benchmarks/peers/, each can be run alone), all are held on the same cores, and a round
runs all of them once; times are without imports and loading. A peer that is not installed is a row with the reason.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click
import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from models import USUAL, exports, ncnn_export, random_weights
from PIL import Image

from bench.results.environment import describe_environment
from export.release import ExportOptions
from train.record.curves import COLOURS, FAINT, INK, STYLE
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file, write_text
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.spec import NetSpec

PEERS = Path(__file__).parent / "peers"
CLASSES = 1000
TITLES = {
    "crop": "Image files to top-1, centre crop 224 of Q {side}",
    "dense": "Image files to top-1, whole images at Q {side}",
    "net": "The net alone, one random 224 x 224 picture a call",
}
HEADS = ["way", "version", "images/s", "of rounds", "times as fast as the plain loop", "of rounds", "ours is times as fast", "of rounds",
         "top-1 error %", "best class as ours", "peak MiB", "whole process s"]  # fmt: skip
DIFFERENCE = (
    "Where fewer best classes agree in the crops of timm and torchvision: both cut the fraction off the longer side after the rescale, ours rounds half up, "
    "so that some crops lie or are scaled otherwise by a part of a pixel."
)
LOOP = "ONNX Runtime loop fp32"  # the plain one


class Way(NamedTuple):
    """One row of a view."""

    name: str
    script: str  # of PEERS
    file: str  # a key of the prepared files
    ours: str = ""  # the row of ours that it is compared with; empty for our own
    precision: str = "fp32"


TORCH, FP32, INT8 = "ours, PyTorch fp32", "ours, ONNX Runtime fp32", "ours, ONNX Runtime int8"
OURS = (
    Way(TORCH, "ours", "weights"),
    Way(FP32, "ours", "fp32"),
    Way("ours, ncnn fp32", "ours", "ncnn"),
    Way(INT8, "ours", "int8-cpu"),
)
OPENVINO = tuple(
    Way(f"OpenVINO {name}", "openvino_loop", file, ours, precision)
    for name, file, ours, precision in (
        ("fp32", "fp32", FP32, "fp32"),
        ("bf16", "fp32", FP32, "bf16"),
        ("int8", "int8-cpu", INT8, "fp32"),
    )
)
WAYS = {
    "crop": (
        *OURS,
        Way("timm validate", "timm_validate", "weights", TORCH),
        Way("torchvision evaluate", "torchvision_evaluate", "weights", TORCH),
        Way("timm onnx_validate", "timm_onnx_validate", "normalised", FP32),
        Way(LOOP, "onnxruntime_loop", "fp32", FP32),
        Way("Polygraphy runner", "polygraphy_runner", "fp32", FP32),
        *OPENVINO,
    ),
    "dense": (
        *OURS,
        Way(LOOP, "onnxruntime_loop", "fp32", FP32),
        Way("Polygraphy runner", "polygraphy_runner", "fp32", FP32),
        *OPENVINO,
    ),
    "net": (
        *OURS,
        Way(LOOP, "onnxruntime_loop", "fp32", FP32),
        *(
            way._replace(
                name=way.name.replace("OpenVINO", "OpenVINO benchmark_app"),
                script="openvino_benchmark_app",
            )
            for way in OPENVINO
        ),
    ),
}


@dataclass(frozen=True)
class Setting:
    """What all evaluations share."""

    files: dict[
        str, Path
    ]  # "weights", "fp32", "normalised", "int8-cpu"; "ncnn" where it is installed
    data: Path
    side: int
    batch: int
    threads: int
    calls: int


def lay_out(dataset: Dataset, enlarge: int | None, folder: Path) -> Path:
    """The images as CLASS/NUMBER.jpeg, which every program sorts alike; with `enlarge` written anew with that shorter side, quality 90."""
    for i in range(len(dataset)):
        path = folder / dataset.classes[dataset.labels[i]] / f"{i:06d}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if enlarge is None:
            path.write_bytes(dataset.read(i))
            continue
        with Image.open(dataset.path(i)) as image:
            scale = enlarge / min(image.size)
            image.convert("RGB").resize(
                [round(s * scale) for s in image.size], Image.Resampling.BICUBIC
            ).save(path, quality=90)
    return folder


def prepare(
    wanted: set[str],
    weights: Path | None,
    dataset: Dataset,
    photos: Path,
    arch: str,
    width: float,
    kept: Path,
) -> dict[str, Path]:
    """The wanted files of `Setting`, from trained weights or from random ones of 1,000 classes, those of the images first."""
    if weights is None:
        ids = (*dataset.classes, *(f"unused {i:04d}" for i in range(len(dataset.classes), CLASSES)))
        weights = random_weights(NetSpec(arch, ids, width=width, preprocessing=USUAL), kept)
    precisions = tuple(name for name in ("fp32", "int8-cpu") if name in wanted)
    calibration = photos if "int8-cpu" in wanted else None
    exported = exports(
        weights, kept, ExportOptions(precisions, calibration=calibration, calibration_images=16)
    )
    files = {"weights": weights, **dict(zip(precisions, exported, strict=True))}
    if "normalised" in wanted:
        (files["normalised"],) = exports(
            weights, kept / "normalised", ExportOptions(("fp32",), form="normalised")
        )
    if "ncnn" in wanted and find_spec("ncnn"):
        files["ncnn"] = ncnn_export(files["fp32"])
    return files


def evaluate(view: str, way: Way, setting: Setting) -> dict:
    """One process, and what it tells: `contract.Told`, and process_s, the whole of it with imports and loading."""
    if way.file not in setting.files:
        return {"version": "", "skipped": f"{way.file} is not installed: pip install {way.file}"}
    options = {"model": setting.files[way.file], "data": setting.data, "view": view, "side": setting.side, "batch": setting.batch,
               "threads": setting.threads, "calls": setting.calls, "precision": way.precision}  # fmt: skip
    command = [
        sys.executable,
        str(PEERS / f"{way.script}.py"),
        *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
    ]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{way.name}, {view}: {done.stdout}\n{done.stderr}")
    return {**json.loads(done.stdout.splitlines()[-1]), "process_s": time.perf_counter() - begun}


def chosen(views: tuple[str, ...], only: str | None) -> dict[str, tuple[Way, ...]]:
    """The ways of each view; with `only` those whose names hold one of its words, and what they are compared with."""
    if only is None:
        return {view: WAYS[view] for view in views}
    found = {}
    for view in views:
        named = [way for way in WAYS[view] if any(word in way.name for word in only.split(","))]
        wanted = {LOOP, *(way.name for way in named), *(way.ours for way in named)}
        wanted |= {way.ours for way in WAYS[view] if way.name in wanted}
        found[view] = tuple(way for way in WAYS[view] if way.name in wanted)
    return found


def measure(
    ways: dict[str, tuple[Way, ...]], setting: Setting, rounds: int
) -> Iterator[pd.DataFrame]:
    """Every evaluation so far, after each round. A way that is skipped is asked once."""
    told, skipped = [], set()
    for turn in range(rounds):
        for view in ways:
            for way in ways[view]:
                if (view, way.name) in skipped:
                    continue
                one = evaluate(view, way, setting)
                told.append({"view": view, "way": way.name, "round": turn, **one})
                if one["skipped"]:
                    skipped.add((view, way.name))
                print(
                    f"round {turn + 1}, {view}, {way.name}: {one['skipped'] or format(one['images_per_s'], '.2f') + ' images/s'}",
                    flush=True,
                )
        yield pd.DataFrame(told)


def summary(told: pd.DataFrame) -> pd.DataFrame:
    """A row a way: medians over rounds, smallest and largest; ratios are taken within a round."""
    rows = []
    for view in dict.fromkeys(told["view"]):
        of_view = told[told["view"] == view]
        speeds = of_view[of_view.skipped == ""].pivot(
            index="round", columns="way", values="images_per_s"
        )
        reference = {way.name: way.ours for way in WAYS[view]}
        for way in dict.fromkeys(of_view.way):
            own = of_view[of_view.way == way]
            row = {
                "view": view,
                "way": way,
                "version": own.version.iloc[0],
                "not_measured": own.skipped.iloc[0],
            }
            if not row["not_measured"]:
                against = speeds[reference[way] or way] / speeds[way]
                of_loop = speeds[way] / speeds[LOOP]
                row |= {
                    "images": own.images.iloc[0], "rounds": len(own), "images_per_s": speeds[way].median(), "images_per_s_min": speeds[way].min(),
                    "images_per_s_max": speeds[way].max(), "ours": reference[way], "ours_times_as_fast": against.median(),
                    "ours_times_as_fast_min": against.min(), "ours_times_as_fast_max": against.max(), "of_loop": of_loop.median(),
                    "of_loop_min": of_loop.min(), "of_loop_max": of_loop.max(), "top1_error_pct": own.top1_error_pct.iloc[0],
                    "same_best_class": agreement(of_view, way, reference[way] or way), "peak_mib": own.peak_mib.median(), "process_s": own.process_s.median(),
                }  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


def agreement(of_view: pd.DataFrame, way: str, ours: str) -> int | None:
    """Images whose best class is that of our row; None without images."""
    mine, other = (of_view[of_view.way == name].predictions.iloc[0] for name in (ours, way))
    return sum(a == b for a, b in zip(mine, other, strict=True)) if mine else None


def tables(found: pd.DataFrame, side: int) -> str:
    """Markdown, a table a view."""
    return "\n\n".join(
        f"## {TITLES[view].format(side=side)}\n\n{table(found[found['view'] == view])}"
        for view in dict.fromkeys(found["view"])
    )


def table(rows: pd.DataFrame) -> str:
    """Of one view; below it what was not measured."""
    lines = [
        HEADS,
        ["---"] * len(HEADS),
        *(cells(row) for row in rows.to_dict("records") if not row["not_measured"]),
    ]
    missing = [
        f"- {row['way']}, not measured: {row['not_measured']}"
        for row in rows.to_dict("records")
        if row["not_measured"]
    ]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *missing])


def cells(row: dict) -> list[str]:
    """Of a table's line, under HEADS."""
    ours = (
        [
            f"{row['ours_times_as_fast']:.2f}",
            f"{row['ours_times_as_fast_min']:.2f}-{row['ours_times_as_fast_max']:.2f}",
        ]
        if row["ours"]
        else ["", ""]
    )
    accuracy = (
        ["", ""]
        if pd.isna(row["top1_error_pct"])
        else [
            f"{row['top1_error_pct']:.2f}",
            f"{row['same_best_class']:.0f} of {row['images']:.0f}",
        ]
    )
    return [
        row["way"], row["version"], f"{row['images_per_s']:.2f}", f"{row['images_per_s_min']:.2f}-{row['images_per_s_max']:.2f}",
        f"{row['of_loop']:.2f}", f"{row['of_loop_min']:.2f}-{row['of_loop_max']:.2f}", *ours, *accuracy, f"{row['peak_mib']:.0f}", f"{row['process_s']:.1f}",
    ]  # fmt: skip


@mpl.rc_context(STYLE)
def picture(found: pd.DataFrame, side: int) -> Figure:
    """Bars of images/s, a view beside the other; ours in colour, whiskers from the slowest round to the fastest."""
    measured = found[found.not_measured == ""]
    views = list(dict.fromkeys(measured["view"]))
    heights = [int((measured["view"] == view).sum()) for view in views]
    figure = Figure(figsize=(9, 1 + 0.34 * sum(heights) + 0.5 * len(views)), layout="constrained")
    for axes, view in zip(
        figure.subplots(len(views), 1, height_ratios=heights, squeeze=False)[:, 0],
        views,
        strict=True,
    ):
        rows = measured[measured["view"] == view][::-1]
        colours = [COLOURS[0] if not ours else FAINT for ours in rows.ours]
        spread = [
            rows.images_per_s - rows.images_per_s_min,
            rows.images_per_s_max - rows.images_per_s,
        ]
        axes.barh(
            rows.way,
            rows.images_per_s,
            color=colours,
            height=0.65,
            xerr=spread,
            error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2},
        )
        for y, (speed, top) in enumerate(
            zip(rows.images_per_s, rows.images_per_s_max, strict=True)
        ):
            axes.annotate(
                f"{speed:.2f}",
                (top, y),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="images/s", xlim=(0, 1.1 * rows.images_per_s_max.max()))
        axes.set_title(TITLES[view].format(side=side), loc="left", fontsize=10, fontweight="bold")
    return figure


def keep(told: pd.DataFrame, title: str, side: int, threads: int, out: Path) -> str:
    """Tables and plot of the rounds so far. Returns: peers.md."""
    found, described = summary(told), json.dumps(describe_environment(threads), indent=2)
    text = (
        f"{title}, {told['round'].max() + 1} rounds in "
        'turn: medians, and from the slowest round to the fastest. images/s are those of the evaluation, without imports and loading. "Ours" is `python -m '
        f"bench` with the same runtime and precision as the row. {DIFFERENCE}\n\n{tables(found, side)}\n\n"
        f"![images/s](peers.png)\n\n```json\n{described}\n```\n"
    )
    for frame, name in (
        (found, "peers.csv"),
        (told.drop(columns="predictions"), "peers_samples.csv"),
    ):
        with whole_file(out / name) as partial:
            frame.to_csv(partial, index=False)
    write_text(out / "peers.md", text)
    with whole_file(out / "peers.png") as partial:
        picture(found, side).savefig(partial, format="png", dpi=150, facecolor="white")
    return text


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with val/<class>/*; without it built-in pictures.",
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
    help="Write the photos anew with this shorter side first, pixels; ILSVRC's is mostly 375.",
)
@click.option("--side", default=256, help="Q, pixels.")
@click.option("--batch", default=16)
@click.option("--threads", default=2)
@click.option("--calls", default=20, help="Of the view net.")
@click.option("--rounds", default=3)
@click.option("--views", default="crop,dense,net")
@click.option(
    "--only",
    help="Ways whose names hold one of these words, comma-separated, and what they are compared with.",
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
    data,
    weights,
    arch,
    width,
    images,
    enlarge,
    side,
    batch,
    threads,
    calls,
    rounds,
    views,
    only,
    short,
    kept,
    out,
):
    if short:
        images, calls, rounds, views = 8, 5, 1, "crop,net"
    if unknown := set(views.split(",")) - set(WAYS):
        raise InputError(
            f"--views {', '.join(sorted(unknown))}: unknown; choose from {', '.join(WAYS)}"
        )
    os.sched_setaffinity(
        0, sorted(os.sched_getaffinity(0))[:threads]
    )  # and with it all processes that are started here
    dataset = (open_dataset(data, "val") if data else built_in("val", images)).subset(images)
    with tempfile.TemporaryDirectory() as scratch:
        photos = lay_out(dataset, enlarge, Path(scratch) / "photos")
        ways = chosen(tuple(views.split(",")), only)
        files = prepare(
            {way.file for found in ways.values() for way in found},
            weights,
            dataset,
            photos,
            arch,
            width,
            kept,
        )
        spec = load_checkpoint(files["weights"]).spec
        what = f"Width {spec.width:g}, {f'weights {weights.name}' if weights else 'random weights'}, {len(dataset)} images, {threads} threads on as many cores"
        for told in measure(
            ways, Setting(files, photos, side, batch, threads, calls), rounds
        ):  # kept after each round, for they are long
            text = keep(told, f"# VGG-{spec.arch} against peers\n\n{what}", side, threads, out)
    print(text)


if __name__ == "__main__":
    main()
