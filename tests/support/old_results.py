"""Folders of results with known numbers, written by hand as a run of vgg-bench leaves them."""

import json
from pathlib import Path

MODEL = "net.onnx,onnxruntime,fp32"
ENVIRONMENT = {
    "run_id": "20260101-000000-00000001",
    "when": "2026-01-01T00:00:00+00:00",
    "command": "vgg-bench",
    "host": "here",
    "cpu": "Some CPU",
    "cpu_instructions": ["avx2"],
    "cores_allowed": [0, 1],
    "gpus": [],
    "versions": {"vgg-deploy": "0.9"},
}
HEADS = {
    "accuracy.csv": "model,runtime,precision,protocol,scales,flips,images,top1_error_pct,"
    "top1_low_pct,top1_high_pct,top5_error_pct,top5_low_pct,top5_high_pct",
    "predictions.csv": "model,runtime,precision,protocol,scales,flips,image,label,best,posterior,"
    "rank",
    "latency.csv": "model,runtime,precision,device,threads,height_px,width_px,batch,median_ms,"
    "median_low_ms,median_high_ms,steady,joules_per_image",
    "memory.csv": "model,runtime,precision,device,threads,height_px,width_px,batch,peak_mib,"
    "peak_low_mib,peak_high_mib,device_mib",
    "files.csv": "model,runtime,precision,version,size_mb,sha256,path",
    "images.csv": "image,sha256",
}


def old_results(folder: Path, environment=None, **tables: list[str]) -> Path:
    """Write a folder of results.

    Args:
        folder: Created.
        environment: Entries of environment.json that differ from ENVIRONMENT.
        tables: The lines of each table below its head, by its name without the ending.
    """
    folder.mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT | (environment or {})))
    for name, lines in tables.items():
        text = "\n".join([HEADS[f"{name}.csv"], *lines]) + "\n"
        (folder / f"{name}.csv").write_text(text)
    return folder


def run_of(folder: Path, number: int, error: float, ms: float, **environment) -> Path:
    """A whole run: the given top-1 error and median, sizes and memory of its number.

    Args:
        folder: Created.
        number: Of the run; a day and a commit follow from it.
        error: Per cent.
        ms: Milliseconds.
        environment: As `old_results`.
    """
    digit = f"{number:x}"[-1]
    described = {
        "run_id": f"202601{number:02d}-000000-0000000{digit}",
        "when": f"2026-01-{number:02d}T12:00:00+00:00",
        "commit": {"id": digit * 40, "changed": number % 2 == 0},
        "data": {"sha256": "ab" * 32},
        **environment,
    }
    return old_results(
        folder,
        described,
        accuracy=[f"{MODEL},dense,256,True,100,{error},{error - 1},{error + 1},1,0,5"],
        latency=[f"{MODEL},cpu,2,256,256,1,{ms},{0.9 * ms},{1.1 * ms},True,"],
        memory=[f"{MODEL},cpu,2,256,256,1,{500 + number},499,520,"],
        files=[f"{MODEL},1.20,{150 + number},{'cd' * 32},/gone/net.onnx"],
    )
