"""A real Triton server on the repository that vgg-export writes, on loopback, without a GPU.

The server has no vgg_deploy: `.ci/server` makes its environment. Its onnxruntime backend is not in
that environment, so the nets run in its python backend. Not shown here: that `platform:
"onnxruntime_onnx"` runs, or an engine.
"""

import io
import os
import re
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vgg_deploy as vd
from benchmarks.serving.server import running
from export.release import ExportOptions, export_onnx
from export.settings.serving import ServingOptions
from export.tensorrt.triton import write_repository
from tests.support.documentation import blocks
from tests.support.nets import CLASSES, photo_of, save_net, thin_net
from vgg_deploy.images.decode import read_image, resized

ROOT = Path(__file__).parents[3]
ENVIRONMENT = Path(os.environ.get("VGG_DEPLOY_SERVER", ROOT / ".server"))
# What .ci/server puts there last
STUB = "lib/python*/site-packages/pytriton/tritonserver/backends/python/triton_python_backend_stub"
pytest.importorskip("gevent", reason="tritonclient[http] is not installed")
http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(ENVIRONMENT.glob(STUB)),
        reason=f"no Triton server in {ENVIRONMENT.name}: run .ci/server {ENVIRONMENT.name}",
    ),
]
PROTOCOLS = {"crop": "centre", "dense": "dense"}
SIZES = ((150, 90), (90, 150), (150, 90), (64, 64), (333, 70), (90, 150), (150, 90), (64, 64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A net, its files, photos of natural sizes, and a repository."""
    folder, rng = tmp_path_factory.mktemp("served"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i, size in enumerate(SIZES):
        photo_of(CLASSES[i % 4], rng).resize(size).save(folder / "photos" / f"{i}.jpg", quality=95)
    source = save_net(thin_net("D"), folder / "net.pt")
    options = ExportOptions(("fp32", "int8-cpu"), calibration=folder / "photos")
    files = export_onnx(source, folder, options, None, 1, lambda text: None)
    fp32, int8 = (file.path for file in files)
    views = tuple(PROTOCOLS)
    upright = ServingOptions("python", views, exif="apply")
    write_repository(folder / "models", [fp32], 8, print, ServingOptions("python", views))
    write_repository(folder / "models", [int8], 8, print, upright)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with running(ENVIRONMENT, folder / "models", folder / "server.log") as server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def client(request, server):
    with {"http": http, "grpc": grpc}[request.param].InferenceServerClient(
        getattr(server, request.param)
    ) as client:
        yield client


def entry(client, name, array):
    """An input of a request in the client's own form."""
    module = http if isinstance(client, http.InferenceServerClient) else grpc
    kind = "BYTES" if array.dtype == object else "UINT8"
    given = module.InferInput(name, list(array.shape), kind)
    given.set_data_from_numpy(array)
    return given


def encoded(photos):
    return np.array([[photo] for photo in photos], dtype=object)


def ask(client, model, photos):
    """Posteriors of encoded files, all in one request."""
    answer = client.infer(model, [entry(client, "photo", encoded(photos))])
    return answer.as_numpy("posterior")


def counts(server, model):
    """Images and executions so far, by the server's own statistics."""
    with http.InferenceServerClient(server.http) as client:
        (found,) = client.get_inference_statistics(model)["model_stats"]
    return found["inference_count"], found["execution_count"]


def counts_after(server, model, images):
    """The same when so many images are counted: the server counts after it has answered."""
    end = time.monotonic() + 20
    while (found := counts(server, model))[0] < images and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("view", PROTOCOLS)
def test_photos_get_the_posteriors_of_pytorch(view, folder, client):
    """The same files through Pillow and PyTorch, without ONNX; photos of five sizes."""
    files = sorted((folder / "photos").iterdir())
    model = vd.load(folder / "net.pt", threads=1)
    expected = model.predict(files, protocol=PROTOCOLS[view], flips=False).posterior
    photos = [file.read_bytes() for file in files]
    together = ask(client, f"D_fp32_onnx_photos_{view}", photos)
    one_by_one = [ask(client, f"D_fp32_onnx_photos_{view}", [photo])[0] for photo in photos]
    assert together.shape == (8, 4) and together.dtype == np.float32
    np.testing.assert_allclose(together, expected, atol=2e-6)
    np.testing.assert_allclose(one_by_one, expected, atol=2e-6)
    assert np.ptp(expected, axis=0).max() > 1e-3  # they differ from photo to photo


@pytest.mark.parametrize("name", ["fp32", "int8-cpu"])
def test_pixels_get_all_outputs_of_the_file(name, folder, client):
    images = np.random.default_rng(1).integers(0, 256, (3, 3, 48, 65), np.uint8)
    answer = client.infer(f"D_{name.replace('-', '_')}_onnx", [entry(client, "image", images)])
    expected = vd.load(folder / f"D.{name}.onnx", threads=1).scores(images)
    for output in ("posterior", "score_map"):
        np.testing.assert_allclose(
            answer.as_numpy(output), getattr(expected, output), rtol=1e-5, atol=1e-6
        )


def test_classes_are_named(folder, client):
    module = http if isinstance(client, http.InferenceServerClient) else grpc
    photo = (folder / "photos" / "1.jpg").read_bytes()
    posterior = ask(client, "D_fp32_onnx_photos_dense", [photo])[0]
    for model, given in (
        ("D_fp32_onnx_photos_dense", entry(client, "photo", encoded([photo]))),
        ("D_fp32_onnx", entry(client, "image", pixels(folder / "photos" / "1.jpg")[None])),
    ):
        wanted = module.InferRequestedOutput("posterior", class_count=4)
        found = client.infer(model, [given], outputs=[wanted]).as_numpy("posterior")[0]
        order = np.argsort(-posterior)
        assert [text.decode().split(":")[1:] for text in found] == [
            [str(i), CLASSES[i]] for i in order
        ]
        assert float(found[0].split(b":")[0]) == pytest.approx(posterior.max(), abs=1e-5)


def pixels(path):
    """At the net's own Q, which is the middle of its S."""
    side = thin_net("D").spec.test_side
    return np.ascontiguousarray(np.asarray(resized(read_image(path), side)).transpose(2, 0, 1))


def test_a_request_of_many_photos_is_one_execution_per_size(folder, server):
    """Rescaled to a shorter side of 48 the eight photos have four sizes; all crops have one."""
    photos = [file.read_bytes() for file in sorted((folder / "photos").iterdir())]
    sizes = {pixels(file).shape for file in (folder / "photos").iterdir()}
    assert len(sizes) == 4
    with grpc.InferenceServerClient(server.grpc) as client:
        for view, executions in (("crop", 1), ("dense", 4)):
            before = counts(server, "D_fp32_onnx")
            ask(client, f"D_fp32_onnx_photos_{view}", photos)
            after = counts_after(server, "D_fp32_onnx", before[0] + 8)
            assert (after[0] - before[0], after[1] - before[1]) == (8, executions)


def test_the_server_batches_waiting_requests(folder, server):
    """64 requests of one photo each, at once: fewer executions of the photo model and the net.

    One of each eight is damaged. It gets a sentence, and the others in its batch their answers.
    """
    files = sorted((folder / "photos").iterdir())
    photos = [file.read_bytes() for file in files]
    photos[3] = photos[3][:-100]
    front, net = "D_fp32_onnx_photos_crop", "D_fp32_onnx"
    before = counts(server, front), counts(server, net)
    found: dict[int, object] = {}
    with grpc.InferenceServerClient(server.grpc) as client:
        expected = [ask(client, front, [p])[0] if i != 3 else None for i, p in enumerate(photos)]
        for i in range(64):
            client.async_infer(
                front,
                [entry(client, "photo", encoded([photos[i % 8]]))],
                lambda result, error, i=i: found.update({i: error or result}),
            )
        end = time.monotonic() + 60
        while len(found) < 64 and time.monotonic() < end:
            time.sleep(0.01)
    assert len(found) == 64
    for i, answer in found.items():
        if i % 8 == 3:
            assert "photo: damaged: its end is missing; send another file" in str(answer)
        else:
            np.testing.assert_allclose(answer.as_numpy("posterior")[0], expected[i % 8], atol=2e-6)
    after = (
        counts_after(server, front, before[0][0] + 7 + 64),
        counts_after(server, net, before[1][0] + 7 + 56),
    )
    (front_images, front_calls), (net_images, net_calls) = np.subtract(after, before).tolist()
    print(
        f"64 requests: {front_calls - 7} executions of the photo model, {net_calls - 7} of the net"
    )
    assert (front_images, net_images) == (7 + 64, 7 + 56)  # the net never sees a damaged photo
    assert front_calls <= 7 + 32 and net_calls <= 7 + 32


def saved(image, form, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def awkward():
    """Encoded files that are images, by what is odd about them."""
    photo = photo_of("disc", np.random.default_rng(5)).resize((100, 70))
    deep = Image.fromarray(np.arange(70 * 100, dtype=np.uint16).reshape(70, 100) * 9)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    others = [photo.rotate(120 * i) for i in (1, 2)]
    return {
        "grey": saved(photo.convert("L"), "JPEG"),
        "cmyk": saved(photo.convert("CMYK"), "JPEG"),
        "sixteen bits": saved(deep, "PNG"),
        "alpha": saved(photo.convert("RGBA"), "PNG"),
        "palette": saved(photo.quantize(16), "PNG"),
        "animated": saved(photo, "GIF", save_all=True, append_images=others),
        "webp": saved(photo, "WEBP"),
        "turned": saved(photo, "JPEG", exif=exif),
        "one pixel": saved(Image.new("RGB", (1, 1), "red"), "PNG"),
    }


@pytest.mark.parametrize("precision", ["fp32", "int8-cpu"])
def test_odd_images_are_read_as_ours(precision, folder, server, tmp_path):
    """The models of int8-cpu turn photos upright, those of fp32 do not."""
    model = vd.load(folder / f"D.{precision}.onnx", threads=1)
    name = f"D_{precision.replace('-', '_')}_onnx_photos_dense"
    with grpc.InferenceServerClient(server.grpc) as client:
        for odd, data in awkward().items():
            (tmp_path / odd).write_bytes(data)
            image = read_image(tmp_path / odd, upright=precision == "int8-cpu")
            assert (image.height > image.width) == (odd == "turned" and precision == "int8-cpu")
            expected = model.predict(image, flips=False).posterior
            np.testing.assert_allclose(ask(client, name, [data]), expected, atol=1e-6, err_msg=odd)


def bomb(width, height):
    """A PNG of some bytes whose header promises many pixels."""
    data = bytearray(saved(Image.new("L", (1, 1)), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


HOSTILE = {
    "empty": (b"", r"photo: is empty \(0 bytes\), expected one of JPEG, PNG, GIF, WEBP, BMP; send"),
    "text": (b"<svg/>" * 9, "photo: is not an image of a known format"),
    "zeros": (bytes(5000), "photo: is not an image of a known format"),
    "bomb": (bomb(60_000, 60_000), "photo: Image size .* exceeds limit"),
    "sliver": (saved(Image.new("L", (2000, 1)), "PNG"), "photo: 2000x1 pixels is a sliver"),
    "short": (awkward()["grey"][:-100], "photo: damaged: its end is missing"),
    "short png": (awkward()["alpha"][:300], "photo: damaged or cut short"),
    "tiff": (saved(Image.new("L", (9, 9)), "TIFF"), "photo: is not an image of a known format"),
}


def test_hostile_files_are_refused_by_a_sentence_and_the_server_lives(folder, client, server):
    good = (folder / "photos" / "0.jpg").read_bytes()
    before = ask(client, "D_fp32_onnx_photos_dense", [good])
    for name, (data, sentence) in HOSTILE.items():
        with pytest.raises((http.InferenceServerException, grpc.InferenceServerException)) as told:
            ask(client, "D_fp32_onnx_photos_dense", [data])
        assert re.search(sentence, str(told.value)), name
        assert "Traceback" not in str(told.value) and "\n" not in str(told.value), name
    of_net = counts(server, "D_fp32_onnx")
    with pytest.raises(Exception, match="photo 1 of 3: is empty"):
        ask(client, "D_fp32_onnx_photos_crop", [good, b"", good])
    assert counts(server, "D_fp32_onnx") == of_net  # none of the three was scored
    np.testing.assert_array_equal(ask(client, "D_fp32_onnx_photos_dense", [good]), before)
    assert server.process.poll() is None


CLIENTS = [block for block in blocks("python") if "InferenceServerClient" in block.text]


@pytest.mark.parametrize("block", CLIENTS, ids=str)
def test_the_clients_of_the_documentation(block, folder, server, tmp_path, monkeypatch, capsys):
    """As printed, but for the ports: 8000 and 8001 may be in use here."""
    (tmp_path / "photos").mkdir()
    data = (folder / "photos" / "0.jpg").read_bytes()
    (tmp_path / "photos" / "dog.jpg").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    # the page's net is a full-width D at Q 256; ours has S 32 to 64, so only its crop model differs
    text = block.text.replace("localhost:8000", server.http).replace("localhost:8001", server.grpc)
    assert text != block.text
    exec(compile(text, str(block), "exec"), {"__name__": "client"})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    model = vd.load(folder / "D.int8-cpu.onnx", threads=1)
    dense = "photos_" not in text
    expected = model.predict(
        tmp_path / "photos" / "dog.jpg",
        protocol="dense" if dense else "centre",
        side=256 if dense else None,
        flips=False,
    ).posterior[0]
    order = np.argsort(-expected)[:3]
    assert [line.split(":")[1:] for line in lines] == [[str(i), CLASSES[i]] for i in order]
    assert [float(line.split(":")[0]) for line in lines] == pytest.approx(expected[order], abs=1e-5)


def test_every_page_has_its_client():
    assert {block.text.count("tritonclient.http") for block in CLIENTS} == {0, 1}
