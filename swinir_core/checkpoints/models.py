"""Models ready to run, by the name of a bundled one or from any file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open

from ..choices import MEAN_NAMES, RANGES
from ..errors import CheckpointError
from ..model_names import bundled_file, bundled_files, title
from ..network.config import DIV2K_MEAN, SwinIRConfig
from ..network.swinir import SwinIR
from .checkpoint import CONFIG_KEY, Checkpoint, read_checkpoint

MEANS = dict(zip(MEAN_NAMES, (DIV2K_MEAN, (0.5,) * 3, (0.0,) * 3), strict=True))


@dataclass(frozen=True)
class ModelInfo:
    """A model that comes with the package."""

    name: str
    task: str
    scale: int
    path: Path
    description: str
    scores: dict[str, str]
    """Measured results by protocol, such as ``{"Set5 PSNR-Y": "35.4 dB"}``."""

    @property
    def title(self) -> str:
        """The name for people, as ``model_names.title`` makes it."""
        return title(self.name)


def bundled_models() -> list[ModelInfo]:
    """Every model in the package, in the order of ``bundled_files``.

    Only the headers of the files are read, and only once in a process.
    """
    return list(_read_bundled())


@cache
def _read_bundled() -> tuple[ModelInfo, ...]:
    models = []
    for name, path in bundled_files().items():
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        config = SwinIRConfig.from_dict(json.loads(metadata[CONFIG_KEY]))
        description, scores = metadata["description"], json.loads(metadata["scores"])
        models.append(ModelInfo(name, config.task, config.scale, path, description, scores))
    return tuple(models)


def with_pixels(checkpoint: Checkpoint, mean: str | None, img_range: str | None) -> Checkpoint:
    """Give a model the mean and range that it was trained with, which no weight tells.

    Args:
        checkpoint: any, left as it is.
        mean: one of ``MEANS``; None: what the checkpoint has.
        img_range: one of ``RANGES``; None: what the checkpoint has.

    Raises:
        ValueError: another value, or the mean of DIV2K for a gray model, which has none.
    """
    config, guessed = checkpoint.config, dict(checkpoint.guessed)
    if mean is not None:
        if mean not in MEANS:
            raise ValueError(f"mean must be one of {', '.join(MEANS)}, got {mean!r}.")
        values = MEANS[mean]
        if config.in_channels == 1 and len(set(values)) > 1:
            raise ValueError(f"{mean} has the mean of colours, and this model is for gray images.")
        config = replace(config, mean=values[: config.in_channels])
        guessed.pop("mean", None)
    if img_range is not None:
        if img_range not in RANGES:
            raise ValueError(f"range must be one of {', '.join(RANGES)}, got {img_range!r}.")
        config = replace(config, img_range=float(img_range), task=config.task)
        guessed.pop("img_range", None)
    return replace(checkpoint, config=config, guessed=guessed)


def describe(checkpoint: Checkpoint) -> str:
    """A line about a model, short enough for a node: its task, scale, images and size; then which
    weights of the file it has where there was a choice."""
    config, weights = checkpoint.config, checkpoint.state_dict.values()
    task = config.task.replace("_sr", " SR").replace("jpeg", "JPEG").replace("_", " ")
    images = "gray" if config.in_channels == 1 else "RGB"
    count = sum(weight.numel() for weight in weights) / 1e6
    taken = f",\n{checkpoint.taken}" if checkpoint.taken else ""
    return f"{task}, x{config.scale}, {images}, {count:.2f}M weights{taken}"


def load_model(
    path_or_bundled_name: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> SwinIR:
    """Load a bundled model by name, or any file that ``read_checkpoint`` reads.

    Args:
        path_or_bundled_name: a path, or a name such as ``upscale_x2_light``.
        device: where the weights go.
        dtype: type of the weights and of the heavy arithmetic. None: float32.

    Returns:
        The network, in evaluation mode and frozen.

    Raises:
        CheckpointError: there is no such model, or its file cannot be read.
    """
    return build_model(read_checkpoint(find_model(path_or_bundled_name)), device, dtype)


def build_model(
    checkpoint: Checkpoint, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> SwinIR:
    """Make the network of ``checkpoint`` with its weights, in evaluation mode and frozen.

    Args:
        checkpoint: weights and the configuration they fit.
        device: where the weights go.
        dtype: type of the weights and of the heavy arithmetic. None: float32.
    """
    model = SwinIR(checkpoint.config, device=device, dtype=dtype or torch.float32)
    model.load_state_dict(checkpoint.state_dict)
    return model.eval().requires_grad_(False)


def find_model(path_or_bundled_name: str | os.PathLike[str]) -> Path:
    """The file of a bundled model, or the path itself.

    Raises ``CheckpointError`` for what is neither.
    """
    bundled = bundled_file(path_or_bundled_name)
    if bundled is not None:
        return bundled
    path = Path(path_or_bundled_name)
    if not path.exists():
        names = ", ".join(bundled_files())
        raise CheckpointError(f"{path}: neither a file nor a bundled model; bundled are {names}.")
    return path
