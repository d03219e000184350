"""Gaussian noise and JPEG."""

from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swinir_core.degradation.noise_and_jpeg import add_gaussian_noise, jpeg_compress

# Gaussian noise


SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]))
SEEDS = st.integers(0, 2**32)


def gray_image(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, dtype=np.float32)


@settings(deadline=None)
@given(SIZES, st.tuples(st.floats(0, 50), st.floats(50, 100)) | st.floats(0, 100), SEEDS)
def test_noise_keeps_the_shape_and_follows_the_seed(shape, sigma, seed: int) -> None:
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    before = image.copy()
    noisy = add_gaussian_noise(image, sigma, np.random.default_rng(seed))
    again = add_gaussian_noise(image, sigma, np.random.default_rng(seed))
    assert noisy.shape == shape
    assert noisy.dtype == np.float32
    assert noisy.tobytes() == again.tobytes()
    np.testing.assert_array_equal(image, before)


def test_no_noise_changes_nothing() -> None:
    image = np.random.default_rng(0).random((5, 7, 3), dtype=np.float32)
    np.testing.assert_array_equal(add_gaussian_noise(image, 0, np.random.default_rng(0)), image)


@pytest.mark.parametrize("sigma", [15, 50.0])
def test_noise_has_the_deviation_in_levels_of_255(sigma: float) -> None:
    """Gaussian, so a 2 sigma interval holds 95.4%; white, so neighbours are not alike."""
    noisy = add_gaussian_noise(gray_image(200, 300, 3), sigma, np.random.default_rng(0))
    noise = (noisy - 0.5) * 255 / sigma
    assert abs(noise.mean()) < 0.01
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(noise) < 2).mean() == pytest.approx(0.9545, abs=0.002)
    for axis in range(3):
        neighbour = np.roll(noise, 1, axis=axis)
        assert abs((noise * neighbour).mean()) < 0.01


def test_noise_is_not_clipped() -> None:
    black = add_gaussian_noise(np.zeros((50, 50, 1), np.float32), 25, np.random.default_rng(0))
    assert (black < 0).mean() == pytest.approx(0.5, abs=0.05)


def test_noise_range_is_drawn_from_evenly() -> None:
    random = np.random.default_rng(0)
    levels = [
        255 * (add_gaussian_noise(gray_image(40, 40, 3), (10, 50), random) - 0.5).std()
        for _ in range(400)
    ]
    assert 9 < min(levels) < 11
    assert 49 < max(levels) < 52
    assert np.mean(levels) == pytest.approx(30, abs=2)


@pytest.mark.parametrize("sigma", [-1, (20, 10), (-5, 5), float("nan"), float("inf")])
def test_impossible_sigma_is_refused(sigma) -> None:
    with pytest.raises(ValueError, match="sigma must be a level from 0 up or a rising pair"):
        add_gaussian_noise(gray_image(2, 2, 3), sigma, np.random.default_rng(0))


def test_noise_refuses_integers() -> None:
    with pytest.raises(ValueError, match=r"floating point in 0\.\.1, got uint8"):
        add_gaussian_noise(np.zeros((2, 2, 3), np.uint8), 25, np.random.default_rng(0))


# JPEG


def smooth_image(height: int, width: int, channels: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    planes = [128 + 100 * np.sin(rows / 9 + c) * np.cos(columns / 7 - c) for c in range(channels)]
    return np.stack(planes, axis=-1).astype(np.uint8)


@settings(deadline=None)
@given(SIZES, st.integers(1, 100), SEEDS)
def test_jpeg_keeps_the_shape_and_follows_the_seed(shape, quality: int, seed: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    result = jpeg_compress(image, (quality, 100), np.random.default_rng(seed))
    again = jpeg_compress(image, (quality, 100), np.random.default_rng(seed))
    assert result.shape == shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, again)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_error_falls_with_quality(channels: int) -> None:
    image = smooth_image(64, 80, channels)
    errors = [
        np.abs(jpeg_compress(image, quality).astype(int) - image).mean() for quality in (5, 40, 100)
    ]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]
    assert errors[2] < 1


@pytest.mark.parametrize("channels", [1, 3])
def test_constant_survives_jpeg(channels: int) -> None:
    image = np.full((20, 30, channels), 77, np.uint8)
    assert np.abs(jpeg_compress(image, 50).astype(int) - 77).max() <= 2


def test_jpeg_halves_the_chroma_resolution() -> None:
    """Stripes of two colours of the same luma, a pixel wide, vanish even at quality 100; stripes
    two pixels wide, on the grid of the halved chroma, survive."""
    colours = np.array([[200, 68, 100], [60, 140, 100]], np.uint8)
    luma = colours @ [0.299, 0.587, 0.114]
    assert abs(luma[0] - luma[1]) < 1
    fine = colours[np.arange(32) % 2][None].repeat(32, axis=0)
    coarse = colours[np.arange(64) // 8 % 2][None].repeat(64, axis=0)
    contrasts = [
        float(np.ptp(jpeg_compress(image, 100)[16, :, 0].astype(int))) for image in (fine, coarse)
    ]
    assert contrasts[0] < 20
    assert contrasts[1] > 120


def test_gray_jpeg_is_the_gray_file() -> None:
    image = smooth_image(40, 24, 1)
    file = BytesIO()
    PIL.Image.fromarray(image[..., 0], "L").save(file, "JPEG", quality=20)
    expected = np.asarray(PIL.Image.open(file))
    np.testing.assert_array_equal(jpeg_compress(image, 20)[..., 0], expected)


def test_quality_range_is_drawn_from_to_both_ends() -> None:
    image, random = smooth_image(24, 24, 1), np.random.default_rng(0)
    possible = {jpeg_compress(image, quality).tobytes() for quality in (10, 11, 12)}
    drawn = {jpeg_compress(image, (10, 12), random).tobytes() for _ in range(40)}
    assert len(possible) == 3
    assert drawn == possible


def test_a_view_is_compressed_like_its_copy() -> None:
    image = smooth_image(32, 48, 3)
    view = image[::-1].swapaxes(0, 1)
    np.testing.assert_array_equal(jpeg_compress(view, 30), jpeg_compress(view.copy(), 30))


@pytest.mark.parametrize("quality", [0, 101, (40, 10), (0, 10), 10.5, (10, 20.5)])
def test_impossible_quality_is_refused(quality) -> None:
    with pytest.raises(ValueError, match="quality must be a whole number from 1 to 100"):
        jpeg_compress(np.zeros((8, 8, 3), np.uint8), quality, np.random.default_rng(0))


def test_a_range_of_qualities_needs_a_generator() -> None:
    with pytest.raises(ValueError, match=r"a quality drawn from \(10, 40\) needs a random"):
        jpeg_compress(np.zeros((8, 8, 3), np.uint8), (10, 40))


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8)],
    ids=["float", "2-d", "alpha"],
)
def test_jpeg_refuses_other_arrays(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a uint8 image"):
        jpeg_compress(image, 50)
