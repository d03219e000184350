"""Where images are cut: whole windows, even tiles, weights that add up to one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swinir_core import TileSettings
from swinir_core.tiling import plan_fitting, plan_tiles, plan_whole


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int, TileSettings]:
    """(length, alignment, scale, settings)"""
    tile_size = draw(st.integers(32, 300))
    tiles = TileSettings("tiled", tile_size, draw(st.integers(0, tile_size // 2)))
    alignment = draw(st.sampled_from([1, 2, 5, 7, 8, 16]))
    return draw(st.integers(1, 3000)), alignment, draw(st.sampled_from([1, 2, 3, 4, 8])), tiles


@given(cases())
@settings(deadline=None)
def test_every_side_is_cut_well(case: tuple[int, int, int, TileSettings]) -> None:
    length, alignment, scale, tiles = case
    spans = plan_tiles(length, length, scale, alignment, tiles).rows
    assert spans[0].start == 0
    assert spans[-1].stop == length
    total = torch.zeros(length * scale, dtype=torch.float64)
    for span in spans:
        assert span.start % alignment == 0
        assert span.stop - span.start <= max(tiles.tile_size, 2 * alignment)
        total[span.start * scale : span.stop * scale] += span.weights
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)
    # Even: all tiles are equal but for the last, which may end inside a window.
    sizes = [-(-(span.stop - span.start) // alignment) for span in spans]
    assert len(set(sizes)) == 1
    overlaps = [a.stop - b.start for a, b in itertools.pairwise(spans)]
    smallest = min(tiles.overlap, (tiles.tile_size // alignment // 2) * alignment)
    assert all(overlap >= smallest for overlap in overlaps)


def test_the_edge_of_a_tile_has_no_weight() -> None:
    first, second = plan_tiles(8, 100, 1, 8, TileSettings("tiled", 64, 16)).columns
    overlap = first.stop - second.start
    margin = overlap // 4
    assert margin > 0
    assert second.weights[:margin].eq(0).all()
    assert first.weights[-margin:].eq(0).all()
    assert first.weights[0] == second.weights[-1] == 1


def test_no_sliver_where_a_fixed_step_would_leave_one() -> None:
    plan = plan_tiles(540, 1010, 1, 8, TileSettings("tiled", 512, 32))
    assert [(span.start, span.stop) for span in plan.rows] == [(0, 288), (256, 540)]
    assert [(span.start, span.stop) for span in plan.columns] == [(0, 360), (328, 688), (656, 1010)]
    assert plan.tile_count == 6


def test_fitting_takes_the_largest_tiles_that_fit() -> None:
    def areas(most: int, overlap: int = 16) -> tuple[int, list[int]]:
        plan = plan_fitting(400, 600, 1, 8, overlap, fits=lambda h, w: h * w <= most)
        sizes = [
            (t.rows.stop - t.rows.start, t.columns.stop - t.columns.start) for t in plan.tiles()
        ]
        return plan.tile_count, [height * width for height, width in sizes]

    assert areas(400 * 600) == (1, [400 * 600])
    count, sizes = areas(400 * 600 - 1)
    assert count == 2
    assert max(sizes) < 400 * 320
    for most in (50_000, 10_000, 2_000):
        count, sizes = areas(most)
        assert most / 2 < max(sizes) <= most
    # Where nothing fits the smallest tiles are a window larger than the overlap.
    assert max(areas(1)[1]) == (16 + 8) ** 2


def test_whole_is_one_tile() -> None:
    plan = plan_whole(30, 50, 2)
    assert plan.tile_count == 1
    assert plan.pixels == 1500


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "mode": ({"mode": "tile"}, "'tile'"),
    "tile too small": ({"tile_size": 31}, "31"),
    "negative overlap": ({"overlap": -1}, "-1"),
    "overlap too large": ({"tile_size": 64, "overlap": 33}, "64.*33"),
    "budget": ({"memory_budget": 0}, "0 bytes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_setting(name: str) -> None:
    values, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        TileSettings(**values)
