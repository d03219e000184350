"""How low-quality images are made from good ones: bicubic shrinking, as MATLAB's ``imresize``.

Classical and lightweight SwinIR are trained and measured on images shrunk by MATLAB, whose
bicubic widens its kernel when shrinking. Pillow's and PyTorch's come close; a network trained
on them still loses tenths of a decibel on the standard test sets.
"""

import math
from typing import TypeVar

import numpy as np
import torch

Image = TypeVar("Image", np.ndarray, torch.Tensor)


def bicubic_resize(image: Image, scale: float) -> Image:
    """Resize as MATLAB's ``imresize(image, scale)`` does.

    image: (H, W, C), floating point of any range, or uint8.
    Returns (ceil(scale*H), ceil(scale*W), C) of the same kind and dtype. Floating-point values
    may leave the range of the input by a little, for the kernel has negative lobes. As in
    MATLAB, uint8 is rounded and clipped after either axis, rows first: the standard test sets
    are reproduced bit for bit.
    """
    if isinstance(image, np.ndarray):
        return _resize(torch.from_numpy(image), scale).numpy()
    return _resize(image, scale)


def _resize(image: torch.Tensor, scale: float) -> torch.Tensor:
    integer = image.dtype == torch.uint8
    if image.ndim != 3 or not (integer or image.is_floating_point()):
        raise ValueError(
            "expected an image (H, W, C) in floating point or uint8, "
            f"got {image.dtype} {tuple(image.shape)}"
        )
    resized = image.to(torch.float64)
    for axis in (0, 1):
        resized = _resize_axis(resized, axis, scale)
        if integer:
            resized = (resized + 0.5).floor_().clamp_(0, 255)
    return resized.to(image.dtype)


def _resize_axis(image: torch.Tensor, axis: int, scale: float) -> torch.Tensor:
    source, weights = _taps(image.shape[axis], scale)
    shape = [1, 1, 1]
    shape[axis] = -1
    resized = None
    for tap_source, tap_weights in zip(source.to(image.device), weights, strict=True):
        tap = image.index_select(axis, tap_source)
        factor = tap_weights.to(image).view(shape)
        resized = tap * factor if resized is None else resized.addcmul_(tap, factor)
    assert resized is not None
    return resized


def _taps(length: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Which samples make each output sample, and how much of each; both (taps, outputs)."""
    stretch = min(scale, 1.0)
    support = 4.0 / stretch
    centre = (np.arange(math.ceil(length * scale)) + 0.5) / scale - 0.5
    first = np.floor(centre - support / 2)
    source = first + np.arange(math.ceil(support) + 2)[:, None]
    weights = _cubic(stretch * (centre - source))
    weights /= weights.sum(axis=0)
    used = np.any(weights != 0, axis=1)
    mirrored = np.mod(source[used], 2 * length)
    mirrored = np.minimum(mirrored, 2 * length - 1 - mirrored).astype(np.int64)
    return torch.from_numpy(mirrored), torch.from_numpy(weights[used])


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5 (Keys 1981), zero from |x| = 2 on."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
