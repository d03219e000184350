"""Validation images, scores, pictures of samples, curves."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from swinir_core.config import SwinIRConfig
from swinir_core.degradation import bicubic_resize
from swinir_core.metrics import psnr, ssim
from swinir_core.training.curves import HEIGHT, WIDTH, draw_curves
from swinir_core.training.report import read_rows, summary, write_rows, write_samples
from swinir_core.training.settings import DegradationSettings, TaskSettings
from swinir_core.training.tasks import Task, build_task
from swinir_core.training.validation import (
    ValidationImage,
    baseline,
    read_validation,
    spread,
    total_scores,
)
from tests.training.runs import save_photograph

SR = build_task(TaskSettings("lightweight_sr", 2), DegradationSettings())
DENOISE = build_task(TaskSettings("gray_denoise"), DegradationSettings(sigma=(25, 25)))


class Enlarging(nn.Module):
    """Nearest neighbours, in place of a network."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.config = SwinIRConfig(scale, 3, 8, (2,), (2,), 4, 2.0, "pixelshuffledirect")
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.config.scale
        return self.weight * x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def test_layouts_of_test_sets(folder: Path) -> None:
    plain = read_validation(folder / "photographs", SR, 9)
    assert [image.low.shape for image in plain] == [(18, 24, 3)] * 3
    np.testing.assert_allclose(plain[1].low * 255, bicubic_resize(plain[1].high, 1 / 2), atol=1e-4)

    (folder / "set" / "LR_bicubic" / "X2").mkdir(parents=True)
    (folder / "photographs").rename(folder / "set" / "HR")
    Image.new("RGB", (24, 18)).save(folder / "set" / "LR_bicubic" / "X2" / "0x2.png")
    images = read_validation(folder / "set", SR, 9)
    assert not images[0].low.any()
    np.testing.assert_array_equal(images[1].low, plain[1].low)
    assert len(read_validation(folder / "set", SR, 2)) == 2


def test_images_are_spread_over_the_folder() -> None:
    paths = [Path(str(number)) for number in range(10)]
    assert [path.name for path in spread(paths, 4)] == ["0", "2", "5", "7"]
    assert spread(paths, 20) == paths
    assert spread(paths, 0) == []


def test_an_image_that_does_not_fit_is_refused_at_once(folder: Path) -> None:
    low = folder / "set" / "LR_bicubic" / "X2" / "1x2.png"
    low.parent.mkdir(parents=True)
    (folder / "photographs").rename(folder / "set" / "HR")
    Image.new("RGB", (24, 17)).save(low)
    with pytest.raises(ValueError, match=r"1x2\.png has 24 x 17 pixels, .*1\.png .* 24 x 18"):
        read_validation(folder / "set", SR, 9)
    save_photograph(folder / "set" / "HR" / "0.png", 14, 30)
    with pytest.raises(ValueError, match=r"0\.png is too small to score, which takes 15x15"):
        read_validation(folder / "set", SR, 9)
    (folder / "set" / "HR" / "0.png").write_text("no image")
    with pytest.raises(ValueError, match=r"0\.png .* It cannot be validated on; take it out"):
        read_validation(folder / "set", SR, 9)


@pytest.mark.parametrize(("task", "how"), [(SR, {"border": 2, "y_channel": True}), (DENOISE, {})])
def test_scores_are_those_of_the_paper(folder: Path, task: Task, how: dict) -> None:
    images = read_validation(folder / "photographs", task, 9)
    totals = total_scores(Enlarging(task.scale), images, task)
    outputs = [
        (image.low.clip(0, 1) * 255).round().astype(np.uint8)
        .repeat(task.scale, axis=0).repeat(task.scale, axis=1)
        for image in images
    ]  # fmt: skip
    for total, metric in zip(totals[:2], (psnr, ssim), strict=True):
        expected = sum(metric(o, i.high, **how) for o, i in zip(outputs, images, strict=True))
        assert total == pytest.approx(expected)
    assert totals[2] == 3
    assert total_scores(Enlarging(1), [], task).tolist() == [0, 0, 0]


def test_scores_of_the_inputs_themselves(folder: Path) -> None:
    images = read_validation(folder / "photographs", SR, 9)
    expected = [
        psnr(bicubic_resize(bicubic_resize(i.high, 1 / 2), 2), i.high, border=2, y_channel=True)
        for i in images
    ]
    assert baseline(images, SR)[0] == pytest.approx(np.mean(expected))
    assert 19.5 < baseline(read_validation(folder / "photographs", DENOISE, 9), DENOISE)[0] < 21


def test_samples_are_input_output_and_truth(tmp_path: Path) -> None:
    high = np.random.default_rng(0).integers(0, 256, (240, 30, 3), dtype=np.uint8)
    low = np.ascontiguousarray(high[::2, ::2]).astype(np.float32) / 255
    small = ValidationImage(low[:10], high[:20])
    write_samples(tmp_path / "s" / "1.png", Enlarging(2), [ValidationImage(low, high), small])  # type: ignore[arg-type]
    picture = np.asarray(Image.open(tmp_path / "s" / "1.png"))
    assert picture.shape == (192 + 4 + 20, 30 + 4 + 30 + 4 + 30, 3)
    seen = high[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(picture[:192, :30], seen[24:216])
    np.testing.assert_array_equal(picture[:192, 34:64], seen[24:216])
    np.testing.assert_array_equal(picture[:192, 68:], high[24:216])
    assert (picture[192:196] == 255).all()
    np.testing.assert_array_equal(picture[196:, 68:], high[:20])


def test_the_table_is_read_back_up_to_a_step(tmp_path: Path) -> None:
    rows = [
        {"step": 10, "seconds": 1.5, "learning_rate": 2e-4, "loss": 0.25, "pixel": 0.25},
        {"step": 20, "seconds": 3.0, "learning_rate": 1e-4, "psnr": 30.5, "ssim": 0.875},
    ]
    write_rows(tmp_path / "log.csv", rows)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,learning_rate,loss,pixel,perceptual,gan,critic,psnr,ssim"
    assert lines[1] == "10,1.5,2.000e-04,0.250000,0.250000,,,,,"
    assert read_rows(tmp_path / "log.csv", 20) == rows
    assert read_rows(tmp_path / "log.csv", 19) == rows[:1]
    assert read_rows(tmp_path / "none.csv", 1) == []


def test_the_line_on_the_terminal_tells_the_time_left() -> None:
    row = {"step": 1000, "seconds": 600.0, "loss": 0.02, "pixel": 0.02, "psnr": 30, "ssim": 0.9}
    assert summary(row, 5000) == (
        "step 1,000 of 5,000  loss 0.02000  PSNR 30.00 dB, SSIM 0.9000  40:00 left"
    )
    assert summary(row, 100_000).endswith("16:30:00 left")
    assert "loss 0.02000  pixel 0.02000  gan" in summary(row | {"gan": 0.1}, 5000)


CURVES = {
    "falling": [(10, 0.5), (20, 0.25), (400, 0.1)],
    "one point": [(7, 31.25)],
    "flat": [(1, 2.0), (2, 2.0)],
    "zero": [(0, 0.0)],
    "huge": [(1, 1e30), (2, 1e-30)],
    "perfect at last": [(1, 30.0), (2, math.inf)],
    "no number at first": [(1, math.nan), (2, 30.0), (3, -math.inf)],
}


@pytest.mark.parametrize("name", CURVES)
def test_curves(name: str) -> None:
    nothing = [(1, math.inf), (2, math.nan)]
    picture = draw_curves({"loss": CURVES[name], "nothing": [], "nothing finite": nothing})
    assert picture.size == (WIDTH, HEIGHT)
    line = (np.asarray(picture) == (20, 100, 180)).all(axis=-1)
    rows, columns = np.nonzero(line)
    assert rows.min() >= 30
    assert rows.max() <= HEIGHT - 30 + 3
    if name == "falling":
        assert rows[columns == columns.min()].mean() < rows[columns == columns.max()].mean()
    assert draw_curves({"a": CURVES[name], "b": CURVES[name]}).size == (WIDTH, 2 * HEIGHT)
