"""Times OpenVINO's benchmark_app: one random image per call, synchronous, in one stream.

It reads no image files.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from contract import Measured, Task, peer_command
from openvino_cpu import inference_type
from photos import artifact_of

APP = "from openvino.tools.benchmark.main import main; main()"  # what its console script does


def evaluate(task: Task) -> Measured:
    hint, crop = inference_type(task), artifact_of(task.model).spec.crop
    with TemporaryDirectory() as folder:
        options = {
            "-m": task.model,
            "-d": "CPU",
            "-shape": f"image[1,3,{crop},{crop}]",
            "-hint": "none",
            "-nstreams": 1,
            "-nthreads": task.threads,
            "-nireq": 1,
            "-niter": task.calls,
            "-api": "sync",
            "-infer_precision": hint,
            "-report_type": "no_counters",
            "-report_folder": folder,
        }
        command = [sys.executable, "-c", APP]
        for name, value in options.items():
            command += [name, str(value)]
        done = subprocess.run([*command, "-json_stats"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        report = json.loads((Path(folder) / "benchmark_report.json").read_text())
    results = report["execution_results"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Measured(
        int(results["total number of iterations"]),
        float(results["total execution time (ms)"]) / 1000,
        peak_mib=peak,
    )


main = peer_command("OpenVINO benchmark_app", "openvino", ("net",), evaluate)

if __name__ == "__main__":
    main()
