"""Image files: what is read is what was stored, and what cannot be read is said."""

import os
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pytest

from swinir_core.errors import ImageError
from tests.support.image_bytes import (
    BLACK_WHITE,
    DEEP,
    GRAY,
    READABLE,
    RGB,
    RGBA,
    followed,
    pillow,
    read_bytes,
    tiff,
)
from tests.support.image_files import read_image


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


TWO_PAGES = pillow(RGB, "TIFF", save_all=True, append_images=[GRAY])

NOT_READABLE = {
    # name: file, what the message says
    "empty": (b"", "empty"),
    "text": (b"hello, world", "not a PNG, JPEG, WebP or TIFF"),
    "animated gif": (pillow(RGB, "GIF", save_all=True, append_images=[GRAY]), "2 frames"),
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
    "two pages": (TWO_PAGES, "2 pages"),
    "two pages in a circle": (followed(TWO_PAGES, 0), "2 pages"),
    "more pages than are counted": (
        followed(pillow(GRAY, "TIFF", save_all=True, append_images=[GRAY] * 109), 104),
        "110 pages",
    ),
    "float tiff": (tiff(DEEP.astype(np.float32), photometric="rgb"), "32-bit IEEEFP"),
    "32-bit tiff": (tiff(DEEP.astype(np.uint32), photometric="rgb"), "32-bit UINT"),
    "signed tiff": (tiff(DEEP.astype(np.int16), photometric="rgb"), "16-bit INT"),
    "lab tiff": (pillow(RGB.convert("LAB"), "TIFF"), "CIELAB"),
    "16-bit cmyk tiff": (tiff(DEEP, photometric="separated"), "8-bit CMYK"),
    "many channels": (
        tiff(np.zeros((9, 9, 6), np.uint8), photometric="minisblack", planarconfig="contig"),
        "holds 6 bands",
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


def test_what_tifffile_notes_of_a_file_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(READABLE["tiff whose next page is not there"][0])
    code = "from swinir_core.image_files.reading import open_image; open_image('a.tif')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


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
