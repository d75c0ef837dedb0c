"""Compares the rescale inside a file of whole images with Pillow's and with ONNX's own Resize.

    python benchmarks/whole_images.py --photos /data/photos --side 256

For every photo as it is, and for one of them enlarged to --large pixels: how many values differ
from Pillow's and by how much, and the time of one image on one thread, called in turn.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from result_tables import environment_block, markdown_table
from timing import time_in_turn

from export.onnx.rescale import rescale_nodes
from vgg_deploy.data.directory import files_below, is_image
from vgg_deploy.exported.interface import PIXELS
from vgg_deploy.files import write_text
from vgg_deploy.images.decode import read_image, resized
from vgg_deploy.images.geometry import rescaled_size

ROUNDS, WARM_UP = 15, 2
HEADS = ("photo", "rescaled by", "values that differ %", "by at most", "ms", "of Pillow's time")


def session(model: onnx.ModelProto) -> Any:
    """A model in ONNX Runtime, on one thread."""
    import onnxruntime as ort  # here, after vgg_deploy has turned its telemetry off

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def graph_of_ours(side: int) -> Any:
    """The nodes of a file of whole images up to its pixels."""
    nodes = rescale_nodes("image", side, "bilinear", None)
    graph = helper.make_graph(
        nodes.nodes,
        "ours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "h", "w", 3])],
        [helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, None)],
        [numpy_helper.from_array(array, name) for name, array in nodes.weights.items()],
    )
    return session(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    )


def graph_of_resize() -> Any:
    """ONNX's Resize with antialias, on uint8; the new shape (N, 3, h, w) is an input."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "Resize", ["planes", "", "", "size"], ["pixels"], mode="linear", antialias=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "resize",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "h", "w", 3]),
            helper.make_tensor_value_info("size", TensorProto.INT64, [4]),
        ],
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, None)],
    )
    return session(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    )


def rows_of(name: str, image: Image.Image, side: int, ours, resize) -> list[list[str]]:
    """One row for each way to rescale an image."""
    whole = np.ascontiguousarray(np.asarray(image)[None])
    size = np.array([1, 3, *rescaled_size(image.height, image.width, side)], np.int64)
    calls = (
        lambda: np.asarray(resized(image, side)).transpose(2, 0, 1),
        lambda: ours.run(None, {"image": whole})[0][0],
        lambda: resize.run(None, {"image": whole, "size": size})[0][0],
    )
    expected = calls[0]().astype(np.int16)
    timed = [lambda number, call=call: call() for call in calls]
    ms = 1000 * np.median(time_in_turn(timed, ROUNDS, WARM_UP)[..., 0], axis=0)
    rows = []
    for way, call, one in zip(("Pillow", "the file", "ONNX Resize"), calls, ms, strict=True):
        apart = np.abs(call() - expected)
        rows.append(
            [
                f"{name}, {image.width} x {image.height}",
                way,
                f"{100 * np.mean(apart > 0):.2f}",
                str(apart.max()),
                f"{one:.2f}",
                f"{one / ms[0]:.2f}",
            ]
        )
    return rows


@click.command()
@click.option("--photos", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--count", default=20, show_default=True, help="Photos, spread over the folder.")
@click.option("--side", default=256, show_default=True, help="Q, pixels.")
@click.option("--large", default=3000, show_default=True, help="Shorter side of the enlarged one.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(photos: Path, count: int, side: int, large: int, out: Path) -> None:
    """Measure, and write whole_images.md."""
    files = [file for file in files_below(photos) if is_image(file.name)]
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(count, len(files)), dtype=int)]
    ours, resize = graph_of_ours(side), graph_of_resize()
    images = [(file.name, read_image(file)) for file in chosen]
    images.append((f"{chosen[0].name}, enlarged", resized(images[0][1], large)))
    rows = [row for name, image in images for row in rows_of(name, image, side, ours, resize)]
    table = markdown_table(HEADS, rows)
    text = f"# Rescaling whole images to Q {side}\n\n{table}\n{environment_block(1)}"
    write_text(out / "whole_images.md", text)
    click.echo(text)


if __name__ == "__main__":
    main()
