"""The blind chain: what every draw must keep, and each step by itself."""

from collections import Counter

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swinir_core.degradation import blind as blind
from swinir_core.degradation.blind import degrade_blindly

SEEDS = st.integers(0, 2**32)
UPPER = np.triu_indices(3, 1)
MODES = [(mode, antialias) for mode in ("bilinear", "bicubic") for antialias in (False, True)]

ASTRONAUT = skimage.data.astronaut().astype(np.float32) / 255


def photograph(height: int, width: int) -> np.ndarray:
    return ASTRONAUT[:height, :width].copy()


def blob(side: int, row: float, column: float, deviation: float) -> np.ndarray:
    """A bright Gaussian spot on gray, (side, side, 3)."""
    rows, columns = np.mgrid[:side, :side]
    exponent = ((rows - row) ** 2 + (columns - column) ** 2) / (2 * deviation**2)
    spot = 0.3 + 0.5 * np.exp(-exponent)
    return spot[..., None].repeat(3, axis=2).astype(np.float32)


def displacement(low: np.ndarray, scale: int, row: float, column: float) -> np.ndarray:
    """How far the spot lies from where it should, in pixels of ``low``."""
    light = low.mean(axis=2).astype(np.float64) - 0.3
    rows, columns = np.mgrid[: low.shape[0], : low.shape[1]]
    found = np.array([(light * rows).sum(), (light * columns).sum()]) / light.sum()
    return found - (np.array([row, column]) + 0.5) / scale + 0.5


# The chain


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.sampled_from([1, 2, 3, 4]), st.integers(1, 24), st.integers(1, 24))
def test_size_range_and_seed(seed: int, scale: int, rows: int, columns: int) -> None:
    image = photograph(rows * scale, columns * scale)
    low = degrade_blindly(image, scale, np.random.default_rng(seed))
    assert low.shape == (rows, columns, 3)
    assert low.dtype == np.float32
    assert 0 <= low.min() <= low.max() <= 1
    np.testing.assert_array_equal(np.round(low * 255).astype(np.float32) / 255, low)
    again = degrade_blindly(image, scale, np.random.default_rng(seed))
    assert low.tobytes() == again.tobytes()


def test_input_is_left_alone() -> None:
    image = photograph(32, 32)
    before = image.copy()
    for seed in range(20):
        degrade_blindly(image, 4, np.random.default_rng(seed))
    np.testing.assert_array_equal(image, before)


def test_bytes_do_not_depend_on_the_number_of_threads() -> None:
    image, threads = photograph(96, 128), torch.get_num_threads()
    alone, together = [], []
    try:
        for lows, count in ((alone, 1), (together, 2)):
            torch.set_num_threads(count)
            lows += [degrade_blindly(image, 2, np.random.default_rng(seed)) for seed in range(8)]
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_images_are_degraded_each_in_another_way(scale: int) -> None:
    image, random = photograph(48, 48), np.random.default_rng(0)
    lows = np.stack([degrade_blindly(image, scale, random) for _ in range(40)])
    assert len({low.tobytes() for low in lows}) == 40
    detail = np.abs(np.diff(lows, axis=1)).mean(axis=(1, 2, 3))
    assert detail.max() > 3 * detail.min()
    np.testing.assert_allclose(lows.mean(axis=(0, 1, 2)), image.mean(axis=(0, 1)), atol=0.03)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_draw_keeps_the_alignment(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise and JPEG, which move the centre of mass by chance, are taken out."""
    for name in ("random_noise", "random_jpeg", "sometimes_jpeg"):
        monkeypatch.setattr(blind, name, lambda image, random: image)
    side, row, column = 32 * scale, 15.2 * scale, 17.6 * scale
    image, random = blob(side, row, column, 1.2 * scale), np.random.default_rng(0)
    for _ in range(60):
        low = degrade_blindly(image, scale, random)
        assert np.abs(displacement(low, scale, row, column)).max() < 0.06


@pytest.mark.parametrize("scale", [2, 4])
def test_the_whole_chain_keeps_the_alignment_on_average(scale: int) -> None:
    middle = 9 * scale - 0.5
    image, random = blob(18 * scale, middle, middle, 1.2 * scale), np.random.default_rng(0)
    mean = np.mean([degrade_blindly(image, scale, random) for _ in range(80)], axis=0)
    middle -= 4 * scale
    assert np.abs(displacement(mean[4:-4, 4:-4], scale, middle, middle)).max() < 0.5


@pytest.mark.parametrize(
    ("image", "scale"),
    [
        (np.zeros((8, 8), np.float32), 2),
        (np.zeros((8, 8, 1), np.float32), 2),
        (np.zeros((8, 8, 3), np.uint8), 2),
    ],
    ids=["2-d", "gray", "uint8"],
)
def test_other_images_are_refused(image: np.ndarray, scale: int) -> None:
    with pytest.raises(ValueError, match="expected a floating-point image"):
        degrade_blindly(image, scale, np.random.default_rng(0))


@pytest.mark.parametrize(("height", "width", "scale"), [(9, 8, 2), (8, 9, 2), (8, 8, 0), (0, 8, 2)])
def test_uneven_sizes_are_refused(height: int, width: int, scale: int) -> None:
    with pytest.raises(ValueError, match=f"{width}x{height} pixels cannot be shrunk {scale} times"):
        degrade_blindly(np.zeros((height, width, 3), np.float32), scale, np.random.default_rng(0))


# The order


def drawn_orders(count: int) -> list[list[str]]:
    random = np.random.default_rng(0)
    orders = []
    for _ in range(count):
        steps = blind._random_order(2, 8, 8, random)
        orders.append([getattr(step, "func", step).__name__ for step in steps])
    return orders


def test_every_step_is_there_once_and_blur_twice() -> None:
    for order in drawn_orders(50):
        counts = Counter(order)
        assert counts.pop("random_blur") == 2
        assert counts.pop("random_noise") == 1
        assert counts.pop("sometimes_jpeg") == 1
        assert counts in (
            {"random_resize": 1},
            {"shrink_to_nearest": 1},
            {"shrink_loosely": 1, "random_resize": 1},
        )


def test_every_step_comes_first_and_last() -> None:
    orders = drawn_orders(600)
    first, last = ({order[index] for order in orders} for index in (0, -1))
    assert first == {name for order in orders for name in order}
    assert last == first - {"shrink_loosely"}


def test_kinds_of_shrinking() -> None:
    """One half at once, one quarter nearest, one quarter down and up with steps in between."""
    orders = drawn_orders(600)
    loose = [order for order in orders if "shrink_loosely" in order]
    assert len(loose) == pytest.approx(150, abs=40)
    assert sum("shrink_to_nearest" in order for order in orders) == pytest.approx(150, abs=40)
    gaps = {order.index("random_resize") - order.index("shrink_loosely") for order in loose}
    assert gaps == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(("scale", "halved"), [(2, 0), (3, 0), (4, 100)])
def test_a_quarter_is_halved_first(
    scale: int, halved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def resize_at_once(scale: int, height: int, width: int, random: np.random.Generator):
        drawn.append(scale)
        return [lambda image, random: blind.resize(image, height, width, "bilinear", True)]

    monkeypatch.setattr(blind, "_random_order", resize_at_once)
    random = np.random.default_rng(0)
    for _ in range(400):
        degrade_blindly(photograph(12, 24), scale, random)
    assert drawn.count(2 if scale == 4 else 0) == pytest.approx(halved, abs=30 if halved else 0)
    assert drawn.count(scale) == 400 - (drawn.count(2) if scale == 4 else 0)


# Blur


@pytest.mark.parametrize("size", [7, 25])
def test_kernel_has_the_covariance_asked_for(size: int) -> None:
    covariance = np.array([[1.3, 0.6], [0.6, 0.9]])
    kernel = blind.gaussian_kernel(size, covariance).astype(np.float64)
    offset = np.arange(size) - size // 2
    rows, columns = np.meshgrid(offset, offset, indexing="ij")
    assert kernel.sum() == pytest.approx(1)
    measured = [
        (kernel * a * b).sum() for a, b in ((rows, rows), (rows, columns), (columns, columns))
    ]
    expected = [covariance[0, 0], covariance[0, 1], covariance[1, 1]]
    assert measured == pytest.approx(expected, abs=0.15 if size == 7 else 1e-4)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.floats(0, 1, width=32))
def test_blur_keeps_a_constant(
    seed: int, height: int, width: int, scale: int, value: float
) -> None:
    image = np.full((height, width, 3), value, np.float32)
    blurred = blind.random_blur(image, np.random.default_rng(seed), scale)
    assert blurred.dtype == np.float32
    np.testing.assert_allclose(blurred, image, atol=2e-6)


def test_blur_is_a_convolution_with_mirrored_edges() -> None:
    """Against the sum written out, with a kernel that is not symmetric."""
    random = np.random.default_rng(0)
    image, kernel = random.random((9, 12, 3), dtype=np.float32), random.random((7, 7))
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect")
    expected = np.zeros_like(image)
    for row in range(7):
        for column in range(7):
            part = padded[6 - row : 15 - row, 6 - column : 18 - column]
            expected += kernel[row, column].astype(np.float32) * part
    blurred = blind.blur(image, kernel.astype(np.float32))
    np.testing.assert_allclose(blurred, expected, rtol=1e-5)


def test_blur_of_an_impulse_is_the_kernel() -> None:
    kernel = blind.gaussian_kernel(9, np.array([[4.0, 1.5], [1.5, 1.0]]))
    image = np.zeros((21, 23, 3), np.float32)
    image[10, 12] = 1
    blurred = blind.blur(image, kernel)
    for channel in range(3):
        np.testing.assert_allclose(blurred[6:15, 8:17, channel], kernel, atol=1e-7)


def test_blurs_stay_in_their_range() -> None:
    """The spread of an impulse is a kernel's covariance: up to 4 + scale along either axis."""
    image = np.zeros((51, 51, 3), np.float32)
    image[25, 25] = 1
    random, offset = np.random.default_rng(0), np.arange(51) - 25
    spreads = []
    for _ in range(150):
        blurred = blind.random_blur(image, random, scale=4)[..., 0].astype(np.float64)
        cross = (blurred * offset[:, None] * offset).sum()
        spreads.append([(blurred.sum(axis=1) * offset**2).sum(), cross,
                        (blurred.sum(axis=0) * offset**2).sum()])  # fmt: skip
    rows, cross, columns = np.array(spreads).T
    isotropic = (np.abs(cross) < 1e-4) & (np.abs(rows - columns) < 1e-4)
    assert isotropic.mean() == pytest.approx(0.5, abs=0.12)
    assert rows.max() < 8.1
    # Of a kernel narrower than a pixel rounding may leave a sum below zero.
    assert rows[isotropic].max() < 2.81**2
    assert (cross > 0.3).any()
    assert (cross < -0.3).any()


# Size


@pytest.mark.parametrize(("mode", "antialias"), MODES)
@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1, width=32))
def test_resize_keeps_a_constant(
    mode: str, antialias: bool, height: int, width: int, value: float
) -> None:
    resized = blind.resize(np.full((17, 20, 3), value, np.float32), height, width, mode, antialias)
    assert resized.shape == (height, width, 3)
    np.testing.assert_allclose(resized, value, atol=2e-6)


@pytest.mark.parametrize(("mode", "antialias"), MODES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_resize_keeps_the_alignment(mode: str, antialias: bool, scale: int) -> None:
    side, row, column = 24 * scale, 11.3 * scale, 9.1 * scale
    image = blob(side, row, column, 1.5 * scale)
    low = blind.resize(image, 24, 24, mode, antialias)
    assert np.abs(displacement(low, scale, row, column)).max() < 0.01


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_nearest_keeps_the_alignment(scale: int) -> None:
    side, row, column = 24 * scale, 11.3 * scale, 9.1 * scale
    image, random = blob(side, row, column, 1.5 * scale), np.random.default_rng(0)
    for _ in range(20):
        low = blind.shrink_to_nearest(image, random, scale)
        assert low.shape == (24, 24, 3)
        assert np.abs(displacement(low, scale, row, column)).max() < 0.01


def test_nearest_keeps_a_constant() -> None:
    image, random = np.full((24, 36, 3), 0.7, np.float32), np.random.default_rng(0)
    for scale in (1, 2, 3, 4):
        np.testing.assert_allclose(blind.shrink_to_nearest(image, random, scale), 0.7, atol=2e-6)


def test_resizing_does_not_overshoot() -> None:
    edge = np.zeros((16, 16, 3), np.float32)
    edge[:, 8:] = 1
    for mode, antialias in MODES:
        resized = blind.resize(edge, 24, 24, mode, antialias)
        assert 0 <= resized.min() <= resized.max() <= 1


def test_antialiasing_removes_a_fine_pattern() -> None:
    stripes = np.tile(np.array([0, 1], np.float32)[None, :, None], (32, 16, 3))
    assert np.ptp(blind.resize(stripes, 11, 11, "bicubic", antialias=False)) > 0.5
    assert np.ptp(blind.resize(stripes, 11, 11, "bicubic", antialias=True)) < 0.2


def test_loose_shrinking_goes_to_twice_the_scale() -> None:
    random, image = np.random.default_rng(0), photograph(96, 48)
    sides = [blind.shrink_loosely(image, random, 3).shape[:2] for _ in range(150)]
    heights, widths = np.array(sides).T
    assert heights.min() in (16, 17)
    assert heights.max() > 80
    np.testing.assert_allclose(heights / 2, widths, atol=1)


# Noise and JPEG


def test_noise_kinds() -> None:
    """Recognised by how the channels go together; white and gray noise of 2 to 25 levels."""
    image, random = np.full((48, 48, 3), 0.5, np.float32), np.random.default_rng(0)
    kinds, levels, correlations = Counter(), [], []
    for _ in range(300):
        noise = (blind.random_noise(image, random) - 0.5).reshape(-1, 3) * 255
        deviations, correlation = noise.std(axis=0), np.asarray(np.corrcoef(noise.T))[UPPER]
        if correlation.min() > 0.999:
            kind = "gray"
        elif np.abs(correlation).max() < 0.1 and np.ptp(deviations) < 0.15 * deviations.mean():
            kind = "white"
        else:
            kind = "correlated"
        kinds[kind] += 1
        if kind == "correlated":
            correlations += correlation.tolist()
        else:
            levels.append(deviations.mean())
        assert deviations.max() < 26.5
    expected = {"white": 120, "gray": 120, "correlated": 60}
    assert all(abs(kinds[kind] - count) < 30 for kind, count in expected.items()), kinds
    assert min(correlations) < -0.4
    assert max(correlations) > 0.4
    assert 1.9 < min(levels) < 4
    assert 23 < max(levels) < 26
    assert np.mean(levels) == pytest.approx(13.5, abs=1.5)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_noise_is_clipped(seed: int) -> None:
    image = np.tile(np.array([0, 1], np.float32)[:, None, None], (4, 8, 3))
    noisy = blind.random_noise(image, np.random.default_rng(seed))
    assert 0 <= noisy.min() < 0.5 < noisy.max() <= 1
    assert noisy.dtype == np.float32


def test_jpeg_in_the_middle_is_skipped_one_time_in_ten() -> None:
    image, random = photograph(16, 16), np.random.default_rng(0)
    untouched = sum(blind.sometimes_jpeg(image, random) is image for _ in range(500))
    assert untouched == pytest.approx(50, abs=25)


def test_jpeg_qualities() -> None:
    image, random = photograph(32, 32), np.random.default_rng(0)
    pixels = np.round(image * 255).astype(np.uint8)
    expected = {}
    for quality in range(1, 101):
        compressed = blind.jpeg_compress(pixels, quality).astype(np.float32) / 255
        expected[compressed.tobytes()] = quality
    drawn = [expected[blind.random_jpeg(image, random).tobytes()] for _ in range(200)]
    assert min(drawn) in range(30, 34)
    assert max(drawn) in range(92, 96)
