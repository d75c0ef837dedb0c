"""Holes in JPEGs are found.

Flat areas, optimized tables, progressive files and trailing bytes are no holes.
"""

import io

import numpy as np
import pytest
from PIL import Image

from vgg_deploy.errors import InputError
from vgg_deploy.images.decode import read_image
from vgg_deploy.images.jpeg_damage import damage

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)).resize(
    (800, 600)
)
ENCODINGS = [
    {},
    {"optimize": True},
    {"progressive": True},
    {"subsampling": 0},
    {"quality": 30},
    {"quality": 100, "optimize": True},
    {"restart_marker_rows": 1},
]


def encoded(image, **encoding) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **encoding)
    return buffer.getvalue()


def half_flat() -> Image.Image:
    image = Image.new("RGB", (3000, 3000), "white")
    image.paste(NOISE, (0, 0))
    return image


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@pytest.mark.slow
def test_sound_files_are_sound(encoding):
    """Flat areas of optimized files are thousands of zeros, which is why not every hole is one."""
    for image in (
        NOISE,
        half_flat(),
        Image.new("RGB", (2000, 2000), "white"),
        Image.new("L", (2000, 2000), 128),
        Image.new("CMYK", (900, 900)),
    ):
        data = encoded(image, **encoding)
        for trailing in (b"", bytes(5000), b"junk \xff\xd9"):
            assert damage(data + trailing) is None
    assert bytes(1024) in encoded(half_flat(), optimize=True)


def test_holes_in_metadata_are_no_damage():
    plain = encoded(NOISE)
    for marker in (b"\xff\xe1", b"\xff\xef", b"\xff\xfe"):
        segment = marker + (5002).to_bytes(2, "big") + bytes(5000)
        assert damage(plain[:2] + segment + plain[2:]) is None


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_a_copy_that_broke_off_is_found_in_every_file(encoding, tmp_path):
    """Its size is right, its second half zeros: Pillow silently decodes most such photos."""
    data = encoded(NOISE, **encoding)
    half = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    (tmp_path / "half.jpeg").write_bytes(half)
    for file, name in ((tmp_path / "half.jpeg", None), (io.BytesIO(half), "shard/half.jpeg")):
        with pytest.raises(
            InputError,
            match="half.jpeg: damaged: its end is missing; remove it",
        ):
            read_image(file, name)


@pytest.mark.parametrize("encoding", [{}, {"subsampling": 0}, {"quality": 30}], ids=str)
def test_a_block_of_zeros_is_found_with_standard_tables(encoding):
    data = encoded(NOISE, **encoding)
    for at in (len(data) // 3, len(data) // 2):
        spoilt = data[:at] + bytes(2048) + data[at + 2048 :]
        assert "a hole of zeros in the compressed data" in damage(spoilt)


def test_any_bytes_are_judged_without_an_error():
    rng, data = np.random.default_rng(1), encoded(NOISE.resize((60, 60)))
    for _ in range(300):
        spoilt = bytearray(data)
        for at in rng.integers(0, 700, 5):
            spoilt[at] = rng.integers(0, 256)
        damage(bytes(spoilt[: rng.integers(0, len(data))]))
