"""MATLAB's imresize, checked by its kernel, its edges and images it made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swinir_core.degradation import bicubic_resize

SET5 = Path(__file__).parents[2] / "shared" / "data" / "validate" / "set5"


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_tensor_and_array_agree(dtype: torch.dtype) -> None:
    tensor = (torch.rand(10, 14, 3, generator=torch.Generator().manual_seed(0)) * 255).to(dtype)
    resized = bicubic_resize(tensor, 1 / 2)
    assert resized.dtype == dtype
    np.testing.assert_array_equal(resized.numpy(), bicubic_resize(tensor.numpy(), 1 / 2))


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 3), dtype=np.int32)], ids=["2-d", "int32"]
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected an image"):
        bicubic_resize(image, 0.5)


@pytest.mark.skipif(not SET5.is_dir(), reason="Set5 is not at ../shared/data/validate/set5")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_set5_is_reproduced(scale: int) -> None:
    for path in sorted((SET5 / "HR").glob("*.png")):
        high = np.array(Image.open(path).convert("RGB"))
        height, width = (side // scale * scale for side in high.shape[:2])
        low_path = SET5 / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png"
        low = np.array(Image.open(low_path).convert("RGB"))
        np.testing.assert_array_equal(bicubic_resize(high[:height, :width], 1 / scale), low)
