"""Measure super-resolution weights on Set5 and put them into the package.

    python benchmarks/bundle_weights.py runs/x2/last.safetensors upscale_x2_light \
        --description "Enlarges clean photographs twice." --set5 PATH

PATH holds ``HR/name.png`` and ``LR_bicubic/X2/namex2.png``. The weights are rounded to float16
first, and the scores are those of the rounded weights run in float32: the paper's protocol, whole
images padded by symmetric flips to one full window more than needed, output rounded to 8 bits,
Y channel, border = scale. Scores go into the file's header. Without NAME they are only printed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from swinir_core import metrics, read_checkpoint, write_checkpoint
from swinir_core.models import WEIGHTS, build_model
from swinir_core.network import SwinIR
from swinir_core.training.validation import TestImage, read_test_set


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("name", nargs="?", help="name to bundle the weights under")
    parser.add_argument("--description", default="", help="one sentence for users")
    parser.add_argument("--set5", type=Path, required=True, metavar="PATH")
    args = parser.parse_args()

    checkpoint = read_checkpoint(args.weights)
    half = {key: weight.half() for key, weight in checkpoint.state_dict.items()}
    checkpoint = replace(checkpoint, state_dict=half)
    scores = score(build_model(checkpoint), read_test_set(args.set5, checkpoint.config.scale))
    print(json.dumps(scores, indent=2))
    if args.name:
        metadata = {"description": args.description, "scores": json.dumps(scores)}
        metadata = checkpoint.metadata | metadata
        write_checkpoint(
            WEIGHTS / f"{args.name}.safetensors", replace(checkpoint, metadata=metadata)
        )


def score(model: SwinIR, images: list[TestImage]) -> dict[str, str]:
    """Mean PSNR and SSIM on Y by the paper's protocol."""
    scale = model.scale
    psnr = ssim = 0.0
    for image in images:
        low = torch.from_numpy(image.low).movedim(-1, 0)[None].float() / 255
        high = run_padded(model, low)[0].movedim(0, -1).clamp(0, 1).mul(255).round().byte()
        psnr += metrics.psnr(high, image.high, border=scale, y_channel=True) / len(images)
        ssim += metrics.ssim(high, image.high, border=scale, y_channel=True) / len(images)
    return {"Set5 PSNR-Y": f"{psnr:.2f} dB", "Set5 SSIM-Y": f"{ssim:.4f}"}


@torch.no_grad()
def run_padded(model: SwinIR, low: Tensor) -> Tensor:
    """The model on (B, C, H, W), padded by symmetric flips as the paper's evaluation does it."""
    height, width = low.shape[-2:]
    window = model.config.window_size
    for dim, side in ((-2, height), (-1, width)):
        padded = (side // window + 1) * window
        low = torch.cat([low, low.flip(dim)], dim).narrow(dim, 0, padded)
    return model(low)[..., : height * model.scale, : width * model.scale]


if __name__ == "__main__":
    main()
