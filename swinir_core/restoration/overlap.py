"""The overlap of tiles that a model needs for no seam to show, found by running it.

How far the edge of a tile is felt depends on the weights more than on the depth. Three windows away
12 trained layers and 36 random ones alike differ by less than a thousandth of 1/255 from the whole
image; the same 36 with weights four times as large do so only five windows away. No bound from
depth and window would be both safe and frugal. Instead a small fixed pattern is run once, whole and
cut, and the difference is looked up by its distance from the cut.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..devices import is_out_of_memory
from ..reports import Report, to_nobody
from .image_model import ImageModel
from .tiles import BLEND, blend_weights

TOLERANCE = 0.05 / 255
"""Largest difference allowed between blended tiles and the whole pattern. A photograph has far more
pixels beside its seams than the pattern, and its largest difference is up to four times as
large; both are measured by ``benchmarks/exactness/seams.py``."""

MOST_WINDOWS = 8
"""Overlaps are never found larger than this, even where the tolerance asks for it."""

_PATTERN_WINDOWS = 12
_UNKNOWN_WINDOWS = 4
_SEED = 0


def find_overlap(
    model: ImageModel, device: torch.device, dtype: torch.dtype, report: Report = to_nobody
) -> int:
    """Find the least overlap for which blended tiles are within ``TOLERANCE`` of the whole image.

    Where the arithmetic is coarser than that, they may differ by half more than they do far from
    every cut. Costs as much as 1.5 images of 12 by 12 windows; where these do not fit the memory 4
    windows are assumed.

    Args:
        model: Ready to run.
        device, dtype: Of its inputs.
        report: Handed to the model.

    Returns:
        Input pixels that neighbouring tiles must share, a multiple of the model's alignment.
    """
    # Not every network has windows; the alignment of those that have none is a pixel or two.
    window = model.alignment * max(round(BLEND / model.alignment), 1)
    x = pattern(model.in_channels, _PATTERN_WINDOWS * window).to(device, dtype)
    try:
        error = edge_error(lambda x: model(x, report), x)
    except Exception as failure:
        if not is_out_of_memory(failure):
            raise
        return _UNKNOWN_WINDOWS * window
    tolerance = max(TOLERANCE, 1.5 * error[-window].item())
    for windows in range(1, MOST_WINDOWS):
        if _seam(error, windows * window) <= tolerance:
            return windows * window
    return MOST_WINDOWS * window


@torch.no_grad()
def edge_error(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Measure how far the edge of a tile is felt.

    Args:
        model: (1, C, H, H) to (1, C, sH, sH).
        x: (1, C, H, H), H even; cut in the middle of both sides.

    Returns:
        (H / 2,) float32: for each distance from the cut, in input pixels, the largest difference
        that cutting makes there or farther away.
    """
    whole = model(x).float()
    middle, kept = x.shape[-1] // 2, whole.shape[-1] // 2
    before = model(x[..., :middle, :middle]).float() - whole[..., :kept, :kept]
    behind = model(x[..., middle:, middle:]).float() - whole[..., kept:, kept:]
    both = torch.maximum(before.flip(-1, -2).abs(), behind.abs()).amax((0, 1))
    both = both.cpu()  # What follows is little, and not every device can do it.
    distance = torch.arange(kept) // (kept // middle)
    nearest = torch.minimum(distance[:, None], distance).flatten()
    error = both.new_zeros(middle).scatter_reduce(0, nearest, both.flatten(), "amax")
    return error.flip(0).cummax(0).values.flip(0)


def pattern(channels: int, side: int) -> Tensor:
    """Make a test image (1, channels, side, side) in 0..1: squares of two by two pixels, each of a
    random colour. Edges reach farther into it than into other grains, as far as into fine
    structures of photographs."""
    noise = torch.rand(
        (1, channels, -(-side // 2), -(-side // 2)), generator=torch.Generator().manual_seed(_SEED)
    )
    noise = noise.repeat_interleave(2, -1).repeat_interleave(2, -2)
    return noise[..., :side, :side]


def _seam(error: Tensor, overlap: int) -> float:
    """Estimate the largest difference in an overlap of this many pixels, blended as tiles are."""
    distance = torch.arange(overlap)
    weights = blend_weights(distance + 0.5, overlap / 2, min(BLEND, overlap))
    weighted = weights * error[distance.clamp(max=len(error) - 1)]
    return (weighted + weighted.flip(0)).max().item()
