"""TIFF in and out, by tifffile: 16 bits, tiles, planes, BigTIFF and every usual compression."""

from io import BytesIO
from pathlib import Path

import numpy as np
import tifffile
from tifffile import DATATYPE, EXTRASAMPLE, PHOTOMETRIC, SAMPLEFORMAT

from .errors import ImageError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First four bytes of a TIFF and of a BigTIFF, in both byte orders."""

_ICC_PROFILE, _ORIENTATION = 34675, 274
_JPEG_COMPRESSIONS = (6, 7)


def read_tiff(path: Path) -> tuple[np.ndarray, int, bytes | None, int]:
    """Read the one picture of a TIFF file.

    Returns (pixels, bit depth, ICC profile, EXIF orientation): pixels are float32 (H, W, C) in
    0..1 with C of 1 to 4, not yet turned upright, or 8-bit CMYK ink amounts as uint8 (H, W, 4).
    Up to 8 bits a sample count as depth 8, 9 to 16 as depth 16.

    Raises ImageError, without the file's name, for several pages, floating-point, signed or
    32-bit samples, and colour spaces other than gray, palette, RGB and 8-bit CMYK; whatever
    tifffile raises for a damaged file passes through.
    """
    with tifffile.TiffFile(path) as file:
        page = _only_page(file)
        _check_samples(page)
        samples = _channels_last(page)
        profile = page.tags.valueof(_ICC_PROFILE)
        orientation = page.tags.valueof(_ORIENTATION, default=1)
        if page.photometric == PHOTOMETRIC.SEPARATED:
            return _inks(samples), 8, profile, orientation
        pixels = _colours(page, samples)
    if page.extrasamples[:1] == (EXTRASAMPLE.ASSOCALPHA,):
        _divide_by_alpha(pixels)
    return pixels, 8 if page.bitspersample <= 8 else 16, profile, orientation


def encode_tiff(samples: np.ndarray, icc_profile: bytes | None) -> bytes:
    """Encode uint8 or uint16 samples (H, W, C), C of 1 to 4, as a deflate-compressed TIFF."""
    channels = samples.shape[2]
    profile_tag = []
    if icc_profile:
        profile_tag = [(_ICC_PROFILE, DATATYPE.UNDEFINED, len(icc_profile), icc_profile, True)]
    file = BytesIO()
    tifffile.imwrite(
        file,
        samples[..., 0] if channels == 1 else samples,
        photometric="minisblack" if channels <= 2 else "rgb",
        planarconfig=None if channels == 1 else "contig",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="adobe_deflate",
        predictor=True,
        extratags=profile_tag,
        software=False,
        metadata=None,
    )
    return file.getvalue()


def _only_page(file: tifffile.TiffFile) -> tifffile.TiffPage:
    """The page that holds the picture; smaller copies of it (thumbnails) do not count."""
    pages = [page.aspage() for page in file.pages]
    pages = [page for page in pages if not page.is_reduced]
    if len(pages) != 1:
        raise ImageError(f"holds {len(pages)} pages; save each page as a file of its own first")
    return pages[0]


def _check_samples(page: tifffile.TiffPage) -> None:
    if page.sampleformat != SAMPLEFORMAT.UINT or page.bitspersample > 16:
        kind = SAMPLEFORMAT(page.sampleformat).name
        raise ImageError(
            f"holds {page.bitspersample}-bit {kind} samples; convert it to 8- or 16-bit unsigned "
            "integers first"
        )


def _channels_last(page: tifffile.TiffPage) -> np.ndarray:
    """The page's samples as (H, W, C)."""
    samples = page.asarray()
    if page.axes == "YX":
        return samples[..., None]
    if page.axes == "SYX":
        return np.moveaxis(samples, 0, 2)
    if page.axes == "YXS":
        return samples
    raise ImageError(f"holds a volume of shape {samples.shape}; save each slice as a file first")


def _colours(page: tifffile.TiffPage, samples: np.ndarray) -> np.ndarray:
    """Gray or RGB pixels, with or without alpha, as float32 (H, W, C) in 0..1."""
    if page.photometric == PHOTOMETRIC.PALETTE:
        assert page.colormap is not None
        # Writers fill the 16 bits with the 8-bit value times 256 or times 257.
        return (page.colormap.T[samples[..., 0]] >> 8).astype(np.float32) / 255

    gray = page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
    # tifffile turns the YCbCr of JPEG-compressed pages into RGB, and no other.
    decoded = page.photometric == PHOTOMETRIC.YCBCR and page.compression in _JPEG_COMPRESSIONS
    if not (gray or decoded or page.photometric == PHOTOMETRIC.RGB):
        raise ImageError(
            f"holds {PHOTOMETRIC(page.photometric).name} colours; convert it to gray, RGB or 8-bit "
            "CMYK first"
        )
    colours = 1 if gray else 3
    if not colours <= samples.shape[2] <= colours + 1:
        raise ImageError(
            f"holds {samples.shape[2]} channels; save it as gray or RGB, with at most one alpha"
        )
    pixels = samples.astype(np.float32)
    pixels /= 2**page.bitspersample - 1
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        pixels[..., 0] = 1 - pixels[..., 0]
    return pixels


def _inks(samples: np.ndarray) -> np.ndarray:
    if samples.shape[2] != 4 or samples.dtype != np.uint8:
        raise ImageError("holds inks other than 8-bit CMYK; convert it to RGB first")
    return samples


def _divide_by_alpha(pixels: np.ndarray) -> None:
    """Turn colours stored premultiplied by their alpha (the last channel) into plain ones."""
    colours, alpha = pixels[..., :-1], pixels[..., -1:]
    np.divide(colours, alpha, out=colours, where=alpha > 0)
    np.minimum(colours, 1, out=colours)
