"""The surroundings of an image that a network sees beyond its edges."""

from __future__ import annotations

import torch
from torch import Tensor

EDGES = ("network", "mirrored")
"""``network``: what the network itself puts there, mostly black, as the official one does;
``mirrored``: the image mirrored."""

_MARGIN = 8
"""Input pixels. The error that an edge makes falls about tenfold every four of them."""


def margin(edges: str) -> int:
    """Count the input pixels that are added on every side."""
    return 0 if edges == "network" else _MARGIN


def positions(start: int, stop: int, length: int) -> Tensor:
    """Find the pixels that are seen from ``start`` to ``stop`` along a side of ``length`` pixels,
    which may lie beyond it: (stop - start,) integers from 0 to ``length`` - 1."""
    position = torch.arange(start, stop) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)
