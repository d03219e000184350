"""A decoded picture: integers as the file holds them, converted to floats some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO

import numpy as np
import PIL.Image
from PIL import ImageCms

from ..images.levels import to_floats, to_integers
from .metadata import Metadata

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Format of each file-name suffix, in lower case."""

READ_ONLY = {".gif": ".png", ".apng": ".png"}
"""Further suffixes that ``swinir restore`` reads, and those of their results: GIF knows 256
colours, and .apng is PNG."""

Conversion = Callable[[np.ndarray], np.ndarray]
"""Samples (h, w, S) as a file has them to colours: float32 (h, w, C) in 0..1, C of 1 to 4."""

_STRIP = 64
"""Rows converted at a time."""


@dataclass
class Picture:
    """An upright picture."""

    samples: np.ndarray
    """Integers (H, W, S), in memory or on disk; may be a turned view."""

    to_colours: Conversion

    metadata: Metadata = field(default_factory=Metadata)

    notes: tuple[str, ...] = ()
    """Remarks for the user on the file beside its pixels: sentences that begin with a verb."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the colours."""
        height, width, _ = self.samples.shape
        return height, width, self.to_colours(self.samples[:1, :1]).shape[2]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` as float32 (stop - start, W, C) in 0..1; C is 1 (gray), 2
        (gray, alpha), 3 (RGB) or 4 (RGB, alpha), colours not premultiplied by alpha."""
        return self.to_colours(np.ascontiguousarray(self.samples[start:stop]))

    def is_opaque(self) -> bool:
        """Tell whether an alpha channel, which the picture must have, is 1 everywhere."""
        strips = range(0, len(self.samples), _STRIP)
        return all((self.rows(start, start + _STRIP)[..., -1] == 1).all() for start in strips)

    def without_alpha(self) -> Picture:
        """The picture without its last channel."""
        return replace(self, to_colours=lambda samples: self.to_colours(samples)[..., :-1])

    def with_white(self, white: int) -> Picture:
        """The picture with ``white`` of 65535 levels as its white, which brighter pixels become."""

        def convert(samples: np.ndarray) -> np.ndarray:
            pixels = self.to_colours(samples)
            colours = pixels[..., : 3 if pixels.shape[-1] > 2 else 1]
            np.minimum(colours * np.float32(65535 / white), 1, out=colours)
            return pixels

        return replace(self, to_colours=convert, metadata=replace(self.metadata, white=white))

    def brightest(self) -> int:
        """Find the highest level of the colours, on the scale of the file's depth."""
        colours = 3 if self.shape[2] > 2 else 1
        strips = range(0, len(self.samples), _STRIP)
        most = max(self.rows(start, start + _STRIP)[..., :colours].max() for start in strips)
        return round(float(most) * (2**self.metadata.bit_depth - 1))

    def levels(self) -> np.ndarray:
        """The whole picture as uint8 (H, W, C); only a few rows at a time are held as floats."""
        levels = np.empty(self.shape, np.uint8)
        for start in range(0, len(levels), _STRIP):
            levels[start : start + _STRIP] = to_integers(self.rows(start, start + _STRIP))
        return levels


@dataclass
class Page:
    """A picture on its way to a file: a page, a frame, or the only one."""

    strips: Iterator[np.ndarray]
    """Integers (h, W, C) of ``metadata.bit_depth`` bits, from top to bottom."""

    rows: int
    """Rows of each strip but the last, which may have fewer."""

    shape: tuple[int, int, int]
    """(H, W, C) of all strips together, C of 1 to 4."""

    metadata: Metadata


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1 to 8, to samples (H, W, S); other values mean upright.

    Returns a view.
    """
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Height and width after an EXIF orientation is applied."""
    height, width = size
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def from_inks(profile: bytes | None, inverted: bool = False) -> Conversion:
    """Make the conversion of 8-bit CMYK to sRGB.

    profile: ICC profile of the inks; ignored where it is damaged or of another colour space.
    inverted: samples are 255 minus the amount of ink, as in JPEG files.
    """
    transform = None
    if profile:
        srgb = ImageCms.createProfile("sRGB")
        with suppress(OSError, ImageCms.PyCMSError):
            inks = ImageCms.ImageCmsProfile(BytesIO(profile))
            transform = ImageCms.buildTransform(inks, srgb, "CMYK", "RGB")

    def convert(samples: np.ndarray) -> np.ndarray:
        height, width, _ = samples.shape
        data = (255 - samples if inverted else samples).tobytes()
        picture = PIL.Image.frombytes("CMYK", (width, height), data)
        if transform:
            picture = ImageCms.applyTransform(picture, transform)
            assert picture is not None
        return to_floats(np.asarray(picture.convert("RGB")))

    return convert
