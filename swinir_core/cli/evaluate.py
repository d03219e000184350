"""``swinir evaluate``: scores of a model by the paper's protocol."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from ..text import shown
from .benchmark import STDOUT, json_argument, write_json
from .restore import (
    PRECISIONS,
    UsageError,
    dtype_named,
    find_own_device,
    not_empty,
    path_argument,
    report_error,
    sentence,
)

if TYPE_CHECKING:
    from ..evaluation.protocol import Protocol
    from ..evaluation.scoring import ImageScores
    from ..evaluation.test_sets import ImagePair
    from ..restoration.restorer import Restorer
    from .processes import Processes

_EXAMPLES = """\
examples:
  swinir evaluate --data Set5/
  swinir evaluate --model color_denoise.pth --data CBSD68/ --sigma 50
  swinir evaluate --model gray_jpeg.pth --data LIVE1/ --quality 40 --ensemble
  torchrun --nproc_per_node 2 -m swinir_core evaluate --data BSD100/ --json scores.json
"""


def add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "evaluate",
        help="score a model on good images as the paper does",
        description=(
            "Make low-quality images from good ones, restore them and compare: PSNR and SSIM, for "
            "JPEG also PSNR-B, by the protocol of the paper's tables. Images are divided among the "
            "processes that torchrun or accelerate launch has started."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add(
        "--model",
        type=not_empty,
        help="model file, or the name of a bundled model (default: see swinir models)",
    )
    add(
        "--task",
        choices=("sr", "real_sr", "denoise", "jpeg"),
        help="how images are made worse (default: by the model's own task)",
    )
    add(
        "--data",
        type=path_argument,
        required=True,
        metavar="DIR",
        help="folder of good images; or of HR/ and LR_bicubic/X2/ beside it, as Set5 comes",
    )
    add("--sigma", type=float, help="of the noise, in levels of 255 (default: 25)")
    add("--quality", type=int, help="of the JPEG files, 1 to 100 (default: 10)")
    add(
        "--gray",
        action="store_true",
        help="gray images also for a colour model; a gray one takes no others",
    )
    add(
        "--ensemble",
        action="store_true",
        help="the paper's x8 self-ensemble: mean over eight flips and turns",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, xpu, mps ...")
    add(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the arithmetic (default: float32)",
    )
    add("--json", type=json_argument, metavar="FILE", help="write everything there, or to - alone")
    command.set_defaults(run=evaluate)


def evaluate(args: argparse.Namespace) -> int:
    """Score every image; one that cannot be scored does not stop the others."""
    import torch
    from tqdm import tqdm

    from ..checkpoints.checkpoint import read_checkpoint
    from ..checkpoints.models import DEFAULT_MODEL, build_model, find_model
    from ..evaluation.protocol import find_protocol
    from ..evaluation.scoring import paper_restorer
    from ..evaluation.test_sets import find_pairs
    from .processes import join_processes

    if not args.data.is_dir():
        raise UsageError(f"--data {args.data}: there is no such folder.")
    processes = join_processes()
    device = find_own_device(args.device, processes)
    name = args.model or DEFAULT_MODEL
    checkpoint = read_checkpoint(find_model(name))
    try:
        protocol = find_protocol(checkpoint.config, args.task, args.sigma, args.quality, args.gray)
    except ValueError as error:
        raise UsageError(f"{name}: {error}.") from error
    pairs = processes.agreed(lambda: find_pairs(args.data, protocol))
    dtype = dtype_named(args.precision) or torch.float32
    restorer = paper_restorer(build_model(checkpoint, device, dtype), device, dtype, args.ensemble)
    scored, failed = score_all(restorer, pairs, protocol, processes)
    if processes.is_main:
        for reason in failed:
            report_error(reason)
        if scored:
            given = {
                "model": name,
                "data": str(args.data),
                "ensemble": args.ensemble,
                "precision": args.precision,
                "device": device,
                "processes": processes.count,
                "torch": torch.__version__,
            }
            if args.json != STDOUT:
                tqdm.write(text(scored, protocol, name, args.data))
            if args.json:
                write_json(args.json, given | facts(scored, protocol, pairs))
    return 1 if failed else 0


def score_all(
    restorer: Restorer, pairs: Sequence[ImagePair], protocol: Protocol, processes: Processes
) -> tuple[list[ImageScores], list[str]]:
    """The scores of all images, in their order, by all processes together, and why some have
    none."""
    from tqdm import tqdm

    from ..evaluation.scoring import score_image

    mine = processes.share(list(enumerate(pairs)))
    scored: dict[int, ImageScores] = {}
    failed: dict[int, str] = {}
    with tqdm(
        total=len(mine),
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        leave=False,
        disable=None if processes.is_main else True,
    ) as bar:
        for done, (place, pair) in enumerate(mine):
            bar.set_description(shown(pair.name))

            def progress(pixels: int, total: int, done: int = done) -> None:
                bar.update(done + pixels / total - bar.n)

            try:
                scored[place] = score_image(restorer, pair, protocol, progress)
            except ImageError as error:
                failed[place] = sentence(error)
            except (ValueError, OSError, MemoryError, RuntimeError) as error:
                failed[place] = f"{shown(pair.high)} was not scored: {sentence(error)}"
    for theirs in processes.gathered((scored, failed)):
        scored |= theirs[0]
        failed |= theirs[1]
    return [scored[place] for place in sorted(scored)], [failed[place] for place in sorted(failed)]


def text(scored: Sequence[ImageScores], protocol: Protocol, model: str, data: Path) -> str:
    """The scores as a heading and an aligned table, means below."""
    from ..evaluation.scoring import mean_scores
    from ..images.metrics import MOST_DECIBELS

    level = f"sigma {protocol.sigma:g}" if protocol.sigma is not None else ""
    level = f"quality {protocol.quality}" if protocol.quality is not None else level
    level = f"x{protocol.scale}" if protocol.enlarges else level
    colors = "Y" if protocol.y_channel else "gray" if protocol.channels == 1 else "RGB"
    heading = (
        f"{shown(model)} on {shown(data)}: {protocol.task} {level}, {len(scored)} images, {colors}"
    )
    names = protocol.metrics
    head = ["image", *names, "gain", *(f"{protocol.untouched} {name}" for name in names)]
    rows = [_row(shown(image.name), image.output, image.untouched) for image in scored]
    mean = [mean_scores(scores) for scores in _columns(scored)]
    lines = _aligned([head, *rows, _row("mean", *mean)])
    lines += [
        f"{shown(image.name)} was cut into {image.tiles} tiles for want of memory, which can "
        "change its scores a little."
        for image in scored
        if image.tiles > 1
    ]
    if any(not isfinite(value) for image in scored for value in image.output.values()):
        lines.append(f"inf: restored without any error; counts as {MOST_DECIBELS:.0f} in the mean.")
    return "\n".join([heading, "", *lines])


def facts(
    scored: Sequence[ImageScores], protocol: Protocol, pairs: Sequence[ImagePair]
) -> dict[str, Any]:
    """Everything about the scores, as plain values for a JSON file. Of an image that is restored
    without any error PSNR is infinite, and null there; in means it counts ``MOST_DECIBELS``."""
    from ..evaluation.scoring import mean_scores
    from ..evaluation.test_sets import seed_of

    output, untouched = _columns(scored)
    seeds = {pair.name: seed_of(pair, protocol) for pair in pairs}
    return {
        "task": protocol.task,
        "scale": protocol.scale,
        "channels": protocol.channels,
        "sigma": protocol.sigma,
        "quality": protocol.quality,
        "border": protocol.border,
        "inputs": "given" if any(pair.low for pair in pairs) else "made",
        "images": [
            {
                "name": image.name,
                "output": _finite(image.output),
                protocol.untouched: _finite(image.untouched),
                "tiles": image.tiles,
                "seed": seeds[image.name],
            }
            for image in scored
        ],
        "mean": {
            "output": mean_scores(output),
            protocol.untouched: mean_scores(untouched),
        },
    }


def _columns(
    scored: Sequence[ImageScores],
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    return [image.output for image in scored], [image.untouched for image in scored]


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: value if isfinite(value) else None for name, value in scores.items()}


def _row(name: str, output: dict[str, float], untouched: dict[str, float]) -> list[str]:
    psnr = next(iter(output))
    equal = output[psnr] == untouched[psnr]  # Both may be infinite.
    gain = 0.0 if equal else output[psnr] - untouched[psnr]
    return [name, *_shown(output), f"{gain:+.2f}", *_shown(untouched)]


def _shown(scores: dict[str, float]) -> list[str]:
    return [
        f"{value:.4f}" if name.startswith("SSIM") else f"{value:.2f}"
        for name, value in scores.items()
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
