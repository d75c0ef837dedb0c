"""Batches in parts: the whole batch's update, the memory they take, and memory that runs out."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from tests.support.nets import thin_spec
from train.feed.examples import Examples
from train.first_weights import random_net
from train.recipe.config import AUTO, LOCALISE, TrainConfig
from train.step.activation_bytes import kept_bytes, layers_of, peak_bytes
from train.step.micro_batch import SHARE_OF_FREE, MicroBatch, fixed_bytes
from train.step.trainee import shape_for_training, shaped
from train.step.update import Updater
from vgg_deploy.errors import InputError
from vgg_deploy.job import ALONE
from vgg_deploy.machine import _left_in_group, available_memory_bytes, total_memory_bytes
from vgg_deploy.net.box_outputs import NUMBERS
from vgg_deploy.net.spec import numbered

BATCH = 14
CONFIG = TrainConfig(
    arch="D", width=1 / 16, crop=64, side=(64, 64), batch=BATCH, init="he", weight_decay=0.01
)


def updater_of(config: TrainConfig, lines: list[str], head_only: bool = False) -> Updater:
    more = {"boxes": config.box_outputs} if config.localises else {}
    spec = thin_spec(config.arch, numbered(9), config.crop, width=config.width, **more)
    net = shape_for_training(random_net(spec, config), "cpu", config.precision)
    return Updater(net, head_only, config, ALONE, compiled=False, log=lines.append)


def examples_of(updater: Updater) -> Examples:
    """Random images, or pool5 where the head alone is trained; labels and boxes."""
    draw = torch.Generator().manual_seed(0)
    config, net = updater.config, updater.net
    inputs = 64 * torch.randn(config.batch, 3, config.crop, config.crop, generator=draw)
    inputs = shaped(inputs, config.precision).to(net.convolution("fc8").weight.dtype)
    if updater.head_only:
        inputs = net.trunk(inputs).detach()
    labels = torch.randint(9, (config.batch,), generator=draw)
    boxes = torch.rand(config.batch, NUMBERS, generator=draw) if config.localises else None
    return Examples(inputs, labels, torch.arange(config.batch), boxes)


def after(config: TrainConfig, double: bool, head_only: bool = False, steps: int = 2):
    """Weights and momentum after updates, and what they tallied."""
    updater = updater_of(config, [], head_only)
    if double:
        updater.net.double()
        for weights in updater.trainee.parameters():
            state = updater.optimiser.state[weights]
            state["momentum_buffer"] = state["momentum_buffer"].double()
    examples = examples_of(updater)
    tallies = [updater.step(examples, number, config.batch) for number in range(steps)]
    values = [*updater.trainee.parameters()]
    moving = [updater.optimiser.state[weights]["momentum_buffer"] for weights in values]
    return [tensor.detach().double() for tensor in (*values, *moving)], torch.stack(tallies)


@pytest.mark.parametrize("task", ["classify", LOCALISE])
@pytest.mark.parametrize("head_only", [False, True])
def test_parts_make_the_update_of_the_whole_batch(task, head_only):
    """Oracle: the whole batch in float64. Images 5, 5, 4 at once; dropout; two updates."""
    config = replace(CONFIG, task=task, lr=1e-3)
    whole, tally = after(config, True, head_only)
    parts, in_parts = after(replace(config, micro_batch=5), True, head_only)
    for one, other in zip(whole, parts, strict=True):
        # outputs are float32 for the loss, whose gradients are therefore off by 6e-8
        assert (one - other).abs().max() <= 1e-6 * one.abs().max()
    torch.testing.assert_close(tally, in_parts, rtol=1e-6, atol=1e-6)
    assert in_parts[0, 3] == BATCH


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_parts_round_no_worse_than_the_whole_batch(precision):
    """Oracle: one update in float64. Sums in another order are as near to it."""
    config = replace(CONFIG, lr=1e-3)
    exact, _ = after(config, True, steps=1)
    config = replace(config, precision=precision)

    def error(**more) -> float:
        weights, _ = after(replace(config, **more), False, steps=1)
        pairs = zip(weights, exact, strict=True)
        return float(torch.cat([(w - e).flatten() for w, e in pairs]).norm())

    assert 0 < error(micro_batch=5) < 1.5 * error()


def test_dropped_outputs_are_those_of_the_whole_batch():
    """Two equal images that are dropped alike in two parts would give equal scores."""
    updater = updater_of(replace(CONFIG, micro_batch=5), [])
    seen: list[torch.Tensor] = []
    plain = updater.forward
    updater.forward = lambda inputs, masks: seen.append(masks[0]) or plain(inputs, masks)
    updater.step(examples_of(updater), 0, BATCH)
    whole = updater_of(CONFIG, [])
    kept: list[torch.Tensor] = []
    plain_whole = whole.forward
    whole.forward = lambda inputs, masks: kept.append(masks[0]) or plain_whole(inputs, masks)
    whole.step(examples_of(whole), 0, BATCH)
    assert [len(mask) for mask in seen] == [4, 5, 5]
    assert torch.equal(torch.cat(seen), kept[0])


# --- Memory ---


def kept_by_autograd(updater: Updater, examples: Examples) -> int:
    """Bytes of the arrays that autograd keeps for one part, without the weights."""
    found: dict[int, int] = {}
    weights = {tensor.data_ptr() for tensor in updater.trainee.parameters()}
    shapes = {tensor.shape for tensor in updater.trainee.parameters()}
    shapes |= {torch.Size((len(w), w[0].numel())) for w in updater.trainee.parameters() if w.dim()}
    kept: list[torch.Tensor] = []  # alive, so that no place in memory is used again

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        copy_of_weights = (
            tensor.shape in shapes or tensor.t().shape in shapes
            if (tensor.dim() == 2)
            else tensor.shape in shapes
        )
        if tensor.data_ptr() not in weights and not copy_of_weights and tensor.dim():
            found[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        updater.step(examples, 0, len(examples.labels))
    return sum(found.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "more",
    [
        {"arch": "A"},
        {"arch": "A-LRN"},
        {"arch": "C", "dropout": 0.0},
        {"arch": "D"},
        {"arch": "E", "width": 1 / 8},
        {"task": LOCALISE},
        {"head_only": True},
        {"head_only": True, "dropout": 0.0, "task": LOCALISE},
    ],
)
def test_the_counted_bytes_are_those_that_autograd_keeps(more, precision):
    """Oracle: the tensors that autograd packs in a real update."""
    more = dict(more)
    head_only = more.pop("head_only", False)
    config = replace(CONFIG, precision=precision, **more)
    updater = updater_of(config, [], head_only)
    layers = layers_of(config, updater.net.spec.outputs, head_only)
    kept = kept_by_autograd(updater, examples_of(updater)) / BATCH
    assert kept == pytest.approx(kept_bytes(layers), abs=2)
    assert kept_bytes(layers) < peak_bytes(layers)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_counted_bytes_are_near_the_peak_on_a_gpu(precision):
    """Oracle: PyTorch's own count, between two numbers of images; workspaces come on top."""
    config = replace(CONFIG, width=0.5, crop=224, side=(224, 224), batch=48, precision=precision)
    spec = thin_spec("D", numbered(9), 224, width=0.5)
    net = shape_for_training(random_net(spec, config), "cuda", precision)
    updater = Updater(net, False, config, ALONE, compiled=False)
    peaks = []
    for images in (16, 48):
        inputs = shaped(torch.randn(images, 3, 224, 224, device="cuda"), precision)
        rows = torch.arange(images, device="cuda")
        for number in range(2):
            torch.cuda.reset_peak_memory_stats()
            updater.step(Examples(inputs, rows % 9, rows), number, images)
        peaks.append(torch.cuda.max_memory_allocated() - inputs.nbytes)
    counted = peak_bytes(layers_of(config, 9, False))
    assert 0.8 < (peaks[1] - peaks[0]) / 32 / counted < 1.25


def test_auto_takes_the_largest_equal_parts_that_fit(monkeypatch):
    """The free memory is given; oracle: one image more per part would be too much."""
    config = replace(CONFIG, arch="A", batch=50, micro_batch=AUTO)
    updater = updater_of(config, lines := [])
    layers = layers_of(config, 9, False)
    fixed = fixed_bytes(updater.trainee, config)
    assert fixed == 4 * sum(weights.numel() for weights in updater.net.parameters())
    for most, chosen in ((1, 1), (24, 17), (25, 25), (49, 25), (50, 50), (1000, 50)):
        free = int((fixed + (most + 0.5) * peak_bytes(layers)) / SHARE_OF_FREE["cpu"])
        monkeypatch.setattr("train.step.micro_batch.free_bytes", lambda *_, free=free: free)
        updater.micro_batch.choose(updater.net, updater.trainee, False)
        assert updater.micro_batch.size == chosen
    assert lines[1].startswith("Micro-batch 17, 3 parts an update of 50: an image keeps")
    monkeypatch.setattr("train.step.micro_batch.free_bytes", lambda *_: None)
    with pytest.raises(InputError, match="does not say how much memory is free; give a number"):
        updater.micro_batch.choose(updater.net, updater.trainee, False)


def test_the_free_memory_is_part_of_the_machines():
    assert 0 < available_memory_bytes() < total_memory_bytes()


@pytest.mark.parametrize(
    "names",
    [
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_a_control_group_leaves_its_limit_without_what_is_used(tmp_path, names):
    """Of both versions; files that are kept because there is room are not used."""
    for name, text in zip(names[:2], ("5000\n", "3000\n"), strict=True):
        (tmp_path / name).write_text(text)
    (tmp_path / "memory.stat").write_text(f"anon 2400\n{names[2]} 600\n")
    assert _left_in_group(tmp_path) == 2600
    (tmp_path / names[0]).write_text("max\n")
    assert _left_in_group(tmp_path) > total_memory_bytes()
    assert _left_in_group(tmp_path / "none") > total_memory_bytes()


@pytest.mark.parametrize("images", [0, 1, 4, 5, 6, 13, 14])
def test_parts_cover_each_image_once_and_differ_by_one_at_most(images):
    micro_batch = MicroBatch(CONFIG, ALONE, print)
    micro_batch.size = 5
    parts = micro_batch.parts(images)
    assert [i for part in parts for i in range(images)[part]] == list(range(images))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) <= 5 and max(sizes) - min(sizes) <= 1
    assert len(sizes) == max(1, int(np.ceil(images / 5)))


@pytest.mark.slow
def test_memory_that_runs_out_really():
    """In a process of its own: what this one has freed would be taken first."""
    command = [sys.executable, "-m", "tests.support.little_memory"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.split() == ["halved", "advised", "ended"]
