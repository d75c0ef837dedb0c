"""The same loop in OpenVINO, which reads our ONNX files: one stream, one request, the precision that is asked for or none."""

import time

import numpy as np
from contract import Found, Task, peer_command
from openvino_cpu import inference_type
from photos import artifact_of, batches


def evaluate(task: Task) -> Found:
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": task.threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": inference_type(task),
    }
    compiled = ov.Core().compile_model(str(task.model), "CPU", settings)
    posterior, artifact = compiled.output("posterior"), artifact_of(task.model)
    begun, right, predictions = time.perf_counter(), 0, []
    for pictures in batches(task, artifact):
        best = compiled({"image": pictures.pixels})[posterior].argmax(axis=1)
        right += int((best == np.array(pictures.labels)).sum())
        predictions += best.tolist()
    return Found(len(predictions), time.perf_counter() - begun, right, predictions)


main = peer_command("OpenVINO loop", "openvino", ("crop", "dense"), evaluate)

if __name__ == "__main__":
    main()
