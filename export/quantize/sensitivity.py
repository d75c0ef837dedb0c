"""Measures which layers suffer: the error that quantizing one convolution alone causes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.calibration import read_calibration, read_images
from export.quantize.calibration_images import open_calibration_images
from export.quantize.convolve import layers_of, net_input
from export.quantize.four_bits import round_weight
from export.quantize.ranges import clip
from export.quantize.rounding import LAST, Quantization, quantized_alone
from export.quantize.second_moments import measure_moments
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


@dataclass(frozen=True)
class Sensitivity:
    """One convolution, quantized while all others are float32; fields are columns of the CSV.

    Attributes:
        layer: Name of the convolution.
        precision: Name of the precision.
        threshold: Its input is clipped to this magnitude.
        sqnr_db: Of the mean scores: 10 log10 of the signal's power over the error's.
        agreement_pct: Images whose best class is that of float32, in per cent.
        images: Number of images.
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
        f"What quantizing one layer alone costs, {images} images, worst first",
        [
            Column("precision", [row.precision for row in rows], words=True),
            Column("layer", [row.layer for row in rows], words=True),
            Column("clipped at", [f"{row.threshold:.4g}" for row in rows], spare=1),
            Column("SQNR of scores dB", [f"{row.sqnr_db:.1f}" for row in rows]),
            Column("top-1 agrees %", [f"{row.agreement_pct:.1f}" for row in rows]),
        ],
    )


@torch.inference_mode()
def measure_sensitivity(
    net: VGG,
    precision: Precision,
    quantization: Quantization,
    batches: list[np.ndarray],
    advance: Callable[[int], None],
) -> list[Sensitivity]:
    """Quantize every convolution alone. What precedes it is computed once for all of them.

    Args:
        net: The float32 net, in evaluation mode.
        precision: One that is quantized.
        quantization: Thresholds of the convolutions to measure.
        batches: (N, 3, H, W) uint8 RGB.
        advance: Called with the number of images of each batch after its use.
    """
    layers = layers_of(net)
    exact: list[Tensor] = []
    quantized: dict[str, list[Tensor]] = {name: [] for name in quantization.thresholds}
    for batch in batches:
        values = net_input(batch, net.spec)
        for i, (name, layer) in enumerate(layers):
            if name in quantized:
                output = quantized_alone(name, layer, values, precision, quantization)
                quantized[name].append(_mean_scores(layers[i + 1 :], output))
            values = layer(values)
        exact.append(values.mean((2, 3)))
        advance(len(batch))
    reference = torch.cat(exact)
    return [
        _compared(name, precision, quantization.thresholds[name], torch.cat(scores), reference)
        for name, scores in quantized.items()
    ]


def _mean_scores(layers: list[tuple[str, nn.Module]], values: Tensor) -> Tensor:
    """(N, classes) after the rest of the layers."""
    for _, layer in layers:
        values = layer(values)
    return values.mean((2, 3))


def _compared(
    name: str, precision: Precision, threshold: float, scores: Tensor, reference: Tensor
) -> Sensitivity:
    noise = float(((scores - reference) ** 2).mean())
    signal = float((reference**2).mean())
    sqnr = float(10 * np.log10(signal / noise)) if noise else float("inf")
    same_class = scores.argmax(1) == reference.argmax(1)
    agreement = 100 * float(same_class.double().mean())
    return Sensitivity(name, precision.name, threshold, sqnr, agreement, len(reference))
