"""Which layers suffer: the error that quantizing one convolution alone causes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.table import Table
from torch import nn

from export.quantize.calibration import open_calibration_images, read_calibration, read_images
from export.quantize.ranges import clip
from export.quantize.rounding import LAST, Quantization, input_mapping, layer_as
from export.settings.export_options import ExportOptions
from export.settings.precision import PRECISIONS, Precision
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.open_net import open_net
from vgg_deploy.progress import progress, results

PICTURES = 64  # of the calibration's


@dataclass(frozen=True)
class Sensitivity:
    """One convolution, quantized while all others are float32; field names are the columns of the CSV."""

    layer: str
    precision: str
    threshold: float  # its input is clipped to this magnitude
    sqnr_db: float  # of the mean scores: 10 log10 of the signal's power over the error's
    agreement_pct: float  # of the pictures' best class with float32's
    pictures: int


def report_sensitivity(
    source: Path,
    folder: Path,
    wanted: ExportOptions,
    classes: ClassList | None,
    threads: int,
    on_step: Callable[[str], None],
    stated: StatedInput = NOTHING_STATED,
) -> None:
    """Measure, show and save `<arch>.sensitivity.csv`, for every quantized precision that was asked for; kept layers too.

    The calibration must have been done.
    """
    precisions = [PRECISIONS[name] for name in wanted.precisions if PRECISIONS[name].activations]
    if not precisions:
        raise InputError(
            "--sensitivity: nothing is quantized; add int8, int8-cpu or fp8 to --precision"
        )
    net = open_net(source, classes, stated)
    ranges = read_calibration(folder / f"{net.spec.arch}.calibration.json").ranges
    images = open_calibration_images(wanted.calibration, wanted.calibration_images, net).subset(
        PICTURES
    )
    on_step(f"sensitivity on {len(images)} of the calibration images")
    batches, _ = read_images(net, images, threads, wanted.on_error)
    found = []
    with progress("sensitivity", len(precisions) * sum(map(len, batches))) as bar:
        for precision in precisions:
            thresholds = clip(ranges, wanted.method, precision)
            del thresholds[LAST]
            quantization = Quantization(thresholds, wanted.per_channel)
            found += measure_sensitivity(net, precision, quantization, batches, bar.advance)
    with whole_file(folder / f"{net.spec.arch}.sensitivity.csv") as partial:
        pd.DataFrame([asdict(f) for f in found]).to_csv(partial, index=False)
    table = Table(
        title=f"What quantizing one layer alone costs, {len(images)} images, worst first",
        title_justify="left",
    )
    for column in ("precision", "layer", "clipped at", "SQNR of scores dB", "top-1 agrees %"):
        table.add_column(column, justify="left" if column in ("precision", "layer") else "right")
    for f in sorted(found, key=lambda f: (f.precision, f.sqnr_db)):
        table.add_row(
            f.precision, f.layer, f"{f.threshold:.4g}", f"{f.sqnr_db:.1f}", f"{f.agreement_pct:.1f}"
        )
    results().print(table)


@torch.inference_mode()
def measure_sensitivity(
    net: VGG,
    precision: Precision,
    quantization: Quantization,
    batches: list[np.ndarray],
    advance: Callable[[int], None],
) -> list[Sensitivity]:
    """Every quantized convolution alone. What lies before it is computed once for all.

    Args: batches, (N, 3, H, W) uint8 RGB.
    """
    layers = list(net.named_children())
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    exact, found = [], {name: [] for name in quantization.thresholds}
    for batch in batches:
        images = torch.from_numpy(batch).float() - mean
        for i, (name, layer) in enumerate(layers):
            if name in found:
                mapping = input_mapping(name, quantization.thresholds[name], precision)
                one = layer_as(layer, images, precision, mapping, quantization.per_channel)
                found[name].append(_rest(layers[i + 1 :], one))
            images = layer(images)
        exact.append(images.mean((2, 3)))
        advance(len(batch))
    wanted = torch.cat(exact)
    return [
        _judged(name, precision, quantization.thresholds[name], torch.cat(scores), wanted)
        for name, scores in found.items()
    ]


def _rest(layers: list[tuple[str, nn.Module]], images: torch.Tensor) -> torch.Tensor:
    for _, layer in layers:
        images = layer(images)
    return images.mean((2, 3))


def _judged(
    name: str, precision: Precision, threshold: float, scores: torch.Tensor, wanted: torch.Tensor
) -> Sensitivity:
    noise, signal = float(((scores - wanted) ** 2).mean()), float((wanted**2).mean())
    sqnr = float(10 * np.log10(signal / noise)) if noise else float("inf")
    agreement = 100 * float((scores.argmax(1) == wanted.argmax(1)).double().mean())
    return Sensitivity(name, precision.name, threshold, sqnr, agreement, len(wanted))
