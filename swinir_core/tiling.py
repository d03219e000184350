"""Tiles: where an image is cut, and how the pieces are put together again.

Tiles start on the window grid of the whole image, so a window sees the same pixels in a tile as it
would in the whole image; they are evenly placed, so none is a sliver. What lies near the inner
edge of a tile has seen less context than it should: the outer quarter of every overlap is
discarded, and the middle half is blended linearly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

MODES = ("auto", "whole", "tiled")


@dataclass(frozen=True)
class TileSettings:
    """How large images are cut. Wrong values raise ``ValueError`` with the number in it."""

    mode: str = "auto"
    """``whole``: never cut; ``tiled``: always; ``auto``: only what does not fit the memory."""

    tile_size: int = 512
    """Side of a tile in input pixels, the overlaps included; rounded down to whole windows. Used in
    ``tiled`` mode only: ``auto`` takes the largest tiles that fit."""

    overlap: int = 32
    """Input pixels that neighbouring tiles share at least; rounded up to whole windows."""

    memory_budget: int | None = None
    """Bytes one run of the model may take in ``auto`` mode; ``None``: what the device has free."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"tile mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.tile_size < 32:
            raise ValueError(f"tile_size must be at least 32 pixels, got {self.tile_size}")
        if self.memory_budget is not None and self.memory_budget <= 0:
            raise ValueError(f"memory_budget must be positive, got {self.memory_budget} bytes")
        if not 0 <= self.overlap <= self.tile_size // 2:
            raise ValueError(
                f"overlap must be between 0 and half the tile size of {self.tile_size}, "
                f"got {self.overlap}"
            )


@dataclass(frozen=True)
class Span:
    """Input pixels ``start`` to ``stop`` along one side, and how the result is weighted."""

    start: int
    stop: int
    weights: Tensor
    """(scale * (stop - start),) float32; the weights of all spans at one pixel add up to one."""


@dataclass(frozen=True)
class Tile:
    """Where rows and columns cross."""

    rows: Span
    columns: Span

    def of(self, image: Tensor) -> Tensor:
        """The tile's part of ``image`` (H, W, C)."""
        return image[self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]

    def add(self, restored: Tensor, result: Tensor, scale: int) -> None:
        """Add the tile's ``restored`` pixels (sh, sw, C) to ``result`` (sH, sW, C), weighted."""
        target = result[
            self.rows.start * scale : self.rows.stop * scale,
            self.columns.start * scale : self.columns.stop * scale,
        ]
        target += restored * (self.rows.weights[:, None, None] * self.columns.weights[:, None])


@dataclass(frozen=True)
class TilePlan:
    """A grid of tiles over one image."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def tile_count(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def pixels(self) -> int:
        """Input pixels to compute for one image, overlaps counted each time."""
        height = sum(row.stop - row.start for row in self.rows)
        return height * sum(column.stop - column.start for column in self.columns)

    def tiles(self) -> Iterator[Tile]:
        """Every tile, in reading order."""
        return (Tile(row, column) for row in self.rows for column in self.columns)


def plan_whole(height: int, width: int, scale: int) -> TilePlan:
    """One tile for the whole image."""
    return TilePlan(*((Span(0, side, torch.ones(side * scale)),) for side in (height, width)))


def plan_tiles(
    height: int, width: int, scale: int, alignment: int, settings: TileSettings
) -> TilePlan:
    """Evenly placed tiles of at most ``settings.tile_size``, on multiples of ``alignment``."""
    tile = max(settings.tile_size // alignment, 2)
    overlap = min(_ceil_div(settings.overlap, alignment), tile // 2)
    sides = []
    for length in (height, width):
        units = _ceil_div(length, alignment)
        count = 1 if units <= tile else _ceil_div(units - overlap, tile - overlap)
        sides.append(_weighted(_cut(length, alignment, overlap, count), scale))
    return TilePlan(*sides)


def plan_fitting(
    height: int,
    width: int,
    scale: int,
    alignment: int,
    overlap: int,
    fits: Callable[[int, int], bool],
) -> TilePlan:
    """The evenly placed tiles for which ``fits(tile_height, tile_width)`` holds and that compute
    the fewest pixels; the smallest possible ones where nothing fits."""
    overlap = _ceil_div(overlap, alignment)

    def tile_sides(rows: int, columns: int) -> tuple[int, int]:
        return (
            _tile_units(height, alignment, overlap, rows) * alignment,
            _tile_units(width, alignment, overlap, columns) * alignment,
        )

    most_rows = _most_tiles(height, alignment, overlap)
    columns = _most_tiles(width, alignment, overlap)
    grids = []
    for rows in range(1, most_rows + 1):
        # Lower tiles may be wider, so with every row more the columns can only become fewer.
        while columns > 1 and fits(*tile_sides(rows, columns - 1)):
            columns -= 1
        if fits(*tile_sides(rows, columns)):
            grids.append((rows, columns))
            if columns == 1:
                break
    cost = {grid: math.prod(grid) * math.prod(tile_sides(*grid)) for grid in grids}
    rows, columns = min(cost, key=cost.__getitem__, default=(most_rows, columns))
    return TilePlan(
        _weighted(_cut(height, alignment, overlap, rows), scale),
        _weighted(_cut(width, alignment, overlap, columns), scale),
    )


def can_be_cut(height: int, width: int, alignment: int, overlap: int) -> bool:
    """Whether tiles smaller than this are possible."""
    units = _ceil_div(overlap, alignment)
    return max(_most_tiles(side, alignment, units) for side in (height, width)) > 1


def _most_tiles(length: int, alignment: int, overlap: int) -> int:
    """More tiles than this along one side would not be smaller."""
    return max(_ceil_div(length, alignment) - overlap, 1)


def _tile_units(length: int, alignment: int, overlap: int, count: int) -> int:
    """Side of each of ``count`` even tiles, in units of ``alignment`` like ``overlap``."""
    return _ceil_div(_ceil_div(length, alignment) + (count - 1) * overlap, count)


def _cut(length: int, alignment: int, overlap: int, count: int) -> list[tuple[int, int]]:
    """(start, stop) in pixels of ``count`` even tiles along one side."""
    if count == 1:
        return [(0, length)]
    units = _ceil_div(length, alignment)
    tile = _tile_units(length, alignment, overlap, count)
    starts = [round(i * (units - tile) / (count - 1)) for i in range(count)]
    return [(s * alignment, min((s + tile) * alignment, length)) for s in starts]


def _weighted(cuts: list[tuple[int, int]], scale: int) -> tuple[Span, ...]:
    """Spans with weights that rise over the overlap with the span before, and fall likewise."""
    total = torch.zeros(cuts[-1][1] * scale, dtype=torch.float64)
    weights = []
    for i, (start, stop) in enumerate(cuts):
        weight = torch.ones((stop - start) * scale, dtype=torch.float64)
        if i > 0:
            ramp = _ramp((cuts[i - 1][1] - start) * scale)
            weight[: len(ramp)] *= ramp
        if i + 1 < len(cuts):
            ramp = _ramp((stop - cuts[i + 1][0]) * scale)
            weight[len(weight) - len(ramp) :] *= ramp.flip(0)
        total[start * scale : stop * scale] += weight
        weights.append(weight)
    return tuple(
        Span(start, stop, (weight / total[start * scale : stop * scale]).float())
        for (start, stop), weight in zip(cuts, weights, strict=True)
    )


def _ramp(length: int) -> Tensor:
    """Zero over the first quarter, one over the last, linear between."""
    position = (torch.arange(length, dtype=torch.float64) + 0.5) / max(length, 1)
    return ((position - 0.25) * 2).clamp(0, 1)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
