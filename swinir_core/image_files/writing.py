"""Image files: PNG, JPEG, WebP and TIFF to float pixels and back, with nothing lost on the way.

Files are recognised by their content on reading and by their suffix on writing. There is no limit
on the number of pixels: a large scan is an ordinary input here, and every file is one the user
named. PNG and TIFF are written as rows arrive, so that a result need not fit the memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
from .png import write_png
from .reading import open_image
from .tiff import write_tiff

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Format of each file-name suffix, in lower case."""

IMAGE_SUFFIXES = frozenset(FORMATS)

_LONGEST_SIDE = {"JPEG": 65500, "WebP": 16383, "PNG": 1_000_000}
_LONGEST_JPEG_EXIF = 65533
_STRIP_BYTES = 2**18
_ENCODER_BYTES = {"JPEG": 10, "WebP": 44}
"""Memory a pixel takes in the encoders that want a whole picture, as measured, with the picture
itself."""


@dataclass
class Image:
    """A picture the right way up, with what must survive restoration."""

    pixels: np.ndarray
    """float32 (H, W, C) in 0..1; C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha).
    Colours are not premultiplied by alpha."""

    bit_depth: int = 8
    """Bits a sample in the file: 8 or 16."""

    icc_profile: bytes | None = None
    """ICC profile that fits the colours; None where the file had none."""

    exif: bytes | None = None
    """EXIF block beginning with ``Exif\\0\\0``, without orientation and pixel dimensions. TIFF
    files neither give nor take one."""


def read_image(path: str | Path) -> Image:
    """Read a PNG, JPEG, WebP or TIFF file, upright and in full depth, as ``open_image`` does, which
    also tells what is raised."""
    picture = open_image(path)
    try:
        pixels = picture.rows(0, picture.shape[0])
    except MemoryError as error:
        raise ImageError(f"{shown(path)} is too large for this machine's memory.") from error
    return Image(pixels, picture.bit_depth, picture.icc_profile, picture.exif)


def check_writable(path: str | Path, height: int, width: int, channels: int) -> None:
    """Raise ImageError where ``path`` cannot be written, or where its format cannot hold the
    picture or takes more memory for it than is free."""
    path = Path(path)
    try:
        check_target(path)
    except WriteError as error:
        raise ImageError(str(error)) from error
    if path.suffix.lower() not in FORMATS:
        raise ImageError(f"{shown(path)}: the name must end in one of {', '.join(FORMATS)}.")
    file_format = FORMATS[path.suffix.lower()]
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


def write_image(path: str | Path, image: Image, overwrite: bool = False) -> None:
    """Write an image in the format of its suffix, as ``write_rows`` does."""
    write_rows(
        *(path, [image.pixels], image.pixels.shape),
        *(image.bit_depth, image.icc_profile, image.exif, overwrite),
    )


def write_rows(
    path: str | Path,
    rows: Iterable[np.ndarray],
    shape: tuple[int, ...],
    bit_depth: int = 8,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
    overwrite: bool = False,
) -> None:
    """Write a picture of ``shape`` (H, W, C), given some rows at a time (h, W, C) from top to
    bottom, in the format of the suffix; the file appears whole or not at all.

    Pixels are floats in 0..1, as everything else described at ``Image``. PNG and TIFF keep 16 bits
    and take no more memory than the rows, the others store 8 and take that of the picture. JPEG is
    quality 95 with full colour resolution, WebP is lossless. Missing folders are made. Nothing is
    written before the first rows have come, and no rows are held while the next are made.

    Raises ImageError, naming the file, when it exists and ``overwrite`` is false, when the format
    cannot hold the picture, when a pixel is not a number, or when the disk refuses. What ``rows``
    raises passes through.
    """
    path = Path(path)
    height, width, channels = shape
    check_writable(path, height, width, channels)
    if path.exists() and not overwrite:
        raise ImageError(f"{shown(path)} already exists; choose another name or allow overwriting.")
    failures: list[Exception] = []
    file_format = FORMATS[path.suffix.lower()]
    depth = bit_depth if file_format in ("PNG", "TIFF") else 8
    strip_rows = max(_STRIP_BYTES // (width * channels * depth // 8), 1)
    strips = _strips(_watched(rows, failures), strip_rows, depth)
    try:
        strips = chain([next(strips)], strips)
        with replacing(path) as part:
            if file_format == "TIFF":
                write_tiff(part, strips, strip_rows, (height, width, channels), depth, icc_profile)
            elif file_format == "PNG":
                with part.open("wb") as file:
                    write_png(file, strips, (height, width, channels), depth, icc_profile, exif)
            else:
                part.write_bytes(_encode(file_format, strips, shape, icc_profile, exif))
    except (OSError, MemoryError, ImageError) as error:
        if failures:
            raise failures[0] from None
        if isinstance(error, ImageError):
            raise ImageError(f"{shown(path)} {error}.") from error
        if isinstance(error, WriteError):
            raise ImageError(str(error)) from error
        reason = str(error) or "not enough memory"  # of an encoder
        raise ImageError(f"{shown(path)} cannot be written: {reason}.") from error


def _watched(rows: Iterable[np.ndarray], failures: list[Exception]) -> Iterator[np.ndarray]:
    """The same rows; what they raise is noted, so that it is not taken for a failure to write."""
    try:
        yield from rows
    except Exception as error:
        failures.append(error)
        raise


def _strips(rows: Iterable[np.ndarray], height: int, depth: int) -> Iterator[np.ndarray]:
    """Floats (h, W, C) of any h, one after another, as integers of ``height`` rows each; the last
    may have fewer."""
    parts, missing = [], height
    for more in rows:
        start = 0
        while start < len(more):
            part = more[start : start + missing]
            if np.isnan(part).any():
                raise ImageError("was not written: some of its pixels are not numbers (NaN)")
            parts.append(to_integers(part, depth))
            start += len(part)
            missing -= len(part)
            if not missing:
                yield np.concatenate(parts)
                parts, missing = [], height
        more = part = None
    if parts:
        yield np.concatenate(parts)


def _encode(
    file_format: str,
    strips: Iterable[np.ndarray],
    shape: tuple[int, ...],
    icc_profile: bytes | None,
    exif: bytes | None,
) -> bytes:
    """JPEG or WebP, whose encoders want the picture in one piece."""
    samples, start = np.empty(shape, np.uint8), 0
    for strip in strips:
        samples[start : start + len(strip)] = strip
        start += len(strip)
    exif = exif or b""
    if file_format == "JPEG":
        options = {"format": "JPEG", "quality": 95, "subsampling": 0}
        exif = exif if len(exif) <= _LONGEST_JPEG_EXIF else b""
    else:
        options = {"format": "WEBP", "lossless": True, "exact": True}
    file = BytesIO()
    picture = PIL.Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    picture.save(file, icc_profile=icc_profile, exif=exif, **options)
    return file.getvalue()
