"""Answers once, with ONNX Runtime and NumPy alone: answer_once.py FILE HEIGHT WIDTH THREADS.

This is what a service has in memory that does nothing else, without PyTorch.
"""

import json
import sys

from peers.memory import peak_mib


def main() -> None:
    import numpy as np
    import onnxruntime as ort

    file = sys.argv[1]
    height, width, threads = map(int, sys.argv[2:])
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), np.uint8)
    session.run(None, {"image": images})
    print(json.dumps({"peak_mib": round(peak_mib())}))


if __name__ == "__main__":
    main()
