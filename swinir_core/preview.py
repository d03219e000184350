"""What a person watches while an image is restored."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .execution import Piece
from .tiling import Span

SIDE = 512
"""Longest side of a preview, in pixels."""


class Preview:
    """The input, enlarged, and over it what is finished: one image after another, each shrunk by
    averaging blocks of whole pixels."""

    def __init__(self) -> None:
        self._image: Tensor | None = None

    def add(self, piece: Piece) -> np.ndarray:
        """The picture with one more piece done, (h, w) gray or (h, w, 3) RGB in uint8."""
        height, width, channels = piece.result.shape
        if piece.image is not self._image:
            self._image = piece.image
            self._block = -(-max(height, width) // SIDE)
            size = (-(-height // self._block), -(-width // self._block))
            self._input = _resized(piece.image, size)
            self._done = torch.zeros(*size, 1)
            self._picture = self._input.clone()
        scale = height // piece.image.shape[0]
        rows, row_weights = self._blocks(piece.tile.rows, scale, height)
        columns, column_weights = self._blocks(piece.tile.columns, scale, width)
        self._done[rows, columns] += row_weights[:, None, None] * column_weights[:, None]
        block = self._block
        restored = piece.result[
            rows.start * block : rows.stop * block, columns.start * block : columns.stop * block
        ]
        left = 1 - self._done[rows, columns]
        self._picture[rows, columns] = _mean(restored, block) + left * self._input[rows, columns]
        picture = self._picture.clamp(0, 1).mul(255).round().byte().numpy()
        return picture[..., 0] if channels == 1 else picture

    def _blocks(self, span: Span, scale: int, length: int) -> tuple[slice, Tensor]:
        """The blocks of a side of ``length`` pixels a tile lies in, and its mean weight in each."""
        block, start, stop = self._block, span.start * scale, span.stop * scale
        blocks = slice(start // block, -(-stop // block))
        whole = (start - blocks.start * block, min(blocks.stop * block, length) - stop)
        return blocks, _mean(F.pad(span.weights, whole)[:, None, None], block, 1)[:, 0, 0]


def _mean(image: Tensor, height: int, width: int | None = None) -> Tensor:
    """(H, W, C) to the means of blocks; those at the lower and right edge may be smaller."""
    size = (height, width or height)
    return F.avg_pool2d(image.movedim(-1, 0), size, ceil_mode=True).movedim(0, -1)


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W, C) in any type to (h, w, C) float32 on the CPU."""
    x = image.float().cpu().movedim(-1, 0)[None]
    return F.interpolate(x, size, mode="bilinear", antialias=True)[0].movedim(0, -1)
