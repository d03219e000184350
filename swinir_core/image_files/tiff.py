"""TIFF by tifffile: 16 bits, tiles, planes, BigTIFF and every usual compression."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from tifffile import DATATYPE, EXTRASAMPLE, PHOTOMETRIC, SAMPLEFORMAT

from ..errors import ImageError
from ..images.levels import to_floats
from .picture import Conversion, Metadata, Picture, from_inks
from .scratch import allocate

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First four bytes of a TIFF and of a BigTIFF, in both byte orders."""

_ICC_PROFILE, _ORIENTATION = 34675, 274
_JPEG_COMPRESSIONS = (6, 7)
_MOST_BYTES = 2**32 - 2**25
"""Samples that a file with offsets of 32 bits holds, less what tags and deflating may add."""

_MOST_PAGES = 100
"""Pages looked at; a damaged file may have a chain of pages without end."""

_WITH_EXTRA = (
    PHOTOMETRIC.MINISBLACK,
    PHOTOMETRIC.MINISWHITE,
    PHOTOMETRIC.RGB,
    PHOTOMETRIC.YCBCR,
)
"""Kinds of colours beside which a file may have another band."""

_NO_ALPHA = (
    "has a band beside its colours that is not marked as alpha; the result is made without it"
)

_BUFFER_BYTES = 2**24
"""Compressed strips or tiles that are read before they are decoded."""

# Without a handler Python prints what tifffile says of a damaged file to the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_tiff(path: Path, scratch: Path | None) -> tuple[Picture, int]:
    """Read the one picture of a TIFF file, and its EXIF orientation, which is not applied yet.

    Up to 8 bits a sample count as depth 8, 9 to 16 as depth 16. The profile of CMYK, which becomes
    RGB, is dropped. ``scratch`` is the folder for samples larger than the memory.

    Raises ImageError, without the file's name, for several pages, floating-point, signed or
    32-bit samples, and colour spaces other than gray, palette, RGB and 8-bit CMYK; whatever
    tifffile raises for a damaged file passes through.
    """
    with tifffile.TiffFile(path) as file:
        page = _only_page(file)
        _check_samples(page)
        assert page.dtype is not None
        profile = page.tags.valueof(_ICC_PROFILE)
        orientation = page.tags.valueof(_ORIENTATION, default=1)
        conversion = _conversion(page, profile)
        notes: tuple[str, ...] = ()
        if page.photometric in _WITH_EXTRA and not _is_alpha(page):
            conversion, notes = _without_last(conversion), (_NO_ALPHA,)
        samples = page.asarray(
            out=allocate(page.shape, page.dtype, scratch), buffersize=_BUFFER_BYTES
        )
    if page.axes == "YX":
        samples = samples[..., None]
    elif page.axes == "SYX":
        samples = np.moveaxis(samples, 0, 2)
    if page.photometric == PHOTOMETRIC.SEPARATED:
        profile = None
    metadata = Metadata(8 if page.bitspersample <= 8 else 16, profile)
    return Picture(samples, conversion, metadata, notes), orientation


def write_tiff(
    path: Path,
    strips: Iterable[np.ndarray],
    rows: int,
    shape: tuple[int, int, int],
    metadata: Metadata,
) -> None:
    """Write a deflated TIFF file, or a BigTIFF where the samples might not fit a TIFF.

    strips: samples (h, W, C) of ``metadata.bit_depth`` bits, from top to bottom.
    rows: h of each strip; the last may have fewer.
    shape: (H, W, C) of all strips together, C of 1 to 4.
    """
    height, width, channels = shape
    profile_tag = []
    if profile := metadata.icc_profile:
        profile_tag = [(_ICC_PROFILE, DATATYPE.UNDEFINED, len(profile), profile, True)]
    dtype = np.dtype(f"u{metadata.bit_depth // 8}")
    tifffile.imwrite(
        path,
        (_compress(strip) for strip in strips),
        shape=(height, width) if channels == 1 else shape,
        dtype=dtype,
        bigtiff=height * width * channels * dtype.itemsize > _MOST_BYTES,
        photometric="minisblack" if channels <= 2 else "rgb",
        planarconfig=None if channels == 1 else "contig",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        rowsperstrip=rows,
        compression="adobe_deflate",
        predictor=True,
        extratags=profile_tag,
        software=False,
        metadata=None,
    )


def _compress(strip: np.ndarray) -> bytes:
    """Deflate a strip (h, W, C), each sample as its difference from that of the pixel to the left
    (TIFF's horizontal predictor)."""
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    return bytes(imagecodecs.deflate_encode(differences.tobytes()))


def _only_page(file: tifffile.TiffFile) -> tifffile.TiffPage:
    """Find the page that holds the picture; smaller copies of it (thumbnails) do not count."""
    pages = (page.aspage() for page in islice(file.pages, _MOST_PAGES))
    # By offset, because a page may be followed by itself or by one before it.
    full = {page.offset: page for page in pages if not page.is_reduced}
    if len(full) != 1:
        raise ImageError(f"holds {len(full)} pages; save each page as a file of its own first")
    return full.popitem()[1]


def _check_samples(page: tifffile.TiffPage) -> None:
    if page.dtype is None or page.sampleformat != SAMPLEFORMAT.UINT or page.bitspersample > 16:
        kind = SAMPLEFORMAT(page.sampleformat).name
        raise ImageError(
            f"holds {page.bitspersample}-bit {kind} samples; convert it to 8- or 16-bit unsigned "
            "integers first"
        )


def _conversion(page: tifffile.TiffPage, profile: bytes | None) -> Conversion:
    """Choose the conversion of the page's samples to colours. Raises ImageError."""
    if page.axes not in ("YX", "YXS", "SYX"):
        raise ImageError(f"holds a volume of shape {page.shape}; save each slice as a file first")
    if page.photometric == PHOTOMETRIC.SEPARATED:
        if page.samplesperpixel != 4 or page.dtype != np.uint8:
            raise ImageError("holds inks other than 8-bit CMYK; convert it to RGB first")
        return from_inks(profile)
    if page.photometric == PHOTOMETRIC.PALETTE:
        assert page.colormap is not None
        # Writers fill the 16 bits with the 8-bit value times 256 or times 257.
        palette = to_floats(page.colormap.T >> 8, 255)
        # Not palette[...], to which 1-bit samples, which are booleans, would be a mask.
        return lambda samples: palette.take(samples[..., 0], axis=0)

    gray = page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
    # tifffile turns the YCbCr of JPEG-compressed pages into RGB, and no other.
    decoded = page.photometric == PHOTOMETRIC.YCBCR and page.compression in _JPEG_COMPRESSIONS
    if not (gray or decoded or page.photometric == PHOTOMETRIC.RGB):
        raise ImageError(
            f"holds {PHOTOMETRIC(page.photometric).name} colours; convert it to gray, RGB or 8-bit "
            "CMYK first"
        )
    colours = 1 if gray else 3
    if not colours <= page.samplesperpixel <= colours + 1:
        raise ImageError(
            f"holds {page.samplesperpixel} channels; save it as gray or RGB, with at most one alpha"
        )
    white_is_zero = page.photometric == PHOTOMETRIC.MINISWHITE
    premultiplied = page.extrasamples[:1] == (EXTRASAMPLE.ASSOCALPHA,)

    def convert(samples: np.ndarray) -> np.ndarray:
        pixels = to_floats(samples, 2**page.bitspersample - 1)
        if white_is_zero:
            pixels[..., 0] = 1 - pixels[..., 0]
        if premultiplied:
            _divide_by_alpha(pixels)
        return pixels

    return convert


def _is_alpha(page: tifffile.TiffPage) -> bool:
    """Tell whether no band is left over, or the tags say that it is alpha."""
    colours = 3 if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) else 1
    alphas = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
    return page.samplesperpixel == colours or any(
        extra in alphas for extra in page.extrasamples[:1]
    )


def _without_last(conversion: Conversion) -> Conversion:
    return lambda samples: conversion(samples)[..., :-1]


def _divide_by_alpha(pixels: np.ndarray) -> None:
    """Turn colours stored premultiplied by their alpha (the last channel) into plain ones."""
    colours, alpha = pixels[..., :-1], pixels[..., -1:]
    np.divide(colours, alpha, out=colours, where=alpha > 0)
    np.minimum(colours, 1, out=colours)
