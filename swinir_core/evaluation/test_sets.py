"""Test sets: folders of good images, read together with the network inputs made from them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..degradation.recipes import DEGRADATIONS, NOISE_SEED, good_image
from ..errors import ImageError
from ..image_files.finding import find_images
from ..image_files.reading import open_image
from ..images.levels import to_floats
from .layouts import find_layout
from .protocol import Protocol


@dataclass(frozen=True)
class ImagePair:
    """Files of one image of a test set."""

    name: str

    high: Path
    """The good image."""

    low: Path | None
    """Its input, if the set has one; otherwise the input is made."""

    seed: int
    """Seed of its blind degradation: its place in the set."""


class PixelPair(NamedTuple):
    """One image of a test set, read."""

    low: np.ndarray
    """The network's input, float32 (H, W, C) in 0..1; noise may exceed that."""

    high: np.ndarray
    """The good image, uint8 (scale*H, scale*W, C)."""


def find_pairs(folder: Path, protocol: Protocol) -> list[ImagePair]:
    """List the images of a folder, searched to any depth; of a test set in one of the layouts of
    ``layouts.py`` only its good images.

    For super-resolution the set's own inputs are taken where it brings some for this scale. Raises
    ``ImageError`` when there are no images, for an input that is missing, and where names leave
    open which images are the good ones.
    """
    images = [inside for _, inside in find_images([str(folder)])]
    found = find_layout(folder, images, protocol.scale if protocol.task == "sr" else None)
    common = os.path.commonpath([high.parent for high, _ in found])
    return [
        ImagePair(high.relative_to(common).as_posix(), folder / high, low and folder / low, seed)
        for seed, (high, low) in enumerate(found)
    ]


def read_pair(image: ImagePair, protocol: Protocol) -> PixelPair:
    """Read a good image, its sides cut to multiples of the scale, and read or make its input.

    Raises ``ImageError`` for files that cannot be read or scored, and when the size of a given
    input does not follow from the good image.
    """
    scale = protocol.scale
    high = _read(image.high, protocol)
    height, width = high.shape[0] // scale, high.shape[1] // scale
    high = high[: height * scale, : width * scale]
    least = protocol.least_side
    if min(high.shape[:2]) < least:
        raise ImageError(f"{image.high} is too small to score: {least}x{least} pixels are needed.")
    if image.low is None:
        degradation = DEGRADATIONS[protocol.task]
        low = degradation.fixed_input(high, image.seed, scale, protocol.level)
        return PixelPair(low, high)
    low = _read(image.low, protocol)
    if low.shape[:2] != (height, width):
        raise ImageError(
            f"{image.low} has {low.shape[1]}x{low.shape[0]} pixels, but {image.high} calls for "
            f"{width}x{height}."
        )
    return PixelPair(to_floats(low), high)


def seed_of(image: ImagePair, protocol: Protocol) -> int | None:
    """Seed of the randomness in an input; ``None`` when nothing is random."""
    if image.low is None and protocol.task == "real_sr":
        return image.seed
    return NOISE_SEED if protocol.task == "denoise" else None


def _read(path: Path, protocol: Protocol) -> np.ndarray:
    return good_image(open_image(path).levels(), protocol.task, protocol.channels)
