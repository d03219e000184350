"""Opening PNG, JPEG, WebP, TIFF and GIF files, which are recognised by their content."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from ..errors import ImageError
from ..images.levels import to_floats
from ..text import shown
from . import animation, jpeg, png, tiff, webp
from .directories import read_block
from .metadata import Metadata, take_exif
from .picture import Picture, from_inks, turned_size, upright
from .scratch import allocate

_LONGEST_REASON = 400


@dataclass
class ImageFile:
    """The pictures of a file: one, the pages of a TIFF, or the frames of an animation."""

    pictures: Iterator[Picture]
    """Each is decoded when its turn comes and is valid until then of the next. Raises ImageError,
    naming the file."""

    sizes: list[tuple[int, int]]
    """Height and width of each, upright."""

    kind: str = "picture"
    """"picture", "page" or "frame"."""

    complete: bool = True
    """True for a file that has an end; else what is missing of the picture is gray."""

    masks: int = 0
    """Number of pages left out because they are masks of others."""

    is_gif: bool = False

    @property
    def count(self) -> int:
        return len(self.sizes)

    @property
    def warnings(self) -> list[str]:
        """Remarks for whoever restores the file: ends of sentences about it."""
        warnings = []
        if not self.complete:
            warnings.append("ends too early; what is missing of the picture is gray or blurred")
        if self.masks:
            pages = "a mask page, which is" if self.masks == 1 else "mask pages, which are"
            warnings.append(f"has {pages} left out")
        return warnings


def open_image(path: str | Path, scratch: Path | None = None) -> Picture:
    """Decode the one picture of a PNG, JPEG, WebP or TIFF file in full depth; colours are converted
    by rows.

    Palettes become RGB, a transparent colour becomes alpha, CMYK becomes RGB (through its profile,
    which is then dropped).

    Samples that would take a large part of the free memory are kept on disk in the folder
    ``scratch``, where nothing is left afterwards; without one they are kept in memory.

    Raises ImageError, naming the file, when it is missing, damaged, of another format, an
    animation, a TIFF of several pages or of samples that are not 8- or 16-bit integers, or larger
    than memory and disk allow.
    """
    path = Path(path)
    file = open_file(path, scratch)
    if file.kind == "frame":
        raise ImageError(
            f"{shown(path)} is an animation of {file.count} frames; save each as an image first."
        )
    if file.count > 1:
        raise ImageError(
            f"{shown(path)} holds {file.count} pages; save each page as a file of its own first."
        )
    if not file.complete:
        raise ImageError(
            f"{shown(path)} cannot be read: the file may be damaged (it ends too early)."
        )
    return next(file.pictures)


def open_file(path: str | Path, scratch: Path | None = None) -> ImageFile:
    """Open a PNG, JPEG, WebP, TIFF or GIF file, of however many pictures, for which ``open_image``
    says how they are decoded. Raises ImageError, naming the file."""
    path = Path(path)
    with _named(path):
        file = _open(path, scratch)
    return replace(file, pictures=_each_named(path, file.pictures))


def _each_named(path: Path, pictures: Iterator[Picture]) -> Iterator[Picture]:
    while True:
        with _named(path):
            picture = next(pictures, None)
        if picture is None:
            return
        yield picture
        del picture  # Else it would be in memory while the next is decoded.


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
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


def _open(path: Path, scratch: Path | None) -> ImageFile:
    with path.open("rb") as file:
        start = file.read(12)
    if not start:
        raise ImageError("is an empty file")
    # Not PIL.Image.open nor, for still pictures, Pillow's WebP: they refuse large images, by a
    # limit that belongs to the whole process.
    if start[:4] in tiff.SIGNATURES:
        pages = tiff.list_pages(path)
        pictures = (
            _upright(picture, orientation)
            for picture, orientation in tiff.read_pages(path, pages.numbers, scratch)
        )
        kind = "page" if len(pages.numbers) > 1 else "picture"
        return ImageFile(pictures, pages.sizes, kind, masks=pages.masks)
    if start.startswith(png.SIGNATURE):
        return _open_png(path, scratch)
    if start.startswith(b"\xff\xd8\xff"):
        return _open_jpeg(path, scratch)
    if start.startswith(b"RIFF") and start.endswith(b"WEBP"):
        return _open_webp(path)
    if start.startswith(animation.GIF_SIGNATURES):
        return _open_gif(path)
    raise ImageError("is not a PNG, JPEG, WebP or TIFF image, nor a GIF")


def _open_png(path: Path, scratch: Path | None) -> ImageFile:
    with PngImageFile(path) as header:
        info, (width, height) = header.info, header.size
    count = png.count_frames(path)

    def metadata_of(chunks: png.Chunks, depth: int) -> tuple[Metadata, int]:
        metadata = png.read_metadata(chunks, depth, info.get("icc_profile"))
        # Pillow has read the chunks before the pixels, where there may be other forms of EXIF.
        exif = dict(chunks).get(b"eXIf")
        return _with_exif(metadata, info | ({"exif": exif} if exif else {}))

    def still() -> Iterator[Picture]:
        # Pillow reduces 16-bit colour to 8 bits.
        samples, chunks = png.read_png(path, scratch)
        metadata, orientation = metadata_of(chunks, 8 * samples.itemsize)
        yield _upright(Picture(samples, to_floats, metadata), orientation)

    metadata, orientation = metadata_of(png.read_chunks(path), 8)
    sizes = [turned_size((height, width), orientation)] * count
    if count == 1:
        return ImageFile(still(), sizes)
    return ImageFile(_frames(png.read_frames(path, scratch), metadata, orientation), sizes, "frame")


def _open_jpeg(path: Path, scratch: Path | None) -> ImageFile:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        segments, complete = jpeg.read_segments(mapped)

    with JpegImageFile(path) as header:
        info, (width, height), bands = header.info, header.size, len(header.getbands())
    profile = info.get("icc_profile")
    metadata = jpeg.read_metadata(segments, None if bands == 4 else profile)
    metadata, orientation = _with_exif(metadata, info)

    def still() -> Iterator[Picture]:
        samples = allocate((height, width, bands), np.uint8, scratch)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            imagecodecs.jpeg8_decode(data, out=samples if bands > 1 else samples[..., 0])
        conversion = from_inks(profile, inverted=True) if bands == 4 else to_floats
        yield _upright(Picture(samples, conversion, metadata), orientation)

    return ImageFile(still(), [turned_size((height, width), orientation)], complete=complete)


def _open_webp(path: Path) -> ImageFile:
    """Open WebP, which is always decoded in memory: it has 2^28 pixels at most."""
    data = path.read_bytes()
    chunks = list(webp.chunks_of(data))
    extra = dict(chunks)
    metadata, orientation = _with_exif(webp.read_metadata(extra), {"exif": extra.get(b"EXIF")})
    count = [kind for kind, _ in chunks].count(b"ANMF")
    if count > 1:
        frames = animation.read_frames(path)
        sizes = [turned_size(animation.size_of(path), orientation)] * count
        return ImageFile(_frames(frames, metadata, orientation), sizes, "frame")
    # Its header may be of three kinds; decoded it takes no more than the file is allowed.
    samples = imagecodecs.webp_decode(data)
    picture = _upright(Picture(samples, to_floats, metadata), orientation)
    return ImageFile(iter([picture]), [picture.shape[:2]])


def _open_gif(path: Path) -> ImageFile:
    count, metadata = animation.describe_gif(path)
    sizes = [animation.size_of(path)] * count
    frames = animation.read_frames(path)
    if count > 1:
        return ImageFile(_frames(frames, metadata, 1), sizes, "frame", is_gif=True)
    still = (Picture(samples, to_floats, metadata) for samples, _, _ in frames)
    return ImageFile(still, sizes, is_gif=True)


def _frames(
    frames: Iterator[tuple[np.ndarray, Fraction, int]], metadata: Metadata, orientation: int
) -> Iterator[Picture]:
    """Make pictures of the frames of an animation."""
    for samples, seconds, loops in frames:
        its = replace(metadata, bit_depth=8 * samples.itemsize, seconds=seconds, loops=loops)
        yield _upright(Picture(samples, to_floats, its), orientation)


def _upright(picture: Picture, orientation: int) -> Picture:
    picture.samples = upright(picture.samples, orientation)
    picture.metadata = picture.metadata.turned(orientation)
    return picture


def _with_exif(metadata: Metadata, info: dict[Any, Any]) -> tuple[Metadata, int]:
    """Add the EXIF in ``info``, which may hold it in any form that Pillow knows.

    Returns the metadata, and the orientation, which is in it no more.
    """
    carrier = PIL.Image.new("L", (1, 1))
    carrier.info = info
    try:
        found = carrier.getexif()
        orientation = found.get(Base.Orientation, 1)
        block = info.get("exif") or (found.tobytes() if len(found) else None)
        if not block:
            return metadata, orientation
        exif, resolution = take_exif(read_block(block))
    except Exception:
        # A damaged EXIF block is common and no reason to refuse the picture.
        return replace(metadata, left_out=(*metadata.left_out, "damaged EXIF")), 1
    return replace(metadata, exif=exif, resolution=metadata.resolution or resolution), orientation
