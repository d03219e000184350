"""Masks: restoring some pixels of an image and enlarging the others plainly."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError


def stretched(mask: Tensor, height: int, width: int) -> Tensor:
    """Resize a mask (B, h, w) or (h, w) to (B, height, width), bilinearly.

    One of this size is returned unchanged, values beyond 0..1 included. Raises ``ImageError`` for
    another shape.
    """
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise ImageError(f"a mask must be (batch, height, width), got {tuple(mask.shape)}.")
    mask = mask if mask.ndim == 3 else mask[None]
    if mask.shape[1:] == (height, width):
        return mask
    size = (height, width)
    return F.interpolate(limited(mask)[:, None], size, mode="bilinear", antialias=True)[:, 0]


def limited(mask: Tensor) -> Tensor:
    """Convert a mask of any shape to float32 in 0..1 on the CPU, NaN to 0."""
    return mask.float().cpu().nan_to_num(nan=0.0).clamp(0, 1)


def touched(mask: Tensor) -> Tensor:
    """Tell where a mask (H, W) has an effect once it is enlarged: (H, W) booleans."""
    return F.max_pool2d(mask[None], 3, stride=1, padding=1)[0] > 0


def mix(image: Tensor, result: Tensor, mask: Tensor, scale: int) -> None:
    """Blend the enlarged input into a result, in place.

    Args:
        image: (H, W, C) of the input, finite.
        result: (sH, sW, C); kept where the mask is 1, replaced where it is 0.
        mask: (H, W) float32 in 0..1.
        scale: s.
    """
    if scale != 1:
        mask = F.interpolate(mask[None, None], scale_factor=scale, mode="bilinear")[0, 0]
    result.copy_(enlarge(image, scale).lerp_(result, mask[..., None]))


ENLARGE_MARGIN = 2
"""Input rows beyond the edge of a part by which it is enlarged as in the whole image."""


def enlarge(image: Tensor, scale: int) -> Tensor:
    """(H, W, C), finite, to (scale * H, scale * W, C) float32 in 0..1 on the CPU, bicubically.

    As ``F.interpolate`` does it, but to the last bit the same wherever in an image a pixel lies;
    that computes its coordinates in float32.
    """
    # Limited before as well, because sums of very large values overflow to NaN.
    image = image.float().cpu().clamp(0, 1)
    if scale == 1:
        return image
    return _enlarge_side(_enlarge_side(image, 0, scale), 1, scale).clamp_(0, 1)


def _enlarge_side(x: Tensor, side: int, scale: int) -> Tensor:
    length = x.shape[side]
    edges = x.narrow(side, 0, 1), x.narrow(side, length - 1, 1)
    padded = torch.cat([edges[0], edges[0], x, edges[1], edges[1]], side)
    out = x.new_empty((*x.shape[: side + 1], scale, *x.shape[side + 1 :]))
    for phase in range(scale):
        position = (phase + 0.5) / scale - 0.5
        left = math.floor(position)
        part = out.select(side + 1, phase).zero_()
        for pixel in range(left - 1, left + 3):
            part += padded.narrow(side, pixel + 2, length) * _cubic(abs(position - pixel))
    return out.flatten(side, side + 1)


def _cubic(distance: float) -> float:
    """Keys 1981 (doi 10.1109/TASSP.1981.1163711), equation 8, with the -0.75 of PyTorch."""
    a, d = -0.75, distance
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4)
