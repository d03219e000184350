"""Pictures of a run for a person to watch."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.levels import to_integers
from .execution import Job
from .tiles import Span
from .transparency import has_alpha

SIDE = 1024
"""Longest side of a preview, in pixels. Smaller results are shown as large as they are, because
hosts write the size of a preview under it, where it reads as that of the result."""


class Preview:
    """The input, enlarged, and over it what is finished: one image after another, each shrunk by
    averaging blocks of whole pixels."""

    def __init__(self) -> None:
        self._image: Tensor | None = None
        self._picture: Tensor | None = None
        self._waiting: list[tuple[Span, Span]] = []

    def add(self, job: Job) -> None:
        """Note a finished job; nothing is computed before ``picture`` is called."""
        tile = job.tile.within(job.image)
        self._add(job.image, job.result, *(_in_result(span) for span in (tile.rows, tile.columns)))

    def add_rows(self, image: Tensor, result: Tensor, start: int, stop: int) -> None:
        """Note finished rows of a result (h, w, C) of any size; alpha is not shown."""
        rows, columns = (
            Span(first, last, torch.ones(last - first))
            for first, last in ((start, stop), (0, result.shape[1]))
        )
        self._add(image, result, rows, columns)

    def _add(self, image: Tensor, result: Tensor, rows: Span, columns: Span) -> None:
        if image is not self._image:
            self._image, self._result, self._waiting, self._picture = image, result, [], None
        self._waiting.append((rows, columns))

    def picture(self) -> np.ndarray:
        """Draw the image that was added to last: uint8, (h, w) gray or (h, w, 3) RGB."""
        if self._picture is None:
            self._picture = self._begin()
        for part in self._waiting:
            self._draw(*part, self._picture)
        self._waiting = []
        picture = to_integers(self._picture.numpy())
        return picture[..., 0] if picture.shape[-1] == 1 else picture

    def _begin(self) -> Tensor:
        assert self._image is not None
        height, width, channels = self._result.shape
        self._colors = channels - has_alpha(channels)
        self._block = -(-max(height, width) // SIDE)
        size = (-(-height // self._block), -(-width // self._block))
        image = self._image[..., : self._image.shape[-1] - has_alpha(self._image.shape[-1])]
        self._input = _resized(image, size).expand(-1, -1, self._colors)
        self._done = torch.zeros(*size, 1)
        return self._input.clone()

    def _draw(self, row_span: Span, column_span: Span, picture: Tensor) -> None:
        block = self._block
        (rows, row_weights), (columns, column_weights) = (
            self._blocks(span, length)
            for span, length in zip((row_span, column_span), self._result.shape, strict=False)
        )
        self._done[rows, columns] += row_weights[:, None, None] * column_weights[:, None]
        restored = self._result[
            rows.start * block : rows.stop * block,
            columns.start * block : columns.stop * block,
            : self._colors,
        ]
        left = 1 - self._done[rows, columns]
        picture[rows, columns] = _mean(restored, block) + left * self._input[rows, columns]

    def _blocks(self, span: Span, length: int) -> tuple[slice, Tensor]:
        """Find the blocks along a side of ``length`` pixels in which a span lies, and its mean
        weight in each."""
        block = self._block
        blocks = slice(span.start // block, -(-span.stop // block))
        whole = (span.start - blocks.start * block, min(blocks.stop * block, length) - span.stop)
        return blocks, _mean(F.pad(span.weights, whole)[:, None, None], block, 1)[:, 0, 0]


def _in_result(span: Span) -> Span:
    """Enlarge a span of the input to the one of the result that its weights are for."""
    scale = len(span.weights) // span.length
    return Span(span.start * scale, span.stop * scale, span.weights)


def _mean(image: Tensor, height: int, width: int | None = None) -> Tensor:
    """Average blocks of (H, W, C); those at the lower and right edge may be smaller."""
    size = (height, width or height)
    return F.avg_pool2d(image.movedim(-1, 0), size, ceil_mode=True).movedim(0, -1)


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (H, W, C) in any type to (h, w, C) float32 on the CPU."""
    x = image.float().cpu().movedim(-1, 0)[None]
    return F.interpolate(x, size, mode="bilinear", antialias=True)[0].movedim(0, -1)
