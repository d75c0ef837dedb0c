"""Quantizes an ONNX file by NNCF with accuracy control: nncf_limit.py FP32.onnx FOLDER DROP.

It runs with the Python of an environment that has nncf and openvino, and needs nothing of this
project. FOLDER contains calibrate.npz, choose.npz and judge.npz: images `0`, `1` ... of (3, H, W)
uint8 and `labels`. It gets nncf.xml, nncf.bin, and nncf.json with the answers on judge.npz.
"""

import json
import sys
import time
from pathlib import Path

import nncf
import numpy as np
import openvino as ov


def images_of(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    with np.load(path) as stored:
        labels = stored["labels"]
        return [stored[str(i)][None] for i in range(len(labels))], labels


def best_classes(compiled: ov.CompiledModel, images: list[np.ndarray]) -> list[int]:
    return [int(compiled(image)["posterior"][0].argmax()) for image in images]


def convolutions(model: ov.Model) -> tuple[list[str], list[str]]:
    """Names of the convolutions whose weights are stored in 8 bits, and of the others."""
    eight, others = [], []
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        behind, types = [node.input_value(1).get_node()], set()
        while behind:
            source = behind.pop()
            if source.get_type_name() == "Constant":
                types.add(source.get_element_type().get_type_name())
            behind += [source.input_value(i).get_node() for i in range(source.get_input_size())]
        name = node.get_friendly_name().removesuffix("/WithoutBiases")
        (eight if types & {"i8", "u8"} else others).append(name)
    return eight, others


def main(onnx: Path, folder: Path, drop: float) -> None:
    calibrate, _ = images_of(folder / "calibrate.npz")
    choose, labels = images_of(folder / "choose.npz")
    pairs = list(zip(choose, labels.tolist(), strict=True))

    def validate(compiled: ov.CompiledModel, data: object) -> tuple[float, list[float]]:
        right = [
            float(int(compiled(image)["posterior"][0].argmax()) == label) for image, label in data
        ]
        return float(np.mean(right)), right

    model = ov.Core().read_model(onnx)
    start = time.monotonic()
    quantized = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=nncf.Dataset(calibrate),
        validation_dataset=nncf.Dataset(pairs),
        validation_fn=validate,
        max_drop=drop,
        subset_size=len(calibrate),
    )
    seconds = time.monotonic() - start
    ov.save_model(quantized, folder / "nncf.xml", compress_to_fp16=False)
    judge, _ = images_of(folder / "judge.npz")
    _, others = convolutions(quantized)
    found = {
        "best": best_classes(ov.compile_model(quantized, "CPU"), judge),
        "float": others,
        "seconds": seconds,
        "bytes": (folder / "nncf.bin").stat().st_size + (folder / "nncf.xml").stat().st_size,
        "versions": {"nncf": nncf.__version__, "openvino": ov.__version__},
    }
    (folder / "nncf.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
