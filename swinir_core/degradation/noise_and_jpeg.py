"""How low-quality images are made from good ones: bicubic shrinking, Gaussian noise and JPEG.

Classical and lightweight SwinIR are trained and measured on images shrunk by MATLAB, whose
bicubic widens its kernel when shrinking. Pillow's and PyTorch's come close; a network trained
on them still loses tenths of a decibel on the standard test sets.

What is random takes a ``numpy.random.Generator``; one in the same state gives the same bytes.
Real-world degradations are in ``blind_degradation``.
"""

import math
from io import BytesIO
from numbers import Integral
from typing import TypeVar

import numpy as np
import PIL.Image
import torch
from PIL.JpegImagePlugin import JpegImageFile

Image = TypeVar("Image", np.ndarray, torch.Tensor)


def bicubic_resize(image: Image, scale: float) -> Image:
    """Resize as MATLAB's ``imresize(image, scale)`` does.

    image: (H, W, C), floating point of any range, or uint8.
    Returns (ceil(scale*H), ceil(scale*W), C) of the same kind and dtype. Floating-point values
    may leave the range of the input by a little, for the kernel has negative lobes. As in
    MATLAB, uint8 is rounded and clipped after either axis, rows first: the standard test sets
    are reproduced bit for bit.
    """
    if isinstance(image, np.ndarray):
        return _resize(torch.from_numpy(image), scale).numpy()
    return _resize(image, scale)


def add_gaussian_noise(
    image: np.ndarray, sigma: float | tuple[float, float], random: np.random.Generator
) -> np.ndarray:
    """``image + n`` with ``n`` of N(0, (sigma / 255)^2), independent in every sample.

    image: (H, W, C), floating point in 0..1.
    sigma: standard deviation in levels of 255; of a pair, one drawn evenly between both.
    Returns the same shape and dtype, as in the paper's protocol neither clipped nor rounded. Its
    test images come from ``numpy.random.seed(0)``, which no ``Generator`` repeats.
    Raises ``ValueError`` for integer pixels and for a sigma that is negative or no range.
    """
    if image.dtype.kind != "f":
        raise ValueError(f"noise is added to floating point in 0..1, got {image.dtype}")
    low, high = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    if not 0 <= low <= high < math.inf:
        raise ValueError(f"sigma must be a level from 0 up or a rising pair of them, got {sigma}")
    deviation = (low if low == high else random.uniform(low, high)) / 255
    noise = random.standard_normal(image.shape, dtype=np.float32)
    return (image + noise * np.float32(deviation)).astype(image.dtype, copy=False)


def jpeg_compress(
    image: np.ndarray,
    quality: int | tuple[int, int],
    random: np.random.Generator | None = None,
) -> np.ndarray:
    """What is left of an image after a JPEG file of the given quality.

    image: uint8, (H, W, 1) gray or (H, W, 3) RGB.
    quality: libjpeg's, 1 to 100; of a pair, one drawn evenly from both and all between, for which
    alone ``random`` is needed.
    Returns the same shape and dtype. Colour loses half its chroma resolution each way (4:2:0) at
    every quality, as OpenCV's ``imencode`` does by default, by which the paper's JPEG images are
    made. Raises ``ValueError`` for other images and qualities.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(
            f"expected a uint8 image (H, W, 1 or 3), got {image.dtype} {tuple(image.shape)}"
        )
    low, high = quality if isinstance(quality, tuple) else (quality, quality)
    if not (1 <= low <= high <= 100 and isinstance(low, Integral) and isinstance(high, Integral)):
        raise ValueError(
            f"quality must be a whole number from 1 to 100 or a rising pair of them, got {quality}"
        )
    if low != high:
        if random is None:
            raise ValueError(f"a quality drawn from {quality} needs a random generator")
        low = random.integers(low, high, endpoint=True)
    file = BytesIO()
    picture = PIL.Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture.save(file, "JPEG", quality=int(low), subsampling="4:2:0")
    file.seek(0)
    return np.array(JpegImageFile(file)).reshape(image.shape)


def _resize(image: torch.Tensor, scale: float) -> torch.Tensor:
    integer = image.dtype == torch.uint8
    if image.ndim != 3 or not (integer or image.is_floating_point()):
        raise ValueError(
            "expected an image (H, W, C) in floating point or uint8, "
            f"got {image.dtype} {tuple(image.shape)}"
        )
    resized = image.to(torch.float64)
    for axis in (0, 1):
        resized = _resize_axis(resized, axis, scale)
        if integer:
            resized = (resized + 0.5).floor_().clamp_(0, 255)
    return resized.to(image.dtype)


def _resize_axis(image: torch.Tensor, axis: int, scale: float) -> torch.Tensor:
    source, weights = _taps(image.shape[axis], scale)
    shape = [1, 1, 1]
    shape[axis] = -1
    resized = None
    for tap_source, tap_weights in zip(source.to(image.device), weights, strict=True):
        tap = image.index_select(axis, tap_source)
        factor = tap_weights.to(image).view(shape)
        resized = tap * factor if resized is None else resized.addcmul_(tap, factor)
    assert resized is not None
    return resized


def _taps(length: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Which samples make each output sample, and how much of each; both (taps, outputs)."""
    stretch = min(scale, 1.0)
    support = 4.0 / stretch
    centre = (np.arange(math.ceil(length * scale)) + 0.5) / scale - 0.5
    first = np.floor(centre - support / 2)
    source = first + np.arange(math.ceil(support) + 2)[:, None]
    weights = _cubic(stretch * (centre - source))
    weights /= weights.sum(axis=0)
    used = np.any(weights != 0, axis=1)
    mirrored = np.mod(source[used], 2 * length)
    mirrored = np.minimum(mirrored, 2 * length - 1 - mirrored).astype(np.int64)
    return torch.from_numpy(mirrored), torch.from_numpy(weights[used])


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5 (Keys 1981), zero from |x| = 2 on."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
