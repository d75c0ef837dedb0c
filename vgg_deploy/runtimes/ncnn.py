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
from vgg_deploy.runtimes.ncnn_bands import run_in_bands
from vgg_deploy.runtimes.ncnn_cut import Part, cut, whole
from vgg_deploy.runtimes.ncnn_loading import FITS, NcnnPart, load_ncnn, new_memory
from vgg_deploy.runtimes.ncnn_rows import (
    PRODUCTS,
    chunks_of_rows,
    in_order,
    no_odd_rows,
    row_value,
    sums_of_rows,
)

IN_BFLOAT16 = "ncnn-bf16"
COLUMNS = 128  # of fc6's products at once; they take 17 MB for a net of full width


class NcnnRuntime:
    """Images of any size: one at a time up to fc6, and from there on the whole batch."""

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
        self._files, self._in_bfloat16 = files, runtime == IN_BFLOAT16
        self.precision = "bf16" if self._in_bfloat16 else files.artifact.precision
        graph = ncnn_graph(files.artifact)
        # The sums of rows are too large for bfloat16: fc6's error would be four times as large
        parts = whole(graph) if self._in_bfloat16 else cut(graph)
        # The largest first: while a layer is loaded ncnn holds its weights up to three times
        shared = new_memory(self.ncnn)
        self._head = self._open(parts.head, shared) if parts.head else None
        self._body = self._open(parts.body, shared)
        self._stages = [
            # the first on its own, where each band finds the memory of the one before in the cache
            self._open(stage, shared if i else new_memory(self.ncnn, FITS))
            for i, stage in enumerate(parts.stages)
        ]

    @cached_property
    def net(self) -> Any:
        """The whole net, for those who look at single layers; read once more, with all weights."""
        return self._open(whole(ncnn_graph(self.artifact)).body, new_memory(self.ncnn)).net

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
        of_head = [name for name in outputs if self._head and self._is_of_head(name)]
        names = [name for name in outputs if name not in of_head]
        rows = self._head is not None and bool(of_head)
        each, sums = [], []
        for image in images:
            found = self._run_body(image, [*names, *[self._body.part.gives] * rows])
            if rows:
                sums.append(sums_of_rows(found.pop(self._body.part.gives)))
            each.append(found)
        stacked = {name: np.stack([one[name] for one in each]) for name in names}
        if rows:
            stacked |= self._run_head(sums, of_head, map_side(height, self.spec.crop))
        return checked({name: stacked[name] for name in outputs}, images, self.spec, self.where)

    def _is_of_head(self, name: str) -> bool:
        return name in (*SCORES, BOXES) or layer_of(self.spec, name).is_head

    def _run_body(self, image: np.ndarray, names: Sequence[str]) -> Outputs:
        """Values up to fc6 for one (3, H, W) uint8 image; of a net without a head part, all."""
        given: Any = _pixels(image, self.artifact.input)
        for stage in self._stages:
            given = run_in_bands(stage, given)
        values = self._body({self._body.part.reads: given}, names)
        return {name: np.array(value) for name, value in zip(names, values, strict=True)}

    def _run_head(self, sums: Sequence[np.ndarray], names: Sequence[str], height: int) -> Outputs:
        """Values from fc6 on.

        Args:
            sums: Of every image, as `sums_of_rows` gives them.
            names: Of the values that are wanted.
            height: Of the score map.
        """
        assert self._head is not None
        asked = list(dict.fromkeys("score_map" if name == "posterior" else name for name in names))
        chunks: dict[str, list[np.ndarray]] = {name: [] for name in asked}
        for chunk in chunks_of_rows(np.concatenate(sums, 2), COLUMNS):
            given = {row_value(i): chunk[i] for i in range(PRODUCTS)}
            if height == 1:
                given |= no_odd_rows(chunk, layer_of(self.spec, "fc6").channels)
            values = self._head(given, asked)
            for name, value in zip(asked, values, strict=True):
                chunks[name].append(np.array(value))
        found = {name: in_order(chunks[name], len(sums), height) for name in asked}
        if "posterior" in names:
            found["posterior"] = posterior(torch.from_numpy(found["score_map"])).numpy()
        return found

    def _open(self, part: Part, memory: Any) -> NcnnPart:
        return NcnnPart(self.ncnn, self._files, part, self.threads, self._in_bfloat16, memory)


def _pixels(image: np.ndarray, form: str) -> np.ndarray:
    """Convert one (3, H, W) uint8 image to what the net takes, (3, H, W) float32."""
    if form == "float32":
        # PyTorch's threads would go on spinning on the cores for some ms, beside ncnn's
        return image.astype(np.float32)
    return feed(torch.from_numpy(image[None]), form)[0].numpy()
