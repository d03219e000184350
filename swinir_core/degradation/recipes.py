"""Network inputs made from good images, one ``Degradation`` for each task.

Good images are uint8 (scale*H, scale*W, C), inputs float32 (H, W, C) in 0..1; noise is
neither clipped nor rounded. The fixed inputs are those of the reference implementation
(https://github.com/JingyunLiang/SwinIR, main_test_swinir.py); for real-world super-resolution, for
which the paper gives no scores, they are blind degradations with given seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..images.color import rgb_to_gray, rgb_to_y, to_channels
from ..images.levels import to_floats
from ..images.metrics import JPEG_BLOCK
from ..images.resize import bicubic_resize
from .blind import degrade_blindly
from .noise_and_jpeg import add_gaussian_noise, jpeg_compress

NOISE_SEED = 0


@dataclass(frozen=True)
class Degradation:
    """The damage that a task repairs, as made of good images."""

    random_input: Callable[[np.ndarray, np.random.Generator, int, Any], np.ndarray]
    """Makes an input for training.

    Args: the good image, or a patch of it with ``margin * scale`` pixels around; a generator, which
    decides on everything random; the scale; and the lowest and highest level as a pair, ``None``
    for tasks without."""

    fixed_input: Callable[[np.ndarray, int, int, Any], np.ndarray]
    """Makes an input for evaluation and validation, which depends on the arguments only.

    Args: the good image; the seed, of the blind degradation only; the scale; the level, ``None``
    for tasks without."""

    margin: int = 0
    """Input pixels around a patch on which its degradation depends."""

    luma: Callable[[np.ndarray], np.ndarray] = rgb_to_gray
    """By which the reference implementation makes the good images of a gray test set."""

    level: str | None = None
    """Setting of the level: ``sigma``, the deviation of the noise in levels of 255, or ``quality``
    of the JPEG file, 1 to 100."""


def _shrink(high: np.ndarray, _random: object, scale: int, _level: None) -> np.ndarray:
    return to_floats(bicubic_resize(high, 1 / scale))


def _degrade(high: np.ndarray, random: np.random.Generator, scale: int, _level: None) -> np.ndarray:
    return degrade_blindly(to_floats(high), scale, random)


def _degrade_by_seed(high: np.ndarray, seed: int, scale: int, _level: None) -> np.ndarray:
    return degrade_blindly(to_floats(high), scale, np.random.default_rng(seed))


def _add_noise(
    high: np.ndarray, random: np.random.Generator, _scale: int, sigma: tuple[float, float]
) -> np.ndarray:
    return add_gaussian_noise(to_floats(high), sigma, random)


def _add_fixed_noise(high: np.ndarray, _seed: int, _scale: int, sigma: float) -> np.ndarray:
    noise = np.random.RandomState(NOISE_SEED).normal(0, sigma / 255, high.shape)
    # The reference implementation adds it to blue, green and red.
    return (to_floats(high) + noise[..., ::-1]).astype(np.float32)


def _compress(
    high: np.ndarray, random: np.random.Generator, _scale: int, quality: tuple[int, int]
) -> np.ndarray:
    # Patches lie anywhere in the grid of blocks, or the network would learn where the blocks begin.
    top, left = random.integers(JPEG_BLOCK, size=2)
    low = high.copy()
    low[top:, left:] = jpeg_compress(np.ascontiguousarray(high[top:, left:]), quality, random)
    return to_floats(low)


def _compress_whole(high: np.ndarray, _seed: int, _scale: int, quality: int) -> np.ndarray:
    return to_floats(jpeg_compress(np.ascontiguousarray(high), quality))


DEGRADATIONS = {
    # MATLAB's bicubic, shrinking, reaches 2 * scale pixels of the good image to either side.
    "sr": Degradation(_shrink, _shrink, margin=2),
    "real_sr": Degradation(_degrade, _degrade_by_seed, margin=2),
    "denoise": Degradation(_add_noise, _add_fixed_noise, level="sigma"),
    "jpeg": Degradation(
        _compress, _compress_whole, margin=JPEG_BLOCK, luma=rgb_to_y, level="quality"
    ),
}
"""By task."""


def good_image(levels: np.ndarray, task: str, channels: int) -> np.ndarray:
    """Convert an image of a test set to the channels of its task.

    levels: uint8 (H, W, 1 to 4).
    channels: 1 or 3.
    Returns uint8 (H, W, channels). Colour becomes gray by the luma of the task.
    """
    return to_channels(levels, channels, DEGRADATIONS[task].luma)
