"""What it takes to build engines of a full-width D without a GPU: python benchmarks/engine_build.py

Each precision in a process of its own that imports nothing else: seconds in the builder, peak memory, size. Weights are random.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pandas as pd

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
BUILD = """
import json, sys
from pathlib import Path
from export.tensorrt.build import build_engine
from vgg_deploy.exported.trt_manifest import Profile, Shape
from vgg_deploy.exported.trt_packages import FLAVOURS
profile = Profile(Shape(1, 224, 224), Shape(8, 256, 256), Shape(32, 512, 512))
m = build_engine(Path(sys.argv[1]), FLAVOURS["rtx"], [profile], ("sm89",), lambda text: None).manifest
status = Path("/proc/self/status").read_text()  # getrusage would tell the parent's peak, if that is higher
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({"precision": m.artifact.precision, "target": "sm89", "build_s": m.build_seconds, "peak_mib": round(peak), "engine_mib": m.bytes // 2**20,
                  "activation_mib": m.activation_bytes[0] // 2**20, "tensorrt_rtx": m.version}))
"""


def export_all(folder: Path) -> dict[str, Path]:
    """A random D in every precision, quantized by the built-in pictures."""
    import torch

    from export.release import ExportOptions, export_onnx
    from vgg_deploy.data.built_in import built_in
    from vgg_deploy.machine import available_cores
    from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
    from vgg_deploy.net.model import VGG, initialise
    from vgg_deploy.net.spec import NetSpec, numbered

    torch.set_num_threads(available_cores())
    net = VGG(NetSpec("D", numbered(1000)))
    initialise(net, "he", torch.Generator().manual_seed(0))
    save_checkpoint(folder / "D.pt", Checkpoint(net.spec, net.state_dict()))
    wanted = ExportOptions(PRECISIONS, calibration=built_in("train", 8).root, calibration_images=8)
    return {
        e.artifact.precision: e.path
        for e in export_onnx(folder / "D.pt", folder, wanted, None, available_cores(), print)
    }


@click.command(context_settings={"show_default": True})
@click.option("--repeats", default=3)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(repeats, out):
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in export_all(Path(scratch)).values():
            for _ in range(repeats):
                done = subprocess.run(
                    [sys.executable, "-c", BUILD, str(path)], capture_output=True, text=True
                )
                if done.returncode:
                    raise SystemExit(done.stderr)
                rows.append(json.loads(done.stdout))
    table = pd.DataFrame(rows).groupby("precision", sort=False).median(numeric_only=True)
    out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(out / "engine_build.csv", index=False)
    lines = [
        f"| {name} | {r.build_s:.1f} | {r.peak_mib:.0f} | {r.engine_mib:.0f} | {r.activation_mib:.0f} |"
        for name, r in table.iterrows()
    ]
    text = "\n".join(
        [
            "| precision | build s | peak MiB | engine MiB | activations MiB |",
            "| --- | --- | --- | --- | --- |",
            *lines,
        ]
    )
    (out / "engine_build.md").write_text(
        f"# Building engines of a full-width D, tensorrt-rtx {rows[0]['tensorrt_rtx']}, sm89, no GPU\n\n"
        f"`python benchmarks/engine_build.py`, medians of {repeats}; profile 1x224x224 / 8x256x256 / 32x512x512.\n\n{text}\n"
    )
    print((out / "engine_build.md").read_text())


if __name__ == "__main__":
    main()
