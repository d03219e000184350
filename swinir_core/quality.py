"""How close batches of images come to what they should be, scored as the paper scores them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from . import metrics

_SSIM_LEAST = 11


@dataclass(frozen=True)
class Quality:
    """Means over a batch."""

    psnr: float
    """In dB; infinite where any image equals its reference."""

    ssim: float
    """1 where all do."""

    identical: int
    """How many images equal their references, in the pixels and channels compared."""

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
    """PSNR and SSIM of images, rounded to 8 bits as the paper's are.

    images: (B, H, W, C), floating point in 0..1, C of 1, 3 or 4; alpha is not compared and gray is
    taken as RGB of three equal channels.
    references: (B, H, W, C) or one for all, (1, H, W, C).
    border: pixels ignored on every side; the paper's scores of super-resolution ignore as many as
    the scale.
    y_channel: compares brightness as the paper does for super-resolution, else all three channels.
    scored: called after each image with how many are done and how many there are.
    Raises ``ValueError`` where sizes or counts differ, too little is left inside the border, or
    pixels are no numbers.
    """
    count = len(images)
    if count == 0 or len(references) == 0:
        raise ValueError("There is no image to measure: one of the batches is empty.")
    if len(references) not in (1, count):
        raise ValueError(
            f"Images to measure: {count}, references: {len(references)}; give one reference, or "
            "one for each image."
        )
    height, width = images.shape[1:3]
    if images.shape[1:3] != references.shape[1:3]:
        raise ValueError(
            f"The image has {width}x{height} pixels and the reference "
            f"{references.shape[2]}x{references.shape[1]}; only images of the same size can be "
            "compared."
        )
    most = (min(height, width) - _SSIM_LEAST) // 2
    if most < 0:
        raise ValueError(f"Images must have at least 11x11 pixels, these have {width}x{height}.")
    if not 0 <= border <= most:
        raise ValueError(
            f"border must be 0 to {most} for images of {width}x{height} pixels, got {border}: at "
            "least 11x11 pixels must be left."
        )
    psnr = ssim = 0.0
    identical = 0
    for index, image in enumerate(images):
        pair = _to_levels(image), _to_levels(references[index if len(references) > 1 else 0])
        decibels = metrics.psnr(*pair, border, y_channel)
        psnr += decibels / count
        ssim += metrics.ssim(*pair, border, y_channel) / count
        identical += math.isinf(decibels)
        if scored is not None:
            scored(index + 1, count)
    return Quality(psnr, ssim, identical, count)


def _to_levels(image: Tensor) -> Tensor:
    """(H, W, C) in 0..1 to RGB in uint8, clipped and rounded as the reference implementation
    does it."""
    colors = image[..., :3].cpu().float().expand(-1, -1, 3)
    if not colors.isfinite().all():
        raise ValueError("An image has pixels that are NaN or infinite; it cannot be measured.")
    return colors.clamp(0, 1).mul(255).round().byte()
