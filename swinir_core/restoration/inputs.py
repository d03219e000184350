"""Checks of the images and masks that a run is given."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor

from ..errors import ImageError
from .masking import limited, stretched
from .transparency import has_alpha

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Images that a ``Restorer`` can run, as ``check_inputs`` returns them."""

    images: Tensor
    """(B, H, W, C) floats, all finite; alpha in 0..1."""

    mask: Tensor | None
    """(B or 1, H, W) float32 in 0..1 on the CPU; ``None`` to restore all."""


def check_inputs(images: Tensor, mask: Tensor | None = None, stretch: bool = False) -> Inputs:
    """Check images and their mask.

    Args:
        images: (B, H, W, C) floats in 0..1, C from 1 to 4. Pixels that are NaN or infinite are
            taken as black or white; the images are copied for it, and a warning is logged. Alpha is
            limited to 0..1.
        mask: (B or 1, H, W); limited to 0..1, NaN taken as 0.
        stretch: Whether the mask may have another size, to be resized to that of the images, and
            be (h, w).

    Raises:
        ImageError: The images or the mask have another shape, or the images are no floats.
    """
    if not isinstance(images, Tensor):
        raise ImageError(
            f"images must be a torch.Tensor, got {type(images).__name__}; "
            "use torch.from_numpy for an array."
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 2, 3, 4):
        raise ImageError(
            f"images must be (batch, height, width, channels) with 1 to 4 channels, "
            f"got {tuple(images.shape)}."
        )
    if not images.is_floating_point():
        raise ImageError(f"images must be floats in 0..1, got {images.dtype}; divide by 255.")
    batch, height, width, _ = images.shape
    if 0 in (height, width):
        raise ImageError(f"the images have no pixels: {tuple(images.shape)}.")
    if mask is not None:
        if stretch:
            mask = stretched(mask, height, width)
        if mask.ndim != 3 or mask.shape[1:] != (height, width):
            raise ImageError(
                f"the mask must be (batch, {height}, {width}) like the images, "
                f"got {tuple(mask.shape)}."
            )
        if len(mask) not in (1, batch):
            raise ImageError(
                f"there are {len(mask)} masks for {batch} images; give one mask, or one for each."
            )
        mask = limited(mask)
    return Inputs(with_limited_alpha(finite(images)), mask)


def empty_result(*shape: int) -> Tensor:
    """Zeros in float32, whose memory the system hands out where they are written to: at the size of
    a large result ``torch.zeros`` takes a second, in which nothing could be stopped."""
    return torch.from_numpy(np.zeros(shape, np.float32))


def result_bytes(batch: int, height: int, width: int, channels: int) -> int:
    """Count the bytes of a float32 result of this shape."""
    return 4 * batch * height * width * channels


def check_result(batch: int, height: int, width: int, channels: int) -> None:
    """Raise ``MemoryError`` where a float32 result of this shape is larger than what is free.

    Systems hand out memory that they do not have, and end the process when it is written to.
    """
    needed = result_bytes(batch, height, width, channels)
    free = psutil.virtual_memory().available + psutil.swap_memory().free
    if needed > free:
        images = (
            f"an image of {width}x{height}" if batch == 1 else f"{batch} images of {width}x{height}"
        )
        raise MemoryError(
            f"the result, {images} pixels, takes {needed / 1e9:.1f} GB of memory and "
            f"{free / 1e9:.1f} GB are free; restore fewer or smaller images at a time, or use "
            f"the command swinir restore, which needs no more memory for a larger picture."
        )


def finite(images: Tensor, warn: bool = True) -> Tensor:
    """Replace NaN and negative infinity by 0 and infinity by 1.

    Windows would spread such a value over their neighbours, and mixing with a mask would keep it.

    Args:
        images: Floats of any shape; looked through along the first dimension, as a whole video
            would take much memory.
        warn: Whether to log a warning where a value is replaced.

    Returns:
        ``images`` itself where all values are finite, otherwise a copy.
    """
    # A sum tells it in a tenth of the time, unless it is too large for the type.
    if all(image.sum().isfinite() or image.isfinite().all() for image in images):
        return images
    if warn:
        _log.warning("the image has pixels that are NaN or infinite; taken as black or white")
    return images.nan_to_num(nan=0.0, posinf=1.0, neginf=0.0)


def with_limited_alpha(images: Tensor) -> Tensor:
    """Limit alpha to 0..1, before a model sees it or it is enlarged.

    Args:
        images: (..., C), finite.

    Returns:
        ``images`` itself where nothing is beyond, otherwise a copy.
    """
    alpha = images[..., -1:]
    if not has_alpha(images.shape[-1]) or not ((alpha < 0) | (alpha > 1)).any():
        return images
    return torch.cat([images[..., :-1], alpha.clamp(0, 1)], -1)
