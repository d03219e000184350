"""Conversion between 0..1 and the integers that files and scores are made of.

Rounding is to the nearest integer, halves to the even one, as NumPy's ``round`` does it: the
reference implementation writes its results with ``(output * 255.0).round().astype(np.uint8)``
(main_test_swinir.py), and published scores are of those. MATLAB's bicubic, which rounds halves up
between its two axes, is in ``resize``.
"""

from __future__ import annotations

import numpy as np


def to_integers(pixels: np.ndarray, depth: int = 8) -> np.ndarray:
    """Convert 0..1 to 0..2^depth - 1; values outside are clipped.

    pixels: any shape, floating point, not NaN; multiplied in float32.
    Returns the same shape, uint8 for a depth of 8 and uint16 for others, in C order.
    """
    scaled = np.clip(pixels, 0, 1, dtype=np.float32)
    scaled *= 2**depth - 1
    return np.rint(scaled, out=scaled).astype(np.uint8 if depth == 8 else np.uint16, order="C")


def to_floats(integers: np.ndarray, highest: int | None = None) -> np.ndarray:
    """Convert 0..``highest``, by default the highest of their type, to 0..1 in float32."""
    floats = integers.astype(np.float32)
    floats /= highest or np.iinfo(integers.dtype).max
    return floats
