"""Colours under transparency, which a network sees although nobody else does."""

from __future__ import annotations

import torch
from torch import Tensor

from ..images.neighbours import limit, neighbour_bounds, smooth

SPREAD = 31
"""Pixels over which colours are spread at most."""

_VISIBLE = 1 / 32
"""Alpha from which a colour is kept as it is; fewer levels of it say little about its colour."""


def has_alpha(channels: int) -> bool:
    """Tell whether the last of 1 to 4 channels is alpha."""
    return channels in (2, 4)


def spread_colors(image: Tensor, wrapped: tuple[bool, bool] = (False, False)) -> Tensor:
    """Give transparent pixels the colours of the visible ones around them.

    Otherwise the network, and bicubic enlargement alike, would let what is stored there, mostly
    black, into the visible pixels beside it.

    Args:
        image: (H, W, 1 to 4), finite; returned as it is where it has no alpha.
        wrapped: Whether it continues from bottom to top, and from right to left.

    Returns:
        (H, W, 1 or 3): the colours. Pixels farther than ``SPREAD`` from all visible ones, and those
        that are visible, keep their own.
    """
    if not has_alpha(image.shape[-1]):
        return image
    colors, alpha = image[..., :-1], image[..., -1:].float().cpu().clamp(0, 1)
    if (alpha >= _VISIBLE).all():
        return colors
    own = colors.float().cpu().clamp(0, 1)
    weighted = torch.cat([own * alpha, alpha], -1)
    spread = own
    for width in (32, 16, 8, 4, 2):  # The nearest visible pixels come last.
        sums = smooth(weighted, width, wrapped)
        mean = sums[..., :-1] / sums[..., -1:].clamp(min=1e-6)
        spread = torch.where(sums[..., -1:] > 1e-6, mean, spread)
    faint = spread.lerp_(own, (alpha / _VISIBLE).clamp(max=1)).to(colors)
    return torch.where(alpha.to(colors.device) >= _VISIBLE, colors, faint)


def limit_alpha(
    result: Tensor,
    alpha: Tensor,
    scale: int,
    above: int = 0,
    wrapped: tuple[bool, bool] = (False, False),
) -> Tensor:
    """Keep restored alpha near that of the image: what is opaque, or fully transparent, stays so
    exactly, which no network does by itself.

    Args:
        result: (sh, sW, 1).
        alpha: (H, W, 1) of the image, finite: its rows, with a row above and below, if there is.
        scale: s.
        above: Rows of ``alpha`` above those of the result.
        wrapped: Whether ``alpha`` continues from bottom to top, and from right to left.

    Returns:
        (sh, sW, 1) in 0..1.
    """
    rows = slice(above, above + len(result) // scale)
    least, largest = neighbour_bounds(alpha.float().cpu().clamp(0, 1), wrapped)
    return limit(result, (least[rows], largest[rows]), scale).clamp_(0, 1)
