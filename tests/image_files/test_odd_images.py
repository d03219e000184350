"""Images that nobody expects, through the whole path."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swinir_core import ImageError, Restorer, SwinIRConfig, TileSettings
from tests.support.reference import network

COLOR = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=8,
    depths=(2,),
    num_heads=(2,),
    window_size=8,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
)
GRAY = replace(COLOR, scale=1, in_channels=1, upsampler="none", mean=None, task="")
MODELS = {3: network(COLOR), 1: network(GRAY)}


@given(
    size=st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40)),
    channels=st.integers(1, 4),
    in_channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    values=st.sampled_from([(0.0, 1.0), (-3.0, 4.0), (0.5, 0.5)]),
    strided=st.booleans(),
    tiles=st.sampled_from([None, TileSettings("tiled", 32, 8)]),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_any_image_is_restored(
    size: tuple[int, int, int],
    channels: int,
    in_channels: int,
    dtype: torch.dtype,
    values: tuple[float, float],
    strided: bool,
    tiles: TileSettings | None,
) -> None:
    batch, height, width = size
    low, high = values
    images = torch.rand(batch, height, width * 2, channels).mul(high - low).add(low).to(dtype)
    images = images[:, :, ::2] if strided else images[:, :, :width].contiguous()
    model = MODELS[in_channels]
    restored = Restorer(model)(images, tiles)
    assert restored.shape == (batch, height * model.scale, width * model.scale, channels)
    assert restored.dtype == torch.float32
    assert restored.isfinite().all()
    assert not batch or 0 <= restored.min() <= restored.max() <= 1


@pytest.mark.parametrize("shape", [(1, 1, 1500), (1, 1500, 1), (1, 3, 900)])
def test_ribbons(shape: tuple[int, int, int]) -> None:
    images = torch.rand(*shape, 3)
    whole = Restorer(MODELS[3])(images)
    cut = Restorer(MODELS[3])(images, TileSettings("tiled", 64, 32))
    assert whole.shape == (1, shape[1] * 2, shape[2] * 2, 3)
    assert (whole - cut).abs().max() < 1 / 255


@pytest.mark.parametrize("channels", [0, 5])
def test_other_numbers_of_channels_are_refused(channels: int) -> None:
    with pytest.raises(ImageError, match="1 to 4 channels"):
        Restorer(MODELS[3])(torch.rand(1, 8, 8, channels))


HALF_COVERED = (torch.arange(40) < 20).float().expand(1, 40, 40)
RUNS: dict[str, tuple[int, TileSettings | None, torch.Tensor | None]] = {
    "whole": (3, None, None),
    "tiled": (3, TileSettings("tiled", 32, 8), None),
    "gray": (1, None, None),
    "alpha": (4, None, None),
    "gray and alpha, tiled": (2, TileSettings("tiled", 32, 8), None),
    "restored wherever the mask is": (3, None, torch.ones(1, 40, 40)),
    "not restored at all": (3, None, torch.zeros(1, 40, 40)),
    "a mask and alpha, tiled": (4, TileSettings("tiled", 32, 8), HALF_COVERED),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("name", RUNS)
def test_what_is_no_number_does_not_spread_and_is_said_once(
    name: str, scale: int, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    channels, tiles, mask = RUNS[name]
    restorer = Restorer(MODELS[1 if scale == 1 else 3])
    images = torch.rand(2, 40, 40, channels)
    images[0, 10, 10] = images[1, 30, 5, -1] = images[1, 30, 35, 0] = value
    replaced = images.nan_to_num(nan=0, posinf=1, neginf=0)
    restored = restorer(images, tiles, mask=mask)
    assert torch.equal(restored, restorer(replaced, tiles, mask=mask))
    said = "the image has pixels that are NaN or infinite; taken as black or white"
    assert [record.message for record in caplog.records] == [said]


@pytest.mark.parametrize("value", [-0.5, 1.5, -3e38, 3e38])
@pytest.mark.parametrize("scale", [1, 2])
def test_what_is_not_restored_comes_out_in_0_to_1(value: float, scale: int) -> None:
    images = torch.rand(1, 16, 16, 4)
    images[0, 4:8, 4:8] = value
    restorer = Restorer(MODELS[1 if scale == 1 else 3])
    kept = restorer(images, mask=torch.zeros(1, 16, 16))
    assert torch.equal(kept, restorer(images.clamp(0, 1), mask=torch.zeros(1, 16, 16)))


def test_an_image_of_ten_billion_pixels_is_planned() -> None:
    started = time.monotonic()
    plan = Restorer(MODELS[3]).plan(100_000, 100_000, TileSettings(memory_budget=10**8))
    assert plan.memory <= 10**8
    assert plan.pixels >= 10**10
    assert time.monotonic() - started < 30
