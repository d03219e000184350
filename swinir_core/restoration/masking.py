"""Masks: restoring some pixels of an image and enlarging the others plainly."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError
from ..images.resize import enlarge


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
