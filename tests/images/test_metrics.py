"""Scores against scikit-image where it computes the same, against definitions elsewhere."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from swinir_core.images.metrics import psnr, psnr_b, ssim

METRICS = pytest.mark.parametrize("metric", [psnr, ssim, psnr_b])


def pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth image with texture, and a noisy copy, uint8."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    smooth = 120 + 80 * np.sin(rows / 9) * np.cos(columns / 7)
    smooth = smooth.reshape(*shape[:2], *(1 for _ in shape[2:]))
    reference = smooth + random.normal(0, 10, shape)
    noisy = reference + random.normal(0, 8, shape)
    return noisy.clip(0, 255).astype(np.uint8), reference.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("border", [0, 3])
def test_psnr_is_that_of_scikit_image(border: int) -> None:
    image, reference = pair(40, 52, 3)
    inside = (slice(border, 40 - border), slice(border, 52 - border))
    expected = peak_signal_noise_ratio(reference[inside], image[inside])
    assert psnr(image, reference, border) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("border", [0, 3])
@pytest.mark.parametrize("shape", [(40, 52), (40, 52, 1), (40, 52, 3)])
def test_ssim_is_that_of_scikit_image(shape: tuple[int, ...], border: int) -> None:
    """scikit-image filters beyond the edge and then leaves 5 pixels out: the same window."""
    image, reference = pair(*shape)
    inside = (slice(border, 40 - border), slice(border, 52 - border))
    expected = structural_similarity(
        reference[inside],
        image[inside],
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=None if len(shape) == 2 else -1,
    )
    assert ssim(image, reference, border) == pytest.approx(expected, abs=1e-9)


def test_y_channel_is_compared_without_rounding() -> None:
    image, reference = pair(40, 52, 3)
    y, reference_y = (rgb2ycbcr(each)[..., 0] / 255 for each in (image, reference))
    expected = peak_signal_noise_ratio(reference_y, y, data_range=1)
    assert psnr(image, reference, y_channel=True) == pytest.approx(expected, abs=1e-9)


@METRICS
def test_types_agree(metric) -> None:
    image, reference = pair(40, 52, 3)
    score = metric(image, reference, border=2, y_channel=True)
    tensors = torch.from_numpy(image), torch.from_numpy(reference)
    assert metric(*tensors, border=2, y_channel=True) == pytest.approx(score, abs=1e-12)
    floats = image / 255, reference / 255
    assert metric(*floats, border=2, y_channel=True) == pytest.approx(score, abs=1e-9)


@METRICS
def test_equal_images(metric) -> None:
    flat = np.full((24, 24), 0.5)
    assert metric(flat, flat) == (1 if metric is ssim else math.inf)


def test_psnr_of_a_known_error() -> None:
    image = np.full((16, 16), 0.5)
    assert psnr(image + 0.1, image) == pytest.approx(20)


def test_blocks_cost_in_the_image_and_not_in_the_reference() -> None:
    flat = np.full((48, 48), 0.5)
    blocks = flat + 0.02 * (np.add(*np.indices((48, 48)) // 8) % 2)
    assert psnr_b(blocks, flat) < psnr(blocks, flat) - 0.5
    assert psnr_b(flat, blocks) == pytest.approx(psnr(flat, blocks))


def test_psnr_b_by_hand() -> None:
    """Two blocks side by side, two down, with one step of 0.2 across the middle column.

    The reference implementation counts (16 // 8 - 1) edges a row and as many a column: 32 in
    all, of 480 steps.
    """
    image = np.zeros((16, 16))
    image[:, 8:] = 0.2
    blocking = math.log2(8) / math.log2(16) * (16 * 0.2**2 / 32)
    expected = 10 * math.log10(1 / (0.2**2 / 2 + blocking))
    assert psnr_b(image, np.zeros((16, 16))) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [ssim, psnr_b])
def test_too_small_an_image(metric) -> None:
    image, reference = pair(18, 30)
    with pytest.raises(
        ValueError, match=r"at least 1[16]x1[16] pixels .* of 30x18 with a border of 4"
    ):
        metric(image, reference, border=4)


@METRICS
@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.bool_])
def test_other_types_are_refused(metric, dtype) -> None:
    image = np.ones((20, 20), dtype)
    with pytest.raises(ValueError, match=f"uint8 .* or floating point .*, got {image.dtype}"):
        metric(image, image)


@METRICS
@pytest.mark.parametrize(
    ("shape", "other", "border", "message"),
    [
        ((20, 20), (20, 21), 0, "shapes differ"),
        ((20, 20, 4), (20, 20, 4), 0, "expected"),
        ((20, 20), (20, 20), 10, "pixels are compared, but images of 20x20 with a border of"),
        ((20, 20), (20, 20), -1, "pixels are compared, but images of 20x20 with a border of"),
    ],
    ids=["shapes", "channels", "border", "negative border"],
)
def test_what_cannot_be_compared_is_refused(metric, shape, other, border, message) -> None:
    with pytest.raises(ValueError, match=message):
        metric(np.zeros(shape), np.zeros(other), border)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((16, 16, 3), 200, np.uint16), "got uint16"),
        (np.ones((16, 16, 3), bool), "got bool"),
        (np.full((16, 16, 3), 200.0), "reaches 200; divide"),
        (np.full((16, 16, 3), np.nan), "NaN or infinite"),
        (np.full((16, 16, 3), -np.inf), "NaN or infinite"),
        (np.zeros((16, 16, 2)), r"\(16, 16, 2\)"),
        (np.zeros((16, 16, 5)), r"\(16, 16, 5\)"),
    ],
)
def test_what_is_no_picture_is_refused(pixels: np.ndarray, words: str) -> None:
    for metric in (psnr, ssim, psnr_b):
        with pytest.raises(ValueError, match=words):
            metric(pixels, pixels)
