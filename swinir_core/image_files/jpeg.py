"""JPEG: its segments, read and made."""

from __future__ import annotations

import mmap
import re
import struct
from fractions import Fraction
from io import BytesIO

import numpy as np
import PIL.Image

from .directories import MOST_BYTES
from .metadata import (
    CENTIMETRE,
    COMMENT,
    INCH,
    Metadata,
    Resolution,
    Text,
    take_resources,
    take_xmp,
)

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START_OF_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_APP0, _APP1, _APP2, _APP13, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF, 0xFE
_EXIF, _JFIF = b"Exif\0", b"JFIF\0"
_XMP, _EXTENDED_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP, _MULTI_PICTURE = b"Photoshop 3.0\0", b"MPF\0"
_OTHER_SEGMENTS = {*range(_APP1, _APP15 + 1)} - {_APP14}
_READ_BY_PILLOW = (_EXIF, b"ICC_PROFILE\0")
_LONGEST_SEGMENT = 65533
_UNITS = {0: None, 1: INCH, 2: CENTIMETRE}

Segments = list[tuple[int, bytes]]
"""Second byte of the marker, and contents, of segments before the pixels."""


def read_segments(jpeg: mmap.mmap) -> tuple[Segments, bool]:
    """Read the segments before the pixels, and whether the file has an end, without which libjpeg
    fills the picture up with gray.

    Raises struct.error where the file ends before the pixels begin.
    """
    segments, at, scanning, left = [], 2, False, MOST_BYTES
    while marker := _MARKER.search(jpeg, at):
        if marker[0] == _END and scanning:
            return segments, True
        scanning = scanning or marker[0] == _START_OF_SCAN
        start = marker.end()
        if scanning and start + 2 > len(jpeg):
            break
        (length,) = struct.unpack_from(">H", jpeg, start)
        at = start + length
        if not scanning and length <= left:
            segments.append((marker[0][1], jpeg[start + 2 : at]))
            left -= length
    if not scanning:
        raise ValueError("it ends too early")
    return segments, False


def read_metadata(segments: Segments, icc_profile: bytes | None) -> Metadata:
    """Read what the segments of a JPEG say, all but its EXIF."""
    texts, left_out, xmp, photoshop, resolution = [], [], None, b"", None
    for marker, data in segments:
        if marker == _APP0 and data.startswith(_JFIF) and len(data) >= 12:
            unit, x, y = struct.unpack_from(">BHH", data, 7)
            if x and y and (x, y, unit) != (1, 1, 0):
                resolution = Resolution(Fraction(x), Fraction(y), _UNITS.get(unit))
        elif marker == _APP1 and data.startswith(_XMP):
            xmp = take_xmp(data[len(_XMP) :])
        elif marker == _APP1 and data.startswith(_EXTENDED_XMP):
            left_out.append("the extension of XMP")
        elif marker == _APP13 and data.startswith(_PHOTOSHOP):
            photoshop += data[len(_PHOTOSHOP) :]
        elif marker == _COMMENT:
            texts.append(Text(COMMENT, _decoded(data.rstrip(b"\0"))))
        elif marker == _APP2 and data.startswith(_MULTI_PICTURE):
            left_out.append("the other pictures of the file (MPF: a preview, a gain or depth map)")
        elif (
            _APP1 <= marker <= _APP15 and marker != _APP14 and not data.startswith(_READ_BY_PILLOW)
        ):
            name = data.split(b"\0")[0][:20].decode("latin-1")
            left_out.append(f"the segment APP{marker - _APP0} ({name})")
    return Metadata(
        8,
        icc_profile,
        xmp=xmp,
        photoshop=take_resources(photoshop),
        texts=tuple(texts),
        resolution=resolution,
        left_out=tuple(dict.fromkeys(left_out)),
    )


def encode(samples: np.ndarray, metadata: Metadata) -> bytes:
    """Encode uint8 (H, W, C), C of 1 or 3, with metadata fitted to the format."""
    file = BytesIO()
    picture = PIL.Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    picture.save(
        file,
        "JPEG",
        quality=95,
        subsampling=0,
        icc_profile=metadata.icc_profile,
        exif=metadata.exif or b"",
    )
    jpeg = bytearray(file.getvalue())
    if resolution := metadata.resolution:
        unit = resolution.unit
        unit = unit if unit in (None, CENTIMETRE) else INCH
        density = resolution.per(unit) if unit else (resolution.x, resolution.y)
        code = {None: 0, INCH: 1, CENTIMETRE: 2}[unit]
        # Behind the marker, length and name of JFIF, with which every JPEG of libjpeg begins.
        struct.pack_into(">BHH", jpeg, 13, code, *(min(round(n), 65535) for n in density))
    return bytes(jpeg[:20] + _segments(metadata) + jpeg[20:])


def _segments(metadata: Metadata) -> bytes:
    segments = []
    if metadata.xmp:
        segments.append((_APP1, _XMP + metadata.xmp))
    step = _LONGEST_SEGMENT - len(_PHOTOSHOP)
    resources = metadata.photoshop or b""
    parts = [resources[at : at + step] for at in range(0, len(resources), step)]
    segments += [(_APP13, _PHOTOSHOP + part) for part in parts]
    segments += [(_COMMENT, text.encode("utf-8", "replace")) for _, text, *_ in metadata.texts]
    return b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments
    )


def _decoded(comment: bytes) -> str:
    try:
        return comment.decode("utf-8")
    except UnicodeDecodeError:
        return comment.decode("latin-1")
