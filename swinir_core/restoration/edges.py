"""The surroundings of an image that a network sees beyond its edges."""

from __future__ import annotations

import torch
from torch import Tensor

from ..choices import EDGES

WRAPPED = {
    edges: (
        edges in ("wrapped", "wrapped vertically"),
        edges in ("wrapped", "wrapped horizontally"),
    )
    for edges in EDGES
}
"""Whether the image continues from its bottom to its top, and from its right to its left."""

_MIRRORED = 8
"""Input pixels. The error that an edge makes falls about tenfold every four of them."""


def margins(edges: str, overlap: int) -> tuple[int, int]:
    """Count the input pixels that are added above and below, and at the left and right.

    Args:
        edges: One of ``EDGES``.
        overlap: Input pixels that tiles share, within which an edge is no longer felt.
    """
    if edges == "mirrored":
        return _MIRRORED, _MIRRORED
    rows, columns = WRAPPED[edges]
    return overlap * rows, overlap * columns


def positions(start: int, stop: int, length: int, wrapped: bool = False) -> Tensor:
    """Find the pixels that are seen from ``start`` to ``stop`` along a side of ``length`` pixels,
    which may lie beyond it: (stop - start,) integers from 0 to ``length`` - 1."""
    position = torch.arange(start, stop) % (length if wrapped else 2 * length)
    return torch.minimum(position, 2 * length - 1 - position)
