"""Restoring a part of an image only."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError
from ..images.resize import enlarge


def fit(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (B, h, w) or (h, w) stretched to (B, height, width) float32 in 0..1 on the CPU.

    Raises ``ImageError`` for what is no mask.
    """
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise ImageError(f"a mask must be (batch, height, width), got {tuple(mask.shape)}.")
    mask = limited(mask if mask.ndim == 3 else mask[None])
    if mask.shape[1:] == (height, width):
        return mask
    return F.interpolate(mask[:, None], (height, width), mode="bilinear", antialias=True)[:, 0]


def limited(mask: Tensor) -> Tensor:
    """``mask`` as float32 in 0..1 on the CPU; what is not a number is 0."""
    return mask.float().cpu().nan_to_num(nan=0.0).clamp(0, 1)


def spread(mask: Tensor) -> Tensor:
    """Where ``mask`` (B, H, W) has an effect once it is enlarged: (B, H, W) booleans."""
    return F.max_pool2d(mask[:, None], 3, stride=1, padding=1)[:, 0] > 0


def mix(image: Tensor, result: Tensor, mask: Tensor, scale: int) -> None:
    """Put ``image`` (H, W, C), enlarged, in the place of ``result`` (sH, sW, C) where ``mask``
    (H, W) is 0, in proportion between, and leave it where ``mask`` is 1."""
    if scale != 1:
        mask = F.interpolate(mask[None, None], scale_factor=scale, mode="bilinear")[0, 0]
    result.copy_(enlarge(image, scale).lerp_(result, mask[..., None]))
