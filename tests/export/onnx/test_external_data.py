"""Weights in a separate file: what is written, what is checked, what is never followed."""

import errno
import json
import os
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import release
from export.onnx import onnx_file
from export.onnx.onnx_file import read_referring
from export.release import ExportOptions, export_onnx
from export.tensorrt import triton_folder
from export.tensorrt.triton import write_repository
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.exported.onnx_wire import data_files, data_locations
from vgg_deploy.files import sha256
from vgg_deploy.runtimes import open_runtime


def export(tmp_path, external=True, precision="fp32", net=None):
    source = save_net(net or thin_net("D"), tmp_path / "net.pt")
    options = ExportOptions((precision,), external_data=external)
    return export_onnx(source, tmp_path / "out", options, None, 1, lambda text: None)[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(tmp_path_factory.mktemp("external")).path


@pytest.fixture
def pair(exported, tmp_path):
    """A copy of graph, data and manifest, to be spoilt."""
    return shutil.copytree(exported.parent, tmp_path / "pair") / exported.name


def test_both_files_hold_the_same_net_as_one(exported, tmp_path):
    """Oracle: onnx's own loader, tensor by tensor against the file with everything inside."""
    inline = export(tmp_path, external=False).path
    data = exported.with_name("D.fp32.onnx.data")
    names = {"D.fp32.onnx", "D.fp32.onnx.data", "D.fp32.json"}
    assert {p.name for p in exported.parent.iterdir()} == names
    onnx.checker.check_model(str(exported), full_check=True)
    expected, found = onnx.load(inline), onnx.load(exported)
    for a, b in zip(expected.graph.initializer, found.graph.initializer, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))
    assert expected.graph.node == found.graph.node
    assert expected.metadata_props == found.metadata_props
    assert data_locations(exported) == {"D.fp32.onnx.data"} and data_locations(inline) == set()
    size = exported.stat().st_size + data.stat().st_size
    assert size < inline.stat().st_size + onnx_file.PAGE * 4
    manifest = json.loads(exported.with_suffix(".json").read_text())
    assert manifest["sha256"] == sha256(exported)
    assert manifest["data"] == {
        "file": data.name,
        "sha256": sha256(data),
        "bytes": data.stat().st_size,
    }
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 80), np.uint8)
    np.testing.assert_array_equal(
        open_runtime(exported)(images).score_map, open_runtime(inline)(images).score_map
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8-cpu"])
@pytest.mark.slow
def test_reduced_precisions_too(precision, tmp_path):
    source = save_net(thin_net("D"), tmp_path / "net.pt")
    for i in range(3):
        photo_of("disc", np.random.default_rng(i)).save(tmp_path / f"{i}.png")
    options = ExportOptions((precision,), external_data=True, calibration=tmp_path)
    (f,) = export_onnx(source, tmp_path / "out", options, None, 1, lambda text: None)
    assert data_files(f.path) == [f.path.with_name(f"{f.path.name}.data")]
    assert f.size == sum(p.stat().st_size for p in f.path.parent.glob("*.onnx*"))
    assert len([p for p in f.path.parent.iterdir() if p.name.startswith(".")]) == 0


def test_a_changed_or_missing_data_file_is_refused(pair):
    data = pair.with_name(f"{pair.name}.data")
    whole = data.read_bytes()
    data.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"D.fp32.onnx.data: changed since it was exported"):
        open_runtime(pair)
    data.unlink()
    with pytest.raises(InputError, match=r"weights are in D.fp32.onnx.data, which is missing"):
        open_runtime(pair)
    data.write_bytes(whole[:1000])  # cut short, of a pair without a manifest
    pair.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="not a model that ONNX Runtime can load"):
        open_runtime(pair)


def relocated(pair, location: str):
    model = onnx.load(pair, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    pair.with_suffix(".json").unlink()
    pair.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "/etc/passwd",
        "sub/weights",
        "..\\secret",
        "c:secret",
        "..",
        ".",
        "",
        "*/_ORT_MEM_ADDR_/*",
    ],
)
def test_a_foreign_graph_is_not_followed_out_of_its_folder(location, pair, monkeypatch):
    (pair.parent.parent / "secret").write_bytes(pair.with_name(f"{pair.name}.data").read_bytes())
    relocated(pair, location)

    def opened(*given, **more):
        raise AssertionError("ONNX Runtime saw the file")

    monkeypatch.setattr(ort, "InferenceSession", opened)
    for open_it in (open_runtime, read_onnx_metadata):
        with pytest.raises(InputError, match="no file name; only files beside it") as refused:
            open_it(pair)
        assert refused.value.exit_code == 2


def test_links_and_devices_are_not_followed(pair):
    data, secret = pair.with_name(f"{pair.name}.data"), pair.parent.parent / "secret"
    data.rename(secret)
    data.symlink_to(secret)
    with pytest.raises(InputError, match="no plain file in its folder"):
        data_files(pair)
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(InputError, match="no plain file in its folder"):
        data_files(pair)


def test_references_are_found_wherever_a_tensor_can_be(tmp_path):
    """In a constant's attribute, in a branch of an If, in a sparse tensor, in a function."""

    def elsewhere(location: str) -> TensorProto:
        tensor = TensorProto(name="t", dims=[4], data_type=TensorProto.FLOAT)
        return onnx_file.referring(tensor, location, onnx_file.Span(0, 16))

    def constant(location: str):
        return helper.make_node("Constant", [], [location], value=elsewhere(location))

    branch = helper.make_graph(
        [constant("in-branch")],
        "branch",
        [],
        [helper.make_tensor_value_info("in-branch", TensorProto.FLOAT, [4])],
    )
    nodes = [
        constant("in-constant"),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    graph = helper.make_graph(
        nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    )
    graph.initializer.append(elsewhere("in-initializer"))
    graph.sparse_initializer.add(values=elsewhere("in-sparse"))
    model = helper.make_model(graph)
    model.functions.append(
        helper.make_function(
            "own", "f", [], ["in-function"], [constant("in-function")], model.opset_import
        )
    )
    model.training_info.add(algorithm=branch)
    model.training_info[0].algorithm.node[0].attribute[0].t.CopyFrom(elsewhere("in-training"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    parts = ("initializer", "constant", "branch", "sparse", "function", "training")
    assert data_locations(tmp_path / "m.onnx") == {f"in-{part}" for part in parts}


def test_a_graph_that_nests_without_end_or_is_cut_is_refused(tmp_path, exported):
    inner = b""
    for _ in range(200):  # If in If in If
        attribute = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH)
        body = attribute.SerializeToString() + b"\x32" + onnx_file._varint(len(inner)) + inner
        node = b"\x2a" + onnx_file._varint(len(body)) + body
        inner = b"\x0a" + onnx_file._varint(len(node)) + node
    (tmp_path / "deep.onnx").write_bytes(b"\x3a" + onnx_file._varint(len(inner)) + inner)
    for path, whole in (
        (tmp_path / "deep.onnx", None),
        (tmp_path / "cut.onnx", exported.read_bytes()[:-3]),
        (tmp_path / "empty.onnx", b""),
    ):
        if whole is not None:
            path.write_bytes(whole)
        with pytest.raises(InputError, match="not a model that ONNX Runtime can load"):
            data_locations(path)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_weights_that_are_converted_while_they_are_written(
    precision, external, tmp_path, monkeypatch
):
    """Oracle: NumPy's rounding of the whole tensor; they are converted in parts of 1,000."""
    monkeypatch.setattr(onnx_file, "CONVERTED_AT_ONCE", 1000)
    net = thin_net("D")
    path = export(tmp_path, external, precision, net).path
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    dtype = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}[precision]
    for name in ("conv1_1", "conv3_2", "fc6", "fc7"):
        expected = net.get_submodule(name).weight.detach().numpy().astype(dtype)
        assert stored[f"{name}.weight"].dtype == expected.dtype
        assert (stored[f"{name}.weight"].view(np.int16) == expected.view(np.int16)).all()
    weight = net.fc8.weight.detach().numpy()
    assert (stored["fc8.weight"] == weight).all() and stored["fc8.weight"].dtype == np.float32


def test_the_check_reads_the_very_bytes_of_the_data_file(tmp_path, monkeypatch):
    """Weights of fc7 change on disk after they were written.

    fc7 is the only layer of a thin net with external weights.
    """
    export(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    for external in (True, False):
        name = "write_with_data" if external else "write_onnx"
        write = getattr(release, name)

        def spoilt(path, graph, *more, write=write):
            write(path, graph, *more)
            file = more[0] if more else path
            content = bytearray(file.read_bytes())
            offset = content.find(graph.weights["fc7.weight"].tobytes())
            assert offset >= 0
            content[offset : offset + 1024] = np.full(256, 1, np.float32).tobytes()
            file.write_bytes(content)

        monkeypatch.setattr(release, name, spoilt)
        with pytest.raises(CheckFailed, match="differs from PyTorch"):
            export(tmp_path, external)
        monkeypatch.undo()
        assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


def test_a_tensor_of_another_length_than_its_shape_is_found(pair, tmp_path):
    inline = export(tmp_path, external=False).path
    model = onnx.load(inline)
    tensor = next(t for t in model.graph.initializer if t.name == "fc7.weight")
    tensor.raw_data = tensor.raw_data[:-4]
    inline.write_bytes(model.SerializeToString())
    size = len(tensor.raw_data) + 4
    message = rf"fc7.weight: {size - 4:,} bytes are stored, its shape .* takes {size:,}"
    with pytest.raises(CheckFailed, match=message):
        read_referring(inline)


def test_reading_back_is_the_model_itself(tmp_path):
    """Oracle: onnx's own loader of the file with everything inside."""
    path = export(tmp_path, external=False).path
    (path.parent / "referring.onnx").write_bytes(read_referring(path).SerializeToString())
    expected, found = onnx.load(path), onnx.load(path.parent / "referring.onnx")
    for a, b in zip(expected.graph.initializer, found.graph.initializer, strict=True):
        assert (a.name, a.dims, a.data_type) == (b.name, b.dims, b.data_type)
        assert a.raw_data == b.raw_data
    for model in (expected, found):
        del model.graph.initializer[:]
    assert expected == found


@pytest.mark.parametrize("nth", range(1, 7))
def test_a_pair_is_never_half_new(nth, tmp_path, monkeypatch):
    """Ctrl-C at any of the six renames leaves the older pair and its manifest."""
    path = export(tmp_path).path
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    replace, count = os.replace, 0

    def interrupted(source, target):
        nonlocal count
        count += 1
        if count == nth:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path, net=thin_net("D", seed=5))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_without_external_data_an_older_one_goes(tmp_path):
    export(tmp_path)
    export(tmp_path, external=False)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"D.fp32.onnx", "D.fp32.json"}


@pytest.mark.parametrize("kind", ["released", "repository"])
def test_a_moved_folder_opens_in_onnx_itself(kind, exported, tmp_path, monkeypatch):
    """Oracle: onnx's loader and checker, and ONNX Runtime in another working directory."""
    if kind == "released":
        shutil.copytree(exported.parent, tmp_path / "there")
        file = tmp_path / "there" / exported.name
    else:
        write_repository(tmp_path / "models", [exported], 4, lambda text: None)
        (tmp_path / "models").rename(tmp_path / "there")
        file = tmp_path / "there" / "D_fp32_onnx" / "1" / "model.onnx"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    onnx.checker.check_model(str(file), full_check=True)
    loaded = onnx.load(file)
    assert all(tensor.data_location != tensor.EXTERNAL for tensor in loaded.graph.initializer)
    pixels = np.zeros((1, 3, 64, 64), np.uint8)
    for model in (str(file), loaded.SerializeToString()):
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        posterior = session.run(["posterior"], {"image": pixels})[0]
        np.testing.assert_allclose(posterior, open_runtime(exported)(pixels).posterior, atol=1e-6)


def test_triton_gets_both(exported, tmp_path):
    write_repository(tmp_path / "models", [exported], 4, lambda text: None)
    copied = tmp_path / "models" / "D_fp32_onnx" / "1"
    assert {p.name for p in copied.iterdir()} == {"model.onnx", "D.fp32.onnx.data"}
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 80), np.uint8)
    np.testing.assert_array_equal(
        open_runtime(copied / "model.onnx")(images).score_map,
        open_runtime(exported)(images).score_map,
    )
    for file in (exported, copied / "model.onnx"):
        onnx.checker.check_model(str(file))  # it refuses data with several hard links


def test_a_repository_leaves_the_released_file_alone(tmp_path):
    """Permissions stay, a symbolic link is copied as a file, and other labels bring a warning."""
    path = export(tmp_path, external=False).path
    path.chmod(0o600)
    link = tmp_path / "links" / path.name
    link.parent.mkdir()
    link.symlink_to(Path("..") / "out" / path.name)
    shutil.copy(path.with_suffix(".json"), link.with_suffix(".json"))
    log = []
    write_repository(tmp_path / "models", [link], 4, log.append)
    copied = tmp_path / "models" / "D_fp32_onnx"
    assert (copied / "1" / "model.onnx").read_bytes() == path.read_bytes()
    assert not (copied / "1" / "model.onnx").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_nlink == 1
    write_repository(tmp_path / "models", [link], 4, log.append)
    assert not any("Warning" in line for line in log)
    (copied / "labels.txt").write_text("another\n")
    (copied / "2").mkdir()  # a version of the user's own
    write_repository(tmp_path / "models", [link], 4, log.append)
    assert sum("has a model with other labels" in line for line in log) == 1
    other = export(tmp_path, external=False, net=thin_net("D", seed=5)).path
    write_repository(tmp_path / "models", [other], 4, log.append)
    assert sum("has a model of another net" in line for line in log) == 1
    assert (copied / "1" / "model.onnx").read_bytes() == other.read_bytes()
    names = {str(file.relative_to(copied)) for file in copied.rglob("*")}
    assert names == {"1", "2", "1/model.onnx", "config.pbtxt", "labels.txt"}


def test_a_repository_on_a_full_disk_stays_as_it_was(exported, tmp_path, monkeypatch):
    """The copy fails: no folder appears, and an older model is still whole."""

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    models = tmp_path / "models"
    for before in ([], ["D_fp32_onnx"]):
        with monkeypatch.context() as patch:
            patch.setattr(triton_folder, "copy_bytes", full)
            with pytest.raises(InputError, match="No space left on device"):
                write_repository(models, [exported], 4, lambda text: None)
        assert [path.name for path in models.iterdir()] == before
        write_repository(models, [exported], 4, lambda text: None)
    onnx.checker.check_model(str(models / "D_fp32_onnx" / "1" / "model.onnx"))


def test_an_engine_is_built_from_both(exported):
    trt = pytest.importorskip("tensorrt_rtx")
    from export.tensorrt.build import build_engine
    from vgg_deploy.exported.trt_manifest import InputShape, Profile
    from vgg_deploy.exported.trt_packages import FLAVOURS

    assert trt
    built = build_engine(
        exported,
        FLAVOURS["rtx"],
        [Profile(InputShape(1, 32, 32), InputShape(1, 32, 48), InputShape(2, 64, 96))],
        ("sm89",),
        lambda text: None,
    )
    assert built.manifest.bytes > exported.with_name(f"{exported.name}.data").stat().st_size / 2
    for file in (built.path, built.path.with_suffix(".json")):
        file.unlink()
