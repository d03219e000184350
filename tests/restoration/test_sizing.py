"""Results of any size: exact sizes, few runs, bounded memory, and mixing with the plain image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from swinir_core import Cancelled, Restorer, TileSettings
from swinir_core.images.resize import Resizer, bicubic_resize, enlarge
from swinir_core.restoration.inputs import check_inputs
from swinir_core.restoration.sizing import Held, Sized, TargetSize, restore_to_size
from tests.support.models import PretendModel
from tests.support.reference import GRAY, SMALL, network

MODELS = {1: network(GRAY), 2: network(SMALL), 3: network(replace(SMALL, scale=3))}
COLORED = {1: network(replace(GRAY, in_channels=3)), 2: MODELS[2]}


def picture(height: int, width: int, channels: int = 3, images: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.rand(images, height, width, channels, generator=generator)


def plain(image: Tensor, target: tuple[int, int]) -> Tensor:
    source = (image.shape[0], image.shape[1])
    return Resizer(source, target).rows(lambda a, b: image[a:b], 0, target[0])


def sized(restorer: Restorer, images: Tensor, size: TargetSize, **given: Any) -> Tensor:
    mask = given.pop("mask", None)
    return restore_to_size(restorer, check_inputs(images, mask), size, **given)


@pytest.mark.parametrize(
    ("way", "value", "image", "scale", "expected"),
    [
        ("model", 7.0, (5, 9), 4, (20, 36)),
        ("factor", 1.5, (3, 5), 4, (5, 8)),  # 4.5 and 7.5, rounded half up.
        ("factor", 1.15, (10, 100), 4, (12, 115)),  # 11.5, though 1.15 is less in binary.
        ("factor", 0.1, (5, 4), 2, (1, 1)),
        ("factor", 0.001, (5, 400), 2, (1, 1)),
        ("factor", 9.0, (2, 3), 2, (18, 27)),
        ("longer side", 3840.0, (1080, 1920), 4, (2160, 3840)),
        ("longer side", 100.0, (3, 999), 1, (1, 100)),
        ("longer side", 1001.0, (2000, 1000), 2, (1001, 501)),
        ("megapixels", 1.0, (500, 500), 2, (1000, 1000)),
        ("megapixels", 0.01, (30, 40), 2, (87, 115)),
    ],
)
def test_size(
    way: str, value: float, image: tuple[int, int], scale: int, expected: tuple[int, int]
) -> None:
    assert TargetSize(way, value).of(*image, scale) == expected


@pytest.mark.parametrize(
    ("way", "value", "image", "expected"),
    [
        ("longer side", 1001.0, (1000, 2000), (500, 1002)),  # 500.5 pairs, rounded half up.
        ("longer side", 1000.0, (534, 1280), (418, 1000)),  # 208.6 pairs.
        ("factor", 0.01, (30, 40), (2, 2)),
    ],
)
def test_even_size(
    way: str, value: float, image: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert TargetSize(way, value, multiple=2).of(*image, 4) == expected


def test_the_size_of_the_model_is_not_made_even() -> None:
    assert TargetSize(multiple=2).of(5, 9, 1) == (5, 9)


@pytest.mark.parametrize(
    ("way", "value", "named"),
    [
        ("twice", 2.0, "'twice'"),
        ("factor", 0.0, "factor must be a number above 0, got 0.0"),
        ("factor", -1.0, "-1.0"),
        ("megapixels", float("nan"), "megapixels"),
        ("longer side", float("inf"), "longer side"),
    ],
)
def test_nonsense_is_named(way: str, value: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        TargetSize(way, value)


@pytest.mark.parametrize(
    ("scale", "factor", "runs"),
    [
        (1, 0.5, 1),
        (1, 3, 1),
        (2, 0.7, 1),
        (2, 1, 1),
        (2, 1.9, 1),
        (2, 2.1, 2),
        (2, 5, 3),
        (3, 9, 2),
    ],
)
@pytest.mark.parametrize("channels", [1, 4])
def test_runs_until_large_enough_then_resized(
    scale: int, factor: float, runs: int, channels: int
) -> None:
    images, restorer = picture(13, 18, channels), Restorer(MODELS[scale])
    size = TargetSize("factor", factor)
    result = sized(restorer, images, size)
    expected = images
    for _ in range(runs):
        expected = restorer(expected)
    target = size.of(13, 18, scale)
    assert tuple(result.shape) == (1, *target, channels)
    torch.testing.assert_close(result[0], plain(expected[0], target), atol=2e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"edges": "mirrored"}, {"colors": "input"}], ids=str)
def test_by_bands_as_in_one_piece(options: dict[str, Any]) -> None:
    images, size = picture(70, 40), TargetSize("factor", 1.4)
    restorer = Restorer(MODELS[2], **options)
    tiles = TileSettings("tiled", 32, 8)
    expected = plain(restorer(images, tiles)[0], size.of(70, 40, 2))
    torch.testing.assert_close(sized(restorer, images, size, tiles=tiles)[0], expected)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("factor", [None, 0.5, 1.5, 3.3])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_mixes_with_the_plain_image(
    scale: int, factor: float | None, strength: float
) -> None:
    images = picture(17, 12, images=2)
    size = TargetSize("model" if factor is None else "factor", factor or 1)
    target = size.of(17, 12, scale)
    full = sized(Restorer(COLORED[scale]), images, size)
    mixed = sized(Restorer(COLORED[scale], strength=strength), images, size)
    for image, one, result in zip(images, full, mixed, strict=True):
        base = enlarge(image, scale) if factor is None else plain(image, target)
        expected = base.lerp(one, strength)
        tolerance = 0 if strength in (0, 1) else 1e-6
        torch.testing.assert_close(result, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_strength_of_a_restorer_is_that_of_its_bands(
    strength: float, with_mask: bool, channels: int
) -> None:
    """The two ways to a result of the model's size, for a node and for a file."""
    images = picture(20, 30, channels)
    mask = torch.zeros(1, 20, 30)
    mask[:, 4:9, 5:20] = 0.7
    mask = mask if with_mask else None
    restorer = Restorer(MODELS[2], strength=strength, alpha="restored")
    torch.testing.assert_close(
        sized(restorer, images, TargetSize(), mask=mask),
        restorer(images, mask=mask),
        atol=1e-6,
        rtol=0,
    )


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize(
    "options",
    [{}, {"strength": 0.4}, {"alpha": "restored", "edges": "mirrored"}, {"colors": "input"}],
    ids=str,
)
def test_small_images_together_as_one_by_one(
    scale: int, channels: int, options: dict[str, Any]
) -> None:
    images, restorer = picture(16, 20, channels, 30), Restorer(MODELS[scale], **options)
    size = TargetSize("factor", 1.5)
    first = Sized.of_first(restorer, check_inputs(images), size, TileSettings())
    alone = TileSettings(at_once=1)
    assert 1 < first.together(30) < 30
    assert first.memory(30) > first.memory()
    torch.testing.assert_close(
        sized(restorer, images, size),
        sized(restorer, images, size, tiles=alone),
        atol=1e-5,
        rtol=0,
    )


def test_strength_of_zero_computes_nothing() -> None:
    restorer = Restorer(MODELS[2], strength=0)
    inputs = check_inputs(picture(20, 30))
    assert restorer.plan_for(inputs).pixels == 0
    assert Sized.of_first(restorer, inputs, TargetSize("factor", 5), TileSettings()).pixels == 0


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_strength_beyond_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=rf"strength must be between 0 and 1, got {value}"):
        Restorer(MODELS[2], strength=value)


@pytest.mark.parametrize("factor", [0.4, 1.5, 2.5])
def test_masked_pixels_are_plain_and_others_restored(factor: float) -> None:
    """Tiles without a part of the mask are not computed, yet none shows."""
    images, size = picture(90, 80), TargetSize("factor", factor)
    target = size.of(90, 80, 2)
    mask = torch.zeros(1, 90, 80)
    mask[:, 33:60, 36:64] = 1
    tiles, restorer = TileSettings("tiled", 32, 8), Restorer(MODELS[2])
    result = sized(restorer, images, size, tiles=tiles, mask=mask)[0]
    full = sized(restorer, images, size, tiles=tiles)[0]
    base = plain(images[0], target)
    shares = torch.nn.functional.interpolate(
        mask[:, None], target, mode="bilinear", antialias=True
    )[0, 0, ..., None]
    torch.testing.assert_close(result, base.lerp(full, shares), atol=2e-6, rtol=0)
    inputs = check_inputs(images, mask)
    one = Sized.of_first(restorer, inputs, TargetSize("factor", 1.5), tiles)
    assert one.streams[0].plan.untouched > 0


def test_a_result_that_is_shrunk_never_exists_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swinir_core.restoration.sizing._ROW_BYTES", 2**19)
    one = Sized(Restorer(MODELS[2]), Held.of(picture(300, 60)[0]), TargetSize("factor", 0.5))
    assert one.is_cut
    assert max(one.streams[0].memory(tile.length) for tile in one.streams[0].plan.tiles.rows) <= (
        2**19
    )


def test_progress_is_one_for_all_runs_and_images() -> None:
    calls: list[tuple[int, int]] = []
    images = picture(16, 16, images=2)
    sized(
        *(Restorer(MODELS[2]), images, TargetSize("factor", 3)),
        progress=lambda *call: calls.append(call),
    )
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert {call[1] for call in calls} == {2 * (16**2 + 32**2)}
    assert done[-1] == calls[-1][1]


@pytest.mark.parametrize("call", [0, 3, 40])
def test_stops(call: int) -> None:
    calls = iter(range(10**6))
    with pytest.raises(Cancelled):
        sized(
            *(Restorer(MODELS[2]), picture(40, 40), TargetSize("factor", 3)),
            cancelled=lambda: next(calls) >= call,
        )


@pytest.mark.parametrize("target", [(12, 10), (48, 40), (24, 20), (37, 11), (1, 1), (3, 90)])
def test_resizer(target: tuple[int, int]) -> None:
    image = picture(24, 20)[0]
    resizer = Resizer((24, 20), target)
    whole = plain(image, target)
    bands = list(resizer.bands(image.split([1, 14, 9])))
    torch.testing.assert_close(torch.cat(bands), whole)
    if target[0] * 20 == target[1] * 24:
        reference = bicubic_resize(image.numpy().astype(np.float64), target[0] / 24)
        np.testing.assert_allclose(whole.numpy(), reference.clip(0, 1), atol=1e-6)


class Small(PretendModel):
    """Has memory for so many pixels at once, and takes a call of all images that it is given."""

    alignment = 8

    def __init__(self, pixels: int, failures: int = 10**9) -> None:
        super().__init__(scale=2)
        self.pixels, self.failures = pixels, failures

    def at_once(self, _: int, count: int, *others: object) -> int:
        return count if self.failures < 10**9 else 1

    def __call__(self, x: Tensor, *others: object) -> Tensor:
        if x[:, 0].numel() > self.pixels and self.failures:
            self.failures -= 1
            raise MemoryError("out of memory")
        return super().__call__(x)


def with_alpha(varies: list[bool]) -> Tensor:
    images = torch.rand(len(varies), 32, 32, 4)
    for image, alpha_varies in zip(images, varies, strict=True):
        image[..., 3] = image[..., 3] if alpha_varies else 1
    return images


HALVES = torch.stack([torch.ones(32, 32), torch.zeros(32, 32)])
UNPLANNED: dict[str, tuple[Small, Tensor, dict[str, Any]]] = {
    "memory runs out in each of two runs": (Small(40 * 40), picture(48, 48), {"value": 4.0}),
    "memory runs out for the first image": (Small(24 * 24), picture(32, 32, images=3), {}),
    "memory runs out for several together": (Small(24 * 24, 10), picture(32, 32, images=3), {}),
    "alpha of later images together": (
        Small(10**9, 1), with_alpha([False, True, True]), {"alpha": "restored"},
    ),
    "alpha of later images": (Small(10**9), with_alpha([False, True, True]), {"alpha": "restored"}),
    "a mask of the first image": (Small(10**9), picture(32, 32, images=2), {"mask": HALVES}),
    "a mask of the last image": (Small(10**9), picture(32, 32, images=2), {"mask": HALVES.flip(0)}),
    "nothing of the model": (Small(10**9), picture(32, 32), {"strength": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize(("model", "images", "given"), UNPLANNED.values(), ids=UNPLANNED)
def test_progress_reaches_its_end_where_not_all_goes_as_planned(
    model: Small, images: Tensor, given: dict[str, Any]
) -> None:
    given, calls = {"value": 1.5, "mask": None} | given, list[tuple[int, int]]()
    size, mask = TargetSize("factor", given.pop("value")), given.pop("mask")
    restorer = Restorer(model, "cpu", torch.float32, **given)
    tiles = TileSettings(overlap=8)
    sized(restorer, images, size, mask=mask, tiles=tiles, progress=lambda *call: calls.append(call))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert all(done <= total for done, total in calls)
    assert calls[-1][0] == calls[-1][1]


def test_no_images_have_no_results() -> None:
    restorer = Restorer(MODELS[2], "cpu", torch.float32)
    for way in ("model", "factor"):
        size = TargetSize(way, 1.5)
        assert sized(restorer, torch.rand(0, 8, 8, 3), size).shape[0] == 0
        Sized.of_first(restorer, check_inputs(torch.rand(0, 8, 8, 3)), size, TileSettings())


def test_can_be_stopped_while_the_overlap_is_found() -> None:
    """For which a network of unknown reach is run on images of growing size."""
    calls: list[int] = []

    class Reaching(Small):
        def __call__(self, x: Tensor, *others: Any) -> Tensor:
            calls.append(len(x))
            for report in others[:1]:
                report(1.0)
            return super().__call__(x)

    restorer = Restorer(Reaching(10**9), "cpu", torch.float32)
    tiles = TileSettings("tiled", 64)
    with pytest.raises(Cancelled):
        sized(restorer, picture(100, 100), TargetSize("factor", 1.5), tiles=tiles,
              cancelled=lambda: len(calls) == 1)  # fmt: skip
    assert len(calls) == 1
