"""Image files: PNG, JPEG, WebP and TIFF to float pixels and back, with nothing lost on the way.

Files are recognised by their content on reading and by their suffix on writing. There is no limit
on the number of pixels: a large scan is an ordinary input here, and every file is one the user
named.
"""

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
from PIL import ImageCms
from PIL.ExifTags import IFD, Base
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from . import image_tiff
from .errors import ImageError
from .files import replacing

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Format of each file-name suffix, in lower case."""

IMAGE_SUFFIXES = frozenset(FORMATS)

_LONGEST_SIDE = {"JPEG": 65500, "WebP": 16383, "PNG": 1_000_000}
_LONGEST_JPEG_EXIF = 65533


@dataclass
class Image:
    """A picture the right way up, with what must survive restoration."""

    pixels: np.ndarray
    """float32 (H, W, C) in 0..1; C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha).
    Colours are not premultiplied by alpha."""

    bit_depth: int = 8
    """Bits a sample in the file: 8 or 16."""

    icc_profile: bytes | None = None
    """ICC profile that fits the colours; None where the file had none."""

    exif: bytes | None = None
    """EXIF block beginning with ``Exif\\0\\0``, without orientation and pixel dimensions. TIFF
    files neither give nor take one."""


def read_image(path: str | Path) -> Image:
    """Read a PNG, JPEG, WebP or TIFF file, upright and in full depth.

    Palettes become RGB, a transparent colour becomes alpha, CMYK becomes RGB (through its profile,
    which is then dropped).

    Raises ImageError, naming the file, when it is missing, damaged, of another format, an
    animation, or a TIFF of several pages or of samples that are not 8- or 16-bit integers.
    """
    path = Path(path)
    try:
        return _read(path)
    except ImageError as error:
        raise ImageError(f"{path} {error}.") from error
    except MemoryError as error:
        raise ImageError(f"{path} is too large for this machine's memory.") from error
    except Exception as error:
        # Four decoders raise some twenty types between them for damaged files.
        reason = getattr(error, "strerror", None) or f"the file may be damaged ({error})"
        raise ImageError(f"{path} cannot be read: {reason}.") from error


def check_writable(path: str | Path, height: int, width: int, channels: int) -> None:
    """Raise ImageError where the format of ``path`` cannot hold such a picture."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ImageError(f"{path}: the name must end in one of {', '.join(FORMATS)}.")
    file_format = FORMATS[path.suffix.lower()]
    if file_format == "JPEG" and channels in (2, 4):
        raise ImageError(f"{path}: JPEG cannot hold transparency; write PNG, WebP or TIFF instead.")
    longest = _LONGEST_SIDE.get(file_format)
    if longest is not None and max(height, width) > longest:
        raise ImageError(
            f"{path}: {file_format} holds at most {longest} pixels a side and the picture has "
            f"{width} x {height}; write TIFF instead."
        )


def write_image(path: str | Path, image: Image, overwrite: bool = False) -> None:
    """Write an image in the format of its suffix; the file appears whole or not at all.

    PNG and TIFF keep 16 bits, the others store 8. JPEG is quality 95 with full colour resolution,
    WebP is lossless. Missing folders are made.

    Raises ImageError, naming the file, when it exists and ``overwrite`` is false, when the format
    cannot hold the picture, when a pixel is not a number, or when the disk refuses.
    """
    path = Path(path)
    height, width, channels = image.pixels.shape
    check_writable(path, height, width, channels)
    if path.exists() and not overwrite:
        raise ImageError(f"{path} already exists; choose another name or allow overwriting.")
    if np.isnan(image.pixels).any():
        raise ImageError(f"{path} was not written: some of its pixels are not numbers (NaN).")
    try:
        data = _encode(FORMATS[path.suffix.lower()], image)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(data)
    except (FileExistsError, NotADirectoryError) as error:
        raise ImageError(f"{path} cannot be written: {path.parent} is not a folder.") from error
    except (OSError, MemoryError) as error:
        # Not the whole message of an OSError, which names the unfinished file.
        reason = getattr(error, "strerror", None) or error or "not enough memory"
        raise ImageError(f"{path} cannot be written: {reason}.") from error


# Reading


def _read(path: Path) -> Image:
    with path.open("rb") as file:
        start = file.read(12)
    if not start:
        raise ImageError("is an empty file")
    if start[:4] in image_tiff.SIGNATURES:
        return _read_tiff(path)
    # Not PIL.Image.open nor Pillow's WebP: they refuse large images, by a limit that belongs to
    # the whole process.
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _read_png_or_jpeg(path, PngImageFile)
    if start.startswith(b"\xff\xd8\xff"):
        return _read_png_or_jpeg(path, JpegImageFile)
    if start.startswith(b"RIFF") and start.endswith(b"WEBP"):
        return _read_webp(path.read_bytes())
    raise ImageError("is not a PNG, JPEG, WebP or TIFF image")


def _read_tiff(path: Path) -> Image:
    pixels, depth, profile, orientation = image_tiff.read_tiff(path)
    if pixels.dtype == np.uint8:
        height, width, _ = pixels.shape
        inks = PIL.Image.frombytes("CMYK", (width, height), pixels.tobytes())
        pixels, profile = _to_floats(_rgb_of_inks(inks, profile)), None
    return Image(_upright(pixels, orientation), depth, profile)


def _read_png_or_jpeg(path: Path, plugin: type[PngImageFile | JpegImageFile]) -> Image:
    with plugin(path) as picture:
        _refuse_animation(getattr(picture, "n_frames", 1))
        profile = picture.info.get("icc_profile")
        exif, orientation = _exif_without_orientation(picture)
        if picture.format == "PNG":
            # Pillow reduces 16-bit colour to 8 bits.
            samples = imagecodecs.png_decode(_without_remarks(path.read_bytes()))
        elif picture.mode == "CMYK":
            samples, profile = _rgb_of_inks(picture, profile), None
        else:
            samples = np.asarray(picture)
    depth = 16 if samples.dtype == np.uint16 else 8
    return Image(_upright(_to_floats(samples), orientation), depth, profile, exif)


def _without_remarks(png: bytes) -> bytes:
    """The PNG reduced to what its pixels need: libpng prints warnings about the rest."""
    kept, start = [png[:8]], 8
    while start < len(png):
        length, kind = struct.unpack_from(">I4s", png, start)
        end = start + length + 12
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(png[start:end])
        start = end
    return b"".join(kept)


def _read_webp(webp: bytes) -> Image:
    chunks, start = [], 12
    while start + 8 <= len(webp):
        kind, length = struct.unpack_from("<4sI", webp, start)
        chunks.append((kind, webp[start + 8 : start + 8 + length]))
        start += 8 + length + length % 2
    _refuse_animation([kind for kind, _ in chunks].count(b"ANMF"))
    extra = dict(chunks)
    carrier = PIL.Image.new("L", (1, 1))
    carrier.info["exif"] = extra.get(b"EXIF")
    exif, orientation = _exif_without_orientation(carrier)
    pixels = _to_floats(imagecodecs.webp_decode(webp))
    return Image(_upright(pixels, orientation), 8, extra.get(b"ICCP"), exif)


def _refuse_animation(frames: int) -> None:
    if frames > 1:
        raise ImageError(f"is an animation of {frames} frames; save each as an image first")


def _exif_without_orientation(picture: PIL.Image.Image) -> tuple[bytes | None, int]:
    """The EXIF block without what restoration makes untrue, and the orientation it gave."""
    try:
        exif = picture.getexif()
        orientation = exif.pop(Base.Orientation, 1)
        if IFD.Exif in exif:
            details = exif.get_ifd(IFD.Exif)
            details.pop(Base.ExifImageWidth, None)
            details.pop(Base.ExifImageHeight, None)
        return (exif.tobytes() if len(exif) else None), orientation
    except Exception:
        # A damaged EXIF block is common and no reason to lose the picture.
        return None, 1


def _rgb_of_inks(picture: PIL.Image.Image, profile: bytes | None) -> np.ndarray:
    """A CMYK picture as uint8 sRGB (H, W, 3), through its profile where it has a usable one."""
    if profile:
        srgb = ImageCms.createProfile("sRGB")
        with suppress(OSError, ImageCms.PyCMSError):
            inks = ImageCms.ImageCmsProfile(BytesIO(profile))
            return np.asarray(ImageCms.profileToProfile(picture, inks, srgb, outputMode="RGB"))
    return np.asarray(picture.convert("RGB"))


def _to_floats(samples: np.ndarray) -> np.ndarray:
    """uint8 or uint16 (H, W) or (H, W, C) to float32 (H, W, C) in 0..1."""
    pixels = samples.astype(np.float32)
    pixels /= np.iinfo(samples.dtype).max
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1 to 8; anything else means upright) to (H, W, C) pixels."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


# Writing


def _encode(file_format: str, image: Image) -> bytes:
    depth = image.bit_depth if file_format in ("PNG", "TIFF") else 8
    samples = to_integers(image.pixels, depth)
    if file_format == "PNG":
        return _encode_png(samples, image.icc_profile, image.exif)
    if file_format == "TIFF":
        return image_tiff.encode_tiff(samples, image.icc_profile)

    exif = image.exif or b""
    if file_format == "JPEG":
        options = {"format": "JPEG", "quality": 95, "subsampling": 0}
        exif = exif if len(exif) <= _LONGEST_JPEG_EXIF else b""
    else:
        options = {"format": "WEBP", "lossless": True, "exact": True}
    file = BytesIO()
    picture = PIL.Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    picture.save(file, icc_profile=image.icc_profile, exif=exif, **options)
    return file.getvalue()


def to_integers(pixels: np.ndarray, depth: int) -> np.ndarray:
    """0..1 to 0..2^depth - 1, halves rounded up, values outside clipped."""
    scaled = np.clip(pixels, 0, 1, dtype=np.float32)
    scaled *= 2**depth - 1
    scaled += 0.5
    return scaled.astype(np.uint8 if depth == 8 else np.uint16, order="C")


def _encode_png(samples: np.ndarray, icc_profile: bytes | None, exif: bytes | None) -> bytes:
    png = bytes(imagecodecs.png_encode(samples[..., 0] if samples.shape[2] == 1 else samples))
    extra = b""
    if icc_profile:
        extra += _png_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile))
    if exif:
        extra += _png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    after_header = 8 + 25
    return png[:after_header] + extra + png[after_header:]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
