"""PNG and its animations: read into one array, written while rows arrive.

Numbers in brackets are sections of the PNG specification, third edition (W3C).
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

import imagecodecs
import numpy as np

from .directories import MOST_BYTES
from .metadata import METRE, Metadata, Resolution, Text, keyword, take_xmp
from .picture import Page
from .scratch import allocate

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_FRAME_CHUNKS = (b"acTL", b"fcTL", b"fdAT")
_COLOUR_CHUNKS = (b"cICP", b"mDCV", b"cLLI", b"sRGB", b"gAMA", b"cHRM")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
# Read elsewhere, of the old pixels only (time, significant bits, histogram), or Apple's index.
_SILENT_CHUNKS = (b"iCCP", b"eXIf", b"pHYs", b"tIME", b"sBIT", b"hIST", b"iDOT")
_HIDDEN = b"skIp"
_COLOUR_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
_XMP = "XML:com.adobe.xmp"

_LEVEL = 4
"""Compression level. With the filters below files are as large as with libpng's defaults and are
made four to six times as fast; level 6 saves three percent and takes four times as long."""

_BACKGROUND, _PREVIOUS, _OVER = 1, 2, 1
"""Disposal and blending of frames (11.3.6.2)."""

Chunks = list[tuple[bytes, bytes]]
"""Kind and data of chunks besides those of pixels."""


class _Frame(NamedTuple):
    """One frame of an animation."""

    width: int
    height: int
    x: int
    y: int
    seconds: Fraction
    disposal: int
    blending: int
    parts: list[tuple[int, int]]
    """Places of its compressed pixels: start and stop."""


def read_png(path: Path, scratch: Path | None) -> tuple[np.ndarray, Chunks]:
    """Read the samples of a PNG file, uint8 or uint16 (H, W, C), and its other chunks.

    Palettes become RGB, a transparent colour becomes alpha and fewer than 8 bits become 8.
    ``scratch`` is the folder for samples larger than the memory. Whatever the decoder raises for a
    damaged file passes through.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as png:
        chunks = _chunks(png)
        width, height, depth, colour, *_ = struct.unpack_from(">IIBBBBB", png, chunks[0][1])
        channels = _COLOUR_CHANNELS[colour] + _has_alpha(colour, chunks)
        others = _others(png, chunks)
        for kind, start, stop in chunks:
            if kind not in _PIXEL_CHUNKS:
                _hide(png, start, stop)
        samples = allocate((height, width, channels), f"u{-(-depth // 8)}", scratch)
        imagecodecs.png_decode(png, out=samples if channels > 1 else samples[..., 0])
    return samples, others


def read_chunks(path: Path) -> Chunks:
    """Read the chunks of a PNG file besides those of pixels."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as png:
        return _others(png, _chunks(png))


def count_frames(path: Path) -> int:
    """Count the frames of an animated PNG; 1 for a still one."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as png:
        kinds = [kind for kind, _, _ in _chunks(png)]
    return max(kinds.count(b"fcTL"), 1) if b"acTL" in kinds else 1


def read_frames(path: Path, scratch: Path | None) -> Iterator[tuple[np.ndarray, Fraction, int]]:
    """Yield the frames of an animated PNG as they are seen: samples as from ``read_png``, seconds,
    and how often the animation is played (0: for ever).

    The array is the same one each time.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as png:
        chunks = _chunks(png)
        header = png[chunks[0][1] : chunks[0][2]]
        width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", header)
        _, loops = next(
            struct.unpack_from(">II", png, start) for kind, start, _ in chunks if kind == b"acTL"
        )
        frames = list(_frames(png, chunks))
        palette = [(kind, png[a:b]) for kind, a, b in chunks if kind in (b"PLTE", b"tRNS")]
        channels = _COLOUR_CHANNELS[colour] + _has_alpha(colour, chunks)
        dtype = np.dtype(f"u{-(-depth // 8)}")
        first = frames[0]
        uncovered = (first.width, first.height) != (width, height) or first.disposal == _PREVIOUS
        cleared = uncovered or any(frame.disposal == _BACKGROUND for frame in frames)
        shown = channels + (cleared and channels in (1, 3))
        canvas = allocate((height, width, shown), dtype, scratch)
        canvas[...] = 0
        for number, frame in enumerate(frames):
            samples = np.empty((frame.height, frame.width, channels), dtype)
            size = struct.pack(">II", frame.width, frame.height) + header[8:]
            parts = [(b"IDAT", png[a:b]) for a, b in frame.parts]
            still = b"".join(_chunk(*each) for each in [(b"IHDR", size), *palette, *parts])
            still = SIGNATURE + still + _chunk(b"IEND", b"")
            imagecodecs.png_decode(still, out=samples if channels > 1 else samples[..., 0])
            place = canvas[frame.y : frame.y + frame.height, frame.x : frame.x + frame.width]
            if place.shape[:2] != samples.shape[:2]:
                raise ValueError(f"frame {number + 1} lies outside the picture")
            disposal = _BACKGROUND if frame.disposal == _PREVIOUS and not number else frame.disposal
            before = place.copy() if disposal == _PREVIOUS else None
            _draw(place, samples, frame.blending == _OVER)
            yield canvas, frame.seconds, loops
            if disposal == _BACKGROUND:
                place[...] = 0
            if before is not None:
                place[...] = before


def read_metadata(chunks: Chunks, bit_depth: int, icc_profile: bytes | None) -> Metadata:
    """Read what the chunks of a PNG say, all but its EXIF."""
    texts, left_out, xmp, resolution = [], [], None, None
    budget = MOST_BYTES
    for kind, data in chunks:
        if kind in _TEXT_CHUNKS:
            text = _text(kind, data, budget)
            budget -= len(text.text) if text else 0
            if text is None:
                left_out.append("a damaged or huge text")
            elif text.keyword == _XMP:
                xmp = take_xmp(text.text.encode())
            elif text.keyword not in ("Raw profile type exif", "Raw profile type APP1"):
                texts.append(text)
        elif kind == b"pHYs" and len(data) == 9:
            x, y, unit = struct.unpack(">IIB", data)
            if x and y and (x, y, unit) != (1, 1, 0):
                resolution = Resolution(Fraction(x), Fraction(y), METRE if unit else None)
        elif kind not in (*_COLOUR_CHUNKS, *_SILENT_CHUNKS):
            left_out.append(f"the chunk {kind.decode('latin-1')}")
    return Metadata(
        bit_depth,
        icc_profile,
        xmp=xmp,
        texts=tuple(texts),
        resolution=resolution,
        colour=tuple((kind, data) for kind, data in chunks if kind in _COLOUR_CHUNKS),
        left_out=tuple(dict.fromkeys(left_out)),
    )


def write_png(file: BinaryIO, pages: Iterable[Page], count: int = 1) -> None:
    """Write a PNG file, animated where ``count``, the number of pages, is more than one.

    file: open for writing.
    pages: of one shape and depth.
    """
    sequence = 0
    for number, page in enumerate(pages):
        height, width, channels = page.shape
        metadata = page.metadata
        if not number:
            colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
            size = struct.pack(">IIBBBBB", width, height, metadata.bit_depth, colour, 0, 0, 0)
            file.write(SIGNATURE + _chunk(b"IHDR", size))
            for kind, data in _chunks_of(metadata):
                file.write(_chunk(kind, data))
            if count > 1:
                file.write(_chunk(b"acTL", struct.pack(">II", count, metadata.loops)))
        if count > 1:
            time = _delay(metadata.seconds or Fraction(0))
            control = struct.pack(">IIIIIHHBB", sequence, width, height, 0, 0, *time, 0, 0)
            file.write(_chunk(b"fcTL", control))
            sequence += 1
        for data in _compressed(page):
            if number:
                file.write(_chunk(b"fdAT", struct.pack(">I", sequence) + data))
                sequence += 1
            else:
                file.write(_chunk(b"IDAT", data))
    file.write(_chunk(b"IEND", b""))


def _compressed(page: Page) -> Iterator[bytes]:
    """Filter and compress the strips of a page."""
    _, width, channels = page.shape
    depth = page.metadata.bit_depth
    compressor = zlib.compressobj(_LEVEL, strategy=zlib.Z_FILTERED)
    step = channels * depth // 8
    above = np.zeros((1, width * step), np.uint8)
    for strip in page.strips:
        rows = strip.astype(f">u{depth // 8}", order="C").view(np.uint8)
        rows = rows.reshape(len(strip), width * step)
        filtered = filter_rows(rows, np.concatenate([above, rows[:-1]]), step)
        if data := compressor.compress(filtered.tobytes()):
            yield data
        above = rows[-1:]
    yield compressor.flush()


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


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _has_alpha(colour: int, chunks: list[tuple[bytes, int, int]]) -> bool:
    return colour >= 4 or any(kind == b"tRNS" for kind, _, _ in chunks)


def _others(png: mmap.mmap, chunks: list[tuple[bytes, int, int]]) -> Chunks:
    """The chunks besides those of pixels, as many as ``MOST_BYTES`` hold."""
    others, left = [], MOST_BYTES
    for kind, start, stop in chunks:
        if kind not in _PIXEL_CHUNKS + _FRAME_CHUNKS and stop - start <= left:
            others.append((kind, png[start:stop]))
            left -= stop - start
    return others


def _frames(png: mmap.mmap, chunks: list[tuple[bytes, int, int]]) -> Iterator[_Frame]:
    """List the frames of an animation; an image before the first fcTL is none of them."""
    frame = None
    for kind, start, stop in chunks:
        if kind == b"fcTL":
            if frame:
                yield frame
            _, width, height, x, y, time, unit, disposal, blending = struct.unpack_from(
                ">IIIIIHHBB", png, start
            )
            seconds = Fraction(time, unit or 100)
            frame = _Frame(width, height, x, y, seconds, disposal, blending, [])
        elif frame and kind in (b"IDAT", b"fdAT"):
            frame.parts.append((start + 4 * (kind == b"fdAT"), stop))
    if frame:
        yield frame


def _draw(place: np.ndarray, samples: np.ndarray, over: bool) -> None:
    """Draw samples (h, w, C) into ``place`` (h, w, C or C + 1, the last alpha), or over it."""
    white = np.iinfo(place.dtype).max
    if samples.shape[2] in (1, 3):
        place[..., : samples.shape[2]] = samples
        place[..., samples.shape[2] :] = white
    elif not over:
        place[...] = samples
    else:
        for below, above in zip(place, samples, strict=True):
            alpha = above[:, -1:].astype(np.float64) / white
            under = below[:, -1:].astype(np.float64) / white * (1 - alpha)
            total = alpha + under
            colours = above[:, :-1] * alpha + below[:, :-1] * under
            below[:, :-1] = np.rint(colours / np.where(total > 0, total, 1))
            below[:, -1:] = np.rint(total * white)


def _delay(seconds: Fraction) -> tuple[int, int]:
    """Seconds as the numerator and denominator of 16 bits each that a frame has."""
    if max(seconds.numerator, seconds.denominator) <= 65535:
        return seconds.numerator, seconds.denominator
    return min(round(seconds * 1000), 65535), 1000


def _text(kind: bytes, data: bytes, most: int) -> Text | None:
    """Decode a text; None where it is damaged or longer than ``most`` bytes."""
    name, found, rest = data.partition(b"\0")
    language = translated = b""
    compressed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        compressed, rest = rest[:1] == b"\1", rest[2:]
        language, _, rest = rest.partition(b"\0")
        translated, _, rest = rest.partition(b"\0")
    if compressed:
        decompressor = zlib.decompressobj()
        try:
            rest = decompressor.decompress(rest, most)
        except zlib.error:
            return None
        if not decompressor.eof:
            return None
    name = keyword(name.decode("latin-1"))
    if not name or not found:
        return None
    text = rest.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
    return Text(name, text, language.decode("latin-1"), translated.decode("utf-8", "replace"))


def _chunks_of(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks that come before the pixels."""
    if metadata.icc_profile:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc_profile)
    yield from (each for each in metadata.colour if each[0] != b"sRGB" or not metadata.icc_profile)
    if resolution := metadata.resolution:
        unit = resolution.unit
        x, y = (resolution.x, resolution.y) if unit is None else resolution.per(METRE)
        yield b"pHYs", struct.pack(">IIB", *(min(round(n), 2**31 - 1) for n in (x, y)), bool(unit))
    if metadata.exif:
        yield b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")
    texts = metadata.texts
    if metadata.xmp:
        texts += (Text(_XMP, metadata.xmp.decode("utf-8", "replace")),)
    for name, text, language, translated in texts:
        start = name.encode("latin-1") + b"\0"
        # Many programs know only the plain form.
        if name != _XMP and not language and not translated and _is_latin(text):
            yield b"tEXt", start + text.encode("latin-1")
        else:
            terms = (language.encode("latin-1"), translated.encode(), text.encode())
            yield b"iTXt", start + b"\0\0" + b"\0".join(terms)


def _is_latin(text: str) -> bool:
    return all(character < "\u0100" for character in text)
