"""Scores of a model on the images of a test set, by the protocol of the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..images import metrics
from ..images.levels import to_integers
from ..images.resize import bicubic_resize
from ..network.swinir import SwinIR
from ..restoration.execution import Progress
from ..restoration.inputs import check_inputs
from ..restoration.restorer import Restorer
from .padding import SymmetricPadding
from .protocol import Protocol
from .test_sets import ImagePair, read_pair


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image, by the names in ``Protocol.metrics``; PSNR in dB."""

    name: str
    output: dict[str, float]
    untouched: dict[str, float]
    """Scores of the input itself, which for super-resolution is enlarged by MATLAB's bicubic."""

    tiles: int
    """Number of tiles; more than 1 for want of memory, which is not quite the protocol."""


def paper_restorer(
    model: SwinIR, device: torch.device | str, dtype: torch.dtype, ensemble: bool = False
) -> Restorer:
    """Make a restorer that pads as the paper's evaluation, or with its x8 self-ensemble."""
    return Restorer(SymmetricPadding(model), device, dtype, ensemble)


def score_image(
    restorer: Restorer, image: ImagePair, protocol: Protocol, progress: Progress | None = None
) -> ImageScores:
    """Restore one image and score it. Raises ``ImageError`` and what ``restorer`` raises."""
    low, high = read_pair(image, protocol)
    inputs = check_inputs(torch.from_numpy(low)[None])
    plan = restorer.plan_for(inputs)
    result = to_integers(restorer.run(inputs, plan, progress)[0].numpy())
    return ImageScores(
        image.name,
        output=score(result, high, protocol),
        untouched=score(untouched(low, protocol), high, protocol),
        tiles=len(plan.tiles),
    )


def restored(restorer: Restorer, low: np.ndarray) -> np.ndarray:
    """Restore one input (H, W, C) to uint8 (scale*H, scale*W, C)."""
    return to_integers(restorer(torch.from_numpy(low)[None])[0].numpy())


def untouched(low: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Convert an input to uint8 of the result's size; MATLAB's bicubic enlarges where needed."""
    levels = to_integers(low)
    return bicubic_resize(levels, protocol.scale) if protocol.enlarges else levels


def score(image: np.ndarray, reference: np.ndarray, protocol: Protocol) -> dict[str, float]:
    """Compute the scores of ``protocol.metrics``; both images are uint8 (H, W, C)."""
    of = {"PSNR": metrics.psnr, "SSIM": metrics.ssim, "PSNR-B": metrics.psnr_b}
    return {
        name: of[name.removesuffix("-Y")](image, reference, protocol.border, protocol.enlarges)
        for name in protocol.metrics
    }


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every score over images; a PSNR counts ``MOST_DECIBELS`` at most."""
    most = metrics.MOST_DECIBELS
    return {name: sum(min(each[name], most) for each in scores) / len(scores) for name in scores[0]}
