"""The strength of Gaussian noise in a picture, measured without the picture before it.

White noise is as strong in every DCT coefficient of a block, and what it adds to low frequencies
tells nothing of what it adds to high ones. So blocks are chosen by how little there is at low
frequencies, and the noise is measured in them at high ones (after Ponomarenko et al. 2007, "An
automatic approach to lossy compression of AVIRIS images"); of colours in that mixture of the three
which varies least, because edges and texture have much the same shape in all three.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .blocks import BLOCK, cut_blocks, transform

STRONGEST = 120.0
"""No stronger noise is told from a stronger one still: levels are clipped."""

_MOST_BLOCKS = 40_000
_FEWEST_FLAT = 100
_FLAT = 0.05
"""Share of the blocks in which noise is measured."""

_ORDER = np.add.outer(np.arange(BLOCK), np.arange(BLOCK))
_LOW, _HIGH = (_ORDER > 0) & (_ORDER <= 6), _ORDER >= 10
_COUNT = int(_HIGH.sum())
_MEDIAN = (1 - 2 / (9 * _COUNT)) ** 3
"""Median of the mean square of as many normal numbers (Wilson and Hilferty 1931)."""

_MARGIN = 2.0
"""Standard deviations between the mean of a block and black or white."""

_MOST_CLIPPED = 0.4
"""Share of the pixels of a block that may be black or white."""

_WHITENESS = 0.85
"""Of a quarter of the coefficients the standard deviation is this part of that of all, in so few
blocks, where the noise is white; texture has less the higher the frequency."""

_NODES = np.linspace(-4, 4, 129)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()


def estimate_noise(squares: Sequence[np.ndarray]) -> float:
    """Estimate the standard deviation of noise in levels of 255, before clipping, 0 to 120.

    squares: uint8 (h, w, C), all of the same C, at least one with 8 pixels a side.
    Returns 0 where nothing can be measured, or most blocks that are neither black nor white have
    no variation at all, as in drawings.
    """
    pixels = sum(square.shape[0] * square.shape[1] for square in squares)
    step = max(round((pixels / _MOST_BLOCKS) ** 0.5), 2)
    blocks = np.concatenate([cut_blocks(square, step) for square in squares])
    lost = np.isin(blocks, (0, 255)).mean(axis=(1, 2, 3)) > _MOST_CLIPPED
    coefficients = transform(blocks)
    means = coefficients[..., 0, 0] / BLOCK
    margin = np.minimum(means, 255 - means).min(axis=1)
    varied = np.abs(coefficients[..., _ORDER > 0]).max(axis=(1, 2)) > 0.01
    inside = (margin > 1) & ~lost
    if not inside.any() or varied[inside].mean() < 0.5:
        return 0.0
    usable = inside & varied
    energy = np.square(coefficients[..., _LOW]).sum(axis=(1, 2))
    high = coefficients[..., _HIGH]
    sigma = 0.0
    for _ in range(3):  # Each knows better than the last how near to black and white is too near.
        enough = min(_MARGIN * sigma, float(np.quantile(margin[usable], 0.7)))
        chosen = np.flatnonzero(usable & (margin >= enough))
        count = min(max(int(len(chosen) * _FLAT), _FEWEST_FLAT), len(chosen))
        flat = chosen[np.argpartition(energy[chosen], count - 1)[:count]]
        sigma = _unclipped(_least(high[flat]), means[flat])
    return sigma


def _least(high: np.ndarray) -> float:
    """Compute the standard deviation of (n, C, K) in the mixture of channels that varies least; the
    median over blocks, so that few with texture count little, and no more than white noise would
    have at the frequencies that vary least."""
    covariance = np.einsum("nck,ndk->cd", high, high)
    mixture = np.linalg.eigh(covariance)[1][:, 0]
    energy = np.square(np.einsum("nck,c->nk", high, mixture))
    of_blocks = np.median(energy.mean(axis=1)) / _MEDIAN
    of_frequencies = np.quantile(energy.mean(axis=0), 0.25) / _WHITENESS**2
    return float(np.sqrt(min(of_blocks, of_frequencies)))


def _unclipped(measured: float, means: np.ndarray) -> float:
    """Find the standard deviation that is ``measured`` once clipped to 0..255 around ``means``."""
    sigma = measured
    if measured > 1:
        for _ in range(8):
            left = max(_clipped_variance(sigma, means) ** 0.5, 1e-3)
            sigma = min(sigma * measured / left, STRONGEST)
    return sigma


def _clipped_variance(sigma: float, means: np.ndarray) -> float:
    """Compute the mean variance of clipped noise where the clipped means are ``means``."""
    before = np.linspace(-4 * sigma, 255 + 4 * sigma, 200)
    clipped = np.clip(before[:, None] + sigma * _NODES, 0, 255)
    after = clipped @ _WEIGHTS
    variance = np.square(clipped) @ _WEIGHTS - after**2
    return float(np.interp(means, after, variance).mean())
