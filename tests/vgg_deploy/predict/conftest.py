"""Images that streams and descriptors are tested on."""

import numpy as np
import pytest
from PIL import Image

SIZES = [(40, 71), (90, 47), (64, 64), (33, 150), (20, 28)]  # height, width


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Images of odd sizes, one of them grey and one smaller than the crop."""
    root, rng = tmp_path_factory.mktemp("noisy"), np.random.default_rng(4)
    paths = []
    for i, (height, width) in enumerate(SIZES):
        noise = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), np.uint8)
        image = Image.fromarray(noise).resize((width, height))
        paths.append(root / f"{i}.png")
        (image.convert("L") if i == 3 else image).save(paths[-1])
    return paths
