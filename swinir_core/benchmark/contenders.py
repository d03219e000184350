"""Networks with their weights, and a photograph of any size, for benchmarks."""

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
from ..restoration.peak_memory import count_memory

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
    """Forward pass, (1, C, H, W) in 0..1 to (1, C, scale * H, scale * W); raises the reason where
    the network cannot hold the weights."""

    device: torch.device
    dtype: torch.dtype
    """Device and type of the images that ``run`` takes."""

    bytes_needed: Callable[[int, int], int] | None = None
    """Estimate of a run's memory in bytes, by (height, width)."""


def contenders_for(
    checkpoint: Checkpoint, precisions: Sequence[str], device: torch.device
) -> list[Contender]:
    """Spandrel's network with the weights of ``checkpoint``, in float32 first, then ours.

    Spandrel's takes no inputs in half precision, so it runs them under autocast.
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
        for precision in dict.fromkeys(("float32", *precisions)):
            run = partial(_autocast, theirs, device.type, getattr(torch, precision))
            found.append(Contender(THEIRS, precision, run, device, torch.float32, needed))
    for precision in precisions:
        dtype = getattr(torch, precision)
        ours = build_model(checkpoint, device, dtype)
        needed = partial(ours.estimate_memory, dtype=dtype, device=device)
        found.append(Contender(OURS, precision, ours, device, dtype, needed))
    return found


def weights_named(name: str) -> Checkpoint:
    """A bundled model or a file with its weights, or a preset with random ones.

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
    """Random weights, spread so that each of them changes the output: those that a training starts
    from leave norms the identity and position biases next to zero."""
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
    """A crop of ``sample`` in whole windows, to warm up and to count memory."""
    rows, columns = (windows * config.alignment for windows in _SMALL)
    return sample(config.in_channels, rows, columns)


def _bytes_by_area(
    network: nn.Module, config: SwinIRConfig, device: torch.device
) -> Callable[[int, int], int]:
    """Estimate of a run's memory: counted on a small image, and proportional to the pixels."""
    image = small_image(config).to(device)
    with torch.inference_mode():
        counted, _ = count_memory(partial(network, image), device)
    return lambda height, width: counted * height * width // image[0, 0].numel()


def _refuse(error: Exception, _: Tensor) -> Tensor:
    raise error


def _autocast(
    network: Callable[[Tensor], Tensor], device: str, dtype: torch.dtype, image: Tensor
) -> Tensor:
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        return network(image)
