"""What a person watches while an image is restored."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.levels import to_integers
from .execution import Piece
from .tiles import Span

SIDE = 512
"""Longest side of a preview, in pixels."""


class Preview:
    """The input, enlarged, and over it what is finished: one image after another, each shrunk by
    averaging blocks of whole pixels."""

    def __init__(self) -> None:
        self._image: Tensor | None = None
        self._picture: Tensor | None = None
        self._waiting: list[Piece] = []

    def add(self, piece: Piece) -> None:
        """One more piece is done; nothing is computed before somebody looks."""
        if piece.image is not self._image:
            self._image, self._waiting, self._picture = piece.image, [], None
        self._waiting.append(piece)

    def picture(self) -> np.ndarray:
        """The image to which a piece was added last, (h, w) gray or (h, w, 3) RGB in uint8."""
        if self._picture is None:
            self._picture = self._begin(self._waiting[0])
        for piece in self._waiting:
            self._draw(piece, self._picture)
        self._waiting = []
        picture = to_integers(self._picture.numpy())
        return picture[..., 0] if picture.shape[-1] == 1 else picture

    def _begin(self, piece: Piece) -> Tensor:
        height, width, _ = piece.result.shape
        self._block = -(-max(height, width) // SIDE)
        size = (-(-height // self._block), -(-width // self._block))
        self._input = _resized(piece.image, size)
        self._done = torch.zeros(*size, 1)
        return self._input.clone()

    def _draw(self, piece: Piece, picture: Tensor) -> None:
        height, width, _ = piece.result.shape
        scale, block = height // piece.image.shape[0], self._block
        rows, row_weights = self._blocks(piece.tile.rows, scale, height)
        columns, column_weights = self._blocks(piece.tile.columns, scale, width)
        self._done[rows, columns] += row_weights[:, None, None] * column_weights[:, None]
        restored = piece.result[
            rows.start * block : rows.stop * block, columns.start * block : columns.stop * block
        ]
        left = 1 - self._done[rows, columns]
        picture[rows, columns] = _mean(restored, block) + left * self._input[rows, columns]

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
