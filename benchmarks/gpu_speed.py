"""VGG-A and -D on a GPU, all runtimes in one run: python benchmarks/gpu_speed.py

PyTorch (eager, compiled, eager in NCHW; fp32, bf16, fp16), ONNX Runtime CUDA (fp32, fp16), at Q 256, 384, 512 and batch 1, 8, 32:
time on the device and from host to host, TFLOP/s, and how much of this GPU's own roofline that is. Weights are random, which
does not change the time. With --device cpu --width 0.0625 it is a rehearsal.
"""

import json
import tempfile
from pathlib import Path

import click
import pandas as pd
import torch

from bench.environment import describe_environment
from bench.models import Model
from bench.run import measure_latencies
from bench.tables import latency_texts, markdown, show
from export.release import Wanted, export_onnx
from vgg_deploy.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.errors import InputError
from vgg_deploy.machine import available_cores
from vgg_deploy.model import VGG, initialise
from vgg_deploy.nets import open_net
from vgg_deploy.runtimes import TYPES, TorchRuntime, open_runtime
from vgg_deploy.spec import NetSpec, numbered


def ways(arch: str, width: float, folder: Path, device: str):
    """(name, how to open it), one after the other so that memory is free for each."""
    net = VGG(NetSpec(arch, numbered(1000), width=width))
    initialise(net, "he", torch.Generator().manual_seed(0))
    source, threads = folder / f"{arch}.pt", available_cores()
    save_checkpoint(source, Checkpoint(net.spec, net.state_dict()))
    del net
    exported = export_onnx(source, folder, Wanted(("fp32", "fp16")), None, threads, print)
    for precision in TYPES:
        yield f"{arch} eager NHWC", lambda p=precision: TorchRuntime(open_net(source), device, threads, p, layout=torch.channels_last)
        yield f"{arch} eager NCHW", lambda p=precision: TorchRuntime(open_net(source), device, threads, p, layout=torch.contiguous_format)
        yield f"{arch} compiled", lambda p=precision: TorchRuntime(open_net(source), device, threads, p, compiled=True)
    for e in exported:
        yield f"{arch} ONNX", lambda path=e.path: open_runtime(path, device, threads)


@click.command(context_settings={"show_default": True})
@click.option("--archs", default="A,D")
@click.option("--sides", default="256,384,512")
@click.option("--batches", default="1,8,32")
@click.option("--width", default=1.0)
@click.option("--device", default="cuda", type=click.Choice(("cuda", "cpu")))
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(archs, sides, batches, width, device, out):
    sides, batches = (tuple(map(int, text.split(","))) for text in (sides, batches))
    rows, failed = [], []
    for arch in archs.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            for name, opened in ways(arch, width, Path(scratch), device):
                try:
                    model = Model(Path(name), name, opened(), "")
                    rows += measure_latencies([model], lambda model: sides, batches, print)[0]
                except (InputError, RuntimeError) as error:  # a runtime that is not there must not lose the others' rows
                    failed.append(f"{name}: {str(error).splitlines()[0][:300]}")
                    print(failed[-1])
    title = f"VGG-{archs} on {torch.cuda.get_device_name() if device == 'cuda' else 'the CPU'}"
    texts = latency_texts(rows, title)
    show(texts)
    out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row.record() for row in rows]).to_csv(out / f"{device}_speed.csv", index=False)
    described = json.dumps(describe_environment(available_cores()), indent=2)
    lines = "".join(f"- not measured: {line}\n" for line in failed)
    (out / f"{device}_speed.md").write_text(f"{markdown(texts)}\n{lines}\n```json\n{described}\n```\n")


if __name__ == "__main__":
    main()
