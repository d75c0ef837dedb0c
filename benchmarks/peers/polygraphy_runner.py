"""Evaluates a file with Polygraphy's OnnxrtRunner in its Comparator.

Images are fed as `polygraphy run --onnxrt --data-loader-script` feeds them.
"""

import time

import numpy as np
from contract import Measured, Task, peer_command
from photos import artifact_of, batches, random_image


def evaluate(task: Task) -> Measured:
    import onnxruntime as ort
    from polygraphy.backend.onnxrt import OnnxrtRunner
    from polygraphy.comparator import Comparator
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.WARNING
    options = ort.SessionOptions()  # Polygraphy's SessionFromOnnx cannot set the number of threads
    options.intra_op_num_threads = task.threads
    session = ort.InferenceSession(str(task.model), options, providers=["CPUExecutionProvider"])
    artifact, labels = artifact_of(task.model), []

    def feeds():
        for batch in batches(task, artifact):
            labels.extend(batch.labels)
            yield {"image": batch.pixels}

    # a first run, for what Polygraphy loads late
    Comparator.run([OnnxrtRunner(session)], data_loader=[{"image": random_image(artifact)}])
    start = time.perf_counter()
    ((_, iterations),) = Comparator.run([OnnxrtRunner(session)], data_loader=feeds()).items()
    best = np.concatenate([iteration["posterior"].argmax(axis=1) for iteration in iterations])
    seconds = time.perf_counter() - start
    correct = int((best == np.array(labels)).sum())
    return Measured(len(labels), seconds, correct, best.tolist())


main = peer_command("Polygraphy runner", "polygraphy", ("crop", "dense"), evaluate)

if __name__ == "__main__":
    main()
