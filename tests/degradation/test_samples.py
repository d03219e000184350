"""The bundled pictures, what makes them worse, and how far that is measured."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import swinir_core
from swinir_core.choices import ALL, SAMPLES, TEXTURE
from swinir_core.degradation.samples import degraded, read_sample, read_samples, views
from swinir_core.images import metrics
from swinir_core.images.quality import compare
from swinir_core.images.resize import bicubic_resize
from swinir_core.model_names import check_name

FOLDER = Path(swinir_core.__file__).parent / "samples"


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_small_color_photographs(name: str) -> None:
    picture = read_sample(name)

    assert picture.dtype == np.float32
    assert picture.shape[2] == 3
    assert 150 <= min(picture.shape[:2]) <= max(picture.shape[:2]) <= 320
    assert picture.min() >= 0
    assert 0.8 < picture.max() <= 1
    assert np.ptp(picture, axis=2).mean() > 0.02, "it has no color"


def test_the_texture_is_seamless() -> None:
    """The step over an edge is one like those inside."""
    picture = read_sample(TEXTURE)
    assert (picture.dtype, picture.shape) == (np.float32, (192, 192, 3))
    assert 0 <= picture.min() < picture.max() <= 1
    for axis in (0, 1):
        steps = np.abs(picture - np.roll(picture, 1, axis)).mean((1 - axis, 2))
        assert steps[0] < steps[1:].max()


def test_every_sample_file_is_listed_and_small() -> None:
    files = sorted(FOLDER.glob("*.png"))
    table = (FOLDER / "README.md").read_text("utf-8")
    assert len(files) == len(SAMPLES)
    assert all(f"| `{file.name}` |" in table for file in files)
    assert max(file.stat().st_size for file in files) < 250_000
    assert sum(file.stat().st_size for file in files) < 700_000


def test_an_unknown_sample_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no sample picture '\.\./secret'; choose cat, coffee"):
        read_sample("../secret")


def test_all_samples_make_a_batch() -> None:
    pictures = read_samples(ALL)
    assert [picture.shape for picture in pictures] == [(150, 225, 3)] * len(SAMPLES)
    np.testing.assert_array_equal(pictures[0], read_sample("cat"))
    np.testing.assert_array_equal(pictures[1], read_sample("coffee")[21:171, 37:262])


def test_nothing_chosen_changes_nothing() -> None:
    picture = read_sample("cat")
    image, original = degraded(picture)
    np.testing.assert_array_equal(image, picture)
    np.testing.assert_array_equal(original, picture)


def test_views_move_from_corner_to_corner() -> None:
    picture = read_sample("cat")
    first, middle, last = views(picture, 3)
    assert first.shape == middle.shape == last.shape == (96, 168, 3)
    np.testing.assert_array_equal(first, picture[:96, :168])
    np.testing.assert_array_equal(middle, picture[27:123, 28:196])
    np.testing.assert_array_equal(last, picture[-96:, -168:])


@pytest.mark.parametrize("name", SAMPLES)
def test_frames_have_even_sides_however_they_are_shrunk(name: str) -> None:
    for shrink in (1, 2, 3, 4):
        for frame in degraded(views(read_sample(name), 2)[0], shrink):
            assert [side % 2 for side in frame.shape[:2]] == [0, 0]


def test_one_view_is_the_picture() -> None:
    picture = read_sample("cat")
    (view,) = views(picture, 1)
    np.testing.assert_array_equal(view, picture)
    with pytest.raises(ValueError, match="at least one frame, got 0"):
        views(picture, 0)


@pytest.mark.parametrize("shrink", [2, 3, 4])
def test_shrinking_is_the_papers_and_the_original_fits(shrink: int) -> None:
    picture = read_sample("cat")[:, :-2]

    image, original = degraded(picture, shrink)

    height, width = image.shape[:2]
    assert original.shape == (height * shrink, width * shrink, 3)
    np.testing.assert_array_equal(original, picture[: height * shrink, : width * shrink])
    np.testing.assert_array_equal(image, bicubic_resize(original, 1 / shrink).clip(0, 1))


def test_noise_is_as_strong_as_asked_and_repeats() -> None:
    flat = np.full((64, 64, 3), 0.5, np.float32)
    first, again, other = (degraded(flat, noise=25, seed=seed)[0] for seed in (3, 3, 4))
    assert (first - flat).std() * 255 == pytest.approx(25, rel=0.03)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.05


def test_noise_comes_after_shrinking_and_before_jpeg() -> None:
    flat = np.full((128, 128, 3), 0.5, np.float32)
    shrunk = degraded(flat, shrink=2, noise=25)[0]
    compressed = degraded(flat, noise=25, jpeg_quality=5)[0]
    assert shrunk.std() * 255 == pytest.approx(25, rel=0.05), "the noise was shrunk along"
    assert compressed.std() * 255 < 20, "the noise was not compressed"


def test_jpeg_is_worse_with_lower_quality() -> None:
    picture = read_sample("cat")
    errors = [np.abs(degraded(picture, jpeg_quality=q)[0] - picture).mean() for q in (5, 40, 99)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_everything_stays_in_range() -> None:
    picture = np.random.default_rng(0).integers(0, 2, (48, 48, 3)).astype(np.float32)
    for shrink, noise, gray in ((2, 0, False), (1, 75, False), (1, 0, True), (3, 9, True)):
        for result in degraded(picture, shrink, noise, gray=gray):
            assert result.min() >= 0
            assert result.max() <= 1
            assert result.dtype == np.float32


def test_gray_stays_gray_in_both() -> None:
    image, original = degraded(read_sample("cat"), 2, 25, 10, gray=True)
    for result in (image, original):
        assert result.shape[2] == 3
        assert np.ptp(result, axis=2).max() == 0
    red = np.zeros((8, 8, 3), np.float32)
    red[..., 0] = 1
    np.testing.assert_allclose(degraded(red, gray=True)[0], 0.299, atol=1e-6)


@pytest.mark.parametrize("shrink", [0, 9])
def test_an_impossible_shrink_is_named(shrink: int) -> None:
    with pytest.raises(ValueError, match=f"shrink must be 1 to 8 for this picture, got {shrink}"):
        degraded(np.zeros((8, 9, 3), np.float32), shrink)


def pictures(count: int = 2, height: int = 20, width: int = 24, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, height, width, channels, generator=generator)


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("y_channel", [True, False])
def test_quality_is_the_mean_of_the_papers_scores(border: int, y_channel: bool) -> None:
    images, references = pictures(), pictures().flip(1)
    levels = [(x * 255).round().byte() for x in (images, references)]
    pairs = list(zip(*levels, strict=True))

    quality = compare(images, references, border, y_channel)

    for name in ("psnr", "ssim"):
        scores = [getattr(metrics, name)(*pair, border, y_channel) for pair in pairs]
        assert getattr(quality, name) == pytest.approx(sum(scores) / 2, abs=1e-9)
    assert str(quality) == f"PSNR {quality.psnr:.2f} dB\nSSIM {quality.ssim:.4f}"


def test_one_reference_serves_a_batch() -> None:
    images, reference = pictures(3), pictures(1)
    done = []

    quality = compare(images, reference, scored=lambda *counts: done.append(counts))

    assert quality == compare(images, reference.expand(3, -1, -1, -1))
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_what_rounds_to_the_same_levels_is_identical() -> None:
    images = pictures().mul(255).round() / 255
    images[0, 0, 0, 0] = 1
    almost = images + 0.4 / 255
    quality = compare(almost, images)
    assert (quality.psnr, quality.ssim) == (math.inf, pytest.approx(1))
    assert str(quality) == "identical"


def test_some_identical_images_are_counted() -> None:
    images, references = pictures(), pictures()
    references[1] = 1 - references[1]
    quality = compare(images, references)
    assert quality.psnr == math.inf
    assert quality.ssim < 0.6
    assert str(quality).startswith("PSNR infinite, 1 of 2 images are identical\nSSIM 0.")


@pytest.mark.parametrize("y_channel", [True, False])
def test_alpha_is_dropped_and_gray_is_rgb(y_channel: bool) -> None:
    rgba, reference = pictures(channels=4), pictures().flip(2)
    gray = reference[..., :1]

    expected = compare(rgba[..., :3], gray.repeat(1, 1, 1, 3), y_channel=y_channel)

    assert compare(rgba, gray, y_channel=y_channel) == expected
    assert compare(rgba, reference[..., :2], y_channel=y_channel) == expected


@pytest.mark.parametrize(
    ("image", "reference", "border", "message"),
    [
        ((1, 20, 24), (1, 20, 25), 0, "24x20 pixels and the reference 25x20; only"),
        ((2, 20, 24), (3, 20, 24), 0, "Images to measure: 2, references: 3"),
        (
            (1, 20, 24),
            (1, 20, 24),
            5,
            "11x11 pixels are compared, but images of 24x20 with a border of 5",
        ),
        ((1, 20, 24), (1, 20, 24), -1, "a border of -1 were given"),
        (
            (1, 20, 24),
            (1, 20, 24),
            10,
            "11x11 pixels are compared, but images of 24x20 with a border of 10",
        ),
        (
            (1, 10, 24),
            (1, 10, 24),
            0,
            "11x11 pixels are compared, but images of 24x10 with a border of 0",
        ),
    ],
)
def test_what_cannot_be_compared_is_explained(
    image: tuple[int, ...], reference: tuple[int, ...], border: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(torch.zeros(*image, 3), torch.zeros(*reference, 3), border)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("my_swinir", "my_swinir"),
        ("  my_swinir.SafeTensors ", "my_swinir"),
        ("tests\\x2/half.pth", "tests/x2/half"),
        ("x1.5 größer", "x1.5 größer"),
        ("console/com10", "console/com10"),
    ],
)
def test_a_name_becomes_a_path(name: str, path: str) -> None:
    assert check_name(name).as_posix() == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        (".safetensors", "is empty"),
        ("/etc/model", "absolute path"),
        ("\\\\server\\share\\model", "absolute path"),
        ("c:model", "takes no ':'"),
        ("D:\\models\\model", "takes no ':'"),
        ("../model", r"must not contain '\.\.'"),
        ("sub/..\\..\\model", r"must not contain '\.\.'"),
        ("./model", r"must not contain '\.'"),
        ("sub//model", "empty part"),
        ("sub/", "empty part"),
        ("what?", r"takes no '\?'"),
        ("file:stream", "takes no ':'"),
        ("line\nbreak", r"takes no '\\n'"),
        ("nul\0", r"takes no '\\x00'"),
        ("\ud800", r"takes no '\\ud800'"),
        ("dot.", "drops the dot"),
        ("sub /model", "drops the dot or space"),
        ("sub/ model", "begins with a space"),
        ("con", "Windows keeps"),
        ("sub/LPT1.half", "Windows keeps"),
        ("aux.safetensors", "Windows keeps"),
        ("ü" * 101, "too long"),
    ],
)
def test_a_bad_name_is_explained(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_name(name)
    assert str(caught.value).endswith(".")


def test_what_is_no_image_is_not_measured() -> None:
    image = torch.rand(1, 16, 16, 3)
    with pytest.raises(ValueError, match=r"1 to 4 channels, this one has 5\."):
        compare(torch.rand(1, 16, 16, 5), image)
    with pytest.raises(ValueError, match="batches is empty"):
        compare(image[:0], image)
    broken = image.clone()
    broken[0, 2, 3, 1] = torch.nan
    for pair in ((broken, image), (image, broken)):
        with pytest.raises(ValueError, match="NaN or infinite"):
            compare(*pair)
