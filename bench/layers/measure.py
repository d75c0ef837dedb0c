"""Measures the layers of all models of a run: times and errors, as rows of tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.layers.contract import NotSeparable
from bench.layers.measure_times import Times, measure_times, with_interval
from bench.layers.parts import INPUT, LAYOUT, POSTERIOR, Part, convolution_of, part_name
from bench.layers.reference import float_net
from bench.layers.sqnr import PartError, part_errors
from bench.layers.timers import layer_timer
from bench.layers.watchers import layer_values
from bench.models.model import Model
from vgg_deploy.name_frames import named_frame
from vgg_deploy.net.archs import ARCHS, macs_by_layer
from vgg_deploy.net.outputs import layer_names
from vgg_deploy.net.spec import NetSpec

NAN = float("nan")
NO_FLOAT_NET = (
    "the run has no float32 net of its weights; name the checkpoint or its float32 ONNX file too"
)


@dataclass(frozen=True)
class LayerRow:
    """What one part of one model takes and loses; field names are the columns of layers.csv.

    Missing numbers (NaN, empty cells) were not measured.
    """

    model: str
    runtime: str
    precision: str
    device: str
    threads: int
    height_px: int
    width_px: int
    batch: int
    layer: str  # names of layers that are computed at once, joined by " + "
    ms: float  # median
    ms_low: float  # its 95 % interval
    ms_high: float
    share_pct: float  # of the sum of all parts
    gmacs: float  # billions of multiply-accumulates of the batch
    gflop_per_s: float  # two floating-point operations per multiply-accumulate
    added_sqnr_db: float
    added_rms: float
    total_sqnr_db: float
    total_rms: float


@dataclass(frozen=True)
class CallRow:
    """The whole calls beside the parts; field names are the columns of layer_calls.csv."""

    model: str
    runtime: str
    precision: str
    how: str  # the parts were timed; empty if they were not
    calls: int
    whole_ms: float  # median call without timers inside
    whole_low_ms: float
    whole_high_ms: float
    sum_ms: float  # of the parts' medians
    overhead_ms: float  # median time of the timed calls outside of all parts
    timers_ms: float  # what the timers cost: median difference of calls with and without them
    timers_low_ms: float
    timers_high_ms: float
    reference: str  # the float32 net that the errors are against
    images: int  # that errors were measured on
    not_measured: str  # and why; what showing values changes


class Size(NamedTuple):
    """What the models are called with.

    Attributes:
        side: Of the square images, pixels.
        batch: Images per call; errors are measured image by image.
        least_s: Seconds that the times of one model take at least.
    """

    side: int
    batch: int
    least_s: float


@dataclass(eq=False)
class Layers:
    """What was measured of all models.

    Attributes:
        rows: One per model and part.
        calls: One per model.
        samples: Every counted time, columns of layer_samples.csv; None without any.
    """

    rows: list[LayerRow] = field(default_factory=list)
    calls: list[CallRow] = field(default_factory=list)
    samples: pd.DataFrame | None = None


def measure_layers(
    models: Sequence[Model],
    size_of: Callable[[Model], Size],
    photos_of: Callable[[Model], Sequence[np.ndarray]],
    done: Callable[[str], None],
) -> Layers:
    """Measure one model after the other.

    Args:
        models: Opened models.
        size_of: What a model is called with.
        photos_of: (1, 3, side, side) uint8 RGB each, at least one, for a model.
        done: Called with a model's name when it is measured.
    """
    found, samples = Layers(), []
    for model in models:
        size, photos = size_of(model), photos_of(model)
        reasons: list[str] = []
        times = _times(model, size, photos, reasons)
        reference, errors = _errors(models, model, photos, reasons)
        found.rows += _rows(model, size, times, errors)
        found.calls.append(_call(model, times, (reference, len(photos)), " ".join(reasons)))
        if times:
            samples += [_samples(model, size, one.part, one.ms) for one in times.parts]
        done(model.name)
    if samples:
        found.samples = pd.concat(samples, ignore_index=True)
    return found


def _times(
    model: Model, size: Size, photos: Sequence[np.ndarray], reasons: list[str]
) -> Times | None:
    repeated = [photos[index % len(photos)] for index in range(size.batch)]
    try:
        timer = layer_timer(model.runtime)
        return measure_times(model.runtime, timer, np.concatenate(repeated), size.least_s)
    except NotSeparable as why:
        reasons.append(f"Times: {why}.")
        return None


def _errors(
    models: Sequence[Model], model: Model, photos: Sequence[np.ndarray], reasons: list[str]
) -> tuple[str, list[PartError]]:
    """Name of the float32 net, and the errors against it."""
    net = float_net(models, model)
    if net is None:
        reasons.append(f"Errors: {NO_FLOAT_NET}.")
        return "", []
    if net.is_of(model.runtime):
        reasons.append("Errors: it is the float32 net itself.")
        return "", []
    try:
        values = layer_values(model.runtime)
        if values.note:
            reasons.append(f"Errors: {values.note}.")
        return net.name, part_errors(values, net, photos)
    except NotSeparable as why:
        reasons.append(f"Errors: {why}.")
        return "", []


def _rows(
    model: Model, size: Size, times: Times | None, errors: Sequence[PartError]
) -> list[LayerRow]:
    timed = {one.part: one.ms for one in times.parts} if times else {}
    of_part = {error.part: error for error in errors}
    sum_ms = times.sum_ms if times else NAN
    macs = _macs(model.runtime.spec, size)
    rows = []
    for part in _in_order({**timed, **of_part}, layer_names(model.runtime.spec)):
        ms, low, high = with_interval(timed[part]) if part in timed else (NAN, NAN, NAN)
        conv, error = convolution_of(part), of_part.get(part)
        gmacs = macs[conv] / 1e9 if conv else 0.0
        rows.append(
            LayerRow(
                **model.described,
                device=model.runtime.device,
                threads=model.runtime.threads,
                height_px=size.side,
                width_px=size.side,
                batch=size.batch,
                layer=part_name(part),
                ms=ms,
                ms_low=low,
                ms_high=high,
                share_pct=100 * ms / sum_ms,
                gmacs=gmacs,
                gflop_per_s=2000 * gmacs / ms if conv and ms else NAN,
                added_sqnr_db=error.added_db if error else NAN,
                added_rms=error.added_rms if error else NAN,
                total_sqnr_db=error.total_db if error else NAN,
                total_rms=error.total_rms if error else NAN,
            )
        )
    return rows


def _call(
    model: Model, times: Times | None, reference: tuple[str, int], not_measured: str
) -> CallRow:
    whole = with_interval(times.whole_ms) if times else (NAN, NAN, NAN)
    timers = with_interval(times.timed_ms - times.whole_ms) if times else (NAN, NAN, NAN)
    name, images = reference
    return CallRow(
        **model.described,
        how=times.how if times else "",
        calls=len(times.whole_ms) if times else 0,
        whole_ms=whole[0],
        whole_low_ms=whole[1],
        whole_high_ms=whole[2],
        sum_ms=times.sum_ms if times else NAN,
        overhead_ms=times.overhead_ms if times else NAN,
        timers_ms=timers[0],
        timers_low_ms=timers[1],
        timers_high_ms=timers[2],
        reference=name,
        images=images if name else 0,
        not_measured=not_measured,
    )


def _samples(model: Model, size: Size, part: Part, ms: np.ndarray) -> pd.DataFrame:
    return named_frame(
        {
            **model.described,
            "height_px": size.side,
            "width_px": size.side,
            "batch": size.batch,
            "layer": part_name(part),
            "run": np.arange(len(ms)),
            "ms": ms,
        }
    )


def _macs(spec: NetSpec, size: Size) -> dict[str, int]:
    """Multiply-accumulates of a batch by convolution."""
    counts = macs_by_layer(
        ARCHS[spec.arch], size.side, size.side, len(spec.classes), spec.width, spec.crop
    )
    return {name: size.batch * count for name, count in counts.items()}


def _in_order(parts: dict[Part, object], layers: Sequence[str]) -> list[Part]:
    """Parts in running order; those without a place in it at the end."""
    order = (INPUT, *layers, POSTERIOR, LAYOUT)
    return sorted(parts, key=lambda part: order.index(part[0]))
