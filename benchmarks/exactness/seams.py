"""Difference of tiles from the whole image, and the cost of their overlap.

    python -m benchmarks.exactness.seams photographs/ --model upscale_x2_light --tile 128 192 \\
        --overlap 16 32 48 --json benchmarks/results/seams/upscale_x2_light.json

Pictures are squares of ``--side`` pixels: the middle of a photograph, or where the photographs are
smaller several of these joined. The first table is about a single cut: the largest difference,
over all pictures, of what lies this far from it or farther; the row "pattern" is what a
``Restorer`` asks to find the overlap. The second compares tiles with the whole picture. Everything
is in float32, differences are in steps of 8 bits (1/255).

With ``--random LAYERS STRENGTH`` the network is the lightweight preset with LAYERS layers and
random weights, those of attention and MLP multiplied, to see how far a cut is felt elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import common
from swinir_core import PRESETS, Restorer, SwinIR, TileSettings, load_model
from swinir_core.benchmark.contenders import random_checkpoint
from swinir_core.checkpoints.models import build_model
from swinir_core.image_files.finding import find_images
from swinir_core.image_files.reading import open_image
from swinir_core.model_names import DEFAULT_MODEL
from swinir_core.restoration.overlap import edge_error, pattern
from swinir_core.restoration.tiles import BLEND

DISTANCES = (0, 4, 8, 12, 16, 20, 24, 32, 40)
STEP = 1 / 255
LARGE = 2048


def main() -> None:
    parser = common.parser(__doc__)
    common.add_threads(parser)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files or folders")
    add("--model", default=DEFAULT_MODEL, help="bundled model or file")
    add("--random", type=int, nargs=2, metavar=("LAYERS", "STRENGTH"))
    add("--side", type=int, default=384, help="of the pictures, in pixels")
    add("--most", type=int, default=20, metavar="N", help="pictures at most")
    add("--tile", type=int, nargs="+", default=[128, 192], metavar="N", help="tile sizes")
    add("--overlap", type=int, nargs="*", default=[16, 32, 48], metavar="N", help="besides found")
    args = parser.parse_args()

    restorer = Restorer(random_model(*args.random) if args.random else load_model(args.model))
    names, pictures = make_pictures(args.images, args.side, args.most, restorer)
    result = {
        "model": "random weights" if args.random else Path(args.model).name,
        "images": names,
        "side": args.side,
        "found_overlap": restorer.overlap,
        "reach": measure_reach(restorer, pictures),
        "seams": measure_seams(restorer, pictures, args.tile, args.overlap),
        "default_settings": forecast_large(restorer),
    }
    common.write(args.json, result, restorer.device)


@torch.no_grad()
def random_model(layers: int, strength: int) -> SwinIR:
    """RSTBs of six layers, and the contrast of a photograph in the result."""
    preset = PRESETS["lightweight_sr_x2"]
    depths = (preset.depths[0],) * (layers // preset.depths[0])
    heads = preset.num_heads[:1] * len(depths)
    checkpoint = random_checkpoint(replace(preset, depths=depths, num_heads=heads))
    model = build_model(checkpoint, "cpu", None)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and (".attn." in name or ".mlp." in name):
            parameter.mul_(strength)
    to_pixels = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    noise = pattern(preset.in_channels, 12 * preset.alignment)
    contrast = 0.25 / model(noise).std()
    for parameter in to_pixels.parameters():
        parameter.mul_(contrast)
    assert to_pixels.bias is not None
    to_pixels.bias.sub_(model(noise).mean() - 0.5)
    return model


def make_pictures(
    inputs: list[str], side: int, most: int, restorer: Restorer
) -> tuple[list[str], list[Tensor]]:
    """Names of the photographs used, and pictures (side, side, C) in 0..1 made of their middles."""
    paths = [path for path, _ in find_images(inputs)]
    files = map(open_image, paths)
    photographs = [torch.from_numpy(file.rows(0, file.shape[0]))[..., :3] for file in files]
    channels = restorer.model.in_channels
    photographs = [p[..., :channels] if channels == 1 else p.expand(-1, -1, 3) for p in photographs]
    a_side = math.ceil(side / min(min(p.shape[:2]) for p in photographs))
    part = math.ceil(side / a_side)
    needed = a_side**2
    pictures = []
    for first in range(0, min(len(photographs) // needed, most) * needed, needed):
        parts = [middle(p, part) for p in photographs[first : first + needed]]
        rows = [torch.cat(parts[i : i + a_side], 1) for i in range(0, needed, a_side)]
        pictures.append(torch.cat(rows)[:side, :side])
    return [path.name for path in paths[: len(pictures) * needed]], pictures


def middle(image: Tensor, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def measure_reach(restorer: Restorer, pictures: list[Tensor]) -> dict[str, list[Any]]:
    """The largest difference by distance from a cut through the middle."""
    alignment, channels = restorer.model.alignment, restorer.model.in_channels

    def profile(image: Tensor) -> Tensor:
        side = image.shape[-1] // (2 * alignment) * 2 * alignment
        error = edge_error(lambda x: restorer.model(x).clamp(0, 1), image[..., :side, :side])
        return error[list(DISTANCES)] / STEP

    worst = torch.stack([profile(p.movedim(-1, 0)[None]) for p in pictures]).amax(0)
    reach = {
        "distance": list(DISTANCES),
        "photographs": rounded(worst.tolist()),
        "pattern": rounded(profile(pattern(channels, 12 * alignment)).tolist()),
    }
    for name, values in reach.items():
        print(f"{name:12}", *(f"{value:8.4g}" for value in values))
    return reach


def measure_seams(
    restorer: Restorer, pictures: list[Tensor], tile_sizes: list[int], overlaps: list[int]
) -> list[dict[str, Any]]:
    """Tiles beside the whole picture, for every tile size and overlap, None for the one found."""
    whole = [restorer(picture[None], TileSettings("whole")) for picture in pictures]
    side = len(pictures[0])
    rows = []
    for tile_size in tile_sizes:
        for overlap in (None, *overlaps):
            tiles = TileSettings("tiled", tile_size, overlap)
            plan = restorer.plan(side, side, tiles)
            shared = restorer.overlap if overlap is None else overlap
            errors = [
                restorer(picture[None], tiles) - reference
                for picture, reference in zip(pictures, whole, strict=True)
            ]
            row = {
                "tile_size": tile_size,
                "overlap": "found" if overlap is None else overlap,
                "discarded": max(shared - BLEND, 0) / 2,
                "tiles": plan.summary(),
                "max_difference": rounded([max(e.abs().max().item() for e in errors) / STEP])[0],
                "worst_psnr": rounded([min(psnr(e) for e in errors)])[0],
                "arithmetic": round(plan.tiles.pixels / side**2, 3),
            }
            rows.append(row)
            print(*(f"{name} {value}" for name, value in row.items()), sep=", ", flush=True)
    return rows


def forecast_large(restorer: Restorer) -> dict[str, Any]:
    plan = restorer.plan(LARGE, LARGE, TileSettings("tiled"))
    row = {
        "side": LARGE,
        "tiles": plan.summary(),
        "arithmetic": round(plan.tiles.pixels / LARGE**2, 3),
    }
    print(*(f"{name} {value}" for name, value in row.items()), sep=", ")
    return row


def psnr(error: Tensor) -> float:
    return -10 * math.log10(max(error.double().square().mean().item(), 1e-20))


def rounded(values: list[float]) -> list[float]:
    """To four digits."""
    return [float(f"{value:.4g}") for value in values]


if __name__ == "__main__":
    main()
