"""Saves what dense evaluation saw: the posterior of one class, laid over the image, as a PNG."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from plotly.colors import sample_colorscale, unlabel_rgb

from vgg_deploy.files import whole_file
from vgg_deploy.images.decode import rescale
from vgg_deploy.net.archs import STRIDE
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.predict.stream import Pixels
from vgg_deploy.predict.views import softmax
from vgg_deploy.predict.whole_images import rescales
from vgg_deploy.runtimes.contract import Runtime

OPACITY = 0.55  # of the map
CAPTION = 34  # pixels above the image
INK, PAPER = (40, 40, 40), (255, 255, 255)
STEPS = 256  # colours of the scale
VIRIDIS = np.array(
    [
        unlabel_rgb(colour)
        for colour in sample_colorscale("Viridis", np.linspace(0, 1, STEPS).tolist())
    ]
)


def save_maps(folder: Path, number: int, name: str, image: Pixels, best: int, run: Runtime) -> Path:
    """Run one image densely at every Q, and save the map of one class.

    Every position of the map is a square of STRIDE pixels around the centre of the window that it
    sees. The scale of each map goes from 0 to the number in its caption.

    Args:
        folder: Of the file, which is NUMBER-NAME.png.
        number: Of the image.
        name: Of the image.
        image: At every Q, (3, h, w) uint8 RGB; whole for a net that rescales by itself.
        best: The class, by its position in the scores.
        run: The net.

    Returns:
        The file.

    Raises:
        InputError: If the file cannot be written.
    """
    panels = []
    for side, pixels in image.items():
        score_map = run(pixels[None]).score_map
        shown = pixels
        if rescales(run):
            filter = run.spec.preprocessing.filter
            shown = rescale(torch.from_numpy(pixels), side, filter).numpy()
        panels.append(_panel(shown, softmax(score_map)[0, best], side, best, run.spec))
    width = sum(panel.width for panel in panels)
    page = Image.new("RGB", (width, max(panel.height for panel in panels)), PAPER)
    left = 0
    for panel in panels:
        page.paste(panel, (left, 0))
        left += panel.width
    path = picture_path(folder, number, name)
    with whole_file(path) as partial:
        page.save(partial, "PNG")
    return path


def picture_path(folder: Path, number: int, name: str) -> Path:
    """The file of an image's picture: NUMBER-NAME.png."""
    stem = re.sub(r"[^\w.-]+", "_", Path(name.partition("?")[0]).stem)[-80:]
    return folder / f"{number:06d}-{stem}.png"


def overlay(pixels: np.ndarray, posterior_map: np.ndarray, crop: int) -> np.ndarray:
    """Lay a map over an image.

    Args:
        pixels: (3, H, W) uint8 RGB.
        posterior_map: (h, w) float, posteriors of one class.
        crop: Side of the window that a position sees, pixels.

    Returns:
        (H, W, 3) uint8 RGB; what no position stands for is the image alone.
    """
    result = pixels.transpose(1, 2, 0).astype(np.float64)
    top = float(posterior_map.max())
    shares = posterior_map / top if top > 0 else posterior_map
    colours = VIRIDIS[(shares * (STEPS - 1)).round().astype(int)]
    start = (crop - STRIDE) // 2  # the square around the centre of the first window
    cells = colours.repeat(STRIDE, axis=0).repeat(STRIDE, axis=1)
    height, width = cells.shape[:2]
    region = result[start : start + height, start : start + width]
    region += OPACITY * (cells[: region.shape[0], : region.shape[1]] - region)
    return result.round().astype(np.uint8)


def _panel(
    pixels: np.ndarray, posterior_map: np.ndarray, side: int, best: int, spec: NetSpec
) -> Image.Image:
    """One Q: a caption, and below it the image with the map."""
    drawn = Image.fromarray(overlay(pixels, posterior_map, spec.crop))
    panel = Image.new("RGB", (drawn.width, drawn.height + CAPTION), PAPER)
    panel.paste(drawn, (0, CAPTION))
    height, width = posterior_map.shape
    text = f"{spec.names[best]}\nQ {side}, {height} x {width}, 0 to {posterior_map.max():.3g}"
    font = ImageFont.load_default(size=12)
    ImageDraw.Draw(panel).text((2, 1), text, fill=INK, font=font, spacing=2)
    return panel
