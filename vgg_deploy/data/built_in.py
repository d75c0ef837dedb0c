"""The built-in data set: pictures rendered by code, so that everything works without a download.

Several objects of one class lie at clearly different sizes, places and turns over clutter, in the sizes and aspect
ratios of photos. Colours of objects and clutter come from one distribution for all classes.
"""

import io
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vgg_deploy.cache import cache_folder
from vgg_deploy.data.built_in_outlines import SHAPES, Outline
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.machine import available_cores
from vgg_deploy.progress import progress
from vgg_deploy.worker_processes import worker_context

Colour = tuple[int, int, int]  # RGB, 0-255
Box = tuple[int, int, int, int]  # left, top, right, bottom

VERSION = 1  # of the pictures; raise it when they change, so that no cache mixes two kinds
CLASSES = tuple(sorted(SHAPES))
SPLITS = ("train", "val")
ASPECTS = (1.0, 4 / 3, 3 / 2, 16 / 9)  # longer over shorter side
SHORTER = (112, 192)  # pixels
OBJECTS = (3, 7)  # of the picture's class
DIAMETERS = (0.15, 0.55)  # parts of the shorter side, log-uniform
FINE = 3  # outlines are drawn so many times larger and then reduced, for smooth edges


def built_in(split: str, count: int) -> Dataset:
    """The first `count` pictures of "train" or "val" as files in the cache folder; renders those not there yet.

    Raises: InputError if the cache folder cannot be written.
    """
    root = cache_folder() / f"scenes-v{VERSION}" / split
    files = [f"{CLASSES[i % len(CLASSES)]}/{i:06d}.jpeg" for i in range(count)]
    try:
        for name in CLASSES:
            (root / name).mkdir(parents=True, exist_ok=True)
        there = {f"{name}/{file.name}" for name in CLASSES for file in (root / name).iterdir()}
    except OSError as error:
        raise InputError(
            f"{root}: the cache cannot be written ({error.strerror}); set VGG_DEPLOY_CACHE to a folder that can"
        ) from None
    missing = [i for i in range(count) if files[i] not in there]
    if missing:
        _render_files(split, [(i, root / files[i]) for i in missing])
    order = sorted(range(count), key=lambda i: files[i])
    labels = np.array([i % len(CLASSES) for i in order], np.int64)
    return Dataset(root, tuple(files[i] for i in order), labels, CLASSES, CLASSES)


def render(split: str, index: int) -> Image.Image:
    """The picture of this number, RGB; its class is CLASSES[index % len(CLASSES)]. The same on every machine."""
    rng = np.random.default_rng((VERSION, SPLITS.index(split), index))
    shorter = int(rng.integers(SHORTER[0], SHORTER[1] + 1))
    longer = round(shorter * ASPECTS[rng.integers(len(ASPECTS))])
    size = (longer, shorter) if rng.random() < 0.7 else (shorter, longer)
    image, ground = _background(size, rng)
    _clutter(image, ground, rng)
    outlines = SHAPES[CLASSES[index % len(CLASSES)]]
    taken: list[Box] = []
    for diameter in _diameters(rng):
        if box := _free_place(round(diameter * shorter), image.size, taken, rng):
            taken.append(box)
            _draw_object(image, outlines, box, ground, rng)
    return _photographed(image, rng)


def _diameters(rng: np.random.Generator) -> list[float]:
    """Sizes of the objects, the largest first."""
    low, high = (math.log(d) for d in DIAMETERS)
    return sorted(
        np.exp(rng.uniform(low, high, rng.integers(OBJECTS[0], OBJECTS[1] + 1))), reverse=True
    )


def _free_place(
    side: int, size: tuple[int, int], taken: list[Box], rng: np.random.Generator
) -> Box | None:
    """A square inside the picture that touches no other; None where a few tries find none."""
    for _ in range(12):
        left, top = (int(rng.integers(0, room - side + 1)) for room in size)
        box = (left, top, left + side, top + side)
        if all(box[0] >= b[2] or b[0] >= box[2] or box[1] >= b[3] or b[1] >= box[3] for b in taken):
            return box
    return None


def _colour(rng: np.random.Generator) -> Colour:
    return tuple(int(v) for v in rng.integers(10, 246, 3))


def _near(colour: Colour, spread: int, rng: np.random.Generator) -> Colour:
    """A colour that differs by up to `spread` in each channel."""
    return tuple(
        int(v) for v in np.clip(np.array(colour) + rng.integers(-spread, spread + 1, 3), 0, 255)
    )


def _texture(
    size: tuple[int, int], colours: list[Colour], grain: int, rng: np.random.Generator
) -> Image.Image:
    """Two colours mixed by smooth noise with features of about `grain` pixels."""
    cells = [max(2, round(side / grain)) for side in size]
    noise = Image.fromarray(rng.integers(0, 256, cells[::-1], np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    first, second = (Image.new("RGB", size, colour) for colour in colours)
    return Image.composite(first, second, noise)


def _background(size: tuple[int, int], rng: np.random.Generator) -> tuple[Image.Image, Colour]:
    """Muted grounds with coarse and fine texture, and the colour they vary about."""
    ground = _near((80, 80, 80), 40, rng)
    coarse = _texture(
        size, [_near(ground, 40, rng), _near(ground, 40, rng)], int(rng.integers(40, 160)), rng
    )
    fine = _texture(
        size, [_near(ground, 60, rng), _near(ground, 60, rng)], int(rng.integers(4, 24)), rng
    )
    return Image.blend(coarse, fine, rng.uniform(0.1, 0.35)), ground


def _clutter(image: Image.Image, ground: Colour, rng: np.random.Generator) -> None:
    """Strokes, arcs and ragged patches that are no class but have edges like one."""
    draw, (width, height), unit = ImageDraw.Draw(image), image.size, min(image.size)
    for _ in range(int(rng.integers(4, 12))):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.04, 0.2) * unit
        thick, colour = int(rng.integers(1, 2 + unit // 60)), _near(ground, 80, rng)
        match int(rng.integers(3)):
            case 0:
                bend = rng.normal(0, r, (4, 2)).cumsum(axis=0) + (x, y)
                draw.line([tuple(p) for p in bend], colour, thick, joint="curve")
            case 1:
                start = int(rng.integers(0, 360))
                draw.arc(
                    [x - r, y - r, x + r, y + r],
                    start,
                    start + int(rng.integers(40, 150)),
                    colour,
                    thick,
                )
            case _:
                corners = int(rng.integers(4, 8))
                angles, radii = (
                    np.sort(rng.uniform(0, 2 * math.pi, corners)),
                    r * rng.uniform(0.2, 1, corners),
                )
                draw.polygon(
                    [
                        (x + d * math.cos(a), y + d * math.sin(a))
                        for a, d in zip(angles, radii, strict=True)
                    ],
                    colour,
                )


def _draw_object(
    image: Image.Image, outlines: list[Outline], box: Box, ground: Colour, rng: np.random.Generator
) -> None:
    """One object, textured, turned, a little stretched, brighter than the ground."""
    side = box[2] - box[0]
    mask = _mask(outlines, side, rng)
    colour = _colour(rng)
    while _luma(colour) < _luma(ground) + 60:
        colour = _colour(rng)
    mixed = [_near(colour, 30, rng), _near(colour, 30, rng)]
    image.paste(_texture((side, side), mixed, max(4, side // 4), rng), box[:2], mask)


def _mask(outlines: list[Outline], side: int, rng: np.random.Generator) -> Image.Image:
    """(side, side) coverage, 0-255."""
    turn, stretch = rng.uniform(0, 2 * math.pi), rng.uniform(0.8, 1.0)
    c, s = math.cos(turn), math.sin(turn)
    half, mask = side * FINE / 2, Image.new("1", (side * FINE, side * FINE))
    for outline in outlines:
        one = Image.new("1", mask.size)
        ImageDraw.Draw(one).polygon(
            [
                (half * (1 + c * x - s * y * stretch), half * (1 + s * x + c * y * stretch))
                for x, y in outline
            ],
            1,
        )
        mask = ImageChops.logical_xor(mask, one)
    return mask.convert("L").resize((side, side), Image.Resampling.BOX)


def _luma(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _photographed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lens blur, uneven light and sensor noise."""
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    pixels = np.asarray(image, np.float32)
    height, width = pixels.shape[:2]
    slope = rng.uniform(-0.25, 0.25, 2)
    light = (
        1
        + slope[0] * np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        + slope[1] * np.linspace(-1, 1, width, dtype=np.float32)
    )
    noise = rng.standard_normal((height, width, 1), np.float32) * rng.uniform(1, 8)
    return Image.fromarray((pixels * light[:, :, None] + noise).clip(0, 255).astype(np.uint8))


def _render_files(split: str, tasks: list[tuple[int, Path]]) -> None:
    """Render by several processes; a file appears under its name when it is whole."""
    pool = ProcessPoolExecutor(available_cores(), mp_context=worker_context())
    with pool, progress(f"rendering {len(tasks)} built-in {split} pictures", len(tasks)) as bar:
        for _ in pool.map(
            _render_file, [split] * len(tasks), *zip(*tasks, strict=True), chunksize=16
        ):
            bar.advance()


def _render_file(split: str, index: int, path: Path) -> None:
    data = io.BytesIO()
    quality = 80 + index * 7 % 16
    render(split, index).save(data, "JPEG", quality=quality)
    with whole_file(path) as partial:
        partial.write_bytes(data.getvalue())
