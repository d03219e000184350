"""Restoring a part of an image only."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fit(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (B, h, w) or (h, w) stretched to (B, height, width) float32 on the CPU."""
    mask = (mask if mask.ndim == 3 else mask[None]).float().cpu()
    if mask.shape[1:] == (height, width):
        return mask
    return F.interpolate(mask[:, None], (height, width), mode="bilinear", antialias=True)[:, 0]


def spread(mask: Tensor) -> Tensor:
    """Where ``mask`` (B, H, W) has an effect once it is enlarged: (B, H, W) booleans."""
    return F.max_pool2d(mask[:, None], 3, stride=1, padding=1)[:, 0] > 0


def mix(image: Tensor, result: Tensor, mask: Tensor, scale: int) -> None:
    """Put ``image`` (H, W, C), enlarged, in the place of ``result`` (sH, sW, C) where ``mask``
    (H, W) is 0, in proportion between, and leave it where ``mask`` is 1."""
    if scale != 1:
        mask = F.interpolate(mask[None, None], scale_factor=scale, mode="bilinear")[0, 0]
    result.copy_(enlarge(image, scale).lerp_(result, mask[..., None]))


def enlarge(image: Tensor, scale: int) -> Tensor:
    """(H, W, C) in 0..1 to (scale * H, scale * W, C) float32 on the CPU, bicubically."""
    image = image.float().cpu()
    if scale == 1:
        return image.clone()
    x = image.movedim(-1, 0)[None]
    return F.interpolate(x, scale_factor=scale, mode="bicubic")[0].movedim(0, -1).clamp(0, 1)
