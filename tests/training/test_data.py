"""Training patches: which images are used, where patches lie, what a batch depends on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swinir_core import image_io
from swinir_core.degradation import bicubic_resize
from swinir_core.training.data import PatchDataset, PatchSampler, read_rgb


def save_image(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def numbered(height: int, width: int, scale: int, patch: int) -> PatchDataset:
    """One pair whose low-resolution pixels are all different, enlarged without smoothing."""
    low = np.arange(height * width, dtype=np.uint8).reshape(height, width, 1).repeat(3, axis=2)
    return PatchDataset(scale, patch, [(low, low.repeat(scale, axis=0).repeat(scale, axis=1))])


def test_images_of_all_folders_are_loaded_and_shrunk(tmp_path: Path) -> None:
    first = save_image(tmp_path / "a" / "1.png", 33, 40)
    second = save_image(tmp_path / "b" / "deep" / "2.PNG", 32, 41)
    dataset = PatchDataset.from_folders([tmp_path / "a", tmp_path / "b"], scale=2, patch=8)
    for (low, high), pixels in zip(dataset.pairs, (first, second), strict=True):
        np.testing.assert_array_equal(high, pixels[:32, :40])
        np.testing.assert_array_equal(low, bicubic_resize(high, 1 / 2))


def test_what_cannot_be_used_is_skipped_and_reported(tmp_path: Path) -> None:
    save_image(tmp_path / "good.png", 40, 40)
    save_image(tmp_path / "narrow.png", 40, 15)
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").touch()
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("no image suffix, no concern of ours")
    dataset = PatchDataset.from_folders([tmp_path], scale=2, patch=8)
    assert len(dataset.pairs) == 1
    assert [path.name for path in dataset.unreadable] == ["empty.png", "text.jpg", "truncated.png"]
    assert [path.name for path in dataset.too_small] == ["narrow.png"]


def test_gray_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (20, 20)).save(tmp_path / f"{mode}.png")
    dataset = PatchDataset.from_folders([tmp_path], scale=2, patch=8)
    assert [high.shape for _, high in dataset.pairs] == [(20, 20, 3)] * 3


def test_images_are_read_as_the_restorer_reads_them(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 2**16, (5, 7, 4)).astype(np.uint16)
    rounded = np.round(samples / 257)
    for channels in (1, 2, 3, 4):
        path = tmp_path / f"{channels}.png"
        pixels = samples[..., :channels].astype(np.float32) / 65535
        image_io.write_image(path, image_io.Image(pixels, bit_depth=16))
        colours = rounded[..., :3] if channels > 2 else rounded[..., :1].repeat(3, axis=2)
        read = read_rgb(path)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, colours)

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (7, 5)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(tmp_path / "turned.jpg").shape == (7, 5, 3)


def test_no_usable_image_is_one_clear_error(tmp_path: Path) -> None:
    save_image(tmp_path / "small.png", 8, 8)
    with pytest.raises(ValueError, match="0 unreadable, 1 smaller than 32x32"):
        PatchDataset.from_folders([tmp_path], scale=2, patch=16)


@pytest.mark.parametrize("scale", [2, 3])
def test_low_and_high_patches_show_the_same_place(scale: int) -> None:
    low, high = PatchSampler(numbered(9, 13, scale, 4)).batch(step=0, size=64)
    assert low.shape == (64, 3, 4, 4)
    assert high.shape == (64, 3, 4 * scale, 4 * scale)
    enlarged = low.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    torch.testing.assert_close(enlarged, high, rtol=0, atol=0)


def test_every_place_and_every_pose_is_drawn() -> None:
    low, _ = PatchSampler(numbered(3, 4, 2, 2)).batch(step=0, size=2000)
    patches = {tuple(patch.flatten().tolist()) for patch in (low[:, 0] * 255).round()}
    assert len(patches) == 2 * 3 * 8


def test_large_images_give_more_patches() -> None:
    dataset = numbered(2, 2, 2, 2)
    dataset.pairs += numbered(10, 2, 2, 2).pairs
    dataset.pairs[0][0].fill(200)
    low, _ = PatchSampler(dataset).batch(step=0, size=2000)
    from_small = (low[:, 0, 0, 0] > 0.5).float().mean().item()
    assert from_small == pytest.approx(1 / 10, abs=0.03)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    dataset = numbered(9, 13, 2, 4)
    used = PatchSampler(dataset, seed=1)
    used.batch(step=0, size=3)
    low = used.batch(step=7, size=3)[0]
    assert torch.equal(low, PatchSampler(dataset, seed=1).batch(step=7, size=3)[0])
    assert not torch.equal(low, PatchSampler(dataset, seed=1).batch(step=8, size=3)[0])
    assert not torch.equal(low, PatchSampler(dataset, seed=2).batch(step=7, size=3)[0])
