"""Colours of the input, given back to a restored image.

Networks shift colours, most of all those trained to invent detail: by some levels over whole areas,
by far more between the channels of a gray picture. The slow changes of all channels are therefore
taken from the input, over the whole image, so that tiles make no difference; and the difference of
the channels is kept near what it is in the surroundings, so that gray stays gray.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..images.color import rgb_to_gray
from ..images.neighbours import limit, neighbour_bounds, rows_around, smooth
from ..images.resize import ENLARGE_MARGIN, stretch
from ..reports import Report, to_nobody

_WIDTH = 16
"""Input pixels, half the base of the triangle that passes what counts as slow: noise of 25 levels
comes through as one level."""

COLOR_MARGIN = _WIDTH - 1 + ENLARGE_MARGIN
"""Input rows above and below of which those of a result depend."""

_STRIP = 64
"""Input rows that are corrected at a time."""


def shrink(result: Tensor, scale: int) -> Tensor:
    """Average (sH, sW, C) over the parts of every input pixel: (H, W, C)."""
    height, width, channels = result.shape
    parts = result.reshape(height // scale, scale, width // scale, scale, channels)
    # Added one by one, because the order of ``mean`` depends on the size.
    total = sum(parts[:, i, :, j] for i in range(scale) for j in range(scale))
    assert isinstance(total, Tensor)
    return total / scale**2


def keep_colors(
    result: Tensor,
    image: Tensor,
    shrunk: Tensor,
    scale: int,
    weights: Tensor | None = None,
    above: int = 0,
    wrapped: tuple[bool, bool] = (False, False),
    report: Report = to_nobody,
) -> None:
    """Give the colours of an image to a result, in place.

    Args:
        result: (sh, sW, C) in 0..1, C of 1 or 3: the whole result, or some of its rows.
        image: (H, W, C) in 0..1: the input of these rows, with ``COLOR_MARGIN`` rows above and
            below, as far as there are any.
        shrunk: (H, W, C): the result of the same rows by ``shrink``.
        scale: s.
        weights: (H, W) in 0..1: how much of the result is there; by default all.
        above: Input rows above those of the result.
        wrapped: Whether the image continues from bottom to top, and from right to left.
        report: Called before every strip of rows.
    """
    weights = torch.ones(image.shape[:2]) if weights is None else weights
    height = len(result) // scale
    for start in range(0, height, _STRIP):
        report(start / height)
        rows = result[start * scale : (start + _STRIP) * scale]
        first = above + start
        stop = first + len(rows) // scale
        (seen, before), (small, _), (share, _) = (
            rows_around(part, first, stop, COLOR_MARGIN, wrapped[0])
            for part in (image, shrunk, weights)
        )
        own = slice(before, before + stop - first)
        _keep_colors(rows, seen, small, share, scale, own, wrapped[1])


def _keep_colors(
    rows: Tensor,
    image: Tensor,
    shrunk: Tensor,
    weights: Tensor,
    scale: int,
    own: slice,
    wraps: bool,
) -> None:
    """Give colours to ``own`` rows of an image, of which the others are only looked at and which
    may wrap from right to left."""
    wrapped = (False, wraps)
    weighted = torch.cat([(image - shrunk) * weights[..., None], weights[..., None]], -1)
    sums = smooth(weighted, _WIDTH, wrapped)
    slow = sums[..., :-1] / sums[..., -1:].clamp(min=1e-6)
    seen, above = rows_around(slow, own.start, own.stop, ENLARGE_MARGIN, False)
    rows += stretch(seen, scale, wrapped)[above * scale :][: len(rows)]
    if image.shape[-1] == 3:
        least, largest = neighbour_bounds(_to_differences(image), wrapped)
        luma, between = rgb_to_gray(rows), (least[own], largest[own])
        rows.copy_(_to_rgb(luma, limit(_to_differences(rows), between, scale)))
    rows.clamp_(0, 1)


def _to_differences(rgb: Tensor) -> Tensor:
    """Subtract luma from red and blue: (H, W, 3) to (H, W, 2), zero where it is gray."""
    return rgb[..., ::2] - rgb_to_gray(rgb)[..., None]


def _to_rgb(luma: Tensor, differences: Tensor) -> Tensor:
    """(H, W) and (H, W, 2) from ``_to_differences`` to (H, W, 3)."""
    red, blue = differences.unbind(-1)
    green = (red * 0.299 + blue * 0.114) / -0.587
    return torch.stack([red, green, blue], -1) + luma[..., None]
