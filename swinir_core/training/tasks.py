"""A restoration task, as training needs to know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..degradation.recipes import MARGINS, random_input
from ..evaluation.protocol import Protocol, short_name
from .settings.settings import DegradationSettings, TaskSettings


@dataclass(frozen=True)
class Task:
    """Images, degradation and validation of a task."""

    channels: int
    """Of the patches: 1 (gray) or 3 (RGB)."""

    scale: int
    """Output pixels per input pixel along one side."""

    margin: int
    """Input pixels around a patch on which its degradation depends."""

    degrade: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    """Makes the network's input, float32 (H, W, C), from a photograph or a patch of one, uint8
    (scale*H, scale*W, C); see ``random_input``. Can be pickled."""

    protocol: Protocol
    """Protocol of the validation."""


def build_task(task: TaskSettings, degradation: DegradationSettings) -> Task:
    """Make the task that the settings describe, validated as ``swinir evaluate`` scores it."""
    name, level = short_name(task.name), degradation.validation_level
    sigma, quality = degradation.sigma, degradation.quality
    degrade = partial(random_input, task=name, scale=task.scale, sigma=sigma, quality=quality)
    protocol = Protocol(
        name,
        task.scale,
        channels=3 if task.enlarges else task.channels,
        sigma=level if name == "denoise" else None,
        quality=round(level) if name == "jpeg" and level is not None else None,
    )
    return Task(task.channels, task.scale, MARGINS[name], degrade, protocol)
