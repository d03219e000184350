"""A restoration task, as training needs to know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..degradation.recipes import DEGRADATIONS, Degradation
from ..evaluation.protocol import Protocol, short_name
from .settings.settings import DegradationSettings, TaskSettings


@dataclass(frozen=True)
class Task:
    """Images, degradation and validation of a task."""

    channels: int
    """Of the patches: 1 (gray) or 3 (RGB)."""

    scale: int
    """Output pixels per input pixel along one side."""

    degradation: Degradation
    levels: Any
    """Lowest and highest level of the damage, ``None`` for tasks without."""

    protocol: Protocol
    """Protocol of the validation."""

    @property
    def margin(self) -> int:
        """Input pixels around a patch on which its degradation depends."""
        return self.degradation.margin

    def degrade(self, high: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Make the network's input, float32 (H, W, C), from a photograph or a patch of one, uint8
        (scale*H, scale*W, C)."""
        return self.degradation.random_input(high, random, self.scale, self.levels)


def build_task(task: TaskSettings, degradation: DegradationSettings) -> Task:
    """Make the task that the settings describe, validated as ``swinir evaluate`` scores it."""
    name, level = short_name(task.name), degradation.validation_level
    its = DEGRADATIONS[name]
    levels = getattr(degradation, its.level) if its.level else None
    protocol = Protocol(
        name,
        task.scale,
        channels=3 if task.enlarges else task.channels,
        sigma=level if name == "denoise" else None,
        quality=round(level) if name == "jpeg" and level is not None else None,
    )
    return Task(task.channels, task.scale, its, levels, protocol)
