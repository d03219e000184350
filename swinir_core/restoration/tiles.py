"""Tiles: the cuts of an image, and the blending of tiles into one result.

Tiles lie on the window grid of the whole image, so a window sees the same pixels in a tile as it
would in the whole image; their sides differ by one window at most, so none is a sliver. What lies
near the inner edge of a tile has seen less context than it should. Neighbours therefore overlap,
and only the middle ``BLEND`` pixels of an overlap are blended, linearly; what a tile computes
beyond them is discarded. The edges of the image itself have no such margin, unless tiles reach
beyond them, for which ``edges.py`` says what is seen there. How wide an overlap must be for a given
network is found by ``overlap.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..choices import MODES, TILE_SIDE
from .edges import positions

BLEND = 8
"""Input pixels over which one tile passes into the next. The error of a tile falls about tenfold
every four pixels from its edge, so a wider blend would let in more than it evens out."""


@dataclass(frozen=True)
class TileSettings:
    """Settings of when and how images are cut. A wrong value raises ``ValueError`` naming it."""

    mode: str = MODES[0]
    """``whole``: never cut; ``tiled``: always; ``auto``: only what does not fit the memory."""

    tile_size: int | tuple[int, int] = TILE_SIDE
    """Side of a tile in input pixels, or its height and width, the overlaps included; rounded down
    to whole windows, of which a tile has one at least. Used in ``tiled`` mode only: ``auto`` takes
    the largest tiles that fit."""

    overlap: int | None = None
    """Input pixels that neighbouring tiles share, rounded up to whole windows; in ``tiled`` mode at
    most half a tile. ``None``: as many as the network needs, which running it finds where an image
    is cut, or half a tile where that is less."""

    at_once: int | None = None
    """Tiles or small images of equal size that are run together at most, as far as they fit the
    memory. ``None``: as many as make it faster."""

    memory_budget: int | None = None
    """Bytes one run of the model may take: in ``auto`` mode the image is cut to fit, and in every
    mode tiles are run together only as far as they fit. ``None``: what the device has free."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"tile mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        smallest = min(self.tile_sides)
        if smallest < 32:
            raise ValueError(f"tile_size must be at least 32 pixels, got {smallest}")
        if self.overlap is not None and self.overlap < 0:
            raise ValueError(f"overlap must be 0 or more pixels, got {self.overlap}")
        if self.mode == "tiled" and (self.overlap or 0) > smallest // 2:
            raise ValueError(
                f"overlap must be between 0 and half the tile size of {smallest}, got "
                f"{self.overlap}; make the tiles larger or the overlap smaller"
            )
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"at_once must be at least 1, got {self.at_once}")
        if self.memory_budget is not None and self.memory_budget <= 0:
            raise ValueError(f"memory_budget must be positive, got {self.memory_budget} bytes")

    @property
    def tile_sides(self) -> tuple[int, int]:
        """Greatest height and width of a tile, in input pixels."""
        size = self.tile_size
        return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True)
class Span:
    """Input pixels ``start`` to ``stop`` along one side, which may lie beyond the image, and the
    weights of their result."""

    start: int
    stop: int
    weights: Tensor
    """(scale * (stop - start),) float32; the weights of all spans at one pixel add up to one."""

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def is_blended(self) -> bool:
        return bool((self.weights != 1).any())

    def moved(self, pixels: int) -> Span:
        """Move the span towards larger pixels."""
        return replace(self, start=self.start + pixels, stop=self.stop + pixels)

    def within(self, length: int) -> Span:
        """Cut off what lies beyond a side of this length."""
        scale = len(self.weights) // self.length
        start, stop = (min(max(end, 0), length) for end in (self.start, self.stop))
        kept = slice((start - self.start) * scale, (stop - self.start) * scale)
        return Span(start, stop, self.weights[kept])


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image: the crossing of two spans."""

    rows: Span
    columns: Span

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in input pixels."""
        return self.rows.length, self.columns.length

    def of(self, image: Tensor, scale: int = 1) -> Tensor:
        """Slice from an image (H, W) or (H, W, C), enlarged by ``scale``, what of the tile lies
        within."""
        rows, columns = (
            slice(max(span.start, 0) * scale, max(span.stop, 0) * scale)
            for span in (self.rows, self.columns)
        )
        return image[rows, columns]

    def seen_in(self, image: Tensor, wrapped: tuple[bool, bool]) -> Tensor:
        """Take the tile from an image (H, W, C), with what is seen beyond its edges: what is at the
        opposite edge where the image is ``wrapped``, otherwise the image mirrored."""
        for side, span in enumerate((self.rows, self.columns)):
            length = image.shape[side]
            if span.start >= 0 and span.stop <= length:
                image = image.narrow(side, span.start, span.length)
            else:
                seen = positions(span.start, span.stop, length, wrapped[side])
                image = image.index_select(side, seen.to(image.device))
        return image

    def is_within(self, size: tuple[int, int]) -> bool:
        """Tell whether some of the tile lies within an image of this height and width."""
        spans = zip((self.rows, self.columns), size, strict=True)
        return all(span.start < length and span.stop > 0 for span, length in spans)

    def within(self, image: Tensor) -> Tile:
        """Cut off what lies beyond an image (H, W, C)."""
        return Tile(self.rows.within(image.shape[0]), self.columns.within(image.shape[1]))

    def part(self, inner: Tile, restored: Tensor) -> Tensor:
        """Slice from what was restored of this tile (sh, sw, C) what belongs to ``inner``."""
        for side, (span, kept) in enumerate(
            ((self.rows, inner.rows), (self.columns, inner.columns))
        ):
            scale = restored.shape[side] // span.length
            first = (kept.start - span.start) * scale
            restored = restored.narrow(side, first, kept.length * scale)
        return restored

    def add(self, restored: Tensor, result: Tensor, scale: int, first: int = 0) -> None:
        """Add restored pixels, weighted, to a result; the order of the tiles changes nothing.

        Args:
            restored: (h, sw, C) in 0..1, some rows of the restored tile; overwritten.
            result: (sH, sW, C) of the whole image, on any device; of more channels where
                ``restored`` has one, which is then added to each.
            scale: s.
            first: The number of the first row.
        """
        rows = slice(first, first + len(restored))
        target = self.of(result, scale)[rows]
        if not (self.rows.is_blended or self.columns.is_blended):
            target.copy_(restored)
            return
        for weights in (self.rows.weights[rows, None, None], self.columns.weights[:, None]):
            restored.mul_(weights.to(restored.device))
        # Sums of multiples of 2^-23 are exact in float32 up to 2.
        restored.mul_(2**23).round_().mul_(2**-23)
        target += restored.to(result.device)


@dataclass(frozen=True)
class TilePlan:
    """A grid of tiles over one image."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    margins: tuple[int, int] = (0, 0)
    """Input pixels by which the outermost tiles reach beyond the image: above and below, and at the
    left and right."""

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        """Every tile, in reading order."""
        return (Tile(row, column) for row in self.rows for column in self.columns)

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width of the largest tile, in input pixels."""
        return max(row.length for row in self.rows), max(span.length for span in self.columns)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image, in input pixels."""
        above, beside = self.margins
        return self.rows[-1].stop - above, self.columns[-1].stop - beside

    @property
    def overlap(self) -> int:
        """Fewest input pixels that neighbours share; 0 for a single tile."""
        sides = (self.rows, self.columns)
        return min((a.stop - b.start for side in sides for a, b in pairwise(side)), default=0)

    @property
    def pixels(self) -> int:
        """Input pixels to compute for one image, overlaps counted each time."""
        return sum(row.length for row in self.rows) * sum(span.length for span in self.columns)

    def around(self, margins: tuple[int, int]) -> TilePlan:
        """Take the plan as one for the image without so many pixels above and below, and at the
        left and right."""
        rows, columns = (
            tuple(span.moved(-margin) for span in side)
            for side, margin in zip((self.rows, self.columns), margins, strict=True)
        )
        return TilePlan(rows, columns, margins)

    def tiles_by_size(self) -> list[Tile]:
        """Every tile of which a part lies within the image, the largest first, those of one size
        together."""
        inside = (tile for tile in self if tile.is_within(self.image_size))
        return sorted(inside, key=lambda tile: tile.size, reverse=True)


def plan_whole(height: int, width: int, scale: int) -> TilePlan:
    """Plan one tile for the whole image."""
    rows, columns = (_spans(side, scale, side, 0, 1) for side in (height, width))
    return TilePlan(rows, columns)


def plan_tiles(
    size: tuple[int, int], scale: int, alignment: int, tile_size: tuple[int, int], overlap: int
) -> TilePlan:
    """Plan even tiles on the window grid.

    Args:
        size: Height and width of the image, in input pixels.
        scale, alignment: Of the model.
        tile_size: Greatest height and width of a tile, overlaps included, in input pixels. A tile
            is one window at least, whatever is asked for.
        overlap: Input pixels that neighbours share, up to half a tile: none where a tile is one
            window.
    """
    sides = []
    for length, most in zip(size, tile_size, strict=True):
        windows, tile = _ceil_div(length, alignment), max(most // alignment, 1)
        shared = min(_ceil_div(overlap, alignment), tile // 2)
        count = 1 if windows <= tile else _ceil_div(windows - shared, tile - shared)
        sides.append(_spans(length, scale, alignment, shared, count))
    rows, columns = sides
    return TilePlan(rows, columns)


def plan_fitting(
    height: int,
    width: int,
    scale: int,
    alignment: int,
    overlap: int,
    fits: Callable[[int, int], bool],
) -> TilePlan:
    """Plan the even tiles that compute the fewest pixels among those that fit the memory.

    Args:
        height, width: Of the image, in input pixels.
        scale, alignment: Of the model.
        overlap: Input pixels that neighbours share.
        fits: Tells of a tile's height and width whether it fits. Where nothing does, tiles are the
            smallest possible ones.
    """
    overlap = _ceil_div(overlap, alignment)

    def largest(rows: int, columns: int) -> tuple[int, int]:
        return (
            min(_tile_windows(height, alignment, overlap, rows) * alignment, height),
            min(_tile_windows(width, alignment, overlap, columns) * alignment, width),
        )

    def pixels(grid: tuple[int, int]) -> int:
        sides = zip((height, width), grid, strict=True)
        return math.prod(length + (count - 1) * overlap * alignment for length, count in sides)

    most_rows = _most_tiles(height, alignment, overlap)
    columns = _most_tiles(width, alignment, overlap)
    grids = []
    for rows in range(1, most_rows + 1):
        # Lower tiles may be wider, so with every row more the columns can only become fewer.
        while columns > 1 and fits(*largest(rows, columns - 1)):
            columns -= 1
        if fits(*largest(rows, columns)):
            grids.append((rows, columns))
            if columns == 1:
                break
    rows, columns = min(grids, key=pixels, default=(most_rows, columns))
    return TilePlan(
        _spans(height, scale, alignment, overlap, rows),
        _spans(width, scale, alignment, overlap, columns),
    )


def blend_weights(position: Tensor, middle: float, width: float) -> Tensor:
    """Weigh a tile against the one before it, along one side.

    Args:
        position: (n,) pixels, in input pixels.
        middle: Of the blend, in input pixels.
        width: Of the blend, in input pixels.

    Returns:
        (n,): 0 up to ``width / 2`` before ``middle``, 1 from ``width / 2`` behind it, linear
        between.
    """
    return ((position - middle) / width + 0.5).clamp(0, 1)


def _most_tiles(length: int, alignment: int, overlap: int) -> int:
    """Count tiles along one side beyond which more would not be smaller; overlap in windows."""
    return max(_ceil_div(length, alignment) - overlap, 1)


def _tile_windows(length: int, alignment: int, overlap: int, count: int) -> int:
    """Measure the largest of ``count`` even tiles along one side; it and the overlap in windows."""
    return _ceil_div(_ceil_div(length, alignment) + (count - 1) * overlap, count)


def _spans(length: int, scale: int, alignment: int, overlap: int, count: int) -> tuple[Span, ...]:
    """Cut one side of ``length`` pixels into ``count`` even spans, the larger ones first.

    They share ``overlap`` windows. The weights of a span end where those of the next begin, so they
    add up to one whatever the overlap.
    """
    side, larger = divmod(_ceil_div(length, alignment) + (count - 1) * overlap, count)
    middle = overlap * alignment / 2
    # Without an overlap a tile takes over within one pixel of the result.
    width = max(min(BLEND, overlap * alignment), 1 / scale)
    spans, start = [], 0
    for i in range(count):
        windows = side + (i < larger)
        stop = min(start + windows * alignment, length)
        following = start + (windows - overlap) * alignment
        position = torch.arange(start * scale, stop * scale, dtype=torch.float64)
        position = (position + 0.5) / scale
        weights = torch.ones_like(position)
        if i > 0:
            weights = blend_weights(position, start + middle, width)
        if i + 1 < count:
            weights -= blend_weights(position, following + middle, width)
        spans.append(Span(start, stop, weights.float()))
        start = following
    return tuple(spans)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
