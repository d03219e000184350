"""Pictures shown while an image is restored."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from swinir_core import Restorer, TileSettings
from swinir_core.restoration import preview
from swinir_core.restoration.execution import Job
from swinir_core.restoration.preview import Preview
from tests.support.models import PretendModel


class Brighten(PretendModel):
    """Makes everything white, which shows where it has been."""

    alignment = 8

    def __call__(self, x: Tensor, *_: object) -> Tensor:
        return torch.ones_like(super().__call__(x))


def pictures(image: Tensor, tiles: TileSettings) -> list[np.ndarray]:
    shown, seen = Preview(), []
    restorer = Restorer(Brighten(scale=2), "cpu", torch.float32)

    def finished(job: Job) -> None:
        shown.add(job)
        seen.append(shown.picture().copy())

    restorer(image, tiles, finished=finished)
    return seen


@pytest.mark.parametrize("side", [1024, 100, 37])
@pytest.mark.parametrize("channels", [1, 3])
def test_finished_tiles_lie_over_the_input(
    monkeypatch: pytest.MonkeyPatch, side: int, channels: int
) -> None:
    monkeypatch.setattr(preview, "SIDE", side)
    image = torch.full((2, 70, 101, channels), 0.25)
    seen = pictures(image, TileSettings("tiled", 48, 8))
    block = -(-202 // side)
    shape = (-(-140 // block), -(-202 // block))
    first, last = seen[0], seen[len(seen) // 2 - 1]
    assert first.dtype == np.uint8
    assert first.shape == (shape if channels == 1 else (*shape, 3))
    # Nothing is darker than the input, also where tiles that are half done will be blended.
    assert min(picture.min() for picture in seen) == 64
    for earlier, later in itertools.pairwise(seen[: len(seen) // 2]):
        assert (later >= earlier).all()
        assert (later > earlier).any()
    assert first.max() == 255
    assert last.min() >= 254
    assert (seen[len(seen) // 2] == first).all()  # The second image begins anew.


def test_a_whole_image_is_shown_at_the_end() -> None:
    (picture,) = pictures(torch.rand(1, 9, 2000, 3), TileSettings("whole"))
    assert picture.shape == (5, 1000, 3)
    assert picture.min() == 255


def test_tiles_nobody_looked_at_are_there_later() -> None:
    image, tiles = torch.full((2, 70, 101, 3), 0.25), TileSettings("tiled", 48, 8)
    seen, shown = pictures(image, tiles), Preview()
    added = []

    def finished(job: Job) -> None:
        shown.add(job)
        added.append(shown.picture() if len(added) + 1 in (3, len(seen)) else None)

    Restorer(Brighten(scale=2), "cpu", torch.float32)(image, tiles, finished=finished)
    assert (added[2] == seen[2]).all()
    assert (added[-1] == seen[-1]).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_rows_of_a_result_are_shown_without_alpha(channels: int) -> None:
    """A host sends previews as JPEG, which knows no alpha, and ends where one cannot be saved."""
    shown, image = Preview(), torch.full((20, 30, channels), 0.25)
    shown.add_rows(image, torch.ones(30, 45, channels), 0, 10)
    picture = shown.picture()
    assert picture.shape == ((30, 45) if channels < 3 else (30, 45, 3))
    assert (picture[:10] == 255).all()
    assert (picture[10:] == 64).all()
    Image.fromarray(picture).save(io.BytesIO(), "JPEG")
