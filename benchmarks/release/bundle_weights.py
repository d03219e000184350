"""Measure weights of any task by the paper's protocol and put them into the package.

    python -m benchmarks.release.bundle_weights runs/x2/best.safetensors upscale_x2_light \
        --data PATH/set5 --set Set5 --description "Enlarges clean photographs to twice their size."
    python -m benchmarks.release.bundle_weights runs/denoise/best.safetensors denoise_color \
        --data PATH/bsd100 --set BSD100 --sigma 15 25 50 --description "Removes noise."

The weights are rounded to float16 first, and the scores, which go into the file's header, are
those of the rounded weights run in float32, as ``swinir evaluate`` measures them on the bundled
file. Bundled weights are replaced only by ones with a higher PSNR, or a higher mean of them where
several levels are given. Without NAME the scores are only printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from swinir_core import Checkpoint, read_checkpoint, write_checkpoint
from swinir_core.checkpoints.models import build_model
from swinir_core.cli.evaluate import score_all
from swinir_core.cli.processes import Processes, find_device
from swinir_core.evaluation.protocol import UNTOUCHED, Protocol, find_protocol
from swinir_core.evaluation.scoring import mean_scores, paper_restorer
from swinir_core.evaluation.test_sets import find_pairs
from swinir_core.model_names import WEIGHTS

MOST_BYTES = 2_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("name", nargs="?", help="name to bundle the weights under")
    parser.add_argument("--description", default="", help="one sentence for users")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the test set")
    parser.add_argument("--set", required=True, metavar="NAME", help="what the set is called")
    levels = parser.add_mutually_exclusive_group()
    levels.add_argument("--sigma", type=float, nargs="+", default=[], help="levels of noise")
    levels.add_argument("--quality", type=int, nargs="+", default=[], help="JPEG qualities")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--force", action="store_true", help="replace better scores, where others count more"
    )
    args = parser.parse_args()

    checkpoint = in_half(read_checkpoint(args.weights))
    protocols = [find_protocol(checkpoint.config, sigma=sigma) for sigma in args.sigma]
    protocols += [find_protocol(checkpoint.config, quality=quality) for quality in args.quality]
    protocols = protocols or [find_protocol(checkpoint.config)]
    scores, psnr = measure(checkpoint, protocols, args.data, args.set, find_device(args.device))
    print(json.dumps(scores, indent=2))
    if not args.name:
        return

    path = WEIGHTS / f"{args.name}.safetensors"
    if path.exists() and not args.force:
        _, best = measure(
            read_checkpoint(path), protocols, args.data, args.set, find_device(args.device)
        )
        if psnr <= best:
            sys.exit(f"{path.name} stays as it is: {best:.3f} dB, the new weights {psnr:.3f} dB.")
    metadata = {"description": args.description, "scores": json.dumps(scores)}
    metadata = checkpoint.metadata | metadata
    write_checkpoint(path, replace(checkpoint, metadata=metadata))
    size = path.stat().st_size
    print(f"{path.name}: {size / 1e6:.2f} MB{', too large' if size > MOST_BYTES else ''}")


def in_half(checkpoint: Checkpoint) -> Checkpoint:
    """``checkpoint`` with its weights rounded to float16."""
    half = {key: weight.half() for key, weight in checkpoint.state_dict.items()}
    return replace(checkpoint, state_dict=half)


def measure(
    checkpoint: Checkpoint, protocols: list[Protocol], folder: Path, name: str, device: str
) -> tuple[dict[str, str], float]:
    """The scores on one set by every protocol, for the header, and the mean of their PSNR in dB."""
    restorer = paper_restorer(build_model(checkpoint, device), device, torch.float32)
    scores, psnr = {}, 0.0
    for protocol in protocols:
        scored, failed = score_all(restorer, find_pairs(folder, protocol), protocol, Processes())
        if failed:
            sys.exit("\n".join(failed))
        output = mean_scores([image.output for image in scored])
        untouched = mean_scores([image.untouched for image in scored])
        first = protocol.metrics[0]
        shown = " / ".join(
            f"{value:.4f}" if metric.startswith("SSIM") else f"{value:.2f} dB"
            for metric, value in output.items()
        )
        scores[f"{name} {label(protocol)}"] = (
            f"{shown} ({UNTOUCHED[protocol.task]} {untouched[first]:.2f} dB)"
        )
        psnr += output[first] / len(protocols)
    return scores, psnr


def label(protocol: Protocol) -> str:
    """Such as ``gray sigma 25 PSNR/SSIM``."""
    words = ["gray"] if protocol.channels == 1 else []
    words += ["blind"] if protocol.task == "real_sr" else []
    words += [f"sigma {protocol.sigma:g}"] if protocol.sigma is not None else []
    words += [f"quality {protocol.quality}"] if protocol.quality is not None else []
    metrics = "/".join(metric.removesuffix("-Y") for metric in protocol.metrics)
    return " ".join([*words, metrics + ("-Y" if protocol.enlarges else "")])


if __name__ == "__main__":
    main()
