"""Masks: restoring some pixels of an image and enlarging the others plainly."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError
from ..images.neighbours import continued
from ..images.resize import enlarged_bands
from ..reports import Report, to_nobody


def stretched(
    mask: Tensor, height: int, width: int, wrapped: tuple[bool, bool] = (False, False)
) -> Tensor:
    """Resize a mask (B, h, w) or (h, w) to (B, height, width), bilinearly.

    ``wrapped`` tells whether it continues from bottom to top, and from right to left. One of this
    size is returned unchanged, values beyond 0..1 included. Raises ``ImageError`` for another
    shape.
    """
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise ImageError(f"a mask must be (batch, height, width), got {tuple(mask.shape)}.")
    mask = mask if mask.ndim == 3 else mask[None]
    if mask.shape[1:] == (height, width):
        return mask
    mask, size, inside = limited(mask), [], []
    for side, (wraps, length) in enumerate(zip(wrapped, (height, width), strict=True), start=1):
        # The least pixels that become whole ones are as many as the filter reaches, or more.
        pixels = math.gcd(mask.shape[side], length)
        margin, beyond = mask.shape[side] // pixels * wraps, length // pixels * wraps
        mask = continued(mask, margin, side)
        size.append(length + 2 * beyond)
        inside.append(slice(beyond, beyond + length))
    resized = F.interpolate(mask[:, None], size, mode="bilinear", antialias=True)[:, 0]
    return resized[:, inside[0], inside[1]]


def limited(mask: Tensor) -> Tensor:
    """Convert a mask of any shape to float32 in 0..1 on the CPU, NaN to 0."""
    return mask.float().cpu().nan_to_num(nan=0.0).clamp(0, 1)


def touched(mask: Tensor, wrapped: tuple[bool, bool], reach: int = 1) -> Tensor:
    """Tell where a mask (H, W) has an effect: (H, W) booleans.

    ``reach`` is how many pixels away it has one; 1 where it is enlarged.
    """
    around, inside = _around(mask, wrapped, reach)
    return F.max_pool2d(around[None], 2 * reach + 1, stride=1, padding=reach)[0][inside] > 0


def enlarged(mask: Tensor, scale: int, wrapped: tuple[bool, bool]) -> Tensor:
    """Enlarge a mask (H, W) to (scale * H, scale * W), bilinearly."""
    if scale == 1:
        return mask
    around, inside = _around(mask, wrapped, 1, scale)
    return F.interpolate(around[None, None], scale_factor=scale, mode="bilinear")[0, 0][inside]


def _around(
    mask: Tensor, wrapped: tuple[bool, bool], margin: int, scale: int = 1
) -> tuple[Tensor, tuple[slice, ...]]:
    """Continue a mask by ``margin`` pixels beyond the edges that are wrapped. Returns it, and where
    the mask lies in it once it is enlarged."""
    inside = []
    for side, wraps in enumerate(wrapped):
        beyond = margin * wraps
        inside.append(slice(scale * beyond, scale * (mask.shape[side] + beyond)))
        mask = continued(mask, beyond, side)
    return mask, tuple(inside)


def mix(
    image: Tensor,
    result: Tensor,
    mask: Tensor,
    scale: int,
    wrapped: tuple[bool, bool],
    report: Report = to_nobody,
) -> None:
    """Blend the enlarged input into a result, in place.

    Args:
        image: (H, W, C) of the input, finite.
        result: (sH, sW, C); kept where the mask is 1, replaced where it is 0.
        mask: (H, W) float32 in 0..1.
        scale: s.
        wrapped: Whether the image continues from bottom to top, and from right to left.
        report: Called before every band of rows.
    """
    mask = enlarged(mask, scale, wrapped)
    for top, band in enlarged_bands(image, scale, wrapped):
        report(top / len(result))
        rows = slice(top, top + len(band))
        result[rows] = band.lerp_(result[rows], mask[rows, :, None])
