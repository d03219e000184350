"""Only what the mask covers is restored."""

from __future__ import annotations

import pytest
import torch

from swinir_core import ImageError, Restorer, TileSettings
from swinir_core.restoration.inputs import check_inputs
from tests.support.reference import GRAY, SMALL, Recorder, network


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


@pytest.mark.parametrize("shape", [(1, 8, 12), (8, 12), (2, 16, 24)])
def test_a_mask_may_be_stretched(color: Restorer, shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape) * 4 - 2
    mask[..., 2, 3] = torch.nan
    images = torch.rand(2, 16, 24, 3)
    stretched = check_inputs(images, mask, stretch=True).mask
    assert stretched is not None
    assert stretched.shape == (2 if len(shape) == 3 and shape[0] == 2 else 1, 16, 24)
    assert 0 <= stretched.min() <= stretched.max() <= 1
    with pytest.raises(ImageError, match="a mask must be"):
        check_inputs(images, torch.rand(4), stretch=True)
