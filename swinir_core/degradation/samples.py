"""The bundled pictures, clean or degraded by a chosen amount. ``samples/README.md`` names their
sources."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from ..choices import ALL, SAMPLES, TEXTURE
from ..images.color import rgb_to_gray
from ..images.levels import to_floats, to_integers
from ..images.resize import bicubic_resize
from .noise_and_jpeg import add_gaussian_noise, jpeg_compress
from .texture import terrazzo

FOLDER = Path(__file__).parents[1] / "samples"
"""Folder of the bundled pictures."""

_FILES = dict(
    zip(SAMPLES, ("chelsea.png", "coffee.png", "rocket.png", "astronaut.png"), strict=True)
)

_CROP, _CROP_SIDE = "astronaut", 32
"""Picture whose middle shows what a model does, and the side of an input that is cut from it."""

_DAMAGE: dict[str, dict[str, Any]] = {
    "sr": {},
    "denoise": {"noise": 25},
    "jpeg": {"jpeg_quality": 10},
}
"""Beside shrinking by the scale, what the last word of a task repairs; the levels are those of the
evaluation."""


def read_sample(name: str) -> np.ndarray:
    """Read a bundled picture, float32 (H, W, 3) in 0..1. Raises ``ValueError`` for other names."""
    if name == TEXTURE:
        return terrazzo()
    if name not in _FILES:
        names = ", ".join((*SAMPLES, TEXTURE))
        raise ValueError(f"There is no sample picture {name!r}; choose {names}.")
    with PIL.Image.open(FOLDER / _FILES[name]) as picture:
        return to_floats(np.asarray(picture))


def read_samples(choice: str) -> list[np.ndarray]:
    """Read the bundled picture of this name, or all photographs, cut at their middle to the largest
    size that all have. Raises ``ValueError`` for other names."""
    if choice != ALL:
        return [read_sample(choice)]
    pictures = [read_sample(name) for name in SAMPLES]
    height, width = (min(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    corners = [((p.shape[0] - height) // 2, (p.shape[1] - width) // 2) for p in pictures]
    return [
        picture[top : top + height, left : left + width]
        for picture, (top, left) in zip(pictures, corners, strict=True)
    ]


def views(image: np.ndarray, count: int) -> list[np.ndarray]:
    """Cut ``count`` views of a picture (H, W, C), as the frames of a short video.

    Each is three quarters of the picture, from its upper left to its lower right corner; a single
    one is the whole picture.

    The sides of a view are multiples of 24, so that they are even, as video files want them, also
    when divided by 2, 3 or 4. Raises ``ValueError`` for fewer than one.
    """
    if count < 1:
        raise ValueError(f"There must be at least one frame, got {count}.")
    if count == 1:
        return [image]
    height, width = (side * 3 // 4 // 24 * 24 for side in image.shape[:2])
    found = []
    for index in range(count):
        way = index / (count - 1)
        top, left = round(way * (image.shape[0] - height)), round(way * (image.shape[1] - width))
        found.append(image[top : top + height, left : left + width])
    return found


def degraded(
    image: np.ndarray,
    shrink: int = 1,
    noise: float = 0,
    jpeg_quality: int | None = None,
    gray: bool = False,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Degrade a picture; returns the result and its perfect restoration.

    image: (H, W, 3), float32 in 0..1.
    shrink: divides both sides, by MATLAB's bicubic.
    noise: standard deviation of Gaussian noise, in levels of 255.
    jpeg_quality: libjpeg's, 1 to 100; ``None`` for no compression.
    gray: first reduces the picture to its luma, BT.601.
    seed: of the noise.
    Returns float32 (h, w, 3) and (shrink * h, shrink * w, 3), both in 0..1 and after ``gray``, of
    three equal channels then. Noise and JPEG come after shrinking, in this order. The second is
    the picture itself, less what does not divide by ``shrink`` at its right and lower edge.
    Raises ``ValueError`` where fewer than one pixel would be left, and for other noise and quality
    than ``add_gaussian_noise`` and ``jpeg_compress`` take.
    """
    height, width, channels = image.shape
    if not 1 <= shrink <= min(height, width):
        raise ValueError(
            f"shrink must be 1 to {min(height, width)} for this picture, got {shrink}."
        )
    original = image[: height // shrink * shrink, : width // shrink * shrink]
    if gray:
        original = rgb_to_gray(original)[..., None]
    result = original if shrink == 1 else bicubic_resize(original, 1 / shrink)
    if noise:
        result = add_gaussian_noise(result, noise, np.random.default_rng(seed))
    result = result.clip(0, 1)
    if jpeg_quality is not None:
        result = to_floats(jpeg_compress(to_integers(result), jpeg_quality))
    copies = channels if gray else 1
    return result.repeat(copies, axis=2), original.repeat(copies, axis=2)


def inputs_of_tasks(
    tasks: Iterable[str], scale: int, channels: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make a small input for every kind of damage that models of ``tasks`` repair.

    tasks: of ``SwinIRConfig``.
    scale: output pixels per input pixel along one side.
    channels: 1 or 3.
    Returns pairs of an input and its perfect restoration, float32 (h, w, channels) in 0..1; inputs
    have ``_CROP_SIDE`` pixels a side, fewer where the picture has too few for the scale.
    """
    picture = read_sample(_CROP)
    side = min(_CROP_SIDE, min(picture.shape[:2]) // scale) * scale
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    crop = picture[top : top + side, left : left + side]
    kinds = dict.fromkeys(task.rpartition("_")[2] for task in tasks)
    pairs = (degraded(crop, scale, **_DAMAGE[kind], gray=channels == 1) for kind in kinds)
    return [(low[..., :channels], high[..., :channels]) for low, high in pairs]
