"""Options of the command line that say what a graph takes and gives."""

import pandas as pd
import pytest
from click.testing import CliRunner

from bench.cli import main as vgg_bench
from bench.predict.cli import main as vgg_predict
from export.cli import main as vgg_export
from tests.support.nets import save_net, thin_net
from vgg_deploy.images.decode import image_size


@pytest.fixture
def net(here):
    return save_net(thin_net("D"), here / "net.pt")


def refused(command, *words) -> str:
    done = CliRunner().invoke(command, [str(word) for word in words])
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--onnx", "--centre-crop"), "--centre-crop is cut by --whole-images; add it"),
        (("--onnx", "--whole-images", 48, "--input", "float32"), "takes uint8; leave --input out"),
        (("--onnx", "--whole-images", 48, "--trt"), "leave --trt out, or write both files"),
        (("--onnx", "--whole-images", 48, "--features", "fc7"), "leave --features out"),
        (("--onnx", "--whole-images", 48, "--ncnn"), "--whole-images does not go with --ncnn"),
        (("--onnx", "--logits", "--boxes-by", "x.pt"), "--logits does not go with --boxes-by"),
        (("--onnx", "--logits", "--features", "fc7"), "add --with-scores, or leave --features"),
        (("--onnx", "--opset", 20, "--gram", "relu1_1"), "--opset does not go with --lpips, --per"),
        (("--onnx", "--opset", 16), "16 is not in the range 17<=x<=23"),
        (("--onnx", "--fixed-shape", "1x3x32"), "is not a shape; write e.g. 1x3x224x224"),
        (("--onnx", "--fixed-shape", "1x32x32x3"), "the graph takes Nx3xHxW, e.g. 1x3x224x224"),
        (
            ("--onnx", "--fixed-shape", "1x3x32x32", "--whole-images", 48),
            "the graph takes NxHxWx3, e.g. 1x480x640x3",
        ),
        (("--onnx", "--fixed-shape", "1x3x32x32", "--triton", "t"), "needs dynamic shapes"),
        (("--onnx", "--fixed-shape", "1x3x31x32"), "1x3x31x32 is below its crop 32"),
        (("--onnx", "--opset", 21, "--precision", "bf16"), "opset 21 has no bf16; use 22 or a lat"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(words, message, net):
    assert message in refused(vgg_export, net, *words)
    assert not list(net.parent.glob("**/*.onnx"))


def test_options_without_onnx_files_are_refused(here):
    message = "--opset says how ONNX files are written; add --onnx"
    assert message in refused(vgg_export, "x.onnx", "--trt", "--opset", 20)


def test_a_small_q_is_refused(here):
    net = save_net(thin_net("D", crop=64), here / "net.pt")
    message = "Q 48 of whole images is below its crop 64, so no window fits; the smallest Q is 64"
    assert message in refused(vgg_export, net, "--onnx", "--whole-images", 48)


@pytest.mark.slow
def test_files_with_an_interface_in_all_commands(net, photos):
    """vgg-bench judges them as any file; what they cannot do is one sentence."""
    run, val = CliRunner(), photos / "val"
    for words in (("--whole-images", 48), ("--logits", "--fixed-shape", "2x3x32x32")):
        done = run.invoke(vgg_export, [str(net), "--onnx", "--threads", "1", *map(str, words)])
        assert done.exit_code == 0, done.output
    whole, fixed = (f"exported/D.{kind}.fp32.onnx" for kind in ("whole", "logits.2x3x32x32"))
    gate = ["--data", str(photos), "--measure", "accuracy", "--threads", "1", "--images", "12"]
    gate += ["--max-posterior-difference", "1e-5"]
    done = run.invoke(vgg_bench, [str(net), whole, *gate])
    assert done.exit_code == 0 and "D.whole.fp32.onnx equals net.pt to rounding" in done.output
    sizes = {image_size(file) for file in val.glob("*/*")}
    shapes = pd.read_csv("results/shapes.csv").query("model == 'D.whole.fp32.onnx'")
    given = set(zip(shapes.height_px, shapes.width_px, strict=True))
    assert len(given) > 6 and given <= sizes  # they went in whole
    done = run.invoke(vgg_bench, [str(net), fixed, *gate, "--protocols", "centre"])
    assert done.exit_code == 0, done.output
    assert "D.logits.2x3x32x32.fp32.onnx equals net.pt to rounding" in done.output
    message = refused(vgg_bench, net, fixed, *gate)
    assert "takes 2x3x32x32 only, so no whole images; add --protocols centre" in message
    message = refused(vgg_bench, net, whole, *gate, "--scales", "64")
    assert "by itself and scores dense; add --scales 48 --protocols dense" in message
    message = refused(vgg_bench, net, whole, *gate, "--paper-tables")
    assert "--paper-tables tests all views at all Q" in message
    done = run.invoke(vgg_predict, [whole, str(val), "--maps", "maps", "--out", "p.csv"])
    assert done.exit_code == 0, done.output
    assert len(list((net.parent / "maps").glob("*.png"))) == 24
    message = refused(vgg_export, whole, "--trt", "--trt-flavour", "rtx")
    assert "rescales whole images, for which TensorRT lacks the arithmetic" in message
