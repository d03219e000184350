"""Test sets: folders of good images, read together with the network inputs made from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..degradation.recipes import DEGRADATIONS, NOISE_SEED, good_image
from ..errors import ImageError
from ..image_files.finding import find_images
from ..image_files.reading import open_image
from ..images.levels import to_floats
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
    """List the images of a folder, searched to any depth, or of its ``HR`` folder if it has one.

    For super-resolution inputs are taken from ``LR_bicubic/X2/namex2.png`` beside
    ``HR/name.png`` if the folder ``LR_bicubic/X2`` exists. Raises ``ImageError`` when there are
    no images, and for an input that is missing.
    """
    high_folder = folder / "HR" if (folder / "HR").is_dir() else folder
    low_folder = folder / "LR_bicubic" / f"X{protocol.scale}"
    has_inputs = protocol.task == "sr" and high_folder != folder and low_folder.is_dir()
    images = []
    for seed, (path, inside) in enumerate(find_images([str(high_folder)])):
        low = low_folder / f"{path.stem}x{protocol.scale}{path.suffix}" if has_inputs else None
        if low is not None and not low.is_file():
            raise ImageError(
                f"{low}: the input of {path} is missing; without the folder {low_folder} all "
                "inputs are made."
            )
        images.append(ImagePair(inside.as_posix(), path, low, seed))
    return images


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
