"""Training on pairs of files: which belong together, and that patches match."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swinir_core.images.levels import to_floats
from swinir_core.training.data import Patches, Photos, given_inputs, image_paths
from swinir_core.training.settings.files import ConfigError
from swinir_core.training.start import choose_images, make_pairs
from swinir_core.training.tasks import build_task
from tests.training.runs import SR, tiny_config, tiny_trainer

LOW: dict[str, Any] = {"data": {"low": ["low"]}}


def write_pairs(folder: Path, scale: int, high: str = "photographs", low: str = "low") -> None:
    """Every input is every ``scale``-th pixel of its photograph, under its name."""
    for path in image_paths([folder / high]):
        pixels = np.asarray(Image.open(path))[::scale, ::scale]
        target = folder / low / path.relative_to(folder / high)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(target)


def photos_of(folder: Path, *changes: Any, memory: int = 2**30) -> Photos:
    config = tiny_config(folder, *changes)
    task = build_task(config.task, config.degradation)
    paths = choose_images(config, task)[1]
    inputs = given_inputs(paths, config.data.train, config.data.low, task.scale)
    return Photos.read(paths, task, config.data.patch, memory, True, inputs)


@pytest.mark.parametrize("memory", [0, 8000, 2**30], ids=["files", "some held", "all held"])
@pytest.mark.parametrize(
    ("scale", "changes"), [(2, SR), (1, {"degradation": None})], ids=["x2", "denoising"]
)
def test_patches_of_a_pair_match(folder: Path, scale: int, changes: Any, memory: int) -> None:
    write_pairs(folder, scale)
    patches = Patches(photos_of(folder, changes, LOW, memory=memory), 8, 4, 0)
    for number in range(24):
        low, high = patches[number]
        assert any(
            np.array_equal(low, high[:, top::scale, left::scale])
            for top in range(scale)
            for left in range(scale)
        )


NAMES: dict[str, tuple[str, str]] = {
    "the same name": ("a.png", "a.png"),
    "the scale behind": ("a.png", "ax2.png"),
    "another format": ("a.png", "a.jpg"),
    "an inner folder": ("in/a.png", "in/ax2.png"),
    "dots in the name": ("a.b.png", "a.bx2.png"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_that_belong_together(tmp_path: Path, names: tuple[str, str]) -> None:
    for side, name in zip(("high", "low"), names, strict=True):
        (tmp_path / side / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / side / name)
    found = given_inputs([tmp_path / "high" / names[0]], [tmp_path / "high"], [tmp_path / "low"], 2)
    assert found == {tmp_path / "high" / names[0]: tmp_path / "low" / names[1]}


def remove_one(folder: Path) -> None:
    (folder / "low" / "1.png").unlink()


def shrink_one(folder: Path) -> None:
    Image.new("RGB", (10, 10)).save(folder / "low" / "1.png")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (remove_one, "1.png has no input named 1 or 1x2 in .*low; every image in train needs one"),
        (shrink_one, "1.png has 10x10 pixels, but .*1.png at scale 2 calls for 24x18"),
    ],
)
def test_a_pair_that_is_none(folder: Path, change: Callable[[Path], None], sentence: str) -> None:
    write_pairs(folder, 2)
    change(folder)
    with pytest.raises(ValueError, match=sentence):
        photos_of(folder, SR, LOW)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([LOW], "sigma = .*: inputs are given by low; leave it out"),
        ([SR, {"data": {"low": ["low", "more"]}}], "low = .*: needs as many folders as train, 1"),
        (
            [SR, LOW, {"data": {"validate": "others"}}],
            "validate_low: goes with low and validate: all",
        ),
        (
            [SR, {"data": {"validate_low": "others"}}],
            "validate_low = .*: goes with low and validate",
        ),
    ],
)
def test_settings_that_contradict(folder: Path, changes: list[Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        tiny_config(folder, *changes)


@pytest.mark.parametrize("validate", [False, True], ids=["kept apart", "given"])
def test_a_run_on_pairs(folder: Path, validate: bool) -> None:
    """Validation takes the given inputs too."""
    for index in range(3, 6):
        shutil.copy(folder / "photographs" / "0.png", folder / "photographs" / f"{index}.png")
    write_pairs(folder, 1)
    write_pairs(folder, 1, "others", "others_low")
    more = {"data": {"validate": "others", "validate_low": "others_low"}} if validate else {}
    config = tiny_config(folder, LOW, {"degradation": None}, more)
    trainer = tiny_trainer(config)
    assert [to_floats(high).tolist() for _, high in trainer.images] == [
        low.tolist() for low, _ in trainer.images
    ]
    assert trainer.images
    pairs = make_pairs(
        config, trainer.task, choose_images(config, trainer.task)[1], trainer.accelerator
    )
    assert isinstance(pairs, Patches)
    low, high = pairs[0]
    assert np.array_equal(low, high)
