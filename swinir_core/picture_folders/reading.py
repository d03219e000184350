"""Picture files read as arrays that a restoration takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
from PIL import ImageOps

from ..errors import ImageError
from ..images.levels import to_floats
from ..text import shown

_LONGEST_REASON = 200


class ReadPicture(NamedTuple):
    """An upright picture."""

    pixels: np.ndarray
    """(H, W, 3), or (H, W, 4) where the file has transparency: float32 in 0..1."""

    profile: bytes | None
    """The ICC profile of its colours, where the file has one."""


def read_picture(path: Path) -> ReadPicture:
    """Read the picture of a file, of an animation the first one, turned as its EXIF says.

    Gray becomes three equal channels, of 16 bits in full depth; 16-bit colour has 8 bits.

    Raises ImageError, naming the file, where it cannot be read.
    """
    with _opened(path) as image:
        with suppress(Exception):  # A damaged EXIF block is no reason to refuse the picture.
            image = ImageOps.exif_transpose(image)
        # Of gray and CMYK it would not fit the colours that these become.
        profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
        if image.mode.startswith("I"):  # 16-bit gray; older versions of Pillow call it I.
            gray = np.clip(np.asarray(image), 0, 2**16 - 1).astype(np.uint16)
            return ReadPicture(np.repeat(to_floats(gray)[..., None], 3, axis=2), None)
        if image.mode == "F":
            raise ValueError("its samples are floats; save it with 8 or 16 bits")
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return ReadPicture(to_floats(np.asarray(image.convert(mode))), profile)


def bytes_in_memory(path: Path) -> int:
    """Find how much memory ``read_picture`` of a file fills, from its header; 0 where it cannot be
    read."""
    try:
        with _opened(path) as image:
            return 4 * image.width * image.height * (4 if image.has_transparency_data else 3)
    except ImageError:
        return 0


@contextmanager
def _opened(path: Path) -> Iterator[PIL.Image.Image]:
    """Open an image with Pillow; every error becomes one that names the file."""
    try:
        with PIL.Image.open(path) as image:
            yield image
    except MemoryError as error:
        raise ImageError(f"{shown(path.name)} is too large for this machine's memory.") from error
    except Exception as error:
        # Decoders raise many types for damaged files.
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, PIL.UnidentifiedImageError):  # Its message has the whole path.
            reason = "it is damaged, or no picture"
        raise ImageError(
            f"{shown(path.name)} cannot be read: {shown(reason, _LONGEST_REASON)}."
        ) from error
