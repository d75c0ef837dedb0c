"""Runs a file of vgg-export in ONNX Runtime: on the CPU, on CUDA, or through TensorRT."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import refuse_distance
from vgg_deploy.exported.metadata import KEY, Artifact
from vgg_deploy.net.outputs import SCORES, output_shape
from vgg_deploy.runtimes.contract import (
    Outputs,
    Scores,
    checked_by_shape,
    feed,
    give_scores,
    require,
    to_host,
)
from vgg_deploy.runtimes.declared_interface import check_interface
from vgg_deploy.runtimes.graph_interface import (
    fixed_batches,
    joined_batches,
    refuse_other_shape,
    softmax_of_logits,
)
from vgg_deploy.runtimes.onnx_session import bound, open_session, run_failure


class OnnxRuntime:
    """An ONNX file in ONNX Runtime; its own metadata states which input it takes."""

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        threads: int = 1,
        runtime: str = "onnxruntime",
        optimisation: str = "ENABLE_ALL",
        arena: bool = True,
    ):
        """Open a file.

        Args:
            path: Written by vgg-export.
            device: "cpu" or "cuda".
            threads: On the CPU.
            runtime: As `open_session`.
            optimisation: As `open_session`.
            arena: Keep the memory of activations for the next call.

        Raises:
            InputError: As `open_session`, or if the file is no classifier or extractor of
                vgg-export.
        """
        opened = open_session(path, device, threads, runtime, optimisation, arena)
        refuse_distance(path, opened.metadata)
        if KEY not in opened.metadata:
            raise InputError(
                f"{path}: has no vgg_deploy metadata, so its preprocessing is unknown; "
                "export it with vgg-export"
            )
        self.name, self.device, self.threads, self.where = runtime, device, threads, str(path)
        self.settings, self.failures = opened.settings, opened.failures
        self.session = opened.session
        self.artifact = Artifact.from_json(opened.metadata[KEY], str(path))
        self.spec, self.precision = self.artifact.spec, self.artifact.precision
        self.outputs = self.artifact.outputs
        check_interface(self.artifact, opened.inputs, opened.outputs, self.where)

    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Score a batch without copies: ONNX Runtime reads and writes PyTorch's tensors.

        Args:
            pixels: (N, 3, H, W) uint8 RGB on the device.

        Returns:
            As `DeviceRuntime.on_device`.

        Raises:
            InputError: If ONNX Runtime cannot run the file on it.
        """
        if self.artifact.interface.count not in (None, len(pixels)):
            raise InputError(
                f"{self.where}: takes batches of {self.artifact.interface.count} images only, "
                f"this one has {len(pixels)}",
                "time it with that batch size",
                "batch",
            )
        scores = self._bound(pixels, SCORES)
        return scores["posterior"], scores["score_map"]

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch, as `Runtime`."""
        return give_scores(self, images)

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Give some outputs, as `Runtime`.

        A file that rescales takes whole images. One of a fixed shape is called as often as the
        number of images needs.
        """
        require(self.where, self.outputs, outputs)
        count = self.artifact.interface.count
        parts = [self._run_part(part, outputs) for part in fixed_batches(images, count)]
        return joined_batches(parts, len(images))

    def _run_part(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Run the graph once."""
        if self.device == "cpu":
            found: Mapping[str, object] = self._on_cpu(images, outputs)
        else:
            found = to_host(self._bound(torch.from_numpy(images).to(self.device), outputs))
        seen = self.artifact.interface.seen(images.shape, self.spec.crop)
        return checked_by_shape(found, seen, self.spec, self.where)

    def _bound(self, pixels: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        """Run a batch on the device."""
        interface = self.artifact.interface
        refuse_other_shape(self.where, interface, pixels.shape)
        image = feed(pixels, self.artifact.input).contiguous()
        seen = interface.seen(pixels.shape, self.spec.crop)
        shapes = {name: output_shape(self.spec, name, seen) for name in outputs}
        found = {
            interface.graph_name(name): torch.empty(shape, device=pixels.device)
            for name, shape in shapes.items()
        }
        binding = self.session.io_binding()
        binding.bind_input("image", *bound(image))
        for name, tensor in found.items():
            binding.bind_output(name, *bound(tensor))
        torch.cuda.current_stream().synchronize()  # ONNX Runtime works on a stream of its own
        try:
            self.session.run_with_iobinding(binding)
        except self.failures as error:
            raise run_failure(self.where, pixels.shape, "images", error) from None
        given = softmax_of_logits(found)
        return {name: given[name] for name in outputs}

    def _on_cpu(self, images: np.ndarray, outputs: Sequence[str]) -> dict[str, object]:
        interface = self.artifact.interface
        refuse_other_shape(self.where, interface, images.shape)
        image = feed(torch.from_numpy(images), self.artifact.input).contiguous().numpy()
        names = [interface.graph_name(name) for name in outputs]
        try:
            found = self.session.run(names, {"image": image})
        except self.failures as error:
            raise run_failure(self.where, images.shape, "images", error) from None
        given = softmax_of_logits(dict(zip(names, found, strict=True)))
        return {name: given[name] for name in outputs}
