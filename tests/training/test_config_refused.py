"""Configurations that cannot be are refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swinir_core.cli.main import main
from swinir_core.training.settings.files import ConfigError, find_config, read_config
from swinir_core.training.settings.settings import DataSettings, ScheduleSettings
from tests.training.runs import JPEG, SR, config_text, write_config

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
        "[data] train = [1]: each must be a path in quotes",
    ),
    "an empty folder name": (
        {"data": {"validate": ""}},
        '[data] validate = "": must be a path in quotes',
    ),
    "one depth": (
        {"network": {"depths": 2}},
        "[network] depths = 2: must be a list",
    ),
    "three ends": (
        {"degradation": {"sigma": [1, 2, 3]}},
        "[degradation] sigma = [1, 2, 3]: must be two numbers, as [low, high]",
    ),
    "backwards": (
        {"degradation": {"sigma": [50, 15]}},
        "[degradation] sigma = [50, 15]: must have the lowest first",
    ),
    "too much noise": (
        {"degradation": {"sigma": [15, 256]}},
        "[degradation] sigma = [15, 256]: each must be at most 255",
    ),
    "one end": (
        {"degradation": {"sigma": [15]}},
        "[degradation] sigma = [15]: must be two numbers, as [low, high]",
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
        "[data] train = []: is missing; name folders, or use --data",
    ),
    "missing sigma": (
        {"degradation": None},
        "[degradation] sigma: is missing, and color_denoise is trained for it",
    ),
    "sigma and JPEG": (
        JPEG | {"degradation": {"quality": 9}},
        "[degradation] sigma = 25: is not used by color_jpeg; leave it out",
    ),
    "quality 0": (
        JPEG | {"degradation": {"sigma": None, "quality": 0}},
        "[degradation] quality = 0: must be at least 1",
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
        "[schedule] halve_at = [3, 2]: must be growing numbers of steps",
    ),
    "endless warm-up": (
        {"schedule": {"warm_up": 6}},
        "[schedule] warm_up = 6: must end before the run, at steps = 6",
    ),
    "betas": (
        {"schedule": {"betas": [0.9, 1.0]}},
        "[schedule] betas = [0.9, 1.0]: each must be below 1",
    ),
    "optimizer": (
        {"schedule": {"optimizer": "sgd"}},
        '[schedule] optimizer = "sgd": must be one of adam, muon',
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
    with pytest.raises(ValueError, match=r"batch\s+Input should be greater than or equal to 1"):
        DataSettings(batch=0)
    with pytest.raises(ValueError, match=r"steps\s+Input should be a valid integer"):
        ScheduleSettings(steps=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[schedule\] warm_up = 6: must end before the run"):
        ScheduleSettings(steps=6, warm_up=6)


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
