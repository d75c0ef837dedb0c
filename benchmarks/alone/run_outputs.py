"""Runs a file once and measures its memory: run_outputs.py FILE SIDE THREADS."""

import json
import sys

from peers.memory import peak_mib


def main() -> None:
    import numpy as np

    from vgg_deploy.runtimes import open_runtime

    file, side, threads = sys.argv[1:]
    runtime = open_runtime(file, threads=int(threads))
    images = np.random.default_rng(0).integers(0, 256, (1, 3, int(side), int(side)), np.uint8)
    runtime.run(images, runtime.outputs)
    print(json.dumps({"peak_mib": round(peak_mib())}))


if __name__ == "__main__":
    main()
