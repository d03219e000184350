"""Writing PNG, JPEG, WebP and TIFF files from floats that arrive some rows at a time.

The suffix decides on the format. The number of pixels is not limited: a large scan is an ordinary
input. PNG and TIFF are written while rows arrive, so that a result may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
import PIL.Image
import psutil

from ..errors import ImageError, WriteError
from ..files import check_target, replacing
from ..images.levels import to_integers
from ..text import shown
from .picture import FORMATS, Metadata
from .png import write_png
from .tiff import write_tiff

_LONGEST_SIDE = {"JPEG": 65500, "WebP": 16383, "PNG": 1_000_000}
_LONGEST_JPEG_EXIF = 65533
_STRIP_BYTES = 2**18
_ENCODER_BYTES = {"JPEG": 10, "WebP": 44}
"""Measured memory a pixel of the encoders that need the whole picture, the picture included."""


def check_writable(path: str | Path, shape: tuple[int, int, int]) -> None:
    """Check, before any work is done, whether a picture of ``shape`` (H, W, C) can be written.

    Raises ImageError where ``path`` cannot be written, or where its format cannot hold the picture
    or needs more memory for it than is free.
    """
    path = Path(path)
    height, width, channels = shape
    try:
        check_target(path)
    except WriteError as error:
        raise ImageError(str(error)) from error
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise ImageError(f"{shown(path)}: the name must end in one of {', '.join(FORMATS)}.")
    if file_format == "JPEG" and channels in (2, 4):
        raise ImageError(
            f"{shown(path)}: JPEG cannot hold transparency; write PNG, WebP or TIFF instead."
        )
    longest = _LONGEST_SIDE.get(file_format)
    if longest is not None and max(height, width) > longest:
        raise ImageError(
            f"{shown(path)}: {file_format} holds at most {longest} pixels a side and the picture "
            f"has {width} x {height}; write TIFF instead."
        )
    needed = _ENCODER_BYTES.get(file_format, 0) * height * width
    free = psutil.virtual_memory().available
    if needed > free:
        raise ImageError(
            f"{shown(path)}: {file_format} takes {needed / 1e9:.1f} GB of memory for "
            f"{width} x {height} pixels and {free / 1e9:.1f} GB are free; write PNG or TIFF "
            "instead, which are written row by row."
        )


def write_image(
    path: str | Path,
    rows: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    metadata: Metadata,
    overwrite: bool = False,
) -> None:
    """Write a picture in the format of the suffix; the file appears whole or not at all.

    PNG and TIFF keep 16 bits and take no more memory than the rows; JPEG (quality 95, full colour
    resolution) and WebP (lossless) store 8 bits and take the memory of the whole picture. Missing
    folders are made. Nothing is written before the first rows have come, and no rows are held while
    the next are made.

    Args:
        path: the target.
        rows: floats (h, W, C) in 0..1, any number of rows at a time, from top to bottom. Colours
            are not premultiplied by alpha.
        shape: height, width and channels: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha).
        metadata: what is stored beside the pixels.
        overwrite: whether a file that exists is replaced.

    Raises:
        ImageError: naming the file, when it exists and ``overwrite`` is false, when the format
            cannot hold the picture, when a pixel is not a number, or when the disk refuses.
        Exception: whatever ``rows`` raises passes through.
    """
    path = Path(path)
    check_writable(path, shape)
    if path.exists() and not overwrite:
        raise ImageError(f"{shown(path)} already exists; choose another name or allow overwriting.")
    _, width, channels = shape
    file_format = FORMATS[path.suffix.lower()]
    depth = metadata.bit_depth if file_format in ("PNG", "TIFF") else 8
    strip_rows = max(_STRIP_BYTES // (width * channels * depth // 8), 1)
    failures: list[Exception] = []
    white = metadata.white / 65535 if metadata.white and depth == 16 else 1
    strips = _watched(_strips(path, rows, strip_rows, depth, white), failures)
    strips = chain([next(strips)], strips)
    try:
        with replacing(path) as part:
            if file_format == "TIFF":
                write_tiff(part, strips, strip_rows, shape, metadata)
            elif file_format == "PNG":
                with part.open("wb") as file:
                    write_png(file, strips, shape, metadata)
            else:
                part.write_bytes(_encode(file_format, np.concatenate([*strips]), metadata))
    except (WriteError, MemoryError) as error:
        if failures:
            raise failures[0] from None
        if isinstance(error, WriteError):
            raise ImageError(str(error)) from error
        raise ImageError(f"{shown(path)} cannot be written: not enough memory.") from error


def _watched(strips: Iterable[np.ndarray], failures: list[Exception]) -> Iterator[np.ndarray]:
    """Yield the strips; note what they raise, so that it is not taken for a failure to write."""
    try:
        yield from strips
    except Exception as error:
        failures.append(error)
        raise


def _strips(
    path: Path, rows: Iterable[np.ndarray], height: int, depth: int, white: float
) -> Iterator[np.ndarray]:
    """Convert floats (h, W, C) of any h to integers of ``height`` rows each, colours in
    0..``white`` of all levels; the last strip may have fewer. Raises ImageError for NaN."""
    parts, missing = [], height
    for more in rows:
        start = 0
        while start < len(more):
            part = more[start : start + missing]
            if np.isnan(part).any():
                raise ImageError(
                    f"{shown(path)} was not written: some of its pixels are not numbers (NaN)."
                )
            if white != 1:
                part = part.copy()
                part[..., : 3 if part.shape[-1] > 2 else 1] *= np.float32(white)
            parts.append(to_integers(part, depth))
            start += len(part)
            missing -= len(part)
            if not missing:
                yield np.concatenate(parts)
                parts, missing = [], height
        more = part = None  # Else they would be in memory while the next are made.
    if parts:
        yield np.concatenate(parts)


def _encode(file_format: str, samples: np.ndarray, metadata: Metadata) -> bytes:
    """Encode JPEG or WebP, whose encoders need the whole picture, uint8 (H, W, C)."""
    exif = metadata.exif or b""
    if file_format == "JPEG":
        options = {"format": "JPEG", "quality": 95, "subsampling": 0}
        exif = exif if len(exif) <= _LONGEST_JPEG_EXIF else b""
    else:
        options = {"format": "WEBP", "lossless": True, "exact": True}
    file = BytesIO()
    picture = PIL.Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    picture.save(file, icc_profile=metadata.icc_profile, exif=exif, **options)
    return file.getvalue()
