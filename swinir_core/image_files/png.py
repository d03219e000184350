"""PNG: read into one array, written while rows arrive.

Numbers in brackets are sections of the PNG specification, third edition (W3C).
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from .picture import Metadata
from .scratch import allocate

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_HIDDEN = b"skIp"
_COLOUR_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}

_LEVEL = 4
"""Compression level. With the filters below files are as large as with libpng's defaults and are
made four to six times as fast; level 6 saves three percent and takes four times as long."""


def read_png(path: Path, scratch: Path | None) -> tuple[np.ndarray, bytes | None]:
    """Read the samples of a PNG file, uint8 or uint16 (H, W, C), and its eXIf chunk.

    Palettes become RGB, a transparent colour becomes alpha and fewer than 8 bits become 8.
    ``scratch`` is the folder for samples larger than the memory. Whatever the decoder raises for a
    damaged file passes through.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as png:
        chunks = _chunks(png)
        width, height, depth, colour, *_ = struct.unpack_from(">IIBBBBB", png, chunks[0][1])
        kinds = {kind for kind, _, _ in chunks}
        channels = _COLOUR_CHANNELS[colour] + (colour >= 4 or b"tRNS" in kinds)
        exif = None
        for kind, start, stop in chunks:
            if kind == b"eXIf":
                exif = png[start:stop]
            if kind not in _PIXEL_CHUNKS:
                _hide(png, start, stop)
        samples = allocate((height, width, channels), f"u{-(-depth // 8)}", scratch)
        imagecodecs.png_decode(png, out=samples if channels > 1 else samples[..., 0])
    return samples, exif


def write_png(
    file: BinaryIO,
    strips: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    metadata: Metadata,
) -> None:
    """Write a PNG file.

    file: open for writing.
    strips: samples (h, W, C) of ``metadata.bit_depth`` bits, from top to bottom.
    shape: (H, W, C) of all strips together, C of 1 to 4.
    """
    height, width, channels = shape
    depth = metadata.bit_depth
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    file.write(SIGNATURE)
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    if metadata.icc_profile:
        _write_chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc_profile))
    if metadata.exif:
        _write_chunk(file, b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    compressor = zlib.compressobj(_LEVEL, strategy=zlib.Z_FILTERED)
    step = channels * depth // 8
    above = np.zeros((1, width * step), np.uint8)
    for strip in strips:
        rows = strip.astype(f">u{depth // 8}", order="C").view(np.uint8)
        rows = rows.reshape(len(strip), width * step)
        filtered = filter_rows(rows, np.concatenate([above, rows[:-1]]), step)
        if data := compressor.compress(filtered.tobytes()):
            _write_chunk(file, b"IDAT", data)
        above = rows[-1:]
    _write_chunk(file, b"IDAT", compressor.flush())
    _write_chunk(file, b"IEND", b"")


def filter_rows(rows: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """Filter each row by that of the five filters (9.2) with the least sum of absolute differences
    (12.7).

    rows: bytes (h, n).
    above: the rows above them, (h, n).
    step: number of bytes between a byte and its neighbour to the left.
    Returns (h, 1 + n), the number of the filter before every row.
    """
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    corner[:, step:] = above[:, :-step]
    a, b, c = (x.astype(np.int16) for x in (left, above, corner))
    # How far the estimate a + b - c is from each of its terms.
    from_a, from_b, from_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where(from_b <= from_c, above, corner)
    paeth = np.where((from_a <= from_b) & (from_a <= from_c), left, nearest)
    mean = ((a + b) >> 1).astype(np.uint8)
    filtered = np.stack([rows, rows - left, rows - above, rows - mean, rows - paeth])
    cost = np.minimum(filtered, -filtered).sum(axis=2, dtype=np.uint64)
    best = cost.argmin(axis=0)
    chosen = filtered[best, np.arange(len(rows))]
    return np.hstack([best[:, None].astype(np.uint8), chosen])


def _chunks(png: mmap.mmap) -> list[tuple[bytes, int, int]]:
    """List the chunks (5.3): kind, start and stop of the data."""
    chunks, start = [], len(SIGNATURE)
    while start < len(png):
        length, kind = struct.unpack_from(">I4s", png, start)
        chunks.append((kind, start + 8, start + 8 + length))
        if kind == b"IEND":  # Some programs leave the rest of an older file behind it.
            break
        start += length + 12
    return chunks


def _hide(png: mmap.mmap, start: int, stop: int) -> None:
    """Give a chunk a kind that libpng skips; of others it may print warnings. The mapping is
    private: the file is not changed."""
    png[start - 4 : start] = _HIDDEN
    png[stop : stop + 4] = struct.pack(">I", zlib.crc32(png[start:stop], zlib.crc32(_HIDDEN)))


def _write_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))
