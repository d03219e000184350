"""Writing PNG, JPEG, WebP and TIFF files from floats that arrive some rows at a time.

The suffix decides on the format. The number of pixels is not limited: a large scan is an ordinary
input. PNG and TIFF are written while rows arrive, so that a result may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import psutil

from ..errors import ImageError, WriteError
from ..files import check_target, replacing
from ..images.levels import to_integers
from ..text import shown
from . import jpeg, webp
from .metadata import Metadata
from .picture import FORMATS, Page
from .png import write_png
from .tiff import write_tiff

T = TypeVar("T")

_LONGEST_SIDE = {"JPEG": 65500, "WebP": 16383, "PNG": 1_000_000}
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


def check_holds(path: str | Path, count: int, kind: str) -> None:
    """Check whether the format of ``path`` holds so many pictures of a kind, "page" or "frame".

    Raises ImageError.
    """
    formats = {"page": ("TIFF",), "frame": ("PNG", "WebP")}.get(kind)
    if formats and FORMATS[Path(path).suffix.lower()] not in formats:
        raise ImageError(
            f"{shown(path)}: only {' and '.join(formats)} can hold {count} {kind}s; leave the "
            "format out."
        )


class Rows(NamedTuple):
    """A picture as it is made."""

    rows: Iterable[np.ndarray]
    """Floats (h, W, C) in 0..1, any number of rows at a time, from top to bottom. Colours are not
    premultiplied by alpha."""

    shape: tuple[int, int, int]
    """Height, width and channels: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha)."""

    metadata: Metadata


def write_image(
    path: str | Path,
    rows: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    metadata: Metadata,
    overwrite: bool = False,
) -> None:
    """Write one picture as ``write_images`` does. For the arguments see ``Rows``."""
    write_images(path, [Rows(rows, shape, metadata)], [shape[:2]], overwrite)


def write_images(
    path: str | Path,
    pictures: Iterable[Rows],
    sizes: Sequence[tuple[int, int]],
    overwrite: bool = False,
) -> list[str]:
    """Write a picture, the pages of a TIFF or the frames of an animation in the format of the
    suffix; the file appears whole or not at all.

    PNG and TIFF keep 16 bits and take no more memory than the rows; JPEG (quality 95, full colour
    resolution) and WebP (lossless) store 8 bits and take the memory of a whole picture. Missing
    folders are made. Nothing is written before the first rows have come, and no rows are held while
    the next are made.

    Args:
        path: the target.
        pictures: one after another, each asked for when the one before is written.
        sizes: height and width of all of them.
        overwrite: whether a file that exists is replaced.

    Returns:
        Names of what the format cannot hold of the metadata.

    Raises:
        ImageError: naming the file, when it exists and ``overwrite`` is false, when the format
            cannot hold a picture, when a pixel is not a number, or when the disk refuses.
        Exception: whatever ``pictures`` and their rows raise passes through.
    """
    path = Path(path)
    failures: list[Exception] = []
    left_out: dict[str, None] = {}
    pages = _pages(path, _watched(pictures, failures), overwrite, failures, left_out)
    page = next(pages)
    page.strips = chain([next(page.strips)], page.strips)
    pages = chain([page], pages)
    del page
    file_format = FORMATS[path.suffix.lower()]
    try:
        with replacing(path) as part, part.open("wb") as file:
            if file_format == "TIFF":
                write_tiff(file, pages, sizes)
            elif file_format == "PNG":
                write_png(file, pages, len(sizes))
            elif len(sizes) > 1:
                webp.write_animation(file, pages)
            else:
                page = next(pages)
                encode = jpeg.encode if file_format == "JPEG" else webp.encode
                file.write(encode(np.concatenate([*page.strips]), page.metadata))
    except (WriteError, MemoryError) as error:
        if failures:
            raise failures[0] from None
        if isinstance(error, WriteError):
            raise ImageError(str(error)) from error
        raise ImageError(f"{shown(path)} cannot be written: not enough memory.") from error
    return list(left_out)


def _pages(
    path: Path,
    pictures: Iterable[Rows],
    overwrite: bool,
    failures: list[Exception],
    left_out: dict[str, None],
) -> Iterator[Page]:
    """Turn pictures into pages of the format; what it cannot hold of them is put into
    ``left_out``."""
    for number, (rows, shape, metadata) in enumerate(pictures):
        check_writable(path, shape)
        if not number and path.exists() and not overwrite:
            raise ImageError(
                f"{shown(path)} already exists; choose another name or allow overwriting."
            )
        _, width, channels = shape
        file_format = FORMATS[path.suffix.lower()]
        depth = metadata.bit_depth if file_format in ("PNG", "TIFF") else 8
        height = max(_STRIP_BYTES // (width * channels * depth // 8), 1)
        metadata = metadata.fitted(file_format)
        left_out.update(dict.fromkeys(metadata.left_out))
        white = metadata.white / 65535 if metadata.white and depth == 16 else 1
        strips = _watched(_strips(path, rows, height, depth, white), failures)
        yield Page(strips, height, shape, metadata)


def _watched(made: Iterable[T], failures: list[Exception]) -> Iterator[T]:
    """Yield what is made; note what it raises, so that it is not taken for a failure to write."""
    try:
        yield from made
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
