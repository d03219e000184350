"""Tiny training runs on images made here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from swinir_core.network.initialisation import init_weights
from swinir_core.network.swinir import SwinIR
from swinir_core.training.data import Patches, Photos
from swinir_core.training.losses.objective import Objective
from swinir_core.training.runtime import make_accelerator
from swinir_core.training.settings.files import read_config
from swinir_core.training.settings.settings import TrainConfig, as_toml
from swinir_core.training.start import choose_images, describe_validation, network_config
from swinir_core.training.tasks import build_task
from swinir_core.training.trainer import Trainer

TINY: dict[str, dict[str, Any]] = {
    "task": {"name": "color_denoise"},
    "network": {"embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 4},
    "data": {"train": ["photographs"], "patch": 8, "batch": 2},
    "degradation": {"sigma": 25},
    "schedule": {"steps": 6, "decay": "cosine", "learning_rate": 1e-3},
    "run": {"out": "run", "device": "cpu", "precision": "float32"},
}
"""A run that takes milliseconds; ``None`` in the changes leaves a key or table out."""

Changes = Mapping[str, Mapping[str, Any] | None]

SR: dict[str, dict[str, Any] | None] = {
    "task": {"name": "lightweight_sr", "scale": 2},
    "degradation": None,
}
JPEG: dict[str, dict[str, Any] | None] = {
    "task": {"name": "color_jpeg"},
    "degradation": {"quality": 30, "sigma": None},
}
GAN: dict[str, dict[str, Any] | None] = {"loss": {"gan_weight": 0.1, "critic_features": 4}}


def save_photograph(path: Path, height: int = 36, width: int = 48, seed: int = 0) -> np.ndarray:
    """A smooth image of three channels."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (3 + seed)) * np.cos(columns / (4 + c)) for c in range(3)]
    pixels = (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def config_text(*changes: Changes) -> str:
    """``TINY`` with changes, as a file."""
    tables: dict[str, dict[str, Any]] = {name: dict(values) for name, values in TINY.items()}
    for change in changes:
        for name, values in change.items():
            if values is None:
                tables.pop(name, None)
            else:
                tables[name] = tables.get(name, {}) | dict(values)
    lines = []
    for name, values in tables.items():
        given = (f"{key} = {as_toml(value)}" for key, value in values.items() if value is not None)
        lines += [f"[{name}]", *given, ""]
    return "\n".join(lines)


def write_config(folder: Path, *changes: Changes) -> Path:
    path = folder / "config.toml"
    path.write_text(config_text(*changes), encoding="utf-8")
    return path


def tiny_config(folder: Path, *changes: Changes) -> TrainConfig:
    return read_config(write_config(folder, *changes))


def tiny_trainer(config: TrainConfig, seed: int = 0) -> Trainer:
    """As ``start.train`` makes it."""
    accelerator = make_accelerator(config.run.device, config.run.precision)
    model = SwinIR(network_config(config, None))
    init_weights(model, seed)
    task = build_task(config.task, config.degradation)
    images, paths = choose_images(config, task)
    photos = Photos.read(paths, task, config.data.patch, 2**30, quiet=True)
    patches = Patches(photos, config.data.patch, config.data.batch, config.run.seed)
    config.run.out.mkdir(parents=True, exist_ok=True)
    objective = Objective(config.loss, accelerator.device)
    untouched = describe_validation(images, task.protocol)
    return Trainer(model, objective, patches, images, config, accelerator, untouched)
