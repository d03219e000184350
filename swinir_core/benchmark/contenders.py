"""What benchmarks run: networks, weights by name, and a photograph of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import Checkpoint, read_checkpoint
from ..checkpoints.models import build_model, find_model
from ..checkpoints.spandrel import spandrel_with_weights
from ..errors import CheckpointError
from ..images.color import rgb_to_gray
from ..images.levels import to_floats
from ..network.config import PRESETS, SwinIRConfig
from ..network.initialisation import init_weights
from ..network.swinir import SwinIR
from .counting import count_memory

OURS, THEIRS = "swinir", "spandrel"
SAMPLE = Path(__file__).parents[1] / "samples" / "chelsea.png"

_SMALL = (4, 5)
"""Windows of a small image; not square, because spandrel keeps the masks of one square size."""


@dataclass(frozen=True)
class Contender:
    """One network in one precision, ready to run."""

    network: str
    precision: str
    run: Callable[[Tensor], Tensor]
    """(1, C, H, W) to (1, C, scale * H, scale * W); or raises why it cannot."""

    device: torch.device
    dtype: torch.dtype
    """Where and in what type ``run`` takes its images."""

    bytes_needed: Callable[[int, int], int] | None = None
    """(height, width) to the memory that a run should take."""


def contenders_for(
    checkpoint: Checkpoint, precisions: Sequence[str], device: torch.device
) -> list[Contender]:
    """Spandrel's network, in float32 first, then ours.

    Spandrel's takes no half inputs, so its half precision is autocast.
    """
    config = checkpoint.config
    found = []
    try:
        theirs = spandrel_with_weights(config, checkpoint.state_dict).to(device)
        needed = _bytes_by_area(theirs, config, device)
    except Exception as error:
        run = partial(_refuse, error)
        found.append(Contender(THEIRS, "float32", run, device, torch.float32))
    else:
        found.append(Contender(THEIRS, "float32", theirs, device, torch.float32, needed))
        for precision in precisions:
            if precision != "float32":
                run = partial(_autocast, theirs, device.type, getattr(torch, precision))
                found.append(Contender(THEIRS, precision, run, device, torch.float32, needed))
    for precision in precisions:
        dtype = getattr(torch, precision)
        ours = build_model(checkpoint, device, dtype)
        needed = partial(ours.estimate_memory, dtype=dtype, device=device)
        found.append(Contender(OURS, precision, ours, device, dtype, needed))
    return found


def weights_named(name: str) -> Checkpoint:
    """A bundled model or a file by its own weights, a preset with random ones.

    Raises ``CheckpointError``.
    """
    if name in PRESETS:
        return random_checkpoint(PRESETS[name])
    try:
        path = find_model(name)
    except CheckpointError as error:
        presets = ", ".join(PRESETS)
        raise CheckpointError(f"{error} Presets, with random weights: {presets}.") from error
    return read_checkpoint(path)


def random_checkpoint(config: SwinIRConfig, seed: int = 0) -> Checkpoint:
    """Random weights spread so that every one of them matters to the output.

    As a training starts, norms are the identity and position biases next to zero.
    """
    model = SwinIR(config)
    init_weights(model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            position = name.endswith(("relative_position_bias_table", "absolute_pos_embed"))
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += noise * (0.5 if position else 0.02)
    return Checkpoint(config, dict(model.state_dict()))


def sample(channels: int, height: int, width: int) -> Tensor:
    """The bundled photograph, mirrored as often as the size needs: (1, channels, H, W) in 0..1."""
    with PIL.Image.open(SAMPLE) as file:
        pixels = torch.from_numpy(to_floats(np.asarray(file.convert("RGB"))))
    for dim, side in enumerate((height, width)):
        mirrored = torch.cat([pixels, pixels.flip(dim)], dim)
        pixels = mirrored.index_select(dim, torch.arange(side) % mirrored.shape[dim])
    if channels == 1:
        pixels = rgb_to_gray(pixels)[..., None]
    return pixels.movedim(-1, 0)[None].contiguous()


def small_image(config: SwinIRConfig) -> Tensor:
    rows, columns = (windows * config.alignment for windows in _SMALL)
    return sample(config.in_channels, rows, columns)


def _bytes_by_area(
    network: nn.Module, config: SwinIRConfig, device: torch.device
) -> Callable[[int, int], int]:
    """The memory of a run, counted on a small image and taken to grow with the pixels."""
    image = small_image(config).to(device)
    with torch.inference_mode():
        counted, _ = count_memory(partial(network, image), device)
    return lambda height, width: counted * height * width // image[0, 0].numel()


def _refuse(error: Exception, _: Tensor) -> Tensor:
    raise error


def _autocast(
    network: Callable[[Tensor], Tensor], device: str, dtype: torch.dtype, image: Tensor
) -> Tensor:
    with torch.autocast(device, dtype):
        return network(image)
