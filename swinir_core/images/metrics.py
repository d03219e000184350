"""Image quality as the paper measures it: PSNR, SSIM and PSNR-B.

Values are those of the evaluation code of the reference implementation
(https://github.com/JingyunLiang/SwinIR, utils/util_calculate_psnr_ssim.py). Nothing is rounded or
clipped here: published scores are of outputs rounded to uint8 first. All functions take:

    image, reference: of one shape, (H, W), (H, W, 1) or (H, W, 3); floating point in 0..1 or uint8.
    border: pixels ignored on every side; the scale, in the paper's super-resolution scores.
    y_channel: compares the brightness of colour images only.

They raise ``ValueError`` for images that cannot be compared: of other shapes or types, with numbers
that are not finite or far outside 0..1.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .color import rgb_to_y

Pixels = np.ndarray | Tensor

JPEG_BLOCK = 8
SSIM_LEAST = 11
"""Least side of an image inside the border for SSIM: its window."""

PSNR_B_LEAST = 2 * JPEG_BLOCK
"""Least side of an image inside the border for PSNR-B."""

_FARTHEST = 4.0
"""Beyond it pixels are taken for levels of 8 or more bits, not for 0..1."""

MOST_DECIBELS = 100.0
"""Upper limit of a PSNR in a mean. An image restored without any error has an infinite PSNR, which
would hide all others."""


def psnr(image: Pixels, reference: Pixels, border: int = 0, y_channel: bool = False) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal images."""
    planes, reference_planes = _planes(image, reference, border, y_channel)
    return _decibels((planes - reference_planes).square().mean().item())


def ssim(image: Pixels, reference: Pixels, border: int = 0, y_channel: bool = False) -> float:
    """Structural similarity, 1 for equal images; the mean over channels for colour.

    Wang et al. 2004: 11x11 Gaussian window of deviation 1.5, wholly inside the image.
    """
    x, y = _planes(image, reference, border, y_channel, SSIM_LEAST)
    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = _gaussian(x), _gaussian(y)
    variance_x = _gaussian(x * x) - mean_x**2
    variance_y = _gaussian(y * y) - mean_y**2
    covariance = _gaussian(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return similarity.mean().item()


def psnr_b(image: Pixels, reference: Pixels, border: int = 0, y_channel: bool = False) -> float:
    """PSNR with a penalty for visible 8x8 blocks in ``image``, for JPEG; the mean over channels.

    Yim and Bovik 2011, "Quality assessment of deblocked images". Not symmetric: blocks in the
    reference cost nothing.
    """
    planes, reference_planes = _planes(image, reference, border, y_channel, PSNR_B_LEAST)
    scores = [
        _decibels((plane - reference_plane).square().mean().item() + _blocking_effect(plane))
        for plane, reference_plane in zip(planes, reference_planes, strict=True)
    ]
    return sum(scores) / len(scores)


def _planes(
    image: Pixels, reference: Pixels, border: int, y_channel: bool, least: int = 1
) -> tuple[Tensor, Tensor]:
    """Convert both images to (C, H, W) float64 in 0..1 without their borders.

    Raises ``ValueError`` where they cannot be compared or fewer than ``least`` pixels are left
    along a side.
    """
    if not all(isinstance(pixels, (np.ndarray, Tensor)) for pixels in (image, reference)):
        raise ValueError("images must be arrays of NumPy or tensors")
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: {tuple(image.shape)} and {tuple(reference.shape)}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] not in (1, 3)):
        raise ValueError(f"expected (H, W), (H, W, 1) or (H, W, 3), got {tuple(image.shape)}")
    height, width = image.shape[:2]
    if border < 0 or min(height, width) - 2 * border < least:
        raise ValueError(
            f"at least {least}x{least} pixels are compared, but images of {width}x{height} with "
            f"a border of {border} were given; take larger images, or a border from 0 on"
        )
    return _to_planes(image, border, y_channel), _to_planes(reference, border, y_channel)


def _to_planes(image: Pixels, border: int, y_channel: bool) -> Tensor:
    tensor = torch.as_tensor(image).detach().cpu()
    if not tensor.is_floating_point() and tensor.dtype != torch.uint8:
        raise ValueError(
            f"images must be uint8 in 0..255 or floating point in 0..1, got {image.dtype}"
        )
    check_values(tensor)
    white = 1.0 if tensor.is_floating_point() else 255.0
    tensor = tensor.to(torch.float64) / white
    tensor = tensor[border : tensor.shape[0] - border, border : tensor.shape[1] - border]
    if tensor.ndim == 2:
        return tensor[None]
    if y_channel and tensor.shape[-1] == 3:
        return rgb_to_y(tensor)[None]
    return tensor.movedim(-1, 0)


def check_values(image: Tensor) -> None:
    """Raise ``ValueError`` unless the pixels are numbers in 0..1, or near it where they are floats:
    what a network returns may be a little outside."""
    if not image.is_floating_point():
        return
    if not image.isfinite().all():
        raise ValueError("an image has pixels that are NaN or infinite; it cannot be measured")
    farthest = image.abs().max().item()
    if farthest > _FARTHEST:
        raise ValueError(
            f"images of floating point must be in 0..1, this one reaches {farthest:g}; divide it "
            f"by its white, such as 255"
        )


def _decibels(error: float) -> float:
    return 10 * math.log10(1 / error) if error > 0 else math.inf


def _gaussian(planes: Tensor) -> Tensor:
    """(C, H, W) to (C, H - 10, W - 10)."""
    offset = torch.arange(-5, 6, dtype=planes.dtype)
    window = torch.exp(-(offset**2) / (2 * 1.5**2))
    window /= window.sum()
    blurred = F.conv2d(planes[:, None], window.view(1, 1, 11, 1))
    return F.conv2d(blurred, window.view(1, 1, 1, 11))[:, 0]


def _blocking_effect(plane: Tensor) -> float:
    """Blocking effect factor of one plane (H, W): by how much steps across block edges are larger
    than other steps.

    The counts of edges are those of the reference implementation, which leaves one edge a row
    out where the side is no multiple of eight.
    """
    height, width = plane.shape
    edge_total = step_total = 0.0
    for steps in (plane.diff(dim=1).square(), plane.diff(dim=0).square().T):
        edge_total += steps[:, JPEG_BLOCK - 1 :: JPEG_BLOCK].sum().item()
        step_total += steps.sum().item()
    edges_across = height * (width // JPEG_BLOCK - 1)
    edges_down = width * (height // JPEG_BLOCK - 1)
    edges = edges_across + edges_down
    others = height * (width - 1) + width * (height - 1) - edges
    difference = edge_total / edges - (step_total - edge_total) / others
    weight = math.log2(JPEG_BLOCK) / math.log2(min(height, width))
    return weight * max(difference, 0.0)
