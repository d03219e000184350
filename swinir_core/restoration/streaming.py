"""A picture larger than memory, restored from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
import psutil
import torch
from torch import Tensor

from ..images.resize import ENLARGE_MARGIN, enlarge
from .execution import Execution, cut
from .restorer import Restorer, finite
from .run import Forecast, Progress, Run
from .tiles import Span, TilePlan, TileSettings

_SAMPLE_BYTES = 8
"""Of a pixel as its file has it, at most: four channels of 16 bits."""

_FLOAT_BYTES = 4


class Rows(Protocol):
    """A picture that is read by rows."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha)."""
        ...

    def rows(self, start: int, stop: int) -> np.ndarray:
        """float32 (stop - start, W, C) in 0..1."""
        ...


class Stream:
    """One picture through a ``Restorer``, a row of tiles after another.

    The result is what the ``Restorer`` makes of the whole picture with the same tiles, to the last
    bit where tiles are run one by one. Of the picture no more is in memory than the rows of one row
    of tiles, and of the result no more than of two; where the tile settings are ``auto`` the tiles
    are as low as that needs.
    """

    def __init__(
        self, restorer: Restorer, picture: Rows, tiles: TileSettings | None = None
    ) -> None:
        self.restorer = restorer
        self.picture = picture
        self.tiles = tiles or TileSettings()
        self.height, self.width, self.channels = picture.shape
        self._has_alpha = self.channels in (2, 4)
        self._colours = self.channels - self._has_alpha
        self._images = restorer.runs_of_an_image(self._colours)
        self._warned = False

    @cached_property
    def plan(self) -> Forecast:
        """The tiles. Raises ``MemoryError`` where a row of them, as the settings want it, is more
        than the machine has memory for."""
        plan = self.restorer.plan(
            self.height, self.width, self.tiles, beside=self.memory, channels=self.channels
        )
        tallest, _ = plan.largest
        needed = self.memory(tallest)
        free = psutil.virtual_memory().available + psutil.swap_memory().free
        if needed > free:
            raise MemoryError(
                f"{self.width} x {tallest} pixels, a row of tiles, take {needed / 1e9:.1f} GB "
                f"beside the model and {free / 1e9:.1f} GB are free; use smaller tiles, or close "
                "other programs"
            )
        return plan

    def memory(self, tile_height: int) -> int:
        """Bytes that a row of tiles of this height takes, those of the model not counted: the input
        as it is and as floats, the result, and where there are several rows, up to as much of the
        result again that the next row adds to. Alpha is enlarged in two steps."""
        rows_kept = tile_height if tile_height >= self.height else 2 * tile_height
        values = self.channels + 2 * self._has_alpha
        result = rows_kept * self.restorer.model.scale**2 * values * _FLOAT_BYTES
        return self.width * (tile_height * (_SAMPLE_BYTES + self.channels * _FLOAT_BYTES) + result)

    def bands(
        self,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[np.ndarray]:
        """Restore the picture and yield what is finished of the result, float32 (h, sW, C) in 0..1,
        from top to bottom.

        ``progress`` and ``cancelled``, and what is raised, are as with the ``Restorer``.
        """
        plan, scale = self.plan, self.restorer.model.scale
        run = Run(
            total=plan.pixels,
            most_pixels=plan.at_once * math.prod(plan.largest),
            most_pieces=plan.at_once,
            share=1 / self._images,
            progress=progress,
            cancelled=cancelled,
        )
        execution = self.restorer.execution(run, self.tiles)
        begun = torch.zeros(0, self.width * scale, self.channels)
        for row, following in zip(plan.rows, (*plan.rows[1:], None), strict=True):
            result = self._restore(row, begun, plan, execution)
            stop = following.start if following else self.height
            done = (stop - row.start) * scale
            if self._has_alpha:
                result[:done, :, -1:] = self._alpha(row.start, stop)
            begun = result[done:].clone()
            yield result[:done].numpy()
            del result

    # Not around the generator, whose wrapper would hold what was yielded while more is made.
    @torch.no_grad()
    def _restore(self, row: Span, begun: Tensor, plan: TilePlan, execution: Execution) -> Tensor:
        """The tiles of one row, over what those before have begun: (s * h, sW, C), alpha zero."""
        image = self._rows(row.start, row.stop)
        result = torch.zeros(row.length * self.restorer.model.scale, *begun.shape[1:])
        result[: len(begun)] = begun
        tiles = TilePlan((replace(row, start=0, stop=row.length),), plan.columns)
        channels = zip(
            image[..., : self._colours].tensor_split(self._images, -1),
            result[..., : self._colours].tensor_split(self._images, -1),
            strict=True,
        )
        for _ in execution.fill(piece for channel in channels for piece in cut(*channel, tiles)):
            pass
        return result

    def _alpha(self, start: int, stop: int) -> Tensor:
        """That of the result for some rows of the picture, (s * (stop - start), sW, 1)."""
        scale = self.restorer.model.scale
        first = max(start - ENLARGE_MARGIN, 0)
        rows = self._rows(first, min(stop + ENLARGE_MARGIN, self.height))
        alpha = enlarge(rows[..., -1:], scale)
        return alpha[(start - first) * scale :][: (stop - start) * scale]

    def _rows(self, start: int, stop: int) -> Tensor:
        """Rows of the picture, (stop - start, W, C), all values finite; warns once a picture."""
        rows = torch.from_numpy(self.picture.rows(start, stop))
        cleaned = finite(rows, warn=not self._warned)
        self._warned |= cleaned is not rows
        return cleaned
