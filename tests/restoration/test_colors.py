"""Edges, colours and transparency: flat stays flat, gray stays gray, alpha stays alpha."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swinir_core import Restorer, TileSettings
from swinir_core.choices import ALPHAS, COLORS, EDGES
from swinir_core.image_files.picture import Picture
from swinir_core.images.levels import to_floats
from swinir_core.images.neighbours import smooth
from swinir_core.images.resize import enlarge
from swinir_core.reports import Report, to_nobody
from swinir_core.restoration.colors import shrink
from swinir_core.restoration.edges import positions
from swinir_core.restoration.inputs import check_inputs
from swinir_core.restoration.preview import Preview
from swinir_core.restoration.streaming import Stream
from swinir_core.restoration.transparency import spread_colors
from tests.support.models import PretendModel
from tests.support.reference import GRAY, SMALL, TINY, network

LEVEL = 1 / 255
MODELS = {1: network(GRAY), 2: network(SMALL), 3: network(replace(SMALL, scale=3))}
TILES = {
    "whole": TileSettings("whole"),
    "tiled": TileSettings("tiled", 32, 8, at_once=1),
}
OPTIONS = {
    "edges": {"edges": "mirrored"},
    "colors": {"colors": "input"},
    "alpha": {"alpha": "restored"},
    "all": {"edges": "mirrored", "colors": "input", "alpha": "restored"},
}


class Framed(PretendModel):
    """A model that blackens three pixels of its input's border, adds a cast and tints what is
    bright; otherwise exact."""

    def __call__(self, x: torch.Tensor, report: Report = to_nobody, /) -> torch.Tensor:
        framed = torch.zeros_like(x)
        framed[..., 3:-3, 3:-3] = x[..., 3:-3, 3:-3]
        cast = torch.tensor([0.05, -0.02, 0.03])[: x.shape[1], None, None]
        return super().__call__(framed + cast + 0.1 * framed * cast.flip(0), report)


def restorer(model: Any = None, **options: Any) -> Restorer:
    return Restorer(model or Framed(2), "cpu", torch.float32, **options)


@pytest.mark.parametrize("tiles", TILES.values(), ids=TILES)
def test_edges_are_as_the_middle(tiles: TileSettings) -> None:
    image = torch.full((1, 50, 70, 3), 0.5)
    result = restorer(edges="mirrored")(image, replace(tiles, overlap=16))
    assert (result - result[:, 50:51, 70:71]).abs().max() < 1e-6
    assert restorer()(image)[0, 0, 0, 0] < 0.1


@pytest.mark.parametrize("level", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("tiles", TILES.values(), ids=TILES)
def test_flat_stays_flat(level: float, tiles: TileSettings) -> None:
    image = torch.full((1, 50, 70, 3), level) * torch.tensor([1, 0.7, 0.4])
    restore = restorer(edges="mirrored", colors="input")
    result = restore(image, replace(tiles, overlap=16))
    assert (result - image[0, 0, 0]).abs().max() < LEVEL


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("scale", [2, 3])
def test_gray_stays_gray(scale: int, channels: int) -> None:
    image = torch.rand(1, 60, 50, 1).expand(-1, -1, -1, channels)
    result = restorer(MODELS[scale], colors="input")(image, TILES["tiled"])[..., :3]
    assert (result.amax(-1) - result.amin(-1)).max() < LEVEL
    assert (restorer(MODELS[scale])(image)[..., :3].std(-1)).max() > LEVEL


@pytest.mark.parametrize("mask", [None, "half"])
def test_slow_colours_are_those_of_the_input(mask: str | None) -> None:
    image = torch.rand(1, 90, 80, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    masks = None if mask is None else (torch.arange(80) > 40).float().expand(1, 90, 80)
    tiles = TileSettings("tiled", 32, 16)
    result = restorer(edges="mirrored", colors="input")(image, tiles, mask=masks)[0]
    weights = torch.ones(90, 80, 1) if masks is None else masks[0, ..., None]
    error = smooth((shrink(result, 2) - image[0]) * weights, 16)
    assert (error / smooth(weights, 16).clamp(min=1)).abs().max() < 2 * LEVEL
    if masks is not None:
        assert torch.equal(result[:, :70], enlarge(image[0], 2)[:, :70])


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
TINY_MODELS = {
    "direct": network(TINY),
    "windows of 8": MODELS[2],
    "upsampler": network(replace(TINY, upsampler="pixelshuffle", task="")),
    "nearest": network(replace(TINY, upsampler="nearest+conv", task="")),
    "no enlarging": network(replace(TINY, scale=1, upsampler="none", task="")),
    "gray": MODELS[1],
}
ANY_MODEL = st.sampled_from(sorted(TINY_MODELS))


@given(
    name=ANY_MODEL,
    size=SIZES,
    color=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4),
    colors=st.sampled_from(COLORS),
    tiles=st.sampled_from(sorted(TILES)),
)
@settings(deadline=None, max_examples=25, derandomize=True)
def test_a_flat_picture_has_no_edges(
    name: str, size: tuple[int, int], color: list[float], colors: str, tiles: str
) -> None:
    """A network may give every pixel its own s x s pattern; all of them are the same."""
    model = TINY_MODELS[name]
    restore = restorer(model, edges="mirrored", colors=colors)
    image = torch.tensor(color).expand(1, *size, len(color))
    result = restore(image, replace(TILES[tiles], overlap=16))[0]
    patterns = result.unflatten(1, (-1, model.scale)).unflatten(0, (-1, model.scale))
    assert (patterns - patterns[:1, :, :1]).abs().max() < LEVEL


@given(
    name=ANY_MODEL,
    size=SIZES,
    alpha=st.booleans(),
    seed=st.integers(0, 99),
    contrast=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    edges=st.sampled_from(EDGES),
    tiles=st.sampled_from(sorted(TILES)),
)
@settings(deadline=None, max_examples=25, derandomize=True)
def test_any_gray_picture_stays_gray(
    name: str,
    size: tuple[int, int],
    alpha: bool,
    seed: int,
    contrast: float,
    edges: str,
    tiles: str,
) -> None:
    random = torch.Generator().manual_seed(seed)
    gray = torch.rand(1, *size, 1, generator=random) * contrast + (1 - contrast) * seed / 99
    image = gray.expand(-1, -1, -1, 3)
    if alpha:
        image = torch.cat([image, torch.rand(1, *size, 1, generator=random).round()], -1)
    result = restorer(TINY_MODELS[name], edges=edges, colors="input")(image, TILES[tiles])[..., :3]
    assert (result.amax(-1) - result.amin(-1)).max() < LEVEL


@given(
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    channels=st.integers(1, 4),
    scale=st.sampled_from([1, 2, 3]),
    tile=st.tuples(st.integers(32, 60), st.integers(32, 60)),
    overlap=st.sampled_from([0, 8, 16]),
    options=st.fixed_dictionaries(
        {
            "edges": st.sampled_from(EDGES),
            "colors": st.sampled_from(COLORS),
            "alpha": st.sampled_from(ALPHAS),
        }
    ),
    transparent=st.sampled_from([0.0, 0.9, 1.0]),
)
@settings(deadline=None, max_examples=20, derandomize=True)
def test_streamed_as_in_one_piece(
    size: tuple[int, int],
    channels: int,
    scale: int,
    tile: tuple[int, int],
    overlap: int,
    options: dict[str, Any],
    transparent: float,
) -> None:
    random = np.random.default_rng(0)
    samples = random.integers(0, 2**16, (*size, channels), dtype=np.uint16)
    samples[random.random(size) < transparent, -1] = 0
    picture = Picture(samples, to_floats)
    tiles = TileSettings("tiled", tile, overlap, at_once=1)
    restore = restorer(MODELS[scale], **options)
    whole = restore(torch.from_numpy(picture.rows(0, size[0]))[None], tiles)[0]
    bands = list(Stream(restore, picture, tiles).bands())
    np.testing.assert_array_equal(np.concatenate(bands), whole.numpy())
    assert whole.shape == (size[0] * scale, size[1] * scale, channels)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_frame_of_a_batch_is_that_frame_alone(
    in_channels: int, channels: int, options: dict[str, Any]
) -> None:
    restore = Restorer(MODELS[1 if in_channels == 1 else 2], **options)
    images = torch.rand(3, 20, 30, channels)
    inputs, done = check_inputs(images), []
    plan = restore.plan_for(inputs)
    preview = Preview()
    together = restore.run(inputs, plan, lambda *pixels: done.append(pixels), finished=preview.add)
    assert done[-1] == (plan.pixels, plan.pixels)
    assert preview.picture().shape[:2] == together.shape[1:3]
    alone = torch.cat([restore(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_plan_counts_what_lies_beyond_the_edges() -> None:
    plain, mirrored = Restorer(MODELS[2]), Restorer(MODELS[2], edges="mirrored")
    plan = mirrored.plan(48, 64)
    assert plan.tiles.largest == (64, 80)
    assert plan.tiles.image_size == (48, 64)
    assert plan.memory == plain.plan(64, 80).memory
    assert "with 8 pixels beyond the edges" in plan.summary()


@pytest.mark.parametrize("option", ["edges", "colors", "alpha"])
def test_other_choices_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be one of .*, got 'wrong'"):
        restorer(**{option: "wrong"})


def test_mirrored_positions() -> None:
    assert positions(-3, 7, 4).tolist() == [2, 1, 0, 0, 1, 2, 3, 3, 2, 1]
    assert positions(-3, 4, 1).tolist() == [0] * 7


def disc(height: int, width: int, *color: float) -> torch.Tensor:
    """A disc of one colour on transparent black, its edge soft: (H, W, len(color) + 1)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = ((y - height / 2) ** 2 + (x - width / 2) ** 2).sqrt()
    alpha = (height / 3 - distance).clamp(0, 1)[..., None]
    return torch.cat([torch.tensor(color) * (alpha > 0), alpha], -1)


@pytest.mark.parametrize("color", [(1.0, 0.0, 0.0), (0.8,), (0.9, 0.8, 0.1)])
@pytest.mark.parametrize("masked", [False, True])
def test_no_ring_around_what_is_visible(color: tuple[float, ...], masked: bool) -> None:
    image = disc(40, 50, *color)[None]
    mask = torch.zeros(1, 40, 50) if masked else None
    result = restorer(PretendModel(2), edges="mirrored")(image, mask=mask)
    visible = result[..., -1] > 0
    assert (result[..., :-1][visible] - torch.tensor(color)).abs().max() < LEVEL


def test_visible_colours_are_kept() -> None:
    image = torch.rand(30, 40, 4)
    image[..., 3] = (image[..., 3] > 0.5) * 0.5
    spread, visible = spread_colors(image), image[..., 3] > 0
    assert torch.equal(spread[visible], image[visible][:, :3])
    assert spread[~visible].std() < image[~visible][:, :3].std()


ALPHA_VALUES = {
    "below": -1.0,
    "above": 2.0,
    "infinite": float("inf"),
    "minus infinite": float("-inf"),
    "no number": float("nan"),
}


@pytest.mark.parametrize("value", ALPHA_VALUES.values(), ids=ALPHA_VALUES)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_limited(channels: int, scale: int, alpha: str, value: float) -> None:
    image = torch.rand(1, 24, 30, channels)
    image[:, ::3, ::4, -1] = value
    result = restorer(MODELS[scale], alpha=alpha)(image)
    assert result.isfinite().all()
    assert torch.equal(result, result.clamp(0, 1))


@given(
    values=st.lists(st.floats(width=32) | st.floats(-2, 3, width=32), min_size=1, max_size=30),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    channels=st.sampled_from([2, 4]),
    scale=st.sampled_from([1, 2]),
    options=st.sampled_from(sorted(OPTIONS)),
)
@settings(deadline=None, max_examples=25, derandomize=True)
def test_any_alpha_is_as_if_it_were_limited_before(
    values: list[float], size: tuple[int, int], channels: int, scale: int, options: str
) -> None:
    restore = restorer(MODELS[scale], **OPTIONS[options])
    image = torch.rand(1, *size, channels, generator=torch.Generator().manual_seed(0))
    image[..., -1] = torch.tensor(values).repeat(size[0] * size[1])[: size[0] * size[1]].view(size)
    limited = image.clone()
    limited[..., -1] = image[..., -1].nan_to_num(0, 1, 0).clamp(0, 1)
    torch.testing.assert_close(restore(image), restore(limited))


@pytest.mark.parametrize("tiles", TILES.values(), ids=TILES)
def test_restored_alpha_stays_opaque_and_transparent(tiles: TileSettings) -> None:
    image = torch.rand(1, 60, 64, 4)
    image[..., 3] = (torch.arange(64) > 30).float()
    result = restorer(MODELS[2], alpha="restored")(image, tiles)[0, ..., 3]
    assert torch.equal(result[:, :58], torch.zeros(120, 58))
    assert torch.equal(result[:, 66:], torch.ones(120, 62))
    assert not torch.equal(result, restorer(MODELS[2])(image, tiles)[0, ..., 3])


def test_alpha_that_is_the_same_everywhere_takes_no_run() -> None:
    image = torch.rand(1, 20, 24, 4)
    restore = restorer(MODELS[2], alpha="restored")
    assert restore.plan_for(check_inputs(image)).restores_alpha
    image[..., 3] = 1
    assert not restore.plan_for(check_inputs(image)).restores_alpha
