"""Compares an exported file with PyTorch, on built-in images of many sizes.

A float32 file must be exact, and one of half precision near it. Of a quantized file only the shapes
and the consistency of its outputs are judged here: its values are compared in `float32_twin`, and
its cost, which only photos show, is measured in `quantize.cost`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from export.quantize.convolve import Run, layers_for, net_input, run_layer, whole_name
from export.quantize.ranges import Range, observed
from vgg_deploy.data.built_in import render
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.net.model import VGG, posterior
from vgg_deploy.net.outputs import BOXES, SCORES, map_name
from vgg_deploy.runtimes.contract import Outputs, Scores

# Largest difference of a float32 file's score, over the largest score. Rounding in another order
# gives about 1e-6; a wrong pixel, border or weight gives 1e-2 and more
EXACT = 1e-4
# Root mean square of a float precision's score differences, over that of the scores: about three
# times what is usual
REDUCED = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
OWN_POSTERIOR = 1e-5  # posterior against the softmax of the file's own mean score
TIE = 1e-6  # posteriors this close have no order


@dataclass(frozen=True)
class ParityResult:
    """One batch of images in a file and in its reference.

    Attributes:
        batch: Number of images.
        height: Of the images, pixels.
        width: Of the images, pixels.
        map: Height and width of the score map.
        score_difference: Largest difference of any score of the map.
        largest_score: Largest magnitude of any score of the reference.
        posterior_difference: Largest difference of any posterior.
        score_error: Root mean square of the score differences, over that of the scores.
        inconsistency: Largest difference of the posterior from the softmax of the file's own mean
            score.
        agree: Number of images with the same best class.
    """

    batch: int
    height: int
    width: int
    map: tuple[int, int]
    score_difference: float
    largest_score: float
    posterior_difference: float
    score_error: float
    inconsistency: float
    agree: int


def check_sizes(crop: int) -> list[tuple[int, int, int]]:
    """Sizes to check a file at.

    They show that nothing in the file is of one size: one image and several; score maps of one
    position, one row, one column, and several of both; images that are square, wide and tall;
    sides that every pool halves, and sides of which every pool drops a row or a column. They
    include 224 even if the crop is smaller.

    Args:
        crop: Side of the training crop, pixels.

    Returns:
        (batch, height, width) of each batch.
    """
    c = crop
    sizes = [
        (1, c, c),
        (2, c + 32, c),
        (1, c, c + 63),
        (1, c + 63, c + 33),
    ]
    if crop < 224:
        sizes += [(2, 224, 224), (1, 224, 299)]
    return sizes


def check_images(crop: int) -> list[np.ndarray]:
    """Built-in images, stretched to the sizes of `check_sizes`: batches (N, 3, H, W) uint8 RGB."""
    batches = []
    for i, (count, height, width) in enumerate(check_sizes(crop)):
        images = [render("val", 8 * i + n).resize((width, height)) for n in range(count)]
        batches.append(np.stack([np.asarray(image).transpose(2, 0, 1) for image in images]))
    return batches


@torch.inference_mode()
def reference_outputs(
    net: VGG,
    outputs: tuple[str, ...],
    batches: list[np.ndarray],
    ranges: dict[str, Range] | None = None,
    run: Run = run_layer,
) -> list[Outputs]:
    """PyTorch's outputs, straight from the net.

    Images are run one after the other, so that only the weights need much memory.

    Args:
        net: In evaluation mode.
        outputs: Of SCORES, or names of layers.
        batches: (N, 3, H, W) uint8 RGB.
        ranges: What the convolutions see is added to them, if they are given.
        run: Runs a layer; `run_layer_fast` is not exact enough for a float32 file.

    Returns:
        By batch and name, float32.
    """
    found = []
    for batch in batches:
        images = [_outputs_of(net, outputs, image, ranges, run) for image in batch]
        found.append({name: np.concatenate([one[name] for one in images]) for name in outputs})
    return found


def reference_scores(net: VGG, batches: list[np.ndarray]) -> list[Scores]:
    """PyTorch's scores, as `reference_outputs`."""
    return [scores_in(outputs) for outputs in reference_outputs(net, SCORES, batches)]


def scores_in(outputs: Outputs) -> Scores:
    """The scores among some outputs."""
    return Scores(outputs["posterior"], outputs["score_map"])


def judge_reference(reference: list[Scores], source: Path) -> str:
    """What is doubtful about the float32 net's own scores of the check images.

    Args:
        reference: By batch, of `reference_scores`.
        source: The file of the net, for messages.

    Returns:
        A warning in one sentence, or nothing.

    Raises:
        InputError: If scores are not finite, or all are zero, so that nothing can be compared.
    """
    scores = np.concatenate([s.score_map.mean((2, 3), dtype=np.float64) for s in reference])
    if not np.isfinite(scores).all():
        raise InputError(
            f"{source}: its scores are not finite on the built-in images; "
            "check its weights and its input"
        )
    if not scores.any():
        raise InputError(
            f"{source}: all its scores are zero on the built-in images; check its weights"
        )
    if float(np.ptp(scores, axis=0).max()) <= EXACT * float(np.abs(scores).max()):
        return (
            f"Warning: {source}: gives the same scores for each of {len(scores)} built-in images; "
            "check its weights and its input"
        )
    return ""


def compare(
    found: list[Scores], reference: list[Scores], batches: list[np.ndarray], by: str = "PyTorch"
) -> list[ParityResult]:
    """Compare the scores of a file with a reference.

    Args:
        found: The file's scores, by batch.
        reference: The reference's scores, by batch.
        batches: The images, (N, 3, H, W) uint8.
        by: Name of the reference.

    Raises:
        CheckFailed: If score maps differ in shape.
    """
    return [
        _compare_batch(one, other, batch, by)
        for one, other, batch in zip(found, reference, batches, strict=True)
    ]


def judge_exact(comparisons: list[ParityResult], path: Path, by: str = "PyTorch") -> None:
    """Check a float32 file.

    Args:
        comparisons: Of `compare`.
        path: Final name of the file.
        by: Name of the reference.

    Raises:
        CheckFailed: If the file differs by more than rounding.
    """
    for c in comparisons:
        difference = _ratio(c.score_difference, c.largest_score)
        if difference <= EXACT and c.inconsistency <= OWN_POSTERIOR:
            continue
        raise CheckFailed(
            f"{path.name}: differs from {by} on images of {c.height}x{c.width} (batch {c.batch}): "
            f"scores by {difference:.1e} of the largest (allowed {EXACT:.0e}), posteriors by "
            f"{c.inconsistency:.1e} from the softmax of their own mean scores, {c.agree} of "
            f"{c.batch} best classes agree"
        )


def judge_consistent(comparisons: list[ParityResult], path: Path) -> None:
    """Check that posteriors follow from the file's own scores.

    Args:
        comparisons: Of `compare`.
        path: Final name of the file.

    Raises:
        CheckFailed: If they do not, or if a value is not a number.
    """
    for c in comparisons:
        if not c.inconsistency <= OWN_POSTERIOR:
            raise CheckFailed(
                f"{path.name}: posteriors of images of {c.height}x{c.width} differ by "
                f"{c.inconsistency:.1e} from the softmax of the file's own mean scores, "
                "which PyTorch takes"
            )


def judge_reduced(comparisons: list[ParityResult], precision: str, path: Path) -> None:
    """Check a float precision, which has no quantized convolutions.

    Args:
        comparisons: Of `compare`.
        precision: Name of the precision, one of REDUCED.
        path: Final name of the file.

    Raises:
        CheckFailed: If it costs more than it ever should.
    """
    for c in comparisons:
        if not c.score_error <= REDUCED[precision]:
            raise CheckFailed(
                f"{path.name}: {precision} moves the scores of images of {c.height}x{c.width} by "
                f"{100 * c.score_error:.1f} % (root mean square), "
                f"allowed {100 * REDUCED[precision]:g} %; take another precision"
            )


def _outputs_of(
    net: VGG,
    outputs: tuple[str, ...],
    image: np.ndarray,
    ranges: dict[str, Range] | None,
    run: Run,
) -> Outputs:
    """Outputs for one image (3, H, W) uint8 RGB, by name."""
    found: Outputs = {}
    values = net_input(image[None], net.spec)
    for name, layer in layers_for(net, outputs):
        if ranges is None:
            values = run(layer, values)
        else:
            values = observed(ranges, name, layer, values, run)
        if whole_name(name) in outputs:
            found[whole_name(name)] = values.numpy().copy()  # a ReLU overwrites its input
    if set(outputs) & {*SCORES, BOXES}:
        found |= {map_name(net.spec): values.numpy(), "posterior": posterior(values).numpy()}
    return {name: found[name] for name in outputs}


def _compare_batch(found: Scores, reference: Scores, batch: np.ndarray, by: str) -> ParityResult:
    if found.score_map.shape != reference.score_map.shape:
        raise CheckFailed(
            f"score map of a {batch.shape} batch is {found.score_map.shape}, "
            f"{by}'s is {reference.score_map.shape}"
        )
    difference = found.score_map - reference.score_map
    own_posterior = posterior(torch.from_numpy(found.score_map)).numpy()
    count, _, height, width = batch.shape
    map_height, map_width = reference.score_map.shape[2:]
    return ParityResult(
        batch=count,
        height=height,
        width=width,
        map=(map_height, map_width),
        score_difference=_largest(difference),
        largest_score=_largest(reference.score_map),
        posterior_difference=_largest(found.posterior - reference.posterior),
        score_error=_ratio(_root_mean_square(difference), _root_mean_square(reference.score_map)),
        inconsistency=_largest(found.posterior - own_posterior),
        agree=_agreeing(found.posterior, reference.posterior),
    )


def _agreeing(found: np.ndarray, reference: np.ndarray) -> int:
    """Rows whose best class is the reference's, or tied with it to within rounding."""
    chosen = np.take_along_axis(reference, found.argmax(1)[:, None], axis=1)[:, 0]
    return int((chosen >= reference.max(1) - TIE).sum())


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


def _ratio(difference: float, whole: float) -> float:
    """A difference over the whole; over nothing, any difference is infinitely large."""
    if whole == 0:
        return 0.0 if difference == 0 else np.inf
    return difference / whole


def _largest(values: np.ndarray) -> float:
    """Largest magnitude; NaN anywhere gives NaN, which passes no tolerance."""
    return float(np.abs(values).max())
