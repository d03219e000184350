"""Thumbnails: the picture before on the left, and after on the right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 448
MOST_BYTES = 100_000
SHOWN = 112
"""Pixels of a picture that a thumbnail shows at least; the fewer, the larger they are."""


def before_and_after(
    before: np.ndarray, after: np.ndarray, focus: tuple[float, float]
) -> Image.Image:
    """A square of ``SIDE`` pixels around ``focus``, given as parts of the width and height.

    before, after: (H, W, 3), uint8.
    """
    height, width = before.shape[:2]
    shown = max(SHOWN, width // 3)
    left = _clamped(focus[0] * width - shown / 2, width - shown)
    top = _clamped(focus[1] * height - shown / 2, height - shown)
    box = (left, top, left + shown, top + shown)
    left_half = Image.fromarray(before).resize((SIDE, SIDE), Image.Resampling.NEAREST, box)
    thumbnail = Image.fromarray(after).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box)
    thumbnail.paste(left_half.crop((0, 0, SIDE // 2, SIDE)), (0, 0))
    thumbnail.paste("white", (SIDE // 2 - 1, 0, SIDE // 2 + 1, SIDE))
    return thumbnail


def save_jpeg(picture: Image.Image, path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Save with the best quality that keeps the file below ``most_bytes``."""
    for quality in (92, 88, 82, 75, 65, 50):
        picture.convert("RGB").save(path, quality=quality, optimize=True)
        if path.stat().st_size < most_bytes:
            return
    raise ValueError(f"{path.name} cannot be made smaller than {most_bytes} bytes")


def save_screenshot(picture: Image.Image, stem: Path, most_bytes: int) -> None:
    """Save as PNG where that is small enough, else as JPEG; only one of the two is left."""
    png, jpeg = stem.with_suffix(".png"), stem.with_suffix(".jpg")
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(png, optimize=True)
    if png.stat().st_size < most_bytes:
        jpeg.unlink(missing_ok=True)
        return
    png.unlink()
    save_jpeg(picture, jpeg, most_bytes)


def _clamped(position: float, most: float) -> float:
    return round(min(max(position, 0), max(most, 0)))
