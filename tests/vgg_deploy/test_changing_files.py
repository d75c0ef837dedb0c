"""Files that other processes shorten, replace or write while they are read.

Oracle: sums of the weights that were written; the process itself, which a signal would end.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.models.model import ModelOptions, open_models
from tests.fuzz.small_models import thin_state
from tests.support.nets import CLASSES, save_net, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.open_net import open_net
from vgg_deploy.unchanged_files import unchanged

ROOT = Path(__file__).parents[2]
MOST_TRIES = 2000
WIDTH = 1 / 8  # 2 MB: more than what a loader has read ahead
SHORTENED = """
import os, sys
from pathlib import Path
from vgg_deploy.net.open_net import open_net
for path in map(Path, sys.argv[1:]):
    net = open_net(path)
    os.truncate(path, 100)
    print(repr(sum(float(value.double().sum()) for value in net.parameters())))
"""
WRITER = """
import sys, time
from pathlib import Path
path, contents = Path(sys.argv[1]), [Path(name).read_bytes() for name in sys.argv[2:]]
print("ready", flush=True)
while True:
    for content in contents:
        with open(path, "r+b") as file:  # in place, as a copy does
            file.truncate(0)
            for begin in range(0, len(content), 65536):
                file.write(content[begin : begin + 65536])
        time.sleep(0.01)
"""


def total(tensors) -> float:
    return sum(float(value.detach().double().sum()) for value in tensors)


def test_weights_outlive_their_file(tmp_path):
    net, state = thin_net("A", width=WIDTH), thin_state()
    files = [tmp_path / name for name in ("A.pt", "A.pth", "A.safetensors")]
    save_net(net, files[0])
    torch.save(state, files[1])
    save_file(state, files[2])
    expected = [total(net.parameters())] + [
        total(open_net(path).parameters()) for path in files[1:]
    ]
    done = subprocess.run(
        [sys.executable, "-c", SHORTENED, *map(str, files)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done  # a mapped file ends it by SIGBUS
    assert [float(line) for line in done.stdout.split()] == pytest.approx(expected, rel=1e-12)


def test_a_checkpoint_that_is_written_meanwhile_is_one_of_both_or_refused(tmp_path):
    sums, files = [], []
    for seed in (0, 1):
        net = thin_net("A", width=WIDTH, seed=seed)
        files.append(tmp_path / f"{seed}.pt")
        save_net(net, files[-1])
        sums.append(total(net.state_dict().values()))
    path = tmp_path / "A.pt"
    path.write_bytes(files[0].read_bytes())
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), *map(str, files)], stdout=subprocess.PIPE
    )
    accepted = refused = tries = 0
    try:
        writer.stdout.readline()
        while tries < MOST_TRIES and (accepted < 5 or refused < 5):
            tries += 1
            try:
                found = total(load_checkpoint(path).weights.values())
            except InputError as error:
                assert len(error.message.splitlines()) == 1
                refused += 1
            else:
                assert min(abs(found - expected) for expected in sums) < 1e-9
                accepted += 1
    finally:
        writer.kill()
        writer.communicate()
    assert accepted and refused


def test_every_kind_of_change_is_noticed(tmp_path):
    path, other = tmp_path / "A.pt", tmp_path / "other"
    changes = {
        "replaced": lambda: os.replace(other, path),
        "shortened": lambda: os.truncate(path, 3),
        "touched": lambda: os.utime(path, (1, 1)),
        "removed": path.unlink,
    }
    for change in changes.values():
        path.write_bytes(b"weights")
        other.write_bytes(b"weights")
        os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        with pytest.raises(InputError, match="another process changed it"), unchanged(path):
            change()
    with unchanged(path):  # which does not exist
        pass


def test_an_error_that_a_change_causes_is_told_as_that(tmp_path):
    path = tmp_path / "A.pt"
    path.write_bytes(b"weights")
    with pytest.raises(InputError, match="damaged"), unchanged(path):
        raise InputError("damaged")
    with pytest.raises(InputError, match="another process changed it"), unchanged(path):
        path.write_bytes(b"")
        raise InputError("damaged")


def test_a_model_that_is_replaced_between_its_weights_and_its_hash_is_refused(tmp_path):
    """Else cells with the scores of the old weights would have the name of the new ones."""
    path, other = tmp_path / "A.pt", tmp_path / "other.pt"

    class Replacing(dict):
        def __contains__(self, key):  # asked when the file is open
            with suppress(FileNotFoundError):
                os.replace(other, path)
            return False

    save_net(thin_net("A", classes=CLASSES), path)
    save_net(thin_net("A", classes=CLASSES, seed=1), other)
    assert len(open_models([path], ModelOptions())) == 1
    with pytest.raises(InputError, match="A.pt: another process changed it"):
        open_models([path], ModelOptions(), Replacing())
