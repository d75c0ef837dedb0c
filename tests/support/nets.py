"""Small nets and small photos, made here: no test needs a download."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec, Preprocessing

CLASSES = ("disc", "square", "stripes", "triangle")


def thin_spec(
    arch: str = "A", classes: tuple[str, ...] = CLASSES, crop: int = 32, **more
) -> NetSpec:
    """A net of 1/16 of the width with four classes."""
    more = {
        "width": 1 / 16,
        "preprocessing": Preprocessing(mean=(120.5, 113.25, 99.75)),
        "train_side": (crop, 2 * crop),
        **more,
    }
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


def save_net(net: VGG, path: Path) -> Path:
    """Write a checkpoint of the net, and return its path."""
    save_checkpoint(path, Checkpoint(net.spec, net.state_dict()))
    return path


def photo_of(name: str, rng: np.random.Generator) -> Image.Image:
    """A photo of one of CLASSES in random colours, sides of 40 to 89 pixels, any orientation."""
    height, width = (int(v) for v in rng.integers(40, 90, 2))
    image = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(0, 256, 3)))
    draw, ink = ImageDraw.Draw(image), tuple(int(v) for v in rng.integers(0, 256, 3))
    size = int(rng.integers(20, 36))
    x, y = (int(rng.integers(0, side - size)) for side in (width, height))
    box = [x, y, x + size, y + size]
    match name:
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
