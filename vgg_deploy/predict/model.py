"""Opens a file as a model that takes images in any form and answers with class names."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import not_a_distance, read_distance
from vgg_deploy.impossible_names import impossible_names_refused
from vgg_deploy.machine import available_cores
from vgg_deploy.net.class_lists import Classes, class_list
from vgg_deploy.net.class_matching import with_classes
from vgg_deploy.net.foreign_weights import Assumed
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.net.outputs import least_side
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.predict.descriptors import DescriptorPlan, Descriptors, descriptors
from vgg_deploy.predict.inputs import ImageInput, checked_batch, named_images, pixels_at
from vgg_deploy.predict.pair_distances import pair_distances
from vgg_deploy.predict.predictions import Predictions
from vgg_deploy.predict.stream import Pixels, ViewPlan, posteriors
from vgg_deploy.predict.whole_images import filter_for, rescales
from vgg_deploy.runtimes import TYPES, Runtime, Scores, open_runtime, runtimes_for
from vgg_deploy.runtimes.contract import require, require_scores
from vgg_deploy.runtimes.distance_files import DistanceOnly, open_distance
from vgg_deploy.runtimes.features import features


@impossible_names_refused()
def load(
    path: str | os.PathLike[str],
    *,
    classes: Classes | None = None,
    device: str = "cpu",
    threads: int | None = None,
    runtime: str | None = None,
    precision: str = "fp32",
    stated: StatedInput = NOTHING_STATED,
) -> "Model":
    """Open a checkpoint, weights of another project, an exported file or an engine.

    Args:
        path: The file, or weights by name: "torchvision:vgg16", "timm:vgg16.tv_in1k",
            "hf-hub:OWNER/NAME", an https address; or a folder with a config.json.
        classes: Names of the classes in the order of the scores, or a file that lists them, for
            weights that do not name theirs.
        device: "cpu" or "cuda". Another device is never used instead.
        threads: On the CPU; None for all cores that this process may use.
        runtime: "torch", "torch-compile", "onnxruntime", "onnxruntime-tensorrt",
            "onnxruntime-rtx", "openvino", "openvino-bf16", "ncnn", "ncnn-bf16", "tensorrt" or
            "tensorrt-rtx"; None for the usual one of the file.
        precision: Of weights in PyTorch, "fp32", "fp16" or "bf16"; exported files have their own.
        stated: What the file does not say about the input of another project's weights.

    Raises:
        InputError: If the file is not a model, or its runtime or the device is missing; if a
            setting does not fit it.
    """
    located = locate(path if isinstance(path, str) else Path(path))
    file = located.path
    if precision not in TYPES:
        raise InputError(f"precision {precision!r} is unknown; choose from {', '.join(TYPES)}")
    if file.is_file() and precision != "fp32" and "torch" not in runtimes_for(file):
        raise InputError(f"{file}: has a precision of its own; state none")
    if read_distance(file):
        if classes is not None or stated != NOTHING_STATED:
            raise InputError(
                f"{file}: gives distances and knows its input; state neither classes nor an input"
            )
        return Model(
            located,
            DistanceOnly(open_distance(file, device, threads or available_cores(), runtime)),
        )
    assumed: list[Assumed] = []
    opened = open_runtime(
        located, device, threads or available_cores(), runtime, precision, stated, assumed.append
    )
    if stated != NOTHING_STATED and not assumed:
        raise InputError(f"{file}: knows its own input; state none")
    if classes is not None:
        opened.spec = with_classes(opened.spec, class_list(classes), str(file))
    return Model(located, opened, assumed[0] if assumed else None, classes is not None)


@dataclass(frozen=True, eq=False)
class Model:
    """A net that is ready to run.

    Attributes:
        located: The file, and what the caller called it.
        runtime: Runs it; `runtime.name`, `.precision`, `.device` and `.threads` describe it.
        assumed: What was assumed about the input of another project's weights.
        classes_stated: Whether the caller named the classes.
    """

    located: Located
    runtime: Runtime
    assumed: Assumed | None = None
    classes_stated: bool = False

    @property
    def path(self) -> Path:
        """The file."""
        return self.located.path

    @property
    def spec(self) -> NetSpec:
        """The net: architecture, classes, crop, preprocessing."""
        return self.runtime.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """Ids of the classes in the order of the scores."""
        return self.spec.classes

    def __repr__(self) -> str:
        spec, runtime = self.spec, self.runtime
        if isinstance(runtime, DistanceOnly):
            kind = runtime.distances.artifact.kind
            return (
                f"Model({str(self.path)!r}: {kind} distance of net {spec.arch}, "
                f"{runtime.name} {runtime.precision} on {runtime.device})"
            )
        return (
            f"Model({str(self.path)!r}: net {spec.arch}, {len(spec.classes)} classes, "
            f"{runtime.name} {runtime.precision} on {runtime.device})"
        )

    @impossible_names_refused()
    def predict(
        self,
        images: ImageInput,
        *,
        side: int | Sequence[int] | None = None,
        protocol: str | None = None,
        flips: bool = True,
        top: int = 5,
        batch: int = 16,
    ) -> Predictions:
        """Classify images.

        Args:
            images: One or several: paths, Pillow's images, uint8 RGB arrays or tensors of shape
                (H, W, 3), (3, H, W), or (N, ...) for a batch. A folder stands for the images in it
                and below it. They are rescaled to Q.
            side: Q, the shorter side in pixels; several are averaged. None for the paper's single
                scale, the middle of the net's S.
            protocol: None for "dense", or for what a file of whole images scores by itself. Else
                "dense", "multicrop", "multicrop+dense", "centre", "ten", "googlenet",
                "dense-softmax-first" or "multicrop+dense-softmax-first".
            flips: Whether the mirror image is averaged too, where the protocol leaves that open.
            top: How many classes are listed per image.
            batch: Most views per call of the net.

        Returns:
            One prediction per image, in their order.

        Raises:
            InputError: For an image or a setting that cannot be used.
            CheckFailed: For posteriors that are not finite.
        """
        if top < 1:
            raise InputError(f"top {top} lists no class; use at least 1")
        require_scores(self.runtime)
        plan = ViewPlan.for_runtime(self.runtime, protocol, side, flips, batch)
        names: list[str] = []
        found: list[np.ndarray] = []
        for one in posteriors(self.runtime, self._rescaled(images, plan.sides, names), plan):
            if isinstance(one.posterior, InputError):
                raise one.posterior
            found.append(one.posterior)
        if not found:
            raise InputError("no images to classify; give at least one")
        stacked = np.stack(found).astype(np.float32)
        return Predictions(tuple(names), stacked, self.spec, top)

    def _rescaled(
        self, images: ImageInput, sides: Sequence[int], names: list[str]
    ) -> Iterator[Pixels | InputError]:
        """Decode images at some Q as they are asked for; their names are added to a list."""
        for name, image in named_images(images):
            names.append(name)
            yield pixels_at(image, sides, filter_for(self.runtime))

    def scores(self, images: np.ndarray | Tensor) -> Scores:
        """Run the net once.

        Args:
            images: (N, 3, H, W) uint8 RGB, sides at least the net's crop. They are not rescaled,
                unless the file does that by itself; then any size will do. The net subtracts its
                mean itself.

        Returns:
            (N, classes) posterior and (N, classes, h, w) score_map, float32.

        Raises:
            InputError: For another type or shape.
        """
        require_scores(self.runtime)
        least = 1 if rescales(self.runtime) else self.spec.crop
        return self.runtime(checked_batch(images, least))

    def features(
        self,
        images: np.ndarray | Tensor,
        layers: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Give the outputs of layers, by the names of the paper's layers.

        conv1_1 to conv5_4 and fc6, fc7, fc8 are before the ReLU, relu1_1 to relu5_4 and relu6,
        relu7 after it; norm1 is A-LRN's normalisation, pool1 to pool5 are the pools. The net runs
        no further than the last of them.

        Args:
            images: As in `scores`. Layers ahead of fc6 also take images smaller than the crop.
            layers: Names of layers; None for pool5, and relu7 where the net has it, or for all
                that an exported file of features gives.

        Returns:
            By name: (N, C, h, w) float32. For images of the crop's size fc6 to fc8 have h = w = 1.

        Raises:
            InputError: For a layer that the net does not have, for a file that does not show its
                layers, or as `scores`.
        """
        if isinstance(self.runtime, DistanceOnly):
            require(self.runtime.where, self.runtime.outputs, ["features"])
        if layers is None:
            artifact = self.runtime.artifact
            usual = ("pool5", "relu7") if self.spec.has_head else ("pool5",)
            layers = (artifact.layers if artifact else ()) or usual
        chosen = [layers] if isinstance(layers, str) else list(layers)
        least = least_side(self.spec, chosen)
        return features(self.runtime, checked_batch(images, least), chosen)

    def descriptors(
        self,
        images: ImageInput,
        *,
        layers: str | Sequence[str] | None = None,
        sides: int | Sequence[int] | None = None,
        flips: bool = True,
        over_scales: str = "average",
        l2: bool = False,
        batch: int = 16,
    ) -> Descriptors:
        """Describe whole images by layers of the net, as vgg-features does (appendix B).

        A layer's map is averaged over its positions, over the image and its mirror image, and over
        the scales.

        Args:
            images: As in `predict`. They are rescaled to Q.
            layers: Names of layers, see `features`; None for all that an exported file of features
                gives, else for relu7, or pool5 of convolutions alone.
            sides: Q, the shorter side in pixels, one or several. None for the paper's single
                scale, the middle of the net's S.
            flips: Whether the mirror image is averaged too.
            over_scales: "average", or "stack" for the descriptors of all scales side by side, the
                smallest Q first.
            l2: Whether each descriptor is divided by its Euclidean norm at the end.
            batch: Most images per call of the net.

        Returns:
            (images, d) float32 by layer, in the order of the images.

        Raises:
            InputError: For an image or a setting that cannot be used.
            CheckFailed: For a descriptor that is not finite.
        """
        plan = DescriptorPlan.of(self.runtime, layers, sides, flips, over_scales, l2, batch)
        names: list[str] = []
        found: list[dict[str, np.ndarray]] = []
        rescaled = self._rescaled(images, plan.sides, names)
        for one in descriptors(self.runtime, rescaled, plan):
            if isinstance(one, InputError):
                raise one
            found.append(one)
        if not found:
            raise InputError("no images to describe; give at least one")
        rows = {layer: np.stack([one[layer] for one in found]) for layer in plan.layers}
        return Descriptors(tuple(names), rows)

    def distance(self, first: ImageInput, second: ImageInput) -> np.ndarray:
        """Measure the distance of images, pair by pair, by a file that gives distances.

        Args:
            first: One image or several, in any form that `predict` takes. They are not rescaled.
            second: As many, each of the size of its partner.

        Returns:
            (N,) float32; smaller is more similar.

        Raises:
            InputError: For a file that gives no distances, an image that cannot be used, or pairs
                of unequal number or size.
            CheckFailed: For a distance that is not finite.
        """
        if not isinstance(self.runtime, DistanceOnly):
            raise not_a_distance(self.path)
        return pair_distances(self.runtime.distances, first, second)
