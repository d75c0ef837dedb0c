"""Files that take whole images or one shape, or give logits, in every operator set."""

import ast
import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image
from scipy.special import softmax

from export.onnx.describe import NAMES, PREPROCESSING
from export.release import ExportOptions, export_onnx
from export.settings.export_options import OPSETS, PRECISION_NAMES
from export.settings.precision import PRECISIONS
from export.verify import rescale_parity
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy import __version__
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.interface import Interface
from vgg_deploy.exported.metadata import KEY, Artifact
from vgg_deploy.exported.onnx_metadata import read_onnx_metadata
from vgg_deploy.images.decode import decode
from vgg_deploy.predict.model import load
from vgg_deploy.runtimes import OnnxRuntime, open_runtime

RARE = tuple(name for name in PRECISION_NAMES if name not in ("fp32", "bf16"))
CLASSES = ("disc", "it's", 'a "quoted" name', "triangle\\")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interfaces")
    for i in range(16):
        photo_of("disc", np.random.default_rng(i)).save(folder / f"{i}.png")
    save_net(thin_net("D", classes=CLASSES), folder / "net.pt")
    return folder / "net.pt"


def export(source, folder, precision="fp32", **settings):
    photos = source.parent if PRECISIONS[precision].is_quantized else None
    options = ExportOptions((precision,), calibration=photos, **settings)
    (file,) = export_onnx(source, folder, options, None, 1, lambda text: None)
    return file.path


@pytest.fixture(scope="module")
def whole(source):
    return export(source, source.parent / "whole", whole_images=48)


def outputs(path, image: np.ndarray) -> dict[str, np.ndarray]:
    """What ONNX Runtime gives, without any code of ours."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def test_a_whole_photo_goes_in_as_it_is(source, whole):
    """Oracle: PyTorch on what Pillow rescales."""
    assert whole.name == "D.whole.fp32.onnx"
    net, file = load(source), load(whole)
    for name in ("0.png", "1.png"):
        photo = source.parent / name
        pixels = np.asarray(Image.open(photo).convert("RGB"))
        found = outputs(whole, pixels[None])
        expected = net.predict(photo, side=48, flips=False).posterior
        np.testing.assert_allclose(found["posterior"], expected, rtol=0, atol=1e-6)
        same = file.predict(photo, flips=False).posterior
        np.testing.assert_allclose(same, expected, rtol=0, atol=1e-6)
        twice = net.predict(photo, side=48).posterior
        np.testing.assert_allclose(file.predict(photo).posterior, twice, rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            file.scores(decode(photo)[None]).posterior, expected, rtol=0, atol=1e-6
        )


def test_python_gives_whole_images_too(source, whole, monkeypatch):
    """Rescaled ones would give the same answer, since the graph would leave them as they are."""
    given = []
    original = OnnxRuntime._on_cpu
    monkeypatch.setattr(
        OnnxRuntime,
        "_on_cpu",
        lambda self, images, outputs: given.append(images.shape) or original(self, images, outputs),
    )
    load(whole).predict(source.parent / "0.png", flips=False)
    with Image.open(source.parent / "0.png") as photo:
        assert given == [(1, 3, photo.height, photo.width)] and min(photo.size) != 48


def test_the_manifest_states_the_difference_from_pillow(whole):
    stated = json.loads(whole.with_suffix(".json").read_text())
    assert stated["rescale"]["differing"] == 0 == stated["rescale"]["largest_difference"]
    assert stated["rescale"]["values"] > 100_000 and stated["rescale"]["pillow"]
    assert stated["interface"] == {"whole_images": 48, "view": "dense"}


def test_another_rescale_is_no_release(source, tmp_path, monkeypatch):
    """A file that rounds otherwise than Pillow gets no name."""
    wrong = rescale_parity.compare_rescaled

    def one_off(model, images, expected):
        return wrong(model, images, [pixels ^ 2 for pixels in expected])

    monkeypatch.setattr("export.release.compare_rescaled", one_off)
    with pytest.raises(CheckFailed, match="rescaled values differ from Pillow's, by up to 2 grey"):
        export(source, tmp_path, whole_images=48)
    assert not list(tmp_path.glob("*.onnx"))


def test_other_views_and_sides_of_whole_images_are_refused(source, whole):
    photo = source.parent / "0.png"
    for asked in ({"side": 64}, {"protocol": "multicrop"}, {"side": [48, 64]}):
        with pytest.raises(InputError, match="rescales to Q 48 by itself and scores dense"):
            load(whole).predict(photo, **asked)


@pytest.mark.slow
def test_the_centre_crop_is_the_protocol_centre(source, tmp_path):
    """Oracle: PyTorch by the protocol `centre`."""
    path = export(source, tmp_path, whole_images=48, centre_crop=True)
    assert path.name == "D.whole.centre.fp32.onnx"
    photo = source.parent / "2.png"
    expected = load(source).predict(photo, side=48, protocol="centre").posterior
    np.testing.assert_allclose(load(path).predict(photo).posterior, expected, rtol=0, atol=1e-6)
    pixels = np.asarray(Image.open(photo).convert("RGB"))[None]
    assert outputs(path, pixels)["score_map"].shape == (1, 4, 1, 1)


@pytest.mark.slow
def test_eight_bits_of_whole_images(source, tmp_path):
    """The kernels of a file that rescales are checked too, behind its rescale."""
    path = export(source, tmp_path, "int8-cpu", whole_images=48, opset=17)
    photo = source.parent / "3.png"
    expected = load(source).predict(photo, side=48).posterior
    assert np.abs(load(path).predict(photo).posterior - expected).max() < 0.1


def test_logits_are_the_scores_before_softmax(source, tmp_path):
    """Oracles: PyTorch's posterior, scipy's softmax."""
    path = export(source, tmp_path, logits=True)
    assert path.name == "D.logits.fp32.onnx"
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 40, 50), np.uint8)
    found = outputs(path, images)
    assert set(found) == {"logits", "score_map"}
    expected = open_runtime(source)(images).posterior
    np.testing.assert_allclose(softmax(found["logits"], axis=1), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(open_runtime(path)(images).posterior, expected, rtol=0, atol=1e-6)


def test_one_shape_and_any_number_of_images(source, tmp_path):
    """Oracle: PyTorch. Batches are cut and filled up; another size is refused in one sentence."""
    path = export(source, tmp_path, fixed_shape=(2, 32, 48))
    assert path.name == "D.2x3x32x48.fp32.onnx"
    graph = onnx.load(path).graph
    dims = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert dims == {"image": [2, 3, 32, 48], "posterior": [2, 4], "score_map": [2, 4, 1, 1]}
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 48), np.uint8)
    for count in (1, 2, 5):
        found = open_runtime(path)(images[:count])
        expected = open_runtime(source)(images[:count])
        np.testing.assert_allclose(found.posterior, expected.posterior, rtol=0, atol=1e-6)
        assert found.score_map.shape == (count, 4, 1, 1)
    with pytest.raises(InputError, match="takes images of 32x48 only, these have 48x32"):
        open_runtime(path)(np.zeros((1, 3, 48, 32), np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("opset", OPSETS)
def test_every_operator_set_runs(opset, source, tmp_path):
    """All of it at once: whole images, logits and one shape. Oracle: PyTorch."""
    shape = (1, 60, 50)
    path = export(source, tmp_path, opset=opset, whole_images=48, logits=True, fixed_shape=shape)
    model = onnx.load(path)
    assert model.opset_import[0].version == opset
    assert model.ir_version == onnx.helper.find_min_ir_version_for(model.opset_import)
    onnx.checker.check_model(model, full_check=True)
    photo = Image.open(source.parent / "0.png").convert("RGB").resize((50, 60))
    expected = load(source).predict(photo, side=48).posterior
    np.testing.assert_allclose(load(path).predict(photo).posterior, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision",
    ["bf16", *(pytest.param(p, marks=pytest.mark.nightly) for p in RARE)],
)
def test_the_least_operator_set_of_each_precision(precision, source, tmp_path):
    """It is written and checked there, and refused before."""
    least = PRECISIONS[precision].least_opset
    path = export(source, tmp_path, precision, opset=least)
    assert json.loads(path.with_suffix(".json").read_text())["opset"] == least
    if least > OPSETS[0]:
        with pytest.raises(InputError, match=rf"opset {least - 1} has no {precision}; use {least}"):
            export(source, tmp_path, precision, opset=least - 1)


def test_least_operator_sets_are_those_of_onnx():
    """Oracle: onnx's own table of types, for what the graphs need."""
    half, float8, bf16 = "tensor(float16)", "tensor(float8e4m3fn)", "tensor(bfloat16)"

    def first(op: str, name: str, kind: str) -> int:
        for opset in range(10, 24):
            schema = onnx.defs.get_schema(op, opset)
            for constraint in schema.type_constraints:
                if constraint.type_param_str == name and kind in constraint.allowed_type_strs:
                    return schema.since_version
        raise AssertionError(op)

    dequantized = onnx.defs.get_schema("DequantizeLinear", 19).inputs[1].type_str
    assert first("DequantizeLinear", dequantized, half) == PRECISIONS["int8"].least_opset
    assert first("DequantizeLinear", "T1", float8) == PRECISIONS["fp8"].least_opset
    assert first("Conv", "T", bf16) == PRECISIONS["bf16"].least_opset


def test_other_programs_read_the_metadata(whole):
    """Read by onnx alone, and by Ultralytics' way to read names, `ast.literal_eval`."""
    model = onnx.load(whole)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert ast.literal_eval(entries[NAMES]) == dict(enumerate(CLASSES))
    stated = json.loads(entries[PREPROCESSING])
    assert (stated["layout"], stated["dtype"], stated["range"]) == ("NHWC", "uint8", "0-255")
    assert stated["rescale"] == {
        "shorter_side": 48,
        "filter": "bilinear",
        "antialias": True,
        "longer_side_rounding": "half up",
        "done_by": "graph",
    }
    assert (model.producer_name, model.producer_version) == ("vgg-deploy", __version__)
    words = model.doc_string
    assert "(N, H, W, 3) RGB" in words and "shorter side to 48 pixels" in words
    assert "Output posterior: (N, 4) posterior of each class." in words


def test_normalised_preprocessing_is_the_callers(source, tmp_path):
    """Oracle: what the entry says, done with NumPy, gives the posterior of PyTorch."""
    path = export(source, tmp_path, form="normalised")
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    stated = json.loads(entries[PREPROCESSING])
    assert stated["mean_and_std_by"] == "caller" and stated["layout"] == "NCHW"
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 40, 50), np.uint8)
    mean, std = (np.array(stated[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    found = outputs(path, ((images / 255 - mean) / std).astype(np.float32))
    expected = open_runtime(source)(images).posterior
    np.testing.assert_allclose(found["posterior"], expected, rtol=0, atol=1e-5)


def test_files_of_earlier_versions_stay_readable(whole, source, tmp_path):
    """They state no interface, and nothing about names and preprocessing."""
    path = export(source, tmp_path)
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key not in (NAMES, PREPROCESSING)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    assert "interface" not in json.loads(next(e.value for e in kept if e.key == KEY))
    path.with_suffix(".json").unlink()
    path.write_bytes(model.SerializeToString())
    assert read_onnx_metadata(path)[0].interface == Interface()
    open_runtime(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interface": {"whole_images": 16, "view": "dense"}}, "Q 16 or view 'dense' is impossi"),
        ({"interface": {"whole_images": 48, "view": "x"}}, "view 'x' is impossible"),
        ({"interface": {"whole_images": True, "view": "dense"}}, "whole_images is True, expected"),
        ({"interface": {"shape": [1, 0, 5]}}, "is no batch of images"),
        ({"interface": {"shape": [1, 2, 10**9]}}, "is no batch of images"),
        ({"interface": {"logits": 1}}, "logits is 1, expected"),
        ({"interface": {}}, "input form 'whole' contradicts its Q"),
        ({"input": "uint8"}, "input form 'uint8' contradicts its Q"),
    ],
)
def test_impossible_interfaces_are_refused(change, message, whole):
    described = json.loads(read_onnx_metadata(whole)[0].to_json()) | change
    with pytest.raises(InputError, match=message) as refused:
        Artifact.from_json(json.dumps(described), "x.onnx")
    assert refused.value.exit_code == 2
    assert Artifact.from_json(read_onnx_metadata(whole)[0].to_json(), "").interface.side == 48
