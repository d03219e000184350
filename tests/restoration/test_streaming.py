"""Pictures larger than memory: restored by rows as they are in one piece, and nothing left over."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.ExifTags import Base

from swinir_core import Cancelled, Restorer, SwinIR, TileSettings
from swinir_core.cli.restore import restore_file
from swinir_core.errors import ImageError
from swinir_core.image_files import writing
from swinir_core.image_files.metadata import Metadata
from swinir_core.image_files.picture import Picture
from swinir_core.image_files.reading import open_image
from swinir_core.images.levels import to_floats
from swinir_core.restoration import restorer as restorer_module
from swinir_core.restoration.streaming import Stream
from tests.support.image_bytes import READABLE, pillow, profile_where_every_ink_is_white, tiff
from tests.support.image_files import read_image, write_image
from tests.support.models import PretendModel
from tests.support.reference import GRAY, SMALL, network

TILES = TileSettings("tiled", 32, 8)
DEEP = np.random.default_rng(0).integers(0, 2**16, (70, 61, 4), dtype=np.uint16)
FLAT = (DEEP >> 8).astype(np.uint8)
RGB = PIL.Image.fromarray(FLAT[..., :3])

MODELS = {1: network(GRAY), 2: network(SMALL), 3: network(replace(SMALL, scale=3))}


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture counts as larger than memory."""
    monkeypatch.setattr("swinir_core.image_files.scratch.MEMORY_FRACTION", 0)


def restored(source: Path, target: Path, tiles: TileSettings = TILES, **model: Any) -> str:
    restorer = Restorer(model.get("model", MODELS[2]))
    return restore_file(restorer, source, target, tiles, False, "label", False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(
    size=st.tuples(st.integers(1, 140), st.integers(1, 140)),
    channels=st.integers(1, 4),
    scale=st.sampled_from([1, 2, 3]),
    tile=st.tuples(st.integers(32, 60), st.integers(32, 60)),
    overlap=st.sampled_from([None, 0, 8, 16]),
)
@settings(deadline=None, max_examples=30, derandomize=True)
def test_streamed_as_in_one_piece(
    size: tuple[int, int],
    channels: int,
    scale: int,
    tile: tuple[int, int],
    overlap: int | None,
) -> None:
    samples = np.random.default_rng(0).integers(0, 2**16, (*size, channels), dtype=np.uint16)
    picture = Picture(samples, to_floats)
    tiles = TileSettings("tiled", tile, overlap, at_once=1)
    restorer = Restorer(MODELS[scale])
    whole = restorer(torch.from_numpy(picture.rows(0, size[0]))[None], tiles)[0]
    stream = Stream(restorer, picture, tiles)
    bands = list(stream.bands())
    assert len(bands) == len(stream.plan.tiles.rows)
    np.testing.assert_array_equal(np.concatenate(bands), whole.numpy())


class Unclean:
    """Rows of a picture with values that are not finite, or outside 0..1 in alpha."""

    shape = (90, 50, 4)

    def __init__(self) -> None:
        self.pixels = torch.rand(self.shape).numpy()
        self.pixels[::16, 3] = np.nan
        self.pixels[5::16, 20, 1:] = np.inf
        self.pixels[7::16, 30, -1] = -np.inf
        self.pixels[9::16, 40, -1] = 1.5

    def rows(self, start: int, stop: int) -> np.ndarray:
        return self.pixels[start:stop]


@pytest.mark.parametrize("scale", [1, 2])
def test_what_is_no_number_is_streamed_as_in_one_piece(
    scale: int, caplog: pytest.LogCaptureFixture
) -> None:
    picture, tiles = Unclean(), TileSettings("tiled", 32, 8, at_once=1)
    streamed = np.concatenate(list(Stream(Restorer(MODELS[scale]), picture, tiles).bands()))
    assert len(caplog.records) == 1
    whole = Restorer(MODELS[scale])(torch.from_numpy(picture.pixels)[None], tiles)[0]
    np.testing.assert_array_equal(streamed, whole.numpy())
    assert np.isfinite(streamed).all()


def tiff_of(*channels: int, **options: Any) -> bytes:
    return tiff(DEEP[..., channels].squeeze(), **options)


SOURCES: dict[str, Callable[[], bytes]] = {
    "png": lambda: pillow(RGB, "PNG"),
    "png palette": lambda: pillow(RGB.quantize(16), "PNG"),
    "png gray alpha": lambda: pillow(PIL.Image.fromarray(FLAT[..., :2]), "PNG"),
    "jpeg": lambda: pillow(RGB, "JPEG"),
    "jpeg cmyk": lambda: pillow(RGB.convert("CMYK"), "JPEG"),
    "webp alpha": lambda: pillow(PIL.Image.fromarray(FLAT), "WEBP"),
    "tiff gray": lambda: tiff_of(0),
    "tiff planes": lambda: tiff(
        np.moveaxis(DEEP[..., :3], 2, 0), photometric="rgb", planarconfig="separate"
    ),
    "tiff palette": lambda: pillow(RGB.quantize(16), "TIFF"),
    "tiff cmyk": lambda: pillow(
        RGB.convert("CMYK"), "TIFF", icc_profile=profile_where_every_ink_is_white()
    ),
    "tiff premultiplied": lambda: tiff_of(
        0, 1, 2, 3, photometric="rgb", extrasamples=["assocalpha"]
    ),
}


def check_file(source: Path, target: str, model: SwinIR, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file made by rows is, byte for byte, the one made in one piece."""
    tiles = replace(TILES, at_once=1)
    image = read_image(source)
    whole = Restorer(model)(torch.from_numpy(image.pixels)[None], tiles)[0]
    folder = source.parent
    write_image(folder / f"whole.{target}", replace(image, pixels=whole.numpy()))
    with monkeypatch.context() as patch:
        patch.setattr("swinir_core.image_files.scratch.MEMORY_FRACTION", 0)
        restored(source, folder / f"rows.{target}", tiles, model=model)
    assert (folder / f"rows.{target}").read_bytes() == (folder / f"whole.{target}").read_bytes()
    assert names(folder) == sorted([source.name, f"rows.{target}", f"whole.{target}"])


@pytest.mark.parametrize("target", ["png", "tif", "webp"])
@pytest.mark.parametrize("name", SOURCES)
def test_any_file_is_streamed_as_in_one_piece(
    tmp_path: Path, name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(SOURCES[name]())
    check_file(tmp_path / "in", target, MODELS[2], monkeypatch)


@pytest.mark.parametrize("target", ["png", "tif", "jpg"])
def test_a_gray_model_streams_channels_one_by_one(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(pillow(RGB, "PNG"))
    check_file(tmp_path / "in", target, MODELS[1], monkeypatch)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_a_turned_picture_is_streamed_upright(
    tmp_path: Path, file_format: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = PIL.Image.Exif()
    exif[Base.Orientation] = orientation
    (tmp_path / "in").write_bytes(pillow(RGB, file_format, exif=exif))
    check_file(tmp_path / "in", "png", MODELS[2], monkeypatch)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("name", READABLE)
def test_what_is_kept_on_disk_is_what_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "picture"
    path.write_bytes(READABLE[name][0])
    image, picture = read_image(path), open_image(path, tmp_path)
    height, _, _ = picture.shape
    middle = height // 2
    rows = [picture.rows(0, middle), picture.rows(middle, height)]
    np.testing.assert_array_equal(np.concatenate(rows), image.pixels)
    assert picture.shape == image.pixels.shape
    assert name.startswith("webp") or isinstance(base_of(picture.samples), np.memmap)
    if os.name == "posix":
        assert names(tmp_path) == ["picture"]


def base_of(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory of a view."""
    while not isinstance(array, np.memmap) and isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_progress_and_cancelling() -> None:
    picture = Picture(DEEP, to_floats)
    stream, seen = Stream(Restorer(MODELS[2]), picture, TILES), []
    bands = stream.bands(lambda done, total: seen.append((done, total)))
    assert sum(map(len, bands)) == 140
    assert seen == sorted(seen)
    assert seen[-1] == (stream.plan.pixels, stream.plan.pixels)

    cancelled = stream.bands(cancelled=lambda: len(seen) > 0)
    with pytest.raises(Cancelled):
        next(cancelled)


def test_a_stop_is_asked_for_every_64_rows_of_colors_too() -> None:
    picture = Picture(np.zeros((600, 50, 3), np.uint8), to_floats)
    restorer = Restorer(PretendModel(scale=2), "cpu", torch.float32, colors="input")
    stream, progress, asked = Stream(restorer, picture, TileSettings("whole")), [], 0

    def cancelled() -> bool:
        nonlocal asked
        asked += progress[-1:] == [(600 * 50, 600 * 50)]
        return asked == limit

    limit = 10**9
    for _ in stream.bands(lambda *done: progress.append(done), cancelled):
        pass
    assert asked >= 600 / 64
    limit, asked, progress = asked, 0, []
    with pytest.raises(Cancelled):
        next(stream.bands(lambda *done: progress.append(done), cancelled))


class Failing(SwinIR):
    """Runs out of memory for more pixels than so many, or fails at one call with an error."""

    def __init__(self, most: float = float("inf"), error: Exception | None = None) -> None:
        super().__init__(SMALL)
        self.load_state_dict(MODELS[2].state_dict())
        self.requires_grad_(False)
        self.most, self.error, self.calls = most, error, 0

    def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
        self.calls += 1
        if self.error is not None and self.calls == 5:
            raise self.error
        if x[:, 0].numel() > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(x)


def test_where_memory_runs_out_tiles_become_smaller() -> None:
    picture = Picture(DEEP[..., :3], to_floats)
    tiles = TileSettings("tiled", 56, 16)
    expected = np.concatenate(list(Stream(Restorer(MODELS[2]), picture, tiles).bands()))
    model = Failing(most=1500)
    smaller = np.concatenate(list(Stream(Restorer(model), picture, tiles).bands()))
    assert model.calls > 4
    assert np.abs(smaller - expected).max() < 1 / 255


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("target", ["out.png", "out.tif", "out.webp"])
@pytest.mark.parametrize("error", [ValueError("bad"), OSError("worse"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_nothing(
    tmp_path: Path, target: str, error: Exception
) -> None:
    (tmp_path / "in.png").write_bytes(SOURCES["png"]())
    with pytest.raises(type(error)) as raised:
        restored(tmp_path / "in.png", tmp_path / target, model=Failing(error=error))
    assert raised.value is error
    assert names(tmp_path) == ["in.png"]


def test_pixels_that_are_no_numbers_are_refused_in_any_band(tmp_path: Path) -> None:
    bands = [np.zeros((300, 500, 3), np.float32) for _ in range(3)]
    bands[2][-1, -1, -1] = np.nan
    with pytest.raises(ImageError, match=r"out\.png was not written: some .* \(NaN\)"):
        writing.write_image(tmp_path / "out.png", bands, (900, 500, 3), Metadata())
    assert not names(tmp_path)


def memory(free: int) -> Callable[[], Any]:
    return lambda: SimpleNamespace(available=free, free=0)


@pytest.mark.parametrize("target", ["out.jpg", "out.webp"])
def test_formats_that_need_the_whole_picture_say_so(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.png").write_bytes(SOURCES["png"]())
    model = Failing()
    monkeypatch.setattr(psutil, "virtual_memory", memory(100_000))
    with pytest.raises(ImageError, match=r"122 x 140 pixels .* write PNG or TIFF instead"):
        restored(tmp_path / "in.png", tmp_path / target, model=model)
    assert model.calls == 0


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("noticed", ["before", "while it is reserved"])
def test_a_disk_without_room_is_said(
    tmp_path: Path, noticed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.png").write_bytes(SOURCES["png"]())
    if noticed == "before":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        reason = "needs 0.0 GB of scratch space in .*, where 0.0 GB are free"
    else:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
        reason = "has no scratch space in .*: No space left on device"
    with pytest.raises(ImageError, match=rf"in\.png is larger than the memory and {reason}\.$"):
        restored(tmp_path / "in.png", tmp_path / "new" / "out.png")
    assert names(tmp_path) == ["in.png"]


def test_tiles_are_as_low_as_rows_in_memory_need(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = Restorer(MODELS[2])
    picture = Picture(np.zeros((3000, 2000, 3), np.uint8), to_floats)
    whole = restorer.estimate_memory(3000, 2000)
    rows = Stream(restorer, picture).memory(3000)
    for free, is_whole in ((whole + rows, True), (whole + rows - 1, False), (whole // 3, False)):
        monkeypatch.setattr(restorer_module, "free_memory", lambda _, free=free: free)
        stream = Stream(restorer, picture, TileSettings(overlap=16))
        height, width = stream.plan.tiles.largest
        assert (len(stream.plan.tiles) == 1) == is_whole
        assert restorer.estimate_memory(height, width) + stream.memory(height) <= free


def test_rows_of_tiles_that_cannot_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Picture(np.zeros((3000, 2000, 3), np.uint8), to_floats)
    monkeypatch.setattr(psutil, "virtual_memory", memory(10**8))
    monkeypatch.setattr(psutil, "swap_memory", memory(0))
    with pytest.raises(MemoryError, match=r"2000 x 3000 pixels.* take 0\.4 GB .*smaller tiles"):
        _ = Stream(Restorer(MODELS[2]), picture, TileSettings("whole")).plan


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
import tifffile
import torch
from swinir_core import Restorer, TileSettings
from swinir_core.cli.restore import restore_file
from swinir_core.image_files import scratch
from swinir_core.image_files.metadata import Metadata
from swinir_core.image_files.reading import open_image
from swinir_core.image_files.writing import write_image
from tests.support.models import PretendModel

class Gray(PretendModel):
    in_channels = 1

torch.set_num_threads(1)
rows = (np.full((100, 3000, 1), number / 255, np.float32) for number in range(30))
write_image(Path("in.tif"), rows, (3000, 3000, 1), Metadata())
# Deflated without becoming smaller.
large = {"rowsperstrip": 20, "compression": "deflate", "compressionargs": {"level": 0}}
tifffile.imwrite("large.tif", np.zeros((12800, 12800), np.uint8), **large)
scratch.MEMORY_FRACTION = 0
model = Restorer(Gray(scale=2), "cpu", torch.float32)
in_use = [line for line in open("/proc/self/status") if line.startswith("VmData")][0].split()[1]
# The result takes 144 MB as floats, and a row of its tiles 36.
limit = int(in_use) * 1024 + 80_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
assert open_image(Path("large.tif"), Path()).shape == (12800, 12800, 1)
Path("large.tif").unlink()
for target in sys.argv[1:]:
    tiles = TileSettings("tiled", 768, 0)
    restore_file(model, Path("in.tif"), Path(target), tiles, False, "", False)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts what is needed on Linux only")
def test_a_picture_larger_than_memory(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, "out.png", "out.tif"],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
        | {"MALLOC_MMAP_THRESHOLD_": "100000"},  # What is freed does not count.
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert names(tmp_path) == ["in.tif", "out.png", "out.tif"]
    expected = np.arange(30).repeat(200)[:, None].repeat(6000, 1)
    for name in ("out.png", "out.tif"):
        samples = open_image(tmp_path / name).samples[..., 0]
        np.testing.assert_array_equal(samples, expected)
