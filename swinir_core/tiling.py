"""Tiles: where an image is cut, and how the pieces are put together again.

Tiles start on the window grid of the whole image, so a window sees the same pixels in a tile as it
would in the whole image; they are evenly placed, so none is a sliver. What lies near the inner
edge of a tile has seen less context than it should: the outer quarter of every overlap is
discarded, and the middle half is blended linearly.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """Side of a tile in input pixels, the overlaps included; rounded down to whole windows."""

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

    def tiles(self) -> Iterator[tuple[Span, Span]]:
        """Every (row, column), in reading order."""
        return ((row, column) for row in self.rows for column in self.columns)


def plan_whole(height: int, width: int, scale: int) -> TilePlan:
    """One tile for the whole image."""
    return TilePlan(*((Span(0, side, torch.ones(side * scale)),) for side in (height, width)))


def plan_tiles(
    height: int, width: int, scale: int, alignment: int, settings: TileSettings
) -> TilePlan:
    """Evenly placed tiles of at most ``settings.tile_size``, on multiples of ``alignment``."""
    return TilePlan(
        *(_weighted(_cut(side, alignment, settings), scale) for side in (height, width))
    )


def _cut(length: int, alignment: int, settings: TileSettings) -> list[tuple[int, int]]:
    """(start, stop) of the tiles along one side, in pixels."""
    units = _ceil_div(length, alignment)
    tile = max(settings.tile_size // alignment, 2)
    overlap = min(_ceil_div(settings.overlap, alignment), tile // 2)
    if units <= tile:
        return [(0, length)]
    count = _ceil_div(units - overlap, tile - overlap)
    tile = _ceil_div(units + (count - 1) * overlap, count)
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
