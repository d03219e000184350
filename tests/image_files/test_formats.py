"""Peculiarities of formats: TIFF's alpha and size, JPEG's colours and preview, PNG's filters."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from PIL.ExifTags import Base
from skimage import data

from swinir_core.errors import ImageError
from swinir_core.image_files import tiff as image_tiff
from tests.support.image_bytes import DEEP, FLAT, pillow, quantised
from tests.support.image_files import Image, read_image, write_image

RGB = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 61, 3), dtype=np.uint8))


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


def test_a_result_too_large_for_tiff_is_a_bigtiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_tiff, "_MOST_BYTES", 70 * 61 * 8)
    for height in (70, 71):
        pixels = np.zeros((height, 61, 4), np.float32)
        write_image(tmp_path / f"{height}.tif", Image(pixels, 16))
        with tifffile.TiffFile(tmp_path / f"{height}.tif") as file:
            assert file.is_bigtiff == (height == 71)


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, start = [], 8
    while start < len(png):
        length, kind = struct.unpack_from(">I4s", png, start)
        found.append((kind, png[start + 8 : start + 8 + length]))
        start += length + 12
    return found


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_filter_of_png_is_used_and_undone(tmp_path: Path, depth: int, channels: int) -> None:
    random = np.random.default_rng(0)
    flat = random.integers(0, 9, (300, 300))  # small numbers without order: no filter
    across, down = np.meshgrid(np.arange(300) ** 2, np.arange(300) ** 2)
    noise = random.integers(0, 2**depth, 300)
    parts = [flat, across, down, np.tile(noise, (300, 1)), across + down + flat]
    mean = np.zeros((300, 300), int)
    mean[0] = noise
    for row in range(1, 300):
        for column in range(300):
            mean[row, column] = (mean[row, column - 1] * (column > 0) + mean[row - 1, column]) // 2
    samples = np.concatenate([*parts, mean])[..., None].repeat(channels, 2) % 2**depth
    path = tmp_path / "out.png"
    write_image(path, Image(samples.astype(np.float32) / (2**depth - 1), depth))
    pixels = read_image(path).pixels.astype(np.float64) * (2**depth - 1)
    np.testing.assert_array_equal(np.round(pixels), samples)
    stream = [body for kind, body in chunks(path.read_bytes()) if kind == b"IDAT"]
    assert len(stream) > 2
    rows = np.frombuffer(zlib.decompress(b"".join(stream)), np.uint8)
    assert set(rows.reshape(len(samples), -1)[:, 0]) == {0, 1, 2, 3, 4}


def test_a_png_is_about_as_small_as_that_of_others(tmp_path: Path) -> None:
    photograph = data.astronaut()
    write_image(tmp_path / "ours.png", Image(photograph.astype(np.float32) / 255))
    PIL.Image.fromarray(photograph).save(tmp_path / "theirs.png")
    ours, theirs = ((tmp_path / f"{who}.png").stat().st_size for who in ("ours", "theirs"))
    assert ours < 1.05 * theirs


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


def test_a_png_without_exif_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: object) -> None:
        raise AssertionError("Pillow decodes into memory of its own")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    (tmp_path / "a.png").write_bytes(pillow(RGB, "PNG"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels * 255, np.asarray(RGB))


def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[Base.Orientation] = 6
    png = pillow(RGB, "PNG")
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(png[:-12] + chunk + png[-12:])
    assert read_image(tmp_path / "a.png").pixels.shape == (61, 70, 3)


def test_the_end_of_a_preview_is_not_that_of_its_jpeg(tmp_path: Path) -> None:
    exif = b"Exif\0\0" + pillow(RGB.resize((8, 8)), "JPEG")
    jpeg = pillow(RGB, "JPEG", exif=exif)
    (tmp_path / "whole.jpg").write_bytes(jpeg + b"and what some cameras append")
    assert read_image(tmp_path / "whole.jpg").pixels.shape == (70, 61, 3)
    (tmp_path / "cut.jpg").write_bytes(jpeg[:-2000])
    with pytest.raises(ImageError, match=r"cut\.jpg cannot be read: .* ends too early"):
        read_image(tmp_path / "cut.jpg")
