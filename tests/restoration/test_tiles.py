"""Cuts of images: whole windows, even tiles, weights that add up to one."""

from __future__ import annotations

import itertools
import math
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swinir_core import TileSettings
from swinir_core.restoration.tiles import (
    BLEND,
    Span,
    TilePlan,
    plan_fitting,
    plan_tiles,
    plan_whole,
)

ALIGNMENTS = st.sampled_from([1, 2, 5, 7, 8, 16, 64])
SCALES = st.sampled_from([1, 2, 3, 4, 8])


@given(
    length=st.integers(1, 3000),
    alignment=ALIGNMENTS,
    scale=SCALES,
    tile_size=st.integers(32, 300),
    data=st.data(),
)
@settings(deadline=None)
def test_every_side_is_cut_well(
    length: int, alignment: int, scale: int, tile_size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, tile_size // 2))
    plan = plan_tiles((length, length), scale, alignment, (tile_size, tile_size), overlap)
    check_spans(plan.rows, length, alignment, scale)
    assert max(plan.largest) <= max(tile_size, alignment)
    shared = [a.stop - b.start for a, b in itertools.pairwise(plan.rows)]
    widest = tile_size // alignment // 2 * alignment
    assert all(min(overlap, widest) <= pixels < overlap + alignment for pixels in shared)


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    alignment=ALIGNMENTS,
    scale=SCALES,
    overlap=st.integers(0, 64),
    most=st.integers(1, 500_000),
)
@settings(deadline=None)
def test_fitting_tiles_are_cut_well(
    height: int, width: int, alignment: int, scale: int, overlap: int, most: int
) -> None:
    def fits(height: int, width: int) -> bool:
        return height * width <= most

    plan = plan_fitting(height, width, scale, alignment, overlap, fits)
    check_spans(plan.rows, height, alignment, scale)
    check_spans(plan.columns, width, alignment, scale)
    if fits(height, width):
        assert len(plan) == 1
    elif not fits(*plan.largest):
        smaller = plan_fitting(*plan.largest, scale, alignment, overlap, lambda *_: False)
        assert len(smaller) == 1
    else:
        # No grid with a row or a column less would do.
        for rows, columns in ((-1, 0), (0, -1)):
            count = len(plan.rows) + rows, len(plan.columns) + columns
            if 0 not in count:
                assert not fits(*largest(height, width, alignment, overlap, *count))


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    overlap=st.sampled_from([0, 8, 24]),
    most=st.integers(400, 90_000),
)
@settings(deadline=None)
def test_fitting_tiles_compute_the_fewest_pixels(
    height: int, width: int, overlap: int, most: int
) -> None:
    plan = plan_fitting(height, width, 1, 8, overlap, fits=lambda h, w: h * w <= most)
    possible = [
        (height + (rows - 1) * overlap) * (width + (columns - 1) * overlap)
        for rows in range(1, max(-(-height // 8) - overlap // 8, 1) + 1)
        for columns in range(1, max(-(-width // 8) - overlap // 8, 1) + 1)
        if math.prod(largest(height, width, 8, overlap, rows, columns)) <= most
    ]
    assert not possible or plan.pixels == min(possible)


def largest(
    height: int, width: int, alignment: int, overlap: int, rows: int, columns: int
) -> tuple[int, int]:
    """The largest tile of a grid, from how often its tiles cover a window between them."""

    def side(length: int, count: int) -> int:
        units, shared = -(-length // alignment), -(-overlap // alignment)
        return min(-(-(units + (count - 1) * shared) // count) * alignment, length)

    return side(height, rows), side(width, columns)


def check_spans(spans: tuple[Span, ...], length: int, alignment: int, scale: int) -> None:
    assert spans[0].start == 0
    assert spans[-1].stop == length
    total = torch.zeros(length * scale, dtype=torch.float64)
    for span in spans:
        assert span.start % alignment == 0
        assert span.weights.min() >= 0
        total[span.start * scale : span.stop * scale] += span.weights
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)
    # Even: one window apart at most; the last tile may also end inside a window.
    sizes = [-(-span.length // alignment) for span in spans]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("overlap", "scale"), [(8, 1), (16, 2), (32, 3), (40, 4)])
def test_only_the_middle_of_an_overlap_is_blended(overlap: int, scale: int) -> None:
    first, second = plan_tiles((8, 200), scale, 8, (128, 128), overlap).columns
    assert first.stop - second.start == overlap
    discarded, blended = (overlap - BLEND) // 2 * scale, BLEND * scale
    assert first.weights[0] == second.weights[-1] == 1
    ramp = second.weights[discarded : discarded + blended]
    assert second.weights[:discarded].eq(0).all()
    assert ramp.diff().min() > 0
    assert second.weights[discarded + blended :].eq(1).all()
    assert torch.allclose(first.weights[-len(ramp) - discarded :][: len(ramp)], 1 - ramp)
    assert discarded == 0 or first.weights[-discarded:].eq(0).all()


def test_no_sliver_where_a_fixed_step_would_leave_one() -> None:
    plan = plan_tiles((540, 1010), 1, 8, (512, 512), 32)
    assert [(span.start, span.stop) for span in plan.rows] == [(0, 288), (256, 540)]
    assert [(span.start, span.stop) for span in plan.columns] == [(0, 360), (328, 688), (656, 1010)]
    assert len(plan) == 6


@pytest.mark.parametrize("overlap", [32, 40, 48])
def test_at_default_size_overlaps_cost_ten_percent_at_most(overlap: int) -> None:
    plan = plan_tiles((2048, 2048), 2, 8, (768, 768), overlap)
    assert TileSettings().tile_size == 768
    assert len(plan) > 1
    assert plan.pixels <= 1.1 * 2048**2


def test_tiles_of_one_size_come_together() -> None:
    plan = plan_tiles((100, 200), 2, 8, (48, 48), 8)
    tiles = plan.tiles_by_size()
    groups = [size for size, _ in itertools.groupby(tile.size for tile in tiles)]
    assert groups == sorted(set(groups), reverse=True)
    assert len(groups) > 1
    assert groups[0] == plan.largest
    found = sorted((tile.rows.start, tile.columns.start) for tile in tiles)
    assert found == [(tile.rows.start, tile.columns.start) for tile in plan]
    assert sum(height * width for height, width in (tile.size for tile in tiles)) == plan.pixels


def test_fitting_takes_the_largest_tiles_that_fit() -> None:
    def areas(most: int, overlap: int = 16) -> tuple[int, list[int]]:
        plan = plan_fitting(400, 600, 1, 8, overlap, fits=lambda h, w: h * w <= most)
        return len(plan), [height * width for height, width in sizes(plan)]

    assert areas(400 * 600) == (1, [400 * 600])
    count, found = areas(400 * 600 - 1)
    assert count == 2
    assert max(found) < 400 * 320
    for most in (50_000, 10_000, 2_000):
        count, found = areas(most)
        assert most / 2 < max(found) <= most
    # Where nothing fits the smallest tiles are a window larger than the overlap.
    assert max(areas(1)[1]) == (16 + 8) ** 2


def sizes(plan: TilePlan) -> list[tuple[int, int]]:
    return [tile.size for tile in plan]


def test_whole_is_one_tile() -> None:
    plan = plan_whole(30, 50, 2)
    assert sizes(plan) == [(30, 50)]
    assert plan.pixels == 1500


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "mode": ({"mode": "tile"}, "'tile'"),
    "tile too small": ({"tile_size": 31}, "31"),
    "negative overlap": ({"overlap": -1}, "-1"),
    "overlap too large": ({"mode": "tiled", "tile_size": 64, "overlap": 33}, "64.*33"),
    "overlap below 0": ({"overlap": -1}, "0 or more pixels, got -1"),
    "budget": ({"memory_budget": 0}, "0 bytes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_setting(name: str) -> None:
    values, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        TileSettings(**values)


def test_the_tile_size_limits_the_overlap_only_where_it_has_an_effect() -> None:
    for mode in ("auto", "whole"):
        assert TileSettings(mode, 64, overlap=200).overlap == 200


@given(overlap=st.sampled_from([0, 8, 16]), random=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20, derandomize=True)
def test_the_order_in_which_tiles_are_added_changes_nothing(overlap: int, random: Random) -> None:
    plan = plan_tiles((70, 110), 2, 8, (40, 40), overlap)
    tiles = [(tile, torch.rand(2 * tile.size[0], 2 * tile.size[1], 3)) for tile in plan]

    def added() -> torch.Tensor:
        result = torch.zeros(140, 220, 3)
        for tile, pixels in tiles:
            tile.add(pixels.clone(), result, 2)
        return result

    in_order = added()
    random.shuffle(tiles)
    assert torch.equal(added(), in_order)
