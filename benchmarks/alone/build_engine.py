"""Builds one TensorRT-RTX engine: build_engine.py ONNX_FILE."""

import json
import sys
from pathlib import Path

from peers.memory import peak_mib

from export.tensorrt.build import build_engine
from vgg_deploy.exported.trt_manifest import InputShape, Profile
from vgg_deploy.exported.trt_packages import FLAVOURS

TARGET = "sm89"
PROFILE = Profile(InputShape(1, 224, 224), InputShape(8, 256, 256), InputShape(32, 512, 512))


def main() -> None:
    path = Path(sys.argv[1])
    built = build_engine(path, FLAVOURS["rtx"], [PROFILE], (TARGET,), lambda text: None)
    manifest = built.manifest
    row = {
        "precision": manifest.artifact.precision,
        "target": TARGET,
        "build_s": manifest.build_seconds,
        "peak_mib": round(peak_mib()),
        "engine_mib": manifest.bytes // 2**20,
        "activation_mib": manifest.activation_bytes[0] // 2**20,
        "tensorrt_rtx": manifest.version,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
