"""Configuration files: what is read and written."""

from __future__ import annotations

from pathlib import Path

import pytest

from swinir_core.training.settings.files import find_config, read_config
from tests.training.runs import JPEG, SR, tiny_config, write_config


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
    assert config.run.start_from == Path("denoise_color_light")


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
