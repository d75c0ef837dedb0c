"""Polygraphy's OnnxrtRunner in its Comparator, fed with pictures as `polygraphy run --onnxrt --data-loader-script` is."""

import time

import numpy as np
from contract import Found, Task, peer_command
from photos import artifact_of, batches, random_picture


def evaluate(task: Task) -> Found:
    import onnxruntime as ort
    from polygraphy.backend.onnxrt import OnnxrtRunner
    from polygraphy.comparator import Comparator
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.WARNING
    options = ort.SessionOptions()
    options.intra_op_num_threads = (
        task.threads
    )  # polygraphy's own SessionFromOnnx has no such option
    session = ort.InferenceSession(str(task.model), options, providers=["CPUExecutionProvider"])
    artifact, labels = artifact_of(task.model), []

    def feeds():
        for pictures in batches(task, artifact):
            labels.extend(pictures.labels)
            yield {"image": pictures.pixels}

    Comparator.run(
        [OnnxrtRunner(session)], data_loader=[{"image": random_picture(artifact)}]
    )  # loads what polygraphy loads late
    begun = time.perf_counter()
    ((_, iterations),) = Comparator.run([OnnxrtRunner(session)], data_loader=feeds()).items()
    best = np.concatenate([iteration["posterior"].argmax(axis=1) for iteration in iterations])
    seconds = time.perf_counter() - begun
    return Found(len(labels), seconds, int((best == np.array(labels)).sum()), best.tolist())


main = peer_command("Polygraphy runner", "polygraphy", ("crop", "dense"), evaluate)

if __name__ == "__main__":
    main()
