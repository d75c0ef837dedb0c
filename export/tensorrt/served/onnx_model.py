"""The model.py of a net on a Triton server without the onnxruntime backend.

Calls the package onnxruntime on the CPU, for the batches that the server's dynamic batcher forms.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """What Triton's python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open model.onnx, which lies beside this file."""
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as vgg_deploy does
        import onnxruntime

        config = json.loads(args["model_config"])
        self.inputs = [entry["name"] for entry in config["input"]]
        self.outputs = [entry["name"] for entry in config["output"]]
        options = onnxruntime.SessionOptions()
        # 0: all cores
        options.intra_op_num_threads = int(config["parameters"]["threads"]["string_value"])
        self.session = onnxruntime.InferenceSession(
            str(Path(__file__).with_name("model.onnx")),
            options,
            providers=["CPUExecutionProvider"],
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests of a batch, whose images have one size, by one call of the net.

        Args:
            requests: Each with the net's inputs, (N, 3, H, W).

        Returns:
            One response per request, with the outputs of its N images.
        """
        parts = {
            name: [pb_utils.get_input_tensor_by_name(r, name).as_numpy() for r in requests]
            for name in self.inputs
        }
        feed = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        found = self.session.run(self.outputs, feed)
        ends = np.cumsum([len(array) for array in parts[self.inputs[0]]])[:-1]
        split = [np.split(self._of_images(array), ends) for array in found]
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, np.ascontiguousarray(array))
                    for name, array in zip(self.outputs, arrays, strict=True)
                ]
            )
            for arrays in zip(*split, strict=True)
        ]

    def _of_images(self, array: np.ndarray) -> np.ndarray:
        """One number per image as (N, 1): a batch of Triton has another dimension."""
        return array[:, None] if array.ndim == 1 else array
