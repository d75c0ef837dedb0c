"""OpenVINO's benchmark_app: one picture a call, random pixels, `-hint none -nstreams 1 -nireq 1`; no image files are read."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from contract import Found, Task, peer_command
from openvino_cpu import inference_type
from photos import artifact_of

APP = "from openvino.tools.benchmark.main import main; main()"  # what its console script does


def evaluate(task: Task) -> Found:
    hint, crop = inference_type(task), artifact_of(task.model).spec.crop
    with TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-c",
            APP,
            "-m",
            task.model,
            "-d",
            "CPU",
            "-shape",
            f"image[1,3,{crop},{crop}]",
        ]
        command += [
            "-hint",
            "none",
            "-nstreams",
            "1",
            "-nthreads",
            task.threads,
            "-nireq",
            "1",
            "-niter",
            task.calls,
            "-api",
            "sync",
        ]
        command += [
            "-infer_precision",
            hint,
            "-report_type",
            "no_counters",
            "-report_folder",
            folder,
            "-json_stats",
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        results = json.loads((Path(folder) / "benchmark_report.json").read_text())[
            "execution_results"
        ]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Found(
        int(results["total number of iterations"]),
        float(results["total execution time (ms)"]) / 1000,
        peak_mib=peak,
    )


main = peer_command("OpenVINO benchmark_app", "openvino", ("net",), evaluate)

if __name__ == "__main__":
    main()
