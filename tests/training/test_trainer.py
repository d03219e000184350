"""Training runs of a few steps on images made here: the loop, saves, resumption, failures."""

from __future__ import annotations

import errno
import math
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swinir_core import files
from swinir_core.checkpoint import read_checkpoint
from swinir_core.cli import main
from swinir_core.config import SwinIRConfig
from swinir_core.network import SwinIR
from swinir_core.training import init_weights
from swinir_core.training.checkpointing import SaveError, read_state
from swinir_core.training.data import Patches
from swinir_core.training.report import read_rows
from swinir_core.training.runtime import make_accelerator
from swinir_core.training.schedule import FINAL_SHARE, ema_decay, learning_rate
from swinir_core.training.settings import ScheduleSettings
from swinir_core.training.start import start_folder
from swinir_core.training.trainer import Trainer
from tests.training.runs import GAN, JPEG, SR, tiny_config, tiny_trainer, write_config

DROP = {"schedule": {"drop_path": 0.3}}


def resumed(config, seed: int = 9) -> Trainer:
    """A trainer that begins with other weights and takes over those of the saved state."""
    trainer = tiny_trainer(config, seed)
    trainer.resume(read_state(config.run.out, trainer.model.config))
    return trainer


def same_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def stop_at(trainer: Trainer, step: int, number: signal.Signals) -> None:
    """Send this process a signal while the batch of ``step`` is made."""

    class Signalling(Patches):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            if index == step * self.batch:
                signal.raise_signal(number)
            return super().__getitem__(index)

    trainer.patches.__class__ = Signalling


def test_loss_falls(folder: Path) -> None:
    steps = {"schedule": {"steps": 40, "learning_rate": 5e-3}, "run": {"log_every": 10}}
    config = tiny_config(folder, SR, steps)
    tiny_trainer(config).run()
    losses = [row["loss"] for row in read_rows(config.run.out / "log.csv", 40)]
    assert len(losses) == 4
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("change", [DROP, SR, GAN], ids=["drop_path", "sr", "gan"])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    folder: Path, number: signal.Signals, change: dict[str, Any]
) -> None:
    whole = tiny_trainer(tiny_config(folder, change, {"run": {"out": "whole"}}))
    assert whole.run()

    config = tiny_config(folder, change, {"run": {"out": "parts"}})
    stopped = tiny_trainer(config)
    stop_at(stopped, 2, number)
    handler = signal.getsignal(number)
    assert not stopped.run()
    assert stopped.step == 3
    assert signal.getsignal(number) is handler

    continued = resumed(config)
    assert continued.step == 3
    assert continued.run()
    assert same_weights(continued.model, whole.model)
    assert same_weights(continued.average, whole.average)
    if whole.critic and continued.critic:
        assert same_weights(continued.critic.network, whole.critic.network)
    rows = read_rows(folder / "parts" / "log.csv", 6)
    assert [row["step"] for row in rows] == [3, 6]


KILLED = """
import os, signal, sys
import torch
from swinir_core.cli import main
from swinir_core.training import data
torch.set_num_threads(1)
get = data.Patches.__getitem__
def killing(self, number):
    if number == 5 * self.batch + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return get(self, number)
data.Patches.__getitem__ = killing
main(["train", sys.argv[1]])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_killed_run_resumes_to_the_same_weights(folder: Path) -> None:
    changes = (DROP, {"run": {"log_every": 2, "save_minutes": 0}, "data": {"validate": "others"}})
    changes += ({"schedule": {"steps": 8}},)
    assert main(["train", str(write_config(folder, *changes, {"run": {"out": "whole"}}))]) == 0

    path = write_config(folder, *changes)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert torch.load(folder / "run" / "state.pt")["step"] == 5
    assert main(["train", str(path), "--resume"]) == 0

    for name in ("last.safetensors", "best.safetensors"):
        whole, parts = (read_checkpoint(folder / run / name) for run in ("whole", "run"))
        assert whole.metadata == parts.metadata
        assert all(torch.equal(whole.state_dict[k], parts.state_dict[k]) for k in whole.state_dict)
    tables = (read_rows(folder / run / "log.csv", 8) for run in ("whole", "run"))
    for whole, part in zip(*tables, strict=True):
        assert {**whole, "seconds": 0} == {**part, "seconds": 0}


def test_the_average_is_what_is_written(folder: Path) -> None:
    config = tiny_config(folder, JPEG)
    trainer = tiny_trainer(config)
    trainer.run()
    checkpoint = read_checkpoint(config.run.out / "last.safetensors")
    assert checkpoint.config == trainer.model.config
    assert checkpoint.config.task == "color_jpeg"
    assert checkpoint.metadata["trained_steps"] == "6"
    average = trainer.average.state_dict()
    assert checkpoint.state_dict.keys() == average.keys()
    assert all(torch.equal(checkpoint.state_dict[name], average[name]) for name in average)
    assert not same_weights(trainer.average, trainer.model)


def test_the_average_follows_the_weights(folder: Path) -> None:
    trainer = tiny_trainer(tiny_config(folder, {"schedule": {"steps": 1, "ema": 0.1}}))
    before = trainer.model.state_dict()["norm.weight"].clone()
    trainer.run()
    expected = 0.1 * before + 0.9 * trainer.model.state_dict()["norm.weight"]
    torch.testing.assert_close(trainer.average.state_dict()["norm.weight"], expected)


def test_adam_has_the_settings_of_the_schedule(folder: Path) -> None:
    schedule = {"betas": [0.8, 0.9], "decay": "halving", "halve_at": [1], "steps": 2}
    trainer = tiny_trainer(tiny_config(folder, {"schedule": schedule}))
    trainer.run()
    (group,) = trainer.optimizer.param_groups
    assert group["betas"] == (0.8, 0.9)
    assert group["lr"] == pytest.approx(5e-4)
    assert group["weight_decay"] == 0


def test_drop_path_is_of_training_alone(folder: Path) -> None:
    drop = {"network": {"depths": [4]}, "schedule": {"drop_path": 0.5}}
    trainer = tiny_trainer(tiny_config(folder, drop))
    image = torch.rand(1, 3, 8, 8)
    outputs = {trainer.model(image).sum().item() for _ in range(20)}
    assert len(outputs) > 1
    assert len({trainer.average(image).sum().item() for _ in range(20)}) == 1


def test_bfloat16_trains_float32_weights(folder: Path) -> None:
    config = tiny_config(folder, {"run": {"precision": "bfloat16"}})
    trainer = tiny_trainer(config)
    seen = []
    trainer.model.conv_first.register_forward_hook(lambda *given: seen.append(given[-1].dtype))
    trainer.run()
    assert set(seen) == {torch.bfloat16}
    assert {weight.dtype for weight in trainer.model.state_dict().values()} == {torch.float32}
    assert math.isfinite(read_rows(config.run.out / "log.csv", 6)[-1]["loss"])


def test_float16_needs_a_gpu() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(
            ValueError, match="precision float16: cpu trains in float32 or bfloat16"
        ):
            make_accelerator("auto", "float16")


def test_clipping_shortens_gradients(folder: Path) -> None:
    trainer = tiny_trainer(tiny_config(folder, {"schedule": {"steps": 1, "clip_norm": 1e-3}}))
    trainer.run()
    gradients = [weight.grad for weight in trainer.model.parameters() if weight.grad is not None]
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    assert length == pytest.approx(1e-3, rel=1e-3)


def test_the_losses_of_adversarial_training(folder: Path) -> None:
    config = tiny_config(folder, GAN, {"schedule": {"steps": 1}})
    trainer = tiny_trainer(config)
    critic = trainer.critic
    assert critic is not None
    before = {name: tensor.clone() for name, tensor in critic.network.state_dict().items()}
    trainer.run()
    (row,) = read_rows(config.run.out / "log.csv", 1)
    assert row["loss"] == pytest.approx(row["pixel"] + row["gan"], abs=1e-5)
    assert row["gan"] == pytest.approx(0.1 * math.log(2), rel=0.2)
    assert row["critic"] == pytest.approx(2 * math.log(2), rel=0.2)
    assert all(parameter.requires_grad for parameter in critic.network.parameters())
    changed = [k for k, v in critic.network.state_dict().items() if not torch.equal(v, before[k])]
    assert len(changed) > len(before) / 2


def test_the_second_stage_of_real_world_training(folder: Path) -> None:
    convs = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
    vgg: dict[str, Tensor] = {}
    for number, index in enumerate(convs):
        vgg[f"features.{index}.weight"] = torch.rand(2, 2 if number else 3, 3, 3)
        vgg[f"features.{index}.bias"] = torch.zeros(2)
    torch.save(vgg, folder / "vgg19.pth")
    real = {"task": {"name": "real_sr", "scale": 4}, "network": {"num_feat": 4}, "loss": None}
    loss = {"perceptual_weight": 0.5, "vgg19": "vgg19.pth"}
    config = tiny_config(
        folder, SR, real, GAN, {"loss": loss}, {"schedule": {"steps": 3}, "run": {"log_every": 1}}
    )
    trainer = tiny_trainer(config)
    assert trainer.terms == ["pixel", "perceptual", "gan", "critic"]
    trainer.run()
    rows = read_rows(config.run.out / "log.csv", 3)
    assert len(rows) == 3
    for row in rows:
        assert row["perceptual"] > 0
        assert row["loss"] == pytest.approx(row["pixel"] + row["perceptual"] + row["gan"], rel=1e-4)
    objective = trainer.objective
    prediction, target = torch.rand(2, 2, 3, 32, 32)
    terms = objective(prediction, target)
    assert objective.perceptual is not None
    torch.testing.assert_close(terms["perceptual"], objective.perceptual(prediction, target) / 2)


def test_the_critic_gets_no_gradient_from_the_generator(folder: Path) -> None:
    critic = tiny_trainer(tiny_config(folder, GAN)).critic
    assert critic is not None
    output = torch.rand(2, 3, 8, 8, requires_grad=True)
    critic.adversarial(output).backward()
    assert output.grad is not None
    assert all(parameter.grad is None for parameter in critic.network.parameters())
    before = output.grad.clone()
    critic.learn(output, torch.rand(2, 3, 8, 8), 1e-3)
    assert torch.equal(output.grad, before)
    assert critic.optimizer.param_groups[0]["lr"] == 1e-3


def test_the_best_is_kept_apart_from_the_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(folder, {"data": {"validate": "others"}, "run": {"validate_every": 2}})
    trainer = tiny_trainer(config)
    scores = iter([(20.0, 0.5), (22.0, 0.6), (21.0, 0.9)])
    monkeypatch.setattr(trainer, "_scores", lambda: next(scores))
    trainer.run()
    best, last = (read_checkpoint(config.run.out / f"{n}.safetensors") for n in ("best", "last"))
    assert best.metadata == {
        "trained_steps": "4",
        "seed": "0",
        "validation": "PSNR 22.00 dB, SSIM 0.6000",
    }
    assert last.metadata["trained_steps"] == "6"
    assert resumed(config).best == 22


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_save(folder: Path) -> None:
    config = tiny_config(folder, {"schedule": {"steps": 2}})
    tiny_trainer(config).run()
    trainer = resumed(tiny_config(folder, {"schedule": {"steps": 4}}))
    trainer.model.state_dict()["conv_first.bias"].fill_(math.nan)
    with pytest.raises(
        FloatingPointError, match=r"at step 3, .*; resume with a learning_rate below"
    ):
        trainer.run()
    assert read_checkpoint(config.run.out / "last.safetensors").metadata["trained_steps"] == "2"


def test_a_run_that_fails_before_its_first_save_can_be_started_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(folder, {"schedule": {"learning_rate": 1e30}})
    assert main(["train", str(path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "not a number" in error
    assert "start again with a learning_rate below 1e+30, or with a clip_norm" in error
    assert not (folder / "run" / "state.pt").exists()
    assert main(["train", str(write_config(folder))]) == 0


@pytest.mark.parametrize("name", ["log", "curves", "step_00000006", "best", "last", "state"])
def test_a_full_disk_loses_nothing(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ({"data": {"validate": "others"}}, {"run": {"validate_every": 3, "log_every": 2}})
    whole = tiny_trainer(tiny_config(folder, *changes, {"run": {"out": "whole"}}))
    whole.run()

    config = tiny_config(folder, *changes)
    trainer = tiny_trainer(config)
    stop_at(trainer, 3, signal.SIGTERM)
    trainer.run()
    saved = {path: path.read_bytes() for path in config.run.out.glob("*.*")}
    continued = resumed(config)
    continued.best = -math.inf

    def full(part: Path) -> None:
        if part.name.removeprefix(".").startswith(name):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_flush_file", full)
    with pytest.raises(
        SaveError, match=rf"{name}\..* cannot be written: No space left .* --resume\."
    ):
        continued.run()
    monkeypatch.undo()

    assert not list(config.run.out.rglob("*.part"))
    for path in saved:
        assert (path.read_bytes() == saved[path]) or path.stem != name
    read_checkpoint(config.run.out / "last.safetensors")
    read_checkpoint(config.run.out / "best.safetensors")
    again = resumed(config)
    assert again.run()
    assert same_weights(again.average, whole.average)


def test_a_folder_that_cannot_be_made_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").touch()
    path = write_config(folder, {"run": {"out": "file/run"}})
    assert main(["train", str(path)]) == 1
    error = capsys.readouterr().err
    assert re.search(r"settings\.toml cannot be written: \S*file is not a folder\.\n$", error)


def test_a_state_that_could_not_be_saved_is_said_before_training(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(folder)
    assert main(["train", str(path)]) == 0
    saved = (folder / "run" / "log.csv").read_bytes()
    monkeypatch.setattr(os, "access", lambda path, _: path.name != "state.pt")
    assert main(["train", str(path), "--resume"]) == 1
    assert capsys.readouterr().err.endswith("state.pt cannot be written: it is read-only.\n")
    assert (folder / "run" / "log.csv").read_bytes() == saved


def test_a_run_removes_what_a_killed_one_left(folder: Path) -> None:
    config = tiny_config(folder)
    for name in ("run", "run/samples"):
        left = folder / name / ".state-00000000-1-0123abcd.part"
        left.parent.mkdir()
        left.touch()
        os.utime(left, (0, 0))
    start_folder(config)
    assert not list(folder.rglob("*.part"))


def test_a_folder_that_is_moved_away_while_training_is_said(folder: Path) -> None:
    config = tiny_config(folder, {"run": {"log_every": 3}})
    trainer = tiny_trainer(config)
    config.run.out.rename(folder / "elsewhere")
    with pytest.raises(SaveError, match=r"run is gone: .* put it back and run again"):
        trainer.run()
    assert not config.run.out.exists()


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
    config = SwinIRConfig(1, 3, 8, (2,), (2,), 4, 2.0, "none")
    with pytest.raises(ValueError, match=r"state\.pt is damaged or not the state of a run"):
        read_state(tmp_path, config)


def test_the_state_of_another_network_is_refused(folder: Path) -> None:
    tiny_trainer(tiny_config(folder, {"schedule": {"steps": 1}})).run()
    with pytest.raises(ValueError, match="of another network, one with embed_dim=8"):
        resumed(tiny_config(folder, {"network": {"embed_dim": 12}}))


HALVED = ScheduleSettings(steps=100, learning_rate=1e-3, halve_at=(50, 80, 100), warm_up=5)


def test_halving() -> None:
    rates = [learning_rate(step, HALVED) for step in (0, 4, 5, 49, 50, 79, 80, 99)]
    assert rates == pytest.approx([1e-3 / 6, 5e-3 / 6, 1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4])


@pytest.mark.parametrize("steps", [2, 10, 1000, 123_457])
def test_cosine(steps: int) -> None:
    warm_up = steps // 100
    schedule = ScheduleSettings(steps, 1e-3, warm_up, "cosine")
    rates = [learning_rate(step, schedule) for step in range(0, steps, max(1, steps // 1000))]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(1e-3, rel=0.03)
    assert top <= 1 + 0.01 * len(rates)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    middle = (steps + warm_up) / 2
    assert learning_rate(int(middle), schedule) == pytest.approx(5e-4, rel=0.02)
    assert learning_rate(steps, schedule) == pytest.approx(1e-3 * FINAL_SHARE)


def test_the_average_is_short_at_first() -> None:
    assert ema_decay(0, HALVED) == 0.1
    assert ema_decay(10**6, HALVED) == 0.999


def test_initial_weights() -> None:
    model = SwinIR(SwinIRConfig(2, 3, 60, (2,), (6,), 8, 2.0, "pixelshuffledirect"))
    random_state = torch.random.get_rng_state()
    init_weights(model, seed=3)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    attention = "layers.0.residual_group.blocks.0.attn"
    for name in ("qkv.weight", "relative_position_bias_table"):
        assert weights[f"{attention}.{name}"].std().item() == pytest.approx(0.02, rel=0.1)
    assert not weights[f"{attention}.qkv.bias"].any()
    assert torch.equal(weights["norm.weight"], torch.ones(60))
    init_weights(model, seed=3)
    assert all(torch.equal(weights[name], again) for name, again in model.state_dict().items())
    init_weights(model, seed=4)
    assert not torch.equal(weights["conv_first.weight"], model.state_dict()["conv_first.weight"])
