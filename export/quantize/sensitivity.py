"""Measures which layers suffer: the error that quantizing one convolution alone causes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.calibration import read_calibration, read_images
from export.quantize.calibration_images import open_calibration_images
from export.quantize.convolve import (
    multiply_adds,
    net_input,
    padding_of,
    run_layer_fast,
    trunk_and_head,
)
from export.quantize.four_bits import round_weight
from export.quantize.photos_by_layer import photos_by_layer, spread_order
from export.quantize.ranges import clip
from export.quantize.rounding import (
    LAST,
    Mapping,
    Quantization,
    quantized_alone,
    rounded_input,
    stored_layer,
)
from export.quantize.second_moments import measure_moments
from export.quantize.winograd import convolve_fast
from export.settings.export_options import ExportOptions
from export.settings.precision import FOUR_BIT, PRECISIONS, Precision
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.named_weights import Located
from vgg_deploy.net.open_net import open_net
from vgg_deploy.progress import progress
from vgg_deploy.terminal_tables import Column, print_table

IMAGES = 64  # of those for calibration
MAPS = 32  # that the head takes at a time; the windows of fc6 of as many have some 30 MB


@dataclass(frozen=True)
class Sensitivity:
    """One convolution, quantized while all others are float32; fields are columns of the CSV.

    Attributes:
        layer: Name of the convolution.
        precision: Name of the precision.
        threshold: Its input is clipped to this magnitude.
        sqnr_db: Of the mean scores: 10 log10 of the signal's power over the error's.
        agreement_pct: Images whose best class is that of float32, in per cent.
        images: Number of images that the layer was tried on: few for an early layer.
    """

    layer: str
    precision: str
    threshold: float
    sqnr_db: float
    agreement_pct: float
    images: int


def report_sensitivity(
    source: str | Path | Located,
    folder: Path,
    options: ExportOptions,
    classes: ClassList | None,
    threads: int,
    log: Callable[[str], None],
    stated: StatedInput = NOTHING_STATED,
) -> None:
    """Measure, show and save `<arch>.sensitivity.csv` for every quantized precision.

    Layers that are kept from quantization are measured too.

    Args:
        source: Checkpoint or foreign weights, see `open_net`.
        folder: Folder of the export; it contains the calibration, which must have been done.
        options: Of the export.
        classes: For foreign weights, see `open_net`.
        threads: Processes that decode images.
        log: Called with a sentence for each step.
        stated: For foreign weights, see `open_net`.

    Raises:
        InputError: If no precision is quantized, or the calibration is missing.
    """
    import pandas as pd  # here, because it takes 55 MB and `measure_sensitivity` needs none of it

    precisions = [PRECISIONS[n] for n in options.precisions if PRECISIONS[n].is_quantized]
    if not precisions:
        raise InputError(
            "--sensitivity: nothing is quantized; add int8, int8-cpu, fp8, int4 or int4-cpu to "
            "--precision"
        )
    net = open_net(source, classes, stated)
    calibration_file = folder / f"{options.name or net.spec.arch}.calibration.json"
    calibration = read_calibration(calibration_file)
    if calibration is None:
        raise InputError(f"{calibration_file}: was written by an earlier version; remove it")
    images = open_calibration_images(options.calibration, options.calibration_images, net)
    images = images.subset(IMAGES)
    log(f"sensitivity on {len(images)} of the calibration images")
    batches, _ = read_images(net, images, threads, options.on_error)
    measured = []
    with progress("sensitivity", len(precisions) * sum(map(len, batches))) as bar:
        for precision in precisions:
            thresholds = clip(calibration.ranges, options.method, precision)
            del thresholds[LAST]
            blocks = {}
            if precision.block:
                moments = measure_moments(net, batches, FOUR_BIT)
                blocks = {
                    name: round_weight(net.convolution(name), moments[name], precision.block)
                    for name in FOUR_BIT
                }
            quantization = Quantization(thresholds, options.per_channel, blocks=blocks)
            measured += measure_sensitivity(net, precision, quantization, batches, bar.advance)
    with whole_file(folder / f"{options.name or net.spec.arch}.sensitivity.csv") as partial:
        pd.DataFrame([asdict(row) for row in measured]).to_csv(partial, index=False)
    _print(measured, len(images))


def _print(measured: list[Sensitivity], images: int) -> None:
    rows = sorted(measured, key=lambda row: (row.precision, row.sqnr_db))
    print_table(
        f"What quantizing one layer alone costs, of {images} images, worst first",
        [
            Column("precision", [row.precision for row in rows], words=True),
            Column("layer", [row.layer for row in rows], words=True),
            Column("clipped at", [f"{row.threshold:.4g}" for row in rows], spare=1),
            Column("SQNR of scores dB", [f"{row.sqnr_db:.1f}" for row in rows]),
            Column("top-1 agrees %", [f"{row.agreement_pct:.1f}" for row in rows]),
            Column("images", [str(row.images) for row in rows]),
        ],
    )


class _Trial(NamedTuple):
    """One photo with one layer quantized, on its way through the net.

    Attributes:
        layer: The layer; empty for the float32 net.
        photo: Number of the photo.
        values: (1, C, h, w), what the layer that was run last gives.
    """

    layer: str
    photo: int
    values: Tensor


@torch.inference_mode()
def measure_sensitivity(
    net: VGG,
    precision: Precision,
    quantization: Quantization,
    batches: list[np.ndarray],
    advance: Callable[[int], None],
) -> list[Sensitivity]:
    """Quantize every convolution alone.

    What precedes it is computed once for all of them. What follows is computed on as many photos
    as `photos_by_layer` gives the layer. All of it is exact: nothing is linearised.

    Args:
        net: The float32 net, in evaluation mode.
        precision: One that is quantized.
        quantization: Thresholds of the convolutions to measure.
        batches: (N, 3, H, W) uint8 RGB.
        advance: Called with the number of images of each batch after its use.
    """
    trunk, head = trunk_and_head(net)
    photos = sum(map(len, batches))
    counts = photos_by_layer(_costs(net, quantization, batches), photos)
    ranks = spread_order(photos)
    trials: list[_Trial] = []
    convolutions = _trunk_alone(trunk, precision, quantization)
    photo = 0
    for batch in batches:
        for image in batch:
            values = net_input(image[None], net.spec)
            for i, (name, layer) in enumerate(trunk):
                if name in counts and ranks[photo] < counts[name]:
                    output = convolutions[name](values)
                    for _, later in trunk[i + 1 :]:
                        output = run_layer_fast(later, output)
                    trials.append(_Trial(name, photo, output))
                values = run_layer_fast(layer, values)
            trials.append(_Trial("", photo, values))
            photo += 1
        advance(len(batch))
    for name, layer in head:
        chosen = [t for t in trials if not t.layer and ranks[t.photo] < counts.get(name, 0)]
        rounded = partial(
            quantized_alone, name, layer, precision=precision, quantization=quantization
        )
        alone = _each(chosen, rounded)
        trials = _each(trials, partial(_run, layer))
        trials += [trial._replace(layer=name) for trial in alone]
    return _results(trials, precision, quantization)


def _run(layer: nn.Module, batches: list[Tensor]) -> list[Tensor]:
    return [run_layer_fast(layer, values) for values in batches]


def _costs(net: VGG, quantization: Quantization, batches: list[np.ndarray]) -> dict[str, float]:
    """Work of trying each layer alone, as a share of a pass of the net, mean over the photos."""
    work: Counter[str] = Counter()
    for batch in batches:
        count, _, height, width = batch.shape
        for name, own in multiply_adds(net, height, width).items():
            work[name] += count * own
    names, left = list(work), sum(work.values())
    behind = {}  # the work of a layer and of all behind it
    for name in names:
        behind[name] = left
        left -= work[name]
    return {name: behind[name] / behind[names[0]] for name in quantization.thresholds}


def _trunk_alone(
    trunk: list[tuple[str, nn.Module]], precision: Precision, quantization: Quantization
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Convolutions of the trunk with the weights and inputs that a file would have, by name."""
    mappings = quantization.mappings(precision)
    found = {}
    for name, layer in trunk:
        if name in quantization.thresholds and isinstance(layer, nn.Conv2d):
            found[name] = _alone(layer, precision, mappings[name], quantization.per_channel)
    return found


def _alone(
    layer: nn.Conv2d, precision: Precision, mapping: Mapping, per_channel: bool
) -> Callable[[Tensor], Tensor]:
    weight, bias = stored_layer(layer, precision, mapping, per_channel)
    padding = padding_of(layer)
    return lambda values: convolve_fast(rounded_input(values, mapping), weight, bias, padding)


def _each(trials: list[_Trial], run: Callable[[list[Tensor]], list[Tensor]]) -> list[_Trial]:
    """Run something on the values of all trials, MAPS of one shape at a time."""
    by_shape: dict[torch.Size, list[_Trial]] = {}
    for trial in trials:
        by_shape.setdefault(trial.values.shape, []).append(trial)
    groups = [
        group[start : start + MAPS]
        for group in by_shape.values()
        for start in range(0, len(group), MAPS)
    ]
    outputs = run([torch.cat([trial.values for trial in group]) for group in groups])
    return [
        trial._replace(values=values)
        for group, output in zip(groups, outputs, strict=True)
        for trial, values in zip(group, torch.split(output, 1), strict=True)
    ]


def _results(
    trials: list[_Trial], precision: Precision, quantization: Quantization
) -> list[Sensitivity]:
    """Compare the mean scores of every layer's trials with the float32 net's of the same photos."""
    scores: dict[str, dict[int, Tensor]] = {}
    for trial in trials:
        scores.setdefault(trial.layer, {})[trial.photo] = trial.values.mean((2, 3))
    exact = scores.pop("")
    return [
        _compared(
            name,
            precision,
            threshold,
            torch.cat(list(scores[name].values())),
            torch.cat([exact[photo] for photo in scores[name]]),
        )
        for name, threshold in quantization.thresholds.items()
    ]


def _compared(
    name: str, precision: Precision, threshold: float, scores: Tensor, reference: Tensor
) -> Sensitivity:
    noise = float(((scores - reference) ** 2).mean())
    signal = float((reference**2).mean())
    sqnr = float(10 * np.log10(signal / noise)) if noise else float("inf")
    same_class = scores.argmax(1) == reference.argmax(1)
    agreement = 100 * float(same_class.double().mean())
    return Sensitivity(name, precision.name, threshold, sqnr, agreement, len(reference))
