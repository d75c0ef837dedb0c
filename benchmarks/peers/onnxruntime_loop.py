"""Evaluates a file in the plain loop that anybody writes: Pillow, NumPy, `session.run`.

It runs the same file as ours, one step after the other.
"""

import time

import numpy as np
from contract import Measured, Task, peer_command, time_calls
from photos import artifact_of, batches, random_image


def evaluate(task: Task) -> Measured:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = task.threads
    session = ort.InferenceSession(str(task.model), options, providers=["CPUExecutionProvider"])
    artifact = artifact_of(task.model)
    if task.view == "net":
        image = random_image(artifact)
        return time_calls(lambda: session.run(["posterior"], {"image": image}), task.calls)
    start, correct, predictions = time.perf_counter(), 0, []
    for batch in batches(task, artifact):
        (posterior,) = session.run(["posterior"], {"image": batch.pixels})
        best = posterior.argmax(axis=1)
        correct += int((best == np.array(batch.labels)).sum())
        predictions += best.tolist()
    return Measured(len(predictions), time.perf_counter() - start, correct, predictions)


main = peer_command("ONNX Runtime loop", "onnxruntime-gpu", ("crop", "dense", "net"), evaluate)

if __name__ == "__main__":
    main()
