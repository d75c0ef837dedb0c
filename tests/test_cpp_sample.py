"""examples/cpp is built against ONNX Runtime's own header, and answers as vgg-predict does."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.release import ExportOptions, export_onnx
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.predict.model import load

SAMPLE = Path(__file__).parent.parent / "examples" / "cpp"
VARIABLE = "ONNXRUNTIME_INCLUDE"  # the folder of onnxruntime_c_api.h, which no wheel has
HEADER = "onnxruntime_c_api.h"
PLACES = ("/usr/include/onnxruntime", "/usr/include", "/usr/local/include/onnxruntime")
CLASSES = ("disc", "it's", 'a "quote"', "back\\slash")
SHOWN = 1e-6  # the sample prints six digits

pytestmark = pytest.mark.slow


def header_folder() -> str:
    """Where the header is; empty if it is nowhere."""
    for folder in (os.environ.get(VARIABLE, ""), *PLACES):
        if folder and (Path(folder) / HEADER).is_file():
            return folder
    return ""


def library() -> Path:
    """The library in the installed package."""
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "capi"
    (found,) = folder.glob("libonnxruntime.so.*")
    return found


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Runs the built program."""
    if not header_folder():
        pytest.skip(f"{HEADER} is in none of {', '.join(PLACES)}; {VARIABLE} can name its folder")
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    build = tmp_path_factory.mktemp("cpp")
    (build / "libonnxruntime.so.1").symlink_to(library())  # the name that programs ask for
    configured = subprocess.run(
        [
            *("cmake", "-S", SAMPLE, "-B", build, f"-DONNXRUNTIME_INCLUDE={header_folder()}"),
            f"-DONNXRUNTIME_LIBRARY={library()}",
            "-DCMAKE_CXX_FLAGS=-Werror",
        ],
        capture_output=True,
        text=True,
    )
    if "Could NOT find JPEG" in configured.stderr:
        pytest.skip("libjpeg's header is not installed: apt-get install libjpeg-dev")
    assert configured.returncode == 0, configured.stderr
    built = subprocess.run(["cmake", "--build", build], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr

    def run(*words) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [build / "classify", *map(str, words)],
            capture_output=True,
            text=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(build)},
            timeout=60,
        )

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    source = save_net(thin_net("D", classes=CLASSES), folder / "net.pt")
    options = ExportOptions(("fp32",), whole_images=48)
    (exported,) = export_onnx(source, folder, options, None, 1, lambda text: None)
    return exported.path


def test_the_sample_is_short():
    assert len((SAMPLE / "classify.cpp").read_text().splitlines()) <= 100


def test_the_sample_answers_as_the_tool(sample, files):
    """Oracle: the Python interface, on JPEGs of several sizes and subsamplings, and a grey one."""
    rng, model = np.random.default_rng(0), load(files)
    for i, how in enumerate(({}, {"subsampling": 0}, {"subsampling": 2, "quality": 60}, {})):
        photo = files.parent / f"{i}.jpg"
        image = photo_of("stripes", rng).resize((170 + 31 * i, 90 + i))
        (image.convert("L") if i == 3 else image).save(photo, **how)
        done = sample(files, photo)
        assert done.returncode == 0, done.stderr
        (expected,) = model.predict(photo, flips=False).posterior
        order = np.argsort(-expected)
        found = [line.split(" ", 1) for line in done.stdout.splitlines()]
        assert [name for _, name in found] == [CLASSES[k] for k in order]
        posteriors = [float(number) for number, _ in found]
        np.testing.assert_allclose(posteriors, expected[order], rtol=0, atol=2 * SHOWN)


def test_bad_input_of_the_sample_is_one_line(sample, files):
    photo = files.parent / "x.jpg"
    Image.new("RGB", (40, 40)).save(photo)
    for words, message in (
        ((), "use: classify MODEL.onnx IMAGE.jpg"),
        ((files, files.parent / "none.jpg"), "none.jpg: cannot be opened"),
        ((files, files), "Not a JPEG file"),
        ((files.parent / "none.onnx", photo), "none.onnx"),
        ((photo, photo), "Load model"),
    ):
        done = sample(*words)
        assert done.returncode in (1, 2) and message in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1 and not done.stdout
