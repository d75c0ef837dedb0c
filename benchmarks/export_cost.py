"""What it takes to export a full-width D: python benchmarks/export_cost.py

Each export in a process of its own: peak resident memory, files that are mapped included (VmHWM), seconds of every stage. The yardstick
is measured right after it: writing the same bytes twice, to disk (fsync). The peer is torch.onnx.export of the same checkpoint, which checks
nothing. Weights are random.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import pandas as pd

CASES = {
    "fp32": ("fp32", False),
    "fp32, external data": ("fp32", True),
    "fp16": ("fp16", False),
    "int8": ("int8", False),
}
STAGES = (("reading", "read_s"), ("calibrat", "reference_s"), ("PyTorch's scores", "reference_s"), ("writing", "write_s"), ("checking", "check_s"),
          ("measuring the cost", "check_s"))  # fmt: skip
COUNT = """
status = Path("/proc/self/status").read_text()  # getrusage would tell the parent's peak, if that is higher
used = os.times()
found |= {"peak_mib": round(int(status.split("VmHWM:")[1].split()[0]) / 1024), "user_s": used.user, "system_s": used.system}
print(json.dumps(found))
"""
EXPORT = (
    """
import json, os, sys, time
from pathlib import Path
import torch
from export.release import Wanted, export_onnx
source, folder, precision, external, calibration, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
steps = []
wanted = Wanted((precision,), calibration=calibration or None, calibration_images=8, external_data=external == "True")

def on_step(text):
    if not text.startswith("Warning"):
        steps.append((text, time.monotonic()))

export_onnx(Path(source), Path(folder), wanted, None, int(threads), on_step)
found = {"steps": [*steps, ("end", time.monotonic())]}
"""
    + COUNT
)
PEER = (
    """
import json, os, sys, time, warnings
from pathlib import Path
import torch
from vgg_deploy.net.model import posterior
from vgg_deploy.net.open_net import open_net
source, folder, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
warnings.simplefilter("ignore")

class Deployed(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1))

    def forward(self, image):
        score_map = self.net(image.float() - self.mean)
        return posterior(score_map), score_map

begun = time.monotonic()
dims = {"image": {0: torch.export.Dim("batch"), 2: torch.export.Dim("h", min=224, max=1024), 3: torch.export.Dim("w", min=224, max=1024)}}
image = torch.zeros(2, 3, 256, 320, dtype=torch.uint8)
torch.onnx.export(Deployed(open_net(Path(source))).eval(), (image,), Path(folder) / "peer.onnx", dynamo=True, opset_version=20, dynamic_shapes=dims,
                  input_names=["image"], external_data=False, verbose=False)
found = {"steps": [("writing", begun), ("end", time.monotonic())]}
"""
    + COUNT
)


def run_alone(script: str, *args) -> dict:
    """One row of a script in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    row = json.loads(done.stdout.splitlines()[-1])
    steps = row.pop("steps")
    for (text, begun), (_, ended) in zip(steps, steps[1:], strict=False):
        (stage,) = (name for start, name in STAGES if text.startswith(start))
        row[stage] = row.get(stage, 0) + ended - begun
    return row | {"total_s": steps[-1][1] - steps[0][1]}


def write_twice(files: list[Path], scratch: Path) -> float:
    """Seconds of writing the bytes of some files twice, each time to disk."""
    chunk = bytes(2**24)
    size, begun = sum(file.stat().st_size for file in files), time.monotonic()
    for name in ("first", "second"):
        with open(scratch / name, "wb") as file:
            for start in range(0, size, len(chunk)):
                file.write(chunk[: size - start])
            file.flush()
            os.fsync(file.fileno())
    seconds = time.monotonic() - begun
    for name in ("first", "second"):
        (scratch / name).unlink()
    return seconds


def save_random_net(path: Path) -> None:
    import torch

    from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
    from vgg_deploy.net.model import VGG, initialise
    from vgg_deploy.net.spec import NetSpec, numbered

    net = VGG(NetSpec("D", numbered(1000)))
    initialise(net, "he", torch.Generator().manual_seed(0))
    save_checkpoint(path, Checkpoint(net.spec, net.state_dict()))


@click.command(context_settings={"show_default": True})
@click.option("--repeats", default=3)
@click.option("--threads", type=click.IntRange(1), help="[default: the cores this process may use]")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(repeats, threads, out):
    from bench.results.environment import describe_environment
    from vgg_deploy.data.built_in import built_in
    from vgg_deploy.machine import available_cores

    threads, rows = threads or available_cores(), []
    with tempfile.TemporaryDirectory() as scratch:
        source, folder = Path(scratch) / "D.pt", Path(scratch) / "out"
        save_random_net(source)
        pictures = built_in("train", 8).root
        for name in [*CASES, "torch.onnx.export"] * repeats:
            folder.mkdir()
            if name in CASES:
                precision, external = CASES[name]
                row = run_alone(
                    EXPORT,
                    source,
                    folder,
                    precision,
                    external,
                    pictures if precision == "int8" else "",
                    threads,
                )
            else:
                row = run_alone(PEER, source, folder, threads)
            files = [file for file in folder.iterdir() if file.suffix in (".onnx", ".data")]
            rows.append(
                {
                    "export": name,
                    "mb": sum(f.stat().st_size for f in files) / 1e6,
                    **row,
                    "written_twice_s": write_twice(files, Path(scratch)),
                }
            )
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
            print(rows[-1], flush=True)
    out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(out / "export_cost.csv", index=False)
    columns = [
        "mb",
        "peak_mib",
        "read_s",
        "reference_s",
        "write_s",
        "check_s",
        "total_s",
        "user_s",
        "written_twice_s",
    ]
    medians = table.groupby("export", sort=False)[columns].median()
    lines = [f"| {name} | " + " | ".join("" if pd.isna(v) else f"{v:,.0f}" if c in ("mb", "peak_mib") else f"{v:.1f}" for c, v in row.items()) + " |"
             for name, row in medians.iterrows()]  # fmt: skip
    (out / "export_cost.md").write_text(
        "# Exporting a full-width D\n\n"
        f"`python benchmarks/export_cost.py`, medians of {repeats}, {threads} threads. Peak: VmHWM of the process, resident memory with the files "
        "that it maps, PyTorch and ONNX Runtime themselves included. Seconds by the wall clock from the first byte read, imports aside; user: CPU seconds "
        "of the whole process. "
        "check: onnx, ONNX Runtime at six sizes, for fp16 and int8 also lint and float32 twin, for int8 also its cost on 4 held-out images; "
        "fsync and sha256. "
        "Written twice: the same number of bytes, with fsync. int8 calibrates on 4 built-in images. torch.onnx.export (dynamo) checks nothing.\n\n"
        "| export | MB | peak MiB | read s | reference s | write s | check s | all s | user s | written twice s |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(lines)
        + f"\n\n```json\n{json.dumps(describe_environment(threads), indent=2)}\n```\n"
    )
    print((out / "export_cost.md").read_text())


if __name__ == "__main__":
    main()
