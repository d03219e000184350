"""A seamless texture, on which to try what has to keep textures seamless."""

from __future__ import annotations

import numpy as np

_CHIPS = 24
_GROUND = (0.80, 0.77, 0.71)
_COLORS = (
    (0.72, 0.47, 0.36),
    (0.38, 0.43, 0.44),
    (0.83, 0.70, 0.52),
    (0.30, 0.36, 0.42),
    (0.93, 0.92, 0.90),
    (0.56, 0.60, 0.55),
)
"""RGB of what the chips of stone lie in, and of the chips."""


def terrazzo(side: int = 192) -> np.ndarray:
    """Draw chips of stone whose opposite edges fit together, float32 (side, side, 3) in 0..1.

    Worley's cells (SIGGRAPH 1996) on a torus: all distances go round the edges.
    """
    rng = np.random.default_rng(2)
    centres = _spread(rng)
    apart = _CHIPS**-0.5
    at = (np.arange(side) + 0.5) / side
    y = at[:, None] + 0.05 * apart * _clouds(rng, side, 1.6, 2)
    x = at + 0.05 * apart * _clouds(rng, side, 1.6, 2)
    ways = (y - centres[:, 0, None, None], x - centres[:, 1, None, None])
    distances = np.hypot(*map(_round, ways)) / apart
    nearest = distances.argmin(0)
    first, second = np.partition(distances, 1, axis=0)[:2]
    joints = rng.uniform(0.2, 0.65, _CHIPS)
    chip = ((second - first - joints[nearest]) / 0.06).clip(0, 1)[..., None]

    colors = np.array(_COLORS)[rng.integers(0, len(_COLORS), _CHIPS)]
    colors = colors * rng.uniform(0.9, 1.1, (_CHIPS, 1))
    stone = colors[nearest] * (1 + 0.06 * _clouds(rng, side, 1, 4))[..., None]
    grain = 0.025 * _clouds(rng, side, 1.2, 2) + 0.02 * _clouds(rng, side, 0.3, 20)
    ground = np.array(_GROUND) * (1 + grain)[..., None]
    return (ground + (stone - ground) * chip).clip(0, 1).astype(np.float32)


def _round(difference: np.ndarray) -> np.ndarray:
    """Distance on a circle of length 1."""
    forth = np.abs(difference) % 1
    return np.minimum(forth, 1 - forth)


def _spread(rng: np.random.Generator) -> np.ndarray:
    """Choose points (_CHIPS, 2) in 0..1, each the farthest from the others of thirty."""
    points = rng.random((1, 2))
    while len(points) < _CHIPS:
        new = rng.random((30, 2))
        distances = np.hypot(*_round(new[:, None] - points).transpose(2, 0, 1))
        points = np.vstack([points, new[distances.min(1).argmax()]])
    return points


def _clouds(rng: np.random.Generator, side: int, smoothness: float, least: int) -> np.ndarray:
    """Draw noise (side, side) of standard deviation 1 that repeats, without what is coarser than
    ``least`` waves a side. The amplitudes fall with the frequency to the power of ``smoothness``.
    """
    waves = np.fft.fftfreq(side) * side
    frequency = np.hypot(waves[:, None], waves)
    amplitude = np.where(frequency >= least, np.maximum(frequency, 1) ** -smoothness, 0)
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * amplitude).real
    return noise / noise.std()
