"""Plans of a restorer: tiles, memory, and the sentence about them."""

from __future__ import annotations

import pytest
import torch
from skimage import data

from swinir_core import Restorer, TileSettings, estimate_memory
from swinir_core.image_files.picture import Picture
from swinir_core.images.levels import to_floats
from swinir_core.restoration import restorer
from swinir_core.restoration.inputs import check_inputs
from swinir_core.restoration.streaming import Stream
from tests.support.models import PretendModel
from tests.support.reference import GRAY, SMALL


def test_tiles_meet_without_a_seam(color: Restorer) -> None:
    image = torch.from_numpy(data.astronaut()[100:196, 150:270]).float()[None] / 255
    whole = color(image, TileSettings("whole"))
    for tile_size, overlap in ((80, None), (64, 32)):
        tiles = TileSettings("tiled", tile_size, overlap)
        assert len(color.plan(96, 120, tiles).tiles) >= 4
        difference = (color(image, tiles) - whole).abs()
        assert difference.max() <= 0.25 / 255


def test_auto_cuts_only_what_does_not_fit(color: Restorer) -> None:
    enough = estimate_memory(SMALL, 100, 100)
    assert len(color.plan(100, 100, TileSettings(memory_budget=enough)).tiles) == 1
    tight = color.plan(100, 100, TileSettings(memory_budget=enough - 1))
    assert len(tight.tiles) == 2
    assert all(estimate_memory(SMALL, *tile.size) < enough for tile in tight.tiles)
    assert len(color.plan(100, 100).tiles) == 1


def test_memory_of_the_result_is_not_free_for_tiles(
    color: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, result = check_inputs(torch.zeros(1, 100, 100, 3)), 4 * 200 * 200 * 3
    enough = estimate_memory(SMALL, 100, 100) + result
    for free, tiles in ((enough, 1), (enough - 1, 2)):
        monkeypatch.setattr(restorer, "free_memory", lambda _, free=free: free)
        assert len(color.plan_for(inputs).tiles) == tiles


def test_only_a_cut_asks_the_model_how_far_tiles_overlap(
    color: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    find = restorer.find_overlap
    monkeypatch.setattr(restorer, "find_overlap", lambda *a: asked.append(a) or find(*a))
    color(torch.rand(2, 40, 50, 3))
    for tiles in (TileSettings("tiled", 64), TileSettings("whole"), TileSettings("tiled", 32, 8)):
        color.plan(40, 64, tiles)
    assert asked == []
    for _ in range(2):
        plan = color.plan(80, 80, TileSettings("tiled", 64))
    assert len(asked) == 1
    assert plan.tiles.rows[0].stop - plan.tiles.rows[1].start == color.overlap


SUMMARIES = {
    "1 image of 40x24, whole, 1 at a time, ": (24, 40, TileSettings(), 1),
    "9 images of 40x24, whole, 8 at a time, ": (24, 40, TileSettings(), 9),
    "6 tiles of 64x64, 2 at a time, ": (100, 150, TileSettings("tiled", 64, 16), 1),
    "3 images in 6 tiles of 64x64, 2 at a time, ": (100, 150, TileSettings("tiled", 64, 16), 3),
}


@pytest.mark.parametrize("words", SUMMARIES)
def test_summary(color: Restorer, words: str) -> None:
    height, width, tiles, batch = SUMMARIES[words]
    plan = color.plan(height, width, tiles, batch)
    assert plan.memory == estimate_memory(SMALL, *plan.tiles.largest, plan.at_once)
    assert plan.summary() == f"{words}{plan.memory / 1e6:.0f} MB of memory"


@pytest.mark.parametrize(
    ("channels", "at_once"),
    [(1, 1), (2, 1), (3, 3), (4, 3)],
    ids=["gray", "gray, alpha", "RGB", "RGBA"],
)
@pytest.mark.parametrize("how", ["whole", "stream"])
def test_the_plan_counts_the_channels_that_a_gray_model_restores_one_by_one(
    gray: Restorer, channels: int, at_once: int, how: str
) -> None:
    batches = []
    gray.model.register_forward_pre_hook(  # pyright: ignore[reportAttributeAccessIssue]
        lambda _, inputs: batches.append(len(inputs[0]))
    )
    image = torch.rand(1, 24, 40, channels)
    if how == "whole":
        plan = gray.plan(24, 40, channels=channels)
        gray(image)
    else:
        samples = image[0].mul(255).byte().numpy()
        stream = Stream(gray, Picture(samples, to_floats))
        plan = stream.plan
        list(stream.bands())
    assert plan.at_once == max(batches) == at_once
    assert plan.memory == estimate_memory(GRAY, 24, 40, at_once)
    assert ("each channel by itself" in plan.summary()) == (at_once == 3)


def test_a_budget_that_the_smallest_tiles_exceed_is_in_the_summary(color: Restorer) -> None:
    tiles = TileSettings(memory_budget=1000, overlap=8)
    plan = color.plan(64, 64, tiles)
    assert plan.memory > 1000
    assert plan.summary().endswith(
        ", more than the 0 MB there are for it; "
        f"overlaps make it compute {plan.tiles.pixels / 64**2:.1f} times the pixels of the image"
    )
    assert "more than" not in color.plan(64, 64).summary()


def test_tiles_too_small_for_their_overlap_are_in_the_summary(color: Restorer) -> None:
    plan = color.plan(200, 64, TileSettings("tiled", 32))
    assert plan.tiles.overlap == 16 < color.overlap
    assert f"share 16 pixels of the {color.overlap} that this model needs" in plan.summary()
    assert "share" not in color.plan(200, 64, TileSettings("tiled", 32, overlap=16)).summary()
    assert "share" not in color.plan(200, 64, TileSettings("tiled", 128)).summary()


class OnGrid(PretendModel):
    """A model with windows of any size, which takes 100 bytes a pixel."""

    def __init__(self, alignment: int) -> None:
        super().__init__()
        self.alignment = alignment

    def at_once(self, _: int, count: int, *__: object) -> int:
        return min(count, 4)

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        return 100 * height * width * batch


PROMISES = {
    "all kept": (8, TileSettings("tiled", 64, 16, 4, 10**7), ""),
    "a window of half the tile": (32, TileSettings("tiled", 64, 16), ""),
    "a window of more than half the tile": (40, TileSettings("tiled", 64, 0), ""),
    "so that an overlap does not fit": (40, TileSettings("tiled", 64, 16), "overlap"),
    "nor one that is found": (40, TileSettings("tiled", 64), "overlap"),
    "a window larger than the tile": (64, TileSettings("tiled", 48, 0), "tile"),
    "and an overlap": (64, TileSettings("tiled", 48, 16), "tile overlap"),
    "larger than a low tile": (64, TileSettings("tiled", (32, 96), 0), "tile"),
    "a window of all there is": (512, TileSettings("tiled", 64), "tile"),
    "auto, a budget that fits": (64, TileSettings("auto", memory_budget=2 * 10**6), ""),
    "auto, less than a window": (64, TileSettings("auto", memory_budget=10**5), "memory"),
    "auto, with an overlap": (64, TileSettings("auto", 32, 16, memory_budget=10**5), "memory"),
    "whole": (64, TileSettings("whole", 32, 16, memory_budget=10**6), "memory"),
    "tiled, a budget": (8, TileSettings("tiled", 64, 16, 9, 10**6), ""),
    "tiled, less than a tile": (8, TileSettings("tiled", 64, 16, 9, 10**5), "memory"),
}


@pytest.mark.parametrize("name", PROMISES)
def test_what_was_asked_for_is_kept_or_said_not_to_be(name: str) -> None:
    alignment, settings, broken = PROMISES[name]
    plan = Restorer(OnGrid(alignment), "cpu", torch.float32).plan(150, 400, settings)
    tiles, (height, width) = plan.tiles, settings.tile_sides
    cut, tiled = len(tiles) > 1, settings.mode == "tiled"
    kept = {
        "tile": not tiled or (tiles.largest[0] <= height and tiles.largest[1] <= width),
        "overlap": not cut or tiles.overlap >= plan.overlap_wanted >= (settings.overlap or 0),
        "memory": plan.memory <= (settings.memory_budget or plan.memory),
    }
    said = {"tile": "were asked for, but", "overlap": "; tiles of this", "memory": ", more than"}
    assert [promise for promise, is_kept in kept.items() if not is_kept] == broken.split()
    assert [promise for promise, words in said.items() if words in plan.summary()] == broken.split()


def test_tiles_that_a_mask_leaves_out_are_in_the_summary(color: Restorer) -> None:
    tiles, images = TileSettings("tiled", 64, 16), torch.rand(2, 100, 150, 3)
    mask = torch.zeros(2, 100, 150)
    mask[0, :10, :10] = 1
    ends = []
    color(images, tiles, finished=ends.append, mask=mask)
    plan = color.plan(100, 150, tiles, 2, mask=mask)
    assert plan.untouched == 12 - len(ends) == 11
    assert plan.summary().endswith(" MB of memory; the mask leaves out 11 of 12 tiles")
    assert "mask" not in color.plan(100, 150, tiles, 2, mask=torch.ones_like(mask)).summary()
    one_for_both = color.plan(100, 150, tiles, 2, mask=mask[:1])
    assert one_for_both.untouched == 10
    whole = color.plan(100, 150, batch=2, mask=mask)
    assert whole.summary().endswith("; the mask leaves out 1 of 2 images")


@pytest.mark.parametrize("masks", [1, 2])
def test_a_black_mask_is_in_the_summary(color: Restorer, masks: int) -> None:
    plan = color.plan(100, 150, batch=2, mask=torch.zeros(masks, 100, 150))
    assert plan.summary().endswith(
        "it is black everywhere, or strength is 0, so nothing is restored"
    )
    assert "mask" not in color.plan(100, 150, batch=0).summary()


def test_large_numbers_are_summed_up_in_gigabytes(color: Restorer) -> None:
    tiles = TileSettings("whole", memory_budget=10**10)
    assert color.plan(5000, 5000, tiles).summary().endswith(" GB of memory")


def test_frames_share_one_plan(color: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    place = restorer.place_tiles
    monkeypatch.setattr(restorer, "place_tiles", lambda *a: planned.append(a) or place(*a))
    color(torch.rand(4, 40, 40, 3), TileSettings("tiled", 32, 8))
    assert len(planned) == 1
