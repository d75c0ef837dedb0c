"""Small nets and small pictures, made here: no test needs a download or a file of another project."""

import signal

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageDraw

from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec, Preprocessing

torch.set_num_threads(1)  # the nets are small, and two threads each would only wait for each other

CLASSES = ("disc", "square", "stripes", "triangle")

# A shell's job in the background ignores Ctrl-C, and so would every command that a test starts there
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is read from or left in the user's cache; tests of one session share what they render."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("VGG_DEPLOY_CACHE", str(folder))
    return folder


def thin_spec(arch: str = "A", classes: tuple[str, ...] = CLASSES, crop: int = 32, **more) -> NetSpec:
    more = {"width": 1 / 16, "preprocessing": Preprocessing(mean=(120.5, 113.25, 99.75)), "train_side": (crop, 2 * crop), **more}
    return NetSpec(arch, classes, crop=crop, **more)


def thin_net(arch: str = "A", seed: int = 0, **more) -> VGG:
    """A random net with biases that are not zero, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    net = VGG(thin_spec(arch, **more))
    initialise(net, "he", generator)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1, generator=generator)
    return net.eval()


def save_net(net: VGG, path):
    save_checkpoint(path, Checkpoint(net.spec, net.state_dict()))
    return path


def picture(kind: str, rng: np.random.Generator) -> Image.Image:
    """One of CLASSES in random colours, 40-90 pixels a side, landscape or portrait."""
    height, width = (int(v) for v in rng.integers(40, 90, 2))
    image = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(0, 256, 3)))
    draw, ink = ImageDraw.Draw(image), tuple(int(v) for v in rng.integers(0, 256, 3))
    size = int(rng.integers(20, 36))
    x, y = (int(rng.integers(0, side - size)) for side in (width, height))
    box = [x, y, x + size, y + size]
    match kind:
        case "disc":
            draw.ellipse(box, fill=ink)
        case "square":
            draw.rectangle(box, fill=ink)
        case "triangle":
            draw.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=ink)
        case "stripes":
            for offset in range(0, size, 6):
                draw.rectangle([x, y + offset, x + size, y + offset + 2], fill=ink)
    return image


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder with train/<class>/* and val/<class>/*: 24 and 6 pictures a class, JPEG, of many sizes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(7)
    for split, count in (("train", 24), ("val", 6)):
        for kind in CLASSES:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for i in range(count):
                picture(kind, rng).save(folder / f"{i:03d}.jpeg", quality=90)
    return root


@pytest.fixture
def photos_copy(photos, tmp_path):
    """The same folder, to be spoilt."""
    import shutil

    return shutil.copytree(photos, tmp_path / "photos")


def run(command, *args, code=0) -> str:
    """A command as a user gives it; what it says, with its line breaks and tables' spaces taken out."""
    result = CliRunner().invoke(command, [str(a) for a in args])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    assert code == 0 or "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
