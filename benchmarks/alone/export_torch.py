"""Exports a checkpoint with `torch.onnx.export`: export_torch.py CHECKPOINT FOLDER THREADS."""

import sys
import time
import warnings
from pathlib import Path

import torch

from alone.measurements import print_measurements
from vgg_deploy.net.model import VGG, posterior
from vgg_deploy.net.open_net import open_net


class Deployed(torch.nn.Module):
    """A net with the inputs and outputs of our exports."""

    def __init__(self, net: VGG) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        score_map = self.net(image.float() - self.mean)
        return posterior(score_map), score_map


def main() -> None:
    source, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    warnings.simplefilter("ignore")
    start = time.monotonic()
    dims = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("h", min=224, max=1024),
        3: torch.export.Dim("w", min=224, max=1024),
    }
    torch.onnx.export(
        Deployed(open_net(Path(source))).eval(),
        (torch.zeros(2, 3, 256, 320, dtype=torch.uint8),),
        Path(folder) / "peer.onnx",
        dynamo=True,
        opset_version=20,
        dynamic_shapes={"image": dims},
        input_names=["image"],
        external_data=False,
        verbose=False,
    )
    print_measurements([("writing", start), ("end", time.monotonic())])


if __name__ == "__main__":
    main()
