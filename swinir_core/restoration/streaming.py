"""Restoration of a picture larger than memory, from top to bottom."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
import psutil
import torch
from torch import Tensor

from ..images.resize import ENLARGE_MARGIN, enlarge
from .colors import COLOR_MARGIN, keep_colors, shrink
from .edges import WRAPPED, margins, positions
from .execution import Progress, Run, make_jobs
from .inputs import finite, with_limited_alpha
from .planning import RunPlan
from .restorer import Restorer
from .tiles import Span, TileSettings
from .transparency import SPREAD, has_alpha, limit_alpha, spread_colors

_SAMPLE_BYTES = 8
"""Bytes of a pixel in its file, at most: four channels of 16 bits."""

_FLOAT_BYTES = 4

WRAPPED_MARGIN = 64
"""Input pixels that wrapped edges are taken to reach before the model is run to find how far; more
than most need."""

_STRIP = 256
"""Rows of the picture that are read at a time only to look at them."""


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
        self,
        restorer: Restorer,
        picture: Rows,
        tiles: TileSettings | None = None,
        mask: Tensor | None = None,
        row_bytes: float = math.inf,
        alpha_varies: bool | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """
        Args:
            restorer: Of whose ``strength`` no use is made: bands are the picture of the model.
            picture: Read by rows.
            tiles: When and how it is cut.
            mask: (1, H, W) in 0..1. Tiles that it does not touch are not computed but black.
            row_bytes: Memory that a row of tiles takes at most beside the model, in the mode
                ``auto``.
            alpha_varies: Whether alpha is not the same everywhere, which is otherwise found by
                reading it.
            cancelled: Called while the plan is made, as in a run.
        """
        self.restorer = restorer
        self.picture = picture
        self.tiles = tiles or TileSettings()
        self.mask, self.row_bytes = mask, row_bytes
        self.height, self.width, self.channels = picture.shape
        self._has_alpha = has_alpha(self.channels)
        self._wrapped = WRAPPED[restorer.edges]
        self._colours = slice(self.channels - self._has_alpha)
        self._warned = False
        self._alpha_known = alpha_varies
        self._cancelled = cancelled

    @cached_property
    def plan(self) -> RunPlan:
        """The plan of the run, made once.

        Raises ``MemoryError`` where a row of tiles, as the settings want it, is more than the
        machine has memory for.
        """

        def beside(tile_height: int) -> int:
            needed = self.memory(tile_height)
            return needed if needed <= self.row_bytes else sys.maxsize

        plan = self.restorer.plan(
            *(self.height, self.width, self.tiles),
            beside=beside,
            mask=self.mask,
            channels=self.channels,
            with_alpha=self.alpha_varies,
            cancelled=self._cancelled,
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
        much of the result again that the next row adds to. Alpha is enlarged in two steps. Where
        the colours of the input are kept, the result waits for the rows below.
        """
        above, beside = (2 * margin for margin in margins(self.restorer.edges, WRAPPED_MARGIN))
        rows_kept = tile_height if tile_height >= self.height + above else 2 * tile_height
        if self.restorer.colors == "input":
            rows_kept += tile_height + 2 * COLOR_MARGIN
        values = self.channels + 2 * self._has_alpha
        result = rows_kept * self.restorer.model.scale**2 * values * _FLOAT_BYTES
        picture = tile_height * (_SAMPLE_BYTES + self.channels * _FLOAT_BYTES)
        return (self.width + beside) * (picture + result)

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
        run = self.restorer.begin(self.plan, progress, cancelled)
        bands = self._bands(run)
        return self._with_own_colors(bands, run) if self.restorer.colors == "input" else bands

    def _bands(self, run: Run) -> Iterator[np.ndarray]:
        """Yield the bands with the colours of the model."""
        scale, rows = self.restorer.model.scale, self.plan.tiles.rows
        begun = torch.zeros(0, self.width * scale, self.channels)
        for row, following in zip(rows, (*rows[1:], None), strict=True):
            result = self._restore(row, begun, run)
            end = following.start if following else row.stop
            start, stop = (min(max(edge, 0), self.height) for edge in (row.start, end))
            band = result[(start - row.start) * scale : (stop - row.start) * scale]
            if self._has_alpha and len(band):
                band[..., -1:] = self._alpha(band[..., -1:], start, stop)
            begun = result[(end - row.start) * scale :].clone()
            yield band.numpy()
            del result, band

    def _with_own_colors(self, bands: Iterator[np.ndarray], run: Run) -> Iterator[np.ndarray]:
        """Yield what arrives in bands with the colours of the picture, as soon as the rows are
        there that they depend on."""
        scale = self.restorer.model.scale
        if self._wrapped[0]:  # The colours of the first rows depend on the last.
            bands = iter([np.concatenate(list(bands))])
        waiting = torch.zeros(0, self.width * scale, self.channels)
        shrunk = torch.zeros(0, self.width, self.channels - self._has_alpha)
        top = start = arrived = 0  # Rows where ``shrunk`` and ``waiting`` begin, and end.
        for band in map(torch.from_numpy, bands):
            waiting = torch.cat([waiting, band])
            shrunk = torch.cat([shrunk, shrink(band[..., self._colours], scale)])
            arrived += len(band) // scale
            del band
            stop = arrived if arrived == self.height else arrived - COLOR_MARGIN
            if stop <= start:
                continue
            bottom = min(stop + COLOR_MARGIN, self.height)
            image = self.read_seen(top, bottom)[..., self._colours].clamp(0, 1)
            done = waiting[: (stop - start) * scale]
            keep_colors(
                *(done[..., self._colours], image, shrunk[: bottom - top], scale),
                above=start - top,
                wrapped=self._wrapped,
                report=run.check,
            )
            waiting = waiting[len(done) :].clone()
            yield done.numpy()
            del done
            above = max(stop - COLOR_MARGIN, 0)
            shrunk, top, start = shrunk[above - top :], above, stop

    # Not around the generator, whose wrapper would hold what was yielded while more is made.
    @torch.no_grad()
    def _restore(self, row: Span, begun: Tensor, run: Run) -> Tensor:
        """Restore one row of tiles, added to what earlier rows have begun.

        Returns (s * h, sW, C), with what lies beyond the picture; alpha is zero where it is not
        restored.
        """
        image = self.seen_around(row.start, row.stop, self.read_seen)
        result = torch.zeros(row.length * self.restorer.model.scale, *begun.shape[1:])
        result[: len(begun)] = begun
        (selected,) = self.plan.selected
        tiles = [replace(tile, rows=row.moved(-row.start)) for tile in selected if tile.rows is row]
        in_channels = self.restorer.model.in_channels
        parts = [self._colours, slice(-1, None)] if self.plan.restores_alpha else [self._colours]
        for part in parts:
            for _ in run.do(make_jobs(image[..., part], result[..., part], tiles, in_channels)):
                pass
        return result

    def _alpha(self, restored: Tensor, start: int, stop: int) -> Tensor:
        """Make alpha of some rows of the picture: (s * (stop - start), sW, 1)."""

        def read(first: int, last: int) -> Tensor:
            return self.read(first, last)[..., -1:]

        if not self.plan.restores_alpha:
            return self.enlarged(start, stop, read)
        alpha, above = self._with_neighbours(start, stop, read)
        scale, wraps = self.restorer.model.scale, self._wrapped[1]
        return limit_alpha(restored, alpha, scale, above, (False, wraps))

    def enlarged(self, start: int, stop: int, read: Callable[[int, int], Tensor]) -> Tensor:
        """Enlarge rows of the picture plainly: (s * (stop - start), sW, C) float32 in 0..1.

        Args:
            start, stop: Of the picture.
            read: Returns rows of it from one to another, (n, W, C).
        """
        rows, above = self._with_neighbours(start, stop, read)
        scale = self.restorer.model.scale
        result = enlarge(rows, scale, (False, self._wrapped[1]))
        return result[above * scale : (above + stop - start) * scale]

    def _with_neighbours(
        self,
        start: int,
        stop: int,
        read: Callable[[int, int], Tensor],
        margin: int = ENLARGE_MARGIN,
    ) -> tuple[Tensor, int]:
        """Take rows, by ``read``, with up to ``margin`` rows of the picture above and below, always
        as many where it wraps. Returns them, and how many are above."""
        first, last = start - margin, stop + margin
        if not self._wrapped[0]:
            first, last = max(first, 0), min(last, self.height)
        return self.seen_around(first, last, read), start - first

    @cached_property
    def alpha_varies(self) -> bool:
        """True where alpha is to be restored and not the same everywhere."""
        if not self._has_alpha or self.restorer.alpha == "enlarged":
            return False
        if self._alpha_known is not None:
            return self._alpha_known
        first = self.read(0, 1)[0, 0, -1]
        strips = range(0, self.height, _STRIP)
        return any(
            bool((self.read(start, min(start + _STRIP, self.height))[..., -1] != first).any())
            for start in strips
        )

    def seen_around(self, start: int, stop: int, read: Callable[[int, int], Tensor]) -> Tensor:
        """Take rows, by ``read``, with what is seen beyond the upper and the lower edge."""
        inside = range(max(start, 0), min(stop, self.height))
        if len(inside) == stop - start:
            return read(start, stop)
        parts = []
        for first, last in ((start, 0), (inside.start, inside.stop), (self.height, stop)):
            if first < last:
                seen = positions(first, last, self.height, self._wrapped[0])
                lowest = int(seen.min())
                parts.append(read(lowest, int(seen.max()) + 1)[seen - lowest])
        return torch.cat(parts)

    def read_seen(self, start: int, stop: int) -> Tensor:
        """Read rows, with the colours that a network sees: (stop - start, W, C) float32."""
        if not self._has_alpha:
            return self.read(start, stop)
        rows, above = self._with_neighbours(start, stop, self.read, SPREAD)
        seen = torch.cat([spread_colors(rows, (False, self._wrapped[1])), rows[..., -1:]], -1)
        return seen[above : above + stop - start]

    def read(self, start: int, stop: int) -> Tensor:
        """Read rows, (stop - start, W, C), as ``check_inputs`` makes images; warns once."""
        rows = torch.from_numpy(self.picture.rows(start, stop))
        cleaned = finite(rows, warn=not self._warned)
        self._warned |= cleaned is not rows
        return with_limited_alpha(cleaned)
