"""Evaluates a file in a plain OpenVINO loop: one stream, one request, the precision of the task.

OpenVINO reads our ONNX files.
"""

import time

import numpy as np
from contract import Measured, Task, peer_command
from openvino_cpu import inference_type
from photos import artifact_of, batches


def evaluate(task: Task) -> Measured:
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": task.threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": inference_type(task),
    }
    compiled = ov.Core().compile_model(str(task.model), "CPU", settings)
    posterior, artifact = compiled.output("posterior"), artifact_of(task.model)
    start, correct, predictions = time.perf_counter(), 0, []
    for batch in batches(task, artifact):
        best = compiled({"image": batch.pixels})[posterior].argmax(axis=1)
        correct += int((best == np.array(batch.labels)).sum())
        predictions += best.tolist()
    return Measured(len(predictions), time.perf_counter() - start, correct, predictions)


main = peer_command("OpenVINO loop", "openvino", ("crop", "dense"), evaluate)

if __name__ == "__main__":
    main()
