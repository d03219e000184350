"""Orientation, EXIF and colour profiles of image files."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from PIL import ImageOps
from PIL.ExifTags import IFD, Base

from tests.support.image_bytes import (
    CMYK,
    GRAY,
    RGB,
    SRGB,
    decoded_jpeg,
    pillow,
    profile_where_every_ink_is_white,
    quantised,
    read_bytes,
)
from tests.support.image_files import Image, read_image, write_image


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
