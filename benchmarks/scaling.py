"""Time and memory against the work, in exact multiply-accumulates: python benchmarks/scaling.py [--short]

1. One call of a full-width D in ONNX Runtime and PyTorch, float32, against the size of one picture (Q 224 to 768, square and
   not) and against the batch at 224 x 224. All shapes are called in turn, round after round.
2. Dense scoring by the bench against the number of images, each count in a process of its own; its memory must not grow.

Through every series two lines are laid by least squares: one through the origin, whose slope is the time of a multiply-accumulate,
and one with an intercept. What lies off the first is told in per cent, and by layers: what each stage took more than the line
gives to its multiply-accumulates, by ONNX Runtime's profiler and PyTorch's hooks.
"""

import gc
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import click
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from models import USUAL, exports, random_weights

from bench.accuracy.measure import measure_accuracy
from bench.accuracy.protocols import rows_of
from bench.accuracy.settings import Scoring, Storage
from bench.models.model import ModelOptions, open_models
from bench.results.environment import describe_environment
from export.release import ExportOptions
from train.record.curves import COLOURS, FAINT, STYLE
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.files import whole_file, write_text
from vgg_deploy.images.geometry import rescaled_size
from vgg_deploy.net.archs import ARCHS, macs, map_side
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.runtimes import Runtime, open_runtime

SIZE, BATCH, IMAGES = "size of one picture", "batch at 224 x 224", "images scored"
SIZES = "224x224,256x256,320x320,384x384,448x448,512x512,640x640,768x768,256x341,384x512,512x683"
SMALL = {"arch": "D", "width": 1 / 8, "crop": 96}  # the net of the third series, at Q 96
GROUPS = ("stage 1", "stage 2", "stage 3", "stage 4", "stage 5", "fc6", "fc7, fc8")
OTHER = "pools and the rest"
NAMES = {"onnxruntime": "ONNX Runtime", "torch": "PyTorch", "bench": "vgg-bench, ONNX Runtime"}


class InputShape(NamedTuple):
    """Of one call."""

    batch: int
    height: int
    width: int


@dataclass(frozen=True)
class Point:
    """One measurement; field names are columns of scaling.csv."""

    series: str
    runtime: str
    batch: int
    height_px: int  # 0 where pictures have sizes of their own
    width_px: int
    gmacs: float
    runs: int
    median_s: float
    min_s: float
    max_s: float
    peak_mib: float  # resident, of the process with the loaded net


def work(spec: NetSpec, shape: InputShape) -> int:
    """Exact multiply-accumulates of one call."""
    return shape.batch * macs(
        ARCHS[spec.arch], shape.height, shape.width, len(spec.classes), spec.width, spec.crop
    )


def group_work(spec: NetSpec, shape: InputShape) -> dict[str, int]:
    """The same by GROUPS."""
    found, h, w = {}, shape.height, shape.width
    for name, stage in zip(GROUPS[:5], ARCHS[spec.arch].stages(spec.width), strict=True):
        found[name] = shape.batch * sum(c.kernel**2 * c.c_in * c.c_out * h * w for c in stage)
        h, w = h // 2, w // 2
    h, w = map_side(shape.height, spec.crop), map_side(shape.width, spec.crop)
    fc = [
        shape.batch * c.kernel**2 * c.c_in * c.c_out * h * w
        for c in ARCHS[spec.arch].head(len(spec.classes), spec.width, spec.crop)
    ]
    return {**found, "fc6": fc[0], "fc7, fc8": fc[1] + fc[2]}


def pictures(shape: InputShape) -> np.ndarray:
    return np.random.default_rng(0).integers(
        0, 256, (shape.batch, 3, shape.height, shape.width), np.uint8
    )


def call_times(
    runtimes: list[Runtime], shapes: list[InputShape], rounds: int
) -> dict[tuple[str, InputShape], list[float]]:
    """Seconds of one call of every runtime at every shape in every round; the first calls are not counted."""
    seconds = defaultdict(list)
    for turn in range(rounds + 1):
        for shape in shapes:
            images = pictures(shape)
            for runtime in runtimes:
                begun = time.perf_counter()
                runtime(images)
                if turn:
                    seconds[runtime.name, shape].append(time.perf_counter() - begun)
        print(f"round {turn} of {rounds}", flush=True)
    return seconds


def peaks_of_calls(path: Path, shapes: list[InputShape], threads: int) -> dict[InputShape, float]:
    """Most resident memory during the first call of a newly loaded net, MiB; what loading took is over by then.

    For a process of its own; by rising work, so that what the allocator keeps of one call is no more than the next one needs.
    """
    found = {}
    for shape in sorted(shapes, key=lambda shape: shape.batch * shape.height * shape.width):
        runtime, images = open_runtime(path, threads=threads), pictures(shape)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        runtime(images)
        found[shape] = peak_mib()
        del runtime
    return found


def alone(function: Callable, *args):
    """What a function returns that runs in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *args).result()


def peak_mib() -> float:
    return (
        next(
            int(line.split()[1])
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        / 1024
    )


def onnxruntime_layers(
    path: Path, shapes: list[InputShape], threads: int
) -> dict[InputShape, dict[str, float]]:
    """Seconds of each group in the second call at every shape, by ONNX Runtime's profiler."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = threads, True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for shape in shapes:
            for _ in range(2):
                session.run(["posterior", "score_map"], {"image": pictures(shape)})
        events = json.loads(Path(session.end_profiling()).read_text())
    calls = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")
    found = {}
    for shape, (begun, lasted) in zip(shapes, calls[1::2], strict=True):
        groups = dict.fromkeys((*GROUPS, OTHER), 0.0)
        for event in events:
            if (
                event["cat"] == "Node"
                and event["name"].endswith("_kernel_time")
                and begun <= event["ts"] <= begun + lasted
            ):
                groups[
                    group_of(event["name"]) if event["args"]["op_name"] == "Conv" else OTHER
                ] += event["dur"] / 1e6
        found[shape] = groups
    return found


def torch_layers(runtime: Runtime, shapes: list[InputShape]) -> dict[InputShape, dict[str, float]]:
    """The same by hooks on PyTorch's convolutions. Args: runtime, a TorchRuntime on the CPU."""
    took, begun = {}, {}
    for name, layer in runtime.forward.net.named_children():
        if name.startswith(("conv", "fc")):
            layer.register_forward_pre_hook(
                lambda _, given, name=name: begun.update({name: time.perf_counter()})
            )
            layer.register_forward_hook(
                lambda _, given, got, name=name: took.update(
                    {name: time.perf_counter() - begun[name]}
                )
            )
    found = {}
    for shape in shapes:
        for _ in range(2):
            whole = time.perf_counter()
            runtime(pictures(shape))
            whole = time.perf_counter() - whole
        groups = dict.fromkeys(GROUPS, 0.0)
        for name, seconds in took.items():
            groups[group_of(name)] += seconds
        found[shape] = {**groups, OTHER: whole - sum(groups.values())}
    return found


def group_of(layer: str) -> str:
    """conv3_2, fc6, or as ONNX Runtime calls them with what it fuses: relu3_2..., relu6..., score_map... -> one of GROUPS."""
    if layer.startswith("score_map"):
        return "fc7, fc8"
    number = re.match(r"(?:conv|relu|fc)(\d)", layer).group(1)
    return {"6": "fc6", "7": "fc7, fc8", "8": "fc7, fc8"}.get(number, f"stage {number}")


class Scored(NamedTuple):
    """What scoring some images took."""

    gmacs: float
    seconds: float
    peak_mib: float


def score_images(model: Path, dataset: Dataset, threads: int) -> Scored:
    """Dense scoring by the bench at the net's crop, from files to stored posteriors. For a process of its own."""
    (opened,) = open_models([model], ModelOptions(threads=threads))
    spec = opened.runtime.spec
    rows = rows_of((0,), [spec], ("dense",), (spec.crop,), False)
    with tempfile.TemporaryDirectory() as cells:
        begun = time.perf_counter()
        scoring = Scoring(Storage(Path(cells), "float32"), 16, threads, "stop")
        measure_accuracy([opened], rows, dataset, scoring)
        seconds = time.perf_counter() - begun
    shapes = [
        InputShape(1, *rescaled_size(*dataset.size(i), spec.crop)) for i in range(len(dataset))
    ]
    return Scored(sum(work(spec, shape) for shape in shapes) / 1e9, seconds, peak_mib())


def scoring_points(model: Path, counts: tuple[int, ...], threads: int, rounds: int) -> list[Point]:
    """The third series."""
    everything, found = built_in("val", max(counts)), defaultdict(list)
    for _ in range(rounds):
        for count in counts:
            found[count].append(alone(score_images, model, everything.subset(count), threads))
    points = []
    for count, scored in found.items():
        seconds = [one.seconds for one in scored]
        points.append(Point(IMAGES, "bench", count, 0, 0, scored[0].gmacs, rounds, float(np.median(seconds)), min(seconds), max(seconds),
                            float(np.median([one.peak_mib for one in scored]))))  # fmt: skip
    return points


def with_lines(points: list[Point]) -> pd.DataFrame:
    """A row a point, and what the lines through its series say: columns slope_s_per_gmac, deviation_pct (through the origin), line_slope_s_per_gmac,
    line_intercept_s, line_deviation_pct, memory_slope_mib_per_gmac, memory_intercept_mib, memory_deviation_pct (with an intercept)."""
    table = pd.DataFrame([asdict(point) for point in points])
    for _, own in table.groupby(["series", "runtime"], sort=False):
        x, y, memory = own.gmacs, own.median_s, own.peak_mib
        slope = (x * y).sum() / (x * x).sum()
        (b, a), (m, base) = np.polyfit(x, y, 1), np.polyfit(x, memory, 1)
        told = {
            "slope_s_per_gmac": slope, "deviation_pct": 100 * (y / (slope * x) - 1), "line_slope_s_per_gmac": b, "line_intercept_s": a,
            "line_deviation_pct": 100 * (y / (a + b * x) - 1), "memory_slope_mib_per_gmac": m, "memory_intercept_mib": base,
            "memory_deviation_pct": 100 * (memory / (base + m * x) - 1),
        }  # fmt: skip
        for column, values in told.items():
            table.loc[own.index, column] = values
    return table


def by_layers(
    table: pd.DataFrame, spec: NetSpec, layers: dict[str, dict[InputShape, dict[str, float]]]
) -> pd.DataFrame:
    """Where a deviation comes from: per shape and group its seconds, and in per cent of the whole line's time what it took more than the line
    gives to its multiply-accumulates; these add up to the deviation of the profiled call."""
    rows = []
    for point in table[table.series != IMAGES].itertuples():
        shape = InputShape(point.batch, point.height_px, point.width_px)
        gmacs, line = group_work(spec, shape), point.slope_s_per_gmac * point.gmacs
        for group, seconds in layers[point.runtime][shape].items():
            share = gmacs.get(group, 0) / 1e9
            excess = 100 * (seconds - point.slope_s_per_gmac * share) / line
            rows.append({"series": point.series, "runtime": point.runtime, **shape._asdict(), "group": group, "seconds": seconds, "gmacs": share,
                         "excess_pct": excess})  # fmt: skip
    return pd.DataFrame(rows)


def about_fc6(layers: pd.DataFrame, spec: NetSpec) -> str:
    """What the largest layer's weights cost, which one score uses once and a large map often, in words."""
    fc6 = ARCHS[spec.arch].head(len(spec.classes), spec.width, spec.crop)[0]
    megabytes = 4 * fc6.kernel**2 * fc6.c_in * fc6.c_out / 1e6
    parts = []
    for runtime, own in layers[layers.group == "fc6"].groupby("runtime", sort=False):
        own = own.drop_duplicates(["batch", "height", "width"]).sort_values("gmacs")
        least, most = own.iloc[0], own.iloc[-1]
        ms_a_gmac = [1000 * row.seconds / row.gmacs for row in (least, most)]
        parts.append(
            f"in {NAMES[runtime]} for one score {1000 * least.seconds:.1f} ms ({megabytes / 1000 / least.seconds:.1f} GB/s), {ms_a_gmac[0]:.0f} ms a GMAC, "
            f"and {ms_a_gmac[1]:.0f} ms a GMAC for {most.gmacs / least.gmacs:.0f}"
        )
    return f"fc6 has {megabytes:.0f} MB of weights, which every call reads: {'; '.join(parts)}."


def label(row) -> str:
    """224 x 224; 8; 400"""
    return f"{row.height_px} x {row.width_px}" if row.series == SIZE else str(row.batch)


def markdown(table: pd.DataFrame, layers: pd.DataFrame) -> str:
    parts = []
    for (series, runtime), own in table.groupby(["series", "runtime"], sort=False):
        first = own.iloc[0]
        lines = [
            f"## {NAMES[runtime]}: {series}\n",
            f"Through the origin: {1000 * first.slope_s_per_gmac:.2f} ms a GMAC ({2 / first.slope_s_per_gmac:.0f} GFLOP/s). With an intercept: "
            f"{1000 * first.line_intercept_s:.1f} ms + {1000 * first.line_slope_s_per_gmac:.2f} ms a GMAC. "
            f"Memory: {first.memory_intercept_mib:.0f} MiB + {first.memory_slope_mib_per_gmac:.2f} MiB a GMAC.\n",
            f"| {series} | GMAC | s | of rounds | off the line through the origin % | off the line with intercept % | peak MiB | off its line % |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in own.itertuples():
            lines.append(f"| {label(row)} | {row.gmacs:.2f} | {row.median_s:.3f} | {row.min_s:.3f}-{row.max_s:.3f} | {row.deviation_pct:+.1f} "
                         f"| {row.line_deviation_pct:+.1f} | {row.peak_mib:.0f} | {row.memory_deviation_pct:+.1f} |")  # fmt: skip
        parts.append("\n".join(lines))
        if series != IMAGES:
            parts.append(why(own, layers[(layers.series == series) & (layers.runtime == runtime)]))
    return "\n\n".join(parts)


def why(own: pd.DataFrame, layers: pd.DataFrame) -> str:
    """The excess by layers, a line a shape, and ms a GMAC of fc6 and of the convolutions before it."""
    groups = (*GROUPS, OTHER)
    lines = [
        "Of it by layers, per cent of the line (their sum is the deviation of one profiled call), and what a GMAC took:\n",
        f"| {own.series.iloc[0]} | {' | '.join(groups)} | sum | ms a GMAC: stages | fc6 |",
        f"| {' | '.join(['---'] * (len(groups) + 4))} |",
    ]
    for row in own.itertuples():
        at = layers[
            (layers.batch == row.batch)
            & (layers.height == row.height_px)
            & (layers.width == row.width_px)
        ].set_index("group")
        stages = at.loc[list(GROUPS[:5])]
        lines.append(f"| {label(row)} | {' | '.join(f'{at.excess_pct[group]:+.1f}' for group in groups)} | {at.excess_pct.sum():+.1f} "
                     f"| {1000 * stages.seconds.sum() / stages.gmacs.sum():.2f} | {1000 * at.seconds['fc6'] / at.gmacs['fc6']:.1f} |")  # fmt: skip
    return "\n".join(lines)


@mpl.rc_context(STYLE)
def picture(table: pd.DataFrame) -> Figure:
    """Columns: the series. Rows: time, how far it lies off the line through the origin, memory; all over exact GMACs."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    all_axes = figure.subplots(3, 3, sharex="col", height_ratios=(3, 2, 2))
    for column, series in zip(all_axes.T, (SIZE, BATCH, IMAGES), strict=True):
        of_series = table[table.series == series]
        for colour, (runtime, own) in zip(
            COLOURS, of_series.groupby("runtime", sort=False), strict=False
        ):
            draw(column, own.sort_values("gmacs"), colour, NAMES[runtime])
        column[0].set_title(series, loc="left", fontsize=10, fontweight="bold")
        column[1].axhline(0, color=FAINT, linewidth=0.8)
        column[2].set_xlabel("GMAC of one call" if series != IMAGES else "GMAC of all images")
        column[0].legend(frameon=False, fontsize=8, loc="upper left")
        for axes in (column[0], column[2]):
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        column[0].set_xlim(0)
    for axes, name in zip(
        all_axes[:, 0],
        ("time, s", "off the line through the origin, %", "peak memory, MiB"),
        strict=True,
    ):
        axes.set_ylabel(name)
    return figure


def draw(axes, own: pd.DataFrame, colour: str, name: str) -> None:
    """One runtime of one series into time, deviation and memory."""
    first, ends = own.iloc[0], np.array([0, own.gmacs.max()])
    spread = [own.median_s - own.min_s, own.max_s - own.median_s]
    axes[0].errorbar(
        own.gmacs,
        own.median_s,
        spread,
        fmt="o",
        color=colour,
        markersize=4,
        linewidth=0,
        elinewidth=1,
        label=name,
    )
    axes[0].plot(ends, first.slope_s_per_gmac * ends, color=colour, linewidth=1)
    axes[1].plot(own.gmacs, own.deviation_pct, "o-", color=colour, markersize=4, linewidth=1)
    axes[2].plot(own.gmacs, own.peak_mib, "o", color=colour, markersize=4)
    axes[2].plot(
        ends,
        first.memory_intercept_mib + first.memory_slope_mib_per_gmac * ends,
        color=colour,
        linewidth=1,
    )


def call_points(
    files: list[Path], spec: NetSpec, series: dict[str, list[InputShape]], rounds: int, threads: int
) -> tuple[list[Point], dict]:
    """The first two series, and seconds by layers."""
    shapes = list(dict.fromkeys(shape for found in series.values() for shape in found))
    runtimes = [open_runtime(path, threads=threads) for path in files]
    seconds = call_times(runtimes, shapes, rounds)
    names = [runtime.name for runtime in runtimes]
    layers = {
        "onnxruntime": onnxruntime_layers(files[0], shapes, threads),
        "torch": torch_layers(runtimes[1], shapes),
    }
    del runtimes
    peaks = {
        name: alone(peaks_of_calls, path, shapes, threads)
        for name, path in zip(names, files, strict=True)
    }
    points = []
    for name in names:
        for title, found in series.items():
            for shape in found:
                took = seconds[name, shape]
                points.append(
                    Point(
                        title,
                        name,
                        *shape,
                        work(spec, shape) / 1e9,
                        rounds,
                        float(np.median(took)),
                        min(took),
                        max(took),
                        peaks[name][shape],
                    )
                )
    return points, layers


def whole_numbers(text: str, separator: str = ",") -> tuple[int, ...]:
    return tuple(map(int, text.split(separator)))


@click.command(context_settings={"show_default": True})
@click.option("--arch", default="D")
@click.option("--width", default=1.0)
@click.option("--sizes", default=SIZES, help="Height x width, comma-separated.")
@click.option("--batches", default="1,2,4,8,16")
@click.option("--counts", default="200,400,800", help="Images scored.")
@click.option("--threads", default=2)
@click.option("--rounds", default=3)
@click.option("--short", is_flag=True, help="Q up to 384, batches up to 4, 400 images, 2 rounds.")
@click.option(
    "--kept",
    default="build/scaling",
    type=click.Path(path_type=Path),
    help="Folder of the nets, for the next run.",
)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(arch, width, sizes, batches, counts, threads, rounds, short, kept, out):
    if short:
        sizes, batches, counts, rounds = (
            "224x224,256x256,384x384,256x341",
            "1,2,4",
            "100,200,400",
            2,
        )
    spec = NetSpec(arch, numbered(1000), width=width, preprocessing=USUAL)
    weights = random_weights(spec, kept)
    series = {
        SIZE: [InputShape(1, *whole_numbers(size, "x")) for size in sizes.split(",")],
        BATCH: [InputShape(batch, spec.crop, spec.crop) for batch in whole_numbers(batches)],
    }
    points, layers = call_points(
        [*exports(weights, kept, ExportOptions(("fp32",))), weights], spec, series, rounds, threads
    )
    small = random_weights(
        NetSpec(**SMALL, classes=built_in("val", 1).classes, preprocessing=USUAL), kept / "small"
    )
    points += scoring_points(
        exports(small, kept / "small", ExportOptions(("fp32",)))[0],
        whole_numbers(counts),
        threads,
        rounds,
    )
    table = with_lines(points)
    excess = by_layers(table, spec, layers)
    described = json.dumps(describe_environment(threads), indent=2)
    for frame, name in ((table, "scaling.csv"), (excess, "scaling_layers.csv")):
        with whole_file(out / name) as partial:
            frame.to_csv(partial, index=False)
    reading = "A line through the origin is laid mostly by the most work; what lies off it is what does not grow with the work."
    text = (
        f"# Time and memory against multiply-accumulates, VGG-{arch}, width {width:g}, {threads} threads\n\nMedians of {rounds} rounds in turn. {reading} "
        f"{about_fc6(excess, spec)}\n\n![scaling](scaling.png)\n\n{markdown(table, excess)}\n\n```json\n{described}\n```\n"
    )
    write_text(out / "scaling.md", text)
    with whole_file(out / "scaling.png") as partial:
        picture(table).savefig(partial, format="png", dpi=150, facecolor="white")
    print(text)


if __name__ == "__main__":
    main()
