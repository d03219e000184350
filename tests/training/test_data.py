"""Training patches: which images are used, where patches lie, what a batch depends on."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from swinir_core.image_files.picture import Picture
from swinir_core.images.color import rgb_to_gray
from swinir_core.images.resize import bicubic_resize
from swinir_core.training.data import (
    Patches,
    Photos,
    batches,
    crop,
    image_paths,
    read_pixels,
    turned,
)
from swinir_core.training.settings.settings import DegradationSettings, TaskSettings
from swinir_core.training.tasks import Task, build_task
from tests.support import image_files as image_io

PLENTY = 2**30


def save_noise(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def clean(channels: int = 3) -> Task:
    """A task that changes nothing."""
    name = "gray_denoise" if channels == 1 else "color_denoise"
    return build_task(TaskSettings(name), DegradationSettings(sigma=(0, 0)))


def shrinking(scale: int) -> Task:
    return build_task(TaskSettings("lightweight_sr", scale), DegradationSettings())


def photos_of(*images: np.ndarray, task: Task) -> Photos:
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    return Photos(task, [Path()] * len(images), sizes, held=dict(enumerate(images)))


def numbered(height: int, width: int) -> np.ndarray:
    """All pixels are different."""
    return np.arange(height * width, dtype=np.uint8).reshape(height, width, 1).repeat(3, axis=2)


def first(patches: Patches, count: int) -> tuple[Tensor, Tensor]:
    lows, highs = zip(*(patches[number] for number in range(count)), strict=True)
    return torch.stack(lows), torch.stack(highs)


def test_images_of_all_folders_are_found(tmp_path: Path) -> None:
    for name in (
        *("a/2.png", "a/1.JPG", "b/deep/3.webp", "b/run/4.png", "b/notes.txt"),
        *("a/._1.JPG", "b/.thumbnails/3.webp", "b/deep/.trash/old/5.png"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folders = [tmp_path / "b", tmp_path / "a"]
    found = image_paths(folders, without=[tmp_path / "b" / "run", tmp_path / "none"])
    assert [path.name for path in found] == ["3.webp", "1.JPG", "2.png"]
    with pytest.raises(ValueError, match=r"none is not a folder"):
        image_paths([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no PNG, JPEG, WebP or TIFF file in there\."):
        image_paths([tmp_path / "empty"])
    with pytest.raises(ValueError, match=r"a: no PNG.* in there, besides what is in .*a\."):
        image_paths([tmp_path / "a"], without=[tmp_path / "a"])


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
def test_links_in_a_circle_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to("b.png")
    (tmp_path / "out").symlink_to("out")
    assert image_paths([tmp_path], without=[tmp_path / "out"]) == [tmp_path / "a.png"]


def test_inputs_of_a_data_set_are_not_trained_on(tmp_path: Path) -> None:
    for name in ("DIV2K_train_HR/1.png", "DIV2K_train_LR_bicubic/X2/1x2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert image_paths([tmp_path]) == [tmp_path / "DIV2K_train_HR" / "1.png"]
    with pytest.raises(ValueError, match="by its name this one holds inputs"):
        image_paths([tmp_path / "DIV2K_train_LR_bicubic"])


def test_what_cannot_be_used_is_skipped_and_counted(tmp_path: Path) -> None:
    save_noise(tmp_path / "good.png", 40, 41)
    save_noise(tmp_path / "narrow.png", 40, 15)
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").touch()
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    photos = Photos.read(image_paths([tmp_path]), shrinking(2), 8, PLENTY, quiet=True)
    assert photos.sizes == [(40, 40)]
    assert [path.name for path in photos.unreadable] == ["empty.png", "text.jpg", "truncated.png"]
    assert [path.name for path in photos.too_small] == ["narrow.png"]


def test_no_usable_image_is_one_clear_error(tmp_path: Path) -> None:
    save_noise(tmp_path / "small.png", 8, 8)
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(ValueError, match=r"none of the 2 .*: 1 unreadable, 1 smaller .* 32x32"):
        Photos.read(image_paths([tmp_path]), shrinking(2), 16, PLENTY, quiet=True)


def test_images_are_read_as_the_restorer_reads_them(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 2**16, (5, 7, 4)).astype(np.uint16)
    rounded = np.round(samples / 257)
    for channels in (1, 2, 3, 4):
        path = tmp_path / f"{channels}.png"
        pixels = samples[..., :channels].astype(np.float32) / 65535
        image_io.write_image(path, image_io.Image(pixels, bit_depth=16))
        colours = rounded[..., :3] if channels > 2 else rounded[..., :1].repeat(3, axis=2)
        read = read_pixels(path, 3)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, colours)
        gray = rgb_to_gray(rounded[..., :3]) if channels > 2 else rounded[..., 0]
        np.testing.assert_array_equal(read_pixels(path, 1)[..., 0], gray.round())
    assert read_pixels(path, 3, scale=2).shape == (4, 6, 3)

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (7, 5)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_pixels(tmp_path / "turned.jpg", 3).shape == (7, 5, 3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_small_patch_is_that_of_the_whole_image_shrunk(scale: int, tmp_path: Path) -> None:
    whole = save_noise(tmp_path / "1.png", 5 * scale, 6 * scale)
    low = bicubic_resize(whole, 1 / scale)
    task, side = shrinking(scale), 3 * scale
    for top, left in np.ndindex(3, 4):
        square = crop(whole, top * scale, left * scale, side, task.margin * scale)
        shrunk = task.degrade(square, np.random.default_rng())[2:-2, 2:-2] * 255
        np.testing.assert_allclose(shrunk, low[top : top + 3, left : left + 3], atol=1e-4)


def test_input_and_output_show_the_same_place() -> None:
    blocks = numbered(9, 13).repeat(4, axis=0).repeat(4, axis=1)
    low, high = first(Patches(photos_of(blocks, task=shrinking(4)), 4, batch=64, seed=0), 64)
    assert low.shape == (64, 3, 4, 4)
    assert high.shape == (64, 3, 16, 16)
    assert low.dtype == high.dtype == torch.float32
    near = torch.nn.functional.avg_pool2d(high, 4)
    assert (low - near).abs().max() < 0.15
    assert (low - near.roll(1, dims=3)).abs().max() > 0.15


def test_every_place_and_every_way_is_drawn() -> None:
    patches = Patches(photos_of(numbered(3, 4), task=clean()), 2, batch=2000, seed=0)
    low, high = first(patches, 2000)
    assert torch.equal(low, high)
    found = {tuple(patch.flatten().tolist()) for patch in (low[:, 0] * 255).round()}
    assert len(found) == 2 * 3 * 8


def test_the_ways_are_the_symmetries_of_the_square() -> None:
    image = numbered(3, 3)
    ways = {turned(image, way).tobytes() for way in range(8)}
    rotations = [np.rot90(image, turns) for turns in range(4)]
    assert ways == {view.tobytes() for r in rotations for view in (r, r[::-1])}


def test_large_images_give_more_patches() -> None:
    small, large = np.full((2, 2, 3), 200, np.uint8), numbered(10, 2)
    photos = photos_of(small, large, task=clean())
    low, _ = first(Patches(photos, 2, batch=1500, seed=0), 1500)
    from_small = (low[:, 0, 0, 0] > 0.5).float().mean().item()
    assert from_small == pytest.approx(1 / 10, abs=0.03)


def noisy(seed: int = 1, images: tuple[np.ndarray, ...] = (numbered(9, 13),)) -> Patches:
    task = build_task(TaskSettings("color_denoise"), DegradationSettings(sigma=(15, 50)))
    return Patches(photos_of(*images, task=task), 4, batch=6, seed=seed)


def process(index: int = 0, count: int = 1) -> Any:
    """The part of an accelerator that ``batches`` reads."""
    return SimpleNamespace(device=torch.device("cpu"), process_index=index, num_processes=count)


def test_a_pair_depends_on_seed_and_number_alone() -> None:
    used = noisy()
    used[0]
    assert all(map(torch.equal, used[7], noisy()[7]))
    for other in (noisy()[8], noisy()[7 + 6], noisy(seed=2)[7]):
        assert not torch.equal(used[7][0], other[0])


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_each_batch(processes: int) -> None:
    shares = [
        list(batches(noisy(), range(1, 4), process(p, processes), 0)) for p in range(processes)
    ]
    assert [len(share) for share in shares] == [3] * processes
    for number, step in enumerate(range(1, 4)):
        low = torch.cat([share[number][0] for share in shares])
        wanted = torch.stack([noisy()[step * 6 + i][0] for i in range(6)])
        assert torch.equal(low, wanted)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_change_nothing() -> None:
    alone, helped = (list(batches(noisy(), range(4), process(), workers)) for workers in (0, 2))
    for ours, theirs in zip(alone, helped, strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_images_that_do_not_fit_into_memory_are_read_again_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        save_noise(tmp_path / f"{index}.png", 12, 11, seed=index)
    held, partly = (
        Photos.read(image_paths([tmp_path]), shrinking(2), 4, memory, quiet=True)
        for memory in (PLENTY, 12 * 10 * 3 + 100)
    )
    assert (len(held.held), len(partly.held)) == (3, 1)
    monkeypatch.delattr(Picture, "levels")  # which converts all rows
    ours, theirs = (first(Patches(photos, 4, batch=16, seed=0), 16) for photos in (held, partly))
    assert all(map(torch.equal, ours, theirs))
