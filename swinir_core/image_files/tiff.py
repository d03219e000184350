"""TIFF: read by tifffile (16 bits, tiles, planes, BigTIFF and every usual compression), written
while rows arrive.

Numbers in brackets are sections of TIFF 6.0.
"""

from __future__ import annotations

import logging
import mmap
import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from tifffile import EXTRASAMPLE, PHOTOMETRIC, SAMPLEFORMAT

from ..errors import ImageError
from ..images.levels import to_floats
from .directories import (
    BYTE,
    LONG,
    LONG8,
    SHORT,
    UNDEFINED,
    Block,
    Entry,
    numbers,
    read_block,
    read_directory,
    read_inner,
    write_directories,
)
from .metadata import (
    DESCRIPTION,
    GEO_TAGS,
    Metadata,
    iptc_of,
    resolution_tags,
    resources_of,
    take_exif,
    take_resources,
    take_xmp,
)
from .picture import Conversion, Page, Picture, from_inks, turned_size
from .scratch import allocate

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First four bytes of a TIFF and of a BigTIFF, in both byte orders."""

_INK_SET, _CMYK = 332, 1
_ORIENTATION, _SUBFILE, _XMP, _IPTC, _PHOTOSHOP, _ICC_PROFILE = 274, 254, 700, 33723, 34377, 34675
_STRIP_OFFSETS, _STRIP_SIZES = 273, 279
_SHARED_WITH_EXIF = (
    *(269, DESCRIPTION, 271, 272, 285, 305, 306, 315, 316, 318, 319, 33432),
    *(282, 283, 296, 18246, 18249, 40091, 40092, 40093, 40094, 40095),
    *(34665, 34853),
)
"""Document, description, maker, model, page, software, date, artist, host, chromaticities,
copyright; resolution; ratings and Windows' texts; EXIF and GPS."""

_KEPT = (*GEO_TAGS, 42112, 42113, 286, 287, 297)
"""GeoTIFF, GDAL, place on the paper and number of the page."""

_ABOUT_SAMPLES = frozenset(
    [
        *(*range(254, 267), *range(273, 282), 284, *range(288, 294), 317),
        *(*range(320, 349), *range(512, 522), *range(529, 533), 559),
        *(*range(32995, 32999), _ICC_PROFILE),
    ]
)
"""Tags about how the old samples are stored, which tifffile reads."""

_NAMED = {301: "the transfer function"}
"""Tags that are left out; this one is a table for the levels of the old samples."""

_JPEG_COMPRESSIONS = (6, 7)
_MOST_BYTES = 2**32 - 2**25
"""Samples that a file with offsets of 32 bits holds, less what tags and deflating may add."""

_BYTES_OF_A_PIXEL = 8
"""At most: four samples of 16 bits."""

_MOST_PAGES = 100_000

_BUFFER_BYTES = 2**24
"""Compressed strips or tiles that are read before they are decoded."""

# Without a handler Python prints what tifffile says of a damaged file to the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class Pages(NamedTuple):
    """The pages of a TIFF that hold pictures."""

    numbers: list[int]
    sizes: list[tuple[int, int]]
    """Height and width of each, upright."""

    masks: int
    """Number of pages that are masks of others."""


def list_pages(path: Path) -> Pages:
    """Find the pages that hold pictures; smaller copies of them (thumbnails) do not count.

    Raises ImageError where there are none or too many.
    """
    numbers, sizes, masks, seen = [], [], 0, set()
    with tifffile.TiffFile(path) as file:
        for number, each in enumerate(file.pages):
            page = each.aspage()
            # A page may be followed by itself or by one before it, and so on without end.
            if page.offset in seen:
                break
            seen.add(page.offset)
            if page.is_mask or page.photometric == PHOTOMETRIC.MASK:
                masks += 1
            elif not page.is_reduced:
                numbers.append(number)
                orientation = page.tags.valueof(_ORIENTATION, default=1)
                sizes.append(turned_size((page.imagelength, page.imagewidth), orientation))
            if len(numbers) > _MOST_PAGES:
                raise ImageError(f"holds more than {_MOST_PAGES} pages; split it first")
    if not numbers:
        raise ImageError("holds 0 pages; it has copies or masks of pictures only")
    return Pages(numbers, sizes, masks)


def read_pages(
    path: Path, pages: Iterable[int], scratch: Path | None
) -> Iterator[tuple[Picture, int]]:
    """Read pages of a TIFF file, one at a time, and the EXIF orientation of each, which is not
    applied yet.

    Up to 8 bits a sample count as depth 8, 9 to 16 as depth 16. The profile of CMYK, which becomes
    RGB, is dropped. Bands beside the colours are left out, all but the first that is marked as
    alpha. ``scratch`` is the folder for samples larger than the memory.

    Raises ImageError, without the file's name, for floating-point, signed or 32-bit samples, and
    colour spaces other than gray, palette, RGB and 8-bit CMYK; whatever tifffile raises for a
    damaged file passes through.
    """
    with (
        tifffile.TiffFile(path) as file,
        path.open("rb") as raw,
        mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as tiff,
    ):
        for number in pages:
            page = file.pages[number].aspage()
            yield _read_page(page, scratch, tiff), page.tags.valueof(_ORIENTATION, default=1)


def _read_page(page: tifffile.TiffPage, scratch: Path | None, tiff: mmap.mmap) -> Picture:
    _check_samples(page)
    assert page.dtype is not None
    profile = page.tags.valueof(_ICC_PROFILE)
    conversion, left_out = _with_alpha(page, *_colours(page, profile))
    samples = page.asarray(out=allocate(page.shape, page.dtype, scratch), buffersize=_BUFFER_BYTES)
    if page.axes == "YX":
        samples = samples[..., None]
    elif page.axes == "SYX":
        samples = np.moveaxis(samples, 0, 2)
    if page.photometric == PHOTOMETRIC.SEPARATED:
        profile = None
    depth = 8 if page.bitspersample <= 8 else 16
    metadata = _read_metadata(page, tiff, depth, profile)
    return Picture(samples, conversion, metadata, (_note(left_out),) if left_out else ())


def _read_metadata(
    page: tifffile.TiffPage, tiff: mmap.mmap, depth: int, profile: bytes | None
) -> Metadata:
    parent = page.parent
    order, big = parent.byteorder, parent.is_bigtiff
    try:
        tags = read_directory(tiff, page.offset, order, big, _ABOUT_SAMPLES)
        shared = {tag: tags.pop(tag) for tag in _SHARED_WITH_EXIF if tag in tags}
        # What tifffile notes there about the shape of an array.
        if shared.get(DESCRIPTION, Entry(BYTE, b"")).data.startswith(b'{"shape": '):
            del shared[DESCRIPTION]
        exif, resolution = take_exif(read_inner(tiff, shared, order, big))
    except (ValueError, struct.error):
        return Metadata(depth, profile, left_out=("damaged tags",))
    kept = {tag: tags.pop(tag) for tag in _KEPT if tag in tags}
    none = Entry(BYTE, b"")
    xmp, iptc, photoshop = (tags.pop(tag, none).data for tag in (_XMP, _IPTC, _PHOTOSHOP))
    photoshop = take_resources(photoshop) or b""
    if iptc and not iptc_of(photoshop):
        photoshop += resources_of(iptc)
    return Metadata(
        depth,
        profile,
        exif,
        take_xmp(xmp),
        photoshop or None,
        resolution=resolution,
        tiff=kept,
        left_out=tuple(_NAMED.get(tag, f"the TIFF tag {tag}") for tag in tags),
    )


def write_tiff(file: BinaryIO, pages: Iterable[Page], sizes: Iterable[tuple[int, int]]) -> None:
    """Write a deflated TIFF file, or a BigTIFF where the samples might not fit a TIFF.

    file: open for writing, and to go back in.
    sizes: height and width of all pages.
    """
    sizes = list(sizes)
    pages = iter(pages)
    page = next(pages)
    # Other pages may have more samples than the first.
    step = page.shape[2] * page.metadata.bit_depth // 8 if len(sizes) == 1 else _BYTES_OF_A_PIXEL
    big = sum(height * width for height, width in sizes) * step > _MOST_BYTES
    word = "<Q" if big else "<I"
    file.write(b"II+\0\10\0\0\0" if big else b"II*\0")
    link = file.tell()
    file.write(bytes(8 if big else 4))
    for each in chain([page], pages):
        offsets, lengths = [], []
        for strip in each.strips:
            data = _compress(strip)
            offsets.append(file.tell())
            lengths.append(len(data))
            file.write(data + bytes(len(data) % 2))
        block = _directories_of(each, len(sizes) > 1)
        block[0] |= {
            _STRIP_OFFSETS: numbers(LONG8 if big else LONG, *offsets),
            _STRIP_SIZES: numbers(LONG, *lengths),
        }
        start = file.tell()
        directories, next_at = write_directories(block, start, big)
        file.write(directories)
        end = file.tell()
        file.seek(link)
        file.write(struct.pack(word, start))
        file.seek(end)
        link = start + next_at


def _directories_of(page: Page, one_of_many: bool) -> Block:
    """The directories of a page, all but where its strips are."""
    height, width, channels = page.shape
    metadata = page.metadata
    block = read_block(metadata.exif) if metadata.exif else {}
    main = block.get(0, {}) | metadata.tiff
    if metadata.resolution:
        main |= resolution_tags(metadata.resolution)
    if metadata.icc_profile:
        main[_ICC_PROFILE] = Entry(UNDEFINED, metadata.icc_profile)
    if metadata.xmp:
        main[_XMP] = Entry(BYTE, metadata.xmp)
    if metadata.photoshop:
        main[_PHOTOSHOP] = Entry(BYTE, metadata.photoshop)
        if iptc := iptc_of(metadata.photoshop):
            main[_IPTC] = Entry(UNDEFINED, iptc)
    main |= {
        256: numbers(LONG, width),
        257: numbers(LONG, height),
        258: numbers(SHORT, *[metadata.bit_depth] * channels),
        259: numbers(SHORT, tifffile.COMPRESSION.ADOBE_DEFLATE),
        262: numbers(SHORT, PHOTOMETRIC.MINISBLACK if channels <= 2 else PHOTOMETRIC.RGB),
        277: numbers(SHORT, channels),
        278: numbers(LONG, page.rows),
        284: numbers(SHORT, tifffile.PLANARCONFIG.CONTIG),
        317: numbers(SHORT, tifffile.PREDICTOR.HORIZONTAL),
        339: numbers(SHORT, *[SAMPLEFORMAT.UINT] * channels),
    }
    if one_of_many:
        main[_SUBFILE] = numbers(LONG, tifffile.FILETYPE.PAGE)
    if channels in (2, 4):
        main[338] = numbers(SHORT, EXTRASAMPLE.UNASSALPHA)
    return block | {0: main}


def _compress(strip: np.ndarray) -> bytes:
    """Deflate a strip (h, W, C), each sample as its difference from that of the pixel to the left
    (TIFF's horizontal predictor)."""
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    little_endian = differences.astype(differences.dtype.newbyteorder("<"), copy=False)
    return bytes(imagecodecs.deflate_encode(little_endian.tobytes()))


def _check_samples(page: tifffile.TiffPage) -> None:
    if page.dtype is None or page.sampleformat != SAMPLEFORMAT.UINT or page.bitspersample > 16:
        kind = SAMPLEFORMAT(page.sampleformat).name
        raise ImageError(
            f"holds {page.bitspersample}-bit {kind} samples; convert it to 8- or 16-bit unsigned "
            "integers first"
        )


def _colours(page: tifffile.TiffPage, profile: bytes | None) -> tuple[Conversion, int]:
    """Choose the conversion of the page's samples to colours without alpha, and count the bands
    that these are made of, the first ones. Raises ImageError."""
    if page.axes not in ("YX", "YXS", "SYX"):
        raise ImageError(f"holds a volume of shape {page.shape}; save each slice as a file first")
    if page.photometric == PHOTOMETRIC.SEPARATED:
        is_cmyk = page.tags.valueof(_INK_SET, default=_CMYK) == _CMYK
        if not is_cmyk or page.samplesperpixel < 4 or page.dtype != np.uint8:
            raise ImageError("holds inks other than 8-bit CMYK; convert it to RGB first")
        inks = from_inks(profile)
        return (lambda samples: inks(samples[..., :4])), 4
    if page.photometric == PHOTOMETRIC.PALETTE:
        assert page.colormap is not None
        # Writers fill the 16 bits with the 8-bit value times 256 or times 257.
        palette = to_floats(page.colormap.T >> 8, 255)
        # Not palette[...], to which 1-bit samples, which are booleans, would be a mask.
        return (lambda samples: palette.take(samples[..., 0], axis=0)), 1

    gray = page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
    # tifffile turns the YCbCr of JPEG-compressed pages into RGB, and no other.
    decoded = page.photometric == PHOTOMETRIC.YCBCR and page.compression in _JPEG_COMPRESSIONS
    if not (gray or decoded or page.photometric == PHOTOMETRIC.RGB):
        raise ImageError(
            f"holds {PHOTOMETRIC(page.photometric).name} colours; convert it to gray, RGB or 8-bit "
            "CMYK first"
        )
    colours = 1 if gray else 3
    if page.samplesperpixel < colours or (gray and page.samplesperpixel > 2):
        raise ImageError(
            f"holds {page.samplesperpixel} bands and does not say which are red, green and blue; "
            "save those to be restored as a gray or RGB file"
        )
    white_is_zero = page.photometric == PHOTOMETRIC.MINISWHITE

    def convert(samples: np.ndarray) -> np.ndarray:
        pixels = to_floats(samples[..., :colours], 2**page.bitspersample - 1)
        return 1 - pixels if white_is_zero else pixels

    return convert, colours


def _with_alpha(
    page: tifffile.TiffPage, to_colours: Conversion, colours: int
) -> tuple[Conversion, int]:
    """Add the first band that the page marks as alpha to its colours; count the bands that are left
    out."""
    kinds = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
    alphas = [band for band, kind in enumerate(page.extrasamples, colours) if kind in kinds]
    left_out = page.samplesperpixel - colours - bool(alphas)
    if not alphas:
        return to_colours, left_out
    alpha = alphas[0]
    premultiplied = page.extrasamples[alpha - colours] == EXTRASAMPLE.ASSOCALPHA

    def convert(samples: np.ndarray) -> np.ndarray:
        alphas = to_floats(samples[..., alpha, None], 2**page.bitspersample - 1)
        pixels = np.concatenate([to_colours(samples), alphas], -1)
        if premultiplied:
            _divide_by_alpha(pixels)
        return pixels

    return convert, left_out


def _note(left_out: int) -> str:
    which = "a band that is" if left_out == 1 else f"{left_out} bands that are"
    return f"has {which} neither colours nor marked as its alpha; the result is made without"


def _divide_by_alpha(pixels: np.ndarray) -> None:
    """Turn colours stored premultiplied by their alpha (the last channel) into plain ones."""
    colours, alpha = pixels[..., :-1], pixels[..., -1:]
    np.divide(colours, alpha, out=colours, where=alpha > 0)
    np.minimum(colours, 1, out=colours)
