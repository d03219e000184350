"""Image files as bytes, of every kind that is read, with the samples that they hold."""

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import tifffile
from PIL import ImageCms

from tests.support.image_files import Image, read_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 2**16, (12, 17, 4), dtype=np.uint16)
FLAT = (DEEP >> 8).astype(np.uint8)
RGB = PIL.Image.fromarray(FLAT[..., :3])
RGBA = PIL.Image.fromarray(FLAT)
GRAY = PIL.Image.fromarray(FLAT[..., 0])
GRAY_ALPHA = PIL.Image.fromarray(FLAT[..., :2])
CMYK = RGB.convert("CMYK")
BLACK_WHITE = GRAY.convert("1")


def pillow(picture: PIL.Image.Image, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def tiff(samples: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def deep_png(channels: int) -> bytes:
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(DEEP[..., :channels]).squeeze()))


def png(depth: int, color_type: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of one row of four pixels, byte by byte."""
    header = struct.pack(">IIBBBBB", 4, 1, depth, color_type, 0, 0, 0)
    data = (b"IDAT", zlib.compress(b"\0" + row))
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in [(b"IHDR", header), *chunks, data, (b"IEND", b"")]:
        parts.append(struct.pack(">I", len(body)) + kind + body)
        parts.append(struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts)


def tiff_with_thumbnail() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(FLAT[..., :3], photometric="rgb")
        writer.write(FLAT[::2, ::2, :3], photometric="rgb", subfiletype=1)
    return file.getvalue()


def followed(data: bytes, page: int | None = None) -> bytes:
    """A little-endian TIFF whose last page is followed by one of its pages, or by nothing that is
    in the file."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        offsets = [each.aspage().offset for each in file.pages]
    (entries,) = struct.unpack_from("<H", data, offsets[-1])
    changed = bytearray(data)
    following = len(data) if page is None else offsets[page]
    struct.pack_into("<I", changed, offsets[-1] + 2 + 12 * entries, following)
    return bytes(changed)


def tiff_row(bits: int, row: bytes, palette: tuple[int, ...] = ()) -> bytes:
    """A TIFF of one row of four pixels, gray or with a palette, byte by byte."""
    data = row + struct.pack(f"<{len(palette)}H", *palette)
    size = [(256, 4), (257, 1), (258, bits), (259, 1), (262, 3 if palette else 1)]
    strip = [(273, 8), (277, 1), (278, 1), (279, len(row))]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in size + strip]
    if palette:
        entries.append(struct.pack("<HHII", 320, 3, len(palette), 8 + len(row)))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def profile_where_every_ink_is_white() -> bytes:
    """The smallest CMYK profile: one table from inks to Lab, here L = 100 throughout."""
    curve = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix
    table += curve * 4 + bytes([255, 128, 128]) * 2**4 + curve * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    size = struct.pack(">I", 144 + len(table))
    kind = b"\2\x20\0\0" + b"prtrCMYKLab "
    white = struct.pack(">3i", 63190, 65536, 54061)
    header = size + bytes(4) + kind + bytes(12) + b"acsp" + bytes(28) + white + bytes(48)
    return header + tags + table


def decoded_jpeg(picture: PIL.Image.Image) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(pillow(picture, "JPEG"))).convert("RGB"))


def read_bytes(folder: Path, data: bytes) -> Image:
    path = folder / "picture"
    path.write_bytes(data)
    return read_image(path)


def quantised(image: Image) -> np.ndarray:
    """The samples (H, W, C) as whole numbers of the image's depth."""
    return np.round(image.pixels.astype(np.float64) * (2**image.bit_depth - 1)).astype(int)


READABLE = {
    # name: file, its samples, the value that is white
    "png gray": (pillow(GRAY, "PNG"), FLAT[..., 0], 255),
    "png gray alpha": (pillow(GRAY_ALPHA, "PNG"), FLAT[..., :2], 255),
    "png rgb": (pillow(RGB, "PNG"), FLAT[..., :3], 255),
    "png rgba": (pillow(RGBA, "PNG"), FLAT, 255),
    "png 16 gray": (deep_png(1), DEEP[..., 0], 65535),
    "png 16 gray alpha": (deep_png(2), DEEP[..., :2], 65535),
    "png 16 rgb": (deep_png(3), DEEP[..., :3], 65535),
    "png 16 rgba": (deep_png(4), DEEP, 65535),
    "png 1 bit": (png(1, 0, b"\x60"), [[0, 1, 1, 0]], 1),
    "png 2 bit": (png(2, 0, b"\x1b"), [[0, 1, 2, 3]], 3),
    "png 2 bit, one value transparent": (
        png(2, 0, b"\x1b", (b"tRNS", b"\0\1")),
        [[[0, 3], [1, 0], [2, 3], [3, 3]]],
        3,
    ),
    "png palette": (
        png(8, 3, b"\0\1\2\3", (b"PLTE", bytes(range(12)))),
        np.arange(12).reshape(1, 4, 3),
        255,
    ),
    "png palette, transparent": (
        png(8, 3, b"\0\1\2\2", (b"PLTE", bytes(9)), (b"tRNS", b"\7\x80")),
        [[[0, 0, 0, 7], [0, 0, 0, 128], [0, 0, 0, 255], [0, 0, 0, 255]]],
        255,
    ),
    "jpeg gray": (pillow(GRAY, "JPEG"), decoded_jpeg(GRAY)[..., 0], 255),
    "jpeg": (pillow(RGB, "JPEG"), decoded_jpeg(RGB), 255),
    "jpeg cmyk": (pillow(CMYK, "JPEG"), decoded_jpeg(CMYK), 255),
    "jpeg with preview": (
        pillow(RGB, "MPO", save_all=True, append_images=[GRAY]),
        decoded_jpeg(RGB),
        255,
    ),
    "webp": (pillow(RGB, "WEBP", lossless=True), FLAT[..., :3], 255),
    "webp alpha": (pillow(RGBA, "WEBP", lossless=True, exact=True), FLAT, 255),
    "tiff gray": (pillow(GRAY, "TIFF"), FLAT[..., 0], 255),
    "tiff gray alpha": (pillow(GRAY_ALPHA, "TIFF"), FLAT[..., :2], 255),
    "tiff rgba": (pillow(RGBA, "TIFF"), FLAT, 255),
    "tiff jpeg": (
        pillow(RGB, "TIFF", compression="jpeg"),
        np.asarray(PIL.Image.open(io.BytesIO(pillow(RGB, "TIFF", compression="jpeg")))),
        255,
    ),
    "tiff 16 gray": (tiff(DEEP[..., 0]), DEEP[..., 0], 65535),
    "tiff 16 big-endian BigTIFF": (
        tiff(DEEP[..., :3], photometric="rgb", bigtiff=True, byteorder=">"),
        DEEP[..., :3],
        65535,
    ),
    "tiff 16 lzw tiles": (
        tiff(DEEP[..., :3], photometric="rgb", compression="lzw", tile=(16, 16)),
        DEEP[..., :3],
        65535,
    ),
    "tiff 16 deflate predictor": (
        tiff(DEEP[..., :3], photometric="rgb", compression="deflate", predictor=True),
        DEEP[..., :3],
        65535,
    ),
    "tiff 16 planes": (
        tiff(np.moveaxis(DEEP[..., :3], 2, 0), photometric="rgb", planarconfig="separate"),
        DEEP[..., :3],
        65535,
    ),
    "tiff 12 bit": (tiff_row(12, b"\x00\x10\x02\xff\xff\x00"), [[1, 2, 4095, 3840]], 4095),
    "tiff 1-bit palette": (
        tiff_row(1, b"\x60\0", (10 << 8, 20 << 8, 30 << 8, 40 << 8, 50 << 8, 60 << 8)),
        [[[10, 30, 50], [20, 40, 60], [20, 40, 60], [10, 30, 50]]],
        255,
    ),
    "tiff white is zero": (
        tiff(FLAT[..., 0], photometric="miniswhite"),
        255 - FLAT[..., 0],
        255,
    ),
    "tiff 1 bit": (
        pillow(BLACK_WHITE, "TIFF", compression="packbits"),
        np.asarray(BLACK_WHITE),
        1,
    ),
    "tiff palette": (
        pillow(RGB.quantize(16), "TIFF"),
        np.asarray(RGB.quantize(16).convert("RGB")),
        255,
    ),
    "tiff cmyk": (pillow(CMYK, "TIFF"), np.asarray(CMYK.convert("RGB")), 255),
    "tiff premultiplied": (
        tiff(np.array([[[50, 0, 100, 200]]], "u1"), photometric="rgb", extrasamples=["assocalpha"]),
        [[[63.75, 0, 127.5, 200]]],
        255,
    ),
    "tiff with thumbnail": (tiff_with_thumbnail(), FLAT[..., :3], 255),
    "tiff whose page follows itself": (followed(pillow(GRAY, "TIFF"), 0), FLAT[..., 0], 255),
    "tiff whose thumbnail is followed by the picture": (
        followed(tiff_with_thumbnail(), 0),
        FLAT[..., :3],
        255,
    ),
    "tiff whose thumbnail follows itself": (followed(tiff_with_thumbnail(), 1), FLAT[..., :3], 255),
    "tiff whose next page is not there": (followed(pillow(GRAY, "TIFF")), FLAT[..., 0], 255),
}
