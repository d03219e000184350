"""Restoration of a picture larger than memory, from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
import psutil
import torch
from torch import Tensor

from ..images.resize import ENLARGE_MARGIN, enlarge
from .execution import Progress, Run, make_jobs
from .inputs import finite
from .planning import RunPlan
from .restorer import Restorer
from .tiles import Span, TilePlan, TileSettings

_SAMPLE_BYTES = 8
"""Bytes of a pixel in its file, at most: four channels of 16 bits."""

_FLOAT_BYTES = 4


class Rows(Protocol):
    """A picture that is read by rows."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha)."""
        ...

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Read rows: float32 (stop - start, W, C) in 0..1."""
        ...


class Stream:
    """One picture through a ``Restorer``, a row of tiles after another.

    The result is what the ``Restorer`` makes of the whole picture with the same tiles, to the last
    bit where tiles are run one by one. Of the picture no more is in memory than the rows of one row
    of tiles, and of the result no more than of two; in the mode ``auto`` tiles are as low as that
    needs.
    """

    def __init__(
        self, restorer: Restorer, picture: Rows, tiles: TileSettings | None = None
    ) -> None:
        self.restorer = restorer
        self.picture = picture
        self.tiles = tiles or TileSettings()
        self.height, self.width, self.channels = picture.shape
        self._has_alpha = self.channels in (2, 4)
        self._warned = False

    @cached_property
    def plan(self) -> RunPlan:
        """The plan of the run, made once.

        Raises ``MemoryError`` where a row of tiles, as the settings want it, is more than the
        machine has memory for.
        """
        plan = self.restorer.plan(
            self.height, self.width, self.tiles, beside=self.memory, channels=self.channels
        )
        tallest, _ = plan.tiles.largest
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
        """Estimate the bytes that a row of tiles of this height takes beside the model.

        The input as it is and as floats, the result, and where there are several rows, up to as
        much of the result again that the next row adds to. Alpha is enlarged in two steps.
        """
        rows_kept = tile_height if tile_height >= self.height else 2 * tile_height
        values = self.channels + 2 * self._has_alpha
        result = rows_kept * self.restorer.model.scale**2 * values * _FLOAT_BYTES
        return self.width * (tile_height * (_SAMPLE_BYTES + self.channels * _FLOAT_BYTES) + result)

    def bands(
        self,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[np.ndarray]:
        """Restore the picture and yield what is finished of the result, from top to bottom.

        Callbacks and errors are those of a call of the ``Restorer``.

        Yields:
            float32 (h, sW, C) in 0..1.
        """
        scale, rows = self.restorer.model.scale, self.plan.tiles.rows
        run = self.restorer.begin(self.plan, progress, cancelled)
        begun = torch.zeros(0, self.width * scale, self.channels)
        for row, following in zip(rows, (*rows[1:], None), strict=True):
            result = self._restore(row, begun, run)
            stop = following.start if following else self.height
            done = (stop - row.start) * scale
            if self._has_alpha:
                result[:done, :, -1:] = self._alpha(row.start, stop)
            begun = result[done:].clone()
            yield result[:done].numpy()
            del result

    # Not around the generator, whose wrapper would hold what was yielded while more is made.
    @torch.no_grad()
    def _restore(self, row: Span, begun: Tensor, run: Run) -> Tensor:
        """Restore one row of tiles, added to what earlier rows have begun.

        Returns (s * h, sW, C), alpha zero.
        """
        image = self._rows(row.start, row.stop)
        result = torch.zeros(row.length * self.restorer.model.scale, *begun.shape[1:])
        result[: len(begun)] = begun
        tiles = TilePlan((replace(row, start=0, stop=row.length),), self.plan.tiles.columns)
        colours = slice(self.channels - self._has_alpha)
        jobs = make_jobs(
            image[..., colours],
            result[..., colours],
            tiles.tiles_by_size(),
            self.restorer.model.in_channels,
        )
        for _ in run.do(jobs):
            pass
        return result

    def _alpha(self, start: int, stop: int) -> Tensor:
        """Enlarge alpha of some rows of the picture: (s * (stop - start), sW, 1)."""
        scale = self.restorer.model.scale
        first = max(start - ENLARGE_MARGIN, 0)
        rows = self._rows(first, min(stop + ENLARGE_MARGIN, self.height))
        alpha = enlarge(rows[..., -1:], scale)
        return alpha[(start - first) * scale :][: (stop - start) * scale]

    def _rows(self, start: int, stop: int) -> Tensor:
        """Read rows of the picture: (stop - start, W, C), all values finite; warns once."""
        rows = torch.from_numpy(self.picture.rows(start, stop))
        cleaned = finite(rows, warn=not self._warned)
        self._warned |= cleaned is not rows
        return cleaned
