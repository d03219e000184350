"""Differences of one float32 result with other batches, numbers of threads and strips.

    python -m benchmarks.exactness.last_bits --json benchmarks/results/last-bits.json

Compares, for random and for bundled networks and for noise and photographs of several sizes:
batches and tiles run together with those run one by one, other numbers of threads, and other
amounts that a layer or a convolution works on at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from skimage import data
from torch import Tensor

from benchmarks import common
from swinir_core import Restorer, SwinIR, SwinIRConfig, TileSettings, bundled_models, load_model
from swinir_core.benchmark.contenders import random_checkpoint
from swinir_core.checkpoints.models import build_model
from swinir_core.network import plan

SMALL_SIZES = ((1, 1), (8, 8), (5, 37), (16, 24), (40, 40), (33, 90), (64, 64))
SIZES = ((16, 24), (33, 60))
"""Heights and widths, for networks that take longer."""

TOKENS = (64, 300, 2**16)
STRIPS = ((1, 1), (16, 2**9), (10**6, 2**20))
"""Rows at least, and pixels."""


def main() -> None:
    args = common.parser(__doc__).parse_args()
    largest: dict[str, float] = defaultdict(float)
    compared: dict[str, int] = defaultdict(int)
    equal: dict[str, int] = defaultdict(int)
    for model, sizes in networks():
        for images in inputs(model, sizes):
            for change, difference in differences(Restorer(model), images):
                largest[change] = max(largest[change], difference)
                compared[change] += 1
                equal[change] += difference == 0
    result = {
        change: {"compared": compared[change], "equal": equal[change], "largest": largest[change]}
        for change in largest
    }
    print(json.dumps(result, indent=2))
    common.write(args.json, {"differences": result})


def networks() -> Iterator[tuple[SwinIR, tuple[tuple[int, int], ...]]]:
    small: dict[str, Any] = {"in_channels": 3, "scale": 2, "mlp_ratio": 2.0, "window_size": 8}
    small |= {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2)}
    changes: list[dict[str, Any]] = [
        {"upsampler": "pixelshuffledirect"},
        {"upsampler": "pixelshuffle", "embed_dim": 60, "num_heads": (6, 6)},
        {"upsampler": "pixelshuffle", "resi_connection": "3conv", "embed_dim": 24},
        {"upsampler": "nearest+conv", "embed_dim": 30, "scale": 4},
        {"upsampler": "none", "scale": 1, "in_channels": 1, "window_size": 7, "img_size": 56},
    ]
    for change in changes:
        yield build_model(random_checkpoint(SwinIRConfig(**small | change))), SMALL_SIZES
    wide = {"embed_dim": 180, "num_heads": (6, 6), "depths": (6, 6), "upsampler": "pixelshuffle"}
    yield build_model(random_checkpoint(SwinIRConfig(**small | wide))), SIZES
    for info in bundled_models():
        yield load_model(info.name), SIZES


def inputs(model: SwinIR, sizes: tuple[tuple[int, int], ...]) -> Iterator[Tensor]:
    """Three images each, (3, H, W, C): noise and crops of a photograph."""
    channels = model.in_channels
    photograph = torch.from_numpy(data.astronaut()).float() / 255
    for height, width in sizes:
        generator = torch.Generator().manual_seed(height * width)
        yield torch.rand(3, height, width, channels, generator=generator)
        crops = [photograph[top : top + height, 100 : 100 + width] for top in (30, 130, 230)]
        yield torch.stack(crops)[..., :channels]


def differences(restorer: Restorer, images: Tensor) -> Iterator[tuple[str, float]]:
    """Names of changes, each with the largest difference of a pixel."""

    def off(result: Tensor, expected: Tensor) -> float:
        return (result - expected).abs().max().item()

    torch.set_num_threads(1)
    alone = torch.cat([restorer(image[None]) for image in images])
    for at_once in (2, 3):
        yield "images at once", off(restorer(images, TileSettings(at_once=at_once)), alone)
    if min(images.shape[1:3]) > 32:
        cut = [restorer(images[:1], TileSettings("tiled", 32, 8, n)) for n in (1, 2, 5, None)]
        for together in cut[1:]:
            yield "tiles at once", off(together, cut[0])
    for threads in (2, 3, 8):
        torch.set_num_threads(threads)
        yield "threads", off(restorer(images[:1]), alone[:1])
    torch.set_num_threads(1)
    for tokens in TOKENS:
        with mock.patch.object(plan, "_CPU_TOKENS", tokens):
            yield "tokens at a time", off(restorer(images[:1]), alone[:1])
    for rows, pixels in STRIPS:
        with mock.patch.multiple(plan, _STRIP_ROWS=rows, _CPU_STRIP_PIXELS=pixels):
            yield "rows at a time", off(restorer(images[:1]), alone[:1])


if __name__ == "__main__":
    main()
