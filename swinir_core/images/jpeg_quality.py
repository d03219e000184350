"""The quality of the JPEG file that a picture was last saved as, told from its pixels.

Coefficients of a JPEG file are multiples of steps. Where a picture was decoded from one and not
changed since, the luma of its blocks shows them but for the rounding of pixels. For each of the 64
places that the grid of blocks may have, and each quality, the likelihood of the coefficients is
compared with that of coefficients of no file; the steps are those of libjpeg's standard table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from .blocks import BLOCK, cut_blocks, luma, transform

NO_JPEG = 100
"""The quality of a picture that shows no steps: files of 98 and more leave none to be seen."""

_LUMA_STEPS = np.array(
    [
        [16, 11, 10, 16, 24],
        [12, 12, 14, 19, 26],
        [14, 13, 16, 24, 40],
        [14, 17, 22, 29, 51],
        [18, 22, 37, 56, 68],
    ]
)
"""Table K.1 of ITU-T T.81, the frequencies that are looked at."""

_LOW = len(_LUMA_STEPS)
_ORDER = np.add.outer(np.arange(_LOW), np.arange(_LOW))
_USED = (_ORDER > 0) & (_ORDER < _LOW)
_BINS_A_LEVEL = 8
_HIGHEST = 256
_SMALLEST = 1.5
"""Coefficients below say nothing: those of smooth places are small without any file."""

_ROUNDING = 0.42
"""Standard deviation in a coefficient of luma, of what rounding of pixels has added twice."""

_OUTLIERS = 0.05
_SQUARES_A_GRID, _BLOCKS_A_GRID, _MOST_BLOCKS = 16, 500, 8000
"""Squares and blocks by which the grid is found, and then blocks for the quality."""

_EVIDENCE = 60.0
"""Logarithm of how many times more likely a file must be than none, and its grid than another."""


def estimate_jpeg_quality(squares: Sequence[np.ndarray]) -> int:
    """Estimate libjpeg's quality, 1 to 97, of the last JPEG file; 100 without sign of one.

    squares: uint8 (h, w, 1 or 3), whose corners lie at multiples of 8 pixels in the picture.
    """
    planes = [(luma(square), ((square == 0) | (square == 255)).any(2)) for square in squares]
    grids = [(y, x) for y in range(BLOCK) for x in range(BLOCK)]
    some = planes[:: max(len(planes) // _SQUARES_A_GRID, 1)]
    evidence = _evidence([_coefficients(some, *grid, _BLOCKS_A_GRID) for grid in grids])
    first, second = np.sort(evidence.max(axis=1))[:-3:-1]
    if first - second < _EVIDENCE:
        return NO_JPEG
    best = grids[int(evidence.max(axis=1).argmax())]
    (of_quality,) = _evidence([_coefficients(planes, *best, _MOST_BLOCKS)])
    return int(of_quality.argmax()) + 1 if of_quality.max() > _EVIDENCE else NO_JPEG


def _coefficients(
    planes: Sequence[tuple[np.ndarray, np.ndarray]], y: int, x: int, most: int
) -> np.ndarray:
    """Compute the coefficients (n, frequencies) of blocks whose grid begins at row y, column x.

    planes: luma and where a channel is black or white, which has lost what was beyond.
    At most ``most`` blocks are taken, spread evenly.
    """
    blocks = [
        cut_blocks(plane[y:, x:])[~cut_blocks(clipped[y:, x:]).any(axis=(1, 2))]
        for plane, clipped in planes
        if min(plane.shape) >= 2 * BLOCK
    ]
    found = np.concatenate([np.empty((0, BLOCK, BLOCK), np.float32), *blocks])
    if len(found) > most:
        found = found[np.linspace(0, len(found) - 1, most).astype(int)]
    return transform(found, _LOW)[:, _USED]


def _evidence(grids: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the logarithm of likelihood ratios (grids, qualities from 1 to 97) of a file."""
    frequencies = int(_USED.sum())
    counts = np.zeros((len(grids), frequencies, _HIGHEST * _BINS_A_LEVEL), np.float32)
    for grid, coefficients in enumerate(grids):
        bins = np.rint(np.abs(coefficients) * _BINS_A_LEVEL).astype(int)
        for frequency in range(frequencies):
            found = np.bincount(bins[:, frequency], minlength=counts.shape[2])
            counts[grid, frequency] = found[: counts.shape[2]]
    by_step = counts @ _log_ratios()
    return by_step[:, np.arange(frequencies), _steps()].sum(axis=2)


@cache
def _steps() -> np.ndarray:
    """The steps (qualities, frequencies) of libjpeg at qualities 1 to 97."""
    quality = np.arange(1, NO_JPEG - 2)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((_LUMA_STEPS[_USED] * percent + 50) // 100, 1, 255)


@cache
def _log_ratios() -> np.ndarray:
    """How much more likely a coefficient is with a step than without: logarithms (bins, steps).

    With a step of q it is a multiple of q and the rounding of pixels; without, anywhere between.
    """
    values = np.arange(_HIGHEST * _BINS_A_LEVEL, dtype=np.float32)[:, None] / _BINS_A_LEVEL
    steps = np.arange(256, dtype=np.float32).clip(1)
    multiples = np.rint(values / steps)
    error = (values - multiples * steps) / _ROUNDING
    density = np.exp(-(error**2) / 2) / (_ROUNDING * np.sqrt(2 * np.pi))
    ratios = np.log((1 - _OUTLIERS) * steps * density * (multiples > 0) + _OUTLIERS)
    return np.where(values > _SMALLEST, ratios, 0).astype(np.float32)
