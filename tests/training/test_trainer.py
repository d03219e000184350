"""Training runs of a few steps on images made here: losses, averages, schedules, weights."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from swinir_core.network.config import SwinIRConfig
from swinir_core.network.initialisation import init_weights
from swinir_core.network.swinir import SwinIR
from swinir_core.training.data import batches
from swinir_core.training.muon import Muon
from swinir_core.training.report import read_rows
from swinir_core.training.runtime import make_accelerator
from swinir_core.training.schedule import FINAL_FRACTION, ema_decay, learning_rate
from swinir_core.training.settings.settings import ScheduleSettings
from tests.training.runs import GAN, SR, Changes, tiny_config, tiny_trainer


def test_loss_falls(folder: Path) -> None:
    steps = {"schedule": {"steps": 40, "learning_rate": 5e-3}, "run": {"log_every": 10}}
    config = tiny_config(folder, SR, steps)
    tiny_trainer(config).run()
    losses = [row["loss"] for row in read_rows(config.run.out / "log.csv", 40)]
    assert len(losses) == 4
    assert losses[-1] < losses[0] / 2


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


def test_muon_has_the_schedule_in_every_group_and_the_critic_adam(folder: Path) -> None:
    changes = {"betas": [0.8, 0.9], "steps": 1, "learning_rate": 3e-4}
    trainer = tiny_trainer(tiny_config(folder, GAN, MUON, {"schedule": changes}))
    trainer.run()
    assert isinstance(trainer.optimizer.optimizer, Muon)
    groups = trainer.optimizer.param_groups
    assert {(group["lr"], group["betas"]) for group in groups} == {(3e-4, (0.8, 0.9))}
    assert trainer.critic is not None
    assert isinstance(trainer.critic.optimizer.optimizer, torch.optim.Adam)


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


@pytest.mark.parametrize(("rate", "diverges"), [(1e-3, False), (0.01, False), (1.0, True)])
def test_a_run_that_diverges_does_not_finish(rate: float, diverges: bool, folder: Path) -> None:
    schedule = {"schedule": {"steps": 12, "learning_rate": rate}}
    for losses in ({}, GAN):
        trainer = tiny_trainer(tiny_config(folder, schedule, losses))
        if diverges:
            with pytest.raises(
                FloatingPointError, match=r"diverged at step .* learning_rate below"
            ):
                trainer.run()
        else:
            assert trainer.run()


WORSE = {
    "honest": (5e-3, 100, {}, False),
    "honest, GAN": (5e-3, 100, GAN, False),
    "detail for 3 dB": (1e-3, 30, GAN, False),
    "too fast, denoising": (0.02, 15, {}, True),
    "too fast, enlarging": (0.02, 15, SR, True),
    "too fast, GAN": (0.02, 15, {**SR, **GAN}, True),
    "too short": (1e-6, 1, SR, True),
}


@pytest.mark.parametrize(("rate", "steps", "changes", "warned"), WORSE.values(), ids=WORSE)
def test_a_run_that_ends_below_the_input_says_so(
    rate: float,
    steps: int,
    changes: Changes,
    warned: bool,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    schedule = {"schedule": {"steps": steps, "learning_rate": rate}}
    config = tiny_config(folder, changes, schedule, {"data": {"validate": "others"}})
    trainer = tiny_trainer(config)
    assert trainer.run()
    sentences = [text for text in caplog.messages if "makes images worse" in text]
    assert len(sentences) == warned
    if warned:
        low, high = map(float, re.findall(r"([\d.]+) dB", sentences[0]))
        assert low == pytest.approx(trainer.rows[-1]["psnr"], abs=0.01)
        assert low < high
    assert {"last.safetensors", "best.safetensors"} <= {p.name for p in config.run.out.iterdir()}


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
    weight, perceptual = objective.losses["perceptual"]
    assert weight == 0.5
    torch.testing.assert_close(terms["perceptual"], perceptual(prediction, target) / 2)


MUON = {"schedule": {"optimizer": "muon"}}


@pytest.mark.parametrize("changes", [{}, GAN, MUON], ids=["pixel", "gan", "muon"])
def test_a_batch_in_parts_is_the_same_step(folder: Path, changes: Changes) -> None:
    weights = []
    for parts in (1, 4):
        config = tiny_config(folder, changes, {"data": {"batch": 4, "parts": parts}})
        trainer = tiny_trainer(config)
        low, high = next(batches(trainer.patches, range(1), trainer.accelerator, 0))
        losses = trainer._take_step(low, high)
        weights.append([losses, *trainer.model.state_dict().values()])
    for whole, in_parts in zip(*weights, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-4, atol=5e-5)


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
    assert learning_rate(steps, schedule) == pytest.approx(1e-3 * FINAL_FRACTION)


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
