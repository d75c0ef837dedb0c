"""Prepares what all files of one export share: images, reference scores, ranges, quantization."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from export.limit.criterion import Criterion
from export.limit.photos import Photos, open_photos, refuse_too_few
from export.quantize.calibration import Calibration, calibrate, each_batch, read_images
from export.quantize.calibration_images import open_calibration_images, split, warn_of_few
from export.quantize.convolve import layers_for, paper_name, run_layer, run_layer_fast
from export.quantize.four_bits import BlockWeight, round_weight
from export.quantize.low_rank import LowRank, check_ranks, factor, factored
from export.quantize.ranges import Range, clip, empty_ranges
from export.quantize.rounding import LAST, Quantization
from export.quantize.second_moments import IMAGES, measure_moments
from export.settings.export_options import ExportOptions
from export.settings.precision import FOUR_BIT, HALF, PRECISIONS, Precision
from export.verify.feature_parity import judge_reference_features
from export.verify.parity import judge_reference, reference_outputs, scores_in
from export.verify.seen_images import images_for, seen_batch, shaped
from export.weights_origin import recorded, source_lines, weights_identity
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.rotated import rotation_line
from vgg_deploy.errors import InputError
from vgg_deploy.exported.interface import Interface
from vgg_deploy.files import sha256
from vgg_deploy.near_misses import did_you_mean
from vgg_deploy.net.archs import ARCHS
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.foreign_weights import Assumed
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.named_weights import Located
from vgg_deploy.net.open_net import open_layers, refuse_without_scores
from vgg_deploy.net.outputs import SCORES, check_layer_names, head_outputs
from vgg_deploy.runtimes.contract import Outputs, Scores
from vgg_deploy.unchanged_files import unchanged


@dataclass(frozen=True)
class Task:
    """What to export, and where to.

    Attributes:
        source: Checkpoint or foreign weights; its name stands in the files.
        folder: Of the files.
        options: Which files to write.
        classes: For foreign weights, see `open_net`.
        stated: For foreign weights, see `open_net`.
        threads: Of calibration and check; as many processes decode images.
        log: Called with a sentence for each step and warning.
    """

    source: Located
    folder: Path
    options: ExportOptions
    classes: ClassList | None
    threads: int
    log: Callable[[str], None]
    stated: StatedInput = NOTHING_STATED

    def open_net(self, on_assumed: Callable[[Assumed], None] | None = None) -> VGG:
        """The net in evaluation mode, see `open_layers`; without features it needs a head."""
        net = open_layers(self.source, self.classes, self.stated, on_assumed)
        if not (self.options.features and not self.options.with_scores) and not net.spec.boxes:
            refuse_without_scores(net.spec, str(self.source.path))
        return net

    @property
    def precisions(self) -> list[Precision]:
        """Of the files, in the operator set that is asked for.

        Raises:
            InputError: If a precision cannot be written in it.
        """
        return [PRECISIONS[name].at(self.options.opset) for name in self.options.precisions]

    @property
    def quantizes(self) -> bool:
        """Whether a file is quantized."""
        return any(precision.is_quantized for precision in self.precisions)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Calibration images that no range was measured on.

    Attributes:
        batches: (N, 3, H, W) uint8 RGB, at the net's test scale.
        reference: The float32 net's scores, by batch; empty if the files give none.
        skipped: Names of unreadable images.
    """

    batches: list[np.ndarray]
    reference: list[Scores]
    skipped: list[str]


@dataclass(frozen=True, eq=False)
class Quantized:
    """What quantized files are made and judged with.

    Attributes:
        calibration: With the ranges.
        held_out: Images to measure the cost on.
        quantizations: By the name of the precision.
    """

    calibration: Calibration
    held_out: HeldOut
    quantizations: dict[str, Quantization]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What every file of one export is made and checked with.

    Attributes:
        arch: Of the net.
        source_sha256: Of the file that the net comes from.
        outputs: What the files give: of SCORES, and layers in running order.
        check_images: Batches (N, 3, H, W) uint8 RGB, as the files are given them.
        seen: The same as the convolutions see them.
        reference: The float32 net's outputs for them, by batch and name.
        ranges: On the calibration images, or for half precision alone on the check images.
        quantized: Where a file is quantized.
        record: What was assumed of the source, for the manifest.
        convolutions: That the outputs need, in running order.
        photos: That choose layers and judge files; None without a limit.
        factors: Of layers that the files have in two factors.
        opened: The net, for the first file that is written, which takes it out; the others open it
            anew, because it must not be in memory while they are checked.
    """

    arch: str
    source_sha256: str
    outputs: tuple[str, ...]
    check_images: list[np.ndarray]
    seen: list[np.ndarray]
    reference: list[Outputs]
    ranges: dict[str, Range]
    quantized: Quantized | None
    record: dict[str, object]
    convolutions: tuple[str, ...]
    factors: dict[str, LowRank]
    photos: Photos | None = None
    opened: list[VGG] = field(default_factory=list)


def prepare(task: Task) -> Prepared:
    """Read the net, calibrate it if needed, and score the check images.

    Raises:
        InputError: If the net, the options or the images cannot be used.
        Undecided: If the photos cannot show a limit, whatever the files do.
    """
    path = task.source.path
    _ = task.precisions  # refused before the net is read
    task.log(task.source.line or f"reading {path}")
    assumptions: list[Assumed] = []
    with unchanged(path):
        net = task.open_net(assumptions.append)
        source_sha256 = sha256(path)
    assumed = assumptions[0] if assumptions else None
    for line in source_lines(path, net.spec, task.classes, assumed):
        task.log(line)
    outputs = outputs_of(task.options, net)
    convolutions = _convolutions(net, outputs)
    factors = _factors(task, net, convolutions)
    with factored(net, factors):
        return _prepare(task, net, outputs, source_sha256, assumed, factors)


def _prepare(
    task: Task,
    net: VGG,
    outputs: tuple[str, ...],
    source_sha256: str,
    assumed: Assumed | None,
    factors: dict[str, LowRank],
) -> Prepared:
    """Calibrate a net as the files have it, and score the check images."""
    path, convolutions = task.source.path, _convolutions(net, outputs)
    check_convolution_names("--keep", task.options.keep, net.spec.arch)
    if task.quantizes:
        _refuse_keeping_all(task.options.keep, convolutions)
        _refuse_without_four_bits(task, convolutions)
    photos = _open_photos(task, net)
    interface = task.options.interface
    _refuse_interface(interface, net, path)
    images = images_for(net.spec.crop, interface)
    seen = [seen_batch(batch, net.spec, interface) for batch in images]
    ranges: dict[str, Range] = {}
    of_check_images: dict[str, Range] | None = None
    quantized: Quantized | None = None
    if task.options.calibration or task.quantizes or factors:
        identity = weights_identity(source_sha256, assumed)
        if factors:
            identity = hashlib.sha256(f"{identity} {task.options.low_rank}".encode()).hexdigest()
        calibration, quantized = _calibrate(task, net, outputs, identity, photos)
        ranges = calibration.ranges
    elif any(precision.trunk == HALF for precision in task.precisions):
        of_check_images = ranges = empty_ranges(net)
    task.log("PyTorch's outputs for the check images")
    is_exact = any(precision.name == "fp32" for precision in task.precisions)
    run = run_layer if is_exact else run_layer_fast
    reference = reference_outputs(net, outputs, seen, of_check_images, run)
    _judge_reference(task, outputs, reference)
    return Prepared(
        arch=net.spec.arch,
        source_sha256=source_sha256,
        outputs=outputs,
        check_images=images,
        seen=seen,
        reference=reference,
        ranges={name: ranges[name] for name in convolutions if name in ranges},
        quantized=quantized,
        record=recorded(path, net.spec, task.classes, assumed),
        convolutions=tuple(convolutions),
        photos=photos,
        factors=factors,
        opened=[] if photos else [net],
    )


def _open_photos(task: Task, net: VGG) -> Photos | None:
    """The photos of a limit, if there is one."""
    options = task.options
    if options.max_top1_drop is None or options.data is None:
        return None
    where, stated = str(task.source.path), task.classes is not None
    if net.spec.boxes:
        raise InputError(f"{where}: states boxes and no classes, so it has no top-1 accuracy")
    photos = open_photos(options.data, options, net, where, stated)
    criterion = Criterion(options.max_top1_drop, photos.judge.labelled)
    refuse_too_few(photos, criterion, options.data)
    task.log(f"limit of {criterion.points:g} points: {photos.stated}")
    if not criterion.labelled:
        task.log("the photos have no labels: the limit is of answers that change")
    return photos


def check_convolution_names(option: str, names: tuple[str, ...], arch: str) -> None:
    """Check that a net has the convolutions of these names.

    Args:
        option: That names them, for the message.
        names: Of layers.
        arch: Of the net.

    Raises:
        InputError: If it does not have one of them.
    """
    stages = (*ARCHS[arch].stages(), ARCHS[arch].head(1))
    known = [conv.name for stage in stages for conv in stage]
    for name in names:
        if name not in known:
            raise InputError(
                f"{option} {name}: net {arch} has no such layer; choose from {', '.join(known)}"
                f"{did_you_mean(name, known)}"
            )


def outputs_of(options: ExportOptions, net: VGG) -> tuple[str, ...]:
    """What the files of an export give.

    Raises:
        InputError: For a layer that the net does not have.
    """
    head = head_outputs(net.spec)
    if not options.features:
        return head
    layers = check_layer_names("--features", options.features, net.spec)
    return (*(head if options.with_scores else ()), *layers)


def _convolutions(net: VGG, outputs: tuple[str, ...]) -> list[str]:
    """Names of the convolutions that some outputs need, in running order."""
    return [name for name, layer in layers_for(net, outputs) if isinstance(layer, nn.Conv2d)]


def _judge_reference(task: Task, outputs: tuple[str, ...], reference: list[Outputs]) -> None:
    """Refuse outputs that nothing can be compared with, and warn of doubtful ones."""
    path = task.source.path
    if set(SCORES) <= set(outputs):
        doubt = judge_reference([scores_in(one) for one in reference], path)
        if doubt:
            task.log(doubt)
    layers = tuple(name for name in outputs if name not in SCORES)
    for one in reference:
        fault = judge_reference_features(one, layers)
        if fault:
            raise InputError(f"{path}: {fault}")


def _refuse_interface(interface: Interface, net: VGG, path: Path) -> None:
    """Refuse what a net cannot be given or give.

    Raises:
        InputError: For shapes and Q below the crop, and for scores of a localiser.
    """
    crop = net.spec.crop
    if net.spec.boxes and (interface.side is not None or interface.logits):
        raise InputError(
            f"{path}: is a localiser; whole images and logits are for files that give scores"
        )
    if interface.side is not None:
        if interface.side < crop:
            raise InputError(
                f"{path}: Q {interface.side} of whole images is below its crop {crop}, so no "
                f"window fits; the smallest Q is {crop}"
            )
    elif interface.shape is not None and min(interface.shape[1:]) < crop:
        raise InputError(
            f"{path}: the fixed shape {interface.text()} is below its crop {crop}, so no window "
            "fits"
        )


def _refuse_keeping_all(keep: tuple[str, ...], convolutions: list[str]) -> None:
    if not set(convolutions) - {*keep, LAST}:
        reason = f"--keep {','.join(keep)}: leaves" if keep else "these outputs leave"
        raise InputError(
            f"{reason} no layer to quantize; keep fewer layers, or export a float precision"
        )


def _refuse_without_four_bits(task: Task, convolutions: list[str]) -> None:
    """Refuse a precision of 4-bit layers where the file would have none of them."""
    for precision in task.precisions:
        if precision.block and not four_bit_layers(task.options, convolutions):
            reason = f"{' and '.join(FOUR_BIT)} have 4 bits in it, and this file has none in them"
            raise InputError(
                f"--precision {precision.name}: {reason}; use int8-cpu",
                "use int8-cpu",
            )


def four_bit_layers(options: ExportOptions, convolutions: list[str]) -> tuple[str, ...]:
    """Layers of 4-bit weights in the files of a precision that has such.

    Args:
        options: Of the export.
        convolutions: Of the files.
    """
    return tuple(name for name in FOUR_BIT if name in convolutions and name not in options.keep)


def _calibrate(
    task: Task, net: VGG, outputs: tuple[str, ...], identity: str, photos: Photos | None
) -> tuple[Calibration, Quantized | None]:
    """Measure ranges and, if a file is quantized, choose thresholds and hold images out."""
    options = task.options
    if photos:
        chosen = photos.calibrate
    else:
        chosen = open_calibration_images(options.calibration, options.calibration_images, net)
        chosen = replace(chosen, upright=options.exif == "apply")
    line = rotation_line(chosen, "--exif apply turns them upright")
    if line:
        task.log(f"Calibration: {line}")
    images = split(chosen)
    warn_of_few(chosen, task.log)
    path = task.folder / f"{task.options.name or net.spec.arch}.calibration.json"
    calibration = calibrate(
        net, identity, images.for_ranges, path, task.threads, task.log, options.on_error
    )
    if not (task.quantizes or options.low_rank):
        return calibration, None
    held_out = _hold_out(
        task, task.open_net() if options.low_rank else net, outputs, images.held_out
    )
    convolutions = _convolutions(net, outputs)
    blocks = _block_weights(task, net, images.for_ranges, convolutions)
    quantizations = {
        precision.name: _quantization(options, precision, calibration.ranges, convolutions, blocks)
        for precision in task.precisions
        if precision.is_quantized
    }
    return calibration, Quantized(calibration, held_out, quantizations)


def _hold_out(task: Task, net: VGG, outputs: tuple[str, ...], images: Dataset) -> HeldOut:
    """Read the held-out images and, if the files give scores, score them.

    Their features are not kept: those of one photo can have 100 MB.
    """
    batches, skipped = read_images(net, images, task.threads, task.options.on_error)
    if skipped:
        task.log(
            f"Warning: skipped {len(skipped)} of {len(images)} held-out images, unreadable: "
            f"{', '.join(skipped)}"
        )
    if not batches:
        raise InputError(
            f"{images.root}: none of the {len(images)} held-out images can be read, "
            f"e.g. {skipped[0]}"
        )
    interface = task.options.interface
    batches = [shaped(batch, interface) for batch in batches]
    if not set(SCORES) <= set(outputs):
        return HeldOut(batches, [], skipped)
    task.log(f"PyTorch's scores of {len(images)} held-out calibration images")
    seen = [seen_batch(batch, net.spec, interface) for batch in batches]
    scores = [scores_in(one) for one in reference_outputs(net, SCORES, seen, run=run_layer_fast)]
    return HeldOut(batches, scores, skipped)


def _quantization(
    options: ExportOptions,
    precision: Precision,
    ranges: dict[str, Range],
    convolutions: list[str],
    blocks: dict[int, dict[str, BlockWeight]],
) -> Quantization:
    """How the convolutions of a file are quantized."""
    thresholds = clip(ranges, options.method, precision)
    last = thresholds.pop(LAST, None)  # convolutions alone have none
    quantized = {
        name: t
        for name, t in thresholds.items()
        if name in convolutions and paper_name(name) not in options.keep
    }
    # a product of 4-bit weights ends in floats, so that fc8 gets these
    rounds_last = precision.fused and LAST in convolutions and not precision.block
    own_blocks = blocks[precision.block] if precision.block else {}
    return Quantization(quantized, options.per_channel, last if rounds_last else None, own_blocks)


def _factors(task: Task, net: VGG, convolutions: list[str]) -> dict[str, LowRank]:
    """Factors of the layers of --low-rank.

    Raises:
        InputError: If the files need no such layer, or if a rank makes no smaller factors.
    """
    ranks = dict(task.options.low_rank)
    if not ranks:
        return {}
    for name in ranks:
        if name not in convolutions:
            raise InputError(f"--low-rank {name}: these outputs do not need {name}; leave it out")
    check_ranks(ranks, net)
    options = task.options
    images = open_calibration_images(options.calibration, options.calibration_images, net)
    chosen = split(replace(images, upright=options.exif == "apply")).for_ranges.subset(IMAGES)
    task.log(f"factoring {' and '.join(ranks)} by {len(chosen)} of the calibration images")
    return factor(net, ranks, each_batch(net, chosen, task.threads, options.on_error))


def _block_weights(
    task: Task, net: VGG, images: Dataset, convolutions: list[str]
) -> dict[int, dict[str, BlockWeight]]:
    """4-bit weights of the files that have such, by the size of their blocks and by layer."""
    sizes = {precision.block for precision in task.precisions if precision.block}
    if not sizes:
        return {}
    names = four_bit_layers(task.options, convolutions)
    images = images.subset(IMAGES)
    task.log(f"rounding {' and '.join(names)} to 4 bits by {len(images)} of the images")
    batches = each_batch(net, images, task.threads, task.options.on_error)
    moments = measure_moments(net, batches, names)
    return {
        block: {name: round_weight(net.convolution(name), moments[name], block) for name in names}
        for block in sizes
    }
