"""Brightness of colour images, in the two forms this field uses, and conversion to gray or RGB.

Images are channels last, (..., 3), NumPy arrays or tensors. Floating point means 0..1, uint8
means 0..255; both come back as floating point on their own scale, not rounded.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

Image = TypeVar("Image", np.ndarray, torch.Tensor)


def rgb_to_y(image: Image) -> Image:
    """Compute the Y channel in which the paper's super-resolution scores are measured.

    BT.601 with footroom and headroom, as MATLAB's ``rgb2ycbcr``: (..., 3) to (...), 16..235 for
    uint8 and 16/255..235/255 for floating point.
    """
    image, peak = _floating(image)
    return (65.481 * image[..., 0] + 128.553 * image[..., 1] + 24.966 * image[..., 2]) / 255 + (
        16 / 255 * peak
    )


def rgb_to_gray(image: Image) -> Image:
    """Compute full-range BT.601 luma, (..., 3) to (...), the input of a one-channel model.

    As MATLAB's ``rgb2gray`` and the Y of JPEG files; white stays white.
    """
    image, _ = _floating(image)
    return 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]


def without_alpha(image: Image) -> Image:
    """Take the colours of 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) channels."""
    return image[..., :3] if image.shape[-1] > 2 else image[..., :1]


def to_channels(
    levels: np.ndarray, channels: int, luma: Callable[[np.ndarray], np.ndarray] = rgb_to_gray
) -> np.ndarray:
    """Convert an image to gray or RGB, without alpha.

    levels: uint8 (H, W, 1 to 4), channels as for ``without_alpha``.
    channels: 1 or 3. Gray becomes three equal channels, colour its ``luma``, rounded.
    Returns uint8 (H, W, channels).
    """
    colors = without_alpha(levels)
    if colors.shape[-1] == channels:
        return colors
    if channels == 3:
        return colors.repeat(3, axis=-1)
    return luma(colors).round().astype(np.uint8)[..., None]


def _floating(image: Image) -> tuple[Image, float]:
    """Convert to floating point; returns the image and the value of white."""
    if image.shape[-1:] != (3,):
        raise ValueError(f"expected an RGB image (..., 3), got {tuple(image.shape)}")
    if isinstance(image, torch.Tensor):
        return (image, 1.0) if image.is_floating_point() else (image.double(), 255.0)
    return (image, 1.0) if image.dtype.kind == "f" else (image.astype(np.float64), 255.0)
