"""Images through the restorer: shapes, channels, precisions, callbacks."""

from __future__ import annotations

import gc
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from swinir_core import Cancelled, ImageError, Restorer, SwinIR, TileSettings
from swinir_core.errors import PrecisionError
from swinir_core.images import resize
from swinir_core.images.color import rgb_to_gray
from swinir_core.images.resize import ENLARGE_MARGIN, enlarge
from swinir_core.restoration.execution import Job
from swinir_core.restoration.image_model import Ensemble
from swinir_core.restoration.inputs import Inputs, check_inputs
from swinir_core.restoration.peak_memory import PeakMemory
from tests.support.models import PretendModel
from tests.support.reference import GRAY, SMALL, Recorder, network


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
    image[..., -1] = image[..., -1] * 0.9 + 0.1  # Visible everywhere: no colour is replaced.
    result = color(image)
    assert result.shape == (1, 32, 40, channels)
    assert torch.allclose(result[..., :-1], color(image[..., :-1]), atol=1e-6)
    bicubic = F.interpolate(image[None, ..., -1], scale_factor=2, mode="bicubic").clamp(0, 1)
    assert torch.allclose(result[..., -1], bicubic[0])


def test_alpha_is_kept_where_nothing_is_enlarged(gray: Restorer) -> None:
    image = torch.rand(1, 16, 20, 4)
    assert torch.equal(gray(image)[..., -1], image[..., -1])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_alpha_is_enlarged_alike_wherever_it_lies(scale: int) -> None:
    alpha = torch.rand(300, 40, 1)
    whole = enlarge(alpha, scale)
    parts = []
    for start in range(0, 300, 60):
        first = max(start - ENLARGE_MARGIN, 0)
        part = enlarge(alpha[first : start + 60 + ENLARGE_MARGIN], scale)
        parts.append(part[(start - first) * scale :][: 60 * scale])
    assert torch.equal(torch.cat(parts), whole)
    torchs = F.interpolate(alpha.double().movedim(-1, 0)[None], scale_factor=scale, mode="bicubic")
    assert torch.allclose(whole.double(), torchs[0].movedim(0, -1).clamp(0, 1), atol=1e-6)


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
        (np.zeros((1, 8, 8, 3), np.float32), "got ndarray; use torch.from_numpy"),
    ],
)
def test_other_images_are_refused(color: Restorer, images: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        color(images)


def test_a_plan_for_another_size_is_refused(color: Restorer) -> None:
    with pytest.raises(ValueError, match=r"for images of \(8, 9\), these are \(9, 8\)"):
        color.run(check_inputs(torch.rand(1, 9, 8, 3)), color.plan(8, 9))


def test_progress_rises_to_the_pixels_of_all_tiles(color: Restorer) -> None:
    tiles = TileSettings("tiled", 32, 8)
    seen = []
    color(torch.rand(2, 40, 60, 3), tiles, progress=lambda *x: seen.append(x))
    plan = color.plan(40, 60, tiles).tiles
    groups = {tile.size for tile in plan}
    assert len(seen) > 2 * len(groups) * sum(SMALL.depths)
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {2 * plan.pixels}
    assert seen[-1] == (2 * plan.pixels, 2 * plan.pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_progress_is_complete_for_every_kind_of_image(gray: Restorer, channels: int) -> None:
    seen = []
    gray(torch.rand(1, 24, 24, channels), progress=lambda *x: seen.append(x))
    assert seen == sorted(seen)
    assert seen[-1] == (24 * 24, 24 * 24)


def gray_picture(*channels: int) -> torch.Tensor:
    """(1, 48, 40, n): for every number of ``channels`` as many equal ones, of random numbers."""
    picture = torch.rand(1, 48, 40, len(channels))
    return picture.repeat_interleave(torch.tensor(channels), -1)


GRAY_IMAGES = {
    "gray": (gray_picture(1), 1),
    "three equal channels": (gray_picture(3), 1),
    "and alpha": (gray_picture(3, 1), 1),
    "colour": (gray_picture(1, 1, 1), 3),
    "two of three": (gray_picture(2, 1), 3),
    "one of two images is gray": (torch.cat([gray_picture(3), gray_picture(1, 1, 1)]), 4),
}
"""Images, and how often a gray model runs for a tile of them all."""


@pytest.mark.parametrize("tiles", [TileSettings(), TileSettings("tiled", 32, 8)], ids=str)
@pytest.mark.parametrize("name", GRAY_IMAGES)
def test_a_gray_model_runs_equal_channels_once(name: str, tiles: TileSettings) -> None:
    images, runs = GRAY_IMAGES[name]
    model, seen = Recorder(GRAY), []
    restorer = Restorer(model)
    result = restorer(images, tiles, progress=lambda *x: seen.append(x))
    planned = restorer.plan_for(check_inputs(images), tiles)
    assert sum(shape[0] for shape in model.shapes) == runs * len(planned.tiles)
    assert seen[-1] == (planned.pixels, planned.pixels)
    assert ("by itself" in planned.summary()) == (runs > 1)
    for channel in range(min(images.shape[-1], 3)):
        # With its alpha, which decides on what is seen of its colours.
        one = torch.cat([images[..., channel : channel + 1], images[..., 3:]], -1)
        alone = restorer(one, tiles)[..., :1]
        assert torch.allclose(result[..., channel : channel + 1], alone, atol=5e-6)


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


BESIDE: dict[str, tuple[int, dict[str, Any], bool]] = {
    "alpha": (4, {}, False),
    "mask": (3, {}, True),
    "mask of restored alpha": (4, {"alpha": "restored"}, True),
    "colours": (3, {"colors": "input"}, False),
}


@pytest.mark.parametrize(("channels", "options", "masked"), BESIDE.values(), ids=BESIDE)
def test_a_stop_is_asked_for_every_64_rows_when_all_tiles_are_done(
    channels: int, options: dict[str, Any], masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resize, "_VALUES_AT_ONCE", 64 * 4 * 50)
    images, height = torch.rand(1, 600, 50, channels), 600
    restorer = Restorer(PretendModel(scale=2), "cpu", torch.float32, **options)
    progress, asked = [], []

    def cancelled() -> bool:
        asked.append(progress[-1:] == [(pixels, pixels)])
        return sum(asked) == limit

    inputs = check_inputs(images, torch.rand(1, 600, 50) if masked else None)
    plan = restorer.plan_for(inputs)
    pixels, limit = plan.pixels, 10**9
    restorer.run(inputs, plan, lambda *x: progress.append(x), cancelled)
    assert sum(asked) >= height / 64
    limit, asked, progress = sum(asked), [], []
    with pytest.raises(Cancelled):
        restorer.run(inputs, plan, lambda *x: progress.append(x), cancelled)


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


def test_every_tile_is_told_when_it_is_done(color: Restorer) -> None:
    tiles = TileSettings("tiled", 32, 8)
    images = torch.rand(2, 40, 60, 3)
    places_done = []

    def finished(job: Job) -> None:
        places_done.append((job.tile.rows.start, job.tile.columns.start))
        rows, columns = job.tile.rows, job.tile.columns
        done = job.result[rows.start * 2 : rows.stop * 2, columns.start * 2 : columns.stop * 2]
        assert done.any()

    color(images, tiles, finished=finished)
    places = [(t.rows.start, t.columns.start) for t in color.plan(40, 60, tiles).tiles]
    assert sorted(places_done[: len(places)]) == sorted(places_done[len(places) :]) == places


def test_the_ensemble_is_an_option() -> None:
    model, images = network(SMALL), torch.rand(1, 12, 20, 3)
    expected = Restorer(Ensemble(model), "cpu", torch.float32)(images)
    assert torch.equal(Restorer(model, ensemble=True)(images), expected)
    assert not torch.equal(Restorer(model)(images), expected)


def test_a_result_larger_than_memory_is_refused_before_the_work(color: Restorer) -> None:
    frames = torch.zeros(1, 1, 1, 3).expand(10**9, 400, 400, 3)
    with pytest.raises(MemoryError, match=r"images of 800x800 pixels, takes 7680000\.0 GB .* free"):
        color.plan_for(Inputs(frames, None))


@pytest.mark.parametrize("mode", ["whole", "tiled"])
@pytest.mark.parametrize("after", [1, 10, 30])
def test_a_run_that_is_stopped_leaves_no_tensor(color: Restorer, mode: str, after: int) -> None:
    """Not even until garbage is collected."""
    asked = count()
    gc.collect()
    gc.disable()
    try:
        with PeakMemory() as memory, pytest.raises(Cancelled):
            color(
                torch.rand(1, 64, 48, 3),
                TileSettings(mode, 32, 16),
                cancelled=lambda: next(asked) >= after,
            )
        assert memory.peak > 0
        assert memory.current == 0
    finally:
        gc.enable()
