"""Runs a net in ncnn on the CPU, in float32 or bfloat16.

Winograd's convolution takes a quarter of the multiplications of a 3x3 convolution.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from vgg_deploy.errors import InputError
from vgg_deploy.exported.ncnn_files import NcnnFiles, ncnn_graph
from vgg_deploy.net.archs import map_side
from vgg_deploy.net.model import posterior
from vgg_deploy.net.outputs import BOXES, SCORES, layer_of, least_side
from vgg_deploy.runtimes.contract import Outputs, Scores, checked, feed, give_scores, require
from vgg_deploy.runtimes.ncnn_bands import band_ends, run_bands
from vgg_deploy.runtimes.ncnn_cut import IN_CACHE, Part, cut
from vgg_deploy.runtimes.ncnn_head import images_at_once, run_head
from vgg_deploy.runtimes.ncnn_loading import PACKED, NcnnPart, load_ncnn, new_memory

IN_BFLOAT16 = "ncnn-bf16"


class NcnnRuntime:
    """Images of any size: one at a time up to fc6, and from there on several at once."""

    def __init__(
        self, files: NcnnFiles, device: str = "cpu", threads: int = 1, runtime: str = "ncnn"
    ):
        """Open the files of a net.

        Args:
            files: As `find_ncnn` finds them.
            device: "cpu".
            threads: To run with.
            runtime: "ncnn" for float32, "ncnn-bf16" to compute in bfloat16.

        Raises:
            InputError: For another device, without the package, or for files that ncnn refuses.
        """
        if device != "cpu":
            raise InputError(
                f"{files.param}: ncnn runs it on CPUs only",
                f"run it on the CPU, or the ONNX file on {device}",
                "cpu",
            )
        self.ncnn = load_ncnn()
        self.settings: dict[str, str] = {}
        self.name, self.device, self.threads = runtime, device, threads
        self.artifact, self.where = files.artifact, str(files.param)
        self.spec, self.outputs = files.artifact.spec, files.artifact.outputs
        self._in_bfloat16 = runtime == IN_BFLOAT16
        self.precision = "bf16" if self._in_bfloat16 else files.artifact.precision
        self._files, self._graph = files, ncnn_graph(files.artifact)
        parts = cut(self._graph)
        large = new_memory(self.ncnn)
        # The largest first: while fc6 is loaded it needs its weights twice
        self._head = self._open(parts.head, large) if parts.head else None
        self._body = self._open(parts.body, large)
        self._stages = [
            # its own, where each band finds the memory of the one before, still in the cache
            self._open(stage, new_memory(self.ncnn) if stage.band_bytes <= IN_CACHE else large)
            for stage in parts.stages
        ]
        self._side = parts.side

    @cached_property
    def net(self) -> Any:
        """The whole net, for those who look at single layers; read once more, with all weights."""
        return self._open(Part(self._graph.layers, 0), new_memory(self.ncnn)).net

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch, as `Runtime`."""
        return give_scores(self, images)

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Give some outputs, as `Runtime`."""
        require(self.where, self.outputs, outputs)
        height, width = images.shape[2:]
        least = least_side(self.spec, outputs)
        if min(height, width) < least:
            raise InputError(
                f"images of {height}x{width} have a side below {least}, the least that the net "
                "takes; enlarge them"
            )
        inputs = feed(torch.from_numpy(images), self.artifact.input).float().contiguous().numpy()
        of_head = [name for name in outputs if self._is_of_head(name)]
        at_once = 1
        if of_head:
            crop = self.spec.crop
            at_once = images_at_once(map_side(height, crop), map_side(width, crop))
        found = [
            self._run_some(inputs[i : i + at_once], outputs, of_head)
            for i in range(0, len(inputs), at_once)
        ]
        joined = {name: np.concatenate([part[name] for part in found]) for name in outputs}
        return checked(joined, images, self.spec, self.where)

    def _is_of_head(self, name: str) -> bool:
        return name in (*SCORES, BOXES) or layer_of(self.spec, name).is_head

    def _run_some(
        self, inputs: np.ndarray, outputs: Sequence[str], of_head: Sequence[str]
    ) -> Outputs:
        """The outputs for some (N, 3, H, W) float32 images; `of_head` are those behind fc6."""
        names = [name for name in outputs if name not in of_head]
        head = self._head if of_head else None
        wanted = [*names, head.part.reads] if head else names
        each = [self._run_one(image, wanted) for image in inputs]
        found = {name: np.stack([one[name] for one in each]) for name in wanted}
        if not head:
            return found
        maps = found.pop(head.part.reads)
        asked = ["score_map" if name == "posterior" else name for name in of_head]
        found |= run_head(head, maps, self._side, list(dict.fromkeys(asked)))
        if "posterior" in of_head:
            found["posterior"] = posterior(torch.from_numpy(found["score_map"])).numpy()
        return found

    def _run_one(self, image: np.ndarray, names: Sequence[str]) -> Outputs:
        """Values of the body for one (3, H, W) float32 image."""
        values: Any = None  # a Mat, in ncnn's own order
        plain: np.ndarray | None = image  # the same, as an array, where it is one
        for stage in self._stages:
            ends = [0, 1] if plain is None else band_ends(stage.part, *plain.shape[1:])
            if plain is not None and len(ends) > 2:
                plain = run_bands(stage, plain, ends)
                continue
            given = values if plain is None else stage.mat(plain)
            (values,) = stage(given, [stage.part.gives], PACKED)
            plain = None
        given = values if plain is None else self._body.mat(plain)
        return {
            name: np.array(value)
            for name, value in zip(names, self._body(given, names), strict=True)
        }

    def _open(self, part: Part, memory: Any) -> NcnnPart:
        return NcnnPart(self.ncnn, self._files, part, self.threads, self._in_bfloat16, memory)
