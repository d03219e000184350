"""Our network by either way of attention, and spandrel's in the tiles of ComfyUI's own node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from unittest import mock

import torch
from torch import Tensor

from swinir_core.benchmark.contenders import OURS, Contender, contenders_for
from swinir_core.checkpoints.checkpoint import Checkpoint
from swinir_core.choices import PRECISIONS
from swinir_core.network.attention import window_attention

PLAIN, TILED = "swinir, no kernel", "spandrel, tiled"
TILE, OVERLAP = 512, 32
"""Input pixels of the host's tiles and of what they share."""


def ours_by_every_path(
    checkpoint: Checkpoint, device: torch.device, kernels: Collection[str]
) -> list[Contender]:
    """Spandrel's network in float32 first, then ours: in every precision, with the kernel where it
    is one of ``kernels``, and without it."""
    theirs, *networks = [
        contender
        for contender in contenders_for(checkpoint, PRECISIONS, device)
        if contender.network == OURS or contender.precision == "float32"
    ]
    found = [theirs]
    for contender in networks:
        if contender.precision in kernels:
            found.append(replace(contender, run=partial(_run, contender.run, True)))
        plain = replace(contender, network=PLAIN, bytes_needed=None)
        found.append(replace(plain, run=partial(_run, contender.run, False)))
    return found


def tiled(spandrel: Contender, tile: int = TILE, overlap: int = OVERLAP) -> Contender:
    """Spandrel's network as the host runs it: in tiles, one at a time, blended over the overlap.

    Unlike the host's its result stays on the device, which spares it the way back.
    """
    run = partial(in_tiles, spandrel.run, tile=tile, overlap=overlap)
    return replace(spandrel, network=TILED, run=run, bytes_needed=None)


def in_tiles(network: Callable[[Tensor], Tensor], x: Tensor, tile: int, overlap: int) -> Tensor:
    """(1, C, H, W) to (1, C, sH, sW): the mean of all tiles, weighted by their distance from the
    edges up to ``overlap``."""
    height, width = x.shape[2:]
    out = total = torch.empty(0)
    starts = (range(0, max(side - overlap, 1), tile - overlap) for side in (height, width))
    for top, left in product(*starts):
        part = x[..., top : top + tile, left : left + tile]
        restored = network(part)
        scale = restored.shape[-1] // part.shape[-1]
        if not len(out):
            out = restored.new_zeros(1, restored.shape[1], height * scale, width * scale)
            total = torch.zeros_like(out[:, :1])
        ramps = []
        for side in restored.shape[2:]:
            place = torch.arange(1, side + 1, device=x.device)
            ramps.append(torch.minimum(place, place.flip(0)).clamp(max=overlap * scale))
        weight = ramps[0][:, None] * ramps[1]
        rows, columns = (
            slice(start * scale, start * scale + side)
            for start, side in zip((top, left), restored.shape[2:], strict=True)
        )
        out[..., rows, columns] += restored * weight
        total[..., rows, columns] += weight
    return out / total


def _run(network: Callable[[Tensor], Tensor], with_kernel: bool, x: Tensor) -> Tensor:
    with attention(with_kernel):
        return network(x)


@contextmanager
def attention(with_kernel: bool) -> Iterator[None]:
    """Let networks compute attention by the Triton kernel, on a CPU by its interpreter, or not."""
    with mock.patch.object(window_attention, "usable", return_value=with_kernel):
        yield
