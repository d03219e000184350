"""Network inputs made from good images, for each task: random ones for training, fixed ones for
evaluation and validation.

Good images are uint8 (scale*H, scale*W, C), inputs float32 (H, W, C) in 0..1; noise is
neither clipped nor rounded. The fixed inputs are those of the reference implementation
(https://github.com/JingyunLiang/SwinIR, main_test_swinir.py); for real-world super-resolution, for
which the paper gives no scores, they are blind degradations with given seeds.
"""

from __future__ import annotations

import numpy as np

from ..images.color import rgb_to_gray, rgb_to_y, to_channels
from ..images.levels import to_floats
from ..images.metrics import JPEG_BLOCK
from ..images.resize import bicubic_resize
from .blind import degrade_blindly
from .noise_and_jpeg import add_gaussian_noise, jpeg_compress

TASKS = ("sr", "real_sr", "denoise", "jpeg")
NOISE_SEED = 0

MARGINS = {"sr": 2, "real_sr": 2, "denoise": 0, "jpeg": JPEG_BLOCK}
"""Input pixels around a patch on which its degradation depends. MATLAB's bicubic, shrinking,
reaches 2 * scale pixels of the good image to either side."""


def random_input(
    high: np.ndarray,
    random: np.random.Generator,
    task: str,
    scale: int = 1,
    sigma: tuple[float, float] | None = None,
    quality: tuple[int, int] | None = None,
) -> np.ndarray:
    """Make an input for training.

    high: the good image, or a patch of it with ``MARGINS[task] * scale`` pixels around.
    random: decides on everything random; a generator in the same state gives the same bytes.
    task: one of ``TASKS``.
    sigma: lowest and highest deviation of the noise in levels of 255, for denoising only.
    quality: lowest and highest quality of the JPEG file, 1 to 100, for JPEG only.
    """
    if task == "sr":
        return to_floats(bicubic_resize(high, 1 / scale))
    if task == "real_sr":
        return degrade_blindly(to_floats(high), scale, random)
    if sigma is not None:
        return add_gaussian_noise(to_floats(high), sigma, random)
    assert quality is not None
    # Patches lie anywhere in the grid of blocks, or the network would learn one place by heart.
    top, left = random.integers(JPEG_BLOCK, size=2)
    low = high.copy()
    low[top:, left:] = jpeg_compress(np.ascontiguousarray(high[top:, left:]), quality, random)
    return to_floats(low)


def fixed_input(
    high: np.ndarray,
    seed: int,
    task: str,
    scale: int = 1,
    sigma: float | None = None,
    quality: int | None = None,
) -> np.ndarray:
    """Make an input for evaluation and validation, which depends on the arguments only.

    high: the good image.
    seed: of the blind degradation, for real-world super-resolution only.
    task, sigma, quality: as for ``random_input``, but one level.
    """
    if sigma is not None:
        noise = np.random.RandomState(NOISE_SEED).normal(0, sigma / 255, high.shape)
        # The reference implementation adds it to blue, green and red.
        return (to_floats(high) + noise[..., ::-1]).astype(np.float32)
    if quality is not None:
        return to_floats(jpeg_compress(np.ascontiguousarray(high), quality))
    return random_input(high, np.random.default_rng(seed), task, scale)


def good_image(levels: np.ndarray, task: str, channels: int) -> np.ndarray:
    """Convert an image of a test set to the channels of its task.

    levels: uint8 (H, W, 1 to 4).
    channels: 1 or 3.
    Returns uint8 (H, W, channels). Colour becomes gray by the luma that the reference
    implementation takes: of video range for JPEG, of full range for denoising.
    """
    return to_channels(levels, channels, rgb_to_y if task == "jpeg" else rgb_to_gray)
