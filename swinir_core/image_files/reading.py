"""Opening PNG, JPEG, WebP and TIFF files, which are recognised by their content."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
from PIL.ExifTags import IFD, Base
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from ..errors import ImageError
from ..images.levels import to_floats
from ..text import shown
from . import tiff as image_tiff
from .picture import Metadata, Picture, from_inks, upright
from .png import SIGNATURE, read_png
from .scratch import allocate

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_LONGEST_REASON = 400
_JPEG_START_OF_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def open_image(path: str | Path, scratch: Path | None = None) -> Picture:
    """Decode a PNG, JPEG, WebP or TIFF file in full depth; colours are converted by rows.

    Palettes become RGB, a transparent colour becomes alpha, CMYK becomes RGB (through its profile,
    which is then dropped).

    Samples that would take a large part of the free memory are kept on disk in the folder
    ``scratch``, where nothing is left afterwards; without one they are kept in memory.

    Raises ImageError, naming the file, when it is missing, damaged, of another format, an
    animation, a TIFF of several pages or of samples that are not 8- or 16-bit integers, or larger
    than memory and disk allow.
    """
    path = Path(path)
    try:
        return _open(path, scratch)
    except ImageError as error:
        raise ImageError(f"{shown(path)} {error}.") from error
    except MemoryError as error:
        raise ImageError(f"{shown(path)} is too large for this machine's memory.") from error
    except Exception as error:
        # Four decoders raise some twenty types between them for damaged files.
        reason = getattr(error, "strerror", None) or (
            f"the file may be damaged ({shown(error, _LONGEST_REASON)})"
        )
        raise ImageError(f"{shown(path)} cannot be read: {reason}.") from error


def _open(path: Path, scratch: Path | None) -> Picture:
    with path.open("rb") as file:
        start = file.read(12)
    if not start:
        raise ImageError("is an empty file")
    # Not PIL.Image.open nor Pillow's WebP: they refuse large images, by a limit that belongs to
    # the whole process.
    if start[:4] in image_tiff.SIGNATURES:
        picture, orientation = image_tiff.read_tiff(path, scratch)
    elif start.startswith(SIGNATURE):
        picture, orientation = _open_png(path, scratch)
    elif start.startswith(b"\xff\xd8\xff"):
        picture, orientation = _open_jpeg(path, scratch)
    elif start.startswith(b"RIFF") and start.endswith(b"WEBP"):
        picture, orientation = _open_webp(path.read_bytes())
    else:
        raise ImageError("is not a PNG, JPEG, WebP or TIFF image")
    picture.samples = upright(picture.samples, orientation)
    return picture


def _open_png(path: Path, scratch: Path | None) -> tuple[Picture, int]:
    with PngImageFile(path) as header:
        _refuse_animation(getattr(header, "n_frames", 1))
        info = header.info
    # Pillow reduces 16-bit colour to 8 bits.
    samples, exif = read_png(path, scratch)
    # Pillow has read the chunks before the pixels, where there may be other forms of EXIF.
    exif, orientation = _exif_without_orientation(info | ({"exif": exif} if exif else {}))
    metadata = Metadata(8 * samples.itemsize, info.get("icc_profile"), exif)
    return Picture(samples, to_floats, metadata), orientation


def _open_jpeg(path: Path, scratch: Path | None) -> tuple[Picture, int]:
    with JpegImageFile(path) as header:
        info, (width, height), bands = header.info, header.size, len(header.getbands())
    profile = info.get("icc_profile")
    exif, orientation = _exif_without_orientation(info)
    samples = allocate((height, width, bands), np.uint8, scratch)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as jpeg:
        _check_complete(jpeg)
        imagecodecs.jpeg8_decode(jpeg, out=samples if bands > 1 else samples[..., 0])
    if bands == 4:
        inks = from_inks(profile, inverted=True)
        return Picture(samples, inks, Metadata(exif=exif)), orientation
    return Picture(samples, to_floats, Metadata(8, profile, exif)), orientation


def _check_complete(jpeg: mmap.mmap) -> None:
    """Raise ImageError for a JPEG without an end, which libjpeg would fill up with gray."""
    at, scanning = 2, False
    while marker := _JPEG_MARKER.search(jpeg, at):
        if marker[0] == _JPEG_END and scanning:
            return
        scanning = scanning or marker[0] == _JPEG_START_OF_SCAN
        (length,) = struct.unpack_from(">H", jpeg, marker.end())
        at = marker.end() + length
    raise ImageError("cannot be read: the file may be damaged (it ends too early)")


def _open_webp(webp: bytes) -> tuple[Picture, int]:
    """Decode WebP, always in memory: it has 2^28 pixels at most."""
    chunks, start = [], 12
    while start + 8 <= len(webp):
        kind, length = struct.unpack_from("<4sI", webp, start)
        chunks.append((kind, webp[start + 8 : start + 8 + length]))
        start += 8 + length + length % 2
    _refuse_animation([kind for kind, _ in chunks].count(b"ANMF"))
    extra = dict(chunks)
    exif, orientation = _exif_without_orientation({"exif": extra.get(b"EXIF")})
    samples = imagecodecs.webp_decode(webp)
    return Picture(samples, to_floats, Metadata(8, extra.get(b"ICCP"), exif)), orientation


def _refuse_animation(frames: int) -> None:
    if frames > 1:
        raise ImageError(f"is an animation of {frames} frames; save each as an image first")


def _exif_without_orientation(info: dict[Any, Any]) -> tuple[bytes | None, int]:
    """Take the EXIF block from ``info``, which may hold it in any form that Pillow knows.

    Returns it without orientation and pixel dimensions, which restoration makes untrue, and the
    orientation.
    """
    carrier = PIL.Image.new("L", (1, 1))
    carrier.info = info
    try:
        exif = carrier.getexif()
        orientation = exif.pop(Base.Orientation, 1)
        if IFD.Exif in exif:
            details = exif.get_ifd(IFD.Exif)
            details.pop(Base.ExifImageWidth, None)
            details.pop(Base.ExifImageHeight, None)
        return (exif.tobytes() if len(exif) else None), orientation
    except Exception:
        # A damaged EXIF block is common and no reason to refuse the picture.
        return None, 1
