"""Damage of a picture, estimated from its pixels alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .blocks import BLOCK, luma, sampled
from .jpeg_quality import NO_JPEG, estimate_jpeg_quality
from .noise_level import estimate_noise
from .sharpness import estimate_blur

SMALLEST_SIDE = 4 * BLOCK

_GRAY_OF_COLOUR = 0.669
"""Standard deviation of luma where that of each of the three channels is 1: root of the sum of the
squares of the weights."""


@dataclass(frozen=True)
class Look:
    """The damage of a picture."""

    sigma: float
    """Standard deviation of noise, in levels of 255, as of Gaussian noise in every channel."""

    jpeg_quality: int
    """libjpeg's quality of the last JPEG file; 100 without sign of one."""

    blur: float
    """Standard deviation of a Gaussian blur in pixels; about 0.5 for sharp pictures, 0 if there are
    no edges to tell."""

    gray: bool
    """True where all channels are equal."""

    def __str__(self) -> str:
        jpeg = "none" if self.jpeg_quality == NO_JPEG else f"quality {self.jpeg_quality}"
        blur = f"{self.blur:.1f} pixels" if self.blur else "no edges to tell"
        return f"Noise: sigma {self.sigma:.1f}\nJPEG: {jpeg}\nBlur: {blur}"


def look(image: np.ndarray) -> Look:
    """Estimate the damage of a picture, in a time that does not grow with its size.

    image: (H, W, 1 to 4) floats in 0..1, rounded to 8 bits as they had been, or uint8; gray, gray
    and alpha, RGB, or RGB and alpha, which is not looked at. At least 32 pixels a side.
    JPEG files hold less noise of colours than pictures had before, so where one shows the noise is
    measured in luma. Raises ``ValueError`` for other images and pixels that are NaN.
    """
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4:
        raise ValueError(f"An image to look at must be (H, W, 1 to 4), got {image.shape}.")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"An image to look at must have at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels, "
            f"this one has {width} x {height}."
        )
    squares = sampled(image)
    gray = squares[0].shape[2] == 1
    quality = estimate_jpeg_quality(squares)
    if quality == NO_JPEG or gray:
        sigma = estimate_noise(squares)
    else:
        lumas = [np.rint(luma(square)).astype(np.uint8)[..., None] for square in squares]
        sigma = estimate_noise(lumas) / _GRAY_OF_COLOUR
    return Look(sigma, quality, estimate_blur(squares, sigma), gray)
