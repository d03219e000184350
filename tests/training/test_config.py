"""Configuration files: what is read, what is refused and how that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swinir_core.cli import main
from swinir_core.network import SwinIR
from swinir_core.training.config import (
    ConfigError,
    find_config,
    read_config,
    ready_configs,
)
from swinir_core.training.settings import DataSettings, ScheduleSettings
from swinir_core.training.start import network_config
from swinir_core.training.tables import SettingError
from tests.training.runs import JPEG, SR, config_text, tiny_config, write_config

LAPTOP = {"window_size": 8, "embed_dim": 48, "depths": (4, 4, 4), "num_heads": (3, 3, 3)}
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


def test_the_second_stage_starts_from_the_first() -> None:
    for first, second in (
        ("real_sr_x4_psnr", "real_sr_x4_gan"),
        ("laptop_real_sr_x4", "laptop_real_sr_x4_gan"),
    ):
        data = {"data": (Path("photographs"),)}
        out = read_config(find_config(first), data).run.out
        assert read_config(find_config(second), data).run.start_from == out / "last.safetensors"


@pytest.mark.parametrize("name", ready_configs())
def test_ready_configurations_give_networks_of_their_task(name: str) -> None:
    config = read_config(find_config(name), {"data": (Path("photographs"),)})
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
    for name, path in ready_configs().items():
        config = read_config(path, {"data": (Path("photographs"),)})
        tasks[name.startswith("laptop")].add(config.task.name)
    assert len(tasks[False]) == 7
    assert tasks[True] == tasks[False] - {"classical_sr"}


def test_a_file_is_read_into_dataclasses(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, {"degradation": {"sigma": [15, 50.5]}})
    assert config.degradation.sigma == (15, 50.5)
    assert config.network.depths == (2,)
    assert config.schedule.learning_rate == 1e-3
    assert tiny_config(tmp_path).degradation.sigma == (25, 25)
    assert tiny_config(tmp_path, JPEG).degradation.quality == (30, 30)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    odd = {"run": {"out": 'a "quoted" \\ föld\ter'}, "data": {"validate": "others"}}
    for changes in ((odd,), (SR, {"run": {"start_from": "upscale_x2_light"}}), (JPEG,)):
        config = tiny_config(tmp_path, *changes)
        path = tmp_path / "again.toml"
        path.write_text(config.to_toml(), encoding="utf-8")
        assert read_config(path) == config


def test_what_is_written_can_be_read_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"data": (Path("photographs"),), "out": Path("elsewhere")}
    text = read_config(find_config("laptop_denoise"), options).to_toml()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.toml").write_text(text)
    config = read_config(Path("run/settings.toml"))
    assert config.data.train == (tmp_path / "photographs",)
    assert config.run.out == tmp_path / "elsewhere"
    assert config.run.start_from == Path("upscale_x2_light")


def test_relative_paths_are_beside_the_file_and_options_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    path = write_config(
        tmp_path / "configs",
        {"data": {"train": "../a", "validate": str(tmp_path / "v")}, "run": {"out": None}},
        {"run": {"start_from": "w.safetensors"}},
    )
    monkeypatch.chdir(tmp_path)
    config = read_config(Path("configs/config.toml"))
    assert config.data.train == (Path("configs/../a"),)
    assert config.data.validate == tmp_path / "v"
    assert config.run.out == Path("configs/runs/config")
    assert config.run.start_from == Path("configs/w.safetensors")
    config = read_config(path, {"data": (Path("b"),), "out": Path("c"), "start-from": Path("d")})
    assert (config.data.train, config.run.out) == ((Path("b"),), Path("c"))
    assert config.run.start_from == Path("d")


def test_a_bundled_model_is_no_path(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, {"run": {"start_from": "upscale_x2_light"}})
    assert config.run.start_from == Path("upscale_x2_light")


def test_other_steps_stretch_the_schedule(tmp_path: Path) -> None:
    milestones = {"steps": 100, "decay": "halving", "halve_at": [50, 80, 100], "warm_up": 10}
    path = write_config(tmp_path, {"schedule": milestones})
    schedule = read_config(path, {"steps": 1000}).schedule
    assert (schedule.steps, schedule.halve_at, schedule.warm_up) == (1000, (500, 800, 1000), 100)
    schedule = read_config(path, {"steps": 1}).schedule
    assert (schedule.steps, schedule.halve_at, schedule.warm_up) == (1, (1,), 0)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    # name: change, the message after the file's name
    "unknown key": (
        {"data": {"pach": 8}},
        "[data] pach = 8: there is no such key; did you mean patch?",
    ),
    "strange key": (
        {"loss": {"x": True}},
        "[loss] x = true: there is no such key; keys are pixel, ",
    ),
    "text for a number": ({"data": {"patch": "8"}}, '[data] patch = "8": must be a whole number'),
    "half a patch": ({"data": {"patch": 8.5}}, "[data] patch = 8.5: must be a whole number"),
    "number for text": ({"run": {"precision": 16}}, "[run] precision = 16: must be text in quotes"),
    "true for a number": (
        {"schedule": {"steps": True}},
        "[schedule] steps = true: must be a whole number",
    ),
    "numbers for folders": (
        {"data": {"train": [1]}},
        "[data] train = [1]: must be a list of paths in quotes",
    ),
    "an empty folder name": (
        {"data": {"validate": ""}},
        '[data] validate = "": must be a path in quotes',
    ),
    "one depth": (
        {"network": {"depths": 2}},
        "[network] depths = 2: must be a list of whole numbers",
    ),
    "three ends": (
        {"degradation": {"sigma": [1, 2, 3]}},
        "[degradation] sigma = [1, 2, 3]: must be two numbers, as [low, high]",
    ),
    "backwards": (
        {"degradation": {"sigma": [50, 15]}},
        "[degradation] sigma = [50, 15]: must lie between 0 and 255, lowest first",
    ),
    "not a choice": (
        {"loss": {"pixel": "l2"}},
        '[loss] pixel = "l2": must be one of l1, charbonnier',
    ),
    "too low": ({"schedule": {"steps": 0}}, "[schedule] steps = 0: must be at least 1"),
    "not above": (
        {"schedule": {"learning_rate": 0.0}},
        "[schedule] learning_rate = 0.0: must be above 0",
    ),
    "not below": ({"schedule": {"ema": 1.0}}, "[schedule] ema = 1.0: must be below 1"),
    "not finite": (
        {"schedule": {"clip_norm": float("inf")}},
        "[schedule] clip_norm = inf: must be a number",
    ),
    "missing steps": ({"schedule": None}, "[schedule] steps: is missing"),
    "missing data": (
        {"data": {"train": []}},
        "[data] train: is missing; name folders, or use --data",
    ),
    "missing sigma": (
        {"degradation": None},
        "[degradation] sigma: is missing, and color_denoise is trained for it",
    ),
    "sigma and JPEG": (
        JPEG | {"degradation": {"quality": 9}},
        "[degradation] sigma = [25, 25]: is not used by color_jpeg; leave it out",
    ),
    "quality 0": (
        JPEG | {"degradation": {"sigma": None, "quality": 0}},
        "[degradation] quality = [0, 0]: must lie between 1 and 100",
    ),
    "validation of SR": (
        SR | {"degradation": {"sigma": None, "validate_at": 3}},
        "[degradation] validate_at = 3: is not used by lightweight_sr; leave it out",
    ),
    "scale of denoising": (
        {"task": {"scale": 2}},
        "[task] scale = 2: color_denoise does not enlarge; leave it out",
    ),
    "no scale": (
        SR | {"task": {"name": "real_sr"}},
        "[task] scale = 1: real_sr enlarges; give 2, 3, 4 or 8",
    ),
    "gray twice": (
        {"task": {"gray": True}},
        "[task] gray = true: color_denoise says it by its name; leave it out",
    ),
    "preset and size": (
        {"network": {"preset": "color_denoise"}},
        '[network] preset = "color_denoise": it settles depths already; leave one of them out',
    ),
    "half a size": (
        {"network": {"depths": None}},
        "[network] depths: is missing, for embed_dim is given; or name a preset",
    ),
    "halving a cosine": (
        {"schedule": {"halve_at": [3]}},
        '[schedule] halve_at = [3]: decay = "cosine" does not halve; leave one of them out',
    ),
    "late halving": (
        {"schedule": {"decay": "halving", "halve_at": [3, 7]}},
        "[schedule] halve_at = [3, 7]: the run ends earlier, at steps = 6",
    ),
    "halving back": (
        {"schedule": {"decay": "halving", "halve_at": [3, 2]}},
        "[schedule] halve_at = [3, 2]: must be growing numbers of steps, from 1",
    ),
    "endless warm-up": (
        {"schedule": {"warm_up": 6}},
        "[schedule] warm_up = 6: must end before the run, at steps = 6",
    ),
    "betas": (
        {"schedule": {"betas": [0.9, 1.0]}},
        "[schedule] betas = [0.9, 1.0]: both must be at least 0 and below 1",
    ),
    "epsilon of L1": (
        {"loss": {"epsilon": 1e-2}},
        '[loss] epsilon = 0.01: is not used by pixel = "l1"',
    ),
    "VGG unused": ({"loss": {"vgg19": "vgg.pth"}}, " is not used without a perceptual_weight"),
    "critic unused": (
        {"loss": {"critic_features": 8}},
        "[loss] critic_features = 8: is not used without a gan_weight",
    ),
    "float16 on a CPU": (
        {"run": {"precision": "float16"}},
        '[run] precision = "float16": a CPU trains in float32 or bfloat16',
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_sentence(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, reason = WRONG[name]
    path = write_config(folder, change)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert main(["train", str(path)]) == 2
    assert capsys.readouterr().err == f"swinir: error: {caught.value}\n"
    assert not (folder / "run").exists()


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[optimiser]\nrate = 1\n" + config_text())
    with pytest.raises(
        ConfigError, match=r"config\.toml: 'optimiser' is not one of the tables \[task\]"
    ):
        read_config(path)
    path.write_text("patch = 3\n" + config_text())
    with pytest.raises(ConfigError, match=r"'patch' is not one of the tables"):
        read_config(path)
    path.write_text("[task\n")
    with pytest.raises(ConfigError, match=r"config\.toml is not a TOML file: "):
        read_config(path)
    with pytest.raises(
        ConfigError, match=r"is neither a file nor a ready configuration; ready are "
    ):
        find_config(str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="is a folder"):
        find_config(str(tmp_path))


def test_a_wrong_option_is_named_in_place_of_the_file(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    with pytest.raises(ConfigError, match=r"^--steps 0: must be at least 1\.$"):
        read_config(path, {"steps": 0})


SIZES: dict[str, tuple[dict[str, Any], str]] = {
    # name: change, reason; what only shows with the network
    "patch and window": (
        {"data": {"patch": 10}},
        "[data] patch = 10: must be a multiple of the network's window, 4, such as 8 or 12",
    ),
    "heads": (
        {"network": {"num_heads": [3]}},
        "[network]: embed_dim 8 is not divisible by num_heads 3",
    ),
    "preset and task": (
        {
            "network": {
                "preset": "color_jpeg",
                "embed_dim": None,
                "depths": None,
                "num_heads": None,
                "window_size": None,
            },
            "task": {"name": "gray_denoise"},
        },
        '[network] preset = "color_jpeg": it has scale 1 and 3 channels, but gray_denoise here',
    ),
    "no network": (
        {"network": None},
        "[network] preset: is missing; or give a size, or start from a checkpoint",
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_network_that_cannot_be_is_one_sentence(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, reason = SIZES[name]
    path = write_config(folder, change)
    assert main(["train", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"swinir: error: {path}: {reason}")
    assert not (folder / "run").exists()


def test_settings_are_checked_without_a_file_too() -> None:
    with pytest.raises(SettingError, match=r"\[data\] batch = 0: must be at least 1"):
        DataSettings(batch=0)
    with pytest.raises(SettingError, match=r"\[schedule\] steps = 2.5: must be a whole number"):
        ScheduleSettings(steps=2.5)  # type: ignore[arg-type]


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == sorted(ready_configs())
    assert all(len(line.split()) > 5 for line in listed)
    assert main(["train", "laptop_denoise", "--show"]) == 0
    assert capsys.readouterr().out == ready_configs()["laptop_denoise"].read_text()


@pytest.mark.parametrize("option", ["data", "out"])
def test_a_run_needs_names_its_settings_can_hold(option: str) -> None:
    given = {"data": (Path("a"),), "out": Path("b"), option: Path("caf\udce9")}
    given["data"] = (given["data"],) if option == "data" else given["data"]
    with pytest.raises(
        ConfigError, match=r"caf\\udce9\W+settings are kept as UTF-8, which this path"
    ):
        read_config(find_config("laptop_denoise"), given)
    given[option] = (Path("图\x7f\u2028"),) if option == "data" else Path("图\x7f\u2028")
    config = read_config(find_config("laptop_denoise"), given)
    assert "图\\u007f\u2028" in config.to_toml()
