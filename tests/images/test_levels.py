"""0..1 to integers and back, by the rounding of the reference implementation."""

from __future__ import annotations

import numpy as np
import pytest

from swinir_core.image_files.picture import Picture
from swinir_core.images.levels import to_floats, to_integers

HALVES = np.array([0.5, 1.5, 2.5, 126.5, 253.5, 254.5], np.float32)


@pytest.mark.parametrize(("depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_integers_come_back(depth: int, dtype: type) -> None:
    integers = np.arange(2**depth, dtype=dtype)
    floats = to_floats(integers)
    assert floats.dtype == np.float32
    assert (floats[0], floats[-1]) == (0, 1)
    again = to_integers(floats, depth)
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, integers)
    assert to_floats(integers, 100)[50] == 0.5


def test_rounding_is_that_of_the_reference_implementation() -> None:
    pixels = HALVES / 255
    exact = pixels[pixels * np.float32(255) == HALVES]
    assert len(exact) >= 3
    np.testing.assert_array_equal(to_integers(pixels), (pixels * 255.0).round().astype(np.uint8))
    random = np.random.default_rng(0).uniform(-0.1, 1.1, 10_000).astype(np.float32)
    expected = (random.clip(0, 1) * 255.0).round().astype(np.uint8)
    np.testing.assert_array_equal(to_integers(random), expected)


def test_a_view_is_left_alone_and_becomes_contiguous() -> None:
    pixels = np.full((3, 4, 2), 2.0, np.float32)
    integers = to_integers(pixels.swapaxes(0, 1))
    assert integers.flags.c_contiguous
    assert integers.shape == (4, 3, 2)
    assert pixels.min() == 2


@pytest.mark.parametrize(("dtype", "divisor"), [(np.uint8, 1), (np.uint16, 257)])
def test_the_levels_of_a_picture_are_its_samples(dtype: type, divisor: int) -> None:
    samples = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (150, 7, 3), dtype)
    picture = Picture(samples, to_floats)
    np.testing.assert_array_equal(picture.levels(), (samples / divisor).round())
