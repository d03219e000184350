"""Pictures of a run for a person to watch."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.levels import to_integers
from .execution import Job
from .tiles import Span

SIDE = 1024
"""Longest side of a preview, in pixels. Smaller results are shown as large as they are, because
hosts write the size of a preview under it, where it reads as that of the result."""


class Preview:
    """The input, enlarged, and over it what is finished: one image after another, each shrunk by
    averaging blocks of whole pixels."""

    def __init__(self) -> None:
        self._image: Tensor | None = None
        self._picture: Tensor | None = None
        self._waiting: list[Job] = []

    def add(self, job: Job) -> None:
        """Note a finished job; nothing is computed before ``picture`` is called."""
        if job.image is not self._image:
            self._image, self._waiting, self._picture = job.image, [], None
        self._waiting.append(job)

    def picture(self) -> np.ndarray:
        """Draw the image of the job that was added last: uint8, (h, w) gray or (h, w, 3) RGB."""
        if self._picture is None:
            self._picture = self._begin(self._waiting[0])
        for job in self._waiting:
            self._draw(job, self._picture)
        self._waiting = []
        picture = to_integers(self._picture.numpy())
        return picture[..., 0] if picture.shape[-1] == 1 else picture

    def _begin(self, job: Job) -> Tensor:
        height, width, channels = job.result.shape
        self._block = -(-max(height, width) // SIDE)
        size = (-(-height // self._block), -(-width // self._block))
        self._input = _resized(job.image, size).expand(-1, -1, channels)
        self._done = torch.zeros(*size, 1)
        return self._input.clone()

    def _draw(self, job: Job, picture: Tensor) -> None:
        height, width, _ = job.result.shape
        scale, block = height // job.image.shape[0], self._block
        tile = job.tile.within(job.image)
        rows, row_weights = self._blocks(tile.rows, scale, height)
        columns, column_weights = self._blocks(tile.columns, scale, width)
        self._done[rows, columns] += row_weights[:, None, None] * column_weights[:, None]
        restored = job.result[
            rows.start * block : rows.stop * block, columns.start * block : columns.stop * block
        ]
        left = 1 - self._done[rows, columns]
        picture[rows, columns] = _mean(restored, block) + left * self._input[rows, columns]

    def _blocks(self, span: Span, scale: int, length: int) -> tuple[slice, Tensor]:
        """Find the blocks along a side of ``length`` pixels in which a tile lies, and its mean
        weight in each."""
        block, start, stop = self._block, span.start * scale, span.stop * scale
        blocks = slice(start // block, -(-stop // block))
        whole = (start - blocks.start * block, min(blocks.stop * block, length) - stop)
        return blocks, _mean(F.pad(span.weights, whole)[:, None, None], block, 1)[:, 0, 0]


def _mean(image: Tensor, height: int, width: int | None = None) -> Tensor:
    """Average blocks of (H, W, C); those at the lower and right edge may be smaller."""
    size = (height, width or height)
    return F.avg_pool2d(image.movedim(-1, 0), size, ceil_mode=True).movedim(0, -1)


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (H, W, C) in any type to (h, w, C) float32 on the CPU."""
    x = image.float().cpu().movedim(-1, 0)[None]
    return F.interpolate(x, size, mode="bilinear", antialias=True)[0].movedim(0, -1)
