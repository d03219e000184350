"""MATLAB's imresize, checked by its kernel and its edges."""

import numpy as np
import pytest

from swinir_core.images.resize import bicubic_resize


def ramp(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows + columns, 2.0 * rows, 3.0 * columns], axis=-1)


def halve_rows(image: np.ndarray) -> np.ndarray:
    """One column at a time, doubled, so that halving the width changes nothing."""
    columns = [image[:, [column]].repeat(2, axis=1) for column in range(image.shape[1])]
    return np.concatenate([bicubic_resize(pair, 1 / 2) for pair in columns], axis=1)


@pytest.mark.parametrize(
    ("side", "scale", "expected"),
    [(12, 1 / 2, 6), (12, 1 / 3, 4), (12, 1 / 4, 3), (13, 1 / 2, 7), (5, 2, 10), (5, 1.5, 8)],
)
def test_size_is_rounded_up(side: int, scale: float, expected: int) -> None:
    assert bicubic_resize(np.zeros((side, side + side, 3)), scale).shape[0] == expected


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 2.0, 1.7])
def test_constant_stays_constant(scale: float) -> None:
    resized = bicubic_resize(np.full((20, 31, 3), 0.3), scale)
    np.testing.assert_allclose(resized, 0.3, rtol=1e-12)


def test_scale_one_changes_nothing() -> None:
    image = ramp(7, 9)
    np.testing.assert_array_equal(bicubic_resize(image, 1.0), image)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_ramp_stays_a_ramp_away_from_the_edge(factor: int) -> None:
    """Every output lies over the centre of its block of ``factor`` x ``factor`` inputs."""
    image = ramp(48, 60)
    blocks = image.reshape(48 // factor, factor, 60 // factor, factor, 3).mean(axis=(1, 3))
    resized = bicubic_resize(image, 1 / factor)
    np.testing.assert_allclose(resized[3:-3, 3:-3], blocks[3:-3, 3:-3], rtol=1e-12)


def test_halving_weights() -> None:
    """The kernel (-3, -9, 29, 111, 111, 29, -9, -3) / 256: an impulse meets every second tap."""
    image = np.zeros((32, 32, 1))
    image[:, 16] = 256
    np.testing.assert_allclose(bicubic_resize(image, 1 / 2)[8, 6:11, 0], [-3, 29, 111, -9, 0])


def keys(x: float) -> float:
    """Keys' cubic at a = -1/2, written out."""
    x = abs(x)
    if x < 1:
        return 1 - 2.5 * x**2 + 1.5 * x**3
    return 2 - 4 * x + 2.5 * x**2 - 0.5 * x**3 if x < 2 else 0.0


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_kernel_is_widened_by_the_factor(factor: int) -> None:
    """An impulse shows every tap: output i lies at factor (i + 1/2) - 1/2 in the input."""
    image = np.zeros((1, 20 * factor, 1))
    image[:, 10 * factor] = 1
    distances = [factor * (i + 0.5) - 0.5 - 10 * factor for i in range(20)]
    phase = (factor - 1) / 2
    total = sum(keys((phase - k) / factor) for k in range(-3 * factor, 4 * factor))
    expected = [keys(distance / factor) / total for distance in distances]
    resized = bicubic_resize(image.repeat(8 * factor, axis=0), 1 / factor)
    np.testing.assert_allclose(resized[4, :, 0], expected, atol=1e-12)


def test_edge_is_mirrored() -> None:
    image = np.random.default_rng(0).random((16, 12, 3))
    mirrored = np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="symmetric")
    np.testing.assert_allclose(
        bicubic_resize(image, 1 / 2), bicubic_resize(mirrored, 1 / 2)[4:-4, 4:-4], atol=1e-12
    )


def test_image_smaller_than_the_kernel() -> None:
    np.testing.assert_allclose(bicubic_resize(np.full((1, 2, 1), 5.0), 1 / 4), [[[5.0]]])


def test_uint8_is_rounded_after_rows_then_after_columns() -> None:
    image = np.random.default_rng(1).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    expected = halve_rows(halve_rows(image).swapaxes(0, 1)).swapaxes(0, 1)
    np.testing.assert_array_equal(bicubic_resize(image, 1 / 2), expected)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 3), dtype=np.int32)], ids=["2-d", "int32"]
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected an image"):
        bicubic_resize(image, 0.5)
