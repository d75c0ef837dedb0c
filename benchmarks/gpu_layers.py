"""Where the time of D goes on a GPU: every layer alone, in each way that could compute it.

    python benchmarks/gpu_layers.py

A layer's floor is the longer of two times: its arithmetic at the rate of the largest matrix product
of the run, and its bytes (input, weights and output, each once) at the rate of a copy. The sum of
the floors bounds a whole net that runs layer by layer.
"""

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from gpu_variants import fc_as_product, pooled_by_slices
from result_rows import ResultRows
from result_tables import environment_block
from torch import Tensor, nn

from bench.speed.gpu import copy_ceiling, device_ms, matmul_ceiling
from vgg_deploy.machine import available_cores
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec, numbered

WARM_UP = 3
CALLS = 10
HALF = torch.bfloat16
Way = Callable[[Tensor], Tensor]
TABLE = {
    "net": "net",
    "Q": "q_px",
    "batch": "batch",
    "layer": "layer",
    "way": "way",
    "ms": "device_ms:.3f",
    "floor ms": "floor_ms:.3f",
    "× floor": "times_floor:.2f",
    "TFLOP/s": "tflop_per_s:.0f",
    "bound by": "bound_by",
    "difference": "difference:.1e",
}


def ways_of(name: str, layer: nn.Module) -> dict[str, Way]:
    """All ways to compute a layer; each takes a map and returns a map."""
    if isinstance(layer, nn.Conv2d):
        ways: dict[str, Way] = {"convolution": layer}
        weight, bias, padding = layer.weight, layer.bias, layer.padding
        if name.startswith("fc"):
            ways["product"] = lambda maps: fc_as_product(layer, maps)
        else:
            ways["without bias"] = lambda maps: torch.conv2d(maps, weight, padding=padding)
            ways["with bias and ReLU"] = lambda maps: torch.cudnn_convolution_relu(
                maps, weight, bias, (1, 1), padding, (1, 1), 1
            )
        return ways
    if isinstance(layer, nn.MaxPool2d):
        return {"max_pool2d": layer, "slices": pooled_by_slices}
    if isinstance(layer, nn.ReLU):
        return {"in place": torch.relu_}
    return {}


def measured_layers(net: VGG, side: int, batch: int, results: ResultRows) -> None:
    """Add the rows of one net at one size."""
    pixels = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device="cuda")
    maps = pixels.float().contiguous(memory_format=torch.channels_last)
    for name, layer in net.named_children():
        maps = maps.float() if name == "fc8" else maps.to(HALF)
        ways = ways_of(name, layer)
        reference = None
        for way, run in ways.items():
            result = run(maps)
            reference = result if reference is None else reference
            difference = float("nan")
            if way not in ("without bias", "with bias and ReLU"):
                largest = reference.abs().max()
                difference = float((result.float() - reference.float()).abs().max() / largest)
            device_ms(run, maps, WARM_UP)
            ms = float(np.median(device_ms(run, maps, CALLS)))
            row = {"net": net.spec.arch, "q_px": side, "batch": batch, "layer": name, "way": way}
            row |= {"device_ms": ms, "difference": difference}
            results.add(row | floor_columns(name, layer, maps, result, ms))
        if reference is not None:
            maps = reference


def floor_columns(
    name: str, layer: nn.Module, maps: Tensor, result: Tensor, ms: float
) -> dict[str, object]:
    """The least time of a layer, and how far its time is from it."""
    weights = layer.weight.numel() if isinstance(layer, nn.Conv2d) else 0
    size = maps.element_size()
    moved = (maps.numel() + weights + result.numel()) * size
    flop = 2 * result.numel() * weights / result.shape[1]
    precision = "fp32" if maps.dtype == torch.float32 else "bf16"
    compute_ms = flop / matmul_ceiling(precision) / 1e9
    bytes_ms = moved / copy_ceiling() / 1e6
    floor_ms = max(compute_ms, bytes_ms)
    return {
        "floor_ms": floor_ms,
        "times_floor": ms / floor_ms,
        "bound_by": "arithmetic" if compute_ms > bytes_ms else "bytes",
        "tflop_per_s": flop / ms / 1e9,
        "flop": flop,
        "bytes": moved,
    }


@click.command(context_settings={"show_default": True})
@click.option("--arch", default="D")
@click.option("--sides", default="256,384,512", help="Q, pixels.")
@click.option("--batch", default=32)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
@torch.inference_mode()
def main(arch: str, sides: str, batch: int, out: Path) -> None:
    """Write gpu_layers_cuda.csv and .md."""
    torch.backends.cudnn.allow_tf32 = False
    net = VGG(NetSpec(arch, numbered(1000)))
    initialise(net, "he", torch.Generator().manual_seed(0))
    net = net.eval().cuda().to(memory_format=torch.channels_last)
    for name, layer in net.named_children():
        layer.to(torch.float32 if name == "fc8" else HALF)
    title = f"Layers of {arch}, bfloat16, batch {batch}, on {torch.cuda.get_device_name()}"
    results = ResultRows(out / "gpu_layers_cuda.csv", title, TABLE)
    for side in sides.split(","):
        measured_layers(net, int(side), batch, results)
    results.note(f"\n{json.dumps({'matmul': matmul_ceiling('bf16'), 'copy': copy_ceiling()})}")
    results.note(f"\n{environment_block(available_cores())}".rstrip())
    print(results.markdown())


if __name__ == "__main__":
    main()
