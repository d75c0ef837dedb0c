"""Renders the built-in data set, so that everything works without a download.

An image shows several objects of one class over clutter, at clearly different sizes, positions and
angles. It has the size and the aspect ratio of a photo. Colours of objects and clutter come from
one distribution for all classes.
"""

import io
import math
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vgg_deploy.cache import cache_folder, writable_folder
from vgg_deploy.data.built_in_outlines import SHAPES, Outline
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.files import whole_file
from vgg_deploy.machine import available_cores
from vgg_deploy.progress import progress
from vgg_deploy.worker_processes import worker_context

Colour = tuple[int, int, int]  # RGB, 0-255
Box = tuple[int, int, int, int]  # left, top, right, bottom

VERSION = 1  # of the images; raise it when they change, so that no cache mixes two kinds
CLASSES = tuple(sorted(SHAPES))
SPLITS = ("train", "val")
ASPECTS = (1.0, 4 / 3, 3 / 2, 16 / 9)  # longer over shorter side
SHORTER = (112, 192)  # pixels
OBJECTS = (3, 7)  # of the image's class
DIAMETERS = (0.15, 0.55)  # parts of the shorter side, log-uniform
FINE = 3  # outlines are drawn so many times larger and then reduced, for smooth edges
TRIES = 12  # of finding a free box for an object


def built_in(split: str, count: int) -> Dataset:
    """Open the first images of a split; renders those that the cache folder lacks.

    If that cannot be written they are rendered to a temporary folder.

    Args:
        split: "train" or "val".
        count: Number of images.

    Raises:
        InputError: If neither the cache folder nor a temporary one can be written.
    """
    cached = cache_folder() / f"scenes-v{VERSION}" / split
    files = [f"{CLASSES[i % len(CLASSES)]}/{i:06d}.jpeg" for i in range(count)]
    root, existing = cached, _existing_files(cached)
    if not existing.issuperset(files):
        root = writable_folder(cached)
        existing = existing if root == cached else _existing_files(root)
        missing = [(i, root / file) for i, file in enumerate(files) if file not in existing]
        _render_files(split, missing)
    order = sorted(range(count), key=lambda i: files[i])
    labels = np.array([i % len(CLASSES) for i in order], np.int64)
    return Dataset(root, tuple(files[i] for i in order), labels, CLASSES, CLASSES)


def render(split: str, index: int) -> Image.Image:
    """Render one image, the same on every machine.

    Args:
        split: "train" or "val".
        index: Of the image; its class is CLASSES[index % len(CLASSES)].

    Returns:
        RGB.
    """
    return render_scene(split, index).image


class Scene(NamedTuple):
    """An image, and where its objects are.

    Attributes:
        image: RGB.
        boxes: (objects, 4) float64 left, top, right, bottom, pixels: for each object the smallest
            box that holds every pixel that it covers, if only in part. The largest is drawn first.
    """

    image: Image.Image
    boxes: np.ndarray


def render_scene(split: str, index: int) -> Scene:
    """Render one image as `render`, with the boxes of its objects.

    Blur reaches a pixel or two beyond an object's box.

    Args:
        split: "train" or "val".
        index: Of the image.
    """
    drawn, rng = _drawn_scene(split, index)
    return drawn._replace(image=_photographed(drawn.image, rng))


def object_boxes_of(split: str, index: int) -> np.ndarray:
    """The boxes of `render_scene`, in half the time.

    Args:
        split: "train" or "val".
        index: Of the image.
    """
    return _drawn_scene(split, index)[0].boxes


def _drawn_scene(split: str, index: int) -> tuple[Scene, np.random.Generator]:
    """Background and objects, before blur, light and noise; and the generator for these."""
    rng = np.random.default_rng((VERSION, SPLITS.index(split), index))
    shorter = int(rng.integers(SHORTER[0], SHORTER[1] + 1))
    longer = round(shorter * ASPECTS[rng.integers(len(ASPECTS))])
    size = (longer, shorter) if rng.random() < 0.7 else (shorter, longer)
    image, ground = _background(size, rng)
    _clutter(image, ground, rng)
    outlines = SHAPES[CLASSES[index % len(CLASSES)]]
    taken: list[Box] = []
    boxes: list[Box] = []
    for diameter in _diameters(rng):
        box = _free_box(round(diameter * shorter), image.size, taken, rng)
        if box is not None:
            taken.append(box)
            boxes.append(_draw_object(image, outlines, box, ground, rng))
    return Scene(image, np.array(boxes, np.float64).reshape(-1, 4)), rng


def _existing_files(root: Path) -> set[str]:
    """List CLASS/FILE of the cached images."""
    existing = set()
    for name in CLASSES:
        try:
            existing |= {f"{name}/{file.name}" for file in (root / name).iterdir()}
        except OSError:
            continue  # of a class that is not there, or cannot be listed: rendered
    return existing


def _diameters(rng: np.random.Generator) -> list[float]:
    """Draw the sizes of the objects, parts of the shorter side, the largest first."""
    low, high = (math.log(diameter) for diameter in DIAMETERS)
    count = rng.integers(OBJECTS[0], OBJECTS[1] + 1)
    return sorted(np.exp(rng.uniform(low, high, count)), reverse=True)


def _free_box(
    side: int, size: tuple[int, int], taken: list[Box], rng: np.random.Generator
) -> Box | None:
    """Draw a square inside the image that overlaps no other; None if a few tries find none."""
    width, height = size
    for _ in range(TRIES):
        left = int(rng.integers(0, width - side + 1))
        top = int(rng.integers(0, height - side + 1))
        box = (left, top, left + side, top + side)
        if not any(_overlap(box, other) for other in taken):
            return box
    return None


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _colour(rng: np.random.Generator) -> Colour:
    red, green, blue = rng.integers(10, 246, 3).tolist()
    return red, green, blue


def _near(colour: Colour, spread: int, rng: np.random.Generator) -> Colour:
    """A colour that differs by up to `spread` in each channel."""
    shifted = np.array(colour) + rng.integers(-spread, spread + 1, 3)
    red, green, blue = np.clip(shifted, 0, 255).tolist()
    return red, green, blue


def _texture(
    size: tuple[int, int], colours: tuple[Colour, Colour], grain: int, rng: np.random.Generator
) -> Image.Image:
    """Mix two colours by smooth noise with features of about `grain` pixels."""
    width, height = (max(2, round(side / grain)) for side in size)
    cells = Image.fromarray(rng.integers(0, 256, (height, width), np.uint8))
    noise = cells.resize(size, Image.Resampling.BICUBIC)
    first, second = (Image.new("RGB", size, colour) for colour in colours)
    return Image.composite(first, second, noise)


def _background(size: tuple[int, int], rng: np.random.Generator) -> tuple[Image.Image, Colour]:
    """Draw a muted background with coarse and fine texture; also returns its mean colour."""
    ground = _near((80, 80, 80), 40, rng)
    colours = _near(ground, 40, rng), _near(ground, 40, rng)
    coarse = _texture(size, colours, int(rng.integers(40, 160)), rng)
    colours = _near(ground, 60, rng), _near(ground, 60, rng)
    fine = _texture(size, colours, int(rng.integers(4, 24)), rng)
    return Image.blend(coarse, fine, rng.uniform(0.1, 0.35)), ground


def _clutter(image: Image.Image, ground: Colour, rng: np.random.Generator) -> None:
    """Draw strokes, arcs and ragged patches, which are no class but have edges like one."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    unit = min(image.size)
    for _ in range(int(rng.integers(4, 12))):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.04, 0.2) * unit
        thickness, colour = int(rng.integers(1, 2 + unit // 60)), _near(ground, 80, rng)
        match int(rng.integers(3)):
            case 0:
                bend = rng.normal(0, radius, (4, 2)).cumsum(axis=0) + (x, y)
                draw.line([(px, py) for px, py in bend], colour, thickness, joint="curve")
            case 1:
                start = int(rng.integers(0, 360))
                end = start + int(rng.integers(40, 150))
                box = (x - radius, y - radius, x + radius, y + radius)
                draw.arc(box, start, end, colour, thickness)
            case _:
                draw.polygon(_patch(x, y, radius, rng), colour)


def _patch(x: float, y: float, radius: float, rng: np.random.Generator) -> Outline:
    """Draw the corners of a ragged patch about a point."""
    corners = int(rng.integers(4, 8))
    angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
    distances = radius * rng.uniform(0.2, 1, corners)
    return [
        (x + distance * math.cos(angle), y + distance * math.sin(angle))
        for angle, distance in zip(angles, distances, strict=True)
    ]


def _draw_object(
    image: Image.Image, outlines: list[Outline], box: Box, ground: Colour, rng: np.random.Generator
) -> Box:
    """Draw one object: textured, turned, slightly stretched, brighter than the background.

    Args:
        image: To draw on.
        outlines: Of the object's class.
        box: The square that the object is turned in.
        ground: Mean colour of the background.
        rng: The image's.

    Returns:
        The box of the object itself.
    """
    side = box[2] - box[0]
    mask = _mask(outlines, side, rng)
    colour = _colour(rng)
    while _luma(colour) < _luma(ground) + 60:
        colour = _colour(rng)
    colours = _near(colour, 30, rng), _near(colour, 30, rng)
    texture = _texture((side, side), colours, max(4, side // 4), rng)
    image.paste(texture, box[:2], mask)
    left, top, right, bottom = mask.getbbox() or (0, 0, side, side)
    return box[0] + left, box[1] + top, box[0] + right, box[1] + bottom


def _mask(outlines: list[Outline], side: int, rng: np.random.Generator) -> Image.Image:
    """Draw the shape of an object: (side, side) coverage, 0-255."""
    angle, stretch = rng.uniform(0, 2 * math.pi), rng.uniform(0.8, 1.0)
    cos, sin = math.cos(angle), math.sin(angle)
    half = side * FINE / 2
    mask = Image.new("1", (side * FINE, side * FINE))
    for outline in outlines:
        points = [
            (half * (1 + cos * x - sin * y * stretch), half * (1 + sin * x + cos * y * stretch))
            for x, y in outline
        ]
        filled = Image.new("1", mask.size)
        ImageDraw.Draw(filled).polygon(points, 1)
        mask = ImageChops.logical_xor(mask, filled)
    return mask.convert("L").resize((side, side), Image.Resampling.BOX)


def _luma(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _photographed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add lens blur, uneven light and sensor noise."""
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    pixels = np.asarray(image, np.float32)
    height, width = pixels.shape[:2]
    down, across = rng.uniform(-0.25, 0.25, 2)
    rows = down * np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = across * np.linspace(-1, 1, width, dtype=np.float32)
    light = 1 + rows + columns
    noise = rng.standard_normal((height, width, 1), np.float32) * rng.uniform(1, 8)
    return Image.fromarray((pixels * light[:, :, None] + noise).clip(0, 255).astype(np.uint8))


def _render_files(split: str, tasks: list[tuple[int, Path]]) -> None:
    """Render images to files in several processes; a file gets its name when it is whole."""
    label = f"rendering {len(tasks)} built-in {split} images"
    pool = ProcessPoolExecutor(available_cores(), mp_context=worker_context())
    with pool, progress(label, len(tasks)) as bar:
        indices, paths = zip(*tasks, strict=True)
        for _ in pool.map(partial(_render_file, split), indices, paths, chunksize=16):
            bar.advance()


def _render_file(split: str, index: int, path: Path) -> None:
    data = io.BytesIO()
    quality = 80 + index * 7 % 16
    render(split, index).save(data, "JPEG", quality=quality)
    with whole_file(path) as partial_file:
        partial_file.write_bytes(data.getvalue())
