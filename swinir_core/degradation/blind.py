"""Blind degradation for real-world super-resolution.

BSRGAN (Zhang et al. 2021, arXiv 2103.14006, section 3): blur twice, shrink, Gaussian noise and
JPEG in random order, then JPEG once more. SwinIR's real-world models were trained on this chain;
the ranges are those of the training code behind them (https://github.com/cszn/KAIR,
utils/utils_blindsr.py, ``degradation_bsrgan``). ``docs/training/degradations.md`` lists the
differences; foremost, the noise of a camera's sensor is left out, which needs a model of the
camera.

Images are (H, W, 3), float32 in 0..1. Everything random takes a ``numpy.random.Generator``; one in
the same state gives the same bytes.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from ..images.levels import to_floats, to_integers
from .noise_and_jpeg import jpeg_compress

HALVE_PROBABILITY = 0.25
NEAREST_PROBABILITY = 0.25
DOWN_UP_PROBABILITY = 0.25
JPEG_PROBABILITY = 0.9
JPEG_QUALITY = (30, 95)
NOISE_LEVELS = (2.0, 25.0)
"""Standard deviations of the noise, in levels of 255."""

KERNEL_SIZES = range(7, 26, 2)

Step = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def degrade_blindly(image: np.ndarray, scale: int, random: np.random.Generator) -> np.ndarray:
    """Make a low-quality image, ``scale`` times smaller.

    image: (H, W, 3), floating point in 0..1, H and W multiples of ``scale``.
    Returns (H / scale, W / scale, 3), float32, multiples of 1/255 in 0..1. Pixel (i, j) of the
    result lies over the centre of its block of ``scale`` x ``scale`` pixels, whatever was drawn.
    Raises ``ValueError`` for other images and scales.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype.kind != "f":
        raise ValueError(
            f"expected a floating-point image (H, W, 3), got {image.dtype} {tuple(image.shape)}"
        )
    height, width = image.shape[:2]
    if scale < 1 or min(height, width) < scale or height % scale or width % scale:
        raise ValueError(
            f"{width}x{height} pixels cannot be shrunk {scale} times evenly; crop both sides to "
            "multiples of the scale"
        )
    low_height, low_width = height // scale, width // scale
    image = image.astype(np.float32)
    if scale == 4 and random.random() < HALVE_PROBABILITY:
        image = random_resize(image, random, height=height // 2, width=width // 2)
        scale = 2
    for step in _random_order(scale, low_height, low_width, random):
        image = step(image, random)
    return random_jpeg(image, random)


def _random_order(scale: int, height: int, width: int, random: np.random.Generator) -> list[Step]:
    """Draw the steps up to the last JPEG and their order; two steps of a shrinking keep theirs."""
    to_size = partial(random_resize, height=height, width=width)
    kind = random.random()
    if kind < NEAREST_PROBABILITY:
        shrinking = [partial(shrink_to_nearest, scale=scale)]
    elif kind < NEAREST_PROBABILITY + DOWN_UP_PROBABILITY:
        shrinking = [partial(shrink_loosely, scale=scale), to_size]
    else:
        shrinking = [to_size]
    blur_once = partial(random_blur, scale=scale)
    steps: list[Step | None] = [blur_once, blur_once, random_noise, sometimes_jpeg]
    steps += [None] * len(shrinking)
    order = [steps[index] for index in random.permutation(len(steps))]
    remaining = iter(shrinking)
    return [step or next(remaining) for step in order]


# Blur


def random_blur(image: np.ndarray, random: np.random.Generator, scale: int) -> np.ndarray:
    """Blur by a Gaussian, isotropic or anisotropic with equal chance.

    Kernels of 7x7 to 25x25. Isotropic: deviation of 0.1 to 2 + 0.2 scale pixels. Anisotropic:
    variances of 0.1 to 4 + scale along two axes that are turned at random.
    """
    size = int(random.choice(KERNEL_SIZES))
    if random.random() < 0.5:
        covariance = random.uniform(0.1, 2 + 0.2 * scale) ** 2 * np.eye(2)
    else:
        angle = random.uniform(0, np.pi)
        axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        covariance = axes * random.uniform(0.1, 4 + scale, 2) @ axes.T
    return blur(image, gaussian_kernel(size, covariance))


def gaussian_kernel(size: int, covariance: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """Compute ``exp(-d^T C^-1 d / 2)`` over (size, size) pixels, float32, divided by its sum.

    covariance: (2, 2), of ``d``, the distance in (rows, columns) from the middle of the kernel.
    shift: pixels by which that middle lies farther up and left.
    """
    precision = np.linalg.inv(covariance)
    offset = np.arange(size) - (size - 1) / 2 + shift
    rows, columns = offset[:, None], offset
    exponent = (
        precision[0, 0] * rows**2
        + 2 * precision[0, 1] * rows * columns
        + precision[1, 1] * columns**2
    )
    kernel = np.exp(-exponent / 2)
    return (kernel / kernel.sum()).astype(np.float32)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve (H, W, C) with an odd-sized kernel; the image is mirrored about its edge pixels."""
    height, width = image.shape[:2]
    size = kernel.shape[0]
    radius = size // 2
    margins = ((0, 0), (radius, radius), (radius, radius))
    planes = torch.from_numpy(np.pad(image.transpose(2, 0, 1), margins, mode="reflect"))
    # By Fourier transform, at sizes without large prime factors: many times faster than taps.
    sides = [-(-side // 32) * 32 for side in planes.shape[1:]]
    spectrum = torch.fft.rfft2(planes, s=sides)
    spectrum *= torch.fft.rfft2(torch.from_numpy(kernel), s=sides)
    blurred = torch.fft.irfft2(spectrum, s=sides)
    blurred = blurred[:, size - 1 : size - 1 + height, size - 1 : size - 1 + width]
    return np.ascontiguousarray(blurred.movedim(0, -1).numpy())


# Size


def random_resize(
    image: np.ndarray, random: np.random.Generator, height: int, width: int
) -> np.ndarray:
    """Resize by one of four methods of equal chance: bilinear or bicubic, as OpenCV or as Pillow.

    The former samples the interpolated image at points, which aliases; the latter, as MATLAB,
    widens the kernel when shrinking.
    """
    mode = "bilinear" if random.random() < 0.5 else "bicubic"
    return resize(image, height, width, mode, antialias=bool(random.random() < 0.5))


def resize(image: np.ndarray, height: int, width: int, mode: str, antialias: bool) -> np.ndarray:
    """Resize (H, W, C) to (height, width, C) over the same area, clipped to 0..1."""
    planes = torch.from_numpy(image).movedim(-1, 0)[None]
    resized = F.interpolate(
        planes, (height, width), mode=mode, align_corners=False, antialias=antialias
    )
    return np.ascontiguousarray(resized[0].clamp_(0, 1).movedim(0, -1).numpy())


def shrink_loosely(image: np.ndarray, random: np.random.Generator, scale: int) -> np.ndarray:
    """Shrink by 1 to 2 scale, the first half of down-up sampling."""
    factor = random.uniform(1, 2 * scale)
    height, width = (max(1, round(side / factor)) for side in image.shape[:2])
    return random_resize(image, random, height=height, width=width)


def shrink_to_nearest(image: np.ndarray, random: np.random.Generator, scale: int) -> np.ndarray:
    """Take every ``scale``-th pixel after a Gaussian blur of deviation 0.1 to 0.6 scale.

    Taken alone those pixels lie (scale - 1) / 2 pixels up and left of the middle of their block, so
    the kernel is off centre by as much.
    """
    covariance = random.uniform(0.1, 0.6 * scale) ** 2 * np.eye(2)
    kernel = gaussian_kernel(25, covariance, shift=(scale - 1) / 2)
    return np.ascontiguousarray(blur(image, kernel)[::scale, ::scale])


# Noise


def random_noise(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise, independent in all channels, equal in them, or correlated; clip to 0..1.

    Probabilities 0.4, 0.4 and 0.2. The first two are of 2 to 25 levels. The third has the
    covariance ``(25 / 255)^2 U D U^T`` with a random rotation ``U`` and ``D`` diagonal in 0..1.
    """
    kind = random.random()
    shape = (*image.shape[:2], 1) if 0.4 <= kind < 0.8 else image.shape
    noise = random.standard_normal(shape, dtype=np.float32)
    if kind < 0.8:
        noise *= np.float32(random.uniform(*NOISE_LEVELS) / 255)
    else:
        rotation = np.linalg.qr(random.standard_normal((3, 3)))[0]
        mixing = NOISE_LEVELS[1] / 255 * np.sqrt(random.random(3))[:, None] * rotation.T
        noise = (noise.reshape(-1, 3) @ mixing.astype(np.float32)).reshape(image.shape)
    return np.clip(image + noise, 0, 1)


def sometimes_jpeg(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Apply ``random_jpeg`` nine times in ten."""
    return random_jpeg(image, random) if random.random() < JPEG_PROBABILITY else image


def random_jpeg(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Compress as JPEG of quality 30 to 95, 4:2:0."""
    return to_floats(jpeg_compress(to_integers(image), JPEG_QUALITY, random))
