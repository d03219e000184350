"""Results of models of other architectures in half precision, beside the same in float32.

    python -m benchmarks.exactness.half_precision RealESRGAN_x4plus.safetensors DAT_light_x4.pth \
        --data BSD100/ --json half-precision.json

The middle of each bundled photograph, and of every Nth of ``--data``, goes through each model on
the CPU in the types that its architecture allows, as the restore node runs it. Differences are in
levels of 255, of results that are not rounded. A model that overflows float16 runs in float32,
which shows as a difference of 0.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from spandrel import ImageModelDescriptor, ModelLoader
from torch import Tensor

from benchmarks import common
from swinir_core import Restorer
from swinir_core.degradation.samples import FOLDER
from swinir_core.image_files.finding import find_images
from swinir_core.image_files.reading import open_image
from swinir_core.restoration.foreign_model import ForeignModel


def main() -> None:
    script = common.parser(__doc__)
    script.add_argument("models", type=Path, nargs="+", help="files that spandrel loads")
    script.add_argument("--data", type=Path, help="folder of more photographs")
    script.add_argument("--every", type=int, default=10, metavar="N", help="take every Nth of them")
    script.add_argument("--side", type=int, default=48, help="pixels of what is taken of each")
    common.add_threads(script)
    args = script.parse_args()
    more = find_images([str(args.data)])[:: args.every] if args.data else []
    paths = [path for path, _ in (*find_images([str(FOLDER)]), *more)]
    crops = torch.from_numpy(np.stack([middle(path, args.side) for path in paths]))
    found = {path.stem: compare(path, crops) for path in args.models}
    print(json.dumps(found, indent=2))
    facts = {"photographs": len(crops), "side": args.side, "differences in levels": found}
    common.write(args.json, facts)


def middle(path: Path, side: int) -> np.ndarray:
    picture = open_image(path)
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return picture.rows(top, top + side)[:, left : left + side]


def compare(path: Path, images: Tensor) -> dict[str, dict[str, float]]:
    """Differences of half precision from float32 by type, over all images (B, H, W, 3)."""
    descriptor = ModelLoader(common.CPU).load_from_file(path)
    assert isinstance(descriptor, ImageModelDescriptor), f"{path} is not a model for images"
    model = ForeignModel(descriptor)
    exact = Restorer(model, common.CPU, torch.float32)(images)
    return {
        str(dtype).removeprefix("torch."): distance(
            Restorer(model, common.CPU, dtype)(images), exact
        )
        for dtype in model.half_types(common.CPU)
    }


def distance(images: Tensor, exact: Tensor) -> dict[str, float]:
    difference = (images - exact).abs().flatten() * 255
    return {
        "largest": round(difference.max().item(), 2),
        "mean": round(difference.mean().item(), 3),
        "part above 2 levels": round((difference > 2).float().mean().item(), 5),
    }


if __name__ == "__main__":
    main()
