"""Runs a file of vgg-export, or what OpenVINO made of one, in OpenVINO on the CPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import refuse_distance
from vgg_deploy.exported.metadata import KEY, Artifact
from vgg_deploy.runtimes.contract import (
    Outputs,
    Scores,
    checked_by_shape,
    feed,
    give_scores,
    require,
)
from vgg_deploy.runtimes.declared_interface import check_interface
from vgg_deploy.runtimes.graph_interface import (
    fixed_batches,
    joined_batches,
    refuse_other_shape,
    softmax_of_logits,
)
from vgg_deploy.runtimes.openvino_model import compile_model, read_model


class OpenVinoRuntime:
    """A file in OpenVINO; its own metadata states which input it takes."""

    def __init__(
        self, path: Path, device: str = "cpu", threads: int = 1, runtime: str = "openvino"
    ):
        """Open a file.

        Args:
            path: An ONNX file written by vgg-export, or an .xml that OpenVINO wrote from one.
            device: "cpu".
            threads: On the CPU.
            runtime: "openvino" for the file's own precision, "openvino-bf16" to compute a float
                file in bfloat16.

        Raises:
            InputError: As `read_model` and `compile_model`, or if the file is no classifier or
                extractor of vgg-export.
        """
        opened = read_model(path, device)
        refuse_distance(path, opened.metadata)
        if KEY not in opened.metadata:
            raise InputError(
                f"{path}: has no vgg_deploy metadata, so its preprocessing is unknown; "
                "export it with vgg-export"
            )
        self.name, self.device, self.threads, self.where = runtime, device, threads, str(path)
        self.artifact = Artifact.from_json(opened.metadata[KEY], str(path))
        self.spec, self.outputs = self.artifact.spec, self.artifact.outputs
        if self.artifact.interface.side is not None:
            raise InputError(
                f"{path}: takes whole images, and OpenVINO does not rescale them to the same "
                "pixels; use onnxruntime, or export a file without whole images"
            )
        check_interface(self.artifact, opened.inputs, opened.outputs, self.where)
        self.net = compile_model(opened, self.artifact.precision, threads, runtime)
        self.precision = self.net.precision

    @property
    def settings(self) -> Mapping[str, str]:
        """As `Runtime`."""
        return self.net.settings

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch, as `Runtime`."""
        return give_scores(self, images)

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Give some outputs, as `Runtime`."""
        require(self.where, self.outputs, outputs)
        parts = fixed_batches(images, self.artifact.interface.count)
        return joined_batches([self._run_part(part, outputs) for part in parts], len(images))

    def _run_part(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Run the graph once."""
        interface = self.artifact.interface
        refuse_other_shape(self.where, interface, images.shape)
        image = feed(torch.from_numpy(images), self.artifact.input).contiguous().numpy()
        names = [interface.graph_name(name) for name in outputs]
        given = softmax_of_logits(self.net({"image": image}, names, "images"))
        found = {name: given[name] for name in outputs}
        return checked_by_shape(
            found, interface.seen(images.shape, self.spec.crop), self.spec, self.where
        )
