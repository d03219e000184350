"""Validation images, scores, pictures of samples, curves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swinir_core.cli.main import main
from swinir_core.errors import ImageError
from swinir_core.evaluation.protocol import Protocol
from swinir_core.evaluation.test_sets import PixelPair
from swinir_core.images.metrics import psnr
from swinir_core.images.resize import bicubic_resize
from swinir_core.restoration.restorer import Restorer
from swinir_core.training.report import (
    draw_curves,
    read_rows,
    summary,
    write_curves,
    write_rows,
    write_samples,
)
from swinir_core.training.validation import baseline, read_validation, spread
from tests.support.models import PretendModel
from tests.training.runs import Changes, save_photograph, tiny_config, tiny_trainer

SR = Protocol("sr", 2, 3)
DENOISE = Protocol("denoise", 1, 1, sigma=25)


def noise(channels: str, **levels: object) -> Changes:
    return {"task": {"name": f"{channels}_denoise"}, "degradation": levels}


def jpeg(channels: str, **levels: object) -> Changes:
    return {"task": {"name": f"{channels}_jpeg"}, "degradation": {"sigma": None, **levels}}


def enlarging(name: str, scale: int, **more: object) -> Changes:
    return {"task": {"name": name, "scale": scale, **more}, "degradation": None}


EVERY_TASK = {
    # name: settings, options of evaluate
    "sr": (enlarging("lightweight_sr", 2), ()),
    "gray sr": (enlarging("lightweight_sr", 3, gray=True), ()),
    "real sr": (enlarging("real_sr", 4), ()),
    "gray denoise": (noise("gray", sigma=[15, 50]), ("--sigma", "32.5")),
    "color denoise": (noise("color", sigma=[15, 50], validate_at=50), ("--sigma", "50")),
    "gray jpeg": (jpeg("gray", quality=[10, 40], validate_at=20), ("--quality", "20")),
    "color jpeg": (jpeg("color", quality=[10, 40]), ("--quality", "25")),
}


@pytest.mark.parametrize("name", EVERY_TASK)
def test_validation_is_the_evaluation(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the weights a run has saved, on a folder of colour images that brings inputs other than
    those one would make, and that need no padding but the protocol's."""
    monkeypatch.chdir(folder)
    changes, options = EVERY_TASK[name]
    for seed in range(3):
        pixels = save_photograph(folder / f"set/HR/{seed}.png", 48, 96, seed)
        for scale in (2, 3, 4):
            low = folder / f"set/LR_bicubic/X{scale}/{seed}x{scale}.png"
            low.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[::scale, ::scale]).save(low)
    config = tiny_config(folder, {"data": {"validate": "set"}, "schedule": {"steps": 2}}, changes)
    trainer = tiny_trainer(config)
    trainer.run()

    evaluate = ["evaluate", "--device", "cpu", "--data", "set", "--json", "scores.json", *options]
    assert main([*evaluate, "--model", str(config.run.out / "last.safetensors")]) == 0
    mean = json.loads(Path("scores.json").read_text("utf-8"))["mean"]
    output, untouched = (list(scores.values()) for scores in mean.values())
    assert [trainer.rows[-1]["psnr"], trainer.rows[-1]["ssim"]] == output[:2]
    assert list(baseline(trainer.images, trainer.task.protocol).values()) == untouched


def test_layouts_of_test_sets(folder: Path) -> None:
    plain = read_validation(folder / "photographs", SR, 9)
    assert [image.low.shape for image in plain] == [(18, 24, 3)] * 3
    np.testing.assert_allclose(plain[1].low * 255, bicubic_resize(plain[1].high, 1 / 2), atol=1e-4)

    (folder / "set" / "LR_bicubic" / "X2").mkdir(parents=True)
    (folder / "photographs").rename(folder / "set" / "HR")
    for number in range(1, 3):
        Image.new("RGB", (24, 18)).save(folder / "set/LR_bicubic/X2" / f"{number}x2.png")
    with pytest.raises(ImageError, match=r"0\.png: its input is missing"):
        read_validation(folder / "set", SR, 9)
    Image.new("RGB", (24, 18)).save(folder / "set" / "LR_bicubic" / "X2" / "0x2.png")
    images = read_validation(folder / "set", SR, 9)
    assert not any(image.low.any() for image in images)
    np.testing.assert_array_equal(images[1].high, plain[1].high)
    assert len(read_validation(folder / "set", SR, 2)) == 2


def test_images_are_spread_over_the_folder() -> None:
    paths = [Path(str(number)) for number in range(10)]
    assert [path.name for path in spread(paths, 4)] == ["0", "2", "5", "7"]
    assert spread(paths, 20) == paths
    assert spread(paths, 0) == []


def test_an_image_that_does_not_fit_is_refused_at_once(folder: Path) -> None:
    low = folder / "set" / "LR_bicubic" / "X2" / "1x2.png"
    low.parent.mkdir(parents=True)
    (folder / "set" / "HR").mkdir()
    (folder / "photographs" / "1.png").rename(folder / "set" / "HR" / "1.png")
    Image.new("RGB", (24, 17)).save(low)
    with pytest.raises(ImageError, match=r"1x2\.png has 24x17 pixels, .*1\.png .* 24x18"):
        read_validation(folder / "set", SR, 9)
    save_photograph(folder / "set" / "HR" / "1.png", 14, 30)
    with pytest.raises(ImageError, match=r"1\.png is too small to score: 15x15"):
        read_validation(folder / "set", SR, 9)
    (folder / "set" / "HR" / "1.png").write_text("no image")
    with pytest.raises(ImageError, match=r"1\.png is not a PNG"):
        read_validation(folder / "set", SR, 9)


def test_scores_of_the_inputs_themselves(folder: Path) -> None:
    images = read_validation(folder / "photographs", SR, 9)
    expected = [
        psnr(bicubic_resize(bicubic_resize(i.high, 1 / 2), 2), i.high, border=2, y_channel=True)
        for i in images
    ]
    assert baseline(images, SR)["PSNR-Y"] == pytest.approx(np.mean(expected))
    images = read_validation(folder / "photographs", DENOISE, 9)
    assert 19.5 < baseline(images, DENOISE)["PSNR"] < 21


def test_samples_are_input_output_and_truth(tmp_path: Path) -> None:
    high = np.random.default_rng(0).integers(0, 256, (240, 30, 3), dtype=np.uint8)
    low = np.ascontiguousarray(high[::2, ::2]).astype(np.float32) / 255
    small = PixelPair(low[:10], high[:20])
    restorer = Restorer(PretendModel(2), "cpu", torch.float32)
    write_samples(tmp_path / "s" / "1.png", restorer, [PixelPair(low, high), small])
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
        {"step": 20, "seconds": 3.0, "learning_rate": 1e-4, "psnr": 30.5, "ssim": 0.875, "gan": 1},
    ]
    write_rows(tmp_path / "log.csv", rows)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,learning_rate,loss,psnr,ssim,pixel,gan"
    assert lines[1] == "10,1.5,2.000e-04,0.250000,,,0.250000,"
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
    # name: losses at steps 1, 2, ...; those that are drawn, by their steps
    "falling": ([0.5, 0.25, 0.1], {1: 0.5, 2: 0.25, 3: 0.1}),
    "one point": ([31.25], {1: 31.25}),
    "flat": ([2.0, 2.0], {1: 2.0, 2: 2.0}),
    "zero": ([0.0], {1: 0.0}),
    "huge": ([1e30, 1e-30], {1: 1e30, 2: 1e-30}),
    "perfect at last": ([30.0, math.inf], {1: 30.0}),
    "no number at first": ([math.nan, 30.0, -math.inf], {2: 30.0}),
    "nothing finite": ([math.nan, math.inf], {}),
}


@pytest.mark.parametrize("name", CURVES)
def test_curves(name: str, tmp_path: Path) -> None:
    values, drawn = CURVES[name]
    rows = [{"step": float(step), "ssim": 0.5, "loss": v} for step, v in enumerate(values, 1)]
    *panels, ssim = draw_curves(rows).axes
    assert [dict(np.asarray(panel.lines[0].get_xydata()).tolist()) for panel in panels] == [
        drawn
    ] * bool(drawn)
    scales = ["linear" if name == "zero" else "log"] * len(panels)
    assert [panel.get_yscale() for panel in (*panels, ssim)] == [*scales, "linear"]
    write_curves(tmp_path / "curves.png", rows)
    assert Image.open(tmp_path / "curves.png").size == (800, 300 * (len(panels) + 1))


def test_curves_of_nothing(tmp_path: Path) -> None:
    write_curves(tmp_path / "curves.png", [{"step": 1, "seconds": 1.0}])
    assert Image.open(tmp_path / "curves.png").size == (800, 300)
