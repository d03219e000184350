"""Gaussian noise and JPEG, one level of each or one drawn from a range.

Everything random takes a ``numpy.random.Generator``; one in the same state gives the same bytes.
"""

import math
from io import BytesIO
from numbers import Integral

import numpy as np
import PIL.Image
from PIL.JpegImagePlugin import JpegImageFile


def add_gaussian_noise(
    image: np.ndarray, sigma: float | tuple[float, float], random: np.random.Generator
) -> np.ndarray:
    """Add Gaussian noise of N(0, (sigma / 255)^2), independent in every sample.

    image: (H, W, C), floating point in 0..1.
    sigma: standard deviation in levels of 255; of a pair, one drawn evenly between both.
    Returns the same shape and dtype, as in the paper's protocol neither clipped nor rounded. Its
    test images come from ``numpy.random.seed(0)``, which no ``Generator`` repeats.
    Raises ``ValueError`` for integer pixels and for a sigma that is negative or not a range.
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
    """Compress an image to a JPEG file and decode it.

    image: uint8, (H, W, 1) gray or (H, W, 3) RGB.
    quality: libjpeg's, 1 to 100; of a pair, one drawn evenly from both and all between.
    random: needed for a pair only.
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
