"""How blurred a picture is at its sharpest edges."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .blocks import luma

_SQUARES = 32
_REACH = 8
"""Pixels to either side in which an edge has its darkest and brightest."""

_CONTRAST = 40.0
_SIGMAS = 8.0
"""An edge is higher than so many levels, and than so many standard deviations of the noise."""

_FEWEST = 40
_SHARPEST = 0.1
"""Share of the edges that are as sharp as the picture is: others may be out of focus."""


def estimate_blur(squares: Sequence[np.ndarray], sigma: float = 0.0) -> float:
    """Estimate the standard deviation, in pixels, of a Gaussian that blurs an edge as much as the
    sharpest edges of a picture are.

    squares: uint8 (h, w, 1 or 3).
    sigma: of the noise, in levels of 255.
    Returns about 0.4 for edges from one pixel to the next; 0 where there are too few edges to tell.
    """
    least = max(_CONTRAST, _SIGMAS * sigma)
    planes = [luma(square) for square in squares[:: max(len(squares) // _SQUARES, 1)]]
    widths = [_widths(side, least) for plane in planes for side in (plane, plane.T)]
    found = np.concatenate(widths)
    return float(np.quantile(found, _SHARPEST)) if len(found) >= _FEWEST else 0.0


def _widths(plane: np.ndarray, least: float) -> np.ndarray:
    """Compute the standard deviations of the edges across rows of (h, w) higher than ``least``.

    An edge of height c that a Gaussian has blurred is at most c / (s sqrt(2 pi)) steep.
    """
    if plane.shape[1] <= 2 * _REACH:
        return np.empty(0, np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(plane, 2 * _REACH, axis=1)
    slope = np.abs(np.diff(plane, axis=1))
    middle = slope[:, _REACH - 1 : _REACH - 1 + windows.shape[1]]
    candidates = middle > least / (4 * math.sqrt(2 * math.pi))
    windows, middle = windows[candidates], middle[candidates]
    height = windows.max(axis=1) - windows.min(axis=1)
    steepest = np.abs(np.diff(windows, axis=1)).max(axis=1) == middle
    edges = steepest & (height > least)
    return height[edges] / (middle[edges] * math.sqrt(2 * math.pi))
