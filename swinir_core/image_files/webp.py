"""WebP and its animations: chunks, read and made.

Animations are written frame by frame, each a whole picture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import BinaryIO

import numpy as np
import PIL.Image

from ..errors import ImageError
from .metadata import Metadata, take_xmp
from .picture import Page

_PICTURE_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
_READ = (b"ICCP", b"EXIF", b"XMP ")
_ANIMATED, _HAS_XMP, _HAS_EXIF, _HAS_ALPHA, _HAS_PROFILE = 2, 4, 8, 16, 32
_LONGEST_TIME, _MOST_LOOPS, _MOST_BYTES = 2**24 - 1, 65535, 2**32 - 10


def chunks_of(webp: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and data of the chunks of a WebP file."""
    start = 12
    while start + 8 <= len(webp):
        kind, length = struct.unpack_from("<4sI", webp, start)
        yield kind, webp[start + 8 : start + 8 + length]
        start += 8 + length + length % 2


def read_metadata(chunks: dict[bytes, bytes]) -> Metadata:
    """Read what the chunks of a WebP say, all but its EXIF."""
    others = [kind for kind in chunks if kind not in _PICTURE_CHUNKS + _READ]
    left_out = tuple(f"the chunk {kind.decode('latin-1')}" for kind in others)
    xmp = take_xmp(chunks.get(b"XMP "))
    return Metadata(8, chunks.get(b"ICCP"), xmp=xmp, left_out=left_out)


def encode(samples: np.ndarray, metadata: Metadata) -> bytes:
    """Encode uint8 (H, W, C) without loss, with metadata fitted to the format."""
    file = BytesIO()
    picture = PIL.Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    picture.save(
        file,
        "WEBP",
        lossless=True,
        exact=True,
        icc_profile=metadata.icc_profile,
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )
    return file.getvalue()


def write_animation(file: BinaryIO, pages: Iterable[Page]) -> None:
    """Write pages of one shape as the frames of an animation.

    file: open for writing, and to go back in.
    Raises ImageError where the file becomes larger than WebP allows.
    """
    last = Metadata()
    for number, page in enumerate(pages):
        height, width, channels = page.shape
        last = page.metadata if not number else last
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        if not number:
            file.write(b"RIFF\0\0\0\0WEBP")
            flags = _ANIMATED | _HAS_ALPHA * (channels in (2, 4))
            flags |= _HAS_PROFILE * bool(last.icc_profile)
            flags |= _HAS_EXIF * bool(last.exif) | _HAS_XMP * bool(last.xmp)
            _write_chunk(file, b"VP8X", struct.pack("<I", flags) + size)
            if last.icc_profile:
                _write_chunk(file, b"ICCP", last.icc_profile)
            _write_chunk(file, b"ANIM", struct.pack("<IH", 0, min(last.loops, _MOST_LOOPS)))
        still = encode(np.concatenate([*page.strips]), Metadata())
        (data,) = (data for kind, data in chunks_of(still) if kind == b"VP8L")
        time = min(round((page.metadata.seconds or 0) * 1000), _LONGEST_TIME)
        frame = bytes(6) + size + time.to_bytes(3, "little") + b"\2"  # Not blended, not disposed.
        frame += b"VP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
        _write_chunk(file, b"ANMF", frame)
    for kind, data in ((b"EXIF", last.exif), (b"XMP ", last.xmp)):
        if data:
            _write_chunk(file, kind, data.removeprefix(b"Exif\0\0"))
    length = file.tell() - 8
    if length > _MOST_BYTES:
        raise ImageError("a WebP file holds no more than 4 GB; write PNG instead")
    file.seek(4)
    file.write(struct.pack("<I", length))


def _write_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2))
