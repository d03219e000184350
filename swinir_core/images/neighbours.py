"""Means and bounds over the neighbours of every pixel, equal to the last bit wherever in an image a
pixel lies: so a picture can be corrected by rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SLACK = 0.5
"""Measured on discs, text, lines and soft edges: without it the thinnest lines lose up to 2 dB, and
more of it changes nothing."""


def continued(image: Tensor, margin: int, side: int) -> Tensor:
    """Continue an image beyond both edges of a side, one of its dimensions, by ``margin`` pixels of
    the opposite edge."""
    length = image.shape[side]
    seen = torch.arange(-margin, length + margin, device=image.device) % length
    return image.index_select(side, seen)


def rows_around(
    image: Tensor, start: int, stop: int, margin: int, wraps: bool
) -> tuple[Tensor, int]:
    """Take rows of an image with ``margin`` rows above and below.

    Where it ``wraps`` from bottom to top these are there always, otherwise as far as the image
    reaches. Returns the rows, and how many of them are above.
    """
    length = len(image)
    if wraps and (start < margin or stop + margin > length):
        return image[torch.arange(start - margin, stop + margin) % length], margin
    first = max(start - margin, 0)
    return image[first : stop + margin], start - first


def smooth(image: Tensor, width: int, wrapped: tuple[bool, bool] = (False, False)) -> Tensor:
    """Sum the neighbours of every pixel under a triangle, which passes low frequencies only.

    Args:
        image: (H, W, C) floats. What lies outside counts as 0, so the same sum over weights makes a
            mean of what lies inside.
        width: Half the base of the triangle in pixels, a power of two: pixels that are so far away
            along either side, or farther, do not count.
        wrapped: Whether the image continues from bottom to top, and from right to left; then what
            lies outside is the opposite edge.

    Returns:
        (H, W, C): sums under a triangle of height 1 along each side.
    """
    for side in (0, 1):
        if wrapped[side]:
            image = continued(image, width - 1, side)
        else:
            image = F.pad(image, [0] * (4 - 2 * side) + [width - 1] * 2)
        # A triangle is a box twice, and a box the sum of two boxes of half its width.
        for step in 2 * [2**i for i in range(width.bit_length() - 1)]:
            length = image.shape[side] - step
            image = image.narrow(side, 0, length) + image.narrow(side, step, length)
        image = image / width
    return image


def neighbour_bounds(
    image: Tensor, wrapped: tuple[bool, bool] = (False, False)
) -> tuple[Tensor, Tensor]:
    """Find between what a restored pixel must lie to be near its surroundings in the image.

    These are three by three pixels of ``image`` (H, W, C). Where they are equal the bounds are
    equal to them. Elsewhere the bounds lie beyond them by half as much as they differ, because fine
    lines of an image are paler than the true ones.

    Returns:
        The least and the largest value: two (H, W, C).
    """
    for side in (0, 1):
        image = continued(image, 1, side) if wrapped[side] else image
    x, padding = image.movedim(-1, 0), [int(not wraps) for wraps in wrapped]
    largest, least = F.max_pool2d(x, 3, 1, padding), -F.max_pool2d(-x, 3, 1, padding)
    slack = (largest - least) * _SLACK
    return (least - slack).movedim(0, -1), (largest + slack).movedim(0, -1)


def limit(result: Tensor, bounds: tuple[Tensor, Tensor], scale: int) -> Tensor:
    """Limit (sH, sW, C) to the bounds (H, W, C) of the pixels of which its pixels are parts."""
    height, width, channels = bounds[0].shape
    pixels = result.reshape(height, scale, width, scale, channels)
    least, largest = (bound[:, None, :, None] for bound in bounds)
    return pixels.clamp(least, largest).view(result.shape)
