"""Frames of animated GIF and WebP files as they are seen, by Pillow.

Each frame is the whole picture, with what earlier ones have left of it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
from PIL.GifImagePlugin import GifImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ..errors import ImageError
from .directories import MOST_BYTES
from .metadata import COMMENT, Metadata, Text, take_xmp

GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
_EXTENSION, _IMAGE, _APPLICATION = 0x21, 0x2C, 0xFF
_XMP, _PROFILE = b"XMP DataXMP", b"ICCRGBG1012"
_ABOUT_FRAMES = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_DECODER_BYTES = 16
"""Memory that Pillow takes a pixel of the picture: this frame, the one before and what is drawn."""


def describe_gif(path: Path) -> tuple[int, Metadata]:
    """Count the frames of a GIF file and read what it carries besides. Raises ImageError where a
    frame is too large for the memory."""
    with _opened(path) as file:
        comment = file.info.get("comment", b"").decode("latin-1")
        count = file.n_frames
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as gif:
        extensions = dict(_extensions(gif))
    # The packet is no row of blocks; behind it are 258 bytes by which it can be read as one.
    xmp = extensions.pop(_XMP, b"").partition(b"\1\xff\xfe\xfd")[0]
    profile = b"".join(_blocks(extensions.pop(_PROFILE, b"")))
    return count, Metadata(
        icc_profile=profile or None,
        xmp=take_xmp(xmp),
        texts=(Text(COMMENT, comment),) if comment else (),
        left_out=tuple(
            f"the extension {name.decode('latin-1')}"
            for name in extensions
            if name not in _ABOUT_FRAMES
        ),
    )


def _extensions(gif: mmap.mmap) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and contents, blocks with their lengths, of the application extensions of a GIF
    (section 26 of GIF89a), as far as it is sound and ``MOST_BYTES`` hold them."""
    left = MOST_BYTES

    def behind_blocks(at: int) -> int:
        while at < len(gif) and gif[at]:
            at += 1 + gif[at]
        return at + 1

    def colours(flags: int) -> int:
        return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0

    at = 13 + colours(gif[10])
    while at + 14 < len(gif) and gif[at] in (_EXTENSION, _IMAGE):
        if gif[at] == _IMAGE:
            at = behind_blocks(at + 11 + colours(gif[at + 9]))
            continue
        end = behind_blocks(at + 2)
        if gif[at + 1] == _APPLICATION and gif[at + 2] == 11 and end - at <= left:
            yield gif[at + 3 : at + 14], gif[at + 14 : end]
            left -= end - at
        at = end


def _blocks(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data) and data[at]:
        yield data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of the frames of a GIF or WebP file."""
    with _opened(path) as file:
        width, height = file.size
    return height, width


def read_frames(path: Path) -> Iterator[tuple[np.ndarray, Fraction, int]]:
    """Yield the frames of a GIF or WebP file: uint8 (H, W, C), C of 3 or 4 for all of them, the
    seconds that it is shown, and how often the animation is played (0: for ever).

    Raises ImageError where a frame is too large for the memory; whatever Pillow raises for a
    damaged file passes through.
    """
    with _opened(path) as file:
        mode = "RGB" if _is_opaque(path, file) else "RGBA"
    with _opened(path) as file:
        first_width, first_height = file.size
        loops = file.info.get("loop")
        if isinstance(file, GifImageFile):
            loops = 1 if loops is None else loops + 1 if loops else 0
        for number in range(getattr(file, "n_frames", 1)):
            file.seek(number)
            samples = np.asarray(file.convert(mode))
            if samples.shape[:2] != (first_height, first_width):
                raise ValueError(f"frame {number + 1} is larger than the first")
            yield samples, Fraction(int(file.info.get("duration", 0)), 1000), loops or 0


def _is_opaque(path: Path, file: GifImageFile | WebPImageFile) -> bool:
    """Tell whether no frame is transparent anywhere. Frames of a GIF use transparency for what
    stays as it was, too."""
    if isinstance(file, WebPImageFile):
        return file.mode == "RGB"
    for number in range(file.n_frames):
        file.seek(number)
        if np.asarray(file.convert("RGBA"))[..., 3].min() < 255:
            return False
    return True


def _opened(path: Path) -> GifImageFile | WebPImageFile:
    with path.open("rb") as start:
        header = start.read(30)
    if header.startswith(GIF_SIGNATURES):
        width, height = (int.from_bytes(header[at : at + 2], "little") for at in (6, 8))
        kind = GifImageFile
    else:
        width, height = (int.from_bytes(header[at : at + 3], "little") + 1 for at in (24, 27))
        kind = WebPImageFile
    needed, free = width * height * _DECODER_BYTES, psutil.virtual_memory().available
    if needed > free:
        raise ImageError(
            f"has frames of {width} x {height} pixels, which take {needed / 1e9:.1f} GB of memory "
            f"where {free / 1e9:.1f} GB are free"
        )
    return kind(path)
