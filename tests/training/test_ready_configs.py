"""The ready configurations: the paper's recipes, and those for a laptop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swinir_core import read_checkpoint
from swinir_core.checkpoints.models import find_model
from swinir_core.cli.main import main
from swinir_core.network.swinir import SwinIR
from swinir_core.training.settings.files import find_config, read_config, ready_configs
from swinir_core.training.settings.settings import TrainConfig
from swinir_core.training.start import network_config

LAPTOP = {"window_size": 8, "embed_dim": 48, "num_heads": (3, 3, 3)}
K = 1000

PAPER = {
    # name: patch, batch, steps, halvings, highest rate, loss
    "classical_sr_x2": (48, 32, 500 * K, (250, 400, 450, 475, 500), 2e-4, "l1"),
    "lightweight_sr_x2": (64, 64, 500 * K, (250, 400, 450, 475, 500), 2e-4, "l1"),
    "real_sr_x4_psnr": (64, 32, 1000 * K, (500, 800, 900, 950, 1000), 2e-4, "l1"),
    "real_sr_x4_gan": (64, 32, 600 * K, (400, 500, 550, 575, 600), 1e-4, "l1"),
    **{
        f"{color}_denoise": (128, 8, 1600 * K, (800, 1200, 1400, 1500, 1600), 2e-4, "charbonnier")
        for color in ("gray", "color")
    },
    **{
        f"{color}_jpeg": (126, 8, 1600 * K, (800, 1200, 1400, 1500, 1600), 2e-4, "charbonnier")
        for color in ("gray", "color")
    },
}


@pytest.mark.parametrize("name", PAPER)
def test_the_recipes_of_the_paper(name: str) -> None:
    patch, batch, steps, halvings, rate, loss = PAPER[name]
    config = read_config(find_config(name), {"data": (Path("photographs"),)})
    assert (config.data.patch, config.data.batch) == (patch, batch)
    schedule = config.schedule
    assert (schedule.steps, schedule.learning_rate, schedule.decay) == (steps, rate, "halving")
    assert schedule.halve_at == tuple(thousands * K for thousands in halvings)
    assert (schedule.betas, schedule.ema, schedule.drop_path) == ((0.9, 0.99), 0.999, 0.1)
    assert (schedule.clip_norm, schedule.warm_up) == (None, 0)
    assert config.loss.pixel == loss
    weights = (1.0, 0.1) if name.endswith("gan") else (0, 0)
    assert (config.loss.perceptual_weight, config.loss.gan_weight) == weights


def read(name: str) -> TrainConfig:
    options: dict[str, Any] = {"data": (Path("photographs"),)}
    if "student" in name:
        options["teacher"] = Path("teacher.pth")
    return read_config(find_config(name), options)


def test_the_second_stage_starts_from_the_first() -> None:
    for first, second in (
        ("real_sr_x4_psnr", "real_sr_x4_gan"),
        ("laptop_real_sr_x4", "laptop_real_sr_x4_gan"),
        ("laptop_student_x4", "laptop_student_x4_gan"),
    ):
        assert read(second).run.start_from == read(first).run.out / "last.safetensors"
        assert read(second).network == read(first).network


@pytest.mark.parametrize(
    "name", [name for name in ready_configs() if name.startswith("laptop") and "gan" not in name]
)
def test_a_laptop_recipe_begins_with_all_its_bundled_model_knows(name: str) -> None:
    config = read(name)
    start = read_checkpoint(find_model(str(config.run.start_from))).config
    changed = {"task": config.task.name, "in_channels": config.task.channels}
    assert network_config(config, None) == replace(start, **changed)


@pytest.mark.parametrize("name", ready_configs())
def test_ready_configurations_give_networks_of_their_task(name: str) -> None:
    config = read(name)
    network = network_config(config, None)
    assert network.task == config.task.name
    assert (network.scale, network.in_channels) == (config.task.scale, config.task.channels)
    assert config.run.out == Path("runs") / name
    SwinIR(network, device="meta")
    if name.startswith("laptop"):
        assert {key: getattr(network, key) for key in LAPTOP} == LAPTOP
        assert config.schedule.steps <= 5000


def test_every_task_has_a_recipe_of_either_kind() -> None:
    tasks: dict[bool, set[str]] = {True: set(), False: set()}
    for name in ready_configs():
        tasks[name.startswith("laptop")].add(read(name).task.name)
    assert len(tasks[False]) == 7
    assert tasks[True] == tasks[False] - {"classical_sr"}


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == sorted(ready_configs())
    assert all(len(line.split()) > 5 for line in listed)
    assert main(["train", "laptop_denoise", "--show"]) == 0
    assert capsys.readouterr().out == ready_configs()["laptop_denoise"].read_text()
