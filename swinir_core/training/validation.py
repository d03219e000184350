"""Scores of a network in training on a standard test set."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..degradation import bicubic_resize
from ..metrics import psnr
from .data import image_paths, read_rgb


@dataclass(frozen=True)
class TestImage:
    """One image to score, as uint8 (H, W, 3)."""

    low: np.ndarray
    high: np.ndarray


def read_test_set(folder: Path, scale: int) -> list[TestImage]:
    """The images of a test set.

    The usual layout is ``HR/name.png`` beside ``LR_bicubic/X2/namex2.png``. A folder of
    photographs alone works too, for the small images are made where they are missing.
    Raises ``ValueError`` when there is no image, or one that cannot be scored.
    """
    high_folder = folder / "HR" if (folder / "HR").is_dir() else folder
    low_folder = folder / "LR_bicubic" / f"X{scale}"
    images = []
    for path in image_paths([high_folder]):
        high = read_rgb(path)
        height, width = (side // scale * scale for side in high.shape[:2])
        if min(height, width) <= 2 * scale:
            raise ValueError(
                f"{path} is too small to score, for {scale} pixels are cut off on every side"
            )
        high = high[:height, :width]
        low_path = low_folder / f"{path.stem}x{scale}.png"
        low = read_rgb(low_path) if low_path.is_file() else bicubic_resize(high, 1 / scale)
        if low.shape[:2] != (height // scale, width // scale):
            raise ValueError(
                f"{low_path} has {low.shape[1]} x {low.shape[0]} pixels, but {path} calls for "
                f"{width // scale} x {height // scale}; remove it, and it is made anew"
            )
        images.append(TestImage(low, high))
    if not images:
        raise ValueError(f"no image to validate on in {folder}")
    return images


@torch.no_grad()
def mean_psnr(model: torch.nn.Module, images: list[TestImage], scale: int) -> float:
    """PSNR in dB on Y, border = scale, outputs rounded to uint8; the mean over the images."""
    device = next(model.parameters()).device
    total = 0.0
    for image in images:
        low = torch.from_numpy(image.low).to(device).movedim(-1, 0)[None].float() / 255
        output = (model(low)[0].clamp(0, 1) * 255).round().to(torch.uint8)
        total += psnr(output.movedim(0, -1), image.high, border=scale, y_channel=True)
    return total / len(images)
