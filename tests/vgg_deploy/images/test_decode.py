"""Oracles: Pillow for pixels, fractions for sizes, a filter written out in numpy for the resize."""

import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vgg_deploy.errors import InputError
from vgg_deploy.images.decode import decode, image_size, rescale, rescaled_part, rescaled_size
from vgg_deploy.images.encoded import FORMATS, MOST_ASPECT
from vgg_deploy.net.spec import FILTERS


def photo(height: int = 61, width: int = 83, channels: int = 3) -> np.ndarray:
    """(H, W, C) uint8: waves of every colour and noise: no two pixels or channels are alike."""
    rng = np.random.default_rng(height * 1000 + width)
    y, x, c = np.ogrid[:height, :width, :channels]
    waves = (
        128 + 90 * np.sin(x / (5 + c) + y / (11 - c)) + rng.normal(0, 12, (height, width, channels))
    )
    return waves.clip(0, 255).astype(np.uint8)


def pixels(path: Path) -> np.ndarray:
    """(H, W, 3), as the code under test sees the file."""
    found = decode(path)
    assert found.dtype == torch.uint8 and found.shape[0] == 3
    assert image_size(path) == tuple(found.shape[1:])
    return found.permute(1, 2, 0).numpy()


def png_16_bit(path: Path, values: np.ndarray) -> Path:
    """Write (H, W, C) uint16, which Pillow cannot.

    C is 1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGBA.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def jpeg_with_exif(path: Path, exif: bytes) -> Path:
    """A JPEG without JFIF header, so that Pillow looks into the EXIF block for the resolution."""
    Image.fromarray(photo()).save(path, exif=b"Exif\0\0" + exif)
    data = path.read_bytes()
    assert data[2:4] == b"\xff\xe0"
    jfif = struct.unpack(">H", data[4:6])[0] + 2
    path.write_bytes(data[:2] + data[2 + jfif :])
    return path


@pytest.mark.parametrize(
    "format, lossless",
    [("PNG", True), ("BMP", True), ("GIF", False), ("WEBP", False), ("JPEG", False)],
)
def test_decode_gives_the_pixels_of_every_format(tmp_path, format, lossless):
    path = tmp_path / "image.JPEG"  # whatever the file is, as for n02105855_2933.JPEG
    Image.fromarray(photo()).save(path, format=format)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(path), expected)
    np.testing.assert_allclose(pixels(path).mean((0, 1)), photo().mean((0, 1)), atol=6)
    if lossless:
        np.testing.assert_array_equal(pixels(path), photo())
    assert format in FORMATS


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_grey_becomes_three_equal_channels(tmp_path, suffix):
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(photo(channels=1)[..., 0]).save(path, quality=95)
    with Image.open(path) as image:
        grey = np.asarray(image)
    assert grey.ndim == 2
    np.testing.assert_array_equal(pixels(path), np.stack([grey] * 3, axis=2))


def test_cmyk_is_converted_not_inverted(tmp_path):
    path = tmp_path / "cmyk.jpg"
    cmyk = Image.fromarray(photo()).convert("CMYK")
    cmyk.save(path, quality=98, subsampling=0)
    assert b"Adobe" in path.read_bytes()[:200]  # the usual kind, stored inverted
    np.testing.assert_array_equal(pixels(path), np.asarray(Image.open(path).convert("RGB")))
    difference = np.abs(pixels(path).astype(int) - photo())
    assert difference.mean() < 4  # an inverted image would be off by 100


def test_alpha_is_dropped_not_blended(tmp_path):
    rgba = photo(channels=4)
    rgba[..., 3] //= 2
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(pixels(tmp_path / "rgba.png"), rgba[..., :3])
    Image.fromarray(rgba[..., [0, 3]].copy(), "LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(pixels(tmp_path / "la.png"), rgba[..., [0, 0, 0]])


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_a_palette_is_looked_up_whatever_is_transparent(tmp_path, transparency):
    path = tmp_path / "palette.png"
    indexed = Image.fromarray(photo()).quantize(256)
    indexed.save(path, **({} if transparency is None else {"transparency": transparency}))
    palette = np.array(indexed.getpalette(), np.uint8).reshape(-1, 3)
    np.testing.assert_array_equal(pixels(path), palette[np.asarray(indexed)])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_cut_to_the_upper_8(tmp_path, channels):
    values = photo(channels=channels).astype(np.uint16) * 256 + 200
    colours = {1: [0, 0, 0], 2: [0, 0, 0], 3: [0, 1, 2], 4: [0, 1, 2]}[channels]
    np.testing.assert_array_equal(
        pixels(png_16_bit(tmp_path / "deep.png", values)), (values >> 8)[..., colours]
    )


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.fromarray(photo()), Image.fromarray(255 - photo())]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert np.abs(pixels(tmp_path / "two.gif").astype(int) - photo()).mean() < 20


def test_exif_rotation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn right to view"
    Image.fromarray(photo()).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(photo()).save(tmp_path / "plain.jpg")
    np.testing.assert_array_equal(pixels(tmp_path / "turned.jpg"), pixels(tmp_path / "plain.jpg"))


@pytest.mark.slow
def test_broken_exif_blocks_neither_stop_nor_warn(tmp_path):
    """In a process of its own: pytest's filters would come before ours."""
    blocks = [
        b"",
        b"\xff" * 20,
        b"II*\0\x08\0\0\0",
        b"II*\0\x08\0\0\0\x05\0"
        + struct.pack("<HHII", 0x011A, 5, 1, 9999),  # the resolution lies beyond the end
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x011A, 2, 4_000_000_000, 26),
    ]
    paths = [jpeg_with_exif(tmp_path / f"{i}.jpg", block) for i, block in enumerate(blocks)]
    code = (
        "import sys; from vgg_deploy.images.decode import decode; "
        "print(*(decode(path).sum().item() for path in sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, *paths],
        capture_output=True,
        text=True,
    )
    Image.fromarray(photo()).save(tmp_path / "plain.jpg")
    assert (done.stdout.split(), done.stderr) == (
        [str(pixels(tmp_path / "plain.jpg").sum())] * len(blocks),
        "",
    )


@pytest.mark.parametrize(
    "name, data, says",
    [
        ("empty.jpg", b"", "is empty (0 bytes)"),
        ("notes.jpg", b"These are not pixels.\n", "is not an image of a known format"),
        (
            "page.png",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "is not an image of a known format",
        ),
    ],
)
def test_files_that_are_no_images_are_named(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    for read in (decode, image_size):
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert caught.value.exit_code == 2
        assert caught.value.message == (
            f"{tmp_path / name}: {says}, expected one of JPEG, PNG, GIF, WEBP, BMP; remove it"
        )


def test_a_format_that_is_not_promised_is_refused(tmp_path):
    """Pillow would read it. Only FORMATS are read, so that a data set does not depend on Pillow."""
    Image.fromarray(photo()).save(tmp_path / "image.png", format="TIFF")
    with pytest.raises(InputError, match="image.png: is not an image of a known format"):
        decode(tmp_path / "image.png")


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_cut_short_is_refused_wherever_it_ends(tmp_path, format):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    Image.fromarray(photo(20, 30)).save(whole, format=format)
    data = whole.read_bytes()
    for end in range(1, len(data) * 9 // 10, 11):
        cut.write_bytes(data[:end])
        with pytest.raises(InputError) as caught:
            decode(cut)
        message = caught.value.message
        assert message.startswith(f"{cut}: ") and message.endswith("; remove it")
        assert caught.value.about == "unreadable"


@pytest.mark.filterwarnings("ignore:Image size")  # ours comes behind pytest's
@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_byte_gives_pixels_or_an_input_error(tmp_path, format):
    path, failed = tmp_path / "damaged", 0
    Image.fromarray(photo(6, 7)).save(path, format=format)
    whole = path.read_bytes()
    for at in range(0, len(whole), 1 + len(whole) // 250):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            decode(path)
        except InputError as error:
            failed += 1
            assert error.message.startswith(f"{path}: ")
    assert 0 < failed < len(whole)


def test_a_huge_header_is_refused_before_memory_is_taken(tmp_path):
    path = png_16_bit(tmp_path / "bomb.png", np.zeros((1, 1, 1), np.uint16))
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 15_000, 15_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    message = r"bomb.png: Image size \(225000000 pixels\) exceeds limit of 178956970.*; remove it"
    for read in (decode, image_size):
        with pytest.raises(InputError, match=message):
            read(path)


def test_a_sliver_is_refused_because_its_rescaled_image_would_fill_the_memory(tmp_path):
    Image.new("RGB", (2, 2 * MOST_ASPECT)).save(tmp_path / "long.png")
    assert image_size(tmp_path / "long.png") == (2 * MOST_ASPECT, 2)
    Image.new("RGB", (2, 2 * MOST_ASPECT + 1)).save(tmp_path / "sliver.png")
    with pytest.raises(
        InputError, match=r"sliver.png: 2x201 pixels is a sliver, expected sides within 1:100"
    ):
        decode(tmp_path / "sliver.png")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path, says in (
        (tmp_path / "gone.jpg", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(InputError) as caught:
            decode(path)
        assert caught.value.message == (
            f"{path}: cannot be read ({says}); check the path and its permissions"
        )


def test_threads_decode_alike(tmp_path):
    paths = []
    for i in range(8):
        paths.append(tmp_path / f"{i}.jpg")
        Image.fromarray(photo(40 + i, 90)).save(paths[-1])
    alone = [rescale(decode(path), 64) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: rescale(decode(path), 64), paths * 8))
    assert all(torch.equal(found, alone[i % 8]) for i, found in enumerate(together))


def test_rescaled_size_rounds_the_longer_side_half_up():
    """Oracle: exact fractions."""
    rng = np.random.default_rng(1)
    sizes = [
        (375, 500),
        (500, 375),
        (1, 100),
        (3, 2),
        (224, 224),
        *rng.integers(1, 3000, (2000, 2)).tolist(),
    ]
    for height, width in sizes:
        for side in (32, 224, 255, 256, 384, 512):
            exact = Fraction(max(height, width) * side, min(height, width))
            longer = floor(exact + Fraction(1, 2))
            assert rescaled_size(height, width, side) == (
                (side, longer) if height <= width else (longer, side)
            )


def test_rescaled_size_of_known_cases():
    assert rescaled_size(375, 500, 512) == (512, 683)  # 682.67; truncation gives 682
    assert rescaled_size(500, 375, 512) == (683, 512)
    assert rescaled_size(512, 513, 256) == (256, 257)  # 256.5 goes up; round() would give 256
    assert rescaled_size(512, 515, 256) == (256, 258)  # 257.5
    assert rescaled_size(100, 150, 256) == (256, 384)  # smaller than Q: enlarged


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("shape", [(61, 83), (83, 61), (500, 375), (31, 31), (257, 256), (7, 300)])
@pytest.mark.parametrize("side", [32, 61, 224])
def test_rescale_equals_pillow_bit_for_bit(shape, side, filter):
    """Oracle: Pillow's resize of the RGB image; the code resizes single channels."""
    image = photo(*shape)
    height, width = rescaled_size(*shape, side)
    expected = Image.fromarray(image).resize(
        (width, height), {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[filter]
    )
    found = rescale(torch.from_numpy(image).permute(2, 0, 1).contiguous(), side, filter)
    assert found.dtype == torch.uint8 and min(found.shape[1:]) == side
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), np.asarray(expected))


def triangle_weights(size_in: int, size_out: int) -> np.ndarray:
    """(out, in): rows sum to 1; bilinear, as wide as an output pixel when it shrinks."""
    scale = size_in / size_out
    centres = (np.arange(size_out) + 0.5) * scale
    distance = np.abs(np.arange(size_in) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("shape, side", [((61, 83), 32), ((83, 61), 32), ((61, 83), 100)])
def test_rescale_is_the_antialiased_bilinear_filter(shape, side):
    """Oracle: the filter as two matrix products in floats.

    Rounding twice to uint8 costs up to one grey level.
    """
    image = photo(*shape)
    height, width = rescaled_size(*shape, side)
    down, across = triangle_weights(shape[0], height), triangle_weights(shape[1], width)
    expected = np.einsum("yh,hwc,xw->cyx", down, image, across)
    found = rescale(torch.from_numpy(image).permute(2, 0, 1), side).numpy()
    assert np.abs(found - expected).max() <= 1.01


def test_rescale_returns_the_image_itself_when_the_size_stays():
    image = torch.from_numpy(photo(64, 90)).permute(2, 0, 1)
    assert rescale(image, 64) is image


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_a_part_of_a_rescaled_image_is_that_part(filter):
    """Oracle: the whole rescaled image, cut."""
    rng = np.random.default_rng(3)
    for height, width, side in [
        (375, 500, 256),
        (500, 375, 512),
        (97, 211, 256),
        (256, 256, 256),
        (300, 301, 299),
    ]:
        pixels = np.asarray(
            Image.fromarray(rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8)).resize(
                (width, height)
            )
        )
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        whole = rescale(image, side, filter)
        for top, left in [(0, 0), (whole.shape[1] - 224, whole.shape[2] - 224), (7, 11)]:
            part = rescaled_part(Image.fromarray(pixels), side, top, left, 224, filter)
            off = (part.int() - whole[:, top : top + 224, left : left + 224].int()).abs()
            assert part.shape == (3, 224, 224)
            assert off.max() <= 2 and (off > 0).float().mean() < 0.05
