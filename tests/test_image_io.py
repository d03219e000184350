"""Image files: what is read is what was stored, and what is written can be read by others."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms, ImageOps
from PIL.ExifTags import IFD, Base

from swinir_core import image_io
from swinir_core.errors import ImageError
from swinir_core.image_io import Image, check_writable, read_image, write_image

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
}


@pytest.mark.parametrize("name", READABLE)
def test_every_readable_file_gives_its_samples(tmp_path: Path, name: str) -> None:
    data, samples, white = READABLE[name]
    image = read_bytes(tmp_path, data)
    expected = np.asarray(samples, dtype=np.float64) / white
    if expected.ndim == 2:
        expected = expected[..., None]
    assert image.pixels.dtype == np.float32
    assert image.pixels.shape == expected.shape
    np.testing.assert_allclose(image.pixels, expected, atol=1e-6)
    assert image.bit_depth == (16 if white > 255 else 8)


@pytest.mark.skipif(
    not hasattr(imagecodecs, "ccittfax4_decode"), reason="this imagecodecs is too old for fax"
)
def test_a_fax_is_read(tmp_path: Path) -> None:
    image = read_bytes(tmp_path, pillow(BLACK_WHITE, "TIFF", compression="group4"))
    np.testing.assert_array_equal(image.pixels[..., 0], np.asarray(BLACK_WHITE))


NOT_READABLE = {
    # name: file, what the message says
    "empty": (b"", "empty"),
    "text": (b"hello, world", "not a PNG, JPEG, WebP or TIFF"),
    "gif": (pillow(RGB, "GIF"), "not a PNG, JPEG, WebP or TIFF"),
    "truncated png": (pillow(RGBA, "PNG")[:400], "damaged"),
    "truncated jpeg": (pillow(RGB, "JPEG")[:-200], "damaged"),
    "truncated webp": (pillow(RGB, "WEBP")[:100], "damaged"),
    "truncated tiff": (tiff(DEEP, photometric="rgb")[:600], "damaged"),
    "truncated deflate tiff": (
        tiff(DEEP, photometric="rgb", compression="deflate")[:600],
        "damaged",
    ),
    "no more than a tiff signature": (b"II*\0", "damaged"),
    "wrong checksum": (pillow(RGB, "PNG").replace(b"IDAT", b"IDAT\1"), "damaged"),
    "animated png": (pillow(RGB, "PNG", save_all=True, append_images=[RGBA]), "2 frames"),
    "animated webp": (pillow(RGB, "WEBP", save_all=True, append_images=[GRAY]), "2 frames"),
    "two pages": (pillow(RGB, "TIFF", save_all=True, append_images=[GRAY]), "2 pages"),
    "float tiff": (tiff(DEEP.astype(np.float32), photometric="rgb"), "32-bit IEEEFP"),
    "32-bit tiff": (tiff(DEEP.astype(np.uint32), photometric="rgb"), "32-bit UINT"),
    "signed tiff": (tiff(DEEP.astype(np.int16), photometric="rgb"), "16-bit INT"),
    "lab tiff": (pillow(RGB.convert("LAB"), "TIFF"), "CIELAB"),
    "16-bit cmyk tiff": (tiff(DEEP, photometric="separated"), "8-bit CMYK"),
    "many channels": (
        tiff(np.zeros((9, 9, 6), np.uint8), photometric="rgb", planarconfig="contig"),
        "6 channels",
    ),
    "volume": (
        tiff(np.zeros((16, 16, 16), np.uint8), volumetric=True, photometric="minisblack"),
        "volume",
    ),
}


@pytest.mark.parametrize("name", NOT_READABLE)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    data, reason = NOT_READABLE[name]
    with pytest.raises(ImageError, match=reason) as raised:
        read_bytes(tmp_path, data)
    assert str(raised.value).startswith(str(tmp_path / "picture"))
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png.*No such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_no_limit_on_pixels_and_none_lifted_for_others(
    tmp_path: Path, file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, getexif, during = pillow(RGB, file_format), PIL.Image.Image.getexif, set()

    def watching_getexif(picture: PIL.Image.Image) -> PIL.Image.Exif:
        during.add(PIL.Image.MAX_IMAGE_PIXELS)
        return getexif(picture)

    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(PIL.Image.Image, "getexif", watching_getexif)
    assert read_bytes(tmp_path, data).pixels.shape == (12, 17, 3)
    assert during == {10}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_applied(tmp_path: Path, file_format: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[Base.Orientation] = orientation
    data = pillow(RGB, file_format, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(quantised(read_bytes(tmp_path, data)), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_exif_is_kept_without_what_is_no_longer_true(tmp_path: Path, suffix: str) -> None:
    exif = PIL.Image.Exif()
    exif[Base.Orientation] = 6
    exif[Base.Make] = "Maker"
    exif[IFD.Exif] = {Base.ExifImageWidth: 17, Base.ExifImageHeight: 12, Base.ISOSpeedRatings: 200}
    write_image(tmp_path / f"out{suffix}", read_bytes(tmp_path, pillow(RGB, "JPEG", exif=exif)))
    with PIL.Image.open(tmp_path / f"out{suffix}") as picture:
        assert picture.size == (12, 17)
        kept = picture.getexif()
        assert dict(kept.get_ifd(IFD.Exif)) == {Base.ISOSpeedRatings: 200}
        assert kept[Base.Make] == "Maker"
        assert Base.Orientation not in kept


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path: Path) -> None:
    image = read_bytes(tmp_path, pillow(RGB, "JPEG", exif=b"Exif\0\0nonsense"))
    assert image.exif is None
    np.testing.assert_array_equal(quantised(image), decoded_jpeg(RGB))


def test_the_png_library_does_not_write_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = read_bytes(tmp_path, pillow(GRAY, "PNG", icc_profile=SRGB))
    assert image.icc_profile == SRGB
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_is_converted_through_its_profile(tmp_path: Path, file_format: str) -> None:
    data = pillow(CMYK, file_format, icc_profile=profile_where_every_ink_is_white())
    image = read_bytes(tmp_path, data)
    assert image.icc_profile is None
    assert image.pixels.min() > 0.99


@pytest.mark.parametrize("profile", [b"not a profile", SRGB], ids=["damaged", "of another space"])
@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_a_cmyk_profile_does_not_stay_on_rgb(
    tmp_path: Path, file_format: str, profile: bytes
) -> None:
    image = read_bytes(tmp_path, pillow(CMYK, file_format, icc_profile=profile))
    assert image.icc_profile is None
    plain = read_bytes(tmp_path, pillow(CMYK, file_format))
    np.testing.assert_array_equal(image.pixels, plain.pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_icc_profile_survives(tmp_path: Path, suffix: str, depth: int, channels: int) -> None:
    path = tmp_path / f"out{suffix}"
    write_image(path, Image(np.zeros((4, 5, channels), np.float32), depth, SRGB))
    with PIL.Image.open(path) as picture:
        assert picture.info["icc_profile"] == SRGB
    assert read_image(path).icc_profile == SRGB


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("suffix", "depth"), [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16)]
)
def test_round_trip_is_exact(tmp_path: Path, suffix: str, depth: int, channels: int) -> None:
    samples = (DEEP >> (16 - depth))[..., :channels]
    path = tmp_path / f"out{suffix}"
    write_image(path, Image(samples.astype(np.float32) / (2**depth - 1), depth))
    image = read_image(path)
    assert image.bit_depth == depth
    np.testing.assert_array_equal(quantised(image), samples)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_the_order_of_pixels_in_memory_does_not_matter(tmp_path: Path, suffix: str) -> None:
    pixels = FLAT[..., :3].astype(np.float32) / 255
    write_image(tmp_path / f"a{suffix}", Image(pixels))
    write_image(tmp_path / f"b{suffix}", Image(np.asfortranarray(pixels)))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (3, 3), (4, 4), (2, 2)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_small_pictures_keep_their_shape(
    tmp_path: Path, shape: tuple[int, int], channels: int, suffix: str
) -> None:
    path = tmp_path / f"out{suffix}"
    write_image(path, Image(np.full((*shape, channels), 0.5, np.float32)))
    kept = {1: 3, 2: 4}.get(channels, channels) if suffix == ".webp" else channels
    assert read_image(path).pixels.shape == (*shape, kept)


@pytest.mark.parametrize("depth", [8, 16])
def test_others_read_the_alpha_of_a_tiff(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "out.tiff"
    samples = DEEP >> (16 - depth)
    write_image(path, Image(samples.astype(np.float32) / (2**depth - 1), depth))
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert page.photometric == tifffile.PHOTOMETRIC.RGB
        assert page.extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        np.testing.assert_array_equal(page.asarray(), samples)
    with PIL.Image.open(path) as picture:
        assert picture.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(picture), FLAT)


def test_jpeg_keeps_full_colour_resolution(tmp_path: Path) -> None:
    red_stripes = np.zeros((32, 32, 3), np.float32)
    red_stripes[:, ::2, 0] = 1
    write_image(tmp_path / "out.jpg", Image(red_stripes, bit_depth=16))
    image = read_image(tmp_path / "out.jpg")
    assert image.bit_depth == 8
    assert np.abs(image.pixels - red_stripes).mean() < 0.02


def test_webp_is_lossless_even_under_alpha(tmp_path: Path) -> None:
    write_image(tmp_path / "out.webp", Image(FLAT.astype(np.float32) / 255))
    np.testing.assert_array_equal(quantised(read_image(tmp_path / "out.webp")), FLAT)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-2, 3, width=32), min_size=1, max_size=20), st.sampled_from([8, 16]))
def test_values_are_rounded_and_clipped(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], depth: int
) -> None:
    path = tmp_path_factory.mktemp("rounding") / "out.png"
    pixels = np.array(values, np.float32).reshape(1, -1, 1)
    write_image(path, Image(pixels, depth))
    error = read_image(path).pixels - np.clip(pixels, 0, 1)
    assert np.abs(error).max() <= 0.5 / (2**depth - 1) + 1e-7


REFUSED = {
    # name: file, shape, what the message says
    "alpha in jpeg": ("a.jpg", (4, 4, 4), "PNG, WebP or TIFF"),
    "gray alpha in jpeg": ("a.JPEG", (4, 4, 2), "PNG, WebP or TIFF"),
    "wide webp": ("a.webp", (1, 16384, 3), "16383"),
    "wide jpeg": ("a.jpg", (1, 65501, 3), "65500"),
    "unknown suffix": ("a.bmp", (4, 4, 3), ".png"),
    "no suffix": ("a", (4, 4, 3), ".png"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_format_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    file, shape, reason = REFUSED[name]
    with pytest.raises(ImageError, match=reason):
        check_writable(tmp_path / file, *shape)
    with pytest.raises(ImageError, match=file):
        write_image(tmp_path / file, Image(np.zeros(shape, np.float32)))
    assert not list(tmp_path.iterdir())


def test_the_widest_webp_and_jpeg_are_written(tmp_path: Path) -> None:
    for file, width in (("a.webp", 16383), ("a.jpg", 65500)):
        write_image(tmp_path / file, Image(np.zeros((1, width, 3), np.float32)))
        assert read_image(tmp_path / file).pixels.shape == (1, width, 3)


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="NaN"):
        write_image(tmp_path / "a.png", Image(np.full((2, 2, 3), np.nan, np.float32)))


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.png"
    black, white = (Image(np.full((2, 2, 3), value, np.float32)) for value in (0, 1))
    write_image(path, black)
    with pytest.raises(ImageError, match="already exists"):
        write_image(path, white)
    assert read_image(path).pixels.max() == 0
    write_image(path, white, overwrite=True)
    assert read_image(path).pixels.min() == 1


def test_a_file_in_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.png", tmp_path / "file" / "inner" / "a.png"):
        with pytest.raises(ImageError, match=r"a\.png cannot be written: .* is not a folder"):
            write_image(path, Image(np.zeros((2, 2, 3), np.float32)))


def test_a_failing_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    write_image(path, Image(np.zeros((2, 2, 3), np.float32)))
    before = path.read_bytes()

    def write_half(file: BinaryIO, *_: object) -> None:
        file.write(before[: len(before) // 2])
        raise OSError(28, "No space left on device", file.name)

    monkeypatch.setattr(image_io, "write_png", write_half)
    with pytest.raises(ImageError, match=r"a\.png cannot be written: No space left on device\.$"):
        write_image(path, Image(np.ones((2, 2, 3), np.float32)), overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX matter")
def test_results_have_the_usual_file_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_image(tmp_path / "a.png", Image(np.zeros((2, 2, 3), np.float32)))
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("rest", [b"\0", b"\r\n", bytes(100), b"IEND of an older file " * 9])
def test_what_lies_behind_the_end_of_a_png_is_ignored(tmp_path: Path, rest: bytes) -> None:
    path, pixels = tmp_path / "a.png", np.random.default_rng(0).random((9, 11, 3), np.float32)
    write_image(path, Image(pixels))
    before = read_image(path).pixels
    path.write_bytes(path.read_bytes() + rest)
    assert np.array_equal(read_image(path).pixels, before)


def test_no_part_of_a_png_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "black.png"
    write_image(path, Image(np.zeros((2000, 2000, 3), np.float32)))
    assert b"\0\0\0\0IDAT" not in path.read_bytes()
