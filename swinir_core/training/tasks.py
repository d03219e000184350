"""The restoration tasks: how each makes the network's input from a photograph, and its score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..blind_degradation import degrade_blindly
from ..degradation import add_gaussian_noise, bicubic_resize, jpeg_compress
from .settings import DegradationSettings, TaskSettings

JPEG_BLOCK = 8
VALIDATION_SEED = 0


@dataclass(frozen=True)
class Task:
    """Everything about a task that training and validation need to know."""

    channels: int
    """1 (gray) or 3 (RGB)."""

    scale: int
    """Output pixels per input pixel along one side."""

    margin: int
    """Input pixels around a patch that its degradation depends on."""

    degrade: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    """A photograph or a piece of one, uint8 (scale*H, scale*W, C), to the network's input: float32
    (H, W, C), 0..1 but for noise, which is not clipped."""

    degrade_fixed: Callable[[np.ndarray], np.ndarray]
    """The same for validation: always the same result for the same image."""

    border: int
    """Output pixels on every side that scores ignore."""

    y_channel: bool
    """Whether scores compare the Y channel only."""


def build_task(task: TaskSettings, degradation: DegradationSettings) -> Task:
    """The task that the settings describe. Scores are those of the paper's tables: Y and a border
    of ``scale`` for super-resolution, all channels and no border for the others."""
    level = degradation.validation_level or 0
    if task.name == "real_sr":
        margin = 2
        degrade = partial(_blind, scale=task.scale)
        degrade_fixed = partial(_blind_fixed, scale=task.scale)
    elif task.enlarges:
        margin = 2  # MATLAB's shrinking kernel reaches 2 * scale pixels to either side.
        degrade = partial(_shrunk, scale=task.scale)
        degrade_fixed = partial(_shrunk, scale=task.scale)
    elif degradation.sigma is not None:
        margin = 0
        degrade = partial(_noisy, sigma=degradation.sigma)
        degrade_fixed = partial(_noisy_fixed, sigma=level)
    else:
        assert degradation.quality is not None
        margin = JPEG_BLOCK
        degrade = partial(_compressed, quality=degradation.quality)
        degrade_fixed = partial(_compressed_fixed, quality=round(level))
    border = task.scale if task.enlarges else 0
    y_channel = task.enlarges and task.channels == 3
    return Task(task.channels, task.scale, margin, degrade, degrade_fixed, border, y_channel)


# Functions of the module rather than closures, so that worker processes can be sent them.


def _shrunk(
    high: np.ndarray, random: np.random.Generator | None = None, *, scale: int
) -> np.ndarray:
    """Nothing is random about it."""
    return to_float(bicubic_resize(high, 1 / scale))


def _blind(high: np.ndarray, random: np.random.Generator, *, scale: int) -> np.ndarray:
    return degrade_blindly(to_float(high), scale, random)


def _blind_fixed(high: np.ndarray, *, scale: int) -> np.ndarray:
    return _blind(high, np.random.default_rng(VALIDATION_SEED), scale=scale)


def _noisy(
    high: np.ndarray, random: np.random.Generator, *, sigma: tuple[float, float]
) -> np.ndarray:
    return add_gaussian_noise(to_float(high), sigma, random)


def _noisy_fixed(high: np.ndarray, *, sigma: float) -> np.ndarray:
    # As in the paper's evaluation: seed 0 of NumPy's old generator, anew for every image.
    noise = np.random.RandomState(VALIDATION_SEED).normal(0, sigma / 255, high.shape)
    return to_float(high) + noise.astype(np.float32)


def _compressed(
    high: np.ndarray, random: np.random.Generator, *, quality: tuple[int, int]
) -> np.ndarray:
    # Patches lie anywhere in the grid of blocks, or the network would learn one place by heart.
    top, left = random.integers(JPEG_BLOCK, size=2)
    low = high.copy()
    low[top:, left:] = jpeg_compress(np.ascontiguousarray(high[top:, left:]), quality, random)
    return to_float(low)


def _compressed_fixed(high: np.ndarray, *, quality: int) -> np.ndarray:
    return to_float(jpeg_compress(np.ascontiguousarray(high), quality))


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 to float32 in 0..1."""
    return image.astype(np.float32) / 255
