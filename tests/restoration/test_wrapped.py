"""Images that continue at the opposite edge: the middle of a tiling, without computing one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from swinir_core import Restorer, SwinIR, TileSettings
from swinir_core.restoration.foreign_model import ForeignModel
from swinir_core.restoration.inputs import check_inputs
from swinir_core.restoration.sizing import Held, TargetSize, restore_to_size
from swinir_core.restoration.streaming import Stream
from tests.support.models import PretendModel
from tests.support.reference import GRAY, SMALL, network

COPIES = 5
NETWORKS = {
    "pixelshuffledirect": SMALL,
    "pixelshuffle": replace(SMALL, upsampler="pixelshuffle", task=""),
    "nearest+conv": replace(SMALL, scale=4, upsampler="nearest+conv", task=""),
    "denoising": GRAY,
    "three convolutions": replace(SMALL, resi_connection="3conv"),
    "unshuffled": replace(SMALL, start_unshuffle=2),
}
AXES = {"wrapped": (1, 1), "wrapped horizontally": (0, 1), "wrapped vertically": (1, 0)}


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, height, width, channels, generator=generator)


def tiled(image: Tensor, axes: tuple[int, int]) -> Tensor:
    """Copies of (1, H, W, C) along the wrapped axes."""
    return image.repeat(1, *(COPIES if axis else 1 for axis in axes), 1)


def middle(result: Tensor, axes: tuple[int, int]) -> Tensor:
    for side, axis in enumerate(axes, start=1):
        length = result.shape[side] // COPIES
        result = result.narrow(side, COPIES // 2 * length, length) if axis else result
    return result


@pytest.mark.parametrize(
    ("name", "edges"),
    [*((name, "wrapped") for name in NETWORKS), *(("pixelshuffle", edges) for edges in AXES)],
)
def test_is_the_middle_of_a_tiling(name: str, edges: str) -> None:
    model, axes = network(NETWORKS[name]), AXES[edges]
    side = model.alignment
    image = picture(2 * side, 3 * side, model.in_channels)
    expected = middle(Restorer(model)(tiled(image, axes)), axes)
    restorer = Restorer(model, edges=edges)
    assert restorer.plan_for(check_inputs(image)).model_wraps
    torch.testing.assert_close(restorer(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("edges", ["wrapped", "wrapped horizontally"])
@pytest.mark.parametrize(
    "options",
    [
        {"ensemble": True},
        {"colors": "input"},
        {"strength": 0.4},
        {"mask": True},
        {"alpha": "enlarged"},
        {"alpha": "restored"},
    ],
    ids=str,
)
def test_all_that_is_done_to_a_result_wraps(edges: str, options: dict[str, Any]) -> None:
    options, axes, model = dict(options), AXES[edges], network(SMALL)
    image = picture(24, 32, 4 if "alpha" in options else 3)
    mask = None
    if options.pop("mask", False):
        mask = torch.zeros(1, 24, 32)
        mask[:, 14:, 20:] = 1
    tiled_mask = None if mask is None else tiled(mask[..., None], axes)[..., 0]
    expected = middle(Restorer(model, **options)(tiled(image, axes), mask=tiled_mask), axes)
    result = Restorer(model, edges=edges, **options)(image, mask=mask)
    torch.testing.assert_close(result, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("edges", AXES)
@pytest.mark.parametrize("factor", [1.25, 2.5])
def test_resized_results_wrap(edges: str, factor: float) -> None:
    axes, model, size = AXES[edges], network(SMALL), TargetSize("factor", factor)
    image = picture(24, 32)
    inputs = check_inputs(tiled(image, axes))
    expected = middle(restore_to_size(Restorer(model), inputs, size), axes)
    result = restore_to_size(Restorer(model, edges=edges), check_inputs(image), size)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("edges", ["wrapped", "wrapped horizontally"])
@pytest.mark.parametrize("tiles", [None, TileSettings("tiled", 32, overlap=8)], ids=str)
def test_masks_of_resized_results_wrap(edges: str, tiles: TileSettings | None) -> None:
    image, size, mask = picture(48, 80), TargetSize("factor", 1.25), torch.zeros(1, 48, 80)
    mask[:, :2, :2] = 1  # Resized, it and what it shows reach the opposite edges.
    restorer = Restorer(Blur(), "cpu", torch.float32, edges=edges)
    result = restore_to_size(restorer, check_inputs(image, mask), size, tiles)
    axes = AXES[edges]
    inputs = check_inputs(tiled(image, axes), tiled(mask[..., None], axes)[..., 0])
    expected = middle(restore_to_size(Restorer(Blur(), "cpu", torch.float32), inputs, size), axes)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("edges", AXES)
@pytest.mark.parametrize(
    "options", [{"alpha": "enlarged"}, {"alpha": "restored"}, {"colors": "input"}], ids=str
)
def test_rows_wrap_as_the_whole_does(edges: str, options: dict[str, Any]) -> None:
    image, tiles = picture(72, 40, 4), TileSettings("tiled", 32, overlap=8)
    restorer = Restorer(Blur(), "cpu", torch.float32, edges=edges, **options)
    rows = list(Stream(restorer, Held.of(image[0]), tiles).bands())
    assert len(rows) > 1 or options == {"colors": "input"}
    whole = restorer(image, tiles)[0]
    torch.testing.assert_close(torch.from_numpy(np.concatenate(rows)), whole, atol=1e-6, rtol=0)


def test_rolling_the_input_by_windows_rolls_the_result() -> None:
    restorer, image = Restorer(network(SMALL), edges="wrapped"), picture(24, 40)
    rolled = restorer(image.roll((8, 16), (1, 2)))
    torch.testing.assert_close(rolled, restorer(image).roll((16, 32), (1, 2)), atol=1e-6, rtol=0)


class Blur(PretendModel):
    """Mean over 5x5 pixels, which are black beyond the edges."""

    def __call__(self, x: Tensor, *_: object) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, 5, 1, 2)


def test_other_models_see_a_margin() -> None:
    image = picture(21, 30)
    expected = middle(Restorer(Blur(), "cpu", torch.float32)(tiled(image, (1, 1))), (1, 1))
    result = Restorer(Blur(), "cpu", torch.float32, edges="wrapped")(image)
    torch.testing.assert_close(result, expected)
    assert ForeignModel.wrapping(None, (True, True)) is None  # pyright: ignore[reportArgumentType]


def test_sides_that_are_no_windows_see_a_margin() -> None:
    image, restorer = picture(21, 30), Restorer(network(SMALL), edges="wrapped")
    plan, margin = restorer.plan_for(check_inputs(image)), restorer.overlap
    assert plan.tiles.margins == (margin, margin)
    around = image[:, torch.arange(-margin, 21 + margin) % 21]
    around = around[:, :, torch.arange(-margin, 30 + margin) % 30]
    expected = Restorer(network(SMALL))(around)[:, 2 * margin :, 2 * margin :][:, :42, :60]
    torch.testing.assert_close(restorer(image), expected)


def test_tiles_fit_within_the_tolerance_of_seams() -> None:
    image, settings = picture(64, 80), TileSettings("tiled", 40)
    expected = middle(Restorer(network(SMALL))(tiled(image, (1, 1))), (1, 1))
    result = Restorer(network(SMALL), edges="wrapped")(image, settings)
    torch.testing.assert_close(result, expected, atol=2 / 255, rtol=0)


def test_memory_that_runs_out_cuts_a_wrapped_image_open() -> None:
    class Short(SwinIR):
        def forward(self, x: Tensor, *given: Any, **named: Any) -> Tensor:
            if x.shape[-1] * x.shape[-2] > 64 * 64:
                raise torch.OutOfMemoryError("as on a card")
            return super().forward(x, *given, **named)

    image, whole = picture(96, 96), network(SMALL)
    short = Short(SMALL).eval()
    short.load_state_dict(whole.state_dict())
    result = Restorer(short.requires_grad_(False), edges="wrapped")(image)
    expected = Restorer(whole, edges="wrapped")(image)
    torch.testing.assert_close(result, expected, atol=2 / 255, rtol=0)


@pytest.mark.parametrize("model", [network(SMALL), PretendModel(2)], ids=["SwinIR", "another"])
def test_an_overlap_of_nothing_is_no_sign_that_a_model_wraps(model: Any) -> None:
    image = picture(19, 21)
    restore = Restorer(model, "cpu", torch.float32, edges="wrapped")
    found = restore(image)
    result = restore(image, TileSettings(overlap=0))  # A margin of one window at least.
    assert (result - found).abs().max() < 0.05


def test_progress_of_a_wrapped_image_that_is_cut_open_reaches_its_end() -> None:
    class Small(PretendModel):
        alignment = 8

        def wrapping(self, *_: object) -> Any:
            return self

        def __call__(self, x: Tensor, *_: object) -> Tensor:
            if x[:, 0].numel() > 24 * 24:
                raise MemoryError("out of memory")
            return super().__call__(x)

    calls: list[tuple[int, int]] = []
    restore = Restorer(Small(), "cpu", torch.float32, edges="wrapped")
    restore(picture(48, 48), TileSettings(overlap=8), progress=lambda *call: calls.append(call))
    assert all(done <= total for done, total in calls)
    assert calls[-1][0] == calls[-1][1]
