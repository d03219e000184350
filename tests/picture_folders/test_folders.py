"""Folders of pictures: what is listed and read of them, and what is written where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from swinir_core.errors import ImageError, WriteError
from swinir_core.picture_folders.listing import fingerprint, names_of, pictures_in, subfolders
from swinir_core.picture_folders.reading import bytes_in_memory, read_picture
from swinir_core.picture_folders.writing import EXISTING, FORMATS, plan_targets, write_picture

ORIENTATION = 0x0112


def paint(path: Path, pixels: np.ndarray | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((2, 3, 3), np.uint8) if pixels is None else pixels
    PIL.Image.fromarray(pixels).save(path, **options)
    return path


# Listing


def test_pictures_are_listed_as_people_sort(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    names = ["2.png", "10.png", "a.png", "A1.jpg", "a2.webp", "a10.tiff", "b.BMP"]
    for name in (*reversed(names), "notes.txt", ".hidden.png", "a.png.part"):
        (inside / name).touch()
    (inside / "folder.png").mkdir()
    (tmp_path / "outside.png").touch()
    (inside / "link.png").symlink_to(tmp_path / "outside.png")
    (inside / "z.png").symlink_to(inside / "2.png")

    assert [path.name for path in pictures_in(inside)] == [*names, "z.png"]


def test_folders_are_listed_without_hidden_ones_and_links(tmp_path: Path) -> None:
    for name in ("b/part 10", "b/part 2", ".git/deep", "a"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root").symlink_to("/")

    assert subfolders(tmp_path) == ["a", "b", "b/part 2", "b/part 10"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["cat.png", "dog.v2.jpg"], ["cat", "dog.v2"]),
        (["cat.png", "cat.jpg", "CAT.webp"], ["cat_png", "cat_jpg", "CAT_webp"]),
        (["cat.png", "cat.jpg", "cat_png.png"], ["cat_png", "cat_jpg", "cat_png_"]),
        (["a:b?.png", "con.jpg", "end..png", " .png"], ["a_b_", "_con", "end", "_"]),
        (["ü" * 120 + ".png"], ["ü" * 100]),
    ],
)
def test_names_of_results_are_those_of_the_files(files: list[str], names: list[str]) -> None:
    assert names_of(map(Path, files)) == names
    planned = plan_targets(Path("output"), "", names, "png", "stop")
    assert [path and path.name for path in planned] == [f"{name}.png" for name in names]


def test_a_fingerprint_tells_of_every_change(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    seen = []
    for content, time in ((b"1", 1), (b"2", 2), (b"22", 2)):
        path.write_bytes(content)
        os.utime(path, ns=(time, time))
        seen.append(fingerprint(pictures_in(tmp_path)))
    (tmp_path / "b.png").touch()
    seen.append(fingerprint(pictures_in(tmp_path)))
    assert len(set(seen)) == 4
    assert seen[-1] == fingerprint(pictures_in(tmp_path))


# Reading


def read_back(path: Path, pixels: np.ndarray, **options: Any) -> np.ndarray:
    return read_picture(paint(path, pixels, **options)).pixels


def test_transparency_is_kept(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 255, (4, 6, 4), np.uint8)
    assert np.array_equal(read_back(tmp_path / "a.png", rgba), rgba.astype(np.float32) / 255)
    palette = PIL.Image.fromarray(rgba[..., :3]).quantize(4)
    palette.save(tmp_path / "b.png", transparency=0)
    assert read_picture(tmp_path / "b.png").pixels.shape == (4, 6, 4)
    assert bytes_in_memory(tmp_path / "b.png") == 4 * 4 * 6 * 4


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_pictures_are_upright(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6  # To be turned by a quarter, clockwise.
    upright = read_back(tmp_path / f"a{suffix}", pixels, exif=exif)
    assert upright.shape == (32, 16, 3)
    assert upright[:12].mean() > 0.95
    assert upright[20:].mean() < 0.05


def test_gray_pictures_have_their_full_depth(tmp_path: Path) -> None:
    deep = np.array([[0, 1, 257, 65535]], np.uint16)
    pixels = read_back(tmp_path / "a.png", deep)
    assert np.array_equal(pixels, np.repeat((deep / np.float32(65535))[..., None], 3, axis=2))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    whole = paint(
        tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9, (64, 64, 3), "u1")
    )
    damaged = {
        "empty.png": b"",
        "text.jpg": b"not a picture",
        "cut.png": whole.read_bytes()[:500],
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
    PIL.Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "floats.tif")
    for name in (*damaged, "floats.tif", "gone.png"):
        with pytest.raises(ImageError, match=f"^{name} cannot be read: ") as error:
            read_picture(tmp_path / name)
        assert str(tmp_path) not in str(error.value)
    assert bytes_in_memory(tmp_path / "gone.png") == 0


# Writing


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_picture_is_written_with_its_profile(tmp_path: Path, file_format: str) -> None:
    smooth = np.linspace(0, 1, 48 * 3, dtype=np.float32).reshape(1, 48, 3).repeat(32, axis=0)
    path = tmp_path / "new" / f"a{FORMATS[file_format]}"
    write_picture(path, smooth, 95, b"profile")
    pixels, profile = read_picture(path)
    assert np.abs(pixels - smooth).max() < (0.002 if file_format == "png" else 0.05)
    assert profile == b"profile"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("file_format", FORMATS)
def test_transparency_is_written_or_refused(tmp_path: Path, file_format: str, alpha: float) -> None:
    path = tmp_path / f"a{FORMATS[file_format]}"
    pixels = np.full((8, 8, 4), alpha, np.float32)
    if file_format == "jpg" and alpha < 1:
        with pytest.raises(ImageError, match=r"a\.jpg: jpg cannot hold its transparency"):
            write_picture(path, pixels, 95)
        assert not path.exists()
        return
    write_picture(path, pixels, 95)
    assert np.abs(read_picture(path).pixels - alpha).max() < 0.03


def test_a_picture_too_large_for_its_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="webp holds 16383 pixels a side at most"):
        write_picture(tmp_path / "a.webp", np.zeros((1, 16384, 3), np.float32), 95)


def test_a_file_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")

    def save(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PIL.Image.Image, "save", save)
    with pytest.raises(WriteError, match="No space left"):
        write_picture(path, np.zeros((2, 2, 3), np.float32), 95)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


NAMES = ["a", "b.png", "a", "sub/c"]
PLANNED = {
    "number": ["a_3.png", "b.png", "a_4.png", "sub/c_2.png"],
    "replace": ["a.png", "b.png", "a_2.png", "sub/c.png"],
    "skip": [None, "b.png", None, None],
}


@pytest.mark.parametrize("existing", EXISTING)
def test_what_exists_is_treated_as_asked(tmp_path: Path, existing: str) -> None:
    folder = tmp_path / "out"
    for name in ("a.png", "a_2.png", "sub/c.png"):
        paint(folder / name)
    if existing == "stop":
        with pytest.raises(WriteError, match=r"a\.png exists, and nothing was written; choose"):
            plan_targets(tmp_path, "out", NAMES, "png", existing)
        return
    wanted = [name and folder / name for name in PLANNED[existing]]
    assert plan_targets(tmp_path, "out", NAMES, "png", existing) == wanted


@pytest.mark.parametrize(
    "name",
    [
        *("../a", "a/../../b", "/a", "\\a", "C:a", "C:\\a", "\\\\host\\a", "a\0", "nul", "NUL.png"),
        *("a.", "a ./b", "..", ".", "", "  ", "a//b", "a\nb", "b*", "aux.txt.png", "x" * 300),
    ],
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError):
        plan_targets(tmp_path, "out", [name], "png", "replace")
    if name.strip() not in ("", "."):  # The output folder itself.
        with pytest.raises(ValueError):
            plan_targets(tmp_path, name, ["a"], "png", "replace")


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    root, outside = tmp_path / "output", paint(tmp_path / "outside.png")
    root.mkdir()
    (root / "a.png").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    for folder, name in (("", "a"), ("folder", "new"), ("", "folder/outside")):
        with pytest.raises(ValueError, match="is a link that leads out of"):
            plan_targets(root, folder, [name], "png", "replace")
