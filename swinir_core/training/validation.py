"""Scores of a network in training, as in the paper's tables for its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..degradation import bicubic_resize
from ..errors import ImageError
from ..metrics import MOST_DECIBELS, psnr, ssim
from .data import image_paths, read_pixels
from .tasks import Task, to_float

SSIM_WINDOW = 11


@dataclass(frozen=True)
class ValidationImage:
    """One image to score."""

    low: np.ndarray
    """The network's input, float32 (H, W, C)."""

    high: np.ndarray
    """What it should give, uint8 (scale*H, scale*W, C)."""


def spread(paths: Sequence[Path], at_most: int) -> list[Path]:
    """At most so many of the paths, evenly spaced."""
    count = min(len(paths), at_most)
    return [paths[i * len(paths) // count] for i in range(count)]


def read_validation(folder: Path, task: Task, at_most: int) -> list[ValidationImage]:
    """The images of a folder, or of its ``HR`` folder where it has one.

    Inputs are made by the task with a fixed seed. For super-resolution a standard test set may
    bring its own, as ``LR_bicubic/X2/namex2.png`` beside ``HR/name.png``; these are used.
    Raises ``ValueError`` when an image cannot be scored.
    """
    high_folder = folder / "HR" if (folder / "HR").is_dir() else folder
    low_folder = folder / "LR_bicubic" / f"X{task.scale}"
    paths = spread(image_paths([high_folder]), at_most)
    return [read_pair(path, task, low_folder / f"{path.stem}x{task.scale}.png") for path in paths]


def read_pair(path: Path, task: Task, low_path: Path | None = None) -> ValidationImage:
    """One photograph and its input. Raises ``ValueError`` when it cannot be scored."""
    try:
        high = read_pixels(path, task.channels, task.scale)
        if low_path is None or not low_path.is_file():
            low = task.degrade_fixed(high)
        else:
            low = to_float(read_pixels(low_path, task.channels))
    except ImageError as error:
        raise ValueError(f"{error} It cannot be validated on; take it out.") from error
    least = SSIM_WINDOW + 2 * task.border
    if min(high.shape[:2]) < least:
        raise ValueError(f"{path} is too small to score, which takes {least}x{least} pixels.")
    height, width = (side // task.scale for side in high.shape[:2])
    if low.shape[:2] != (height, width):
        raise ValueError(
            f"{low_path} has {low.shape[1]} x {low.shape[0]} pixels, but {path} calls for "
            f"{width} x {height}; remove it, and it is made anew."
        )
    return ValidationImage(low, high)


@torch.no_grad()
def restored(model: nn.Module, low: np.ndarray) -> np.ndarray:
    """The output of the network for one input, uint8 (H, W, C)."""
    device = next(model.parameters()).device
    batch = torch.from_numpy(low).to(device).movedim(-1, 0)[None]
    output = (model(batch)[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return output.movedim(0, -1).cpu().numpy()


def untouched(low: np.ndarray, scale: int) -> np.ndarray:
    """An input as it is, enlarged by bicubic interpolation where the task enlarges; uint8."""
    pixels = np.clip(low * 255, 0, 255).round().astype(np.uint8)
    return bicubic_resize(pixels, scale) if scale > 1 else pixels


def score(output: np.ndarray, image: ValidationImage, task: Task) -> tuple[float, float]:
    """PSNR in dB, ``MOST_DECIBELS`` at most, and SSIM of a uint8 output."""
    how = {"border": task.border, "y_channel": task.y_channel}
    decibels = min(psnr(output, image.high, **how), MOST_DECIBELS)
    return decibels, ssim(output, image.high, **how)


def total_scores(model: nn.Module, images: Sequence[ValidationImage], task: Task) -> np.ndarray:
    """[sum of PSNR, sum of SSIM, number of images]."""
    scores = [score(restored(model, image.low), image, task) for image in images]
    return np.array([*np.sum(scores, axis=0), len(scores)] if scores else np.zeros(3))


def baseline(images: Sequence[ValidationImage], task: Task) -> tuple[float, float]:
    """Mean PSNR and SSIM of the inputs themselves."""
    scores = [score(untouched(image.low, task.scale), image, task) for image in images]
    mean = np.mean(scores, axis=0)
    return float(mean[0]), float(mean[1])
