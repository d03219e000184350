"""Brightness against scikit-image and against the values the standards name."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr

from swinir_core.images.color import rgb_to_gray, rgb_to_y


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def test_y_is_that_of_rgb2ycbcr() -> None:
    image = noise(5, 7, 3)
    np.testing.assert_allclose(rgb_to_y(image) * 255, rgb2ycbcr(image)[..., 0], atol=1e-9)


@pytest.mark.parametrize(("pixel", "y"), [((0, 0, 0), 16), ((255, 255, 255), 235)])
def test_y_has_footroom_and_headroom(pixel: tuple[int, ...], y: float) -> None:
    eight_bit = np.array([[pixel]], dtype=np.uint8)
    assert rgb_to_y(eight_bit).item() == pytest.approx(y)
    assert rgb_to_y(eight_bit / 255).item() == pytest.approx(y / 255)


@pytest.mark.parametrize(
    ("pixel", "gray"),
    [((0, 0, 0), 0), ((1, 1, 1), 1), ((1, 0, 0), 0.299), ((0, 1, 0), 0.587), ((0, 0, 1), 0.114)],
)
def test_gray_uses_the_full_range(pixel: tuple[float, ...], gray: float) -> None:
    assert rgb_to_gray(np.array(pixel, dtype=np.float64)).item() == pytest.approx(gray)


@pytest.mark.parametrize("convert", [rgb_to_y, rgb_to_gray])
def test_shapes_and_types(convert) -> None:
    image = noise(2, 4, 6, 3).astype(np.float32)
    converted = convert(image)
    assert converted.shape == (2, 4, 6)
    assert converted.dtype == np.float32
    from_tensor = convert(torch.from_numpy(image))
    assert from_tensor.dtype == torch.float32
    np.testing.assert_allclose(from_tensor.numpy(), converted, rtol=1e-6)
    eight_bit = (image * 255).astype(np.uint8)
    np.testing.assert_allclose(
        convert(torch.from_numpy(eight_bit)).numpy(), convert(eight_bit), rtol=1e-12
    )


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="RGB"):
        rgb_to_gray(noise(4, 4, 1))
