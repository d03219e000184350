"""Whole image files read and written in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from swinir_core.image_files.metadata import Metadata
from swinir_core.image_files.reading import open_image
from swinir_core.image_files.writing import write_image as write_rows


@dataclass
class Image:
    """Pixels, float32 (H, W, C) in 0..1, and the metadata of a file."""

    pixels: np.ndarray
    bit_depth: int = 8
    icc_profile: bytes | None = None
    exif: bytes | None = None
    white: int | None = None


def read_image(path: str | Path) -> Image:
    picture = open_image(path)
    return Image(picture.rows(0, picture.shape[0]), *_known(picture.metadata))


def _known(metadata: Metadata) -> tuple[int, bytes | None, bytes | None]:
    return metadata.bit_depth, metadata.icc_profile, metadata.exif


def write_image(path: str | Path, image: Image, overwrite: bool = False) -> None:
    metadata = Metadata(image.bit_depth, image.icc_profile, image.exif, white=image.white)
    height, width, channels = image.pixels.shape
    write_rows(path, [image.pixels], (height, width, channels), metadata, overwrite)
