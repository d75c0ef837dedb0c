"""Photo models for Triton: what is written, and the rules that the server applies, without one."""

import ast
import sys
from io import BytesIO

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from export.cli import main
from export.python import export
from export.release import ExportOptions, export_onnx
from export.settings.serving import ServingOptions
from export.tensorrt.served import photo_rules
from export.tensorrt.served.copies import onnx_source, photo_sources
from export.tensorrt.served.photo_rules import PhotoRules, by_size
from export.tensorrt.triton import write_repository
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.errors import InputError

PARAMETERS = {
    "net": "D_fp32_onnx",
    "side": "48",
    "crop": "32",
    "filter": "bilinear",
    "exif": "ignore",
    "pixels": "uint8",
}


def rules(**changed: str) -> PhotoRules:
    return PhotoRules.of_parameters(PARAMETERS | changed)


def saved(image: Image.Image, form: str = "PNG", **options) -> bytes:
    data = BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return save_net(thin_net("D"), tmp_path_factory.mktemp("photo_models") / "net.pt")


def exported(net, folder, **more):
    files = export_onnx(net, folder, ExportOptions(**more), None, 1, lambda text: None)
    return [file.path for file in files]


@pytest.mark.parametrize("size", [(120, 80), (81, 120), (48, 48), (20, 31), (48, 97)])
@pytest.mark.parametrize("crop", [0, 32])
def test_pixels_are_those_of_pillow(size, crop):
    """Pillow's own resize and crop, by the size of the paper's isotropic rescale."""
    image = photo_of("disc", np.random.default_rng(1)).resize(size)
    found = rules(crop=str(crop)).pixels_of(saved(image), "photo")
    width, height = size
    scale = 48 / min(size)
    small = image.resize((int(width * scale + 0.5), int(height * scale + 0.5)), Image.BILINEAR)
    if crop:
        left, top = round((small.width - crop) / 2), round((small.height - crop) / 2)
        small = small.crop((left, top, left + crop, top + crop))
    np.testing.assert_array_equal(found, np.asarray(small).transpose(2, 0, 1))
    assert found.dtype == np.uint8 and found.flags.c_contiguous


def test_types_filters_and_turns():
    image = photo_of("stripes", np.random.default_rng(2)).resize((90, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(image, exif=exif)
    as_bytes = rules(crop="0").pixels_of(data, "photo")
    as_floats = rules(crop="0", pixels="float32").pixels_of(data, "photo")
    assert as_floats.dtype == np.float32
    np.testing.assert_array_equal(as_floats, as_bytes)
    cubic = rules(crop="0", filter="bicubic").pixels_of(data, "photo")
    np.testing.assert_array_equal(
        cubic, np.asarray(image.resize((72, 48), Image.BICUBIC)).transpose(2, 0, 1)
    )
    upright = rules(crop="0", exif="apply").pixels_of(data, "photo")
    turned = image.transpose(Image.Transpose.ROTATE_270).resize((48, 72), Image.BILINEAR)
    np.testing.assert_array_equal(upright, np.asarray(turned).transpose(2, 0, 1))


def test_images_of_one_size_are_one_group():
    shapes = [(3, 4, 5), (3, 5, 4), (3, 4, 5), (3, 6, 4), (3, 5, 4)]
    assert by_size(map(np.zeros, shapes)) == [[0, 2], [1, 4], [3]]
    assert by_size([]) == []


def test_large_and_unusable_files_are_refused(monkeypatch):
    monkeypatch.setattr(photo_rules, "MOST_BYTES", 2**20)
    with pytest.raises(InputError, match="photo 2 of 3: has 2 MiB, more than the 1 MiB"):
        rules().pixels_of(bytes(2**21), "photo 2 of 3")
    with pytest.raises(InputError, match="^photo: is empty .* PNG, GIF, WEBP, BMP; send another"):
        rules().pixels_of(b"", "photo")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"side": "a"}, "side and crop are whole numbers"),
        ({"crop": "49"}, "crop is between 0 and side"),
        ({"side": "0", "crop": "0"}, "side is above 0"),
        ({"filter": "nearest"}, "filter is one of bilinear, bicubic"),
        ({"exif": "yes"}, "exif is one of ignore, apply"),
        ({"pixels": "normalised"}, "pixels is one of uint8, float32"),
    ],
)
def test_impossible_parameters_are_refused(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        rules(**changed)
    with pytest.raises(ValueError, match=f"lacks the parameters {next(iter(changed))}"):
        PhotoRules.of_parameters({k: v for k, v in PARAMETERS.items() if k not in changed})


def imported(source: str) -> set[str]:
    """The packages that a source imports."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


def test_a_server_needs_no_package_of_ours():
    """Every copy imports the standard library, Pillow, NumPy, Triton's module or another copy."""
    sources = photo_sources()
    copies = {path.removesuffix(".py").replace("/", ".") for path in sources}
    for path, source in sources.items():
        of_server = {"PIL", "numpy", "triton_python_backend_utils", "vgg_photo"}
        assert imported(source) - set(sys.stdlib_module_names) <= of_server, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("vgg_photo"):
                assert node.module in copies, path
    allowed = {"numpy", "onnxruntime", "triton_python_backend_utils"}
    assert imported(onnx_source()) - set(sys.stdlib_module_names) <= allowed


def test_triton_accepts_photo_models(net, tmp_path):
    """Its own protobuf schema; the files, and the parameters that the model reads."""
    schema = pytest.importorskip(
        "tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc] is not installed"
    )
    from google.protobuf import text_format

    files = exported(net, tmp_path)
    serving = ServingOptions("python", ("crop", "dense"), "apply")
    for _ in range(2):  # again over what is there
        write_repository(tmp_path / "models", files, 16, lambda text: None, serving)
    names = ["D_fp32_onnx", "D_fp32_onnx_photos_crop", "D_fp32_onnx_photos_dense"]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == names
    configs = [
        text_format.Parse(
            (tmp_path / "models" / name / "config.pbtxt").read_text(), schema.ModelConfig()
        )
        for name in names
    ]
    assert [config.name for config in configs] == names
    assert [(config.backend, config.platform) for config in configs] == [("python", "")] * 3
    assert [config.max_batch_size for config in configs] == [16] * 3
    assert (tmp_path / "models" / names[0] / "1" / "model.py").read_text() == onnx_source()
    for config, crop in zip(configs[1:], (32, 0), strict=True):
        assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [
            ("photo", schema.TYPE_STRING, [1])
        ]
        assert [(o.name, list(o.dims), o.label_filename) for o in config.output] == [
            ("posterior", [4], "labels.txt")
        ]
        texts = {key: value.string_value for key, value in config.parameters.items()}
        found = PhotoRules.of_parameters(texts)
        assert found == PhotoRules("D_fp32_onnx", 48, crop, "bilinear", "apply", "uint8")
        folder = tmp_path / "models" / config.name
        written = {str(path.relative_to(folder / "1")) for path in (folder / "1").rglob("*.py")}
        assert written == set(photo_sources())
        assert (folder / "labels.txt").read_text() == "disc\nsquare\nstripes\ntriangle\n"


def test_files_without_posteriors_get_no_photo_model(net, tmp_path):
    files = exported(net, tmp_path, features=("relu5_3",))
    said: list[str] = []
    write_repository(tmp_path / "models", files, 8, said.append, ServingOptions(photos=("crop",)))
    assert len(list((tmp_path / "models").iterdir())) == 1
    assert any("gives no posterior, so no photo model is written" in text for text in said)


def test_normalised_input_is_refused(net, tmp_path):
    (file,) = exported(net, tmp_path, form="normalised")
    with pytest.raises(InputError, match="takes normalised input, and photo models feed uint8 or"):
        write_repository(tmp_path / "m", [file], 8, print, ServingOptions(photos=("crop",)))


def test_logits_are_refused(net, tmp_path):
    (file,) = exported(net, tmp_path, logits=True)
    with pytest.raises(InputError, match="gives logits, and photo models answer with posteriors"):
        write_repository(tmp_path / "m", [file], 8, print, ServingOptions(photos=("dense",)))


def test_options_without_their_folder_or_with_a_wrong_value(net, tmp_path):
    for options, sentence in (
        (["--triton-photos", "crop"], "--triton-photos is for Triton's repository; add --triton"),
        (["--triton-backend", "python"], "--triton-backend is for Triton's repository"),
        (["--triton", "m", "--triton-photos", "whole"], "crop, dense"),
        (["--triton", "m", "--triton-photos", "crop", "--logits"], "leave --logits out"),
        (["--triton", "m", "--triton-photos", "dense", "--whole-images", "64"], "--whole-images"),
        (["--triton", "m", "--triton-photos", "crop", "--input", "normalised"], "pixels of 0-255"),
    ):
        done = CliRunner().invoke(main, [str(net), "--onnx", "--out", str(tmp_path), *options])
        assert done.exit_code == 2 and sentence in " ".join(done.output.split()), done.output
    with pytest.raises(InputError, match="need triton, the repository's folder"):
        export(net, tmp_path, triton_photos="crop")
    with pytest.raises(InputError, match="view of photos 'whole' is unknown"):
        ServingOptions(photos=("whole",))
    with pytest.raises(InputError, match="backend 'tf' is unknown; choose from onnxruntime"):
        ServingOptions("tf")
