"""Runs a file of vgg-export, or what OpenVINO made of one, in OpenVINO on the CPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from vgg_deploy.errors import InputError
from vgg_deploy.exported.distance_metadata import refuse_distance
from vgg_deploy.exported.metadata import KEY, Artifact
from vgg_deploy.runtimes.contract import Outputs, Scores, checked, feed, give_scores, require
from vgg_deploy.runtimes.declared_interface import check_interface
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
        image = feed(torch.from_numpy(images), self.artifact.input).numpy()
        found = self.net({"image": image}, outputs, "images")
        return checked(found, images, self.spec, self.where)
