"""The paper's protocol, each step against its own definition, and the ``evaluate`` command."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from swinir_core import PRESETS, ImageError, SwinIRConfig
from swinir_core.checkpoints.checkpoint import Checkpoint, write_checkpoint
from swinir_core.cli.main import main
from swinir_core.degradation.noise_and_jpeg import jpeg_compress
from swinir_core.degradation.recipes import DEGRADATIONS
from swinir_core.evaluation.padding import SymmetricPadding
from swinir_core.evaluation.protocol import Protocol, find_protocol
from swinir_core.evaluation.scoring import mean_scores, paper_restorer, score, score_image
from swinir_core.evaluation.test_sets import ImagePair, find_pairs, read_pair
from swinir_core.images import metrics
from swinir_core.images.resize import bicubic_resize
from swinir_core.network.swinir import SwinIR
from tests.support.image_files import Image, write_image

X2 = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=12,
    depths=(2,),
    num_heads=(2,),
    window_size=4,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
)
DENOISE = replace(X2, scale=1, upsampler="none", task="")
GRAY = replace(DENOISE, in_channels=1, mean=None, task="")
JPEG = replace(DENOISE, window_size=7, img_range=255.0, task="")
CPU = torch.device("cpu")


def network(config: SwinIRConfig) -> SwinIR:
    torch.manual_seed(0)
    return SwinIR(config).eval().requires_grad_(False)


def picture(path: Path, height: int = 25, width: int = 30, channels: int = 3) -> np.ndarray:
    """A smooth picture that begins and ends black and white, written; uint8 (H, W, C)."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (3 + c)) * np.cos(columns / (5 - c)) for c in range(channels)]
    levels = (127.5 + 200 * np.stack(waves, -1)).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(levels.astype(np.float32) / 255))
    return levels


PROTOCOLS = {
    "classical_sr_x3": Protocol("sr", 3, 3),
    "lightweight_sr_x2": Protocol("sr", 2, 3),
    "real_sr_x4": Protocol("real_sr", 4, 3),
    "gray_denoise": Protocol("denoise", 1, 1, sigma=25),
    "color_denoise": Protocol("denoise", 1, 3, sigma=25),
    "gray_jpeg": Protocol("jpeg", 1, 1, quality=10),
    "color_jpeg": Protocol("jpeg", 1, 3, quality=10),
}


@pytest.mark.parametrize("preset", PROTOCOLS)
def test_the_protocol_follows_from_the_model(preset: str) -> None:
    assert find_protocol(PRESETS[preset]) == PROTOCOLS[preset]


def test_the_protocol_as_asked_for() -> None:
    assert find_protocol(JPEG, "denoise", sigma=50) == Protocol("denoise", 1, 3, sigma=50)
    assert find_protocol(DENOISE, "jpeg", quality=40, gray=True) == Protocol("jpeg", 1, 1, None, 40)
    # A gray model restores the channels of colour images one by one.
    assert find_protocol(replace(X2, in_channels=1, mean=None)) == Protocol("sr", 2, 3)


@pytest.mark.parametrize(
    ("config", "asked", "words"),
    [
        (DENOISE, {"task": "sr"}, "does not enlarge"),
        (X2, {"task": "jpeg"}, "enlarges 2 times"),
        (X2, {"sigma": 25}, "a sigma is for denoise, not for sr"),
        (DENOISE, {"quality": 10}, "a quality is for jpeg, not for denoise"),
        (X2, {"gray": True}, "gray images are for denoise and jpeg"),
        (DENOISE, {"sigma": -1}, "sigma must be .* got -1"),
        (JPEG, {"quality": 101}, "quality must be .* got 101"),
        (X2, {"task": "blur"}, "'blur'"),
    ],
)
def test_contradictions_are_refused(config: SwinIRConfig, asked: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find_protocol(config, **asked)


def test_scores_by_task() -> None:
    sr, jpeg = Protocol("sr", 3, 3), Protocol("jpeg", 1, 1, quality=10)
    assert (sr.metrics, sr.border, sr.enlarges) == (("PSNR-Y", "SSIM-Y"), 3, True)
    assert (jpeg.metrics, jpeg.border, jpeg.enlarges) == (("PSNR", "SSIM", "PSNR-B"), 0, False)
    random = np.random.default_rng(0)
    image, reference = random.integers(0, 256, (2, 24, 20, 3), np.uint8)
    assert score(image, reference, sr) == {
        "PSNR-Y": metrics.psnr(image, reference, 3, True),
        "SSIM-Y": metrics.ssim(image, reference, 3, True),
    }
    assert score(image, reference, jpeg)["PSNR-B"] == metrics.psnr_b(image, reference)


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_drawn_as_the_reference_draws_it(channels: int) -> None:
    high = np.random.default_rng(1).integers(0, 256, (13, 17, channels), np.uint8)
    blue_first = high[..., ::-1].astype(np.float32) / 255.0
    legacy = np.random.RandomState()
    legacy.seed(seed=0)
    noisy = blue_first + legacy.normal(0, 50 / 255.0, blue_first.shape)
    low = DEGRADATIONS["denoise"].fixed_input(high, 7, 1, 50)
    assert np.array_equal(low, noisy[..., ::-1].astype(np.float32))
    assert low.min() < 0
    assert low.max() > 1


def test_jpeg_and_bicubic_inputs() -> None:
    high = np.random.default_rng(1).integers(0, 256, (16, 18, 3), np.uint8)
    jpeg = DEGRADATIONS["jpeg"].fixed_input(high, 0, 1, 40)
    assert np.array_equal(jpeg, jpeg_compress(high, 40).astype(np.float32) / 255)
    low = DEGRADATIONS["sr"].fixed_input(high, 0, 2, None)
    assert np.array_equal(low, bicubic_resize(high, 0.5).astype(np.float32) / 255)


def test_each_image_is_degraded_blindly_in_its_own_way() -> None:
    high = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    first, again, second = (
        DEGRADATIONS["real_sr"].fixed_input(high, n, 4, None) for n in (0, 0, 1)
    )
    assert first.shape == (8, 8, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_gray_is_the_luma_the_reference_reads(tmp_path: Path) -> None:
    red = np.zeros((20, 20, 3), np.float32)
    red[..., 0] = 1
    write_image(tmp_path / "red.png", Image(red))
    pair = ImagePair("red.png", tmp_path / "red.png", None, 0)
    _, denoise = read_pair(pair, Protocol("denoise", 1, 1, sigma=25))
    _, jpeg = read_pair(pair, Protocol("jpeg", 1, 1, quality=10))
    assert denoise.shape == jpeg.shape == (20, 20, 1)
    assert (denoise[0, 0, 0], jpeg[0, 0, 0]) == (76, 81)  # 0.299 * 255; 16 + 65.481


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_become_rgb(tmp_path: Path, channels: int) -> None:
    levels = picture(tmp_path / "a.png", channels=channels)
    pair = ImagePair("a.png", tmp_path / "a.png", None, 0)
    _, high = read_pair(pair, Protocol("jpeg", 1, 3, quality=10))
    expected = levels[..., :3] if channels == 4 else levels[..., :1].repeat(3, axis=2)
    assert np.array_equal(high, expected)


def test_a_set_brings_its_inputs(tmp_path: Path) -> None:
    protocol = Protocol("sr", 2, 3)
    levels = picture(tmp_path / "HR" / "a.png")
    made = read_pair(find_pairs(tmp_path, protocol)[0], protocol)
    assert np.array_equal(made[1], levels[:24, :30])

    given = picture(tmp_path / "LR_bicubic" / "X2" / "ax2.png", 12, 15)
    (pair,) = find_pairs(tmp_path, protocol)
    low, high = read_pair(pair, protocol)
    assert pair.name == "a.png"
    assert np.array_equal(low, given.astype(np.float32) / 255)
    assert np.array_equal(high, levels[:24, :30])

    # Blind degradations and noise are made of the same good images.
    (pair,) = find_pairs(tmp_path, Protocol("denoise", 1, 3, sigma=25))
    assert (pair.name, pair.low) == ("a.png", None)

    picture(tmp_path / "HR" / "b.png")
    with pytest.raises(ImageError, match=r"b\.png: its input is missing"):
        find_pairs(tmp_path, protocol)


def test_inputs_are_never_scored_as_good_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command on a set of BasicSR."""
    levels = picture(tmp_path / "GTmod12" / "a.png", 24, 24)
    given = bicubic_resize(levels, 0.5)
    write_image(tmp_path / "LRbicx2" / "a.png", Image(given.astype(np.float32) / 255))
    command = ["evaluate", "--data", str(tmp_path), "--device", "cpu", "--json", "-"]
    assert main(command) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [image["name"] for image in facts["images"]] == ["a.png"]
    assert facts["inputs"] == "given"
    (tmp_path / "GTmod12").rename(tmp_path / "pictures")
    assert main(command) == 2
    assert "LRbicx2 hold inputs" in capsys.readouterr().err


def test_images_that_cannot_be_scored_are_named(tmp_path: Path) -> None:
    small = ImagePair("s.png", tmp_path / "s.png", None, 0)
    picture(small.high, 14, 30)
    with pytest.raises(ImageError, match=r"s\.png is too small to score: 15x15"):
        read_pair(small, Protocol("sr", 2, 3))
    with pytest.raises(ImageError, match="16x16"):
        read_pair(small, Protocol("jpeg", 1, 3, quality=10))

    picture(tmp_path / "h.png")
    picture(tmp_path / "l.png", 13, 15)
    with pytest.raises(ImageError, match=r"l\.png has 15x13 pixels, but .* calls for 15x12"):
        read_pair(ImagePair("h", tmp_path / "h.png", tmp_path / "l.png", 0), Protocol("sr", 2, 3))


@pytest.mark.parametrize("size", [(8, 12), (9, 11), (2, 13), (1, 1)])
def test_padding_is_symmetric_and_never_nothing(size: tuple[int, int]) -> None:
    model = network(X2)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(1, 3, *size)
    result = SymmetricPadding(model)(x)
    # One side can be mirrored once only, as in the reference implementation.
    lacks = [min(4 - side % 4, side) for side in size]
    padded = np.pad(x[0].numpy(), ((0, 0), (0, lacks[0]), (0, lacks[1])), mode="symmetric")
    assert np.array_equal(seen[0][0].numpy(), padded)
    expected = model(seen[0])[..., : 2 * size[0], : 2 * size[1]]
    assert torch.equal(result, expected)


def test_padding_is_in_the_estimate() -> None:
    model = network(X2)
    estimate = SymmetricPadding(model).estimate_memory(8, 10, torch.float32, CPU, 2)
    padded = 2 * 3 * 12 * 12 * 4
    assert estimate == padded + model.estimate_memory(12, 12, torch.float32, CPU, 2)


@pytest.mark.parametrize("config", [X2, DENOISE, GRAY, JPEG], ids=["sr", "color", "gray", "jpeg"])
def test_one_image_from_file_to_scores(config: SwinIRConfig, tmp_path: Path) -> None:
    """The protocol once more, in one piece."""
    picture(tmp_path / "a.png")
    protocol = find_protocol(config)
    (pair,) = find_pairs(tmp_path, protocol)
    model = network(config)
    scores = score_image(paper_restorer(model, CPU, torch.float32), pair, protocol)

    low, high = read_pair(pair, protocol)
    (height, width), window = low.shape[:2], config.window_size
    lacks = window - height % window, window - width % window
    padded = np.pad(low, ((0, lacks[0]), (0, lacks[1]), (0, 0)), mode="symmetric")
    output = model(torch.from_numpy(padded).movedim(-1, 0)[None])[0].movedim(0, -1)
    output = output[: height * config.scale, : width * config.scale]
    levels = (output.clamp(0, 1) * 255).round().byte().numpy()
    assert scores.output == pytest.approx(score(levels, high, protocol), abs=1e-3)

    untouched = (low.clip(0, 1) * 255).round().astype(np.uint8)
    if config.scale == 2:
        untouched = bicubic_resize(untouched, 2)
    assert scores.untouched == score(untouched, high, protocol)
    assert (scores.name, scores.tiles) == ("a.png", 1)


def test_a_color_model_on_gray_images(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    protocol = find_protocol(DENOISE, gray=True)
    (pair,) = find_pairs(tmp_path, protocol)
    restorer = paper_restorer(network(DENOISE), CPU, torch.float32)
    assert score_image(restorer, pair, protocol).output.keys() == {"PSNR", "SSIM"}
    assert read_pair(pair, protocol)[1].shape == (25, 30, 1)


def test_the_ensemble_turns_first_and_pads_then(tmp_path: Path) -> None:
    restorer = paper_restorer(network(DENOISE), CPU, torch.float32, ensemble=True)
    image = torch.rand(1, 9, 14, 3)
    assert torch.allclose(restorer(image.flip(1)), restorer(image).flip(1), atol=1e-6)
    assert torch.allclose(
        restorer(image.transpose(1, 2)), restorer(image).transpose(1, 2), atol=1e-6
    )


def test_means() -> None:
    perfect = [{"PSNR": 30.0, "SSIM": 0.5}, {"PSNR": math.inf, "SSIM": 1.0}]
    assert mean_scores(perfect) == {"PSNR": 65.0, "SSIM": 0.75}
    assert mean_scores([{"PSNR": 30.0, "SSIM": 0.5}, {"PSNR": 31.0, "SSIM": 0.7}]) == {
        "PSNR": 30.5,
        "SSIM": pytest.approx(0.6),
    }


# The command


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model file in the working folder beside a folder of two images."""
    monkeypatch.chdir(tmp_path)
    write_checkpoint("tiny.safetensors", Checkpoint(DENOISE, dict(network(DENOISE).state_dict())))
    picture(Path("set/a.png"))
    picture(Path("set/inner/b.png"), 20, 16)
    return "tiny.safetensors"


def evaluate(model: str, *arguments: str) -> int:
    return main(["evaluate", "--model", model, "--data", "set", "--device", "cpu", *arguments])


def test_an_image_restored_without_any_error(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "psnr", lambda image, *_: math.inf if len(image) == 20 else 30.0)
    assert evaluate(model, "--json", "scores.json") == 0
    *_, first, second, mean, note = (line.split() for line in capsys.readouterr().out.splitlines())
    assert [row[1] for row in (first, second, mean)] == ["30.00", "inf", "65.00"]
    assert [row[3] for row in (first, second, mean)] == ["+0.00"] * 3
    assert " ".join(note) == (
        "inf: without any error; counts as 100 in the mean, "
        "whose PSNR is 30.00 without such images."
    )
    facts = json.loads(Path("scores.json").read_text())
    assert [image["output"]["PSNR"] for image in facts["images"]] == [30, None]
    assert facts["mean"]["output"]["PSNR"] == 65
    assert facts["mean_of_finite"]["output"]["PSNR"] == 30


def test_the_table_and_the_file_say_the_same(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(model, "--sigma", "15", "--json", "scores.json") == 0
    heading, _, *lines = capsys.readouterr().out.splitlines()
    assert heading == "tiny.safetensors on set: denoise sigma 15, 2 images, RGB"
    head, *rows = (line.split() for line in lines)
    assert head == ["image", "PSNR", "SSIM", "gain", "noisy", "PSNR", "noisy", "SSIM"]

    facts = json.loads(Path("scores.json").read_text("utf-8"))
    assert (facts["task"], facts["sigma"], facts["border"]) == ("denoise", 15, 0)
    images = [*facts["images"], {"name": "mean", **facts["mean"]}]
    assert [row[0] for row in rows] == ["a.png", "inner/b.png", "mean"]
    for row, image in zip(rows, images, strict=True):
        output, noisy = image["output"], image["noisy"]
        assert [float(cell) for cell in row[1:]] == pytest.approx(
            [*output.values(), output["PSNR"] - noisy["PSNR"], *noisy.values()], abs=0.0051
        )
    psnr = [image["output"]["PSNR"] for image in images]
    assert psnr[2] == pytest.approx((psnr[0] + psnr[1]) / 2)


def test_json_alone(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(model, "--task", "jpeg", "--ensemble", "--json", "-") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["task"], facts["quality"], facts["ensemble"]) == ("jpeg", 10, True)
    assert facts["mean"]["output"].keys() == {"PSNR", "SSIM", "PSNR-B"}


def test_an_image_without_error_is_null_in_json(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    black = Image(np.zeros((16, 16, 3), np.float32))
    write_image("set/a.png", black, overwrite=True)
    assert evaluate(model, "--task", "jpeg", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["JPEG"]["PSNR"] is None
    assert evaluate(model, "--task", "jpeg") == 0
    assert "inf: without any error" in capsys.readouterr().out


def test_an_image_that_fails_does_not_stop_the_others(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("set/a.png").write_bytes(b"no picture")
    assert evaluate(model) == 1
    printed = capsys.readouterr()
    assert "1 images" in printed.out
    assert printed.err.startswith("swinir: error: set/a.png")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "sr"], "tiny.safetensors: the model does not enlarge"),
        (["--data", "nowhere"], "--data nowhere: there is no such folder"),
        (["--quality", "10"], "a quality is for jpeg"),
    ],
)
def test_wrong_usage_is_one_sentence(
    model: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(model, *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
