"""Image files are written exactly, or refused and nothing changed."""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swinir_core.errors import ImageError
from swinir_core.image_files import writing as image_io
from swinir_core.image_files.writing import check_writable
from tests.support.image_bytes import DEEP, FLAT, quantised
from tests.support.image_files import Image, read_image, write_image


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
        check_writable(tmp_path / file, shape)
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
