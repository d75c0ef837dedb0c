"""The loop that anybody writes: Pillow, NumPy, `session.run`, one step after the other, with the very file that ours runs."""

import time

import numpy as np
from contract import Found, Task, peer_command, time_calls
from photos import artifact_of, batches, random_picture


def evaluate(task: Task) -> Found:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = task.threads
    session = ort.InferenceSession(str(task.model), options, providers=["CPUExecutionProvider"])
    artifact = artifact_of(task.model)
    if task.view == "net":
        picture = random_picture(artifact)
        return time_calls(lambda: session.run(["posterior"], {"image": picture}), task.calls)
    begun, right, predictions = time.perf_counter(), 0, []
    for pictures in batches(task, artifact):
        (posterior,) = session.run(["posterior"], {"image": pictures.pixels})
        best = posterior.argmax(axis=1)
        right += int((best == np.array(pictures.labels)).sum())
        predictions += best.tolist()
    return Found(len(predictions), time.perf_counter() - begun, right, predictions)


main = peer_command("ONNX Runtime loop", "onnxruntime-gpu", ("crop", "dense", "net"), evaluate)

if __name__ == "__main__":
    main()
