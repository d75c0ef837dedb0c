import json
import tracemalloc
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.nets import save_net, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import Checkpoint, load_checkpoint, load_untrusted, save_checkpoint
from vgg_deploy.net.open_net import open_net
from vgg_deploy.net.spec import NetSpec, Preprocessing, numbered
from vgg_deploy.net.torch_archive import check_archive


def test_a_net_comes_back_whole(tmp_path):
    net = thin_net(
        "A-LRN",
        lrn="caffe",
        names=("a disc", "a square", "striped", "a triangle"),
        recipe="by hand",
    )
    back = open_net(save_net(net, tmp_path / "net.pt"))
    assert back.spec == net.spec
    images = torch.randn(2, 3, 70, 45, generator=torch.Generator().manual_seed(1)) * 60
    with torch.inference_mode():
        assert torch.equal(back(images), net(images))


def refusal(path) -> str:
    with pytest.raises(InputError) as refused:
        load_checkpoint(path)
    assert refused.value.exit_code == 2
    assert str(path) in refused.value.message
    return refused.value.message


def test_a_text_file_is_refused(tmp_path):
    path = tmp_path / "notes.pt"
    path.write_text("not a net")
    assert "cannot be read as a torch file" in refusal(path)


def test_a_missing_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "gone.pt")


def test_a_truncated_file_is_refused(tmp_path):
    whole = save_net(thin_net(), tmp_path / "whole.pt").read_bytes()
    for share in (0.1, 0.5, 0.99):
        path = tmp_path / "cut.pt"
        path.write_bytes(whole[: int(share * len(whole))])
        assert "truncated" in refusal(path)


@pytest.fixture
def sound(tmp_path):
    return save_net(thin_net(), tmp_path / "net.pt")


def records(path):
    with zipfile.ZipFile(path) as archive:
        return [(record, archive.read(record)) for record in archive.infolist()]


def packed(path, contents, compression=zipfile.ZIP_STORED):
    """An archive of these records, with right checksums, as another program writes it."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for record, content in contents:
            archive.writestr(record.filename, content)
    return path


def data_of(path, record):
    """First byte of a record's content in the file."""
    with zipfile.ZipFile(path) as archive, archive.open(record) as file:
        return file._orig_compress_start


def test_every_flipped_bit_of_a_record_is_found(sound):
    """One bit at a time, in the description, in weights and in the small records."""
    whole, rng = sound.read_bytes(), np.random.default_rng(0)
    for record, content in records(sound):
        start = data_of(sound, record)
        for at in {0, len(content) - 1, *rng.integers(0, len(content), 3).tolist()}:
            flipped = bytearray(whole)
            flipped[start + at] ^= 1 << int(rng.integers(0, 8))
            sound.write_bytes(flipped)
            assert "damaged" in refusal(sound)
            with pytest.raises(InputError, match="net.pt: .*damaged"):
                open_net(sound)
    sound.write_bytes(whole)
    open_net(sound)


def test_a_block_of_zeros_is_found(sound):
    """What a crash leaves of a file that was copied: its size is right."""
    record, content = max(records(sound), key=lambda one: len(one[1]))
    whole = bytearray(sound.read_bytes())
    start = data_of(sound, record) + 4096
    whole[start : start + 4096] = bytes(4096)
    sound.write_bytes(whole)
    assert f"its record {record.filename} is not as it was saved" in refusal(sound)


@pytest.mark.parametrize("kept", [0.0, 0.5, 2.0])
def test_a_record_of_another_size_is_found(sound, kept):
    """torch would read the bytes of the next records as weights; every checksum here is right."""
    changed = records(sound)
    chosen = next(i for i, (record, _) in enumerate(changed) if record.filename.endswith("/data/0"))
    record, content = changed[chosen]
    size = int(kept * len(content))
    changed[chosen] = (record, (2 * content)[:size])
    packed(sound, changed)
    message = f"{record.filename} has {size:,} bytes, its tensor takes {len(content):,}"
    assert message in refusal(sound)


def test_a_missing_and_a_doubled_record_are_found(sound):
    whole = records(sound)
    without = [one for one in whole if not one[0].filename.endswith("/data/3")]
    assert "data/3 is missing" in refusal(packed(sound, without))
    doubled = next(one for one in whole if one[0].filename.endswith("/data/3"))
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed(sound, [*whole, doubled])
    assert "data/3 occurs twice" in refusal(sound)


def test_a_compressed_archive_is_refused(sound):
    assert "is compressed" in refusal(packed(sound, records(sound), zipfile.ZIP_DEFLATED))


def test_an_archive_packed_again_without_compression_is_sound(sound):
    """Oracle: torch, which reads it without mapping it."""
    before = torch.load(sound, weights_only=True)["weights"]
    after = load_checkpoint(packed(sound, records(sound))).weights
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    weights = {name: tensor.clone() for name, tensor in thin_net().state_dict().items()}
    weights["conv3_1.weight"][0, 1, 2, 0] = value
    assert "conv3_1.weight has NaN or infinite values" in refusal(
        damaged(tmp_path, weights=weights)
    )


def test_weights_in_another_layout_are_refused(tmp_path):
    weights = thin_net().state_dict()
    meta = weights | {"fc8.bias": weights["fc8.bias"].to("meta")}
    assert "fc8.bias is stored as torch.strided on meta" in refusal(damaged(tmp_path, weights=meta))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about sparse and nested tensors
        sparse = weights | {"fc8.bias": weights["fc8.bias"].to_sparse()}
        assert "fc8.bias is stored as torch.sparse_coo on cpu" in refusal(
            damaged(tmp_path, weights=sparse)
        )
        nested = weights | {"fc8.bias": torch.nested.nested_tensor([weights["fc8.bias"]])}
        path = damaged(tmp_path, weights=nested)
        assert "fc8.bias is stored as a nested tensor" in refusal(path)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.complex128,
    ],
)
def test_archives_of_torch_with_any_tensors_pass(tmp_path, dtype):
    """Oracle: torch reads the file. It has views of one storage, empty tensors, other objects."""
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    content = {
        "a": tensor,
        "view": tensor[1:, ::2],
        "empty": tensor[:0],
        "more": [1, 2.5, None, {"x": (True, "text", b"bytes")}, {3}, torch.Size([2])],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "untyped": torch.ones(2).untyped_storage(),
    }
    torch.save(content, tmp_path / "any.pt")
    back = load_untrusted(tmp_path / "any.pt")
    assert torch.equal(back["a"], tensor)
    assert torch.equal(back["view"], tensor[1:, ::2])
    assert back["more"] == content["more"]


def test_an_optimizer_and_older_formats_pass(tmp_path):
    net = thin_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 3, 32, 32)).sum().backward()
    optimizer.step()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "all.pt")
    assert load_untrusted(tmp_path / "all.pt")["optimizer"]["param_groups"][0]["lr"] == 0.1
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_untrusted(tmp_path / "old.pt")["fc8.bias"], net.fc8.bias)


@pytest.mark.slow
def test_checking_takes_no_memory(tmp_path):
    """A record of 256 MB is read in blocks."""
    torch.save({"weights": torch.ones(64, 2**20)}, tmp_path / "large.pt")
    tracemalloc.start()
    check_archive(tmp_path / "large.pt")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (tmp_path / "large.pt").unlink()
    assert peak < 8 * 2**20


def test_a_foreign_torch_file_is_refused_with_its_content(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {}, "epoch": 3}, path)
    assert "a dictionary with keys ['state_dict', 'epoch']" in refusal(path)
    torch.save(torch.zeros(3), path)
    assert "contains a Tensor" in refusal(path)


def test_code_in_a_file_never_runs(tmp_path):
    class Planted:
        def __reduce__(self):
            return (open, (str(tmp_path / "planted"), "w"))

    path = tmp_path / "evil.pt"
    torch.save({"format": "vgg-deploy-checkpoint", "version": 1, "spec": Planted()}, path)
    refusal(path)
    assert not (tmp_path / "planted").exists()


def test_a_zip_of_something_else_is_refused(tmp_path):
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    refusal(path)


def damaged(tmp_path, **changes):
    net = thin_net()
    content = {
        "format": "vgg-deploy-checkpoint",
        "version": 1,
        "spec": net.spec.to_json(),
        "weights": net.state_dict(),
        "training": {},
    }
    torch.save({**content, **changes}, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def test_a_newer_version_is_refused(tmp_path):
    assert "format version 99, this program reads 1" in refusal(damaged(tmp_path, version=99))


def test_weights_of_another_net_are_refused(tmp_path):
    weights = thin_net("B").state_dict()
    assert "is not a layer of it (net A)" in refusal(damaged(tmp_path, weights=weights))
    weights = thin_net().state_dict()
    weights["fc6.weight"] = weights["fc6.weight"].flatten(1)
    assert "fc6.weight is (256, 32) torch.float32, net A expects (256, 32, 1, 1)" in refusal(
        damaged(tmp_path, weights=weights)
    )
    weights["fc6.weight"] = weights.pop("fc7.weight").half()
    assert "fc7.weight is missing" in refusal(damaged(tmp_path, weights=weights))


def test_a_damaged_description_is_refused(tmp_path):
    spec = json.loads(thin_net().spec.to_json())
    assert "arch 'F' is not in Table 1" in refusal(
        damaged(tmp_path, spec=json.dumps({**spec, "arch": "F"}))
    )
    assert "unknown fields ['surprise']" in refusal(
        damaged(tmp_path, spec=json.dumps({**spec, "surprise": 1}))
    )
    assert "damaged" in refusal(damaged(tmp_path, spec="{"))
    other = {**spec["preprocessing"], "channel_order": "BGR"}
    assert "another version" in refusal(
        damaged(tmp_path, spec=json.dumps({**spec, "preprocessing": other}))
    )


def test_an_unwritable_folder_is_refused_and_the_old_file_stays(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint(blocked / "net.pt", Checkpoint(thin_net().spec, {}))
    assert blocked.read_text() == "in the way"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = save_net(thin_net(), tmp_path / "net.pt")
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        # cannot be pickled: fails half-way
        save_checkpoint(path, Checkpoint(thin_net().spec, {"bad": lambda: None}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "F"}, "choose one of A, A-LRN, B, C, D, E"),
        ({"classes": ("a", "a")}, "repeat"),
        ({"names": ("one",)}, "4 classes have 1 names"),
        ({"crop": 100}, "not a multiple of 32"),
        ({"width": 0.0}, "width 0.0"),
        ({"lrn": "tf"}, "choose one of alexnet, caffe"),
        ({"train_side": (20, 64)}, "32 <= low <= high"),
    ],
)
def test_a_description_is_checked_when_made(change, message):
    with pytest.raises(InputError, match=message):
        replace(thin_net().spec, **change)


def test_a_checkpoint_without_classes_is_damaged(tmp_path):
    path = save_net(thin_net(classes=()), tmp_path / "net.pt")
    with pytest.raises(InputError, match="net.pt: the checkpoint names no classes; it is damaged"):
        open_net(path)


def test_mean_and_filter_are_checked_when_made():
    with pytest.raises(InputError, match="between 0 and 255"):
        Preprocessing(mean=(0.485, 0.456, -0.4))
    with pytest.raises(InputError, match="choose one of bilinear, bicubic"):
        Preprocessing(filter="lanczos")


def test_the_description_survives_json():
    spec = NetSpec("E", numbered(7), width=0.5, crop=64, train_side=(64, 128))
    assert NetSpec.from_json(spec.to_json(), "here") == spec
