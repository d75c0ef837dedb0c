"""What a pickle claims, before it is read. Oracle: files that torch wrote, and pickles by hand."""

import pickle
import struct
import zipfile

import pytest
import torch

from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import load_untrusted
from vgg_deploy.net.foreign_files import open_tensors
from vgg_deploy.net.pickle_bounds import check_pickle

GIGABYTE = b"cbuiltins\nbytearray\nJ" + struct.pack("<i", 10**9) + b"\x85R"
CLAIMS = {
    "makes a bytearray": b"\x80\x02}X\x01\0\0\0a" + GIGABYTE + b"s.",
    "reserves 4294967295 entries": b"\x80\x02}r\xff\xff\xff\xff.",
}


def write_archive(path, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/version", "3\n")


def write_old(path, data):
    header = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {})
    with open(path, "wb") as file:
        for value in header:
            pickle.dump(value, file, protocol=2)
        file.write(data)
        pickle.dump([], file, protocol=2)


@pytest.mark.parametrize("write", [write_archive, write_old])
@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("read", [load_untrusted, open_tensors])
def test_a_few_bytes_reserve_no_memory(tmp_path, read, write, claim):
    path = tmp_path / "net.pth"
    write(path, CLAIMS[claim])
    with pytest.raises(InputError, match=claim):
        read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_writes_is_read(tmp_path, zipped):
    path = tmp_path / "net.pth"
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    content = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "n": 2**70, "s": "é"}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    back = load_untrusted(path)
    assert torch.equal(back["net"]["weight"], net.weight) and back["n"] == 2**70
    assert back["optimiser"]["param_groups"] == content["optimiser"]["param_groups"]


def test_a_pickle_that_is_cut_off():
    with pytest.raises(ValueError):
        check_pickle(pickle.dumps({"a": 1}, protocol=2)[:-1])
