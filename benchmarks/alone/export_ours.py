"""Exports a checkpoint with `export_onnx`.

export_ours.py CHECKPOINT FOLDER PRECISION EXTERNAL CALIBRATION THREADS; EXTERNAL is True or False,
CALIBRATION a folder or empty.
"""

import sys
import time
from pathlib import Path

import torch

from alone.measurements import print_measurements
from export.release import ExportOptions, export_onnx


def main() -> None:
    source, folder, precision, external, calibration, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    options = ExportOptions(
        (precision,),
        calibration=calibration or None,
        calibration_images=8,
        external_data=external == "True",
    )
    steps = []  # name and start of each

    def on_step(text: str) -> None:
        if not text.startswith("Warning"):
            steps.append((text, time.monotonic()))

    export_onnx(Path(source), Path(folder), options, None, int(threads), on_step)
    print_measurements([*steps, ("end", time.monotonic())])


if __name__ == "__main__":
    main()
