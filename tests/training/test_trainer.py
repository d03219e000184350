"""Training runs of a few steps on images made here."""

import csv
import logging
import math
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swinir_core.checkpoint import read_checkpoint
from swinir_core.config import SwinIRConfig
from swinir_core.network import SwinIR
from swinir_core.training.__main__ import main
from swinir_core.training.data import PatchDataset, PatchSampler
from swinir_core.training.init import init_weights
from swinir_core.training.trainer import Trainer, TrainSettings, learning_rate, read_state
from swinir_core.training.validation import read_test_set

NETWORK = ["--embed-dim", "8", "--depths", "2", "--num-heads", "2", "--window-size", "4"]


class SignallingSampler(PatchSampler):
    """Sends this process a signal while one of its batches is made."""

    signal_at = 0
    number = signal.SIGTERM

    def batch(self, step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step == self.signal_at:
            signal.raise_signal(self.number)
        return super().batch(step, size)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three smooth images."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rows, columns = np.mgrid[:36, :48]
    for index in range(3):
        waves = [np.sin(rows / (3 + index)) * np.cos(columns / (4 + c)) for c in range(3)]
        pixels = (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def dataset(photographs: Path) -> PatchDataset:
    return PatchDataset.from_folders([photographs], scale=2, patch=8)


def tiny_model(scale: int = 2, seed: int = 0) -> SwinIR:
    model = SwinIR(
        SwinIRConfig(
            scale=scale,
            in_channels=3,
            embed_dim=8,
            depths=(2,),
            num_heads=(2,),
            window_size=4,
            mlp_ratio=2.0,
            upsampler="pixelshuffledirect",
        )
    )
    init_weights(model, seed)
    return model


def settings(steps: int, **changes) -> TrainSettings:
    return TrainSettings(**{"steps": steps, "batch": 2, "precision": "float32", **changes})


def read_log(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "log.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_loss_falls(dataset: PatchDataset, tmp_path: Path) -> None:
    Trainer(
        tiny_model(),
        PatchSampler(dataset),
        settings(40, log_every=10, learning_rate=5e-3),
        tmp_path,
    ).run()
    losses = [float(row["loss"]) for row in read_log(tmp_path)]
    assert len(losses) == 4
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    dataset: PatchDataset, tmp_path: Path, number: signal.Signals
) -> None:
    whole = Trainer(tiny_model(), PatchSampler(dataset), settings(6), tmp_path / "whole")
    assert whole.run()

    sampler = SignallingSampler(dataset)
    sampler.signal_at, sampler.number = 2, number
    handler = signal.getsignal(number)
    stopped = Trainer(tiny_model(), sampler, settings(6), tmp_path / "parts")
    assert not stopped.run()
    assert stopped.step == 3
    assert signal.getsignal(number) is handler

    resumed = Trainer(tiny_model(seed=9), PatchSampler(dataset), settings(6), tmp_path / "parts")
    resumed.resume(read_state(tmp_path / "parts", resumed.model.config))
    assert resumed.step == 3
    assert resumed.run()

    for ours, theirs in ((resumed.model, whole.model), (resumed.average, whole.average)):
        assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
    assert [row["step"] for row in read_log(tmp_path / "parts")] == ["3", "6"]


def test_the_average_is_what_is_written(dataset: PatchDataset, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    trainer = Trainer(tiny_model(), PatchSampler(dataset), settings(5), run_dir)
    trainer.run()
    checkpoint = read_checkpoint(run_dir / "last.safetensors")
    assert checkpoint.config == trainer.model.config
    assert checkpoint.metadata["trained_steps"] == "5"
    average = trainer.average.state_dict()
    assert checkpoint.state_dict.keys() == average.keys()
    assert all(torch.equal(checkpoint.state_dict[name], average[name]) for name in average)
    assert not torch.equal(average["norm.weight"], trainer.model.state_dict()["norm.weight"])
    assert {path.name for path in run_dir.iterdir()} == {
        *("last.safetensors", "state.pt", "log.csv")
    }


def test_bfloat16_trains_float32_weights(dataset: PatchDataset, tmp_path: Path) -> None:
    trainer = Trainer(
        tiny_model(), PatchSampler(dataset), settings(2, precision="bfloat16"), tmp_path
    )
    trainer.run()
    assert {weight.dtype for weight in trainer.model.state_dict().values()} == {torch.float32}
    assert math.isfinite(float(read_log(tmp_path)[-1]["loss"]))


def test_clipping_shortens_gradients(dataset: PatchDataset, tmp_path: Path) -> None:
    trainer = Trainer(tiny_model(), PatchSampler(dataset), settings(1, clip_norm=1e-3), tmp_path)
    trainer.run()
    gradients = [weight.grad for weight in trainer.model.parameters() if weight.grad is not None]
    assert torch.cat([gradient.flatten() for gradient in gradients]).norm().item() == pytest.approx(
        1e-3, rel=1e-3
    )


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_save(
    dataset: PatchDataset, tmp_path: Path
) -> None:
    Trainer(tiny_model(), PatchSampler(dataset), settings(2), tmp_path).run()
    trainer = Trainer(tiny_model(), PatchSampler(dataset), settings(4), tmp_path)
    trainer.resume(read_state(tmp_path, trainer.model.config))
    trainer.model.state_dict()["conv_first.bias"].fill_(math.nan)
    with pytest.raises(FloatingPointError, match="step 2; resume with a"):
        trainer.run()
    assert read_checkpoint(tmp_path / "last.safetensors").metadata["trained_steps"] == "2"


def test_a_run_that_fails_before_its_first_save_is_not_to_be_resumed(
    dataset: PatchDataset, tmp_path: Path
) -> None:
    trainer = Trainer(
        tiny_model(), PatchSampler(dataset), settings(9, learning_rate=1e30), tmp_path
    )
    with pytest.raises(
        FloatingPointError, match=r"; start again with a learning rate below 1e\+30"
    ):
        trainer.run()
    assert not (tmp_path / "state.pt").exists()


IMPOSSIBLE = {
    # setting: a value it cannot have
    "steps": 0,
    "batch": 0,
    "log_every": 0,
    "validate_every": -5,
    "learning_rate": -0.5,
    "clip_norm": 0.0,
    "save_minutes": -1.0,
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("not_a_number", [False, True])
def test_impossible_settings_are_refused(name: str, not_a_number: bool) -> None:
    value = math.nan if not_a_number else IMPOSSIBLE[name]
    with pytest.raises(ValueError, match=rf"{name} must .* got {value}"):
        TrainSettings(**{"steps": 1, name: value})


NO_STATE = {
    "empty": b"",
    "text": b"hello, world",
    "a pickle of no weights": pickle.dumps(Path(), protocol=2),
    "a foreign dict": {"epoch": 3},
    "no dict": [1, 2],
}


@pytest.mark.parametrize("name", NO_STATE)
def test_what_is_no_state_is_said(tmp_path: Path, name: str) -> None:
    path, contents = tmp_path / "state.pt", NO_STATE[name]
    path.write_bytes(contents) if isinstance(contents, bytes) else torch.save(contents, path)
    with pytest.raises(ValueError, match=r"state\.pt is damaged or not the state of a run"):
        read_state(tmp_path, tiny_model().config)


def test_the_state_of_another_network_is_refused(dataset: PatchDataset, tmp_path: Path) -> None:
    Trainer(tiny_model(), PatchSampler(dataset), settings(1), tmp_path).run()
    with pytest.raises(ValueError, match="scale=2"):
        read_state(tmp_path, tiny_model(scale=3).config)


@pytest.mark.parametrize("steps", [1, 10, 1000, 123_457])
def test_learning_rate_rises_then_falls_to_its_end(steps: int) -> None:
    run = settings(steps, learning_rate=1e-3)
    rates = [learning_rate(step, run) for step in range(0, steps, max(1, steps // 1000))]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(1e-3, rel=0.03)
    assert top <= 1 + 0.01 * len(rates)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert learning_rate(steps, run) == pytest.approx(1e-6)


def test_initial_weights() -> None:
    model = SwinIR(SwinIRConfig(2, 3, 60, (2,), (6,), 8, 2.0, "pixelshuffledirect"))
    random_state = torch.random.get_rng_state()
    init_weights(model, seed=3)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    weights = model.state_dict()
    attention = "layers.0.residual_group.blocks.0.attn"
    for name in ("qkv.weight", "relative_position_bias_table"):
        assert weights[f"{attention}.{name}"].std().item() == pytest.approx(0.02, rel=0.1)
    assert not weights[f"{attention}.qkv.bias"].any()
    assert torch.equal(weights["norm.weight"], torch.ones(60))
    again, other = (tiny_model(seed=seed).state_dict() for seed in (0, 1))
    first = tiny_model(seed=0).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv_first.weight"], other["conv_first.weight"])


def test_test_set_layouts(photographs: Path, tmp_path: Path) -> None:
    plain = read_test_set(photographs, scale=2)
    assert [image.low.shape for image in plain] == [(18, 24, 3)] * 3

    (tmp_path / "set" / "LR_bicubic" / "X2").mkdir(parents=True)
    photographs.rename(tmp_path / "set" / "HR")
    black = Image.new("RGB", (24, 18))
    black.save(tmp_path / "set" / "LR_bicubic" / "X2" / "0x2.png")
    images = read_test_set(tmp_path / "set", scale=2)
    assert not images[0].low.any()
    np.testing.assert_array_equal(images[1].low, plain[1].low)

    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image to validate on"):
        read_test_set(tmp_path / "empty", scale=3)


def test_a_test_image_that_does_not_fit_is_refused_at_once(
    photographs: Path, tmp_path: Path
) -> None:
    low = tmp_path / "set" / "LR_bicubic" / "X2" / "1x2.png"
    low.parent.mkdir(parents=True)
    photographs.rename(tmp_path / "set" / "HR")
    Image.new("RGB", (24, 17)).save(low)
    with pytest.raises(ValueError, match=r"1x2\.png has 24 x 17 pixels, .*1\.png .* 24 x 18"):
        read_test_set(tmp_path / "set", scale=2)

    Image.new("RGB", (40, 5)).save(tmp_path / "set" / "HR" / "0.png")
    with pytest.raises(ValueError, match=r"0\.png is too small to score"):
        read_test_set(tmp_path / "set", scale=2)


def test_command_line(photographs: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "broken.jpg").write_text("not an image")
    data = ["--data", str(photographs), str(tmp_path / "more")]
    common = [*data, "--patch", "8", "--batch", "2", *NETWORK]
    run = ["--out", str(tmp_path / "run"), "--validate", str(photographs)]
    assert main([*common, *run, "--steps", "2", "--validate-every", "1"]) == 0
    assert "broken.jpg" in caplog.text
    assert [bool(row["psnr"]) for row in read_log(tmp_path / "run")] == [True, True]

    assert main([*common, *run, "--steps", "3"]) == 1
    assert "already holds a run" in caplog.text
    assert main([*common, *run, "--steps", "3", "--resume"]) == 0
    assert [row["step"] for row in read_log(tmp_path / "run")] == ["1", "2", "3"]

    caplog.clear()
    assert main([*common, *run, "--steps", "3", "--resume"]) == 0
    end = read_log(tmp_path / "run")[-1]
    assert (end["step"], end["loss"], bool(end["psnr"])) == ("3", "", True)
    assert main([*common, *run, "--steps", "2", "--resume"]) == 1
    assert "is at step 3 already" in caplog.text

    weights = tmp_path / "run" / "last.safetensors"
    finer = ["--out", str(tmp_path / "x3"), "--scale", "3", "--steps", "1"]
    assert main([*common, *finer, "--init-from", str(weights)]) == 0
    assert "new: upsample.0.bias, upsample.0.weight" in caplog.text
    assert read_checkpoint(tmp_path / "x3" / "last.safetensors").config.scale == 3


def test_command_line_without_images(tmp_path: Path, caplog) -> None:
    (tmp_path / "empty").mkdir()
    out = ["--out", str(tmp_path / "run"), "--steps", "1"]
    assert main(["--data", str(tmp_path / "empty"), *out, *NETWORK]) == 1
    assert "no usable training image" in caplog.text


WRONG = {
    # name: arguments, what the message says
    "no steps": (["--steps", "0"], "steps must be at least 1, got 0"),
    "no log": (["--log-every", "0"], "log_every must be at least 1, got 0"),
    "no patch": (["--batch", "0"], "batch must be at least 1, got 0"),
    "negative seed": (["--seed", "-1"], "got -1"),
    "absent device": (["--device", "cuda:99"], "--device cuda:99: this machine has only"),
    "unknown device": (["--device", "gpu"], "--device gpu: this machine has only"),
    "nothing to resume": (["--resume"], "run holds no run to resume"),
    "a file as folder": (["--out", "weights.txt"], "weights.txt is not a folder"),
    "no test set": (["--validate", "nowhere"], "nowhere is not a folder"),
    "a missing folder": (["--data", ".", "nowhere"], "nowhere is not a folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_one_sentence(
    photographs: Path, tmp_path: Path, name: str, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.txt").touch()
    arguments, reason = WRONG[name]
    run = ["--data", "photographs", "--out", "run", "--steps", "1", "--patch", "8", *NETWORK]
    assert main([*run, *arguments]) == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert reason in record.getMessage()
    assert not Path("run").exists()


def test_an_empty_name_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--data", "", "--out", "run", "--steps", "1"])
    assert "--data: must name something" in capsys.readouterr().err
