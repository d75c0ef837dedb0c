"""Writes a photo again at another size."""

from pathlib import Path

from PIL import Image


def save_enlarged(source: Path, side: int, target: Path) -> None:
    """Write a photo as JPEG (quality 90), rescaled so that its shorter side is `side` pixels."""
    with Image.open(source) as image:
        scale = side / min(image.size)
        size = [round(s * scale) for s in image.size]
        enlarged = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        enlarged.save(target, quality=90)
