"""Updates that run out of memory: python -m tests.support.little_memory, under a limit of its own.

The limit is that of the address space, so that PyTorch really gets no more. It prints a word for
each case that went as it should.
"""

import ctypes
import resource
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from tests.train.step.test_micro_batch import CONFIG, examples_of, updater_of
from train.step.activation_bytes import kept_bytes, layers_of
from train.step.micro_batch import fixed_bytes
from vgg_deploy.errors import CheckFailed

WIDE = replace(CONFIG, arch="A", width=0.25, crop=160, side=(160, 160), batch=64)
CLASSES = 9
HARD = resource.getrlimit(resource.RLIMIT_AS)[1]


def limit(more: int | None) -> None:
    """Let this process map so many bytes more than now; None for as many as it likes."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (HARD if more is None else mapped + more, HARD))


def halved() -> None:
    """The parts are halved and the update is repeated. Oracle: the update without a limit."""
    lines: list[str] = []
    updater = updater_of(replace(WIDE, micro_batch=60), lines)
    examples = examples_of(updater)
    layers = layers_of(WIDE, CLASSES, False)
    limit(fixed_bytes(updater.trainee, WIDE) + 28 * kept_bytes(layers))
    tally = updater.step(examples, 0, 64)
    limit(None)
    assert updater.micro_batch.size < 32 and tally[3] == 64
    assert lines[0] == "Micro-batch 60, 2 parts an update of 64", lines
    again = "computing that update again in parts of 16"
    assert lines[1] == f"Memory ran out at step 1 with 32 images at once: {again}", lines
    other = updater_of(WIDE, [])
    expected = other.step(examples, 0, 64)
    torch.testing.assert_close(tally, expected, rtol=1e-5, atol=1e-5)
    for one, two in zip(updater.trainee.parameters(), other.trainee.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def advised() -> None:
    """A whole batch that does not fit is refused with advice, and changes nothing."""
    updater = updater_of(WIDE, [])
    examples = examples_of(updater)
    before = deepcopy(updater.net.state_dict())
    limit(20 * kept_bytes(layers_of(WIDE, CLASSES, False)))
    told = r"at step 1 with 64 images at once \(.*\); add --micro-batch auto"
    with pytest.raises(CheckFailed, match=told):
        updater.step(examples, 0, 64)
    limit(None)
    assert all(torch.equal(before[name], w) for name, w in updater.net.state_dict().items())


def ended() -> None:
    """One image that does not fit ends the run."""
    config = replace(WIDE, batch=2, crop=512, side=(512, 512), micro_batch=1)
    updater = updater_of(config, [])
    examples = examples_of(updater)
    limit(2 * kept_bytes(layers_of(config, CLASSES, False)) // 3)
    with pytest.raises(CheckFailed, match=r"with 1 images at once \(.*\); use a smaller --crop"):
        updater.step(examples, 0, 2)
    limit(None)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in (halved, advised, ended):
        case()
        print(case.__name__, flush=True)
