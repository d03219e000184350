"""Bicubic interpolation: MATLAB's for degradation and scores, PyTorch's for what is not restored.

Classical and lightweight SwinIR are trained and measured on images shrunk by MATLAB, whose
bicubic widens its kernel when shrinking. Pillow's and PyTorch's come close; a network trained
on them still loses tenths of a decibel on the standard test sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .neighbours import rows_around

_BLOCK = 64
"""Rows or columns of a result that are made at a time."""

ENLARGE_MARGIN = 2
"""Input rows beyond the edge of a band that ``enlarge`` needs to give the pixels of the whole."""

_VALUES_AT_ONCE = 2**22
"""Values of a band of an enlarged image."""


def bicubic_resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize as MATLAB's ``imresize(image, scale)`` does.

    image: (H, W, C), floating point of any range, or uint8.
    Returns (ceil(scale*H), ceil(scale*W), C) of the same dtype. Floating-point values may leave
    the range of the input by a little, for the kernel has negative lobes. As in MATLAB, uint8 is
    rounded and clipped after either axis, rows first: the standard test sets are reproduced bit
    for bit. Raises ``ValueError`` for other arrays.
    """
    if image.ndim != 3 or not (image.dtype == np.uint8 or image.dtype.kind == "f"):
        raise ValueError(
            "expected an image (H, W, C) in floating point or uint8, "
            f"got {image.dtype} {tuple(image.shape)}"
        )
    resized = torch.from_numpy(image).to(torch.float64)
    for axis in (0, 1):
        resized = _resize_axis(resized, axis, scale)
        if image.dtype == np.uint8:
            resized = (resized + 0.5).floor_().clamp_(0, 255)
    return resized.numpy().astype(image.dtype)


def enlarge(image: Tensor, scale: int, wrapped: tuple[bool, bool] = (False, False)) -> Tensor:
    """Enlarge (H, W, C), finite, to (scale * H, scale * W, C) float32 in 0..1 on the CPU.

    ``wrapped`` says whether the image continues from bottom to top, and from right to left.
    PyTorch's bicubic interpolation, but equal to the last bit wherever in an image a pixel lies;
    ``F.interpolate`` computes its coordinates in float32.
    """
    height, width, channels = image.shape
    out = torch.empty(height * scale, width * scale, channels)
    for top, band in enlarged_bands(image, scale, wrapped):
        out[top : top + len(band)] = band
    return out


def enlarged_bands(
    image: Tensor, scale: int, wrapped: tuple[bool, bool] = (False, False)
) -> Iterator[tuple[int, Tensor]]:
    """Yield what ``enlarge`` makes of an image in bands of rows, each with the number of its first
    row; a band takes a fraction of a second."""
    height, width, channels = image.shape
    rows = max(_VALUES_AT_ONCE // (scale**2 * width * channels), 1)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        seen, above = rows_around(image, start, stop, ENLARGE_MARGIN, wrapped[0])
        # Clamped before as well, because sums of very large values overflow to NaN.
        band = stretch(seen.float().cpu().clamp(0, 1), scale, (False, wrapped[1]))
        yield start * scale, band[above * scale :][: (stop - start) * scale].clamp_(0, 1)


def stretch(image: Tensor, scale: int, wrapped: tuple[bool, bool] = (False, False)) -> Tensor:
    """Enlarge (H, W, C) of any range to (scale * H, scale * W, C) as ``enlarge`` does; one that
    keeps its size is returned as it is."""
    if scale == 1:
        return image
    for side in (0, 1):
        image = _enlarge_side(image, side, scale, wrapped[side])
    return image


class Resizer:
    """Bicubic resizing of a picture to any size, by rows.

    As ``bicubic_resize``: Keys' kernel, widened where a side shrinks so that nothing aliases,
    mirrored at the edges; in float32, and with the exact ratio of the sides as the scale. Values
    are resized as they are stored, not in linear light.
    """

    def __init__(
        self,
        source: tuple[int, int],
        target: tuple[int, int],
        wrapped: tuple[bool, bool] = (False, False),
    ) -> None:
        """
        Args:
            source, target: Height and width before and after, in pixels.
            wrapped: Whether the picture continues from bottom to top, and from right to left; then
                what lies beyond an edge is the opposite one.
        """
        self.source, self.target = source, target
        self._rows, self._columns = (
            _taps(before, after, after / before, wraps)
            for before, after, wraps in zip(source, target, wrapped, strict=True)
        )

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """Find the rows of the source, first and last + 1, that make these rows of the result."""
        taps = self._rows[0][:, start:stop]
        return int(taps.min()), int(taps.max()) + 1

    def rows(self, read: Callable[[int, int], Tensor], start: int, stop: int) -> Tensor:
        """Make rows of the result: (stop - start, w, C) float32 in 0..1.

        Args:
            read: Returns rows of the source from one to another, (n, W, C) float32.
            start, stop: Of the result.
        """
        parts = []
        for first in range(start, stop, _BLOCK):
            last = min(first + _BLOCK, stop)
            top, bottom = self.needs(first, last)
            source = read(top, bottom)
            matrix = _matrix(self._rows, first, last, top, bottom)
            parts.append(
                self._narrowed((matrix @ source.flatten(1)).unflatten(1, source.shape[1:]))
            )
        return torch.cat(parts).clamp_(0, 1)

    def bands(self, bands: Iterable[Tensor]) -> Iterator[Tensor]:
        """Resize a picture that arrives in bands (n, W, C), from top to bottom; yield the rows of
        the result, (m, w, C), as soon as theirs are there."""
        waiting, top, done = torch.zeros(0), 0, 0
        lowest = self._rows[0].max(0).values.cummax(0).values
        for band in bands:
            for rows in band.split(_BLOCK):
                waiting = torch.cat([waiting, rows]) if len(waiting) else rows
                arrived = top + len(waiting)
                ready = int(torch.searchsorted(lowest, arrived))
                if ready == done:
                    continue
                yield self.rows(partial(_part, waiting, top), done, ready)
                done = ready
                first = self.needs(done, self.target[0])[0] if done < self.target[0] else arrived
                waiting, top = waiting[first - top :].clone(), first

    def _narrowed(self, rows: Tensor) -> Tensor:
        """Resize the columns of (n, W, C)."""
        rows = rows.movedim(-1, 1).contiguous()
        parts = []
        for first in range(0, self.target[1], _BLOCK):
            last = min(first + _BLOCK, self.target[1])
            taps = self._columns[0][:, first:last]
            left, right = int(taps.min()), int(taps.max()) + 1
            matrix = _matrix(self._columns, first, last, left, right)
            parts.append(rows[..., left:right] @ matrix.T)
        return torch.cat(parts, -1).movedim(1, -1)


def _part(rows: Tensor, top: int, first: int, last: int) -> Tensor:
    """Take rows ``first`` to ``last`` of a picture from those that begin at its row ``top``."""
    return rows[first - top : last - top]


def _matrix(taps: tuple[Tensor, Tensor], start: int, stop: int, first: int, last: int) -> Tensor:
    """Write the taps of some outputs as a matrix (stop - start, last - first) of weights."""
    source, weights = (part[:, start:stop].T for part in taps)
    matrix = torch.zeros(stop - start, last - first, dtype=weights.dtype)
    return matrix.scatter_add_(1, source - first, weights).float()


def _resize_axis(image: Tensor, axis: int, scale: float) -> Tensor:
    """Resize one side of (H, W, C) in float64."""
    length = image.shape[axis]
    source, weights = _taps(length, math.ceil(length * scale), scale)
    resized = torch.zeros_like(image.index_select(axis, source[0]))
    for tap_source, tap_weights in zip(source, weights, strict=True):
        factor = tap_weights.view(-1, *[1] * (2 - axis))
        resized.addcmul_(image.index_select(axis, tap_source), factor)
    return resized


def _taps(length: int, outputs: int, scale: float, wrapped: bool = False) -> tuple[Tensor, Tensor]:
    """Compute the index and the weight of every input sample that makes an output sample.

    Returns two arrays (taps, outputs).
    """
    stretch = min(scale, 1.0)
    support = 4.0 / stretch
    centre = (np.arange(outputs) + 0.5) / scale - 0.5
    first = np.floor(centre - support / 2)
    source = first + np.arange(math.ceil(support) + 2)[:, None]
    weights = _keys(stretch * (centre - source), a=-0.5)
    weights /= weights.sum(axis=0)
    used = np.any(weights != 0, axis=1)
    seen = np.mod(source[used], length if wrapped else 2 * length)
    seen = np.minimum(seen, 2 * length - 1 - seen).astype(np.int64)
    return torch.from_numpy(seen), torch.from_numpy(weights[used])


def _enlarge_side(x: Tensor, side: int, scale: int, wrapped: bool) -> Tensor:
    length = x.shape[side]
    seen = torch.arange(-ENLARGE_MARGIN, length + ENLARGE_MARGIN)
    padded = x.index_select(side, seen % length if wrapped else seen.clamp(0, length - 1))
    out = x.new_empty((*x.shape[: side + 1], scale, *x.shape[side + 1 :]))
    for phase in range(scale):
        position = (phase + 0.5) / scale - 0.5
        pixels = math.floor(position) + np.arange(-1, 3)
        part = out.select(side + 1, phase).zero_()
        for pixel, weight in zip(pixels, _keys(position - pixels, a=-0.75), strict=True):
            part += padded.narrow(side, int(pixel) + 2, length) * float(weight)
    return out.flatten(side, side + 1)


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution kernel, zero from |x| = 2 on; MATLAB takes a = -0.5, PyTorch -0.75.

    Keys 1981 (doi 10.1109/TASSP.1981.1163711), equation 8.
    """
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
