"""Images through the restorer: shapes, channels, tiles, callbacks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from skimage import data

from swinir_core import (
    Cancelled,
    ImageError,
    Restorer,
    SwinIR,
    SwinIRConfig,
    TileSettings,
    estimate_memory,
)
from swinir_core.color import rgb_to_gray
from swinir_core.errors import PrecisionError
from swinir_core.tiling import Tile
from tests.reference import our_network, reference_network

COLOR = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=12,
    depths=(2, 2),
    num_heads=(2, 2),
    window_size=8,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
)
GRAY = replace(COLOR, scale=1, in_channels=1, upsampler="none", mean=None, task="")


def network(config: SwinIRConfig) -> SwinIR:
    return our_network(config, reference_network(config)).requires_grad_(False)


@pytest.fixture
def color() -> Restorer:
    return Restorer(network(COLOR))


@pytest.fixture
def gray() -> Restorer:
    return Restorer(network(GRAY))


def test_equals_the_network(color: Restorer) -> None:
    images = torch.rand(2, 20, 30, 3)
    result = color(images)
    expected = network(COLOR)(images.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
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
    image = torch.from_numpy(data.astronaut()[100:260, 150:350]).float()[None] / 255
    whole = color(image, TileSettings("whole"))
    for tile_size, overlap in ((64, 32), (96, 24)):
        tiles = TileSettings("tiled", tile_size, overlap)
        assert color.plan(160, 200, tiles).tile_count > 4
        difference = (color(image, tiles) - whole).abs()
        assert difference.max() <= 0.25 / 255


def test_auto_cuts_only_what_does_not_fit(color: Restorer) -> None:
    enough = estimate_memory(COLOR, 100, 100)
    assert color.plan(100, 100, TileSettings(memory_budget=enough)).tile_count == 1
    tight = color.plan(100, 100, TileSettings(memory_budget=enough - 1))
    assert tight.tile_count == 2
    assert all(estimate_memory(COLOR, *shape(tile)) < enough for tile in tight.tiles())
    assert color.plan(100, 100, TileSettings()).tile_count == 1


def shape(tile: Tile) -> tuple[int, int]:
    return tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start


class Full:
    """A network on a device that holds no more than so many pixels."""

    scale, in_channels, alignment = 2, 3, 8
    stages = ()

    def __init__(self, pixels: int, error: Exception) -> None:
        self.network = network(COLOR)
        self.pixels = pixels
        self.error = error
        self.sizes: list[int] = []

    def estimate_memory(self, height: int, width: int, dtype: Any, device: Any) -> int:
        return 0

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        self.sizes.append(x.shape[-2] * x.shape[-1])
        if self.sizes[-1] > self.pixels:
            raise self.error
        return self.network(x)


OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:12])
def test_out_of_memory_means_smaller_tiles(error: Exception) -> None:
    images = torch.from_numpy(data.astronaut()[100:228, 150:270]).float()[None] / 255
    images = torch.cat([images, images.flip(2)])
    model = Full(5000, error)
    restorer = Restorer(model, "cpu", torch.float32)
    seen = []
    result = restorer(images, progress=lambda *x: seen.append(x))
    assert seen[-1][0] == seen[-1][1] > 2 * 128 * 120
    assert (result - Restorer(model.network)(images)).abs().max() <= 0.25 / 255
    failed = [size for size in model.sizes if size > model.pixels]
    # Each size fails once; what worked is remembered for the second image.
    assert failed == sorted(set(failed), reverse=True)
    assert len(failed) == 2
    assert model.sizes.index(failed[-1]) < 3


def test_only_the_smallest_tile_gives_up() -> None:
    model = Full(0, torch.cuda.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(MemoryError, match=r"even for 40x40 pixels, tried after 128x120, "):
        Restorer(model, "cpu", torch.float32)(torch.rand(1, 120, 128, 3))


def test_other_errors_are_not_taken_for_it() -> None:
    model = Full(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        Restorer(model, "cpu", torch.float32)(torch.rand(1, 120, 128, 3))
    assert len(model.sizes) == 1


def test_progress_rises_to_the_pixels_of_all_tiles(color: Restorer) -> None:
    tiles = TileSettings("tiled", 32, 8)
    seen = []
    color(torch.rand(2, 40, 60, 3), tiles, progress=lambda *x: seen.append(x))
    plan = color.plan(40, 60, tiles)
    layers = sum(COLOR.depths)
    assert len(seen) == 2 * plan.tile_count * (layers + 1)
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {2 * plan.pixels}
    assert seen[-1] == (2 * plan.pixels, 2 * plan.pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_progress_is_complete_for_every_kind_of_image(gray: Restorer, channels: int) -> None:
    seen = []
    gray(torch.rand(1, 24, 24, channels), progress=lambda *x: seen.append(x))
    assert seen == sorted(seen)
    assert seen[-1] == (24 * 24, 24 * 24)


@pytest.mark.parametrize("after", [0, 1, 3, 7])
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
    trainable = network(COLOR).requires_grad_(True)
    assert not Restorer(trainable)(torch.rand(1, 8, 8, 3)).requires_grad


def test_bfloat16_model_runs_in_its_own_precision() -> None:
    model = SwinIR(COLOR, dtype=torch.bfloat16)
    model.load_state_dict(network(COLOR).state_dict())
    restorer = Restorer(model)
    assert restorer.dtype == torch.bfloat16
    image = torch.rand(1, 16, 16, 3)
    assert (restorer(image) - Restorer(network(COLOR))(image)).abs().mean() < 0.01


def test_overflow_in_float16_is_said_and_not_shown_as_black() -> None:
    model = SwinIR(COLOR, dtype=torch.float16)
    model.load_state_dict(network(COLOR).state_dict())
    with torch.no_grad():
        model.conv_first.weight.mul_(1e5)  # pyright: ignore
        model.conv_after_body.weight.mul_(1e5)  # pyright: ignore
    with pytest.raises(PrecisionError, match="bfloat16"):
        Restorer(model)(torch.rand(1, 16, 16, 3))
