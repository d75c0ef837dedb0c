"""The model.py of a photo model on a Triton server: encoded image files in, posteriors out.

It decodes, rescales and crops with Pillow, puts images of one size into one batch, and asks the
net, which is another model of the repository. An image that cannot be used ends its own request
with a sentence; the other requests are answered.
"""

import asyncio
import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from export.tensorrt.served.photo_rules import PhotoRules, by_size
from vgg_deploy.errors import InputError


class TritonPythonModel:
    """What Triton's python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters of config.pbtxt.

        Raises:
            ValueError: If one is missing or impossible.
        """
        parameters = json.loads(args["model_config"])["parameters"]
        self.rules = PhotoRules.of_parameters(
            {key: value["string_value"] for key, value in parameters.items()}
        )

    async def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests.

        Args:
            requests: Each with the input `photo`, (N, 1) encoded files.

        Returns:
            One response per request: `posterior`, (N, classes) float32, or an error.
        """
        errors: dict[int, str] = {}
        images: list[np.ndarray] = []
        of_request: list[range] = []  # the places of a request's images in the list
        for number, request in enumerate(requests):
            begin = len(images)
            files = pb_utils.get_input_tensor_by_name(request, "photo").as_numpy().reshape(-1)
            try:
                for place, data in enumerate(files):
                    name = "photo" if len(files) == 1 else f"photo {place} of {len(files)}"
                    images.append(self.rules.pixels_of(data, name))
            except InputError as error:
                errors[number] = str(error)
            except MemoryError:
                errors[number] = "photo: takes more memory than there is; send a smaller one"
            if number in errors:
                del images[begin:]
            of_request.append(range(begin, len(images)))
        groups = by_size(images)
        answers = await asyncio.gather(
            *(self._ask(np.stack([images[place] for place in group])) for group in groups)
        )
        posteriors: dict[int, np.ndarray] = {}
        failures: dict[int, str] = {}
        for group, answer in zip(groups, answers, strict=True):
            if isinstance(answer, str):
                failures.update(dict.fromkeys(group, answer))
            else:
                posteriors.update(zip(group, answer, strict=True))
        responses = []
        for number, places in enumerate(of_request):
            failed = [failures[place] for place in places if place in failures]
            if number in errors:
                responses.append(_refusal(errors[number], pb_utils.TritonError.INVALID_ARG))
            elif failed:
                responses.append(_refusal(failed[0], pb_utils.TritonError.INTERNAL))
            else:
                stacked = np.stack([posteriors[place] for place in places])
                tensor = pb_utils.Tensor("posterior", stacked)
                responses.append(pb_utils.InferenceResponse([tensor]))
        return responses

    async def _ask(self, images: np.ndarray) -> np.ndarray | str:
        """Ask the net for the posteriors of a batch; a text says why it gave none.

        Args:
            images: (N, 3, h, w).
        """
        on_host = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)
        request = pb_utils.InferenceRequest(
            model_name=self.rules.net,
            inputs=[pb_utils.Tensor("image", images)],
            requested_output_names=["posterior"],
            preferred_memory=on_host,
        )
        response = await request.async_exec()
        if response.has_error():
            return str(response.error().message())
        found: np.ndarray = pb_utils.get_output_tensor_by_name(response, "posterior").as_numpy()
        return found


def _refusal(sentence: str, code: int) -> Any:
    """A response that says why there is no posterior, with the status that clients see."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(sentence, code))
