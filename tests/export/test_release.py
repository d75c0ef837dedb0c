"""What the export check catches, and what an export costs."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export import release
from export.onnx.graph import Graph, onnx_graph
from export.verify.parity import compare, judge_exact
from tests.support.faulty_nets import (
    overflowing,
    permuted_classes,
    softmax_before_average,
    swapped_channels,
    without_mean,
    zeroed_convolution,
)
from tests.support.nets import save_net, thin_net
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.net.model import VGG
from vgg_deploy.runtimes import Scores


def export(tmp_path, net=None):
    source = save_net(net or thin_net("D"), tmp_path / "net.pt")
    return release.export_onnx(
        source, tmp_path / "out", release.ExportOptions(("fp32",)), None, 2, lambda text: None
    )[0]


def test_a_good_file_passes(tmp_path):
    exported = export(tmp_path)
    assert exported.path.is_file()
    for c in exported.comparisons:
        assert c.agree == c.batch and c.score_difference < 1e-4 * c.largest_score


def net_times(factor: float) -> VGG:
    """A net whose weights and biases are multiplied."""
    net = thin_net("D")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(factor)
    return net


@pytest.mark.parametrize(
    ("factor", "words"), [(0.0, "all its scores are zero"), (1e30, "its scores are not finite")]
)
def test_a_net_without_scores_is_refused(factor, words, tmp_path):
    with pytest.raises(InputError, match=words):
        export(tmp_path, net_times(factor))
    assert not (tmp_path / "out").exists()


def test_a_net_with_one_answer_brings_a_warning(tmp_path):
    net = thin_net("D")
    with torch.no_grad():
        net.fc8.weight.zero_()
        net.fc8.bias.copy_(torch.arange(len(net.fc8.bias)))
    source = save_net(net, tmp_path / "net.pt")
    log = []
    release.export_onnx(
        source, tmp_path / "out", release.ExportOptions(("fp32",)), None, 1, log.append
    )
    assert any("gives the same scores for each of" in line for line in log)


def ceiling_pools(graph: Graph) -> None:
    for node in graph.model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "ceil_mode":
                attribute.i = 1


def wrong_padding(graph: Graph) -> None:
    node = next(n for n in graph.model.graph.node if n.name == "conv2_1")
    next(a for a in node.attribute if a.name == "pads").ints[:] = [2, 2, 0, 0]


@pytest.mark.parametrize(
    "fault",
    [
        without_mean,
        swapped_channels,
        zeroed_convolution,
        permuted_classes,
        softmax_before_average,
        ceiling_pools,
        wrong_padding,
        overflowing,
    ],
)
@pytest.mark.slow
def test_a_planted_fault_fails_and_leaves_nothing(fault, tmp_path, monkeypatch):
    export(tmp_path)
    released = (tmp_path / "out" / "D.fp32.onnx").read_bytes()

    def faulty(net, artifact, precision, quantization):
        graph = onnx_graph(net, artifact, precision, quantization)
        fault(graph)
        return graph

    monkeypatch.setattr(release, "onnx_graph", faulty)
    with pytest.raises(CheckFailed, match="PyTorch|and should be float32") as failed:
        export(tmp_path)
    assert failed.value.exit_code == 1
    # the older good file is still there, whole, with its own manifest, and nothing else
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"D.fp32.onnx", "D.fp32.json"}
    assert (tmp_path / "out" / "D.fp32.onnx").read_bytes() == released


@pytest.mark.parametrize(
    "other", [thin_net("D", seed=9), thin_net("C")], ids=["another checkpoint", "another arch"]
)
def test_the_graph_of_another_net_fails(other, tmp_path, monkeypatch):
    monkeypatch.setattr(
        release, "onnx_graph", lambda net, artifact, *how: onnx_graph(other, artifact, *how)
    )
    with pytest.raises(CheckFailed, match="PyTorch"):
        export(tmp_path)
    assert not any((tmp_path / "out").iterdir())


def test_nan_passes_no_tolerance(tmp_path):
    net = thin_net("D")
    spoilt = VGG(replace(net.spec))
    weights = net.state_dict()
    # finite, as weights must be; the scores are NaN
    weights["fc6.bias"] = torch.full_like(weights["fc6.bias"], 3e38)
    weights["fc7.weight"] = weights["fc7.weight"] * 1000
    spoilt.load_state_dict(weights)
    with pytest.raises(InputError, match="its scores are not finite"):
        export(tmp_path, spoilt)
    assert not (tmp_path / "out").exists()
    right = [Scores(np.full((1, 2), 0.5, np.float32), np.ones((1, 2, 1, 1), np.float32))]
    nan = [Scores(right[0].posterior, np.full((1, 2, 1, 1), np.nan, np.float32))]
    images = [np.zeros((1, 3, 32, 32), np.uint8)]
    judge_exact(compare(right, right, images), tmp_path)
    with pytest.raises(CheckFailed):
        judge_exact(compare(nan, right, images), tmp_path)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_full_size_d_exports_within_its_memory(tmp_path):
    """Each in a process of its own. The system counts its peak memory.

    getrusage would return the peak of the parent if that is higher.
    """
    make = f"""
import torch
from pathlib import Path
from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec, numbered
net = VGG(NetSpec("D", numbered(1000)))
initialise(net, "he", torch.Generator().manual_seed(0))
save_checkpoint(Path("{tmp_path}/D.pt"), Checkpoint(net.spec, net.state_dict()))
"""
    export = f"""
from pathlib import Path
from export.release import ExportOptions, export_onnx
folder, options = Path("{tmp_path}"), ExportOptions(("PRECISION",))
(exported,) = export_onnx(folder / "D.pt", folder, options, None, 2, lambda text: None)
status = Path("/proc/self/status").read_text()
print(exported.size, 1024 * int(status.split("VmHWM:")[1].split()[0]))
"""
    run_python(make)
    for precision, bytes_a_weight, gib in (("fp32", 4, 1.3), ("fp16", 2, 2.2)):
        size, peak = map(int, run_python(export.replace("PRECISION", precision)).split())
        assert size == pytest.approx(bytes_a_weight * 138_357_544, rel=0.04)  # fc8 stays float32
        assert peak < gib * 2**30, f"{precision}: peak {peak / 2**20:.0f} MiB"
        manifest = json.loads((tmp_path / f"D.{precision}.json").read_text())
        assert manifest["bytes"] == size and len(manifest["check"]) >= 5
    for file in tmp_path.glob("D.*"):
        file.unlink()


def run_python(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
