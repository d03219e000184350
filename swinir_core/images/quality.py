"""Scores of batches of images against their references, by the paper's metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from . import metrics
from .color import to_channels, without_alpha
from .levels import to_integers


@dataclass(frozen=True)
class Quality:
    """Mean scores over a batch."""

    psnr: float
    """In dB; infinite where any image equals its reference."""

    ssim: float
    """1 where all images equal their references."""

    identical: int
    """Number of images that equal their references in the pixels and channels compared."""

    count: int

    def __str__(self) -> str:
        """Two short lines, or "identical"."""
        if self.identical == self.count:
            return "identical"
        psnr = f"PSNR {self.psnr:.2f} dB"
        if self.identical:
            psnr = f"PSNR infinite, {self.identical} of {self.count} images are identical"
        return f"{psnr}\nSSIM {self.ssim:.4f}"


def compare(
    images: Tensor,
    references: Tensor,
    border: int = 0,
    y_channel: bool = True,
    scored: Callable[[int, int], None] | None = None,
) -> Quality:
    """Compute PSNR and SSIM of images, rounded to 8 bits as the paper's are.

    images: (B, H, W, C), floating point in 0..1, C of 1 (gray), 2 (gray, alpha), 3 (RGB) or 4
    (RGB, alpha); alpha is not compared and gray is taken as RGB of three equal channels.
    references: (B, H, W, C) or one for all, (1, H, W, C).
    border: pixels ignored on every side; the paper's scores of super-resolution ignore as many as
    the scale.
    y_channel: compares brightness as the paper does for super-resolution, else all three channels.
    scored: called after each image with how many are done and how many there are.
    Raises ``ValueError`` where sizes or counts differ, too little is left inside the border,
    images have more channels or another type, or pixels are NaN, infinite or far outside 0..1.
    """
    for batch in (images, references):
        if batch.ndim != 4 or not batch.is_floating_point():
            raise ValueError(
                f"Images to measure must be (batch, height, width, channels) of floats in 0..1, "
                f"got {tuple(batch.shape)} of {str(batch.dtype).removeprefix('torch.')}."
            )
    count = len(images)
    if count == 0 or len(references) == 0:
        raise ValueError("There is no image to measure: one of the batches is empty.")
    if len(references) not in (1, count):
        raise ValueError(
            f"Images to measure: {count}, references: {len(references)}; give one reference, or "
            "one for each image."
        )
    if images.shape[1:3] != references.shape[1:3]:
        raise ValueError(
            f"The image has {images.shape[2]}x{images.shape[1]} pixels and the reference "
            f"{references.shape[2]}x{references.shape[1]}; only images of the same size can be "
            "compared."
        )
    psnr = ssim = 0.0
    identical = 0
    for index, image in enumerate(images):
        pair = _rgb_levels(image), _rgb_levels(references[index if len(references) > 1 else 0])
        # SSIM first, which needs more pixels and says so.
        ssim += metrics.ssim(*pair, border, y_channel) / count
        decibels = metrics.psnr(*pair, border, y_channel)
        psnr += decibels / count
        identical += math.isinf(decibels)
        if scored is not None:
            scored(index + 1, count)
    return Quality(psnr, ssim, identical, count)


def _rgb_levels(image: Tensor) -> np.ndarray:
    """Convert (H, W, C) in 0..1 to RGB in uint8, of which scores are. Raises ``ValueError``."""
    if not 1 <= image.shape[-1] <= 4:
        raise ValueError(
            f"An image to measure must have 1 to 4 channels, this one has {image.shape[-1]}."
        )
    colors = without_alpha(image).cpu().float()
    metrics.check_values(colors)
    return to_channels(to_integers(colors.numpy()), 3)
