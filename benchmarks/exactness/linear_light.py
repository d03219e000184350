"""Results of a model shrunk as they are stored, beside the same in linear light.

    python -m benchmarks.exactness.linear_light --data BSD100/ --json linear-light.json

A photograph is shrunk to a quarter, enlarged four times by the bundled model, and shrunk by half,
as ``size`` does for a factor of 2: by ``Resizer`` as it is, and in linear light. Both are compared
with one another, and with the photograph shrunk by half in either way.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import common
from swinir_core import Restorer, load_model
from swinir_core.image_files.finding import find_images
from swinir_core.image_files.reading import open_image
from swinir_core.images.metrics import psnr
from swinir_core.images.resize import Resizer, bicubic_resize

SIDE = 192
"""Of the middle of each photograph, in pixels."""


def main() -> None:
    script = common.parser(__doc__)
    script.add_argument("--data", type=Path, required=True, help="folder of photographs")
    script.add_argument("--every", type=int, default=10, metavar="N", help="take every Nth")
    args = script.parse_args()
    restorer = Restorer(load_model("upscale_x4_light"))
    images = find_images([str(args.data)])[:: args.every]
    rows = [compare(restorer, middle(path)) for path, _ in images]
    result = {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}
    result["photographs"] = len(rows)
    print(json.dumps(result, indent=2))
    common.write(args.json, {"linear light": result})


def middle(path: Path) -> np.ndarray:
    picture = open_image(path)
    top, left = ((side - SIDE) // 2 for side in picture.shape[:2])
    return picture.rows(top, top + SIDE)[:, left : left + SIDE]


def compare(restorer: Restorer, photograph: np.ndarray) -> dict[str, float]:
    low = bicubic_resize(photograph, 0.25).clip(0, 1)
    enlarged = restorer(torch.from_numpy(low)[None])[0]
    stored, linear = halved(enlarged), to_stored(halved(to_linear(enlarged)))
    truth = torch.from_numpy(photograph)
    truths = {
        "shrunk as stored": halved(truth),
        "shrunk in linear light": to_stored(halved(to_linear(truth))),
    }
    difference = (stored - linear).abs() * 255
    found = {
        "difference in levels, mean": difference.mean().item(),
        "difference in levels, 99.9 %": difference.flatten().quantile(0.999).item(),
    }
    for name, expected in truths.items():
        found[f"PSNR as stored, truth {name}"] = psnr(stored, expected)
        found[f"PSNR in linear light, truth {name}"] = psnr(linear, expected)
    return found


def halved(image: Tensor) -> Tensor:
    height, width, _ = image.shape
    resizer = Resizer((height, width), (height // 2, width // 2))
    return resizer.rows(lambda start, stop: image[start:stop], 0, height // 2)


def to_linear(image: Tensor) -> Tensor:
    """Undo the curve of sRGB (IEC 61966-2-1)."""
    return torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def to_stored(image: Tensor) -> Tensor:
    """Apply the curve of sRGB."""
    curve = 1.055 * image.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(image <= 0.0031308, image * 12.92, curve)


if __name__ == "__main__":
    main()
