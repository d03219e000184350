"""Images through the restorer: shapes, channels, tiles, batches, callbacks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from swinir_core import (
    Cancelled,
    ImageError,
    Restorer,
    SwinIR,
    SwinIRConfig,
    TileSettings,
    estimate_memory,
    restorer,
)
from swinir_core.color import rgb_to_gray
from swinir_core.ensemble import Ensemble
from swinir_core.errors import PrecisionError
from swinir_core.execution import Piece
from swinir_core.peak_memory import PeakMemory
from swinir_core.restorer import CPU_PIXELS_AT_ONCE
from swinir_core.swin_layer import SwinTransformerLayer
from tests.reference import SMALL, our_network, reference_network

GRAY = replace(SMALL, scale=1, in_channels=1, upsampler="none", mean=None, task="")


def network(config: SwinIRConfig) -> SwinIR:
    return our_network(config, reference_network(config)).requires_grad_(False)


@pytest.fixture
def color() -> Restorer:
    return Restorer(network(SMALL))


@pytest.fixture
def gray() -> Restorer:
    return Restorer(network(GRAY))


def test_equals_the_network(color: Restorer) -> None:
    images = torch.rand(2, 20, 30, 3)
    result = color(images)
    expected = network(SMALL)(images.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    assert result.shape == (2, 40, 60, 3)
    assert result.dtype == torch.float32
    assert torch.allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_float_types_are_taken(color: Restorer, dtype: torch.dtype) -> None:
    images = torch.rand(1, 16, 16, 3).half().to(dtype)
    assert torch.equal(color(images), color(images.float()))


def test_input_is_not_changed_and_may_be_strided(color: Restorer) -> None:
    images = torch.rand(3, 20, 16, 1).transpose(0, 3)
    before = images.clone()
    assert color(images).shape == (1, 40, 32, 3)
    assert torch.equal(images, before)


def test_color_model_on_gray(color: Restorer) -> None:
    image = torch.rand(1, 16, 16, 1)
    expected = rgb_to_gray(color(image.expand(-1, -1, -1, 3)))
    assert torch.allclose(color(image)[..., 0], expected, atol=1e-6)


def test_gray_model_on_color(gray: Restorer) -> None:
    image = torch.rand(1, 16, 16, 3)
    channels = [gray(channel[..., None]) for channel in image.unbind(-1)]
    assert torch.allclose(gray(image), torch.cat(channels, -1), atol=1e-6)


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_enlarged_along(color: Restorer, channels: int) -> None:
    image = torch.rand(1, 16, 20, channels)
    result = color(image)
    assert result.shape == (1, 32, 40, channels)
    assert torch.allclose(result[..., :-1], color(image[..., :-1]), atol=1e-6)
    bicubic = F.interpolate(image[None, ..., -1], scale_factor=2, mode="bicubic").clamp(0, 1)
    assert torch.allclose(result[..., -1], bicubic[0])


def test_alpha_is_kept_where_nothing_is_enlarged(gray: Restorer) -> None:
    image = torch.rand(1, 16, 20, 4)
    assert torch.equal(gray(image)[..., -1], image[..., -1])


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 2)])
def test_small_and_narrow_images(color: Restorer, size: tuple[int, int]) -> None:
    for mode in ("auto", "whole", "tiled"):
        result = color(torch.rand(1, *size, 3), TileSettings(mode, 32, 16))
        assert result.shape == (1, 2 * size[0], 2 * size[1], 3)
        assert result.isfinite().all()


def test_no_image_is_no_result(color: Restorer) -> None:
    assert color(torch.rand(0, 8, 9, 3)).shape == (0, 16, 18, 3)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(8, 8, 3), "batch, height, width"),
        (torch.rand(1, 8, 8, 5), r"\(1, 8, 8, 5\)"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), "uint8"),
        (torch.rand(1, 0, 8, 3), "no pixels"),
    ],
)
def test_other_shapes_are_refused(color: Restorer, images: torch.Tensor, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        color(images)


def test_tiles_meet_without_a_seam(color: Restorer) -> None:
    image = torch.from_numpy(data.astronaut()[100:196, 150:270]).float()[None] / 255
    whole = color(image, TileSettings("whole"))
    for tile_size, overlap in ((80, None), (64, 32)):
        tiles = TileSettings("tiled", tile_size, overlap)
        assert color.plan(96, 120, tiles).tile_count >= 4
        difference = (color(image, tiles) - whole).abs()
        assert difference.max() <= 0.25 / 255


def test_auto_cuts_only_what_does_not_fit(color: Restorer) -> None:
    enough = estimate_memory(SMALL, 100, 100)
    assert color.plan(100, 100, TileSettings(memory_budget=enough)).tile_count == 1
    tight = color.plan(100, 100, TileSettings(memory_budget=enough - 1))
    assert tight.tile_count == 2
    assert all(estimate_memory(SMALL, *tile.size) < enough for tile in tight.tiles())
    assert color.plan(100, 100).tile_count == 1


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
    assert plan.rows[0].stop - plan.rows[1].start == color.overlap


FORECASTS = {
    "1 image of 40x24, whole, 1 at a time, ": (24, 40, TileSettings(), 1),
    "9 images of 40x24, whole, 8 at a time, ": (24, 40, TileSettings(), 9),
    "6 tiles of 64x64, 2 at a time, ": (100, 150, TileSettings("tiled", 64, 16), 1),
    "3 images in 6 tiles of 64x64, 2 at a time, ": (100, 150, TileSettings("tiled", 64, 16), 3),
}


@pytest.mark.parametrize("words", FORECASTS)
def test_forecast(color: Restorer, words: str) -> None:
    height, width, tiles, batch = FORECASTS[words]
    plan = color.plan(height, width, tiles, batch)
    assert plan.bytes == estimate_memory(SMALL, *plan.largest, plan.at_once)
    assert str(plan) == f"{words}{plan.bytes / 1e6:.0f} MB of memory"


def test_a_budget_that_the_smallest_tiles_exceed_is_in_the_forecast(color: Restorer) -> None:
    tiles = TileSettings(memory_budget=1000, overlap=8)
    plan = color.plan(64, 64, tiles)
    assert plan.bytes > 1000
    assert str(plan).endswith(
        ", more than the 0 MB there are for it; "
        f"overlaps make it compute {plan.pixels / 64**2:.1f} times the pixels of the image"
    )
    assert "more than" not in str(color.plan(64, 64))


def test_tiles_too_small_for_their_overlap_are_in_the_forecast(color: Restorer) -> None:
    plan = color.plan(200, 64, TileSettings("tiled", 32))
    assert plan.overlap == 16 < color.overlap
    assert f"share 16 pixels of the {color.overlap} that this model needs" in str(plan)
    assert "share" not in str(color.plan(200, 64, TileSettings("tiled", 32, overlap=16)))
    assert "share" not in str(color.plan(200, 64, TileSettings("tiled", 128)))


def test_large_numbers_are_forecast_in_gigabytes(color: Restorer) -> None:
    assert str(color.plan(5000, 5000, TileSettings("whole"))).endswith(" GB of memory")


def test_pieces_are_run_together_up_to_the_budget(color: Restorer) -> None:
    for at_once in (1, 2, 4):
        tiles = TileSettings(memory_budget=estimate_memory(SMALL, 16, 16, at_once))
        assert color.plan(16, 16, tiles, batch=4).at_once == at_once
    assert color.plan(16, 16, batch=1000).at_once == CPU_PIXELS_AT_ONCE // 16**2


class Recorder(SwinIR):
    """A network that notes what it is given."""

    def __init__(self, config: SwinIRConfig) -> None:
        super().__init__(config)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        return super().forward(x)


def test_small_frames_are_run_together() -> None:
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(CPU_PIXELS_AT_ONCE // 20**2 + 1, 20, 20, 3))
    assert model.shapes == [(CPU_PIXELS_AT_ONCE // 20**2, 3, 20, 20), (1, 3, 20, 20)]


def test_channels_are_run_together_by_a_gray_model() -> None:
    model = Recorder(GRAY)
    Restorer(model)(torch.rand(1, 8, 8, 4))
    assert model.shapes == [(3, 1, 8, 8)]


def test_equal_tiles_of_a_frame_are_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restorer, "CPU_PIXELS_AT_ONCE", 5 * 32**2)
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(2, 52, 52, 3), TileSettings("tiled", 32, 8))
    # 52 pixels are 32 and 28, eight of them shared.
    sizes = [(32, 32), (32, 28), (28, 32), (28, 28)]
    assert model.shapes == [(1, 3, *size) for size in sizes] * 2

    model.shapes.clear()
    Restorer(model)(torch.rand(2, 56, 56, 3), TileSettings("tiled", 32, 8))
    assert model.shapes == [(4, 3, 32, 32)] * 2


def test_no_more_are_run_together_than_asked_for() -> None:
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(5, 8, 8, 3), TileSettings(at_once=2))
    assert [shape[0] for shape in model.shapes] == [2, 2, 1]


def test_no_more_small_tiles_than_asked_for_are_run_together() -> None:
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(1, 112, 106, 3), TileSettings("tiled", (35, 43), 8, at_once=1))
    # Two of the last would have fewer pixels than one of the first.
    assert model.shapes[0] == (1, 3, 32, 40)
    assert model.shapes[-1] == (1, 3, 24, 26)


def test_tiles_may_be_rectangular() -> None:
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(1, 60, 100, 3), TileSettings("tiled", (32, 64), 8, at_once=1))
    # Three rows and two columns; a window of 8 pixels is the most that tiles differ by.
    assert len(model.shapes) == 6
    assert {shape[2] for shape in model.shapes} == {20, 24, 32}
    assert {shape[3] for shape in model.shapes} == {52, 56}


def test_a_model_without_stages_is_run_one_by_one() -> None:
    class Foreign(Recorder):
        @property
        def stages(self) -> list[SwinTransformerLayer]:
            return []

    model = Foreign(SMALL)
    Restorer(model)(torch.rand(3, 8, 8, 3))
    assert model.shapes == [(1, 3, 8, 8)] * 3


@given(
    batch=st.integers(1, 5),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    channels=st.integers(1, 4),
    in_channels=st.sampled_from([1, 3]),
    at_once=st.integers(1, 8),
    overlap=st.sampled_from([None, 0, 8, 16]),
    mode=st.sampled_from(["auto", "tiled"]),
)
@settings(deadline=None, max_examples=15, derandomize=True)
def test_together_as_one_by_one(
    batch: int,
    height: int,
    width: int,
    channels: int,
    in_channels: int,
    at_once: int,
    overlap: int | None,
    mode: str,
) -> None:
    restore = Restorer(network(SMALL if in_channels == 3 else GRAY))
    images = torch.rand(batch, height, width, channels)
    tiles = TileSettings(mode, 32, overlap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restorer, "CPU_PIXELS_AT_ONCE", at_once * 32**2)
        together = restore(images, tiles)
        patch.setattr(restorer, "CPU_PIXELS_AT_ONCE", 1)
        one_by_one = torch.cat([restore(image[None], tiles) for image in images])
    assert torch.allclose(together, one_by_one, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["whole", "tiled"])
def test_more_frames_take_no_more_memory_beside_the_result(
    color: Restorer, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restorer, "CPU_PIXELS_AT_ONCE", 2 * 48**2)
    tiles = TileSettings(mode, 48, 16)
    growth = []
    for batch in (1, 8) if mode == "whole" else (2, 8):
        images = torch.rand(batch, 48, 80, 3)
        with PeakMemory() as memory:
            result = color(images, tiles)
        growth.append(memory.peak - result.numel() * 4)
    assert growth[0] == growth[1] > 0


def test_frames_share_one_plan(color: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    plan = restorer.plan_tiles
    monkeypatch.setattr(restorer, "plan_tiles", lambda *a: planned.append(a) or plan(*a))
    color(torch.rand(4, 40, 40, 3), TileSettings("tiled", 32, 8))
    assert len(planned) == 1


def test_progress_rises_to_the_pixels_of_all_tiles(color: Restorer) -> None:
    tiles = TileSettings("tiled", 32, 8)
    seen = []
    color(torch.rand(2, 40, 60, 3), tiles, progress=lambda *x: seen.append(x))
    plan = color.plan(40, 60, tiles)
    groups = {tile.size for tile in plan.tiles()}
    assert len(seen) == 2 * len(groups) * (sum(SMALL.depths) + 1)
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {2 * plan.pixels}
    assert seen[-1] == (2 * plan.pixels, 2 * plan.pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_progress_is_complete_for_every_kind_of_image(gray: Restorer, channels: int) -> None:
    seen = []
    gray(torch.rand(1, 24, 24, channels), progress=lambda *x: seen.append(x))
    assert seen == sorted(seen)
    assert seen[-1] == (24 * 24, 24 * 24)


@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_cancelled_within_a_tile(color: Restorer, after: int) -> None:
    done = []
    with pytest.raises(Cancelled, match="stopped after"):
        color(
            torch.rand(1, 64, 64, 3),
            TileSettings("tiled", 32, 0),
            progress=lambda *x: done.append(x),
            cancelled=lambda: len(done) == after,
        )
    assert len(done) == after
    # Nothing is left behind on the model.
    assert color(torch.rand(1, 16, 16, 3)).shape == (1, 32, 32, 3)
    assert len(done) == after


def test_exceptions_of_a_callback_pass_through(color: Restorer) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt() -> bool:
        raise Interrupted

    with pytest.raises(Interrupted):
        color(torch.rand(1, 8, 8, 3), cancelled=interrupt)


def test_result_carries_no_gradient() -> None:
    trainable = network(SMALL).requires_grad_(True)
    assert not Restorer(trainable)(torch.rand(1, 8, 8, 3)).requires_grad


def test_bfloat16_model_runs_in_its_own_precision() -> None:
    model = SwinIR(SMALL, dtype=torch.bfloat16)
    model.load_state_dict(network(SMALL).state_dict())
    restorer = Restorer(model)
    assert restorer.dtype == torch.bfloat16
    image = torch.rand(1, 16, 16, 3)
    assert (restorer(image) - Restorer(network(SMALL))(image)).abs().mean() < 0.01


def test_overflow_in_float16_is_said_and_not_shown_as_black() -> None:
    model = SwinIR(SMALL, dtype=torch.float16)
    model.load_state_dict(network(SMALL).state_dict())
    with torch.no_grad():
        model.conv_first.weight.mul_(1e5)  # pyright: ignore
        model.conv_after_body.weight.mul_(1e5)  # pyright: ignore
    with pytest.raises(PrecisionError, match="bfloat16"):
        Restorer(model)(torch.rand(1, 16, 16, 3))


def test_every_piece_is_told_when_it_is_done(color: Restorer) -> None:
    tiles = TileSettings("tiled", 32, 8)
    images = torch.rand(2, 40, 60, 3)
    pieces = []

    def finished(piece: Piece) -> None:
        pieces.append((piece.tile.rows.start, piece.tile.columns.start))
        rows, columns = piece.tile.rows, piece.tile.columns
        done = piece.result[rows.start * 2 : rows.stop * 2, columns.start * 2 : columns.stop * 2]
        assert done.any()

    color(images, tiles, finished=finished)
    places = [(t.rows.start, t.columns.start) for t in color.plan(40, 60, tiles).tiles()]
    assert sorted(pieces[: len(places)]) == sorted(pieces[len(places) :]) == places


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_only_the_masked_part_is_restored(channels: int, in_channels: int) -> None:
    restore = Restorer(network(SMALL if in_channels == 3 else GRAY))
    scale = restore.model.scale
    images, mask = torch.rand(2, 40, 60, channels), torch.zeros(1, 40, 60)
    mask[:, 4:20, 10:30], mask[:, 20:24, 10:30] = 1, 0.5

    plainly = restore(images, mask=torch.zeros(1, 40, 60))
    whole = restore(images)
    partly = restore(images, mask=mask)

    def inside(rows: slice, columns: slice) -> tuple[slice, ...]:
        return slice(None), *(slice(s.start * scale, s.stop * scale) for s in (rows, columns))

    core, far = inside(slice(5, 19), slice(11, 29)), inside(slice(26, 40), slice(0, 60))
    assert torch.allclose(partly[core], whole[core], atol=1e-6)
    assert torch.equal(partly[far], plainly[far])
    if scale == 1:
        assert torch.equal(plainly, images)
        between = inside(slice(20, 24), slice(10, 30))
        assert torch.allclose(partly[between], (whole + plainly)[between] / 2, atol=1e-6)


def test_tiles_the_mask_does_not_touch_are_not_run() -> None:
    model = Recorder(SMALL)
    restore, tiles = Restorer(model), TileSettings("tiled", 32, 8, at_once=1)
    images, mask = torch.rand(1, 56, 104, 3), torch.zeros(1, 56, 104)
    mask[:, 2:8, 74:78] = 1
    whole, model.shapes[:] = restore(images, tiles), []
    seen = []

    partly = restore(images, tiles, progress=lambda *x: seen.append(x), mask=mask)

    # Of two rows of four tiles the mask lies in two, where they overlap.
    assert len(model.shapes) == 2
    assert seen[-1] == (2 * 32 * 32, 2 * 32 * 32)
    assert torch.allclose(partly[:, 6:14, 150:154], whole[:, 6:14, 150:154], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [((3, 8, 9), "3 masks for 2 images"), ((1, 8, 8), r"must be \(batch, 8, 9\)")],
)
def test_a_mask_of_another_size_is_refused(
    color: Restorer, shape: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(ImageError, match=sentence):
        color(torch.rand(2, 8, 9, 3), mask=torch.ones(shape))


def test_a_mask_is_limited_to_0_and_1(color: Restorer) -> None:
    image, mask = torch.rand(1, 16, 24, 3), torch.rand(1, 16, 24) * 4 - 2
    expected = color(image, mask=mask.clamp(0, 1))
    assert torch.equal(color(image, mask=mask), expected)
    mask[0, 3, 3] = 0
    expected = color(image, mask=mask)
    mask[0, 3, 3] = torch.nan
    assert torch.equal(color(image, mask=mask), expected)


def test_the_ensemble_is_an_option() -> None:
    model, images = network(SMALL), torch.rand(1, 12, 20, 3)
    expected = Restorer(Ensemble(model), "cpu", torch.float32)(images)
    assert torch.equal(Restorer(model, ensemble=True)(images), expected)
    assert not torch.equal(Restorer(model)(images), expected)
