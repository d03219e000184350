"""Parts of a picture to measure it by: squares spread over it, blocks of 8x8 pixels and their DCT.

The discrete cosine transform is that of JPEG (ITU-T T.81, A.3.3), orthonormal: white noise keeps
its standard deviation in every coefficient.
"""

from __future__ import annotations

import math

import numpy as np

from .color import rgb_to_gray, without_alpha
from .levels import to_integers

BLOCK = 8
_MOST_PIXELS = 2**20
_SQUARE = 128
_SQUARES = 64

_FREQUENCY, _POSITION = np.mgrid[:BLOCK, :BLOCK]
_DCT = np.cos(np.pi * (2 * _POSITION + 1) * _FREQUENCY / (2 * BLOCK)) / 2
_DCT[0] /= math.sqrt(2)
_DCT = _DCT.astype(np.float32)


def sampled(image: np.ndarray) -> list[np.ndarray]:
    """Cut a picture into what is measured: itself, or squares spread evenly over a large one.

    image: (H, W, 1 to 4) floats in 0..1 or uint8, channels as for ``without_alpha``.
    Raises ``ValueError`` for pixels that are NaN or infinite.
    Returns at most 2^20 pixels in uint8 arrays (h, w, 1 or 3), of one channel where all are equal.
    Corners are at multiples of 8 pixels, so that the blocks of a JPEG file lie alike in all.
    """
    height, width = image.shape[:2]
    squares = [image]
    if height * width > _MOST_PIXELS:
        down = min(max(round(math.sqrt(_SQUARES * height / width)), 1), _SQUARES)
        corners = [
            (top, left)
            for top in _corners(height, down)
            for left in _corners(width, _SQUARES // down)
        ]
        squares = [image[y : y + _SQUARE, x : x + _SQUARE] for y, x in corners]
    levels = [_levels(without_alpha(square)) for square in squares]
    gray = all((square == square[..., :1]).all() for square in levels)
    return [square[..., :1] for square in levels] if gray else levels


def luma(levels: np.ndarray) -> np.ndarray:
    """Compute the luma of uint8 (h, w, 1 or 3) as float32 (h, w) in 0..255."""
    gray = levels[..., 0] if levels.shape[2] == 1 else rgb_to_gray(levels)
    return gray.astype(np.float32)


def cut_blocks(plane: np.ndarray, step: int = BLOCK) -> np.ndarray:
    """Cut (h, w, ...) into all 8x8 blocks at multiples of ``step``: (n, ..., 8, 8)."""
    windows = np.lib.stride_tricks.sliding_window_view(plane, (BLOCK, BLOCK), axis=(0, 1))
    windows = windows[::step, ::step]
    return windows.reshape(-1, *windows.shape[2:])


def transform(blocks: np.ndarray, count: int = BLOCK) -> np.ndarray:
    """Compute the lowest ``count`` x ``count`` DCT coefficients of blocks (..., 8, 8)."""
    low = _DCT[:count]
    return low @ blocks.astype(np.float32, copy=False) @ low.T


def _corners(side: int, count: int) -> list[int]:
    """Spread at most ``count`` squares that do not overlap over a side."""
    room, count = max(side - _SQUARE, 0), max(min(count, side // _SQUARE), 1)
    places = np.linspace(0, room, count) if count > 1 else [room / 2]
    return [int(place) // BLOCK * BLOCK for place in places]


def _levels(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if not np.isfinite(image).all():
        raise ValueError("The image to look at holds pixels that are NaN or infinite.")
    return to_integers(image)
