"""Prepares what all distance files of one export share: the net, pairs, references, ranges."""

from dataclasses import dataclass, replace

import numpy as np

from export.distance.heads import Heads, read_heads
from export.distance.pairs import Pairs, built_in_photos, check_pairs, distorted_pairs, photos_of
from export.distance.parity import judge_reference
from export.distance.reference import Reference, has_usual_mean
from export.preparation import HeldOut, Quantized, Task, check_convolution_names
from export.quantize.calibration import calibrate, read_images
from export.quantize.calibration_images import open_calibration_images, split, warn_of_few
from export.quantize.convolve import convolutions_of
from export.quantize.ranges import Range, clip, measure_ranges
from export.quantize.rounding import Quantization
from export.settings.distance_choice import LPIPS_ARCH, LPIPS_LAYERS, DistanceChoice
from export.settings.precision import FOUR_BIT, HALF
from export.weights_origin import weights_identity
from vgg_deploy.data.rotated import rotation_line
from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import DistanceArtifact, Term
from vgg_deploy.files import sha256
from vgg_deploy.net.foreign_weights import Assumed
from vgg_deploy.net.model import VGG
from vgg_deploy.net.open_trunk import build_trunk, open_trunk
from vgg_deploy.net.outputs import layer_names
from vgg_deploy.net.spec import NetSpec

CHANGE_INPUT = "state another with --mean, --std, --channel-order"


@dataclass(frozen=True, eq=False)
class PreparedDistance:
    """What every distance file of one export is made and checked with.

    Attributes:
        net: The convolutions.
        artifact: Description of the float32 file.
        heads: Of lpips.
        reference_name: What computed the references.
        check: Pairs at several sizes.
        check_reference: (N,) float64, the float32 net's distances of each batch.
        distorted: Photos beside their distortions, by photo.
        distorted_reference: (N,) float64 of all of them.
        ranges: On the calibration images, or for half precision alone on the check pairs.
        quantized: Where a file is quantized.
        record: What was assumed of the source, for the manifest.
    """

    net: VGG
    artifact: DistanceArtifact
    heads: Heads | None
    reference_name: str
    check: list[Pairs]
    check_reference: list[np.ndarray]
    distorted: list[Pairs]
    distorted_reference: np.ndarray
    ranges: dict[str, Range]
    quantized: Quantized | None
    record: dict[str, object]

    @property
    def convolutions(self) -> tuple[str, ...]:
        """In running order."""
        return tuple(convolutions_of(self.net))


def prepare_distance(task: Task, choice: DistanceChoice) -> PreparedDistance:
    """Read the net, calibrate it if needed, and measure the reference distances.

    Raises:
        InputError: If the net, the options or the calibration images cannot be used.
    """
    path = task.source.path
    heads = read_heads() if choice.kind == "lpips" else None
    task.log(task.source.line or f"reading {path}")
    assumptions: list[Assumed] = []
    spec, weights = open_trunk(task.source, task.stated, assumptions.append)
    assumed = assumptions[0] if assumptions else None
    lines = assumed.lines(str(path), CHANGE_INPUT) if assumed else []
    for line in lines:
        task.log(line)
    if choice.kind == "lpips":
        _refuse_other_net(spec, str(path))
    terms = tuple(Term(*term) for term in choice.terms_of(layer_names(spec), spec.arch))
    net = build_trunk(spec, weights, terms[-1].layer)
    check_convolution_names("--keep", task.options.keep, spec.arch)
    for precision in task.precisions:
        if precision.block:
            raise InputError(
                f"--precision {precision.name}: {' and '.join(FOUR_BIT)} have 4 bits in it, and a "
                "distance has neither; use int8-cpu"
            )
    if task.quantizes and not set(convolutions_of(net)) - set(task.options.keep):
        raise InputError(
            f"--keep {','.join(task.options.keep)}: leaves no layer to quantize; keep fewer "
            "layers, or export a float precision"
        )
    if choice.kind == "lpips" and not has_usual_mean(net):
        lines.append(_warn_of_other_weights(net, str(path)))
        task.log(lines[-1])
    source_sha256 = sha256(path)
    artifact = DistanceArtifact(
        choice.kind,
        spec,
        task.options.form,
        "fp32",
        task.source.name,
        source_sha256,
        terms,
        heads.described if heads else "",
    )
    check = check_pairs(artifact.least_side)
    ranges: dict[str, Range] = {}
    quantized, photos = None, built_in_photos()
    if task.options.calibration or task.quantizes:
        quantized, photos = _calibrate(task, net, weights_identity(source_sha256, assumed))
        ranges = quantized.calibration.ranges
    elif any(precision.trunk == HALF for precision in task.precisions):
        ranges = measure_ranges(net, [images for pairs in check for images in pairs])
    reference = Reference(net, choice.kind, terms, heads)
    task.log(f"distances of the check pairs by {reference.name}")
    check_reference = [reference(*pairs) for pairs in check]
    judge_reference(np.concatenate(check_reference), path)
    distorted = distorted_pairs(photos)
    record: dict[str, object] = {"assumed": lines} if lines else {}
    if assumed:
        record["source_input"] = f"{assumed.input} ({assumed.input_from})"
    return PreparedDistance(
        net=net,
        artifact=artifact,
        heads=heads,
        reference_name=reference.name,
        check=check,
        check_reference=check_reference,
        distorted=distorted,
        distorted_reference=np.concatenate([reference(*pairs) for pairs in distorted]),
        ranges=ranges,
        quantized=quantized,
        record=record,
    )


def _refuse_other_net(spec: NetSpec, where: str) -> None:
    """LPIPS has heads for the layers of net D at its full width only."""
    if spec.arch != LPIPS_ARCH:
        raise InputError(
            f"{where}: is net {spec.arch}; the linear heads of LPIPS belong to the layers "
            f"{', '.join(LPIPS_LAYERS)} of net {LPIPS_ARCH} (VGG-16), use its weights or "
            "--perceptual"
        )
    if spec.width != 1:
        raise InputError(
            f"{where}: has {spec.width:g} times the channels of net {spec.arch}; the linear heads "
            "of LPIPS fit its full width only, use --perceptual"
        )


def _warn_of_other_weights(net: VGG, where: str) -> str:
    mean = ", ".join(f"{value:.6g}" for value in net.spec.preprocessing.mean)
    return (
        f"Warning: {where}: subtracts the mean {mean}, so these are not torchvision's weights, "
        "which the linear heads of LPIPS were fitted to; the distance is another one than LPIPS"
    )


def _calibrate(task: Task, net: VGG, identity: str) -> tuple[Quantized, list[np.ndarray]]:
    """Measure ranges, choose thresholds, and read the photos that are held out."""
    options = task.options
    if options.calibration is None:
        raise InputError(
            "--calibration DIR is missing: quantizing a distance needs images like those that it "
            "will compare, some hundred of them"
        )
    chosen = open_calibration_images(options.calibration, options.calibration_images, net)
    chosen = replace(chosen, upright=options.exif == "apply")
    line = rotation_line(chosen, "--exif apply turns them upright")
    if line:
        task.log(f"Calibration: {line}")
    images = split(chosen)
    warn_of_few(chosen, task.log)
    kind = options.distance.kind if options.distance else ""
    path = task.folder / f"{options.name or net.spec.arch}.{kind}.calibration.json"
    calibration = calibrate(
        net, identity, images.for_ranges, path, task.threads, task.log, options.on_error
    )
    batches, skipped = read_images(net, images.held_out, task.threads, options.on_error)
    if not batches:
        raise InputError(
            f"{images.held_out.root}: none of the {len(images.held_out)} held-out images can be "
            f"read, e.g. {skipped[0]}"
        )
    if skipped:
        task.log(
            f"Warning: skipped {len(skipped)} of {len(images.held_out)} held-out images, "
            f"unreadable: {', '.join(skipped)}"
        )
    quantizations = {}
    for precision in task.precisions:
        if not precision.is_quantized:
            continue
        thresholds = clip(calibration.ranges, options.method, precision)
        quantized = {name: t for name, t in thresholds.items() if name not in options.keep}
        quantizations[precision.name] = Quantization(quantized, options.per_channel)
    held_out = HeldOut([], [], skipped)
    return Quantized(calibration, held_out, quantizations), photos_of(batches)
